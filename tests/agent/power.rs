//! Reboot, power-off and restart by request (`network-system-update.md` D.1), on a machine of fake programs.

use super::{Device, LIMIT, refusal};
use crate::cloud::peer::Payload;
use crate::cloud::router::Traffic;
use crate::util::wait_until;
use rustix::fs::{FlockOperation, flock};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

/// Puts a program into the device's `PATH`.
fn program(device: &Device, name: &str, script: &str) {
    let path = device.agent.folder.join("bin").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\ncd '{}' || exit 9\n{script}\n", device.agent.folder.path().display()))
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program that writes down how it was called and what it found, and ends well once the test has seen that.
const RECORDS: &str = "test -e agent/reagent.db-wal && state=open || state=closed\n\
    echo \"${0##*/} $* $state\" >called.tmp; /bin/mv called.tmp called\n\
    n=0; while ! test -e go && test $n -lt 300; do /bin/sleep 0.1; n=$((n+1)); done";

/// A file below the machine's `/`.
fn system_file(device: &Device, path: &str) {
    let path: PathBuf = device.agent.folder.join("root").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "").unwrap();
}

/// Asks for it and waits until the program was called; what that wrote down. Session and database are closed by then.
#[track_caller]
fn called(device: &Device, procedure: &str) -> String {
    let traffic = device.cloud.router.tap();
    assert_eq!(device.call(procedure, vec![]).map(|Payload { args, .. }| args), Ok(vec![]), "the result is empty");
    let path = device.agent.folder.join("called");
    let record = wait_until(LIMIT, "the program is called", || fs::read_to_string(&path).ok());
    let left =
        |passed| matches!(passed, Traffic::FromPeer(_, message) if message == json!([6, {}, "wamp.close.close_realm"]));
    assert!(traffic.try_iter().any(left), "the session has ended with GOODBYE before");
    assert!(device.cloud.router.sessions(&device.authid()).is_empty());
    record.trim().to_owned()
}

fn let_go(device: &Device) {
    fs::write(device.agent.folder.join("go"), "").unwrap();
}

#[test]
fn a_reboot_and_a_power_off_run_their_program_when_everything_is_closed() {
    for (procedure, name) in [("system_reboot", "reboot"), ("system_shutdown", "poweroff")] {
        let mut device = Device::prepare();
        program(&device, name, RECORDS);
        device.connect();
        assert_eq!(called(&device, procedure), format!("{name}  closed"));
        let_go(&device);
        // The process stays until the machine goes down, and ends with that at once.
        assert_eq!(device.agent.terminate(LIMIT).code(), Some(0));
        assert!(!device.agent.log().contains("on line again"), "{}", device.agent.log());
    }
}

#[test]
fn a_unit_of_systemd_is_restarted_by_systemd() {
    let mut device = Device::prepare();
    program(&device, "systemctl", RECORDS);
    system_file(&device, "run/systemd/system/marker");
    system_file(&device, "lib/systemd/system/reagent.service");
    device.connect();
    assert_eq!(called(&device, "system_restart_agent"), "systemctl --no-block restart reagent closed");
    let_go(&device);
    assert_eq!(device.agent.wait_exit(LIMIT).code(), Some(0));
}

#[test]
fn a_launched_agent_is_restarted_by_its_end() {
    let mut device = Device::prepare();
    program(&device, "systemctl", RECORDS);
    device.agent.options.env.push(("IRONFLOCK_LAUNCHER".to_owned(), "1".to_owned()));
    device.connect();
    assert_eq!(device.call("system_restart_agent", vec![]).map(|payload| payload.args), Ok(vec![]));
    assert_eq!(device.agent.wait_exit(LIMIT).code(), Some(1));
    assert!(!device.agent.agent_dir().join("reagent.db-wal").exists(), "the database is closed");
    assert!(!device.agent.folder.join("called").exists());
    device.connect();
}

#[test]
fn without_means_the_caller_is_told_and_the_agent_stays() {
    let device = Device::online();
    for (procedure, text) in
        [("system_reboot", "reboot: "), ("system_shutdown", "poweroff: "), ("system_restart_agent", "no supervisor")]
    {
        let told = refusal(device.call(procedure, vec![]));
        assert!(told.starts_with(text), "{told}");
    }
    assert!(device.call("device_handshake", vec![]).is_ok());
}

#[test]
fn a_reboot_that_fails_leaves_a_device_that_comes_back_by_itself() {
    let mut device = Device::prepare();
    program(&device, "reboot", "echo \"Access denied\" >&2; exit 1");
    device.connect();
    let pid = device.agent.pid();
    let open = || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let arguments = || fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let before = (open(), arguments());
    for round in 1..=2 {
        let mark = device.cloud.backend.mark();
        assert!(device.call("system_reboot", vec![]).is_ok());
        device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
        assert!(device.call("get_images", vec![]).is_ok(), "round {round}");
    }
    assert_eq!(arguments(), before.1, "it is the same process with the same arguments");
    // A handshake or a look at the engine may be under way.
    assert!(open() <= before.0 + 5, "descriptors: {} at first, {} now", before.0, open());
    let log = device.agent.log();
    assert_eq!(log.matches("Access denied").count(), 2, "{log}");
    let lock = fs::File::open(device.agent.folder.join("lock")).unwrap();
    assert!(flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err(), "it holds its lock again");
    assert_eq!(device.agent.terminate(LIMIT).code(), Some(0));
}
