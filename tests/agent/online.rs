//! Joining (`wamp-and-rpc.md` 1, 2.2): what the agent sends, in which order, with which keys, as recorded of the agents in
//! the field (`golden/wamp/connect.jsonl`: what the agent sent, without the parts that this agent leaves out).

use super::{Device, LIMIT, sent_until};
use crate::cloud::backend::{Answer, Call};
use crate::util::wait_until;
use reagent::rpc;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const RECORDED: &str = include_str!("../golden/wamp/connect.jsonl");

fn recorded() -> Vec<Value> {
    RECORDED.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A value with all texts, numbers and flags replaced by their kind: what has to be as recorded.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(map) => map.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(list) => list.iter().map(shape).collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => Value::Null,
    }
}

fn is_connected(message: &Value) -> bool {
    message[0] == 48 && message[4][0]["status"] == "CONNECTED"
}

/// What the agent sends from HELLO to the status CONNECTED.
#[track_caller]
fn connect() -> (Device, Vec<Value>) {
    let mut device = Device::prepare();
    let traffic = device.cloud.router.tap();
    device.agent.restart();
    let sent = sent_until(&traffic, &device.authid(), is_connected);
    (device, sent)
}

#[test]
fn it_is_configuring_then_connected_by_the_recorded_calls_in_the_recorded_order() {
    let (device, sent) = connect();
    let calls = |messages: &[Value]| -> Vec<(Value, Value)> {
        let calls = messages.iter().filter(|message| message[0] == 48);
        calls.map(|call| (call[3].clone(), shape(&json!([call[2], call[4], call[5]])))).collect()
    };
    let (own, golden) = (calls(&sent), calls(&recorded()));
    let uris = |calls: &[(Value, Value)]| calls.iter().map(|(uri, _)| uri.clone()).collect::<Vec<_>>();
    assert_eq!(uris(&own), uris(&golden));
    for (own, golden) in own.iter().zip(&golden) {
        assert_eq!(own, golden);
    }
    device.cloud.backend.wait_for_status(LIMIT, 0, "CONNECTED");
    assert_eq!(device.cloud.backend.statuses(), ["CONFIGURING", "CONNECTED"]);
    let session = device.cloud.router.sessions(&device.authid())[0];
    let testament = sent.iter().find(|message| message[3] == "wamp.session.add_testament").unwrap();
    let identity = &device.cloud.backend.identity;
    let payload =
        json!({"swarm_key": 2, "device_key": 3, "serial_number": identity.serial, "wamp_session_id": session});
    assert_eq!(testament[4], json!(["reswarm.api.testament_device", [payload], {}]));
    let status = sent.iter().rfind(|message| is_connected(message)).unwrap();
    assert_eq!(status[4][0]["wamp_session_id"], session);
    assert!(status[4][0]["stats"]["cpu_usage"].is_f64() && status[4][0]["stats"]["memory_total"].as_u64() > Some(0));
    // Request ids count up from 1 without a gap.
    let ids: Vec<u64> =
        sent.iter().filter(|m| [32, 48, 64].map(Value::from).contains(&m[0])).map(|m| m[1].as_u64().unwrap()).collect();
    assert_eq!(ids, (1..=u64::try_from(ids.len()).unwrap()).collect::<Vec<_>>());
}

#[test]
fn everything_is_registered_with_the_recorded_options_between_configuring_and_the_architecture() {
    let (device, sent) = connect();
    let place = |looked_for: &str| {
        let found = sent.iter().position(|message| message[0] == 48 && message[3].as_str() == Some(looked_for));
        found.unwrap_or_else(|| panic!("no call of {looked_for}"))
    };
    let registered: Vec<(usize, &Value)> = sent.iter().enumerate().filter(|(_, message)| message[0] == 64).collect();
    let uri = |name: &str| device.cloud.backend.identity.uri(name);
    // The first one claims the serial number, without force.
    assert_eq!((&registered[0].1[2], &registered[0].1[3]), (&json!({}), &json!(uri("wamp_connection_established"))));
    let golden = recorded().into_iter().rfind(|message| message[0] == 64).unwrap();
    for (at, message) in &registered[1..] {
        assert_eq!(message[2], golden[2], "{message}");
        assert!(
            (place("reswarm.devices.update_device_status")..place("reswarm.devices.update_device_architecture"))
                .contains(at)
        );
    }
    let names: BTreeSet<String> =
        registered[1..].iter().map(|(_, message)| message[3].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, rpc::PROCEDURES.iter().map(|row| uri(row.name)).collect::<BTreeSet<_>>());
    assert_eq!(names.len(), registered.len() - 1, "each once");
    let mut held = device.cloud.router.registrations(&device.authid());
    held.retain(|held| *held != uri("wamp_connection_established"));
    assert_eq!(held, names.into_iter().collect::<Vec<_>>());
    let topics: Vec<&Value> = sent.iter().filter(|message| message[0] == 32).map(|message| &message[3]).collect();
    assert_eq!(topics, ["wamp.subscription.on_create", "wamp.subscription.on_delete"]);
    let answer = device.call("wamp_connection_established", vec![json!({"any": "thing"})]).unwrap();
    assert_eq!(answer.args, ["Hello :-)"]);
}

#[test]
fn c6_c8_calls_are_made_together_and_none_is_written_before_the_metadata() {
    const QUESTIONS: [&str; 2] = ["read_device_metadata", "get_app_cred_key"];
    const WRITTEN: [&str; 2] = ["update_device_status", "update_device_architecture"];
    let mut device = Device::prepare();
    let backend = &device.cloud.backend;
    QUESTIONS.iter().chain(&WRITTEN).for_each(|procedure| backend.answer(procedure, Answer::Silence));
    // All of these are there while none is answered; what follows them is not.
    let together = |these: &[&str], then: &str| {
        let all = |calls: &[Call]| these.iter().all(|name| calls.iter().any(|call| call.is(name))).then_some(());
        backend.wait_for(LIMIT, &format!("{these:?}"), all);
        assert!(!backend.calls().iter().any(|call| call.is(then)), "{then} comes after {these:?}");
    };
    let release = |these: &[&str]| {
        these.iter().for_each(|name| backend.answer(name, Answer::Usual));
        these.iter().for_each(|name| assert_eq!(backend.release(name), 1, "{name} is waited for"));
    };
    device.agent.restart();
    together(&QUESTIONS, "update_device_status");
    release(&QUESTIONS);
    together(&WRITTEN, "get_requested_app_states");
    let (router, authid) = (&device.cloud.router, device.authid());
    wait_until(LIMIT, "all is declared", || {
        let all = (router.registrations(&authid).len(), router.subscriptions(&authid).len());
        (all == (rpc::PROCEDURES.len() + 1, 2)).then_some(())
    });
    release(&WRITTEN);
    backend.wait_for_status(LIMIT, 0, "CONNECTED");
}

#[test]
fn the_hello_announces_only_what_was_recorded_and_what_callers_depend_on() {
    let (_device, sent) = connect();
    let (own, golden) = (&sent[0], &recorded()[0]);
    assert_eq!(
        (&own[1], &own[2]["authid"], &own[2]["authmethods"]),
        (&json!("realm1"), &json!("2-3"), &json!(["wampcra"]))
    );
    let own = own[2]["roles"].as_object().unwrap();
    assert_eq!(own.keys().collect::<Vec<_>>(), ["callee", "caller", "publisher", "subscriber"]);
    for (role, announced) in own {
        for (feature, value) in announced["features"].as_object().into_iter().flatten() {
            assert_eq!(golden[2]["roles"][role]["features"][feature], *value, "{role}: {feature}");
        }
    }
    for feature in ["call_canceling", "call_timeout", "caller_identification"] {
        assert_eq!(own["callee"]["features"][feature], true, "{feature}");
    }
}

#[test]
fn c6_a_killed_agent_leaves_its_testament() {
    let mut device = Device::online();
    let session = device.cloud.router.sessions(&device.authid())[0];
    assert!(device.cloud.backend.testaments().is_empty());
    device.agent.kill9();
    let left = wait_until(LIMIT, "the testament", || device.cloud.backend.testaments().first().cloned());
    let identity = &device.cloud.backend.identity;
    let expected =
        json!({"swarm_key": 2, "device_key": 3, "serial_number": identity.serial, "wamp_session_id": session});
    assert_eq!(left, expected);
}

#[test]
fn calls_that_fail_or_answer_nonsense_do_not_stop_the_connect_sequence() {
    let odd = [vec![], vec![Value::Null], vec![json!(7)], vec![json!({"swarm_key": "x"})]];
    for answer in
        odd.into_iter().map(Answer::Args).chain([Answer::Error("wamp.error.runtime_error".to_owned(), vec![])])
    {
        let mut device = Device::prepare();
        for procedure in [
            "read_device_metadata",
            "get_app_cred_key",
            "update_device_status",
            "update_device_architecture",
            "get_requested_app_states",
        ] {
            device.cloud.backend.answer(procedure, answer.clone());
        }
        device.connect();
        assert_eq!(device.cloud.backend.statuses(), ["CONFIGURING", "CONNECTED"], "{answer:?}");
        assert_eq!(device.cloud.router.sessions("2-3").len(), 1);
    }
}
