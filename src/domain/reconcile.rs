//! From what is wanted to what is done next: which action, and what follows its end. [`super::walk`] goes through its steps.
//!
//! ```text
//!   accept ──▶ drive ──▶ Busy: walk the plan ──▶ finish ──▶ wish that arrived meanwhile? drive
//!                ▲            │ job, token          │        not where it is wanted?     drive
//!                │            ▼                     │        else port sync, and a look at the container
//!                └── events, resync, crash timer    └── failed: FAILED, crash loop
//! ```

use super::app::{AppKey, AppState, Stage, UpdateStatus};
use super::crash::STABLE;
use super::job::JobSpec;
use super::lines;
use super::message::{Effect, Level, LogCommand, Record};
use super::order::log_of;
use super::plan::{self, Kind};
use super::slot::{App, Redrives, Run, Slot, Wait, Why};
use super::timers::Timer;
use super::transition::{self, Action};
use super::{Job, State, backoff, names};
use std::time::Duration;

/// How often in a row the same pair of states is driven at once.
const REDRIVES: u32 = 3;
/// After this long the row has ended.
const ROW: Duration = Duration::from_secs(600);

impl State {
    /// Drives an app towards its target: decides on an action and begins it, or leaves it to the running one.
    pub(super) fn drive(&mut self, id: AppKey, why: Why) {
        if self.apps.get(&id).is_none_or(|app| app.request.is_none() && !app.unknown) {
            return;
        }
        if why != Why::Retry {
            self.forget_crashes(id);
        }
        if why == Why::Requested {
            self.stop_upload(id);
        }
        let Some(app) = self.apps.get_mut(&id) else { return };
        if !app.is_idle() {
            match app.cancel_for(why) {
                Some(cancel) => self.cancel(id, cancel),
                // The end of the running action looks at what is wanted then (S3).
                None => app.again = app.again.max(Some(why)),
            }
            return;
        }
        app.again = None;
        self.sync_ports(id);
        self.adopt_facts(id);
        self.part_with_strays(id);
        let Some(app) = self.apps.get_mut(&id) else { return };
        let action = if app.unknown {
            Some(Action::Discard)
        } else if app.pending_update() {
            Some(Action::Update)
        } else {
            transition::action(app.state, app.wanted, id.stage)
        };
        match action {
            None if app.has_left() => self.leave(id),
            None => {}
            Some(Action::Noop) => {
                self.refresh_files(id);
                self.end_without_action(id, why);
            }
            // The engine is away: everything is driven when it is back, and this wish with it.
            Some(_) if !self.engine.answers() => app.again = Some(why),
            Some(action) => {
                // Not before: an app that never comes would leave its secrets here.
                self.refresh_files(id);
                self.begin(id, action);
            }
        }
    }

    /// What runs is not the app any more.
    fn part_with_strays(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id).filter(|app| !app.strays.is_empty()) else { return };
        if app.state == AppState::Running && app.wanted == AppState::Running {
            self.report(id, AppState::Present);
        }
    }

    /// Stop was pressed while the sources of an app in development still arrive (5.3 step 3).
    fn stop_upload(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id).filter(|_| id.stage == Stage::Dev) else { return };
        let is_at_rest = app.state.is_gone() || matches!(app.state, AppState::Present | AppState::Failed);
        if is_at_rest && matches!(app.wanted, AppState::Present | AppState::Built) {
            let container = app.container.clone();
            self.cancel_transfer(&container);
        }
    }

    pub(super) fn begin(&mut self, id: AppKey, action: Action) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let mut steps = plan::plan(action, app.case());
        if !app.strays.is_empty() {
            steps.insert(0, plan::Step::RemoveStray);
        }
        app.slot = Slot::Busy(Box::new(Run::new(action, steps, app)));
        let (state, wanted) = (app.state, app.wanted);
        self.note(Level::Info, format!("{id}: {action:?} ({state}, {wanted} is wanted)"));
        self.advance(id);
    }

    /// Nothing to do: what is so is reported once more (5.3 step 13).
    fn end_without_action(&mut self, id: AppKey, why: Why) {
        if why >= Why::Connected {
            self.report_again(id);
        }
        let Some(app) = self.apps.get(&id) else { return };
        if app.has_left() {
            return self.leave(id);
        }
        if why == Why::Requested && matches!(app.wanted, AppState::Built | AppState::Published) {
            let wanted = app.wanted;
            self.note(Level::Warn, format!("{id}: {wanted} is wanted, but apps in production are never built here"));
        }
        self.push_tunnel_state();
        // What is recorded may be no more than what the backend believed.
        self.look(id);
    }

    /// The plan has ended well: what is next follows from what is wanted (5.3 step 14, 5.4).
    pub(super) fn finish(&mut self, id: AppKey) {
        self.release(id);
        let Some(app) = self.apps.get_mut(&id) else { return };
        if app.state == AppState::Running && app.crash.is_some() {
            self.timers.set(Timer::Stable(id), self.now.mono + STABLE);
        }
        match app.again.take() {
            Some(why) => self.drive(id, why),
            None => self.verify(id),
        }
        self.push_tunnel_state();
        self.look(id);
    }

    /// Compares what is with what is wanted, and drives if they differ (5.4).
    pub(super) fn verify(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id) else { return };
        if app.request.is_none() || !app.is_idle() || app.state == AppState::Failed || app.waits_after_crash() {
            return;
        }
        if app.state == AppState::Built && app.wanted == AppState::Built {
            // What was built is on the device now; the backend promotes it.
            if let Some(app) = self.apps.get_mut(&id) {
                app.promoted = true;
            }
            self.report(id, AppState::Present);
        } else if app.is_settled() {
            self.refresh_files(id);
            self.sync_ports(id);
        } else {
            self.drive_again(id);
        }
    }

    /// Drives an app that is not where it is wanted though nobody asked just now. What has been done some times in a row
    /// without getting there waits: a transition that ends well without reaching its target would spin.
    pub(super) fn drive_again(&mut self, id: AppKey) {
        let now = self.now.mono;
        let Some(app) = self.apps.get_mut(&id) else { return };
        let pair = (app.state, app.wanted);
        let in_row = app.redrives.pair == pair && now < app.redrives.at + ROW;
        let count = if in_row { app.redrives.count + 1 } else { 1 };
        app.redrives = Redrives { pair, count, at: now };
        if count <= REDRIVES {
            return self.drive(id, Why::Verify);
        }
        let wait = backoff::crash_loop(u64::from(count - REDRIVES), self.random());
        self.timers.set(Timer::Drive(id), now + wait);
        let span = lines::span(wait);
        self.note(Level::Warn, format!("{id}: still {} where {} is wanted, next try in {span}", pair.0, pair.1));
    }

    /// The action has failed: FAILED before the slot is free, then the crash loop (5.3 step 15).
    pub(super) fn fail(&mut self, id: AppKey, error: &str, retry: Retry) {
        self.say(id, error.to_owned());
        self.fail_silently(id, error, retry);
    }

    pub(super) fn fail_silently(&mut self, id: AppKey, error: &str, retry: Retry) {
        self.note(Level::Warn, format!("{id}: {error}"));
        if let Some(Slot::Busy(run)) = self.apps.get(&id).map(|app| &app.slot)
            && run.action == Action::RollBack
        {
            // The release before does not run either; the new one is not to blame for that a second time.
            self.refuse_version(id);
        }
        self.report(id, AppState::Failed);
        self.release(id);
        let Some(app) = self.apps.get_mut(&id) else { return };
        match app.again.take() {
            Some(why) => self.drive(id, why),
            None if retry == Retry::Later => self.crash(id),
            None => {}
        }
        self.look(id);
    }

    /// The engine went away in the middle: nothing is known of the effect, and nothing is reported. When the engine answers
    /// again, the container is looked at and the app is driven anew.
    pub(super) fn interrupt(&mut self, id: AppKey, reason: &str) {
        self.note(Level::Warn, format!("{id}: interrupted, the container engine is away: {reason}"));
        self.release(id);
        self.engine_lost();
    }

    pub(super) fn end_cancelled(&mut self, id: AppKey) {
        let Some(Slot::Busy(run)) = self.apps.get(&id).map(|app| &app.slot) else { return };
        let text = lines::cancelled(run.action);
        self.say(id, text.to_owned());
        self.finish(id);
    }

    /// Interrupts the running action; `cancel` follows when its step has ended.
    pub(super) fn cancel(&mut self, id: AppKey, cancel: Action) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        if let (true, Some(request)) = (cancel.ends_update(), &mut app.request) {
            // What was cancelled must not start again by itself (2.7).
            request.request_update = false;
            self.persist_request(id);
        }
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        run.cancel = Some(cancel);
        match run.waits {
            Some(Wait::Job(job, _)) => self.effect(Effect::Cancel { job }),
            Some(Wait::Token(_) | Wait::Proof) => {
                self.timers.clear(Timer::Token(id));
                self.timers.clear(Timer::Prove(id));
                self.follow_cancel(id, cancel);
            }
            // Between two steps.
            None => self.follow_cancel(id, cancel),
        }
    }

    /// The interrupted step has ended. How it goes on follows from what is wanted now: it may have changed meanwhile.
    pub(super) fn follow_cancel(&mut self, id: AppKey, cancel: Action) {
        let Some(app) = self.apps.get(&id) else { return };
        let Slot::Busy(run) = &app.slot else { return };
        let cell = transition::action(app.state, app.wanted, id.stage).filter(|action| action.is_cancel());
        let next = match cell {
            _ if app.unknown => None,
            Some(cell) => Some(cell),
            None if cancel.ends_update() => Some(Action::CancelUpdate),
            None => Some(cancel).filter(|cancel| cancel.is_cancel()),
        };
        self.say(id, lines::cancelled(next.unwrap_or(run.action)).to_owned());
        self.release(id);
        match next {
            Some(next) => self.begin(id, next),
            None => self.drive(id, Why::Requested),
        }
    }

    /// Frees the slot: what was observed before counts as not seen (S12).
    fn release(&mut self, id: AppKey) {
        let released = self.id();
        if let Some(app) = self.apps.get_mut(&id) {
            app.slot = Slot::Idle;
            app.released = released;
        }
    }

    /// The update is done: its version is the installed one (2.7). A newer one that was asked for meanwhile stays wanted.
    pub(super) fn adopt_update(&mut self, id: AppKey) {
        let updated = self.id();
        let Some(app) = self.apps.get_mut(&id) else { return };
        let (Slot::Busy(run), Some(request)) = (&mut app.slot, &mut app.request) else { return };
        let before = std::mem::replace(&mut app.version, run.newest.clone());
        app.release_key = run.new_release_key;
        app.updated = updated;
        app.update_status = UpdateStatus::PendingRemoteConfirmation;
        request.present_version.clone_from(&app.version);
        request.version.clone_from(&app.version);
        request.release_key = app.release_key;
        request.requested_state = app.wanted;
        if let Some(definition) = run.definition.take() {
            request.docker_compose = Some(definition);
        }
        if request.newest_version == app.version {
            request.new_docker_compose = None;
        }
        if app.kind() == Kind::Plain {
            app.superseded.retain(|version| *version != app.version && *version != before);
            app.superseded.extend(Some(before).filter(|before| !before.is_empty() && *before != app.version));
        }
        self.persist_superseded(id);
        self.persist_request(id);
    }

    /// The images of versions that an app does not need any more are gone, or cannot be removed.
    pub(super) fn forget_superseded(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let unneeded: Vec<String> = app.unneeded().cloned().collect();
        if !unneeded.is_empty() {
            app.superseded.retain(|version| !unneeded.contains(version));
            self.persist_superseded(id);
        }
    }

    fn persist_superseded(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id) else { return };
        let versions = app.superseded.clone();
        self.persist(Record::Superseded { app: id, versions });
    }

    /// Whether an app's directory is its own: two apps of one name share it (decision 31), and a name that is no name of a
    /// directory has none.
    pub(super) fn owns_files(&self, id: AppKey) -> bool {
        let Some(app) = self.apps.get(&id) else { return false };
        let shares = |other: &App| {
            other.id != id && other.id.stage == id.stage && other.name.to_lowercase() == app.name.to_lowercase()
        };
        names::is_path_part(&app.name) && !self.apps.values().any(shares)
    }

    /// Forgets an app that is gone and not wanted. Of one that was cut off before it ever ran there may be files.
    pub(super) fn leave(&mut self, id: AppKey) {
        let uninstalled = self.apps.get(&id).is_some_and(|app| app.wanted == AppState::Uninstalled && !app.unknown);
        if uninstalled && self.owns_files(id) { self.begin(id, Action::Leave) } else { self.forget(id) }
    }

    /// Drops an app that has left the device: rows, log, ports' memory. Reports that wait still go out.
    pub(super) fn forget(&mut self, id: AppKey) {
        self.forget_crashes(id);
        let Some(app) = self.apps.remove(&id) else { return };
        self.timers.clear(Timer::Token(id));
        self.timers.clear(Timer::Prove(id));
        if app.refused.is_some() {
            self.persist(Record::Refused { app: id, version: None });
        }
        if !app.superseded.is_empty() {
            self.persist(Record::Superseded { app: id, versions: Vec::new() });
        }
        self.persist(Record::Delete { app: id });
        if app.release_build {
            self.logs(LogCommand::Forget { container: names::publish_log(id, &app.name) });
        }
        self.logs(LogCommand::Forget { container: app.container });
        self.push_tunnel_state();
    }

    /// Writes a line to the app's log.
    pub(super) fn say(&mut self, id: AppKey, text: String) {
        if let Some(app) = self.apps.get(&id) {
            let container = log_of(app);
            self.logs(LogCommand::Say { container, text });
        }
    }

    pub(super) fn persist_state(&mut self, id: AppKey) {
        let at = self.now.wall;
        let Some(app) = self.apps.get(&id) else { return };
        self.persist(Record::AppState {
            app: id,
            name: app.name.clone(),
            version: app.version.clone(),
            release_key: app.release_key,
            state: app.state,
            requested: app.wanted,
            at,
        });
    }

    pub(super) fn persist_request(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id) else { return };
        let Some(request) = app.request.clone() else { return };
        let current = app.state;
        self.persist(Record::Requested { request: Box::new(request), current });
    }

    /// The newest version did not prove itself: it is not tried again by itself.
    pub(super) fn refuse_version(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        if let Slot::Busy(run) = &app.slot {
            let version = run.newest.clone();
            if app.kind() == Kind::Plain && !app.superseded.contains(&version) {
                app.superseded.push(version.clone());
            }
            app.refused = Some(version);
            self.persist_refused(id);
            self.persist_superseded(id);
        }
    }

    /// Stores which version an app does not try again by itself.
    pub(super) fn persist_refused(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id) else { return };
        let version = app.refused.clone();
        self.persist(Record::Refused { app: id, version });
    }

    /// A detached piece of work: its failure is a warning.
    pub(super) fn detach(&mut self, id: AppKey, spec: JobSpec) {
        self.start_job(Job::Detached(Some(id)), spec);
    }
}

/// Whether a failed action is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// By the crash loop.
    Later,
    /// Only when somebody asks.
    Never,
}
