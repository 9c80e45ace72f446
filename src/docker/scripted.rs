//! For tests: an Engine that gives prepared answers on a Unix socket, one connection after the other.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{Address, Docker};

/// How long a test waits for anything.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// What happens to a connection once its request is read.
pub(super) enum Answer {
    /// These bytes, then the end.
    Close(Vec<u8>),
    /// These bytes, then nothing until the client goes.
    Hold(Vec<u8>),
    /// These bytes, then whatever is sent here, until the sender goes.
    Feed(Vec<u8>, Receiver<Vec<u8>>),
}

/// What the Engine saw.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// A request: head and body.
    Request(String),
    /// The client ended a held connection.
    Gone,
}

pub(super) struct Scripted {
    folder: PathBuf,
    pub docker: Docker,
    pub seen: Receiver<Seen>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The recorded answer of a real Engine.
pub(super) fn golden(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/golden/docker/{name}.http", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// An answer of status 200 with a JSON body.
pub(super) fn json(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Scripted {
    /// Starts an Engine for one test (`name` is unique to it). After the last answer nobody listens any more. The
    /// client is pinned to 1.41, so that no ping comes first.
    pub(super) fn new(name: &str, answers: Vec<Answer>) -> Scripted {
        let folder = std::env::temp_dir().join(format!("docker-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let socket = folder.join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let (sees, seen) = unbounded();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let thread = crate::thread::spawn("scripted", |_| {}, move || serve(&listener, answers, &sees, &stop)).unwrap();
        let docker = Docker::at(Address::Unix(socket)).pinned_to(super::ApiVersion { major: 1, minor: 41 });
        Scripted { folder, docker: docker.within(LIMIT), seen, stopping, thread: Some(thread) }
    }

    /// The next request.
    pub(super) fn request(&self) -> String {
        match self.seen.recv_timeout(LIMIT) {
            Ok(Seen::Request(text)) => text,
            other => panic!("no request but {other:?}"),
        }
    }

    /// Waits until the client has closed a held connection.
    pub(super) fn gone(&self) {
        assert_eq!(self.seen.recv_timeout(LIMIT), Ok(Seen::Gone));
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(self.folder.join("s"));
        let ended = self.thread.take().map(JoinHandle::join);
        let _ = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            ended.unwrap().unwrap();
        }
    }
}

fn serve(listener: &UnixListener, answers: Vec<Answer>, sees: &Sender<Seen>, stopping: &AtomicBool) {
    for answer in answers {
        let (mut stream, _) = listener.accept().unwrap();
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        // A client that went away in the meantime fails its own test.
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = sees.send(Seen::Request(read_request(&mut stream)));
        match answer {
            Answer::Close(bytes) => drop(stream.write_all(&bytes)),
            Answer::Hold(bytes) => {
                let _ = stream.write_all(&bytes);
                if stream.read(&mut [0]).is_ok_and(|count| count == 0) {
                    let _ = sees.send(Seen::Gone);
                }
            }
            Answer::Feed(bytes, more) => {
                let _ = stream.write_all(&bytes);
                more.iter().for_each(|bytes| drop(stream.write_all(&bytes)));
            }
        }
    }
}

fn read_request(stream: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.map_or(0, |text| text.parse().unwrap()) {
                return text.into_owned();
            }
        }
        match stream.read(&mut chunk) {
            Ok(count @ 1..) => bytes.extend_from_slice(&chunk[..count]),
            _ => return text.into_owned(),
        }
    }
}
