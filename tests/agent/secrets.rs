//! Where secrets must not be (X1; `storage-and-logs.md` 5), and the form of the agent's own log.

use super::{Device, LIMIT, app};
use reagent::domain::app::{AppKey, Stage};
use reagent::domain::credential;
use reagent::secret::Secret;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// All files below a folder with their content.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path() {
            path if path.is_dir() => found.extend(files(&path)),
            path => found.push((path.display().to_string(), fs::read(&path).unwrap_or_default())),
        }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// A device after a full day: install, denied and odd calls, a failing start, stop, update, reconnect.
#[track_caller]
fn after_a_full_run() -> Device {
    let mut device = Device::prepare();
    device.agent.options.flags.push("-debugMessaging".to_owned());
    device.connect();
    let app = app(501, "demo").env("PASSWORD", "value-of-an-environment").env("BAD NAME", "value-of-a-bad-name");
    device.install(&app);
    let user = device.cloud.user("42").unwrap();
    device.cloud.backend.deny("READ");
    let denied = device.cloud.backend.identity.uri("list_containers");
    assert!(user.call(&denied, vec![json!("argument-of-a-user")], serde_json::Map::new(), LIMIT).is_err());
    device.target(&app, "PRESENT");
    device.target(&app, "RUNNING");
    device.request(&super::app(502, "absent").env("PASSWORD", "value-of-an-environment"), "FAILED");
    let mark = device.cloud.backend.mark();
    device.cloud.router.cut(&device.authid());
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    device
}

#[test]
fn x1_no_secret_is_in_the_log_or_on_the_consoles_and_the_log_is_private_json_lines() {
    let mut device = after_a_full_run();
    device.agent.terminate(LIMIT);
    let log = device.agent.log();
    for line in log.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for key in ["level", "time", "message"] {
            assert!(record[key].is_string(), "{key}: {line}");
        }
        let time = record["time"].as_str().unwrap();
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    }
    let path = device.agent.folder.join("reagent.log");
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let identity = &device.cloud.backend.identity;
    let key = Secret::new("dGVzdC1rZXktZm9yLXZlY3Rvcg==");
    let app = AppKey { key: 501, stage: Stage::Prod };
    let credential = credential::derive(Some(&key), &identity.serial, app, 1).expect("there is a key");
    let written = format!("{log}\n{}", device.agent.output().join("\n"));
    for secret in [
        identity.secret.as_str(),
        "registry-token",
        key.reveal(),
        credential.secret.reveal(),
        "value-of-an-environment",
        "value-of-a-bad-name",
        "fake-wifi-password",
        "FAKE KEY",
    ] {
        let line = written.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    assert!(log.contains("501"), "it was a full run");
}

#[test]
fn x1_no_container_and_no_file_of_an_app_holds_the_devices_secret() {
    let device = after_a_full_run();
    let secret = device.cloud.backend.identity.secret.clone();
    let spec = device.engine.created_with("prod_501_demo").unwrap().to_string();
    assert!(!spec.contains(&secret), "{spec}");
    for other in ["dGVzdC1rZXktZm9yLXZlY3Rvcg==", "registry-token", "fake-wifi-password"] {
        assert!(!spec.contains(other), "{other}: {spec}");
    }
    let found = files(&device.agent.apps_dir());
    assert!(!found.is_empty(), "the app has its files");
    for (name, content) in &found {
        assert!(!holds(content, &secret), "{name}");
    }
    // In the agent's own folder the copy of the device file alone has it, and nobody else may read that.
    for (name, content) in files(&device.agent.agent_dir()) {
        if holds(&content, &secret) {
            assert!(name.ends_with("device-config.copy"), "{name}");
        }
        let mode = fs::metadata(&name).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
    }
    // It goes to the engine in one place: the login of a pull.
    let with_secret: Vec<String> = device
        .engine
        .requests()
        .into_iter()
        .filter(|asked| holds(&asked.body, &secret) || asked.query.values().any(|value| value.contains(&secret)))
        .map(|asked| asked.path)
        .collect();
    assert_eq!(with_secret, Vec::<String>::new());
}

#[test]
fn x1_files_that_older_agents_left_with_the_secret_go() {
    let mut device = Device::prepare();
    let folder = device.agent.apps_dir().join("prod/demo");
    fs::create_dir_all(&folder).unwrap();
    device.connect();
    device.install(&app(501, "demo"));
    let names: Vec<String> = files(&folder).into_iter().map(|(name, _)| name).collect();
    for name in ["APP_AUTH_ID.txt", "APP_AUTH_SECRET.txt"] {
        assert!(names.iter().any(|known| known.ends_with(name)), "{names:?}");
    }
    let secret = names.iter().find(|name| name.ends_with("APP_AUTH_SECRET.txt")).unwrap();
    let text = fs::read_to_string(secret).unwrap();
    assert!(!text.is_empty() && text != device.cloud.backend.identity.secret);
}
