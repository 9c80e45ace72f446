//! One agent with all it needs to be measured: an engine of its own, a local cloud, apps.
//!
//! Agents remove the containers of each other (they have one label in common), hence the engines. Each agent runs from a copy
//! of its binary: what two processes share of one file would count half in both.

use crate::cloud::Cloud;
use crate::cloud::peer::Payload;
use crate::figures::Phase;
use crate::parts::{self, Agent, Registry};
use crate::usage::{Files, GUEST, Usage, changed, files};
use crate::{SOON, Stop, apps as wanted};
use crossbeam_channel::Receiver;
use reagent::clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// An agent to be measured.
pub struct Candidate {
    pub name: &'static str,
    pub binary: PathBuf,
    /// Empty, or an emulator with its flags.
    emulator: Vec<String>,
    /// As it names itself; its images are for that.
    pub arch: String,
    pub version: String,
    pub bytes: u64,
}

impl Candidate {
    /// Asks the binary what it is. With `cpu` it is run by `qemu-arm`.
    pub fn new(name: &'static str, binary: PathBuf, cpu: Option<&str>) -> Result<Candidate, String> {
        let emulator = cpu.map_or_else(Vec::new, |cpu| {
            let base = format!("{GUEST:#x}");
            ["qemu-arm", "-B", &base, "-cpu", cpu].map(str::to_owned).to_vec()
        });
        let bytes = std::fs::metadata(&binary).map_err(|error| format!("{}: {error}", binary.display()))?.len();
        let mut candidate = Candidate { name, binary, emulator, arch: String::new(), version: String::new(), bytes };
        candidate.arch = candidate.says("-arch")?;
        candidate.version = candidate.says("-version")?;
        Ok(candidate)
    }

    /// Whether its processor is not that of the machine.
    pub fn is_emulated(&self) -> bool {
        !self.emulator.is_empty()
    }

    fn says(&self, flag: &str) -> Result<String, String> {
        let mut command = self.command(&self.binary);
        let output = command.arg(flag).output().map_err(|error| format!("{command:?}: {error}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn command(&self, binary: &Path) -> Command {
        let mut words = self.emulator.iter().map(AsRef::as_ref).chain([binary.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        command
    }

    /// Starts it in a folder, on the engine with this `DOCKER_HOST`; how long it took until it said CONNECTED.
    pub fn start(&self, folder: &Path, host: &str, cloud: &Cloud, stop: &Stop) -> Result<(Agent, Duration), String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        parts::write_flock(folder, &cloud.flock())?;
        let binary = folder.join("program");
        std::fs::copy(&self.binary, &binary).map_err(|error| format!("{}: {error}", binary.display()))?;
        std::fs::write(folder.join("lock"), "").map_err(|error| error.to_string())?;
        let inner = self.command(&binary);
        // Agents of the same kind run beside each other. One that knows no other lock than that of the machine gets a
        // file of its own under that name.
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg(format!(": >>{LOCK} && mount --bind \"$0\" {LOCK} && exec \"$@\""))
            .arg(folder.join("lock"))
            .arg(inner.get_program())
            .args(inner.get_args())
            .env("DOCKER_HOST", host);
        let mark = cloud.backend.mark();
        let mut agent = Agent::start_by(command, folder)?;
        let deadline = clock::mono() + SOON;
        loop {
            let calls = cloud.backend.calls_since(mark);
            if let Some(call) = calls.iter().find(|call| call.argument()["status"] == "CONNECTED") {
                let took = call.at.saturating_sub(agent.started);
                return Ok((agent, took));
            }
            if let Some(status) = agent.ended() {
                let lines: Vec<String> = agent.lines.iter().collect();
                return Err(format!("{} has ended ({status}): {}", self.name, lines.join("; ")));
            }
            if clock::mono() > deadline {
                return Err(format!("{} is not connected after {SOON:?}", self.name));
            }
            // The time that counts was taken when the call came in.
            stop.pause(Duration::from_millis(1))?;
        }
    }
}

/// The lock of the machine's agent.
const LOCK: &str = "/tmp/ironflock-reagent.lock";

/// A Docker Engine of its own; ends with everything on it.
pub struct Engine {
    dir: String,
}

impl Engine {
    /// One that answers. `dir` has to be short.
    pub fn start(dir: &Path) -> Result<Engine, String> {
        let engine = Engine { dir: dir.to_string_lossy().into_owned() };
        engine.launch()?;
        Ok(engine)
    }

    /// Starts the daemon, or starts it again; returns once it answers.
    pub fn launch(&self) -> Result<(), String> {
        parts::script("engine.sh", &["start", &self.dir]).map(drop)
    }

    /// Ends the daemon in good order: it stops its containers first.
    pub fn terminate(&self) -> Result<(), String> {
        let path = format!("{}/pid", self.dir);
        let pid = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        let pid = pid.trim().parse().ok().and_then(Pid::from_raw).ok_or_else(|| format!("{path} has no number"))?;
        kill_process(pid, Signal::TERM).map_err(|error| format!("dockerd: {error}"))?;
        let deadline = clock::mono() + SOON;
        let stat = format!("/proc/{}/stat", pid.as_raw_nonzero());
        while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
            if clock::mono() > deadline {
                return Err(format!("dockerd does not end within {SOON:?}"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Runs the CLI on it; its standard output.
    pub fn docker(&self, args: &[&str]) -> Result<String, String> {
        let output = Command::new("docker").args(args).env("DOCKER_HOST", self.host()).output();
        let output = output.map_err(|error| format!("docker: {error}"))?;
        if !output.status.success() {
            return Err(format!("docker {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Its `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}/sock", self.dir)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = parts::script("engine.sh", &["stop", &self.dir]) {
            eprintln!("{error}");
        }
    }
}

/// A candidate in a phase. The fields end in this order.
pub struct Scene<'a> {
    candidate: &'a Candidate,
    pub phase: Phase,
    agent: Agent,
    logs: Vec<Receiver<Payload>>,
    _engine: Engine,
    _cloud: Cloud,
    folder: PathBuf,
    watch: Watch,
}

/// What was seen since the measurement began.
#[derive(Default)]
struct Watch {
    files: Files,
    looks: Vec<Usage>,
    lines: u64,
}

impl<'a> Scene<'a> {
    /// Starts everything; returns once the phase's apps run. `number` is the scene's own.
    pub fn start(
        candidate: &'a Candidate,
        phase: Phase,
        number: usize,
        folder: &Path,
        registry: &Registry,
        stop: &Stop,
    ) -> Result<Scene<'a>, String> {
        let engine = Engine::start(&folder.join(format!("e{number}")))?;
        let cloud = Cloud::start(0, &registry.address()).map_err(|failure| format!("{failure:?}"))?;
        let mut apps = Vec::new();
        if let Some(kind) = phase.apps() {
            for app in wanted(kind) {
                cloud.backend.want(app.clone());
                apps.push(app);
            }
        }
        // Somebody looks at all of them.
        let watched = apps.iter().filter(|_| phase == Phase::Logs);
        let logs = watched.map(|app| cloud.backend.subscribe_logs(&app.container())).collect();
        let folder = folder.join(format!("a{number}"));
        let (agent, _) = candidate.start(&folder, &engine.host(), &cloud, stop)?;
        let deadline = clock::mono() + SOON;
        while !apps.iter().all(|app| cloud.backend.known(app.app_key, "PROD").current == "RUNNING") {
            if clock::mono() > deadline {
                return Err(format!("{}: not all apps run after {SOON:?}", candidate.name));
            }
            stop.pause(Duration::from_millis(50))?;
        }
        Ok(Scene { candidate, phase, agent, logs, _engine: engine, _cloud: cloud, folder, watch: Watch::default() })
    }

    /// The measurement begins.
    pub fn begin(&mut self) -> Result<(), String> {
        self.drain();
        self.watch = Watch { files: files(&self.folder), looks: Vec::new(), lines: 0 };
        self.look()
    }

    /// Looks once more.
    pub fn look(&mut self) -> Result<(), String> {
        self.watch.looks.push(Usage::of(self.agent.pid(), self.candidate.is_emulated())?);
        self.watch.lines += self.drain();
        Ok(())
    }

    /// How many lines have arrived at who looks at the logs.
    fn drain(&self) -> u64 {
        let events = self.logs.iter().flat_map(Receiver::try_iter);
        let lines = |event: Payload| event.args.first().and_then(Value::as_str).map_or(0, |text| text.lines().count());
        events.map(lines).sum::<usize>() as u64
    }

    /// What it used in the `seconds` since [`Scene::begin`].
    pub fn figures(&self, seconds: f64) -> Value {
        let looks = &self.watch.looks;
        let (first, last) = (&looks[0], &looks[looks.len() - 1]);
        let most = |of: fn(&Usage) -> u64| looks.iter().map(of).max().unwrap_or_default();
        let median = |of: fn(&Usage) -> u64| {
            let mut all: Vec<u64> = looks.iter().map(of).collect();
            all.sort_unstable();
            all[all.len() / 2]
        };
        let per_second = |of: fn(&Usage) -> u64| rounded(of(last).saturating_sub(of(first)) as f64 / seconds);
        let cpu_ms = last.cpu_ms.saturating_sub(first.cpu_ms);
        let written = last.written.saturating_sub(first.written);
        let changed = changed(&self.watch.files, &files(&self.folder));
        json!({
            "seconds": rounded(seconds),
            "rss_kib": median(|look| look.rss), "rss_kib_most": most(|look| look.rss),
            "own_kib": median(|look| look.own), "own_kib_most": most(|look| look.own),
            "pss_kib": median(|look| look.pss),
            "anonymous_kib": median(|look| look.anonymous),
            "threads": most(|look| look.threads), "descriptors": most(|look| look.descriptors),
            "cpu_seconds": cpu_ms as f64 / 1000.0,
            "cpu_percent": (cpu_ms as f64 / seconds * 100.0).round() / 1000.0,
            "wakeups_per_s": per_second(|look| look.wakeups), "preemptions_per_s": per_second(|look| look.preemptions),
            "switches_per_s": per_second(|look| look.wakeups + look.preemptions),
            "written_bytes": written, "written_per_hour": (written as f64 / seconds * 3600.0).round(),
            "files_changed": changed.len(), "files": changed,
            "lines_per_s": rounded(self.watch.lines as f64 / seconds),
            "cpu_seconds_since_start": last.cpu_ms as f64 / 1000.0,
        })
    }
}

/// To two digits after the point.
pub fn rounded(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
