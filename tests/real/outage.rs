//! The router or the engine is away, for a while or from the start.

use super::lifecycle::demo;
use super::relay::Side;
use super::stage::{SOON, Stage, page_says, progress, with_ports};
use super::tap::Frame;
use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use reagent::clock;
use serde_json::Value;
use std::time::Duration;

/// What is promised to be back after a reconnect, and to run after the engine's first answer.
const PROMPT: Duration = Duration::from_secs(5);
const OUTAGE: Duration = Duration::from_secs(60);

/// A minute in real time is what the test is about.
fn a_minute_passes(of: &str) {
    progress(&format!("{of} for a minute"));
    std::thread::sleep(OUTAGE);
}

fn demos(count: u64) -> Vec<WantedApp> {
    (0..count).map(|n| with_ports(WantedApp::new(510 + n, &format!("demo{n}")).port(8080, "http"))).collect()
}

/// What an outage of the router must not touch.
fn identity_of(container: &Value) -> [Value; 3] {
    [container["Id"].clone(), container["State"]["StartedAt"].clone(), container["State"]["Pid"].clone()]
}

#[test]
fn c6_after_a_minute_without_router_everything_is_back_within_five_seconds_and_the_app_was_not_touched() {
    let stage = Stage::start();
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    let lines = stage.backend.subscribe_logs(&app.container());
    stage.request(&app, "RUNNING");
    let before = identity_of(&stage.container(&app));
    let calls = stage.backend.mark();
    stage.crossbar.go_down();
    let down = stage.tap.mark();
    stage.tap.wait_for(SOON, 0, "the agent loses its connection", |frame| {
        frame.message.get("closed").is_some().then_some(())
    });
    a_minute_passes("no router");
    stage.crossbar.come_back();
    let ready = clock::mono();
    lines.try_iter().for_each(drop);
    let hello = |frame: &Frame| frame.is(Side::Client, 1).then_some((frame.at, frame.connection));
    let (dialled, connection) = stage.tap.wait_for(OUTAGE, down, "a HELLO after the outage", hello);

    let limit = |what: &str, at: Duration| {
        let took = at.saturating_sub(dialled);
        progress(&format!("{what} {took:.2?} after the first dial that the router took"));
        assert!(took < PROMPT, "{what} took {took:?}");
    };
    let sent = |kind: u64, contains: &'static str| {
        stage.tap.wait_for(PROMPT, down, &format!("{contains:?} in a message {kind}"), move |frame| {
            let wanted = frame.connection == connection && frame.is(Side::Client, kind);
            (wanted && frame.message.to_string().contains(contains)).then_some(frame.at)
        })
    };
    limit("the presence procedure", sent(64, "wamp_connection_established"));
    limit("the testament", sent(48, "wamp.session.add_testament"));
    limit("request_app_state", sent(64, "request_app_state"));
    limit("the log subscriptions", sent(32, "wamp.subscription.on_create"));
    limit("CONNECTED", stage.backend.wait_for_status(PROMPT, calls, "CONNECTED").at);
    wait_until(PROMPT, "the subscriber hears the app again", || {
        lines
            .try_iter()
            .any(|event| event.args.iter().any(|arg| arg.to_string().contains("demo 1.0.0 line")))
            .then_some(())
    });
    limit("the app's lines", clock::mono());
    progress(&format!("the router was ready {:.2?} before that dial", dialled.saturating_sub(ready)));
    assert_eq!(identity_of(&stage.container(&app)), before);
    // The procedures answer, and the testament is that of the new session.
    stage.request(&app.clone().current("RUNNING").target("PRESENT"), "PRESENT");
}

#[test]
fn an_app_that_crashes_while_there_is_no_router_is_started_again_and_reported_afterwards() {
    let stage = Stage::start();
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.request(&app, "RUNNING");
    let before = identity_of(&stage.container(&app));
    let mark = stage.backend.mark();
    stage.crossbar.go_down();
    stage.docker.run(&["kill", &app.container()]);
    wait_until(SOON, "the app runs again, without a router", || {
        let container = stage.docker.inspect(&app.container())?;
        (container["State"]["Running"] == true && identity_of(&container) != before).then_some(())
    });
    stage.crossbar.come_back();
    stage.settles(OUTAGE, mark, &app, "RUNNING", "1.0.0");
}

#[test]
fn s10_without_any_router_the_wanted_apps_run_within_five_seconds_of_the_engines_answer() {
    let mut stage = Stage::start();
    let apps = demos(3);
    for app in &apps {
        stage.push(app, "1.0.0", "demo");
        stage.request(app, "RUNNING");
    }
    // As after a power cut: nothing runs, and neither router nor engine is there yet.
    stage.agent.kill9();
    stage.crossbar.go_down();
    stage.engine.terminate();
    stage.agent.restart();
    let asked = stage.requests.lines().len();
    stage.requests.wait_for(asked, "nobody is there");
    let launched = clock::mono();
    stage.engine.launch();
    let answers = clock::mono();
    wait_until(SOON, "the apps run", || {
        let running = |app: &WantedApp| {
            stage.docker.inspect(&app.container()).is_some_and(|container| container["State"]["Running"] == true)
        };
        apps.iter().all(running).then_some(())
    });
    let (took, launch) = (clock::mono().saturating_sub(answers), answers.saturating_sub(launched));
    progress(&format!("3 apps run {took:.2?} after the engine's first answer, which took {launch:.2?}"));
    assert!(took < PROMPT, "{took:?}");
    stage.crossbar.come_back();
    stage.online(0);
}

#[test]
fn s10_an_engine_that_comes_a_minute_late_finds_an_agent_that_is_on_line_and_then_runs_the_app() {
    let mut stage = Stage::prepare(Identity::generated());
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.engine.terminate();
    stage.backend.want(app.clone());
    stage.agent.restart();
    stage.backend.wait_for_status(SOON, 0, "CONFIGURING");
    let mut mark = stage.backend.mark();
    a_minute_passes("no engine");
    assert!(!stage.backend.statuses().contains(&"CONNECTED".to_owned()), "{:?}", stage.backend.statuses());
    // It can be reached all the time: a request is taken, and done later.
    stage.backend.request_app_state(&app.clone().env("LATER", "yes")).expect("the agent takes the request");
    stage.engine.launch();
    let launched = clock::mono();
    let running = stage.backend.wait_for_state(SOON, mark, 501, "RUNNING");
    progress(&format!("the app runs {:.2?} after the engine", running.at.saturating_sub(launched)));
    stage.online(mark);
    page_says(stage.host_port(&app, 8080), "/env", "LATER=yes");
    mark = stage.backend.mark();
    stage.request(&app.clone().current("RUNNING").target("PRESENT"), "PRESENT");
    stage.settles(SOON, mark, &app, "PRESENT", "1.0.0");
}

#[test]
fn a_killed_agent_leaves_its_testament_and_a_terminated_one_says_goodbye() {
    let mut stage = Stage::start();
    let session = |stage: &Stage| {
        let welcome = |frame: &Frame| frame.is(Side::Server, 2).then(|| frame.message[1].clone());
        stage.tap.frames().iter().rev().find_map(welcome).expect("a session was joined")
    };
    let first = session(&stage);
    stage.agent.kill9();
    let testament = wait_until(SOON, "the testament", || stage.backend.testaments().first().cloned());
    assert_eq!(testament["wamp_session_id"], first);
    assert_eq!(testament["serial_number"], stage.backend.identity.serial);
    assert_eq!((&testament["device_key"], &testament["swarm_key"]), (&3.into(), &2.into()));

    let mark = stage.backend.mark();
    stage.agent.restart();
    stage.online(mark);
    let (told, frames) = (clock::mono(), stage.tap.mark());
    let status = stage.agent.terminate(Duration::from_secs(10));
    progress(&format!("the agent ended {:.2?} after SIGTERM", clock::mono().saturating_sub(told)));
    assert!(status.success(), "{status}");
    let goodbye = stage
        .tap
        .wait_for(SOON, frames, "GOODBYE", |frame| frame.is(Side::Client, 6).then(|| frame.message[2].clone()));
    assert_eq!(goodbye, "wamp.close.close_realm");
}

#[test]
fn decision_21_an_answer_of_null_is_no_list_and_touches_no_app() {
    let mut stage = Stage::start();
    let apps = demos(2);
    for app in &apps {
        stage.push(app, "1.0.0", "demo");
        stage.request(app, "RUNNING");
    }
    let before: Vec<_> = apps.iter().map(|app| identity_of(&stage.container(app))).collect();
    stage.backend.answer("get_requested_app_states", crate::cloud::backend::Answer::Args(vec![Value::Null]));
    // Once over a reconnect, once over a start.
    let mark = stage.backend.mark();
    stage.tap.relay.cut();
    stage.online(mark);
    let mark = stage.backend.mark();
    stage.agent.kill9();
    stage.agent.restart();
    stage.online(mark);
    for app in &apps {
        stage.settles(SOON, 0, app, "RUNNING", "1.0.0");
    }
    let after: Vec<_> = apps.iter().map(|app| identity_of(&stage.container(app))).collect();
    assert_eq!(after, before);
    // They are stored, too: without the backend's list they are stopped and started by key.
    stage.request(&apps[0].clone().current("RUNNING").target("PRESENT"), "PRESENT");
}
