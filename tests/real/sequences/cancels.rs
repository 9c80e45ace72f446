//! What cancels a running action (apps chapter 3.15): in each case the action stands still when the cancel comes.

use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::real::stage::Stage;
use crate::real::walk::{Act, Row, Walk, has_image};
use Act::{Ask, Do};

/// More of the registry's answers than a manifest, less than an image.
const SOME: usize = 100_000;

/// From here on nothing more of an image arrives.
fn stalls(walk: &Walk<'_>, wish: fn(WantedApp) -> WantedApp) {
    walk.stage.download.stall_after(SOME);
    walk.ask(wish);
}

/// Cancels; then the registry answers again.
fn cancels(walk: &Walk<'_>, wish: fn(WantedApp) -> WantedApp) {
    let mark = walk.stage.backend.mark();
    walk.ask(wish);
    walk.waits_for(mark, &walk.known().target);
    walk.stage.download.release();
}

const FOLDER: &str = "file prod/demo";
const IMAGE: &str = "image prod_501_demo:1.0.0";
const RUNS: &str = "container prod_501_demo running prod_501_demo:1.0.0";
const INSTALLED: &[&str] = &["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"];

const DOWNLOADS: &[Row] = &[
    Row {
        action: "a download that stands still",
        act: Do(|walk| stalls(walk, |app| app)),
        reports: &["STARTING", "DOWNLOADING"],
        there: &[FOLDER],
        says: &[("prod", "Pulling from apps/")],
    },
    Row {
        action: "cancel-pull",
        act: Do(|walk| cancels(walk, |app| app.target("REMOVED").cancel())),
        reports: &["REMOVED"],
        there: &[FOLDER],
        says: &[("prod", "Download canceled")],
    },
    Row {
        action: "a download that stands still again",
        act: Do(|walk| {
            stalls(walk, |mut app| {
                app.cancel_transition = false;
                app.target("PRESENT")
            });
        }),
        reports: &["DOWNLOADING"],
        there: &[FOLDER],
        says: &[],
    },
    Row {
        action: "cancel-pull of what is to be uninstalled",
        act: Do(|walk| cancels(walk, |app| app.target("UNINSTALLED").cancel())),
        reports: &["REMOVED", "UNINSTALLED"],
        there: &[],
        says: &[("prod", "Download canceled")],
    },
];

const UPDATES: &[Row] = &[
    Row {
        action: "run, image absent",
        act: Ask(|mut app| {
            app.cancel_transition = false;
            app.target("RUNNING")
        }),
        reports: INSTALLED,
        there: &[RUNS, IMAGE, FOLDER],
        says: &[],
    },
    Row {
        action: "an update that stands still: the release before runs on",
        act: Do(|walk| stalls(walk, |app| app.update_to("7.0.0", 107))),
        reports: &["UPDATING"],
        there: &[RUNS, IMAGE, FOLDER],
        says: &[("prod", "Preparing download of demo")],
    },
    Row {
        action: "cancel-update",
        act: Do(|walk| {
            cancels(walk, |mut app| {
                app.request_update = false;
                app.target("PRESENT")
            });
        }),
        reports: &["PRESENT+canceled"],
        there: &[IMAGE, FOLDER],
        says: &[("prod", "Update canceled")],
    },
    Row {
        action: "an update of a stopped app that stands still",
        act: Do(|walk| stalls(walk, |app| app.update_to("7.0.0", 107))),
        reports: &["UPDATING+canceled"],
        there: &[IMAGE, FOLDER],
        says: &[],
    },
    Row {
        action: "cancel-update-and-remove",
        act: Do(|walk| cancels(walk, |app| app.target("REMOVED"))),
        reports: &["DELETING+canceled", "REMOVED+canceled"],
        there: &[FOLDER],
        says: &[("prod", "Update canceled"), ("prod", "demo removed")],
    },
    Row {
        action: "run again",
        act: Ask(|mut app| {
            app.request_update = false;
            app.target("RUNNING")
        }),
        reports: INSTALLED,
        there: &[RUNS, IMAGE, FOLDER],
        says: &[],
    },
    Row {
        action: "an update that stands still again",
        act: Do(|walk| stalls(walk, |app| app.update_to("7.0.0", 107))),
        reports: &["UPDATING"],
        there: &[RUNS, IMAGE, FOLDER],
        says: &[],
    },
    Row {
        action: "cancel-update-and-uninstall",
        act: Do(|walk| cancels(walk, |app| app.target("UNINSTALLED"))),
        reports: &["DELETING+canceled", "REMOVED+canceled", "UNINSTALLED+canceled"],
        there: &[],
        says: &[("prod", "Update canceled"), ("prod", "demo removed")],
    },
];

const DEV_FOLDER: &str = "file dev/slow";
const SOURCES: &str = "file build/slow.tgz";

/// What a cancel in development asks for.
fn removed(app: WantedApp) -> WantedApp {
    app.target("REMOVED").cancel()
}

const DEVELOPMENT: &[Row] = &[
    Row {
        action: "a build that stands still",
        act: Do(|walk| {
            walk.uploads(&[("Dockerfile", "FROM busybox:local\nRUN echo waits; sleep 1000\n")]);
            walk.ask(|app| app.target("BUILT"));
            walk.hears("dev", "waits");
        }),
        reports: &["REMOVED", "BUILDING"],
        there: BUILDS,
        says: &[],
    },
    Row {
        action: "cancel-build",
        act: Ask(removed),
        reports: &["REMOVED"],
        there: &[DEV_FOLDER, SOURCES],
        says: &[("dev", "Build canceled")],
    },
    Row {
        action: "a push that stands still",
        act: Do(|walk| {
            walk.uploads(&[("Dockerfile", "FROM busybox:local\nLABEL x=y\n")]);
            walk.stage.download.stall_after(0);
            walk.ask(|mut app| {
                app.cancel_transition = false;
                app.target("PUBLISHED")
            });
        }),
        reports: &["REMOVED", "BUILDING+release", "BUILT+release", "PUBLISHING+release"],
        there: &["image dev_721_slow:latest", "image prod_721_slow:1.0.0", DEV_FOLDER, SOURCES],
        says: &[("pub", "Build done, pushing the release")],
    },
    Row {
        action: "cancel-push",
        act: Do(|walk| cancels(walk, removed)),
        reports: &["REMOVED+release"],
        there: &["image dev_721_slow:latest", "image prod_721_slow:1.0.0", DEV_FOLDER, SOURCES],
        says: &[("pub", "Release canceled")],
    },
    Row {
        action: "cancel-transfer: what still comes of the sources is refused",
        act: Do(|walk| {
            walk.sends("BEGIN", 8).expect("the agent takes it");
            walk.ask(|app| removed(app.current("TRANSFERING")));
            let refused = |walk: &Walk<'_>| walk.sends("00", 8).err().map(|failure| format!("{failure:?}"));
            let text = crate::util::wait_until(crate::real::stage::SOON, "a refusal", || refused(walk));
            assert!(text.contains("canceled"), "{text}");
        }),
        reports: &["REMOVED"],
        there: &["image dev_721_slow:latest", "image prod_721_slow:1.0.0", DEV_FOLDER, SOURCES],
        says: &[],
    },
];

/// A build that runs has a container with a name of the engine's choice.
const BUILDS: &[&str] = &["container of a build", DEV_FOLDER, SOURCES];

#[test]
fn downloads_and_updates_in_production_are_cancelled() {
    let mut stage = Stage::prepare(Identity::generated());
    has_image(&stage, "prod_501_demo", "1.0.0", "demo");
    has_image(&stage, "prod_501_demo", "7.0.0", "big");
    stage.agent.restart();
    stage.online(0);
    let mut walk = Walk::of(&stage, WantedApp::new(501, "demo"));
    walk.goes(DOWNLOADS);
    walk.goes(UPDATES);
    walk.ends(&["dev", "pub"]);
}

#[test]
fn builds_pushes_and_transfers_in_development_are_cancelled() {
    let stage = Stage::start();
    stage.engine.has_base();
    let mut walk = Walk::of(&stage, WantedApp::new(721, "slow").dev());
    walk.goes(DEVELOPMENT);
    walk.ends(&["prod"]);
}
