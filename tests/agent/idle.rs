//! D7, S1 (decision 16): with running apps and nothing to do, the agent does nothing.

use super::{Device, LIMIT, app};
use crate::util::wait_until;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Size and time of change of the database's files.
fn database(device: &Device) -> Vec<(PathBuf, Option<(u64, SystemTime)>)> {
    let of = |name: &str| {
        let path = device.agent.agent_dir().join(name);
        let found = path.metadata().ok().map(|found| (found.len(), found.modified().unwrap()));
        (path, found)
    };
    ["reagent.db", "reagent.db-wal"].map(of).to_vec()
}

fn children(device: &Device) -> Vec<String> {
    let pid = device.agent.pid().to_string();
    let parent = |stat: &str| stat.rsplit_once(") ")?.1.split(' ').nth(1).map(str::to_owned);
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let stats = entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
    stats.filter(|stat| parent(stat).as_deref() == Some(&pid)).collect()
}

#[test]
fn d7_five_running_apps_cause_no_request_no_write_and_no_process_for_10_s() {
    let mut device = Device::online();
    for key in 501..506 {
        device.install(&app(key, "demo"));
    }
    // The restart has all histories saved: else one of them is written within 30 s.
    device.agent.terminate(LIMIT);
    device.connect();
    let quiet = |device: &Device| (device.engine.requests().len(), database(device));
    let mut before = quiet(&device);
    wait_until(LIMIT, "the connect sequence has settled", || {
        std::thread::sleep(Duration::from_secs(1));
        let now = quiet(&device);
        let settled = now == before;
        before = now;
        settled.then_some(())
    });
    assert_eq!(device.engine.connections(), 6, "the event stream and one log per app");
    // What is looked at is that nothing happens: there is no event to wait for.
    std::thread::sleep(Duration::from_secs(10));
    let asked: Vec<String> =
        device.engine.requests()[before.0..].iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    let listings = asked.iter().filter(|asked| *asked == "GET /containers/json").count();
    assert!(listings <= 1 && asked.len() <= listings * 8, "{asked:?}");
    assert_eq!(database(&device), before.1, "nothing is written");
    assert_eq!(children(&device), Vec::<String>::new());
}
