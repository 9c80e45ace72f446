//! Control beats bulk: what still gets through while every handler is blocked and three containers flood their logs.

use super::site::Flood;
use crate::cloud::Cloud;
use crate::cloud::peer::Payload;
use crate::cloud::wanted::WantedApp;
use crate::util::docker_daemon::{DockerDaemon, Fault, Pull};
use crate::util::{Agent, Options, wait_until};
use crossbeam_channel::Receiver;
use reagent::{clock, release};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const REGISTRY: &str = "127.0.0.1:5000";
const LOAD: Duration = Duration::from_secs(10);
/// Lines per second of each container.
const RATE: u32 = 10_000;
/// Of a build without optimisation, in KiB.
const MEMORY: u64 = 40 * 1024;

/// What a viewer of one log has seen: every gap in the numbers has a marker that says how long it is.
#[derive(Debug, Default)]
struct Viewer {
    lines: u64,
    dropped: u64,
    markers: u64,
    next: Option<u64>,
    missing: u64,
}

impl Viewer {
    fn see(&mut self, events: &Receiver<Payload>) {
        for event in events.try_iter() {
            for line in event.args[0].as_str().unwrap_or_default().lines() {
                if let Some(count) = line.strip_prefix("… ").and_then(|rest| rest.split(' ').next()) {
                    let count: u64 = count.parse().unwrap_or_else(|_| panic!("a marker without a number: {line}"));
                    (self.markers, self.dropped) = (self.markers + 1, self.dropped + count);
                    self.next = self.next.map(|next| next + count);
                } else if let Some(number) = line.split(' ').next().and_then(|number| number.parse::<u64>().ok()) {
                    self.missing += number.abs_diff(self.next.unwrap_or(number));
                    (self.lines, self.next) = (self.lines + 1, Some(number + 1));
                }
            }
        }
    }
}

#[test]
fn c1_c2_control_gets_through_while_the_engine_hangs_and_three_containers_flood() {
    let cloud = Cloud::start(0, REGISTRY).expect("a free loopback port");
    let engine = Arc::new(DockerDaemon::start());
    let env = vec![("DOCKER_HOST".to_owned(), engine.host())];
    let agent = Agent::start(Options { flock: cloud.flock(), env, ..Options::default() });
    cloud.backend.wait_for_status(LIMIT, 0, "CONNECTED");
    let apps = [501, 502, 503].map(|key| WantedApp::new(key, "flood"));
    for app in &apps {
        engine.offer(&format!("{REGISTRY}/apps/{}:{}", app.image(release::ARCH), app.version), Pull::Works);
        let mark = cloud.backend.mark();
        cloud.backend.request_app_state(app).expect("the app is wanted");
        cloud.backend.wait_for_state(LIMIT, mark, app.app_key, "RUNNING");
    }
    let logs = apps.each_ref().map(|app| cloud.backend.subscribe_logs(&app.container()));
    engine.wait_for_request("GET /containers/*/logs", apps.len());
    let quiet = memory(agent.pid());

    engine.fault("*", Fault::Hang);
    let user = cloud.user("42").expect("the user may join");
    let uri = cloud.backend.identity.uri("list_containers");
    let waiting: Vec<_> = (0..50).map(|_| user.start_call(&uri, json!({}), vec![], Map::new())).collect();
    engine.wait_for_request("GET /containers/json", 4);
    let floods = apps.each_ref().map(|app| Flood::start(&engine, &app.container(), RATE));
    for events in &logs {
        events.recv_timeout(LIMIT).expect("the flood arrives");
    }

    let (mut pongs, mut answers, mut viewers) = (Vec::new(), Vec::new(), logs.each_ref().map(|_| Viewer::default()));
    let (authid, handshake) = (cloud.backend.identity.authid(), cloud.backend.identity.uri("device_handshake"));
    let (began, mut peak) = (clock::mono(), 0);
    while clock::mono() - began < LOAD {
        pongs.push(cloud.router.ping(&authid, LIMIT).expect("a pong"));
        let asked = clock::mono();
        user.call(&handshake, vec![], Map::new(), LIMIT).expect("what needs no engine is answered");
        answers.push(clock::mono() - asked);
        viewers.iter_mut().zip(&logs).for_each(|(viewer, events)| viewer.see(events));
        peak = peak.max(memory(agent.pid()));
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(floods);
    for (what, times) in [("pong", &mut pongs), ("device_handshake", &mut answers)] {
        times.sort();
        let (median, max) = (times[times.len() / 2], times[times.len() - 1]);
        eprintln!("{what} under load, {} times: median {median:?}, max {max:?}", times.len());
        assert!(max < Duration::from_secs(1), "{what}: {max:?}");
    }
    eprintln!("resident: {quiet} KiB before, {peak} KiB at most under load; viewers {viewers:?}");
    assert!(peak < MEMORY, "{peak} KiB");
    for viewer in &viewers {
        assert!(viewer.lines > 100 && viewer.markers > 0, "{viewer:?}");
        assert_eq!(viewer.missing, 0, "lines that are dropped are announced: {viewer:?}");
    }
    engine.heal();
    for pending in waiting {
        let answer = pending.wait(LIMIT).map(|answer| answer.args);
        assert!(matches!(answer.as_deref(), Ok([Value::Array(list)]) if list.len() == 3), "{answer:?}");
    }
    let calm = "the agent is calm again: every flood is read";
    wait_until(LIMIT, calm, || cloud.router.ping(&authid, Duration::from_millis(100)));
}

/// Resident memory in KiB.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every kernel tells");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}
