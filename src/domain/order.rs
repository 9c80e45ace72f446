//! The job of each step of a plan: what the workers are told.

use super::State;
use super::app::AppKey;
use super::job::{Folder, JobSpec};
use super::names::Names;
use super::slot::Slot;
use super::transition::{Step, Version};
use crate::secret::Secret;

impl State {
    /// The names of an app.
    pub(super) fn names(&self, id: AppKey, name: &str) -> Names {
        Names::new(id, name, &self.device.arch, &self.device.registry, &self.device.repository)
    }

    /// The job of a step.
    ///
    /// # Errors
    /// Why there can be none: it fails the action.
    pub(super) fn job_of(&mut self, id: AppKey, step: Step) -> Result<JobSpec, String> {
        let app = self.apps.get(&id).ok_or("the app is unknown")?;
        let names = self.names(id, &app.name);
        let container = app.container.clone();
        let folder = Folder { stage: id.stage, name: app.name.clone() };
        Ok(match step {
            Step::Pull { version, .. } => {
                let Slot::Busy(run) = &app.slot else { return Err("nothing runs".to_owned()) };
                let version = match version {
                    Version::Newest => run.newest.clone(),
                    Version::Runs => app.version_that_runs(),
                };
                if version.is_empty() {
                    return Err("the backend named no version to install".to_owned());
                }
                JobSpec::Pull {
                    image: names.tagged(&version),
                    username: Secret::new(run.token.clone().unwrap_or_default()),
                    password: self.device.secret.clone(),
                    container,
                }
            }
            Step::Start => return self.launch(id, &names).map(|launch| JobSpec::Start(Box::new(launch))),
            Step::Stop => JobSpec::Stop { container },
            Step::RemoveContainer => JobSpec::RemoveContainer { container },
            Step::RemoveImages => JobSpec::RemoveImages { repository: names.image },
            Step::NeedImage => JobSpec::HasImage { repository: names.image },
            Step::RemoveOldImage => {
                let Slot::Busy(run) = &app.slot else { return Err("nothing runs".to_owned()) };
                JobSpec::RemoveImage { image: names.tagged(&run.old_version) }
            }
            Step::DeleteFiles => JobSpec::DeleteFiles(folder),
            _ => return Err(format!("{step:?} is no job")),
        })
    }
}
