//! Reading: one bad row costs itself, absent is not empty, and of two rows of one app the newer counts.

use super::field::PRESENT_DAY;
use super::*;

/// A field file with ten apps, changed by `sql`, opened.
fn changed(sql: &str) -> (Folder, Store) {
    let folder = Folder::new();
    let conn = PRESENT_DAY.create_with_data(&folder.db());
    conn.execute_batch(sql).unwrap();
    conn.close().unwrap();
    let store = open(&folder.db());
    (folder, store)
}

#[test]
fn null_counts_as_empty() {
    let (_folder, mut store) = changed(
        "UPDATE RequestedAppStates SET version = NULL, present_version = NULL, newest_version = NULL,
             environment_variables = NULL, environment_template = NULL, ports = NULL, docker_compose = NULL,
             new_docker_compose = NULL",
    );
    let loaded = store.load().unwrap();
    assert_eq!((loaded.requested.len(), loaded.skipped.len()), (10, 0));
    let row = &loaded.requested[0];
    assert_eq!([&row.version, &row.present_version, &row.newest_version], ["", "", ""]);
    assert_eq!((&row.environment_variables, &row.ports, &row.docker_compose), (&None, &None, &None));
}

#[test]
fn only_a_stored_object_makes_an_app_a_compose_app() {
    let (_folder, mut store) = changed(
        "UPDATE RequestedAppStates SET docker_compose = NULL WHERE app_key = 1;
         UPDATE RequestedAppStates SET docker_compose = 'null' WHERE app_key = 2;
         UPDATE RequestedAppStates SET docker_compose = '' WHERE app_key = 3;
         UPDATE RequestedAppStates SET docker_compose = '{}' WHERE app_key = 4;",
    );
    let compose: Vec<_> = store.load().unwrap().requested.into_iter().map(|row| row.docker_compose).collect();
    assert_eq!(compose[..4], [None, None, None, Some(json!({}))]);
}

#[test]
fn an_undecodable_row_is_named_and_the_other_nine_are_returned() {
    for (column, value) in [
        ("ports", "'[{\"secret\":'"),
        ("ports", "'{\"secret\":1}'"),
        ("environment_variables", "'secret'"),
        ("docker_compose", "'[\"secret\"]'"),
        ("ports", "x'ff'"),
        ("release_key", "'secret'"),
        ("newest_version", "CAST(x'80' AS TEXT)"),
    ] {
        let (_folder, mut store) =
            changed(&format!("UPDATE RequestedAppStates SET {column} = {value} WHERE app_key = 4"));
        let loaded = store.load().unwrap();
        assert_eq!(loaded.requested.len(), 9, "{column} = {value}");
        assert_eq!(loaded.skipped.len(), 1, "{column} = {value}");
        let line = &loaded.skipped[0];
        assert!(line.starts_with(&format!("requested state of app 4 (PROD), row 4: {column}: ")), "{line}");
        assert!(!line.contains("secret"), "{line}");
        // It heals with the next request of the backend.
        commit(&mut store, &[put_request(&request(4))]);
        assert_eq!(store.load().unwrap().requested.len(), 10, "{column} = {value}");
    }
}

#[test]
fn of_two_names_of_one_app_the_newer_counts_and_after_the_next_request_it_is_one_row() {
    let (_folder, mut store) = changed(
        "INSERT INTO RequestedAppStates (app_name, app_key, stage, release_key, new_release_key, request_update,
             current_state, manually_requested_state, requestor_account_key, timestamp)
         VALUES ('Renamed', 2, 'PROD', 5, 6, 0, 'RUNNING', 'RUNNING', 3, '');
         INSERT INTO AppStates (app_name, app_key, version, release_key, stage, state, timestamp)
         VALUES ('Renamed', 2, '1.0.0', 5, 'PROD', 'FAILED', '')",
    );
    let names = |store: &mut Store| -> Vec<String> {
        let rows = store.load().unwrap().requested;
        rows.into_iter().filter(|row| row.app_key == 2).map(|row| row.app_name).collect()
    };
    assert_eq!(names(&mut store), ["Renamed"]);
    let states: Vec<_> = store.load().unwrap().states.into_iter().filter(|row| row.app_key == 2).collect();
    assert_eq!((states.len(), states[0].state.as_str()), (1, "FAILED"));

    let row = RequestedRow { app_name: "App2".to_owned(), ..request(2) };
    commit(&mut store, &[put_request(&row)]);
    assert_eq!(names(&mut store), ["App2"]);
    assert_eq!(count(&store, "RequestedAppStates"), 10);
}

#[test]
fn keys_keep_all_their_bits() {
    let mut store = Store::memory();
    let row = RequestedRow { app_key: u64::MAX, requestor_account_key: 1 << 63, ..request(1) };
    commit(&mut store, &[put_request(&row), reach(u64::MAX, "RUNNING")]);
    let loaded = store.load().unwrap();
    assert_eq!((loaded.requested[0].app_key, loaded.states[0].app_key), (u64::MAX, u64::MAX));
    assert_eq!(loaded.requested[0].requestor_account_key, 1 << 63);
}

#[test]
fn a_log_that_is_null_is_empty_and_one_that_is_no_list_is_none() {
    let (_folder, mut store) = changed(
        "UPDATE LogHistory SET log = 'null' WHERE app_key = 1;
         UPDATE LogHistory SET log = '{\"a\":' WHERE app_key = 2;",
    );
    assert_eq!(store.log_history(1, "PROD").unwrap(), Some(Vec::new()));
    assert_eq!(store.log_history(2, "PROD").unwrap(), None);
    assert_eq!(store.log_history(3, "PROD").unwrap(), Some(vec!["one".to_owned(), "two".to_owned()]));
    assert_eq!(store.log_history(3, "DEV").unwrap(), None);
}

#[test]
fn a_request_shows_no_environment_when_printed() {
    assert!(!format!("{:?}", put_request(&request(1))).contains("hush"));
}
