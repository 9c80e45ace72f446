//! Compose apps in production and in development, with the plugin of version 2 and with the standalone version 1.29.

use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::real::Registry;
use crate::real::flavour::Flavour;
use crate::real::stage::{Stage, registry};
use crate::real::walk::{Act, Row, Walk, has_image};
use Act::{Ask, Do};
use serde_json::{Value, json};

/// Version 2.0.0 has no `side` any more, but an `extra`.
fn definition(version: &str) -> Value {
    let web = json!({"image": format!("REGISTRY/apps/prod_ARCH_730_web:{version}"), "volumes": ["data:/keep"]});
    let other = json!({"image": "REGISTRY/apps/prod_ARCH_730_side:1.0.0"});
    let other = if version == "1.0.0" { json!({"side": other}) } else { json!({"extra": other}) };
    let mut services = json!({ "web": web });
    services.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
    json!({"services": services, "volumes": {"data": {}}})
}

/// The backend promotes the definition with the release.
fn update(app: WantedApp, version: &str) -> WantedApp {
    let promoted = app.new_docker_compose.clone().filter(|_| app.update_is_done());
    let app = WantedApp {
        docker_compose: promoted.or(app.docker_compose.clone()),
        new_docker_compose: Some(definition(version)),
        ..app
    };
    app.update_to(version, 101)
}

impl WantedApp {
    fn update_is_done(&self) -> bool {
        self.present_version == self.newest_version
    }
}

/// After an update: the definition of the release that is there.
fn settled(app: WantedApp, version: &str) -> WantedApp {
    WantedApp { docker_compose: Some(definition(version)), new_docker_compose: None, request_update: false, ..app }
}

const WEB: &str = "image prod_730_web:1.0.0";
const WEB_2: &str = "image prod_730_web:2.0.0";
const WEB_3: &str = "image prod_730_web:3.0.0";
const WEB_4: &str = "image prod_730_web:4.0.0";
const SIDE: &str = "image prod_730_side:1.0.0";
const VOLUME: &str = "volume prod_730_comp_compose_data";
const FOLDER: &str = "file prod/comp";
const FILES: &str = "file compose/comp";
const WEB_RUNS: &str = "container prod_730_comp_compose/web running prod_730_web:1.0.0";
const SIDE_RUNS: &str = "container prod_730_comp_compose/side running prod_730_side:1.0.0";
const EXTRA_RUNS: &str = "container prod_730_comp_compose/extra running prod_730_side:1.0.0";
const RUNNING: &[&str] = &[WEB_RUNS, SIDE_RUNS, WEB, SIDE, VOLUME, FOLDER, FILES];
const RUNNING_3: &[&str] = &[
    "container prod_730_comp_compose/web running prod_730_web:3.0.0",
    EXTRA_RUNS,
    WEB,
    WEB_2,
    WEB_3,
    SIDE,
    VOLUME,
    FOLDER,
    FILES,
];

const PRODUCTION: &[Row] = &[
    Row {
        action: "pull",
        act: Ask(|app| app.target("PRESENT").current("REMOVED")),
        reports: &["DOWNLOADING", "PRESENT"],
        there: &[WEB, SIDE, FOLDER, FILES],
        says: &[("prod", "Pull"), ("prod", "Compose images installed")],
    },
    Row {
        action: "state already reached",
        act: Ask(|app| app),
        reports: &["PRESENT"],
        there: &[WEB, SIDE, FOLDER, FILES],
        says: &[],
    },
    Row {
        action: "run, already installed",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: RUNNING,
        says: &[("prod", "Starting comp"), ("prod", "comp is running (1.0.0)"), ("prod", "demo 1.0.0 line 1")],
    },
    Row {
        action: "stop: volumes stay",
        act: Ask(|app| app.target("PRESENT")),
        reports: &["STOPPING", "PRESENT"],
        there: &[WEB, SIDE, VOLUME, FOLDER, FILES],
        says: &[("prod", "Stop of comp requested"), ("prod", "comp stopped")],
    },
    Row {
        action: "run again",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: RUNNING,
        says: &[],
    },
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
        action: "recover to present: what is left goes",
        act: Do(|walk| {
            walk.fails();
            walk.ask(|app| app.target("PRESENT"));
        }),
        reports: &["FAILED", "DOWNLOADING", "PRESENT"],
        there: &[WEB, SIDE, VOLUME, FOLDER, FILES],
        says: &[("prod", "Compose images installed")],
    },
    Row {
        action: "update, not to run",
        act: Ask(|app| update(app, "2.0.0")),
        reports: &["UPDATING", "PRESENT+pending"],
        there: &[WEB, WEB_2, SIDE, VOLUME, FOLDER, FILES],
        says: &[("prod", "comp installed, version 2.0.0")],
    },
    Row {
        action: "run after an update",
        act: Ask(|app| settled(app, "2.0.0").target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: &[
            "container prod_730_comp_compose/web running prod_730_web:2.0.0",
            EXTRA_RUNS,
            WEB,
            WEB_2,
            SIDE,
            VOLUME,
            FOLDER,
            FILES,
        ],
        says: &[("prod", "demo 2.0.0 line 1")],
    },
    Row {
        action: "update of a running app",
        act: Ask(|app| update(app, "3.0.0")),
        reports: &["UPDATING", "PRESENT+pending", "RUNNING"],
        there: RUNNING_3,
        says: &[("prod", "demo 3.0.0 line 1"), ("prod", "comp is running (3.0.0)")],
    },
    Row {
        action: "update to a release that ends after a second: the one before comes back without a registry",
        act: Do(|walk| {
            walk.ask(|app| update(settled(app, "3.0.0"), "4.0.0"));
            walk.hears("prod", "Starting the new release of comp, 4.0.0");
            walk.stage.download.go_away();
        }),
        reports: &["UPDATING", "PRESENT+canceled", "RUNNING+canceled"],
        there: &[
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
        ],
        says: &[("prod", "comp 4.0.0 did not prove itself"), ("prod", "comp is back at version 3.0.0")],
    },
    Row {
        action: "remove: with volumes, and the images of the installed release",
        act: Do(|walk| {
            walk.stage.download.come_back();
            walk.ask(|app| settled(app, "3.0.0").target("REMOVED"));
        }),
        reports: &["DELETING+canceled", "REMOVED+canceled"],
        there: &[WEB, WEB_2, WEB_4, FOLDER, FILES],
        says: &[("prod", "comp removed")],
    },
    Row {
        action: "run, fresh, images missing",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["DOWNLOADING", "STARTING", "RUNNING"],
        there: &[
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
        ],
        says: &[("prod", "Downloading the images of comp"), ("prod", "Pull"), ("prod", "demo 3.0.0 line 1")],
    },
    Row {
        action: "an update that stands still: the release before runs on",
        act: Do(|walk| {
            walk.stage.download.stall_after(100_000);
            walk.ask(|app| update(app, "7.0.0"));
            walk.hears("prod", "Preparing download");
        }),
        reports: &["UPDATING"],
        there: &[
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
        ],
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
        there: &[WEB, WEB_2, WEB_3, WEB_4, SIDE, VOLUME, FOLDER, FILES],
        says: &[("prod", "Update canceled")],
    },
    Row {
        action: "uninstall",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING+canceled", "REMOVED+canceled", "UNINSTALLED+canceled"],
        there: &[WEB, WEB_2, WEB_4],
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
        there: &[WEB, WEB_2, WEB_4],
        says: &[("prod", "Download canceled"), ("prod", "comp removed")],
    },
    Row {
        action: "run, image in no registry",
        act: Ask(|mut app| {
            app.cancel_transition = false;
            let lone = json!({"services": {"web": {"image": "REGISTRY/apps/prod_ARCH_730_web:9.9.9"}}});
            app.compose(lone).version("9.9.9").target("RUNNING")
        }),
        reports: &["DOWNLOADING", "FAILED"],
        there: &[WEB, WEB_2, WEB_4, FOLDER, FILES],
        says: &[("prod", "docker compose pull failed"), ("prod", "Crash loop, 1st attempt")],
    },
    Row {
        action: "remove what failed",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[WEB, WEB_2, WEB_4],
        says: &[],
    },
];

/// `db` comes from the vendor's registry when it is published.
fn sources(app: WantedApp, db: Value) -> WantedApp {
    let web = json!({"build": ".", "image": "REGISTRY/apps/prod_ARCH_740_web:1.0.0"});
    app.compose(json!({"services": {"web": web, "db": db}}))
}

fn for_use(app: WantedApp) -> WantedApp {
    sources(app, json!({"image": "REGISTRY/apps/prod_ARCH_730_side:1.0.0"}))
}

/// The vendor's registry is named in the sources' template, see the test.
fn for_release(app: WantedApp) -> WantedApp {
    let source = app.environment_template["VENDOR"]["defaultValue"].as_str().unwrap().to_owned();
    sources(app, json!({"image": "REGISTRY/apps/prod_ARCH_740_db:1.0.0", "x-source-image": source}))
}

const DOCKERFILE: &str = "FROM busybox:local\nRUN echo a-step\nCMD [\"sh\", \"-c\", \
    \"trap 'exit 0' TERM; while :; do echo dev line; sleep 1 & wait $!; done\"]\n";
const DEV_WEB: &str = "image prod_740_web:1.0.0";
const DEV_WEB_RUNS: &str = "container dev_740_comp_compose/web running prod_740_web:1.0.0";
const DEV_DB_RUNS: &str = "container dev_740_comp_compose/db running prod_730_side:1.0.0";
const COPY: &str = "image prod_740_db:1.0.0";
const DEV_FOLDER: &str = "file dev/comp";
const UNPACKED: &str = "file build/Comp";
const ARCHIVE: &str = "file build/Comp.tgz";

const DEVELOPMENT: &[Row] = &[
    Row {
        action: "build",
        act: Do(|walk| {
            walk.uploads(&[("Dockerfile", DOCKERFILE)]);
            walk.ask(|app| for_use(app).target("BUILT"));
        }),
        reports: &["REMOVED", "BUILDING", "BUILT", "PRESENT"],
        there: &[DEV_WEB, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[("dev", "Sources received"), ("dev", "Image build started"), ("dev", "Compose images built")],
    },
    Row {
        action: "run",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: &[DEV_WEB_RUNS, DEV_DB_RUNS, DEV_WEB, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[("dev", "Starting Comp"), ("dev", "Comp is running"), ("dev", "dev line")],
    },
    Row {
        action: "stop",
        act: Ask(|app| app.target("PRESENT")),
        reports: &["STOPPING", "PRESENT"],
        there: &[DEV_WEB, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[("dev", "Comp stopped")],
    },
    Row {
        action: "run again",
        act: Ask(|app| app.target("RUNNING")),
        reports: &["STARTING", "RUNNING"],
        there: &[DEV_WEB_RUNS, DEV_DB_RUNS, DEV_WEB, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[],
    },
    Row {
        action: "build of a running app",
        act: Ask(|app| app.target("BUILT")),
        reports: &["STOPPING", "PRESENT", "REMOVED", "BUILDING", "BUILT", "PRESENT"],
        there: &[DEV_WEB, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[("dev", "Compose images built")],
    },
    Row {
        action: "publish, with an image of a vendor",
        act: Ask(|app| for_release(app).target("PUBLISHED")),
        reports: &["REMOVED", "BUILDING+release", "BUILT+release", "PUBLISHING+release", "PUBLISHED+release"],
        there: &[DEV_WEB, COPY, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[
            ("pub", "Publishing Comp 1.0.0"),
            ("pub", "Compose images built"),
            ("pub", "Copying image"),
            ("pub", "digest: sha256:"),
        ],
    },
    Row {
        action: "run what was published",
        act: Ask(|app| for_use(app).target("RUNNING")),
        reports: &["STARTING+release", "RUNNING+release"],
        there: &[DEV_WEB_RUNS, DEV_DB_RUNS, DEV_WEB, COPY, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[],
    },
    Row {
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
        there: &[DEV_WEB, COPY, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[("pub", "Publishing Comp 1.0.0")],
    },
    Row {
        action: "build that fails",
        act: Do(|walk| {
            walk.uploads(&[("Dockerfile", "FROM busybox:local\nRUN exit 7\n")]);
            walk.ask(|app| for_use(app).target("BUILT"));
        }),
        reports: &["REMOVED+release", "BUILDING", "FAILED"],
        there: &[DEV_WEB, COPY, SIDE, WEB, WEB_2, WEB_4, DEV_FOLDER, UNPACKED, ARCHIVE],
        says: &[("dev", "docker compose build failed"), ("dev", "exit 7")],
    },
    Row {
        action: "uninstall",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[COPY, WEB, WEB_2, WEB_4],
        says: &[("dev", "Comp removed")],
    },
];

fn goes_through_every_action(flavour: Flavour) {
    let mut stage = Stage::prepare(Identity::generated());
    stage.has_compose(flavour);
    for (version, kind) in
        [("1.0.0", "demo"), ("2.0.0", "demo"), ("3.0.0", "demo"), ("4.0.0", "brief"), ("7.0.0", "big")]
    {
        has_image(&stage, "prod_730_web", version, kind);
    }
    has_image(&stage, "prod_730_side", "1.0.0", "silent");
    stage.engine.has_base();
    let vendor = Registry::start_with_login("vendor", "theirs");
    let source = vendor.push(&stage.docker, "db", "15", "silent");
    // A release that ends after a second has to be on trial then.
    stage.agent.options.env.push(("REAGENT_PROBATION".to_owned(), "2".to_owned()));
    stage.agent.restart();
    stage.online(0);

    let mut walk = Walk::of(&stage, WantedApp::new(730, "comp").compose(definition("1.0.0")));
    walk.goes(PRODUCTION);
    walk.ends(&["dev", "pub"]);
    let mut app = for_use(WantedApp::new(740, "Comp").dev());
    app.environment_template.insert("VENDOR".to_owned(), json!({"defaultValue": source}));
    let login = json!({vendor.address(): {"username": "vendor", "password": "theirs"}});
    let mut walk = Walk::of(&stage, app.with("docker_credentials", login));
    walk.goes(DEVELOPMENT);
    walk.ends(&["prod"]);
    assert!(!stage.agent.log().contains("theirs"), "X1");
    for image in ["web", "db"] {
        assert!(registry().has(&format!("apps/prod_{}_740_{image}", reagent::release::ARCH), "1.0.0"), "{image}");
    }
}

const WITHOUT: &[Row] = &[
    Row {
        action: "run without compose",
        act: Ask(|app| app),
        reports: &["FAILED"],
        there: &[FOLDER],
        says: &[("prod", "This device has no docker compose"), ("prod", "Crash loop, 1st attempt")],
    },
    Row {
        action: "uninstall without compose",
        act: Ask(|app| app.target("UNINSTALLED")),
        reports: &["DELETING", "REMOVED", "UNINSTALLED"],
        there: &[],
        says: &[("prod", "comp removed")],
    },
];

#[test]
fn a_device_without_compose_says_so_and_removes_a_compose_app_all_the_same() {
    let mut stage = Stage::prepare(Identity::generated());
    stage.has_compose(Flavour::None);
    stage.agent.restart();
    stage.online(0);
    let mut walk = Walk::of(&stage, WantedApp::new(730, "comp").compose(definition("1.0.0")));
    walk.goes(WITHOUT);
    walk.ends(&["dev", "pub"]);
}

#[test]
fn a_compose_app_goes_through_every_action_with_the_plugin_of_version_2() {
    goes_through_every_action(Flavour::Plugin);
}

#[test]
fn a_compose_app_goes_through_every_action_with_version_1_29() {
    goes_through_every_action(Flavour::Standalone);
}
