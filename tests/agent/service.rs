//! What a service manager is told (sd_notify(3)), by a fake one: when it runs, how it does, that it lives, that it ends.

use super::{Device, LIMIT, app};
use crate::util::docker_daemon::Fault;
use crate::util::{ServiceManager, program};
use reagent::clock;
use rusqlite::Connection;
use std::fs;
use std::time::Duration;

/// The names of the agent's threads.
fn threads(device: &Device) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", device.agent.pid())).unwrap().flatten();
    let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    names.map(|name| name.trim().to_owned()).collect()
}

#[test]
fn s10_it_is_ready_when_its_threads_run_whatever_router_and_engine_do() {
    let mut device = Device::prepare();
    device.cloud.go_down();
    device.engine.go_down();
    let manager = ServiceManager::of(&mut device.agent.options, None);
    device.agent.restart();
    let told = manager.until("READY=1");
    assert!(told.iter().all(|message| !message.contains("STATUS=connected")), "{told:?}");
    let status = manager.until("STATUS=not connected, trying again: ").pop().unwrap();
    assert!(!status.contains("fake-device-secret"), "{status}");
    // The reason of the dial may change before.
    while !manager.until("STATUS=not connected, ").iter().any(|message| message.contains("; docker is not reachable: "))
    {
    }
}

#[test]
fn the_status_follows_the_session_and_the_end_is_announced() {
    let mut device = Device::prepare();
    let name = format!("reagent-test-{}-status", std::process::id());
    let manager = ServiceManager::with_name(&mut device.agent.options, &name);
    device.connect();
    let connected = format!("STATUS=connected to {}", device.cloud.router.url());
    let told = manager.until(&connected);
    assert!(told.contains(&"READY=1".to_owned()) || !manager.until("READY=1").is_empty());
    device.cloud.router.cut(&device.authid());
    manager.until("STATUS=not connected, trying again: ");
    manager.until(&connected);
    assert_eq!(device.agent.terminate(LIMIT).code(), Some(0));
    let told = manager.until("STOPPING=1");
    assert!(told.last().unwrap().contains("\nSTATUS=ending"), "{told:?}");
    assert!(!told.iter().any(|message| message.starts_with("WATCHDOG=1")), "nobody expects a sign of life");
}

#[test]
fn an_agent_with_nothing_to_do_and_with_nothing_that_answers_gives_its_signs_of_life() {
    let period = Duration::from_millis(500);
    let mut device = Device::prepare();
    let manager = ServiceManager::of(&mut device.agent.options, Some(period));
    device.connect();
    manager.until("READY=1");
    let signs = |of: &str| {
        manager.heard.try_iter().for_each(drop);
        let begun = clock::mono();
        (0..4).for_each(|_| drop(manager.until("WATCHDOG=1")));
        assert!(clock::mono() - begun >= period / 2 * 3, "{of}: they come at half of the period, not more often");
    };
    signs("an idle agent");
    device.engine.fault("*", Fault::Hang);
    device.engine.restart();
    device.cloud.go_down();
    manager.until("STATUS=not connected");
    signs("an agent without router and engine");
    assert_eq!(threads(&device).iter().filter(|name| *name == "watchdog").count(), 1);
    assert!(!device.agent.log().contains("no answer within"), "{}", device.agent.log());
}

#[test]
fn a_state_thread_that_stands_still_ends_the_signs_of_life_until_it_goes_on() {
    let mut device = Device::prepare();
    let manager = ServiceManager::of(&mut device.agent.options, Some(Duration::from_millis(500)));
    device.connect();
    manager.until("WATCHDOG=1");
    let mut other = Connection::open(device.agent.agent_dir().join("reagent.db")).unwrap();
    let lock = other.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive).unwrap();
    manager.heard.try_iter().for_each(drop);
    // Answered when the commit has failed, after the five seconds that the database is waited for.
    let app = app(501, "demo");
    device.offer(&app);
    device.cloud.backend.request_app_state(&app).unwrap();
    lock.rollback().unwrap();
    manager.until("WATCHDOG=1");
    let silent = device.agent.log();
    assert!(silent.contains("no answer within 250 ms from: state."), "{silent}");
    let signs: Vec<Duration> = manager.heard.try_iter().map(|(at, _)| at).collect();
    assert!(signs.len() <= 4, "the signs of five seconds would be twenty: {signs:?}");
    (0..3).for_each(|_| drop(manager.until("WATCHDOG=1")));
}

#[test]
fn nothing_runs_for_a_manager_that_expects_no_signs_of_life_or_those_of_another_process() {
    let own = std::process::id().to_string();
    for variables in [&[][..], &[("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", &own)]] {
        let mut device = Device::prepare();
        let manager = ServiceManager::of(&mut device.agent.options, None);
        device
            .agent
            .options
            .env
            .extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        device.connect();
        assert!(!threads(&device).contains(&"watchdog".to_owned()), "{:?}", threads(&device));
        device.agent.terminate(LIMIT);
        let told = manager.until("STOPPING=1");
        assert!(told.iter().all(|message| !message.contains("WATCHDOG")), "{told:?}");
    }
}

#[test]
fn a_child_does_not_know_the_manager_and_an_agent_that_starts_itself_anew_does() {
    let mut device = Device::prepare();
    let period = Duration::from_secs(2);
    let manager = ServiceManager::of(&mut device.agent.options, Some(period));
    let bin = device.agent.folder.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let environment = device.agent.folder.join("environment");
    let script = format!("/usr/bin/env >'{}'\necho not today >&2\nexit 1", environment.display());
    program(&bin.join("reboot"), &script);
    device.connect();
    for _ in 0..2 {
        manager.until("READY=1");
        manager.until("WATCHDOG=1");
        let mark = device.cloud.backend.mark();
        device.call("system_reboot", vec![]).unwrap();
        device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
        let environment = fs::read_to_string(&environment).unwrap();
        assert!(environment.contains("REAGENT_LOCK_FILE="), "{environment}");
        assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG_"), "{environment}");
    }
    let told = manager.until("READY=1");
    assert!(!told.iter().any(|message| message.contains("STOPPING")), "the process did not end: {told:?}");
    manager.until("WATCHDOG=1");
}
