//! S7: killed in each transient state, the agent ends in the last requested state, with one container and the same ports.

use super::{Device, LIMIT, app};
use crate::cloud::wanted::WantedApp;
use crate::util::docker_daemon::{Fault, Pull};
use crate::util::wait_until;

/// Kills the agent in what it is doing, heals the engine, starts the agent again and waits for the end.
#[track_caller]
fn kill_and_settle(device: &mut Device, recorded: &str, last: &str) {
    assert_eq!(device.recorded(), [format!("501:{recorded}")], "the state that it was killed in");
    device.agent.kill9();
    device.engine.heal();
    device.connect();
    device.wait_for_last_state(0, 501, last);
}

/// After an update: what was kept goes when the end is reported already.
fn one_is_left(device: &Device) {
    wait_until(LIMIT, "one container is left", || (device.engine.containers().len() == 1).then_some(()));
}

fn demo() -> WantedApp {
    app(501, "demo")
}

#[test]
fn s7_killed_while_downloading_for_a_start_it_runs() {
    let mut device = Device::online();
    let image = Device::image(&demo(), "1.0.0");
    device.engine.offer(&image, Pull::Stalls);
    device.request(&demo(), "DOWNLOADING");
    device.engine.offer(&image, Pull::Works);
    kill_and_settle(&mut device, "DOWNLOADING", "RUNNING");
    device.engine.wait_for_status("prod_501_demo", "running");
    assert_eq!(device.engine.containers().len(), 1);
}

#[test]
fn s7_killed_while_downloading_for_an_installation_it_is_present() {
    let mut device = Device::online();
    let image = Device::image(&demo(), "1.0.0");
    device.engine.offer(&image, Pull::Stalls);
    device.request(&demo().target("PRESENT"), "DOWNLOADING");
    device.engine.offer(&image, Pull::Works);
    kill_and_settle(&mut device, "DOWNLOADING", "PRESENT");
    assert!(device.engine.containers().is_empty());
}

#[test]
fn s7_killed_while_starting_it_runs_with_the_same_port_whatever_call_was_under_way() {
    for route in ["POST /containers/create", "POST /containers/*/start", "GET /containers/*/json"] {
        let mut device = Device::online();
        device.install(&demo());
        let port = device.host_port("prod_501_demo");
        device.target(&demo(), "PRESENT");
        let before = device.engine.requests().len();
        device.engine.fault(route, Fault::Hang);
        device.request(&device.cloud.backend.known(501, "PROD").target("RUNNING"), "STARTING");
        device.engine.wait_for_request_after(route, before);
        kill_and_settle(&mut device, "STARTING", "RUNNING");
        device.engine.wait_for_status("prod_501_demo", "running");
        assert_eq!(device.host_port("prod_501_demo"), port, "{route}");
        assert_eq!(device.engine.containers().len(), 1, "{route}");
    }
}

#[test]
fn s7_killed_while_stopping_it_is_stopped() {
    let mut device = Device::online();
    device.install(&demo());
    device.engine.fault("POST /containers/*/stop", Fault::Hang);
    device.request(&device.cloud.backend.known(501, "PROD").target("PRESENT"), "STOPPING");
    device.engine.wait_for_request("POST /containers/*/stop", 1);
    kill_and_settle(&mut device, "STOPPING", "PRESENT");
    device.engine.wait_for_status("prod_501_demo", "absent");
}

#[test]
fn s7_killed_while_deleting_it_is_gone() {
    for (target, route) in [("REMOVED", "DELETE /containers/*"), ("UNINSTALLED", "DELETE /images/*/*/*")] {
        let mut device = Device::online();
        device.install(&demo());
        device.engine.fault(route, Fault::Hang);
        device.request(&device.cloud.backend.known(501, "PROD").target(target), "DELETING");
        device.engine.wait_for_request(route, 1);
        kill_and_settle(&mut device, "DELETING", target);
        device.engine.wait_for_status("prod_501_demo", "absent");
        assert!(device.engine.images().is_empty(), "{target}");
    }
}

#[test]
fn s7_killed_while_updating_it_runs_the_new_version_on_the_same_port() {
    let mut device = Device::online();
    device.install(&demo());
    let port = device.host_port("prod_501_demo");
    let image = Device::image(&demo(), "2.0.0");
    device.engine.offer(&image, Pull::Stalls);
    device.request(&device.cloud.backend.known(501, "PROD").update_to("2.0.0", 101), "UPDATING");
    device.engine.wait_for_request("POST /images/create", 2);
    device.engine.offer(&image, Pull::Works);
    kill_and_settle(&mut device, "UPDATING", "RUNNING");
    device.engine.wait_for_image("prod_501_demo", &image);
    one_is_left(&device);
    assert_eq!(device.host_port("prod_501_demo"), port);
}

#[test]
fn s7_killed_in_its_crash_loop_it_runs_again() {
    use crate::util::docker_daemon::Behaviour;
    let mut device = Device::online();
    let image = Device::image(&demo(), "1.0.0");
    device.offer(&demo());
    device.engine.behave(&image, Behaviour { exits: Some(1), ..Behaviour::default() });
    device.request(&demo(), "FAILED");
    device.engine.behave(&image, Behaviour::default());
    kill_and_settle(&mut device, "FAILED", "RUNNING");
    assert_eq!(device.engine.containers().len(), 1);
}

#[test]
fn s7_killed_ten_times_at_any_moment_of_an_installation_it_runs_once() {
    let mut device = Device::prepare();
    device.offer(&demo());
    device.cloud.backend.want(demo());
    for call in 1..=10 {
        // Each round gets further by a few calls to the engine: the kills fall on different steps.
        let before = device.engine.requests().len();
        device.agent.restart();
        wait_until(LIMIT, "some more requests", || {
            let runs = device.engine.containers().values().any(|status| status == "running");
            (runs || device.engine.requests().len() >= before + call * 2).then_some(())
        });
        device.agent.kill9();
    }
    device.connect();
    device.engine.wait_for_status("prod_501_demo", "running");
    device.cloud.backend.wait_for_state(LIMIT, 0, 501, "RUNNING");
    assert_eq!(device.engine.containers().len(), 1);
}

#[test]
fn s7_killed_while_an_update_replaces_the_container_it_runs_the_new_version_once() {
    for route in ["DELETE /containers/*", "POST /containers/create", "POST /containers/*/start", "DELETE /images/*/*/*"]
    {
        let mut device = Device::online();
        device.install(&demo());
        let port = device.host_port("prod_501_demo");
        let image = Device::image(&demo(), "2.0.0");
        device.engine.offer(&image, Pull::Works);
        let before = device.engine.requests().len();
        device.engine.fault(route, Fault::Hang);
        device.request(&device.cloud.backend.known(501, "PROD").update_to("2.0.0", 101), "UPDATING");
        device.engine.wait_for_request_after(route, before);
        device.agent.kill9();
        device.engine.heal();
        device.connect();
        device.engine.wait_for_image("prod_501_demo", &image);
        device.wait_for_last_state(0, 501, "RUNNING");
        one_is_left(&device);
        assert_eq!(device.host_port("prod_501_demo"), port, "{route}");
        assert_eq!(device.rows("SELECT version FROM AppStates"), ["2.0.0"], "{route}");
        assert_eq!(device.cloud.backend.known(501, "PROD").present_version, "2.0.0", "{route}: it was confirmed");
    }
}
