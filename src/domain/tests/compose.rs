//! Compose apps: the sequences of apps chapter 3 for projects, their observation, updates and clean-up.

use super::super::job::{ComposeCommand, JobSpec, Outcome};
use super::super::testing::*;
use serde_json::{Value, json};

const PROJECT: &str = "prod_1_demo_compose";

fn definition(version: &str) -> Value {
    json!({"services": {
        "web": {"image": format!("registry/apps/web:{version}"), "ports": ["8080:80"]},
        "db": {"image": "postgres:16"},
    }})
}

fn compose(extra: Value) -> Value {
    let mut all = json!({"docker_compose": definition("1.0.0"), "ports": [{"port": 8080}]});
    all.as_object_mut().unwrap().extend(object(extra));
    all
}

fn running() -> World {
    let mut world = World::connected();
    world.request(1, "RUNNING", compose(json!({"current_state": "UNINSTALLED"})));
    world.settle();
    assert_eq!(world.reports(), ["1 DOWNLOADING", "1 STARTING", "1 RUNNING"]);
    world.trace.clear();
    world
}

fn services(world: &World) -> Vec<&str> {
    let of_it = world.engine.containers.values().filter(|container| container.project.as_deref() == Some(PROJECT));
    of_it
        .filter(|container| container.status == "running")
        .filter_map(|container| container.service.as_deref())
        .collect()
}

#[track_caller]
fn shows(world: &mut World, expected: &[&str]) {
    world.settle();
    let words = ["1 ", "say", "clear", "compose", "missing", "remove", "call token", "find", "delete"];
    let seen = world.take(&words);
    let seen: Vec<&str> = seen.iter().map(String::as_str).filter(|line| *line != "clear history").collect();
    assert_eq!(seen, expected, "{:#?}", world.tail());
}

#[test]
fn a_fresh_project_downloads_what_is_missing_then_starts() {
    let mut world = World::connected();
    world.engine.images.insert("postgres:16".to_owned());
    world.request(1, "RUNNING", compose(json!({"current_state": "UNINSTALLED"})));
    shows(
        &mut world,
        &[
            "find compose",
            "missing images",
            "1 DOWNLOADING",
            "call token 43",
            "say Downloading the images of Demo …",
            "compose pull web",
            "compose stop",
            "say Starting Demo …",
            "1 STARTING",
            "compose up",
            "1 RUNNING",
            "say Demo is running (1.0.0)",
            "1 ports 8080>40000",
        ],
    );
    assert_eq!(services(&world), ["db", "web"]);
    world.pass(secs(3600));
    reports(&mut world, &[]);
}

#[test]
fn d3_an_installed_project_starts_without_downloading_state_and_pulls_what_was_lost() {
    let mut world = running();
    world.request(1, "PRESENT", compose(json!({})));
    shows(
        &mut world,
        &[
            "1 ports 8080>40000",
            "say Stop of Demo requested",
            "1 STOPPING",
            "compose stop",
            "1 PRESENT",
            "say Demo stopped",
        ],
    );
    world.request(1, "RUNNING", compose(json!({})));
    reports(&mut world, &["1 STARTING", "1 RUNNING"]);
    world.request(1, "PRESENT", compose(json!({})));
    world.settle();
    world.engine.images.remove("postgres:16");
    world.trace.clear();
    world.request(1, "RUNNING", compose(json!({})));
    world.settle();
    assert!(world.trace.contains(&"compose pull db".to_owned()));
    reports(&mut world, &["1 STARTING", "1 RUNNING"]);
}

#[test]
fn without_compose_the_log_says_so_and_a_removal_works_all_the_same() {
    let mut world = World::connected();
    world.engine.without_compose = true;
    world.request(1, "RUNNING", compose(json!({"current_state": "UNINSTALLED"})));
    world.settle();
    let seen = world.take(&["1 ", "say This"]);
    assert_eq!(seen, ["say This device has no docker compose", "1 FAILED"]);
    world.request(1, "UNINSTALLED", compose(json!({})));
    reports(&mut world, &["1 DELETING", "1 REMOVED", "1 UNINSTALLED"]);
}

#[test]
fn s13_a_project_is_removed_with_its_images_and_uninstalled_with_its_files() {
    let mut world = running();
    world.request(1, "UNINSTALLED", compose(json!({})));
    shows(
        &mut world,
        &[
            "1 ports 8080>40000",
            "say Removing Demo …",
            "1 DELETING",
            "compose remove",
            "remove images postgres:16 registry/apps/web:1.0.0",
            "1 REMOVED",
            "say Demo removed",
            "delete files",
            "1 UNINSTALLED",
        ],
    );
    assert!(world.engine.containers.is_empty() && world.engine.images.is_empty());
}

#[test]
fn a_download_of_a_fresh_project_is_cancelled_and_leaves_nothing() {
    for target in ["REMOVED", "UNINSTALLED"] {
        let mut world = World::connected();
        world.holds = |spec| matches!(spec, JobSpec::Compose { command: ComposeCommand::Pull { .. }, .. });
        world.request(1, "RUNNING", compose(json!({"current_state": "UNINSTALLED"})));
        world.settle();
        assert_eq!(world.reports(), ["1 DOWNLOADING"]);
        world.trace.clear();
        world.request(1, target, compose(json!({"cancel_transition": true})));
        world.settle();
        let mut expected = vec!["1 DELETING", "1 REMOVED"];
        expected.extend((target == "UNINSTALLED").then_some("1 UNINSTALLED"));
        reports(&mut world, &expected);
        assert!(world.tables.apps.is_empty());
    }
}

#[test]
fn a_project_is_seen_as_one_and_crashes_as_one() {
    let mut world = running();
    let name = format!("{PROJECT}-db-1");
    world.engine.exit(&name, 0);
    world.project_event(1, &name, "die");
    reports(&mut world, &[]);
    let name = format!("{PROJECT}-web-1");
    world.engine.exit(&name, 1);
    world.project_event(1, &name, "die");
    reports(&mut world, &["1 FAILED"]);
    world.pass(secs(10));
    reports(&mut world, &["1 STARTING", "1 RUNNING"]);
    // All of it ends well: again, but not at once.
    for service in ["web", "db"] {
        world.engine.exit(&format!("{PROJECT}-{service}-1"), 0);
    }
    world.project_event(1, &name, "die");
    reports(&mut world, &["1 PRESENT"]);
    world.pass(secs(30));
    reports(&mut world, &["1 STARTING", "1 RUNNING"]);
}

fn update(world: &mut World) {
    let wish = json!({"newest_version": "2.0.0", "request_update": true, "present_version": "1.0.0",
        "new_docker_compose": definition("2.0.0")});
    world.request(1, "RUNNING", compose(wish));
}

#[test]
fn an_update_pulls_before_the_old_release_goes_and_keeps_the_old_definition_until_the_new_one_has_proved_itself() {
    let mut world = running();
    update(&mut world);
    world.pass(secs(20));
    assert_eq!(world.tables.requests[&prod(1)].docker_compose, Some(definition("1.0.0")));
    world.pass(secs(20));
    let seen = world.take(&["1 UP", "1 PRESENT", "1 RUN", "compose", "say Demo is"]);
    assert_eq!(
        seen,
        [
            "1 UPDATING",
            "compose pull",
            "compose down",
            "compose up",
            "1 PRESENT pending_remote_confirmation",
            "say Demo is running (2.0.0)",
            "1 RUNNING completed",
        ]
    );
    let row = &world.tables.requests[&prod(1)];
    assert_eq!((row.docker_compose.clone(), row.new_docker_compose.clone()), (Some(definition("2.0.0")), None));
    assert_eq!(row.present_version, "2.0.0");
}

#[test]
fn what_is_asked_for_during_an_update_does_not_change_which_definition_is_installed() {
    // Neither that it is to run without an update, nor yet another release.
    let third = json!({"newest_version": "3.0.0", "new_release_key": 102, "request_update": true,
        "new_docker_compose": definition("3.0.0")});
    for (meanwhile, then) in [(json!({"newest_version": "1.0.0", "request_update": false}), "2.0.0"), (third, "3.0.0")]
    {
        let mut world = running();
        world.holds = |spec| matches!(spec, JobSpec::Compose { command: ComposeCommand::Pull { .. }, .. });
        update(&mut world);
        world.settle();
        let mut wish = compose(json!({"present_version": "1.0.0", "new_docker_compose": null}));
        wish.as_object_mut().unwrap().extend(object(meanwhile));
        world.request(1, "RUNNING", wish);
        world.settle();
        world.holds = |_| false;
        let mut installed = Vec::new();
        for _ in 0..9 {
            world.pass(secs(10));
            let row = &world.tables.requests[&prod(1)];
            let version = world.tables.apps[&prod(1)].version.clone();
            assert_eq!(row.docker_compose, Some(definition(&version)));
            installed.push(version);
        }
        installed.dedup();
        let expected = ["1.0.0", "2.0.0", then];
        assert_eq!(installed, expected[..if then == "2.0.0" { 2 } else { 3 }]);
        let image = format!("registry/apps/web:{then}");
        assert!(world.engine.images.contains(&image), "{:?}", world.engine.images);
    }
}

#[test]
fn an_update_that_does_not_prove_itself_brings_the_old_definition_back() {
    let mut world = running();
    update(&mut world);
    world.pass(secs(10));
    let name = format!("{PROJECT}-web-1");
    world.engine.exit(&name, 7);
    world.project_event(1, &name, "die");
    reports(&mut world, &["1 UPDATING", "1 PRESENT canceled", "1 RUNNING canceled"]);
    assert!(world.noted("service web exited with code 7"));
    assert_eq!(world.tables.requests[&prod(1)].docker_compose, Some(definition("1.0.0")));
    assert_eq!(services(&world), ["db", "web"]);
    world.pass(secs(3600));
    reports(&mut world, &[]);
}

#[test]
fn s7_whatever_ends_the_agent_during_a_trial_the_release_before_comes_back_and_a_pull_disturbs_nobody() {
    let images = |world: &World| -> Vec<String> {
        let of_it = world.engine.containers.values().filter(|container| container.status == "running");
        of_it.map(|container| container.image.clone()).collect()
    };
    let cut_off = |world: &mut World| {
        world.engine_down();
        world.crash();
        world.join();
        world.settle();
        world.trace.clear();
    };
    let mut world = running();
    update(&mut world);
    world.pass(secs(10));
    assert_eq!(images(&world), ["postgres:16", "registry/apps/web:2.0.0"]);
    cut_off(&mut world);
    world.request(1, "RUNNING", compose(json!({"request_update": false})));
    world.settle();
    world.engine_up();
    world.settle();
    assert_eq!(images(&world), ["postgres:16", "registry/apps/web:1.0.0"]);
    assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
    assert_eq!(world.take(&["compose"]), ["compose down", "compose up"]);
    // While it is still pulled the release before runs on.
    let mut world = running();
    world.holds = |spec| matches!(spec, JobSpec::Compose { command: ComposeCommand::Pull { .. }, .. });
    update(&mut world);
    world.settle();
    cut_off(&mut world);
    world.engine_up();
    world.settle();
    assert_eq!(world.take(&["compose"]), ["compose pull"]);
    assert_eq!(images(&world), ["postgres:16", "registry/apps/web:1.0.0"]);
}

#[test]
fn a_device_that_loses_its_compose_during_a_trial_goes_back_to_the_release_before() {
    let mut world = running();
    world.holds = |spec| matches!(spec, JobSpec::Compose { command: ComposeCommand::Up { .. }, .. });
    update(&mut world);
    world.settle();
    let job = world.job(|spec| matches!(spec, JobSpec::Compose { .. }));
    world.ended(job, Outcome::ComposeMissing);
    world.holds = |_| false;
    reports(&mut world, &["1 UPDATING", "1 PRESENT canceled", "1 RUNNING canceled"]);
    assert_eq!(services(&world), ["db", "web"]);
    assert_eq!(world.tables.requests[&prod(1)].docker_compose, Some(definition("1.0.0")));
    // Without any compose nothing can be started: it fails, and runs as soon as there is one.
    let mut world = running();
    world.holds = |spec| matches!(spec, JobSpec::Compose { command: ComposeCommand::Up { .. }, .. });
    update(&mut world);
    world.settle();
    world.engine.without_compose = true;
    world.holds = |_| false;
    reports(&mut world, &["1 UPDATING", "1 FAILED"]);
    world.engine.without_compose = false;
    world.pass(secs(3600));
    assert_eq!((services(&world), world.tables.apps[&prod(1)].version.as_str()), (vec!["db", "web"], "1.0.0"));
}

#[test]
fn a_removed_project_leaves_no_image_of_a_release_that_was_refused_and_takes_none_of_another_app() {
    let mut world = running();
    world.engine.images.insert("registry/apps/kept:1".to_owned());
    world.request(2, "PRESENT", json!({"docker_compose": {"services": {"db": {"image": "postgres:16"}}}}));
    world.settle();
    update(&mut world);
    world.pass(secs(10));
    let name = format!("{PROJECT}-web-1");
    world.engine.exit(&name, 7);
    world.project_event(1, &name, "die");
    world.pass(secs(10));
    assert!(world.engine.images.contains("registry/apps/web:2.0.0"));
    world.request(1, "REMOVED", json!({"request_update": false}));
    world.settle();
    let images: Vec<_> = world.engine.images.iter().collect();
    assert_eq!(images, ["postgres:16", "registry/apps/kept:1"]);
    world.request(2, "REMOVED", json!({}));
    world.settle();
    assert!(!world.engine.images.contains("postgres:16"));
}

#[test]
fn s7_a_project_is_found_as_it_is_at_a_start() {
    let mut world = running();
    world.crash();
    world.join();
    world.pass(secs(30));
    assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
    assert!(!world.trace.iter().any(|line| line.starts_with("compose")), "it was not touched: {:?}", world.trace);
    // Its containers went while the agent was away.
    world.engine.containers.clear();
    world.crash();
    world.join();
    world.pass(secs(30));
    assert_eq!(services(&world), ["db", "web"]);
}

#[test]
fn a_definition_that_cannot_be_read_fails_with_its_reason_and_can_be_removed() {
    let mut world = World::connected();
    world.request(1, "RUNNING", json!({"docker_compose": {"services": []}, "current_state": "UNINSTALLED"}));
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 FAILED"));
    assert!(world.trace.iter().any(|line| line.starts_with("say") && line.contains("services")), "{:?}", world.trace);
    world.trace.clear();
    world.request(1, "UNINSTALLED", json!({"docker_compose": {"services": []}}));
    reports(&mut world, &["1 DELETING", "1 REMOVED", "1 UNINSTALLED"]);
}

#[test]
fn a_project_in_development_is_unpacked_built_and_released_with_its_foreign_images() {
    let mut world = World::connected();
    let mut sources = definition("1.0.0");
    sources["services"]["web"]["build"] = json!(".");
    sources["services"]["db"] = json!({"image": "registry/apps/db:1.0.0", "x-source-image": "quay.io/db:16"});
    let dev = |state: &str| {
        json!({"stage": "DEV", "docker_compose": sources.clone(), "version": "1.0.0", "current_state": state,
        "docker_credentials": {"quay.io": {"username": "me", "password": "secret"}}})
    };
    world.request(1, "BUILT", dev("UNINSTALLED"));
    world.settle();
    assert!(
        ["unpack", "compose build", "compose pull rest"].iter().all(|job| world.trace.contains(&(*job).to_owned()))
    );
    reports(&mut world, &["1 REMOVED", "1 BUILDING", "1 BUILT", "1 PRESENT"]);
    world.request(1, "RUNNING", dev("PRESENT"));
    reports(&mut world, &["1 STARTING", "1 RUNNING"]);
    world.request(1, "PUBLISHED", dev("RUNNING"));
    world.settle();
    let jobs = world.take(&["compose", "rehost", "1 "]);
    assert_eq!(
        jobs,
        [
            "1 DELETING",
            "compose down",
            "1 REMOVED",
            "1 REMOVED",
            "1 BUILDING",
            "compose build",
            "1 BUILT",
            "rehost quay.io/db:16 registry/apps/db:1.0.0",
            "1 PUBLISHING",
            "compose push",
            "1 PUBLISHED",
        ]
        .map(str::to_owned)
    );
}

#[test]
fn a_project_that_is_stopped_before_its_images_were_looked_for_fetches_them_before_it_is_present() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Compose { command: ComposeCommand::Pull { .. }, .. });
    world.request(1, "RUNNING", compose(json!({"current_state": "UNINSTALLED"})));
    world.settle();
    let job = world.job(|spec| matches!(spec, JobSpec::Compose { command: ComposeCommand::Pull { .. }, .. }));
    world.ended(job, Outcome::Failed("the registry does not answer".to_owned()));
    world.settle();
    assert_eq!(world.reports(), ["1 DOWNLOADING", "1 FAILED"]);
    // Its next try says STARTING, since only a first installation may say DOWNLOADING.
    world.holds = |spec| matches!(spec, JobSpec::MissingImages { .. });
    world.trace.clear();
    world.pass(secs(10));
    assert_eq!(world.reports(), ["1 STARTING"]);
    world.trace.clear();
    world.request(1, "PRESENT", compose(json!({"cancel_transition": true})));
    world.holds = |_| false;
    world.settle();
    assert_eq!(world.reports(), ["1 STOPPING", "1 DOWNLOADING", "1 PRESENT"]);
}
