//! Tagging, pushing and copying with real registries.

use super::Registry;
use super::building::Workshop;
use reagent::domain::job::{JobSpec, Login, Outcome, Rehost};
use reagent::secret::Secret;

const CONTAINER: &str = "pub_7402_app";

fn login(registry: &Registry, username: &str, password: &str) -> Login {
    let (username, password) = (Secret::new(username), Secret::new(password));
    Login { registry: registry.address(), username, password }
}

#[test]
fn what_was_built_is_tagged_and_pushed_by_those_alone_who_may() {
    let registry = Registry::start_with_login("token", "hush");
    let shop = Workshop::open();
    let image = registry.reference("prod_amd64_7402_app", "1.0.0");
    let tag = JobSpec::Tag { source: "busybox:local".to_owned(), target: image.clone() };
    assert_eq!(shop.jobs.perform(tag), Outcome::Done);
    let push = |username: &str, password: &str| {
        let login = login(&registry, username, password);
        shop.jobs.perform_accepted(JobSpec::Push { image: image.clone(), login, container: CONTAINER.to_owned() })
    };
    for (username, password, why) in [("token", "wrong", "unauthorized"), ("", "", "no basic auth credentials")] {
        let outcome = push(username, password);
        assert!(matches!(&outcome, Outcome::Failed(text) if text.contains(why)), "{outcome:?}");
        let said = shop.jobs.log_of(CONTAINER).into_iter().filter(|line| line.contains(why)).count();
        assert_eq!(said, 1, "in the record alone");
    }
    assert!(!registry.has("apps/prod_amd64_7402_app", "1.0.0"));
    assert_eq!(push("token", "hush"), Outcome::Done);
    assert!(registry.has("apps/prod_amd64_7402_app", "1.0.0"));
    let log = shop.jobs.log_of(CONTAINER);
    assert!(log.iter().any(|line| line.contains("digest: sha256:")), "{log:?}");
    let absent = registry.reference("prod_amd64_7402_app", "9.9.9");
    let login = login(&registry, "token", "hush");
    let outcome = shop.jobs.perform_accepted(JobSpec::Push { image: absent, login, container: CONTAINER.to_owned() });
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("does not exist")), "{outcome:?}");
}

#[test]
fn an_image_is_copied_from_one_registry_to_another_with_the_login_of_each() {
    let (theirs, ours) = (Registry::start_with_login("vendor", "theirs"), Registry::start_with_login("token", "ours"));
    let open = Registry::start();
    let shop = Workshop::open();
    let private = theirs.push(&shop.docker, "db", "15", "silent");
    let public = open.push(&shop.docker, "db", "16", "silent");
    let copy = |source: &str, version: &str, from: Option<Login>| {
        JobSpec::Rehost(Box::new(Rehost {
            source: source.to_owned(),
            target: ours.reference("prod_amd64_7402_app-db", version),
            from,
            to: login(&ours, "token", "ours"),
            container: CONTAINER.to_owned(),
        }))
    };
    let outcome = shop.jobs.perform(copy(&private, "1.0.0", None));
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("no basic auth credentials")), "{outcome:?}");
    for (source, version, from) in
        [(&private, "1.0.0", Some(login(&theirs, "vendor", "theirs"))), (&public, "2.0.0", None)]
    {
        shop.jobs.handle.start(1, copy(source, version, from));
        drop([shop.jobs.next(), shop.jobs.next()]);
        assert_eq!(shop.jobs.wait_for_end(1), Outcome::Done);
        assert!(ours.has("apps/prod_amd64_7402_app-db", version));
    }
}
