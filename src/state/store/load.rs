//! Reading: rows of the tables become plain data. A row that cannot be decoded costs itself, never the set.

use super::row::{AppStateRow, Loaded, OutboxRow, RequestedRow};
use rusqlite::{Connection, OptionalExtension, Result, Row, params};
use serde_json::Value;

/// Stage and key identify an app, while the file allows one row for each name: the newest row counts.
const REQUESTED: &str = "
    SELECT id, app_name, app_key, stage, version, present_version, newest_version, environment_variables,
        environment_template, ports, docker_compose, new_docker_compose, release_key, new_release_key, request_update,
        current_state, manually_requested_state, requestor_account_key, device_owner_account_key, app_cred_epoch,
        instance_key
    FROM RequestedAppStates
    WHERE id IN (SELECT max(id) FROM RequestedAppStates GROUP BY app_key, stage)
    ORDER BY id";

const STATES: &str = "
    SELECT id, app_name, app_key, stage, version, release_key, state, coalesce(updated_at, timestamp) AS timestamp,
        update_status
    FROM AppStates
    WHERE id IN (SELECT max(id) FROM AppStates GROUP BY app_key, stage)
    ORDER BY id";

const OUTBOX: &str = "SELECT id, app_key, stage, payload, created_at FROM StateOutbox ORDER BY id";

const META: &str = "SELECT key, value FROM Meta WHERE value IS NOT NULL";

/// The newest name's row; within one name the texts of all log types are equal.
const LOG: &str = "SELECT log FROM LogHistory WHERE app_key = ?1 AND stage = ?2 ORDER BY id DESC LIMIT 1";

/// Fails if the file lacks a table or a column that is read.
pub(super) fn check(conn: &Connection) -> Result<()> {
    [REQUESTED, STATES, OUTBOX, META, LOG].into_iter().try_for_each(|sql| conn.prepare(sql).map(drop))
}

/// Reads all tables that the agent works from. This is done once: the statements are not kept.
pub(super) fn all(conn: &Connection) -> Result<Loaded> {
    let mut loaded = Loaded::default();
    let skipped = &mut loaded.skipped;
    loaded.requested = rows(conn, REQUESTED, "requested state", skipped, requested)?;
    loaded.states = rows(conn, STATES, "app state", skipped, app_state)?;
    loaded.outbox = rows(conn, OUTBOX, "queued report", skipped, outbox)?;
    let mut statement = conn.prepare(META)?;
    let mut entries = statement.query([])?;
    while let Some(row) = entries.next()? {
        match (row.get("key"), row.get("value")) {
            (Ok(key), Ok(value)) => drop(loaded.meta.insert(key, value)),
            _ => skipped.push("a meta entry that is not text".to_owned()),
        }
    }
    Ok(loaded)
}

/// The stored lines of an app; `None` without a row or with one that is no list of texts.
pub(super) fn log_history(conn: &Connection, app_key: u64, stage: &str) -> Result<Option<Vec<String>>> {
    let stored = conn
        .prepare_cached(LOG)?
        .query_row(params![app_key.cast_signed(), stage], |row| row.get::<_, String>(0))
        .optional()?;
    // `null` was stored for an empty history.
    Ok(stored.and_then(|text| serde_json::from_str::<Option<_>>(&text).ok()).map(Option::unwrap_or_default))
}

/// Runs `sql` and decodes each row, or notes in `skipped` why not. The error texts of a decoder carry no content: it
/// may be secret.
fn rows<T>(
    conn: &Connection,
    sql: &str,
    what: &str,
    skipped: &mut Vec<String>,
    decode: fn(&Row<'_>) -> Result<T, String>,
) -> Result<Vec<T>> {
    let mut statement = conn.prepare(sql)?;
    let mut rows = statement.query([])?;
    let mut decoded = Vec::new();
    while let Some(row) = rows.next()? {
        match decode(row) {
            Ok(value) => decoded.push(value),
            Err(why) => skipped.push(format!(
                "{what} of app {} ({}), row {}: {why}",
                row.get::<_, i64>("app_key").map_or("?".to_owned(), |key| key.cast_unsigned().to_string()),
                row.get::<_, String>("stage").as_deref().unwrap_or("?"),
                row.get::<_, i64>("id").unwrap_or_default(),
            )),
        }
    }
    Ok(decoded)
}

fn requested(row: &Row<'_>) -> Result<RequestedRow, String> {
    Ok(RequestedRow {
        app_name: text(row, "app_name")?,
        app_key: key(row, "app_key")?,
        stage: text(row, "stage")?,
        version: text(row, "version")?,
        present_version: text(row, "present_version")?,
        newest_version: text(row, "newest_version")?,
        environment_variables: json(row, "environment_variables", Value::is_object)?,
        environment_template: json(row, "environment_template", Value::is_object)?,
        ports: json(row, "ports", Value::is_array)?,
        docker_compose: json(row, "docker_compose", Value::is_object)?,
        new_docker_compose: json(row, "new_docker_compose", Value::is_object)?,
        release_key: integer(row, "release_key")?,
        new_release_key: integer(row, "new_release_key")?,
        request_update: integer(row, "request_update")? != 0,
        current_state: text(row, "current_state")?,
        manually_requested_state: text(row, "manually_requested_state")?,
        requestor_account_key: key(row, "requestor_account_key")?,
        device_owner_account_key: key(row, "device_owner_account_key")?,
        app_cred_epoch: key(row, "app_cred_epoch")?,
        instance_key: key(row, "instance_key")?,
    })
}

fn app_state(row: &Row<'_>) -> Result<AppStateRow, String> {
    Ok(AppStateRow {
        app_name: text(row, "app_name")?,
        app_key: key(row, "app_key")?,
        stage: text(row, "stage")?,
        version: text(row, "version")?,
        release_key: integer(row, "release_key")?,
        state: text(row, "state")?,
        timestamp: text(row, "timestamp")?,
        update_status: text(row, "update_status")?,
    })
}

fn outbox(row: &Row<'_>) -> Result<OutboxRow, String> {
    Ok(OutboxRow {
        id: key(row, "id")?,
        app_key: key(row, "app_key")?,
        stage: text(row, "stage")?,
        payload: json(row, "payload", Value::is_object)?.ok_or("payload: absent")?,
        created_at: text(row, "created_at")?,
    })
}

/// A text; NULL is empty.
fn text(row: &Row<'_>, column: &str) -> Result<String, String> {
    row.get::<_, Option<String>>(column).map(Option::unwrap_or_default).map_err(|error| format!("{column}: {error}"))
}

fn integer(row: &Row<'_>, column: &str) -> Result<i64, String> {
    row.get(column).map_err(|error| format!("{column}: {error}"))
}

/// A key: unsigned in memory, the same 64 bits signed in the file.
fn key(row: &Row<'_>, column: &str) -> Result<u64, String> {
    integer(row, column).map(i64::cast_unsigned)
}

/// A JSON text of the given shape. NULL, the empty text and `null` are all "absent".
fn json(row: &Row<'_>, column: &str, shape: fn(&Value) -> bool) -> Result<Option<Value>, String> {
    let text = text(row, column)?;
    if text.is_empty() {
        return Ok(None);
    }
    match serde_json::from_str(&text) {
        Ok(Value::Null) => Ok(None),
        Ok(value) if shape(&value) => Ok(Some(value)),
        Ok(_) => Err(format!("{column}: not of the expected shape")),
        Err(error) => Err(format!("{column}: {error}")),
    }
}
