//! Pulling an image. The job itself reads the Engine's records to the end and only tees them to the log (`apps.md` 3.0).

use super::work::{Failure, Work};
use crate::docker::{self, NO_PROGRESS_DEADLINE, Reference, RegistryAuth};
use crate::secret::Secret;

impl Work<'_> {
    /// Pulls `image`; records go to the log of `container`. Without user and password it is pulled by nobody.
    pub(super) fn pull(
        &self,
        image: &str,
        username: &Secret,
        password: &Secret,
        container: &str,
    ) -> Result<(), Failure> {
        // The pull itself has all the time that a slow line needs; an Engine that hangs is found out before (D1).
        self.docker.ping()?;
        let auth = RegistryAuth { username: username.clone(), password: password.clone() };
        let mut progress = self.docker.pull_image(&Reference::parse(image), &auth).map_err(stalled)?;
        (self.accepted)();
        while let Some(record) = progress.next_record().map_err(stalled)? {
            self.settings.feed.line(container, record);
        }
        Ok(())
    }
}

/// Silence is the registry's or the line's, not the Engine's (decision 29).
fn stalled(error: docker::Error) -> Failure {
    match error {
        docker::Error::Timeout => {
            Failure::Text(format!("the download made no progress for {} minutes", NO_PROGRESS_DEADLINE.as_secs() / 60))
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Outcome;

    #[test]
    fn c7_a_silent_pull_has_failed_and_a_broken_one_has_lost_the_engine() {
        let outcome = |error| Outcome::from(stalled(error));
        assert_eq!(
            outcome(docker::Error::Timeout),
            Outcome::Failed("the download made no progress for 10 minutes".to_owned())
        );
        let broken = docker::Error::Unreachable("gone".to_owned());
        assert!(matches!(outcome(broken), Outcome::EngineGone(_)));
        assert_eq!(outcome(docker::Error::Transfer("denied".to_owned())), Outcome::Failed("denied".to_owned()));
        assert_eq!(outcome(docker::Error::Cancelled), Outcome::Cancelled);
    }
}
