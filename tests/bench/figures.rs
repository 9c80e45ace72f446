//! What the figures of a phase may be, and how they are shown.

#![allow(dead_code, reason = "the tests use the limits alone")]

use serde_json::{Value, json};

/// How many apps run in the phases that have any.
pub const APPS: u64 = 5;

/// What an agent is measured at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Phase {
    /// Connected, with an engine that has nothing.
    NoApp,
    /// With apps that run and write nothing.
    Quiet,
    /// With apps that write a hundred lines a second each (as far as the machine lets them), and somebody who looks at all.
    Logs,
}

impl Phase {
    pub const ALL: [Phase; 3] = [Phase::NoApp, Phase::Quiet, Phase::Logs];

    /// Its name in the result.
    pub fn name(self) -> &'static str {
        match self {
            Phase::NoApp => "idle_no_app",
            Phase::Quiet => "idle_5_apps",
            Phase::Logs => "logs_5_apps",
        }
    }

    /// The kind of the apps' image, in `tests/env/images.sh`.
    pub fn apps(self) -> Option<&'static str> {
        match self {
            Phase::NoApp => None,
            Phase::Quiet => Some("silent"),
            Phase::Logs => Some("chatty"),
        }
    }

    fn title(self) -> String {
        match self {
            Phase::NoApp => "idle, no app".to_owned(),
            Phase::Quiet => format!("idle, {APPS} apps that write nothing"),
            Phase::Logs => format!("{APPS} apps that write 100 lines/s each, all of them watched"),
        }
    }
}

/// What ends the benchmark with a failure, for the build that is measured and for no other. The worst of all runs counts.
struct Limit {
    phases: &'static [Phase],
    figure: &'static str,
    most: f64,
    /// The limit where a pointer has 32 bits, if that differs.
    most_32: Option<f64>,
    /// Whether it says something of an agent in an emulator.
    emulated: bool,
}

const IDLE: &[Phase] = &[Phase::NoApp, Phase::Quiet];
const MB: f64 = 1_000_000.0 / 1024.0;

const LIMITS: [Limit; 7] = [
    Limit { phases: IDLE, figure: "rss_kib_most", most: 8.0 * MB, most_32: Some(6.0 * MB), emulated: false },
    // Somewhat more for what is under way, and no more with time: an allocator that never reuses what another thread has
    // freed passes this within ten minutes.
    Limit { phases: &[Phase::Logs], figure: "rss_kib_most", most: 9.0 * MB, most_32: Some(7.0 * MB), emulated: false },
    // What is resident of an emulated agent without its emulator.
    Limit { phases: IDLE, figure: "own_kib_most", most: 8.0 * MB, most_32: Some(6.0 * MB), emulated: true },
    Limit { phases: IDLE, figure: "cpu_percent", most: 0.2, most_32: None, emulated: false },
    Limit { phases: IDLE, figure: "written_per_hour", most: 0.0, most_32: None, emulated: true },
    Limit { phases: IDLE, figure: "files_changed", most: 0.0, most_32: None, emulated: true },
    Limit { phases: &Phase::ALL, figure: "threads", most: 24.0, most_32: None, emulated: true },
];

/// What of a candidate's phases is above its limit, in words. `phases` has a list of runs by phase.
pub fn breaches(name: &str, phases: &Value, is_32_bit: bool, emulated: bool) -> Vec<String> {
    let mut found = Vec::new();
    for limit in LIMITS.iter().filter(|limit| limit.emulated || !emulated) {
        let most = limit.most_32.filter(|_| is_32_bit).unwrap_or(limit.most);
        for phase in limit.phases {
            // A figure that is missing is no figure that is right; a phase that was not measured is not judged.
            let runs = phases[phase.name()].as_array().map_or(&[][..], Vec::as_slice);
            for (n, run) in runs.iter().enumerate() {
                let value = run[limit.figure].as_f64();
                if value.is_none_or(|value| value > most) {
                    let shown = value.map_or_else(|| "missing".to_owned(), |value| value.to_string());
                    let files = if limit.figure == "files_changed" { run["files"].to_string() } else { String::new() };
                    let (phase, figure, run) = (phase.name(), limit.figure, n + 1);
                    found.push(format!("{name}, {phase}, run {run}: {figure} is {shown}, at most {most:.1} {files}"));
                }
            }
        }
    }
    found
}

/// Figures in the table: title, name, and whether an emulator hides what it is.
const ROWS: [(&str, &str, bool); 15] = [
    ("resident, KiB (median)", "rss_kib", false),
    ("resident, KiB (most)", "rss_kib_most", false),
    ("  without system libraries (most)", "own_kib_most", false),
    ("  in no file (median)", "anonymous_kib", false),
    ("proportional, KiB (median)", "pss_kib", false),
    ("threads (most)", "threads", false),
    ("descriptors (most)", "descriptors", false),
    ("processor, seconds", "cpu_seconds", true),
    ("processor, % of a core", "cpu_percent", true),
    ("wake-ups per second", "wakeups_per_s", true),
    ("other context switches per second", "preemptions_per_s", true),
    ("all context switches per second", "switches_per_s", true),
    ("bytes written per hour", "written_per_hour", false),
    ("files changed", "files_changed", false),
    ("lines per second shown", "lines_per_s", false),
];

/// The agent that this one replaces, as it was measured on a machine like this one, through Crossbar; its tunnel client (17 MB
/// more) does not count. What is not here was not measured. To measure it beside this one: `--other`.
fn older() -> Value {
    let idle = json!({"rss_kib": (26.0 * MB).round(), "cpu_percent": 1.1, "switches_per_s": 245});
    json!({"name": "the older *", "bytes": 49_000_000, "connected_ms": {"median": 750}, "phases": {"idle_5_apps": [idle]}})
}

/// The table of all candidates side by side, and of the older agent; each figure is the worst of its runs.
pub fn table(agents: &[Value]) -> String {
    let agents: Vec<Value> = agents.iter().cloned().chain([older()]).collect();
    let mut lines = vec![row("", agents.iter().map(|agent| text(&agent["name"])))];
    lines.push(row("binary, bytes", agents.iter().map(|agent| text(&agent["bytes"]))));
    lines.push(row(
        "start to CONNECTED, ms (median)",
        agents.iter().map(|agent| text(&agent["connected_ms"]["median"])),
    ));
    for phase in Phase::ALL {
        lines.push(phase.title());
        for (title, figure, hidden) in ROWS {
            if figure == "lines_per_s" && phase != Phase::Logs {
                continue;
            }
            let shown = agents.iter().map(|agent| {
                let runs = agent["phases"][phase.name()].as_array();
                let worst = runs.into_iter().flatten().filter_map(|run| run[figure].as_f64()).max_by(f64::total_cmp);
                worst.filter(|_| !hidden || agent["emulated"] != true).map_or("-".to_owned(), |worst| worst.to_string())
            });
            lines.push(row(&format!("  {title}"), shown));
        }
    }
    lines.push("* measured before, on a machine like this one, not in this run".to_owned());
    lines.join("\n")
}

fn row(title: &str, cells: impl Iterator<Item = String>) -> String {
    cells.fold(format!("{title:<36}"), |line, cell| format!("{line} {cell:>14}"))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(own: f64, cpu: f64, written: f64, files: u64, threads: u64) -> Value {
        json!({
            "rss_kib_most": own, "own_kib_most": own, "cpu_percent": cpu, "written_per_hour": written, "files_changed": files,
            "files": ["reagent.log"], "threads": threads,
        })
    }

    #[test]
    fn every_figure_above_its_limit_is_named_with_its_phase_and_run() {
        let fine = run(7812.0, 0.2, 0.0, 0, 24);
        assert_eq!(breaches("a", &json!({"idle_no_app": [fine], "idle_5_apps": [fine]}), false, false), [""; 0]);
        let bad = run(7813.0, 0.3, 80.0, 1, 25);
        let found = breaches("a", &json!({"idle_5_apps": [fine, bad], "logs_5_apps": [bad]}), false, false);
        let of = |figure: &str, phase: &str| {
            found.iter().filter(|line| line.contains(figure) && line.contains(phase) && line.contains("run ")).count()
        };
        for figure in ["rss_kib_most", "own_kib_most", "cpu_percent", "written_per_hour", "files_changed", "threads"] {
            assert_eq!(of(figure, "a, idle_5_apps, run 2"), 1, "{figure}: {found:?}");
        }
        assert_eq!((of("threads", "logs_5_apps"), found.len()), (1, 7), "logs cost memory and time: {found:?}");
        let grown = json!({"logs_5_apps": [run(8790.0, 0.3, 80.0, 1, 24)]});
        assert_eq!(breaches("a", &grown, false, false).len(), 1, "but not more and more memory");
        assert!(found.iter().any(|line| line.contains("reagent.log")), "{found:?}");
    }

    #[test]
    fn with_32_bits_less_memory_is_allowed_and_an_emulators_time_is_not_judged() {
        let run = json!({"idle_5_apps": [run(5860.0, 9.0, 0.0, 0, 20)]});
        assert_eq!(breaches("a", &run, false, true), [""; 0]);
        assert_eq!(breaches("a", &run, true, true).len(), 1, "6 MB");
        assert_eq!(breaches("a", &json!({"idle_5_apps": [{}]}), true, true).len(), 4, "what is missing is not right");
    }

    #[test]
    fn the_older_agent_stands_beside_what_was_measured() {
        let runs =
            json!({"idle_5_apps": [{"rss_kib": 5000, "cpu_percent": 0.1}, {"rss_kib": 4000, "cpu_percent": 0.2}]});
        let shown = table(&[json!({"name": "this build", "bytes": 4_000_000, "phases": runs})]);
        let of = |title: &str| {
            let idle = shown.lines().skip_while(|line| !line.starts_with("idle, 5"));
            idle.filter_map(|line| line.trim().strip_prefix(title)).map(|rest| rest.split_whitespace().collect()).next()
        };
        assert_eq!(of("resident, KiB (median)"), Some(vec!["5000", "25391"]), "{shown}");
        assert_eq!(of("processor, % of a core"), Some(vec!["0.2", "1.1"]), "{shown}");
        assert_eq!(of("threads (most)"), Some(vec!["-", "-"]), "{shown}");
    }
}
