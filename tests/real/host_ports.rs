//! Host ports of compose apps on a real Engine (apps chapter 4.1 to 4.4): two apps that were authored with the same port,
//! somebody else on a port, a database that is lost, and the network of the machine.

use super::flavour::Flavour;
use super::stage::{PoolStart, SOON, Stage, page_says};
use super::walk::has_image;
use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;

/// A stage with compose and the image of the services.
#[track_caller]
fn stage() -> Stage {
    let mut stage = Stage::prepare(Identity::generated());
    stage.has_compose(Flavour::Plugin);
    has_image(&stage, "prod_730_web", "1.0.0", "demo");
    stage.agent.restart();
    stage.online(0);
    stage
}

fn image(stage: &Stage) -> String {
    format!("127.0.0.1:{}/apps/prod_{}_730_web:1.0.0", stage.download.port(), reagent::release::ARCH)
}

/// Serves pages on two ports, one authored in the short form, one in the long one.
fn app(stage: &Stage, key: u64, name: &str) -> WantedApp {
    let service = |port: Value| json!({"image": image(stage), "ports": [port]});
    let api = service(json!({"target": 8080, "published": 8091, "protocol": "tcp"}));
    let services = json!({"web": service(json!("8090:8080")), "api": api});
    WantedApp::new(key, name).compose(json!({ "services": services })).port(8090, "http").port(8091, "tcp")
}

/// What must not change of the containers of an app.
fn identities(stage: &Stage, app: &WantedApp) -> Vec<[Value; 3]> {
    let mut names = stage.docker.names(&format!("{}_compose", app.container()));
    names.sort();
    let of = |name: String| {
        let container = stage.docker.inspect(&name).unwrap();
        [container["Id"].clone(), container["State"]["StartedAt"].clone(), container["State"]["Pid"].clone()]
    };
    names.into_iter().map(of).collect()
}

/// The port reports of an app after `mark`.
fn told(stage: &Stage, mark: usize, app: &WantedApp) -> Vec<Value> {
    let calls = stage.backend.calls_since(mark);
    let of_app = calls.iter().map(|call| call.argument()).filter(|argument| argument["app_key"] == app.app_key);
    of_app.filter(|argument| argument.get("ports").is_some()).cloned().collect()
}

#[test]
fn compose_apps_share_no_host_port_keep_theirs_over_a_lost_database_and_give_up_what_somebody_else_has() {
    let _alone = PoolStart::take();
    let mut stage = stage();
    let (one, two) = (app(&stage, 761, "one"), app(&stage, 762, "two"));
    let mark = stage.backend.mark();
    stage.request(&one, "RUNNING");
    stage.request(&two, "RUNNING");
    let ports = |stage: &Stage, app: &WantedApp| [8090, 8091].map(|port| stage.host_port(app, port));
    let (of_one, of_two) = (ports(&stage, &one), ports(&stage, &two));
    let all: BTreeSet<u16> = of_one.into_iter().chain(of_two).collect();
    assert_eq!(all.len(), 4, "{of_one:?} {of_two:?}");
    assert!(all.iter().all(|port| (40_000..50_000).contains(port)), "{all:?}");
    for (app, [web, api]) in [(&one, of_one), (&two, of_two)] {
        for port in [web, api] {
            page_says(port, "/env", &format!("APP_NAME={}", app.name));
            page_says(port, "/env", &format!("DEVICE_PORT_FOR_8090={web}"));
            page_says(port, "/env", &format!("DEVICE_PORT_FOR_8091={api}"));
        }
    }

    // The report is complete, in the received order, and made once.
    let mut expected = one.ports.clone();
    (expected[0]["host_port"], expected[1]["host_port"]) = (json!(of_one[0]), json!(of_one[1]));
    let report = json!({"app_key": 761, "device_key": 3, "swarm_key": 2, "stage": "PROD", "ports": expected});
    assert_eq!(told(&stage, mark, &one), std::slice::from_ref(&report));

    // Nobody remembers the ports but the containers that have them.
    let before = (identities(&stage, &one), identities(&stage, &two));
    stage.agent.kill9();
    for entry in std::fs::read_dir(stage.agent.agent_dir()).unwrap().map_while(Result::ok) {
        if entry.file_name().to_string_lossy().contains(".db") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    stage.backend.platform(|platform| {
        let rules = platform.apps.iter_mut().flat_map(|app| &mut app.ports);
        rules.for_each(|rule| drop(rule.as_object_mut().map(|rule| rule.remove("host_port"))));
    });
    let mark = stage.backend.mark();
    stage.agent.restart();
    stage.online(mark);
    let again = (ports(&stage, &one), ports(&stage, &two));
    assert_eq!(again, (of_one, of_two));
    assert_eq!(told(&stage, mark, &one), [report]);
    assert_eq!((identities(&stage, &one), identities(&stage, &two)), before, "no container was touched");

    // Somebody else takes a port while the app stands still.
    let known = stage.backend.known(762, "PROD");
    stage.request(&known.target("PRESENT"), "PRESENT");
    let foreign = wait_until(SOON, "the port is free", || TcpListener::bind(("0.0.0.0", of_two[0])).ok());
    let mark = stage.backend.mark();
    stage.request(&stage.backend.known(762, "PROD").target("RUNNING"), "RUNNING");
    let now = wait_until(SOON, "the new port is reported", || {
        let now = told(&stage, mark, &two).pop()?["ports"][0]["host_port"].as_u64()?;
        u16::try_from(now).ok().filter(|now| *now != of_two[0])
    });
    assert!(!all.contains(&now), "{now} is another app's");
    page_says(now, "/env", &format!("DEVICE_PORT_FOR_8090={now}"));
    assert_eq!(stage.host_port(&two, 8091), of_two[1], "only the port in the way is replaced");
    assert_eq!(identities(&stage, &one), before.0);
    drop(foreign);
}

#[test]
fn a_service_in_the_network_of_the_machine_is_reached_on_the_port_that_it_declares() {
    let stage = stage();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let script = format!("echo on the host >/www/index.html; env >/www/env; exec httpd -f -p {port} -h /www");
    let service = json!({"image": image(&stage), "command": ["sh", "-c", script], "network_mode": "host",
        "ports": [format!("{port}:{port}")], "stop_grace_period": "0s"});
    let app = WantedApp::new(763, "host").compose(json!({"services": {"web": service}})).port(port.into(), "http");
    stage.request(&app, "RUNNING");
    page_says(port, "/", "on the host");
    page_says(port, "/env", &format!("DEVICE_PORT_FOR_{port}={port}"));
    assert_eq!(stage.host_port(&app, port.into()), port);
    let container = stage.docker.inspect("prod_763_host_compose-web-1").unwrap();
    assert_eq!(container["HostConfig"]["NetworkMode"], "host");
    let definition = std::fs::read_to_string(stage.agent.apps_dir().join("compose/host/docker-compose.json")).unwrap();
    let definition: Value = serde_json::from_str(&definition).unwrap();
    assert_eq!(definition["services"]["web"]["ports"], json!([format!("{port}:{port}")]), "it is left as authored");
    assert_eq!(stage.engine.published(), Vec::<u16>::new());
}
