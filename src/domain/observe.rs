//! What the container engine shows, and what follows from it (apps chapter 2.2, 5.4, 5.5, 5.9; decision 16).
//!
//! One event stream and a listing every 60 s, never a poll per app. The events are only hints: each makes the agent look at
//! the container, and the look is judged. Every release of a slot triggers a look of its own, so an exit between the end
//! of an action and the next event is not lost (S12).
//!
//! **Invariant:** nothing is deleted while it is not known what is wanted (S6), and every deletion is in the log before it
//! happens.

use super::app::{AppKey, AppState, Stage};
use super::job::{Container, ContainerEvent, JobId, JobSpec, Observation, Outcome};
use super::lines;
use super::message::{Level, LogCommand};
use super::timers::Timer;
use super::{Job, State, names};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Distance of listings.
const RESYNC: Duration = Duration::from_secs(60);
/// Distance of tries while the engine does not answer.
const RETRY: Duration = Duration::from_secs(5);

/// The engine as the agent knows it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Engine {
    /// Its event stream is being read.
    up: bool,
    /// A call failed since the last listing that succeeded.
    lost: bool,
    /// A listing has been judged since the start: "daemon ready".
    pub ready: bool,
    /// The listing that runs.
    listing: Option<Listing>,
    /// Another one is wanted after it.
    again: bool,
    /// What the next listing is for.
    purpose: Purpose,
    /// Repository tags of the last listing.
    images: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Listing {
    job: JobId,
    purpose: Purpose,
}

/// What a listing is for, besides the comparison of each app with its container.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Purpose {
    /// At start, and after the engine was away: recorded states are corrected and every app is driven.
    correct: bool,
    /// Containers without an app are removed.
    sweep: bool,
}

impl Engine {
    /// Whether jobs can be given to it.
    pub fn answers(&self) -> bool {
        self.up && !self.lost && self.ready
    }
}

impl State {
    pub(super) fn on_engine_up(&mut self, version: &str) {
        self.note(Level::Info, format!("container engine {version} answers"));
        self.engine.up = true;
        self.engine.purpose.correct = true;
        self.observe();
    }

    pub(super) fn on_engine_down(&mut self, reason: &str) {
        if self.engine.up || !self.engine.ready {
            self.note(Level::Warn, format!("container engine away: {reason}"));
        }
        self.engine.up = false;
        self.engine.purpose.correct = true;
        self.timers.clear(Timer::Resync);
        self.go_on_unobserved();
    }

    /// A call of a job failed or was not answered in time: the engine is away until a listing that begins now succeeds.
    pub(super) fn engine_lost(&mut self) {
        self.engine.lost = true;
        self.engine.purpose.correct = true;
        if self.engine.listing.is_some() {
            self.engine.again = true;
        } else {
            self.timers.set(Timer::Resync, self.now.mono + RETRY);
        }
    }

    /// Containers without an app are removed after the next listing, which is made now.
    pub(super) fn sweep_soon(&mut self) {
        self.engine.purpose.sweep = true;
        self.observe();
    }

    /// Lists all containers, unless a listing runs; then another one follows it.
    pub(super) fn observe(&mut self) {
        if !self.engine.up {
            return;
        }
        if self.engine.listing.is_some() {
            self.engine.again = true;
            return;
        }
        let known: BTreeMap<String, (String, String)> = self
            .apps
            .values()
            .filter_map(|app| app.seen.as_ref())
            .map(|container| (container.name.clone(), (container.id.clone(), container.status.clone())))
            .collect();
        let purpose = std::mem::take(&mut self.engine.purpose);
        let job = self.start_job(Job::Observe, JobSpec::Observe { known });
        self.engine.listing = Some(Listing { job, purpose });
    }

    pub(super) fn on_observed(&mut self, outcome: Outcome) {
        let Some(Listing { job, purpose }) = self.engine.listing.take() else { return };
        let Outcome::Observed(observation) = outcome else {
            self.engine.purpose.sweep |= purpose.sweep;
            self.engine.again = false;
            self.engine_lost();
            return self.go_on_unobserved();
        };
        // A call that failed after it began says more than the listing.
        self.engine.lost &= self.engine.again;
        self.engine.ready = true;
        self.engine.images = observation.images.iter().cloned().collect();
        self.timers.set(Timer::Resync, self.now.mono + RESYNC);
        let reporting = self.session.waits_for_observation();
        let ids: Vec<AppKey> = self.apps.keys().copied().collect();
        for id in &ids {
            self.compare(*id, job, &observation, purpose.correct, reporting);
        }
        if purpose.correct || purpose.sweep || reporting {
            self.sweep(&observation);
        }
        if purpose.correct {
            ids.into_iter().for_each(|id| self.drive_after_outage(id, reporting));
        }
        if std::mem::take(&mut self.engine.again) {
            self.observe();
        }
        self.on_engine_ready();
    }

    /// Compares one app with what a listing shows, if nothing was done with it since that began.
    fn compare(&mut self, id: AppKey, job: JobId, seen: &Observation, correct: bool, reporting: bool) {
        let Some(app) = self.apps.get(&id).filter(|app| app.is_idle() && app.is_plain() && job > app.released) else {
            return;
        };
        let found = seen.containers.iter().find(|container| container.name == app.container);
        let found = found.map(|found| same_or_new(app.seen.as_ref(), found));
        if correct || reporting {
            self.correct(id, found, reporting);
        } else {
            self.judge(id, found);
        }
    }

    /// Looks at one app's container, if it may have one: at most one look at a time.
    pub(super) fn look(&mut self, id: AppKey) {
        let answers = self.engine.answers();
        let Some(app) = self.apps.get_mut(&id).filter(|app| app.is_idle() && app.is_plain() && answers) else { return };
        if app.look.is_some() {
            app.look_again = true;
            return;
        }
        let container = app.container.clone();
        let job = self.start_job(Job::Look(id), JobSpec::Look { container });
        if let Some(app) = self.apps.get_mut(&id) {
            app.look = Some(job);
        }
    }

    pub(super) fn on_looked(&mut self, job: JobId, id: AppKey, outcome: Outcome) {
        let Some(app) = self.apps.get_mut(&id).filter(|app| app.look == Some(job)) else { return };
        app.look = None;
        let again = std::mem::take(&mut app.look_again);
        match outcome {
            Outcome::Looked(container) if app.is_idle() && job > app.released => {
                self.judge(id, container.map(|found| *found));
            }
            Outcome::EngineGone(_) => self.engine_lost(),
            _ => {}
        }
        if again {
            self.look(id);
        }
    }

    pub(super) fn on_container(&mut self, event: &ContainerEvent) {
        let Some(app) = self.apps.values().find(|app| app.container == event.name) else { return };
        let (id, container) = (app.id, app.container.clone());
        if event.action == "start" {
            self.logs(LogCommand::Follow { container });
        }
        self.look(id);
    }

    /// Judges what was seen of an idle app (5.9).
    fn judge(&mut self, id: AppKey, found: Option<Container>) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        app.seen.clone_from(&found);
        let Some(container) = found else {
            if app.state == AppState::Running {
                self.note(Level::Warn, format!("{id}: its container is gone"));
                self.unfollow(id);
                self.report(id, AppState::Present);
                self.verify(id);
            }
            return;
        };
        let Some(seen) = app_state(&container.status) else {
            return self.note(Level::Debug, format!("{id}: its container is {}", container.status));
        };
        if seen == AppState::Running {
            self.logs(LogCommand::Follow { container: container.name.clone() });
        }
        let Some(app) = self.apps.get(&id).filter(|app| is_news(app.state, seen)) else { return };
        if seen == AppState::Failed {
            let text = lines::exited(&app.name, id.stage.text(), container.exit_code, container.out_of_memory);
            self.note(Level::Info, format!("{id}: {text}"));
            self.report(id, AppState::Failed);
            self.say(id, text);
            self.crash(id);
        } else {
            self.report(id, seen);
            self.verify(id);
        }
    }

    /// Corrects a recorded state after a start of the agent, an outage of the engine, or at a connect (5.4, S7).
    fn correct(&mut self, id: AppKey, found: Option<Container>, reporting: bool) {
        let repository = self.apps.get(&id).map(|app| self.names(id, &app.name).image).unwrap_or_default();
        let has_image = self.engine.images.iter().any(|tag| repository_of(tag) == repository);
        if let Some(container) = &found {
            self.ports_seen(id, container);
        }
        let Some(app) = self.apps.get_mut(&id) else { return };
        let status = found.as_ref().map(|container| container.status.as_str());
        let state = match corrected(app.state, status, has_image) {
            // Something is left that has to be removed.
            state if state.is_gone() && app.wanted.is_gone() && found.is_some() => AppState::Present,
            state => state,
        };
        app.seen = found;
        let (was, container) = (app.state, app.container.clone());
        if state == AppState::Running {
            self.logs(LogCommand::Follow { container });
        }
        if state != was {
            self.note(Level::Info, format!("{id}: recorded {was}, found {state}"));
            self.report(id, state);
        } else if reporting {
            self.report_again(id);
        }
        if self.apps.get(&id).is_some_and(|app| app.has_left() && app.seen.is_none()) {
            self.forget(id);
        }
    }

    /// Removes containers that carry the agent's label and belong to no known app (5.5 b).
    fn sweep(&mut self, observation: &Observation) {
        if self.apps.is_empty() || !self.sync.may_sweep() {
            return;
        }
        for container in orphans(
            observation,
            &self.apps.values().map(|app| (app.container.clone(), names::project(app.id, &app.name))).collect(),
        ) {
            self.note(
                Level::Warn,
                format!("container {} belongs to no app of this device, it is removed", container.name),
            );
            self.start_job(Job::Detached(None), JobSpec::RemoveContainer { container: container.id });
        }
    }

    /// After an outage every app is driven, offline only where the local knowledge suffices (5.4). `reporting`: the
    /// connect sequence drives what the backend drives.
    fn drive_after_outage(&mut self, id: AppKey, reporting: bool) {
        let connected = self.generation().is_some();
        let Some(app) = self.apps.get_mut(&id).filter(|app| app.is_idle()) else { return };
        if reporting && app.is_backend_driven() {
            return;
        }
        if let Some(why) = app.again.take() {
            return self.drive(id, why);
        }
        if !connected && forbidden_offline(app.state, app.wanted, app.pending_update(), id.stage) {
            return;
        }
        if app.is_settled() {
            self.refresh_files(id);
            self.sync_ports(id);
        } else if app.request.is_some() {
            self.drive_again(id);
        }
    }

    fn unfollow(&mut self, id: AppKey) {
        if let Some(app) = self.apps.get(&id) {
            let container = app.container.clone();
            self.logs(LogCommand::Unfollow { container });
        }
    }
}

/// Docker's word for a container's state as a state of its app (2.2); `None`: unknown, changes nothing.
fn app_state(status: &str) -> Option<AppState> {
    Some(match status {
        "running" => AppState::Running,
        "created" => AppState::Present,
        "removing" => AppState::Stopping,
        "restarting" | "dead" | "exited" => AppState::Failed,
        _ => return None,
    })
}

/// Whether what is seen of an idle app changes what is recorded.
fn is_news(recorded: AppState, seen: AppState) -> bool {
    match (recorded, seen) {
        (_, AppState::Stopping) => false,
        // Next to FAILED a container that was only created is a start that failed: driving it would undo the back-off.
        (AppState::Failed | AppState::Removed | AppState::Uninstalled, seen) => seen == AppState::Running,
        (recorded, seen) => recorded != seen && !recorded.is_transient(),
    }
}

/// A listing does not inspect what has not changed: then the details of the last look hold.
fn same_or_new(seen: Option<&Container>, found: &Container) -> Container {
    match seen {
        Some(seen) if found.started_at.is_empty() && seen.id == found.id && seen.status == found.status => seen.clone(),
        _ => found.clone(),
    }
}

/// The table "correct states", plain apps.
fn corrected(state: AppState, container: Option<&str>, has_image: bool) -> AppState {
    use AppState::*;
    match (container, state) {
        (None, Downloading | Transfering | Publishing | Building | Updating) => {
            if has_image {
                Present
            } else {
                Removed
            }
        }
        (None, Uninstalled) if !has_image => Uninstalled,
        (None, _) => {
            if has_image {
                Present
            } else {
                Removed
            }
        }
        (Some(_), Downloading | Transfering | Building | Publishing) => Removed,
        (Some(_), Updating) => Present,
        (Some(status), state) => match app_state(status) {
            // A removal that was interrupted has not happened.
            Some(Stopping) => Present,
            Some(mapped) => mapped,
            None => state,
        },
    }
}

/// Whether an app must not be driven without a connection.
fn forbidden_offline(state: AppState, wanted: AppState, pending_update: bool, stage: Stage) -> bool {
    wanted == AppState::Built
        || wanted == AppState::Published
        || (state.is_gone() && stage == Stage::Prod && !wanted.is_gone())
        || (wanted == AppState::Present && pending_update)
}

/// Containers of the agent that belong to no known app. `known`: container and project names.
fn orphans(observation: &Observation, known: &BTreeSet<(String, String)>) -> Vec<Container> {
    let is_orphan = |container: &&Container| match &container.project {
        Some(project) => {
            let project = names::normalise_project(project);
            names::parse_project(&project).is_some_and(|parsed| parsed.stage.is_some())
                && !known.iter().any(|(_, name)| *name == project)
        }
        None => {
            container.ours
                && !container.name.contains("_compose-")
                && names::parse_container(&container.name).is_some_and(|parsed| parsed.stage.is_some())
                && !known.iter().any(|(name, _)| *name == container.name)
        }
    };
    observation.containers.iter().filter(is_orphan).cloned().collect()
}

/// The repository of a tag: the tag follows the last colon behind the last slash.
fn repository_of(tag: &str) -> &str {
    let name = tag.rfind('/').map_or(0, |slash| slash + 1);
    tag[name..].find(':').map_or(tag, |colon| &tag[..name + colon])
}

#[cfg(test)]
#[path = "observe/tests.rs"]
mod tests;
