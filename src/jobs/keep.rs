//! Keeping the container of the release before, and putting it back (decision 30).
//!
//! **Invariant:** at every moment the release before has a container, under one of the two names, until it is told to go: a
//! job that was cut off at any point, by a power cut too, is done again and ends the same.

use super::work::{Failure, PATIENCE, Work};
use crate::docker::Condition;
use crate::domain::job::Outcome;
use std::time::Duration;

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(1);

impl Work<'_> {
    /// Stops a container and keeps it under another name.
    pub(super) fn keep(&self, container: &str, kept: &str) -> Result<(), Failure> {
        // Without it, what is kept is this container already, or there is none.
        let Some(found) = self.docker.find_container(container)? else { return Ok(()) };
        self.remove_container(kept)?;
        let stopped = self.docker.stop_container(&found.id, GRACE).and_then(|()| {
            // Stopping waits by itself; an Engine that was restarted in the middle may have another opinion.
            self.docker.within(PATIENCE).wait_container(&found.id, Condition::NotRunning)
        });
        match stopped.map_err(Failure::from).and_then(|_| self.rename(&found.id, kept)) {
            Err(Failure::Engine(error)) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Removes whatever has the name of a kept container, gives that its name back, starts it and waits until it runs.
    pub(super) fn put_back(&self, container: &str, kept: &str) -> Result<Outcome, Failure> {
        let id = match self.docker.find_container(kept)? {
            Some(found) => {
                self.remove_container(container)?;
                self.rename(&found.id, container)?;
                found.id
            }
            // It never lost its name, or has it back from a time before that was cut off.
            None => match self.docker.find_container(container)? {
                Some(found) => found.id,
                None => return Err(Failure::Text("the container of the release before is gone".to_owned())),
            },
        };
        self.docker.start_container(&id)?;
        self.until_running(&id)
    }

    fn rename(&self, id: &str, name: &str) -> Result<(), Failure> {
        match self.docker.rename_container(id, name) {
            // Somebody made one in between, or the Engine still held the name.
            Err(error) if error.is_name_in_use() => {
                self.remove_container(name)?;
                Ok(self.docker.rename_container(id, name)?)
            }
            other => Ok(other?),
        }
    }
}
