//! `make run` as a newcomer sees it: it shows what it promises, and nothing of it stays.

use crate::real::Docker;
use crate::util::wait_until;
use crossbeam_channel::{Receiver, unbounded};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// From nothing to an app that answers: an image of 64 MB is made, pushed and pulled on the way.
const PATIENCE: Duration = Duration::from_secs(180);

/// The program, built together with the agent that is under test.
fn demo() -> PathBuf {
    let agent = Path::new(env!("CARGO_BIN_EXE_reagent"));
    let mut cargo = Command::new(env!("CARGO"));
    // Set by the cargo that runs the tests. Build scripts look at them, and everything would be built anew.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_")
            || name.starts_with("CARGO_MANIFEST_")
            || name == "OUT_DIR"
            || name == "REAGENT_ARCH"
        {
            cargo.env_remove(&*name);
        }
    }
    let status = cargo
        .args(["build", "--quiet", "--locked", "--offline", "--example", "demo", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .status()
        .expect("cargo starts");
    assert!(status.success(), "the demonstration does not build");
    agent.with_file_name("examples").join("demo")
}

/// A demonstration that runs; killed on drop.
struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Running {
    fn start(args: &[&str]) -> Running {
        let mut child = Command::new(demo())
            .args(args)
            .arg("--agent")
            .arg(env!("CARGO_BIN_EXE_reagent"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the demonstration starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (written, lines) = unbounded();
        let read = move || {
            for line in stdout.split(b'\n').map_while(Result::ok) {
                let _ = written.send(String::from_utf8(line).expect("the output is text"));
            }
        };
        reagent::thread::spawn("demo-output", |_| {}, read).expect("a thread starts");
        Running { child, lines, seen: Vec::new() }
    }

    /// Waits for a line with this kind that contains this text.
    #[track_caller]
    fn wait_for(&mut self, kind: &str, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if is_line(&line, kind, text) {
                        return line;
                    }
                }
                Err(_) => panic!("no line {kind} {text:?}; there was\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for its end; all its lines.
    #[track_caller]
    fn finish(mut self) -> (ExitStatus, Vec<String>) {
        let child = &mut self.child;
        let status = wait_until(PATIENCE, "the demonstration ends", || child.try_wait().expect("it is our child"));
        self.seen.extend(self.lines.iter());
        (status, std::mem::take(&mut self.seen))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_line(line: &str, kind: &str, text: &str) -> bool {
    let words = line.split_once(" s  ").map(|(_, rest)| rest).unwrap_or_default();
    words.split_whitespace().next() == Some(kind) && words.contains(text)
}

/// What the line about the agent says: its process and its folder.
fn agent_of(lines: &[String]) -> (Pid, PathBuf) {
    let line = lines.iter().find(|line| line.contains("files in ")).expect("a line about the agent");
    let (before, folder) = line.split_once(", files in ").expect("it names the folder");
    let pid = before.rsplit(' ').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    (pid.expect("it names the process"), PathBuf::from(folder))
}

#[track_caller]
fn assert_nothing_is_left(docker: &Docker, lines: &[String]) {
    let (pid, folder) = agent_of(lines);
    assert!(test_kill_process(pid).is_err(), "the agent still runs");
    assert!(!folder.exists(), "{} is still there", folder.display());
    assert_eq!(docker.names("prod_501_demo"), Vec::<String>::new());
    let registry =
        lines.iter().find_map(|line| line.split_once("registry at ")?.1.split(',').next()).expect("a registry");
    assert!(!docker.run(&["images", "--format", "{{.Repository}}"]).contains(registry), "an image is left");
    assert!(std::net::TcpStream::connect(registry).is_err(), "the registry still runs");
}

/// One test for both ends: each of them takes its time.
#[test]
fn the_demonstration_shows_what_happens_and_leaves_nothing_behind() {
    let mut docker = Docker::for_agent();
    docker.own_containers("prod_501_demo");

    let (status, lines) = Running::start(&["--plain", "--seconds", "2"]).finish();
    let all = lines.join("\n");
    assert!(status.success(), "{status}\n{all}");
    for (kind, text) in [
        ("device", "CONNECTED"),
        ("app", "STARTING"),
        ("app", "DOWNLOADING"),
        ("pull", "%"),
        ("app", "RUNNING"),
        ("log", "demo 1.0.0 line 1"),
        ("web", "answers: demo 1.0.0"),
        ("app", "UNINSTALLED"),
        ("setup", "no container, image, process or file"),
    ] {
        assert!(lines.iter().any(|line| is_line(line, kind, text)), "no line {kind} {text:?} in\n{all}");
    }
    assert!(!lines.iter().any(|line| is_line(line, "error", "")), "{all}");
    assert!(!all.contains(['\x1b', '\r']), "escape codes or carriage returns in a pipe:\n{all}");
    assert_nothing_is_left(&docker, &lines);

    let mut running = Running::start(&[]);
    running.wait_for("web", "answers: demo 1.0.0");
    let first = agent_of(&running.seen).0;
    kill_process(first, Signal::KILL).expect("the agent runs");
    running.wait_for("setup", "started again");
    running.wait_for("device", "CONNECTED");
    running.wait_for("log", "demo 1.0.0 line");
    let demo = i32::try_from(running.child.id()).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(demo, Signal::INT).expect("the demonstration runs");
    let (status, lines) = running.finish();
    assert!(status.success(), "{status}\n{}", lines.join("\n"));
    assert_nothing_is_left(&docker, &lines);
}
