//! Host ports, port reports, registry tokens (apps chapter 4.1, 4.3, 4.4, 4.6).

use super::super::job::JobSpec;
use super::super::testing::*;
use serde_json::{Value, json};

fn web() -> Value {
    json!({"ports": [{"port": 80}]})
}

fn told(world: &mut World) -> Vec<String> {
    world.settle();
    world.take(&["1 ports", "2 ports"])
}

#[test]
fn ports_are_reported_when_they_change_and_never_without_need() {
    let mut world = World::connected();
    world.request(1, "RUNNING", web());
    assert_eq!(told(&mut world), ["1 ports 80>40000"]);
    // The backend stored it and sends it back.
    let stored = json!({"ports": [{"port": 80.0, "host_port": 40000.0}]});
    for target in ["RUNNING", "PRESENT", "RUNNING", "PRESENT", "REMOVED", "RUNNING"] {
        world.request(1, target, stored.clone());
        assert_eq!(told(&mut world), [] as [&str; 0], "{target}");
    }
    world.request(1, "RUNNING", json!({"ports": [{"port": 80, "host_port": 40000}, {"port": 443}]}));
    world.settle();
    assert_eq!(told(&mut world), [] as [&str; 0], "a port that nothing listens on yet is not announced");
    world.request(1, "UNINSTALLED", stored);
    world.settle();
    assert!(
        world
            .state
            .ports
            .claim(&super::super::ports::PortKey::plain(prod(9), super::super::ports::Protocol::Tcp, 1), 40_000),
        "an uninstall gives it up"
    );
}

#[test]
fn a_backend_that_forgot_a_host_port_is_told_again() {
    let mut world = World::connected();
    world.request(1, "RUNNING", web());
    told(&mut world);
    world.request(1, "PRESENT", web());
    assert_eq!(told(&mut world), ["1 ports 80>40000"]);
}

#[test]
fn a_host_port_is_kept_over_stop_start_and_a_start_of_the_agent() {
    let mut world = World::connected();
    world.request(1, "RUNNING", web());
    world.request(2, "RUNNING", web());
    world.settle();
    let port = |world: &World, key| world.engine.containers[&container(key)].bindings[0].host_port;
    let before = (port(&world, 1), port(&world, 2));
    assert_ne!(before.0, before.1);
    world.request(2, "PRESENT", json!({}));
    world.request(1, "PRESENT", json!({}));
    world.settle();
    world.crash();
    world.join();
    world.settle();
    // In the other order, so that only memory can tell.
    world.request(2, "RUNNING", json!({}));
    world.settle();
    world.request(3, "RUNNING", web());
    world.request(1, "RUNNING", json!({}));
    world.settle();
    assert_eq!((port(&world, 1), port(&world, 2)), before);
}

#[test]
fn ports_that_are_found_taken_are_passed_over() {
    let mut world = World::connected();
    world.engine.bound = (40_000..40_007).collect();
    world.request(1, "RUNNING", web());
    assert_eq!(told(&mut world), ["1 ports 80>40007"]);
}

#[test]
fn a_conflict_gives_the_named_port_up_and_keeps_the_others() {
    let mut world = World::connected();
    let two = json!({"ports": [{"port": 80, "host_port": 41000}, {"port": 81, "host_port": 41001}]});
    world.engine.bound.insert(41_000);
    world.request(1, "RUNNING", two);
    assert_eq!(told(&mut world), ["1 ports 80>40000 81>41001"]);
}

#[test]
fn a_conflict_with_a_port_that_is_not_the_apps_fails() {
    let mut world = World::connected();
    world.engine.fails.insert("start", (0, ""));
    world.request(1, "RUNNING", web());
    world.holds = |spec| matches!(spec, JobSpec::Start(_));
    world.settle();
    let job = world.job(|spec| matches!(spec, JobSpec::Start(_)));
    let text = "Bind for 0.0.0.0:4000 failed: port is already allocated".to_owned();
    world.ended(job, super::super::job::Outcome::PortConflict(text));
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 FAILED"));
}

#[test]
fn an_endless_row_of_taken_ports_ends() {
    let mut world = World::connected();
    world.engine.bound = (40_000..50_000).collect();
    world.request(1, "RUNNING", web());
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 FAILED"));
}

#[test]
fn one_bad_rule_blocks_neither_a_stop_nor_a_start_nor_a_removal() {
    let mut world = World::running();
    world.request(1, "PRESENT", json!({"ports": [{"port": "80"}, {"port": 81}]}));
    reports(&mut world, &["1 STOPPING", "1 STOPPING", "1 PRESENT"]);
    world.request(1, "RUNNING", json!({}));
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
    let said = world.take(&["say"]);
    assert!(said.contains(&"say Port rule 1 is left out: bad port".to_owned()), "{said:?}");
    let published: Vec<u16> = world.engine.containers[&container(1)].bindings.iter().map(|it| it.port).collect();
    assert_eq!(published, [81], "the good rule counts");
    world.trace.clear();
    world.request(1, "UNINSTALLED", json!({}));
    reports(&mut world, &["1 DELETING", "1 REMOVED", "1 UNINSTALLED"]);
}

#[test]
fn a_token_is_asked_for_only_where_a_registry_is_needed() {
    let mut world = World::running();
    for (target, asks) in [("PRESENT", 0), ("RUNNING", 0), ("RUNNING", 0), ("REMOVED", 0), ("PRESENT", 1)] {
        world.trace.clear();
        world.request(1, target, json!({}));
        world.settle();
        assert_eq!(world.take(&["call token"]).len(), asks, "{target}");
    }
}

#[test]
fn a_token_is_asked_for_three_times_then_the_last_one_serves() {
    let mut world = World::running();
    world.engine.images.clear();
    world.backend.answers.insert("token", Some(refusal()));
    world.request(1, "PRESENT", json!({}));
    world.settle();
    world.engine.images.clear();
    world.trace.clear();
    world.request(1, "RUNNING", json!({}));
    world.pass(secs(10));
    let seen = world.take(&["call token", "pull"]);
    assert_eq!(seen.len(), 4, "{seen:?}");
    assert!(seen[3].ends_with("as registry-token"), "{seen:?}");
}

#[test]
fn a_token_is_a_text_or_nothing() {
    for (answer, user) in [(vec![], ""), (vec![json!("t2")], "t2"), (vec![json!(5)], ""), (vec![json!(null)], "")] {
        let mut world = World::connected();
        world.backend.answers.insert("token", Some(Ok(answer.clone())));
        world.request(1, "PRESENT", json!({}));
        world.pass(secs(10));
        let pulls = world.take(&["pull"]);
        assert!(pulls[0].ends_with(&format!("as {user}")), "{answer:?}: {pulls:?}");
    }
}

#[test]
fn offline_the_pull_goes_without_asking() {
    let mut world = World::running();
    world.leave();
    world.settle();
    world.engine.images.clear();
    world.exits(1, 1);
    world.pass(secs(10));
    assert!(world.engine.is_running(&container(1)), "{:?}", world.trace);
    assert_eq!(world.take(&["call token"]).len(), 0);
}
