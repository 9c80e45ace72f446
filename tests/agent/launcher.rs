//! `cross/rootfs/launch` with fake agents: which file it starts, that the agent is its very process, and `-loop`.

use super::LIMIT;
use crate::util::{TempDir, program, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
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

    fn launch(&self, options: &[&str]) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/rootfs/launch"));
        command.args(options).arg(self.0.path()).args(["-config", "a file"]).env_remove("IRONFLOCK_LAUNCHER");
        command.env("LAUNCH_PAUSE", "0").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self) -> Output {
        self.launch(&[]).output().expect("the launcher starts")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[test]
fn the_agent_is_the_launchers_own_process_with_its_words_and_its_exit_code() {
    let folder = Folder::new();
    folder.agent("reagent-v1.0.0", "tr '\\0' ' ' </proc/$$/cmdline; exit 7", 0);
    folder.link("Reagent-active", "reagent-v1.0.0");
    let child = folder.launch(&[]).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let active = folder.0.join("Reagent-active");
    let said = format!("reagent-v1.0.0 {pid} 1 -config a file\n/bin/sh {} -config a file", active.display());
    assert_eq!((text(&output.stdout), output.status.code()), (said, Some(7)));
    assert_eq!(text(&output.stderr), "");
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
        let output = folder.run();
        let said = text(&output.stdout);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let name = said.split(' ').next().unwrap().to_owned();
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
    let output = folder.run();
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    assert!(text(&output.stderr).contains("no agent in"), "{}", text(&output.stderr));
}

/// A launcher that loops. It and its agent go with it.
struct Loop {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    agent: Option<Pid>,
}

impl Loop {
    fn of(folder: &Folder) -> Loop {
        let mut child = folder.launch(&["-loop"]).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Loop { child, lines, agent: None }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The next line of an agent.
    fn line(&mut self) -> String {
        self.lines.next().expect("a further line").unwrap()
    }

    /// The next start: the file, and the agent's process.
    fn next(&mut self) -> (String, Pid) {
        let said = self.line();
        let mut words = said.split(' ');
        let name = words.next().unwrap().to_owned();
        let pid = Pid::from_raw(words.next().unwrap().parse().unwrap()).unwrap();
        assert!(name.starts_with("reagent-") && !pid.is_init(), "{said}");
        self.agent = Some(pid);
        (name, pid)
    }

    fn ends(&mut self) -> Option<i32> {
        let status = wait_until(LIMIT, "the launcher ends", || self.child.try_wait().unwrap());
        status.code()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(agent) = self.agent {
            let _ = kill_process(agent, Signal::KILL);
        }
    }
}

#[test]
fn with_loop_the_agent_is_started_again_however_it_ends() {
    let folder = Folder::new();
    folder.agent("reagent-v1.0.0", "while :; do sleep 1; done", 10);
    folder.agent("reagent-latest", "exit 1", 0);
    folder.link("Reagent-active", "reagent-latest");
    let mut launcher = Loop::of(&folder);
    let (_, first) = launcher.next();
    assert_ne!(first, launcher.pid());
    assert_eq!(launcher.next().0, "reagent-latest", "it had exit code 1");
    folder.link("Reagent-active", "reagent-v1.0.0");
    let running = std::iter::repeat_with(|| launcher.next()).find(|(name, _)| name == "reagent-v1.0.0").unwrap().1;
    kill_process(running, Signal::KILL).unwrap();
    fs::remove_file(folder.0.join("Reagent-active")).unwrap();
    assert_eq!(launcher.next().0, "reagent-v1.0.0", "the link was mended in between");
}

#[test]
fn with_loop_a_sigterm_ends_the_agent_first_and_then_the_launcher() {
    let folder = Folder::new();
    // It takes its time, and says so.
    let life = "trap 'echo ends; exit 0' TERM; echo waits; while :; do sleep 0.1; done";
    folder.agent("reagent-v1.0.0", life, 0);
    let mut launcher = Loop::of(&folder);
    let (_, agent) = launcher.next();
    assert_eq!(launcher.line(), "waits");
    kill_process(launcher.pid(), Signal::TERM).unwrap();
    let said = launcher.line();
    let code = launcher.ends();
    assert_eq!((said.as_str(), code), ("ends", Some(0)));
    assert!(!Path::new(&format!("/proc/{}", agent.as_raw_nonzero())).exists(), "the agent was waited for");
}

#[test]
fn with_loop_a_sigterm_ends_a_launcher_that_has_nothing_to_start_or_pauses() {
    let folder = Folder::new();
    let mut child = folder.launch(&["-loop"]).env("LAUNCH_PAUSE", "60").spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(told.next().unwrap().unwrap().contains("no agent in"));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = wait_until(LIMIT, "the launcher ends", || child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}
