//! A compose app in production.

use super::{
    EXTRA_RUNS, FILES, FOLDER, SIDE, SIDE_RUNS, VOLUME, WEB, WEB_2, WEB_2_RUNS, WEB_4, WEB_RUNS, settled, update,
};
use crate::real::walk::{Act, Row};
use Act::{Ask, Do};
use serde_json::json;

const INSTALLED: &[&str] = &[WEB, SIDE, FOLDER, FILES];
const STOPPED: &[&str] = &[WEB, SIDE, VOLUME, FOLDER, FILES];
const RUNNING: &[&str] = &[WEB_RUNS, SIDE_RUNS, WEB, SIDE, VOLUME, FOLDER, FILES];
const RUNNING_2: &[&str] = &[WEB_2_RUNS, EXTRA_RUNS, WEB, WEB_2, WEB_4, SIDE, VOLUME, FOLDER, FILES];
const STOPPED_2: &[&str] = &[WEB, WEB_2, WEB_4, SIDE, VOLUME, FOLDER, FILES];
const WEB_3: &str = "image prod_730_web:3.0.0";
const RUNNING_3: &[&str] = &[
    "container prod_730_comp_compose/web running prod_730_web:3.0.0",
    EXTRA_RUNS,
    WEB,
    WEB_2,
    WEB_3,
    WEB_4,
    SIDE,
    VOLUME,
    FOLDER,
    FILES,
];
const STOPPED_3: &[&str] = &[WEB, WEB_2, WEB_3, WEB_4, SIDE, VOLUME, FOLDER, FILES];
/// Images of releases that were replaced or refused stay: they may be other apps' too.
const LEFT: &[&str] = &[WEB, WEB_2, WEB_4];

/// From nothing to running.
pub const INSTALL: &[Row] = &[
    Row {
        action: "pull",
        act: Ask(|app| app.target("PRESENT").current("REMOVED")),
        reports: &["DOWNLOADING", "PRESENT"],
        there: INSTALLED,
        says: &[("prod", "Pull"), ("prod", "Compose images installed")],
    },
    Row {
        action: "run, already installed",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: RUNNING,
        says: &[("prod", "Starting comp"), ("prod", "comp is running (1.0.0)"), ("prod", "demo 1.0.0 line 1")],
    },
];

/// From running back to running.
pub const GO_ROUND: &[Row] = &[
    Row { action: "state already reached", act: Ask(|app| app), reports: &["RUNNING"], there: RUNNING, says: &[] },
    Row {
        action: "recover to present: what is left goes",
        act: Do(|walk| {
            walk.fails();
            walk.ask(|app| app.target("PRESENT"));
        }),
        reports: &["FAILED", "DOWNLOADING", "PRESENT"],
        there: STOPPED,
        says: &[("prod", "Compose images installed")],
    },
    Row {
        action: "run again",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: RUNNING,
        says: &[],
    },
];

/// From running 1.0.0 to 2.0.0 that was stopped.
pub const CHANGE: &[Row] = &[
    Row {
        action: "exit seen, and recover to running",
        act: Do(|walk| {
            walk.fails();
            walk.ask(|app| app);
        }),
        reports: &["FAILED", "STARTING", "RUNNING"],
        there: RUNNING,
        says: &[],
    },
    Row {
        action: "update of a running app",
        act: Ask(|app| update(app, "2.0.0")),
        reports: &["UPDATING", "PRESENT+pending", "RUNNING"],
        there: &[WEB_2_RUNS, EXTRA_RUNS, WEB, WEB_2, SIDE, VOLUME, FOLDER, FILES],
        says: &[
            ("prod", "comp installed, version 2.0.0"),
            ("prod", "demo 2.0.0 line 1"),
            ("prod", "comp is running (2.0.0)"),
        ],
    },
    Row {
        action: "update to a release that ends after a second: the one before comes back without a registry",
        act: Do(|walk| {
            walk.ask(|app| update(settled(app, "2.0.0"), "4.0.0"));
            walk.hears("prod", "Starting the new release of comp, 4.0.0");
            walk.stage.download.go_away();
        }),
        reports: &["UPDATING", "PRESENT+canceled", "RUNNING+canceled"],
        there: RUNNING_2,
        says: &[("prod", "comp 4.0.0 did not prove itself"), ("prod", "comp is back at version 2.0.0")],
    },
    Row {
        action: "remove: with volumes, and the images of the installed release",
        act: Do(|walk| {
            walk.stage.download.come_back();
            walk.ask(|app| settled(app, "2.0.0").target("REMOVED"));
        }),
        reports: &["DELETING+canceled", "REMOVED+canceled"],
        there: &[WEB, WEB_4, FOLDER, FILES],
        says: &[("prod", "comp removed")],
    },
    Row {
        action: "run, fresh, images missing",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["DOWNLOADING", "STARTING", "RUNNING"],
        there: RUNNING_2,
        says: &[("prod", "Downloading the images of comp"), ("prod", "Pull"), ("prod", "demo 2.0.0 line 1")],
    },
    Row {
        action: "stop: volumes stay",
        act: Ask(|app| app.target("PRESENT")),
        reports: &["STOPPING", "PRESENT"],
        there: STOPPED_2,
        says: &[("prod", "Stop of comp requested"), ("prod", "comp stopped")],
    },
];

/// From there to nothing, without detours.
pub const UNINSTALL: &[Row] = &[
    Row {
        action: "uninstall",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[WEB, WEB_4],
        says: &[("prod", "comp removed")],
    },
    Row {
        action: "run, fresh, an image that stands still",
        act: Do(|walk| {
            walk.stage.download.stall_after(100_000);
            walk.ask(|app| settled(app, "7.0.0").version("7.0.0").target("RUNNING"));
        }),
        reports: &["DOWNLOADING"],
        there: &[WEB, WEB_4, FOLDER, FILES],
        says: &[],
    },
    Row {
        action: "cancel-pull",
        act: Do(|walk| {
            let mark = walk.stage.backend.mark();
            walk.ask(|app| app.target("UNINSTALLED").cancel());
            walk.waits_for(mark, "UNINSTALLED");
            walk.stage.download.release();
        }),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[WEB, WEB_4],
        says: &[("prod", "Download canceled"), ("prod", "comp removed")],
    },
];

/// From there to nothing.
pub const LEAVE: &[Row] = &[
    Row {
        action: "update, not to run",
        act: Ask(|app| update(app, "3.0.0")),
        reports: &["UPDATING", "PRESENT+pending"],
        there: STOPPED_3,
        says: &[("prod", "comp installed, version 3.0.0")],
    },
    Row {
        action: "run after an update",
        act: Ask(|app| settled(app, "3.0.0").target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: RUNNING_3,
        says: &[("prod", "demo 3.0.0 line 1")],
    },
    Row {
        action: "an update that stands still: the release before runs on",
        act: Do(|walk| {
            walk.stage.download.stall_after(100_000);
            walk.ask(|app| update(app, "7.0.0"));
        }),
        reports: &["UPDATING"],
        there: RUNNING_3,
        says: &[],
    },
    Row {
        action: "cancel-update",
        act: Do(|walk| {
            let mark = walk.stage.backend.mark();
            walk.ask(|app| settled(app, "3.0.0").target("PRESENT"));
            walk.waits_for(mark, "PRESENT");
            walk.stage.download.release();
        }),
        reports: &["PRESENT+canceled"],
        there: STOPPED_3,
        says: &[("prod", "Update canceled")],
    },
    Row {
        action: "uninstall",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING+canceled", "REMOVED+canceled", "UNINSTALLED+canceled"],
        there: LEFT,
        says: &[("prod", "comp removed")],
    },
    Row {
        action: "run, fresh, an image that stands still",
        act: Do(|walk| {
            walk.stage.download.stall_after(100_000);
            walk.ask(|app| settled(app, "7.0.0").version("7.0.0").target("RUNNING"));
        }),
        reports: &["DOWNLOADING"],
        there: &[WEB, WEB_2, WEB_4, FOLDER, FILES],
        says: &[],
    },
    Row {
        action: "cancel-pull",
        act: Do(|walk| {
            let mark = walk.stage.backend.mark();
            walk.ask(|app| app.target("UNINSTALLED").cancel());
            walk.waits_for(mark, "UNINSTALLED");
            walk.stage.download.release();
        }),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: LEFT,
        says: &[("prod", "Download canceled"), ("prod", "comp removed")],
    },
    Row {
        action: "run, image in no registry; uninstall what failed",
        act: Do(|walk| {
            let mark = walk.stage.backend.mark();
            walk.ask(|mut app| {
                app.cancel_transition = false;
                let lone = json!({"services": {"web": {"image": "REGISTRY/apps/prod_ARCH_730_web:9.9.9"}}});
                app.compose(lone).version("9.9.9").target("RUNNING")
            });
            walk.waits_for(mark, "FAILED");
            walk.ask(|app| app.target("UNINSTALLED"));
        }),
        reports: &["DOWNLOADING", "FAILED", "DELETING", "REMOVED", "UNINSTALLED"],
        there: LEFT,
        says: &[("prod", "docker compose pull failed"), ("prod", "Crash loop, 1st attempt")],
    },
];

pub const WITHOUT_COMPOSE: &[Row] = &[Row {
    action: "run without compose; uninstall what failed",
    act: Do(|walk| {
        let mark = walk.stage.backend.mark();
        walk.ask(|app| app);
        walk.waits_for(mark, "FAILED");
        walk.ask(|app| app.target("UNINSTALLED"));
    }),
    reports: &["FAILED", "DELETING", "REMOVED", "UNINSTALLED"],
    there: &[],
    says: &[
        ("prod", "This device has no docker compose"),
        ("prod", "Crash loop, 1st attempt"),
        ("prod", "comp removed"),
    ],
}];
