//! Opening: settings that are really on, private files, left-over journals, and files that cannot be used.

use super::field::PRESENT_DAY;
use super::*;
use std::io::{Seek, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

fn pragma<T: rusqlite::types::FromSql>(store: &Store, name: &str) -> T {
    store.conn.pragma_query_value(None, name, |row| row.get(0)).unwrap()
}

#[test]
fn p1_every_setting_is_on_when_read_back() {
    let folder = Folder::new();
    for _ in ["new file", "old file"] {
        let store = open(&folder.db());
        assert_eq!(pragma::<String>(&store, "journal_mode"), "wal");
        assert_eq!(pragma::<i64>(&store, "synchronous"), 2, "FULL");
        assert_eq!(pragma::<i64>(&store, "cache_size"), -128, "KiB, or it fills up with history");
        assert_eq!(pragma::<i64>(&store, "busy_timeout"), 5000);
        assert_eq!(pragma::<i64>(&store, "journal_size_limit"), 4_194_304);
        store.close();
    }
}

#[test]
fn p1_files_of_the_field_are_switched_from_either_journal_mode() {
    for mode in ["delete", "wal"] {
        let folder = Folder::new();
        let conn = PRESENT_DAY.create_with_data(&folder.db());
        conn.pragma_update_and_check(None, "journal_mode", mode, |_| Ok(())).unwrap();
        conn.close().unwrap();
        let mut store = open(&folder.db());
        assert_eq!(pragma::<String>(&store, "journal_mode"), "wal", "from {mode}");
        assert_eq!(store.load().unwrap().requested.len(), 10, "from {mode}");
    }
}

#[test]
fn no_other_user_can_read_the_database_or_its_side_files() {
    let folder = Folder::new();
    let modes = || {
        ["", "-wal", "-shm"].map(|suffix| {
            let path = format!("{}{suffix}", folder.db().display());
            fs::metadata(path).map_or(0, |found| found.permissions().mode() & 0o777)
        })
    };
    let mut store = open(&folder.db());
    commit(&mut store, &[put_request(&request(1))]);
    assert_eq!(modes(), [0o600; 3], "a new file");
    // As an older agent leaves them, after a crash.
    for suffix in ["", "-wal"] {
        let name = format!("reagent.db{suffix}");
        fs::copy(folder.0.join(&name), folder.0.join(format!("old{suffix}"))).unwrap();
        fs::set_permissions(folder.0.join(format!("old{suffix}")), fs::Permissions::from_mode(0o644)).unwrap();
    }
    drop(store);
    for suffix in ["", "-wal"] {
        fs::rename(folder.0.join(format!("old{suffix}")), folder.0.join(format!("reagent.db{suffix}"))).unwrap();
    }
    let mut store = open(&folder.db());
    commit(&mut store, &[put_request(&request(2))]);
    assert_eq!(modes(), [0o600; 3], "an old file");
}

#[test]
fn closing_leaves_everything_in_the_file_itself() {
    let folder = Folder::new();
    let mut store = open(&folder.db());
    commit(&mut store, &[put_request(&request(1))]);
    store.close();
    assert_eq!(fs::metadata(folder.0.join("reagent.db-wal")).map_or(0, |found| found.len()), 0);
    assert_eq!(open(&folder.db()).load().unwrap().requested, [request(1)]);
}

/// A copy of the files of an open database, as a power cut leaves them.
fn cut_power(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-journal"] {
        let name = format!("reagent.db{suffix}");
        if from.join(&name).exists() {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[test]
fn an_unapplied_write_ahead_log_is_replayed() {
    let (folder, after) = (Folder::new(), Folder::new());
    let conn = PRESENT_DAY.create_with_data(&folder.db());
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;").unwrap();
    conn.execute("UPDATE RequestedAppStates SET newest_version = 'from the log'", []).unwrap();
    cut_power(&folder.0, &after.0);
    assert!(fs::metadata(after.0.join("reagent.db-wal")).unwrap().len() > 0);
    let loaded = open(&after.db()).load().unwrap();
    assert_eq!(loaded.requested.len(), 10);
    assert!(loaded.requested.iter().all(|row| row.newest_version == "from the log"));
}

#[test]
fn a_hot_journal_is_rolled_back() {
    let (folder, after) = (Folder::new(), Folder::new());
    let conn = PRESENT_DAY.create_with_data(&folder.db());
    for key in 11..200 {
        field::insert_app(&conn, key);
    }
    // A cache of two pages writes into the file before the commit.
    conn.execute_batch("PRAGMA cache_size = 2; BEGIN; UPDATE RequestedAppStates SET newest_version = 'torn'").unwrap();
    cut_power(&folder.0, &after.0);
    assert!(fs::metadata(after.0.join("reagent.db-journal")).unwrap().len() > 0);
    assert!(fs::read(after.db()).unwrap().windows(4).any(|part| part == b"torn"), "the file is in the middle of it");
    let loaded = open(&after.db()).load().unwrap();
    assert_eq!(loaded.requested.len(), 199);
    assert!(loaded.requested.iter().all(|row| row.newest_version.is_empty()));
}

#[test]
fn a_file_of_zero_length_is_a_new_database() {
    let folder = Folder::new();
    fs::write(folder.db(), "").unwrap();
    let mut store = open(&folder.db());
    commit(&mut store, &[put_request(&request(1))]);
    store.close();
    assert_eq!(open(&folder.db()).load().unwrap().requested, [request(1)]);
}

/// Opens a file that must not be usable: the store works all the same, and the file is not touched.
fn open_unusable(path: &Path) -> Error {
    let before = bytes(path);
    let (mut store, error) = Store::open(path, at(0), None);
    commit(&mut store, &[put_request(&request(1)), reach(1, "RUNNING")]);
    assert_eq!(store.load().unwrap().requested.len(), 1);
    store.close();
    assert_eq!(bytes(path), before);
    error.expect("the file is not usable")
}

fn overwrite(path: &Path, offset: u64, length: usize) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&vec![0x5a; length]).unwrap();
}

#[test]
fn a_file_with_its_header_overwritten_stops_nothing() {
    let folder = Folder::new();
    PRESENT_DAY.create_with_data(&folder.db()).close().unwrap();
    overwrite(&folder.db(), 0, 100);
    let error = open_unusable(&folder.db());
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
}

#[test]
fn a_file_with_a_page_overwritten_stops_nothing() {
    let folder = Folder::new();
    let conn = PRESENT_DAY.create_with_data(&folder.db());
    let root: u64 = conn
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'AppStates'", [], |row| row.get::<_, i64>(0))
        .unwrap()
        .cast_unsigned();
    conn.close().unwrap();
    overwrite(&folder.db(), (root - 1) * 4096, 4096);
    let error = open_unusable(&folder.db());
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
}

#[test]
fn a_damaged_file_keeps_its_write_ahead_log() {
    let (folder, after) = (Folder::new(), Folder::new());
    let conn = PRESENT_DAY.create_with_data(&folder.db());
    let root: i64 =
        conn.query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'LogHistory'", [], |row| row.get(0)).unwrap();
    conn.execute_batch("PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0;").unwrap();
    conn.execute("UPDATE RequestedAppStates SET newest_version = 'from the log'", []).unwrap();
    cut_power(&folder.0, &after.0);
    overwrite(&after.db(), (root.cast_unsigned() - 1) * 4096, 4096);
    assert!(!bytes(&after.db())[1].is_empty());
    let error = open_unusable(&after.db());
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
}

#[test]
fn a_folder_in_place_of_the_file_stops_nothing() {
    let folder = Folder::new();
    fs::create_dir(folder.db()).unwrap();
    let error = open_unusable(&folder.db());
    assert!(matches!(error, Error::Open(_)), "{error:?}");
}

#[test]
fn a_missing_folder_stops_nothing() {
    let folder = Folder::new();
    let error = open_unusable(&folder.0.join("gone/reagent.db"));
    assert!(matches!(error, Error::Open(_)), "{error:?}");
}

/// Root may write anything, so this test runs itself again as another user where it is root.
#[test]
fn a_read_only_file_stops_nothing() {
    const PATH: &str = "REAGENT_TEST_READ_ONLY_DB";
    if let Some(path) = std::env::var_os(PATH) {
        let error = open_unusable(Path::new(&path));
        assert!(matches!(error, Error::Open(_)), "{error:?}");
        return;
    }
    let folder = Folder::new();
    PRESENT_DAY.create_with_data(&folder.db()).close().unwrap();
    fs::set_permissions(folder.db(), fs::Permissions::from_mode(0o444)).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", "state::store::tests::opening::a_read_only_file_stops_nothing"]).env(PATH, folder.db());
    if fs::OpenOptions::new().append(true).open(folder.db()).is_ok() {
        again.uid(65_534);
    }
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
