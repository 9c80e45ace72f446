//! Decision 21: what the backend's list may delete, and what it never may (S6, X4).

use super::{Device, LIMIT, app};
use crate::cloud::backend::Answer;
use crate::util::wait_until;
use serde_json::{Value, json};

/// Two running apps; returns their container ids.
#[track_caller]
fn two_apps() -> (Device, Vec<Option<String>>) {
    let device = Device::online();
    device.install(&app(501, "one"));
    device.install(&app(502, "two"));
    let ids = ids(&device);
    (device, ids)
}

fn ids(device: &Device) -> Vec<Option<String>> {
    ["prod_501_one", "prod_502_two"].map(|name| device.container_id(name)).to_vec()
}

#[test]
fn s6_an_answer_that_is_no_whole_list_deletes_nothing() {
    let (mut device, before) = two_apps();
    let entry = device.cloud.backend.platform(|platform| {
        let identity = platform.identity.clone();
        platform.apps[0].sync_entry(&identity)
    });
    let mut broken = entry.clone();
    broken["app_key"] = json!("not a number");
    let answers: Vec<Answer> = [
        vec![],
        vec![Value::Null],
        vec![json!({})],
        vec![json!("no apps")],
        vec![json!(7)],
        vec![json!([])],
        vec![json!([entry, broken])],
        vec![json!([entry, null])],
        vec![json!([7])],
    ]
    .into_iter()
    .map(Answer::Args)
    .chain([Answer::Error("wamp.error.runtime_error".to_owned(), vec![])])
    .collect();
    for answer in answers {
        device.agent.kill9();
        device.cloud.backend.answer("get_requested_app_states", answer.clone());
        device.connect();
        assert_eq!(ids(&device), before, "{answer:?}");
        assert_eq!(device.recorded(), ["501:RUNNING", "502:RUNNING"], "{answer:?}");
        assert_eq!(
            device.rows("SELECT app_key FROM RequestedAppStates ORDER BY app_key"),
            ["501", "502"],
            "{answer:?}"
        );
    }
    device.cloud.backend.answer("get_requested_app_states", Answer::Usual);
    let removals = device.engine.requests().into_iter().filter(|asked| asked.method == "DELETE").count();
    assert_eq!(removals, 0, "no deletion was even tried");
}

#[test]
fn an_app_that_the_list_really_lacks_is_removed_and_its_data_stays() {
    let (mut device, before) = two_apps();
    device.install(&app(503, "three"));
    let data = device.agent.apps_dir().join("prod/three");
    assert!(data.is_dir());
    device.agent.kill9();
    device.cloud.backend.platform(|platform| platform.apps.retain(|app| app.app_key != 503));
    device.connect();
    device.engine.wait_for_status("prod_503_three", "absent");
    assert_eq!(ids(&device), before);
    wait_until(LIMIT, "its rows go", || (device.recorded() == ["501:RUNNING", "502:RUNNING"]).then_some(()));
    assert!(data.is_dir(), "its data stays");
    assert!(device.agent.log().contains("503"), "a deletion is in the log");
}

#[test]
fn s6_containers_of_others_are_left_alone_and_an_own_orphan_goes() {
    let (mut device, _) = two_apps();
    device.agent.kill9();
    device.engine.add_container("prod_9_foreign", &json!({"Image": "alpine", "Labels": {}}));
    device.engine.add_container("postgres", &json!({"Image": "alpine", "Labels": {"real": "True"}}));
    device.engine.add_container("prod_9_orphan", &json!({"Image": "alpine", "Labels": {"real": "True"}}));
    device.connect();
    device.engine.wait_for_status("prod_9_orphan", "absent");
    let left: Vec<String> = device.engine.containers().into_keys().collect();
    assert_eq!(left, ["postgres", "prod_501_one", "prod_502_two", "prod_9_foreign"]);
}

#[test]
fn s6_with_an_empty_database_nothing_is_swept() {
    let mut device = Device::prepare();
    device.engine.add_container("prod_9_orphan", &json!({"Image": "alpine", "Labels": {"real": "True"}}));
    device.connect();
    device.install(&app(501, "one"));
    assert!(device.engine.containers().contains_key("prod_9_orphan"));
}

#[test]
fn a_list_is_taken_while_an_older_agent_wrote_odd_rows() {
    let (mut device, before) = two_apps();
    device.agent.terminate(LIMIT);
    let conn = rusqlite::Connection::open(device.agent.agent_dir().join("reagent.db")).unwrap();
    conn.execute("UPDATE RequestedAppStates SET ports = 'null', environment_variables = '{' WHERE app_key = 502", [])
        .unwrap();
    conn.close().unwrap();
    device.connect();
    assert_eq!(ids(&device), before);
    assert_eq!(device.recorded(), ["501:RUNNING", "502:RUNNING"]);
}
