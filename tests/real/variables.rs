//! What an app finds of variables, credentials and their files (apps chapter 4.5 to 4.9), in a plain and in a compose app,
//! and what of it outlives the agent.

use super::flavour::Flavour;
use super::machine::tree;
use super::stage::{SOON, Stage, with_ports};
use super::walk::has_image;
use crate::cloud::cra;
use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use reagent::clock;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const ODD: &str = "a b # c $HOME 'q' \"d\" \\";
const PLAIN: &str = "prod_771_plain";
const SERVICE: &str = "prod_772_comp_compose-web-1";
/// The first attempt after a crash comes within 6 s; compose takes its time.
const RECOVERY: Duration = Duration::from_secs(60);

/// Variables, template, ports, credential epoch and instance of the apps.
fn dressed(app: WantedApp) -> WantedApp {
    let rule = |port: u64, protocol: &str, more: Value| {
        let mut rule = json!({"main": false, "name": "p", "active": false, "public": false, "port": port,
            "protocol": protocol, "local_ip": "", "remote_port_environment": "", "remote_port": 0});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        rule
    };
    let mut app = app
        .env("ODD", ODD)
        .env("MULTI", "a\nb\tc")
        .env("BIG", &"x".repeat(21_000))
        .env("APP_AUTH_ID", "somebody-else")
        .env("GREETING_LONG", "hi")
        .rule(rule(8080, "http", json!({"remote_port_environment": "WEB", "cloud_remote_port": 31_000})))
        .rule(rule(22, "tcp", json!({"remote_port": 30_022, "local_ip": "10.0.0.9"})))
        .with("app_cred_epoch", json!(3))
        .with("instance_key", json!(77));
    app.environment.insert("NUMBER".to_owned(), json!({"value": 1_000_000.0}));
    app.environment.insert("NOTHING".to_owned(), json!({"value": null}));
    for (name, default) in [("GREETING", "hello"), ("ODD", "not this"), ("APP_AUTH_SECRET", "none")] {
        app.environment_template.insert(name.to_owned(), json!({"defaultValue": default}));
    }
    app
}

/// What chapter 4.7 says for an app, without the address of the machine.
fn expected(stage: &Stage, app: &WantedApp) -> BTreeMap<String, String> {
    let serial = &stage.backend.identity.serial;
    let message = format!("ironflock/app-cred/v1|{serial}|{}|PROD|3", app.app_key);
    let (key, port) = (stage.backend.platform(|platform| platform.cred_key.clone()), stage.host_port(app, 8080));
    let all = [
        ("DEVICE_SERIAL_NUMBER", serial.clone()),
        ("ENV", "PROD".to_owned()),
        ("DEVICE_KEY", "3".to_owned()),
        ("SWARM_KEY", "2".to_owned()),
        ("APP_KEY", app.app_key.to_string()),
        ("APP_NAME", app.name.clone()),
        ("DEVICE_NAME", "device-b".to_owned()),
        ("DEVICE_ENDPOINT_URL", stage.tap.url().replace("localhost", "host.docker.internal")),
        ("TUNNEL_DOMAIN", "localhost".to_owned()),
        ("APP_AUTH_ID", format!("app-{}-prod-e3@{serial}", app.app_key)),
        ("APP_AUTH_SECRET", cra::sign(&key, &message)),
        ("INSTANCE_KEY", "77".to_owned()),
        ("RESWARM_URL", "https://studio.example.invalid".to_owned()),
        ("DEVICE_URL", "https://studio.example.invalid/marko/swarms/demo_swarm/settings/devices/device-b".to_owned()),
        ("ODD", ODD.to_owned()),
        ("MULTI", "a\\nb\\tc".to_owned()),
        ("BIG", "x".repeat(21_000)),
        ("GREETING_LONG", "hi".to_owned()),
        ("NUMBER", "1000000".to_owned()),
        ("NOTHING", "<nil>".to_owned()),
        ("GREETING", "hello".to_owned()),
        ("REMOTE_PORT_FOR_8080_CLOUD", "31000".to_owned()),
        ("WEB_CLOUD", "31000".to_owned()),
        ("DEVICE_PORT_FOR_8080", port.to_string()),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The variables of a container but for the image's own and the address of the machine, which is one.
#[track_caller]
fn of_container(stage: &Stage, name: &str) -> BTreeMap<String, String> {
    let container = stage.docker.inspect(name).unwrap_or_else(|| panic!("there is no {name}"));
    let env: Vec<String> = serde_json::from_value(container["Config"]["Env"].clone()).unwrap();
    let pairs = env.iter().map(|line| line.split_once('=').unwrap());
    let mut env: BTreeMap<String, String> = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for name in ["PATH", "VERSION"] {
        env.remove(name);
    }
    let address = env.remove("DEVICE_LAN_IP").expect("this machine has an address");
    address.parse::<std::net::Ipv4Addr>().unwrap();
    env
}

/// The files of an app's variables: content and mode.
fn of_files(stage: &Stage, app: &WantedApp) -> BTreeMap<String, (u32, String)> {
    let files = tree(&stage.agent.apps_dir().join("prod").join(&app.name).join("env"));
    let named = files.into_iter().filter_map(|(path, (mode, text))| {
        Some((path.strip_suffix(".txt")?.to_owned(), (mode, text.unwrap_or_default())))
    });
    let mut named: BTreeMap<String, (u32, String)> = named.collect();
    named.remove("DEVICE_LAN_IP");
    named
}

/// Waits until the files of an app are these: those that change while it runs are written once more after its start.
#[track_caller]
fn has_files(stage: &Stage, app: &WantedApp, expected: &BTreeMap<String, (u32, String)>) {
    let deadline = clock::mono() + SOON;
    while of_files(stage, app) != *expected {
        if clock::mono() > deadline {
            assert_eq!(of_files(stage, app), *expected, "{}", app.name);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What is in files only, and what of a container's variables is in them with other words.
fn as_files(mut variables: BTreeMap<String, String>) -> BTreeMap<String, (u32, String)> {
    variables.insert("REMOTE_PORT_FOR_22".to_owned(), "30022".to_owned());
    let mode = |name: &str| if name.starts_with("REMOTE_PORT_") || name == "WEB_CLOUD" { 0o644 } else { 0o600 };
    variables.into_iter().map(|(name, value)| (name.clone(), (mode(&name), value))).collect()
}

/// Kills a container and waits until another one, or the same one anew, runs.
#[track_caller]
fn started_anew(stage: &Stage, name: &str) {
    let started = |stage: &Stage| -> Option<(Value, Value)> {
        let container = stage.docker.inspect(name)?;
        let state = &container["State"];
        (state["Running"] == true).then(|| (container["Id"].clone(), state["StartedAt"].clone()))
    };
    let before = started(stage).expect("it runs");
    stage.docker.run(&["kill", name]);
    wait_until(RECOVERY, &format!("{name} is started again"), || started(stage).filter(|now| *now != before));
}

#[test]
fn x1_apps_find_their_variables_and_credentials_which_outlive_a_start_of_the_agent_without_session() {
    let mut stage = Stage::prepare(Identity::generated());
    stage.has_compose(Flavour::Plugin);
    has_image(&stage, "prod_771_plain", "1.0.0", "demo");
    has_image(&stage, "prod_730_web", "1.0.0", "demo");
    stage.agent.restart();
    stage.online(0);
    let plain = with_ports(dressed(WantedApp::new(771, "plain")));
    let image = format!("127.0.0.1:{}/apps/prod_{}_730_web:1.0.0", stage.download.port(), reagent::release::ARCH);
    let web = json!({"image": image, "ports": ["8080:8080"], "environment": {"APP_AUTH_ID": "mine", "OWN": "yes"}});
    let comp = with_ports(dressed(WantedApp::new(772, "comp").compose(json!({"services": {"web": web}}))));
    stage.request(&plain, "RUNNING");
    stage.request(&comp, "RUNNING");

    let (of_plain, of_comp) = (expected(&stage, &plain), expected(&stage, &comp));
    let mut in_container = of_plain.clone();
    in_container.remove("BIG");
    assert_eq!(of_container(&stage, PLAIN), in_container);
    let mut in_service = of_comp.clone();
    in_service.insert("OWN".to_owned(), "yes".to_owned());
    assert_eq!(of_container(&stage, SERVICE), in_service);
    has_files(&stage, &plain, &as_files(of_plain));
    has_files(&stage, &comp, &as_files(of_comp.clone()));
    let seen = stage.docker.run(&["exec", SERVICE, "cat", "/data/env/ODD.txt"]);
    assert_eq!(seen, ODD, "as the service sees it");
    let compose = tree(&stage.agent.apps_dir().join("compose/comp"));
    assert_eq!(compose.keys().collect::<Vec<_>>(), [".env-compose", "docker-compose.json"]);
    assert!(compose.values().all(|(mode, _)| *mode == 0o600), "they hold the app's secret");
    let (_, text) = &compose[".env-compose"];
    let odd = r#"ODD="a b # c \$HOME 'q' \"d\" \\""#;
    assert!(text.as_deref().is_some_and(|text| text.lines().any(|line| line == odd)), "{text:?}");

    // The backend's list has neither epoch nor instance, and there is no session in which it could tell.
    stage.backend.platform(|platform| {
        platform.apps.iter_mut().for_each(|app| app.extra.clear());
    });
    let files = (of_files(&stage, &plain), of_files(&stage, &comp));
    stage.crossbar.go_down();
    stage.agent.kill9();
    let started = stage.agent.log().len();
    stage.agent.restart();
    wait_until(SOON, "the agent knows the engine", || {
        stage.agent.log()[started..].contains("container engine").then_some(())
    });
    for (name, expected) in [(PLAIN, &in_container), (SERVICE, &in_service)] {
        started_anew(&stage, name);
        let mut expected = expected.clone();
        // The key from which they are derived is in no file; neither is the address of the studio.
        for name in ["APP_AUTH_ID", "APP_AUTH_SECRET", "RESWARM_URL", "DEVICE_URL"] {
            expected.remove(name);
        }
        assert_eq!(of_container(&stage, name), expected, "{name}");
    }
    let kept = |files: &BTreeMap<String, (u32, String)>| {
        let mut files = files.clone();
        for name in ["RESWARM_URL", "DEVICE_URL"] {
            files.remove(name);
        }
        files
    };
    // Credentials of the right epoch stay.
    has_files(&stage, &plain, &kept(&files.0));
    has_files(&stage, &comp, &kept(&files.1));

    // Once there is a session the credentials are derived anew, with the epoch that the database kept.
    let mark = stage.backend.mark();
    stage.crossbar.come_back();
    stage.online(mark);
    let secret = |app: &WantedApp| of_files(&stage, app)["APP_AUTH_SECRET"].1.clone();
    assert_eq!(
        (secret(&plain), secret(&comp)),
        (files.0["APP_AUTH_SECRET"].1.clone(), of_comp["APP_AUTH_SECRET"].clone())
    );
}
