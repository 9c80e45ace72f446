//! What a request does: acceptance, normalisation, and requests that arrive while something is being done (S2, S3).

use super::super::app::AppState;
use super::super::job::JobSpec;
use super::super::testing::*;
use serde_json::json;

#[test]
fn a_request_is_answered_and_stored_before_anything_is_done() {
    let mut world = World::connected();
    world.holds = |_| true;
    let call = world.request(1, "RUNNING", json!({}));
    world.settle();
    assert_eq!(world.answer_to(call), Some(&Ok((vec![], object(json!({}))))));
    let row = &world.tables.requests[&prod(1)];
    assert_eq!((row.requested_state, row.present_version.as_str()), (AppState::Running, ""));
}

#[test]
fn transient_targets_are_normalised() {
    for (target, wanted) in [
        ("DOWNLOADING", AppState::Present),
        ("UPDATING", AppState::Present),
        ("STOPPED", AppState::Present),
        ("STARTING", AppState::Running),
        ("DELETING", AppState::Removed),
        ("INHERIT", AppState::Inherit),
    ] {
        let mut world = World::connected();
        world.holds = |_| true;
        world.request(1, target, json!({"current_state": "PRESENT"}));
        world.settle();
        let stored = world.tables.requests.get(&prod(1)).map(|row| row.requested_state);
        assert_eq!(stored, Some(wanted), "{target}");
    }
}

#[test]
fn a_finished_build_is_not_overwritten_but_a_teardown_wins() {
    let mut world = World::connected();
    world.request(1, "PRESENT", json!({"stage": "DEV", "current_state": "BUILT"}));
    world.settle();
    world.request(1, "RUNNING", json!({"stage": "DEV"}));
    world.settle();
    let dev = super::super::app::AppKey { stage: super::super::app::Stage::Dev, ..prod(1) };
    assert_eq!(world.tables.requests[&dev].requested_state, AppState::Present);
    world.trace.clear();
    world.request(1, "REMOVED", json!({"stage": "DEV"}));
    reports(&mut world, &["1 DELETING", "1 REMOVED"]);
    assert!(world.tables.requests.is_empty());
}

#[test]
fn what_an_unknown_app_is_believed_to_be_is_looked_at() {
    let mut world = World::connected();
    world.request(1, "RUNNING", json!({"current_state": "RUNNING"}));
    world.settle();
    let seen = world.reports();
    assert_eq!(seen[..3], ["1 RUNNING", "1 PRESENT", "1 STARTING"], "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("1 RUNNING"));
    assert!(world.engine.is_running(&container(1)));

    let mut world = World::connected();
    world.request(1, "RUNNING", json!({"current_state": "UPDATING"}));
    reports(&mut world, &["1 STARTING", "1 DOWNLOADING", "1 PRESENT", "1 STARTING", "1 RUNNING"]);
}

#[test]
fn an_unknown_app_that_is_gone_and_not_wanted_is_reported_and_leaves_no_junk() {
    for (target, believed, expected) in [
        ("UNINSTALLED", "UNINSTALLED", vec!["1 UNINSTALLED"]),
        ("REMOVED", "REMOVED", vec!["1 REMOVED"]),
        ("REMOVED", "UNINSTALLED", vec![]),
        ("UNINSTALLED", "REMOVED", vec!["1 DELETING", "1 REMOVED", "1 UNINSTALLED"]),
    ] {
        let mut world = World::connected();
        world.request(1, target, json!({"current_state": believed}));
        reports(&mut world, &expected);
        assert!(world.tables.apps.is_empty() && world.tables.requests.is_empty(), "{target} {believed}");
        assert!(world.state.apps.is_empty() && world.tables.outbox.is_empty() && world.engine.folders.is_empty());
    }
}

#[test]
fn x1_an_app_that_never_came_to_the_device_leaves_no_files_there() {
    let mut world = World::connected();
    world.engine_down();
    world.settle();
    // What begins as soon as the engine is back must not write the app's secrets before.
    world.request(1, "RUNNING", json!({"current_state": "UNINSTALLED"}));
    world.settle();
    world.request(1, "UNINSTALLED", json!({"current_state": "UNINSTALLED"}));
    world.settle();
    assert!(world.engine.folders.is_empty(), "{:?}", world.engine.folders);
    assert!(world.state.apps.is_empty());
}

#[test]
fn s3_what_is_asked_of_an_app_that_has_just_left_is_done_anew_whatever_the_backend_believes() {
    let mut world = World::running();
    // The reports of its end are on their way.
    world.backend.answers.insert("report", None);
    world.request(1, "UNINSTALLED", json!({}));
    world.settle();
    assert!(world.state.apps.is_empty() && world.engine.images.is_empty());
    world.backend.answers.clear();
    world.request(1, "PRESENT", json!({"current_state": "RUNNING"}));
    world.settle();
    let image = "registry/apps/prod_amd64_1_demo:1.0.0".to_owned();
    assert!(world.engine.images.contains(&image), "{:?}", world.tail());
}

#[test]
fn s2_a_second_request_waits_for_the_end_of_the_first_action() {
    let mut world = World::running();
    world.holds = |spec| matches!(spec, JobSpec::Stop { .. });
    world.request(1, "PRESENT", json!({}));
    world.settle();
    world.request(1, "REMOVED", json!({}));
    world.request(1, "RUNNING", json!({}));
    world.settle();
    let of_the_app = world.jobs.values().filter(|spec| spec.needs_engine()).count();
    assert_eq!(of_the_app, 1, "{:?}", world.jobs);
    world.holds = |_| false;
    reports(&mut world, &["1 STOPPING", "1 STOPPING", "1 PRESENT", "1 STARTING", "1 RUNNING"]);
}

#[test]
fn s3_the_newest_request_wins_whatever_the_running_action_ends_in() {
    for fails in [false, true] {
        let mut world = World::connected();
        world.holds = |spec| matches!(spec, JobSpec::Start(_));
        world.request(1, "RUNNING", json!({}));
        world.settle();
        world.request(1, "PRESENT", json!({}));
        world.settle();
        if fails {
            world.engine.fails.insert("start", (1, "broken"));
        }
        world.trace.clear();
        world.holds = |_| false;
        world.settle();
        let seen = world.reports();
        assert_eq!(seen.last().map(String::as_str), Some("1 PRESENT"), "{seen:?}");
        assert!(world.engine.containers.is_empty());
        world.trace.clear();
        world.pass(secs(7200));
        reports(&mut world, &[]);
    }
}

#[test]
fn s3_a_burst_of_requests_ends_in_the_last_one() {
    let mut world = World::connected();
    for target in ["RUNNING", "PRESENT", "REMOVED", "RUNNING", "UNINSTALLED", "RUNNING", "PRESENT", "RUNNING"] {
        world.request(1, target, json!({}));
    }
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
    assert!(world.engine.is_running(&container(1)));
}

#[test]
fn a_download_is_cancelled_for_a_removal_and_for_an_uninstall() {
    for (target, expected) in [("REMOVED", vec!["1 REMOVED"]), ("UNINSTALLED", vec!["1 UNINSTALLED"])] {
        let mut world = World::connected();
        world.holds = |spec| matches!(spec, JobSpec::Pull { .. });
        world.request(1, "PRESENT", json!({}));
        reports(&mut world, &["1 DOWNLOADING"]);
        // The engine had the image already when it was told to stop.
        world.engine.images.insert("registry/apps/prod_amd64_1_demo:1.0.0".to_owned());
        world.request(1, target, json!({"cancel_transition": true}));
        world.settle();
        assert!(world.engine.images.is_empty(), "{target}");
        assert!(world.trace.contains(&"say Download canceled".to_owned()));
        let mut seen = world.reports();
        seen.retain(|line| expected.contains(&line.as_str()));
        assert_eq!(seen, expected);
        assert!(world.tables.apps.is_empty() && world.tables.requests.is_empty(), "{target}");
        assert!(world.tables.outbox.is_empty() && world.jobs.is_empty());
    }
}

#[test]
fn a_download_that_is_wanted_otherwise_without_a_cancel_goes_on_to_its_end() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Pull { .. });
    world.request(1, "PRESENT", json!({}));
    world.settle();
    world.request(1, "REMOVED", json!({}));
    reports(&mut world, &["1 DOWNLOADING"]);
    world.holds = |_| false;
    reports(&mut world, &["1 PRESENT", "1 DELETING", "1 REMOVED"]);
}

#[test]
fn a_cancel_before_the_engine_has_accepted_the_pull_takes_effect_when_it_has() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Pull { .. });
    world.engine.missing.insert("registry/apps/prod_amd64_1_demo:1.0.0".to_owned()); // not accepted by itself
    world.request(1, "PRESENT", json!({"current_state": "UNINSTALLED"}));
    world.settle();
    // There is no such cell for an app that is not there.
    world.request(1, "REMOVED", json!({"cancel_transition": true}));
    reports(&mut world, &[]);
    let job = world.job(|spec| matches!(spec, JobSpec::Pull { .. }));
    world.inbox.push_back(super::super::message::Event::JobAccepted { job });
    reports(&mut world, &["1 DOWNLOADING", "1 REMOVED"]);
    assert!(world.state.apps.is_empty());
}

#[test]
fn a_wish_that_changes_back_during_a_cancel_is_followed() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Pull { .. });
    world.request(1, "RUNNING", json!({}));
    world.settle();
    world.request(1, "UNINSTALLED", json!({"cancel_transition": true}));
    world.request(1, "RUNNING", json!({}));
    world.settle();
    world.holds = |_| false;
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
    assert!(world.engine.is_running(&container(1)));
}

#[test]
fn s3_an_app_that_is_to_be_uninstalled_while_it_is_removed_is_uninstalled() {
    let mut world = World::running();
    world.holds = |spec| matches!(spec, JobSpec::RemoveImages { .. });
    world.request(1, "REMOVED", json!({}));
    world.settle();
    world.trace.clear();
    world.request(1, "UNINSTALLED", json!({}));
    world.holds = |_| false;
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 UNINSTALLED"), "{:?}", world.trace);
    assert!(world.engine.folders.is_empty() && !world.state.apps.contains_key(&prod(1)));
}
