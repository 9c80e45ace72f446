//! Calls of the agent's procedures: privileges, who calls, odd arguments (wire chapter 3.3, 3.4, 4; P2).

use super::super::job::{JobSpec, Query};
use super::super::testing::*;
use crate::rpc::PROCEDURES;
use serde_json::{Map, Value, json};

fn call(
    world: &mut World,
    name: &str,
    caller: Option<&str>,
    args: Value,
) -> Result<(Vec<Value>, Map<String, Value>), String> {
    let number = world.invoke(name, caller, args.as_array().cloned().unwrap_or_default(), Map::new());
    world.settle();
    world.answer_to(number).cloned().unwrap_or_else(|| panic!("{name} has no answer"))
}

#[test]
fn who_may_is_let_through_and_who_may_not_leaves_no_trace() {
    let mut world = World::connected();
    assert!(call(&mut world, "get_images", Some("77"), json!([])).is_ok());
    assert_eq!(world.take(&["call privilege"]), ["call privilege READ 77"]);
    assert!(call(&mut world, "prune_images", Some("77"), json!([])).is_ok());
    assert_eq!(world.take(&["call privilege"]), ["call privilege MAINTAIN 77"]);
    assert!(call(&mut world, "get_images", Some("system"), json!([])).is_ok());
    assert_eq!(world.take(&["call privilege"]), [] as [&str; 0]);

    world.backend.answers.insert("privilege", Some(Ok(vec![json!(false)])));
    world.holds = |spec| matches!(spec, JobSpec::Query(_));
    for row in PROCEDURES.iter().filter(|row| row.privilege.is_some()) {
        let error = call(&mut world, row.name, Some("77"), json!([{"containerName": "prod_1_demo"}])).unwrap_err();
        assert!(error.starts_with("insufficient privileges"), "{}: {error}", row.name);
    }
    assert!(world.jobs.is_empty() && !world.trace.iter().any(|line| line.starts_with("log ")));
}

#[test]
fn a_check_that_failed_is_not_a_denial() {
    for answer in [refusal(), transport(), Ok(vec![]), Ok(vec![json!("yes")]), Ok(vec![json!(1)])] {
        let mut world = World::connected();
        world.backend.answers.insert("privilege", Some(answer.clone()));
        let error = call(&mut world, "get_images", Some("77"), json!([])).unwrap_err();
        assert!(error.starts_with("privilege check") && !error.contains("insufficient"), "{answer:?}: {error}");
    }
    for caller in [None, Some("2-3"), Some("s-1"), Some("")] {
        let mut world = World::connected();
        let error = call(&mut world, "get_images", caller, json!([])).unwrap_err();
        assert!(error.starts_with("privilege check"), "{caller:?}: {error}");
        assert_eq!(world.take(&["call privilege"]), [] as [&str; 0]);
    }
}

#[test]
fn the_backend_acts_for_whom_it_names() {
    let mut world = World::connected();
    assert!(call(&mut world, "get_images", Some("system"), json!([{"requestor_account_key": "7"}])).is_ok());
    assert_eq!(world.take(&["call privilege"]), ["call privilege READ 7"]);
    let error = call(&mut world, "get_images", Some("system"), json!([{"requestor_account_key": "x"}])).unwrap_err();
    assert!(error.contains("invalid requestor"));
    let number = world.invoke("get_images", Some("12"), vec![], object(json!({"requestor_account_key": 42})));
    world.settle();
    assert!(world.answer_to(number).is_some_and(Result::is_ok));
    assert_eq!(world.take(&["call privilege"]), ["call privilege READ 12"]);
}

#[test]
fn a_request_names_the_fault_in_its_arguments_and_does_nothing() {
    let mut world = World::connected();
    for (kwargs, text) in [
        (json!({}), "missing from payload app_key"),
        (json!({"requestor_account_key": "x"}), "missing from payload app_key"),
        (
            json!({"app_key": 1, "app_name": "D", "stage": "PROD", "target_state": "RUNNING", "requestor_account_key": []}),
            "failed to parse requestorAccountKey",
        ),
        (json!({"app_key": 1, "app_name": "D", "stage": "prod", "target_state": "RUNNING"}), "failed to parse stage"),
        (
            json!({"app_key": 1, "app_name": "D", "stage": "PROD", "target_state": "FLYING"}),
            "failed to parse requestedState",
        ),
    ] {
        let number = world.invoke("request_app_state", Some("system"), vec![], object(kwargs.clone()));
        world.settle();
        assert_eq!(world.answer_to(number), Some(&Err(text.to_owned())), "{kwargs}");
    }
    assert!(world.state.apps.is_empty() && world.tables.requests.is_empty());
}

#[test]
fn p2_every_procedure_answers_whatever_it_is_called_with() {
    for row in PROCEDURES {
        for args in [
            json!([]),
            json!([null]),
            json!([5, "x"]),
            json!(["text"]),
            json!([[]]),
            json!([{}]),
            json!([{"containerName": "prod_1_demo", "all": true}]),
            json!([{"containerName": 5, "all": "x"}]),
        ] {
            let mut world = World::running();
            let number = world.invoke(
                row.name,
                Some("system"),
                args.as_array().cloned().unwrap_or_default(),
                object(json!({"app_key": []})),
            );
            world.settle();
            if let Some(history) = world.trace.iter().find(|line| line.contains("History {")) {
                assert!(history.contains("prod_1_demo"), "{history}");
                continue;
            }
            assert!(world.answer_to(number).is_some(), "{} {args}", row.name);
        }
    }
}

#[test]
fn an_unknown_procedure_is_refused_and_a_flood_of_calls_is_bounded() {
    let mut world = World::connected();
    assert!(call(&mut world, "perform_os_update", Some("system"), json!([])).is_err());
    world.backend.answers.insert("privilege", None);
    for _ in 0..300 {
        world.invoke("get_images", Some("7"), vec![], Map::new());
    }
    world.settle();
    let refused =
        world.answers.iter().filter(|(_, answer)| answer.as_ref().is_err_and(|text| text.contains("waiting"))).count();
    assert_eq!(refused, 44);
    let number = world.request(1, "RUNNING", json!({}));
    world.settle();
    assert!(world.answer_to(number).is_some_and(Result::is_ok), "what need not wait is not kept out");
    world.join();
    world.backend.answers.clear();
    world.settle();
    assert!(call(&mut world, "get_images", Some("7"), json!([])).is_ok(), "a lost session clears them");
}

#[test]
fn a_refusal_does_not_repeat_all_that_the_caller_sent() {
    let mut world = World::connected();
    let name = "ü".repeat(1 << 20);
    let told = call(&mut world, "get_app_log_history", Some("system"), json!([{"containerName": name}])).unwrap_err();
    assert!(told.starts_with("\"ü") && told.len() <= 4096, "{} bytes", told.len());
    assert!(world.notes.iter().all(|(_, text)| text.len() < 5000));
}

#[test]
fn a_call_that_was_given_up_gets_no_answer() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Query(_));
    let number = world.invoke("get_images", Some("system"), vec![], Map::new());
    world.settle();
    let generation = world.generation.unwrap();
    world.step(super::super::message::Event::Interrupted { generation, request: number });
    world.holds = |_| false;
    world.settle();
    assert_eq!(world.answer_to(number), None);
}

#[test]
fn a_handshake_tells_time_and_serial_number() {
    let mut world = World::connected();
    let (_, kwargs) = call(&mut world, "device_handshake", None, json!([])).unwrap();
    assert_eq!((&kwargs["id"], &kwargs["utp"]), (&json!("s-1"), &json!("2023-11-14T22:13:20Z")));
}

#[test]
fn a_history_without_lines_of_the_container_is_filled_up_by_the_engine() {
    use super::super::message::{Event, LogEvent};
    let mut world = World::running();
    world.holds = |spec| matches!(spec, JobSpec::Query(_));
    let number =
        world.invoke("get_app_log_history", Some("system"), vec![json!({"containerName": "prod_1_demo"})], Map::new());
    world.settle();
    let token =
        world.trace.iter().find_map(|line| line.split("token: ").nth(1)?.split(' ').next()?.parse().ok()).unwrap();
    let history = |only_agent| {
        Event::Logs(LogEvent::History { token, container: container(1), lines: vec!["said".to_owned()], only_agent })
    };
    world.step(history(true));
    assert!(world.jobs.values().any(|spec| matches!(spec, JobSpec::Query(_))));
    world.holds = |_| false;
    world.settle();
    assert!(world.answer_to(number).is_some_and(Result::is_ok));
}

#[test]
fn a_history_without_lines_is_filled_up_from_the_project_of_a_compose_app_and_from_nothing_for_a_release() {
    use super::super::message::{Event, LogEvent};
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Query(_));
    world.request(1, "PRESENT", json!({"docker_compose": {"services": {}}}));
    world.settle();
    for (container, expected) in [("prod_1_demo", Some("prod_1_demo_compose")), ("pub_1_demo", None)] {
        world.trace.clear();
        world.invoke("get_app_log_history", Some("system"), vec![json!({"containerName": container})], Map::new());
        world.settle();
        let token = world.trace.iter().find_map(|line| line.split("token: ").nth(1)?.split(' ').next()?.parse().ok());
        let (token, container) = (token.expect("the hub is asked"), container.to_owned());
        let history = LogEvent::History { token, container: container.clone(), lines: Vec::new(), only_agent: true };
        world.step(Event::Logs(history));
        let project = expected.map(str::to_owned);
        let asked = JobSpec::Query(Query::Tail { container, project, history: Vec::new() });
        assert!(world.jobs.values().any(|spec| *spec == asked), "no {asked:?} in {:?}", world.jobs);
    }
}

#[test]
fn x1_no_note_holds_a_secret_or_a_value_of_the_environment() {
    let mut world = World::connected();
    world.request(1, "RUNNING", json!({"environment": {"A": {"value": "top-secret-value"}, "APP_AUTH_ID": {"value": "top-secret-value"}, "B": "top-secret-value"}}));
    world.settle();
    world.exits(1, 1);
    world.pass(secs(10));
    let all = format!(
        "{:?} {:?}",
        world.notes,
        world.trace.iter().filter(|line| line.starts_with("say")).collect::<Vec<_>>()
    );
    for secret in ["top-secret-value", "device-secret", "cred-key", "registry-token"] {
        assert!(!all.contains(secret), "{secret}");
    }
    let jobs = format!("{:?}", world.state);
    assert!(!jobs.contains("device-secret") && !jobs.contains("cred-key"));
}
