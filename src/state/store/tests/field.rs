//! Builds files as the deployed agents left them, from the facts of storage-and-logs 1.2 and 1.3 and independently of
//! the schema of this agent.

use rusqlite::{Connection, params};
use std::path::Path;

const STATE: &str = "'PRESENT','REMOVED','UNINSTALLED','FAILED','BUILDING','BUILT','TRANSFERED','TRANSFERING',\
    'PUBLISHING','PUBLISHED','DOWNLOADING','STARTING','STOPPING','UPDATING','DELETING','RUNNING','INHERIT'";

/// A layout of `RequestedAppStates`: the columns it was created with and those added later, in order.
pub(super) struct Layout {
    pub(super) name: &'static str,
    created: &'static str,
    added: &'static str,
    /// Whether the three unique indexes are there.
    indexes: bool,
}

pub(super) const LAYOUTS: [Layout; 8] = [
    Layout {
        name: "created by 0.15.5",
        created: "id app_name app_key stage version present_version newest_version environment_variables ports \
                  docker_compose release_key new_release_key request_update current_state manually_requested_state \
                  requestor_account_key timestamp",
        added: "environment_template new_docker_compose",
        indexes: true,
    },
    Layout {
        name: "created by 0.15.5, run by 0.20.20",
        created: "id app_name app_key stage version present_version newest_version environment_variables ports \
                  docker_compose release_key new_release_key request_update current_state manually_requested_state \
                  requestor_account_key timestamp",
        added: "environment_template new_docker_compose device_owner_account_key",
        indexes: true,
    },
    Layout {
        name: "created by 0.20.20",
        created: "id app_name app_key stage version present_version newest_version environment_variables ports \
                  docker_compose release_key new_release_key request_update current_state manually_requested_state \
                  requestor_account_key device_owner_account_key timestamp",
        added: "environment_template new_docker_compose",
        indexes: true,
    },
    Layout {
        name: "created before March 2024, run by 0.15.5",
        created: BEFORE_2024,
        added: "ports docker_compose environment_template new_docker_compose",
        indexes: true,
    },
    Layout {
        name: "created before March 2024, run by an intermediate version and 0.15.5",
        created: BEFORE_2024,
        added: "docker_compose ports new_docker_compose environment_template",
        indexes: true,
    },
    Layout {
        name: "created before March 2024, run by 0.15.5 and 0.20.20",
        created: BEFORE_2024,
        added: "ports docker_compose environment_template new_docker_compose device_owner_account_key",
        indexes: true,
    },
    Layout { name: "created before March 2024, with ports only", created: BEFORE_2024, added: "ports", indexes: true },
    Layout { name: "created before March 2024, never run since", created: BEFORE_2024, added: "", indexes: false },
];

const BEFORE_2024: &str = "id app_name app_key stage version present_version newest_version environment_variables \
    release_key new_release_key request_update current_state manually_requested_state requestor_account_key timestamp";

/// The layout that 0.20.20 creates.
pub(super) const PRESENT_DAY: &Layout = &LAYOUTS[2];

impl Layout {
    pub(super) fn has(&self, column: &str) -> bool {
        self.created.split(' ').chain(self.added.split(' ')).any(|name| name == column)
    }

    /// Creates the file without rows, in the journal mode of most devices.
    pub(super) fn create(&self, path: &Path) -> Connection {
        let conn = Connection::open(path).unwrap();
        let columns: Vec<String> = self.created.split_whitespace().map(definition).collect();
        conn.execute_batch(&format!("CREATE TABLE RequestedAppStates ({});", columns.join(", "))).unwrap();
        for column in self.added.split_whitespace() {
            conn.execute_batch(&format!("ALTER TABLE RequestedAppStates ADD COLUMN {}", definition(column))).unwrap();
        }
        conn.execute_batch(&format!(
            "CREATE TABLE DeviceStates (id INTEGER PRIMARY KEY CHECK (id = 1) DEFAULT 1,
                 interface_type TEXT NOT NULL CHECK (interface_type IN ('WLAN','ETHERNET','NONE')),
                 device_status TEXT NOT NULL CHECK (device_status IN ('CONNECTED','DISCONNECTED')),
                 timestamp TEXT NOT NULL);
             CREATE TABLE DeviceStateHistory (id INTEGER PRIMARY KEY AUTOINCREMENT,
                 interface_type TEXT NOT NULL CHECK (interface_type IN ('WLAN','ETHERNET','NONE')),
                 device_status TEXT NOT NULL CHECK (device_status IN ('CONNECTED','DISCONNECTED')),
                 timestamp TEXT NOT NULL);
             CREATE TABLE AppStates (id INTEGER PRIMARY KEY AUTOINCREMENT, app_name TEXT NOT NULL,
                 app_key INTEGER NOT NULL, version TEXT NOT NULL, release_key INTEGER NOT NULL,
                 stage TEXT NOT NULL CHECK (stage IN ('DEV','PROD')), state TEXT NOT NULL CHECK (state IN ({STATE})),
                 timestamp TEXT NOT NULL);
             CREATE TABLE AppStateHistory (id INTEGER PRIMARY KEY AUTOINCREMENT, app_name TEXT NOT NULL,
                 app_key INTEGER NOT NULL, release_key INTEGER NOT NULL, version TEXT NOT NULL,
                 stage TEXT NOT NULL CHECK (stage IN ('DEV','PROD')), state TEXT NOT NULL CHECK (state IN ({STATE})),
                 timestamp TEXT NOT NULL);
             CREATE TABLE LogHistory (id INTEGER PRIMARY KEY AUTOINCREMENT, app_name TEXT NOT NULL,
                 app_key INTEGER NOT NULL, stage TEXT NOT NULL CHECK (stage IN ('DEV','PROD')),
                 log_type TEXT NOT NULL CHECK (log_type IN ('PULL','PUSH','BUILD','APP')), log TEXT NOT NULL);
             INSERT INTO DeviceStates (interface_type, device_status, timestamp)
                 VALUES ('NONE', 'DISCONNECTED', '1709290000');"
        ))
        .unwrap();
        if self.indexes {
            conn.execute_batch(
                "CREATE UNIQUE INDEX app_states_unique ON AppStates(app_name, app_key, stage);
                 CREATE UNIQUE INDEX requested_app_states_unique ON RequestedAppStates(app_name, app_key, stage);
                 CREATE UNIQUE INDEX log_history_unique ON LogHistory(app_name, app_key, stage, log_type);",
            )
            .unwrap();
        }
        conn
    }

    /// Creates the file with ten apps in all tables.
    pub(super) fn create_with_data(&self, path: &Path) -> Connection {
        let conn = self.create(path);
        for key in 1..=10 {
            insert_app(&conn, key);
            for (column, value) in [
                ("ports", r#"[{"port":8080,"name":"a\u003cb"}]"#),
                ("docker_compose", "null"),
                ("environment_template", r#"{"TOKEN":{"defaultValue":"x"}}"#),
                ("new_docker_compose", ""),
                ("device_owner_account_key", "77"),
            ] {
                if self.has(column) {
                    conn.execute(
                        &format!("UPDATE RequestedAppStates SET {column} = ?1 WHERE app_key = ?2"),
                        params![value, key],
                    )
                    .unwrap();
                }
            }
        }
        conn
    }
}

/// An app with a row in each table, by the columns that every layout has.
pub(super) fn insert_app(conn: &Connection, key: i64) {
    let name = format!("App{key}");
    let time = "2025-03-01T12:00:00+01:00";
    conn.execute(
        "INSERT INTO RequestedAppStates (app_name, app_key, stage, version, present_version, newest_version,
             environment_variables, release_key, new_release_key, request_update, current_state,
             manually_requested_state, requestor_account_key, timestamp)
         VALUES (?1, ?2, 'PROD', '1.0.0', '1.0.0', NULL, '{\"TOKEN\":{\"value\":\"v\"}}', 5, 6, 0, 'RUNNING', 'RUNNING',
             3, ?3)",
        params![name, key, time],
    )
    .unwrap();
    conn.execute(
        "INSERT INTO AppStates (app_name, app_key, version, release_key, stage, state, timestamp)
         VALUES (?1, ?2, '1.0.0', 5, 'PROD', 'RUNNING', ?3)",
        params![name, key, time],
    )
    .unwrap();
    conn.execute(
        "INSERT INTO AppStateHistory (app_name, app_key, version, release_key, stage, state, timestamp)
         VALUES (?1, ?2, '1.0.0', 5, 'PROD', 'STARTING', ?3)",
        params![name, key, time],
    )
    .unwrap();
    conn.execute(
        "INSERT INTO LogHistory (app_name, app_key, stage, log_type, log)
         VALUES (lower(?1), ?2, 'PROD', 'APP', '[\"one\",\"two\"]')",
        params![name, key],
    )
    .unwrap();
}

fn definition(column: &str) -> String {
    match column {
        "id" => "id INTEGER PRIMARY KEY AUTOINCREMENT".to_owned(),
        "app_name" | "timestamp" => format!("{column} TEXT NOT NULL"),
        "stage" => "stage TEXT NOT NULL CHECK (stage IN ('DEV','PROD'))".to_owned(),
        "current_state" | "manually_requested_state" => format!("{column} TEXT NOT NULL CHECK ({column} IN ({STATE}))"),
        "request_update" => "request_update BOOLEAN NOT NULL CHECK (request_update IN (0, 1))".to_owned(),
        "app_key" | "release_key" | "new_release_key" | "requestor_account_key" => format!("{column} INTEGER NOT NULL"),
        "device_owner_account_key" => format!("{column} INTEGER NOT NULL DEFAULT 0"),
        _ => format!("{column} TEXT"),
    }
}
