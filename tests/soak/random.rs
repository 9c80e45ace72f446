//! Many runs, some at a time, each seed once.

use super::machine::Machine;
use super::run::{Outcome, run};
use super::script::Pace;
use crossbeam_channel::unbounded;
use reagent::clock;
use reagent::thread::panic_text;
use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Which runs.
pub struct Soak {
    /// The first seed.
    pub first: u32,
    pub runs: u32,
    /// How many devices at a time, each with an engine of its own.
    pub worlds: u32,
    pub pace: Pace,
    /// How long the end of a run may take: a crash loop may have to wait.
    pub limit: Duration,
    /// The first host port that the backend gives to an app; 0: the agent chooses.
    pub host_port: u64,
    pub name: &'static str,
}

/// Runs them all; fails with those that failed. What is known of these is in files.
#[track_caller]
pub fn soak<M: Machine + 'static>(soak: Soak, make: fn() -> M) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak");
    fs::create_dir_all(&folder).expect("the folder for reports");
    let Soak { first, runs, worlds, pace, limit, host_port, name } = soak;
    let next = Arc::new(AtomicU32::new(first));
    let (results, done) = unbounded();
    let begun = clock::mono();
    for world in 0..worlds.min(runs) {
        let (next, results) = (next.clone(), results.clone());
        let host_port = if host_port == 0 { 0 } else { host_port + 10 * u64::from(world) };
        let body = move || {
            let mut machine = None;
            loop {
                let seed = next.fetch_add(1, Ordering::SeqCst);
                if seed >= first + runs {
                    return;
                }
                let from = clock::mono();
                let one = || {
                    let machine = machine.get_or_insert_with(make);
                    machine.clear();
                    run(machine, seed, pace, host_port, limit)
                };
                let result = catch_unwind(AssertUnwindSafe(one));
                let result = result.unwrap_or_else(|panic| Err(format!("seed {seed}: {}", panic_text(&*panic))));
                if result.is_err() {
                    // Nobody knows in which state it is.
                    machine = None;
                }
                if results.send((seed, clock::mono() - from, result)).is_err() {
                    return;
                }
            }
        };
        reagent::thread::spawn_with_stack(&format!("world-{world}"), 4 << 20, |_| {}, body).expect("a thread starts");
    }
    drop(results);
    let mut record = fs::OpenOptions::new().create(true).append(true).open(folder.join(format!("random-{name}.tsv")));
    let (mut all, mut failed, mut count) = (Outcome::default(), Vec::new(), 0);
    for (seed, took, result) in done {
        count += 1;
        let line = match result {
            Ok(outcome) => {
                add(&mut all, &outcome);
                let judged = outcome.judged;
                format!(
                    "{seed}\tok\t{:.1}\t{}\t{}\t{}\t{}\t{}\t{:.1}",
                    took.as_secs_f64(),
                    outcome.faults,
                    judged.reports,
                    judged.settled,
                    judged.wide,
                    outcome.again,
                    outcome.settled.as_secs_f64()
                )
            }
            Err(text) => {
                let path = folder.join(format!("random-{name}-{seed}.txt"));
                fs::write(&path, &text).expect("the report is written");
                failed.push(format!("{}\n    {}", text.lines().next().unwrap_or_default(), path.display()));
                format!("{seed}\tfailed\t{:.1}", took.as_secs_f64())
            }
        };
        crate::real::stage::progress(&line);
        if let Ok(record) = &mut record {
            drop(writeln!(record, "{line}"));
        }
    }
    let judged = all.judged;
    eprintln!(
        "{count} of {runs} runs (seeds {first} to {}), {} failed, in {:.0} s: {} faults, {} reports, {} of settled states, of \
         these {} across an outage; {} requests of the app in development were made again; the longest end {:.1} s",
        first + runs - 1,
        failed.len(),
        (clock::mono() - begun).as_secs_f64(),
        all.faults,
        judged.reports,
        judged.settled,
        judged.wide,
        all.again,
        all.settled.as_secs_f64(),
    );
    assert!(failed.is_empty() && count == runs, "{} of {count} runs failed:\n{}", failed.len(), failed.join("\n"));
}

fn add(all: &mut Outcome, one: &Outcome) {
    all.faults += one.faults;
    all.again += one.again;
    all.settled = all.settled.max(one.settled);
    all.judged.reports += one.judged.reports;
    all.judged.settled += one.judged.settled;
    all.judged.wide += one.judged.wide;
}
