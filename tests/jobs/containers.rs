//! Stopping, removing, listing, pulling.

use super::*;
use crate::util::docker_daemon::{Behaviour, Fault, Pull};
use reagent::docker::{ContainerSpec, Docker};
use reagent::domain::job::{Container, Health};
use reagent::domain::ports::Published;
use reagent::secret::Secret;

fn pull() -> JobSpec {
    let (username, password) = (Secret::new("token"), Secret::new("hush"));
    JobSpec::Pull { image: IMAGE.to_owned(), username, password, container: NAME.to_owned() }
}

/// A container made by somebody else, with these labels.
fn make(docker: &Docker, daemon: &DockerDaemon, name: &str, labels: &[(&str, &str)]) -> String {
    daemon.add_image("other:1");
    let mut spec = ContainerSpec { image: "other:1".to_owned(), ..ContainerSpec::default() };
    spec.labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    docker.create_container(name, &spec).expect("a container")
}

#[test]
fn a_stopped_container_is_gone_and_to_stop_it_again_is_success() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(stop()), Outcome::Done, "there was none");
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    assert_eq!(jobs.perform(stop()), Outcome::Done);
    assert!(daemon.containers().is_empty());
    assert_eq!(daemon.wait_for_request("POST /containers/*/stop", 1).query("t"), "1");
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    daemon.exit_container(NAME, 0);
    assert_eq!(jobs.perform(stop()), Outcome::Done, "one that does not run");
    assert!(daemon.containers().is_empty());
}

#[test]
fn another_app_whose_name_begins_alike_is_left_alone() {
    let daemon = DockerDaemon::start();
    let docker = Setup::of(&daemon).docker;
    let jobs = Jobs::with(&daemon);
    let id = make(&docker, &daemon, "prod_900001_app2", &[]);
    assert_eq!(jobs.perform(stop()), Outcome::Done);
    assert_eq!(jobs.perform(JobSpec::RemoveContainer { container: id[..12].to_owned() }), Outcome::Done);
    assert_eq!(daemon.containers().len(), 1, "neither by a part of the name nor by the start of the id");
    assert_eq!(jobs.perform(JobSpec::RemoveContainer { container: id }), Outcome::Done);
    assert!(daemon.containers().is_empty());
}

#[test]
fn a_removal_that_somebody_else_has_begun_is_waited_for() {
    let daemon = DockerDaemon::start();
    let docker = Setup::of(&daemon).docker;
    let jobs = Jobs::with(&daemon);
    make(&docker, &daemon, NAME, &[]);
    let text = format!("removal of container {NAME} is already in progress");
    daemon.fault("DELETE /containers/*", Fault::Status(409, text));
    jobs.handle.start(1, JobSpec::RemoveContainer { container: NAME.to_owned() });
    daemon.wait_for_request("GET /containers/*/json", 3);
    assert!(jobs.events.is_empty());
    daemon.heal();
    docker.remove_container(NAME, reagent::docker::Removal::Force).expect("removed");
    assert_eq!(jobs.wait_for_end(1), Outcome::Done);
}

#[test]
fn a_listing_inspects_only_the_agents_own_containers_that_changed() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let docker = Setup::of(&daemon).docker;
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    make(&docker, &daemon, "foreign", &[("com.docker.compose.project", "stack")]);
    make(&docker, &daemon, "dev_900002_other", &[("real", "True")]);
    let before = daemon.requests().len();
    let seen = |known: &BTreeMap<String, (String, String)>| {
        let Outcome::Observed(seen) = jobs.perform(JobSpec::Observe { known: known.clone() }) else {
            panic!("no list")
        };
        let by_name: BTreeMap<String, Container> =
            seen.containers.into_iter().map(|container| (container.name.clone(), container)).collect();
        (by_name, seen.images)
    };
    let (first, images) = seen(&BTreeMap::new());
    assert_eq!(images, [IMAGE, "other:1"]);
    let app = &first[NAME];
    let published = Published { service: String::new(), port: 80, protocol: Protocol::Tcp, host_port: 40_001 };
    assert_eq!((app.status.as_str(), app.ours, &app.bindings[..]), ("running", true, &[published][..]));
    assert!(!app.started_at.is_empty());
    assert_eq!((first["foreign"].project.as_deref(), first["foreign"].ours), (Some("stack"), false));
    let looked = jobs.perform(JobSpec::Look { container: NAME.to_owned() });
    assert_eq!(looked, Outcome::Looked(Some(Box::new(app.clone()))));
    let asked: Vec<String> = daemon.requests()[before..].iter().map(|asked| asked.path.clone()).collect();
    assert!(!asked.iter().any(|path| path.contains(&first["foreign"].id)), "{asked:?}");
    let known = first.values().map(|seen| (seen.name.clone(), (seen.id.clone(), seen.status.clone()))).collect();
    daemon.exit_container(NAME, 7);
    let before = daemon.requests().len();
    let (second, _) = seen(&known);
    assert_eq!((second[NAME].status.as_str(), second[NAME].exit_code), ("exited", 7));
    assert_eq!(second["dev_900002_other"].started_at, "", "nothing new about it");
    assert_eq!(daemon.requests().len() - before, 3, "two lists and one inspection");
}

#[test]
fn a_look_tells_what_a_healthcheck_says() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let jobs = Jobs::with(&daemon);
    let health = || match jobs.perform(JobSpec::Look { container: NAME.to_owned() }) {
        Outcome::Looked(Some(seen)) => seen.health,
        other => panic!("not seen but {other:?}"),
    };
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    assert_eq!(health(), None, "it has no HEALTHCHECK");
    daemon.behave(IMAGE, Behaviour { health: Some("starting".to_owned()), ..Behaviour::default() });
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    assert_eq!(health(), Some(Health::Starting));
    for (status, expected) in
        [("healthy", Some(Health::Healthy)), ("unhealthy", Some(Health::Unhealthy)), ("none", None)]
    {
        daemon.set_health(NAME, status);
        assert_eq!(health(), expected);
    }
}

#[test]
fn one_container_that_cannot_be_inspected_does_not_hide_the_others() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    daemon.fault("GET /containers/*/json", Fault::Status(500, "layer does not exist".to_owned()));
    let observe = || JobSpec::Observe { known: BTreeMap::new() };
    let Outcome::Observed(seen) = jobs.perform(observe()) else { panic!("no list") };
    assert_eq!((seen.containers[0].name.as_str(), seen.containers[0].status.as_str()), (NAME, "running"));
    daemon.fault("GET /containers/*/json", Fault::Status(404, "No such container".to_owned()));
    let Outcome::Observed(seen) = jobs.perform(observe()) else { panic!("no list") };
    assert_eq!(seen.containers, [], "it went between list and inspection");
    daemon.go_down();
    assert!(matches!(jobs.perform(observe()), Outcome::EngineGone(_)));
}

#[test]
fn a_pull_is_accepted_logged_and_done() {
    let daemon = DockerDaemon::start();
    daemon.offer(IMAGE, Pull::Works);
    let jobs = Jobs::with(&daemon);
    jobs.handle.start(1, pull());
    assert_eq!(jobs.next(), Event::Accepted(1));
    assert_eq!(jobs.wait_for_end(1), Outcome::Done);
    assert_eq!(daemon.images(), [IMAGE]);
    let login = login_in(&daemon.wait_for_request("POST /images/create", 1), "x-registry-auth");
    assert_eq!(login, r#"{"username":"token","password":"hush"}"#);
    let lines = jobs.log_of(NAME);
    assert!(lines.iter().any(|line| line.contains("Downloaded newer image")), "{lines:?}");
}

#[test]
fn a_pull_that_fails_says_why_in_the_words_of_the_registry() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    let outcome = jobs.perform(pull());
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("manifest unknown")), "{outcome:?}");
    daemon.offer(IMAGE, Pull::Fails("denied: requested access".to_owned()));
    jobs.handle.start(2, pull());
    assert_eq!(jobs.next(), Event::Accepted(2));
    assert_eq!(jobs.wait_for_end(2), Outcome::Failed("denied: requested access".to_owned()));
}

#[test]
fn c7_a_stalled_pull_is_cancelled_within_a_second_and_the_engine_stops_it() {
    let daemon = DockerDaemon::start();
    daemon.offer(IMAGE, Pull::Stalls);
    let jobs = Jobs::with(&daemon);
    jobs.handle.start(1, pull());
    assert_eq!(jobs.next(), Event::Accepted(1));
    jobs.cancel_at_once(1, &daemon);
}

#[test]
fn an_engine_that_goes_in_the_middle_of_a_pull_is_gone() {
    let daemon = DockerDaemon::start();
    daemon.offer(IMAGE, Pull::Stalls);
    let jobs = Jobs::with(&daemon);
    jobs.handle.start(1, pull());
    assert_eq!(jobs.next(), Event::Accepted(1));
    daemon.go_down();
    let outcome = jobs.wait_for_end(1);
    assert!(matches!(outcome, Outcome::EngineGone(_)), "{outcome:?}");
}

#[test]
fn s13_removing_images_that_are_gone_or_in_use_is_success() {
    let daemon = DockerDaemon::start();
    let repository = "registry.test/apps/prod_amd64_900001_app";
    for image in [IMAGE, &format!("{repository}:2.0.0"), &format!("{repository}2:1.0.0")] {
        daemon.add_image(image);
    }
    let jobs = Jobs::with(&daemon);
    let remove = || JobSpec::RemoveImages { repository: repository.to_owned() };
    let has = || JobSpec::HasImage { image: IMAGE.to_owned() };
    let has_newer = || JobSpec::HasImage { image: format!("{repository}:2.0.0") };
    assert_eq!(jobs.perform(has_newer()), Outcome::HasImage(true));
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    assert_eq!(jobs.perform(remove()), Outcome::Done, "one is in use");
    assert_eq!(daemon.images(), [IMAGE, "registry.test/apps/prod_amd64_900001_app2:1.0.0"]);
    assert_eq!(jobs.perform(has()), Outcome::HasImage(true));
    assert_eq!(jobs.perform(has_newer()), Outcome::HasImage(false));
    assert_eq!(jobs.perform(stop()), Outcome::Done);
    assert_eq!(jobs.perform(remove()), Outcome::Done);
    assert_eq!(jobs.perform(has()), Outcome::HasImage(false));
    assert_eq!(jobs.perform(remove()), Outcome::Done, "there is none");
    assert_eq!(jobs.perform(JobSpec::RemoveImageList { images: vec![IMAGE.to_owned()] }), Outcome::Done);
    assert_eq!(daemon.images(), ["registry.test/apps/prod_amd64_900001_app2:1.0.0"]);
}

#[test]
fn s13_an_image_whose_name_leads_elsewhere_is_none_and_keeps_nothing_on_the_device() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    let odd =
        ["../../containers/prod_900001_app", "registry.test/apps/../x:1", "registry.test//x:1", &format!("{IMAGE}/..")];
    let images = odd.map(str::to_owned).to_vec();
    assert_eq!(jobs.perform(JobSpec::RemoveImageList { images }), Outcome::Done);
    assert_eq!((daemon.containers().len(), daemon.images().len()), (1, 1), "what it would lead to is untouched");
    let mut elsewhere = launch(40_002);
    elsewhere.image = format!("{IMAGE}/../../up");
    assert_eq!(jobs.perform(JobSpec::Start(Box::new(elsewhere))), Outcome::ImageMissing);
}

#[test]
fn workers_that_are_stopped_end_in_time_whatever_they_do() {
    let daemon = DockerDaemon::start();
    daemon.offer(IMAGE, Pull::Stalls);
    let jobs = Jobs::with(&daemon);
    jobs.handle.start(1, pull());
    assert_eq!(jobs.next(), Event::Accepted(1));
    daemon.fault("*", Fault::Hang);
    jobs.handle.start(2, stop());
    daemon.wait_for_request("GET /containers/*/json", 1);
    assert_eq!(jobs.handle.stop(), Vec::<String>::new());
}
