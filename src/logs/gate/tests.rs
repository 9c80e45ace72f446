//! Listeners: match answers, meta events in every order, patterns.

use super::*;
use serde_json::json;

const APP: &str = "prod_6_app";

fn list(value: Value) -> Vec<Value> {
    value.as_array().unwrap().clone()
}

fn on_create(id: u64, uri: &str, how: &str) -> Vec<Value> {
    list(json!([7, {"id": id, "created": "2026-08-04T09:05:00.000Z", "uri": uri, "match": how}]))
}

fn on_delete(id: u64) -> Vec<Value> {
    list(json!([7, id]))
}

/// A session, and one container that nobody listens to.
fn gate() -> Gate {
    let mut gate = Gate::new("a.b-1");
    gate.session(true);
    assert!(gate.add(APP));
    gate
}

fn listens(gate: &Gate) -> bool {
    gate.listeners(APP) == Listeners::Some
}

fn answered(answer: Result<Value, &str>) -> bool {
    let mut gate = gate();
    assert!(gate.ask(APP));
    assert_eq!(gate.listeners(APP), Listeners::Unknown);
    let answer = answer.map(list);
    gate.answer(APP, answer.as_deref().map_err(|error| *error));
    assert_ne!(gate.listeners(APP), Listeners::Unknown);
    listens(&gate)
}

#[test]
fn match_answers_are_on_off_off_off_on() {
    assert!(answered(Ok(json!([[987_654]]))));
    assert!(!answered(Ok(json!([[]]))));
    assert!(!answered(Ok(json!([null]))));
    assert!(!answered(Ok(json!([]))));
    assert!(answered(Ok(json!([987_654]))));
}

#[test]
fn d6_ids_are_integers_however_they_are_written() {
    for id in [json!(5), json!(5.0), json!("5")] {
        let mut gate = gate();
        gate.ask(APP);
        gate.answer(APP, Ok(&[json!([id])]));
        assert!(listens(&gate), "{id}");
        gate.deleted(&on_delete(5));
        assert!(!listens(&gate), "{id}");
    }
    for none in [json!(0), json!(-5), json!(5.5), json!(1e300), json!("x"), json!(""), json!({}), json!(true)] {
        assert!(!answered(Ok(json!([[none]]))), "{none}");
        assert!(!answered(Ok(json!([none]))), "{none}");
    }
    assert!(!answered(Err("no router")));
}

#[test]
fn subscriptions_count_by_exact_prefix_and_wildcard_match() {
    let uris = [
        ("reswarm.logs.a.b-1.prod_6_app", "exact", true),
        ("reswarm.logs.a.b-1.prod_6_app2", "exact", false),
        ("reswarm.logs.a.b-1.prod_6_ap", "exact", false),
        ("reswarm.logs.a.b-1.", "exact", false),
        ("reswarm.logs.a.b-2.prod_6_app", "exact", false),
        ("reswarm.logs.", "prefix", true),
        ("reswarm.logs.a.b-1.prod_", "prefix", true),
        ("reswarm.logs.a.b-1.dev_", "prefix", false),
        ("reswarm.logs.a.b-2", "prefix", false),
        ("", "prefix", true),
        ("reswarm.logs.a.b-1.", "wildcard", true),
        ("reswarm.logs...prod_6_app", "wildcard", true),
        ("reswarm.logs..", "wildcard", false),
        ("reswarm.logs...dev_6_app", "wildcard", false),
        ("....", "wildcard", true),
    ];
    for (uri, how, on) in uris {
        let mut known = gate();
        known.created(&on_create(3, uri, how));
        assert_eq!(listens(&known), on, "{how} {uri:?} for a known container");
        let mut later = Gate::new("a.b-1");
        later.session(true);
        later.created(&on_create(3, uri, how));
        later.add(APP);
        assert_eq!(listens(&later), on, "{how} {uri:?} for a container that comes later");
        later.deleted(&on_delete(3));
        assert!(!listens(&later), "{how} {uri:?} after it left");
    }
}

#[test]
fn an_exact_subscription_names_its_container_also_if_it_is_not_known() {
    let mut gate = gate();
    assert_eq!(gate.created(&on_create(3, "reswarm.logs.a.b-1.prod_7_my.app", "exact")), ["prod_7_my.app"]);
    assert_eq!(gate.created(&on_create(4, "reswarm.logs.", "prefix")), [APP]);
    assert_eq!(gate.created(&on_create(5, "reswarm.logs.other.prod_7_x", "exact")), Vec::<String>::new());
}

#[test]
fn d4_a_page_reload_leaves_publishing_on_in_either_order() {
    let uri = "reswarm.logs.a.b-1.prod_6_app";
    let mut new_first = gate();
    new_first.created(&on_create(1, uri, "exact"));
    new_first.created(&on_create(2, uri, "exact"));
    new_first.deleted(&on_delete(1));
    assert!(listens(&new_first));
    let mut old_first = gate();
    old_first.created(&on_create(1, uri, "exact"));
    old_first.deleted(&on_delete(1));
    old_first.created(&on_create(2, uri, "exact"));
    assert!(listens(&old_first));
}

#[test]
fn an_exact_unsubscribe_leaves_a_prefix_subscriber() {
    let mut gate = gate();
    gate.ask(APP);
    gate.answer(APP, Ok(&[json!([1, 2])]));
    gate.deleted(&on_delete(1));
    assert!(listens(&gate));
    gate.deleted(&on_delete(9));
    assert!(listens(&gate));
    gate.deleted(&on_delete(2));
    assert!(!listens(&gate));
}

#[test]
fn d4_events_while_the_answer_is_under_way_win_over_it() {
    let uri = "reswarm.logs.a.b-1.prod_6_app";
    let mut left = gate();
    left.ask(APP);
    left.deleted(&on_delete(1));
    left.answer(APP, Ok(&[json!([1])]));
    assert!(!listens(&left), "the answer was made before it left");

    let mut came = gate();
    came.ask(APP);
    came.created(&on_create(2, uri, "exact"));
    assert!(listens(&came), "no answer is needed to know");
    came.answer(APP, Ok(&[json!([])]));
    assert!(listens(&came));

    let mut came_and_left = gate();
    came_and_left.ask(APP);
    came_and_left.created(&on_create(2, uri, "exact"));
    came_and_left.deleted(&on_delete(2));
    came_and_left.answer(APP, Ok(&[json!([2])]));
    assert!(!listens(&came_and_left));

    let mut failed = gate();
    failed.ask(APP);
    failed.created(&on_create(2, uri, "exact"));
    failed.answer(APP, Err("timeout"));
    assert!(listens(&failed));
}

#[test]
fn an_answer_replaces_what_an_earlier_one_said() {
    let mut gate = gate();
    for (answer, on) in [(json!([[1]]), true), (json!([[]]), false), (json!([[2]]), true)] {
        assert!(gate.ask(APP));
        gate.answer(APP, Ok(&list(answer)));
        assert_eq!(listens(&gate), on);
    }
}

#[test]
fn c6_a_lost_session_voids_all_ids_and_answers() {
    let mut gate = gate();
    gate.created(&on_create(1, "reswarm.logs.", "prefix"));
    assert!(gate.ask(APP));
    gate.session(false);
    assert_eq!(gate.listeners(APP), Listeners::None);
    gate.answer(APP, Ok(&[json!([1])]));
    assert!(!listens(&gate), "an answer of the lost session");
    assert!(!gate.ask(APP), "nobody to ask");
    gate.created(&on_create(1, "reswarm.logs.", "prefix"));
    assert!(!listens(&gate), "an event of the lost session");
    gate.session(true);
    assert!(!listens(&gate));
    gate.add("prod_7_new");
    assert_eq!(gate.listeners("prod_7_new"), Listeners::None, "old patterns are gone too");
    assert!(gate.ask(APP));
}

#[test]
fn p2_malformed_events_are_ignored() {
    let mut gate = gate();
    let uri = "reswarm.logs.a.b-1.prod_6_app";
    for args in [
        json!([]),
        json!([1]),
        json!([1, null]),
        json!([1, []]),
        json!([1, {}]),
        json!([1, {"id": 5}]),
        json!([1, {"uri": uri}]),
        json!([1, {"id": [], "uri": uri}]),
        json!([1, {"id": 5, "uri": 7}]),
        json!([1, {"id": 5, "uri": "x".repeat(100_000), "match": "prefix"}]),
        json!([{"id": 5, "uri": uri}]),
    ] {
        assert_eq!(gate.created(&list(args.clone())), Vec::<String>::new(), "{args}");
        gate.deleted(&list(args));
    }
    assert!(!listens(&gate));
    gate.created(&list(json!([1, {"id": 5, "uri": uri}])));
    assert!(listens(&gate), "without a match policy it is exact");
}

#[test]
fn what_comes_from_the_wire_is_bounded() {
    let mut gate = gate();
    gate.ask(APP);
    for id in 1..=5000 {
        gate.created(&on_create(id, "reswarm.logs.", "prefix"));
        gate.deleted(&on_delete(1_000_000 + id));
    }
    let answer: Vec<u64> = (1..=5000).collect();
    gate.answer(APP, Ok(&[json!(answer)]));
    assert!(gate.patterns.len() <= MOST);
    assert!(gate.containers[APP].ids.len() <= MOST);
}

#[test]
fn what_is_no_topic_has_no_listeners_whoever_listens_to_a_prefix() {
    let mut gate = gate();
    gate.created(&on_create(1, "reswarm.logs.", "prefix"));
    assert!(listens(&gate));
    for odd in ["prod_6_two words", "prod_6_a#b", "prod_6_a..b", "prod_6_a.", "prod_6_a\tb", "prod_6_a\u{a0}b"] {
        gate.add(odd);
        assert_eq!(gate.listeners(odd), Listeners::None, "{odd:?}");
        assert!(!gate.ask(odd), "{odd:?}");
    }
    for fine in ["prod_6_my.app", "prod_6_\u{fc}ber", "prod_6_-a\"b$%/"] {
        gate.add(fine);
        assert_eq!(gate.listeners(fine), Listeners::Some, "{fine:?}");
    }
}
