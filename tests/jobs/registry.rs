//! Tagging, pushing, and copying from registry to registry.

use super::*;
use crate::util::docker_daemon::{Fault, Pull};
use reagent::domain::job::{Login, Rehost};
use reagent::secret::Secret;

const SOURCE: &str = "elsewhere.test:5000/vendor/db:15";
const TARGET: &str = "registry.test/apps/prod_amd64_900001_app-db:1.0.0";
const PUBLISHED: &str = "pub_900001_app";

fn login(username: &str) -> Login {
    let password = Secret::new(format!("{username}'s"));
    Login { registry: "registry.test".to_owned(), username: Secret::new(username), password }
}

fn push() -> JobSpec {
    JobSpec::Push { image: IMAGE.to_owned(), login: login("token"), container: PUBLISHED.to_owned() }
}

fn rehost(from: Option<Login>) -> JobSpec {
    let (source, target, container) = (SOURCE.to_owned(), TARGET.to_owned(), PUBLISHED.to_owned());
    JobSpec::Rehost(Box::new(Rehost { source, target, from, to: login("token"), container }))
}

fn tag(source: &str, target: &str) -> JobSpec {
    JobSpec::Tag { source: source.to_owned(), target: target.to_owned() }
}

#[test]
fn an_image_gets_a_second_name() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    let built = "registry.test/apps/dev_amd64_900001_app";
    let outcome = jobs.perform(tag(built, IMAGE));
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("No such image")), "{outcome:?}");
    daemon.add_image(built);
    for _ in 0..2 {
        assert_eq!(jobs.perform(tag(built, IMAGE)), Outcome::Done, "also when it has it");
        assert_eq!(daemon.images(), [&format!("{built}:latest"), IMAGE]);
    }
}

#[test]
fn a_push_is_accepted_logged_and_done() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform_accepted(push()), Outcome::Done);
    let asked = daemon.wait_for_request("POST /images/*/*/*/push", 1);
    assert_eq!(
        (asked.path.as_str(), asked.query("tag")),
        ("/images/registry.test/apps/prod_amd64_900001_app/push", "1.0.0")
    );
    assert_eq!(login_in(&asked, "x-registry-auth"), r#"{"username":"token","password":"token's"}"#);
    let lines = jobs.log_of(PUBLISHED);
    assert!(lines.iter().any(|line| line.contains("digest: sha256")), "{lines:?}");
}

#[test]
fn a_push_that_is_denied_fails_in_the_words_of_the_registry() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    daemon.accept(IMAGE, Pull::Fails("unauthorized: authentication required".to_owned()));
    let jobs = Jobs::with(&daemon);
    let denied = Outcome::Failed("unauthorized: authentication required".to_owned());
    assert_eq!(jobs.perform_accepted(push()), denied);
    assert_eq!(jobs.log_of(PUBLISHED).iter().filter(|line| line.contains("unauthorized")).count(), 1);
}

#[test]
fn c7_a_stalled_push_is_cancelled_within_a_second_and_the_engine_stops_it() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    daemon.accept(IMAGE, Pull::Stalls);
    let jobs = Jobs::with(&daemon);
    jobs.handle.start(1, push());
    assert_eq!(jobs.next(), Event::Accepted(1));
    jobs.cancel_at_once(1, &daemon);
}

#[test]
fn an_engine_that_breaks_off_a_push_is_gone() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let jobs = Jobs::with(&daemon);
    daemon.fault("POST /images/*/*/*/push", Fault::Truncate);
    let outcome = jobs.perform_accepted(push());
    assert!(matches!(outcome, Outcome::EngineGone(_)), "{outcome:?}");
}

#[test]
fn an_image_is_copied_with_the_logins_of_both_registries() {
    let daemon = DockerDaemon::start();
    daemon.offer(SOURCE, Pull::Works);
    let jobs = Jobs::with(&daemon);
    for (n, (from, header)) in [
        (Some(login("vendor")), r#"{"username":"vendor","password":"vendor's"}"#),
        (None, r#"{"username":"","password":""}"#),
    ]
    .into_iter()
    .enumerate()
    {
        jobs.handle.start(1, rehost(from));
        assert_eq!([jobs.next(), jobs.next()], [Event::Accepted(1), Event::Accepted(1)], "the pull, and the push");
        assert_eq!(jobs.wait_for_end(1), Outcome::Done);
        let pulled = daemon.wait_for_request("POST /images/create", n + 1);
        assert_eq!((pulled.query("fromImage"), pulled.query("tag")), ("elsewhere.test:5000/vendor/db", "15"));
        assert_eq!(login_in(&pulled, "x-registry-auth"), header);
        let pushed = daemon.wait_for_request("POST /images/*/*/*/push", n + 1);
        assert_eq!(
            (pushed.path.as_str(), pushed.query("tag")),
            ("/images/registry.test/apps/prod_amd64_900001_app-db/push", "1.0.0")
        );
        assert_eq!(login_in(&pushed, "x-registry-auth"), r#"{"username":"token","password":"token's"}"#);
    }
    assert_eq!(daemon.images(), [SOURCE, TARGET]);
}

#[test]
fn a_copy_that_fails_says_why_exactly_once() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    // Not accepted: whoever asked tells it.
    let outcome = jobs.perform(rehost(None));
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("manifest unknown")), "{outcome:?}");
    assert_eq!(jobs.log_of(PUBLISHED), Vec::<String>::new());
    daemon.offer(SOURCE, Pull::Works);
    let said = |text: &str| jobs.log_of(PUBLISHED).iter().filter(|line| line.contains(text)).count();
    // Refused after something was accepted: the job tells it.
    daemon.fault("POST /images/*/*/*/tag", Fault::Status(500, "no luck with the name".to_owned()));
    assert_eq!(jobs.perform_accepted(rehost(None)), Outcome::Failed("no luck with the name".to_owned()));
    assert_eq!(said("no luck with the name"), 1);
    daemon.heal();
    daemon.fault("POST /images/*/*/*/push", Fault::Status(500, "no luck with the push".to_owned()));
    assert_eq!(jobs.perform_accepted(rehost(None)), Outcome::Failed("no luck with the push".to_owned()));
    assert_eq!(said("no luck with the push"), 1);
    daemon.heal();
    // A record that says it is enough.
    daemon.accept(TARGET, Pull::Fails("denied: not yours".to_owned()));
    jobs.handle.start(1, rehost(None));
    assert_eq!([jobs.next(), jobs.next()], [Event::Accepted(1), Event::Accepted(1)]);
    assert_eq!(jobs.wait_for_end(1), Outcome::Failed("denied: not yours".to_owned()));
    assert_eq!(said("denied: not yours"), 1);
}
