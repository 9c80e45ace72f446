//! `make bench`: what the agent costs. How long it takes from its start to CONNECTED; memory, threads, descriptors, processor
//! time, wake-ups and bytes written while it idles with no app and with five, and while these write logs.
//!
//! All phases are measured at the same time, each with an agent, an engine and a local cloud of its own, and so is a second
//! binary (`--other`): what else the machine does meets all of them. With a build for ARMv5 (`--arm`) that idles once in an
//! emulator, for its memory. The figures go into a file, as a table to the terminal; exit status 1 if one of the build's own
//! is above its limit (`figures`). Needs root. `--apps N` is another measurement, `many`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "../cloud/mod.rs"]
mod cloud;
mod figures;
mod many;
#[path = "../cloud/demo/parts.rs"]
#[allow(dead_code, reason = "the demonstration uses another half")]
mod parts;
#[path = "../real/relay.rs"]
#[allow(dead_code, reason = "the tests do more with it")]
mod relay;
mod scene;
#[path = "../util/temp_dir.rs"]
mod temp_dir;
mod usage;

use cloud::Cloud;
use cloud::wanted::WantedApp;
use figures::{APPS, Phase};
use parts::Registry;
use reagent::clock;
use scene::{Candidate, Engine, Scene};
use serde_json::{Map, Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use temp_dir::TempDir;

const USAGE: &str = "usage: bench [--quick] [--minutes N] [--runs N] [--starts N] [--agent FILE] [--other FILE] [--arm FILE] \
                     [--out FILE] [--apps N]";
const SOON: Duration = Duration::from_secs(120);
/// What was logged is stored for 30 s at most; then nothing is due any more.
const SETTLED: Duration = Duration::from_secs(33);

struct Flags {
    seconds: u64,
    runs: usize,
    starts: usize,
    agent: Option<PathBuf>,
    other: Option<PathBuf>,
    arm: Option<PathBuf>,
    out: Option<PathBuf>,
    /// The other measurement, with so many.
    apps: Option<usize>,
}

fn flags(mut words: impl Iterator<Item = String>) -> Option<Flags> {
    let mut flags =
        Flags { seconds: 600, runs: 3, starts: 10, agent: None, other: None, arm: None, out: None, apps: None };
    while let Some(word) = words.next() {
        match word.as_str() {
            // Long enough for a ping, the platform's heartbeat and most of the time between two listings.
            "--quick" => (flags.seconds, flags.runs, flags.starts) = (45, 1, 5),
            "--minutes" => flags.seconds = words.next()?.parse().ok().filter(|&minutes: &u64| minutes > 0)? * 60,
            "--runs" => flags.runs = words.next()?.parse().ok().filter(|&runs| runs > 0)?,
            "--starts" => flags.starts = words.next()?.parse().ok().filter(|&starts| starts > 0)?,
            "--agent" => flags.agent = Some(words.next()?.into()),
            "--other" => flags.other = Some(words.next()?.into()),
            "--arm" => flags.arm = Some(words.next()?.into()),
            "--out" => flags.out = Some(words.next()?.into()),
            "--apps" => flags.apps = Some(words.next()?.parse().ok().filter(|&apps| apps > 0)?),
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
    let result = match flags.apps {
        Some(apps) => own(&flags).and_then(|own| many::run(&own, apps, &stop)),
        None => run(&flags, &stop),
    };
    match result.and_then(|result| tell(&flags, &result)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
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

/// The build that is judged: the one for devices if `build/` has it for this machine, else the one of this machine.
fn own_build() -> Result<PathBuf, String> {
    let of_machine = parts::built_agent(Some("release"))?;
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let for_devices = PathBuf::from(format!("build/reagent-linux-{arch}"));
    if !for_devices.is_file() {
        println!("there is no {} (make build-all TARGETS=linux/{arch})", for_devices.display());
        return Ok(of_machine);
    }
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    if changed(&for_devices) < changed(&of_machine) {
        println!("{} is older than {}: is it still the same agent?", for_devices.display(), of_machine.display());
    }
    Ok(for_devices)
}

/// The build itself.
fn own(flags: &Flags) -> Result<Candidate, String> {
    let own = flags.agent.clone().map_or_else(own_build, Ok)?;
    println!("this build: {}", own.display());
    Candidate::new("this build", own, None)
}

/// Those that are measured, the build itself first.
fn candidates(flags: &Flags) -> Result<Vec<Candidate>, String> {
    let mut all = vec![own(flags)?];
    if let Some(other) = &flags.other {
        all.push(Candidate::new(OTHER, other.clone(), None)?);
    }
    match &flags.arm {
        Some(arm) if !arm.is_file() => {
            println!("32 bits: not measured, there is no {} (make build-all TARGETS=linux/arm/5)", arm.display());
        }
        Some(arm) => {
            println!(
                "32 bits: {} once with qemu, idle with {APPS} apps. Its memory is what is resident in the guest's address \
                 space (code and data of the program, heap, stacks), without what the emulator takes for itself; \
                 processor time, wake-ups and start are the emulator's and not shown; one thread is the emulator's",
                arm.display()
            );
            all.push(Candidate::new("ARMv5 in qemu", arm.clone(), Some("arm926"))?);
        }
        None => println!("32 bits: not measured, no build was named"),
    }
    Ok(all)
}

fn run(flags: &Flags, stop: &Stop) -> Result<Value, String> {
    let candidates = candidates(flags)?;
    let folder = TempDir::new("bench");
    let registry = Registry::start(&folder)?;
    let engine = Engine::start(&folder.join("e"))?;
    for arch in candidates.iter().map(|candidate| &candidate.arch).collect::<BTreeSet<_>>() {
        for kind in Phase::ALL.into_iter().filter_map(Phase::apps) {
            for app in apps(kind) {
                registry.push_from(Some(&engine.host()), &app.image(arch), &app.version, kind)?;
            }
        }
    }
    let load = [load_average()];
    let mut starts = vec![Value::Null; candidates.len()];
    let mut phases = vec![Map::new(); candidates.len()];
    let mut number = 0;
    for n in 1..=flags.runs {
        println!("run {n} of {}: {} s", flags.runs, flags.seconds);
        let mut scenes = Vec::new();
        for (of, candidate) in candidates.iter().enumerate() {
            for phase in Phase::ALL {
                if candidate.is_emulated() && (n > 1 || phase != Phase::Quiet) {
                    continue;
                }
                number += 1;
                scenes.push((of, Scene::start(candidate, phase, number, folder.path(), &registry, stop)?));
            }
        }
        let settled = clock::mono() + SETTLED;
        if n == 1 {
            for (of, candidate) in candidates.iter().enumerate().filter(|(_, candidate)| !candidate.is_emulated()) {
                starts[of] = connects(candidate, flags.starts, &folder.join(&format!("s{of}")), &engine, stop)?;
            }
        }
        stop.pause(settled.saturating_sub(clock::mono()))?;
        for Measured { of, phase, figures } in measured(&mut scenes, flags.seconds, stop)? {
            let runs = phases[of].entry(phase.name()).or_insert_with(|| json!([]));
            runs.as_array_mut().expect("it is made as a list").push(figures);
        }
    }
    let agents: Vec<Value> = std::iter::zip(&candidates, std::iter::zip(starts, phases))
        .map(|(candidate, (starts, phases))| {
            json!({
                "name": candidate.name, "version": candidate.version, "arch": candidate.arch, "bytes": candidate.bytes,
                "emulated": candidate.is_emulated(), "connected_ms": starts, "phases": phases,
            })
        })
        .collect();
    let own = std::iter::zip(&candidates, &agents).filter(|(candidate, _)| candidate.name != OTHER);
    let breaches: Vec<String> = own
        .flat_map(|(candidate, agent)| {
            let is_32_bit = candidate.arch.starts_with("armv");
            figures::breaches(candidate.name, &agent["phases"], is_32_bit, candidate.is_emulated())
        })
        .collect();
    Ok(json!({
        "seconds": flags.seconds, "runs": flags.runs, "load_average": [load[0], load_average()],
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "agents": agents, "breaches": breaches,
    }))
}

/// What is wanted in a phase with this kind of apps.
fn apps(kind: &str) -> impl Iterator<Item = WantedApp> {
    (1..=APPS).map(move |key| WantedApp::new(510 + key, kind))
}

const OTHER: &str = "the other";

/// Start to CONNECTED with an empty folder each time, in ms.
fn connects(candidate: &Candidate, times: usize, folder: &Path, engine: &Engine, stop: &Stop) -> Result<Value, String> {
    let mut took = Vec::new();
    for n in 0..times {
        let cloud = Cloud::start(0, "127.0.0.1:5000").map_err(|failure| format!("{failure:?}"))?;
        let (_agent, time) = candidate.start(&folder.join(n.to_string()), &engine.host(), &cloud, stop)?;
        took.push((time.as_secs_f64() * 10_000.0).round() / 10.0);
    }
    took.sort_by(f64::total_cmp);
    Ok(json!({"starts": times, "min": took[0], "median": took[times / 2], "max": took[times - 1]}))
}

/// What one scene came to.
struct Measured {
    /// Which candidate.
    of: usize,
    phase: Phase,
    figures: Value,
}

/// The figures of each scene over the same time.
fn measured(scenes: &mut [(usize, Scene)], seconds: u64, stop: &Stop) -> Result<Vec<Measured>, String> {
    for (_, scene) in scenes.iter_mut() {
        scene.begin()?;
    }
    let begin = clock::mono();
    while clock::mono() < begin + Duration::from_secs(seconds) {
        stop.pause(Duration::from_secs(1))?;
        for (_, scene) in scenes.iter_mut() {
            scene.look()?;
        }
    }
    let took = (clock::mono() - begin).as_secs_f64();
    Ok(scenes
        .iter()
        .map(|(of, scene)| Measured { of: *of, phase: scene.phase, figures: scene.figures(took) })
        .collect())
}

/// How many processes want to run, over the last minute.
fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default()
}

/// Shows the result, and whether it is within the limits.
fn tell(flags: &Flags, result: &Value) -> Result<bool, String> {
    let list = |key: &str| result[key].as_array().cloned().unwrap_or_default();
    if flags.apps.is_some() {
        println!("{}", many::table(result));
    } else {
        println!("{}", figures::table(&list("agents")));
        println!(
            "{} runs of {} s, the worst of them shown; load of the machine {} on {} processors",
            result["runs"], result["seconds"], result["load_average"], result["processors"]
        );
    }
    if let Some(out) = &flags.out {
        let failed = |error| format!("{}: {error}", out.display());
        std::fs::create_dir_all(out.parent().unwrap_or(Path::new("."))).map_err(failed)?;
        std::fs::write(out, format!("{result:#}\n")).map_err(failed)?;
        println!("as a file: {}", out.display());
    }
    let breaches = list("breaches");
    for breach in &breaches {
        eprintln!("above its limit: {}", breach.as_str().unwrap_or_default());
    }
    Ok(breaches.is_empty())
}
