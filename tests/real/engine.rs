//! An engine of a test's own, which the test may stop, kill and start again.

use super::{Docker, script};
use crate::util::TempDir;
use rustix::process::{Pid, Signal, kill_process};
use std::path::PathBuf;

/// A Docker Engine with its own data and network. Dropping it ends it with everything that runs on it.
///
/// Agents clean up containers of the platform that they do not know. On one engine they would remove each other's, hence
/// one engine for each agent under test; it is there in a third of a second.
pub struct Engine {
    folder: TempDir,
}

impl Engine {
    /// A running one.
    #[track_caller]
    pub fn start() -> Engine {
        let engine = Engine::prepare();
        engine.launch();
        engine
    }

    /// One that does not run yet.
    pub fn prepare() -> Engine {
        Engine { folder: TempDir::new("engine") }
    }

    /// Starts the daemon, or starts it again.
    #[track_caller]
    pub fn launch(&self) {
        script("engine.sh", &["start", &self.dir()], &[]);
    }

    /// Ends the daemon in good order (SIGTERM): it stops its containers first.
    #[track_caller]
    pub fn terminate(&self) {
        self.end(Signal::TERM);
    }

    /// Kills the daemon (SIGKILL); the containers run on until it is launched again.
    #[track_caller]
    pub fn kill9(&self) {
        self.end(Signal::KILL);
    }

    /// The daemon answers nothing any more, until [`Engine::thaw`]; its containers run on.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// The daemon goes on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid()).expect("a process id"), signal).expect("the daemon is ours to signal");
    }

    #[track_caller]
    fn end(&self, signal: Signal) {
        let pid = self.pid();
        self.signal(signal);
        crate::util::wait_until(std::time::Duration::from_secs(30), "dockerd ends", || (!alive(pid)).then_some(()));
    }

    #[track_caller]
    fn pid(&self) -> i32 {
        let pid = std::fs::read_to_string(self.folder.join("pid")).expect("the script leaves the process id");
        pid.trim().parse().expect("a process id is a number")
    }

    /// The host ports that it publishes, sorted: each has a proxy process of Docker's.
    pub fn published(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = children(self.pid())
            .into_iter()
            .filter_map(|child| std::fs::read_to_string(format!("/proc/{child}/cmdline")).ok())
            .filter_map(|arguments| arguments.split('\0').skip_while(|word| *word != "-host-port").nth(1)?.parse().ok())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// Its `DOCKER_HOST` value.
    pub fn host(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Gives it `busybox:local`, to build from.
    #[track_caller]
    pub fn has_base(&self) {
        script("images.sh", &["base"], &[("DOCKER_HOST", &self.host())]);
    }

    /// The CLI for it.
    pub fn docker(&self) -> Docker {
        Docker::at(&self.host())
    }

    fn dir(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // One that is stopped cannot be asked to end.
        if std::fs::exists(self.folder.join("pid")).unwrap_or(false) {
            let _ = std::panic::catch_unwind(|| self.thaw());
        }
        let stop = || script("engine.sh", &["stop", &self.dir()], &[]);
        // A drop while a test is failing must not panic again.
        if std::panic::catch_unwind(stop).is_err() {
            eprintln!("could not stop the engine in {}", self.dir());
        }
    }
}

/// The processes that a process has started and not collected.
pub fn children(pid: i32) -> Vec<i32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().map_while(Result::ok);
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<_>>()).collect()
}

/// Whether a process runs; one that nobody has collected does not.
pub fn alive(pid: i32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let state = state.as_deref().and_then(|stat| stat.rsplit(") ").next()).and_then(|rest| rest.chars().next());
    !matches!(state, None | Some('Z' | 'X'))
}
