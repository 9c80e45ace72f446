//! The container engine away, hung, restarting (decision 16, S10, C7, D1).

use super::super::job::{JobSpec, Outcome};
use super::super::testing::*;
use serde_json::json;

#[test]
fn s10_without_an_engine_the_agent_is_online_and_remembers_what_is_asked() {
    let mut world = World::empty();
    world.join();
    world.pass(secs(3600));
    assert!(world.trace.contains(&"call status CONFIGURING".to_owned()));
    assert!(!world.trace.contains(&"call list".to_owned()), "the sequence waits for the engine");
    let call = world.request(1, "RUNNING", json!({}));
    world.settle();
    assert!(world.answer_to(call).is_some_and(Result::is_ok));
    assert_eq!(world.reports(), [] as [&str; 0]);
    world.engine_up();
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
    assert!(world.trace.contains(&"call status CONNECTED".to_owned()));
    assert_eq!(world.untrue, [] as [&str; 0]);
}

#[test]
fn an_engine_that_goes_away_in_mid_job_leaves_no_failure_behind() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Start(_));
    world.request(1, "RUNNING", json!({}));
    world.settle();
    world.engine_down();
    world.settle();
    world.holds = |_| false;
    world.settle();
    assert!(!world.reports().contains(&"1 FAILED".to_owned()), "{:?}", world.reports());
    world.pass(secs(600));
    world.trace.clear();
    world.engine_up();
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
    assert!(world.engine.is_running(&container(1)));
}

#[test]
fn c7_an_engine_that_does_not_answer_holds_no_app_for_ever() {
    let mut world = World::running();
    world.engine.down = true; // the event stream lives, calls end without an answer
    world.request(1, "PRESENT", json!({}));
    world.pass(secs(120));
    assert!(!world.reports().contains(&"1 FAILED".to_owned()));
    world.trace.clear();
    world.engine.down = false;
    world.pass(secs(6));
    assert_eq!(world.reports().last().map(String::as_str), Some("1 PRESENT"));
}

#[test]
fn a_failure_after_a_listing_has_begun_is_not_covered_by_it() {
    let mut world = World::running();
    world.holds = |spec| matches!(spec, JobSpec::Observe { .. } | JobSpec::Stop { .. });
    world.pass(secs(61)); // the resync hangs
    world.request(1, "PRESENT", json!({}));
    world.settle();
    let stop = world.job(|spec| matches!(spec, JobSpec::Stop { .. }));
    world.ended(stop, Outcome::EngineGone("timeout".to_owned()));
    world.settle();
    world.holds = |_| false;
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 PRESENT"));
}

#[test]
fn a_restart_of_the_engine_recovers_its_containers_at_once() {
    let mut world = World::running();
    world.request(2, "RUNNING", json!({}));
    world.settle();
    world.trace.clear();
    // Both ended; of one the agent still heard.
    world.exits(1, 137);
    world.settle();
    world.engine.exit(&container(2), 137);
    world.engine_down();
    world.settle();
    world.pass(secs(2));
    world.engine_up();
    world.settle();
    assert!(world.engine.is_running(&container(1)) && world.engine.is_running(&container(2)));
    assert!(!world.trace.iter().any(|line| line.contains("2nd attempt")));
}

#[test]
fn a_request_during_an_outage_is_done_when_it_is_over_also_for_apps_that_the_backend_does_not_drive() {
    let mut world = World::running();
    world.engine_down();
    world.settle();
    world.request(1, "PRESENT", json!({}));
    world.request(2, "RUNNING", json!({"stage": "DEV"}));
    reports(&mut world, &[]);
    world.engine_up();
    world.settle();
    let seen = world.reports();
    assert!(seen.contains(&"1 PRESENT".to_owned()) && seen.contains(&"2 FAILED".to_owned()), "{seen:?}");
}

#[test]
fn a_connect_while_the_engine_is_away_reports_what_is_recorded_and_goes_on() {
    for gone in ["before", "during"] {
        let mut world = World::running();
        if gone == "before" {
            world.engine_down();
        } else {
            world.engine.down = true;
        }
        world.join();
        world.settle();
        assert!(world.trace.contains(&"call status CONNECTED".to_owned()), "{gone}: {:?}", world.trace);
        assert_eq!(world.reports().first().map(String::as_str), Some("1 RUNNING"));
    }
}

#[test]
fn s6_without_knowledge_of_what_is_wanted_no_container_is_removed() {
    let mut world = World::running();
    // The database is lost, the container still runs.
    world.tables = Default::default();
    world.backend.list = Some(refusal());
    world.crash();
    world.join();
    world.pass(secs(600));
    assert!(world.engine.is_running(&container(1)));
    world.backend.list = None;
    world.join();
    world.settle();
    assert!(world.engine.is_running(&container(1)));
    assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
}

#[test]
fn s6_a_container_of_an_app_that_left_while_the_agent_was_down_is_swept() {
    let mut world = World::running();
    world.request(2, "RUNNING", json!({}));
    world.settle();
    world.tables.apps.remove(&prod(2));
    world.tables.requests.remove(&prod(2));
    world.crash();
    world.settle();
    assert!(!world.engine.is_running(&container(2)), "known by its label");
    assert!(world.engine.is_running(&container(1)));
    assert!(world.noted("belongs to no app of this device"));
}
