//! The backend's list of what is wanted, and what it may delete (apps chapter 5.5 a, decision 21).
//!
//! **Invariant:** only a whole, decodable list deletes anything, apps or containers; an empty one, or one that would remove
//! more than half of the apps, needs a second one at least 30 s later that lacks the same apps (S6, X4).

use super::accept::Source;
use super::app::AppKey;
use super::job::JobId;
use super::message::{CallFailure, Level, Record};
use super::request::Request;
use super::slot::Why;
use super::timers::Timer;
use super::{Call, State};
use crate::sorted::IntoSorted;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const URI: &str = "reswarm.containers.get_requested_app_states";
/// Distance of the two fetches.
const SECOND: Duration = Duration::from_secs(30);

/// What the lists left open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sync {
    /// A whole list was taken since the database was made or recovered.
    synced: bool,
    /// The last fetch failed, or its list had broken entries.
    doubtful: bool,
    /// Apps that an empty or strongly shrunken list lacked; a second list decides.
    suspects: Option<BTreeSet<AppKey>>,
    /// When the last list was asked for, in the order of jobs.
    pub(super) asked: JobId,
}

impl Sync {
    /// `synced`: the database says that a list was taken.
    pub fn new(synced: bool) -> Sync {
        Sync { synced, ..Sync::default() }
    }

    /// Whether containers without an app may be removed.
    pub fn may_sweep(&self) -> bool {
        self.synced && !self.doubtful && self.suspects.is_none()
    }
}

/// What a list says.
struct List {
    requests: Vec<Request>,
    /// Keys of all entries, DEV ones included.
    known: BTreeSet<AppKey>,
    /// An entry could not be decoded.
    broken: Vec<String>,
}

impl State {
    pub(super) fn fetch(&mut self, purpose: Call) {
        self.sync.asked = self.id();
        let args = vec![json!({"device_key": self.device.device_key})];
        self.call(purpose, URI, args, Duration::from_secs(60));
    }

    /// Takes the list of the connect sequence; `None`: there is none.
    pub(super) fn take_list(&mut self, args: Option<Vec<Value>>) {
        self.sync.suspects = None;
        self.sync.doubtful = true;
        let Some(list) = args.and_then(|args| self.decode(&args)) else {
            return self.note(Level::Warn, "no list of the backend, what is wanted stays as it was stored");
        };
        let missing = self.apps.keys().copied().filter(|id| !list.known.contains(id)).into_set();
        let is_wanted = |id: &AppKey| self.apps.get(id).is_some_and(|app| !app.wanted.is_gone() && !app.unknown);
        let wanted = self.apps.keys().filter(|id| is_wanted(id)).count();
        let lost = missing.iter().filter(|id| is_wanted(id)).count();
        if !list.broken.is_empty() {
            let broken = list.broken.join("; ");
            self.note(Level::Warn, format!("nothing is deleted, the backend's list has broken entries: {broken}"));
        } else if list.known.is_empty() || (lost >= 2 && lost * 2 > wanted) {
            match missing.len() {
                // A new device: only containers of unknown apps wait for the second list.
                0 => self.note(Level::Info, "the backend wants no app; nothing is cleaned up before a second list says so"),
                count => self.note(
                    Level::Warn,
                    format!("the backend's list lacks {count} apps of this device; they stay unless a second list lacks them too"),
                ),
            }
            self.sync.suspects = Some(missing);
            self.timers.set(Timer::SecondFetch, self.now.mono + SECOND);
        } else {
            self.trust(missing);
        }
        list.requests.into_iter().for_each(|request| self.accept(request, Source::List));
    }

    pub(super) fn fetch_again(&mut self) {
        if self.generation().is_some() && self.sync.suspects.is_some() {
            self.fetch(Call::SecondFetch);
        }
    }

    pub(super) fn on_second_fetch(&mut self, result: Result<Vec<Value>, CallFailure>) {
        let list = match result {
            Ok(args) => self.decode(&args).filter(|list| list.broken.is_empty()),
            Err(failure) => {
                self.note(Level::Warn, format!("second list: {}", failure.text()));
                None
            }
        };
        let Some(list) = list else {
            return self.timers.set(Timer::SecondFetch, self.now.mono + SECOND);
        };
        let suspects = self.sync.suspects.take().unwrap_or_default();
        self.trust(suspects.into_iter().filter(|id| !list.known.contains(id)).into_set());
        for request in list.requests {
            let (id, wanted) = (request.id(), self.apps.get(&request.id()).map(|app| app.wanted));
            self.accept(request, Source::List);
            if self.apps.get(&id).map(|app| app.wanted) == wanted {
                self.verify(id);
            } else {
                self.drive(id, Why::Connected);
            }
        }
        self.sweep_soon();
    }

    /// A whole list was taken: what it lacks goes.
    fn trust(&mut self, unknown: BTreeSet<AppKey>) {
        self.sync.doubtful = false;
        unknown.into_iter().for_each(|id| self.discard(id));
        if !self.sync.synced {
            self.sync.synced = true;
            let value = self.now.wall.to_string();
            self.persist(Record::Meta { key: "synced_at".to_owned(), value });
        }
    }

    /// `None`: a failed fetch, nothing is stored and nothing deleted.
    fn decode(&mut self, args: &[Value]) -> Option<List> {
        let Some(entries) = args.first().and_then(Value::as_array) else {
            self.note(Level::Warn, "the backend's answer is no list of apps");
            return None;
        };
        let mut list = List { requests: Vec::new(), known: BTreeSet::new(), broken: Vec::new() };
        for entry in entries {
            match Request::from_sync(entry) {
                Ok(request) => {
                    list.known.insert(request.id());
                    // DEV apps are driven interactively.
                    if request.stage == super::app::Stage::Prod {
                        list.requests.push(request);
                    }
                }
                Err(error) => list.broken.push(error),
            }
        }
        Some(list)
    }

    /// Removes an app that the backend does not know: container and rows; its data stays.
    fn discard(&mut self, id: AppKey) {
        self.note(Level::Warn, format!("{id}: unknown to the backend, its container is removed, its data stays"));
        if let Some(app) = self.apps.get_mut(&id) {
            app.unknown = true;
        }
        self.drive(id, Why::Verify);
    }
}
