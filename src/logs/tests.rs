//! The hub with its threads: streams that block, floods, a state thread that does not listen, and the Engine's wire.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};
use serde_json::json;

use super::source::{Heard, Lines, OpenError, Source, Start};
use super::*;
use crate::cancel::Cancel;
use crate::clock::{self, Wall};
use crate::docker::{Address, ApiVersion, Docker};
use crate::probe::Round;
use crate::thread::{self, Exit};

mod feed;

const LIMIT: Duration = Duration::from_secs(120);

/// A hub with everything it talks to. Stopped when it is dropped.
struct Bench {
    handle: Handle,
    published: Receiver<Publication>,
    events: Receiver<Event>,
    exit: Receiver<Exit>,
    /// The token of the next question.
    token: Cell<u64>,
}

/// In a session. The state thread's inbox takes `room` events.
fn bench(room: usize, source: Source) -> Bench {
    let (publications, published) = unbounded();
    let (inbox, events) = bounded(room);
    let (exits, exit) = bounded(1);
    let publish = move |publication| {
        if let Some(publication) = publication {
            publications.send(publication).unwrap_or_default();
        }
        Outflow::FREE
    };
    let handle =
        spawn("serial", source, publish, inbox, |event| event, move |exit| exits.send(exit).unwrap_or_default());
    let handle = handle.unwrap();
    handle.send(LogCommand::Session { up: true });
    Bench { handle, published, events, exit, token: Cell::new(1000) }
}

impl Bench {
    fn follow(&self, container: &str) {
        self.handle.send(LogCommand::Follow { container: container.to_owned(), project: None });
    }

    fn unfollow(&self, container: &str) {
        self.handle.send(LogCommand::Unfollow { container: container.to_owned() });
    }

    /// A viewer subscribes.
    fn watch(&self, container: &str) {
        let uri = format!("reswarm.logs.serial.{container}");
        let id: u64 = container.bytes().map(u64::from).sum();
        self.handle.send(LogCommand::SubscriptionCreated { args: vec![json!(1), json!({"id": id, "uri": uri})] });
    }

    /// The next event that `wanted` makes something of.
    fn event<T>(&self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let mut seen = Vec::new();
        loop {
            match self.events.recv_timeout(LIMIT) {
                Ok(event) => match wanted(&event) {
                    Some(found) => return found,
                    None => seen.push(event),
                },
                Err(error) => panic!("{error}; there were only {seen:?}"),
            }
        }
    }

    /// The history; every command before it has been obeyed then.
    fn history(&self, container: &str) -> Vec<String> {
        let token = self.token.replace(self.token.get() + 1);
        self.handle.send(LogCommand::History { container: container.to_owned(), token });
        self.event(|event| match event {
            Event::History { token: of, lines, .. } if *of == token => Some(lines.clone()),
            _ => None,
        })
    }

    /// Text lines as they are published, until `enough`.
    fn text(&self, enough: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        while !enough(&text) {
            match self.published.recv_timeout(LIMIT) {
                Ok(Publication { payload: Value::String(more), .. }) => {
                    text.push_str(&more);
                    text.push('\n');
                }
                Ok(_) => {}
                Err(error) => panic!("{error}; there was only {} bytes: {text:.300}", text.len()),
            }
        }
        text
    }

    fn stop(self) -> Exit {
        drop(self.handle);
        self.exit.recv_timeout(LIMIT).expect("the hub ends")
    }
}

/// Blocks until it is cancelled.
fn block(cancel: &Cancel) {
    let (ends, ended) = bounded::<()>(1);
    let _guard = cancel.on_cancel(move || ends.try_send(()).unwrap_or_default());
    // Longer than any test waits for the thread that is blocked here.
    ended.recv_timeout(LIMIT * 3).expect("it is cancelled");
}

/// Streams of containers alone.
fn of_containers(open: impl Fn(&str, Start, &Cancel) -> Result<Lines, OpenError> + Send + Sync + 'static) -> Source {
    Source { open: Arc::new(open), list: Arc::new(|_, _, _| Err(OpenError::NotFound)) }
}

/// Streams that give each of `lines` and then nothing until they are cancelled.
fn endless(lines: Vec<String>) -> Source {
    of_containers(move |_, _, cancel| {
        let (mut left, cancel) = (lines.clone().into_iter(), cancel.clone());
        Ok(Box::new(move |wait: Duration| match left.next() {
            Some(line) => Heard::Line(line),
            None if wait.is_zero() => Heard::Nothing,
            None => {
                block(&cancel);
                Heard::Broken("cancelled".to_owned())
            }
        }) as Lines)
    })
}

/// Waits until no thread has this name. A joined thread can be seen for a moment yet.
fn no_thread_is_called(name: &str) {
    let until = clock::mono() + LIMIT;
    while threads(name) > 0 {
        assert!(clock::mono() < until, "{} threads called {name}", threads(name));
        std::thread::yield_now();
    }
}

/// How many threads of this process have this name.
fn threads(name: &str) -> usize {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|of| of.trim_end() == name).count()
}

#[test]
fn a_followed_container_is_heard_by_viewers_and_remembered() {
    let lines = ["2026-08-04T09:05:00Z one", "2026-08-04T09:05:01Z two"];
    let bench = bench(64, endless(lines.map(str::to_owned).into()));
    bench.watch("prod_1_a");
    bench.follow("prod_1_a");
    assert_eq!(bench.text(|text| text.ends_with("two\n")), "one\ntwo\n");
    assert_eq!(bench.history("prod_1_a"), ["one", "two"]);
    assert_eq!(bench.stop(), Exit::Done);
}

#[test]
fn a_question_is_answered_while_streams_are_blocked_and_the_state_thread_does_not_listen() {
    // One event fits, and nobody takes it.
    let bench = bench(1, endless(vec!["2026-08-04T09:05:00Z one".to_owned()]));
    for name in ["prod_1_a", "prod_2_b", "prod_3_c"] {
        bench.watch(name);
        bench.follow(name);
        bench.handle.send(LogCommand::History { container: name.to_owned(), token: 1 });
    }
    let (probe, mut round) = Round::begin("logs");
    bench.handle.probe(probe);
    assert!(round.is_answered_within(LIMIT));
    drop(bench.events);
    drop(bench.handle);
    assert_eq!(bench.exit.recv_timeout(LIMIT), Ok(Exit::Done));
}

#[test]
fn s8_a_blocked_open_and_an_endless_stream_are_ended_by_unfollow_and_by_stop() {
    let (opening, opened) = unbounded();
    let source = of_containers(move |container, _, cancel| {
        opening.send(container.to_owned()).unwrap();
        if container == "blocked" {
            block(cancel);
            return Err(OpenError::Failed("cancelled".to_owned()));
        }
        (endless(Vec::new()).open)(container, Start::Tail(0), cancel)
    });
    let bench = bench(64, source);
    for container in ["blocked", "endless", "blocked", "endless"] {
        bench.follow(container);
        assert_eq!(opened.recv_timeout(LIMIT).expect("a stream is opened"), container);
        bench.unfollow(container);
    }
    for container in ["blocked", "endless"] {
        bench.follow(container);
        assert_eq!(opened.recv_timeout(LIMIT).expect("a stream is opened"), container);
    }
    assert_eq!(bench.stop(), Exit::Done);
    no_thread_is_called("log-blocked");
    no_thread_is_called("log-endless");
}

#[test]
fn s8_a_follower_that_waits_for_the_hub_is_ended_too() {
    // A hub that never takes anything: its credits are used up.
    let (inbox, messages) = unbounded();
    let (credits, _taken) = bounded(0);
    let stream = streams::Stream { app: "stuck".to_owned(), number: 1 };
    let from = follow::From { start: Start::Tail(1), quiet: LIMIT };
    let task = streams::Task::Follow { container: "stuck".to_owned(), from };
    let source = endless(vec!["x".to_owned()]);
    let mut stuck =
        follower::Follower::start(source, stream.clone(), task, follower::ToHub { inbox, credits }).unwrap();
    stuck.stop();
    let Message::Ended(of, _) = messages.recv_timeout(LIMIT).unwrap() else { panic!("lines without a credit") };
    assert_eq!(of, stream);
    stuck.join();
}

#[test]
fn s1_a_thousand_cycles_leave_threads_and_descriptors_as_they_were() {
    let open = Arc::new(AtomicUsize::new(0));
    let (inodes, opened) = unbounded();
    struct Live {
        near: UnixStream,
        _far: UnixStream,
        open: Arc<AtomicUsize>,
    }
    impl Drop for Live {
        fn drop(&mut self) {
            self.open.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let count = open.clone();
    let source = of_containers(move |_, _, cancel| {
        let (near, _far) = UnixStream::pair().unwrap();
        assert_eq!(count.fetch_add(1, Ordering::SeqCst), 0, "two streams of one container");
        inodes.send(inode(&near)).unwrap();
        let (mut live, cancel) = (Live { near, _far, open: count.clone() }, cancel.clone());
        Ok(Box::new(move |_| {
            let closer = live.near.try_clone().unwrap();
            let _guard = cancel.on_cancel(move || closer.shutdown(std::net::Shutdown::Both).unwrap_or_default());
            assert_eq!(live.near.read(&mut [0]).unwrap(), 0);
            Heard::End
        }) as Lines)
    });
    let bench = bench(64, source);
    let mut seen = Vec::new();
    for _ in 0..1000 {
        bench.follow("cycle");
        seen.push(opened.recv_timeout(LIMIT).expect("each follow opens a stream"));
        bench.unfollow("cycle");
    }
    assert_eq!(bench.stop(), Exit::Done);
    assert_eq!(open.load(Ordering::SeqCst), 0);
    no_thread_is_called("log-cycle");
    let still: Vec<_> = descriptors().into_iter().filter(|name| seen.contains(name)).collect();
    assert_eq!(still, Vec::<PathBuf>::new());
}

fn inode(socket: &UnixStream) -> PathBuf {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap()
}

fn descriptors() -> Vec<PathBuf> {
    let all = fs::read_dir("/proc/self/fd").unwrap();
    all.filter_map(|of| fs::read_link(of.ok()?.path()).ok()).collect()
}

#[test]
fn c2_a_flood_of_three_containers_is_bounded_and_says_what_it_dropped() {
    const EACH: usize = 40_000;
    let source = of_containers(move |container, _, cancel| {
        let (mut n, name, cancel) = (0, container.to_owned(), cancel.clone());
        Ok(Box::new(move |wait: Duration| {
            n += 1;
            match n {
                1..=EACH => Heard::Line(format!("2026-08-04T09:05:00.{n:09}Z {name} {n} {}", "x".repeat(100))),
                _ if wait.is_zero() => Heard::Nothing,
                _ => {
                    block(&cancel);
                    Heard::End
                }
            }
        }) as Lines)
    });
    let bench = bench(64, source);
    for container in ["flood_1", "flood_2", "flood_3"] {
        bench.watch(container);
        bench.follow(container);
    }
    let (mut most, mut marker) = (0, None);
    let last = |of: &str| bench.history(of).last().is_some_and(|last| last.starts_with(&format!("{of} {EACH} ")));
    let until = clock::mono() + LIMIT;
    // Control passes in the middle of it.
    while !["flood_1", "flood_2", "flood_3"].into_iter().all(last) || marker.is_none() {
        assert!(clock::mono() < until, "not at the end, marker: {marker:?}");
        most = most.max(bench.handle.inbox.len());
        for Publication { payload, droppable, .. } in bench.published.try_iter() {
            let text = payload.as_str().unwrap();
            assert!(text.len() <= batch::FLUSH + 128 && droppable);
            if text.ends_with(" log line(s) dropped (rate limit)") {
                marker = text.lines().last().map(str::to_owned);
            }
        }
    }
    assert!(most <= 16 + 8, "{most} messages under way");
    assert_eq!(bench.history("flood_2").len(), 100);
    assert_eq!(bench.stop(), Exit::Done);
}

#[test]
fn the_hub_goes_on_while_the_state_thread_does_not_listen_and_ends_all_the_same() {
    let bench = bench(0, endless(Vec::new()));
    bench.watch("prod_1_a");
    for n in 0..50 {
        bench.handle.send(LogCommand::History { container: "prod_1_a".to_owned(), token: n });
        bench.handle.feed().line("prod_1_a", n.to_string());
    }
    bench.text(|text| text.ends_with("49\n"));
    let answers: Vec<usize> = (0..50)
        .map(|n| {
            bench.event(|event| match event {
                Event::History { token, lines, .. } if *token == n => Some(lines.len()),
                _ => None,
            })
        })
        .collect();
    assert_eq!(answers, (0..50).collect::<Vec<_>>(), "in order, as of the question");
    assert_eq!(bench.stop(), Exit::Done, "with a save that nobody takes");
}

#[test]
fn what_a_job_feeds_keeps_its_order_with_what_the_state_thread_says() {
    let bench = bench(64, endless(Vec::new()));
    bench.watch("prod_1_a");
    bench.handle.send(LogCommand::Say { container: "prod_1_a".to_owned(), text: "begin".to_owned() });
    let (feed, (done, is_done)) = (bench.handle.feed(), bounded(1));
    thread::spawn(
        "job-test",
        move |_| done.send(()).unwrap(),
        move || {
            (0..1000).for_each(|n| feed.line("prod_1_a", format!("{{\"status\":\"{n}\"}}")));
            feed.say("prod_1_a", "pulled".to_owned());
        },
    )
    .unwrap();
    is_done.recv_timeout(LIMIT).unwrap();
    bench.handle.send(LogCommand::Say { container: "prod_1_a".to_owned(), text: "end".to_owned() });
    bench.history("prod_1_a");
    let all: Vec<String> = bench.published.try_iter().map(|of| of.payload.to_string()).collect();
    let place =
        |text: &str| all.iter().position(|of| of.contains(text)).unwrap_or_else(|| panic!("no {text}: {all:?}"));
    assert!(
        place("begin") < place("\\\"0\\\"") && place("\\\"999\\\"") < place("pulled") && place("pulled") < place("end")
    );
    let feed = bench.handle.feed();
    bench.stop();
    feed.line("prod_1_a", "to nobody".to_owned());
}

#[test]
fn s5_an_offered_line_is_refused_at_once_when_too_much_is_under_way() {
    let ((inbox, messages), (credits, taken)) = (unbounded(), bounded(1));
    let feed = Feed { inbox, credits };
    assert!(feed.offer("prod_1_a", || "first".to_owned()));
    assert!(!feed.offer("prod_1_a", || panic!("nobody asked for it")));
    let Ok(Message::Fed(_, Fed::Line(line))) = messages.try_recv() else { panic!("no line") };
    assert_eq!(line, "first");
    taken.recv().unwrap();
    assert!(feed.offer("prod_1_a", || "second".to_owned()));
    drop((messages, taken));
    assert!(feed.offer("prod_1_a", || panic!("to nobody")), "a hub that has ended holds nobody up");
}

#[test]
fn a_follower_that_panics_takes_nothing_with_it() {
    let (panicking, panicked) = unbounded();
    let source = of_containers(move |_, _, _| {
        panicking.send(()).unwrap();
        panic!("as ordered")
    });
    let bench = bench(64, source);
    bench.follow("panic");
    panicked.recv_timeout(LIMIT).unwrap();
    bench.unfollow("panic");
    assert_eq!(bench.history("panic"), Vec::<String>::new());
    assert_eq!(bench.stop(), Exit::Done);
}

#[test]
fn a_hub_that_panics_leaves_no_stream_to_its_successor() {
    let (exits, exit) = bounded(1);
    let (inbox, _events) = bounded::<Event>(8);
    let publish = |_| panic!("a faulty sink");
    let on_exit = move |exit| exits.send(exit).unwrap_or_default();
    let source = endless(vec!["2026-08-04T09:05:00Z x".to_owned()]);
    let handle = spawn("serial", source, publish, inbox, |event| event, on_exit).unwrap();
    handle.send(LogCommand::Follow { container: "orphan".to_owned(), project: None });
    handle.send(LogCommand::Say { container: "orphan".to_owned(), text: "x".to_owned() });
    assert_eq!(exit.recv_timeout(LIMIT).expect("it ends"), Exit::Panicked("a faulty sink".to_owned()));
    no_thread_is_called("log-orphan");
}

/// An Engine that gives the next connections one answer each and tells what it was asked.
struct Engine {
    directory: PathBuf,
    asked: Receiver<String>,
}

impl Engine {
    fn start(name: &str, answers: Vec<Vec<u8>>) -> Engine {
        let directory = std::env::temp_dir().join(format!("logs-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let listener = UnixListener::bind(directory.join("docker.sock")).unwrap();
        let (asks, asked) = unbounded();
        let serve = move || {
            for answer in answers {
                let (mut socket, _) = listener.accept().unwrap();
                let (mut head, mut byte) = (Vec::new(), [0]);
                while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                let line = String::from_utf8_lossy(&head).lines().next().unwrap_or("").to_owned();
                if head.is_empty() || asks.send(line).is_err() {
                    return;
                }
                socket.write_all(&answer).unwrap_or_default();
                // Until the client hangs up.
                while socket.read(&mut byte).is_ok_and(|count| count > 0) {}
            }
        };
        thread::spawn("engine", |_| {}, serve).unwrap();
        Engine { directory, asked }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("docker.sock")
    }

    fn source(&self) -> Source {
        let version = ApiVersion { major: 1, minor: 41 };
        source::of_engine(Docker::at(Address::Unix(self.socket())).pinned_to(version))
    }

    fn asked(&self) -> String {
        self.asked.recv_timeout(LIMIT).expect("the Engine is asked")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Ends an accept that nobody came for.
        drop(UnixStream::connect(self.socket()));
        fs::remove_dir_all(&self.directory).unwrap_or_default();
    }
}

fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A stream that stays open.
fn opened(body: &[u8]) -> Vec<u8> {
    [b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n", body].concat()
}

#[test]
fn the_engines_streams_are_framed_or_raw_as_the_container_says() {
    let frame = |pipe: u8, text: &str| [&[pipe, 0, 0, 0, 0, 0, 0, text.len() as u8], text.as_bytes()].concat();
    let framed = [
        frame(1, "2026-08-04T09:05:00Z out\n"),
        frame(2, "2026-08-04T09:05:01Z err\n"),
        frame(3, "error from daemon in stream: cannot read\n"),
    ];
    let engine = Engine::start(
        "wire",
        vec![
            answer("200 OK", br#"{"Id": "x", "Config": {"Tty": false}}"#),
            opened(&framed.concat()),
            answer("200 OK", br#"{"Id": "x", "Config": {"Tty": true}}"#),
            opened(b"2026-08-04T09:05:02Z raw\r\n2026-08-"),
            answer("404 Not Found", br#"{"message": "No such container: gone"}"#),
        ],
    );
    let (source, cancel) = (engine.source(), Cancel::new());
    let mut next = (source.open)("app", Start::Tail(100), &cancel).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(engine.asked(), "GET /v1.41/containers/app/json HTTP/1.1");
    let asked = engine.asked();
    for part in ["GET /v1.41/containers/app/logs?", "follow=1", "stdout=1", "stderr=1", "tail=100", "timestamps=1"] {
        assert!(asked.contains(part), "no {part} in {asked}");
    }
    assert_eq!(next(LIMIT), Heard::Line("2026-08-04T09:05:00Z out".to_owned()));
    assert_eq!(next(LIMIT), Heard::Line("2026-08-04T09:05:01Z err".to_owned()));
    assert_eq!(next(LIMIT), Heard::Broken("error from daemon in stream: cannot read".to_owned()));
    drop(next);

    let since = Wall { seconds: 7, nanos: 5 };
    let mut next = (source.open)("app", Start::Since(since), &cancel).unwrap_or_else(|error| panic!("{error}"));
    engine.asked();
    let asked = engine.asked();
    assert!(asked.contains("since=7.000000005") && asked.contains("tail=all"), "{asked}");
    assert_eq!(next(LIMIT), Heard::Line("2026-08-04T09:05:02Z raw".to_owned()));
    assert_eq!(next(Duration::ZERO), Heard::Nothing);
    cancel.cancel();
    assert_eq!(next(LIMIT), Heard::Line("2026-08-".to_owned()), "the rest is not lost");
    assert!(matches!(next(LIMIT), Heard::Broken(_)));
    drop(next);
    assert_eq!((source.open)("gone", Start::Tail(1), &Cancel::new()).err(), Some(OpenError::NotFound));
}

#[test]
fn s10_an_absent_engine_is_an_error_like_any_other() {
    let engine = Engine::start("absent", Vec::new());
    let source = engine.source();
    drop(engine);
    assert!(matches!((source.open)("app", Start::Tail(1), &Cancel::new()).err(), Some(OpenError::Failed(_))));
}
