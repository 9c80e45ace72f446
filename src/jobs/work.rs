//! What a job has at hand, which function does it, and how it ends when it cannot be done.

use super::Settings;
use super::compose::Compose;
use super::live_files;
use crate::cancel::Cancel;
use crate::docker::{self, Docker};
use crate::domain::job::{JobSpec, Outcome};
use crate::os::statistics::CpuSample;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// How often a container is looked at that is to start or to go.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// How long it may take (`apps.md` 7.5).
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A job at work, on its worker's thread.
pub(super) struct Work<'a> {
    pub(super) settings: &'a Settings,
    /// The Engine; the job's token ends each call.
    pub(super) docker: Docker,
    pub(super) cancel: &'a Cancel,
    /// To be called when the Engine has accepted a pull, push or build.
    pub(super) accepted: &'a dyn Fn(),
    /// Whether this machine has a GPU; asked at each start.
    pub(super) has_gpu: fn() -> bool,
    /// Load of the machine when the workers were started.
    pub(super) born: CpuSample,
    /// The Engine's data root, once a listing has asked for it: where apps lie on boards without a partition for them.
    pub(super) data_root: &'a OnceLock<PathBuf>,
    /// The compose of this device, once one has answered.
    pub(super) compose: &'a OnceLock<Compose>,
}

/// Why a job is not done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Failure {
    /// A call of the Engine, whatever that means.
    Engine(docker::Error),
    /// Anything else, for people.
    Text(String),
}

impl Failure {
    /// The system refused what was to be done with `what`.
    pub(super) fn of(what: impl Display, error: impl Display) -> Failure {
        Failure::Text(format!("{what}: {error}"))
    }
}

impl Failure {
    /// Whether nothing more can be done in this job: it is cancelled, or the Engine is away.
    pub(super) fn is_final(&self) -> bool {
        matches!(self, Failure::Engine(error) if *error == docker::Error::Cancelled || error.is_engine_down())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Engine(error) => error.fmt(f),
            Failure::Text(text) => f.write_str(text),
        }
    }
}

/// Does something with each of many, also when one fails: the first failure is the one that is told.
pub(super) fn for_all<T>(
    all: impl IntoIterator<Item = T>,
    mut each: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut result = Ok(());
    for one in all {
        match each(one) {
            Err(failure) if failure.is_final() => return Err(failure),
            other => result = result.and(other),
        }
    }
    result
}

impl From<docker::Error> for Failure {
    fn from(error: docker::Error) -> Failure {
        Failure::Engine(error)
    }
}

impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Outcome {
        match failure {
            Failure::Engine(docker::Error::Cancelled) => Outcome::Cancelled,
            Failure::Engine(error) if error.is_engine_down() => Outcome::EngineGone(error.to_string()),
            Failure::Engine(error) => Outcome::Failed(error.to_string()),
            Failure::Text(text) => Outcome::Failed(text),
        }
    }
}

impl Work<'_> {
    /// Does a job.
    pub(super) fn perform(&self, spec: &JobSpec) -> Outcome {
        let done = |result: Result<(), Failure>| result.map(|()| Outcome::Done);
        let result = match spec {
            JobSpec::Observe { known } => self.observe(known),
            JobSpec::Look { container } => self.look(container),
            JobSpec::Prove { container } => self.prove(container),
            JobSpec::Pull { image, username, password, container } => {
                done(self.pull(image, username, password, container))
            }
            JobSpec::Start(launch) => self.start(launch),
            JobSpec::Stop { container } => done(self.stop(container)),
            JobSpec::RemoveContainer { container } => done(self.remove_container(container)),
            JobSpec::RemoveImages { repository } => done(self.remove_images(repository)),
            JobSpec::RemoveImageList { images } => done(self.remove_image_list(images)),
            JobSpec::Compose { project, logins, command } => self.compose(project, logins, command),
            JobSpec::FindCompose => self.find_compose(),
            JobSpec::LookProject { project } => self.look_project(project),
            JobSpec::RemoveProject { project } => done(self.remove_project(project)),
            JobSpec::MissingImages { images } => self.missing_images(images).map(Outcome::Missing),
            JobSpec::Build(build) => done(self.build(build)),
            JobSpec::Unpack { app_name } => done(self.unpack(app_name)),
            JobSpec::Tag { source, target } => done(self.tag(source, target)),
            JobSpec::Push { image, login, container } => done(self.push(image, login, container)),
            JobSpec::Rehost(rehost) => done(self.rehost(rehost)),
            JobSpec::Keep { container, kept } => done(self.keep(container, kept)),
            JobSpec::PutBack { container, kept } => self.put_back(container, kept),
            JobSpec::Upload(upload) => done(self.upload(upload)),
            JobSpec::HasImage { image } => self.has_image(image).map(Outcome::HasImage),
            JobSpec::DeleteFiles(folder) => done(self.delete_files(folder)),
            JobSpec::WriteLiveFiles(files) => {
                done(self.folders(&files.folder).and_then(|folders| live_files::write(&folders, files)))
            }
            JobSpec::Statistics { previous } => Ok(self.statistics(*previous)),
            JobSpec::Platform => Ok(Outcome::Platform { os: self.os() }),
            JobSpec::Query(query) => self.answer(query).map(Outcome::Answer),
        };
        result.unwrap_or_else(Outcome::from)
    }

    /// Waits for `time`, or fails as soon as the job is cancelled.
    pub(super) fn pause(&self, time: Duration) -> Result<(), Failure> {
        let (wake, woken) = crossbeam_channel::bounded::<()>(1);
        let _closer = self.cancel.on_cancel(move || {
            let _ = wake.try_send(());
        });
        let _ = woken.recv_timeout(time);
        if self.cancel.is_cancelled() { Err(docker::Error::Cancelled.into()) } else { Ok(()) }
    }
}
