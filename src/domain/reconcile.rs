//! From what is wanted to what is done next: apps are driven, plans are walked.
//!
//! ```text
//!   accept ──▶ drive ──▶ Busy: walk the plan ──▶ finish ──▶ wish that arrived meanwhile? drive
//!                ▲            │ job, token          │        not where it is wanted?     drive
//!                │            ▼                     │        else port sync, and a look at the container
//!                └── events, resync, crash timer    └── failed: FAILED, crash loop
//! ```

use super::app::{AppKey, AppState, Stage, UpdateStatus};
use super::crash::STABLE;
use super::job::{JobSpec, Outcome};
use super::lines;
use super::message::{Effect, Level, LogCommand, Record};
use super::slot::{App, Redrives, Run, Slot, Wait, Why};
use super::timers::Timer;
use super::transition::{self, Action, Step, Version};
use super::{Job, State, backoff, names};
use std::time::Duration;

/// How often in a row the same pair of states is driven at once.
const REDRIVES: u32 = 3;
/// After this long the row has ended.
const ROW: Duration = Duration::from_secs(600);

impl State {
    /// Drives an app towards its target: decides on an action and begins it, or leaves it to the running one.
    pub(super) fn drive(&mut self, id: AppKey, why: Why) {
        if self.apps.get(&id).is_none_or(|app| app.request.is_none()) {
            return;
        }
        if why != Why::Retry {
            self.forget_crashes(id);
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
        self.refresh_files(id);
        self.sync_ports(id);
        self.adopt_facts(id);
        let Some(app) = self.apps.get_mut(&id) else { return };
        let action = if app.pending_update() {
            Some(Action::Update)
        } else {
            transition::action(app.state, app.wanted, id.stage)
        };
        match action {
            None if app.has_left() => self.forget(id),
            None => {}
            Some(Action::Noop) => self.end_without_action(id, why),
            // The engine is away: everything is driven when it is back, and this wish with it.
            Some(_) if !self.engine.answers() => app.again = Some(why),
            Some(action) => self.begin(id, action),
        }
    }

    pub(super) fn begin(&mut self, id: AppKey, action: Action) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let supported = id.stage == Stage::Prod && app.is_plain() || action == Action::Discard;
        let steps = if supported { transition::plan(action, app.wanted) } else { vec![Step::Refuse] };
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
            return self.forget(id);
        }
        if why == Why::Requested && matches!(app.wanted, AppState::Built | AppState::Published) {
            let wanted = app.wanted;
            self.note(Level::Warn, format!("{id}: {wanted} is wanted, but apps in production are never built here"));
        }
        self.push_tunnel_state();
        // What is recorded may be no more than what the backend believed.
        self.look(id);
    }

    /// Walks the plan until a step waits or the plan has ended.
    pub(super) fn advance(&mut self, id: AppKey) {
        loop {
            let Some(app) = self.apps.get_mut(&id) else { return };
            let Slot::Busy(run) = &mut app.slot else { return };
            let Some(step) = run.steps.pop_front() else { return self.finish(id) };
            if !self.perform(id, step) {
                return;
            }
        }
    }

    /// Performs one step; false if the walk stops here.
    fn perform(&mut self, id: AppKey, step: Step) -> bool {
        let Some(app) = self.apps.get(&id) else { return false };
        let container = app.container.clone();
        match step {
            Step::Report(state) => self.report(id, state),
            Step::Say(line) => {
                let version = match &app.slot {
                    Slot::Busy(run) if matches!(run.action, Action::Update | Action::Pull) => run.newest.clone(),
                    _ => app.version_that_runs(),
                };
                let text = lines::text(line, &app.name, &version);
                self.say(id, text);
            }
            Step::ClearRemote => self.logs(LogCommand::ClearRemote { container }),
            Step::ClearHistory => self.logs(LogCommand::ClearHistory { container }),
            Step::Follow => self.logs(LogCommand::Follow { container }),
            Step::Adopt => self.adopt_update(id),
            Step::CancelUpdate => {
                if let Some(app) = self.apps.get_mut(&id) {
                    app.update_status = UpdateStatus::Canceled;
                }
            }
            Step::ReleasePorts => self.ports.release(id),
            Step::DeleteFiles if !self.owns_files(id) => {}
            Step::RemoveOldImage if !self.has_old_image(id) => {}
            Step::Forget => {
                if app.wanted.is_gone() {
                    self.forget(id);
                    return false;
                }
            }
            Step::Refuse => {
                self.fail(
                    id,
                    "development and compose apps are not supported by this version of the agent",
                    Retry::Never,
                );
                return false;
            }
            Step::Token => {
                self.wait_for(id, Wait::Token(0));
                self.ask_for_token(id);
                return false;
            }
            Step::Pull { .. }
            | Step::Start
            | Step::Stop
            | Step::RemoveContainer
            | Step::RemoveImages
            | Step::NeedImage
            | Step::RemoveOldImage
            | Step::DeleteFiles => {
                match self.job_of(id, step) {
                    Ok(spec) => {
                        let job = self.start_job(Job::Step(id), spec);
                        self.wait_for(id, Wait::Job(job, step));
                    }
                    Err(error) => self.fail(id, &error, Retry::Later),
                }
                return false;
            }
        }
        true
    }

    pub(super) fn wait_for(&mut self, id: AppKey, wait: Wait) {
        if let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) {
            run.waits = Some(wait);
        }
    }

    /// The job of the current step has ended.
    pub(super) fn on_step_ended(&mut self, id: AppKey, outcome: Outcome) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Slot::Busy(run) = &mut app.slot else { return };
        let Some(Wait::Job(_, step)) = run.waits.take() else { return };
        if let Some(cancel) = run.cancel.take() {
            return self.follow_cancel(id, cancel);
        }
        match (step, outcome) {
            (Step::RemoveOldImage, Outcome::Failed(error)) => {
                self.note(Level::Debug, format!("{id}: the old image stays: {error}"));
                self.advance(id);
            }
            (_, Outcome::Cancelled) => self.end_cancelled(id),
            (_, Outcome::EngineGone(reason)) => self.interrupt(id, &reason),
            (Step::Start, Outcome::ImageMissing) if run.fetches == 0 => {
                run.fetches += 1;
                transition::FETCH.iter().rev().for_each(|step| run.steps.push_front(*step));
                self.advance(id);
            }
            (Step::Start, Outcome::ImageMissing) => {
                self.fail(id, "the image that was pulled is not there", Retry::Later);
            }
            (Step::Start, Outcome::PortsTaken(taken)) => self.start_elsewhere(id, &taken, &[Step::Start]),
            (Step::Start, Outcome::PortConflict(text)) => self.start_after_conflict(id, &text, &[Step::Start]),
            (Step::Start, Outcome::Failed(error)) => {
                let text = lines::start_failed(&app.name, &error);
                let container = app.container.clone();
                self.say(id, text);
                // What the container wrote before it ended is the reason that a person looks for.
                self.logs(LogCommand::Follow { container });
                self.fail_silently(id, &error, Retry::Later);
            }
            (Step::Pull { version: Version::Newest, .. }, Outcome::Done) if app.version.is_empty() => {
                app.version.clone_from(&run.newest);
                self.advance(id);
            }
            (Step::NeedImage, Outcome::HasImage(false)) => {
                transition::PULL.iter().rev().for_each(|step| run.steps.push_front(*step));
                self.advance(id);
            }
            (Step::Pull { .. }, Outcome::Failed(error)) => {
                if !run.accepted {
                    self.say(id, lines::pull_failed(&error));
                }
                self.fail_silently(id, &error, Retry::Later);
            }
            (_, Outcome::Failed(error)) => self.fail(id, &error, Retry::Later),
            _ => self.advance(id),
        }
    }

    /// The engine has accepted the pull of the current step.
    pub(super) fn on_accepted(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Slot::Busy(run) = &mut app.slot else { return };
        run.accepted = true;
        if let (Some(Wait::Job(_, Step::Pull { announce: true, .. })), None) = (run.waits, run.cancel) {
            self.report(id, AppState::Downloading);
            // A cancel that came before there was anything to cancel.
            let again = self.apps.get(&id).and_then(|app| app.again);
            if let Some(why) = again {
                self.drive(id, why);
            }
        }
    }

    /// The plan has ended well: what is next follows from what is wanted (5.3 step 14, 5.4).
    fn finish(&mut self, id: AppKey) {
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
        if app.is_settled() {
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

    fn fail_silently(&mut self, id: AppKey, error: &str, retry: Retry) {
        self.note(Level::Warn, format!("{id}: {error}"));
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
    fn interrupt(&mut self, id: AppKey, reason: &str) {
        self.note(Level::Warn, format!("{id}: interrupted, the container engine is away: {reason}"));
        self.release(id);
        self.engine_lost();
    }

    fn end_cancelled(&mut self, id: AppKey) {
        let update =
            matches!(self.apps.get(&id).map(|app| &app.slot), Some(Slot::Busy(run)) if run.action == Action::Update);
        self.say(id, lines::cancelled(update).to_owned());
        self.finish(id);
    }

    /// Interrupts the running action; `cancel` follows when its step has ended.
    fn cancel(&mut self, id: AppKey, cancel: Action) {
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
            Some(Wait::Token(_)) => {
                self.timers.clear(Timer::Token(id));
                self.follow_cancel(id, cancel);
            }
            None => {}
        }
    }

    /// The interrupted step has ended. How it goes on follows from what is wanted now: it may have changed meanwhile.
    fn follow_cancel(&mut self, id: AppKey, cancel: Action) {
        let Some(app) = self.apps.get(&id) else { return };
        let cell = transition::action(app.state, app.wanted, id.stage).filter(|action| action.is_cancel());
        let cancel = match cell {
            Some(cell) => cell,
            None if cancel.ends_update() => Action::CancelUpdate,
            None => cancel,
        };
        self.say(id, lines::cancelled(cancel.ends_update()).to_owned());
        self.release(id);
        self.begin(id, cancel);
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
    fn adopt_update(&mut self, id: AppKey) {
        let updated = self.id();
        let Some(app) = self.apps.get_mut(&id) else { return };
        let (Slot::Busy(run), Some(request)) = (&app.slot, &mut app.request) else { return };
        app.version.clone_from(&run.newest);
        app.release_key = run.new_release_key;
        app.updated = updated;
        app.update_status = UpdateStatus::PendingRemoteConfirmation;
        request.present_version.clone_from(&app.version);
        request.version.clone_from(&app.version);
        request.release_key = app.release_key;
        request.requested_state = app.wanted;
        if let Some(compose) = request.new_docker_compose.take() {
            request.docker_compose = Some(compose);
        }
        self.persist_request(id);
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

    fn has_old_image(&self, id: AppKey) -> bool {
        self.apps.get(&id).is_some_and(|app| match &app.slot {
            Slot::Busy(run) => !run.old_version.is_empty() && run.old_version != app.version,
            Slot::Idle => false,
        })
    }

    /// Drops an app that has left the device: rows, log, ports' memory. Reports that wait still go out.
    pub(super) fn forget(&mut self, id: AppKey) {
        self.forget_crashes(id);
        let Some(app) = self.apps.remove(&id) else { return };
        self.timers.clear(Timer::Token(id));
        self.persist(Record::Delete { app: id });
        self.logs(LogCommand::Forget { container: app.container });
        self.push_tunnel_state();
    }

    /// Writes a line to the app's log.
    pub(super) fn say(&mut self, id: AppKey, text: String) {
        if let Some(app) = self.apps.get(&id) {
            let container = app.container.clone();
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
