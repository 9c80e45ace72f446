//! Deadlines, cancelling and broken connections, against a listener that misbehaves.

use super::*;
use crate::docker::scripted::{Answer, LIMIT, Scripted, json};
use crate::docker::{Docker, Which, endpoints::Filters};

const SOON: Duration = Duration::from_millis(50);

/// Runs `call` in a thread of its own, so that one that never ends fails the test.
fn within_limit<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sends, result) = crossbeam_channel::bounded(1);
    crate::thread::spawn("call", |_| {}, move || sends.send(call()).unwrap()).unwrap();
    result.recv_timeout(LIMIT).expect("the call ends")
}

/// A listener with room for one connection that accepts none.
fn full_listener(name: &str) -> (Address, impl Sized) {
    let path = std::env::temp_dir().join(format!("docker-{}-{name}.s", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    (Address::Unix(path), (socket, first))
}

#[test]
fn d1_c7_a_daemon_that_accepts_and_never_answers_is_a_timeout() {
    let engine = Scripted::new("hang", vec![Answer::Hold(Vec::new())]);
    let docker = engine.docker.within(SOON);
    assert_eq!(within_limit(move || docker.info()), Err(Error::Timeout));
    engine.request();
    engine.gone();
}

#[test]
fn d1_c7_a_daemon_that_stops_in_mid_answer_is_a_timeout() {
    let whole = json("{}");
    for kept in [4, whole.len() - 1] {
        let engine = Scripted::new("stall", vec![Answer::Hold(whole[..kept].to_vec())]);
        let docker = engine.docker.within(SOON);
        assert_eq!(within_limit(move || docker.info()), Err(Error::Timeout));
    }
}

#[test]
fn c7_an_answer_that_drips_is_ended_by_the_deadline_of_the_whole_call() {
    let (feed, bytes) = crossbeam_channel::unbounded();
    let engine = Scripted::new("drip", vec![Answer::Feed(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), bytes)]);
    let docker = engine.docker.within(SOON);
    let call = crate::thread::spawn("call", |_| {}, move || assert_eq!(docker.info(), Err(Error::Timeout))).unwrap();
    while !call.is_finished() {
        feed.send(b"x".to_vec()).unwrap();
        std::thread::yield_now();
    }
    call.join().unwrap();
    drop(feed);
}

#[test]
fn d1_a_daemon_that_does_not_even_accept_is_a_timeout_or_cancelled() {
    let (address, _held) = full_listener("full");
    let docker = Docker::at(address.clone());
    let hurried = docker.within(SOON);
    assert_eq!(within_limit(move || hurried.ping()), Err(Error::Timeout));
    let cancel = Cancel::new();
    let cancelled = docker.cancelled_by(&cancel);
    let (ends, end) = crossbeam_channel::bounded(1);
    crate::thread::spawn("call", |_| {}, move || ends.send(cancelled.ping()).unwrap()).unwrap();
    cancel.cancel();
    assert_eq!(end.recv_timeout(LIMIT), Ok(Err(Error::Cancelled)));
    let Address::Unix(path) = address else { unreachable!() };
    std::fs::remove_file(path).unwrap();
}

#[test]
fn an_absent_daemon_is_unreachable() {
    let gone = Docker::at(Address::Unix("/nowhere/docker.sock".into()));
    let error = gone.ping().unwrap_err();
    assert!(matches!(&error, Error::Unreachable(text) if text.contains("/nowhere/docker.sock")), "{error:?}");
    assert!(error.is_engine_down());
    assert_eq!(gone.api_version(), None);
    let long = Docker::at(Address::Unix(format!("/{}", "x".repeat(200)).into()));
    assert!(matches!(long.ping(), Err(Error::Unreachable(_))));
}

#[test]
fn a_connection_that_ends_without_an_answer_is_unreachable() {
    let engine = Scripted::new("mute", vec![Answer::Close(Vec::new()), Answer::Close(b"HTTP/1.1 200".to_vec())]);
    for _ in 0..2 {
        let error = engine.docker.info().unwrap_err();
        assert!(matches!(error, Error::Unreachable(_)), "{error:?}");
    }
}

#[test]
fn a_cancel_ends_a_call_that_waits_for_its_answer() {
    let partial = json("{}").split_last().map(|(_, start)| start.to_vec()).unwrap();
    let engine = Scripted::new("cancel", vec![Answer::Hold(Vec::new()), Answer::Hold(partial)]);
    for _ in 0..2 {
        let cancel = Cancel::new();
        let docker = engine.docker.within(Duration::from_secs(3600)).cancelled_by(&cancel);
        let (ends, end) = crossbeam_channel::bounded(1);
        crate::thread::spawn("call", |_| {}, move || ends.send(docker.info()).unwrap()).unwrap();
        engine.request();
        cancel.cancel();
        assert_eq!(end.recv_timeout(LIMIT), Ok(Err(Error::Cancelled)));
        engine.gone();
    }
}

#[test]
fn a_token_that_is_cancelled_already_sends_no_request() {
    let engine = Scripted::new("late", vec![Answer::Close(json("{}"))]);
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(engine.docker.cancelled_by(&cancel).info(), Err(Error::Cancelled));
    assert!(engine.seen.is_empty());
}

#[test]
fn a_truncated_body_is_an_error_even_if_what_came_is_json() {
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n".to_vec();
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]".to_vec();
    let engine = Scripted::new("trunc", vec![Answer::Close(chunked), Answer::Close(short)]);
    for _ in 0..2 {
        let error = engine.docker.list_containers(Which::All, &Filters::none()).unwrap_err();
        assert_eq!(error, Error::Http(Fault::Truncated));
    }
}

#[test]
fn an_answer_without_end_is_refused_with_bounded_memory() {
    let (feed, bytes) = crossbeam_channel::bounded(1);
    let engine = Scripted::new("endless", vec![Answer::Feed(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), bytes)]);
    let docker = engine.docker.clone();
    let call = crate::thread::spawn(
        "call",
        |_| {},
        move || {
            assert_eq!(docker.info(), Err(Error::Http(Fault::BodyTooLarge)));
        },
    )
    .unwrap();
    let part = vec![b' '; 1024 * 1024];
    let mut sent = 0;
    while !call.is_finished() {
        sent += usize::from(feed.send_timeout(part.clone(), SOON).is_ok());
    }
    call.join().unwrap();
    assert!(sent >= MAX_ANSWER / part.len());
    drop(feed);
}

#[test]
fn an_interim_answer_is_passed_over() {
    let mut bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n".to_vec();
    bytes.extend(json(r#"{"Driver":"vfs"}"#));
    let engine = Scripted::new("interim", vec![Answer::Close(bytes)]);
    assert_eq!(engine.docker.info().unwrap().driver, "vfs");
}
