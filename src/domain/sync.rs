//! The backend's list of what is wanted, and what it may delete (apps chapter 5.5 a, decision 21).
//!
//! **Invariant:** only a whole, decodable list deletes anything; an empty one, or one that would remove more than half of the
//! apps, needs a second one at least 30 s later that lacks the same apps (S6, X4).

use super::app::{AppKey, AppState};
use super::job::JobSpec;
use super::message::{CallFailure, Level, Record};
use super::reconcile::Source;
use super::request::Request;
use super::slot::Why;
use super::timers::Timer;
use super::{Call, Job, State};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

const URI: &str = "reswarm.containers.get_requested_app_states";
/// Distance of the two fetches.
const SECOND: Duration = Duration::from_secs(30);

/// What the lists left open.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sync {
    /// A list was taken since the database was made or recovered.
    synced: bool,
    /// Apps that a doubtful list lacked.
    suspects: BTreeSet<AppKey>,
}

impl Sync {
    /// `synced`: the database says that a list was taken.
    pub fn new(synced: bool) -> Sync {
        Sync { synced, suspects: BTreeSet::new() }
    }

    /// Whether containers without an app may be removed.
    pub fn may_sweep(&self) -> bool {
        self.synced && self.suspects.is_empty()
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
        let args = vec![json!({"device_key": self.device.device_key})];
        self.call(purpose, URI, args, Duration::from_secs(60));
    }

    /// Takes the list of the connect sequence.
    pub(super) fn take_list(&mut self, args: &[Value]) {
        let Some(list) = self.decode(args) else { return };
        let missing: BTreeSet<AppKey> = self.apps.keys().copied().filter(|id| !list.known.contains(id)).collect();
        let wanted = self.apps.values().filter(|app| !app.wanted.is_gone()).count();
        let lost = missing.iter().filter(|id| self.apps.get(id).is_some_and(|app| !app.wanted.is_gone())).count();
        self.sync.suspects.clear();
        if !list.broken.is_empty() {
            self.note(
                Level::Warn,
                format!("nothing is deleted, the backend's list has broken entries: {}", list.broken.join("; ")),
            );
        } else if !missing.is_empty() && (list.known.is_empty() || (lost >= 2 && lost * 2 > wanted)) {
            let count = missing.len();
            self.note(Level::Warn, format!("the backend's list lacks {count} apps of this device; they stay unless a second list lacks them too"));
            self.sync.suspects = missing;
            self.timers.set(Timer::SecondFetch, self.now.mono + SECOND);
        } else {
            missing.into_iter().for_each(|id| self.delete_unknown(id));
        }
        list.requests.into_iter().for_each(|request| self.accept(request, Source::List));
        if list.broken.is_empty() && !self.sync.synced {
            self.sync.synced = true;
            let value = self.now.wall.to_string();
            self.persist(Record::Meta { key: "synced_at".to_owned(), value });
        }
    }

    pub(super) fn fetch_again(&mut self) {
        if self.generation().is_some() && !self.sync.suspects.is_empty() {
            self.fetch(Call::SecondFetch);
        }
    }

    pub(super) fn on_second_fetch(&mut self, result: Result<Vec<Value>, CallFailure>) {
        let list = match result {
            Ok(args) => self.decode(&args),
            Err(failure) => {
                self.note(Level::Warn, format!("second list: {}", failure.text()));
                None
            }
        };
        let suspects = std::mem::take(&mut self.sync.suspects);
        match list {
            Some(list) if list.broken.is_empty() => {
                suspects.into_iter().filter(|id| !list.known.contains(id)).for_each(|id| self.delete_unknown(id));
                let ids: Vec<AppKey> = list.requests.iter().map(Request::id).collect();
                list.requests.into_iter().for_each(|request| self.accept(request, Source::List));
                ids.into_iter().for_each(|id| self.verify(id));
            }
            _ => {
                self.sync.suspects = suspects;
                self.timers.set(Timer::SecondFetch, self.now.mono + SECOND);
            }
        }
    }

    /// `None`: a failed fetch, nothing is stored and nothing deleted.
    fn decode(&mut self, args: &[Value]) -> Option<List> {
        let Some(entries) = args.first().and_then(Value::as_array) else {
            self.note(Level::Warn, "the backend's answer is no list of apps, nothing is changed");
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
    fn delete_unknown(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let container = app.container.clone();
        self.note(Level::Warn, format!("{id}: unknown to the backend, its container is removed, its data stays"));
        let Some(app) = self.apps.get_mut(&id) else { return };
        if !app.is_idle() {
            // Something is being done with it: it is removed when that has ended.
            app.wanted = AppState::Removed;
            if let Some(request) = &mut app.request {
                request.requested_state = AppState::Removed;
            }
            return self.drive(id, Why::Verify);
        }
        self.start_job(Job::Detached(Some(id)), JobSpec::RemoveContainer { container });
        self.ports.release(id);
        self.forget(id);
    }
}
