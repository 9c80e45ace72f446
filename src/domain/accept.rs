//! How a wish enters the store: from the database at start, from a caller, from the backend's list (apps chapter 5.1).
//! Accepting only remembers; `State::drive` acts.

use super::app::{AppKey, AppState, Stage};
use super::message::{Level, LogCommand};
use super::request::Request;
use super::slot::App;
use super::{Recorded, State, names};
use std::collections::btree_map::Entry;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// `request_app_state`
    Call,
    /// The backend's list.
    List,
}

impl State {
    /// Takes over what the database held. Either row of an app may be missing: without a state the request says what the
    /// backend believes, without a request the app is only watched.
    pub(super) fn restore(&mut self, recorded: Recorded) {
        for row in recorded.apps {
            let mut app = App::new(row.id, &row.name, row.state);
            app.version = row.version;
            app.release_key = row.release_key;
            self.apps.insert(row.id, app);
        }
        for mut request in recorded.requests {
            let id = request.id();
            let is_new = !self.apps.contains_key(&id);
            let app = self.apps.entry(id).or_insert_with(|| believed(&request));
            request.requested_state = request.requested_state.as_request();
            app.wanted = request.requested_state;
            app.epoch_known = request.app_cred_epoch > 0;
            app.request = Some(request);
            if is_new {
                // Written with the first turn.
                self.persist_state(id);
            }
            self.claim_ports(id);
        }
        for (id, version) in recorded.refused {
            if let Some(app) = self.apps.get_mut(&id) {
                app.refused = Some(version);
            }
        }
        for (id, versions) in recorded.superseded {
            if let Some(app) = self.apps.get_mut(&id) {
                app.superseded = versions;
            }
        }
        self.restore_reports(recorded.outbox);
    }

    /// Accepts a request into the store (5.1).
    pub(super) fn accept(&mut self, mut request: Request, source: Source) {
        let id = request.id();
        let wanted = request.requested_state.as_request();
        request.requested_state = wanted;
        // Said by a backend that has not heard the last: what it believes is of before that.
        request.current_state = self.reports.untold(id).or(request.current_state);
        match self.apps.entry(id) {
            Entry::Vacant(entry) => {
                let app = entry.insert(believed(&request));
                app.created_with_update = request.request_update;
                app.wanted = wanted;
                self.persist_state(id);
            }
            Entry::Occupied(mut entry) => {
                // A finished build that waits for its promotion is not overwritten; a teardown always wins (2.5). What the
                // request says of the current state may be the promotion.
                let app = entry.get_mut();
                if app.state == AppState::Built && app.wanted != AppState::Built && !wanted.is_gone() {
                    if let (Some(stored), Some(_)) = (&mut app.request, request.current_state) {
                        stored.current_state = request.current_state;
                    }
                    return;
                }
            }
        }
        let untold = self.reports.confirm_update(id);
        let Some(app) = self.apps.get_mut(&id) else { return };
        // Said by a backend that had not been told of an update: it still names the version before it.
        if untold || (source == Source::List && app.updated > self.sync.asked) {
            request.present_version.clone_from(&app.version);
            request.release_key = app.release_key;
        }
        let lowered = merge(app, &mut request, source);
        let before = app.request.is_some().then(|| (app.body(), app.container.clone()));
        app.wanted = wanted;
        app.unknown = false;
        app.name.clone_from(&request.app_name);
        app.container = names::container(id, &request.app_name);
        app.project = names::project(id, &request.app_name);
        app.promoted = false;
        let again = source == Source::Call && request.request_update && app.refused.take().is_some();
        app.request = Some(request);
        let now = app.body();
        app.strays.retain(|stray| *stray != now);
        if let Some((body, container)) = before.filter(|(body, _)| *body != now) {
            app.strays.push(body);
            self.note(Level::Info, format!("{id}: it has another name, or is made of something else now"));
            self.logs(LogCommand::Unfollow { container });
        }
        if again {
            self.persist_refused(id);
        }
        if lowered {
            self.note(Level::Warn, format!("{id}: the backend asks for an older credential epoch"));
        }
        self.claim_ports(id);
        self.persist_request(id);
    }

    /// Cloud facts that a request brings, once nothing is being done with the app (5.3 step 10).
    pub(super) fn adopt_facts(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Some(request) = &app.request else { return };
        let waits = matches!(app.state, AppState::Built | AppState::Published)
            || (app.state == AppState::Present && app.wanted == AppState::Built);
        let before = (app.state, app.version.clone(), app.release_key);
        // Work that the backend believes in is that of a moment ago: it has not heard of its end.
        if let (true, Some(state)) = (waits, request.current_state.filter(|state| !state.is_work())) {
            app.state = state;
        }
        if !request.present_version.is_empty() && request.present_version != app.version {
            app.version.clone_from(&request.present_version);
            app.release_key = request.release_key;
        }
        if before != (app.state, app.version.clone(), app.release_key) {
            self.persist_state(id);
        }
    }
}

/// An app that only its request tells of: in the state that the backend believes. A state between two settled ones cannot
/// be true of something that nobody works on; what is on the device comes out when its container is looked at.
fn believed(request: &Request) -> App {
    let state = match request.current_state {
        Some(AppState::Stopped) => AppState::Present,
        Some(state) if state.is_transient() && request.stage == Stage::Prod => AppState::Removed,
        Some(AppState::Inherit) | None => AppState::Removed,
        Some(state) if state.is_work() => AppState::Removed,
        Some(state) => state,
    };
    let mut app = App::new(request.id(), &request.app_name, state);
    app.version.clone_from(&request.present_version);
    app.release_key = request.release_key;
    app
}

/// Fills what the request does not carry from what is stored; true if it lowers the credential epoch.
fn merge(app: &mut App, request: &mut Request, source: Source) -> bool {
    let Some(stored) = &app.request else {
        app.epoch_known = true;
        return false;
    };
    if request.device_owner_account_key == 0 {
        request.device_owner_account_key = stored.device_owner_account_key;
    }
    if request.instance_key == 0 && source == Source::List {
        request.instance_key = stored.instance_key;
    }
    if request.docker_credentials.is_empty() {
        request.docker_credentials.clone_from(&stored.docker_credentials);
    }
    if request.version.is_empty() {
        request.version.clone_from(&stored.version);
    }
    let lowered = request.app_cred_epoch > 0 && request.app_cred_epoch < stored.app_cred_epoch;
    if request.app_cred_epoch == 0 {
        request.app_cred_epoch = stored.app_cred_epoch;
    } else {
        app.epoch_known = true;
    }
    lowered
}
