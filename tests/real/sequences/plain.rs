//! An app of one container in production.

use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::real::stage::Stage;
use crate::real::walk::{Act, Row, Walk, has_image};
use Act::{Ask, Do};

const IMAGE: &str = "image prod_501_demo:1.0.0";
const FOLDER: &str = "file prod/demo";

const ROWS: &[Row] = &[
    Row {
        action: "pull",
        act: Ask(|app| app.target("PRESENT").current("REMOVED")),
        reports: &["DOWNLOADING", "PRESENT"],
        there: &[IMAGE, FOLDER],
        says: &[("prod", "Pulling from apps/"), ("prod", "demo installed, version 1.0.0")],
    },
    Row {
        action: "state already reached",
        act: Ask(|app| app),
        reports: &["PRESENT"],
        there: &[IMAGE, FOLDER],
        says: &[],
    },
    Row {
        action: "run, image there",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: &["container prod_501_demo running prod_501_demo:1.0.0", IMAGE, FOLDER],
        says: &[("prod", "Starting demo"), ("prod", "demo is running (1.0.0)"), ("prod", "demo 1.0.0 line 1")],
    },
    Row {
        action: "state already reached, running",
        act: Ask(|app| app),
        reports: &["RUNNING"],
        there: &["container prod_501_demo running prod_501_demo:1.0.0", IMAGE, FOLDER],
        says: &[],
    },
    Row {
        action: "stop",
        act: Ask(|app| app.target("PRESENT")),
        reports: &["STOPPING", "STOPPING", "PRESENT"],
        there: &[IMAGE, FOLDER],
        says: &[("prod", "Stop of demo requested"), ("prod", "demo stopped")],
    },
    Row {
        action: "update, not to run",
        act: Ask(|app| app.update_to("2.0.0", 101)),
        reports: &["UPDATING", "PRESENT+pending"],
        there: &["image prod_501_demo:2.0.0", FOLDER],
        says: &[("prod", "Preparing download of demo"), ("prod", "demo installed, version 2.0.0")],
    },
    Row {
        action: "run after an update",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: &["container prod_501_demo running prod_501_demo:2.0.0", "image prod_501_demo:2.0.0", FOLDER],
        says: &[("prod", "demo 2.0.0 line 1")],
    },
    Row {
        action: "update of a running app",
        act: Ask(|app| app.update_to("3.0.0", 102)),
        reports: &["UPDATING", "PRESENT+pending", "RUNNING"],
        there: &["container prod_501_demo running prod_501_demo:3.0.0", "image prod_501_demo:3.0.0", FOLDER],
        says: &[("prod", "demo 3.0.0 line 1"), ("prod", "demo is running (3.0.0)")],
    },
    Row {
        action: "exit seen, started again after a delay",
        act: Do(|walk| walk.fails()),
        reports: &["FAILED", "STARTING", "RUNNING"],
        there: &["container prod_501_demo running prod_501_demo:3.0.0", "image prod_501_demo:3.0.0", FOLDER],
        says: &[("prod", "demo (PROD) exited with code 137"), ("prod", "Crash loop, 1st attempt, next try in")],
    },
    Row {
        action: "recover to running",
        act: Do(|walk| {
            walk.fails();
            walk.ask(|app| app);
        }),
        reports: &["FAILED", "STARTING", "RUNNING"],
        there: &["container prod_501_demo running prod_501_demo:3.0.0", "image prod_501_demo:3.0.0", FOLDER],
        says: &[],
    },
    Row {
        action: "recover to present, image there",
        act: Do(|walk| {
            walk.fails();
            walk.ask(|app| app.target("PRESENT"));
        }),
        reports: &["FAILED", "PRESENT"],
        there: &["image prod_501_demo:3.0.0", FOLDER],
        says: &[],
    },
    Row {
        action: "recover to present, image gone",
        act: Do(|walk| {
            let mark = walk.stage.backend.mark();
            walk.ask(|app| app.target("RUNNING"));
            walk.waits_for(mark, "RUNNING");
            walk.fails();
            walk.stage.docker.run(&["image", "rm", "-f", &walk.stage.reference(&walk.known(), "3.0.0")]);
            walk.ask(|app| app.target("PRESENT"));
        }),
        reports: &["STARTING", "RUNNING", "FAILED", "DOWNLOADING", "PRESENT"],
        there: &["image prod_501_demo:3.0.0", FOLDER],
        says: &[("prod", "demo installed, version 3.0.0")],
    },
    Row {
        action: "remove",
        act: Ask(|app| app.target("REMOVED")),
        reports: &["DELETING", "REMOVED"],
        there: &[FOLDER],
        says: &[("prod", "Removing demo"), ("prod", "demo removed")],
    },
    Row {
        action: "run, image absent",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"],
        there: &["container prod_501_demo running prod_501_demo:3.0.0", "image prod_501_demo:3.0.0", FOLDER],
        says: &[("prod", "Pulling from apps/"), ("prod", "demo 3.0.0 line 1")],
    },
    Row {
        action: "uninstall",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[],
        says: &[("prod", "demo removed")],
    },
    Row {
        action: "run, image in no registry; uninstall what failed",
        act: Do(|walk| {
            let mark = walk.stage.backend.mark();
            walk.ask(|app| app.target("RUNNING").version("9.9.9"));
            walk.waits_for(mark, "FAILED");
            walk.ask(|app| app.target("UNINSTALLED"));
        }),
        reports: &["STARTING", "FAILED", "DELETING", "REMOVED", "UNINSTALLED"],
        there: &[],
        says: &[("prod", "The image could not be pulled: manifest for"), ("prod", "Crash loop, 1st attempt")],
    },
];

#[test]
fn an_app_of_one_container_goes_through_every_action_of_production() {
    let mut stage = Stage::prepare(Identity::generated());
    for version in ["1.0.0", "2.0.0", "3.0.0"] {
        has_image(&stage, "prod_501_demo", version, "demo");
    }
    stage.agent.restart();
    stage.online(0);
    let mut walk = Walk::of(&stage, WantedApp::new(501, "demo"));
    walk.goes(ROWS);
    walk.ends(&["dev", "pub"]);
}
