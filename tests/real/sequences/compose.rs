//! Compose apps in production and in development, with the plugin of version 2 and with the standalone version 1.29. The
//! tables go on where another one has ended; what compose itself has no part in is walked with the plugin alone.

mod development;
mod health;
mod production;

use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::real::Registry;
use crate::real::flavour::Flavour;
use crate::real::stage::{Stage, registry};
use crate::real::walk::{Walk, has_image};
use serde_json::{Value, json};

/// Version 1.0.0 has a `side`, later ones an `extra` instead.
fn definition(version: &str) -> Value {
    let web = json!({"image": format!("REGISTRY/apps/prod_ARCH_730_web:{version}"), "volumes": ["data:/keep"]});
    let other = json!({"image": "REGISTRY/apps/prod_ARCH_730_side:1.0.0"});
    let services = match version {
        "1.0.0" => json!({"web": web, "side": other}),
        _ => json!({"web": web, "extra": other}),
    };
    json!({"services": services, "volumes": {"data": {}}})
}

/// The backend wants another version.
fn update(app: WantedApp, version: &str) -> WantedApp {
    WantedApp { new_docker_compose: Some(definition(version)), ..app }.update_to(version, 101)
}

/// The backend has promoted the definition of the version that is there, and wants no other one.
fn settled(app: WantedApp, version: &str) -> WantedApp {
    WantedApp { docker_compose: Some(definition(version)), new_docker_compose: None, request_update: false, ..app }
}

// What may be on the device.
const WEB: &str = "image prod_730_web:1.0.0";
const WEB_2: &str = "image prod_730_web:2.0.0";
const WEB_4: &str = "image prod_730_web:4.0.0";
const SIDE: &str = "image prod_730_side:1.0.0";
const VOLUME: &str = "volume prod_730_comp_compose_data";
const FOLDER: &str = "file prod/comp";
const FILES: &str = "file compose/comp";
const WEB_RUNS: &str = "container prod_730_comp_compose/web running prod_730_web:1.0.0";
const WEB_2_RUNS: &str = "container prod_730_comp_compose/web running prod_730_web:2.0.0";
const SIDE_RUNS: &str = "container prod_730_comp_compose/side running prod_730_side:1.0.0";
const EXTRA_RUNS: &str = "container prod_730_comp_compose/extra running prod_730_side:1.0.0";

/// A stage with everything that the apps are made of, and where the vendor's image is.
fn stage(flavour: Flavour) -> (Stage, Registry, String) {
    let mut stage = Stage::prepare(Identity::generated());
    stage.has_compose(flavour);
    let kinds = [
        ("1.0.0", "demo"),
        ("2.0.0", "demo"),
        ("3.0.0", "demo"),
        ("4.0.0", "brief"),
        ("5.0.0", "exits"),
        ("6.0.0", "sick"),
        ("7.0.0", "big"),
        ("8.0.0", "well"),
    ];
    for (version, kind) in kinds {
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
    (stage, vendor, source)
}

fn comp() -> WantedApp {
    WantedApp::new(730, "comp").compose(definition("1.0.0"))
}

/// The same in development, with the vendor's image and who may pull it.
fn dev_comp(vendor: &Registry, source: &str) -> WantedApp {
    let mut app = development::for_use(WantedApp::new(740, "Comp").dev());
    app.environment_template.insert("VENDOR".to_owned(), json!({"defaultValue": source}));
    app.with("docker_credentials", json!({vendor.address(): {"username": "vendor", "password": "theirs"}}))
}

/// Images of releases that were replaced or refused stay: they may be other apps' too. The next walk begins without.
#[track_caller]
fn forget_images(stage: &Stage) {
    let images = stage.docker.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    for image in images.lines().filter(|image| image.starts_with("127.0.0.1:")) {
        stage.docker.run(&["image", "rm", "-f", image]);
    }
}

#[track_caller]
fn is_published(stage: &Stage) {
    assert!(!stage.agent.log().contains("theirs"), "X1");
    for image in ["web", "db"] {
        assert!(registry().has(&format!("apps/prod_{}_740_{image}", reagent::release::ARCH), "1.0.0"), "{image}");
    }
}

#[test]
fn a_compose_app_goes_through_every_action_with_the_plugin_of_version_2() {
    let (stage, vendor, source) = stage(Flavour::Plugin);
    let mut walk = Walk::of(&stage, comp());
    for rows in [production::INSTALL, production::GO_ROUND, production::CHANGE, production::LEAVE] {
        walk.goes(rows);
    }
    walk.ends(&["dev", "pub"]);
    forget_images(&stage);
    let mut walk = Walk::of(&stage, dev_comp(&vendor, &source));
    for rows in [development::BUILD, development::GO_ROUND, development::PUBLISH_AGAIN, development::LEAVE] {
        walk.goes(rows);
    }
    walk.ends(&["prod"]);
    forget_images(&stage);
    let mut walk = Walk::of(&stage, comp());
    walk.goes(health::ROWS);
    walk.ends(&["dev", "pub"]);
    is_published(&stage);
}

#[test]
fn a_compose_app_is_installed_changed_built_published_and_removed_with_version_1_29() {
    let (stage, vendor, source) = stage(Flavour::Standalone);
    let mut walk = Walk::of(&stage, comp());
    for rows in [production::INSTALL, production::CHANGE, production::UNINSTALL] {
        walk.goes(rows);
    }
    walk.ends(&["dev", "pub"]);
    forget_images(&stage);
    let mut walk = Walk::of(&stage, dev_comp(&vendor, &source));
    for rows in [development::BUILD, development::PUBLISH, development::LEAVE] {
        walk.goes(rows);
    }
    walk.ends(&["prod"]);
    is_published(&stage);
}

#[test]
fn a_device_without_compose_says_so_and_removes_a_compose_app_all_the_same() {
    let mut stage = Stage::prepare(Identity::generated());
    stage.has_compose(Flavour::None);
    stage.agent.restart();
    stage.online(0);
    let mut walk = Walk::of(&stage, comp());
    walk.goes(production::WITHOUT_COMPOSE);
    walk.ends(&["dev", "pub"]);
}
