//! The real binary against the local cloud and the fake Docker daemon with its faults.
//!
//! [`Device`] holds the three. Each test has its own, on ports and in folders of its own. What a test waits for is an event
//! of the cloud or the daemon; [`LIMIT`] only says when to give up.

#![allow(clippy::unwrap_used, reason = "in a test it says what was not as expected")]

mod apps;
mod attack;
mod badinput;
mod boot;
mod command_line;
mod crash;
mod engine;
mod idle;
mod install;
mod launcher;
mod logs;
mod manager;
mod online;
mod power;
mod procedures;
mod secrets;
mod service;
mod session;
mod sync;
mod uploads;

use crate::cloud::Cloud;
use crate::cloud::backend::Call;
use crate::cloud::peer::{Failure, Payload};
use crate::cloud::router::Traffic;
use crate::cloud::wanted::WantedApp;
use crate::util::docker_daemon::{DockerDaemon, Pull};
use crate::util::{Agent, Options};
use crossbeam_channel::Receiver;
use reagent::release;
use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value};
use std::time::Duration;

/// When a test gives up. Long, since the machine may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(30);

/// The registry of the `.flock`; nobody listens there, since the fake daemon pulls from its own list.
const REGISTRY: &str = "127.0.0.1:5000";

/// One device with its cloud and its engine.
struct Device {
    // The agent goes first: it would notice the end of the others.
    agent: Agent,
    cloud: Cloud,
    engine: DockerDaemon,
}

impl Device {
    /// How often the engine was asked for something, the agent's own looks at a container and its log left out: one may
    /// still be under way when an app has just been installed.
    pub fn asked(&self) -> usize {
        let own = |path: &str| path.starts_with("/containers/") && (path.ends_with("/json") || path.ends_with("/logs"));
        self.engine
            .requests()
            .iter()
            .filter(|request| request.path == "/containers/json" || !own(&request.path))
            .count()
    }

    /// All parts, the agent not yet started.
    fn prepare() -> Device {
        let cloud = Cloud::start(0, REGISTRY).expect("a free loopback port");
        let engine = DockerDaemon::start();
        let options = Options {
            flock: cloud.flock(),
            env: vec![("DOCKER_HOST".to_owned(), engine.host())],
            ..Options::default()
        };
        Device { agent: Agent::prepare(options), cloud, engine }
    }

    /// A device that is CONNECTED.
    #[track_caller]
    fn online() -> Device {
        let mut device = Device::prepare();
        device.connect();
        device
    }

    /// Starts the agent (again) and waits until it is CONNECTED.
    #[track_caller]
    fn connect(&mut self) {
        let mark = self.cloud.backend.mark();
        self.agent.restart();
        self.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    }

    /// Further flags of the next start. The last value of a flag counts.
    fn flag(&mut self, flag: &str, value: &str) {
        self.agent.options.flags.extend([flag.to_owned(), value.to_owned()]);
    }

    fn authid(&self) -> String {
        self.cloud.backend.identity.authid()
    }

    /// The reference of an app's image.
    fn image(app: &WantedApp, version: &str) -> String {
        format!("{REGISTRY}/apps/{}:{version}", app.image(release::ARCH))
    }

    /// A pull of the app's image in its present version works.
    fn offer(&self, app: &WantedApp) {
        self.engine.offer(&Device::image(app, &app.present_version), Pull::Works);
    }

    /// Has the app installed and running.
    #[track_caller]
    fn install(&self, app: &WantedApp) {
        self.offer(app);
        self.request(app, "RUNNING");
        self.engine.wait_for_status(&app.container(), "running");
    }

    /// Requests an app and waits until it is reported in this state.
    #[track_caller]
    fn request(&self, app: &WantedApp, state: &str) {
        let mark = self.cloud.backend.mark();
        let answer = self.cloud.backend.request_app_state(app).expect("the request is taken");
        assert_eq!((answer.args, answer.kwargs), (vec![], Map::new()), "the result is empty");
        self.cloud.backend.wait_for_state(LIMIT, mark, app.app_key, state);
    }

    /// Requests another target for an app that the platform knows and waits until it is reported in that state.
    #[track_caller]
    fn target(&self, app: &WantedApp, target: &str) {
        self.request(&self.cloud.backend.known(app.app_key, "PROD").target(target), target);
    }

    /// Waits until the last report of an app after `mark` has this state.
    #[track_caller]
    fn wait_for_last_state(&self, mark: usize, app_key: u64, state: &str) {
        self.cloud.backend.wait_for(LIMIT, &format!("app {app_key} is {state} in the end"), |calls| {
            let of_app = |call: &&Call| {
                call.is("update_app_on_device")
                    && call.argument()["app_key"] == app_key
                    && call.argument()["state"].is_string()
            };
            let last = calls[mark..].iter().rfind(of_app);
            last.filter(|call| call.argument()["state"] == state).map(drop)
        });
    }

    /// What was reported of an app from the `mark`th call on.
    fn reports_since(&self, mark: usize, app_key: u64) -> Vec<String> {
        let calls = self.cloud.backend.calls();
        let of_app = calls[mark..].iter().filter(|call| call.is("update_app_on_device"));
        let of_app = of_app.filter(|call| call.argument()["app_key"] == app_key);
        of_app.filter_map(|call| call.argument()["state"].as_str().map(str::to_owned)).collect()
    }

    /// Calls a procedure of the agent as `system`.
    fn call(&self, name: &str, args: Vec<Value>) -> Result<Payload, Failure> {
        self.cloud.backend.call_agent(name, args, Map::new())
    }

    /// The engine's container ids by name.
    fn container_id(&self, name: &str) -> Option<String> {
        self.engine.container_id(name)
    }

    /// The host port that a container was created with.
    fn host_port(&self, name: &str) -> Option<String> {
        let spec = self.engine.created_with(name)?;
        let bindings = spec["HostConfig"]["PortBindings"].as_object()?.clone();
        bindings.values().find_map(|hosts| hosts[0]["HostPort"].as_str().map(str::to_owned))
    }

    /// Rows of a query on the agent's database, each as its first column's text. The agent may run.
    #[track_caller]
    fn rows(&self, query: &str) -> Vec<String> {
        let path = self.agent.agent_dir().join("reagent.db");
        let conn = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database is there");
        conn.busy_timeout(LIMIT).expect("a timeout can be set");
        let mut statement = conn.prepare(query).expect("the query is right");
        let text = |value: SqlValue| match value {
            SqlValue::Null => String::new(),
            SqlValue::Integer(number) => number.to_string(),
            SqlValue::Text(text) => text,
            odd => format!("{odd:?}"),
        };
        let rows = statement.query_map([], |row| row.get(0).map(text)).expect("the query runs");
        rows.map(|row| row.expect("a row is read")).collect()
    }

    /// The apps of the database with their states, as `key:state`.
    #[track_caller]
    fn recorded(&self) -> Vec<String> {
        self.rows("SELECT app_key || ':' || state FROM AppStates ORDER BY app_key")
    }
}

/// An app with one published port.
fn app(app_key: u64, name: &str) -> WantedApp {
    WantedApp::new(app_key, name).port(8080, "http")
}

/// The text of an error answer of the agent.
#[track_caller]
fn refusal(answer: Result<Payload, Failure>) -> String {
    match answer {
        Err(Failure::Refused { uri, args, kwargs }) => {
            assert_eq!((uri.as_str(), args.len(), kwargs.len()), ("wamp.error.canceled", 1, 0), "{args:?}");
            args[0]["error"].as_str().unwrap_or_else(|| panic!("no text in {args:?}")).to_owned()
        }
        other => panic!("no refusal but {other:?}"),
    }
}

/// What the agent sends, message by message, until `last` is true (that message included).
#[track_caller]
fn sent_until(traffic: &Receiver<Traffic>, authid: &str, last: impl Fn(&Value) -> bool) -> Vec<Value> {
    let (mut conn, mut sent) = (None, Vec::new());
    loop {
        let Ok(passed) = traffic.recv_timeout(LIMIT) else { panic!("the agent sent no more than {sent:#?}") };
        let Traffic::FromPeer(from, message) = passed else { continue };
        if message[0] == 1 && message[2]["authid"] == authid {
            conn = Some(from);
        }
        if conn == Some(from) {
            let ends = last(&message);
            sent.push(message);
            if ends {
                return sent;
            }
        }
    }
}
