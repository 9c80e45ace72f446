//! The agent's own lines in an app's log (apps chapter 3.0, ids M-*). Their text is free; this is the only place.

use super::names::ordinal;
use super::transition::Line;
use std::time::Duration;

/// The text of a [`Line`] for the app `name` at `version`.
pub fn text(line: Line, name: &str, version: &str) -> String {
    match line {
        Line::Starting => format!("Starting {name} …"),
        Line::Running => format!("{name} is running ({version})"),
        Line::Preparing => format!("Preparing download of {name} …"),
        Line::Installed => format!("{name} installed, version {version}"),
        Line::StopRequested => format!("Stop of {name} requested"),
        Line::Stopped => format!("{name} stopped"),
        Line::Removing => format!("Removing {name} …"),
        Line::Removed => format!("{name} removed"),
    }
}

/// M-STARTFAIL
pub fn start_failed(name: &str, error: &str) -> String {
    format!("{name} could not be started: {error}")
}

/// M-DL-ERR
pub fn pull_failed(error: &str) -> String {
    format!("The image could not be pulled: {error}")
}

/// M-DL-CANCEL, M-UP-CANCEL
pub fn cancelled(update: bool) -> &'static str {
    if update { "Update canceled" } else { "Download canceled" }
}

/// M-PORT; `service` is empty for a plain app.
pub fn port_elsewhere(service: &str, declared: u16, host_port: u16) -> String {
    let of = if service.is_empty() { String::new() } else { format!(" of service {service}") };
    format!("Port {declared}{of} is taken by another app; it is reachable on host port {host_port} instead")
}

/// M-ENVSKIP
pub fn env_skipped(names: &[String]) -> String {
    format!("These variables are left out, compose cannot read their names: {}", names.join(", "))
}

/// M-EXIT
pub fn exited(name: &str, stage: &str, code: i64, out_of_memory: bool) -> String {
    let reason = if out_of_memory { ", it ran out of memory" } else { "" };
    format!("{name} ({stage}) exited with code {code}{reason}")
}

/// M-LOOP
pub fn crash_loop(attempt: u64, wait: Duration) -> String {
    format!("Crash loop, {} attempt, next try in {}", ordinal(attempt), span(wait))
}

/// A duration for people: `45s`, `1m 20s`, `1h 2m`.
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_loop_line_is_readable() {
        assert_eq!(crash_loop(2, Duration::from_secs(80)), "Crash loop, 2nd attempt, next try in 1m 20s");
        assert_eq!(span(Duration::from_secs(3720)), "1h 2m");
    }
}
