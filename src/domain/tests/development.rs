//! Apps in development: built, run, released, cancelled (apps chapter 3.3, 3.8, 3.13, 3.15).

use super::super::app::{AppKey, Stage};
use super::super::job::JobSpec;
use super::super::testing::*;
use serde_json::{Value, json};

const DEV: AppKey = AppKey { key: 1, stage: Stage::Dev };

fn dev(mut extra: Value) -> Value {
    extra["stage"] = json!("DEV");
    extra
}

/// What is reported, said and done.
#[track_caller]
fn shows(world: &mut World, expected: &[&str]) {
    world.settle();
    let words = ["1 ", "say", "clear", "forget", "build", "start", "stop", "remove", "tag", "push", "call token"];
    let seen = world.take(&words);
    assert_eq!(seen, expected, "{:#?}", world.tail());
}

/// App 1 is built.
fn built() -> World {
    let mut world = World::connected();
    world.request(1, "BUILT", dev(json!({"current_state": "UNINSTALLED"})));
    shows(
        &mut world,
        &[
            "clear history",
            "1 REMOVED",
            "say Image build started",
            "call token 42",
            "1 BUILDING",
            "build registry/apps/dev_amd64_1_demo",
            "say Image build done",
            "1 BUILT",
            "1 PRESENT",
        ],
    );
    world
}

#[test]
fn a_build_ends_present_and_is_not_done_twice() {
    let mut world = built();
    world.pass(secs(3600));
    world.join();
    world.pass(secs(60));
    assert!(!world.trace.iter().any(|line| line.starts_with("build")), "{:?}", world.trace);
    world.crash();
    world.join();
    world.pass(secs(60));
    assert!(!world.trace.iter().any(|line| line.starts_with("build")), "{:?}", world.trace);
    world.trace.clear();
    world.request(1, "BUILT", dev(json!({"current_state": "PRESENT"})));
    world.settle();
    assert!(world.reports().contains(&"1 BUILDING".to_owned()), "asked for again");
}

#[test]
fn a_built_app_runs_without_a_version_and_stops() {
    let mut world = built();
    world.request(1, "RUNNING", dev(json!({"current_state": "PRESENT"})));
    shows(
        &mut world,
        &[
            "remove dev_1_demo",
            "clear history",
            "say Starting Demo …",
            "1 STARTING",
            "start registry/apps/dev_amd64_1_demo",
            "1 RUNNING",
            "say Demo is running",
        ],
    );
    assert!(world.engine.is_running("dev_1_demo"));
    world.request(1, "PRESENT", dev(json!({"current_state": "RUNNING"})));
    shows(&mut world, &["say Stop of Demo requested", "1 STOPPING", "stop", "1 PRESENT", "say Demo stopped"]);
    // A running app that is to be built is stopped first.
    world.request(1, "RUNNING", dev(json!({})));
    world.settle();
    world.trace.clear();
    world.request(1, "BUILT", dev(json!({"current_state": "RUNNING"})));
    reports(&mut world, &["1 STOPPING", "1 PRESENT", "1 REMOVED", "1 BUILDING", "1 BUILT", "1 PRESENT"]);
}

#[test]
fn an_app_that_ends_in_development_stays_failed() {
    let mut world = built();
    world.request(1, "RUNNING", dev(json!({})));
    world.settle();
    world.trace.clear();
    world.engine.exit("dev_1_demo", 3);
    world.container_event(1, "die");
    world.pass(secs(61));
    let seen = world.take(&["1 ", "say"]);
    assert_eq!(seen, ["1 FAILED", "say Demo (DEV) exited with code 3"]);
    world.pass(secs(3 * 3600));
    reports(&mut world, &[]);
}

#[test]
fn without_its_image_the_log_says_that_it_has_to_be_built() {
    let mut world = World::connected();
    world.request(1, "RUNNING", dev(json!({"current_state": "PRESENT"})));
    world.settle();
    let seen = world.take(&["1 ", "say"]);
    assert_eq!(
        seen,
        [
            "say Starting Demo …",
            "1 STARTING",
            "say The image registry/apps/dev_amd64_1_demo is not on the device, build it again",
            "1 FAILED",
        ]
    );
}

#[test]
fn a_release_is_built_tagged_and_pushed_under_its_own_log() {
    let mut world = built();
    world.request(1, "PUBLISHED", dev(json!({"current_state": "PRESENT", "version": "1.2.0"})));
    shows(
        &mut world,
        &[
            "clear history",
            "say Publishing Demo 1.2.0 …",
            "1 REMOVED",
            "say Image build started",
            "call token 42",
            "1 BUILDING",
            "build registry/apps/dev_amd64_1_demo",
            "say Image build done",
            "1 BUILT",
            "say Build done, pushing the release",
            "tag registry/apps/prod_amd64_1_demo:1.2.0",
            "1 PUBLISHING",
            "push registry/apps/prod_amd64_1_demo:1.2.0",
            "1 PUBLISHED",
            "clear history",
        ],
    );
    let said = &world.backend.last["report"][0];
    assert_eq!((said["state"].clone(), said["release_build"].clone()), (json!("PUBLISHED"), json!(true)));
    world.pass(secs(3600));
    reports(&mut world, &[]);
    // From a running app: it goes first.
    world.request(1, "RUNNING", dev(json!({})));
    world.settle();
    world.trace.clear();
    world.request(1, "PUBLISHED", dev(json!({"current_state": "RUNNING", "version": "1.2.1"})));
    reports(
        &mut world,
        &["1 DELETING", "1 REMOVED", "1 REMOVED", "1 BUILDING", "1 BUILT", "1 PUBLISHING", "1 PUBLISHED"],
    );
    assert!(world.engine.containers.is_empty());
}

#[test]
fn builds_and_pushes_are_cancelled_and_end_removed() {
    type Held = fn(&JobSpec) -> bool;
    let cases: [(&str, Held, &str, &str); 2] = [
        ("BUILT", |spec| matches!(spec, JobSpec::Build(_)), "1 BUILDING", "Build canceled"),
        ("PUBLISHED", |spec| matches!(spec, JobSpec::Push { .. }), "1 PUBLISHING", "Release canceled"),
    ];
    for (target, held, during, line) in cases {
        let mut world = World::connected();
        world.holds = held;
        world.request(1, target, dev(json!({"version": "1.0.0"})));
        world.settle();
        assert_eq!(world.reports().last().map(String::as_str), Some(during));
        world.trace.clear();
        world.request(1, "REMOVED", dev(json!({"cancel_transition": true})));
        world.settle();
        let seen = world.take(&["1 ", "say"]);
        assert_eq!(seen, [format!("say {line}"), "1 REMOVED".to_owned()]);
        assert!(world.jobs.is_empty() && !world.tables.apps.contains_key(&DEV));
        world.pass(secs(600));
        reports(&mut world, &[]);
    }
}

#[test]
fn a_build_that_fails_shows_the_record_of_the_engine_alone_and_is_not_tried_again() {
    let mut world = World::connected();
    world.engine.fails.insert("build", (1, "The command '/bin/sh -c false' returned a non-zero code: 1"));
    world.request(1, "BUILT", dev(json!({})));
    world.settle();
    let seen = world.take(&["1 ", "say"]);
    assert_eq!(seen, ["1 REMOVED", "say Image build started", "1 BUILDING", "1 FAILED"]);
    world.pass(secs(3 * 3600));
    reports(&mut world, &[]);
    world.request(1, "PRESENT", dev(json!({"current_state": "FAILED"})));
    // The backend promotes it when it learns of BUILT.
    reports(&mut world, &["1 REMOVED", "1 BUILDING", "1 BUILT"]);
    world.request(1, "PRESENT", dev(json!({"current_state": "PRESENT"})));
    reports(&mut world, &["1 PRESENT"]);
}

#[test]
fn what_only_production_has_fails_in_development_with_a_line() {
    let mut world = World::connected();
    world.request(1, "PRESENT", dev(json!({"current_state": "UNINSTALLED"})));
    world.settle();
    let seen = world.take(&["1 ", "say"]);
    assert_eq!(seen, ["say Pull is not possible for an app in stage DEV", "1 FAILED"]);
}

#[test]
fn s7_a_build_that_the_agent_did_not_survive_ends_removed_or_present() {
    for (image, expected) in [(false, "1 REMOVED"), (true, "1 PRESENT")] {
        let mut world = World::connected();
        world.holds = |spec| matches!(spec, JobSpec::Build(_));
        world.request(1, "BUILT", dev(json!({})));
        world.settle();
        if image {
            world.engine.images.insert("registry/apps/dev_amd64_1_demo:latest".to_owned());
        }
        world.crash();
        world.join();
        world.pass(secs(60));
        assert_eq!(world.reports().last().map(String::as_str), Some(expected), "{:?}", world.trace);
        assert!(!world.jobs.values().any(|spec| matches!(spec, JobSpec::Build(_))), "nobody waits for it");
    }
}

#[test]
fn s3_what_the_backend_believes_of_work_that_has_ended_does_not_stop_what_it_asks_for() {
    // The request left when the backend had heard of the push, and not of its end.
    let mut world = built();
    world.request(1, "PUBLISHED", dev(json!({"current_state": "PRESENT", "version": "1"})));
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 PUBLISHED"));
    world.request(1, "PRESENT", dev(json!({"current_state": "PUBLISHING"})));
    world.settle();
    world.request(1, "PUBLISHED", dev(json!({"current_state": "PUBLISHED", "version": "2"})));
    world.settle();
    assert!(world.trace.contains(&"push registry/apps/prod_amd64_1_demo:2".to_owned()), "{:?}", world.trace);
    // Likewise for an app that was removed a moment ago.
    let mut world = World::connected();
    world.request(1, "BUILT", dev(json!({"current_state": "DELETING"})));
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 PRESENT"));
}

#[test]
fn s7_a_container_that_the_engine_made_too_late_goes_from_what_is_built_as_well() {
    let mut world = built();
    let mut late = World::running().engine.containers[&container(1)].clone();
    (late.name, late.status) = ("dev_1_demo".to_owned(), "created".to_owned());
    world.engine.containers.insert(late.name.clone(), late);
    world.pass(secs(61));
    assert!(!world.engine.containers.contains_key("dev_1_demo"), "{:?}", world.tail());
}
