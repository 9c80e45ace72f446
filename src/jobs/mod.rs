//! The workers: what blocks for a while (the Engine, files, downloads) is done here, one job (`domain::job`) at a time.
//!
//! ```text
//! Handle --Order--> transfer  pulls, builds, pushes, 2 at once  |--Event--> the state thread's inbox
//!        --Order--> control   apps and listings, 4 at once      |
//!        --Order--> query     questions and uploads, 2 at once  |
//!        --Order--> local     the machine's own figures         |
//! ```
//!
//! `pool` has the threads and knows nothing of what they do; `work` is what a job has at hand, and the other files are
//! the jobs, a family each. **Invariant:** a job that was started ends with exactly one [`Event::Ended`], also if it is
//! cancelled before it began, and if it panics.

use crate::clock::Wall;
use crate::docker::Docker;
use crate::domain::job::{JobId, Outcome};
use crate::logs;
use crate::os::gpu;
use crate::os::statistics::CpuSample;
use crate::thread::Exit;
use crossbeam_channel::Sender;
use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

mod archive;
mod build;
mod compose;
mod download;
mod env_files;
mod folders;
mod images;
mod keep;
mod launch;
mod live_files;
mod machine;
mod metadata;
mod observe;
mod pool;
mod programs;
mod prune;
mod query;
mod registry;
mod start;
mod stop;
mod tar;
mod transfer;
mod upload;
mod work;

pub use archive::remove_leftovers;
pub use pool::Handle;
pub use programs::Programs;

/// What all jobs need.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The Engine; its deadline is the one of each single call (`apps.md` 7.5: 30 s).
    pub docker: Docker,
    /// `-appsDir`.
    pub apps_dir: PathBuf,
    /// `-compressedBuildExtension`, without a dot.
    pub archive_extension: String,
    /// `-agentDir`.
    pub agent_dir: PathBuf,
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
    /// How other programs are run.
    pub programs: Programs,
}

/// What the workers report.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The Engine has accepted the pull, push or build of this job: from then on its log tells why it fails.
    Accepted(JobId),
    /// A job has ended.
    Ended {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
    },
}

/// Starts the workers. Events go to `events`, wrapped by `wrap`; a worker waits for room there. `on_exit` runs on each
/// worker's thread when it ends.
///
/// # Errors
/// The system's, when no thread can be created.
pub fn spawn<T: Send + 'static>(
    settings: Settings,
    events: Sender<T>,
    wrap: fn(Event) -> T,
    on_exit: impl Fn(Exit) + Send + Sync + 'static,
) -> io::Result<Handle> {
    spawn_with(settings, gpu::is_there, events, wrap, on_exit)
}

/// [`spawn`], where `has_gpu` tells what a test cannot have: a GPU.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_with<T: Send + 'static>(
    settings: Settings,
    has_gpu: fn() -> bool,
    events: Sender<T>,
    wrap: fn(Event) -> T,
    on_exit: impl Fn(Exit) + Send + Sync + 'static,
) -> io::Result<Handle> {
    // The load of the first window counts from here.
    let born = CpuSample::read().unwrap_or_default();
    let (data_root, compose) = (OnceLock::new(), OnceLock::new());
    compose::forget_logins(&settings.agent_dir);
    // Whoever reads the events has gone: then nobody is left to be told.
    let emit = move |event| drop(events.send(wrap(event)));
    let perform = move |task: &pool::Task, accepted: &dyn Fn()| {
        let docker = settings.docker.cancelled_by(&task.cancel);
        let (settings, cancel, data_root, compose) = (&settings, &task.cancel, &data_root, &compose);
        work::Work { settings, docker, cancel, accepted, has_gpu, born, data_root, compose }.perform(&task.spec)
    };
    Handle::new(perform, emit, on_exit)
}
