//! The agent's own lines in an app's log (apps chapter 3.0, ids M-*). Their text is free; this is the only place.

use super::job::Container;
use super::names::ordinal;
use super::plan::Line;
use super::transition::Action;
use std::time::Duration;

/// The text of a [`Line`] for the app `name` at `version`.
pub fn text(line: Line, name: &str, version: &str) -> String {
    match line {
        Line::Starting => format!("Starting {name} …"),
        Line::Running if version.is_empty() => format!("{name} is running"),
        Line::Running => format!("{name} is running ({version})"),
        Line::Preparing => format!("Preparing download of {name} …"),
        Line::Downloading => format!("Downloading the images of {name} …"),
        Line::Installed => format!("{name} installed, version {version}"),
        Line::StopRequested => format!("Stop of {name} requested"),
        Line::Stopped => format!("{name} stopped"),
        Line::Removing => format!("Removing {name} …"),
        Line::Removed => format!("{name} removed"),
        Line::ImagesInstalled => "Compose images installed".to_owned(),
        Line::Building => "Image build started".to_owned(),
        Line::Built => "Image build done".to_owned(),
        Line::ImagesBuilt => "Compose images built".to_owned(),
        Line::Publishing => format!("Publishing {name} {version} …"),
        Line::Pushing => "Build done, pushing the release".to_owned(),
        Line::Trial => {
            format!("Starting the new release of {name}, {version}: the one before is kept until it has proved itself")
        }
        Line::RolledBack => format!("{name} is back at version {version}"),
    }
}

/// The beginning of an upload.
pub const UPLOAD_BEGUN: &str = "First package of the sources received";
/// Its end.
pub const UPLOAD_FINISHED: &str = "Sources received, the build starts";
/// Its end by a cancel.
pub const UPLOAD_CANCELLED: &str = "The upload of the sources was canceled";
/// Its end without one.
pub const UPLOAD_EXPIRED: &str = "The upload of the sources has stopped: nothing came for 10 minutes";

/// M-STARTFAIL
pub fn start_failed(name: &str, error: &str) -> String {
    format!("{name} could not be started: {error}")
}

/// M-DL-ERR
pub fn pull_failed(error: &str) -> String {
    format!("The image could not be pulled: {error}")
}

/// M-BUILD-NOFILES
pub fn no_sources(error: &str) -> String {
    format!("The source archive was not found: {error}")
}

/// M-BUILD-MISSING
pub fn no_dockerfile(name: &str) -> String {
    format!("There is no {name} in the project root")
}

/// M-BUILD-EMPTY
pub fn empty_dockerfile(name: &str) -> String {
    format!("The {name} is empty")
}

/// M-DL-CANCEL, M-UP-CANCEL, M-BUILD-CANCEL, M-PUB-CANCEL
pub fn cancelled(action: Action) -> &'static str {
    match action {
        action if action.is_update() || action.ends_update() => "Update canceled",
        Action::CancelBuild | Action::Build => "Build canceled",
        Action::CancelPush | Action::Publish | Action::RemoveThenPublish => "Release canceled",
        Action::CancelTransfer => "Transfer canceled",
        Action::Run | Action::RecoverToRunning => "Start canceled",
        _ => "Download canceled",
    }
}

/// M-NOCMP
pub const NO_COMPOSE: &str = "This device has no docker compose";

/// M-NOIMG
pub fn no_image(reference: &str) -> String {
    format!("The image {reference} is not on the device, build it again")
}

/// M-REHOST
pub fn rehost(source: &str, service: &str, target: &str) -> String {
    format!("Copying image {source} of service {service} to {target}")
}

/// A new release did not prove itself.
pub fn not_proven(name: &str, version: &str, reason: &str) -> String {
    format!("{name} {version} did not prove itself: {reason}. The release before is put back")
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

/// Why a container is not running.
pub fn ended(container: &Container) -> String {
    if !container.error.is_empty() {
        return container.error.clone();
    }
    let memory = if container.out_of_memory { ", for lack of memory" } else { "" };
    let why = format!("it ended with exit code {}{memory}", container.exit_code);
    and_last_line(why, &container.last_line)
}

/// Why a container does not run, and what it said last, if it said anything.
pub fn and_last_line(why: String, last_line: &str) -> String {
    if last_line.is_empty() { why } else { format!("{why}: {last_line}") }
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
