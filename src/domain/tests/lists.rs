//! The backend's list and what it may delete (apps chapter 5.5 a, decisions 7 and 21; S6, X4).

use super::super::app::AppState;
use super::super::testing::*;
use serde_json::json;

/// Apps 1 to 4 run, and a container of nobody is there.
fn four() -> World {
    let mut world = World::connected();
    for key in 1..=4 {
        world.request(key, "RUNNING", json!({}));
    }
    world.settle();
    let mut ghost = world.engine.containers[&container(1)].clone();
    (ghost.name, ghost.id) = ("prod_99_ghost".to_owned(), "ghost".to_owned());
    world.engine.containers.insert(ghost.name.clone(), ghost);
    world.trace.clear();
    world
}

fn running(world: &World) -> Vec<u64> {
    (1..=4).filter(|key| world.engine.is_running(&container(*key))).collect()
}

fn ghost(world: &World) -> bool {
    world.engine.containers.contains_key("prod_99_ghost")
}

#[test]
fn an_app_that_the_list_lacks_goes_without_a_report_and_keeps_its_data() {
    let mut world = four();
    world.backend.wanted.remove(&prod(4));
    world.join();
    world.settle();
    assert_eq!(running(&world), [1, 2, 3]);
    assert!(!world.tables.apps.contains_key(&prod(4)) && !world.tables.requests.contains_key(&prod(4)));
    assert!(!world.reports().iter().any(|line| line.starts_with("4 ")), "{:?}", world.reports());
    assert!(world.engine.folders.contains("Demo") && !ghost(&world));
    assert!(world.noted("unknown to the backend"));
}

#[test]
fn x4_an_answer_that_is_no_list_changes_nothing_ever() {
    for answer in [
        Ok(vec![]),
        Ok(vec![json!(null)]),
        Ok(vec![json!({})]),
        Ok(vec![json!("no apps")]),
        Ok(vec![json!(5)]),
        refusal(),
        transport(),
    ] {
        let mut world = four();
        world.backend.list = Some(answer.clone());
        world.join();
        world.pass(secs(600));
        assert_eq!(running(&world), [1, 2, 3, 4], "{answer:?}");
        assert!(ghost(&world), "no sweep while it is not known what is wanted: {answer:?}");
        assert!(world.trace.contains(&"call status CONNECTED".to_owned()));
    }
}

#[test]
fn s6_an_empty_list_deletes_only_what_a_second_one_thirty_seconds_later_lacks_too() {
    let mut world = four();
    world.backend.list = Some(Ok(vec![json!([])]));
    world.join();
    world.pass(secs(29));
    assert_eq!(running(&world), [1, 2, 3, 4]);
    assert!(ghost(&world) && world.trace.contains(&"call status CONNECTED".to_owned()), "it holds up nothing else");
    world.pass(secs(2));
    assert_eq!(running(&world), [] as [u64; 0]);
    assert!(world.tables.apps.is_empty());
}

#[test]
fn s6_a_shrunken_list_needs_a_second_one_and_what_that_knows_stays() {
    let mut world = four();
    let all = world.backend.wanted.clone();
    world.backend.wanted.retain(|id, _| id.key == 1);
    world.join();
    world.settle();
    assert_eq!(running(&world), [1, 2, 3, 4]);
    assert!(ghost(&world));
    world.backend.wanted = all;
    world.backend.wanted.remove(&prod(4));
    world.pass(secs(31));
    assert_eq!(running(&world), [1, 2, 3]);
    assert!(!ghost(&world), "the sweep follows the second list");
}

#[test]
fn s6_two_of_four_are_no_majority_and_removed_apps_do_not_count() {
    let mut world = four();
    world.backend.wanted.retain(|id, _| id.key > 2);
    world.join();
    world.settle();
    assert_eq!(running(&world), [3, 4]);
}

#[test]
fn s6_a_second_list_that_fails_is_asked_for_again() {
    let mut world = four();
    world.backend.list = Some(Ok(vec![json!([])]));
    world.join();
    world.settle();
    world.backend.list = Some(refusal());
    world.pass(secs(31));
    assert_eq!(running(&world), [1, 2, 3, 4]);
    world.backend.list = Some(Ok(vec![json!([])]));
    world.pass(secs(31));
    assert_eq!(running(&world), [] as [u64; 0]);
}

#[test]
fn s6_a_lost_session_between_the_two_lists_begins_the_count_anew() {
    let mut world = four();
    world.backend.list = Some(Ok(vec![json!([])]));
    world.join();
    world.pass(secs(20));
    world.leave();
    world.pass(secs(300));
    assert_eq!(running(&world), [1, 2, 3, 4]);
    world.join();
    world.pass(secs(20));
    assert_eq!(running(&world), [1, 2, 3, 4]);
    world.pass(secs(11));
    assert_eq!(running(&world), [] as [u64; 0]);
}

#[test]
fn s6_a_list_with_a_broken_entry_stores_the_good_ones_and_deletes_nothing() {
    let mut world = four();
    world.backend.wanted.get_mut(&prod(1)).unwrap().insert("target_state".to_owned(), json!("PRESENT"));
    let mut list: Vec<_> = world.backend.wanted.values().take(3).cloned().map(serde_json::Value::Object).collect();
    list.push(json!({"app_key": 0, "app_name": "x", "stage": "PROD", "target_state": "RUNNING"}));
    world.backend.list = Some(Ok(vec![json!(list)]));
    world.join();
    world.pass(secs(600));
    assert_eq!(running(&world), [2, 3, 4]);
    assert_eq!(world.tables.apps[&prod(1)].state, AppState::Present);
    assert!(ghost(&world));
}

#[test]
fn s6_the_first_list_after_a_lost_database_is_not_believed_if_it_is_empty() {
    let mut world = four();
    world.tables = Default::default();
    world.backend.list = Some(Ok(vec![json!([])]));
    world.crash();
    world.join();
    world.pass(secs(600));
    assert_eq!(running(&world), [1, 2, 3, 4], "nothing local to compare with: nothing is swept");
}

#[test]
fn dev_entries_count_as_known_and_are_never_driven() {
    let mut world = World::connected();
    world.request(7, "RUNNING", json!({"stage": "DEV"}));
    world.settle();
    assert_eq!(world.reports(), ["7 STARTING", "7 FAILED"]);
    world.trace.clear();
    world.join();
    world.settle();
    assert_eq!(world.tables.apps.len(), 1);
    assert!(!world.trace.iter().any(|line| line.starts_with("say")));
}

#[test]
fn an_app_that_is_busy_when_the_list_lacks_it_goes_when_that_has_ended() {
    let mut world = four();
    world.holds = |spec| matches!(spec, super::super::job::JobSpec::Stop { .. });
    world.request(4, "PRESENT", json!({}));
    world.settle();
    world.backend.wanted.remove(&prod(4));
    world.join();
    world.settle();
    world.holds = |_| false;
    world.settle();
    assert_eq!(running(&world), [1, 2, 3]);
    assert!(!world.tables.apps.contains_key(&prod(4)));
}

#[test]
fn the_epoch_follows_the_backend_and_survives_a_start() {
    let mut world = World::connected();
    let epoch = |world: &World| world.tables.requests[&prod(1)].app_cred_epoch;
    world.request(1, "RUNNING", json!({"app_cred_epoch": 3}));
    world.settle();
    world.request(1, "RUNNING", json!({"app_cred_epoch": 0}));
    world.settle();
    assert_eq!(epoch(&world), 3, "absent: the stored one");
    world.crash();
    world.settle();
    assert_eq!(world.state.apps[&prod(1)].request.as_ref().map(|request| request.app_cred_epoch), Some(3));
    world.join();
    world.settle();
    world.request(1, "RUNNING", json!({"app_cred_epoch": 2}));
    world.settle();
    assert_eq!(epoch(&world), 2);
    assert!(world.noted("older credential epoch"));
}
