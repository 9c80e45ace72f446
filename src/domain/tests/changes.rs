//! Requests that give an app another name, or make a project of a container and the reverse: what it was does not stay.

use super::super::job::JobSpec;
use super::super::testing::*;
use serde_json::{Value, json};

const PROJECT: &str = "prod_1_demo_compose";

fn project() -> Value {
    json!({"docker_compose": {"services": {"web": {"image": "postgres:16"}}}})
}

/// Names of what runs.
fn running(world: &World) -> Vec<String> {
    let containers = world.engine.containers.values().filter(|container| container.status == "running");
    let mut names: Vec<String> =
        containers.map(|container| container.project.clone().unwrap_or_else(|| container.name.clone())).collect();
    names.sort();
    names
}

#[test]
fn an_app_that_becomes_a_project_and_back_is_one_thing_at_a_time() {
    let mut world = World::running();
    for (extra, state, left) in [
        (project(), "RUNNING", vec![PROJECT.to_owned()]),
        (json!({"docker_compose": null}), "RUNNING", vec![container(1)]),
        (project(), "PRESENT", vec![]),
        (json!({"docker_compose": null}), "RUNNING", vec![container(1)]),
        (project(), "UNINSTALLED", vec![]),
    ] {
        world.request(1, state, extra);
        world.settle();
        assert_eq!(running(&world), left, "{state}: {:#?}", world.tail());
        assert_eq!(world.reports().last(), Some(&format!("1 {state}")));
    }
}

#[test]
fn an_app_that_is_renamed_leaves_no_container_of_the_old_name() {
    let mut world = World::running();
    world.request(1, "RUNNING", json!({"app_name": "Other"}));
    world.settle();
    assert_eq!(running(&world), ["prod_1_other"]);
    assert_eq!(world.reports(), ["1 PRESENT", "1 STARTING", "1 DOWNLOADING", "1 PRESENT", "1 STARTING", "1 RUNNING"]);
    world.request(1, "UNINSTALLED", json!({"app_name": "Third"}));
    world.settle();
    assert_eq!(running(&world), Vec::<String>::new());
}

#[test]
fn s3_a_change_that_arrives_in_the_middle_of_a_start_is_made_afterwards() {
    for target in ["RUNNING", "PRESENT", "REMOVED"] {
        let mut world = World::connected();
        world.holds = |spec| matches!(spec, JobSpec::Start(_));
        world.request(1, "RUNNING", json!({}));
        world.settle();
        let start = world.job(|spec| matches!(spec, JobSpec::Start(_)));
        world.request(1, target, project());
        world.settle();
        world.holds = |_| false;
        world.end(start);
        world.settle();
        let left = if target == "RUNNING" { vec![PROJECT.to_owned()] } else { vec![] };
        assert_eq!(running(&world), left, "{target}: {:#?}", world.tail());
    }
}

#[test]
fn what_an_app_was_goes_also_if_the_first_try_fails_or_the_agent_is_killed() {
    let mut world = World::running();
    world.engine.fails.insert("remove", (1, "busy"));
    world.request(1, "RUNNING", project());
    world.pass(secs(30));
    assert_eq!(running(&world), [PROJECT], "{:#?}", world.tail());

    let mut world = World::running();
    world.holds = |spec| matches!(spec, JobSpec::RemoveContainer { .. });
    world.request(1, "RUNNING", project());
    world.settle();
    world.crash();
    world.holds = |_| false;
    world.engine_up();
    world.join();
    world.settle();
    assert_eq!(running(&world), [PROJECT], "{:#?}", world.tail());
}
