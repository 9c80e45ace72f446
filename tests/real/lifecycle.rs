//! One app from its installation to its end, against Crossbar, Docker and the registry.

use super::stage::{SOON, Stage, page_says, with_ports};
use super::tap::{Frame, transcript};
use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The app that the tests of this module install.
pub fn demo() -> WantedApp {
    with_ports(recorded_demo())
}

/// The same as in the recordings, where the agent chooses the host ports.
pub fn recorded_demo() -> WantedApp {
    WantedApp::new(501, "demo").env("GREETING", "hello").env("MULTI", "a\nb").port(8080, "http").port(53, "udp")
}

/// The states of an app in the reports after `mark`, in order.
pub fn reports_after(stage: &Stage, mark: usize, app: &WantedApp) -> Vec<String> {
    let calls = stage.backend.calls();
    let of = calls[mark..].iter().filter(|call| call.argument()["app_key"] == app.app_key);
    of.filter_map(|call| call.argument()["state"].as_str().map(str::to_owned)).collect()
}

#[test]
fn an_app_is_installed_stopped_started_updated_removed_and_uninstalled_with_its_reports_in_order() {
    let mut stage = Stage::prepare(Identity::generated());
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.push(&app, "2.0.0", "demo");
    let lines = stage.backend.subscribe_logs(&app.container());
    stage.agent.restart();
    stage.online(0);
    assert_eq!(stage.backend.statuses(), ["CONFIGURING", "CONNECTED"]);

    let goes = |app: &WantedApp, end: &str, expected: &[&str]| {
        let mark = stage.backend.mark();
        stage.backend.request_app_state(app).expect("the agent takes the request");
        stage.backend.wait_for(SOON, &format!("{expected:?}"), |calls| {
            let of = calls[mark..].iter().filter(|call| call.argument()["app_key"] == app.app_key);
            let states: Vec<&str> = of.filter_map(|call| call.argument()["state"].as_str()).collect();
            (states.len() >= expected.len() && states.last() == Some(&end)).then_some(())
        });
        assert_eq!(reports_after(&stage, mark, app), expected);
    };
    goes(&app, "RUNNING", &["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"]);
    let port = stage.host_port(&app, 8080);
    page_says(port, "/", "demo 1.0.0");
    page_says(port, "/env", "GREETING=hello");
    hears(&lines, "demo 1.0.0 line 2");
    let first = stage.container(&app)["Id"].clone();

    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().target("PRESENT"), "PRESENT", &["STOPPING", "STOPPING", "PRESENT"]);
    assert_eq!(stage.docker.names(&app.container()), Vec::<String>::new());
    goes(&app.clone().target("RUNNING").current("PRESENT"), "RUNNING", &["STARTING", "RUNNING"]);
    assert_ne!(stage.container(&app)["Id"], first, "a stop removes the container");
    assert_eq!(stage.host_port(&app, 8080), port, "the app keeps its port over a stop");
    page_says(port, "/", "demo 1.0.0");

    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().update_to("2.0.0", 101), "RUNNING", &["UPDATING", "PRESENT", "STARTING", "RUNNING"]);
    page_says(port, "/", "demo 2.0.0");
    let image = stage.container(&app)["Config"]["Image"].clone();
    assert_eq!(image, stage.reference(&app, "2.0.0"));
    wait_until(SOON, "the old image goes", || {
        stage.docker.run(&["images", "-q", &stage.reference(&app, "1.0.0")]).is_empty().then_some(())
    });
    assert_eq!(stage.backend.known(501, "PROD").present_version, "2.0.0");
    hears(&lines, "demo 2.0.0 line 2");

    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().target("REMOVED"), "REMOVED", &["DELETING", "REMOVED"]);
    assert_eq!(stage.docker.run(&["images", "-q"]), "", "a removal takes the image along");
    let data = stage.agent.apps_dir().join("prod/demo");
    assert!(data.is_dir(), "a removal leaves the data");
    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().target("RUNNING"), "RUNNING", &["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"]);
    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().target("UNINSTALLED"), "UNINSTALLED", &["DELETING", "REMOVED", "UNINSTALLED"]);
    wait_until(SOON, "the data goes", || (!data.exists()).then_some(()));
    assert_eq!(stage.docker.names(""), Vec::<String>::new());
    assert_eq!(stage.docker.run(&["images", "-q"]), "");
    stage.tap.wait_for(SOON, 0, "a request was answered", |frame: &Frame| {
        frame.is(super::relay::Side::Client, 70).then_some(())
    });
    assert!(!transcript(&stage.tap.frames()).contains("fake-device-secret"));
}

fn hears(lines: &crossbeam_channel::Receiver<crate::cloud::peer::Payload>, wanted: &str) {
    wait_until(SOON, &format!("a subscriber hears {wanted:?}"), || {
        lines.try_iter().any(|event| event.args.iter().any(|arg| arg.to_string().contains(wanted))).then_some(())
    });
}

#[test]
fn the_container_and_the_files_of_an_app_are_as_recorded() {
    let stage = Stage::start();
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.request(&app, "RUNNING");
    let (web, dns) = (stage.host_port(&app, 8080), stage.host_port(&app, 53));
    let container = stage.container(&app);
    let recorded = recorded_machine("04-install-plain-app.jsonl", "container /prod_501_demo");

    // Names of variables, and the values of those that do not depend on the machine.
    let env = |list: &Value| -> BTreeMap<String, String> {
        let pairs = list.as_array().unwrap().iter().map(|pair| pair.as_str().unwrap().split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let (ours, theirs) = (env(&container["Config"]["Env"]), env(&recorded["Env"]));
    let image_own = ["VERSION", "PATH"];
    let names = |of: &BTreeMap<String, String>| -> Vec<String> {
        of.keys().filter(|name| !image_own.contains(&name.as_str())).cloned().collect()
    };
    assert_eq!(names(&ours), names(&theirs));
    for name in [
        "APP_KEY",
        "APP_NAME",
        "DEVICE_KEY",
        "DEVICE_NAME",
        "DEVICE_URL",
        "ENV",
        "GREETING",
        "MULTI",
        "RESWARM_URL",
        "SWARM_KEY",
        "TUNNEL_DOMAIN",
    ] {
        assert_eq!(ours[name], theirs[name], "{name}");
    }
    assert_eq!(ours["DEVICE_PORT_FOR_8080"], web.to_string());
    assert_eq!(ours["DEVICE_PORT_FOR_53"], dns.to_string());
    assert_eq!(ours["DEVICE_SERIAL_NUMBER"], stage.backend.identity.serial);
    assert!(ours["DEVICE_ENDPOINT_URL"].starts_with("ws://host.docker.internal:"), "{}", ours["DEVICE_ENDPOINT_URL"]);
    assert!(ours["APP_AUTH_ID"] == format!("app-501-prod-e1@{}", stage.backend.identity.serial));
    assert!(!container.to_string().contains("fake-device-secret"), "X1: the device's secret is in no container");

    let (host, theirs) = (&container["HostConfig"], &recorded["HostConfig"]);
    for field in [
        "NetworkMode",
        "RestartPolicy",
        "CapAdd",
        "ExtraHosts",
        "IpcMode",
        "Privileged",
        "SecurityOpt",
        "ShmSize",
        "ConsoleSize",
        "Devices",
    ] {
        assert_eq!(host[field], theirs[field], "HostConfig.{field}");
    }
    assert_eq!(
        host["PortBindings"],
        json!({
            "53/udp": [{"HostIp": "0.0.0.0", "HostPort": dns.to_string()}],
            "8080/tcp": [{"HostIp": "0.0.0.0", "HostPort": web.to_string()}],
        })
    );
    let apps = stage.agent.apps_dir();
    let mount = |source: &str, target: &str| json!({"Type": "bind", "Source": apps.join(source).to_string_lossy(), "Target": target});
    assert_eq!(host["Mounts"], json!([mount("shared", "/shared"), mount("prod/demo", "/data")]));
    assert_eq!(container["Config"]["Tty"], recorded["Tty"]);
    assert_eq!(container["Config"]["Labels"]["real"], "True");

    // The files, with the modes of chapter 1.10 in place of the recorded ones.
    let recorded = recorded_machine("04-install-plain-app.jsonl", "apps folder");
    let theirs: Vec<&str> = recorded.as_object().unwrap().keys().map(String::as_str).collect();
    let mut ours = tree(&apps);
    // Which variables the agent has written, so that it can delete those that go (chapter 4.8).
    assert_eq!(ours.remove("prod/demo/env/.names"), Some(0o600));
    assert_eq!(ours.keys().map(String::as_str).collect::<Vec<_>>(), theirs);
    for (path, mode) in &ours {
        let expected = match path.as_str() {
            "prod/demo/env/" => 0o700,
            folder if folder.ends_with('/') => 0o755,
            _ => 0o600,
        };
        assert_eq!(*mode, expected, "mode {mode:o} of {path}");
    }
    let of_container = env(&container["Config"]["Env"]);
    for file in ours.keys().filter_map(|path| path.strip_prefix("prod/demo/env/")).filter(|name| !name.is_empty()) {
        let text = std::fs::read_to_string(apps.join("prod/demo/env").join(file)).unwrap();
        assert_eq!(of_container.get(file.trim_end_matches(".txt")), Some(&text), "{file}");
    }
}

/// Everything below a folder, with `/` after the names of folders, and its modes.
fn tree(root: &Path) -> BTreeMap<String, u32> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let meta = entry.metadata().unwrap();
            let mut name = entry.path().strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if meta.is_dir() {
                name.push('/');
                folders.push(entry.path());
            }
            found.insert(name, meta.permissions().mode() & 0o7777);
        }
    }
    found
}

/// The value under a key of a recorded `machine` line.
pub fn recorded_machine(scene: &str, key: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recorded").join(scene);
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut found = lines.filter_map(|line| line["machine"].get(key).cloned());
    found.next().unwrap_or_else(|| panic!("{scene} has no machine line for {key}"))
}
