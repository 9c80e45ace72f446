//! An app of one container in development: uploaded, built, run, published.

use crate::cloud::wanted::WantedApp;
use crate::real::stage::{Stage, registry};
use crate::real::walk::{Act, Row, Walk};
use Act::{Ask, Do};

const DOCKERFILE: &str = "FROM busybox:local\nRUN echo a-step\nCMD [\"sh\", \"-c\", \
    \"trap 'exit 0' TERM; while :; do echo dev line; sleep 1 & wait $!; done\"]\n";
const RUNS: &str = "container dev_720_devapp running dev_720_devapp";
const IMAGE: &str = "image dev_720_devapp:latest";
const FOLDER: &str = "file dev/devapp";
const SOURCES: &str = "file build/DevApp.tgz";
const RELEASE: &str = "image prod_720_devapp:3.1.4";
const NEXT: &str = "image prod_720_devapp:3.1.5";

const ROWS: &[Row] = &[
    Row {
        action: "build",
        act: Do(|walk| {
            walk.uploads(&[("Dockerfile", DOCKERFILE)]);
            walk.ask(|app| app.target("BUILT"));
        }),
        reports: &["REMOVED", "BUILDING", "BUILT", "PRESENT"],
        there: &[IMAGE, FOLDER, SOURCES],
        says: &[
            ("dev", "First package of the sources"),
            ("dev", "100.000%"),
            ("dev", "Sources received"),
            ("dev", "Image build started"),
            ("dev", "a-step"),
            ("dev", "Image build done"),
        ],
    },
    Row {
        action: "run",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: &[RUNS, IMAGE, FOLDER, SOURCES],
        says: &[("dev", "Starting DevApp"), ("dev", "DevApp is running"), ("dev", "dev line")],
    },
    Row {
        action: "state already reached",
        act: Ask(|app| app),
        reports: &["RUNNING"],
        there: &[RUNS, IMAGE, FOLDER, SOURCES],
        says: &[],
    },
    Row {
        action: "stop",
        act: Ask(|app| app.target("PRESENT")),
        reports: &["STOPPING", "PRESENT"],
        there: &[IMAGE, FOLDER, SOURCES],
        says: &[("dev", "DevApp stopped")],
    },
    Row {
        action: "run again",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: &[RUNS, IMAGE, FOLDER, SOURCES],
        says: &[],
    },
    Row {
        action: "build of a running app",
        act: Ask(|app| app.target("BUILT")),
        reports: &["STOPPING", "PRESENT", "REMOVED", "BUILDING", "BUILT", "PRESENT"],
        there: &[IMAGE, FOLDER, SOURCES],
        says: &[("dev", "DevApp stopped"), ("dev", "Image build done")],
    },
    Row {
        action: "publish",
        act: Ask(|mut app| {
            app.version = "3.1.4".to_owned();
            app.target("PUBLISHED")
        }),
        reports: &["REMOVED", "BUILDING+release", "BUILT+release", "PUBLISHING+release", "PUBLISHED+release"],
        there: &[IMAGE, RELEASE, FOLDER, SOURCES],
        says: &[
            ("pub", "Publishing DevApp 3.1.4"),
            ("pub", "Image build started"),
            ("pub", "Image build done"),
            ("pub", "Build done, pushing the release"),
            ("pub", "digest: sha256:"),
        ],
    },
    Row {
        action: "run what was published",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING+release", "RUNNING+release"],
        there: &[RUNS, IMAGE, RELEASE, FOLDER, SOURCES],
        says: &[("dev", "dev line")],
    },
    Row {
        action: "publish a running app",
        act: Ask(|mut app| {
            app.version = "3.1.5".to_owned();
            app.target("PUBLISHED")
        }),
        reports: &[
            "DELETING+release",
            "REMOVED+release",
            "REMOVED+release",
            "BUILDING+release",
            "BUILT+release",
            "PUBLISHING+release",
            "PUBLISHED+release",
        ],
        there: &[IMAGE, RELEASE, NEXT, FOLDER, SOURCES],
        says: &[("dev", "DevApp removed"), ("pub", "Publishing DevApp 3.1.5"), ("pub", "digest: sha256:")],
    },
    Row {
        action: "exit seen: it stays failed",
        act: Do(|walk| {
            let mark = walk.stage.backend.mark();
            walk.ask(|app| app.target("RUNNING"));
            walk.waits_for(mark, "RUNNING");
            walk.fails();
        }),
        reports: &["STARTING+release", "RUNNING+release", "FAILED+release"],
        there: &["container dev_720_devapp exited dev_720_devapp", IMAGE, RELEASE, NEXT, FOLDER, SOURCES],
        says: &[("dev", "DevApp (DEV) exited with code 137")],
    },
    Row {
        action: "recover to running",
        act: Ask(|app| app),
        reports: &["STARTING+release", "RUNNING+release"],
        there: &[RUNS, IMAGE, RELEASE, NEXT, FOLDER, SOURCES],
        says: &[],
    },
    Row {
        action: "recover to present: built anew",
        act: Do(|walk| {
            walk.fails();
            walk.ask(|app| app.target("PRESENT"));
        }),
        reports: &["FAILED+release", "REMOVED+release", "BUILDING", "BUILT"],
        there: &[IMAGE, RELEASE, NEXT, FOLDER, SOURCES],
        says: &[("dev", "Image build done")],
    },
    Row {
        action: "the backend promotes what was built",
        act: Ask(|app| app.current("PRESENT")),
        reports: &["PRESENT"],
        there: &[IMAGE, RELEASE, NEXT, FOLDER, SOURCES],
        says: &[],
    },
    Row {
        action: "build that fails",
        act: Do(|walk| {
            walk.uploads(&[("Dockerfile", "FROM busybox:local\nRUN exit 7\n")]);
            walk.ask(|app| app.target("BUILT"));
        }),
        reports: &["REMOVED", "BUILDING", "FAILED"],
        there: &[IMAGE, RELEASE, NEXT, FOLDER, SOURCES],
        says: &[("dev", "returned a non-zero code: 7")],
    },
    Row {
        action: "remove",
        act: Ask(|app| app.target("REMOVED")),
        reports: &["DELETING", "REMOVED"],
        there: &[RELEASE, NEXT, FOLDER, SOURCES],
        says: &[("dev", "DevApp removed")],
    },
    Row {
        action: "nothing to pull in development",
        act: Ask(|app| app.target("PRESENT")),
        reports: &["REMOVED"],
        there: &[RELEASE, NEXT, FOLDER, SOURCES],
        says: &[],
    },
    Row {
        action: "run, image absent",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "FAILED"],
        there: &[RELEASE, NEXT, FOLDER, SOURCES],
        says: &[("dev", "is not on the device, build it again")],
    },
    Row {
        action: "uninstall",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[RELEASE, NEXT],
        says: &[],
    },
];

#[test]
fn an_app_of_one_container_goes_through_every_action_of_development() {
    let stage = Stage::start();
    stage.engine.has_base();
    let mut walk = Walk::of(&stage, WantedApp::new(720, "DevApp").dev());
    walk.goes(ROWS);
    walk.ends(&["prod"]);
    for version in ["3.1.4", "3.1.5"] {
        assert!(registry().has(&format!("apps/prod_{}_720_devapp", reagent::release::ARCH), version));
    }
}
