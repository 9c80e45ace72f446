//! Requests as callers and the backend send them.

use super::*;
use serde_json::json;

fn kwargs(extra: Value) -> Map<String, Value> {
    let mut map = json!({"app_key": 7, "app_name": "Demo", "stage": "PROD", "target_state": "RUNNING"})
        .as_object()
        .cloned()
        .unwrap();
    for (key, value) in extra.as_object().unwrap() {
        map.insert(key.clone(), value.clone());
    }
    map
}

#[test]
fn a_request_of_the_backend_is_read_in_full() {
    let request = Request::from_kwargs(&kwargs(json!({
        "current_state": "UNINSTALLED", "requestor_account_key": "42", "device_owner_account_key": 43, "release_key": "100",
        "new_release_key": 101, "version": "1.0.0", "newest_version": "1.1.0", "present_version": "1.0.0", "request_update": true,
        "environment": {"A": {"value": 1}}, "environment_template": {}, "ports": [{"port": 80}], "instance_key": "oops",
        "app_cred_epoch": "3", "docker_credentials": {"r": {"username": "u", "password": "p"}}, "unknown": [1]
    })))
    .unwrap();
    assert_eq!(request.id(), AppKey { key: 7, stage: Stage::Prod });
    assert_eq!((request.requestor_account_key, request.device_owner_account_key), (42, 43));
    assert_eq!(
        (request.release_key, request.new_release_key, request.app_cred_epoch, request.instance_key),
        (100, 101, 3, 0)
    );
    assert_eq!(request.current_state, Some(AppState::Uninstalled));
    assert_eq!(request.token_account(), 43);
    assert!(request.wants_update_from("1.0.0") && !request.wants_update_from("1.1.0") && !request.is_compose());
}

#[test]
fn fallback_keys_serve_where_the_first_is_empty() {
    let request = Request::from_kwargs(&kwargs(json!({
        "target_state": "", "manually_requested_state": "PRESENT", "current_state": null, "state": "RUNNING",
        "requestor_account_key": 0, "account_id": 9
    })))
    .unwrap();
    assert_eq!((request.requested_state, request.current_state), (AppState::Present, Some(AppState::Running)));
    assert_eq!(request.token_account(), 9);
}

#[test]
fn the_first_fault_is_named() {
    for (fault, text) in [
        (json!({"app_key": "x"}), "failed to parse app_key"),
        (json!({"app_key": -1}), "failed to parse app_key"),
        (json!({"app_key": null}), "missing from payload app_key"),
        (json!({"app_name": ""}), "failed to parse appName"),
        (json!({"stage": ""}), "missing from payload stage"),
        (json!({"stage": "BETA"}), "failed to parse stage"),
        (json!({"target_state": 5}), "failed to parse requestedState"),
        (json!({"target_state": "FLYING"}), "failed to parse requestedState"),
        (json!({"target_state": null}), "missing from payload requestedState"),
        (json!({"current_state": 1}), "failed to parse currentState"),
        (json!({"state": 1}), "failed to parse currentState2"),
        (json!({"requestor_account_key": -4}), "failed to parse requestorAccountKey"),
        (json!({"requestor_account_key": "-4"}), "requestor_account_key: \"-4\" is not a number"),
        (json!({"account_id": []}), "failed to parse requestorAccountKey2"),
        (json!({"device_owner_account_key": true}), "failed to parse deviceOwnerAccountKey"),
        (json!({"release_key": 1.5}), "failed to parse releaseKeyString"),
        (json!({"new_release_key": "5"}), "failed to parse newReleaseKey"),
        (json!({"version": 1}), "failed to parse version"),
        (json!({"request_update": "yes"}), "failed to parse requestUpdate"),
        (json!({"cancel_transition": 1}), "failed to parse cancelTransition"),
        (json!({"environment": []}), "failed to parse environment"),
        (json!({"environment_template": 1}), "failed to parse environment template"),
        (json!({"ports": {}}), "failed to parse ports"),
        (json!({"docker_compose": []}), "failed to parse docker compose"),
        (json!({"new_docker_compose": 1}), "failed to parse new docker compose"),
        (json!({"docker_credentials": {"r": {"username": "u"}}}), "failed to parse docker credentials"),
    ] {
        assert_eq!(Request::from_kwargs(&kwargs(fault.clone())).unwrap_err(), text, "{fault}");
    }
    assert_eq!(Request::from_kwargs(&Map::new()).unwrap_err(), "missing from payload app_key");
}

#[test]
fn an_entry_of_the_list_is_read_leniently_but_needs_an_identity() {
    let entry = json!({"app_key": 5.0, "app_name": "Demo", "stage": "PROD", "target_state": "RUNNING", "release_key": "100", "environment": null,
        "ports": [{"port": 8080.0}], "present_version": "1.0.0", "newest_version": 7, "request_update": "no", "description": "x"});
    let request = Request::from_sync(&entry).unwrap();
    assert_eq!(
        (request.app_key, request.release_key, request.version.as_str(), request.newest_version.as_str()),
        (5, 100, "1.0.0", "")
    );
    assert!(!request.request_update && request.environment.is_empty() && request.ports.len() == 1);
    for broken in [
        json!(null),
        json!("x"),
        json!({}),
        json!({"app_key": 0, "app_name": "a", "stage": "PROD", "target_state": "RUNNING"}),
        json!({"app_key": 1, "app_name": "", "stage": "PROD", "target_state": "RUNNING"}),
        json!({"app_key": 1, "app_name": "a", "stage": "prod", "target_state": "RUNNING"}),
        json!({"app_key": 1, "app_name": "a", "stage": "PROD", "target_state": ""}),
    ] {
        assert!(Request::from_sync(&broken).is_err(), "{broken}");
    }
}
