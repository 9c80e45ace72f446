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
