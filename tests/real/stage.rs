//! What a scenario stands on: a router with a backend, an engine, a registry, and the real binary between them.

use super::engine::Engine;
use super::relay::{Gate, Relay, Seen, Side, What};
use super::tap::Tap;
use super::{Crossbar, Docker, Registry};
use crate::cloud::backend::Backend;
use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::util::{Agent, Options, TempDir, wait_until};
use crossbeam_channel::{Receiver, Sender, unbounded};
use reagent::clock;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::io::Write as _;
use std::ops::Deref;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What has to be there after a moment.
pub const SOON: Duration = Duration::from_secs(30);

/// Says on standard error where a long test stands; not captured, so that a slow run shows what it waits for.
pub fn progress(text: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("test").rsplit("::").next().unwrap_or_default().to_owned();
    // Nobody may be listening.
    drop(writeln!(std::io::stderr(), "[{:7.1}] {name}: {text}", clock::mono().as_secs_f64()));
}

/// The registry of all stages, which asks for the token and the device's secret.
#[track_caller]
pub fn registry() -> &'static Registry {
    static SHARED: OnceLock<Registry> = OnceLock::new();
    SHARED.get_or_init(|| Registry::start_with_login("registry-token", "fake-device-secret"))
}

/// Gives an app's rules host ports that no other test's app has, as the backend does with ports that were reported once.
/// Without that the agents of parallel tests compete for the start of the pool.
pub fn with_ports(mut app: WantedApp) -> WantedApp {
    static NEXT: AtomicUsize = AtomicUsize::new(45_000);
    for rule in &mut app.ports {
        rule["host_port"] = NEXT.fetch_add(1, Ordering::SeqCst).into();
    }
    app
}

/// Held by a test whose agent takes ports from the start of the pool, and expects something of it.
pub struct PoolStart(());

impl PoolStart {
    pub fn take() -> PoolStart {
        let (_, token) = PoolStart::token();
        token.recv().expect("its other end is static");
        PoolStart(())
    }

    fn token() -> &'static (Sender<()>, Receiver<()>) {
        static TOKEN: OnceLock<(Sender<()>, Receiver<()>)> = OnceLock::new();
        TOKEN.get_or_init(|| {
            let (give, take) = unbounded();
            give.send(()).expect("its other end is here");
            (give, take)
        })
    }
}

impl Drop for PoolStart {
    fn drop(&mut self) {
        PoolStart::token().0.send(()).unwrap_or_default();
    }
}

/// A Crossbar that no other stage uses at the same time. It goes back to the others, since it takes seconds to start.
pub struct Lease(Option<Crossbar>);

impl Lease {
    #[track_caller]
    pub fn take() -> Lease {
        Lease(Some(idle().1.try_recv().unwrap_or_else(|_| Crossbar::start())))
    }
}

fn idle() -> &'static (Sender<Crossbar>, Receiver<Crossbar>) {
    static IDLE: OnceLock<(Sender<Crossbar>, Receiver<Crossbar>)> = OnceLock::new();
    IDLE.get_or_init(unbounded)
}

impl Deref for Lease {
    type Target = Crossbar;
    fn deref(&self) -> &Crossbar {
        self.0.as_ref().expect("a lease holds its router until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // After a failed test nobody knows in which state it is: it ends here.
        if let (Some(crossbar), false) = (self.0.take(), std::thread::panicking()) {
            drop(idle().0.send(crossbar));
        }
    }
}

/// Everything that a scenario needs. The agent goes first, then what it used.
pub struct Stage {
    pub agent: Agent,
    pub backend: Backend,
    pub tap: Tap,
    pub requests: Requests,
    pub docker: Docker,
    /// Between the engine and the registry; the registry's name for the agent.
    pub download: Relay,
    pub crossbar: Lease,
    pub engine: Engine,
    _sockets: TempDir,
}

impl Stage {
    /// All parts run, and the agent.
    #[track_caller]
    pub fn start() -> Stage {
        let mut stage = Stage::prepare(Identity::generated());
        stage.agent.restart();
        stage.online(0);
        stage
    }

    /// All parts run; the agent waits for its start.
    #[track_caller]
    pub fn prepare(identity: Identity) -> Stage {
        let crossbar = Lease::take();
        let engine = Engine::start();
        let backend = Backend::start(&crossbar.url(), identity).expect("the backend joins Crossbar");
        let tap = Tap::start(crossbar.port());
        let sockets = TempDir::new("sockets");
        let requests = Requests::start(&sockets.join("docker"), &engine.socket());
        let download = Relay::tcp(registry().port(), false);
        let flock = backend.identity.flock(&tap.url(), &format!("127.0.0.1:{}", download.port()));
        let env = vec![("DOCKER_HOST".to_owned(), format!("unix://{}", sockets.join("docker").display()))];
        let agent = Agent::prepare(Options { flock: format!("{flock:#}"), env, ..Options::default() });
        let docker = engine.docker();
        Stage { agent, backend, tap, requests, docker, download, crossbar, engine, _sockets: sockets }
    }

    /// Waits until the agent has said CONNECTED after `mark`.
    #[track_caller]
    pub fn online(&self, mark: usize) {
        self.backend.wait_for_status(SOON, mark, "CONNECTED");
    }

    /// Has an image of a kind in the registry, for an app in a version.
    #[track_caller]
    pub fn push(&self, app: &WantedApp, version: &str, kind: &str) {
        let image = app.image(reagent::release::ARCH);
        if !registry().has(&format!("apps/{image}"), version) {
            registry().push(&self.docker, &image, version, kind);
        }
    }

    /// The reference under which the agent runs an app's image.
    pub fn reference(&self, app: &WantedApp, version: &str) -> String {
        format!("127.0.0.1:{}/apps/{}:{version}", self.download.port(), app.image(reagent::release::ARCH))
    }

    /// Asks for an app's target as the platform does, and waits until the agent has reported a state.
    #[track_caller]
    pub fn request(&self, app: &WantedApp, state: &str) {
        let mark = self.backend.mark();
        self.backend.request_app_state(app).expect("the agent takes the request");
        self.backend.wait_for_state(SOON, mark, app.app_key, state);
    }

    /// Waits for the end of what an app goes through after `mark`: for a second `state` is what was reported last, and the
    /// engine agrees: one container that runs the image of `version`, or none.
    #[track_caller]
    pub fn settles(&self, limit: Duration, mark: usize, app: &WantedApp, state: &str, version: &str) {
        let quiet = Duration::from_secs(1);
        let what = format!("app {} settles as {state} in version {version}", app.app_key);
        wait_until(limit, &what, || {
            let calls = self.backend.calls();
            let mut reports = calls[mark..].iter().filter(|call| call.argument()["app_key"] == app.app_key);
            let last = reports.rfind(|call| call.argument().get("state").is_some())?;
            let settled = last.argument()["state"] == state && last.at + quiet < clock::mono();
            (settled && self.engine_has(app, state, version)).then_some(())
        });
    }

    /// The app is all that there is on the engine: one container and its ports if it runs, else nothing.
    #[track_caller]
    pub fn nothing_else(&self, app: &WantedApp) {
        let names = self.docker.names("");
        let runs = self.docker.inspect(&app.container()).is_some();
        assert_eq!(names.len(), usize::from(runs), "{names:?}");
        let wanted = if runs { app.ports.len() } else { 0 };
        assert_eq!(self.engine.published().len(), wanted, "published: {:?}", self.engine.published());
    }

    fn engine_has(&self, app: &WantedApp, state: &str, version: &str) -> bool {
        match self.docker.inspect(&app.container()) {
            Some(container) => {
                let image = &container["Config"]["Image"];
                state == "RUNNING" && container["State"]["Running"] == true && *image == self.reference(app, version)
            }
            None => state != "RUNNING",
        }
    }

    /// What `docker inspect` shows of an app's container.
    #[track_caller]
    pub fn container(&self, app: &WantedApp) -> Value {
        self.docker.inspect(&app.container()).unwrap_or_else(|| panic!("there is no container {}", app.container()))
    }

    /// The host port of a declared port, as the backend knows it.
    #[track_caller]
    pub fn host_port(&self, app: &WantedApp, port: u64) -> u16 {
        let what = format!("a host port of {port} is reported");
        wait_until(SOON, &what, || {
            let rules = self.backend.known(app.app_key, &app.stage).ports;
            let rule = rules.into_iter().find(|rule| rule["port"] == port)?;
            u16::try_from(rule.get("host_port")?.as_u64()?).ok()
        })
    }
}

/// GET over HTTP; `None` if nobody answers with 200.
pub fn http_get(port: u16, path: &str) -> Option<String> {
    let url = format!("http://127.0.0.1:{port}{path}");
    ureq::get(url).call().ok()?.body_mut().read_to_string().ok()
}

/// Waits until a page contains a text.
#[track_caller]
pub fn page_says(port: u16, path: &str, text: &str) {
    wait_until(SOON, &format!("http://127.0.0.1:{port}{path} says {text:?}"), || {
        http_get(port, path).filter(|page| page.contains(text)).map(drop)
    });
}

/// What the agent asks the engine for: the request lines, read along on the Unix socket.
pub struct Requests {
    relay: Relay,
    lines: RefCell<Vec<(Duration, String)>>,
    opened: RefCell<HashSet<usize>>,
    /// Request lines of the connections that neither side has closed.
    open: RefCell<BTreeMap<usize, String>>,
}

impl Requests {
    fn start(path: &Path, engine: &Path) -> Requests {
        let relay = Relay::unix(path, engine);
        Requests { relay, lines: RefCell::default(), opened: RefCell::default(), open: RefCell::default() }
    }

    /// Waits until the agent has asked the engine for something after `mark` lines.
    #[track_caller]
    pub fn wait_for(&self, mark: usize, wanted: &str) {
        wait_until(SOON, &format!("the agent asks the engine for {wanted}"), || {
            self.lines()[mark..].iter().any(|(_, line)| line.contains(wanted)).then_some(())
        });
    }

    /// What the engine answers from now on does not arrive, until [`Requests::release`].
    pub fn stall(&self) {
        self.relay.stall_after(0);
    }

    /// Ends [`Requests::stall`].
    pub fn release(&self) {
        self.relay.release();
    }

    /// Holds a request, or what is answered to it; see [`Relay::gate`].
    pub fn gate(&self, side: Side, text: &str, skip: usize) -> Gate {
        self.relay.gate(side, text, skip)
    }

    /// The request lines of the connections that are open.
    pub fn open(&self) -> Vec<String> {
        drop(self.lines());
        self.open.borrow().values().cloned().collect()
    }

    /// The request lines so far: the client makes one connection for each, so the first bytes of a connection tell it.
    pub fn lines(&self) -> Vec<(Duration, String)> {
        for Seen { connection, at, what } in self.relay.seen.try_iter() {
            if matches!(what, What::Opened { reached: false }) {
                self.lines.borrow_mut().push((at, "nobody is there".to_owned()));
            }
            if let What::Closed(_) = what {
                self.open.borrow_mut().remove(&connection);
            }
            let What::Bytes(Side::Client, bytes) = what else { continue };
            if self.opened.borrow_mut().insert(connection) {
                let text = String::from_utf8_lossy(&bytes);
                let line = text.lines().next().unwrap_or_default().to_owned();
                self.open.borrow_mut().insert(connection, line.clone());
                self.lines.borrow_mut().push((at, line));
            }
        }
        self.lines.borrow().clone()
    }
}
