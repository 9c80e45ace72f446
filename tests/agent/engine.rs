//! An engine that is absent, late, hung, restarted or garbled is a state, not an error (D1, S10; decision 16), and the
//! agent without a router (`wamp-and-rpc.md` 1.14, 2.1).

use super::{Device, LIMIT, app, refusal};
use crate::util::docker_daemon::{Fault, Pull};
use crate::util::wait_until;
use reagent::rpc;
use serde_json::{Map, json};
use std::time::Duration;

#[test]
fn s10_without_an_engine_all_is_registered_and_it_is_connected_once_the_engine_comes() {
    let mut device = Device::prepare();
    let app = app(501, "demo");
    device.offer(&app);
    device.cloud.backend.want(app);
    device.engine.go_down();
    device.agent.restart();
    device.cloud.backend.wait_for_status(LIMIT, 0, "CONFIGURING");
    device.cloud.backend.wait_for(LIMIT, "the architecture", |calls| {
        calls.iter().any(|call| call.is("update_device_architecture")).then_some(())
    });
    assert_eq!(device.cloud.router.registrations(&device.authid()).len(), rpc::PROCEDURES.len() + 1);
    assert!(device.call("get_storage_data", vec![]).is_ok(), "what needs no engine is answered");
    assert!(!refusal(device.call("list_containers", vec![])).is_empty());
    assert_eq!(device.cloud.backend.statuses(), ["CONFIGURING"]);
    device.engine.come_up();
    device.cloud.backend.wait_for_status(LIMIT, 0, "CONNECTED");
    device.cloud.backend.wait_for_state(LIMIT, 0, 501, "RUNNING");
    assert_eq!(device.cloud.backend.statuses(), ["CONFIGURING", "CONNECTED"]);
}

#[test]
fn offline_it_drives_the_apps_of_its_database_and_dials_nobody() {
    let mut device = Device::online();
    let (wanted, stopped) = (app(501, "wanted"), app(502, "stopped"));
    device.install(&wanted);
    device.install(&stopped);
    device.target(&stopped, "PRESENT");
    device.agent.terminate(LIMIT);
    device.engine.exit_container("prod_501_wanted", 1);
    let traffic = device.cloud.router.tap();
    device.agent.options.flags.push("-offline".to_owned());
    device.agent.restart();
    device.engine.wait_for_status("prod_501_wanted", "running");
    assert_eq!(device.agent.terminate(Duration::from_secs(10)).code(), Some(0));
    assert!(traffic.is_empty(), "nobody was dialled");
    assert_eq!(device.engine.containers().len(), 1, "what was stopped stays so");
}

#[test]
fn without_a_router_the_apps_of_the_database_run_within_5_s_of_the_engine_answering() {
    let mut device = Device::online();
    let (gone, exited) = (app(501, "gone"), app(502, "exited"));
    device.install(&gone);
    device.install(&exited);
    device.agent.kill9();
    device.engine.exit_container("prod_502_exited", 1);
    let id = device.container_id("prod_501_gone");
    device.cloud.go_down();
    device.engine.go_down();
    device.agent.restart();
    wait_until(LIMIT, "it is up", || device.agent.log().contains("dial 1").then_some(()));
    device.engine.come_up();
    let answered = reagent::clock::mono();
    device.engine.wait_for_status("prod_502_exited", "running");
    let took = reagent::clock::mono() - answered;
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(device.container_id("prod_501_gone"), id, "what ran is not touched");
    // Back on line, the backend hears of it.
    let mark = device.cloud.backend.mark();
    device.cloud.come_back().unwrap();
    device.cloud.backend.wait_for_state(LIMIT, mark, 502, "RUNNING");
}

#[test]
fn c7_a_hung_call_for_one_app_holds_up_nobody_else_and_ends_when_the_engine_heals() {
    let device = Device::online();
    let (hung, well) = (app(501, "hung"), app(502, "well"));
    device.offer(&hung);
    device.engine.fault("GET /containers/prod_501_hung/json", Fault::Hang);
    device.request(&hung, "STARTING");
    device.engine.wait_for_request("GET /containers/prod_501_hung/json", 1);
    device.install(&well);
    device.target(&well, "PRESENT");
    for name in ["list_containers", "get_images", "get_storage_data", "get_ipv4_addresses"] {
        device.call(name, vec![]).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    let mark = device.cloud.backend.mark();
    device.engine.heal();
    device.wait_for_last_state(0, 501, "RUNNING");
    assert_eq!(device.engine.containers().keys().collect::<Vec<_>>(), ["prod_501_hung"]);
    assert!(device.reports_since(mark, 501).iter().all(|state| state != "FAILED"));
}

#[test]
fn d1_blocked_queries_hold_up_neither_apps_nor_what_needs_no_engine() {
    let device = Device::online();
    let app = app(501, "demo");
    device.install(&app);
    device.engine.fault("GET /containers/json", Fault::Hang);
    let user = device.cloud.user("42").unwrap();
    let uri = device.cloud.backend.identity.uri("list_containers");
    let start = || user.start_call(&uri, json!({}), vec![], Map::new());
    let before = device.engine.connections();
    let waiting: Vec<_> = (0..50).map(|_| start()).collect();
    wait_until(LIMIT, "queries hang", || (device.engine.connections() > before).then_some(()));
    assert!(device.call("get_storage_data", vec![]).is_ok());
    device.target(&app, "PRESENT");
    device.target(&app, "RUNNING");
    // Whoever gives up leaves nothing behind: this is more than may wait at once.
    waiting.iter().for_each(|call| call.cancel("kill"));
    waiting.iter().for_each(|call| assert_eq!(call.wait(LIMIT).unwrap_err().uri(), "wamp.error.canceled"));
    for _ in 0..300 {
        let call = start();
        call.cancel("kill");
        assert_eq!(call.wait(LIMIT).unwrap_err().uri(), "wamp.error.canceled");
    }
    wait_until(LIMIT, "their calls to the engine end", || (device.engine.connections() <= before).then_some(()));
    device.engine.heal();
    assert!(start().wait(LIMIT).is_ok());
}

#[test]
fn d1_an_engine_that_hangs_altogether_is_survived_and_used_again_when_it_heals() {
    let device = Device::online();
    let app = app(501, "demo");
    device.install(&app);
    let id = device.container_id("prod_501_demo");
    device.engine.fault("*", Fault::Hang);
    device.cloud.backend.request_app_state(&device.cloud.backend.known(501, "PROD").target("PRESENT")).unwrap();
    wait_until(LIMIT, "a call hangs", || (device.engine.connections() > 1).then_some(()));
    assert!(device.call("device_handshake", vec![]).is_ok());
    assert!(device.call("get_storage_data", vec![]).is_ok());
    assert_eq!(device.container_id("prod_501_demo"), id);
    let mark = device.cloud.backend.mark();
    device.engine.heal();
    device.engine.wait_for_status("prod_501_demo", "absent");
    device.cloud.backend.wait_for_state(LIMIT, mark.saturating_sub(1), 501, "PRESENT");
    device.call("list_containers", vec![]).unwrap();
}

#[test]
fn an_engine_that_restarts_in_mid_start_finds_the_app_started_again() {
    let device = Device::online();
    let app = app(501, "demo");
    device.offer(&app);
    device.engine.fault("POST /containers/*/start", Fault::Hang);
    device.request(&app, "STARTING");
    device.engine.wait_for_request("POST /containers/*/start", 1);
    device.engine.go_down();
    device.engine.heal();
    device.engine.come_up();
    device.engine.wait_for_status("prod_501_demo", "running");
    device.cloud.backend.wait_for_state(LIMIT, 0, 501, "RUNNING");
    assert!(!device.cloud.backend.reports(501).contains(&"FAILED".to_owned()), "that was no fault of the app's");
    assert_eq!(device.engine.containers().len(), 1);
}

#[test]
fn an_engine_that_restarts_in_mid_pull_finds_the_image_pulled_again() {
    let device = Device::online();
    let app = app(501, "demo");
    device.engine.offer(&Device::image(&app, "1.0.0"), Pull::Stalls);
    device.request(&app, "DOWNLOADING");
    device.engine.go_down();
    device.offer(&app);
    device.engine.come_up();
    device.cloud.backend.wait_for_state(LIMIT, 0, 501, "RUNNING");
}

#[test]
fn truncated_answers_are_errors_that_pass() {
    let device = Device::online();
    let app = app(501, "demo");
    device.engine.fault("GET /containers/json", Fault::Truncate);
    device.engine.fault("GET /images/json", Fault::Truncate);
    assert!(!refusal(device.call("list_containers", vec![])).is_empty());
    assert!(!refusal(device.call("get_images", vec![])).is_empty());
    device.offer(&app);
    device.engine.fault("POST /containers/create", Fault::Truncate);
    device.request(&app, "STARTING");
    device.engine.wait_for_request("POST /containers/create", 1);
    device.engine.heal();
    device.cloud.backend.wait_for_state(LIMIT, 0, 501, "RUNNING");
    assert_eq!(device.engine.containers().len(), 1, "no second container");
    device.call("list_containers", vec![]).unwrap();
}

#[test]
fn refusals_of_the_engine_reach_the_log_of_the_app_in_its_own_words() {
    let device = Device::online();
    let app = app(501, "demo");
    device.offer(&app);
    let logs = device.cloud.backend.subscribe_logs("prod_501_demo");
    device.engine.fault("POST /containers/create", Fault::Status(500, "no luck with overlay2 today".to_owned()));
    device.request(&app, "FAILED");
    wait_until(LIMIT, "the engine's words", || {
        logs.recv_timeout(LIMIT).ok().filter(|line| line.args[0].to_string().contains("overlay2")).map(drop)
    });
    let mark = device.cloud.backend.mark();
    device.engine.heal();
    device.cloud.backend.wait_for_state(LIMIT, mark, 501, "RUNNING");
}

#[test]
fn a_container_that_somebody_removes_is_started_again() {
    let device = Device::online();
    let app = app(501, "demo");
    device.install(&app);
    let mark = device.cloud.backend.mark();
    device.engine.remove_container("prod_501_demo");
    device.cloud.backend.wait_for_state(LIMIT, mark, 501, "RUNNING");
    device.engine.wait_for_status("prod_501_demo", "running");
}
