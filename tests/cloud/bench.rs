//! `make bench`: how long the agent takes from its start to CONNECTED, and what it costs while it idles, with no app and with
//! five.
//!
//! `bench [--starts N] [--idle SECONDS] [--no-apps] [--agent FILE]`. Takes the release build, an empty database each time,
//! and the local cloud of this process. The last line is one JSON object. It measures and judges nothing.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "mod.rs"]
mod cloud;
#[path = "demo/parts.rs"]
#[allow(dead_code, reason = "the demonstration uses another half")]
mod parts;
#[path = "../util/temp_dir.rs"]
mod temp_dir;

use cloud::Cloud;
use cloud::wanted::WantedApp;
use parts::{Agent, Engine, Registry};
use reagent::{clock, release};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use temp_dir::TempDir;

const USAGE: &str = "usage: bench [--starts N] [--idle SECONDS] [--no-apps] [--agent FILE]";
const APPS: u64 = 5;
const SOON: Duration = Duration::from_secs(60);

struct Flags {
    starts: usize,
    idle: u64,
    apps: bool,
    agent: Option<PathBuf>,
}

fn flags(mut words: impl Iterator<Item = String>) -> Option<Flags> {
    let mut flags = Flags { starts: 10, idle: 10, apps: true, agent: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--starts" => flags.starts = words.next()?.parse().ok().filter(|&starts| starts > 0)?,
            "--idle" => flags.idle = words.next()?.parse().ok().filter(|&seconds| seconds > 0)?,
            "--no-apps" => flags.apps = false,
            "--agent" => flags.agent = Some(words.next()?.into()),
            _ => return None,
        }
    }
    Some(flags)
}

fn main() -> ExitCode {
    let Some(flags) = flags(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let stop = Stop(Arc::default());
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        if let Err(error) = signal_hook::flag::register(signal, stop.0.clone()) {
            eprintln!("bench: {error}");
            return ExitCode::FAILURE;
        }
    }
    match run(&flags, &stop) {
        Ok(numbers) => {
            println!("{numbers}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Set by a signal: everything that was started then ends in good order.
struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Waits; fails once it is set.
    fn pause(&self, time: Duration) -> Result<(), String> {
        let end = clock::mono() + time;
        loop {
            if self.0.load(Ordering::SeqCst) {
                return Err("interrupted".to_owned());
            }
            let left = end.saturating_sub(clock::mono());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}

fn run(flags: &Flags, stop: &Stop) -> Result<Value, String> {
    let binary = flags.agent.clone().map_or_else(|| parts::built_agent(Some("release")), Ok)?;
    let size = std::fs::metadata(&binary).map_err(|error| format!("{}: {error}", binary.display()))?.len();
    println!("agent {} ({}), {size} bytes", release::VERSION, release::ARCH);

    let folder = TempDir::new("bench");
    // Also without apps: an agent that finds no engine does less.
    let mut engine = if flags.apps { Some(Engine::ready()?) } else { None };
    let mut starts = Vec::new();
    for n in 0..flags.starts {
        let cloud = start_cloud("127.0.0.1:5000")?;
        let (_agent, took) = start(&binary, &folder.join(&format!("start-{n}")), &cloud, stop)?;
        starts.push(took.as_secs_f64() * 1000.0);
    }
    starts.sort_by(f64::total_cmp);
    let (min, median, max) = (starts[0], starts[starts.len() / 2], starts[starts.len() - 1]);
    println!("start to CONNECTED, {} times: min {min:.1} ms, median {median:.1} ms, max {max:.1} ms", starts.len());

    let cloud = start_cloud("127.0.0.1:5000")?;
    let (agent, _) = start(&binary, &folder.join("idle"), &cloud, stop)?;
    let without = idle(&agent, flags.idle, stop)?;
    print("idle, no app", &without);
    drop(agent);
    drop(cloud);

    let with = match &mut engine {
        Some(engine) => {
            let with = with_apps(flags, &binary, &folder, engine, stop)?;
            print(&format!("idle, {APPS} apps that write a line per second"), &with);
            with
        }
        None => Value::Null,
    };
    Ok(json!({
        "version": release::VERSION, "arch": release::ARCH, "bytes": size,
        "connected_ms": {"starts": starts.len(), "min": tenths(min), "median": tenths(median), "max": tenths(max)},
        "idle_0_apps": without, "idle_5_apps": with,
    }))
}

fn start_cloud(registry: &str) -> Result<Cloud, String> {
    Cloud::start(0, registry).map_err(|failure| format!("{failure:?}"))
}

/// Starts an agent in a fresh folder; how long it took until it said CONNECTED.
fn start(binary: &Path, folder: &Path, cloud: &Cloud, stop: &Stop) -> Result<(Agent, Duration), String> {
    std::fs::create_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    parts::write_flock(folder, &cloud.flock())?;
    let mut agent = Agent::start(binary, folder)?;
    let deadline = clock::mono() + SOON;
    loop {
        let connected = |call: &cloud::backend::Call| call.argument()["status"] == "CONNECTED";
        if let Some(call) = cloud.backend.calls().iter().find(|call| connected(call)) {
            let took = call.at.saturating_sub(agent.started);
            return Ok((agent, took));
        }
        if let Some(status) = agent.ended() {
            return Err(format!(
                "the agent has ended ({status}): {}",
                agent.lines.iter().collect::<Vec<_>>().join("; ")
            ));
        }
        if clock::mono() > deadline {
            return Err(format!("the agent is not connected after {SOON:?}"));
        }
        // The time that counts was taken when the call came in.
        stop.pause(Duration::from_millis(1))?;
    }
}

fn with_apps(
    flags: &Flags,
    binary: &Path,
    folder: &TempDir,
    engine: &mut Engine,
    stop: &Stop,
) -> Result<Value, String> {
    let registry = Registry::start(folder)?;
    let app = |n| WantedApp::new(510 + n, "bench").port(8080, "http");
    let apps: Vec<WantedApp> = (1..=APPS).map(app).collect();
    engine.own(&apps.iter().map(WantedApp::container).collect::<Vec<_>>(), &registry.address())?;
    for app in &apps {
        registry.push(&app.image(release::ARCH), &app.version, "demo")?;
    }
    let cloud = start_cloud(&registry.address())?;
    apps.iter().for_each(|app| cloud.backend.want(app.clone()));
    let (agent, _) = start(binary, &folder.join("apps-run"), &cloud, stop)?;
    let deadline = clock::mono() + SOON;
    while !apps.iter().all(|app| cloud.backend.known(app.app_key, "PROD").current == "RUNNING") {
        if clock::mono() > deadline {
            return Err(format!("not all apps run after {SOON:?}"));
        }
        stop.pause(Duration::from_millis(50))?;
    }
    let numbers = idle(&agent, flags.idle, stop)?;
    drop(agent);
    engine.clear();
    Ok(numbers)
}

/// What the agent uses during some seconds in which nobody wants anything of it.
fn idle(agent: &Agent, seconds: u64, stop: &Stop) -> Result<Value, String> {
    // What follows the connect has to be over.
    stop.pause(Duration::from_secs(2))?;
    let before = Usage::of(agent.pid())?;
    stop.pause(Duration::from_secs(seconds))?;
    let after = Usage::of(agent.pid())?;
    let per_second = |before: u64, after: u64| tenths(after.saturating_sub(before) as f64 / seconds as f64);
    Ok(json!({
        "rss_kib": after.rss, "pss_kib": after.pss, "threads": after.threads,
        "switches_per_s": per_second(before.switches, after.switches),
        "cpu_ms_per_s": per_second(before.cpu_ms, after.cpu_ms),
        "cpu_ms_since_start": after.cpu_ms,
    }))
}

/// A look at `/proc/<pid>`.
struct Usage {
    rss: u64,
    /// Null where the kernel does not tell.
    pss: Option<u64>,
    threads: usize,
    /// Voluntary context switches of all threads that live: wake-ups, in short.
    switches: u64,
    cpu_ms: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Usage, String> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let gone = |_| format!("the agent, process {pid}, has ended");
        let status = read("status").map_err(gone)?;
        let tasks: Vec<_> = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)?.flatten().collect();
        let of_task = |path: PathBuf| field(&std::fs::read_to_string(path).ok()?, "voluntary_ctxt_switches:");
        // utime and stime, in ticks of 10 ms (USER_HZ), counted after the name, which may contain spaces.
        let stat = read("stat").map_err(gone)?;
        let numbers = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = numbers.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(Usage {
            rss: field(&status, "VmRSS:").unwrap_or_default(),
            pss: read("smaps_rollup").ok().and_then(|text| field(&text, "Pss:")),
            threads: tasks.len(),
            switches: tasks.iter().filter_map(|task| of_task(task.path().join("status"))).sum(),
            cpu_ms: ticks * 10,
        })
    }
}

fn print(title: &str, numbers: &Value) {
    let shown = |key: &str| if numbers[key].is_null() { "?".to_owned() } else { numbers[key].to_string() };
    println!(
        "{title}: resident {} KiB (proportional {} KiB), {} threads, {} wake-ups/s, {} ms processor time per second",
        shown("rss_kib"),
        shown("pss_kib"),
        shown("threads"),
        shown("switches_per_s"),
        shown("cpu_ms_per_s"),
    );
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
