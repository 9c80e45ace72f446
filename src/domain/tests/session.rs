//! The connect sequence (wire chapter 2.2), what a lost session does to it, heartbeats (1.11).

use super::super::job::JobSpec;
use super::super::message::Event;
use super::super::testing::*;
use serde_json::json;

/// The lines of the connect sequence.
fn sequence(world: &mut World) -> Vec<String> {
    world.take(&["call", "open", "log session", "1 ", "metadata", "redial", "observe"])
}

const FIRST: [&str; 9] = [
    "call metadata",
    "call key []",
    "call status CONFIGURING",
    "open",
    "call architecture amd64",
    "log session true",
    "call list",
    "observe",
    "call status CONNECTED",
];

#[test]
fn c8_the_connect_sequence_has_one_order() {
    let mut world = World::empty();
    world.engine_up();
    world.settle();
    world.trace.clear();
    world.join();
    world.settle();
    assert_eq!(sequence(&mut world), FIRST);
}

/// A device that has joined a router which is far away.
fn far() -> World {
    let mut world = World::empty();
    world.engine_up();
    world.settle();
    world.trace.clear();
    world.under_way = Some(Vec::new());
    world.join();
    world.settle();
    world
}

#[test]
fn c6_it_is_connected_three_and_a_half_round_trips_after_the_claim() {
    let mut world = far();
    let mut trips = vec![sequence(&mut world)];
    while world.under_way.as_ref().is_some_and(|answers| !answers.is_empty()) {
        world.trace = world.round_trip(|_| {});
        trips.push(sequence(&mut world));
    }
    assert_eq!(
        trips,
        [
            vec!["call metadata", "call key []"],
            vec!["call status CONFIGURING", "open", "call architecture amd64"],
            vec!["log session true", "call list"],
            vec!["observe", "call status CONNECTED"],
            vec![],
        ]
    );
}

#[test]
fn c8_nothing_is_written_before_metadata_testament_and_key_are_settled_in_whatever_order() {
    for last in 0..3 {
        let mut world = far();
        let mut late = Vec::new();
        let early = world.round_trip(|answers| late.push(answers.remove(last)));
        assert_eq!(early, ["call metadata", "call key []"], "{last}");
        world.inbox.extend(late);
        world.settle();
        assert_eq!(world.trace, ["call status CONFIGURING", "open", "call architecture amd64"], "{last}");
    }
}

#[test]
fn c8_no_heartbeat_and_no_report_of_ports_or_states_overtakes_the_metadata() {
    for silent in ["metadata", "testament", "key"] {
        let mut world = World::running();
        world.leave();
        world.settle();
        world.backend.answers.insert(silent, None);
        world.join();
        world.settle();
        world.exits(1, 1);
        world.request(1, "PRESENT", json!({"ports": [{"port": 80}]}));
        world.settle();
        world.request(1, "RUNNING", json!({"ports": [{"port": 80}]}));
        world.pass(secs(100));
        assert!(world.engine.is_running(&container(1)), "{silent}: apps do not wait for it");
        let written = world.take(&["call status", "1 ", "open"]);
        assert_eq!(written, [] as [&str; 0], "{silent}");
    }
}

#[test]
fn c6_the_list_is_asked_for_when_the_table_is_settled_and_not_before() {
    let mut world = far();
    world.round_trip(|_| {});
    let is_table = |event: &Event| matches!(event, Event::Opened { .. });
    let mut table = Vec::new();
    world.round_trip(|answers| table.extend(answers.extract_if(.., |event| is_table(event))));
    assert_eq!(world.round_trip(|_| {}), [] as [&str; 0]);
    world.inbox.extend(table);
    world.settle();
    assert_eq!(world.take(&["call"]), ["call list"]);
}

#[test]
fn the_key_of_an_identity_that_the_device_has_no_more_is_not_used() {
    let mut world = far();
    world.backend.answers.insert("metadata", Some(Ok(vec![json!({"swarm_key": 9})])));
    world.backend.answers.insert("key", Some(Ok(vec![json!("of the old project")])));
    world.join();
    world.settle();
    world.backend.answers.remove("key");
    // The key overtakes the metadata.
    let seen = world.round_trip(|answers| answers.reverse());
    assert!(seen.contains(&"redial".to_owned()), "{seen:?}");
    assert!(world.state.device.credential_key.is_none());
    world.round_trip(|_| {});
    assert_eq!(world.state.device.credential_key.as_ref().map(|key| key.reveal()), Some("cred-key"));
}

#[test]
fn the_calls_of_the_connect_sequence_carry_what_was_recorded() {
    let mut world = World::connected();
    world.request(1, "RUNNING", json!({"ports": [{"port": 80, "extra": 1}]}));
    world.settle();
    let last = |word: &str| world.backend.last[word].clone();
    assert_eq!(last("metadata"), [json!({"device_key": 3})]);
    assert_eq!(last("key"), [] as [serde_json::Value; 0]);
    assert_eq!(
        last("status"),
        [json!({"swarm_key": 2, "device_key": 3, "status": "CONNECTED", "wamp_session_id": 1001,
                "stats": {"cpu_usage": 1.0}, "tunnel_capable": false})]
    );
    assert_eq!(
        last("architecture"),
        [
            json!({"swarm_key": 2, "device_key": 3, "architecture": "amd64", "os": "linux", "arch": "amd64", "variant": "",
                "agent_version": "0.30.0"})
        ]
    );
    assert_eq!(last("list"), [json!({"device_key": 3})]);
    assert_eq!(last("token"), [json!({"callerID": 43})]);
    assert_eq!(
        last("report"),
        [
            json!({"app_key": 1, "device_key": 3, "swarm_key": 2, "serial_number": "s-1", "stage": "PROD", "state": "RUNNING",
                "device_to_app_key": 0, "requestor_account_key": 42, "release_key": 100, "request_update": false,
                "release_build": false, "updateStatus": ""})
        ]
    );
    assert_eq!(
        last("ports"),
        [json!({"app_key": 1, "device_key": 3, "swarm_key": 2, "stage": "PROD", "ports": [
            {"main": false, "name": "", "active": false, "public": false, "port": 80, "protocol": "http", "local_ip": "",
             "remote_port_environment": "", "remote_port": 0, "host_port": 40000, "extra": 1}]})]
    );
}

#[test]
fn c6_a_reconnect_runs_the_same_sequence_and_reports_every_app_twice() {
    let mut world = World::running();
    world.join();
    world.settle();
    let mut expected = FIRST.to_vec();
    expected.insert(0, "log session false");
    expected.insert(9, "1 RUNNING");
    expected.insert(9, "1 RUNNING");
    assert_eq!(sequence(&mut world), expected);
}

#[test]
fn the_architecture_is_told_in_parts() {
    use super::super::connect::arch_and_variant;
    assert_eq!(arch_and_variant("armv7"), ("arm", "v7"));
    assert_eq!(arch_and_variant("arm64"), ("arm64", ""));
    assert_eq!(arch_and_variant("amd64"), ("amd64", ""));
}

#[test]
fn a_failing_step_is_logged_and_the_sequence_goes_on() {
    for failure in [transport(), refusal(), Ok(vec![]), Ok(vec![json!(null)]), Ok(vec![json!({"swarm_key": "x"})])] {
        for word in ["metadata", "key", "status", "architecture", "list"] {
            let mut world = World::empty();
            world.engine_up();
            world.backend.answers.insert(word, Some(failure.clone()));
            world.join();
            world.settle();
            assert!(world.trace.contains(&"call status CONNECTED".to_owned()), "{word} {failure:?}: {:?}", world.trace);
            assert_eq!(world.state.device.swarm_key, 2);
        }
    }
}

#[test]
fn a_moved_device_takes_its_new_identity_before_anything_is_written_and_begins_again() {
    for key in [json!(9), json!(9.0), json!("9")] {
        let mut world = World::running();
        world.backend.answers.insert("metadata", Some(Ok(vec![json!({"swarm_key": key, "device_name": "new"})])));
        world.join();
        world.settle();
        let seen = sequence(&mut world);
        assert_eq!(seen[..5], ["log session false", "call metadata", "call key []", "metadata 9", "redial"]);
        assert_eq!(
            seen[5..10],
            ["log session false", "call metadata", "call key []", "call status CONFIGURING", "open"],
            "written once it is who it thinks"
        );
        assert_eq!((world.state.device.swarm_key, world.state.device.name.as_str()), (9, "new"));
    }
}

#[test]
fn unchanged_metadata_are_not_written() {
    let mut world = World::connected();
    world.join();
    world.settle();
    assert!(!world.trace.iter().any(|line| line.starts_with("metadata")));
}

#[test]
fn c6_a_session_lost_at_any_step_is_begun_anew_and_only_once() {
    for silent in ["testament", "metadata", "key", "status", "architecture", "report", "list"] {
        let mut world = World::running();
        world.leave();
        world.exits(1, 1);
        world.settle();
        world.backend.answers.insert(silent, None);
        world.join();
        world.settle();
        world.leave();
        world.settle();
        world.trace.clear();
        world.backend.answers.clear();
        world.join();
        world.settle();
        let seen = world.take(&["call", "open"]);
        for line in ["call metadata", "open", "call list", "call status CONNECTED"] {
            assert_eq!(seen.iter().filter(|seen| *seen == line).count(), 1, "{silent}, {line}: {seen:?}");
        }
        world.pass(secs(60));
        assert!(world.engine.is_running(&container(1)), "{silent}");
    }
}

#[test]
fn what_belongs_to_an_older_session_is_dropped() {
    let mut world = World::connected();
    world.trace.clear();
    let before = world.state.clone();
    world.step(Event::Left { generation: 99, reason: "late".to_owned() });
    world.step(Event::Testament { generation: 99 });
    world.step(Event::Opened { generation: 99, failed: vec![] });
    world.step(Event::Topic { generation: 99, topic: "wamp.subscription.on_create".to_owned(), args: vec![] });
    world.step(Event::Answered { call: 123_456, result: Ok(vec![]) });
    assert_eq!(world.trace, [] as [&str; 0]);
    assert_eq!(world.state.deadline(), before.deadline());
}

#[test]
fn a_second_join_without_a_leave_between_ends_the_first_session() {
    let mut world = World::connected();
    world.backend.answers.insert("metadata", None);
    world.join();
    world.settle();
    world.trace.clear();
    world.backend.answers.clear();
    world.inbox.extend([Event::Joined { generation: 50, session: 1 }, Event::Testament { generation: 50 }]);
    world.generation = Some(50);
    world.settle();
    assert_eq!(
        sequence(&mut world)[..4],
        ["log session false", "call metadata", "call key []", "call status CONFIGURING"]
    );
}

#[test]
fn the_log_hub_is_told_when_the_meta_topics_were_refused() {
    let mut world = World::connected();
    world.refuses = vec!["wamp.subscription.on_delete".to_owned()];
    world.join();
    world.settle();
    assert_eq!(world.take(&["log"]), ["log session false", "log session true", "log meta refused"]);
    world.refuses = vec!["re.mgmt.s-1.get_images".to_owned()];
    world.join();
    world.settle();
    assert_eq!(world.take(&["log"]), ["log session false", "log session true"]);
}

#[test]
fn heartbeats_tell_the_phase_every_thirty_seconds() {
    let mut world = World::empty();
    world.join();
    world.settle();
    world.trace.clear();
    world.pass(secs(61));
    assert_eq!(world.take(&["call status"]), ["call status CONFIGURING"; 2]);
    world.engine_up();
    world.settle();
    world.trace.clear();
    world.pass(secs(60));
    assert_eq!(world.take(&["call status"]), ["call status CONNECTED"; 2]);
    world.leave();
    world.pass(secs(300));
    assert_eq!(world.take(&["call status"]), [] as [&str; 0]);
}

#[test]
fn c4_two_heartbeats_that_fail_in_transport_end_the_session_and_error_answers_do_not() {
    let mut world = World::connected();
    world.backend.answers.insert("status", Some(refusal()));
    world.pass(secs(300));
    world.backend.answers.insert("status", Some(Ok(vec![])));
    world.pass(secs(300));
    assert!(!world.trace.contains(&"abort".to_owned()));
    world.backend.answers.insert("status", Some(transport()));
    world.pass(secs(30));
    world.backend.answers.remove("status");
    world.pass(secs(30));
    world.backend.answers.insert("status", Some(transport()));
    world.pass(secs(30));
    assert!(!world.trace.contains(&"abort".to_owned()), "not in a row");
    world.pass(secs(30));
    assert_eq!(world.trace.iter().filter(|line| *line == "abort").count(), 1);
}

#[test]
fn the_base_url_is_kept_when_an_answer_lacks_it() {
    let mut world = World::connected();
    assert_eq!(world.state.device.base_url.as_deref(), Some("https://studio"));
    for odd in [json!(null), json!({}), json!({"reswarmBaseURL": null}), json!({"reswarmBaseURL": ""}), json!([1])] {
        world.backend.answers.insert("status", Some(Ok(vec![odd])));
        world.pass(secs(30));
        assert_eq!(world.state.device.base_url.as_deref(), Some("https://studio"));
    }
}

#[test]
fn c5_losing_the_session_cancels_no_job() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Pull { .. });
    world.request(1, "RUNNING", json!({}));
    world.settle();
    world.leave();
    world.settle();
    assert!(world.jobs.values().any(|spec| matches!(spec, JobSpec::Pull { .. })));
    world.holds = |_| false;
    world.settle();
    assert!(world.engine.is_running(&container(1)));
}

#[test]
fn the_credential_key_of_before_stays_in_use_when_a_fetch_fails() {
    let mut world = World::connected();
    world.backend.answers.insert("key", Some(refusal()));
    world.join();
    world.settle();
    assert_eq!(world.state.device.credential_key.as_ref().map(|key| key.reveal()), Some("cred-key"));
}
