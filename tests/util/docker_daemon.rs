//! A fake Docker Engine on a Unix socket of its own: an in-memory model of containers and images, an event stream that
//! tells of every change, faults that are switched on and off at run time, and a record of what was asked.
//!
//! `routes` answers, `model` remembers; here are the sockets, the faults and what a test holds. A thread per connection.
//! Whatever it started ends when it is dropped.

#![allow(dead_code, reason = "each test uses a part of it")]
#![expect(
    clippy::disallowed_types,
    reason = "a test double: one lock around the model, and every wait is on its condition"
)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

mod cli;
mod model;
mod routes;
#[cfg(test)]
mod tests;

pub use model::{Behaviour, Pull, nanos as model_time};
use model::{Model, with_tag};

/// How long a test waits for anything of the fake daemon.
const LIMIT: Duration = Duration::from_secs(10);

/// What goes wrong with a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The request is read and never answered.
    Hang,
    /// The answer comes so much later.
    Slow(Duration),
    /// The connection ends in the middle of the body.
    Truncate,
    /// The connection ends, and nothing was done.
    Drop,
    /// It is done, and the connection ends without an answer.
    Mute,
    /// A refusal with this status and message.
    Status(u16, String),
}

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub method: String,
    /// Without version and query, decoded: `/containers/prod_1_app/start`.
    pub path: String,
    /// The API version of the path, such as `1.41`; empty if there was none.
    pub version: String,
    pub query: BTreeMap<String, String>,
    /// Names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    /// A query parameter, empty if it is absent.
    pub fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// Whether the daemon is there.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Listening,
    /// No socket: connections are refused.
    Down,
    Stopped,
}

struct Shared {
    state: Mutex<Inner>,
    changed: Condvar,
    socket: PathBuf,
}

struct Inner {
    model: Model,
    mode: Mode,
    faults: Vec<(String, Fault)>,
    /// After so many more requests the next one goes wrong like that.
    cut: Option<(usize, Fault)>,
    requests: Vec<Request>,
    /// Open connections by number.
    connections: BTreeMap<usize, UnixStream>,
    listening: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and wakes everybody who waits for a change.
    fn change<R>(&self, change: impl FnOnce(&mut Inner) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` gives a value, or at most `limit`.
    fn wait<R>(&self, limit: Duration, mut look: impl FnMut(&mut Inner) -> Option<R>) -> Option<R> {
        let deadline = reagent::clock::mono() + limit;
        let mut inner = self.lock();
        loop {
            if let Some(found) = look(&mut inner) {
                return Some(found);
            }
            let left = deadline.checked_sub(reagent::clock::mono()).filter(|left| !left.is_zero())?;
            inner = self.changed.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// See the module.
pub struct DockerDaemon {
    folder: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl DockerDaemon {
    /// A daemon with no containers and no images.
    pub fn start() -> DockerDaemon {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("reagent-docker-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder for the socket");
        let inner = Inner {
            model: Model::default(),
            mode: Mode::Listening,
            faults: Vec::new(),
            cut: None,
            requests: Vec::new(),
            connections: BTreeMap::new(),
            listening: false,
        };
        let socket = folder.join("docker.sock");
        let shared = Arc::new(Shared { state: Mutex::new(inner), changed: Condvar::new(), socket });
        let serving = shared.clone();
        let thread = reagent::thread::spawn("fake-docker", |_| {}, move || serve(&serving)).expect("a thread");
        let daemon = DockerDaemon { folder, shared, thread: Some(thread) };
        daemon.wait("the socket", |inner| inner.listening.then_some(()));
        daemon
    }

    /// The path of the socket.
    pub fn socket(&self) -> &Path {
        &self.shared.socket
    }

    /// The value of `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Puts a network or a volume (`networks`, `volumes`) on the device; one `in_use` cannot be removed.
    pub fn add_thing(&self, kind: &str, name: &str, labels: &[(&str, &str)], in_use: bool) {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let thing = model::Thing { name: name.to_owned(), labels, in_use };
        self.shared.change(|inner| {
            if kind == "networks" { &mut inner.model.networks } else { &mut inner.model.volumes }.push(thing);
        });
    }

    /// The names of all networks and volumes that were put on the device and are left.
    pub fn things(&self) -> Vec<String> {
        let inner = self.shared.lock();
        inner.model.networks.iter().chain(&inner.model.volumes).map(|thing| thing.name.clone()).collect()
    }

    /// Puts the `docker` command of this daemon into a folder, made if it is not there: `login`, and compose.
    pub fn put_cli(&self, folder: &Path) {
        std::fs::create_dir_all(folder).expect("a folder for the command");
        let path = folder.join("docker");
        std::fs::write(&path, include_str!("docker_daemon/docker.pl")).expect("the command is written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    /// From now on, calls that match `route` go wrong. A route is a method and a path without version, where `*` stands
    /// for one segment (`GET /containers/*/json`), or `*` for everything. The latest matching fault counts.
    pub fn fault(&self, route: &str, fault: Fault) {
        self.shared.change(|inner| inner.faults.push((route.to_owned(), fault)));
    }

    /// A power cut: after so many more requests the next one ends like that ([`Fault::Drop`] or [`Fault::Mute`]), and all
    /// that follow are dropped.
    pub fn cut_after(&self, requests: usize, end: Fault) {
        self.shared.change(|inner| inner.cut = Some((requests, end)));
    }

    /// Whether the moment of [`DockerDaemon::cut_after`] has come.
    pub fn is_cut(&self) -> bool {
        self.shared.lock().faults.contains(&("*".to_owned(), Fault::Drop))
    }

    /// All faults end; calls that hang are answered.
    pub fn heal(&self) {
        self.shared.change(|inner| {
            inner.faults.clear();
            inner.cut = None;
        });
    }

    /// The daemon goes: the socket vanishes, and all connections end. Containers are as they were.
    pub fn go_down(&self) {
        self.switch(Mode::Down);
        self.wait("the daemon to be gone", |inner| (!inner.listening).then_some(()));
    }

    /// The daemon comes back after [`DockerDaemon::go_down`].
    pub fn come_up(&self) {
        self.switch(Mode::Listening);
        self.wait("the socket", |inner| inner.listening.then_some(()));
    }

    /// Down and up.
    pub fn restart(&self) {
        self.go_down();
        self.come_up();
    }

    fn switch(&self, mode: Mode) {
        self.shared.change(|inner| {
            inner.mode = mode;
            if mode != Mode::Listening {
                inner.connections.values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
            }
        });
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(self.socket());
    }

    /// All requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// How many connections are open: streams that nobody closed.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections.len()
    }

    /// Waits for the `count`th request that matches `route`, as in [`DockerDaemon::fault`], and returns it.
    #[track_caller]
    pub fn wait_for_request(&self, route: &str, count: usize) -> Request {
        self.wait(route, |inner| inner.requests.iter().filter(|asked| matches(route, asked)).nth(count - 1).cloned())
    }

    /// Waits for a request that matches `route`, not counting the first `before` requests of all.
    #[track_caller]
    pub fn wait_for_request_after(&self, route: &str, before: usize) -> Request {
        self.wait(route, |inner| inner.requests.iter().skip(before).find(|asked| matches(route, asked)).cloned())
    }

    /// Puts an image on the device.
    pub fn add_image(&self, reference: &str) {
        self.shared.change(|inner| inner.model.add_image(reference));
    }

    /// The references of all images.
    pub fn images(&self) -> Vec<String> {
        self.shared.lock().model.images.iter().flat_map(|image| image.tags.clone()).collect()
    }

    /// What a pull of `reference` does. Others fail with 404 `manifest unknown`.
    pub fn offer(&self, reference: &str, pull: Pull) {
        self.shared.change(|inner| inner.model.offers.insert(reference.to_owned(), pull));
    }

    /// What a push of `reference` does. Others work if there is such an image.
    pub fn accept(&self, reference: &str, push: Pull) {
        self.shared.change(|inner| inner.model.pushes.insert(reference.to_owned(), push));
    }

    /// What a build with the tag `reference` does. Others work.
    pub fn make(&self, reference: &str, build: Pull) {
        self.shared.change(|inner| inner.model.builds.insert(with_tag(reference), build));
    }

    /// How containers of `image` behave when they are started. Others run until they are stopped.
    pub fn behave(&self, image: &str, behaviour: Behaviour) {
        self.shared.change(|inner| inner.model.behaviours.insert(image.to_owned(), behaviour));
    }

    /// Every registry answers pulls, pushes and logins with this error, until `None`.
    pub fn registry_fails(&self, error: Option<&str>) {
        self.shared.change(|inner| inner.model.registry_error = error.map(str::to_owned));
    }

    /// Whether a pull of `reference` would work: it was offered, or pushed.
    pub fn is_offered(&self, reference: &str) -> bool {
        self.shared.lock().model.offers.get(reference) == Some(&Pull::Works)
    }

    /// A program outside of Docker takes a port of the host.
    pub fn take_port(&self, port: u16) {
        self.shared.change(|inner| inner.model.taken_ports.push(port));
    }

    /// It gives the port back.
    pub fn free_port(&self, port: u16) {
        self.shared.change(|inner| inner.model.taken_ports.retain(|taken| *taken != port));
    }

    /// Everything that has happened, in order, as the event stream tells it.
    pub fn events(&self) -> Vec<serde_json::Value> {
        self.shared.lock().model.events.iter().map(|event| event.record.clone()).collect()
    }

    /// The process of container `name` ends by itself.
    #[track_caller]
    pub fn exit_container(&self, name: &str, code: i64) {
        assert!(self.shared.change(|inner| inner.model.exit(name, code)), "{name} does not run");
    }

    /// The same, if it runs.
    pub fn try_exit(&self, name: &str, code: i64) -> bool {
        self.shared.change(|inner| inner.model.exit(name, code))
    }

    /// The process of container `name` is killed for lack of memory.
    #[track_caller]
    pub fn starve(&self, name: &str) {
        assert!(self.shared.change(|inner| inner.model.starve(name)), "{name} does not run");
    }

    /// The HEALTHCHECK of container `name` finds this: `starting`, `healthy`, `unhealthy`.
    #[track_caller]
    pub fn set_health(&self, name: &str, status: &str) {
        assert!(self.shared.change(|inner| inner.model.set_health(name, status)), "there is no container {name}");
    }

    /// Somebody else makes a container, with this body.
    pub fn add_container(&self, name: &str, spec: &serde_json::Value) {
        self.shared.change(|inner| inner.model.create(name, spec.clone(), "sha256:foreign".to_owned()));
    }

    /// Somebody else removes container `name` by force.
    #[track_caller]
    pub fn remove_container(&self, name: &str) {
        let removed = self.shared.change(|inner| {
            let found = inner.model.find(name).is_some();
            if found {
                inner.model.remove(name);
            }
            found
        });
        assert!(removed, "there is no container {name}");
    }

    /// Container `name` writes a line (source 1 is standard output, 2 standard error).
    #[track_caller]
    pub fn write_log(&self, name: &str, source: u8, line: &str) {
        let written = self
            .shared
            .change(|inner| inner.model.find_mut(name).map(|container| container.write(source, line)).is_some());
        assert!(written, "there is no container {name}");
    }

    /// [`DockerDaemon::write_log`] of many lines at once, to standard output.
    #[track_caller]
    pub fn write_log_lines(&self, name: &str, lines: impl IntoIterator<Item = String>) {
        let written = self.shared.change(|inner| {
            let container = inner.model.find_mut(name)?;
            lines.into_iter().for_each(|line| container.write(1, &line));
            Some(())
        });
        assert!(written.is_some(), "there is no container {name}");
    }

    /// Name and status of all containers, by name.
    pub fn containers(&self) -> BTreeMap<String, String> {
        let inner = self.shared.lock();
        inner.model.containers.iter().map(|c| (c.name.clone(), c.status.to_owned())).collect()
    }

    /// Name, compose project, image of all containers, and whether they run, by name.
    pub fn with_projects(&self) -> Vec<(String, String, String, bool)> {
        let inner = self.shared.lock();
        let project = |c: &model::Container| c.labels().remove("com.docker.compose.project").unwrap_or_default();
        let one = |c: &model::Container| (c.name.clone(), project(c), c.image().to_owned(), c.running());
        let mut all: Vec<_> = inner.model.containers.iter().map(one).collect();
        all.sort();
        all
    }

    /// Whether some client has been sent all that container `name` wrote.
    pub fn log_is_read(&self, name: &str) -> bool {
        self.shared.lock().model.find(name).is_some_and(|container| container.told.get() == container.log.len())
    }

    /// The id of container `name`.
    pub fn container_id(&self, name: &str) -> Option<String> {
        self.shared.lock().model.find(name).map(|container| container.id.clone())
    }

    /// The body with which container `name` was created.
    pub fn created_with(&self, name: &str) -> Option<serde_json::Value> {
        self.shared.lock().model.find(name).map(|container| container.spec.clone())
    }

    /// Waits until container `name` has `status`; `absent` if it is to be gone.
    #[track_caller]
    pub fn wait_for_status(&self, name: &str, status: &str) {
        self.wait(&format!("{name} to be {status}"), |inner| {
            let found = inner.model.find(name).map_or("absent", |container| container.status);
            (found == status).then_some(())
        });
    }

    /// Waits until container `name` runs and was made of `image`.
    #[track_caller]
    pub fn wait_for_image(&self, name: &str, image: &str) {
        self.wait(&format!("{name} to run {image}"), |inner| {
            inner.model.find(name).filter(|found| found.running() && found.image() == image).map(drop)
        });
    }

    #[track_caller]
    fn wait<R>(&self, what: &str, look: impl FnMut(&mut Inner) -> Option<R>) -> R {
        let Some(found) = self.shared.wait(LIMIT, look) else {
            let asked: Vec<_> = self.requests().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
            panic!("not within {LIMIT:?}: {what}; containers {:?}; asked {asked:#?}", self.containers());
        };
        found
    }
}

impl Drop for DockerDaemon {
    fn drop(&mut self) {
        self.switch(Mode::Stopped);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        // The connections' threads end by themselves: their sockets are shut down, and every wait sees the mode.
        let gone = self.shared.wait(LIMIT, |inner| inner.connections.is_empty().then_some(())).is_some();
        let _ = std::fs::remove_dir_all(&self.folder);
        assert!(gone || std::thread::panicking(), "connections are left");
    }
}

/// Listens while the mode says so.
fn serve(shared: &Arc<Shared>) {
    loop {
        let mode = shared.wait(Duration::MAX / 4, |inner| (inner.mode != Mode::Down).then_some(inner.mode));
        if mode != Some(Mode::Listening) {
            return;
        }
        let listener = UnixListener::bind(&shared.socket).expect("nobody else has this socket");
        shared.change(|inner| inner.listening = true);
        let mut number = 0;
        while let Ok((stream, _)) = listener.accept() {
            number += 1;
            let accepted = shared.change(|inner| {
                let listening = inner.mode == Mode::Listening;
                if listening {
                    inner.connections.insert(number, stream.try_clone().expect("a descriptor"));
                }
                listening
            });
            if !accepted {
                break;
            }
            let (at_exit, serving) = (shared.clone(), shared.clone());
            let done = move |_| {
                at_exit.change(|inner| inner.connections.remove(&number));
            };
            reagent::thread::spawn("fake-conn", done, move || answer(&serving, stream)).expect("a thread");
        }
        let _ = std::fs::remove_file(&shared.socket);
        drop(listener);
        shared.wait(LIMIT, |inner| inner.connections.is_empty().then_some(()));
        shared.change(|inner| inner.listening = false);
    }
}

/// Reads one request, lets it go wrong if it has to, and answers it.
fn answer(shared: &Shared, mut stream: UnixStream) {
    let Some(request) = read_request(&mut stream) else { return };
    let fault = shared.change(|inner| {
        inner.requests.push(request.clone());
        match inner.cut.take() {
            Some((0, end)) => {
                inner.faults.push(("*".to_owned(), Fault::Drop));
                return Some(end);
            }
            cut => inner.cut = cut.map(|(left, end)| (left - 1, end)),
        }
        fault_of(inner, &request)
    });
    let client = routes::Client { shared, stream: &stream };
    match fault {
        Some(Fault::Hang) => {
            while client.is_there() && fault_of(&shared.lock(), &request) == Some(Fault::Hang) {
                shared.wait(routes::LOOK, |inner| (fault_of(inner, &request) != Some(Fault::Hang)).then_some(()));
            }
        }
        Some(Fault::Slow(time)) => {
            shared.wait(time, |inner| (inner.mode != Mode::Listening).then_some(()));
        }
        Some(Fault::Status(status, message)) => {
            return client.send(routes::refusal(status, &message), &request, false);
        }
        Some(Fault::Drop) => return drop(stream.shutdown(Shutdown::Both)),
        Some(Fault::Truncate | Fault::Mute) | None => {}
    }
    let reply = shared.change(|inner| routes::reply(&mut inner.model, &request));
    if fault == Some(Fault::Mute) {
        return drop(stream.shutdown(Shutdown::Both));
    }
    let half = fault_of(&shared.lock(), &request) == Some(Fault::Truncate);
    client.send(reply, &request, half);
}

fn fault_of(inner: &Inner, request: &Request) -> Option<Fault> {
    inner.faults.iter().rev().find(|(route, _)| matches(route, request)).map(|(_, fault)| fault.clone())
}

fn matches(route: &str, request: &Request) -> bool {
    let asked = format!("{} {}", request.method, request.path);
    let (pattern, asked): (Vec<_>, Vec<_>) = (route.split('/').collect(), asked.split('/').collect());
    route == "*"
        || pattern.len() == asked.len() && pattern.iter().zip(&asked).all(|(want, is)| want == is || *want == "*")
}

fn read_request(stream: &mut UnixStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        read_more(stream, &mut bytes)?;
    };
    let mut body = bytes.split_off(end + 4);
    let head = String::from_utf8(bytes).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let (method, rest) = lines.next()?.split_once(' ')?;
    let (target, _) = rest.split_once(' ')?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (version, path) = match path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((version, rest)) if version.starts_with(|c: char| c.is_ascii_digit()) => (version, format!("/{rest}")),
        _ => ("", path.to_owned()),
    };
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.get("content-length").map_or(Some(0), |text| text.parse().ok())?;
    while body.len() < length {
        read_more(stream, &mut body)?;
    }
    let query = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decode(k), decode(v))).collect();
    Some(Request { method: method.to_owned(), path: decode(&path), version: version.to_owned(), query, headers, body })
}

fn read_more(stream: &mut UnixStream, into: &mut Vec<u8>) -> Option<()> {
    let mut chunk = [0; 4096];
    let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
    into.extend_from_slice(&chunk[..count]);
    Some(())
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let hex = after.get(..2).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes all of it; a client that went away is its own business.
fn write(mut stream: &UnixStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}
