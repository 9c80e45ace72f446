//! The database as a model: what [`Record`]s leave behind, by the rules of storage chapter 1.6.

use crate::domain::app::AppKey;
use crate::domain::message::Record;
use crate::domain::request::Request;
use crate::domain::{Recorded, RecordedApp};
use serde_json::Value;
use std::collections::BTreeMap;

/// The tables.
#[derive(Debug, Clone, Default)]
pub(in crate::domain) struct Tables {
    pub requests: BTreeMap<AppKey, Request>,
    pub apps: BTreeMap<AppKey, RecordedApp>,
    pub outbox: BTreeMap<u64, (AppKey, Value)>,
    pub meta: BTreeMap<String, String>,
    pub refused: BTreeMap<AppKey, String>,
    pub superseded: BTreeMap<AppKey, Vec<String>>,
}

impl Tables {
    pub fn apply(&mut self, record: &Record) {
        match record {
            Record::Requested { request, current } => {
                let mut row = (**request).clone();
                row.current_state = Some(*current);
                // Never stored.
                row.docker_credentials.clear();
                row.cancel_transition = false;
                self.requests.insert(row.id(), row);
            }
            Record::AppState { app, name, version, release_key, state, requested, .. } => {
                let row = RecordedApp {
                    id: *app,
                    name: name.clone(),
                    version: version.clone(),
                    release_key: *release_key,
                    state: *state,
                };
                if self.apps.get(app) == Some(&row) {
                    return;
                }
                self.apps.insert(*app, row);
                if let Some(request) = self.requests.get_mut(app) {
                    request.current_state = Some(*state);
                    request.requested_state = *requested;
                    request.present_version.clone_from(version);
                    request.release_key = *release_key;
                }
            }
            Record::Refused { app, version } => {
                match version {
                    Some(version) => self.refused.insert(*app, version.clone()),
                    None => self.refused.remove(app),
                };
            }
            Record::Superseded { app, versions } => {
                self.superseded.insert(*app, versions.clone());
                self.superseded.retain(|_, versions| !versions.is_empty());
            }
            Record::Delete { app } => {
                self.apps.remove(app);
                self.requests.remove(app);
            }
            Record::OutboxPut { id, app, payload, .. } => {
                let before = self.outbox.insert(*id, (*app, payload.clone()));
                assert!(before.is_none(), "report {id} twice");
            }
            Record::OutboxDelete { id } => {
                self.outbox.remove(id).unwrap_or_else(|| panic!("report {id} is not there"));
            }
            Record::Meta { key, value } => {
                self.meta.insert(key.clone(), value.clone());
            }
            Record::LogHistory { .. } | Record::Trim => {}
        }
    }

    /// What a start finds.
    pub fn recorded(&self) -> Recorded {
        Recorded {
            requests: self.requests.values().cloned().collect(),
            apps: self.apps.values().cloned().collect(),
            outbox: self.outbox.iter().map(|(id, (app, payload))| (*id, *app, payload.clone())).collect(),
            refused: self.refused.iter().map(|(app, version)| (*app, version.clone())).collect(),
            superseded: self.superseded.clone().into_iter().collect(),
            synced: self.meta.contains_key("synced_at"),
        }
    }
}
