//! Walking the steps of a plan: each is performed, a job is waited for, and its end decides how it goes on.

use super::app::{AppKey, AppState, Stage, UpdateStatus};
use super::job::{Container, Health, Outcome};
use super::lines;
use super::message::{Level, LogCommand};
use super::order::log_of;
use super::plan::{self, Kind, Purpose, Step};
use super::ports::PortKey;
use super::reconcile::Retry;
use super::slot::{Slot, Wait};
use super::timers::Timer;
use super::transition::Action;
use super::{Job, State};
use std::collections::VecDeque;
use std::time::Duration;

/// How many times its probation it may take to be healthy, if it has a HEALTHCHECK: 120 s of the usual 30 s.
const HEALTHY_WITHIN: u32 = 4;
/// How often it is looked at meanwhile; mostly an event comes first.
const PULSE: Duration = Duration::from_secs(10);

impl State {
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
        let container = log_of(app);
        let has_left = app.has_left();
        let Slot::Busy(run) = &mut app.slot else { return false };
        match step {
            Step::Report(state) => {
                self.report(id, state);
                return !self.cancels_now(id);
            }
            Step::Say(line) => self.say_line(id, line),
            Step::ClearRemote => self.logs(LogCommand::ClearRemote { container }),
            Step::ClearHistory => self.logs(LogCommand::ClearHistory { container }),
            Step::UsePublishLog => run.publishes = true,
            Step::BuildFor(purpose) => app.release_build = purpose == Purpose::Release,
            Step::Follow => self.follow(id),
            Step::EndTrial => (run.trial, run.trial_since) = (false, None),
            Step::Refuse => self.refuse_version(id),
            Step::Adopt => self.adopt_update(id),
            Step::CancelUpdate => app.update_status = UpdateStatus::Canceled,
            Step::CancelTransfer => self.cancel_transfer(&container),
            Step::ReleasePorts => self.ports.release(id),
            // A removal may have become an uninstallation meanwhile.
            Step::Forget if has_left || app.unknown => {
                self.forget(id);
                return false;
            }
            Step::Forget => {}
            Step::CannotBe => {
                let text = format!("{:?} is not possible for an app in stage {}", run.action, id.stage);
                self.fail(id, &text, Retry::Never);
                return false;
            }
            Step::Token => {
                self.wait_for(id, Wait::Token(0));
                self.ask_for_token(id);
                return false;
            }
            _ => return self.order(id, step),
        }
        true
    }

    /// Starts the job of a step; true if there is nothing to do.
    fn order(&mut self, id: AppKey, step: Step) -> bool {
        if let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) {
            run.accepted = false;
            run.trial |= step == Step::Keep;
        }
        match self.job_of(id, step) {
            Ok(Some(spec)) => {
                let job = self.start_job(Job::Step(id), spec);
                self.wait_for(id, Wait::Job(job, step));
                false
            }
            Ok(None) => true,
            Err(error) => {
                self.fail_step(id, step, &error);
                false
            }
        }
    }

    /// The host ports of the release before are the app's again, unless another app was given one meanwhile.
    pub(super) fn takes_ports_back(&mut self, id: AppKey) -> bool {
        let seen = self.apps.get(&id).and_then(|app| app.seen.as_ref());
        let bindings = seen.map(|container| container.bindings.clone()).unwrap_or_default();
        bindings.iter().all(|it| self.ports.take_back(&PortKey::plain(id, it.protocol, it.port), it.host_port))
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
            (_, Outcome::Cancelled) => self.end_cancelled(id),
            (_, Outcome::EngineGone(reason)) => self.interrupt(id, &reason),
            (Step::Prove, Outcome::Looked(found)) => self.judge_trial(id, found.as_deref()),
            (_, Outcome::ComposeMissing) => self.fail_step(id, step, lines::NO_COMPOSE),
            (Step::RemoveStray, Outcome::Done) => {
                app.strays.retain(|stray| Some(stray) != run.stray.as_ref());
                if !app.strays.is_empty() {
                    run.steps.push_front(Step::RemoveStray);
                }
                self.advance(id);
            }
            (Step::Start, Outcome::ImageMissing) if id.stage == Stage::Dev => {
                let text = lines::no_image(&self.names(id, &self.apps[&id].name.clone()).image);
                self.say(id, text.clone());
                self.fail_silently(id, &text, Retry::Never);
            }
            (Step::Start, Outcome::ImageMissing) if run.fetches == 0 && !run.trial => {
                run.fetches += 1;
                if run.action == Action::Restore {
                    // It is said before the container starts, and would not be true after that.
                    run.steps.retain(|step| *step != Step::Report(AppState::Present));
                }
                insert(&mut run.steps, plan::START_AGAIN);
                insert(&mut run.steps, plan::FETCH);
                self.advance(id);
            }
            (Step::Start, Outcome::ImageMissing) => self.fail_step(id, step, "the image that was pulled is not there"),
            (Step::Start, Outcome::PortsTaken(taken)) => self.start_elsewhere(id, &taken, &[Step::Start]),
            (Step::Start, Outcome::PortConflict(text)) => self.start_after_conflict(id, &text, &[Step::Start]),
            (Step::NeedImage, Outcome::HasImage(false)) => {
                insert(&mut run.steps, plan::FETCH);
                self.advance(id);
            }
            (Step::NeedImages { announce }, Outcome::Missing(missing)) if !missing.is_empty() => {
                run.missing = missing;
                insert(&mut run.steps, &plan::fetch_missing(announce));
                self.advance(id);
            }
            (Step::PutBack, Outcome::Done) => {
                run.is_back = true;
                self.advance(id);
            }
            (Step::PutBack | Step::RemoveKept, Outcome::Failed(error)) => {
                self.note(Level::Info, format!("{id}: {step:?}: {error}"));
                self.advance(id);
            }
            (Step::RemoveOldImage, outcome) => {
                if let Outcome::Failed(error) = outcome {
                    self.note(Level::Debug, format!("{id}: {step:?}: {error}"));
                }
                self.forget_superseded(id);
                self.advance(id);
            }
            // It is tried again after the next listing, or by the next wish.
            (_, Outcome::Failed(error)) if matches!(run.action, Action::Disband | Action::Leave) => {
                self.note(Level::Info, format!("{id}: {step:?}: {error}"));
                self.advance(id);
            }
            (_, Outcome::Failed(error)) => self.fail_step(id, step, &error),
            (Step::Pull { .. }, _) if app.version.is_empty() => {
                app.version.clone_from(&run.newest);
                self.advance(id);
            }
            _ => self.advance(id),
        }
    }

    /// A step could not be done: the app's log says why, once.
    pub(super) fn fail_step(&mut self, id: AppKey, step: Step, error: &str) {
        let Some(app) = self.apps.get(&id) else { return };
        let Slot::Busy(run) = &app.slot else { return };
        if run.trial {
            return self.end_trial(id, error);
        }
        let plain = app.kind() == Kind::Plain;
        match step {
            Step::Start => {
                let text = lines::start_failed(&app.name, error);
                self.say(id, text);
                if plain {
                    // What the container wrote before it ended is the reason that a person looks for.
                    self.follow(id);
                }
            }
            // The engine's own record of the fault is in the log already.
            Step::Rehost(_) if run.accepted => {}
            Step::Pull { .. } | Step::Build | Step::Push if plain && run.accepted => {}
            Step::Pull { .. } if plain => self.say(id, lines::pull_failed(error)),
            _ => self.say(id, error.to_owned()),
        }
        self.fail_silently(id, error, Retry::Later);
    }

    /// The engine has accepted the transfer of the current step.
    pub(super) fn on_accepted(&mut self, id: AppKey) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Slot::Busy(run) = &mut app.slot else { return };
        run.accepted = true;
        if let (Some(Wait::Job(_, Step::Pull { announce: true, .. })), None) = (run.waits, run.cancel) {
            self.report(id, AppState::Downloading);
            self.cancels_now(id);
        }
    }

    /// Interrupts the action that has just reported a state, if a cancel came before there was anything to cancel.
    fn cancels_now(&mut self, id: AppKey) -> bool {
        let Some(app) = self.apps.get_mut(&id) else { return false };
        let Some(cancel) = app.again.and_then(|why| app.cancel_for(why)) else { return false };
        app.again = None;
        self.cancel(id, cancel);
        true
    }

    /// Looks at a new release on trial: its probation is over, or something happened to its container.
    pub(super) fn prove(&mut self, id: AppKey) {
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        if run.waits == Some(Wait::Proof) {
            run.waits = None;
            self.timers.clear(Timer::Prove(id));
            self.order(id, Step::Prove);
        }
    }

    /// What was seen of a new release on trial: it is over, well or badly, or goes on (decision 30).
    fn judge_trial(&mut self, id: AppKey, found: Option<&Container>) {
        let (now, probation) = (self.now.mono, self.device.probation);
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        let since = *run.trial_since.get_or_insert(now);
        // A project goes on running when one of its services fails.
        let runs = |container: &&Container| container.status == "running" && container.exit_code <= 0;
        let Some(container) = found.filter(runs) else {
            let reason = found.map_or("its container is gone".to_owned(), lines::ended);
            return self.end_trial(id, &reason);
        };
        let (ran, healthy_within) = (now.saturating_sub(since), probation * HEALTHY_WITHIN);
        let left = match container.health {
            Some(Health::Healthy) => None,
            None => probation.checked_sub(ran).filter(|left| !left.is_zero()),
            Some(_) if ran >= healthy_within => {
                let text = format!("it was not healthy within {}", lines::span(healthy_within));
                return self.roll_back(id, &text);
            }
            Some(_) => Some(PULSE.min(healthy_within - ran)),
        };
        match left {
            None => self.advance(id),
            Some(left) => {
                self.wait_for(id, Wait::Proof);
                self.timers.set(Timer::Prove(id), now + left);
            }
        }
    }

    /// The new release does not run. An engine that ended took it along: that is no failure of the release, which is tried
    /// again.
    fn end_trial(&mut self, id: AppKey, reason: &str) {
        let Some(Slot::Busy(run)) = self.apps.get(&id).map(|app| &app.slot) else { return };
        if run.disturbed { self.interrupt(id, reason) } else { self.roll_back(id, reason) }
    }

    /// The new release has failed: the one before comes back, without asking anybody (decision 30).
    fn roll_back(&mut self, id: AppKey, reason: &str) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let case = app.case();
        let Slot::Busy(run) = &mut app.slot else { return };
        run.action = Action::RollBack;
        run.steps = VecDeque::from(plan::plan(Action::RollBack, case));
        let text = lines::not_proven(&app.name, &run.newest, reason);
        self.note(Level::Warn, format!("{id}: {text}"));
        self.say(id, text);
        self.advance(id);
    }

    fn say_line(&mut self, id: AppKey, line: plan::Line) {
        let Some(app) = self.apps.get(&id) else { return };
        let version = match &app.slot {
            Slot::Busy(run) if matches!(run.action, Action::Update | Action::Pull) => run.newest.clone(),
            Slot::Busy(run) if run.publishes => {
                app.request.as_ref().map(|request| request.version.clone()).unwrap_or_default()
            }
            _ if id.stage == Stage::Dev && app.kind() == Kind::Plain => String::new(),
            _ => app.version_that_runs(),
        };
        let text = lines::text(line, &app.name, &version);
        self.say(id, text);
    }

    /// The log of an app is followed from here on.
    pub(super) fn follow(&mut self, id: AppKey) {
        if let Some(app) = self.apps.get(&id) {
            let follow = app.follow();
            self.logs(follow);
        }
    }
}

fn insert(steps: &mut VecDeque<Step>, first: &[Step]) {
    first.iter().rev().for_each(|step| steps.push_front(*step));
}
