//! The event thread against prepared answers.

use super::*;
use crate::docker::http1::Fault;
use crate::docker::scripted::{Answer, LIMIT, Scripted, Seen, golden};

/// What leads to a subscription, with the stream itself last.
fn subscription(stream: Answer) -> Vec<Answer> {
    vec![Answer::Close(golden("ping-head")), Answer::Close(golden("version")), stream]
}

/// The head of the recorded stream, and the rest.
fn stream_parts() -> (Vec<u8>, Vec<u8>) {
    let mut head = golden("events");
    let end = head.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let rest = head.split_off(end);
    (head, rest)
}

struct Watch {
    engine: Scripted,
    events: Receiver<Event>,
    exits: Receiver<Exit>,
    handle: Handle,
}

fn watch(name: &str, answers: Vec<Answer>, room: usize) -> Watch {
    let engine = Scripted::new(name, answers);
    let (sink, events) = bounded(room);
    let (exit, exits) = bounded(1);
    let docker = Docker { pinned: None, ..engine.docker.clone() };
    let handle = spawn(&docker, sink, |event| event, move |end| exit.send(end).unwrap()).unwrap();
    Watch { engine, events, exits, handle }
}

impl Watch {
    fn next(&self) -> Event {
        self.events.recv_timeout(LIMIT).expect("an event")
    }

    fn up(&self) {
        let api_version = ApiVersion { major: 1, minor: 41 };
        assert_eq!(self.next(), Event::Up { api_version, server_version: "20.10.24+dfsg1".into() });
    }

    fn down(&self) -> Error {
        match self.next() {
            Event::Down { reason } => reason,
            other => panic!("not down but {other:?}"),
        }
    }

    fn container(&self) -> ContainerEvent {
        match self.next() {
            Event::Container(event) => event,
            other => panic!("no container's event but {other:?}"),
        }
    }

    fn stop(self) -> Scripted {
        assert!(self.handle.stop(), "the thread ends in time");
        assert_eq!(self.exits.recv_timeout(LIMIT), Ok(Exit::Done));
        self.engine
    }
}

#[test]
fn up_comes_once_the_subscription_stands_and_each_change_after_it() {
    let (head, rest) = stream_parts();
    let (feed, more) = unbounded();
    let watch = watch("events", subscription(Answer::Feed(Vec::new(), more)), 64);
    let asked: Vec<_> = (0..3).map(|_| watch.engine.request()).collect();
    assert!(asked[0].starts_with("HEAD /_ping ") && asked[1].starts_with("GET /v1.41/version "), "{asked:?}");
    assert!(asked[2].starts_with("GET /v1.41/events?since="), "{asked:?}");
    assert!(asked[2].contains("%22health_status%22") && asked[2].contains("%22type%22%3A%5B%22container%22%5D"));
    assert!(watch.events.is_empty(), "the head of the stream has not come yet");
    feed.send(head).unwrap();
    watch.up();
    rest.chunks(100).for_each(|part| feed.send(part.to_vec()).unwrap());
    drop(feed);
    let mut all = Vec::new();
    let reason = loop {
        match watch.next() {
            Event::Container(event) => all.push(event),
            Event::Down { reason } => break reason,
            up @ Event::Up { .. } => panic!("{up:?}"),
        }
    };
    assert!(matches!(reason, Error::Unreachable(_)), "{reason:?}");
    let died = all.iter().find(|event| event.action == "die" && event.name == "g_plain").unwrap();
    assert_eq!((died.exit_code, died.id.len(), died.attributes["real"].as_str()), (Some(3), 64, "True"));
    assert!(all.iter().all(|event| event.time_nano > 1_700_000_000_000_000_000));
    assert!(all.iter().any(|event| event.action == "destroy" && event.exit_code.is_none()));
    watch.stop();
}

#[test]
fn a_stream_that_ends_is_down_and_then_taken_up_again() {
    let (head, _) = stream_parts();
    let answers = [subscription(Answer::Close(head.clone())), subscription(Answer::Hold(head))];
    let watch = watch("again", answers.into_iter().flatten().collect(), 64);
    watch.up();
    assert_eq!(watch.down(), Error::Http(Fault::Truncated));
    watch.up();
    let engine = watch.stop();
    let seen: Vec<_> = std::iter::from_fn(|| engine.seen.recv_timeout(LIMIT).ok()).take(7).collect();
    assert_eq!(seen.last(), Some(&Seen::Gone), "no descriptor is left: the Engine sees the connection end");
}

#[test]
fn d1_a_daemon_that_is_absent_or_refuses_or_hangs_is_waited_for_and_then_up() {
    let (head, _) = stream_parts();
    let mut answers = vec![
        Answer::Close(Vec::new()),
        Answer::Close(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Answer::Close(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec()),
        Answer::Hold(Vec::new()),
    ];
    answers.extend(subscription(Answer::Hold(head)));
    let engine = Scripted::new("waiting", answers);
    let (sink, events) = bounded(8);
    let (_stop, stopped) = bounded(0);
    let cancel = Cancel::new();
    let docker = Docker { pinned: None, ..engine.docker.clone() };
    let docker = docker.within(Duration::from_millis(50)).cancelled_by(&cancel);
    let watcher = Watcher { docker, sink, wrap: |event| event, stopped, questions: Questions::default() };
    let thread = thread::spawn("docker-events", |_| {}, move || watcher.run()).unwrap();
    let event = events.recv_timeout(LIMIT).unwrap();
    assert!(matches!(event, Event::Up { .. }), "{event:?}");
    cancel.cancel();
    thread.join().unwrap();
}

#[test]
fn a_question_is_answered_while_the_engine_is_quiet_or_hangs_and_not_while_its_own_work_stands_still() {
    use crate::probe::Round;
    let (head, rest) = stream_parts();
    let (feed, more) = unbounded();
    let asked = |watch: &Watch| {
        let (probe, round) = Round::begin("docker-events");
        watch.handle.probe(probe);
        round
    };
    // It waits for an answer to its first question, which never comes.
    let hung = watch("hung", vec![Answer::Hold(Vec::new())], 1);
    hung.engine.request();
    assert!(asked(&hung).is_answered_within(LIMIT));
    hung.stop();
    let watch = watch("quiet", subscription(Answer::Feed(head, more)), 1);
    watch.up();
    assert!(asked(&watch).is_answered_within(LIMIT));
    feed.send(rest).unwrap();
    // One event is in the sink, and the thread holds the next one: there is no room.
    let stuck = std::iter::repeat_with(|| asked(&watch)).find_map(|mut round| {
        let answered = round.is_answered_within(Duration::from_millis(100));
        (!answered).then_some(round)
    });
    let mut stuck = stuck.unwrap();
    drop(feed);
    while !stuck.is_answered_within(Duration::ZERO) {
        watch.next();
    }
    watch.stop();
}

#[test]
fn stop_ends_it_while_it_waits_for_an_absent_daemon() {
    let watch = watch("absent", Vec::new(), 1);
    watch.stop();
}

#[test]
fn stop_ends_it_while_it_waits_for_an_answer() {
    let watch = watch("mute", vec![Answer::Hold(Vec::new())], 1);
    watch.engine.request();
    watch.stop().gone();
}

#[test]
fn stop_ends_it_while_nobody_takes_its_events() {
    let (head, rest) = stream_parts();
    let watch = watch("full", subscription(Answer::Hold([head, rest].concat())), 0);
    (0..3).for_each(|_| drop(watch.engine.request()));
    watch.stop();
}

#[test]
fn it_ends_by_itself_when_the_sink_is_gone() {
    let (head, rest) = stream_parts();
    let Watch { engine, events, exits, handle } = watch("nosink", subscription(Answer::Hold([head, rest].concat())), 1);
    drop(events);
    assert_eq!(exits.recv_timeout(LIMIT), Ok(Exit::Done));
    assert!(handle.stop());
    drop(engine);
}

#[test]
fn dropping_the_handle_ends_it_too() {
    let (head, _) = stream_parts();
    let Watch { exits, handle, engine, .. } = watch("drop", subscription(Answer::Hold(head)), 8);
    drop(handle);
    assert_eq!(exits.recv_timeout(LIMIT), Ok(Exit::Done));
    drop(engine);
}

#[test]
fn a_record_that_is_none_is_passed_over() {
    let (head, rest) = stream_parts();
    let body = String::from_utf8(rest).unwrap();
    let good = body.lines().find(|line| line.contains("\"die\"")).unwrap();
    let plain = String::from_utf8(head).unwrap().replace("Transfer-Encoding: chunked\r\n", "");
    let stream = format!("{plain}nonsense\n[]\n{{\"Action\":\"x\"}}\n\n{good}\n");
    let watch = watch("odd", subscription(Answer::Close(stream.into_bytes())), 8);
    watch.up();
    assert_eq!(watch.container().action, "die");
    watch.down();
    watch.stop();
}

#[test]
fn attributes_may_be_absent() {
    let event = parse(r#"{"Action":"start","Actor":{"ID":"1","Attributes":null}}"#).unwrap();
    assert_eq!((event.name.as_str(), event.time_nano, event.attributes.len()), ("", 0, 0));
}
