//! One app in memory: what is wanted, recorded and observed, and the one slot in which something is done with it.
//!
//! **Invariant:** an app has one slot, so two transitions of one app cannot run at once (S2). A request that arrives while
//! the slot is busy replaces what is wanted and is looked at when the slot is free again: the newest one wins (S3).

use super::app::{AppKey, AppState, Stage, UpdateStatus};
use super::job::{Container, JobId, JobSpec};
use super::message::LogCommand;
use super::names;
use super::plan::{Case, Kind, Step};
use super::ports::Binding;
use super::request::Request;
use super::transition::{self, Action};
use serde_json::Value;
use std::collections::VecDeque;
use std::time::Duration;

/// Why an app is driven towards its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its crash loop's wait is over.
    Retry,
    /// A transition has ended, or its container has changed.
    Verify,
    /// A session was joined: a target already reached is reported again.
    Connected,
    /// Somebody asked: likewise, and an update that runs may be cancelled.
    Requested,
}

/// An app.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// Identity.
    pub id: AppKey,
    /// Name, case kept.
    pub name: String,
    /// Name of its container and log topic.
    pub container: String,
    /// Name of its compose project, if it is one.
    pub project: String,
    /// Recorded state.
    pub state: AppState,
    /// Wanted state: authoritative over the one in `request`.
    pub wanted: AppState,
    /// The last accepted request; `None` only for a row whose request was lost.
    pub request: Option<Request>,
    /// Installed version.
    pub version: String,
    /// Its release.
    pub release_key: u64,
    /// `request_update` of the request that created the record; false after a restart.
    pub created_with_update: bool,
    /// Update status of the next report.
    pub update_status: UpdateStatus,
    /// The last build was one for a release (2.6).
    pub release_build: bool,
    /// The build that is wanted is done, and the backend was told so.
    pub promoted: bool,
    /// The backend does not know it: it goes, its data stays. Only in memory, since each list of the backend says it anew.
    pub unknown: bool,
    /// The version that did not prove itself: not tried again by itself (decision 30).
    pub refused: Option<String>,
    /// Versions that updates have replaced, or that were refused, whose images are not removed yet.
    pub superseded: Vec<String>,
    /// What it was before a request gave it another name, or made a project of a container or the reverse: removed before
    /// anything else is done with it.
    pub strays: Vec<Stray>,
    /// What is being done.
    pub slot: Slot,
    /// The wish that arrived meanwhile.
    pub again: Option<Why>,
    /// Crashes in a row.
    pub crash: Option<Crash>,
    /// How often the same pair of states was driven in a row without somebody asking.
    pub redrives: Redrives,
    /// The look at its container that is under way.
    pub look: Option<JobId>,
    /// Something has happened since that look began.
    pub look_again: bool,
    /// Its container when it was judged last.
    pub seen: Option<Container>,
    /// Observations of jobs before this one were made while the slot was busy.
    pub released: JobId,
    /// When its last update ended, in the order of jobs: what the backend's list says of its version may be older.
    pub updated: JobId,
    /// The epoch is from the backend or this database, not a guess (storage chapter 1.5).
    pub epoch_known: bool,
}

/// What an app consists of, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stray {
    /// One container.
    Container(String),
    /// A project.
    Project(String),
}

impl Stray {
    /// The job that removes it. Volumes stay.
    pub fn removal(&self) -> JobSpec {
        match self {
            Stray::Container(container) => JobSpec::RemoveContainer { container: container.clone() },
            Stray::Project(project) => JobSpec::RemoveProject { project: project.clone() },
        }
    }
}

/// Whether something is being done with an app.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Slot {
    /// Nothing.
    #[default]
    Idle,
    /// An action.
    Busy(Box<Run>),
}

/// A running action.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Which one.
    pub action: Action,
    /// Steps not yet begun.
    pub steps: VecDeque<Step>,
    /// The step that is waited for.
    pub waits: Option<Wait>,
    /// The cancel that follows as soon as the current step has ended.
    pub cancel: Option<Action>,
    /// The registry token, once asked for.
    pub token: Option<String>,
    /// Starts that ended in a port conflict.
    pub conflicts: u32,
    /// Starts that found new ports taken.
    pub probes: u32,
    /// Starts that found no image.
    pub fetches: u32,
    /// Ports of the start that runs.
    pub bindings: Vec<Binding>,
    /// The engine has accepted the pull, build or push that runs.
    pub accepted: bool,
    /// Lines go to the log of the release build.
    pub publishes: bool,
    /// Services whose images are missing.
    pub missing: Vec<String>,
    /// What is started is the newest version, on trial.
    pub trial: bool,
    /// Since when it proves itself.
    pub trial_since: Option<Duration>,
    /// The engine was away meanwhile: containers may have ended with it.
    pub disturbed: bool,
    /// What [`Step::RemoveStray`] removes now.
    pub stray: Option<Stray>,
    /// The release before is put back: it need not be started.
    pub is_back: bool,
    /// The newest version when it began: what a pull fetches and an update takes over, whatever is asked for meanwhile.
    pub newest: String,
    /// Its release.
    pub new_release_key: u64,
    /// Its compose definition, if it brings one.
    pub definition: Option<Value>,
}

impl Run {
    /// A run of `action` for an app that stands at the beginning of `steps`.
    pub fn new(action: Action, steps: Vec<Step>, app: &App) -> Run {
        let newest = app.request.as_ref().map(|request| request.newest_version.clone()).unwrap_or_default();
        Run {
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
            publishes: false,
            missing: Vec::new(),
            trial: false,
            trial_since: None,
            disturbed: false,
            stray: None,
            is_back: false,
            newest: if newest.is_empty() { app.version.clone() } else { newest },
            new_release_key: app.request.as_ref().map_or(0, |request| request.new_release_key),
            definition: app.request.as_ref().and_then(|request| request.new_docker_compose.clone()),
        }
    }
}

/// What a running action waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A job for this step.
    Job(JobId, Step),
    /// A registry token; tries so far.
    Token(u32),
    /// Time, or an event of the container: then the new release is looked at again.
    Proof,
}

/// The crash loop of an app (apps chapter 5.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// Crashes in a row.
    pub count: u64,
    /// It waits to be started again.
    pub waits: bool,
}

/// Drives of one pair of states, current and wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Redrives {
    /// The pair.
    pub pair: (AppState, AppState),
    /// How often in a row.
    pub count: u32,
    /// When it was driven last.
    pub at: Duration,
}

impl App {
    /// An app of which only this is known.
    pub fn new(id: AppKey, name: &str, state: AppState) -> App {
        App {
            id,
            name: name.to_owned(),
            container: names::container(id, name),
            project: names::project(id, name),
            state,
            wanted: state.as_request(),
            request: None,
            version: String::new(),
            release_key: 0,
            created_with_update: false,
            update_status: UpdateStatus::None,
            release_build: false,
            promoted: false,
            unknown: false,
            refused: None,
            superseded: Vec::new(),
            strays: Vec::new(),
            slot: Slot::Idle,
            again: None,
            crash: None,
            redrives: Redrives { pair: (state, state), count: 0, at: Duration::ZERO },
            look: None,
            look_again: false,
            seen: None,
            released: 0,
            updated: 0,
            epoch_known: false,
        }
    }

    /// What it consists of.
    pub fn kind(&self) -> Kind {
        match &self.request {
            Some(request) if request.is_compose() => Kind::Compose,
            _ => Kind::Plain,
        }
    }

    /// What it consists of, by name.
    pub fn body(&self) -> Stray {
        match self.kind() {
            Kind::Plain => Stray::Container(self.container.clone()),
            Kind::Compose => Stray::Project(self.project.clone()),
        }
    }

    /// What its plans depend on.
    pub fn case(&self) -> Case {
        Case {
            stage: self.id.stage,
            kind: self.kind(),
            target: self.wanted,
            is_fresh: self.state.is_gone(),
            has_failed: self.state == AppState::Failed,
            is_starting: self.state == AppState::Starting,
        }
    }

    /// The command that follows its log.
    pub fn follow(&self) -> LogCommand {
        let project = (self.kind() == Kind::Compose).then(|| self.project.clone());
        LogCommand::Follow { container: self.container.clone(), project }
    }

    /// Whether the backend drives it at each connect: DEV apps, builds and releases are driven interactively.
    pub fn is_backend_driven(&self) -> bool {
        self.request.is_some()
            && self.id.stage == Stage::Prod
            && !matches!(self.wanted, AppState::Published | AppState::Built)
    }

    /// Whether the slot is free.
    pub fn is_idle(&self) -> bool {
        self.slot == Slot::Idle
    }

    /// Whether its container is expected to run.
    pub fn runs(&self) -> bool {
        matches!(self.state, AppState::Running | AppState::Starting)
    }

    /// Whether it is gone and not wanted, however gone: nothing is left to do.
    pub fn has_left(&self) -> bool {
        self.wanted.is_gone() && (self.state == self.wanted || self.state == AppState::Uninstalled)
    }

    /// How the running action is to be interrupted, if it is: when a cancel is asked for, or an update is no longer
    /// wanted (5.3 steps 4 and 5). A reconnect alone cancels nothing that is still wanted (decision 17).
    pub fn cancel_for(&self, why: Why) -> Option<Action> {
        let Slot::Busy(run) = &self.slot else { return None };
        if self.unknown {
            return (!run.action.takes_away()).then_some(Action::Discard);
        }
        let asked = self.request.as_ref().is_some_and(|request| request.cancel_transition);
        let unwanted = run.action.is_update() && (why == Why::Requested || self.wanted.is_gone());
        let cell = transition::action(self.state, self.wanted, self.id.stage)?;
        if cell.is_cancel() {
            return (asked || unwanted).then_some(cell);
        }
        // A start that hangs is called off as well (S4), and what comes before a state that can be cancelled.
        let ends_it = cell.takes_away() || (cell == Action::Noop && self.wanted.is_gone());
        (asked && ends_it && !run.action.takes_away() && !run.action.is_update()).then_some(cell)
    }

    /// Whether it is where it is wanted, and a container is of no use there.
    pub fn needs_no_container(&self) -> bool {
        use AppState::{Built, Present, Published};
        let rests = |state: AppState| matches!(state, Present | Built | Published) || state.is_gone();
        rests(self.state) && rests(self.wanted) && self.is_settled()
    }

    /// Whether it waits in its crash loop.
    pub fn waits_after_crash(&self) -> bool {
        self.crash.is_some_and(|crash| crash.waits)
    }

    /// Whether a newer release is wanted.
    pub fn pending_update(&self) -> bool {
        self.request.as_ref().is_some_and(|request| {
            !self.wanted.is_gone()
                && request.wants_update_from(&self.version)
                && self.refused.as_ref() != Some(&request.newest_version)
        })
    }

    /// Those of the superseded versions that nobody wants: the newest one may be asked for again.
    pub fn unneeded(&self) -> impl Iterator<Item = &String> {
        let named = self.request.iter().flat_map(|request| [&request.newest_version, &request.present_version]);
        let wanted: Vec<&String> = named.chain([&self.version]).collect();
        self.superseded.iter().filter(move |version| !wanted.contains(version))
    }

    /// Whether it is where it is wanted.
    pub fn is_settled(&self) -> bool {
        let is_there = self.state == self.wanted || (self.promoted && self.state == AppState::Present);
        is_there && !self.pending_update()
    }

    /// The version that runs: the installed one, the newest only if none is installed.
    pub fn version_that_runs(&self) -> String {
        match (&self.request, self.version.is_empty()) {
            (Some(request), true) => request.newest_version.clone(),
            _ => self.version.clone(),
        }
    }
}
