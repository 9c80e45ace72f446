//! Writing: one statement or a few for each [`Write`], by the rules of storage-and-logs 1.6.
//!
//! Each statement changes only what differs: a write that finds everything as it wants it dirties no page. Hence no
//! `INSERT … ON CONFLICT`, which counts up the AUTOINCREMENT sequence even where nothing changes.

use super::row::{RequestedRow, Write};
use crate::clock::Wall;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde_json::Value;

/// Why a write was not applied.
pub(super) enum Fault {
    /// The schema does not accept it; the others of the batch go in.
    Refused(String),
    /// The database failed, and so does the batch.
    Failed(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Fault {
        match error.sqlite_error_code() {
            // The schema is the one place that says which states and stages exist. Without a code it is not SQLite
            // that failed but one value that does not fit.
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig) | None => Fault::Refused(error.to_string()),
            Some(_) => Fault::Failed(error),
        }
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// Applies one write inside the transaction of `conn`; ids of queued reports are appended to `committed`.
pub(super) fn apply(conn: &Connection, write: &Write) -> Result<()> {
    match write {
        Write::Requested { row, at } => requested(conn, row, *at),
        Write::AppState { .. } => app_state(conn, write),
        Write::DeleteApp { app_key, stage } => {
            for sql in [
                "DELETE FROM AppStates WHERE app_key = ?1 AND stage = ?2",
                "DELETE FROM RequestedAppStates WHERE app_key = ?1 AND stage = ?2",
                "DELETE FROM LogHistory WHERE app_key = ?1 AND stage = ?2",
            ] {
                conn.prepare_cached(sql)?.execute(params![app_key.cast_signed(), stage])?;
            }
            Ok(())
        }
        Write::LogHistory { app_name, app_key, stage, lines } => log_history(conn, app_name, *app_key, stage, lines),
        Write::ClearLogHistory { app_key, stage } => {
            conn.prepare_cached("UPDATE LogHistory SET log = '[]' WHERE app_key = ?1 AND stage = ?2 AND log <> '[]'")?
                .execute(params![app_key.cast_signed(), stage])?;
            Ok(())
        }
        Write::OutboxPut { id, app_key, stage, payload, at } => {
            conn.prepare_cached(
                "INSERT OR REPLACE INTO StateOutbox (id, app_key, stage, payload, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![id.cast_signed(), app_key.cast_signed(), stage, payload.to_string(), at.to_string()])?;
            Ok(())
        }
        Write::OutboxDelete { id } => {
            conn.prepare_cached("DELETE FROM StateOutbox WHERE id = ?1")?.execute([id.cast_signed()])?;
            Ok(())
        }
        Write::Meta { key, value: Some(value) } => {
            conn.prepare_cached(
                "INSERT INTO Meta (key, value) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE value IS NOT excluded.value",
            )?
            .execute([key, value])?;
            Ok(())
        }
        Write::Meta { key, value: None } => {
            conn.prepare_cached("DELETE FROM Meta WHERE key = ?1")?.execute([key])?;
            Ok(())
        }
    }
}

// The columns of a request and their values, in one order for insert, update and comparison.
macro_rules! columns {
    () => {
        "app_name, app_key, stage, version, present_version, newest_version, environment_variables, \
         environment_template, ports, docker_compose, new_docker_compose, release_key, new_release_key, \
         request_update, current_state, manually_requested_state, requestor_account_key, \
         device_owner_account_key, app_cred_epoch, instance_key"
    };
}
macro_rules! values {
    () => {
        "?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20"
    };
}

const INSERT_REQUESTED: &str = concat!(
    "INSERT INTO RequestedAppStates (",
    columns!(),
    ", updated_at, timestamp) SELECT ",
    values!(),
    ", ?21, ?21 WHERE ?22 IS NULL"
);

const UPDATE_REQUESTED: &str = concat!(
    "UPDATE RequestedAppStates SET (",
    columns!(),
    ", updated_at) = (",
    values!(),
    ", ?21) WHERE id = ?22 AND (",
    columns!(),
    ") IS NOT (",
    values!(),
    ")"
);

/// What a stored request keeps where the new one says nothing.
#[derive(Default)]
struct Kept {
    id: Option<i64>,
    version: String,
    owner: i64,
    epoch: i64,
    instance: i64,
}

/// The row of an app and stage is one row, whatever its name: after a rename the newest is carried on under the new
/// name, with its epoch, owner and instance, and older ones go.
fn requested(conn: &Connection, row: &RequestedRow, at: Wall) -> Result<()> {
    let app_key = row.app_key.cast_signed();
    let kept = conn
        .prepare_cached(
            "SELECT id, version, device_owner_account_key, app_cred_epoch, instance_key FROM RequestedAppStates
             WHERE app_key = ?1 AND stage = ?2 ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![app_key, row.stage], |row| {
            Ok(Kept {
                id: row.get(0)?,
                version: row.get(1).unwrap_or_default(),
                owner: row.get(2).unwrap_or_default(),
                epoch: row.get(3).unwrap_or_default(),
                instance: row.get(4).unwrap_or_default(),
            })
        })
        .optional()?
        .unwrap_or_default();
    conn.prepare_cached("DELETE FROM RequestedAppStates WHERE app_key = ?1 AND stage = ?2 AND id <> ?3")?
        .execute(params![app_key, row.stage, kept.id])?;

    let version = if row.version.is_empty() { &kept.version } else { &row.version };
    let or_kept = |new: u64, kept: i64| if new > 0 { new.cast_signed() } else { kept };
    let current_state = match row.current_state.as_str() {
        "" => recorded_state(conn, app_key, &row.stage)?,
        state => storable(state).to_owned(),
    };
    let sql = if kept.id.is_some() { UPDATE_REQUESTED } else { INSERT_REQUESTED };
    conn.prepare_cached(sql)?.execute(params![
        row.app_name,
        app_key,
        row.stage,
        version,
        row.present_version,
        row.newest_version,
        json("environment_variables", row.environment_variables.as_ref(), Value::is_object)?,
        json("environment_template", row.environment_template.as_ref(), Value::is_object)?,
        json("ports", row.ports.as_ref(), Value::is_array)?,
        json("docker_compose", row.docker_compose.as_ref(), Value::is_object)?,
        json("new_docker_compose", row.new_docker_compose.as_ref(), Value::is_object)?,
        row.release_key,
        row.new_release_key,
        row.request_update,
        current_state,
        storable(&row.manually_requested_state),
        row.requestor_account_key.cast_signed(),
        or_kept(row.device_owner_account_key, kept.owner),
        or_kept(row.app_cred_epoch, kept.epoch),
        or_kept(row.instance_key, kept.instance),
        at.to_string(),
        kept.id,
    ])?;
    Ok(())
}

/// Storage-and-logs 1.6, "upsert of an app state", steps 2 to 6.
fn app_state(conn: &Connection, write: &Write) -> Result<()> {
    let Write::AppState { app_key, stage, app_name, version, release_key, state, update_status, requested_state, at } =
        write
    else {
        return Ok(());
    };
    let app_key = app_key.cast_signed();
    let (state, requested_state, at) = (storable(state), storable(requested_state), at.to_string());
    let old: Option<(String, bool)> = conn
        .prepare_cached(
            "SELECT state, (state, version, release_key) IS (?3, ?4, ?5) FROM AppStates
             WHERE app_key = ?1 AND stage = ?2 ORDER BY id DESC LIMIT 1",
        )?
        .query_row(params![app_key, stage, state, version, release_key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    match old {
        None => {
            conn.prepare_cached(
                "INSERT INTO AppStates
                     (app_name, app_key, stage, version, release_key, state, update_status, updated_at, timestamp)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8)",
            )?
            .execute(params![app_name, app_key, stage, version, release_key, state, update_status, at])?;
        }
        Some((_, true)) => {
            conn.prepare_cached(
                "UPDATE AppStates SET update_status = ?3
                 WHERE app_key = ?1 AND stage = ?2 AND coalesce(update_status, '') <> ?3",
            )?
            .execute(params![app_key, stage, update_status])?;
            return Ok(());
        }
        Some((old_state, false)) => {
            // The old state with the new version and release: what the deployed agents record.
            conn.prepare_cached(
                "INSERT INTO AppStateHistory (app_name, app_key, stage, version, release_key, state, timestamp)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![app_name, app_key, stage, version, release_key, old_state, at])?;
            conn.prepare_cached(
                "UPDATE AppStates SET version = ?3, release_key = ?4, state = ?5, update_status = ?6, updated_at = ?7
                 WHERE app_key = ?1 AND stage = ?2",
            )?
            .execute(params![app_key, stage, version, release_key, state, update_status, at])?;
        }
    }
    // These columns only: the rest of the row belongs to the backend.
    conn.prepare_cached(
        "UPDATE RequestedAppStates
         SET current_state = ?3, manually_requested_state = coalesce(nullif(?4, ''), manually_requested_state),
             present_version = ?5, release_key = ?6, updated_at = ?7
         WHERE app_key = ?1 AND stage = ?2
             AND (current_state, manually_requested_state, present_version, release_key)
                 IS NOT (?3, coalesce(nullif(?4, ''), manually_requested_state), ?5, ?6)",
    )?
    .execute(params![app_key, stage, state, requested_state, version, release_key, at])?;
    Ok(())
}

/// Upserts the row of type `APP`, then gives the rows of all types of this name the same text: readers take any.
fn log_history(conn: &Connection, app_name: &str, app_key: u64, stage: &str, lines: &[String]) -> Result<()> {
    let text = Value::from(lines).to_string();
    let key = app_key.cast_signed();
    conn.prepare_cached(
        "INSERT INTO LogHistory (app_name, app_key, stage, log_type, log) SELECT ?1, ?2, ?3, 'APP', ?4
         WHERE NOT EXISTS (SELECT 1 FROM LogHistory
             WHERE app_name = ?1 AND app_key = ?2 AND stage = ?3 AND log_type = 'APP')",
    )?
    .execute(params![app_name, key, stage, text])?;
    conn.prepare_cached(
        "UPDATE LogHistory SET log = ?4 WHERE app_name = ?1 AND app_key = ?2 AND stage = ?3 AND log <> ?4",
    )?
    .execute(params![app_name, key, stage, text])?;
    Ok(())
}

/// The state an app was last recorded in; `REMOVED` for one that never was.
fn recorded_state(conn: &Connection, app_key: i64, stage: &str) -> Result<String> {
    let state = conn
        .prepare_cached("SELECT state FROM AppStates WHERE app_key = ?1 AND stage = ?2 ORDER BY id DESC LIMIT 1")?
        .query_row(params![app_key, stage], |row| row.get(0))
        .optional()?;
    Ok(state.unwrap_or_else(|| "REMOVED".to_owned()))
}

/// The CHECK lists do not know `STOPPED` and must not be changed (storage-and-logs 1.4).
fn storable(state: &str) -> &str {
    if state == "STOPPED" { "PRESENT" } else { state }
}

/// The text of a JSON column; absent is `null`. What could not be read back is refused.
fn json(column: &str, value: Option<&Value>, shape: fn(&Value) -> bool) -> Result<String> {
    match value {
        None | Some(Value::Null) => Ok("null".to_owned()),
        Some(value) if shape(value) => Ok(value.to_string()),
        Some(_) => Err(Fault::Refused(format!("{column} is not of the expected shape"))),
    }
}

/// Deletes at most 1000 rows of the state history: first the oldest of an app that has more than 500, then the oldest
/// of all where there are more than 20,000. Returns how many.
pub(super) fn trim_history(conn: &Connection) -> rusqlite::Result<usize> {
    let crowded = conn
        .prepare_cached(
            "SELECT app_key, stage, count(*) - 500 FROM AppStateHistory GROUP BY app_key, stage
             HAVING count(*) > 500 LIMIT 1",
        )?
        .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?)))
        .optional()?;
    if let Some((app_key, stage, excess)) = crowded {
        return conn
            .prepare_cached(
                "DELETE FROM AppStateHistory WHERE id IN (SELECT id FROM AppStateHistory
                     WHERE app_key = ?1 AND stage = ?2 ORDER BY id LIMIT min(?3, 1000))",
            )?
            .execute(params![app_key, stage, excess]);
    }
    conn.prepare_cached(
        "DELETE FROM AppStateHistory WHERE id IN (SELECT id FROM AppStateHistory ORDER BY id
             LIMIT (SELECT max(0, min(count(*) - 20000, 1000)) FROM AppStateHistory))",
    )?
    .execute([])
}
