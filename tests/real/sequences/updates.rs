//! Updates to releases that do not prove themselves: the one before comes back, without a registry (decision 30).

use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::real::stage::{Stage, page_says, with_ports};
use crate::real::walk::{Act, Row, Walk, has_image};
use Act::{Ask, Do};
use serde_json::Value;

const OLD: &str = "container prod_501_demo running prod_501_demo:1.0.0";
const IMAGE: &str = "image prod_501_demo:1.0.0";
const FOLDER: &str = "file prod/demo";
const BACK: &[&str] = &["UPDATING+canceled", "PRESENT+canceled", "RUNNING+canceled"];

/// Asks for the update; once the new release is pulled there is no registry any more.
fn update(walk: &Walk<'_>, version: &str, wish: fn(WantedApp) -> WantedApp) {
    walk.ask(wish);
    walk.hears("prod", &format!("Starting the new release of demo, {version}"));
    walk.stage.download.go_away();
}

const FIRST: &[Row] = &[
    Row {
        action: "run, image absent",
        act: Ask(|app| app),
        reports: &["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"],
        there: &[OLD, IMAGE, FOLDER],
        says: &[],
    },
    Row {
        action: "update to a release that is in no registry, and no longer wanted then: the one before runs on",
        act: Do(|walk| {
            let mark = walk.stage.backend.mark();
            walk.ask(|app| app.update_to("9.9.9", 109));
            walk.waits_for(mark, "RUNNING");
            walk.ask(|app| WantedApp { request_update: false, ..app });
        }),
        reports: &["UPDATING", "FAILED", "RUNNING", "RUNNING"],
        there: &[OLD, IMAGE, FOLDER],
        says: &[("prod", "The image could not be pulled: manifest for"), ("prod", "Crash loop, 1st attempt")],
    },
];

const FAILURES: &[Row] = &[
    Row {
        action: "update to a release that ends at once",
        act: Do(|walk| update(walk, "4.0.0", |app| app.update_to("4.0.0", 104))),
        reports: &["UPDATING", "PRESENT+canceled", "RUNNING+canceled"],
        there: &[OLD, IMAGE, "image prod_501_demo:4.0.0", FOLDER],
        says: &[
            ("prod", "demo 4.0.0 did not prove itself: it ended"),
            ("prod", "ends at once"),
            ("prod", "demo is back at version 1.0.0"),
        ],
    },
    Row {
        action: "update to a release that ends after a second",
        act: Do(|walk| update(walk, "5.0.0", |app| app.update_to("5.0.0", 105))),
        reports: BACK,
        there: &[OLD, IMAGE, "image prod_501_demo:5.0.0", FOLDER],
        says: &[("prod", "demo 5.0.0 did not prove itself: it ended with exit code 3: ends soon")],
    },
    Row {
        action: "update to a release that is never healthy",
        act: Do(|walk| update(walk, "6.0.0", |app| app.update_to("6.0.0", 106))),
        reports: BACK,
        there: &[OLD, IMAGE, "image prod_501_demo:6.0.0", FOLDER],
        says: &[("prod", "demo 6.0.0 did not prove itself: it was not healthy within")],
    },
];

const LAST: &[Row] = &[
    Row {
        action: "state already reached: the version that failed is not tried again",
        act: Ask(|app| WantedApp { request_update: false, ..app }),
        reports: &["RUNNING+canceled"],
        there: &[OLD, IMAGE, "image prod_501_demo:6.0.0", FOLDER],
        says: &[],
    },
    Row {
        action: "update to a release that is healthy: what was refused goes, too",
        act: Ask(|app| app.update_to("8.0.0", 108)),
        reports: &["UPDATING+canceled", "PRESENT+pending", "RUNNING"],
        there: &["container prod_501_demo running prod_501_demo:8.0.0", "image prod_501_demo:8.0.0", FOLDER],
        says: &[("prod", "demo is running (8.0.0)")],
    },
    Row {
        action: "uninstall: with every image that was ever pulled",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[],
        says: &[],
    },
];

#[test]
fn a_release_that_does_not_prove_itself_goes_and_the_container_before_comes_back_without_a_registry() {
    let mut stage = Stage::prepare(Identity::generated());
    let kinds = [("1.0.0", "demo"), ("8.0.0", "well"), ("4.0.0", "exits"), ("5.0.0", "brief"), ("6.0.0", "sick")];
    for (version, kind) in kinds {
        has_image(&stage, "prod_501_demo", version, kind);
    }
    // A release that ends after a second has to be on trial then.
    stage.agent.options.env.push(("REAGENT_PROBATION".to_owned(), "2".to_owned()));
    stage.agent.restart();
    stage.online(0);
    let app = with_ports(WantedApp::new(501, "demo").port(8080, "http"));
    let mut walk = Walk::of(&stage, app.clone());
    walk.goes(FIRST);
    let port = stage.host_port(&app, 8080);
    let id = |stage: &Stage| -> Value { stage.docker.inspect("prod_501_demo").unwrap()["Id"].clone() };
    let first = id(&stage);
    for row in FAILURES {
        walk.goes(std::slice::from_ref(row));
        assert_eq!(id(&stage), first, "{}: it is the same container", row.action);
        page_says(port, "/", "demo 1.0.0");
        stage.download.come_back();
    }
    walk.goes(LAST);
    walk.ends(&["dev", "pub"]);
}
