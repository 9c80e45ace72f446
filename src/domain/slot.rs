//! One app in memory: what is wanted, recorded and observed, and the one slot in which something is done with it.
//!
//! **Invariant:** an app has one slot, so two transitions of one app cannot run at once (S2). A request that arrives while
//! the slot is busy replaces what is wanted and is looked at when the slot is free again: the newest one wins (S3).

use super::app::{AppKey, AppState, UpdateStatus};
use super::job::{Container, JobId};
use super::ports::Binding;
use super::request::Request;
use super::transition::{Action, Step};
use std::collections::VecDeque;
use std::time::Duration;

/// Why an app is driven towards its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its crash loop's wait is over.
    Retry,
    /// A transition has ended, or its container has changed.
    Verify,
    /// Somebody asked: a target already reached is reported again.
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
    /// What is being done.
    pub slot: Slot,
    /// The wish that arrived meanwhile.
    pub again: Option<Why>,
    /// Crashes in a row.
    pub crash: Option<Crash>,
    /// How often the same pair of states was driven in a row.
    pub redrives: (AppState, AppState, u32),
    /// Its container when it was judged last.
    pub seen: Option<Container>,
    /// Observations of jobs before this one were made while the slot was busy.
    pub released: JobId,
    /// The epoch is from the backend or this database, not a guess (storage chapter 1.5).
    pub epoch_known: bool,
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
    /// The engine has accepted the pull that runs.
    pub accepted: bool,
    /// Version before an update.
    pub old_version: String,
}

/// What a running action waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// A job for this step.
    Job(JobId, Step),
    /// A registry token; tries so far.
    Token(u32),
}

/// The crash loop of an app (apps chapter 5.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// Crashes in a row.
    pub count: u64,
    /// When it is started again; `None` once it was.
    pub until: Option<Duration>,
}

impl App {
    /// Whether the slot is free.
    pub fn is_idle(&self) -> bool {
        self.slot == Slot::Idle
    }

    /// Whether its container is expected to run.
    pub fn runs(&self) -> bool {
        matches!(self.state, AppState::Running | AppState::Starting)
    }

    /// Whether it waits in its crash loop.
    pub fn waits_after_crash(&self) -> bool {
        self.crash.is_some_and(|crash| crash.until.is_some())
    }

    /// Whether a newer release is wanted.
    pub fn pending_update(&self) -> bool {
        self.request.as_ref().is_some_and(|request| !self.wanted.is_gone() && request.wants_update_from(&self.version))
    }

    /// Whether it is where it is wanted.
    pub fn is_settled(&self) -> bool {
        self.state == self.wanted && !self.pending_update()
    }

    /// The version that runs: the installed one, the newest only if none is installed.
    pub fn version_that_runs(&self) -> String {
        match (&self.request, self.version.is_empty()) {
            (Some(request), true) => request.newest_version.clone(),
            _ => self.version.clone(),
        }
    }
}
