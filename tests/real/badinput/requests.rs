//! Requests that contradict what is so, or themselves.

use super::{Ground, PATIENCE, project, sleeper};
use crate::cloud::wanted::WantedApp;
use crate::real::stage::SOON;
use crate::util::wait_until;
use serde_json::{Value, json};
use std::net::{TcpListener, UdpSocket};

impl Ground {
    /// Waits until these are all containers of an app that run.
    #[track_caller]
    fn has(&self, app: &WantedApp, names: &[&str]) {
        let what = format!("app {} consists of {names:?}", app.app_key);
        wait_until(SOON, &what, || {
            let mut found = self.containers_of(app);
            found.sort();
            let run =
                |name: &&str| self.stage.docker.inspect(name).is_some_and(|found| found["State"]["Running"] == true);
            (found == names && names.iter().all(run)).then_some(())
        });
    }

    #[track_caller]
    fn reaches(&self, app: &WantedApp, state: &str) {
        let mark = self.stage.backend.mark();
        let answer = self.stage.backend.request_app_state(app);
        assert!(answer.is_ok(), "{answer:?}");
        self.stage.backend.wait_for_state(PATIENCE, mark, app.app_key, state);
    }
}

#[test]
fn an_app_that_becomes_a_project_while_it_runs_leaves_nothing_behind_and_back() {
    let ground = Ground::start();
    let plain = WantedApp::new(7750, "changes");
    ground.publish(&plain, "1.0.0");
    let composed = plain.clone().compose(project(&sleeper()));
    let (one, service) = ("prod_7750_changes", "prod_7750_changes_compose-web-1");
    ground.reaches(&plain, "RUNNING");
    ground.has(&plain, &[one]);
    // The kind changes while it runs; then the app is stopped and started.
    ground.reaches(&composed.clone().current("RUNNING"), "RUNNING");
    ground.has(&plain, &[service]);
    ground.reaches(&composed.clone().target("PRESENT").current("RUNNING"), "PRESENT");
    ground.has(&plain, &[]);
    ground.reaches(&composed.clone().current("PRESENT"), "RUNNING");
    ground.has(&plain, &[service]);
    ground.reaches(&plain.clone().current("RUNNING"), "RUNNING");
    ground.has(&plain, &[one]);
    // With a stop at once.
    ground.reaches(&composed.clone().target("PRESENT").current("RUNNING"), "PRESENT");
    ground.has(&plain, &[]);
    ground.reaches(&plain.clone().current("PRESENT"), "RUNNING");
    // With a removal at once.
    ground.reaches(&composed.clone().target("UNINSTALLED").current("RUNNING"), "UNINSTALLED");
    ground.has(&plain, &[]);
    ground.others_are_untouched();
}

#[test]
fn an_app_that_is_renamed_while_it_runs_is_one_app() {
    let ground = Ground::start();
    for (key, composed) in [(7751, false), (7752, true)] {
        let app = |name: &str| {
            let app = WantedApp::new(key, name);
            if composed { app.compose(project(&sleeper())) } else { app }
        };
        let container = |name: &str| format!("prod_{key}_{name}{}", if composed { "_compose-web-1" } else { "" });
        for name in ["before", "after"] {
            ground.publish(&app(name), "1.0.0");
        }
        ground.reaches(&app("before"), "RUNNING");
        ground.has(&app("before"), &[&container("before")]);
        ground.reaches(&app("after").current("RUNNING"), "RUNNING");
        ground.has(&app("after"), &[&container("after")]);
        ground.reaches(&app("before").current("RUNNING").target("UNINSTALLED"), "UNINSTALLED");
        ground.has(&app("before"), &[]);
    }
    ground.others_are_untouched();
}

#[test]
fn requests_that_say_nonsense_change_nothing_or_are_refused() {
    let ground = Ground::start();
    let backend = &ground.stage.backend;
    let app = WantedApp::new(7760, "steady");
    ground.publish(&app, "1.0.0");
    ground.reaches(&app, "RUNNING");
    ground.watch("prod_7760_steady");
    let running = app.clone().current("RUNNING");
    // Taken, and nothing changes: reported once more as it is.
    let mut empty_newest = running.clone().update_to("", 0);
    empty_newest.request_update = true;
    let mut no_version = running.clone();
    for field in [&mut no_version.version, &mut no_version.present_version, &mut no_version.newest_version] {
        field.clear();
    }
    for (what, request) in [
        ("no newest version", empty_newest),
        ("no version at all", no_version),
        ("a cancel of nothing", running.clone().cancel()),
        ("a current state that is not so", app.clone().current("FAILED")),
        ("a current state between two", app.clone().current("DOWNLOADING")),
        ("rules that are none", running.clone().rule(json!("eighty"))),
        ("a rule over 65535", running.clone().rule(json!({"port": 65_536, "protocol": "http"}))),
        ("a rule for port 0", running.clone().rule(json!({"port": 0, "protocol": "http"}))),
        ("a huge environment", running.clone().env("HUGE", &"x".repeat(5 << 20))),
        ("unknown keys", running.clone().with("imagine", json!({"a": [1, 2, 3]}))),
    ] {
        let mark = backend.mark();
        let answer = backend.request_app_state(&request);
        assert!(answer.is_ok(), "{what}: {answer:?}");
        if request.cancel_transition {
            // Nothing runs that could be cancelled.
            continue;
        }
        backend.wait_for_state(PATIENCE, mark, 7760, "RUNNING");
    }
    for (what, request) in [
        ("an unknown target", running.clone().target("FLYING")),
        ("an unknown current state", running.clone().current("FLYING")),
        ("an unknown stage", running.clone().with("stage", json!("TEST"))),
        ("no name", running.clone().with("app_name", json!(""))),
        ("ports of another type", running.clone().with("ports", json!("8080"))),
        ("a definition of another type", running.clone().with("docker_compose", json!("services:"))),
        ("an environment of another type", running.clone().with("environment", json!(["A=1"]))),
    ] {
        let answer = backend.call_agent("request_app_state", vec![], request.request());
        assert!(answer.is_err(), "{what}: {answer:?}");
    }
    ground.others_are_untouched();
    ground.untouched.borrow_mut().pop();
    // Rules that cannot be read hold up neither a stop nor a removal.
    let bad = running.clone().rule(json!({"port": {}, "protocol": 5})).rule(json!(null));
    ground.reaches(&bad.clone().target("PRESENT"), "PRESENT");
    ground.has(&app, &[]);
    ground.reaches(&app.clone().current("PRESENT"), "RUNNING");
    ground.reaches(&bad.clone().target("UNINSTALLED"), "UNINSTALLED");
    ground.has(&app, &[]);
    ground.others_are_untouched();
}

#[test]
fn bad_and_taken_ports_hold_up_no_start() {
    let ground = Ground::start();
    let tcp = TcpListener::bind(("0.0.0.0", 0)).expect("a free port");
    let udp = UdpSocket::bind(("0.0.0.0", 0)).expect("a free port");
    let (tcp_port, udp_port) = (tcp.local_addr().expect("bound").port(), udp.local_addr().expect("bound").port());
    let rule = |port: u64, protocol: &str, host_port: Value| json!({"port": port, "protocol": protocol, "host_port": host_port});
    let rows: [(&str, Vec<Value>); 6] = [
        ("taken", vec![rule(8080, "http", json!(tcp_port)), rule(53, "udp", json!(udp_port))]),
        ("over", vec![rule(65_536, "tcp", json!(0)), rule(8080, "http", json!(0))]),
        ("zero", vec![rule(0, "tcp", json!(0)), rule(8080, "http", json!(0))]),
        ("twice", vec![rule(8080, "http", json!(0)), rule(8080, "tcp", json!(0)), rule(8080, "udp", json!(0))]),
        ("hostover", vec![rule(8080, "http", json!(70_000))]),
        ("undecodable", vec![json!("x"), rule(8080, "http", json!(0))]),
    ];
    let mut apps = Vec::new();
    for (key, (name, rules)) in (7770..).zip(rows) {
        let mut app = WantedApp::new(key, name);
        ground.publish(&app, "1.0.0");
        app.ports = rules;
        apps.push(app.clone());
        let services = json!({"services": {"web": {
            "image": "busybox:local", "command": ["sleep", "1000000"], "stop_grace_period": "0s",
            "ports": ["8080:80", "53:53/udp"],
        }}});
        app.app_key += 20;
        app.name.push('c');
        apps.push(app.compose(services));
    }
    ground.all_reach(&apps, "RUNNING", "RUNNING");
    let published = ground.stage.engine.published();
    assert!(!published.contains(&tcp_port) && !published.contains(&udp_port), "{published:?}");
    ground.all_go(&apps);
}

#[test]
fn a_definition_of_five_megabytes_runs() {
    let ground = Ground::start();
    let mut service = sleeper();
    service["labels"] = json!({"filler": "x".repeat(90_000)});
    let mut definition = project(&service);
    definition["x-filler"] = json!((0..5 << 10).map(|n| format!("{n}{}", "y".repeat(1000))).collect::<Vec<_>>());
    let app = WantedApp::new(7799, "huge").compose(definition);
    ground.reaches(&app, "RUNNING");
    ground.all_go(&[app]);
}
