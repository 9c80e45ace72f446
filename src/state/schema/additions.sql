-- Version 2: what the deployed agents forget at a restart (storage-and-logs 1.5). Its columns are added by migrate.rs.

-- AUTOINCREMENT: an id is never used twice, so that a late delete cannot hit a newer report.
-- No CHECK: a report is never refused.
CREATE TABLE IF NOT EXISTS StateOutbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    app_key INTEGER NOT NULL,
    stage TEXT NOT NULL,
    payload TEXT NOT NULL,
    created_at TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS Meta (
    key TEXT PRIMARY KEY,
    value TEXT
);

CREATE INDEX IF NOT EXISTS app_state_history_by_app ON AppStateHistory (app_key, stage, id);
