//! Start and end (`wamp-and-rpc.md` 1.13, 2.1, 8; decisions 23 and 35): what ends the process, what does not, and what a
//! signal does.

use super::{Device, LIMIT, app};
use crate::cloud::router::Traffic;
use crate::util::docker_daemon::{Fault, Pull};
use crate::util::{Agent, Options, wait_until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

fn signal(agent: &Agent, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(agent.pid()).unwrap()).unwrap();
    kill_process(pid, signal).expect("the child is ours to signal");
}

/// Removes a member, or sets it.
fn edit(flock: &str, key: &str, value: Option<Value>) -> String {
    let mut object: Value = serde_json::from_str(flock).unwrap();
    match value {
        Some(value) => object[key] = value,
        None => drop(object.as_object_mut().unwrap().remove(key)),
    }
    format!("{object:#}")
}

#[test]
fn s6_a_second_instance_is_refused_with_a_message_that_names_the_conflict() {
    let mut device = Device::prepare();
    device.agent.options.flags.push("-offline".to_owned());
    device.agent.restart();
    let lock = device.agent.folder.join("lock");
    wait_until(LIMIT, "the database is open", || device.agent.agent_dir().join("reagent.db").exists().then_some(()));
    let mut second = Agent::prepare(device.agent.options.clone());
    second.options.env.push(("REAGENT_LOCK_FILE".to_owned(), lock.display().to_string()));
    second.restart();
    assert_eq!(second.wait_exit(Duration::from_secs(10)).code(), Some(1));
    let output = second.output().join("\n");
    assert!(output.contains("another agent is running"), "{output}");
    assert!(output.contains("systemctl stop reagent") && output.contains(&lock.display().to_string()), "{output}");
    assert!(!second.folder.join("reagent.log").exists() && !second.apps_dir().exists(), "it must not touch anything");
    device.agent.kill9();
    second.restart();
    wait_until(LIMIT, "the lock of a killed agent is free", || second.apps_dir().exists().then_some(()));
}

#[test]
fn a_device_file_that_cannot_be_used_ends_the_start_and_stays_as_it_is() {
    let usual = Device::prepare().cloud.flock();
    let long = format!("{}{}", " ".repeat(1024 * 1024), usual);
    let mut cases: Vec<(String, &str)> = vec![
        (String::new(), "no JSON object"),
        (usual[..usual.len() / 2].to_owned(), "no JSON object"),
        ("[]".to_owned(), "no JSON object"),
        ("null".to_owned(), "no JSON object"),
        ("\0".repeat(512), "no JSON object"),
        (long, "bytes"),
    ];
    for key in ["secret", "swarm_key", "device_key", "serial_number", "device_endpoint_url"] {
        cases.push((edit(&usual, key, None), key));
        cases.push((edit(&usual, key, Some(json!([]))), key));
        cases.push((edit(&usual, key, Some(json!(""))), key));
    }
    cases.push((edit(&usual, "swarm_key", Some(json!(0))), "swarm_key"));
    cases.push((edit(&usual, "device_key", Some(json!(-3))), "device_key"));
    let mut agent = Agent::prepare(Options::default());
    for (text, named) in cases {
        fs::write(agent.flock(), &text).unwrap();
        agent.restart();
        assert_eq!(agent.wait_exit(Duration::from_secs(10)).code(), Some(1), "{named}");
        let output = agent.output();
        let path = agent.flock().display().to_string();
        // The newest line: the output of all starts is in there.
        let told = output.iter().rev().find(|line| line.starts_with("err: ")).unwrap_or_else(|| panic!("{output:?}"));
        assert!(told.contains(named) && told.contains(&path), "{told}");
        assert_eq!(fs::read_to_string(agent.flock()).unwrap(), text, "{named}: the file is left as it was");
        assert!(!told.contains("fake-device-secret"), "{told}");
    }
    fs::remove_file(agent.flock()).unwrap();
    agent.restart();
    assert_eq!(agent.wait_exit(Duration::from_secs(10)).code(), Some(1));
    assert!(agent.output().iter().any(|line| line.contains("cannot read the config file")), "{:?}", agent.output());
}

#[test]
fn a_fatal_start_is_told_on_stderr_with_pretty_logging_too() {
    let mut agent = Agent::prepare(Options { flags: vec!["-prettyLogging".to_owned()], ..Options::default() });
    agent.restart();
    assert_eq!(agent.wait_exit(Duration::from_secs(10)).code(), Some(1));
    let output = agent.output();
    assert!(output.iter().any(|line| line.starts_with("err: ") && line.contains("no JSON object")), "{output:?}");
}

#[test]
fn a_device_file_that_a_power_cut_destroyed_is_replaced_by_the_copy_of_the_last_join() {
    let mut device = Device::online();
    let path = device.agent.flock();
    device.agent.terminate(LIMIT);
    for destroyed in ["", "\0\0\0\0", "{\"name\": \"dev"] {
        fs::write(&path, destroyed).unwrap();
        device.connect();
        let log = device.agent.log();
        let told = log.lines().rev().find(|line| line.contains("\"level\":\"error\"")).unwrap_or_default();
        assert!(told.contains("device.flock") && told.contains("copy"), "{told}");
        device.agent.terminate(LIMIT);
        assert_eq!(fs::read_to_string(&path).unwrap(), destroyed, "the given file is left alone");
    }
    let copy = device.agent.agent_dir().join("device-config.copy");
    assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o600);
    // Valid, but it lacks something: that is somebody's decision, no accident.
    fs::write(&path, edit(&device.cloud.flock(), "secret", None)).unwrap();
    device.agent.restart();
    assert_eq!(device.agent.wait_exit(LIMIT).code(), Some(1));
}

#[test]
fn c8_a_moved_device_writes_its_file_and_joins_again_under_its_new_name() {
    let mut device = Device::prepare();
    let mut moved = device.cloud.backend.identity.clone();
    moved.swarm_key = 77;
    let users = moved.users();
    device.cloud.router.add_user("77-3", users["77-3"].clone());
    device.cloud.backend.platform(|platform| {
        platform.identity.swarm_key = 77;
        platform.identity.name = "moved-device".to_owned();
    });
    let traffic = device.cloud.router.tap();
    device.connect();
    let passed: Vec<Traffic> = traffic.try_iter().collect();
    let from = |kind: u64| {
        passed.iter().filter_map(move |passed| match passed {
            Traffic::FromPeer(_, message) if message[0] == kind => Some(message.clone()),
            _ => None,
        })
    };
    let hellos: Vec<Value> = from(1).map(|hello| hello[2]["authid"].clone()).collect();
    assert_eq!(hellos, [json!("2-3"), json!("77-3")]);
    assert_eq!(from(6).next().map(|goodbye| goodbye[2].clone()), Some(json!("wamp.close.close_realm")));
    let procedures: Vec<String> = device.cloud.backend.calls().into_iter().map(|call| call.procedure).collect();
    // The first run ends with the metadata: nothing is written under the stale identity, only asked.
    let questions = ["reswarm.devices.read_device_metadata", "reswarm.devices.get_app_cred_key"];
    assert_eq!(procedures[..4], [questions, questions].concat(), "{procedures:?}");
    let status = device.cloud.backend.calls().into_iter().find(|call| call.is("update_device_status")).unwrap();
    assert_eq!(status.argument()["swarm_key"], 77);
    let written = fs::read_to_string(device.agent.flock()).unwrap();
    let object: Value = serde_json::from_str(&written).unwrap();
    assert_eq!((&object["swarm_key"], &object["name"]), (&json!(77), &json!("moved-device")));
    assert!(written.starts_with("{\n \"name\": ") && !written.ends_with('\n'), "{written}");
    assert_eq!(fs::metadata(device.agent.flock()).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn the_first_signal_says_goodbye_and_exits_with_0() {
    for kill in [Signal::TERM, Signal::INT] {
        let mut device = Device::online();
        let traffic = device.cloud.router.tap();
        signal(&device.agent, kill);
        let status = device.agent.wait_exit(Duration::from_secs(10));
        assert_eq!(status.code(), Some(0), "{kill:?}");
        let goodbye = traffic.try_iter().find_map(|passed| match passed {
            Traffic::FromPeer(_, message) if message[0] == 6 => Some(message),
            _ => None,
        });
        assert_eq!(goodbye, Some(json!([6, {}, "wamp.close.close_realm"])), "{kill:?}");
        assert!(!device.agent.agent_dir().join("reagent.db-wal").exists(), "the database is closed");
    }
}

#[test]
fn a_second_signal_exits_at_once() {
    for (kill, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut device = Device::online();
        // The router does not answer the GOODBYE, which would be waited for.
        device.cloud.router.freeze(true);
        signal(&device.agent, Signal::TERM);
        wait_until(LIMIT, "the first signal is taken", || device.agent.log().contains("shutting down").then_some(()));
        signal(&device.agent, kill);
        assert_eq!(device.agent.wait_exit(Duration::from_secs(3)).code(), Some(code));
        device.cloud.router.freeze(false);
    }
}

#[test]
fn a_signal_ends_an_agent_whose_router_never_answered() {
    let mut device = Device::prepare();
    device.cloud.go_down();
    device.agent.restart();
    wait_until(LIMIT, "a dial has failed", || device.agent.log().contains("dial 1").then_some(()));
    assert_eq!(device.agent.terminate(Duration::from_secs(10)).code(), Some(0));
    device.cloud.come_back().unwrap();
    device.cloud.router.freeze(true);
    device.agent.restart();
    wait_until(LIMIT, "it hangs in a dial", || (device.agent.log().matches("dial 1 to").count() == 2).then_some(()));
    assert_eq!(device.agent.terminate(Duration::from_secs(10)).code(), Some(0));
    device.cloud.router.freeze(false);
}

#[test]
fn s11_a_broken_database_leaves_an_agent_that_is_online() {
    let mut device = Device::prepare();
    let path = device.agent.agent_dir().join("reagent.db");
    fs::write(&path, "this is no database, and never was one".repeat(200)).unwrap();
    device.connect();
    device.agent.terminate(LIMIT);
    let _ = fs::remove_file(&path);
    for side in ["-wal", "-shm"] {
        let _ = fs::remove_file(path.with_file_name(format!("reagent.db{side}")));
    }
    fs::create_dir(&path).unwrap();
    device.connect();
    assert!(device.agent.log().contains("reagent.db"), "the log names the file");
    // Apps run all the same, from memory.
    device.install(&app(7, "alive"));
    device.agent.terminate(LIMIT);
    // A place where nothing can be written.
    device.flag("-dbFileName", "/proc/absent/reagent.db");
    device.connect();
}

#[test]
fn s11_a_log_file_and_app_folders_that_cannot_be_written_leave_an_agent_that_is_online() {
    let mut device = Device::prepare();
    // Below a file there can be no file: this holds for root, too.
    let file = device.agent.folder.join("file");
    fs::write(&file, "").unwrap();
    device.flag("-logFile", &file.join("reagent.log").display().to_string());
    device.flag("-appsDir", &file.join("apps").display().to_string());
    device.connect();
    let output = device.agent.output().join("\n");
    assert!(output.contains("reagent.log") && output.contains("apps"), "both are told: {output}");
    assert_eq!(device.agent.terminate(LIMIT).code(), Some(0));
}

#[test]
fn s10_without_network_manager_it_is_online() {
    let mut device = Device::prepare();
    device.agent.options.env.push(("DBUS_SYSTEM_BUS_ADDRESS".to_owned(), "unix:path=/nonexistent/bus".to_owned()));
    device.agent.options.flags.push("-nmw=true".to_owned());
    device.connect();
}

#[test]
fn p1_the_database_is_private_in_wal_mode_and_its_own_copy_after_a_clean_end() {
    let mut device = Device::online();
    let path = device.agent.agent_dir().join("reagent.db");
    assert_eq!(device.rows("PRAGMA journal_mode"), ["wal"]);
    for name in ["reagent.db", "reagent.db-wal"] {
        let mode = fs::metadata(path.with_file_name(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    device.install(&app(7, "alive"));
    device.agent.terminate(LIMIT);
    assert_eq!(device.recorded(), ["7:RUNNING"]);
    // A file of the field may be in the other mode.
    let conn = rusqlite::Connection::open(&path).unwrap();
    let mode: String = conn.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "delete");
    drop(conn);
    device.connect();
    assert_eq!(device.rows("PRAGMA journal_mode"), ["wal"]);
    assert_eq!(device.recorded(), ["7:RUNNING"]);
}

#[test]
fn a_signal_in_the_middle_of_everything_ends_within_10_s_and_the_work_is_taken_up_again() {
    let mut device = Device::online();
    let (pulled, started) = (app(501, "pulled"), app(502, "started"));
    device.engine.offer(&Device::image(&pulled, "1.0.0"), Pull::Stalls);
    device.request(&pulled, "DOWNLOADING");
    device.offer(&started);
    device.engine.fault("POST /containers/*/start", Fault::Hang);
    device.request(&started, "STARTING");
    device.engine.wait_for_request("POST /containers/*/start", 1);
    assert_eq!(device.agent.terminate(Duration::from_secs(10)).code(), Some(0));
    device.offer(&pulled);
    device.engine.heal();
    device.connect();
    device.wait_for_last_state(0, 501, "RUNNING");
    device.wait_for_last_state(0, 502, "RUNNING");
    assert_eq!(device.engine.containers().len(), 2);
}

#[test]
fn a_proxy_of_the_environment_is_not_used_for_loopback() {
    let mut device = Device::prepare();
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        device.agent.options.env.push((name.to_owned(), "http://127.0.0.1:1".to_owned()));
    }
    device.connect();
}

#[test]
fn the_agent_leaves_no_file_that_boot_scripts_take_for_something_else() {
    let mut device = Device::online();
    device.install(&app(501, "demo"));
    device.agent.terminate(LIMIT);
    for entry in fs::read_dir(device.agent.agent_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        for taken in ["reagent-", ".flock", ".reswarm"] {
            assert!(!name.contains(taken), "{name}");
        }
    }
    let beside: Vec<_> =
        fs::read_dir(device.agent.folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!beside.iter().any(|name| name.to_string_lossy().starts_with('.')), "{beside:?}");
}

#[test]
fn pretty_logging_writes_readable_lines_to_stdout_and_json_to_the_file() {
    let mut device = Device::prepare();
    device.agent.options.flags.push("-prettyLogging".to_owned());
    device.connect();
    device.agent.terminate(LIMIT);
    let output = device.agent.output();
    let lines: Vec<&String> = output.iter().filter(|line| line.starts_with("out: ")).collect();
    assert!(
        lines.len() > 3 && lines.iter().all(|line| line.as_bytes()[5..9].iter().all(u8::is_ascii_digit)),
        "{lines:#?}"
    );
    let log = device.agent.log();
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
}
