//! Deadlines, cancelling and broken connections, against a listener that misbehaves.

use super::*;
use crate::docker::http1::Method;
use crate::docker::scripted::{Answer, LIMIT, Scripted, json};
use crate::docker::{Docker, Which, endpoints::Filters};
use crossbeam_channel::{Receiver, bounded};
use std::io::Write;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

const SOON: Duration = Duration::from_millis(50);

/// Runs `call` in a thread of its own, so that one that never ends fails the test.
fn within_limit<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let (sends, result) = bounded(1);
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
    let first = UnixStream::connect(&path).unwrap();
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
    let (ends, end) = bounded(1);
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
        let (ends, end) = bounded(1);
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
    let (feed, bytes) = bounded(1);
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

/// More than fits into the buffers of a socket.
const LONG: u64 = 8 * 1024 * 1024;

/// A peer that serves one connection with `serve`; an upload to it, with this deadline for each piece.
struct Peer {
    address: Address,
    serving: Option<JoinHandle<()>>,
}

impl Peer {
    fn new(name: &str, serve: impl FnOnce(UnixStream) + Send + 'static) -> Peer {
        let path = std::env::temp_dir().join(format!("docker-{}-{name}.s", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move || serve(listener.accept().unwrap().0);
        Peer { address: Address::Unix(path), serving: Some(crate::thread::spawn("peer", |_| {}, serve).unwrap()) }
    }

    fn upload(&self, body: &mut dyn Read, silence: Duration, cancel: &Cancel) -> Result<u16, Error> {
        let request = Request::new(Method::Post, "/build").body_follows(LONG);
        upload(&self.address, "", &request, body, silence, cancel.clone()).map(|response| response.head.status)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let ended = self.serving.take().map(JoinHandle::join);
        let Address::Unix(path) = &self.address else { unreachable!() };
        let _ = std::fs::remove_file(path);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

/// Reads up to the end of a request's head.
fn read_head(stream: &mut UnixStream) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).unwrap();
    assert!(text.contains(&format!("\r\nContent-Length: {LONG}\r\n")), "{text}");
}

/// A body of which nothing more comes before the other side has all that came before.
struct InStep {
    given: u64,
    taken: Receiver<u64>,
}

impl Read for InStep {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given > 0 && self.taken.recv_timeout(LIMIT).map_err(io::Error::other)? < self.given {}
        into.fill(b'x');
        self.given += into.len() as u64;
        Ok(into.len())
    }
}

#[test]
fn a_long_body_is_sent_as_it_is_read() {
    let (takes, taken) = bounded(1024);
    let peer = Peer::new("instep", move |mut stream| {
        read_head(&mut stream);
        let (mut count, mut chunk) = (0, vec![0; PIECE]);
        while count < LONG {
            count += stream.read(&mut chunk).unwrap() as u64;
            takes.send(count).unwrap();
        }
        stream.write_all(&json("{}")).unwrap();
    });
    let mut body = InStep { given: 0, taken };
    assert_eq!(peer.upload(&mut body, LIMIT, &Cancel::new()), Ok(200));
    assert_eq!(body.given, LONG, "and not a byte more");
}

#[test]
fn a_refusal_in_the_middle_of_a_long_body_is_the_answer() {
    let peer = Peer::new("early", |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    assert_eq!(peer.upload(&mut io::repeat(b'x'), LIMIT, &Cancel::new()), Ok(400));
}

#[test]
fn an_answer_that_begins_in_the_middle_of_a_long_body_is_heard_though_the_rest_is_never_read() {
    let (hears, heard) = bounded::<()>(0);
    let peer = Peer::new("half", move |mut stream| {
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n").unwrap();
        let _until_dropped = heard.recv();
    });
    assert_eq!(peer.upload(&mut io::repeat(b'x'), LIMIT, &Cancel::new()), Ok(200));
    drop(hears);
}

#[test]
fn a_body_that_is_shorter_than_it_was_or_cannot_be_read_ends_the_connection() {
    struct Unreadable;
    impl Read for Unreadable {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is gone"))
        }
    }
    let bodies: [(&str, Box<dyn Read>); 2] =
        [("shorter", Box::new(io::repeat(b'x').take(LONG - 1))), ("the disk is gone", Box::new(Unreadable))];
    for (text, mut body) in bodies {
        let (ends, ended) = bounded(1);
        let peer = Peer::new("short", move |mut stream| {
            read_head(&mut stream);
            ends.send(io::copy(&mut stream, &mut io::sink()).unwrap()).unwrap();
        });
        let error = peer.upload(&mut body, LIMIT, &Cancel::new()).unwrap_err();
        assert!(matches!(&error, Error::Source(reason) if reason.contains(text)), "{error:?}");
        assert!(!error.is_engine_down());
        assert!(ended.recv_timeout(LIMIT).unwrap() < LONG, "the peer saw the end, and not all of it");
    }
}

#[test]
fn d1_c7_a_peer_that_stops_reading_is_a_timeout_and_can_be_cancelled() {
    for cancelled in [false, true] {
        let (begins, begun) = bounded(1);
        let (release, released) = bounded::<()>(0);
        let peer = Peer::new("full", move |mut stream| {
            read_head(&mut stream);
            begins.send(()).unwrap();
            let _until_dropped = released.recv();
        });
        let cancel = Cancel::new();
        let (address, token) = (peer.address.clone(), cancel.clone());
        let silence = if cancelled { Duration::from_secs(3600) } else { SOON };
        let (ends, end) = bounded(1);
        let send = move || {
            let request = Request::new(Method::Post, "/build").body_follows(LONG);
            let answer = upload(&address, "", &request, &mut io::repeat(b'x'), silence, token);
            ends.send(answer.map(|response| response.head.status)).unwrap();
        };
        crate::thread::spawn("upload", |_| {}, send).unwrap();
        begun.recv_timeout(LIMIT).unwrap();
        if cancelled {
            cancel.cancel();
        }
        let expected = if cancelled { Error::Cancelled } else { Error::Timeout };
        assert_eq!(end.recv_timeout(LIMIT), Ok(Err(expected)));
        drop(release);
    }
}
