//! A server that keeps what is PUT and gives it back, with faults.

#![expect(clippy::disallowed_types, reason = "a test double: one lock around what it keeps")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A client that stops talking holds up the test no longer than this.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Vec<u8>>,
    puts: Vec<String>,
    asked: usize,
    refused: Option<usize>,
    cut: String,
    authorization: Option<String>,
    over: bool,
}

/// A running server; it ends on drop.
pub struct Store {
    address: SocketAddr,
    inner: Arc<Mutex<Inner>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    pub fn start() -> Store {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Mutex::new(Inner::default()));
        let kept = Arc::clone(&inner);
        let serve = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if lock(&kept).over {
                    return;
                }
                // A client that goes away in the middle is its own affair.
                let _ = answer(&stream, &kept);
            }
        };
        let thread = reagent::thread::spawn("store", |_| {}, serve).unwrap();
        Store { address, inner, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `n`th PUT (from 0) is answered with 507 and not kept.
    pub fn refuse_put(&self, n: usize) {
        lock(&self.inner).refused = Some(n);
    }

    /// Of this file the last byte is lost, in silence.
    pub fn cut_short(&self, file: &str) {
        file.clone_into(&mut lock(&self.inner).cut);
    }

    /// Whatever lacks this header is answered with 401.
    pub fn want_authorization(&self, value: &str) {
        lock(&self.inner).authorization = Some(value.to_owned());
    }

    /// What was kept, in order.
    pub fn puts(&self) -> Vec<String> {
        lock(&self.inner).puts.clone()
    }

    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        lock(&self.inner).files.clone()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        lock(&self.inner).over = true;
        // Wakes the thread, which then sees that it is over.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(inner: &Mutex<Inner>) -> MutexGuard<'_, Inner> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request, one answer, and the end of the connection.
fn answer(stream: &TcpStream, inner: &Mutex<Inner>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let file = path.trim_start_matches('/').to_owned();
    if headers.contains_key("expect") {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut inner = lock(inner);
    let (status, body) =
        if inner.authorization.is_some() && inner.authorization.as_ref() != headers.get("authorization") {
            (401, Vec::new())
        } else if method == "PUT" {
            let n = inner.asked;
            inner.asked += 1;
            if inner.refused == Some(n) {
                (507, Vec::new())
            } else {
                if file == inner.cut {
                    body.pop();
                }
                inner.puts.push(file.clone());
                inner.files.insert(file, body);
                (201, Vec::new())
            }
        } else {
            inner.files.get(&file).map_or((404, b"<html>not found</html>".to_vec()), |body| (200, body.clone()))
        };
    drop(inner);
    let head = format!("HTTP/1.1 {status} -\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
    (&*stream).write_all(head.as_bytes())?;
    (&*stream).write_all(&body)
}
