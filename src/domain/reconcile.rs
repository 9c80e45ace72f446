//! From what is wanted to what is done next: requests are accepted, apps are driven, plans are walked.
//!
//! ```text
//!   accept ──▶ drive ──▶ Busy: walk the plan ──▶ finish ──▶ wish that arrived meanwhile? drive
//!                ▲            │ job, token          │        not where it is wanted?     drive
//!                │            ▼                     │        else port sync, and a look at the container
//!                └── events, resync, crash timer    └── failed: FAILED, crash loop
//! ```

use super::app::{AppKey, AppState, Stage, UpdateStatus};
use super::job::{JobSpec, Outcome};
use super::lines;
use super::message::{Effect, Level, LogCommand, Record};
use super::request::Request;
use super::slot::{App, Crash, Run, Slot, Wait, Why};
use super::timers::Timer;
use super::transition::{self, Action, Step};
use super::{Job, Recorded, State, backoff, names};
use std::collections::VecDeque;
use std::time::Duration;

/// An app that has run this long has overcome its crashes.
const STABLE: Duration = Duration::from_secs(600);
/// How often in a row the same pair of states is driven at once.
const REDRIVES: u32 = 3;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// `request_app_state`
    Call,
    /// The backend's list.
    List,
}

impl State {
    /// Takes over what the database held.
    pub(super) fn restore(&mut self, recorded: Recorded) {
        for row in recorded.apps {
            let mut app = new_app(row.id, &row.name, row.state);
            app.version = row.version;
            app.release_key = row.release_key;
            self.apps.insert(row.id, app);
        }
        for request in recorded.requests {
            let id = request.id();
            let app = self
                .apps
                .entry(id)
                .or_insert_with(|| new_app(id, &request.app_name, request.current_state.unwrap_or(AppState::Removed)));
            app.wanted = request.requested_state;
            app.epoch_known = request.app_cred_epoch > 0;
            app.request = Some(request);
        }
        self.restore_reports(recorded.outbox);
    }

    /// Accepts a request into the store (5.1). The transition itself is driven by the caller.
    pub(super) fn accept(&mut self, mut request: Request, source: Source) {
        let id = request.id();
        let wanted = request.requested_state.as_request();
        request.requested_state = wanted;
        let unknown = !self.apps.contains_key(&id);
        if unknown {
            let state = match request.current_state {
                Some(AppState::Stopped) => AppState::Present,
                Some(AppState::Inherit) | None => AppState::Removed,
                Some(state) => state,
            };
            let mut app = new_app(id, &request.app_name, state);
            app.version.clone_from(&request.present_version);
            app.release_key = request.release_key;
            app.created_with_update = request.request_update;
            app.wanted = wanted;
            self.apps.insert(id, app);
            self.persist_state(id);
        }
        let Some(app) = self.apps.get_mut(&id) else { return };
        // A finished build that waits for its promotion is not overwritten; a teardown always wins (2.5).
        if app.state == AppState::Built && app.wanted != AppState::Built && !wanted.is_gone() {
            return;
        }
        let lowered = merge(app, &mut request, source);
        app.wanted = wanted;
        app.name.clone_from(&request.app_name);
        app.container = names::container(id, &request.app_name);
        app.request = Some(request);
        if lowered {
            self.note(Level::Warn, format!("{id}: the backend asks for an older credential epoch"));
        }
        self.persist_request(id);
    }

    /// Drives an app towards its target: decides on an action and begins it, or leaves it to the running one.
    pub(super) fn drive(&mut self, id: AppKey, why: Why) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Some(request) = app.request.clone() else { return };
        if why != Why::Retry {
            app.crash = None;
            self.timers.clear(Timer::CrashLoop(id));
            self.timers.clear(Timer::Drive(id));
        }
        let Some(app) = self.apps.get_mut(&id) else { return };
        if let Slot::Busy(run) = &app.slot {
            let updating = run.action == Action::Update;
            let cell = transition::action(app.state, app.wanted, id.stage).filter(|action| action.is_cancel());
            match cell {
                Some(cancel) if request.cancel_transition || updating => self.cancel(id, cancel),
                // While updating everything but a cancel is dropped: the end of the update looks at what is wanted (5.3).
                _ => app.again = app.again.max(Some(why)),
            }
            return;
        }
        app.again = None;
        self.refresh_files(id);
        self.sync_ports(id);
        self.adopt_facts(id);
        let Some(app) = self.apps.get(&id) else { return };
        let action = if app.pending_update() {
            Some(Action::Update)
        } else {
            transition::action(app.state, app.wanted, id.stage)
        };
        match action {
            None => {}
            Some(Action::Noop) => self.end_without_action(id, why),
            Some(_) if !self.engine.answers() => {
                // The engine is away: everything is driven when it is back, and this wish with it.
                if let Some(app) = self.apps.get_mut(&id) {
                    app.again = Some(why);
                }
            }
            Some(action) => self.begin(id, action),
        }
    }

    fn begin(&mut self, id: AppKey, action: Action) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let unsupported = id.stage == Stage::Dev || app.request.as_ref().is_some_and(Request::is_compose);
        let steps = if unsupported { vec![Step::Refuse] } else { transition::plan(action, app.wanted) };
        let run = Run {
            action,
            steps: VecDeque::from(steps),
            waits: None,
            cancel: None,
            token: None,
            conflicts: 0,
            probes: 0,
            fetches: 0,
            bindings: Vec::new(),
            accepted: false,
            old_version: app.version.clone(),
        };
        app.slot = Slot::Busy(Box::new(run));
        let (state, wanted) = (app.state, app.wanted);
        self.ports.forget_taken();
        self.note(Level::Info, format!("{id}: {action:?} ({state}, {wanted} is wanted)"));
        self.advance(id);
    }

    /// Nothing to do: what is so is reported once more (5.3 step 13).
    fn end_without_action(&mut self, id: AppKey, why: Why) {
        if why == Why::Requested {
            self.report_again(id);
        }
        self.push_tunnel_state();
        if self.apps.get(&id).is_some_and(|app| app.wanted.is_gone() && app.state == AppState::Removed) {
            self.forget(id);
        }
    }

    /// Cloud facts that a request brings (5.3 step 10).
    fn adopt_facts(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Some(request) = &app.request else { return };
        let waits = matches!(app.state, AppState::Built | AppState::Published)
            || (app.state == AppState::Present && app.wanted == AppState::Built);
        let before = (app.state, app.version.clone(), app.release_key);
        if let (true, Some(state)) = (waits, request.current_state) {
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
        let Some(app) = self.apps.get_mut(&id) else { return false };
        let container = app.container.clone();
        match step {
            Step::Report(state) => self.report(id, state),
            Step::Say(line) => {
                let version = match (&app.slot, &app.request) {
                    (Slot::Busy(run), Some(request)) if matches!(run.action, Action::Update | Action::Pull) => {
                        request.newest_version.clone()
                    }
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
                app.update_status = UpdateStatus::Canceled;
                if let Some(request) = &mut app.request {
                    request.request_update = false;
                }
                self.persist_request(id);
            }
            Step::ReleasePorts => self.ports.release(id),
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
            (Step::Start, Outcome::PortsTaken(taken)) => self.start_elsewhere(id, &taken),
            (Step::Start, Outcome::PortConflict(text)) => self.start_after_conflict(id, &text),
            (Step::Start, Outcome::Failed(error)) => {
                let text = lines::start_failed(&app.name, &error);
                let container = app.container.clone();
                self.say(id, text);
                // What the container wrote before it ended is the reason that a person looks for.
                self.logs(LogCommand::Follow { container });
                self.fail_silently(id, &error, Retry::Later);
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
        let Some(app) = self.apps.get_mut(&id) else { return };
        if app.request.is_none() || !app.is_idle() || app.state == AppState::Failed {
            return;
        }
        if app.is_settled() {
            app.redrives = (app.state, app.wanted, 0);
            self.refresh_files(id);
            return self.sync_ports(id);
        }
        let pair = (app.state, app.wanted);
        app.redrives = if (app.redrives.0, app.redrives.1) == pair {
            (pair.0, pair.1, app.redrives.2 + 1)
        } else {
            (pair.0, pair.1, 1)
        };
        if app.redrives.2 <= REDRIVES {
            self.drive(id, Why::Verify);
        } else {
            // A transition that ends well without reaching its target would spin.
            let wait = backoff::crash_loop(u64::from(app.redrives.2 - REDRIVES), self.random());
            self.timers.set(Timer::Drive(id), self.now.mono + wait);
            self.note(
                Level::Warn,
                format!("{id}: still {} where {} is wanted, next try in {}", pair.0, pair.1, lines::span(wait)),
            );
        }
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
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        run.cancel = Some(cancel);
        match run.waits {
            Some(Wait::Job(job, _)) => self.effect(Effect::Cancel { job }),
            Some(Wait::Token(_)) => {
                run.waits = None;
                run.cancel = None;
                self.timers.clear(Timer::Token(id));
                self.follow_cancel(id, cancel);
            }
            None => {}
        }
    }

    fn follow_cancel(&mut self, id: AppKey, cancel: Action) {
        let update =
            matches!(cancel, Action::CancelUpdate | Action::CancelUpdateAndRemove | Action::CancelUpdateAndUninstall);
        self.say(id, lines::cancelled(update).to_owned());
        self.release(id);
        if let Some(app) = self.apps.get_mut(&id) {
            app.again = None;
        }
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

    /// Enters or advances the crash loop of a PROD app.
    pub(super) fn crash(&mut self, id: AppKey) {
        if id.stage == Stage::Dev {
            return;
        }
        let jitter = self.random();
        let Some(app) = self.apps.get_mut(&id) else { return };
        let count = app.crash.map_or(0, |crash| crash.count).saturating_add(1);
        let wait = backoff::crash_loop(count, jitter);
        let at = self.now.mono + wait;
        app.crash = Some(Crash { count, until: Some(at) });
        self.timers.set(Timer::CrashLoop(id), at);
        self.timers.clear(Timer::Stable(id));
        self.say(id, lines::crash_loop(count, wait));
    }

    pub(super) fn on_crash_timer(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Some(crash) = &mut app.crash else { return };
        crash.until = None;
        if app.is_settled() {
            app.crash = None;
        } else {
            self.drive(id, Why::Retry);
        }
    }

    pub(super) fn on_stable(&mut self, id: AppKey) {
        if let Some(app) = self.apps.get_mut(&id).filter(|app| app.state == AppState::Running) {
            app.crash = None;
        }
    }

    /// The update is done: its version is the installed one (2.7).
    fn adopt_update(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Some(request) = &mut app.request else { return };
        app.version.clone_from(&request.newest_version);
        app.release_key = request.new_release_key;
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

    /// Drops an app that has left the device: rows, log, ports' memory. Reports that wait still go out.
    pub(super) fn forget(&mut self, id: AppKey) {
        let Some(app) = self.apps.remove(&id) else { return };
        for timer in [Timer::CrashLoop(id), Timer::Stable(id), Timer::Drive(id), Timer::Token(id)] {
            self.timers.clear(timer);
        }
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

fn new_app(id: AppKey, name: &str, state: AppState) -> App {
    App {
        id,
        name: name.to_owned(),
        container: names::container(id, name),
        state,
        wanted: state.as_request(),
        request: None,
        version: String::new(),
        release_key: 0,
        created_with_update: false,
        update_status: UpdateStatus::None,
        slot: Slot::Idle,
        again: None,
        crash: None,
        redrives: (state, state, 0),
        seen: None,
        released: 0,
        epoch_known: false,
    }
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
