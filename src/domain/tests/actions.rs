//! The sequences of apps chapter 3.0, with what an app's log shows, as recorded from the agents in the field.

use super::super::testing::*;
use serde_json::json;

/// Reports, log lines, clears, port reports and token calls of what comes to rest now.
#[track_caller]
fn shows(world: &mut World, expected: &[&str]) {
    world.settle();
    let seen = world.take(&["1 ", "say", "clear", "forget", "call token", "publish"]);
    let seen: Vec<&str> = seen.iter().map(String::as_str).filter(|line| *line != "clear history").collect();
    assert_eq!(seen, expected, "{:#?}", world.tail());
}

const PORTS: &str = "publish tunnel_state_update/onreload";

#[test]
fn a_first_start_without_image_pulls_it() {
    let mut world = World::connected();
    world.request(
        1,
        "RUNNING",
        json!({"current_state": "UNINSTALLED", "ports": [{"port": 80}, {"port": 53, "protocol": "udp"}]}),
    );
    shows(
        &mut world,
        &[
            "say Starting Demo …",
            "1 STARTING",
            "clear",
            "say Preparing download of Demo …",
            "call token 43",
            "1 DOWNLOADING",
            "say Demo installed, version 1.0.0",
            "1 PRESENT",
            "1 STARTING",
            "1 RUNNING",
            "say Demo is running (1.0.0)",
            "1 ports 80>40000 53>40001",
            PORTS,
        ],
    );
}

#[test]
fn a_stop_reports_stopping_twice_and_a_start_with_the_image_there_pulls_nothing() {
    let mut world = World::running();
    world.request(1, "PRESENT", json!({}));
    shows(
        &mut world,
        &["1 STOPPING", "say Stop of Demo requested", "1 STOPPING", "1 PRESENT", "say Demo stopped", PORTS],
    );
    assert!(world.engine.containers.is_empty());
    world.request(1, "RUNNING", json!({}));
    shows(&mut world, &["say Starting Demo …", "1 STARTING", "1 RUNNING", "say Demo is running (1.0.0)", PORTS]);
}

#[test]
fn a_pull_alone_ends_present() {
    let mut world = World::connected();
    world.request(1, "PRESENT", json!({}));
    shows(
        &mut world,
        &[
            "clear",
            "say Preparing download of Demo …",
            "call token 43",
            "1 DOWNLOADING",
            "say Demo installed, version 1.0.0",
            "1 PRESENT",
            PORTS,
        ],
    );
    assert_eq!(world.tables.apps[&prod(1)].version, "1.0.0", "what was pulled is what will run");
}

#[test]
fn a_removal_says_its_last_word_before_the_log_is_dropped_and_leaves_no_row() {
    let mut world = World::running();
    world.request(1, "REMOVED", json!({}));
    shows(&mut world, &["say Removing Demo …", "1 DELETING", "1 REMOVED", "say Demo removed", "forget", PORTS]);
    assert!(world.engine.containers.is_empty() && world.engine.images.is_empty());
    assert!(world.tables.apps.is_empty() && world.tables.requests.is_empty() && world.tables.outbox.is_empty());
    assert!(world.engine.folders.contains("Demo"), "the data stays");
}

#[test]
fn an_uninstall_takes_the_data_too() {
    let mut world = World::running();
    world.request(1, "UNINSTALLED", json!({}));
    shows(
        &mut world,
        &["say Removing Demo …", "1 DELETING", "1 REMOVED", "say Demo removed", "1 UNINSTALLED", "forget", PORTS],
    );
    assert!(world.engine.folders.is_empty() && world.tables.apps.is_empty() && world.tables.requests.is_empty());
}

#[test]
fn what_is_already_so_is_reported_once_more() {
    let mut world = World::running();
    world.request(1, "RUNNING", json!({}));
    shows(&mut world, &["1 RUNNING", PORTS]);
}

#[test]
fn an_image_that_is_nowhere_fails_without_downloading() {
    let mut world = World::connected();
    world.engine.missing.insert("registry/apps/prod_amd64_1_demo:1.0.0".to_owned());
    world.request(1, "RUNNING", json!({}));
    world.settle();
    let seen = world.take(&["1 ", "say", "clear"]);
    assert_eq!(
        seen[..8],
        [
            "clear history",
            "say Starting Demo …",
            "1 STARTING",
            "clear",
            "say Preparing download of Demo …",
            "clear history",
            "say The image could not be pulled: not found",
            "1 FAILED"
        ]
    );
    assert!(seen[8].starts_with("say Crash loop, 1st attempt, next try in "), "{}", seen[8]);
    assert_eq!(seen.len(), 9);
    world.request(1, "REMOVED", json!({}));
    shows(&mut world, &["say Removing Demo …", "1 DELETING", "1 REMOVED", "say Demo removed", "forget", PORTS]);
}

#[test]
fn a_start_that_fails_says_why_and_shows_what_the_container_wrote() {
    let mut world = World::connected();
    world.engine.fails.insert("start", (1, "no such device"));
    world.request(1, "RUNNING", json!({}));
    world.settle();
    let seen = world.take(&["1 ", "say Demo could", "follow"]);
    assert_eq!(seen, ["1 STARTING", "say Demo could not be started: no such device", "follow", "1 FAILED"]);
    world.pass(secs(6));
    reports(&mut world, &["1 STARTING", "1 DOWNLOADING", "1 PRESENT", "1 STARTING", "1 RUNNING"]);
}

#[test]
fn recovering_to_present_removes_the_container_and_pulls_only_what_is_missing() {
    let mut world = World::running();
    world.exits(1, 1);
    reports(&mut world, &["1 FAILED"]);
    world.request(1, "PRESENT", json!({}));
    reports(&mut world, &["1 PRESENT"]);
    assert!(world.engine.containers.is_empty());

    let mut world = World::running();
    world.exits(1, 1);
    reports(&mut world, &["1 FAILED"]);
    world.engine.images.clear();
    world.request(1, "PRESENT", json!({}));
    reports(&mut world, &["1 DOWNLOADING", "1 PRESENT"]);
}

#[test]
fn s13_removing_what_is_not_there_is_success() {
    let mut world = World::running();
    world.engine.images.clear();
    world.engine.containers.clear();
    world.request(1, "UNINSTALLED", json!({}));
    reports(&mut world, &["1 DELETING", "1 REMOVED", "1 UNINSTALLED"]);
}

#[test]
fn builds_and_releases_of_apps_in_production_are_a_noop_with_a_warning() {
    for target in ["BUILT", "PUBLISHED"] {
        let mut world = World::connected();
        world.request(1, target, json!({"current_state": "PRESENT"}));
        reports(&mut world, &["1 PRESENT"]);
        assert!(world.noted("never built here"));
        world.pass(secs(600));
        reports(&mut world, &[]);
    }
}

#[test]
fn two_apps_of_one_name_share_a_directory_that_only_the_last_one_takes() {
    let mut world = World::running();
    world.request(2, "RUNNING", json!({}));
    world.settle();
    world.request(1, "UNINSTALLED", json!({}));
    world.settle();
    assert!(world.engine.folders.contains("Demo"));
    world.request(2, "UNINSTALLED", json!({}));
    world.settle();
    assert!(!world.engine.folders.contains("Demo"));
}

#[test]
fn a_name_that_is_no_name_of_a_directory_can_be_uninstalled() {
    let mut world = World::connected();
    world.request(1, "RUNNING", json!({"app_name": "a/b"}));
    world.settle();
    assert!(world.reports().contains(&"1 FAILED".to_owned()));
    world.trace.clear();
    world.request(1, "UNINSTALLED", json!({}));
    world.settle();
    assert!(!world.trace.contains(&"delete files".to_owned()));
    reports(&mut world, &["1 DELETING", "1 REMOVED", "1 UNINSTALLED"]);
}
