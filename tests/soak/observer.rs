//! What a real engine tells: its event stream, read along by the test over every outage, and its lists. HTTP by hand, so
//! that the agent's client is not its own judge.

use super::machine::{Entry, parse};
use super::truth::Told;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use reagent::clock::{self, Wall};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take: longer than the engine is frozen for, in most runs.
const ANSWER: Duration = Duration::from_secs(3);

/// The engine's API, a connection for each call.
#[derive(Debug, Clone)]
pub struct Api(pub PathBuf);

impl Api {
    /// The status and the JSON of the answer; `None` if there is none in time.
    pub fn call(&self, method: &str, path: &str) -> Option<(u16, Value)> {
        let mut stream = self.open(method, path, ANSWER).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let text = String::from_utf8_lossy(&answer);
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }

    /// A list.
    pub fn list(&self, path: &str) -> Option<Vec<Value>> {
        self.call("GET", path).filter(|(status, _)| *status == 200)?.1.as_array().cloned()
    }

    /// In HTTP/1.0 a body ends with its connection.
    fn open(&self, method: &str, path: &str, limit: Duration) -> std::io::Result<UnixStream> {
        let mut stream = UnixStream::connect(&self.0)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "{method} /v1.41{path} HTTP/1.0\r\nContent-Length: 0\r\n\r\n")?;
        Ok(stream)
    }
}

/// Reads along until it is dropped.
pub struct Observer {
    heard: Receiver<Entry>,
    entries: RefCell<Vec<Entry>>,
    _stop: Sender<()>,
}

impl Observer {
    /// Returns once it hears everything.
    #[track_caller]
    pub fn start(socket: &Path) -> Observer {
        let (say, heard) = unbounded();
        let (stop, stopped) = bounded(0);
        let (ready, is_ready) = bounded(1);
        let watch =
            Watch { api: Api(socket.to_owned()), say, stopped, last: nanos(clock::wall()), known: BTreeMap::new() };
        reagent::thread::spawn("observer", |_| {}, move || watch.run(&ready)).expect("a thread starts");
        is_ready.recv_timeout(Duration::from_secs(30)).expect("the engine takes the subscription");
        Observer { heard, entries: RefCell::default(), _stop: stop }
    }

    /// Everything so far, in order of time.
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = self.entries.borrow_mut();
        entries.extend(self.heard.try_iter());
        entries.sort_by_key(|entry| entry.at);
        entries.clone()
    }

    /// Forgets everything so far.
    pub fn forget(&self) {
        self.entries();
        self.entries.borrow_mut().clear();
    }
}

struct Watch {
    api: Api,
    say: Sender<Entry>,
    /// Disconnects when the thread has to end.
    stopped: Receiver<()>,
    /// Time of the last event, in nanoseconds since 1970.
    last: i64,
    /// Name and project of the containers that are there, by id.
    known: BTreeMap<String, (String, String)>,
}

fn nanos(time: Wall) -> i64 {
    time.seconds * 1_000_000_000 + i64::from(time.nanos)
}

/// On the monotonic clock of this process.
fn on_mono(at: i64) -> Duration {
    let ago = nanos(clock::wall()) - at;
    clock::mono().saturating_sub(Duration::from_nanos(u64::try_from(ago).unwrap_or(0)))
}

impl Watch {
    fn has_to_end(&self) -> bool {
        self.stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected)
    }

    fn run(mut self, ready: &Sender<()>) {
        let mut away_since = None;
        while !self.has_to_end() {
            let since = self.last + 1;
            let path = format!("/events?since={}.{:09}", since / 1_000_000_000, since % 1_000_000_000);
            let Ok(stream) = self.api.open("GET", &path, Duration::from_millis(200)) else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            let mut reader = BufReader::new(stream);
            if self.read_head(&mut reader).is_none() {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            if let Some(since) = away_since {
                self.look(since);
            }
            let _ = ready.try_send(());
            self.follow(&mut reader);
            away_since = Some(clock::mono());
        }
    }

    fn read_head(&self, reader: &mut BufReader<UnixStream>) -> Option<()> {
        let mut line = Vec::new();
        loop {
            if self.read_line(reader, &mut line)? == b"\r\n" {
                return Some(());
            }
            line.clear();
        }
    }

    /// A whole line, over all pauses; `None` at the end.
    fn read_line<'l>(&self, reader: &mut BufReader<UnixStream>, line: &'l mut Vec<u8>) -> Option<&'l [u8]> {
        loop {
            match reader.read_until(b'\n', line) {
                Ok(0) => return None,
                Ok(_) if line.ends_with(b"\n") => return Some(line),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !self.has_to_end() => {}
                Err(_) => return None,
            }
        }
    }

    fn follow(&mut self, reader: &mut BufReader<UnixStream>) {
        let mut line = Vec::new();
        while self.read_line(reader, &mut line).is_some() {
            if let Some((at, mut entry)) = serde_json::from_slice(&line).ok().as_ref().and_then(parse) {
                self.last = self.last.max(at);
                entry.at = on_mono(at);
                if let Some((name, project)) = self.known.get(&entry.id) {
                    // The name that it was made with.
                    (entry.name, entry.project) = (name.clone(), project.clone());
                }
                match entry.told {
                    Told::Destroyed => drop(self.known.remove(&entry.id)),
                    Told::Named => {}
                    _ => drop(self.known.insert(entry.id.clone(), (entry.name.clone(), entry.project.clone()))),
                }
                let _ = self.say.send(entry);
            }
            line.clear();
        }
    }

    /// Tells what is there after an outage.
    fn look(&mut self, since: Duration) {
        let Some(listed) = self.api.list("/containers/json?all=1") else { return };
        let at = clock::mono();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut found: BTreeMap<String, bool> = BTreeMap::new();
        for container in &listed {
            let id = text(&container["Id"]);
            let name = text(&container["Names"][0]).trim_start_matches('/').to_owned();
            let project = text(&container["Labels"]["com.docker.compose.project"]);
            self.known.entry(id.clone()).or_insert((name, project));
            found.insert(id, container["State"] == "running");
        }
        for (id, (name, project)) in &self.known {
            let (runs, exists) = (found.get(id) == Some(&true), found.contains_key(id));
            let (id, name, project) = (id.clone(), name.clone(), project.clone());
            let _ = self.say.send(Entry { at, id, name, project, told: Told::Found { since, runs, exists } });
        }
        self.known.retain(|id, _| found.contains_key(id));
    }
}
