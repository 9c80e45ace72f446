//! Lost and refused sessions (`wamp-and-rpc.md` 1.7 to 1.10; decisions 9, 10, 12, 17, 22), and keep-alive under load.

use super::{Device, LIMIT, app};
use crate::cloud::router::Traffic;
use crate::util::docker_daemon::{Fault, Pull};
use crate::util::wait_until;
use crossbeam_channel::Receiver;
use reagent::{clock, rpc};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Waits until the agent sends a HELLO.
#[track_caller]
fn next_hello(traffic: &Receiver<Traffic>, authid: &str) {
    let deadline = clock::mono() + LIMIT;
    while let Ok(passed) = traffic.recv_timeout(deadline.saturating_sub(clock::mono())) {
        if matches!(&passed, Traffic::FromPeer(_, hello) if hello[0] == 1 && hello[2]["authid"] == authid) {
            return;
        }
    }
    panic!("no HELLO");
}

#[track_caller]
fn assert_whole(device: &Device) {
    let authid = device.authid();
    assert_eq!(device.cloud.router.sessions(&authid).len(), 1);
    assert_eq!(device.cloud.router.registrations(&authid).len(), rpc::PROCEDURES.len() + 1);
    let topics = ["wamp.subscription.on_create", "wamp.subscription.on_delete"];
    assert_eq!(device.cloud.router.subscriptions(&authid), topics);
}

#[test]
fn c6_after_a_router_restart_all_is_back_within_5_s_and_no_container_is_touched() {
    let mut device = Device::online();
    device.install(&app(501, "demo"));
    let lines = device.cloud.backend.subscribe_logs("prod_501_demo");
    device.engine.wait_for_request("GET /containers/*/logs", 1);
    let id = device.container_id("prod_501_demo");
    let before = device.engine.requests().len();
    let mark = device.cloud.backend.mark();
    device.cloud.go_down();
    wait_until(LIMIT, "the loss is noticed", || device.agent.log().contains("session lost").then_some(()));
    device.engine.write_log("prod_501_demo", 1, "while it was away");
    let traffic = device.cloud.router.tap();
    device.cloud.come_back().unwrap();
    next_hello(&traffic, &device.authid());
    let dialled = clock::mono();
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    assert_whole(&device);
    device.engine.write_log("prod_501_demo", 1, "after it came back");
    let arrived = wait_until(LIMIT, "a line arrives", || {
        lines.recv_timeout(LIMIT).ok().filter(|line| line.args[0].to_string().contains("after it came back"))
    });
    let took = clock::mono() - dialled;
    assert!(arrived.args[0].is_string() && took < Duration::from_secs(5), "{took:?}");
    // The new session has its testament.
    let session = device.cloud.router.sessions(&device.authid())[0];
    device.agent.kill9();
    let left = wait_until(LIMIT, "the testament", || device.cloud.backend.testaments().last().cloned());
    assert_eq!(left["wamp_session_id"], session);
    assert_eq!(device.container_id("prod_501_demo"), id);
    let to_it: Vec<String> = device.engine.requests()[before..]
        .iter()
        .filter(|asked| asked.path.starts_with("/containers/") && asked.path != "/containers/json")
        .map(|asked| format!("{} {}", asked.method, asked.path))
        .filter(|asked| !(asked.starts_with("GET ") && asked.ends_with("/json")))
        .collect();
    assert_eq!(to_it, Vec::<String>::new(), "a container is looked at, nothing else");
}

#[test]
fn c6_drops_in_a_row_in_every_way_leave_one_whole_session_and_no_thread_more() {
    let device = Device::online();
    device.install(&app(501, "demo"));
    let threads = |device: &Device| -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", device.agent.pid())).unwrap().flatten();
        let mut names: Vec<String> =
            tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).collect();
        // Workers come and go with the work, up to a fixed number.
        names.retain(|name| !name.starts_with("job-"));
        names.sort();
        names
    };
    // The thread that follows the app's log comes a moment after the app runs.
    let before = wait_until(LIMIT, "the app's log is followed", || {
        Some(threads(&device)).filter(|names| names.iter().any(|name| name.starts_with("log-")))
    });
    for drop in 0..5 {
        let mark = device.cloud.backend.mark();
        let dropped = match drop % 3 {
            0 => device.cloud.router.cut(&device.authid()),
            1 => device.cloud.router.dismiss(&device.authid(), "wamp.close.system_shutdown"),
            _ => device.cloud.router.inject(&device.authid(), json!([3, {"message": "go"}, "wamp.error.canceled"])),
        };
        assert_eq!(dropped, 1);
        device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
        wait_until(LIMIT, "one session is left", || {
            (device.cloud.router.sessions(&device.authid()).len() == 1).then_some(())
        });
        assert_whole(&device);
    }
    wait_until(LIMIT, &format!("no other threads than {before:?}"), || (threads(&device) == before).then_some(()));
    assert!(device.agent.log().lines().all(|line| !line.contains("panicked")));
}

#[test]
fn c3_its_own_half_open_session_is_not_taken_for_a_second_device_for_ever() {
    let mut device = Device::online();
    let old = device.cloud.router.sessions(&device.authid());
    device.cloud.router.overlook_losses(true);
    let traffic = device.cloud.router.tap();
    let mark = device.cloud.backend.mark();
    device.cloud.router.cut(&device.authid());
    // The router still believes in the old session and refuses the presence procedure.
    for _ in 0..3 {
        next_hello(&traffic, &device.authid());
    }
    device.cloud.router.overlook_losses(false);
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    wait_until(LIMIT, "the old session is gone", || {
        (device.cloud.router.sessions(&device.authid()).len() == 1).then_some(())
    });
    assert_ne!(device.cloud.router.sessions(&device.authid()), old);
    assert_whole(&device);
    assert_eq!(device.agent.terminate(LIMIT).code(), Some(0));
}

#[test]
fn a_wrong_secret_is_told_and_exits_with_1_after_three_refusals() {
    let mut device = Device::prepare();
    device.cloud.router.refuse_auth(true);
    let traffic = device.cloud.router.tap();
    device.agent.restart();
    assert_eq!(device.agent.wait_exit(LIMIT).code(), Some(1));
    let line = "out: The IronFlock device connect authentication failed".to_owned();
    assert!(device.agent.output().contains(&line), "{:?}", device.agent.output());
    let hellos = traffic.try_iter().filter(|passed| matches!(passed, Traffic::FromPeer(_, hello) if hello[0] == 1));
    assert_eq!(hellos.count(), 3);
}

#[test]
fn a_duplicate_serial_is_told_and_exits_with_1_after_eight_refusals() {
    let mut device = Device::prepare();
    device.cloud.router.refuse_presence(20);
    device.agent.restart();
    assert_eq!(device.agent.wait_exit(LIMIT).code(), Some(1));
    let line = format!("out: a WAMP connection for {} already exists", device.cloud.backend.identity.serial);
    assert!(device.agent.output().contains(&line), "{:?}", device.agent.output());
    assert_eq!(device.cloud.router.presence_refusals_left(), 12);
    assert!(device.cloud.backend.calls().is_empty(), "it was never joined");
}

#[test]
fn seven_refusals_of_the_presence_are_borne() {
    let mut device = Device::prepare();
    device.cloud.router.refuse_presence(7);
    device.connect();
    assert_whole(&device);
}

#[test]
fn c3_once_joined_no_refusal_ends_it() {
    let device = Device::online();
    device.install(&app(501, "demo"));
    let traffic = device.cloud.router.tap();
    let mark = device.cloud.backend.mark();
    device.cloud.router.refuse_auth(true);
    device.cloud.router.cut(&device.authid());
    for _ in 0..4 {
        next_hello(&traffic, &device.authid());
    }
    assert_eq!(device.engine.containers()["prod_501_demo"], "running");
    device.cloud.router.refuse_auth(false);
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
}

#[test]
fn what_happens_in_an_outage_is_told_by_its_last_state() {
    let mut device = Device::online();
    device.install(&app(501, "demo"));
    wait_until(LIMIT, "all is delivered", || device.rows("SELECT id FROM StateOutbox").is_empty().then_some(()));
    let mark = device.cloud.backend.mark();
    device.cloud.go_down();
    wait_until(LIMIT, "the loss is noticed", || device.agent.log().contains("session lost").then_some(()));
    device.engine.exit_container("prod_501_demo", 1);
    device.engine.wait_for_status("prod_501_demo", "running");
    wait_until(LIMIT, "it is recorded", || (device.recorded() == ["501:RUNNING"]).then_some(()));
    device.cloud.come_back().unwrap();
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    device.cloud.backend.wait_for_state(LIMIT, mark, 501, "RUNNING");
    let told = device.reports_since(mark, 501);
    assert!(told.iter().all(|state| state == "RUNNING"), "{told:?}");
}

#[test]
fn a_lost_session_cancels_no_download() {
    let mut device = Device::online();
    let app = app(501, "demo");
    device.engine.offer(&Device::image(&app, "1.0.0"), Pull::Stalls);
    device.request(&app, "DOWNLOADING");
    let before = device.engine.connections();
    let mark = device.cloud.backend.mark();
    device.cloud.go_down();
    device.cloud.come_back().unwrap();
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    let pulls = device.engine.requests().iter().filter(|asked| asked.path == "/images/create").count();
    assert_eq!((pulls, device.recorded()), (1, vec!["501:DOWNLOADING".to_owned()]));
    wait_until(LIMIT, "only the pull and the events are open", || {
        (device.engine.connections() <= before).then_some(())
    });
}

#[test]
fn c5_a_reconnect_does_not_wait_for_a_hung_engine() {
    let mut device = Device::online();
    device.install(&app(501, "demo"));
    device.engine.fault("*", Fault::Hang);
    let mark = device.cloud.backend.mark();
    device.cloud.go_down();
    device.cloud.come_back().unwrap();
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONFIGURING");
    device.cloud.backend.wait_for(LIMIT, "the architecture", |calls| {
        calls[mark..].iter().find(|call| call.is("update_device_architecture")).map(drop)
    });
    assert_whole(&device);
    device.engine.heal();
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
}

#[test]
fn c4_a_router_that_falls_silent_is_left_and_found_again() {
    let mut device = Device::prepare();
    device.agent.options.flags.push("-ppTimeout=500".to_owned());
    device.connect();
    let mark = device.cloud.backend.mark();
    device.cloud.router.freeze(true);
    wait_until(LIMIT, "the silence is noticed", || device.agent.log().contains("session lost").then_some(()));
    device.cloud.router.freeze(false);
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    wait_until(LIMIT, "one session is left", || {
        (device.cloud.router.sessions(&device.authid()).len() == 1).then_some(())
    });
}

#[test]
fn frames_that_no_router_would_send_do_not_end_the_session() {
    let device = Device::online();
    let session = device.cloud.router.sessions(&device.authid());
    for odd in [
        json!([999, {}, "what"]),
        json!([67, 0, {"registration": 5}]),
        json!([36, 1, 2, {}]),
        json!([50, 4_000_000, {}]),
        json!([68, 1, 77, {}]),
        json!({"no": "list"}),
        json!([]),
        json!(["text"]),
        json!([68]),
    ] {
        device.cloud.router.inject(&device.authid(), odd);
    }
    assert!(device.call("device_handshake", vec![]).is_ok());
    assert_eq!(device.cloud.router.sessions(&device.authid()), session);
}

#[test]
fn c1_c2_a_ping_is_answered_while_every_handler_is_blocked_and_a_container_floods_its_log() {
    let device = Device::online();
    device.install(&app(501, "demo"));
    let lines = device.cloud.backend.subscribe_logs("prod_501_demo");
    let user = device.cloud.user("42").unwrap();
    device.engine.fault("*", Fault::Hang);
    let uri = device.cloud.backend.identity.uri("list_containers");
    let waiting: Vec<_> = (0..50).map(|_| user.start_call(&uri, json!({}), vec![], Map::new())).collect();
    device.engine.wait_for_request("GET /containers/json", 4);
    let line = "x".repeat(400);
    let mut took: Vec<Duration> = Vec::new();
    for round in 0..11 {
        for n in 0..1000 {
            device.engine.write_log("prod_501_demo", 1, &format!("{round} {n} {line}"));
        }
        took.push(device.cloud.router.ping(&device.authid(), LIMIT).expect("a pong"));
    }
    took.sort();
    eprintln!("pongs under load took {took:?}, median {:?}", took[took.len() / 2]);
    assert!(took[took.len() / 2] < Duration::from_secs(1), "{took:?}");
    assert!(device.call("device_handshake", vec![]).is_ok(), "what needs no engine is answered");
    assert!(lines.recv_timeout(LIMIT).is_ok(), "the flood arrives, too");
    device.engine.heal();
    for pending in waiting {
        let answer = pending.wait(LIMIT).map(|answer| answer.args);
        assert!(matches!(answer.as_deref(), Ok([Value::Array(_)])), "{answer:?}");
    }
}

#[test]
fn c2_a_flood_towards_a_router_that_reads_nothing_takes_no_more_memory_than_its_budget() {
    let device = Device::online();
    device.install(&app(501, "demo"));
    let lines = device.cloud.backend.subscribe_logs("prod_501_demo");
    wait_until(LIMIT, "lines arrive", || {
        device.engine.write_log("prod_501_demo", 1, "first");
        lines.recv_timeout(Duration::from_millis(300)).ok().filter(|line| line.args[0].is_string())
    });
    let resident = |device: &Device| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", device.agent.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim().to_owned();
        line.trim_end_matches(" kB").parse().unwrap()
    };
    let before = resident(&device);
    device.cloud.router.freeze(true);
    let line = "x".repeat(1000);
    for n in 0..40_000 {
        device.engine.write_log("prod_501_demo", 1, &format!("{n} {line}"));
    }
    // All of it has been read when the last line is in the history, which is asked for below; now it is in flight.
    wait_until(LIMIT, "the flood is read", || device.engine.log_is_read("prod_501_demo").then_some(()));
    let after = resident(&device);
    eprintln!("resident: {before} kB before, {after} kB after 40 MB of log");
    assert!(after < before + 16 * 1024, "{before} kB, {after} kB");
    device.cloud.router.freeze(false);
}
