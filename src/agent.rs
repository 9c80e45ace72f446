//! The boot sequence (wire chapter 2.1): lock, log, directories, device file, database, then the threads.
//!
//! Only a lock that is held and a device file that cannot be used end the process here (decision 23). Whatever else fails is
//! logged, and the agent goes on line with what there is: a device that cannot be reached cannot be repaired.

use crate::args::Options;
use crate::clock::{self, Wall};
use crate::docker::{Address, Docker};
use crate::domain::power::Power;
use crate::flock::{self, Loaded};
use crate::os::{console, disk, files, lock, memory, power};
use crate::service::Service;
use crate::startup::Milestones;
use crate::state::edges::Context;
use crate::state::main_loop::{Ended, INBOX, MainLoop};
use crate::state::store::Store;
use crate::thread::{self, Exit};
use crate::{jobs, logger, release};
use crossbeam_channel::RecvTimeoutError;
use std::time::Duration;

/// The state thread serialises large answers and runs SQLite.
const STATE_STACK: usize = 1024 * 1024;
/// What ending the threads may take, after the core has waited for its jobs: ten seconds in all.
const SHUTDOWN: Duration = Duration::from_secs(6);

/// What the command of a reboot, a power-off or a restart may take.
const COMMAND: Duration = Duration::from_secs(60);
/// What the machine may take to go down after that.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the agent until it ends; returns the exit code.
pub fn run(options: Options) -> u8 {
    clock::mono();
    memory::share_heap();
    let (service, oddity) = Service::take();
    let lock = match lock::single_instance() {
        Ok(lock) => lock,
        Err(error) => return fatal(&error.to_string()),
    };
    let settings = logger::Settings {
        path: options.log_file.clone(),
        debug: options.debug,
        messaging: options.debug_messaging,
        pretty: options.pretty_logging,
    };
    if let Err(error) = logger::install(&settings) {
        console::write_if_ready(std::io::stderr(), format!("no log: {error}\n").as_bytes());
    }
    let milestones = Milestones::with_pretty_logging(options.pretty_logging);
    milestones.say(&format!("{}, starting", release::NAME));
    log::debug!("arguments: {:?}", std::env::args().skip(1).collect::<Vec<_>>());
    options.warnings.iter().chain(&oddity).for_each(|warning| log::warn!("{warning}"));
    mention_oddities(&options);
    create_directories(&options);
    jobs::remove_leftovers(&options.apps_dir);
    let loaded = match flock::load(&options.config, &options.agent_dir) {
        Ok(loaded) => loaded,
        Err(error) => {
            log::error!("{error}");
            return if options.pretty_logging { fatal(&error.to_string()) } else { 1 };
        }
    };
    let ended = start(options, loaded, milestones, &service);
    if let Some(Err(reason)) = ended.then.map(|power| carry_out(power, PATIENCE, &service)) {
        log::error!("{reason}; the agent goes on line again");
        log::error!("it cannot be started again: {}", power::start_again(service.variables()));
        return 1;
    }
    drop(lock);
    if let Some(line) = ended.line {
        console::write_if_ready(std::io::stdout(), format!("{line}\n").as_bytes());
    }
    ended.code
}

fn start(options: Options, loaded: Loaded, milestones: Milestones, service: &Service) -> Ended {
    let Loaded { flock, mut file, notices } = loaded;
    for notice in notices.into_iter().chain(file.protect()) {
        log::log!(notice.level, "{}", notice.text);
    }
    if let Err(error) = file.save(&flock) {
        log::warn!("the device file is not updated: {error}");
    }
    let free = options.database.parent().and_then(|folder| disk::space(folder).ok()).map(|space| space.available);
    let time_floor = time_floor(&options);
    let (store, error) = Store::open(&options.database, clock::wall(), free);
    if let Some(error) = error {
        log::error!("{}: {error}; working without it, in memory", options.database.display());
    }
    let docker = Docker::from_env().unwrap_or_else(|error| {
        log::error!("{error}; the default socket is used");
        let address = Address::from_setting("", "").expect("no setting means the default socket");
        Docker::at(address)
    });
    let environment = flock.environment(options.env.as_deref()).to_owned();
    milestones.say(&match (options.offline, flock.device_endpoint_url.as_str()) {
        (true, _) => "offline mode: not connecting".to_owned(),
        (false, url) => format!("connecting to {url} as {}", flock.authid()),
    });
    let context = Context { options, docker, time_floor, environment, service: service.clone() };
    let (starts, started) = crossbeam_channel::bounded(1);
    let (ends, ended) = crossbeam_channel::bounded(1);
    let on_exit = |exit| {
        // Its end of the channel is gone with it, which ends the process.
        if let Exit::Panicked(text) = exit {
            log::error!("the state thread panicked: {text}");
        }
    };
    let body = move || {
        let channel = crossbeam_channel::bounded(INBOX);
        let mut main_loop = MainLoop::start(context, store, flock, file, milestones, channel);
        let _ = starts.send(());
        drop(ends.send(main_loop.run()));
        main_loop.shut_down();
    };
    if let Err(error) = thread::spawn_with_stack("state", STATE_STACK, on_exit, body) {
        log::error!("no thread for the agent's state: {error}");
        return Ended::failed();
    }
    if started.recv().is_ok() {
        service.ready();
    }
    let how = ended.recv().unwrap_or_else(|_| Ended::failed());
    match how.then {
        // The machine ends this process, or the agent comes back: for the manager it does not end.
        Some(Power::Reboot | Power::Off) => service.alive(),
        Some(Power::Restart(_)) | None => service.stopping("ending; the apps keep running"),
    }
    // The state thread now ends the others and drops its end of the channel. It is not waited for without end.
    if ended.recv_timeout(SHUTDOWN) == Err(RecvTimeoutError::Timeout) {
        log::warn!("the shutdown took longer than {} s", SHUTDOWN.as_secs());
    }
    how
}

/// Does what was asked for, now that everything is closed. The process ends with the machine: systemd's signal ends it.
/// The two waits are signs of life of their own, since the threads that give them have ended.
///
/// # Errors
/// Why the machine still runs, `patience` after a command that was successful.
fn carry_out(power: Power, patience: Duration, service: &Service) -> Result<(), String> {
    let (program, arguments): (_, &[_]) = match power {
        Power::Reboot => ("reboot", &[]),
        Power::Off => ("poweroff", &[]),
        // systemd ends this process for the restart, or starts the unit when it has ended: it is not waited for.
        Power::Restart(_) => ("systemctl", &["--no-block", "restart", "reagent"]),
    };
    log::info!("running {program} {}", arguments.join(" "));
    service.alive();
    let printed = power::run(program, arguments, COMMAND)?;
    if !printed.is_empty() {
        log::info!("{program}: {printed}");
    }
    if matches!(power, Power::Restart(_)) {
        return Ok(());
    }
    service.alive();
    std::thread::sleep(patience);
    Err(format!("{program}: the machine still runs {} s later", patience.as_secs()))
}

/// Flags that do less than their user may expect.
fn mention_oddities(options: &Options) {
    if options.profiling.is_some() {
        log::warn!("-profiling: the diagnostics server is not built in");
    }
    if options.ping_interval.is_some_and(|interval| interval < Duration::from_secs(1)) {
        log::warn!("-ppTimeout is below 1000 ms: on a slow link pings this close end good sessions");
    }
}

/// Says why on standard error, which the service journal shows.
fn fatal(text: &str) -> u8 {
    console::write_if_ready(std::io::stderr(), format!("reagent: {text}\n").as_bytes());
    1
}

/// The agent's directories (storage chapter 7.1). None of them is worth staying off line for.
fn create_directories(options: &Options) {
    let apps = &options.apps_dir;
    let folders = [
        apps.clone(),
        apps.join("build"),
        apps.join("compose"),
        apps.join("shared"),
        options.agent_dir.join("downloads"),
    ];
    for folder in folders {
        if let Err(error) = files::create_directory(&folder, 0o755) {
            log::error!("the directory {} cannot be created: {error}", folder.display());
        }
    }
}

/// The newest time that is known for certain: boards without a clock start in 1970 (X4).
fn time_floor(options: &Options) -> Wall {
    [&options.database, &options.log_file]
        .into_iter()
        .flat_map(|path| clock::written(path))
        .fold(release::date(), Wall::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::power::Supervisor;
    use crate::os::scratch::Scratch;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    #[test]
    fn a_machine_that_still_runs_after_its_reboot_is_a_failed_one_and_a_restart_is_not_waited_for() {
        // In a process of its own, whose `PATH` holds nothing dangerous.
        const CHILD: &str = "REAGENT_TEST_CARRY_OUT";
        if std::env::var_os(CHILD).is_some() {
            for power in [Power::Reboot, Power::Off] {
                let told = carry_out(power, Duration::from_millis(1), &Service::default()).unwrap_err();
                assert!(told.contains("the machine still runs"), "{told}");
            }
            let restart = Power::Restart(Supervisor::Systemd);
            assert_eq!(carry_out(restart, Duration::from_secs(86_400), &Service::default()), Ok(()));
            return;
        }
        let scratch = Scratch::new();
        for name in ["reboot", "poweroff", "systemctl"] {
            let path = scratch.file(name, "#!/bin/sh\n");
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .arg("--exact")
            .arg("agent::tests::a_machine_that_still_runs_after_its_reboot_is_a_failed_one_and_a_restart_is_not_waited_for")
            .env(CHILD, "1")
            .env("PATH", scratch.path())
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
    }
}
