//! What was cut off in the middle, by a cancel, by kill -9 or with the engine, is finished or taken back (S7, apps chapter
//! 3.15, 5.4), of plain apps and of projects, in both stages.

use super::super::app::{AppKey, AppState, Stage};
use super::super::job::{ComposeCommand, Container, JobSpec, Outcome};
use super::super::testing::*;
use super::kills::killed_everywhere;
use serde_json::{Map, Value, json};

const PROJECT: &str = "prod_1_demo_compose";

fn with(base: Value, extra: Value) -> Value {
    let mut all = object(base);
    all.extend(object(extra));
    Value::Object(all)
}

fn definition(version: &str) -> Value {
    json!({"services": {"web": {"image": format!("registry/apps/web:{version}"), "build": "."}, "db": {"image": "postgres:16"}}})
}

fn compose(extra: Value) -> Value {
    with(json!({"docker_compose": definition("1.0.0"), "current_state": "UNINSTALLED"}), extra)
}

fn dev(extra: Value) -> Value {
    with(json!({"stage": "DEV", "version": "1.0.0", "current_state": "UNINSTALLED"}), extra)
}

/// A project that runs.
fn running() -> World {
    let mut world = World::connected();
    world.request(1, "RUNNING", compose(json!({})));
    world.settle();
    assert_eq!(services(&world), ["db", "web"]);
    world.trace.clear();
    world
}

/// Its services that run.
fn services(world: &World) -> Vec<&str> {
    let of_it = world.engine.containers.values().filter(|container| container.project.as_deref() == Some(PROJECT));
    of_it.filter(|it| it.status == "running").filter_map(|it| it.service.as_deref()).collect()
}

/// Kills the agent in the command that is held, half of which is done.
fn killed(world: &mut World, target: &str, extra: Value, held: fn(&JobSpec) -> bool) {
    world.holds = held;
    world.request(1, target, extra);
    world.settle();
    world.job(held);
    world.holds = |_| false;
    world.trace.clear();
    world.crash();
}

fn is_up(spec: &JobSpec) -> bool {
    matches!(spec, JobSpec::Compose { command: ComposeCommand::Up { .. }, .. })
}

fn takes_away(spec: &JobSpec) -> bool {
    use ComposeCommand::{Down, Remove, TakeDown};
    matches!(spec, JobSpec::Compose { command: TakeDown | Down | Remove, .. })
}

/// Everything that may take its time.
fn lasts(spec: &JobSpec) -> bool {
    let lasts = matches!(spec, JobSpec::Unpack { .. } | JobSpec::Tag { .. } | JobSpec::Build(_) | JobSpec::Push { .. });
    lasts || (matches!(spec, JobSpec::Compose { .. }) && !takes_away(spec))
}

fn state(world: &World) -> AppState {
    world.tables.apps[&prod(1)].state
}

#[test]
fn s7_a_project_of_which_one_service_was_started_is_started_as_a_whole() {
    for reconnects in [false, true] {
        let mut world = running();
        world.request(1, "PRESENT", json!({}));
        world.settle();
        killed(&mut world, "RUNNING", json!({}), is_up);
        assert_eq!(services(&world), ["db"]);
        if reconnects {
            world.join();
        }
        world.pass(secs(120));
        assert_eq!((services(&world), state(&world)), (vec!["db", "web"], AppState::Running));
    }
    // With the engine alone it is the same.
    let mut world = running();
    world.request(1, "PRESENT", json!({}));
    world.holds = is_up;
    world.request(1, "RUNNING", json!({}));
    world.settle();
    let job = world.job(is_up);
    let spec = world.jobs[&job].clone();
    world.engine.half(&spec);
    world.holds = |_| false;
    world.ended(job, Outcome::EngineGone("gone".to_owned()));
    world.pass(secs(120));
    assert_eq!((services(&world), state(&world)), (vec!["db", "web"], AppState::Running));
}

#[test]
fn s7_a_project_that_was_stopped_half_is_stopped_and_nothing_is_downloaded_for_it() {
    let mut world = running();
    killed(&mut world, "PRESENT", json!({}), takes_away);
    // What was asked to end has ended as such programs do.
    for container in world.engine.containers.values_mut() {
        (container.status, container.exit_code) = ("exited".to_owned(), 137);
    }
    world.pass(secs(120));
    assert!(world.engine.containers.is_empty() && !world.trace.iter().any(|line| line.contains("pull")));
    world.join();
    world.pass(secs(120));
    assert_eq!(state(&world), AppState::Present);
    assert!(!world.reports().contains(&"1 FAILED".to_owned()), "{:?}", world.reports());
}

#[test]
fn s7_a_plain_app_that_ended_by_its_stop_has_not_failed() {
    let mut world = World::running();
    killed(&mut world, "PRESENT", json!({}), |spec| matches!(spec, JobSpec::Stop { .. }));
    world.engine.exit(&container(1), 137);
    world.join();
    world.pass(secs(120));
    assert_eq!(state(&world), AppState::Present);
    assert!(world.engine.containers.is_empty());
    assert!(!world.reports().contains(&"1 FAILED".to_owned()), "{:?}", world.reports());
}

#[test]
fn s7_a_project_that_was_removed_half_leaves_neither_volume_nor_file() {
    for (target, joins) in [("REMOVED", false), ("UNINSTALLED", false), ("UNINSTALLED", true)] {
        let mut world = running();
        killed(&mut world, target, json!({}), takes_away);
        // The containers were first.
        world.engine.containers.clear();
        if joins {
            world.join();
        }
        world.pass(secs(120));
        assert!(world.engine.volumes.is_empty(), "{target}: {:?}", world.trace);
        assert_eq!(world.engine.definitions.is_empty(), target == "UNINSTALLED");
        assert!(world.tables.apps.is_empty() && world.state.apps.is_empty());
        world.join();
        world.settle();
        assert!(world.backend.told[&1].contains(&target.to_owned()), "{:?}", world.backend.told);
    }
}

#[test]
fn s7_whenever_a_project_is_killed_it_ends_as_was_asked_for() {
    fn removed(world: &World) {
        let engine = &world.engine;
        assert!(engine.containers.is_empty() && engine.volumes.is_empty() && world.state.apps.is_empty());
    }
    killed_everywhere(
        World::connected,
        |world| {
            world.request(1, "RUNNING", compose(json!({})));
        },
        |world| assert_eq!((services(world), state(world)), (vec!["db", "web"], AppState::Running)),
    );
    killed_everywhere(
        running,
        |world| {
            world.request(1, "PRESENT", json!({}));
        },
        |world| assert!(world.engine.containers.is_empty() && state(world) == AppState::Present),
    );
    killed_everywhere(
        running,
        |world| {
            world.request(1, "REMOVED", json!({}));
        },
        removed,
    );
    killed_everywhere(
        running,
        |world| {
            world.request(1, "UNINSTALLED", json!({}));
        },
        |world| {
            removed(world);
            assert!(world.engine.folders.is_empty() && world.engine.definitions.is_empty());
        },
    );
    killed_everywhere(
        running,
        |world| {
            let newest = json!({"newest_version": "2.0.0", "request_update": true, "present_version": "1.0.0",
                "new_docker_compose": definition("2.0.0")});
            world.request(1, "RUNNING", newest);
            // The backend is told what runs by the confirmation, not by the wish.
            world.backend.wanted.get_mut(&prod(1)).unwrap().insert("present_version".to_owned(), json!(""));
        },
        |world| {
            assert_eq!((services(world), state(world)), (vec!["db", "web"], AppState::Running));
            assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0");
            assert_eq!(world.tables.requests[&prod(1)].docker_compose, Some(definition("2.0.0")));
        },
    );
}

#[test]
fn s7_a_project_that_lost_its_power_in_an_update_runs_before_anybody_can_be_asked() {
    let mut world = running();
    let newest = json!({"newest_version": "2.0.0", "request_update": true, "present_version": "1.0.0",
        "new_docker_compose": definition("2.0.0")});
    killed(&mut world, "RUNNING", newest, is_up);
    world.engine.containers.values_mut().for_each(|it| (it.status, it.exit_code) = ("exited".to_owned(), 137));
    world.engine.images.remove("registry/apps/web:2.0.0");
    world.engine.missing.insert("registry/apps/web:2.0.0".to_owned());
    world.pass(secs(60));
    assert_eq!(services(&world), ["db", "web"], "{:?}", world.trace);
    assert_eq!(world.tables.apps[&prod(1)].version, "1.0.0");
    world.engine.missing.clear();
    world.join();
    world.pass(secs(120));
    assert_eq!((services(&world), world.tables.apps[&prod(1)].version.as_str()), (vec!["db", "web"], "2.0.0"));
    // The same of one container, before the old release was kept.
    let mut world = World::running();
    let newest = json!({"newest_version": "2.0.0", "request_update": true, "present_version": "1.0.0"});
    killed(&mut world, "RUNNING", newest, |spec| matches!(spec, JobSpec::Pull { .. }));
    world.engine.missing.insert("registry/apps/prod_amd64_1_demo:2.0.0".to_owned());
    world.engine.exit(&container(1), 137);
    world.settle();
    assert!(world.engine.is_running(&container(1)), "{:?}", world.trace);
    world.engine.missing.clear();
    world.join();
    world.pass(secs(120));
    assert_eq!((state(&world), world.tables.apps[&prod(1)].version.as_str()), (AppState::Running, "2.0.0"));
}

#[test]
fn s7_the_work_of_a_developer_is_not_done_again_by_itself() {
    for extra in [json!({}), json!({"docker_compose": definition("1.0.0")})] {
        for (target, held) in [
            ("BUILT", (|spec| matches!(spec, JobSpec::Unpack { .. })) as fn(&JobSpec) -> bool),
            ("BUILT", |spec| {
                matches!(spec, JobSpec::Build(_) | JobSpec::Compose { command: ComposeCommand::Build, .. })
            }),
            ("PUBLISHED", |spec| {
                matches!(spec, JobSpec::Push { .. } | JobSpec::Compose { command: ComposeCommand::Push, .. })
            }),
        ] {
            let mut world = World::connected();
            world.holds = held;
            world.request(1, target, dev(extra.clone()));
            world.settle();
            if world.jobs.is_empty() {
                continue; // There is nothing to unpack for a plain app.
            }
            world.crash();
            world.holds = |_| false;
            world.join();
            world.trace.clear();
            world.pass(secs(3600));
            let last = world.reports().last().cloned().unwrap_or_default();
            assert!(["1 REMOVED", "1 PRESENT", "1 UNINSTALLED"].contains(&last.as_str()), "{target}: {last}");
            assert!(!world.trace.iter().any(|line| line.starts_with("build") || line.starts_with("compose")));
        }
    }
}

#[test]
fn s7_what_a_killed_engine_has_left_of_a_build_goes_unless_one_runs() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Build(_));
    world.request(1, "BUILT", dev(json!({})));
    world.settle();
    let left = |name: &str, of_build, status: &str| Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        status: status.to_owned(),
        of_build,
        ..Container::default()
    };
    for container in
        [left("kind_name", true, "exited"), left("foreign", false, "exited"), left("step", true, "running")]
    {
        world.engine.containers.insert(container.name.clone(), container);
    }
    world.engine_down();
    world.engine_up();
    world.settle();
    assert!(world.engine.containers.contains_key("kind_name"), "it may be one of the build that runs");
    let job = world.job(|spec| matches!(spec, JobSpec::Build(_)));
    world.ended(job, Outcome::EngineGone("gone".to_owned()));
    world.pass(secs(10));
    assert_eq!(world.engine.containers.keys().collect::<Vec<_>>(), ["foreign", "step"]);
}

#[test]
fn s7_an_archive_that_still_arrives_is_not_given_up_with_the_engine_or_the_session() {
    let mut world = World::connected();
    world.request(7, "BUILT", dev(json!({"current_state": "TRANSFERING"})));
    world.settle();
    let send = |world: &mut World, word: &str| {
        let args = [json!(word), json!("Demo.tgz"), json!("dev_7_demo"), json!(4), json!("a")];
        world.invoke("write_data", Some("system"), args.to_vec(), Map::new());
        world.settle();
    };
    send(&mut world, "BEGIN");
    send(&mut world, "0001");
    let id = AppKey { key: 7, stage: Stage::Dev };
    world.engine_down();
    world.settle();
    world.engine_up();
    world.pass(secs(61));
    world.join();
    world.pass(secs(61));
    assert_eq!(world.tables.apps[&id].state, AppState::Transfering, "{:?}", world.reports());
    send(&mut world, "0203");
    send(&mut world, "END");
    assert_eq!(world.engine.archives.0.get("Demo.tgz").map(Vec::as_slice), Some(&[0, 1, 2, 3][..]));
    // Without it the state is that of an app whose sources never came.
    send(&mut world, "BEGIN");
    world.crash();
    world.pass(secs(61));
    assert_eq!(world.tables.apps[&id].state, AppState::Removed);
}

#[test]
fn a_cancel_is_not_lost_in_the_steps_before_there_is_something_to_cancel() {
    let unpack: fn(&JobSpec) -> bool = |spec| matches!(spec, JobSpec::Unpack { .. });
    let tag: fn(&JobSpec) -> bool = |spec| matches!(spec, JobSpec::Tag { .. });
    let find: fn(&JobSpec) -> bool = |spec| matches!(spec, JobSpec::FindCompose);
    for (target, extra, held) in [
        ("BUILT", dev(compose(json!({}))), unpack),
        ("PUBLISHED", dev(json!({})), tag),
        ("RUNNING", compose(json!({})), find),
        ("RUNNING", compose(json!({"current_state": "REMOVED"})), find),
    ] {
        for gone in ["REMOVED", "UNINSTALLED"] {
            let mut world = World::connected();
            world.holds = held;
            world.request(1, target, extra.clone());
            world.settle();
            world.trace.clear();
            world.request(1, gone, with(extra.clone(), json!({"cancel_transition": true, "current_state": null})));
            world.holds = lasts;
            world.settle();
            let last = world.reports().last().cloned().unwrap_or_default();
            assert!(["1 REMOVED", "1 UNINSTALLED"].contains(&last.as_str()), "{target} {gone}: {:#?}", world.trace);
            assert!(world.jobs.is_empty() && world.tables.apps.is_empty(), "{target} {gone}: {:?}", world.jobs);
        }
    }
}

#[test]
fn s4_a_start_that_hangs_is_called_off() {
    for (extra, target, expected) in [
        (json!({}), "PRESENT", vec!["1 STOPPING", "1 STOPPING", "1 PRESENT"]),
        (json!({}), "REMOVED", vec!["1 DELETING", "1 REMOVED"]),
        (compose(json!({})), "PRESENT", vec!["1 STOPPING", "1 PRESENT"]),
        (compose(json!({})), "UNINSTALLED", vec!["1 DELETING", "1 REMOVED", "1 UNINSTALLED"]),
    ] {
        let mut world = World::connected();
        world.request(1, "PRESENT", extra.clone());
        world.settle();
        world.holds = |spec| is_up(spec) || matches!(spec, JobSpec::Start(_));
        world.request(1, "RUNNING", json!({}));
        world.settle();
        assert_eq!(world.reports().last().map(String::as_str), Some("1 STARTING"));
        world.trace.clear();
        world.request(1, target, json!({"cancel_transition": true}));
        world.settle();
        let mut seen = world.reports();
        // A removal that nobody cancels waits for its turn.
        seen.retain(|line| !line.ends_with("STARTING"));
        assert_eq!(seen, expected, "{target}");
        assert!(world.jobs.is_empty() && world.engine.containers.is_empty());
    }
    // Without a cancel it is waited for.
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Start(_));
    world.request(1, "RUNNING", json!({}));
    world.request(1, "REMOVED", json!({}));
    world.settle();
    assert_eq!(world.jobs.len(), 1);
}

#[test]
fn s6_an_app_that_the_backend_does_not_know_keeps_its_volumes_also_if_its_clean_up_is_cut_off() {
    for killed in [true, false] {
        let mut world = running();
        world.backend.wanted.clear();
        world.request(2, "PRESENT", json!({}));
        world.settle();
        world.holds = |spec| matches!(spec, JobSpec::RemoveProject { .. });
        world.join();
        world.pass(secs(60));
        let job = world.job(|spec| matches!(spec, JobSpec::RemoveProject { .. }));
        world.holds = |_| false;
        if killed {
            world.crash();
        } else {
            world.ended(job, Outcome::EngineGone("gone".to_owned()));
        }
        world.pass(secs(60));
        world.join();
        world.pass(secs(60));
        assert!(world.engine.volumes.contains(PROJECT) && services(&world).is_empty(), "{killed}: {:?}", world.trace);
        assert!(!world.tables.apps.contains_key(&prod(1)));
    }
}

#[test]
fn s7_a_release_that_failed_is_refused_when_the_one_before_is_back() {
    let mut world = World::running();
    let newest = json!({"newest_version": "2.0.0", "request_update": true, "present_version": "1.0.0"});
    world.request(1, "RUNNING", newest);
    world.pass(secs(10));
    world.holds = |spec| matches!(spec, JobSpec::RemoveContainer { .. } | JobSpec::PutBack { .. });
    world.exits(1, 1);
    world.settle();
    world.holds = |_| false;
    world.crash();
    world.join();
    world.settle();
    assert!(!world.reports().contains(&"1 PRESENT canceled".to_owned()), "nobody knows how it went: {:?}", world.trace);
    world.pass(secs(120));
    assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0", "it is tried again");
}

#[test]
fn a_container_that_failed_before_a_build_says_nothing_of_what_was_built() {
    let mut world = World::connected();
    world.request(1, "BUILT", dev(json!({})));
    world.settle();
    world.request(1, "RUNNING", dev(json!({"current_state": "PRESENT"})));
    world.settle();
    world.engine.exit("dev_1_demo", 3);
    world.pass(secs(61));
    assert_eq!(world.reports().last().map(String::as_str), Some("1 FAILED"));
    world.trace.clear();
    world.request(1, "BUILT", dev(json!({"current_state": "FAILED"})));
    world.pass(secs(120));
    assert_eq!(world.reports(), ["1 REMOVED", "1 BUILDING", "1 BUILT", "1 PRESENT"]);
}
