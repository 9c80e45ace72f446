//! Migration: every layout of the field comes over without loss, and an older agent still works on the result.

use super::field::{LAYOUTS, PRESENT_DAY};
use super::*;

fn columns(store: &Store, table: &str) -> Vec<String> {
    let mut statement = store.conn.prepare("SELECT name FROM pragma_table_info(?1)").unwrap();
    statement.query_map([table], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn version(store: &Store) -> i64 {
    migrate::version(&store.conn).unwrap()
}

#[test]
fn every_layout_of_the_field_is_taken_over_with_all_its_rows() {
    for layout in &LAYOUTS {
        let folder = Folder::new();
        layout.create_with_data(&folder.db()).close().unwrap();
        let mut store = open(&folder.db());
        let name = layout.name;
        assert_eq!(version(&store), 2, "{name}");
        for (table, rows) in [
            ("RequestedAppStates", 10),
            ("AppStates", 10),
            ("AppStateHistory", 10),
            ("LogHistory", 10),
            ("DeviceStates", 1),
        ] {
            assert_eq!(count(&store, table), rows, "{name}: {table}");
        }
        let loaded = store.load().unwrap();
        assert_eq!(loaded.skipped, Vec::<String>::new(), "{name}");
        let row = &loaded.requested[6];
        assert_eq!((row.app_key, row.app_name.as_str(), row.newest_version.as_str()), (7, "App7", ""), "{name}");
        assert_eq!(row.environment_variables, Some(json!({"TOKEN": {"value": "v"}})), "{name}");
        assert_eq!(row.ports.is_some(), layout.has("ports"), "{name}");
        assert_eq!(row.environment_template.is_some(), layout.has("environment_template"), "{name}");
        assert_eq!((&row.docker_compose, &row.new_docker_compose), (&None, &None), "{name}");
        let owner = if layout.has("device_owner_account_key") { 77 } else { 0 };
        assert_eq!((row.device_owner_account_key, row.app_cred_epoch, row.instance_key), (owner, 0, 0), "{name}");
        assert_eq!(loaded.states[6].timestamp, "2025-03-01T12:00:00+01:00", "{name}");
        assert_eq!(store.log_history(7, "PROD").unwrap(), Some(vec!["one".to_owned(), "two".to_owned()]), "{name}");
        // The state of an old row is written like any other.
        commit(&mut store, &[reach(7, "FAILED"), put_request(&request(7))]);
        assert_eq!(store.load().unwrap().requested[6].app_cred_epoch, 2, "{name}");
    }
}

#[test]
fn every_layout_of_the_field_is_taken_over_without_rows() {
    for layout in &LAYOUTS {
        let folder = Folder::new();
        layout.create(&folder.db()).close().unwrap();
        let mut store = open(&folder.db());
        assert_eq!((version(&store), store.load().unwrap()), (2, Loaded::default()), "{}", layout.name);
    }
}

#[test]
fn a_new_file_has_the_columns_in_the_order_of_the_field() {
    let store = Store::memory();
    let order = "id app_name app_key stage version present_version newest_version environment_variables ports \
         docker_compose release_key new_release_key request_update current_state manually_requested_state \
         requestor_account_key device_owner_account_key timestamp environment_template new_docker_compose \
         app_cred_epoch instance_key updated_at";
    assert_eq!(columns(&store, "RequestedAppStates").join(" "), order);
}

#[test]
fn a_second_start_writes_nothing() {
    let folder = Folder::new();
    PRESENT_DAY.create_with_data(&folder.db()).close().unwrap();
    open(&folder.db()).close();
    let before = bytes(&folder.db());
    let mut store = open(&folder.db());
    store.load().unwrap();
    store.close();
    assert_eq!(bytes(&folder.db()), before);
}

#[test]
fn a_hundred_thousand_history_rows_come_over_and_are_trimmed_later() {
    let folder = Folder::new();
    let conn = LAYOUTS[0].create_with_data(&folder.db());
    conn.execute_batch(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99990)
         INSERT INTO AppStateHistory (app_name, app_key, release_key, version, stage, state, timestamp)
         SELECT 'App1', 1 + i % 4, 5, '1.0.0', 'PROD', 'RUNNING', '2025-03-01T12:00:00+01:00' FROM n",
    )
    .unwrap();
    conn.close().unwrap();
    let mut store = open(&folder.db());
    assert_eq!(count(&store, "AppStateHistory"), 100_000);
    let newest = |store: &Store| -> i64 {
        store.conn.query_row("SELECT max(id) FROM AppStateHistory", [], |row| row.get(0)).unwrap()
    };
    let before = newest(&store);
    let mut batches = 0;
    while store.trim_history().unwrap() > 0 {
        batches += 1;
        assert!(batches <= 110);
    }
    assert!(batches >= 98, "each batch is at most 1000 rows, there were {batches}");
    assert_eq!((count(&store, "AppStateHistory"), newest(&store)), (4 * 500 + 6, before));
}

#[test]
fn the_history_of_many_apps_is_trimmed_to_twenty_thousand_oldest_first() {
    let mut store = Store::memory();
    store
        .conn
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 21500)
             INSERT INTO AppStateHistory (app_name, app_key, release_key, version, stage, state, timestamp)
             SELECT 'App', i % 50, 5, '1.0.0', 'PROD', 'RUNNING', '' FROM n",
        )
        .unwrap();
    let batches: Vec<usize> = (0..3).map(|_| store.trim_history().unwrap()).collect();
    assert_eq!(batches, [1000, 500, 0]);
    let oldest: i64 = store.conn.query_row("SELECT min(id) FROM AppStateHistory", [], |row| row.get(0)).unwrap();
    assert_eq!(oldest, 1501);
}

#[test]
fn duplicates_are_moved_aside_and_the_newest_stays() {
    let folder = Folder::new();
    let oldest = LAYOUTS.last().unwrap();
    let conn = oldest.create_with_data(&folder.db());
    field::insert_app(&conn, 3);
    conn.execute("UPDATE RequestedAppStates SET newest_version = 'new' WHERE id = 11", []).unwrap();
    conn.close().unwrap();
    let mut store = open(&folder.db());
    for table in ["RequestedAppStates", "AppStates", "LogHistory"] {
        assert_eq!((count(&store, table), count(&store, &format!("Conflicts_{table}"))), (10, 1), "{table}");
    }
    let loaded = store.load().unwrap();
    let row = loaded.requested.iter().find(|row| row.app_key == 3).unwrap();
    assert_eq!(row.newest_version, "new");
    assert_eq!(columns(&store, "Conflicts_AppStates"), columns(&store, "AppStates"));
}

#[test]
fn a_file_of_a_newer_agent_is_used_with_its_schema_untouched() {
    let folder = Folder::new();
    let mut store = open(&folder.db());
    commit(&mut store, &[put_request(&request(1))]);
    store
        .conn
        .execute_batch(
            "ALTER TABLE RequestedAppStates ADD COLUMN colour TEXT DEFAULT 'red';
             DROP INDEX app_state_history_by_app;
             PRAGMA user_version = 3;",
        )
        .unwrap();
    store.close();
    let mut store = open(&folder.db());
    assert_eq!(version(&store), 3);
    assert!(
        !store
            .conn
            .prepare("SELECT 1 FROM sqlite_schema WHERE name = 'app_state_history_by_app'")
            .unwrap()
            .exists([])
            .unwrap()
    );
    commit(&mut store, &[put_request(&request(1)), reach(1, "RUNNING"), reach(1, "FAILED")]);
    assert_eq!(store.load().unwrap().requested[0].current_state, "FAILED");
    assert!(!folder.0.join("reagent.db.pre-v2").exists());
}

#[test]
fn what_cannot_be_migrated_stays_as_it_was() {
    let folder = Folder::new();
    let conn = Connection::open(folder.db()).unwrap();
    conn.execute_batch("CREATE TABLE RequestedAppStates (id INTEGER PRIMARY KEY, name TEXT)").unwrap();
    conn.close().unwrap();
    let before = bytes(&folder.db());
    let (mut store, error) = Store::open(&folder.db(), at(0), None);
    assert!(matches!(error, Some(Error::Migrate(_))), "{error:?}");
    commit(&mut store, &[put_request(&request(1))]);
    assert_eq!(store.load().unwrap().requested, [request(1)]);
    assert_eq!(bytes(&folder.db()), before);
}

#[test]
fn before_a_migration_the_file_is_copied_where_there_is_room() {
    let folder = Folder::new();
    PRESENT_DAY.create_with_data(&folder.db()).close().unwrap();
    let size = fs::metadata(folder.db()).unwrap().len();
    for (old, version) in [("reagent.db.pre-v0", 0), ("reagent.db.pre-v1", 1), ("reagent.db.pre-v1.txt", 9)] {
        fs::write(folder.0.join(old), [version]).unwrap();
    }
    let copy = folder.0.join("reagent.db.pre-v2");

    let original = fs::read(folder.db()).unwrap();
    for free in [None, Some(3 * size - 1)] {
        assert!(Store::open(&folder.db(), at(0), free).1.is_none());
        assert!(!copy.exists());
        fs::write(folder.db(), &original).unwrap();
    }
    assert!(Store::open(&folder.db(), at(0), Some(3 * size)).1.is_none());
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&copy).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let kept = Connection::open(&copy).unwrap();
    assert_eq!(migrate::version(&kept).unwrap(), 0);
    let rows: i64 = kept.query_row("SELECT count(*) FROM RequestedAppStates", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, 10);
    let mut names: Vec<_> =
        fs::read_dir(&folder.0).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.contains("pre"));
    names.sort();
    assert_eq!(names, ["reagent.db.pre-v1", "reagent.db.pre-v1.txt", "reagent.db.pre-v2"]);
}

#[test]
fn a_new_file_is_not_copied() {
    let folder = Folder::new();
    drop(open(&folder.db()));
    assert!(!folder.0.join("reagent.db.pre-v2").exists());
}

#[test]
fn the_statements_of_an_older_agent_work_on_a_migrated_file() {
    let folder = Folder::new();
    LAYOUTS[0].create_with_data(&folder.db()).close().unwrap();
    let mut store = open(&folder.db());
    commit(&mut store, &[put_request(&request(1)), reach(1, "FAILED")]);
    store.close();

    let older = Connection::open(folder.db()).unwrap();
    for name in ["App1", "App99"] {
        older
            .execute(
                "INSERT INTO RequestedAppStates (app_name, app_key, stage, version, present_version, newest_version,
                     environment_variables, environment_template, ports, docker_compose, new_docker_compose,
                     release_key, new_release_key, request_update, current_state, manually_requested_state,
                     requestor_account_key, device_owner_account_key, timestamp)
                 VALUES (?1, substr(?1, 4), 'PROD', '2', '2', '2', '{}', 'null', '[]', 'null', 'null', 8, 8, 0,
                     'PRESENT', 'RUNNING', 1, 0, '2026-08-01T10:00:00+02:00')
                 ON CONFLICT(app_name, app_key, stage) DO UPDATE SET present_version = excluded.present_version,
                     current_state = excluded.current_state, device_owner_account_key = CASE
                     WHEN excluded.device_owner_account_key > 0 THEN excluded.device_owner_account_key
                     ELSE device_owner_account_key END",
                [name],
            )
            .unwrap();
        older
            .execute(
                "INSERT INTO AppStates (app_name, app_key, version, release_key, stage, state, timestamp)
                 VALUES (?1, substr(?1, 4), '2', 8, 'PROD', 'PRESENT', '2026-08-01T10:00:00+02:00')
                 ON CONFLICT(app_name, app_key, stage) DO UPDATE SET state = excluded.state",
                [name],
            )
            .unwrap();
        older
            .execute(
                "INSERT INTO LogHistory (app_name, app_key, stage, log_type, log)
                 VALUES (lower(?1), substr(?1, 4), 'PROD', 'APP', 'null')
                 ON CONFLICT(app_name, app_key, stage, log_type) DO UPDATE SET log = excluded.log",
                [name],
            )
            .unwrap();
    }
    older.close().unwrap();

    let mut store = open(&folder.db());
    let loaded = store.load().unwrap();
    assert_eq!((loaded.requested.len(), loaded.states.len()), (11, 11));
    let row = &loaded.requested[0];
    assert_eq!((row.present_version.as_str(), row.app_cred_epoch, row.instance_key), ("2", 2, 9));
    assert_eq!((row.current_state.as_str(), loaded.states[0].state.as_str()), ("PRESENT", "PRESENT"));
    assert_eq!(store.log_history(99, "PROD").unwrap(), Some(Vec::new()));
}
