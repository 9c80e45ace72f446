//! One device on a path of its own: agent, fake Docker daemon with a running app, Crossbar with the platform's backend.

use super::clock::Clock;
use super::link::Link;
use super::relay::Relay;
use super::router::Router;
use crate::cloud::backend::{Backend, Call};
use crate::cloud::flock::Identity;
use crate::cloud::peer::{Failure, Payload};
use crate::cloud::wanted::WantedApp;
use crate::util::docker_daemon::{DockerDaemon, Pull};
use crate::util::{Agent, Options, wait_until};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use reagent::{clock, release, rpc};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// When a wait is given up: longer than anything that may take long here.
pub const LIMIT: Duration = Duration::from_secs(90);
const REGISTRY: &str = "127.0.0.1:5000";
/// After this a session is stable and the back-off starts anew (decision 10).
const STABLE: Duration = Duration::from_secs(61);

/// See the module. Fields are dropped in this order.
pub struct Site {
    pub agent: Agent,
    pub log: Tail,
    pub backend: Backend,
    pub engine: Arc<DockerDaemon>,
    pub router: Router,
    _relay: Option<Relay>,
    pub link: Link,
    pub clock: Clock,
    usage: Usage,
    requests: usize,
}

/// Threads (by name, without the workers, which come as they are needed and are six at most) and descriptors of the agent.
#[derive(Debug, Clone, Default, PartialEq)]
struct Usage {
    threads: Vec<String>,
    workers: usize,
    descriptors: usize,
}

impl Site {
    /// Everything up and connected, the app running. With `delay` a relay in front of the router holds everything back for
    /// so long, in each direction.
    #[track_caller]
    pub fn start(delay: Option<Duration>) -> Site {
        let (link, clock) = (Link::new(), Clock::new());
        let identity = Identity::generated();
        let devices = vec![(identity.authid(), identity.secret.clone())];
        let router = Router::start(&[link.router()], devices);
        let relay = delay.map(|delay| Relay::start(&link.router(), router.port, delay));
        let port = relay.as_ref().map_or(router.port, Relay::port);
        let url = format!("ws://{}:{port}/ws-re-dev", link.router());
        let backend = Backend::start(&router.url("127.0.0.1"), identity).expect("the backend may join");
        let engine = Arc::new(DockerDaemon::start());
        let mut env = clock.env();
        env.push(("DOCKER_HOST".to_owned(), engine.host()));
        let flock = backend.identity.flock(&url, REGISTRY).to_string();
        let agent = Agent::prepare(Options { flock, env, launcher: link.launcher(), ..Options::default() });
        let log = Tail::new(&agent.folder.join("reagent.log"));
        let usage = Usage::default();
        let mut site = Site { agent, log, backend, engine, router, _relay: relay, link, clock, usage, requests: 0 };
        site.agent.restart();
        site.backend.wait_for_status(LIMIT, 0, "CONNECTED");
        let app = app();
        site.engine.offer(&format!("{REGISTRY}/apps/{}:{}", app.image(release::ARCH), app.version), Pull::Works);
        let mark = site.backend.mark();
        site.backend.request_app_state(&app).expect("the app is wanted");
        site.backend.wait_for_state(LIMIT, mark, app.app_key, "RUNNING");
        site.usage = site.settled();
        site.requests = site.engine.requests().len();
        site
    }

    /// Makes the session count as a stable one, and waits for the ping that has become due, so that the next fault begins
    /// right after an answered ping: the worst moment for noticing it.
    pub fn settle(&mut self) {
        self.clock.skip(STABLE);
        // Each of these wakes the agent's threads, which then find what is due.
        for _ in 0..2 {
            self.call("device_handshake", vec![]).expect("the session is up");
        }
        std::thread::sleep(Duration::from_millis(500));
    }

    /// The router's id of the agent's session, as the agent reports it.
    pub fn session(&self) -> u64 {
        let reported = |call: &Call| call.argument()["wamp_session_id"].as_u64().filter(|_| is_status(call));
        self.backend.calls().iter().rev().find_map(reported).expect("a status was reported")
    }

    /// Waits until the agent reports CONNECTED on another session than this one.
    #[track_caller]
    pub fn wait_for_other(&self, session: u64, mark: usize) -> Call {
        self.backend.wait_for(LIMIT, "CONNECTED on a new session", |calls| {
            let other = |call: &&Call| {
                is_status(call)
                    && call.argument()["status"] == "CONNECTED"
                    && call.argument()["wamp_session_id"] != session
            };
            calls[mark..].iter().find(other).cloned()
        })
    }

    /// Calls a procedure of the agent as `system`.
    pub fn call(&self, name: &str, args: Vec<Value>) -> Result<Payload, Failure> {
        self.backend.call_agent(name, args, Map::new())
    }

    /// Everything is as it was before the first fault, on the session of now.
    #[track_caller]
    pub fn assert_whole(&self) {
        let user = self.router.user();
        let ask = |uri: &str, args: Vec<Value>| {
            user.call(uri, args, Map::new(), LIMIT).unwrap_or_else(|error| panic!("{uri}: {error:?}")).args
        };
        let own = |name: &str| self.backend.identity.uri(name);
        let procedures = rpc::PROCEDURES.iter().map(|row| own(row.name)).chain([own("wamp_connection_established")]);
        for uri in procedures {
            let callees = |id: Value| ask("wamp.registration.list_callees", vec![id])[0].clone();
            wait_until(LIMIT, &format!("{uri} has one callee, the session of now"), || {
                let id = ask("wamp.registration.lookup", vec![json!(uri)])[0].clone();
                (!id.is_null() && callees(id) == json!([self.session()])).then_some(())
            });
        }
        self.assert_viewers_are_heard();
        // Those that only look, and two more: whatever else there will be must not be done to this machine.
        let harmless = |row: &&rpc::Procedure| {
            row.privilege == Some(rpc::Privilege::Read) || matches!(row.name, "device_handshake" | "request_app_state")
        };
        for row in rpc::PROCEDURES.iter().filter(harmless) {
            // One that refuses these arguments has been reached.
            match self.call(row.name, vec![json!(5)]) {
                Ok(_) => {}
                Err(Failure::Refused { uri, .. }) if uri == "wamp.error.canceled" => {}
                Err(error) => panic!("{}: {error:?}", row.name),
            }
        }
        let requests = self.engine.requests();
        let changes = requests[self.requests..].iter().filter(|asked| !matches!(asked.method.as_str(), "GET" | "HEAD"));
        let changes: Vec<_> = changes.map(|asked| format!("{} {}", asked.method, asked.path)).collect();
        assert_eq!(changes, Vec::<String>::new(), "no container was touched");
        assert_eq!(self.engine.containers()[&app().container()], "running");
        assert!(!self.log.contains("testament was not taken") && !self.log.contains("panicked"));
        let (now, before) = (self.settled(), &self.usage);
        let text = format!("{now:?} is not more than before: {before:?}");
        wait_until(Duration::from_secs(20), &text, || {
            let now = usage(self.agent.pid());
            let same = now.threads == before.threads && now.descriptors <= before.descriptors && now.workers <= 6;
            same.then_some(())
        });
    }

    /// The meta topics are subscribed: somebody who begins to listen to the app's log gets its lines.
    #[track_caller]
    fn assert_viewers_are_heard(&self) {
        let container = app().container();
        let user = self.router.user();
        let topic = self.backend.identity.log_topic(&container);
        let (_, lines) = user.subscribe(&topic, "exact").expect("the user may listen");
        let line = format!("somebody listens, {}", user.session());
        wait_until(LIMIT, "a line of the app arrives", || {
            self.engine.write_log(&container, 1, &line);
            let limit = clock::mono() + Duration::from_millis(500);
            let arrived = std::iter::from_fn(|| lines.recv_timeout(limit.saturating_sub(clock::mono())).ok());
            let has_line = |event: Payload| event.args[0].as_str().is_some_and(|text| text.contains(&line));
            arrived.into_iter().any(has_line).then_some(())
        });
    }

    /// The router publishes what this session left with it. It may need a while to see that the session is gone.
    #[track_caller]
    pub fn assert_testament_of(&self, session: u64) {
        wait_until(LIMIT, "the testament", || {
            self.backend.testaments().iter().any(|left| left["wamp_session_id"] == session).then_some(())
        });
    }

    /// What the agent uses once its workers are idle: unchanged for a while.
    fn settled(&self) -> Usage {
        let (mut last, mut since) = (Usage::default(), clock::mono());
        wait_until(LIMIT, "the agent is idle", || {
            let now = usage(self.agent.pid());
            if now != last {
                (last, since) = (now, clock::mono());
            }
            (clock::mono() - since > Duration::from_secs(1)).then_some(())
        });
        last
    }
}

fn is_status(call: &Call) -> bool {
    call.is("update_device_status")
}

fn usage(pid: u32) -> Usage {
    let entries = |what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).into_iter().flatten().flatten();
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default().trim().to_owned();
    let (workers, mut threads): (Vec<_>, Vec<_>) = entries("task").map(name).partition(|name| name.starts_with("job-"));
    threads.sort();
    Usage { threads, workers: workers.len(), descriptors: entries("fd").count() }
}

/// The app of every site.
pub fn app() -> WantedApp {
    WantedApp::new(501, "demo").port(8080, "http")
}

/// The agent's log as it is written, each line with the time at which it was seen.
pub struct Tail {
    lines: std::cell::RefCell<Vec<(Duration, String)>>,
    seen: Receiver<(Duration, String)>,
    _stop: Sender<()>,
}

impl Tail {
    fn new(path: &Path) -> Tail {
        let (lines, seen) = unbounded();
        let (stop, stopped) = bounded(0);
        let path = path.to_owned();
        reagent::thread::spawn("log-tail", |_| {}, move || follow(&path, &lines, &stopped)).expect("a thread");
        Tail { lines: std::cell::RefCell::default(), seen, _stop: stop }
    }

    /// The lines so far.
    pub fn lines(&self) -> Vec<(Duration, String)> {
        let mut lines = self.lines.borrow_mut();
        lines.extend(self.seen.try_iter());
        lines.clone()
    }

    pub fn contains(&self, text: &str) -> bool {
        self.lines().iter().any(|(_, line)| line.contains(text))
    }

    /// When a line with this text was first seen after `since`.
    #[track_caller]
    pub fn wait_for(&self, since: Duration, text: &str) -> Duration {
        wait_until(LIMIT, &format!("{text:?} in the log"), || {
            self.lines().iter().find(|(at, line)| *at > since && line.contains(text)).map(|(at, _)| *at)
        })
    }

    /// When a line with this text was last seen before `until`.
    pub fn last_before(&self, until: Duration, text: &str) -> Option<Duration> {
        self.lines().iter().rev().find(|(at, line)| *at <= until && line.contains(text)).map(|(at, _)| *at)
    }
}

/// Reads what is appended, over rotations, until told to stop.
fn follow(path: &PathBuf, lines: &Sender<(Duration, String)>, stopped: &Receiver<()>) {
    let (mut file, mut rest) = (None::<fs::File>, Vec::new());
    while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
        let inode = |meta: std::io::Result<fs::Metadata>| meta.map(|meta| meta.ino()).ok();
        let read = file.as_mut().map_or(0, |file| file.read_to_end(&mut rest).unwrap_or(0));
        let now = clock::mono();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let _ = lines.send((now, String::from_utf8_lossy(&line).trim_end().to_owned()));
        }
        if read == 0 {
            if file.is_none() || file.as_ref().and_then(|file| inode(file.metadata())) != inode(fs::metadata(path)) {
                file = fs::File::open(path).ok();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A container that writes and writes, until this is dropped.
pub struct Flood {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// About so many lines of 100 bytes per second, numbered from 0 without a gap; a machine that is too slow writes fewer.
    pub fn start(engine: &Arc<DockerDaemon>, container: &str, lines_per_second: u32) -> Flood {
        let ended = Arc::new(AtomicBool::new(false));
        let (engine, container, over) = (engine.clone(), container.to_owned(), ended.clone());
        let write = move || {
            let (mut number, mut last) = (0_u64, clock::mono());
            while !over.load(Ordering::SeqCst) {
                // After a pause of the machine there is no burst to catch up with.
                let passed = (clock::mono() - last).min(Duration::from_millis(100));
                let due = number + (passed.as_secs_f64() * f64::from(lines_per_second)) as u64;
                engine.write_log_lines(&container, (number..due).map(|n| format!("{n:08} {:x<90}", "flood ")));
                (number, last) = (due, clock::mono());
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        let thread = reagent::thread::spawn("flood", |_| {}, write).expect("a thread");
        Flood { ended, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
