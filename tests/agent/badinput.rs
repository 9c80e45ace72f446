//! Bad input and faults of the surroundings on the fake engine: the app's log says what is wrong, the app fails where the
//! contract says so, nothing is lost, and the next good request works. The rows on real parts: `tests/real/badinput`.

use super::{Device, LIMIT, REGISTRY, app, refusal};
use crate::cloud::peer::Payload;
use crate::cloud::wanted::WantedApp;
use crate::network::clock::Clock;
use crate::util::docker_daemon::{Behaviour, Pull};
use crate::util::wait_until;
use crossbeam_channel::Receiver;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The log of an app as a subscriber hears it.
struct Log {
    events: Receiver<Payload>,
    heard: RefCell<Vec<String>>,
}

impl Log {
    fn of(device: &Device, app: &WantedApp) -> Log {
        Log { events: device.cloud.backend.subscribe_logs(&app.container()), heard: RefCell::default() }
    }

    /// Waits until it has said this.
    #[track_caller]
    fn says(&self, part: &str) {
        let mut heard = self.heard.borrow_mut();
        wait_until(LIMIT, &format!("the app's log says {part:?}"), || {
            heard.extend(self.events.try_iter().flat_map(|event| event.args).map(|arg| arg.to_string()));
            heard.iter().any(|line| line.contains(part)).then_some(())
        });
    }
}

/// Every path below a folder.
fn tree(folder: &Path) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        paths.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            paths.extend(tree(&entry.path()));
        }
    }
    paths.sort();
    paths
}

#[test]
fn c7_a_download_that_stalls_fails_after_ten_minutes_with_the_reason_and_the_next_one_works() {
    let mut device = Device::prepare();
    let mut clock = Clock::new();
    device.agent.options.env.extend(clock.env());
    device.connect();
    let (first, update) = (app(501, "first"), app(502, "update"));
    device.install(&update);
    let ids = device.container_id("prod_502_update");
    let logs = [&first, &update].map(|app| Log::of(&device, app));
    // A first installation, and an update beside what runs.
    device.engine.offer(&Device::image(&first, "1.0.0"), Pull::Stalls);
    device.engine.offer(&Device::image(&update, "2.0.0"), Pull::Stalls);
    device.request(&first, "DOWNLOADING");
    let mark = device.cloud.backend.mark();
    device.request(&device.cloud.backend.known(502, "PROD").update_to("2.0.0", 101), "UPDATING");
    // From the last record on it has ten minutes.
    logs.iter().for_each(|log| log.says("Pulling fs layer"));
    clock.skip(Duration::from_secs(601));
    for (key, log) in [501, 502].into_iter().zip(&logs) {
        device.cloud.backend.wait_for_state(LIMIT, mark, key, "FAILED");
        log.says("the download made no progress for 10 minutes");
        log.says("next try in");
    }
    assert_eq!(device.container_id("prod_502_update"), ids, "what ran still does");
    device.offer(&first);
    device.engine.offer(&Device::image(&update, "2.0.0"), Pull::Works);
    device.engine.wait_for_image("prod_501_first", &Device::image(&first, "1.0.0"));
    device.engine.wait_for_image("prod_502_update", &Device::image(&update, "2.0.0"));
    device.wait_for_last_state(mark, 501, "RUNNING");
    device.wait_for_last_state(mark, 502, "RUNNING");
}

#[test]
fn an_app_that_is_killed_for_lack_of_memory_has_failed_says_so_and_is_started_again() {
    let device = Device::online();
    let app = app(501, "demo");
    device.install(&app);
    let log = Log::of(&device, &app);
    let mark = device.cloud.backend.mark();
    device.engine.starve("prod_501_demo");
    device.cloud.backend.wait_for_state(LIMIT, mark, 501, "FAILED");
    log.says("demo (PROD) exited with code 137, it ran out of memory");
    log.says("Crash loop, 1st attempt");
    device.wait_for_last_state(mark, 501, "RUNNING");
    assert_eq!(device.reports_since(mark, 501), ["FAILED", "STARTING", "RUNNING"]);
    // An end of another kind is not told like that.
    let mark = device.cloud.backend.mark();
    device.engine.exit_container("prod_501_demo", 137);
    device.cloud.backend.wait_for_state(LIMIT, mark, 501, "FAILED");
    log.says("demo (PROD) exited with code 137\"");
}

#[test]
fn a_registry_that_refuses_at_boot_holds_up_no_app_that_is_there_and_the_missing_one_says_why_until_it_comes() {
    let mut device = Device::online();
    let here = [app(501, "one"), app(502, "two")];
    let missing = app(503, "missing");
    here.iter().for_each(|app| device.install(app));
    let refused = format!("Get \"https://{REGISTRY}/v2/\": dial tcp {REGISTRY}: connect: connection refused");
    device.engine.registry_fails(Some(&refused));
    device.request(&missing, "FAILED");
    device.agent.kill9();
    here.iter().for_each(|app| device.engine.exit_container(&app.container(), 137));
    let log = Log::of(&device, &missing);
    let (mark, pulls) = (device.cloud.backend.mark(), device.engine.requests().len());
    device.agent.restart();
    for key in [501, 502] {
        device.cloud.backend.wait_for_state(LIMIT, mark, key, "RUNNING");
    }
    for app in &here {
        device.engine.wait_for_status(&app.container(), "running");
    }
    device.cloud.backend.wait_for_state(LIMIT, mark, 503, "FAILED");
    log.says("The image could not be pulled: ");
    log.says("connection refused");
    log.says("next try in");
    let asked = device.engine.requests()[pulls..].iter().filter(|it| it.path == "/images/create").count();
    assert!((1..=3).contains(&asked), "only for the one that is missing, and not in a tight loop: {asked}");
    device.engine.registry_fails(None);
    device.offer(&missing);
    device.wait_for_last_state(mark, 503, "RUNNING");
}

#[test]
fn names_and_versions_that_lead_elsewhere_or_break_lines_are_refused_and_write_nothing_outside() {
    let device = Device::online();
    let before = tree(device.agent.folder.path());
    let long = "n".repeat(4000);
    let names =
        ["..", ".", "../../escape", "/escape", "a\\b", "two\nescapes", "\r\nescape", "\x1b[2Jescape", "a\0b", &long];
    for (key, name) in (510..).zip(names) {
        let wanted = app(key, name);
        device.offer(&wanted);
        device.request(&wanted, "FAILED");
        assert!(history(&device, &wanted).contains("cannot be the name of a directory"), "{name:?}");
    }
    let versions = ["1\n0", "../../1", "\x1b[2J", &long];
    for (key, version) in (560..).zip(versions) {
        let wanted = app(key, "versions").version(version);
        device.request(&wanted, "FAILED");
        assert!(history(&device, &wanted).contains("could not be pulled"), "{version:?}");
    }
    // The same by which sources come.
    let write = |file: &str, container: &str| {
        refusal(device.call("write_data", vec![json!("BEGIN"), json!(file), json!(container), json!(1), json!("a")]))
    };
    for name in names {
        let told = write(&format!("{name}.tgz"), "dev_7_demo");
        assert!(told.starts_with("failed to parse file name") && told.len() < 400, "{name:?}: {told}");
        let told = write("demo.tgz", &format!("dev_7_{name}"));
        assert!(told.starts_with("failed to parse container name") && told.len() < 400, "{name:?}: {told}");
    }
    let after = tree(device.agent.folder.path());
    let odd: Vec<_> = after.iter().filter(|path| !before.contains(path)).collect();
    let is_odd = |path: &str| path.contains("escape") || path.contains(char::is_control) || path.contains("nnnn");
    assert!(!odd.iter().any(|path| is_odd(path)), "{odd:?}");
    let broken: Vec<String> = device.agent.log().lines().filter(|line| !is_record(line)).map(str::to_owned).collect();
    assert_eq!(broken, [""; 0], "a name breaks no line of the agent's log");
    // Nobody is held up by it.
    device.install(&app(599, "good"));
}

/// What the log of an app holds.
fn history(device: &Device, app: &WantedApp) -> String {
    let args = vec![json!({"containerName": app.container()})];
    device.call("get_app_log_history", args).expect("it is answered").args[0].to_string()
}

fn is_record(line: &str) -> bool {
    serde_json::from_str::<Value>(line).is_ok_and(|record| record["message"].is_string())
}

#[test]
fn an_app_that_lacks_memory_while_it_starts_says_so() {
    let device = Device::online();
    let app = app(501, "demo");
    device.offer(&app);
    let log = Log::of(&device, &app);
    device.engine.behave(&Device::image(&app, "1.0.0"), Behaviour { starves: true, ..Behaviour::default() });
    device.request(&app, "FAILED");
    log.says("demo could not be started: it ended at once with exit code 137, for lack of memory");
    device.engine.behave(&Device::image(&app, "1.0.0"), Behaviour::default());
    device.wait_for_last_state(0, 501, "RUNNING");
}
