//! Stopping and removing containers (`apps.md` 3.9, 3.11). To find nothing is success.

use super::work::{Failure, LOOK, PATIENCE, Work};
use crate::clock;
use crate::docker::{Condition, Error, Removal};
use std::time::Duration;

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(1);

impl Work<'_> {
    /// Stops a container, removes it and waits until it is gone.
    pub(super) fn stop(&self, container: &str) -> Result<(), Failure> {
        let Some(found) = self.docker.find_container(container)? else { return Ok(()) };
        match self.docker.stop_container(&found.id, GRACE) {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        }
        match self.docker.within(PATIENCE).wait_container(&found.id, Condition::NotRunning) {
            // Removing it by force kills what is left.
            Err(Error::Timeout) => {}
            Err(error) if error.is_not_found() => return Ok(()),
            other => drop(other?),
        }
        self.remove(&found.id, Removal::Force)
    }

    /// Removes a container by force, named by its name or id, and waits until it is gone.
    pub(super) fn remove_container(&self, container: &str) -> Result<(), Failure> {
        match self.docker.inspect_container(container) {
            // The Engine also takes the start of an id.
            Ok(found) if container == found.name() || container == found.id => self.remove(&found.id, Removal::Force),
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a container by its id and waits until it is gone.
    pub(super) fn remove(&self, id: &str, how: Removal) -> Result<(), Failure> {
        match self.docker.remove_container(id, how) {
            Err(error) if !error.is_not_found() && !error.is_removal_in_progress() => return Err(error.into()),
            _ => {}
        }
        let deadline = clock::mono() + PATIENCE;
        let mut pause = LOOK / 20;
        while self.exists(id)? {
            if clock::mono() >= deadline {
                return Err(Failure::Text(format!("its container is still there after {} s", PATIENCE.as_secs())));
            }
            self.pause(pause)?;
            pause = (pause * 2).min(LOOK);
        }
        Ok(())
    }

    fn exists(&self, id: &str) -> Result<bool, Failure> {
        match self.docker.inspect_container(id) {
            Ok(_) => Ok(true),
            Err(error) if error.status() == Some(404) => Ok(false),
            // "Dead or marked for removal".
            Err(error) if error.is_not_found() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
