//! Reboot, power-off and a new start of the agent (`network-system-update.md` D.1): what this machine can do, and doing it.
//!
//! Runs on the starting thread before the others live, and on it again when they have ended. No shell is used.

#[cfg(test)]
mod tests;

use super::child::{self, Collected, End, Limits};
use super::notify::Variable;
use crate::cancel::Cancel;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where programs are looked for when the environment names no place.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Set to a folder by tests, which then stands for `/`.
const ROOT_VARIABLE: &str = "REAGENT_SYSTEM_ROOT";

/// Set by the launcher of chapter E.11, which starts the agent again however it ends.
const LAUNCHER_VARIABLE: &str = "IRONFLOCK_LAUNCHER";

/// The unit of every image and installation (E.7).
const UNIT: &str = "reagent.service";

/// Where systemd looks for units, those of generators included.
const UNIT_FOLDERS: [&str; 8] = [
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator.early",
    "run/systemd/generator",
    "run/systemd/generator.late",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// What a command may print; the rest is dropped.
const OUTPUT: usize = 4096;

/// Who starts the agent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// Whoever watches the process: its end is enough.
    Parent,
    /// systemd has to be asked.
    Systemd,
}

/// Who starts this process again, if anybody: the first rule of D.1 that fits. To be asked at the start, since an
/// orphan's parent is process 1 too.
pub fn supervisor() -> Option<Supervisor> {
    Start {
        root: &env::var_os(ROOT_VARIABLE).map_or_else(|| PathBuf::from("/"), PathBuf::from),
        path: &search_path(),
        launcher: env::var_os(LAUNCHER_VARIABLE).is_some_and(|value| !value.is_empty()),
        name: &env::args_os().next().unwrap_or_default(),
        parent_is_init: rustix::process::getppid().is_some_and(|parent| parent.is_init()),
    }
    .supervisor()
}

/// The program of this name in the folders of `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    find_in(&search_path(), program)
}

/// Runs a program to its end, at most for `limit`; returns what it printed.
///
/// # Errors
/// Why it cannot be started, was not done in time, or failed, with the end of what it printed.
pub fn run(program: &str, arguments: &[&str], limit: Duration) -> Result<String, String> {
    let path = find(program).ok_or_else(|| format!("{program}: there is no such program"))?;
    let mut command = Command::new(path);
    command.args(arguments);
    let mut collected = Collected::new(OUTPUT);
    let limits = Limits { total: Some(limit), quiet: None };
    let end = child::run(command, b"", limits, &Cancel::new(), |stream, bytes| collected.take(stream, bytes))
        .map_err(|error| format!("{program}: {error}"))?;
    let printed = format!("{} {}", String::from_utf8_lossy(&collected.stdout).trim(), collected.stderr_text());
    match end {
        End::Exited(status) if status.success() => Ok(printed.trim().to_owned()),
        End::Exited(status) => Err(format!("{program}: {status}: {}", printed.trim())),
        End::Cancelled | End::TimedOut | End::Quiet => {
            Err(format!("{program}: not done within {} s: {}", limit.as_secs(), printed.trim()))
        }
    }
}

/// Starts the agent anew in this very process, with the same name, arguments and environment. Descriptors are closed on
/// the way, the lock's among them: every one of them is opened with `O_CLOEXEC`. `variables` were taken out of the environment
/// and come back into it. Returns only when it fails.
pub fn start_again(variables: &[Variable]) -> io::Error {
    let mut arguments = env::args_os();
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    // The path of the start comes first: whoever watches the agent knows it by that, and a link may name a newer file.
    let given = Path::new(&name).components().nth(1).is_some().then(|| PathBuf::from(&name));
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for path in given.into_iter().chain([PathBuf::from("/proc/self/exe")]) {
        let variables = variables.iter().map(|(name, value)| (name, value));
        error = Command::new(path).arg0(&name).args(&arguments).envs(variables).exec();
    }
    error
}

/// How this process was started.
#[derive(Clone, Copy)]
struct Start<'a> {
    root: &'a Path,
    path: &'a OsStr,
    launcher: bool,
    name: &'a OsStr,
    parent_is_init: bool,
}

impl Start<'_> {
    fn supervisor(self) -> Option<Supervisor> {
        if self.launcher {
            Some(Supervisor::Parent)
        } else if self.is_a_unit_of_systemd() {
            Some(Supervisor::Systemd)
        } else if self.name.as_bytes().ends_with(b"/Reagent-active")
            || (self.parent_is_init && !self.is_in_a_container())
        {
            Some(Supervisor::Parent)
        } else {
            None
        }
    }

    fn is_a_unit_of_systemd(self) -> bool {
        // A masked unit is a link to /dev/null, which is no file.
        let is_loaded = || UNIT_FOLDERS.iter().any(|folder| self.root.join(folder).join(UNIT).is_file());
        self.root.join("run/systemd/system").is_dir() && is_loaded() && find_in(self.path, "systemctl").is_some()
    }

    /// Process 1 of a container is an app or a small init: it starts nothing again.
    fn is_in_a_container(self) -> bool {
        let marks = [".dockerenv", "run/.containerenv", "run/systemd/container"];
        let cgroup = fs::read_to_string(self.root.join("proc/1/cgroup")).unwrap_or_default();
        marks.iter().any(|mark| self.root.join(mark).exists())
            || ["docker", "containerd", "libpod", "kubepods", "lxc"].iter().any(|engine| cgroup.contains(engine))
    }
}

fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into())
}

/// Relative folders are passed by: they would depend on where the agent was started.
fn find_in(path: &OsStr, program: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| {
        fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    env::split_paths(path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(program)).find(is_program)
}
