//! What the recordings say of the machine: a container as `docker inspect` shows it, and the files below `-appsDir`. Ours are
//! brought into the form of the recorded ones; what is ours on purpose is in [`mode`] and [`files_differ`].

use super::stage::Stage;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What an image brings along, and what depends on the version of compose.
const OF_IMAGE: [&str; 2] = ["PATH=", "VERSION="];
const LABELS_OF_IMAGE: [&str; 2] = ["v", "reagent-test"];
const OF_COMPOSE: [&str; 3] = ["config-hash", "image", "version"];
/// What the daemon of the recorded machine was configured with, and what its kernel asks for.
const OF_DAEMON: [&str; 3] = ["LogConfig", "CgroupnsMode", "Runtime"];

/// How a container (`docker inspect`) differs from a recorded one. `ports`: host ports of the recorded one, and ours.
pub fn container_differs(stage: &Stage, ours: &Value, recorded: &Value, ports: &[(u16, u16)]) -> Option<String> {
    let of_host = |(name, value): (&String, &Value)| (!is_empty(value)).then(|| (name.clone(), value.clone()));
    let host: Map<String, Value> = ours["HostConfig"].as_object()?.iter().filter_map(of_host).collect();
    let networks: Vec<&String> = ours["NetworkSettings"]["Networks"].as_object()?.keys().collect();
    let config = &ours["Config"];
    let ours = json!({
        "Name": ours["Name"], "Image": config["Image"], "Env": config["Env"], "Labels": config["Labels"],
        "Tty": config["Tty"], "HostConfig": host, "Mounts": ours["Mounts"], "Networks": networks,
    });
    let ours = as_recorded(stage, &ours.to_string(), ports);
    assert!(!ours.contains("fake-device-secret"), "X1: the device's secret is in no container");
    let ours: Value = serde_json::from_str(&ours).expect("it was JSON before");
    differs(&cleaned(recorded.clone()), &cleaned(ours))
}

/// How the files below `-appsDir`, or below a folder in it, differ from recorded ones.
pub fn files_differ(
    stage: &Stage,
    below: &str,
    recorded: &Value,
    left_out: &str,
    ports: &[(u16, u16)],
) -> Option<String> {
    let recorded = recorded.as_object()?.iter().filter(|(path, _)| !path.starts_with(left_out));
    let recorded = recorded.map(|(path, file)| {
        let bits = file["mode"].as_str().and_then(|mode| u32::from_str_radix(mode.trim_start_matches("0o"), 8).ok());
        (path.clone(), shown(path, mode(path, bits.unwrap_or_default()), file["text"].as_str()))
    });
    let recorded: Map<String, Value> = recorded.collect();
    let ours = tree(&stage.agent.apps_dir().join(below)).into_iter().map(|(path, (mode, text))| {
        let text = text.map(|text| as_recorded(stage, &text, ports));
        let known = recorded.get(&path).is_some_and(|file| !file["text"].is_null());
        (path.clone(), shown(&path, mode, text.as_deref().filter(|_| known)))
    });
    let mut ours: Map<String, Value> = ours.collect();
    // Which variables the agent has written, so that it can delete those that go (chapter 4.8, Improve).
    let manifests: Vec<String> = ours.keys().filter(|path| path.ends_with("/env/.names")).cloned().collect();
    for path in manifests {
        assert_eq!(ours.remove(&path).expect("it is there")["mode"], "0600", "{path}");
    }
    differs(&Value::Object(recorded), &Value::Object(ours))
}

/// The mode that ours has where the recorded one was `bits` (chapter 1.10, Improve): an app that does not run as root gets
/// into its directory, and what holds its secrets is for the owner alone.
fn mode(path: &str, bits: u32) -> u32 {
    match bits {
        0o700 if path.ends_with('/') && !path.ends_with("/env/") => 0o755,
        0o755 if path.ends_with("/.env-compose") || path.ends_with("/docker-compose.json") => 0o600,
        same => same,
    }
}

/// Mode and content; the order of lines and members means nothing in what compose reads.
fn shown(path: &str, mode: u32, text: Option<&str>) -> Value {
    let text = text.map(|text| match path {
        _ if path.ends_with("/DEVICE_LAN_IP.txt") => json!("<address>"),
        _ if path.ends_with("/.env-compose") => lines(text.lines().map(str::to_owned)),
        _ if path.ends_with(".json") => serde_json::from_str(text).expect("a definition is JSON"),
        _ => json!(text),
    });
    json!({"mode": format!("{mode:04o}"), "text": text})
}

/// Paths, ports and addresses of this machine as those of the recorded one.
fn as_recorded(stage: &Stage, text: &str, ports: &[(u16, u16)]) -> String {
    let root = stage.docker.run(&["info", "--format", "{{.DockerRootDir}}"]);
    let mut text = text
        .replace(&*stage.agent.apps_dir().to_string_lossy(), "<DIR>/apps")
        .replace(&root, "/var/lib/docker")
        .replace(&format!("127.0.0.1:{}", stage.download.port()), "127.0.0.1:5000")
        .replace(&format!("internal:{}", stage.tap.relay.port()), "internal:<PORT>");
    for (recorded, ours) in ports {
        text = text.replace(&ours.to_string(), &recorded.to_string());
    }
    text
}

fn cleaned(mut container: Value) -> Value {
    let env: Vec<String> = serde_json::from_value(container["Env"].take()).expect("a list of texts");
    let env = env.into_iter().filter(|line| !OF_IMAGE.iter().any(|name| line.starts_with(name)));
    container["Env"] = lines(env);
    if let Value::Object(labels) = &mut container["Labels"] {
        labels.retain(|name, _| !LABELS_OF_IMAGE.contains(&name.as_str()));
        for name in OF_COMPOSE {
            labels.entry(format!("com.docker.compose.{name}")).and_modify(|value| *value = json!("<text>"));
        }
    }
    if let Value::Object(host) = &mut container["HostConfig"] {
        host.retain(|name, _| !OF_DAEMON.contains(&name.as_str()));
    }
    if let Value::Array(mounts) = &mut container["Mounts"] {
        mounts.sort_by_key(|mount| mount["Destination"].to_string());
    }
    container
}

/// Variables in the order of their names, without the address of the machine.
fn lines(lines: impl Iterator<Item = String>) -> Value {
    let address = "DEVICE_LAN_IP=";
    let mut lines: Vec<String> =
        lines.map(|line| if line.starts_with(address) { format!("{address}<address>") } else { line }).collect();
    lines.sort();
    json!(lines)
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// The lines that only one of them has.
fn differs(recorded: &Value, ours: &Value) -> Option<String> {
    if recorded == ours {
        return None;
    }
    let (recorded, ours) = (format!("{recorded:#}"), format!("{ours:#}"));
    let only = |sign: char, lines: &str, other: &str| {
        let known: Vec<&str> = other.lines().collect();
        let lines = lines.lines().filter(|line| !known.contains(line)).map(|line| format!(" {sign}{line}\n"));
        lines.collect::<String>()
    };
    Some(only('-', &recorded, &ours) + &only('+', &ours, &recorded))
}

/// Everything below a folder, with `/` after the names of folders: modes, and what is in small files.
pub fn tree(root: &Path) -> BTreeMap<String, (u32, Option<String>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().map_while(Result::ok) {
            let Ok(meta) = entry.metadata() else { continue };
            let mut name = entry.path().strip_prefix(root).expect("it is below").to_string_lossy().into_owned();
            let mut text = None;
            if meta.is_dir() {
                name.push('/');
                folders.push(entry.path());
            } else if meta.len() < 64 * 1024 {
                text = std::fs::read_to_string(entry.path()).ok();
            }
            found.insert(name, (meta.permissions().mode() & 0o7777, text));
        }
    }
    found
}
