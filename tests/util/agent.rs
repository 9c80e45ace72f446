//! The real binary as a test subject, in a folder of its own.

use super::{TempDir, wait_until};
use crossbeam_channel::{Receiver, unbounded};
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// How an [`Agent`] is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The `.flock` file's text.
    pub flock: String,
    /// Further flags, after the usual ones.
    pub flags: Vec<String>,
    /// Further environment, e.g. `DOCKER_HOST`.
    pub env: Vec<(String, String)>,
    /// Words before the binary: a program that becomes the agent, e.g. `ip netns exec <name>`.
    pub launcher: Vec<String>,
}

/// A running agent. Its folder stays over restarts; both go on drop. A failing test prints the end of its log.
pub struct Agent {
    pub folder: TempDir,
    /// Taken by the next start.
    pub options: Options,
    child: Option<Child>,
    lines: Option<Receiver<String>>,
    output: RefCell<Vec<String>>,
}

impl Agent {
    /// Starts the agent with the folders, log, database and lock below a fresh folder, updates off.
    pub fn start(options: Options) -> Agent {
        let mut agent = Agent::prepare(options);
        agent.restart();
        agent
    }

    /// The folder and the `.flock`, without a process: for tests that put files there first.
    pub fn prepare(options: Options) -> Agent {
        let folder = TempDir::new("agent");
        fs::create_dir(folder.join("agent")).expect("a fresh folder takes a folder");
        fs::write(folder.join("device.flock"), &options.flock).expect("a fresh folder takes a file");
        Agent { folder, options, child: None, lines: None, output: RefCell::default() }
    }

    /// Starts the process (again), in the same folder.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "the agent runs already");
        let path = |name: &str| self.folder.join(name);
        let binary = binary();
        let mut words = self.options.launcher.iter().map(OsStr::new).chain([binary.as_os_str()]);
        let mut command = Command::new(words.next().expect("the binary is a word"));
        command
            .args(words)
            .arg("-config")
            .arg(path("device.flock"))
            .arg("-agentDir")
            .arg(path("agent"))
            .arg("-appsDir")
            .arg(path("apps"))
            .arg("-logFile")
            .arg(path("reagent.log"))
            .args(["-update=false", "-nmw=false", "-env=local"])
            // Nobody listens there: a test asks nothing of the world.
            .arg("-remoteUpdateURL=http://127.0.0.1:1")
            .args(&self.options.flags)
            .env("REAGENT_LOCK_FILE", path("lock"))
            // Its machine has no program and no init, unless a test makes them: no test reboots its host.
            .env("PATH", path("bin"))
            .env("REAGENT_SYSTEM_ROOT", path("root"))
            .env("REAGENT_PROBATION", "1")
            .env_remove("IRONFLOCK_LAUNCHER")
            .env_remove("NOTIFY_SOCKET")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .envs(self.options.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let (lines, written) = unbounded();
        let streams: [(&str, Box<dyn Read + Send>); 2] = [
            ("out", Box::new(child.stdout.take().expect("stdout is piped"))),
            ("err", Box::new(child.stderr.take().expect("stderr is piped"))),
        ];
        for (name, stream) in streams {
            let lines = lines.clone();
            let read = move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = lines.send(format!("{name}: {line}"));
                }
            };
            reagent::thread::spawn("agent-output", |_| {}, read).expect("a thread starts");
        }
        self.lines = Some(written);
        self.child = Some(child);
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the agent runs").id()
    }

    /// The agent's home folder (`-agentDir`).
    pub fn agent_dir(&self) -> PathBuf {
        self.folder.join("agent")
    }

    /// The folder of the apps (`-appsDir`).
    pub fn apps_dir(&self) -> PathBuf {
        self.folder.join("apps")
    }

    /// The `.flock` file.
    pub fn flock(&self) -> PathBuf {
        self.folder.join("device.flock")
    }

    /// What was written so far, each line with `out: ` or `err: ` in front.
    pub fn output(&self) -> Vec<String> {
        let mut output = self.output.borrow_mut();
        output.extend(self.lines.iter().flat_map(Receiver::try_iter));
        output.clone()
    }

    /// The log file as it is now.
    pub fn log(&self) -> String {
        fs::read(self.folder.join("reagent.log"))
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// Kills the process (SIGKILL) and reaps it.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    #[track_caller]
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        let pid = i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the child is ours to signal");
        self.wait_exit(limit)
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let child = self.child.as_mut().expect("the agent runs");
        let status = wait_until(limit, "the agent ends", || child.try_wait().expect("a child can be waited for"));
        self.child = None;
        // The readers end with the pipes, unless a child of the agent's has inherited them: hence the limit.
        if let Some(lines) = self.lines.take() {
            let rest = std::iter::from_fn(|| lines.recv_timeout(Duration::from_secs(1)).ok());
            self.output.borrow_mut().extend(rest);
        }
        status
    }
}

/// The agent that was built with the tests, or another one (`TEST_AGENT`): measurements are made with a release build.
fn binary() -> OsString {
    std::env::var_os("TEST_AGENT").unwrap_or_else(|| env!("CARGO_BIN_EXE_reagent").into())
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let output = self.output();
            eprintln!("--- the agent's output, {} lines\n{}", output.len(), tail(&output.join("\n")));
            eprintln!("--- the end of its log\n{}", tail(&self.log()));
        }
    }
}

fn tail(text: &str) -> &str {
    let mut starts = text.rmatch_indices('\n').map(|(at, _)| at + 1);
    &text[starts.nth(60).unwrap_or(0)..]
}

#[test]
fn the_binary_runs_in_a_folder_of_its_own_and_its_end_is_seen() {
    let mut agent = Agent::start(Options { flags: vec!["-version".to_owned()], ..Options::default() });
    let status = agent.wait_exit(Duration::from_secs(10));
    assert!(status.success(), "{status}: {:?}", agent.output());
    assert!(agent.flock().is_file() && agent.agent_dir().is_dir());
    agent.restart();
    agent.kill9();
    let folder = agent.folder.path().to_owned();
    drop(agent);
    assert!(!folder.exists());
}

#[test]
fn the_tail_of_a_text_is_its_last_lines() {
    assert_eq!(tail("one"), "one");
    let lines: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(tail(&lines.join("\n")).lines().next(), Some("39"));
}
