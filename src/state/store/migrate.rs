//! Brings a file of any deployed layout to the present schema (storage-and-logs 1.3 to 1.5).
//!
//! Looks at the columns that are there instead of trying and ignoring errors: a file may come from any version since
//! 2022, in any column order. Nothing is dropped, renamed, rebuilt or retyped, so that an older agent still works on it.
//!
//! **Invariant:** one transaction; on an error the file is as it was.

use super::load;
use crate::clock::Wall;
use rusqlite::{Connection, Result, TransactionBehavior, params};

/// The `user_version` of the present schema.
pub(super) const VERSION: i64 = 2;

/// Columns that some layout of the field lacks, with what they are added as: all nullable or with a default.
const COLUMNS: &[(&str, &str, &str)] = &[
    ("RequestedAppStates", "version", "TEXT"),
    ("RequestedAppStates", "present_version", "TEXT"),
    ("RequestedAppStates", "newest_version", "TEXT"),
    ("RequestedAppStates", "environment_variables", "TEXT"),
    ("RequestedAppStates", "ports", "TEXT"),
    ("RequestedAppStates", "docker_compose", "TEXT"),
    ("RequestedAppStates", "device_owner_account_key", "INTEGER NOT NULL DEFAULT 0"),
    ("RequestedAppStates", "environment_template", "TEXT"),
    ("RequestedAppStates", "new_docker_compose", "TEXT"),
    // Version 2.
    ("RequestedAppStates", "app_cred_epoch", "INTEGER NOT NULL DEFAULT 0"),
    ("RequestedAppStates", "instance_key", "INTEGER NOT NULL DEFAULT 0"),
    ("RequestedAppStates", "updated_at", "TEXT"),
    ("AppStates", "updated_at", "TEXT"),
    ("AppStates", "update_status", "TEXT"),
];

/// Indexes that the upserts of an older agent name as conflict target.
const UNIQUE: &[(&str, &str, &str)] = &[
    ("app_states_unique", "AppStates", "app_name, app_key, stage"),
    ("requested_app_states_unique", "RequestedAppStates", "app_name, app_key, stage"),
    ("log_history_unique", "LogHistory", "app_name, app_key, stage, log_type"),
];

/// The version written in the file; 0 for an empty one and for all files of deployed agents.
pub(super) fn version(conn: &Connection) -> Result<i64> {
    conn.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Migrates to [`VERSION`].
pub(super) fn migrate(conn: &mut Connection, at: Wall) -> Result<()> {
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    tx.execute_batch(include_str!("../schema/tables.sql"))?;
    for &(table, column, declaration) in COLUMNS {
        if !columns(&tx, table)?.iter().any(|name| name.eq_ignore_ascii_case(column)) {
            tx.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} {declaration}"))?;
        }
    }
    for &(index, table, columns) in UNIQUE {
        if !exists(&tx, index)? {
            move_duplicates(&tx, table, columns)?;
            tx.execute_batch(&format!("CREATE UNIQUE INDEX {index} ON {table} ({columns})"))?;
        }
    }
    tx.execute(
        "INSERT INTO DeviceStates (interface_type, device_status, timestamp)
         SELECT 'NONE', 'DISCONNECTED', ?1 WHERE NOT EXISTS (SELECT 1 FROM DeviceStates)",
        params![at.seconds.to_string()],
    )?;
    tx.execute_batch(include_str!("../schema/additions.sql"))?;
    tx.pragma_update(None, "user_version", VERSION)?;
    load::check(&tx)?;
    tx.commit()
}

/// Moves all but the newest row of each group that is equal in `key` into `Conflicts_<table>`.
fn move_duplicates(conn: &Connection, table: &str, key: &str) -> Result<()> {
    let older = format!("id NOT IN (SELECT max(id) FROM {table} GROUP BY {key})");
    let count: i64 = conn.query_row(&format!("SELECT count(*) FROM {table} WHERE {older}"), [], |row| row.get(0))?;
    if count == 0 {
        return Ok(());
    }
    conn.execute_batch(&format!("CREATE TABLE IF NOT EXISTS Conflicts_{table} AS SELECT * FROM {table} WHERE false"))?;
    // By name: the table may be left from an earlier migration, when there were fewer columns.
    let names = columns(conn, &format!("Conflicts_{table}"))?.join(", ");
    conn.execute_batch(&format!(
        "INSERT INTO Conflicts_{table} ({names}) SELECT {names} FROM {table} WHERE {older};
         DELETE FROM {table} WHERE {older};"
    ))?;
    log::warn!("{count} duplicate rows moved from {table} to Conflicts_{table}");
    Ok(())
}

fn columns(conn: &Connection, table: &str) -> Result<Vec<String>> {
    conn.prepare("SELECT name FROM pragma_table_info(?1)")?.query_map([table], |row| row.get(0))?.collect()
}

fn exists(conn: &Connection, index: &str) -> Result<bool> {
    conn.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1")?.exists([index])
}
