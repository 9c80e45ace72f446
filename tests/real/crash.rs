//! The agent or the engine dies while an app is on its way: the app ends where it was last asked to be (S7).
//!
//! Each test brings the app into a transient state and holds it there: a download that stalls, an engine whose answers do
//! not arrive, a container that ignores SIGTERM.

use super::lifecycle::demo;
use super::stage::{SOON, Stage, with_ports};
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use std::time::Duration;

/// What happens in the transient state.
#[derive(Clone, Copy, PartialEq)]
enum Blow {
    /// kill -9, and a start.
    Agent,
    /// The daemon is stopped in good order and started again.
    Engine,
    /// kill -9 of the daemon, and a start.
    EngineKilled,
}

/// After a failure the first attempt waits up to 6 s, a second up to 24 s.
const RECOVERY: Duration = Duration::from_secs(60);

impl Blow {
    fn falls(self, stage: &mut Stage) {
        match self {
            Blow::Agent => {
                stage.agent.kill9();
                stage.free();
                stage.agent.restart();
            }
            Blow::Engine => {
                stage.engine.terminate();
                stage.free();
                stage.engine.launch();
            }
            Blow::EngineKilled => {
                stage.engine.kill9();
                stage.free();
                stage.engine.launch();
            }
        }
    }
}

impl Stage {
    /// Nothing stalls any more.
    fn free(&self) {
        self.requests.release();
        self.download.release();
    }
}

fn downloading(blow: Blow) {
    let mut stage = Stage::start();
    let app = with_ports(WantedApp::new(504, "large").port(8080, "http"));
    stage.push(&app, "1.0.0", "big");
    stage.download.stall_after(1 << 20);
    stage.request(&app, "DOWNLOADING");
    let mark = stage.backend.mark();
    blow.falls(&mut stage);
    stage.settles(RECOVERY, mark, &app, "RUNNING", "1.0.0");
    stage.nothing_else(&app);
}

fn starting(blow: Blow) {
    let mut stage = Stage::start();
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.request(&app, "RUNNING");
    stage.request(&app.clone().current("RUNNING").target("PRESENT"), "PRESENT");
    let (mark, asked) = (stage.backend.mark(), stage.requests.lines().len());
    stage.backend.request_app_state(&app.clone().current("PRESENT")).unwrap();
    // The container runs, but the agent has not heard of it.
    stage.requests.wait_for(asked, "/start");
    stage.requests.stall();
    stage.backend.wait_for_state(SOON, mark, 501, "STARTING");
    let mark = stage.backend.mark();
    blow.falls(&mut stage);
    stage.settles(RECOVERY, mark, &app, "RUNNING", "1.0.0");
    stage.nothing_else(&app);
}

fn stopping(blow: Blow) {
    let mut stage = Stage::start();
    let app = with_ports(WantedApp::new(502, "stubborn").port(8080, "http"));
    stage.push(&app, "1.0.0", "stubborn");
    stage.request(&app, "RUNNING");
    stage.request(&app.clone().current("RUNNING").target("PRESENT"), "STOPPING");
    let mark = stage.backend.mark();
    blow.falls(&mut stage);
    stage.settles(RECOVERY, mark, &app, "PRESENT", "1.0.0");
    stage.nothing_else(&app);
}

fn updating(blow: Blow) {
    let mut stage = Stage::start();
    let app = with_ports(WantedApp::new(504, "large").port(8080, "http"));
    stage.push(&app, "1.0.0", "big");
    stage.push(&app, "2.0.0", "big");
    stage.request(&app, "RUNNING");
    stage.download.stall_after(1 << 20);
    let mark = stage.backend.mark();
    stage.backend.request_app_state(&stage.backend.known(504, "PROD").update_to("2.0.0", 101)).unwrap();
    stage.backend.wait_for_state(SOON, mark, 504, "UPDATING");
    let mark = stage.backend.mark();
    blow.falls(&mut stage);
    stage.settles(RECOVERY, mark, &app, "RUNNING", "2.0.0");
    stage.nothing_else(&app);
    assert_eq!(stage.backend.known(504, "PROD").present_version, "2.0.0");
}

fn deleting(blow: Blow) {
    let mut stage = Stage::start();
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.request(&app, "RUNNING");
    let mark = stage.backend.mark();
    stage.requests.stall();
    stage.backend.request_app_state(&app.clone().current("RUNNING").target("UNINSTALLED")).unwrap();
    stage.backend.wait_for_state(SOON, mark, 501, "DELETING");
    let mark = stage.backend.mark();
    blow.falls(&mut stage);
    stage.settles(RECOVERY, mark, &app, "UNINSTALLED", "1.0.0");
    stage.nothing_else(&app);
    assert_eq!(stage.docker.run(&["images", "-q"]), "");
    wait_until(SOON, "the data goes", || (!stage.agent.apps_dir().join("prod/demo").exists()).then_some(()));
}

#[test]
fn s7_an_agent_killed_while_downloading_downloads_again_and_runs_the_app() {
    downloading(Blow::Agent);
}

#[test]
fn s7_an_agent_killed_while_starting_finds_the_app_running() {
    starting(Blow::Agent);
}

#[test]
fn s7_an_agent_killed_while_stopping_stops_the_app() {
    stopping(Blow::Agent);
}

#[test]
fn s7_an_agent_killed_while_updating_ends_with_the_new_version() {
    updating(Blow::Agent);
}

#[test]
fn s7_an_agent_killed_while_deleting_uninstalls_the_app() {
    deleting(Blow::Agent);
}

#[test]
fn an_engine_restarted_while_the_agent_downloads_gets_the_app_to_run() {
    downloading(Blow::Engine);
}

#[test]
fn an_engine_restarted_while_the_agent_starts_an_app_gets_it_to_run() {
    starting(Blow::Engine);
}

#[test]
fn an_engine_restarted_while_the_agent_stops_an_app_has_it_stopped() {
    stopping(Blow::Engine);
}

#[test]
fn an_engine_restarted_while_the_agent_updates_an_app_ends_with_the_new_version() {
    updating(Blow::Engine);
}

#[test]
fn an_engine_restarted_while_the_agent_deletes_an_app_has_it_uninstalled() {
    deleting(Blow::Engine);
}

#[test]
fn an_engine_killed_under_running_apps_has_them_run_again() {
    let mut stage = Stage::start();
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.request(&app, "RUNNING");
    let mark = stage.backend.mark();
    Blow::EngineKilled.falls(&mut stage);
    // The daemon ends what it finds running at its start. The agent reports that and starts the app after the back-off.
    stage.backend.wait_for_state(SOON, mark, 501, "FAILED");
    stage.settles(RECOVERY, mark, &app, "RUNNING", "1.0.0");
    stage.nothing_else(&app);
}
