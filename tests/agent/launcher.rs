//! `cross/rootfs/launch` with fake agents: which file it starts, that the agent is its very process, and `-loop`.

use super::LIMIT;
use crate::util::{TempDir, lines_of, program, wait_until};
use crossbeam_channel::Receiver;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// A folder of agents.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(TempDir::new("launcher"))
    }

    /// An agent that says its file, its process and its words, then does what `life` says. It is `age` seconds old.
    fn agent(&self, name: &str, life: &str, age: u64) {
        let path = self.0.join(name);
        program(&path, &format!("echo \"{name} $$ $IRONFLOCK_LAUNCHER $*\"\n{life}"));
        let file = fs::File::open(&path).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the age of a file is a time of the wall clock")]
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }

    fn link(&self, name: &str, target: &str) {
        let _ = fs::remove_file(self.0.join(name));
        symlink(target, self.0.join(name)).unwrap();
    }

    fn active(&self) -> String {
        let target = fs::read_link(self.0.join("Reagent-active")).unwrap();
        // The manager script compares texts, and its own are absolute.
        assert!(target.parent() == Some(self.0.path()) || target.is_relative(), "{}", target.display());
        target.file_name().unwrap().to_string_lossy().into_owned()
    }

    /// A launcher at work, and what is said to it and by its agents.
    fn launch(&self, options: &[&str], pause: &str) -> Launcher {
        let mut child = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/rootfs/launch"))
            .args(options)
            .arg(self.0.path())
            .args(["-config", "a file"])
            .env_remove("IRONFLOCK_LAUNCHER")
            .env("LAUNCH_PAUSE", pause)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("the launcher starts");
        let lines = lines_of(child.stdout.take().unwrap());
        let complaints = lines_of(child.stderr.take().unwrap());
        Launcher { child, lines, complaints }
    }
}

/// A launcher, which goes with its agents.
struct Launcher {
    child: Child,
    /// Of the agents.
    lines: Receiver<String>,
    /// Its own.
    complaints: Receiver<String>,
}

impl Launcher {
    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next line of an agent.
    #[track_caller]
    fn line(&self) -> String {
        self.lines.recv_timeout(LIMIT).expect("a further line")
    }

    /// The next line of its own.
    #[track_caller]
    fn complaint(&self) -> String {
        self.complaints.recv_timeout(LIMIT).expect("a complaint")
    }

    /// The next start: the file, and the agent's process.
    #[track_caller]
    fn next(&self) -> (String, Pid) {
        let said = self.line();
        let mut words = said.split(' ');
        let name = words.next().unwrap().to_owned();
        (name, Pid::from_raw(words.next().unwrap().parse().unwrap()).unwrap())
    }

    /// Its exit code, and what its agents have written that nobody has read.
    #[track_caller]
    fn ends(mut self) -> (Option<i32>, Vec<String>) {
        let status = wait_until(LIMIT, "the launcher ends", || self.child.try_wait().unwrap());
        // The readers end with the pipes.
        let rest = std::iter::from_fn(|| self.lines.recv_timeout(LIMIT).ok());
        (status.code(), rest.collect())
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.wait();
    }
}

#[test]
fn the_agent_is_the_launchers_own_process_with_its_words_and_its_exit_code() {
    let folder = Folder::new();
    folder.agent("reagent-v1.0.0", "tr '\\0' ' ' </proc/$$/cmdline; exit 7", 0);
    folder.link("Reagent-active", "reagent-v1.0.0");
    let launcher = folder.launch(&[], "0");
    let own = format!("reagent-v1.0.0 {} 1 -config a file", launcher.pid().as_raw_nonzero());
    let words = format!("/bin/sh {} -config a file ", folder.0.join("Reagent-active").display());
    assert_eq!(launcher.ends(), (Some(7), vec![own, words]));
}

#[test]
fn a_link_that_leads_nowhere_is_mended_with_the_best_that_is_there_and_a_good_one_is_left_alone() {
    let folder = Folder::new();
    folder.agent("reagent-latest", "", 0);
    folder.agent("reagent-v1.0.0", "", 300);
    folder.agent("reagent-v1.1.0", "", 200);
    folder.agent("reagent-v1.2.0", "", 100);
    // Neither empty nor what nobody may run is an agent, nor is what is quarantined.
    fs::write(folder.0.join("reagent-v2.0.0"), "").unwrap();
    folder.agent("failed-v3.0.0", "", 0);
    let started = || {
        let launcher = folder.launch(&[], "0");
        let (name, _) = launcher.next();
        assert_eq!(launcher.ends(), (Some(0), vec![]));
        assert_eq!(folder.active(), name, "the link says what was started");
        name
    };
    assert_eq!(started(), "reagent-v1.2.0", "the newest that was downloaded");
    folder.link("Reagent-active", "reagent-v1.0.0");
    assert_eq!(started(), "reagent-v1.0.0", "what it leads to is right");
    folder.link("Reagent-previous", &folder.0.join("reagent-v1.1.0").display().to_string());
    folder.link("Reagent-active", "gone");
    assert_eq!(started(), "reagent-v1.1.0", "the previous one");
    folder.link("Reagent-previous", "gone");
    folder.link("Reagent-active", "reagent-v2.0.0");
    assert_eq!(started(), "reagent-v1.2.0");
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        fs::remove_file(folder.0.join(&format!("reagent-v{version}"))).unwrap();
    }
    assert_eq!(started(), "reagent-latest", "the one that came with the device");
    fs::remove_file(folder.0.join("reagent-latest")).unwrap();
    let launcher = folder.launch(&[], "0");
    assert!(launcher.complaint().contains("no agent in"));
    assert_eq!(launcher.ends(), (Some(1), vec![]));
}

#[test]
fn where_the_link_cannot_be_mended_the_agent_is_started_under_its_own_name() {
    let folder = Folder::new();
    folder.agent("reagent-latest", "", 0);
    // A folder in its place: no link can take that, made by root neither.
    fs::create_dir(folder.0.join("Reagent-active")).unwrap();
    let launcher = folder.launch(&[], "0");
    assert_eq!(launcher.next().0, "reagent-latest");
    assert_eq!(launcher.ends(), (Some(0), vec![]));
}

#[test]
fn with_loop_the_agent_is_started_again_however_it_ends() {
    let folder = Folder::new();
    folder.agent("reagent-v1.0.0", "while :; do sleep 1; done", 10);
    folder.agent("reagent-latest", "exit 1", 0);
    folder.link("Reagent-active", "reagent-latest");
    let launcher = folder.launch(&["-loop"], "0");
    let (_, first) = launcher.next();
    assert_ne!(first, launcher.pid());
    assert_eq!(launcher.next().0, "reagent-latest", "it had exit code 1");
    folder.link("Reagent-active", "reagent-v1.0.0");
    let running = std::iter::repeat_with(|| launcher.next()).find(|(name, _)| name == "reagent-v1.0.0").unwrap().1;
    fs::remove_file(folder.0.join("Reagent-active")).unwrap();
    kill_process(running, Signal::KILL).unwrap();
    assert_eq!(launcher.next().0, "reagent-v1.0.0", "the link was mended in between");
}

#[test]
fn with_loop_a_sigterm_ends_the_agent_first_and_then_the_launcher() {
    let folder = Folder::new();
    folder.agent("reagent-v1.0.0", "trap 'echo ends; exit 0' TERM; echo waits; while :; do sleep 0.1; done", 0);
    let launcher = folder.launch(&["-loop"], "0");
    let (_, agent) = launcher.next();
    assert_eq!(launcher.line(), "waits");
    kill_process(launcher.pid(), Signal::TERM).unwrap();
    assert_eq!(launcher.line(), "ends");
    assert_eq!(launcher.ends(), (Some(0), vec![]));
    assert!(!Path::new(&format!("/proc/{}", agent.as_raw_nonzero())).exists(), "the agent was waited for");
}

#[test]
fn with_loop_a_sigterm_ends_a_launcher_that_has_nothing_to_start_or_pauses() {
    let folder = Folder::new();
    let launcher = folder.launch(&["-loop"], "60");
    assert!(launcher.complaint().contains("no agent in"));
    kill_process(launcher.pid(), Signal::TERM).unwrap();
    assert_eq!(launcher.ends().0, Some(0));
}
