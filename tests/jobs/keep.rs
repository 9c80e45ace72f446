//! Keeping the container of the release before, and putting it back, also after a power cut at any point.

use super::*;
use crate::util::docker_daemon::{Behaviour, Fault};
use serde_json::json;

const KEPT: &str = "kept-900001-prod";
const OLD: &str = "registry.test/apps/prod_amd64_900001_app:1.0.0";
const NEW: &str = "registry.test/apps/prod_amd64_900001_app:2.0.0";

fn keep() -> JobSpec {
    JobSpec::Keep { container: NAME.to_owned(), kept: KEPT.to_owned() }
}

fn put_back() -> JobSpec {
    JobSpec::PutBack { container: NAME.to_owned(), kept: KEPT.to_owned() }
}

/// A daemon with these containers: name, image, and whether it runs.
fn daemon_with(containers: &[(&str, &str, bool)]) -> DockerDaemon {
    let daemon = DockerDaemon::start();
    let docker = Setup::of(&daemon).docker;
    for (name, image, runs) in containers {
        daemon.add_container(name, &json!({"Image": image}));
        docker.start_container(name).expect("started");
        if !runs {
            daemon.exit_container(name, 137);
        }
    }
    daemon
}

/// Image and status of all containers, by name.
fn seen(daemon: &DockerDaemon) -> Vec<(String, String, String)> {
    let image =
        |name: &str| daemon.created_with(name).expect("it is listed")["Image"].as_str().expect("text").to_owned();
    daemon
        .containers()
        .into_iter()
        .map(|(name, status)| (image(&name), name, status))
        .map(|(i, n, s)| (n, i, s))
        .collect()
}

fn expected(containers: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    containers.iter().map(|(n, i, s)| ((*n).to_owned(), (*i).to_owned(), (*s).to_owned())).collect()
}

/// Cuts a job off before and after each of its requests, does it again, and expects the same end as without a cut. In
/// between the release before has a container.
fn at_every_point(start: &[(&str, &str, bool)], job: fn() -> JobSpec, end: &[(&str, &str, &str)]) {
    for how in [Fault::Drop, Fault::Mute] {
        let mut point = 0;
        loop {
            let daemon = daemon_with(start);
            let jobs = Jobs::with(&daemon);
            daemon.cut_after(point, how.clone());
            let outcome = jobs.perform(job());
            if !daemon.is_cut() {
                assert_eq!((outcome, seen(&daemon)), (Outcome::Done, expected(end)), "{how:?} at {point}");
                break;
            }
            assert!(matches!(outcome, Outcome::EngineGone(_)), "{how:?} at {point}: {outcome:?}");
            assert!(seen(&daemon).iter().any(|(_, image, _)| image == OLD), "{how:?} at {point}: {:?}", seen(&daemon));
            daemon.heal();
            assert_eq!(jobs.perform(job()), Outcome::Done, "{how:?} at {point}");
            assert_eq!(seen(&daemon), expected(end), "{how:?} at {point}");
            point += 1;
        }
        assert!(point > 3, "it was cut {point} times");
    }
}

#[test]
fn a_container_is_stopped_with_a_second_of_grace_and_kept_under_the_other_name() {
    let daemon = daemon_with(&[(NAME, OLD, true)]);
    let jobs = Jobs::with(&daemon);
    let id = daemon.container_id(NAME);
    assert_eq!(jobs.perform(keep()), Outcome::Done);
    assert_eq!(seen(&daemon), expected(&[(KEPT, OLD, "exited")]));
    assert_eq!(daemon.container_id(KEPT), id, "the same one");
    assert_eq!(daemon.wait_for_request("POST /containers/*/stop", 1).query("t"), "1");
    assert_eq!(jobs.perform(put_back()), Outcome::Done);
    assert_eq!(seen(&daemon), expected(&[(NAME, OLD, "running")]));
    assert_eq!(daemon.container_id(NAME), id);
}

#[test]
fn to_find_nothing_to_keep_is_success_and_leaves_alone_what_is_kept() {
    let daemon = daemon_with(&[]);
    assert_eq!(Jobs::with(&daemon).perform(keep()), Outcome::Done);
    let daemon = daemon_with(&[(KEPT, OLD, false), ("prod_900001_app2", OLD, true)]);
    assert_eq!(Jobs::with(&daemon).perform(keep()), Outcome::Done);
    assert_eq!(seen(&daemon), expected(&[(KEPT, OLD, "exited"), ("prod_900001_app2", OLD, "running")]));
}

#[test]
fn s7_keeping_can_be_cut_off_at_any_point() {
    at_every_point(&[(NAME, OLD, true)], keep, &[(KEPT, OLD, "exited")]);
}

#[test]
fn s7_keeping_in_place_of_an_older_one_can_be_cut_off_at_any_point() {
    at_every_point(&[(NAME, OLD, true), (KEPT, "older:1", false)], keep, &[(KEPT, OLD, "exited")]);
}

#[test]
fn s7_putting_back_can_be_cut_off_at_any_point() {
    at_every_point(&[(NAME, NEW, true), (KEPT, OLD, false)], put_back, &[(NAME, OLD, "running")]);
}

#[test]
fn s7_what_keeping_left_half_done_can_be_put_back() {
    at_every_point(&[(NAME, OLD, false)], put_back, &[(NAME, OLD, "running")]);
    at_every_point(&[(KEPT, OLD, false)], put_back, &[(NAME, OLD, "running")]);
}

#[test]
fn what_runs_and_was_never_kept_need_not_be_put_back() {
    let daemon = daemon_with(&[(NAME, OLD, true)]);
    let jobs = Jobs::with(&daemon);
    let id = daemon.container_id(NAME);
    assert_eq!(jobs.perform(put_back()), Outcome::Done);
    assert_eq!((daemon.container_id(NAME), seen(&daemon)), (id, expected(&[(NAME, OLD, "running")])));
}

#[test]
fn what_cannot_be_put_back_says_why() {
    let daemon = daemon_with(&[]);
    let outcome = Jobs::with(&daemon).perform(put_back());
    assert_eq!(outcome, Outcome::Failed("the container of the release before is gone".to_owned()));
    let daemon = daemon_with(&[(KEPT, OLD, false)]);
    daemon.behave(OLD, Behaviour { exits: Some(3), ..Behaviour::default() });
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(put_back()), Outcome::Failed("it ended at once with exit code 3".to_owned()));
    daemon.behave(OLD, Behaviour { start_error: Some("no such device".to_owned()), ..Behaviour::default() });
    assert_eq!(jobs.perform(put_back()), Outcome::Failed("no such device".to_owned()));
}

#[test]
fn a_name_that_somebody_takes_in_between_is_freed_once_more() {
    let daemon = daemon_with(&[(NAME, OLD, true)]);
    let jobs = Jobs::with(&daemon);
    daemon.fault("POST /containers/*/stop", Fault::Hang);
    jobs.handle.start(1, keep());
    // What was kept before is gone by now.
    daemon.wait_for_request("POST /containers/*/stop", 1);
    daemon.add_container(KEPT, &json!({"Image": "foreign:1"}));
    daemon.heal();
    assert_eq!(jobs.wait_for_end(1), Outcome::Done);
    assert_eq!(seen(&daemon), expected(&[(KEPT, OLD, "exited")]));
}
