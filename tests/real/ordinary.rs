//! Ordinary days: an app that cannot stay up, a port that somebody else has, and hours in which nothing happens.

use super::engine::children;
use super::lifecycle::{demo, recorded_demo, reports_after};
use super::stage::{PoolStart, SOON, Stage, page_says, progress};
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use reagent::clock;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const EXITS: usize = 50;

#[test]
fn s12_an_app_that_exits_at_once_is_seen_to_fail_every_time_and_is_backed_off() {
    let stage = Stage::start();
    let app = WantedApp::new(505, "exits");
    stage.push(&app, "1.0.0", "exits");
    for round in 1..=EXITS {
        let mark = stage.backend.mark();
        let current = if round == 1 { "UNINSTALLED" } else { "FAILED" };
        stage.backend.request_app_state(&app.clone().current(current)).expect("the agent takes the request");
        // One that fails before its start is over, and one that fails after it, are both seen.
        stage.backend.wait_for_state(SOON, mark, 505, "FAILED");
        let states = reports_after(&stage, mark, &app);
        assert!(states.contains(&"STARTING".to_owned()), "round {round}: {states:?}");
        if round % 10 == 0 {
            progress(&format!("{round} exits"));
        }
    }
    // Left alone, it is tried again after about 5 s, then after about 20 s.
    let mut failed = clock::mono();
    for (bound, least) in [(Duration::from_secs(10), 4), (Duration::from_secs(30), 16)] {
        let mark = stage.backend.mark();
        let again = stage.backend.wait_for_state(bound, mark, 505, "STARTING").at.saturating_sub(failed);
        progress(&format!("tried again after {again:.2?}"));
        assert!(again > Duration::from_secs(least) - Duration::from_millis(500), "{again:?}");
        failed = stage.backend.wait_for_state(SOON, mark, 505, "FAILED").at;
    }
}

#[test]
fn a_port_of_the_pool_that_a_foreign_process_has_is_not_taken() {
    let _alone = PoolStart::take();
    let stage = Stage::start();
    let app = recorded_demo();
    stage.push(&app, "1.0.0", "demo");
    // Whatever is free at the start of the pool.
    let taken: Vec<TcpListener> =
        (40_000..40_020).filter_map(|port| TcpListener::bind(("0.0.0.0", port)).ok()).collect();
    stage.request(&app, "RUNNING");
    let port = stage.host_port(&app, 8080);
    assert!(taken.iter().all(|listener| listener.local_addr().unwrap().port() != port), "{port}");
    page_says(port, "/", "demo 1.0.0");
}

#[test]
fn a_port_that_was_taken_while_the_app_stood_still_is_replaced_and_the_new_one_reported() {
    let _alone = PoolStart::take();
    let stage = Stage::start();
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.request(&app, "RUNNING");
    let (web, dns) = (stage.host_port(&app, 8080), stage.host_port(&app, 53));
    let app = stage.backend.known(501, "PROD");
    stage.request(&app.clone().target("PRESENT"), "PRESENT");
    let foreign = wait_until(SOON, "the port is free", || TcpListener::bind(("0.0.0.0", web)).ok());
    let mark = stage.backend.mark();
    stage.request(&app.clone().current("PRESENT"), "RUNNING");
    let now = stage.backend.wait_for(SOON, "the new port is reported", |calls| {
        let of = calls[mark..].iter().filter_map(|call| call.argument()["ports"].as_array());
        of.flatten().find(|rule| rule["port"] == 8080 && rule["host_port"] != web).map(|rule| rule["host_port"].clone())
    });
    let now = u16::try_from(now.as_u64().unwrap()).unwrap();
    page_says(now, "/env", &format!("DEVICE_PORT_FOR_8080={now}"));
    assert_eq!(stage.host_port(&app, 53), dns, "only the port in the way is replaced");
    drop(foreign);
}

#[test]
fn an_idle_agent_with_five_apps_starts_no_process_writes_nothing_and_asks_the_engine_once_a_minute() {
    let stage = Stage::start();
    for n in 0..5 {
        let app = WantedApp::new(520 + n, &format!("silent{n}"));
        stage.push(&app, "1.0.0", "silent");
        stage.request(&app, "RUNNING");
    }
    let pid = i32::try_from(stage.agent.pid()).unwrap();
    // The lines of the starts are saved half a minute later.
    let folder = stage.agent.agent_dir();
    let started = UNIX_EPOCH + unix_time();
    wait_until(SOON + SOON, "the last lines are saved", || {
        let saved = database(&folder).into_iter().map(|(_, _, at)| at).max().expect("a database has files");
        let quiet = saved + Duration::from_secs(6) < UNIX_EPOCH + unix_time();
        (quiet && saved > started + Duration::from_secs(15)).then_some(())
    });
    let (asked, written) = (stage.requests.lines().len(), database(&folder));
    let (window, start) = (Duration::from_secs(65), clock::mono());
    progress("nothing happens for 65 s");
    let cpu = cpu_ticks(pid);
    while clock::mono() < start + window {
        assert_eq!(children(pid), Vec::<i32>::new(), "the agent has a child process");
        std::thread::sleep(Duration::from_millis(100));
    }
    let requests: Vec<String> = stage.requests.lines().split_off(asked).into_iter().map(|(_, line)| line).collect();
    let used = cpu_ticks(pid) - cpu;
    progress(&format!("{} requests: {requests:?}; {used} CPU ticks", requests.len()));
    let lists = requests.iter().filter(|line| line.contains("/containers/json")).count();
    assert!((1..=2).contains(&lists), "one resync per minute: {requests:?}");
    assert!(requests.len() <= 4, "{requests:?}");
    assert!(requests.iter().all(|line| line.starts_with("GET ")), "{requests:?}");
    assert_eq!(database(&folder), written, "the database was written");
}

/// The wall clock, as the file system stamps by it.
fn unix_time() -> Duration {
    let wall = clock::wall();
    Duration::new(u64::try_from(wall.seconds).unwrap(), wall.nanos)
}

/// Names, sizes and times of the database's files.
fn database(folder: &Path) -> Vec<(String, u64, SystemTime)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .filter(|entry| entry.file_name().to_string_lossy().contains(".db"))
        .map(|entry| {
            let meta = entry.metadata().unwrap();
            (entry.file_name().to_string_lossy().into_owned(), meta.len(), meta.modified().unwrap())
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "there is a database");
    files
}

/// User and system time of a process, in hundredths of a second.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}
