//! A Crossbar with users and addresses of its own, to be killed, frozen and started again.

use super::link::Guard;
use super::run;
use crate::cloud::flock::{BACKEND_SECRET, USER_SECRET};
use crate::cloud::peer::{Login, Peer};
use crate::util::{TempDir, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long Crossbar may take to start on a busy machine.
const START: Duration = Duration::from_secs(90);

/// The process with its workers, as one process group.
pub struct Router {
    pub port: u16,
    addresses: Vec<String>,
    /// Devices by authid, with their secrets.
    pub devices: Vec<(String, String)>,
    process: Option<(Child, Guard)>,
    folder: TempDir,
}

impl Router {
    /// On a free port of 127.0.0.1 and further addresses, with the users `system` and `42` and these devices.
    #[track_caller]
    pub fn start(addresses: &[String], devices: Vec<(String, String)>) -> Router {
        run(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/env/crossbar.sh"), &["install"]);
        let addresses = ["127.0.0.1".to_owned()].into_iter().chain(addresses.iter().cloned()).collect();
        let folder = TempDir::new("crossbar");
        let mut router = Router { port: free_port(), addresses, devices, process: None, folder };
        router.come_back();
        router
    }

    /// Its URL on an address.
    pub fn url(&self, address: &str) -> String {
        format!("ws://{address}:{}/ws-re-dev", self.port)
    }

    /// A session of the user 42.
    #[track_caller]
    pub fn user(&self) -> Peer {
        Peer::join(&Login::new(&self.url("127.0.0.1"), "42", USER_SECRET)).expect("the user 42 may join")
    }

    /// SIGKILL to all its processes.
    pub fn kill9(&mut self) {
        if let Some((mut child, guard)) = self.process.take() {
            drop(guard);
            let _ = child.wait();
        }
    }

    /// Starts it (again), on its port. Returns when it lets users in.
    #[track_caller]
    pub fn come_back(&mut self) {
        self.launch();
        let login = Login::new(&self.url("127.0.0.1"), "42", USER_SECRET);
        wait_until(START, "Crossbar lets users in", || Peer::join(&login).ok());
    }

    /// [`Router::come_back`] without the wait.
    pub fn launch(&mut self) {
        std::fs::write(self.folder.join("config.json"), self.config().to_string()).expect("a folder takes a file");
        let log = File::create(self.folder.join("log")).expect("a folder takes a file");
        let real = std::env::var_os("REAL_DIR")
            .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.real")), PathBuf::from);
        let mut command = Command::new(real.join("crossbar/bin/crossbar"));
        command.args(["start", "--logformat", "none", "--cbdir"]).arg(self.folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log).process_group(0);
        let child = command.spawn().expect("the installed Crossbar starts");
        let guard = Guard::new(r#"kill -s KILL -- "-$1""#, &[&child.id().to_string()]);
        self.process = Some((child, guard));
    }

    /// SIGSTOP to all its processes: the machine accepts and acknowledges, and nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let (child, _) = self.process.as_ref().expect("Crossbar runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process_group(pid, signal).expect("the group is ours to signal");
    }

    fn config(&self) -> Value {
        let all = json!({"call": true, "register": true, "publish": true, "subscribe": true});
        let permissions = json!([{"uri": "", "match": "prefix", "allow": all,
            "disclose": {"caller": true, "publisher": true}, "cache": true}]);
        let user = |secret: &str, role: &str| json!({"secret": secret, "role": role});
        let mut users = Map::from_iter([
            ("42".to_owned(), user(USER_SECRET, "backend")),
            ("system".to_owned(), user(BACKEND_SECRET, "backend")),
        ]);
        users.extend(self.devices.iter().map(|(authid, secret)| (authid.clone(), user(secret, "device"))));
        let transport = |address: &String| {
            json!({"type": "web",
                "endpoint": {"type": "tcp", "port": self.port, "interface": address, "backlog": 1024}, "paths": {
                    "/": {"type": "json", "value": {}},
                    "ws-re-dev": {"type": "websocket", "serializers": ["json"],
                        // A router that never asks keeps the session of a dead link for ever.
                        "options": {"auto_ping_interval": 10000, "auto_ping_timeout": 10000},
                        "auth": {"wampcra": {"type": "static", "users": users}}}}})
        };
        let transports: Vec<Value> = self.addresses.iter().map(transport).collect();
        json!({"version": 2, "controller": {}, "workers": [{"type": "router", "transports": transports,
            "realms": [{"name": "realm1", "roles": [{"name": "device", "permissions": permissions},
                {"name": "backend", "permissions": permissions}]}]}]})
    }
}

/// A port that nobody listens on and that is given to nobody else: Crossbar takes it seconds later. Below the range from
/// which the kernel takes the ports of connections.
fn free_port() -> u16 {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let next = || 15_000 + (std::process::id() as usize * 32 + COUNT.fetch_add(1, Ordering::SeqCst)) % 15_000;
    std::iter::repeat_with(|| u16::try_from(next()).expect("below 30,000"))
        .find(|port| TcpListener::bind(("0.0.0.0", *port)).is_ok())
        .expect("the iterator has no end")
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().rev().take(12).collect();
            eprintln!("--- the end of Crossbar's log\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        self.kill9();
    }
}
