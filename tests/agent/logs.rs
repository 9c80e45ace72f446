//! App logs (`storage-and-logs.md` 3, 4.1): who gets which lines, and the history.

use super::{Device, LIMIT, app};
use crate::cloud::router::Traffic;
use crate::util::wait_until;
use crossbeam_channel::Receiver;
use serde_json::{Value, json};

const CONTAINER: &str = "prod_501_demo";

/// Device with a running app.
#[track_caller]
fn running() -> Device {
    let device = Device::online();
    device.install(&app(501, "demo"));
    device
}

#[track_caller]
fn history(device: &Device) -> Vec<String> {
    let answer = device.call("get_app_log_history", vec![json!({"containerName": CONTAINER})]).unwrap();
    assert_eq!(answer.args.len(), 1);
    serde_json::from_value(answer.args[0].clone()).expect("a flat list of strings")
}

/// Waits until a line has been read: it is in the history.
#[track_caller]
fn read(device: &Device, line: &str) {
    wait_until(LIMIT, line, || history(device).iter().any(|known| known == line).then_some(()));
}

/// What was published to the app's log topic: strings are container lines, dicts are the agent's.
fn published(device: &Device, traffic: &Receiver<Traffic>) -> Vec<Value> {
    let topic = device.cloud.backend.identity.log_topic(CONTAINER);
    let of_topic = traffic.try_iter().filter_map(|passed| match passed {
        Traffic::FromPeer(_, message) if message[0] == 16 && message[3] == topic.as_str() => Some(message),
        _ => None,
    });
    of_topic
        .map(|message| {
            assert_eq!((&message[2], message.as_array().unwrap().len()), (&json!({}), 5), "one argument, no options");
            assert_eq!(message[4].as_array().unwrap().len(), 1, "{message}");
            message[4][0].clone()
        })
        .collect()
}

/// Collects container lines until the last one is there.
#[track_caller]
fn lines_until(events: &Receiver<crate::cloud::peer::Payload>, last: &str) -> (usize, Vec<String>) {
    let (mut messages, mut lines) = (0, Vec::new());
    while lines.last().map(String::as_str) != Some(last) {
        let event = events.recv_timeout(LIMIT).unwrap_or_else(|_| panic!("{last} did not arrive but {lines:?}"));
        if let Some(text) = event.args[0].as_str() {
            assert!(!text.ends_with('\n'), "{text:?}");
            messages += 1;
            lines.extend(text.split('\n').map(str::to_owned));
        }
    }
    (messages, lines)
}

#[test]
fn lines_reach_a_subscriber_batched_whole_and_in_order() {
    let device = running();
    let events = device.cloud.backend.subscribe_logs(CONTAINER);
    read_after_subscribing(&device, &events);
    let expected: Vec<String> = (0..200).map(|n| format!("line {n}")).collect();
    expected.iter().for_each(|line| device.engine.write_log(CONTAINER, 1, line));
    let (messages, lines) = lines_until(&events, "line 199");
    assert_eq!(lines, expected);
    assert!(messages <= 100, "{messages} messages for 200 lines");
}

/// The subscription has been noticed: a probe line arrives.
#[track_caller]
fn read_after_subscribing(device: &Device, events: &Receiver<crate::cloud::peer::Payload>) {
    for probe in 0.. {
        let line = format!("probe {probe}");
        device.engine.write_log(CONTAINER, 1, &line);
        read(device, &line);
        let arrived =
            |event: crate::cloud::peer::Payload| event.args[0].as_str().is_some_and(|text| text.ends_with(&line));
        if events.recv_timeout(std::time::Duration::from_millis(500)).is_ok_and(arrived) {
            return;
        }
        assert!(probe < 40, "no line arrives");
    }
}

#[test]
fn without_a_subscriber_only_the_agents_own_lines_are_published() {
    let device = running();
    let traffic = device.cloud.router.tap();
    device.engine.write_log(CONTAINER, 1, "nobody listens");
    read(&device, "nobody listens");
    device.target(&app(501, "demo"), "PRESENT");
    // The agent's lines on the same topic come after what the flush would have sent.
    let stopped = wait_until(LIMIT, "the agent's own lines", || {
        let published = published(&device, &traffic);
        (!published.is_empty()).then_some(published)
    });
    for line in stopped {
        assert_eq!((&line["type"], line["chunk"].is_string()), (&json!("build"), true), "{line}");
    }
}

#[test]
fn d4_a_prefix_subscriber_gets_the_lines_and_the_last_to_leave_ends_them() {
    let device = running();
    let user = device.cloud.user("42").unwrap();
    let (prefix, all) = user.subscribe("reswarm.logs.", "prefix").unwrap();
    read_after_subscribing(&device, &all);
    let exact = device.cloud.backend.subscribe_logs(CONTAINER);
    device.engine.write_log(CONTAINER, 1, "for both");
    lines_until(&exact, "for both");
    lines_until(&all, "for both");
    device.cloud.backend.unsubscribe_logs(CONTAINER);
    device.engine.write_log(CONTAINER, 1, "for one");
    lines_until(&all, "for one");
    let traffic = device.cloud.router.tap();
    user.unsubscribe(prefix).unwrap();
    // The agent hears of it by an event, which this call follows on the same connection.
    device.call("device_handshake", vec![]).unwrap();
    device.engine.write_log(CONTAINER, 1, "for nobody");
    read(&device, "for nobody");
    device.target(&app(501, "demo"), "PRESENT");
    let published = published(&device, &traffic);
    assert!(published.iter().all(Value::is_object), "{published:?}");
}

#[test]
fn a_subscriber_who_was_there_before_the_app_gets_its_first_lines() {
    use crate::util::docker_daemon::Behaviour;
    let device = Device::online();
    let app = app(501, "demo");
    let user = device.cloud.user("42").unwrap();
    let (_, events) = user.subscribe(&device.cloud.backend.identity.log_topic(CONTAINER), "exact").unwrap();
    let log = vec!["first".to_owned(), "second".to_owned()];
    device.engine.behave(&Device::image(&app, "1.0.0"), Behaviour { log, ..Behaviour::default() });
    device.install(&app);
    let (_, lines) = lines_until(&events, "second");
    let own: Vec<&String> = lines.iter().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(own, ["first", "second"], "and the pull's progress: {lines:?}");
    assert!(lines.iter().any(|line| line.contains("\"status\":\"Pulling from")), "{lines:?}");
}

#[test]
fn a_pull_clears_the_view_first() {
    let device = Device::online();
    let traffic = device.cloud.router.tap();
    device.offer(&app(501, "demo"));
    device.request(&app(501, "demo").target("PRESENT"), "PRESENT");
    // Log lines and reports travel on lanes of their own: the last line may come after the report.
    let mut chunks: Vec<Value> = Vec::new();
    wait_until(LIMIT, "the line that says it is installed", || {
        chunks.extend(published(&device, &traffic).iter().map(|line| line["chunk"].clone()));
        chunks.iter().any(|chunk| chunk.as_str().is_some_and(|text| text.contains("installed"))).then_some(())
    });
    assert_eq!(chunks[0], "LOGGER_CLEAR", "{chunks:?}");
    assert!(chunks.len() >= 3 && chunks[1..].iter().all(|chunk| chunk != "LOGGER_CLEAR"), "{chunks:?}");
    assert!(!history(&device).contains(&"LOGGER_CLEAR".to_owned()), "it is not stored");
}

#[test]
fn the_history_has_100_lines_oldest_first_and_survives_a_restart() {
    let mut device = running();
    for n in 0..150 {
        device.engine.write_log(CONTAINER, 1, &format!("line {n}"));
    }
    read(&device, "line 149");
    let before = history(&device);
    assert_eq!((before.len(), before.first().map(String::as_str)), (100, Some("line 50")));
    device.agent.terminate(LIMIT);
    device.connect();
    device.engine.write_log(CONTAINER, 1, "after the restart");
    read(&device, "after the restart");
    let after = history(&device);
    let mut unique = after.clone();
    unique.dedup();
    assert_eq!(after, unique, "nothing is there twice");
    assert_eq!(after.last().map(String::as_str), Some("after the restart"));
    assert_eq!(after.iter().filter(|line| *line == "line 149").count(), 1);
    assert_eq!(after.len(), 100, "{after:?}");
}

#[test]
fn d4_a_container_that_is_started_by_somebody_else_is_followed_without_doubles() {
    let device = running();
    let events = device.cloud.backend.subscribe_logs(CONTAINER);
    read_after_subscribing(&device, &events);
    device.engine.write_log(CONTAINER, 1, "before");
    lines_until(&events, "before");
    let mark = device.cloud.backend.mark();
    device.engine.exit_container(CONTAINER, 0);
    device.cloud.backend.wait_for_state(LIMIT, mark, 501, "RUNNING");
    device.engine.write_log(CONTAINER, 1, "after");
    let (_, lines) = lines_until(&events, "after");
    assert_eq!(lines, ["after"]);
}

#[test]
fn bytes_that_are_no_text_and_long_lines_pass() {
    let device = running();
    let events = device.cloud.backend.subscribe_logs(CONTAINER);
    read_after_subscribing(&device, &events);
    let long = "y".repeat(200_000);
    device.engine.write_log(CONTAINER, 1, "\u{1b}[31mred\u{1b}[0m \u{7} ünï");
    device.engine.write_log(CONTAINER, 1, &long);
    device.engine.write_log(CONTAINER, 1, "end");
    let (_, lines) = lines_until(&events, "end");
    assert_eq!(lines[0], "\u{1b}[31mred\u{1b}[0m \u{7} ünï");
    assert_eq!(lines[1].len(), 200_000);
}
