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
use super::slot::Why;
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
    /// The listing that runs, and whether another one is wanted after it.
    listing: Option<JobId>,
    again: bool,
    /// Apps must be compared with their containers and driven: at start, and after the engine was away.
    correct: bool,
    /// Repository tags of the last listing.
    images: BTreeSet<String>,
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
        self.engine.correct = true;
        self.observe();
    }

    pub(super) fn on_engine_down(&mut self, reason: &str) {
        if self.engine.up || !self.engine.ready {
            self.note(Level::Warn, format!("container engine away: {reason}"));
        }
        self.engine.up = false;
        self.engine.correct = true;
        self.timers.clear(Timer::Resync);
    }

    /// A call of a job failed or was not answered in time: the engine is away until a listing succeeds.
    pub(super) fn engine_lost(&mut self) {
        self.engine.lost = true;
        self.engine.correct = true;
        if self.engine.listing.is_none() {
            self.timers.set(Timer::Resync, self.now.mono + RETRY);
        }
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
        self.engine.listing = Some(self.start_job(Job::Observe, JobSpec::Observe { known }));
    }

    pub(super) fn on_observed(&mut self, job: JobId, outcome: Outcome) {
        self.engine.listing = None;
        let Outcome::Observed(observation) = outcome else {
            self.engine_lost();
            if self.engine.up {
                self.timers.set(Timer::Resync, self.now.mono + RETRY);
            }
            return;
        };
        self.engine.lost = false;
        self.engine.images = observation.images.iter().cloned().collect();
        self.timers.set(Timer::Resync, self.now.mono + RESYNC);
        let correct = std::mem::take(&mut self.engine.correct);
        let reporting = self.session.waits_for_observation();
        let by_name: BTreeMap<&str, &Container> =
            observation.containers.iter().map(|container| (container.name.as_str(), container)).collect();
        let ids: Vec<AppKey> = self.apps.keys().copied().collect();
        for id in &ids {
            let Some(app) = self.apps.get(id) else { continue };
            let found = by_name.get(app.container.as_str()).map(|container| (*container).clone());
            if !app.is_idle() || job < app.released {
                continue;
            }
            let found = found.map(|found| same_or_new(app.seen.as_ref(), found));
            if correct || reporting || (app.state.is_transient() && app.request.is_some()) {
                self.correct(*id, found, reporting);
            } else {
                self.judge(*id, found);
            }
        }
        self.engine.ready = true;
        if correct || reporting {
            self.sweep(&observation);
        }
        if correct && !reporting {
            ids.into_iter().for_each(|id| self.drive_after_outage(id));
        }
        if std::mem::take(&mut self.engine.again) {
            self.observe();
        }
        self.on_engine_ready();
    }

    /// Looks at one app's container, if it may have one.
    pub(super) fn look(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id).filter(|app| app.is_idle()) else { return };
        if self.engine.answers() {
            let container = app.container.clone();
            self.start_job(Job::Look(id), JobSpec::Look { container });
        }
    }

    pub(super) fn on_looked(&mut self, job: JobId, id: AppKey, outcome: Outcome) {
        match outcome {
            Outcome::Looked(container) if self.apps.get(&id).is_some_and(|app| app.is_idle() && job > app.released) => {
                self.judge(id, container);
            }
            Outcome::EngineGone(_) => self.engine_lost(),
            _ => {}
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
        let before = std::mem::replace(&mut app.seen, found);
        let Some(container) = app.seen.clone() else {
            if app.state == AppState::Running {
                self.note(Level::Warn, format!("{id}: its container is gone"));
                self.unfollow(id);
                self.report(id, AppState::Present);
                self.verify(id);
            }
            return;
        };
        let same = before.is_some_and(|before| identity(&before) == identity(&container));
        let Some(state) = app_state(&container.status) else {
            if !same {
                self.note(Level::Debug, format!("{id}: its container is {}", container.status));
            }
            return;
        };
        if state == AppState::Running {
            let name = app.container.clone();
            self.logs(LogCommand::Follow { container: name });
        }
        let Some(app) = self.apps.get(&id) else { return };
        let news = match (app.state, state) {
            (is, seen) if is == seen => false,
            // Next to FAILED a container that was only created is a start that failed: driving it would undo the back-off.
            (AppState::Failed | AppState::Removed | AppState::Uninstalled, seen) => seen == AppState::Running,
            (_, AppState::Stopping) => false,
            (is, _) => !is.is_transient(),
        };
        if !news || (same && state != AppState::Failed && app.state != AppState::Failed) {
            return;
        }
        if state == AppState::Failed {
            let text = lines::exited(&app.name, id.stage.text(), container.exit_code, container.out_of_memory);
            self.note(Level::Info, format!("{id}: {text}"));
            self.report(id, AppState::Failed);
            self.say(id, text);
            self.crash(id);
        } else {
            self.report(id, state);
            if id.stage == Stage::Prod && self.apps.get(&id).is_some_and(|app| !app.waits_after_crash()) {
                self.verify(id);
            }
        }
    }

    /// Corrects a recorded state after a start of the agent, an outage of the engine, or at a connect (5.4, S7).
    fn correct(&mut self, id: AppKey, found: Option<Container>, reporting: bool) {
        let repository = self.apps.get(&id).map(|app| self.names(id, &app.name).image).unwrap_or_default();
        let has_image = self.engine.images.iter().any(|tag| repository_of(tag) == repository);
        let Some(app) = self.apps.get_mut(&id) else { return };
        if app.request.as_ref().is_some_and(super::request::Request::is_compose) {
            return;
        }
        let state = corrected(app.state, found.as_ref().map(|container| container.status.as_str()), has_image);
        app.seen = found;
        let (was, wanted, container) = (app.state, app.wanted, app.container.clone());
        if state == AppState::Running {
            self.logs(LogCommand::Follow { container });
        }
        if state != was {
            self.note(Level::Info, format!("{id}: recorded {was}, found {state}"));
            self.report(id, state);
            if state == AppState::Removed && wanted == AppState::Removed {
                self.forget(id);
            }
        } else if reporting {
            self.report_again(id);
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

    /// After an outage every app is driven, offline only where the local knowledge suffices (5.4).
    fn drive_after_outage(&mut self, id: AppKey) {
        let connected = self.generation().is_some();
        let Some(app) = self.apps.get_mut(&id) else { return };
        let asked = app.again.take();
        if asked.is_none() && !connected && forbidden_offline(app.state, app.wanted, app.pending_update(), id.stage) {
            return;
        }
        match asked {
            Some(why) => self.drive(id, why),
            None if !app.is_settled() => self.drive(id, Why::Verify),
            None => {
                self.refresh_files(id);
                self.sync_ports(id);
            }
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

/// What tells one run of a container from another.
fn identity(container: &Container) -> (&str, &str, &str) {
    (&container.id, &container.started_at, &container.status)
}

/// A listing does not inspect what has not changed: then the details of the last look hold.
fn same_or_new(seen: Option<&Container>, found: Container) -> Container {
    match seen {
        Some(seen) if found.started_at.is_empty() && seen.id == found.id && seen.status == found.status => seen.clone(),
        _ => found,
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
