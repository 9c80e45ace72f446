//! State reports: durable, in order, superseded while nobody can be told (storage chapter 2.5, decision 22).

use super::super::app::AppState;
use super::super::testing::*;
use serde_json::json;

#[test]
fn a_report_carries_what_the_contract_says() {
    let mut world = World::running();
    let payload = world.state.apps[&prod(1)].clone();
    assert_eq!(payload.state, AppState::Running);
    world.leave();
    world.exits(1, 1);
    world.settle();
    let (_, stored) = world.tables.outbox.values().next().unwrap().clone();
    assert_eq!(
        stored,
        json!({"app_key": 1, "stage": "PROD", "state": "FAILED", "device_to_app_key": 0, "requestor_account_key": 42,
               "release_key": 100, "request_update": false, "release_build": false, "updateStatus": ""}),
        "identity is filled in when it is sent"
    );
}

#[test]
fn connected_every_state_goes_out_in_order_and_one_at_a_time() {
    let mut world = World::connected();
    world.backend.answers.insert("report", None);
    world.request(1, "RUNNING", json!({}));
    world.settle();
    assert_eq!(world.reports(), ["1 STARTING"], "the others wait for its answer");
    assert_eq!(world.tables.outbox.len(), 5);
    assert!(world.engine.is_running(&container(1)), "the transition did not");
}

#[test]
fn offline_the_newest_state_replaces_the_others_but_not_what_the_backend_acts_on() {
    let mut world = World::running();
    world.leave();
    world.request(1, "RUNNING", json!({})); // dropped, no session
    world.settle();
    world.exits(1, 1);
    world.pass(secs(100));
    let states = |world: &World| -> Vec<String> {
        world.tables.outbox.values().map(|(_, payload)| payload["state"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(states(&world), ["RUNNING"]);

    // An update that ends offline: its confirmation stays before the newest state.
    let mut world = World::running();
    world.holds = |spec| matches!(spec, super::super::job::JobSpec::Pull { .. });
    world.request(1, "RUNNING", json!({"newest_version": "2.0.0", "request_update": true, "present_version": "1.0.0"}));
    world.settle();
    world.leave();
    world.holds = |_| false;
    world.pass(secs(40));
    assert_eq!(states(&world), ["PRESENT", "RUNNING"]);
    world.crash();
    world.settle();
    world.trace.clear();
    world.join();
    world.settle();
    assert_eq!(world.reports()[..2], ["1 PRESENT pending_remote_confirmation", "1 RUNNING completed"]);
    assert!(world.tables.outbox.is_empty());
}

#[test]
fn a_report_that_fails_in_transport_is_sent_again_with_growing_waits() {
    let mut world = World::running();
    world.backend.answers.insert("report", Some(transport()));
    world.exits(1, 1);
    world.settle();
    assert_eq!(world.reports(), ["1 FAILED"]);
    world.trace.clear();
    world.pass(secs(15));
    let tries = world.reports().len();
    assert!((3..=4).contains(&tries), "1, 2, 4, 8 s: {tries}");
    world.pass(secs(3600));
    assert!((55..=75).contains(&world.reports().len()), "a minute at most: {}", world.reports().len());
    world.backend.answers.clear();
    world.trace.clear();
    world.pass(secs(60));
    assert_eq!(world.reports()[..3], ["1 FAILED", "1 STARTING", "1 RUNNING"]);
    assert!(world.tables.outbox.is_empty());
}

#[test]
fn a_report_that_the_backend_refuses_three_times_is_dropped() {
    let mut world = World::running();
    world.backend.answers.insert("report", Some(refusal()));
    world.exits(1, 1);
    world.settle();
    world.request(1, "PRESENT", json!({}));
    world.pass(secs(60));
    let seen = world.reports();
    assert_eq!(seen[..4], ["1 FAILED", "1 FAILED", "1 FAILED", "1 PRESENT"]);
    assert!(world.noted("refuses a state report"));
    assert!(world.tables.outbox.is_empty());
}

#[test]
fn without_a_procedure_at_the_backend_nothing_is_dropped() {
    let mut world = World::running();
    let missing = super::super::message::CallFailure::Error {
        uri: "wamp.error.no_such_procedure".to_owned(),
        text: "no such procedure".to_owned(),
    };
    world.backend.answers.insert("report", Some(Err(missing)));
    world.exits(1, 1);
    world.pass(secs(2));
    assert!(!world.tables.outbox.is_empty());
    world.backend.answers.clear();
    world.pass(secs(120));
    assert!(world.tables.outbox.is_empty());
    assert_eq!(world.backend.told[&1].last().map(String::as_str), Some("RUNNING"));
}

#[test]
fn the_queue_of_an_app_is_bounded_while_the_backend_is_deaf() {
    let mut world = World::running();
    world.backend.answers.insert("report", None);
    for _ in 0..100 {
        world.request(1, "PRESENT", json!({}));
        world.settle();
        world.request(1, "RUNNING", json!({}));
        world.settle();
    }
    assert!(world.tables.outbox.len() <= 32, "{}", world.tables.outbox.len());
    world.backend.answers.clear();
    world.join();
    world.settle();
    assert!(world.tables.outbox.is_empty());
    assert_eq!(world.backend.told[&1].last().map(String::as_str), Some("RUNNING"));
}

#[test]
fn queued_reports_go_out_before_the_list_is_asked_for_and_hold_it_up_for_ten_seconds_at_most() {
    let mut world = World::running();
    world.leave();
    world.exits(1, 1);
    world.settle();
    world.trace.clear();
    world.join();
    world.settle();
    let at = |world: &World, line: &str| world.trace.iter().position(|seen| seen == line).unwrap();
    assert!(at(&world, "1 FAILED") < at(&world, "call list"));

    world.leave();
    world.exits(1, 1);
    world.settle();
    world.backend.answers.insert("report", None);
    world.trace.clear();
    world.join();
    world.pass(secs(9));
    assert!(!world.trace.contains(&"call list".to_owned()));
    world.pass(secs(2));
    assert!(world.trace.contains(&"call list".to_owned()));
}

#[test]
fn reports_of_an_app_that_was_forgotten_still_go_out() {
    let mut world = World::running();
    world.backend.answers.insert("report", None);
    world.request(1, "REMOVED", json!({}));
    world.settle();
    assert!(world.state.apps.is_empty());
    world.backend.answers.clear();
    world.trace.clear();
    world.crash();
    world.join();
    world.settle();
    assert_eq!(world.reports()[..2], ["1 DELETING", "1 REMOVED"]);
    assert!(world.tables.outbox.is_empty());
}
