//! What the backend has been told, and what it still has to be told (storage chapter 2.5, decision 22).
//!
//! A state change is complete once it is in memory and in the database; telling the backend is another matter. While
//! connected every state goes out, per app in order and one call at a time. While the session is away a newer state
//! replaces the queued ones, except those the backend acts on.
//!
//! **Invariant:** no report that fails makes a transition fail.

use super::app::{AppKey, AppState, UpdateStatus};
use super::message::{CallFailure, Level, Record};
use super::timers::Timer;
use super::{Call, State, backoff};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const URI: &str = "reswarm.containers.update_app_on_device";
/// Error answers to one report before it is dropped.
const REFUSALS: u32 = 3;
/// Reports kept per app; the oldest that the backend does not act on goes.
const KEPT: usize = 32;

/// All queues.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reports {
    queues: BTreeMap<AppKey, Queue>,
    next_id: u64,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Queue {
    waiting: VecDeque<Report>,
    sending: bool,
    failures: u32,
    refusals: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct Report {
    /// Its row in the database; a repetition has none.
    id: Option<u64>,
    payload: Value,
}

impl Report {
    /// Whether the backend acts on it, so that no newer state may replace it.
    fn is_acted_on(&self) -> bool {
        matches!(self.text("state"), "BUILT" | "PUBLISHED") || self.confirms_update()
    }

    fn confirms_update(&self) -> bool {
        self.text("updateStatus") == UpdateStatus::PendingRemoteConfirmation.text()
    }

    fn text(&self, key: &str) -> &str {
        self.payload.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Reports {
    /// Whether everything has been delivered.
    pub fn is_empty(&self) -> bool {
        self.queues.values().all(|queue| queue.waiting.is_empty())
    }

    /// The state in the newest report that the backend has not heard of yet, as far as is known here.
    pub fn untold(&self, id: AppKey) -> Option<AppState> {
        self.queues.get(&id)?.waiting.back()?.text("state").parse().ok()
    }

    /// Whether the backend has not been told yet that an app was updated.
    pub fn confirm_update(&self, id: AppKey) -> bool {
        self.queues.get(&id).is_some_and(|queue| queue.waiting.iter().any(Report::confirms_update))
    }
}

impl State {
    pub(super) fn restore_reports(&mut self, rows: Vec<(u64, AppKey, Value)>) {
        for (id, app, payload) in rows {
            self.reports.next_id = self.reports.next_id.max(id);
            self.reports.queues.entry(app).or_default().waiting.push_back(Report { id: Some(id), payload });
        }
    }

    /// Sets a state, stores it, and queues its report.
    pub(super) fn report(&mut self, id: AppKey, state: AppState) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        app.state = state;
        if let Some(request) = &mut app.request {
            // What it said before is of yesterday: it is not to be believed when the app is driven again (1.11).
            request.current_state = Some(state);
        }
        self.persist_state(id);
        let payload = self.payload(id);
        self.reports.next_id += 1;
        let row = self.reports.next_id;
        let at = self.now.wall;
        if self.generation().is_none() {
            self.supersede(id);
        }
        self.persist(Record::OutboxPut { id: row, app: id, payload: payload.clone(), at });
        self.queue(id, Report { id: Some(row), payload });
        // The report that confirms an update stays queued until it is delivered; all later ones say that it was.
        if let Some(app) =
            self.apps.get_mut(&id).filter(|app| app.update_status == UpdateStatus::PendingRemoteConfirmation)
        {
            app.update_status = UpdateStatus::Completed;
        }
    }

    /// Queues the state of an app once more, as the answer to a request or at a connect.
    pub(super) fn report_again(&mut self, id: AppKey) {
        if self.apps.contains_key(&id) && self.generation().is_some() {
            let payload = self.payload(id);
            self.queue(id, Report { id: None, payload });
        }
    }

    fn payload(&self, id: AppKey) -> Value {
        let Some(app) = self.apps.get(&id) else { return Value::Null };
        json!({
            "app_key": id.key,
            "stage": id.stage.text(),
            "state": app.state.text(),
            "device_to_app_key": 0,
            "requestor_account_key": app.request.as_ref().map_or(0, |request| request.requestor_account_key),
            "release_key": app.release_key,
            "request_update": app.created_with_update,
            "release_build": app.release_build,
            "updateStatus": app.update_status.text(),
        })
    }

    fn queue(&mut self, id: AppKey, report: Report) {
        let queue = self.reports.queues.entry(id).or_default();
        queue.waiting.push_back(report);
        if queue.waiting.len() > KEPT {
            let first = usize::from(queue.sending);
            let oldest = queue.waiting.iter().skip(first).position(|report| !report.is_acted_on()).unwrap_or(0) + first;
            let dropped = queue.waiting.remove(oldest).and_then(|report| report.id);
            self.delete_row(dropped);
        }
        if self.session.may_report() && !self.timers.is_set(Timer::Report(id)) {
            self.send_report(id);
        }
    }

    /// Drops what a newer state replaces while nobody can be told.
    fn supersede(&mut self, id: AppKey) {
        let Some(queue) = self.reports.queues.get_mut(&id) else { return };
        let (kept, dropped): (VecDeque<Report>, VecDeque<Report>) =
            queue.waiting.drain(..).partition(Report::is_acted_on);
        queue.waiting = kept;
        dropped.into_iter().for_each(|report| self.delete_row(report.id));
    }

    fn delete_row(&mut self, id: Option<u64>) {
        if let Some(id) = id {
            self.persist(Record::OutboxDelete { id });
        }
    }

    /// Sends the first report of an app, if none is on its way.
    pub(super) fn send_report(&mut self, id: AppKey) {
        if !self.session.may_report() {
            return;
        }
        let Some(queue) = self.reports.queues.get_mut(&id) else { return };
        if queue.sending {
            return;
        }
        let Some(report) = queue.waiting.front() else { return };
        queue.sending = true;
        let mut payload = report.payload.clone();
        // Filled in now: the device may have been moved since.
        payload["device_key"] = json!(self.device.device_key);
        payload["swarm_key"] = json!(self.device.swarm_key);
        payload["serial_number"] = json!(self.device.serial);
        self.call(Call::Report(id), URI, vec![payload], Duration::from_secs(30));
    }

    pub(super) fn on_report_answer(&mut self, id: AppKey, result: Result<Vec<Value>, CallFailure>) {
        let Some(queue) = self.reports.queues.get_mut(&id) else { return };
        queue.sending = false;
        let retry = match &result {
            Ok(_) => false,
            Err(CallFailure::Transport(_)) => true,
            Err(CallFailure::Error { uri, .. }) if uri == "wamp.error.no_such_procedure" => true,
            Err(CallFailure::Error { .. }) => {
                queue.refusals += 1;
                queue.refusals < REFUSALS
            }
        };
        if retry {
            let wait = backoff::doubling(Duration::from_secs(1), queue.failures, Duration::from_secs(60));
            queue.failures = queue.failures.saturating_add(1);
            if self.session.may_report() {
                self.timers.set(Timer::Report(id), self.now.mono + wait);
            }
            return;
        }
        queue.failures = 0;
        queue.refusals = 0;
        let delivered = queue.waiting.pop_front().and_then(|report| report.id);
        let empty = queue.waiting.is_empty();
        if empty {
            self.reports.queues.remove(&id);
        }
        if let Err(failure) = result {
            self.note(
                Level::Warn,
                format!("{id}: the backend refuses a state report, it is dropped: {}", failure.text()),
            );
        }
        self.delete_row(delivered);
        self.send_report(id);
        self.on_drained();
    }

    /// The backend can be told again: everything that waits goes out.
    pub(super) fn send_reports(&mut self) {
        let waiting: Vec<AppKey> = self.reports.queues.keys().copied().collect();
        waiting.into_iter().for_each(|id| self.send_report(id));
    }

    /// The session is gone: what was on its way counts as not sent, repetitions are dropped.
    pub(super) fn reports_interrupted(&mut self) {
        for (id, queue) in &mut self.reports.queues {
            queue.sending = false;
            queue.waiting.retain(|report| report.id.is_some());
            self.timers.clear(Timer::Report(*id));
        }
        self.reports.queues.retain(|_, queue| !queue.waiting.is_empty());
    }
}
