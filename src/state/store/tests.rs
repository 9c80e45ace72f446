//! Tests of the store, on files of every layout of the field (storage-and-logs 1.3, 9).

mod crash;
mod field;
mod layouts;
mod opening;
mod reading;
mod writing;

use super::*;
use serde_json::json;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of its own, gone when the test ends, however it ends.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("store-test-{}-{number}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn db(&self) -> PathBuf {
        self.0.join("reagent.db")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn at(seconds: i64) -> Wall {
    Wall::from_unix(1_785_834_300 + seconds)
}

/// Opens a file that must be usable.
fn open(path: &Path) -> Store {
    let (store, error) = Store::open(path, at(0), Some(u64::MAX));
    assert!(error.is_none(), "{error:?}");
    store
}

/// The content of the database and its log, to see whether anything was written.
fn bytes(path: &Path) -> [Vec<u8>; 2] {
    ["", "-wal"].map(|suffix| fs::read(format!("{}{suffix}", path.display())).unwrap_or_default())
}

fn count(store: &Store, table: &str) -> i64 {
    store.conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

/// A request with every field set.
fn request(app_key: u64) -> RequestedRow {
    RequestedRow {
        app_name: format!("App{app_key}"),
        app_key,
        stage: "PROD".to_owned(),
        version: "1.0.0".to_owned(),
        present_version: "1.0.0".to_owned(),
        newest_version: "1.1.0".to_owned(),
        environment_variables: Some(json!({"TOKEN": {"value": "hush<&>"}})),
        environment_template: Some(json!({"TOKEN": {"defaultValue": ""}})),
        ports: Some(json!([{"port": 8080, "protocol": "http"}])),
        docker_compose: Some(json!({})),
        new_docker_compose: Some(json!({"services": {}})),
        release_key: 5,
        new_release_key: 6,
        request_update: true,
        current_state: "PRESENT".to_owned(),
        manually_requested_state: "RUNNING".to_owned(),
        requestor_account_key: 3,
        device_owner_account_key: 4,
        app_cred_epoch: 2,
        instance_key: 9,
    }
}

fn put_request(row: &RequestedRow) -> Write {
    Write::Requested { row: Box::new(row.clone()), at: at(0) }
}

fn reach(app_key: u64, state: &str) -> Write {
    Write::AppState {
        app_key,
        stage: "PROD".to_owned(),
        app_name: format!("App{app_key}"),
        version: "1.0.0".to_owned(),
        release_key: 5,
        state: state.to_owned(),
        update_status: String::new(),
        requested_state: "RUNNING".to_owned(),
        at: at(60),
    }
}

/// Commits writes that must all go in.
fn commit(store: &mut Store, writes: &[Write]) {
    let committed = store.commit(writes).unwrap();
    assert_eq!(committed.refused, []);
}
