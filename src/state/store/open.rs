//! Opening a file: who may read it, whether it is sound, its settings, and the copy before a migration
//! (storage-and-logs 1.1, 1.4).
//!
//! **Invariant:** a file that is not accepted is left as it was, its side files included.

use super::{Error, load, migrate};
use crate::clock::Wall;
use crate::os::files;
use crate::sorted::sort_by;
use rusqlite::backup::Progress;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Room for every statement of the store, so that each is prepared once.
pub(super) const STATEMENTS: usize = 64;

/// KiB of pages that are kept in memory. SQLite's own 2,000 would fill up with history, which is written once and read once
/// a day.
const CACHE: i64 = 128;

/// How many copies `<db>.pre-v<N>` are kept.
const COPIES: usize = 2;

/// Opens, checks, migrates and configures the database at `path`.
pub(super) fn open(path: &Path, at: Wall, free_bytes: Option<u64>) -> Result<Connection, Error> {
    // SQLite would create it with the umask; its side files take over the mode of the file.
    files::open_private(path).map_err(Error::Open)?;
    let mut conn =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    // The first read: SQLite replays a left-over journal or write-ahead log by itself.
    let finding: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if finding != "ok" {
        return Err(Error::Damaged(finding));
    }
    make_private(path);
    conn.pragma_update(None, "synchronous", "FULL")?;
    let version = migrate::version(&conn)?;
    if version < migrate::VERSION {
        if let Err(error) = copy_before_migration(&conn, path, free_bytes) {
            log::warn!("no copy of the database before its migration: {error}");
        }
        migrate::migrate(&mut conn, at).map_err(Error::Migrate)?;
        log::info!("database migrated from version {version} to {}", migrate::VERSION);
    } else {
        load::check(&conn)?;
    }
    // Only now: a file that could not be migrated keeps its journal mode.
    let mode = conn.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
    if !matches!(mode.as_deref(), Ok("wal")) {
        log::warn!("the database is not in WAL mode: {mode:?}");
    }
    conn.pragma_update(None, "journal_size_limit", 4 << 20)?;
    // Negative: KiB instead of pages.
    conn.pragma_update(None, "cache_size", -CACHE)?;
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(conn)
}

/// Takes the file and its side files away from other users: environments of apps are in them.
fn make_private(path: &Path) {
    for path in ["", "-wal", "-shm", "-journal"].map(|suffix| with_suffix(path, suffix)) {
        let open_to_others = files::mode(&path).is_ok_and(|mode| mode & 0o077 != 0);
        if open_to_others && let Err(error) = files::set_mode(&path, 0o600) {
            log::warn!("{} stays readable for others: {error}", path.display());
        }
    }
}

/// Writes `<path>.pre-v<N>` if the file has tables and there is room, and removes all but the newest copies.
fn copy_before_migration(conn: &Connection, path: &Path, free_bytes: Option<u64>) -> io::Result<()> {
    let (tables, size): (i64, i64) = conn
        .query_row(
            "SELECT (SELECT count(*) FROM sqlite_schema WHERE type = 'table'), page_count * page_size
             FROM pragma_page_count, pragma_page_size",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .map_err(io::Error::other)?;
    if tables == 0 {
        return Ok(());
    }
    if free_bytes.is_none_or(|free| free / 3 < size.cast_unsigned()) {
        return Err(io::Error::new(io::ErrorKind::StorageFull, "less than three times its size is free"));
    }
    let copy = with_suffix(path, &format!(".pre-v{}", migrate::VERSION));
    let partial = with_suffix(&copy, ".tmp");
    let written = write_copy(conn, &partial).and_then(|()| fs::rename(&partial, &copy));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()?;
    remove_old_copies(folder, path)
}

fn write_copy(conn: &Connection, partial: &Path) -> io::Result<()> {
    match fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = files::create_private(partial)?;
    conn.backup(MAIN_DB, partial, None::<fn(Progress)>).map_err(io::Error::other)?;
    file.sync_all()
}

fn remove_old_copies(folder: &Path, path: &Path) -> io::Result<()> {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let prefix = format!("{name}.pre-v");
    let mut copies: Vec<(u64, PathBuf)> = fs::read_dir(folder)?
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.strip_prefix(&prefix)?.parse().ok()?;
            Some((version, path))
        })
        .collect();
    sort_by(&mut copies, Ord::cmp);
    copies.iter().rev().skip(COPIES).try_for_each(|(_, path)| fs::remove_file(path))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
