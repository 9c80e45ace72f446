//! Writing: the column rules of requests and states, refused writes, the outbox, and writes that change nothing.

use super::*;

fn states(store: &mut Store) -> Vec<AppStateRow> {
    store.load().unwrap().states
}

fn requests(store: &mut Store) -> Vec<RequestedRow> {
    store.load().unwrap().requested
}

/// `state version release_key` of each history row.
fn history(store: &Store) -> Vec<String> {
    let sql =
        "SELECT state || ' ' || version || ' ' || release_key || ' ' || timestamp FROM AppStateHistory ORDER BY id";
    store.conn.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn a_request_is_stored_and_read_back_as_it_is() {
    let mut store = Store::memory();
    let plain = RequestedRow {
        environment_variables: None,
        environment_template: None,
        ports: None,
        docker_compose: None,
        new_docker_compose: None,
        stage: "DEV".to_owned(),
        ..request(2)
    };
    commit(&mut store, &[put_request(&request(1)), put_request(&plain)]);
    assert_eq!(requests(&mut store), [request(1), plain]);
    let absent: String = store
        .conn
        .query_row("SELECT ports || docker_compose FROM RequestedAppStates WHERE app_key = 2", [], |row| row.get(0))
        .unwrap();
    assert_eq!(absent, "nullnull");
}

#[test]
fn a_later_request_replaces_all_but_what_it_does_not_know() {
    let mut store = Store::memory();
    commit(&mut store, &[put_request(&request(1))]);
    let later = RequestedRow {
        version: String::new(),
        present_version: String::new(),
        newest_version: "2.0.0".to_owned(),
        environment_variables: None,
        ports: None,
        docker_compose: None,
        release_key: 0,
        request_update: false,
        manually_requested_state: "REMOVED".to_owned(),
        requestor_account_key: 0,
        device_owner_account_key: 0,
        app_cred_epoch: 0,
        instance_key: 0,
        ..request(1)
    };
    commit(&mut store, &[Write::Requested { row: Box::new(later.clone()), at: at(5) }]);
    let kept = RequestedRow {
        version: "1.0.0".to_owned(),
        device_owner_account_key: 4,
        app_cred_epoch: 2,
        instance_key: 9,
        ..later.clone()
    };
    assert_eq!(requests(&mut store), [kept]);
    let stamps: (String, String) = store
        .conn
        .query_row("SELECT timestamp, updated_at FROM RequestedAppStates", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!(stamps, ("2026-08-04T09:05:00Z".to_owned(), "2026-08-04T09:05:05Z".to_owned()));

    // Decision 25: a lower epoch of the backend counts.
    let known = RequestedRow {
        version: "2.0.0".to_owned(),
        device_owner_account_key: 8,
        app_cred_epoch: 1,
        instance_key: 7,
        ..later
    };
    commit(&mut store, &[put_request(&known)]);
    assert_eq!(requests(&mut store), [known]);
}

#[test]
fn a_renamed_app_keeps_its_credential_epoch_and_is_one_row() {
    let mut store = Store::memory();
    commit(&mut store, &[put_request(&request(1)), put_request(&request(2))]);
    let renamed = RequestedRow { app_name: "Other".to_owned(), app_cred_epoch: 0, ..request(1) };
    commit(&mut store, &[put_request(&renamed)]);
    assert_eq!(requests(&mut store), [RequestedRow { app_cred_epoch: 2, ..renamed }, request(2)]);
}

#[test]
fn an_empty_current_state_becomes_the_one_of_the_app() {
    let mut store = Store::memory();
    let silent = |key| RequestedRow { current_state: String::new(), ..request(key) };
    commit(&mut store, &[reach(1, "FAILED"), put_request(&silent(1)), put_request(&silent(2))]);
    let current: Vec<_> = requests(&mut store).into_iter().map(|row| row.current_state).collect();
    assert_eq!(current, ["FAILED", "REMOVED"]);
}

#[test]
fn stopped_is_stored_as_present() {
    let mut store = Store::memory();
    let row = RequestedRow {
        current_state: "STOPPED".to_owned(),
        manually_requested_state: "STOPPED".to_owned(),
        ..request(1)
    };
    let mut stopped = reach(2, "STOPPED");
    if let Write::AppState { requested_state, .. } = &mut stopped {
        *requested_state = "STOPPED".to_owned();
    }
    commit(&mut store, &[put_request(&row), put_request(&request(2)), reach(2, "RUNNING"), stopped]);
    for row in requests(&mut store) {
        assert_eq!((row.current_state.as_str(), row.manually_requested_state.as_str()), ("PRESENT", "PRESENT"));
    }
    assert_eq!(states(&mut store)[0].state, "PRESENT");
}

#[test]
fn every_state_of_the_list_can_be_stored_and_no_other() {
    let mut store = Store::memory();
    for state in [
        "PRESENT",
        "REMOVED",
        "UNINSTALLED",
        "FAILED",
        "BUILDING",
        "BUILT",
        "TRANSFERED",
        "TRANSFERING",
        "PUBLISHING",
        "PUBLISHED",
        "DOWNLOADING",
        "STARTING",
        "STOPPING",
        "UPDATING",
        "DELETING",
        "RUNNING",
        "INHERIT",
    ] {
        let row = RequestedRow { manually_requested_state: state.to_owned(), ..request(1) };
        commit(&mut store, &[put_request(&row), reach(1, state)]);
        assert_eq!(states(&mut store)[0].state, state);
    }
    for state in ["", "running", "TRANSFERRED"] {
        assert_eq!(store.commit(&[reach(1, state)]).unwrap().refused.len(), 1, "{state}");
    }
}

#[test]
fn a_refused_write_keeps_no_other_out_and_leaves_nothing_behind() {
    let mut store = Store::memory();
    commit(&mut store, &[put_request(&request(7)), reach(7, "RUNNING")]);
    let bad = |change: fn(&mut RequestedRow)| {
        let mut row = request(7);
        change(&mut row);
        put_request(&row)
    };
    let put = Write::OutboxPut { id: 1, app_key: 1, stage: "PROD".to_owned(), payload: json!({}), at: at(0) };
    let committed = store
        .commit(&[
            put_request(&request(1)),
            bad(|row| row.manually_requested_state = String::new()),
            bad(|row| row.manually_requested_state = "DANCING".to_owned()),
            bad(|row| row.current_state = "DANCING".to_owned()),
            bad(|row| row.stage = "TEST".to_owned()),
            bad(|row| row.ports = Some(json!({"secret": 1}))),
            bad(|row| row.docker_compose = Some(json!("secret"))),
            reach(7, "DANCING"),
            put,
            put_request(&request(2)),
        ])
        .unwrap();
    assert_eq!(committed.refused.iter().map(|refused| refused.index).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    assert!(committed.refused.iter().all(|refused| !refused.reason.contains("secret")), "{committed:?}");
    assert!(committed.refused[1].reason.contains("app 7 (PROD)"), "{committed:?}");
    assert_eq!(store.load().unwrap().outbox.len(), 1);
    assert_eq!(requests(&mut store).len(), 3);
    assert_eq!(requests(&mut store)[0], RequestedRow { current_state: "RUNNING".to_owned(), ..request(7) });
    assert_eq!(history(&store), Vec::<String>::new());
}

#[test]
fn a_state_change_moves_the_old_state_to_the_history_and_stamps_the_request() {
    let mut store = Store::memory();
    commit(&mut store, &[reach(1, "PRESENT"), put_request(&request(1))]);
    assert_eq!(history(&store), Vec::<String>::new());
    commit(
        &mut store,
        &[Write::AppState {
            app_key: 1,
            stage: "PROD".to_owned(),
            app_name: "Renamed".to_owned(),
            version: "1.1.0".to_owned(),
            release_key: 6,
            state: "RUNNING".to_owned(),
            update_status: "pending_remote_confirmation".to_owned(),
            requested_state: "PRESENT".to_owned(),
            at: at(120),
        }],
    );
    assert_eq!(history(&store), ["PRESENT 1.1.0 6 2026-08-04T09:07:00Z"]);
    let state = AppStateRow {
        app_name: "App1".to_owned(),
        app_key: 1,
        stage: "PROD".to_owned(),
        version: "1.1.0".to_owned(),
        release_key: 6,
        state: "RUNNING".to_owned(),
        timestamp: "2026-08-04T09:07:00Z".to_owned(),
        update_status: "pending_remote_confirmation".to_owned(),
    };
    assert_eq!(states(&mut store), [state]);
    let stamped = RequestedRow {
        current_state: "RUNNING".to_owned(),
        manually_requested_state: "PRESENT".to_owned(),
        present_version: "1.1.0".to_owned(),
        release_key: 6,
        ..request(1)
    };
    assert_eq!(requests(&mut store), [stamped]);
}

#[test]
fn an_app_state_without_a_requested_state_leaves_the_request_its_own() {
    let mut store = Store::memory();
    let mut write = reach(1, "FAILED");
    if let Write::AppState { requested_state, .. } = &mut write {
        requested_state.clear();
    }
    commit(&mut store, &[put_request(&request(1)), write]);
    let row = RequestedRow { current_state: "FAILED".to_owned(), ..request(1) };
    assert_eq!(requests(&mut store), [row]);
}

#[test]
fn the_update_status_alone_makes_no_history() {
    let mut store = Store::memory();
    commit(&mut store, &[reach(1, "RUNNING")]);
    let mut write = reach(1, "RUNNING");
    if let Write::AppState { update_status, at: time, .. } = &mut write {
        *update_status = "completed".to_owned();
        *time = at(600);
    }
    commit(&mut store, &[write]);
    let state = &states(&mut store)[0];
    assert_eq!((state.update_status.as_str(), state.timestamp.as_str()), ("completed", "2026-08-04T09:06:00Z"));
    assert_eq!(history(&store), Vec::<String>::new());
}

#[test]
fn a_deleted_app_leaves_its_history_alone() {
    let mut store = Store::memory();
    let lines = vec!["line".to_owned()];
    let log = |key| Write::LogHistory {
        app_name: "app".to_owned(),
        app_key: key,
        stage: "PROD".to_owned(),
        lines: lines.clone(),
    };
    for key in [1, 2] {
        commit(&mut store, &[put_request(&request(key)), reach(key, "RUNNING"), reach(key, "FAILED"), log(key)]);
    }
    let delete = |stage: &str| Write::DeleteApp { app_key: 1, stage: stage.to_owned() };
    commit(&mut store, &[delete("DEV"), delete("PROD"), delete("PROD")]);
    let counts = ["RequestedAppStates", "AppStates", "LogHistory", "AppStateHistory"].map(|table| count(&store, table));
    assert_eq!(counts, [1, 1, 1, 2]);
    assert_eq!(store.log_history(1, "PROD").unwrap(), None);
}

#[test]
fn a_log_history_is_written_to_the_rows_of_all_types() {
    let mut store = Store::memory();
    store
        .conn
        .execute_batch(
            "INSERT INTO LogHistory (app_name, app_key, stage, log_type, log) VALUES
                 ('app1', 1, 'DEV', 'BUILD', '[\"old\"]'), ('app1', 1, 'PROD', 'PULL', '[\"other stage\"]')",
        )
        .unwrap();
    let lines = vec!["a\n\"b\"".to_owned(), "ü".to_owned()];
    let write =
        Write::LogHistory { app_name: "app1".to_owned(), app_key: 1, stage: "DEV".to_owned(), lines: lines.clone() };
    commit(&mut store, &[write.clone(), write]);
    assert_eq!(store.log_history(1, "DEV").unwrap(), Some(lines));
    let texts: i64 = store
        .conn
        .query_row("SELECT count(DISTINCT log) + 10 * count(*) FROM LogHistory WHERE stage = 'DEV'", [], |row| {
            row.get(0)
        })
        .unwrap();
    assert_eq!(texts, 21, "two rows with one text");
    commit(&mut store, &[Write::ClearLogHistory { app_key: 1, stage: "DEV".to_owned() }]);
    assert_eq!(store.log_history(1, "DEV").unwrap(), Some(Vec::new()));
    assert_eq!(store.log_history(1, "PROD").unwrap(), Some(vec!["other stage".to_owned()]));
    commit(&mut store, &[Write::ClearLogHistory { app_key: 5, stage: "DEV".to_owned() }]);
    assert_eq!(store.log_history(5, "DEV").unwrap(), None);
}

#[test]
fn queued_reports_come_back_in_order_until_they_are_deleted() {
    let mut store = Store::memory();
    let put = |id, stage: &str, state: &str| Write::OutboxPut {
        id,
        app_key: 1,
        stage: stage.to_owned(),
        payload: json!({"state": state}),
        at: at(0),
    };
    commit(&mut store, &[put(7, "PROD", "STARTING"), put(9, "PROD", "RUNNING"), put(8, "DEV", "STARTING")]);
    store.conn.execute("INSERT INTO StateOutbox VALUES (10, 1, 'PROD', '{torn', '')", []).unwrap();
    let loaded = store.load().unwrap();
    assert_eq!(loaded.outbox.iter().map(|row| row.id).collect::<Vec<_>>(), [7, 8, 9]);
    assert_eq!(loaded.skipped.len(), 1);
    commit(&mut store, &[Write::OutboxDelete { id: 9 }, Write::OutboxDelete { id: 77 }]);
    let last = store.load().unwrap().outbox.pop().unwrap();
    assert_eq!(
        (last.id, last.payload, last.created_at.as_str()),
        (8, json!({"state": "STARTING"}), "2026-08-04T09:05:00Z")
    );
}

#[test]
fn a_meta_entry_is_set_replaced_and_removed() {
    let mut store = Store::memory();
    let set = |value: Option<&str>| Write::Meta { key: "k".to_owned(), value: value.map(str::to_owned) };
    commit(&mut store, &[set(None), set(Some("1")), set(Some("2"))]);
    assert_eq!(store.load().unwrap().meta, [("k".to_owned(), "2".to_owned())].into());
    commit(&mut store, &[set(None)]);
    assert!(store.load().unwrap().meta.is_empty());
}

#[test]
fn a_batch_that_changes_nothing_writes_nothing() {
    let folder = Folder::new();
    let mut store = open(&folder.db());
    let batch = [
        put_request(&request(1)),
        reach(1, "RUNNING"),
        put_request(&RequestedRow { current_state: "RUNNING".to_owned(), ..request(1) }),
        Write::LogHistory {
            app_name: "app1".to_owned(),
            app_key: 1,
            stage: "PROD".to_owned(),
            lines: vec!["l".to_owned()],
        },
        Write::ClearLogHistory { app_key: 2, stage: "PROD".to_owned() },
        Write::DeleteApp { app_key: 3, stage: "PROD".to_owned() },
        Write::OutboxDelete { id: 5 },
        Write::Meta { key: "k".to_owned(), value: Some("v".to_owned()) },
        Write::Meta { key: "gone".to_owned(), value: None },
    ];
    commit(&mut store, &batch);
    let before = bytes(&folder.db());
    assert!(!before[1].is_empty(), "the first commit is in the log");
    let later = |write: &Write| match write.clone() {
        Write::Requested { row, .. } => Write::Requested { row, at: at(999) },
        other => other,
    };
    let again: Vec<Write> = batch.iter().skip(1).map(later).collect();
    commit(&mut store, &again);
    commit(&mut store, &[]);
    assert_eq!(bytes(&folder.db()), before);
    commit(&mut store, &[reach(1, "FAILED")]);
    assert_ne!(bytes(&folder.db()), before);
}

#[test]
fn a_commit_that_fails_applies_nothing_and_can_be_repeated() {
    let folder = Folder::new();
    let mut store = open(&folder.db());
    let pages: i64 = store.conn.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let limit = |store: &Store, pages: i64| {
        store.conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    };
    limit(&store, pages);
    let long = RequestedRow { newest_version: "x".repeat(50_000), ..request(2) };
    let batch = [put_request(&request(1)), put_request(&long)];
    let error = store.commit(&batch).unwrap_err();
    assert!(matches!(error, Error::Statement(_)), "{error:?}");
    assert!(requests(&mut store).is_empty());
    limit(&store, 1 << 20);
    commit(&mut store, &batch);
    assert_eq!(requests(&mut store).len(), 2);
}
