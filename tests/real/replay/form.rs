//! Frames without what differs from run to run, in lanes whose order means something.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Lines by lane.
pub type Lanes = BTreeMap<&'static str, Vec<String>>;

/// The line for some publications of a pull's progress.
const PROGRESS: &str = "PUBLISH log <progress>";

/// Whether it is a publication of a container's lines, which come whenever the container writes. They are not compared.
pub fn is_lines(message: &Value) -> bool {
    message[0] == 16 && message[4][0].as_str().is_some_and(|text| !text.starts_with('{'))
}

/// The frames of an agent, in order.
pub fn lanes<'a>(frames: impl Iterator<Item = &'a Value>) -> Lanes {
    let mut lanes = Lanes::new();
    for frame in frames {
        let Some((lane, line)) = line(frame) else { continue };
        let lane = lanes.entry(lane).or_default();
        // How progress is batched depends on the moment.
        if line != PROGRESS || lane.last() != Some(&line) {
            lane.push(line);
        }
    }
    if let Some(registrations) = lanes.get_mut("registrations") {
        registrations.sort();
    }
    lanes
}

fn line(frame: &Value) -> Option<(&'static str, String)> {
    if let Some(head) = frame["http"].as_array() {
        let text = |line: &Value| line.as_str().unwrap_or_default().to_owned();
        let name = |line: &str| line.split(':').next().unwrap_or_default().to_lowercase();
        let mut lines: Vec<String> = head
            .iter()
            .map(text)
            .map(|line| match name(&line).as_str() {
                name @ ("host" | "user-agent" | "sec-websocket-key") => format!("{name}: <text>"),
                _ => line,
            })
            .collect();
        lines[1..].sort();
        return Some(("session", format!("HTTP {}", lines.join(" | "))));
    }
    let uri = |at: usize| frame[at].as_str().unwrap_or_default().to_owned();
    let payload = |at: usize| {
        let parts = frame.as_array().into_iter().flatten().skip(at).map(|part| clean("", part).to_string());
        parts.collect::<Vec<_>>().join(" ")
    };
    Some(match frame[0].as_u64()? {
        1 => ("session", format!("HELLO {} {}", uri(1), clean("", &frame[2]))),
        5 => ("session", format!("AUTHENTICATE <signature> {}", frame[2])),
        6 => ("session", format!("GOODBYE {} {}", frame[1], uri(2))),
        8 => ("calls", format!("ERROR {}", payload(3))),
        16 if is_lines(frame) => return None,
        16 if frame[4][0].is_string() => ("log", PROGRESS.to_owned()),
        16 if uri(3).starts_with("reswarm.logs.") => ("log", format!("PUBLISH log {} {}", frame[2], payload(4))),
        16 => ("topics", format!("PUBLISH {} {} {}", frame[2], uri(3), payload(4)).trim_end().to_owned()),
        32 => ("registrations", format!("SUBSCRIBE {} {}", frame[2], uri(3))),
        // Asked for by the log hub, at its own pace.
        48 if uri(3) == "wamp.subscription.match" => ("listeners", format!("MATCH {}", payload(4))),
        48 => ("calls", format!("CALL {} {} {}", frame[2], uri(3), payload(4)).trim_end().to_owned()),
        64 => ("registrations", format!("REGISTER {} {}", frame[2], uri(3))),
        // What the lists have in them is another machine's; how they are made is the contract.
        70 if !is_empty(&frame[3]) => ("calls", format!("YIELD {} {}", frame[2], shape("", &frame[3]))),
        70 => ("calls", format!("YIELD {} {}", frame[2], payload(3)).trim_end().to_owned()),
        other => ("session", format!("{other} {}", payload(1))),
    })
}

/// A value without numbers of the moment; `.0` is harmless and goes.
fn clean(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("wamp_session_id" | "host_port", Value::Number(_)) => json!(format!("<{key}>")),
        ("os" | "agent_version", Value::String(_)) => json!("<text>"),
        ("chunk", Value::String(text)) if text != "LOGGER_CLEAR" => json!("<text>"),
        ("cpu_usage", Value::Number(number)) => json!(if number.is_f64() { "<fraction>" } else { "<integer>" }),
        ("stats", Value::Object(stats)) => {
            let kind = |(name, value): (&String, &Value)| {
                let value = if value.is_u64() { json!("<integer>") } else { clean(name, value) };
                (name.clone(), value)
            };
            Value::Object(stats.iter().map(kind).collect())
        }
        (_, Value::Object(map)) => {
            let cleaned: Map<String, Value> = map.iter().map(|(key, value)| (key.clone(), clean(key, value))).collect();
            Value::Object(cleaned)
        }
        (_, Value::Array(list)) => list.iter().map(|value| clean(key, value)).collect(),
        (_, Value::Number(number)) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            #[expect(clippy::cast_possible_truncation, reason = "a number of the recording that is whole")]
            let whole = number as i64;
            json!(whole)
        }
        _ => value.clone(),
    }
}

fn is_empty(args: &Value) -> bool {
    args.as_array().is_none_or(Vec::is_empty)
}

/// The names and kinds of what a value is made of; of a list what any of its elements has.
fn shape(key: &str, value: &Value) -> Value {
    let joined = |shapes: &mut dyn Iterator<Item = Value>| shapes.fold(Value::Null, merged);
    match value {
        Value::Null => Value::Null,
        Value::Bool(_) => json!("<bool>"),
        Value::Number(_) => json!("<number>"),
        Value::String(_) => json!("<text>"),
        Value::Array(list) => json!([joined(&mut list.iter().map(|item| shape("", item)))]),
        Value::Object(map) if ["Labels", "labels", "Networks"].contains(&key) => {
            json!({"<name>": joined(&mut map.values().map(|item| shape("", item)))})
        }
        Value::Object(map) => Value::Object(map.iter().map(|(key, item)| (key.clone(), shape(key, item))).collect()),
    }
}

fn merged(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            for (key, item) in other {
                let known = one.remove(&key).unwrap_or_default();
                one.insert(key, merged(known, item));
            }
            Value::Object(one)
        }
        (Value::Array(one), Value::Array(other)) => {
            json!([one.into_iter().chain(other).fold(Value::Null, merged)])
        }
        (Value::Null, other) => other,
        (one, _) => one,
    }
}

/// Both sides, with the lines that only one has marked.
pub fn diff(expected: &Lanes, ours: &Lanes) -> String {
    let mut text = String::new();
    for lane in expected.keys().chain(ours.keys()).collect::<std::collections::BTreeSet<_>>() {
        let (expected, ours) = (expected.get(lane), ours.get(lane));
        if expected == ours {
            continue;
        }
        let side = |lines: Option<&Vec<String>>, other: Option<&Vec<String>>| {
            let mark = |line: &String| if other.is_some_and(|other| other.contains(line)) { ' ' } else { '!' };
            let lines = lines.into_iter().flatten().map(|line| format!("  {} {line}\n", mark(line)));
            lines.collect::<String>()
        };
        let (expected, ours) = (side(expected, ours), side(ours, expected));
        text.push_str(&format!(" lane {lane}\n -recorded, with the differences\n{expected} +ours\n{ours}"));
    }
    text
}
