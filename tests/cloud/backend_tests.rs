//! The backend, seen by a peer that plays the agent.

use super::Cloud;
use super::backend::Answer;
use super::peer::{Failure, Login, Peer};
use super::wanted::WantedApp;
use serde_json::{Map, Value, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

fn cloud() -> Cloud {
    Cloud::start(0, "127.0.0.1:5000").expect("a free loopback port")
}

fn device(cloud: &Cloud) -> Peer {
    let identity = &cloud.backend.identity;
    Peer::join(&Login::new(&cloud.router.url(), &identity.authid(), &identity.secret)).expect("the device may join")
}

fn call(device: &Peer, procedure: &str, argument: Value) -> Value {
    device.call(procedure, vec![argument], Map::new(), SOON).expect("an answer").args[0].clone()
}

fn report(device: &Peer, app_key: u64, state: &str, update_status: &str) {
    let report = json!({"app_key": app_key, "stage": "PROD", "state": state, "updateStatus": update_status});
    assert_eq!(call(device, "reswarm.containers.update_app_on_device", report), Value::Null);
}

#[test]
fn every_procedure_answers_with_the_documented_shape() {
    let cloud = cloud();
    let device = device(&cloud);
    let metadata = call(&device, "reswarm.devices.read_device_metadata", json!({"device_key": 3}));
    assert_eq!(
        metadata,
        json!({"device_name": "device-b", "swarm_name": "demo_swarm", "ownername": "marko", "swarm_key": 2})
    );
    let key = device.call("reswarm.devices.get_app_cred_key", vec![], Map::new(), SOON).unwrap().args;
    assert_eq!(key, [json!("dGVzdC1rZXktZm9yLXZlY3Rvcg==")]);
    let status = call(&device, "reswarm.devices.update_device_status", json!({"status": "CONFIGURING"}));
    assert_eq!(status, json!({"reswarmBaseURL": "https://studio.example.invalid"}));
    assert_eq!(call(&device, "reswarm.devices.update_device_architecture", json!({"arch": "amd64"})), Value::Null);
    let token = call(&device, "reswarm.containers.get_registry_token", json!({"callerID": 42}));
    assert_eq!(token, json!("registry-token"));
    let port = call(&device, "re.tunnel.expose_port", json!({"port": 0, "protocol": "tcp"}));
    assert!(port["remote_port"].as_u64() > Some(0), "{port}");
    assert_eq!(
        call(&device, "re.tunnel.expose_port", json!({"port": 99, "protocol": "udp"})),
        json!({"remote_port": 99})
    );
    assert!(device.call("reswarm.registry.run_gc", vec![], Map::new(), SOON).is_ok());
    let check =
        json!({"privilege": "READ", "entity": "DEVICE", "entity_key": 3, "requestor_account_key": 42, "swarm_key": 2});
    assert_eq!(call(&device, "reswarm.devices.check_privilege", check.clone()), json!(true));
    cloud.backend.deny("READ");
    assert_eq!(call(&device, "reswarm.devices.check_privilege", check.clone()), json!(false));
    cloud.backend.allow("READ");
    assert_eq!(call(&device, "reswarm.devices.check_privilege", check), json!(true));
    assert_eq!(cloud.backend.statuses(), ["CONFIGURING"]);
    assert!(cloud.backend.calls().iter().all(|call| call.caller == "2-3"));
}

#[test]
fn the_sync_answer_follows_what_is_wanted_and_what_was_reported() {
    let cloud = cloud();
    let device = device(&cloud);
    let sync = || call(&device, "reswarm.containers.get_requested_app_states", json!({"device_key": 3}));
    assert_eq!(sync(), json!([]));
    cloud.backend.want(WantedApp::new(501, "demo").env("GREETING", "hello").port(8080, "http").update_to("2.0.0", 101));
    cloud.backend.want(WantedApp::new(502, "other").target("UNINSTALLED").with("release_key", json!("7")));
    let entries = sync();
    let keys = ["app_key", "current_state", "target_state", "present_version", "newest_version", "release_key"];
    assert_eq!(
        keys.map(|key| entries[0][key].clone()),
        [json!(501), json!("UNINSTALLED"), json!("RUNNING"), json!("1.0.0"), json!("2.0.0"), json!(100)]
    );
    assert_eq!(entries[0]["environment"], json!({"GREETING": {"value": "hello"}}));
    assert_eq!(entries[1]["release_key"], json!("7"));
    let confirmed = json!({"app_key": 501, "stage": "PROD", "state": "PRESENT", "release_key": 101,
        "updateStatus": "pending_remote_confirmation"});
    call(&device, "reswarm.containers.update_app_on_device", confirmed);
    let ports = json!([{"port": 8080, "host_port": 40000}]);
    let port_report = json!({"app_key": 501, "stage": "PROD", "ports": ports});
    call(&device, "reswarm.containers.update_app_on_device", port_report);
    report(&device, 501, "UNINSTALLED", "");
    assert_eq!(sync().as_array().map(Vec::len), Some(2), "not there is not the same as not wanted");
    report(&device, 501, "PRESENT", "");
    report(&device, 502, "UNINSTALLED", "");
    let entries = sync();
    assert_eq!(entries.as_array().map(Vec::len), Some(1));
    assert_eq!(
        keys.map(|key| entries[0][key].clone()),
        [json!(501), json!("PRESENT"), json!("RUNNING"), json!("2.0.0"), json!("2.0.0"), json!(101)]
    );
    assert_eq!(entries[0]["ports"], ports);
    assert_eq!(cloud.backend.reports(501), ["PRESENT", "UNINSTALLED", "PRESENT"]);
}

#[test]
fn a_request_reaches_the_agent_as_keyword_arguments_from_the_backend() {
    let cloud = cloud();
    let device = device(&cloud);
    let (requests, requested) = crossbeam_channel::bounded(1);
    let uri = cloud.backend.identity.uri("request_app_state");
    let handler = move |call: super::peer::Invocation| {
        call.answer(vec![]);
        let _ = requests.send(call.payload);
    };
    device.register(&uri, json!({"force_reregister": true}), handler).unwrap();
    cloud.backend.request_app_state(&WantedApp::new(501, "demo")).unwrap();
    let request = requested.recv_timeout(SOON).unwrap();
    assert_eq!((request.args, &request.details["caller_authid"]), (vec![], &json!("system")));
    // The keys of the recorded scene 04.
    let mut keys: Vec<&str> = request.kwargs.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "app_key",
            "app_name",
            "cancel_transition",
            "current_state",
            "device_owner_account_key",
            "environment",
            "environment_template",
            "new_release_key",
            "newest_version",
            "ports",
            "present_version",
            "release_key",
            "request_update",
            "requestor_account_key",
            "stage",
            "target_state",
            "version",
        ]
    );
    report(&device, 501, "RUNNING", "");
    cloud.backend.request_target(501, "PRESENT").unwrap();
    let request = requested.recv_timeout(SOON).unwrap();
    assert_eq!(
        (&request.kwargs["current_state"], &request.kwargs["target_state"]),
        (&json!("RUNNING"), &json!("PRESENT"))
    );
}

#[test]
fn answers_are_replaced_delayed_and_withheld_on_demand() {
    let cloud = cloud();
    let device = device(&cloud);
    let ask = || {
        device.start_call("reswarm.containers.get_registry_token", json!({}), vec![json!({"callerID": 1})], Map::new())
    };
    cloud.backend.answer("get_registry_token", Answer::Error("wamp.error.runtime_error".to_owned(), vec![json!("no")]));
    cloud.backend.answer_once("get_registry_token", Answer::Args(vec![json!("first")]));
    cloud.backend.answer_once("get_registry_token", Answer::Later(Duration::from_millis(30), Box::new(Answer::Usual)));
    assert_eq!(ask().wait(SOON).unwrap().args, [json!("first")]);
    let started = reagent::clock::mono();
    assert_eq!(ask().wait(SOON).unwrap().args, [json!("registry-token")]);
    assert!(reagent::clock::mono() - started >= Duration::from_millis(30));
    assert!(matches!(ask().wait(SOON), Err(Failure::Refused { uri, .. }) if uri == "wamp.error.runtime_error"));
    cloud.backend.answer("get_registry_token", Answer::Silence);
    let silent = ask();
    let seen = cloud.backend.wait_for(SOON, "the fourth call", |calls| calls.get(3).cloned());
    assert!(seen.is("get_registry_token"));
    assert_eq!(silent.wait(Duration::from_millis(30)), Err(Failure::TimedOut));
    assert_eq!(cloud.backend.release("get_registry_token"), 1);
    assert_eq!(silent.wait(SOON).unwrap().args, [json!("registry-token")]);
}

#[test]
#[should_panic(expected = "reswarm.devices.update_device_architecture")]
fn a_wait_that_fails_prints_what_did_arrive() {
    let cloud = cloud();
    call(&device(&cloud), "reswarm.devices.update_device_architecture", json!({"arch": "amd64"}));
    cloud.backend.wait_for_status(Duration::from_millis(30), 0, "CONNECTED");
}

#[test]
fn the_backend_is_back_with_all_it_offers_when_the_router_is() {
    let mut cloud = cloud();
    let logs = cloud.backend.subscribe_logs("prod_501_demo");
    let topic = cloud.backend.identity.log_topic("prod_501_demo");
    device(&cloud).publish(&topic, vec![json!("before")], Map::new()).unwrap();
    assert_eq!(logs.recv_timeout(SOON).unwrap().args, [json!("before")]);
    cloud.go_down();
    cloud.come_back().unwrap();
    let device = device(&cloud);
    call(&device, "reswarm.devices.update_device_status", json!({"status": "CONNECTED"}));
    device.publish(&topic, vec![json!("after")], Map::new()).unwrap();
    assert_eq!(logs.recv_timeout(SOON).unwrap().args, [json!("after")]);
    cloud.backend.unsubscribe_logs("prod_501_demo");
    assert!(!cloud.router.subscriptions("system").contains(&topic));
}

#[test]
fn testaments_of_the_device_are_remembered() {
    let cloud = cloud();
    let device = device(&cloud);
    let testament = json!({"serial_number": cloud.backend.identity.serial, "wamp_session_id": device.session()});
    let args = vec![json!("reswarm.api.testament_device"), json!([testament]), json!({})];
    device.call("wamp.session.add_testament", args, Map::new(), SOON).unwrap();
    assert_eq!(cloud.backend.testaments(), Vec::<Value>::new());
    assert_eq!(cloud.router.cut("2-3"), 1);
    let seen = || cloud.backend.testaments().first().cloned();
    assert_eq!(crate::util::wait_until(SOON, "the testament", seen), testament);
}

#[test]
fn a_flock_has_all_that_the_agent_needs() {
    let cloud = cloud();
    let flock: Value = serde_json::from_str(&cloud.flock()).unwrap();
    for key in ["name", "secret", "board", "swarm_key", "device_key", "serial_number", "authentication"] {
        assert!(!flock[key].is_null(), "{key}");
    }
    assert_eq!(flock["docker_registry_url"], "127.0.0.1:5000/");
    assert_eq!(flock["device_endpoint_url"], json!(cloud.router.url()));
    let user = cloud.user("42").unwrap();
    assert!(user.session() > 0);
}
