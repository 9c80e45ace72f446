//! The rows of the store as plain data: what is loaded at start, and what a turn asks to be written.
//!
//! Texts are as they stand in the file and on the wire; nothing here knows the domain.

use crate::clock::Wall;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// One row of `RequestedAppStates`: what the backend wants of one app and stage (storage-and-logs 1.2, 1.5).
///
/// The JSON columns are `None` where SQL NULL, an empty text or `null` is stored: absent is not empty, since even a
/// `docker_compose` of `{}` makes an app a compose app. `Debug` shows no environment: it holds secrets.
#[derive(Clone, PartialEq, Default)]
pub struct RequestedRow {
    /// Name of the app as given.
    pub app_name: String,
    /// With `stage` the identity of the app.
    pub app_key: u64,
    /// `DEV` or `PROD`.
    pub stage: String,
    /// Version to publish, or the present one. An empty one keeps what is stored.
    pub version: String,
    /// Version installed on the device.
    pub present_version: String,
    /// Version to pull or to update to.
    pub newest_version: String,
    /// JSON object: name to `{"value": …}`.
    pub environment_variables: Option<Value>,
    /// JSON object: name to `{"defaultValue": …}`.
    pub environment_template: Option<Value>,
    /// JSON array of port rules (apps 1.3).
    pub ports: Option<Value>,
    /// JSON object; its presence makes the app a compose app.
    pub docker_compose: Option<Value>,
    /// JSON object: the compose file of the new release.
    pub new_docker_compose: Option<Value>,
    /// Release that is present.
    pub release_key: i64,
    /// Release to update to.
    pub new_release_key: i64,
    /// Whether the request asks for an update.
    pub request_update: bool,
    /// An app state. Written empty it becomes the app's own recorded state, `REMOVED` if there is none.
    pub current_state: String,
    /// The requested state.
    pub manually_requested_state: String,
    /// Account that asked.
    pub requestor_account_key: u64,
    /// Owner of the device. 0 keeps what is stored.
    pub device_owner_account_key: u64,
    /// Epoch of the app credential (storage-and-logs 1.5); 0 is "none known" and keeps what is stored.
    pub app_cred_epoch: u64,
    /// Instance assigned by the cloud. 0 keeps what is stored.
    pub instance_key: u64,
}

impl fmt::Debug for RequestedRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestedRow")
            .field("app_key", &self.app_key)
            .field("stage", &self.stage)
            .field("app_name", &self.app_name)
            .field("current_state", &self.current_state)
            .field("manually_requested_state", &self.manually_requested_state)
            .finish_non_exhaustive()
    }
}

/// One row of `AppStates`: what is the case on the device.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppStateRow {
    /// Name the app had when it was first recorded.
    pub app_name: String,
    /// With `stage` the identity of the app.
    pub app_key: u64,
    /// `DEV` or `PROD`.
    pub stage: String,
    /// Version installed.
    pub version: String,
    /// Release installed.
    pub release_key: i64,
    /// An app state.
    pub state: String,
    /// When it last changed, RFC 3339 with any offset. Rows last written by an older agent have the time of their insert.
    pub timestamp: String,
    /// `""`, `completed`, `canceled` or `pending_remote_confirmation`.
    pub update_status: String,
}

/// One state report that the backend has not confirmed yet (storage-and-logs 2.5).
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxRow {
    /// Ascending in the order of the puts.
    pub id: u64,
    /// With `stage` the identity of the app.
    pub app_key: u64,
    /// `DEV` or `PROD`.
    pub stage: String,
    /// The dict of storage-and-logs 2.4, without what is filled in when it is sent.
    pub payload: Value,
    /// When it was queued, RFC 3339.
    pub created_at: String,
}

/// Everything the agent reads at start.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// At most one row per app and stage, in the order of insertion.
    pub requested: Vec<RequestedRow>,
    /// At most one row per app and stage, in the order of insertion.
    pub states: Vec<AppStateRow>,
    /// In the order of the puts.
    pub outbox: Vec<OutboxRow>,
    /// The `Meta` table; keys with a NULL value are left out.
    pub meta: BTreeMap<String, String>,
    /// One line for each row that could not be decoded and was left out, without its content. For the log.
    pub skipped: Vec<String>,
}

/// One change, as an imperative. A write that finds everything as it wants it touches nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Write {
    /// Stores a requested state by the rules of storage-and-logs 1.6. Afterwards there is one row of this app and stage,
    /// under this name.
    Requested {
        /// The row.
        row: Box<RequestedRow>,
        /// When it was asked.
        at: Wall,
    },
    /// Records a state that an app has reached, appends the old one to the history and stamps the requested row.
    AppState {
        /// With `stage` the identity of the app.
        app_key: u64,
        /// `DEV` or `PROD`.
        stage: String,
        /// Used when the app is recorded for the first time.
        app_name: String,
        /// Version installed.
        version: String,
        /// Release installed.
        release_key: i64,
        /// The state reached.
        state: String,
        /// `""` or an update status.
        update_status: String,
        /// Stamped on the requested row; empty leaves the row's own.
        requested_state: String,
        /// When it was reached.
        at: Wall,
    },
    /// Forgets an app: its state, its request and its log history. The state history stays.
    DeleteApp {
        /// With `stage` the identity of the app.
        app_key: u64,
        /// `DEV` or `PROD`.
        stage: String,
    },
    /// Replaces the stored log history of an app.
    LogHistory {
        /// Lower-case name, from the container's name.
        app_name: String,
        /// With `stage` the identity of the app.
        app_key: u64,
        /// `DEV` or `PROD`.
        stage: String,
        /// The lines, oldest first.
        lines: Vec<String>,
    },
    /// Empties the stored log history of an app, if there is one.
    ClearLogHistory {
        /// With `stage` the identity of the app.
        app_key: u64,
        /// `DEV` or `PROD`.
        stage: String,
    },
    /// Queues a state report.
    OutboxPut {
        /// Its number, ascending in the order of the reports; the core gives it.
        id: u64,
        /// With `stage` the identity of the app.
        app_key: u64,
        /// `DEV` or `PROD`.
        stage: String,
        /// The dict of storage-and-logs 2.4.
        payload: Value,
        /// When the state was reached.
        at: Wall,
    },
    /// Takes a report out of the queue: it was delivered or given up.
    OutboxDelete {
        /// Number of the report; one that is gone is no error.
        id: u64,
    },
    /// Sets or removes an entry of the `Meta` table.
    Meta {
        /// Name of the fact.
        key: String,
        /// Its value; `None` removes it.
        value: Option<String>,
    },
}

impl Write {
    /// What it is about, for the log.
    pub(super) fn subject(&self) -> String {
        let (app_key, stage) = match self {
            Write::Requested { row, .. } => (&row.app_key, &row.stage),
            Write::AppState { app_key, stage, .. }
            | Write::DeleteApp { app_key, stage }
            | Write::LogHistory { app_key, stage, .. }
            | Write::ClearLogHistory { app_key, stage }
            | Write::OutboxPut { app_key, stage, .. } => (app_key, stage),
            Write::OutboxDelete { id } => return format!("queued report {id}"),
            Write::Meta { key, .. } => return format!("meta entry {key}"),
        };
        format!("app {app_key} ({stage})")
    }
}

/// What became of a committed batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Committed {
    /// The writes that were left out, so that the others could go in.
    pub refused: Vec<Refused>,
}

/// A write that the schema does not accept: an unknown state or stage, or a JSON column of the wrong shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Its index in the batch.
    pub index: usize,
    /// Why, with app key and stage, without values.
    pub reason: String,
}
