//! What the container engine shows, and what follows from it (apps chapter 2.2, 5.4, 5.5, 5.9; decision 16).
//!
//! One event stream and a listing every 60 s, never a poll per app. The events are only hints: each makes the agent look at
//! the container, and the look is judged. Every release of a slot triggers a look of its own, so an exit between the end
//! of an action and the next event is not lost (S12).
//!
//! **Invariant:** nothing is deleted while it is not known what is wanted (S6), and every deletion is in the log before it
//! happens.

use super::app::{AppKey, AppState, Stage};
use super::compose;
use super::job::{Container, ContainerEvent, JobId, JobSpec, Observation, Outcome};
use super::launch::Release;
use super::lines;
use super::message::{Level, LogCommand};
use super::plan::Kind;
use super::slot::{App, Slot};
use super::timers::Timer;
use super::transition::{self, Action};
use super::{Job, State, names};
use crate::sorted::IntoSorted;
use std::collections::BTreeSet;
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
        self.disturb();
        self.timers.clear(Timer::Resync);
        self.go_on_unobserved();
    }

    /// A call of a job failed or was not answered in time: the engine is away until a listing that begins now succeeds.
    pub(super) fn engine_lost(&mut self) {
        self.engine.lost = true;
        self.engine.purpose.correct = true;
        self.disturb();
        if self.engine.listing.is_some() {
            self.engine.again = true;
        } else {
            self.timers.set(Timer::Resync, self.now.mono + RETRY);
        }
    }

    /// A release on trial that ended while the engine was away may have ended with it.
    fn disturb(&mut self) {
        for app in self.apps.values_mut() {
            if let Slot::Busy(run) = &mut app.slot {
                run.disturbed |= run.trial;
            }
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
        let known = self
            .apps
            .values()
            .filter_map(|app| app.seen.as_ref())
            // Of a project in trouble the parts have changed when it is out of it, and not the whole.
            .filter(|container| container.project.is_none() || container.error.is_empty())
            .map(|container| (container.name.clone(), (container.id.clone(), container.status.clone())))
            .into_map();
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
            ids.iter().for_each(|id| self.prove(*id));
            ids.iter().for_each(|id| self.drive_after_outage(*id, reporting));
        }
        ids.into_iter().for_each(|id| self.finish_update(id));
        if std::mem::take(&mut self.engine.again) {
            self.observe();
        }
        self.on_engine_ready();
    }

    /// An update was cut off when all but the clean-up was done.
    fn finish_update(&mut self, id: AppKey) {
        if self.apps.get(&id).is_some_and(|app| app.is_idle() && app.unneeded().next().is_some()) {
            self.begin(id, Action::CleanUp);
        }
    }

    /// Compares one app with what a listing shows, if nothing was done with it since that began.
    fn compare(&mut self, id: AppKey, job: JobId, seen: &Observation, correct: bool, reporting: bool) {
        let Some(app) = self.apps.get(&id).filter(|app| app.is_idle() && job > app.released) else { return };
        let found = match app.kind() {
            Kind::Plain => seen.containers.iter().find(|container| container.name == app.container).cloned(),
            Kind::Compose => compose::aggregate(&of_project(&seen.containers, &app.project)),
        };
        let found = found.map(|found| same_or_new(app.seen.as_ref(), found));
        let kept = names::kept(id);
        let left = seen.containers.iter().find(|container| container.name == kept).cloned();
        // An update that was cut off after the release before had ended, or with it: that comes back at once, whoever can
        // be asked for the new one.
        let is_lost =
            |container: &Container| container.status != "running" || self.is_of_another_release(app, container);
        let lost = app.wanted == AppState::Running && found.as_ref().is_some_and(is_lost);
        if app.state == AppState::Updating && (left.is_some() || lost) {
            // What the release on trial has is its own until it goes.
            if let Some(container) = &found {
                self.ports_seen(id, container);
            }
            if let Some(app) = self.apps.get_mut(&id) {
                app.seen = left.or(found);
            }
            return self.begin(id, Action::Restore);
        }
        if left.is_some() {
            self.note(Level::Info, format!("{id}: container {kept} is of an update that has ended, it is removed"));
            self.detach(id, JobSpec::RemoveContainer { container: kept });
        }
        let is_left = found.as_ref().is_some_and(|it| matches!(it.status.as_str(), "created" | "exited" | "dead"));
        if correct || reporting {
            self.correct(id, found, seen, reporting);
        } else if !(is_left && self.needs_no_container(id)) {
            self.judge(id, found);
        }
        // The engine may have made it when nobody waited for it any more.
        if is_left && self.needs_no_container(id) {
            self.begin(id, Action::Disband);
        }
    }

    /// Whether a container is of the release on trial: that may be all there is, if the app did not run before.
    fn is_of_another_release(&self, app: &App, container: &Container) -> bool {
        if app.kind() == Kind::Plain {
            let (repository, tag) = names::split_tag(&container.image);
            let ours = repository == self.names(app.id, &app.name).image;
            return ours && tag.is_some_and(|tag| tag != app.version_that_runs());
        }
        let Ok(installed) = compose::images(app.definition(Release::Installed)) else { return false };
        let mut images = container.image.split(',').filter(|image| !image.is_empty() && !image.starts_with("sha256:"));
        images.any(|image| !installed.values().any(|known| known == image))
    }

    fn needs_no_container(&self, id: AppKey) -> bool {
        self.apps.get(&id).is_some_and(|app| app.is_idle() && app.needs_no_container())
    }

    /// Looks at one app's container, if it may have one: at most one look at a time.
    pub(super) fn look(&mut self, id: AppKey) {
        let answers = self.engine.answers();
        let Some(app) = self.apps.get_mut(&id).filter(|app| app.is_idle() && answers) else { return };
        if app.look.is_some() {
            app.look_again = true;
            return;
        }
        let spec = match app.kind() {
            Kind::Plain => JobSpec::Look { container: app.container.clone() },
            Kind::Compose => JobSpec::LookProject { project: app.project.clone() },
        };
        let job = self.start_job(Job::Look(id), spec);
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
        let project = event.project.as_deref().map(names::normalise_project);
        let is_of = |app: &&App| match (app.kind(), &project) {
            (Kind::Plain, None) => app.container == event.name,
            (Kind::Compose, Some(project)) => app.project == *project,
            _ => false,
        };
        let Some(id) = self.apps.values().find(is_of).map(|app| app.id) else { return };
        if event.action == "start" {
            self.follow(id);
        }
        self.prove(id);
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
            self.follow(id);
        }
        let Some(app) = self.apps.get(&id).filter(|app| is_news(app.state, seen)) else { return };
        let has_ended =
            app.kind() == Kind::Compose && app.state == AppState::Running && app.wanted == AppState::Running;
        if seen == AppState::Failed {
            let text = lines::exited(&app.name, id.stage.text(), container.exit_code, container.out_of_memory);
            self.note(Level::Info, format!("{id}: {text}"));
            self.report(id, AppState::Failed);
            self.say(id, text);
            self.crash(id);
        } else if seen == AppState::Present && has_ended {
            // All its services have ended well, though it is to run: it is started again, but not in a tight loop.
            self.report(id, seen);
            self.crash(id);
        } else {
            self.report(id, seen);
            self.verify(id);
        }
    }

    /// Corrects a recorded state after a start of the agent, an outage of the engine, or at a connect (5.4, S7).
    fn correct(&mut self, id: AppKey, found: Option<Container>, seen: &Observation, reporting: bool) {
        if let Some(container) = &found {
            self.ports_seen(id, container);
        }
        let Some(app) = self.apps.get(&id) else { return };
        let status = found.as_ref().map(|container| container.status.as_str());
        let corrected = match app.kind() {
            Kind::Compose if status.is_none() => {
                let has_files = seen.definitions.iter().any(|known| known.stage == id.stage && known.name == app.name);
                let images = compose::images(app.definition(Release::Installed));
                let has_images = images.is_ok_and(|images| compose::missing(&images, &seen.images).is_empty());
                match corrected_project(app.state, has_files, has_images) {
                    // Its directories are there: the uninstallation was interrupted, and is not done.
                    AppState::Uninstalled if has_files && app.wanted == AppState::Uninstalled => AppState::Removed,
                    state => state,
                }
            }
            _ => {
                let repository = self.names(id, &app.name).image;
                corrected(app.state, status, seen.images.iter().any(|tag| names::split_tag(tag).0 == repository))
            }
        };
        let unfinished = self.is_unfinished(app, corrected, found.is_some());
        let Some(app) = self.apps.get_mut(&id) else { return };
        // Something may be left that has to be removed: of a project also what no container shows.
        let left = found.is_some() || (app.kind() == Kind::Compose && !app.state.is_gone());
        let state = match corrected {
            _ if unfinished => app.state,
            state if state.is_gone() && app.wanted.is_gone() && left => AppState::Present,
            state => state,
        };
        app.seen = found;
        let was = app.state;
        if state == AppState::Running {
            self.follow(id);
        }
        if state != was {
            self.note(Level::Info, format!("{id}: recorded {was}, found {state}"));
            self.report(id, state);
        } else if reporting {
            self.report_again(id);
        }
        if self.apps.get(&id).is_some_and(|app| app.has_left() && app.seen.is_none()) {
            self.leave(id);
        }
    }

    /// Whether an app stays in the state in which it was cut off, and what was being done is done again: what its container
    /// or its images show is only half of it.
    fn is_unfinished(&self, app: &App, corrected: AppState, is_there: bool) -> bool {
        match app.state {
            // Volumes, networks and files come after the containers.
            AppState::Deleting => app.wanted.is_gone(),
            AppState::Removed => app.wanted == AppState::Uninstalled && corrected.is_gone(),
            // It ended since it was to end.
            AppState::Stopping => {
                corrected == AppState::Failed && transition::action(app.state, app.wanted, app.id.stage).is_some()
            }
            // One of its services may be all that was started.
            AppState::Starting => is_there && app.kind() == Kind::Compose && app.wanted == AppState::Running,
            AppState::Transfering => self.is_arriving(&app.container),
            _ => false,
        }
    }

    /// Removes containers that carry the agent's label and belong to no known app (5.5 b).
    fn sweep(&mut self, observation: &Observation) {
        if self.apps.is_empty() || !self.sync.may_sweep() {
            return;
        }
        // A container of an app that is a project now belongs to nothing, nor the reverse.
        let names_of = |app: &App| match (&app.request, app.kind()) {
            (None, _) => vec![app.container.clone(), app.project.clone()],
            (_, Kind::Plain) => vec![app.container.clone()],
            (_, Kind::Compose) => vec![app.project.clone()],
        };
        let known = self.apps.values().flat_map(|app| names_of(app).into_iter().chain([names::kept(app.id)]));
        // Between two steps a build that runs has such a container, too.
        let builds = self.apps.values().any(|app| !app.is_idle() && app.id.stage == Stage::Dev);
        let left = observation.containers.iter().filter(|it| it.of_build && it.status != "running" && !builds);
        let orphans = orphans(observation, &known.into_set()).into_iter();
        for container in orphans.chain(left.cloned()) {
            let why = if container.of_build { "is left of a build" } else { "belongs to no app of this device" };
            self.note(Level::Warn, format!("container {} {why}, it is removed", container.name));
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
        // Builds and releases are asked for by a person who watches them.
        if matches!(app.wanted, AppState::Built | AppState::Published) {
            return;
        }
        if !connected && forbidden_offline(app.state, app.wanted, app.pending_update(), id.stage) {
            return;
        }
        if app.is_settled() {
            let runs = app.seen.as_ref().is_some_and(|container| container.status == "running");
            let differs = runs && app.state == AppState::Present;
            self.refresh_files(id);
            self.sync_ports(id);
            if differs {
                self.look(id);
            }
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

/// The same for a compose project without containers.
fn corrected_project(state: AppState, has_files: bool, has_images: bool) -> AppState {
    match (has_files, has_images) {
        (true, true) => AppState::Present,
        (true, false) => AppState::Uninstalled,
        (false, _) if state == AppState::Uninstalled => state,
        (false, _) => AppState::Removed,
    }
}

/// The containers of a project.
fn of_project(containers: &[Container], project: &str) -> Vec<Container> {
    let is_of = |container: &&Container| {
        container.project.as_ref().is_some_and(|known| names::normalise_project(known) == project)
    };
    containers.iter().filter(is_of).cloned().collect()
}

/// Whether an app must not be driven without a connection.
fn forbidden_offline(state: AppState, wanted: AppState, pending_update: bool, stage: Stage) -> bool {
    wanted == AppState::Built
        || wanted == AppState::Published
        || (state.is_gone() && stage == Stage::Prod && !wanted.is_gone())
        || (wanted == AppState::Present && pending_update)
}

/// Containers of the agent that belong to no known app. `known`: names of containers, projects and kept containers.
fn orphans(observation: &Observation, known: &BTreeSet<String>) -> Vec<Container> {
    let is_orphan = |container: &&Container| match &container.project {
        Some(project) => {
            let project = names::normalise_project(project);
            names::parse_project(&project).is_some_and(|parsed| parsed.stage.is_some()) && !known.contains(&project)
        }
        None => {
            container.ours
                && !container.name.contains("_compose-")
                && (names::parse_kept(&container.name).is_some()
                    || names::parse_container(&container.name).is_some_and(|parsed| parsed.stage.is_some()))
                && !known.contains(&container.name)
        }
    };
    observation.containers.iter().filter(is_orphan).cloned().collect()
}

#[cfg(test)]
#[path = "observe/tests.rs"]
mod tests;
