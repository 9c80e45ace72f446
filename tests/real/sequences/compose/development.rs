//! A compose app in development: its sources are uploaded and built, and one image of its release is a vendor's.

use super::SIDE;
use crate::cloud::wanted::WantedApp;
use crate::real::walk::{Act, Row};
use Act::{Ask, Do};
use serde_json::{Value, json};

const DOCKERFILE: &str = "FROM busybox:local\nRUN echo a-step\nCMD [\"sh\", \"-c\", \
    \"trap 'exit 0' TERM; while :; do echo dev line; sleep 1 & wait $!; done\"]\n";
const WEB_RUNS: &str = "container dev_740_comp_compose/web running prod_740_web:1.0.0";
const DB_RUNS: &str = "container dev_740_comp_compose/db running prod_730_side:1.0.0";
const BUILT: &str = "image prod_740_web:1.0.0";
/// The vendor's image under its new name.
const COPY: &str = "image prod_740_db:1.0.0";
const FOLDER: &str = "file dev/comp";
const UNPACKED: &str = "file build/Comp";
const ARCHIVE: &str = "file build/Comp.tgz";
const ALL: &[&str] = &[BUILT, SIDE, FOLDER, UNPACKED, ARCHIVE];
const ALL_RUN: &[&str] = &[WEB_RUNS, DB_RUNS, BUILT, SIDE, FOLDER, UNPACKED, ARCHIVE];
const ALL_PUBLISHED: &[&str] = &[BUILT, COPY, SIDE, FOLDER, UNPACKED, ARCHIVE];

fn sources(app: WantedApp, db: Value) -> WantedApp {
    let web = json!({"build": ".", "image": "REGISTRY/apps/prod_ARCH_740_web:1.0.0"});
    app.compose(json!({"services": {"web": web, "db": db}}))
}

/// The definition to build and run here.
pub fn for_use(app: WantedApp) -> WantedApp {
    sources(app, json!({"image": "REGISTRY/apps/prod_ARCH_730_side:1.0.0"}))
}

/// The definition to publish: `db` comes from the vendor's registry, which the template of the variables names.
fn for_release(app: WantedApp) -> WantedApp {
    let source = app.environment_template["VENDOR"]["defaultValue"].as_str().unwrap().to_owned();
    sources(app, json!({"image": "REGISTRY/apps/prod_ARCH_740_db:1.0.0", "x-source-image": source}))
}

/// From nothing to running.
pub const BUILD: &[Row] = &[
    Row {
        action: "build",
        act: Do(|walk| {
            walk.uploads(&[("Dockerfile", DOCKERFILE)]);
            walk.ask(|app| for_use(app).target("BUILT"));
        }),
        reports: &["REMOVED", "BUILDING", "BUILT", "PRESENT"],
        there: ALL,
        says: &[("dev", "Sources received"), ("dev", "Image build started"), ("dev", "Compose images built")],
    },
    Row {
        action: "run",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: ALL_RUN,
        says: &[("dev", "Starting Comp"), ("dev", "Comp is running"), ("dev", "dev line")],
    },
];

/// From running back to running, published.
pub const GO_ROUND: &[Row] = &[
    Row {
        action: "stop",
        act: Ask(|app| app.target("PRESENT")),
        reports: &["STOPPING", "PRESENT"],
        there: ALL,
        says: &[("dev", "Comp stopped")],
    },
    Row {
        action: "run again",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: ALL_RUN,
        says: &[],
    },
    Row {
        action: "build of a running app",
        act: Ask(|app| app.target("BUILT")),
        reports: &["STOPPING", "PRESENT", "REMOVED", "BUILDING", "BUILT", "PRESENT"],
        there: ALL,
        says: &[("dev", "Compose images built")],
    },
    Row {
        action: "publish, with an image of a vendor",
        act: Ask(|app| for_release(app).target("PUBLISHED")),
        reports: &["REMOVED", "BUILDING+release", "BUILT+release", "PUBLISHING+release", "PUBLISHED+release"],
        there: ALL_PUBLISHED,
        says: PUBLISHING,
    },
    Row {
        action: "run what was published",
        act: Ask(|app| for_use(app).target("RUNNING")),
        reports: &["STARTING+release", "RUNNING+release"],
        there: &[WEB_RUNS, DB_RUNS, BUILT, COPY, SIDE, FOLDER, UNPACKED, ARCHIVE],
        says: &[],
    },
];

const PUBLISHING: &[(&str, &str)] = &[
    ("pub", "Publishing Comp 1.0.0"),
    ("pub", "Compose images built"),
    ("pub", "Copying image"),
    ("pub", "digest: sha256:"),
];

/// From running to published.
pub const PUBLISH: &[Row] = &[Row {
    action: "publish a running app, with an image of a vendor",
    act: Ask(|app| for_release(app).target("PUBLISHED")),
    reports: &[
        "DELETING",
        "REMOVED",
        "REMOVED",
        "BUILDING+release",
        "BUILT+release",
        "PUBLISHING+release",
        "PUBLISHED+release",
    ],
    there: ALL_PUBLISHED,
    says: PUBLISHING,
}];

/// The same once it was published before.
pub const PUBLISH_AGAIN: &[Row] = &[Row {
    action: "publish a running app",
    act: Ask(|app| for_release(app).target("PUBLISHED")),
    reports: &[
        "DELETING+release",
        "REMOVED+release",
        "REMOVED+release",
        "BUILDING+release",
        "BUILT+release",
        "PUBLISHING+release",
        "PUBLISHED+release",
    ],
    there: ALL_PUBLISHED,
    says: &[("pub", "Publishing Comp 1.0.0")],
}];

/// From published to nothing.
pub const LEAVE: &[Row] = &[
    Row {
        action: "build that fails",
        act: Do(|walk| {
            walk.uploads(&[("Dockerfile", "FROM busybox:local\nRUN exit 7\n")]);
            walk.ask(|app| for_use(app).target("BUILT"));
        }),
        reports: &["REMOVED+release", "BUILDING", "FAILED"],
        there: ALL_PUBLISHED,
        says: &[("dev", "docker compose build failed"), ("dev", "exit 7")],
    },
    Row {
        action: "uninstall",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[COPY],
        says: &[("dev", "Comp removed")],
    },
];
