//! The manager script of the field (E.8, decision 19): what it does with fake binaries, and that the real one suits it.
//!
//! The first half holds the copy of the script to what was measured with the original; the second puts the agent under it.

use super::{Device, LIMIT, app};
use crate::util::{TempDir, copy_of_the_agent, lines_of, program, wait_until};
use crossbeam_channel::Receiver;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// The script at work on a folder, with a `ps` and a `systemctl` that only writes down what it is asked.
struct Manager {
    programs: TempDir,
    child: Child,
    cycles: ChildStdin,
    answers: Receiver<String>,
    /// How much of `orders` was read.
    read: usize,
    /// What `--version` said, in order.
    versions: Vec<String>,
    rolled_back: usize,
}

impl Manager {
    fn of(agent_dir: &Path) -> Manager {
        let programs = TempDir::new("programs");
        program(&programs.join("ps"), "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '");
        let orders = programs.join("orders");
        program(&programs.join("systemctl"), &format!("echo \"$*\" >>'{}'", orders.display()));
        fs::write(&orders, "").unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.path().display());
        let mut child = Command::new("sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/manager.sh"))
            .env("AGENT_DIR", agent_dir)
            .env("PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("there is a shell");
        let (cycles, answers) = (child.stdin.take().unwrap(), lines_of(child.stdout.take().unwrap()));
        Manager { programs, child, cycles, answers, read: 0, versions: Vec::new(), rolled_back: 0 }
    }

    /// One cycle: the last word that it had for systemd, `start` or `restart`.
    fn cycle(&mut self) -> Option<String> {
        self.cycles.write_all(b"\n").unwrap();
        loop {
            match self.answers.recv_timeout(LIMIT).expect("the cycle ends") {
                done if done == "done" => break,
                version => self.versions.push(version),
            }
        }
        let orders = fs::read_to_string(self.programs.join("orders")).unwrap();
        let mut order = None;
        for line in orders[self.read..].lines() {
            match line.split_once(' ').unwrap() {
                (verb, "reagent") => order = Some(verb.to_owned()),
                _ => self.rolled_back += 1,
            }
        }
        self.read = orders.len();
        order
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of fake agents, and systemd as far as the script knows it.
struct Fakes {
    agent_dir: TempDir,
    manager: Manager,
    service: Option<Child>,
    started: Vec<String>,
    restarts: usize,
}

impl Fakes {
    /// A device on which version 1 runs.
    fn new() -> Fakes {
        let agent_dir = TempDir::new("manager");
        let manager = Manager::of(agent_dir.path());
        let mut fakes = Fakes { agent_dir, manager, service: None, started: Vec::new(), restarts: 0 };
        fakes.release("1", "while :; do sleep 1; done");
        fakes.cycles(1);
        assert_eq!(fakes.started, ["1"]);
        fakes
    }

    /// Puts a release there: `life` is what it does when it is started.
    fn release(&self, version: &str, life: &str) -> PathBuf {
        let path = self.agent_dir.join(&format!("reagent-v{version}"));
        // Its temporary name must not be taken for one.
        let beside = self.agent_dir.join("incoming");
        let begun = self.agent_dir.join("begun");
        let script = format!(
            "[ \"$1\" != --version ] || {{ echo {version}; exit 0; }}\necho {version} >'{}'\n{life}",
            begun.display()
        );
        program(&beside, &script);
        fs::rename(&beside, &path).unwrap();
        path
    }

    fn cycles(&mut self, count: usize) {
        for _ in 0..count {
            match self.manager.cycle().as_deref() {
                Some("restart") => {
                    self.restarts += 1;
                    self.end_service();
                    self.start();
                }
                Some(_) => self.start(),
                None => {}
            }
        }
    }

    /// As systemd does: the process of the link, waited for until it has begun and, if it is one that ends, ended.
    fn start(&mut self) {
        if self.is_running() {
            return;
        }
        let begun = self.agent_dir.join("begun");
        let _ = fs::remove_file(&begun);
        let Ok(child) =
            Command::new(self.agent_dir.join("Reagent-active")).args(["-config", "file"]).stdout(Stdio::null()).spawn()
        else {
            return self.started.push("nothing that can be started".to_owned());
        };
        self.service = Some(child);
        let version = wait_until(LIMIT, "a version begins", || {
            fs::read_to_string(&begun).ok().filter(|text| text.ends_with('\n'))
        });
        let version = version.trim().to_owned();
        if version != "1" {
            self.service.take().unwrap().wait().unwrap();
        }
        self.started.push(version);
    }

    fn is_running(&mut self) -> bool {
        self.service.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    fn end_service(&mut self) {
        if let Some(mut child) = self.service.take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            child.wait().unwrap();
        }
    }

    fn link(&self, name: &str) -> String {
        let target = fs::read_link(self.agent_dir.join(name)).unwrap();
        target.file_name().unwrap().to_string_lossy().into_owned()
    }
}

impl Drop for Fakes {
    fn drop(&mut self) {
        self.end_service();
    }
}

#[test]
fn the_copy_goes_round_in_circles_with_a_release_that_ends_at_once_as_the_original_does() {
    let mut fakes = Fakes::new();
    fakes.release("2", "exit 1");
    fakes.cycles(11);
    assert_eq!((fakes.restarts, fakes.manager.rolled_back), (6, 5), "{:?}", fakes.started);
}

#[test]
fn the_copy_takes_a_file_of_data_for_a_release_as_the_original_does() {
    let mut fakes = Fakes::new();
    fs::write(fakes.agent_dir.join("reagent-state.json"), "{}").unwrap();
    fakes.cycles(7);
    assert_eq!((fakes.restarts, fakes.manager.rolled_back), (4, 3), "{:?}", fakes.started);
}

#[test]
fn the_copy_starts_a_file_that_is_gone_for_ever_unless_the_link_was_changed_first_as_the_original_does() {
    for relinked in [false, true] {
        let mut fakes = Fakes::new();
        let (broken, failed) = (fakes.agent_dir.join("reagent-v2"), fakes.agent_dir.join("failed-v2"));
        let active = fakes.agent_dir.join("Reagent-active");
        let relink = if relinked {
            format!("ln -sf {}/reagent-v1 {}; ", fakes.agent_dir.path().display(), active.display())
        } else {
            String::new()
        };
        fakes.release("2", &format!("{relink}mv {} {}; exit 1", broken.display(), failed.display()));
        fakes.cycles(6);
        let expected = if relinked {
            vec!["1", "2", "1"]
        } else {
            [&["1", "2"][..], &["nothing that can be started"; 5]].concat()
        };
        assert_eq!(fakes.started, expected);
        assert_eq!((fakes.link("Reagent-latest").as_str(), fakes.is_running()), ("reagent-v1", relinked));
    }
}

#[test]
fn the_copy_starts_nothing_while_another_process_has_the_agents_path_among_its_words_as_the_original_does() {
    let mut fakes = Fakes::new();
    fakes.end_service();
    let active = fakes.agent_dir.join("Reagent-active");
    let mut other = Command::new("sh").args(["-c", "read -r _"]).arg(&active).stdin(Stdio::piped()).spawn().unwrap();
    fakes.cycles(3);
    let started = fakes.started.clone();
    other.kill().unwrap();
    other.wait().unwrap();
    fakes.cycles(1);
    assert_eq!((started.len(), fakes.started.len()), (1, 2));
}

/// The real agent below the script: started by its link, as on a device.
struct Managed {
    device: Device,
    manager: Manager,
}

impl Managed {
    fn new() -> Managed {
        let mut device = Device::prepare();
        let agent_dir = device.agent.agent_dir();
        copy_of_the_agent(&agent_dir.join("reagent-latest"));
        let start = format!("shift; exec '{}/Reagent-active' \"$@\"", agent_dir.display());
        device.agent.options.launcher = ["/bin/sh", "-c", &start, "agent"].map(str::to_owned).to_vec();
        let manager = Manager::of(&agent_dir);
        Managed { device, manager }
    }

    /// What the cycle ordered, done and joined.
    fn cycle(&mut self) -> Option<String> {
        let order = self.manager.cycle();
        match order.as_deref() {
            Some("restart") => {
                assert_eq!(self.device.agent.terminate(Duration::from_secs(10)).code(), Some(0));
                self.device.connect();
            }
            Some(_) => self.device.connect(),
            None => {}
        }
        order
    }

    fn is_left_alone(&mut self) {
        for _ in 0..3 {
            assert_eq!(self.cycle(), None, "{:?}", self.names());
        }
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.device.agent.agent_dir()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// The file of the running process.
    fn file(&self) -> String {
        let exe = fs::read_link(format!("/proc/{}/exe", self.device.agent.pid())).unwrap();
        exe.file_name().unwrap().to_string_lossy().into_owned()
    }
}

#[test]
fn the_manager_starts_the_agent_knows_it_by_its_name_and_leaves_it_alone_whatever_it_does() {
    let mut managed = Managed::new();
    assert_eq!(managed.cycle().as_deref(), Some("start"));
    assert_eq!(managed.manager.versions, [reagent::release::VERSION], "`--version` is answered before each start");
    managed.is_left_alone();

    // A life: apps, logs, a power cut, a destroyed device file.
    let app = app(501, "demo");
    managed.device.install(&app);
    managed.device.engine.write_log("prod_501_demo", 1, "a line");
    managed.is_left_alone();
    managed.device.agent.kill9();
    assert_eq!(managed.cycle().as_deref(), Some("start"));
    managed.device.target(&app, "PRESENT");
    managed.device.agent.kill9();
    fs::write(managed.device.agent.flock(), "").unwrap();
    assert_eq!(managed.cycle().as_deref(), Some("start"));
    managed.device.target(&app, "UNINSTALLED");
    managed.is_left_alone();

    // A child that runs on while the agent is gone would keep the manager from starting it.
    let bin = managed.device.agent.folder.join("bin");
    let seen = managed.device.agent.folder.join("seen");
    fs::create_dir_all(&bin).unwrap();
    let script = format!(
        "PATH=/usr/bin:/bin; tr '\\0' ' ' </proc/$$/cmdline >'{0}.new'; mv '{0}.new' '{0}'; exit 1",
        seen.display()
    );
    program(&bin.join("reboot"), &script);
    managed.device.agent.terminate(LIMIT);
    assert_eq!(managed.cycle().as_deref(), Some("start"));
    managed.device.call("system_reboot", vec![]).unwrap();
    let words = wait_until(LIMIT, "the program has run", || fs::read_to_string(&seen).ok());
    assert!(words.contains("reboot") && !words.contains("Reagent-active"), "{words}");

    let names = managed.names();
    let taken: Vec<&String> = names.iter().filter(|name| name.contains("reagent-")).collect();
    assert_eq!(taken, ["reagent-latest"], "of {names:?}");
    assert_eq!(managed.manager.rolled_back, 0);
}

#[test]
fn the_manager_activates_a_newer_file_once_and_the_agent_runs_on_from_it() {
    let mut managed = Managed::new();
    managed.cycle();
    let agent_dir = managed.device.agent.agent_dir();
    copy_of_the_agent(&agent_dir.join("downloads/incoming"));
    fs::rename(agent_dir.join("downloads/incoming"), agent_dir.join("reagent-v99.0.0")).unwrap();
    assert_eq!(managed.file(), "reagent-latest");
    assert_eq!(managed.cycle().as_deref(), Some("restart"));
    assert_eq!(managed.file(), "reagent-v99.0.0");
    // It dies in the cycle after: the old one is started, and the newer one activated again. That is the manager's way.
    managed.device.agent.kill9();
    assert_eq!((managed.cycle().as_deref(), managed.file().as_str()), (Some("start"), "reagent-latest"));
    assert_eq!(managed.manager.rolled_back, 1);
    assert_eq!((managed.cycle().as_deref(), managed.file().as_str()), (Some("restart"), "reagent-v99.0.0"));
    managed.is_left_alone();
    managed.device.agent.kill9();
    assert_eq!((managed.cycle().as_deref(), managed.file().as_str()), (Some("start"), "reagent-v99.0.0"));
}

#[test]
fn every_end_of_the_agent_is_answered_by_a_start_in_the_next_cycle() {
    let mut managed = Managed::new();
    managed.cycle();
    // A signal is 0, a device that the router will not have is 1: the manager does not look.
    assert_eq!(managed.device.agent.terminate(LIMIT).code(), Some(0));
    assert_eq!(managed.manager.cycle().as_deref(), Some("start"));
    managed.device.cloud.router.refuse_auth(true);
    managed.device.agent.restart();
    assert_eq!(managed.device.agent.wait_exit(LIMIT).code(), Some(1));
    assert_eq!(managed.manager.cycle().as_deref(), Some("start"));
    managed.device.cloud.router.refuse_auth(false);
    managed.device.connect();
    managed.is_left_alone();
}
