//! What pulls, pushes and builds have in common: the Engine's records go to the log of a container while the job itself reads
//! them to the end (`apps.md` 3.0), and silence ends them (decision 29).
//!
//! **Invariant:** once the Engine has accepted a job's transfer, its log tells why the job fails, and nobody else has to.

use super::work::{Failure, Work};
use crate::docker::{self, BUILD_SILENCE, NO_PROGRESS_DEADLINE, Progress, RegistryAuth};
use crate::domain::job::{Login, Outcome};
use std::time::Duration;

/// A kind of transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transfer {
    Pull,
    Push,
    Build,
}

impl Transfer {
    /// Silence is the registry's or the line's, not the Engine's.
    pub(super) fn failed(self, error: docker::Error) -> Failure {
        let (what, silence): (_, Duration) = match self {
            Transfer::Pull => ("download", NO_PROGRESS_DEADLINE),
            Transfer::Push => ("upload", NO_PROGRESS_DEADLINE),
            Transfer::Build => ("build", BUILD_SILENCE),
        };
        match error {
            docker::Error::Timeout => {
                Failure::Text(format!("the {what} made no progress for {} minutes", silence.as_secs() / 60))
            }
            other => other.into(),
        }
    }
}

impl Work<'_> {
    /// Reads a transfer, which the Engine has accepted, to its end; its records go to the log of `container`.
    pub(super) fn follow(&self, kind: Transfer, mut progress: Progress, container: &str) -> Result<(), Failure> {
        (self.accepted)();
        loop {
            match progress.next_record() {
                Ok(Some(record)) => self.settings.feed.line(container, record),
                Ok(None) => return Ok(()),
                // The record that said so is in the log.
                Err(error @ docker::Error::Transfer(_)) => return Err(error.into()),
                Err(error) => return self.tell(container, Err(kind.failed(error))),
            }
        }
    }

    /// Says in the log of `container` why a step failed that came after the Engine had accepted something.
    pub(super) fn tell<T>(&self, container: &str, result: Result<T, Failure>) -> Result<T, Failure> {
        if let Err(failure) = &result
            && let Outcome::Failed(text) = Outcome::from(failure.clone())
        {
            self.settings.feed.say(container, text);
        }
        result
    }
}

/// Who pulls or pushes.
pub(super) fn auth(login: &Login) -> RegistryAuth {
    RegistryAuth { username: login.username.clone(), password: login.password.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_a_silent_transfer_has_failed_and_a_broken_one_has_lost_the_engine() {
        let outcome = |kind: Transfer, error| Outcome::from(kind.failed(error));
        for (kind, text) in [
            (Transfer::Pull, "the download made no progress for 10 minutes"),
            (Transfer::Push, "the upload made no progress for 10 minutes"),
            (Transfer::Build, "the build made no progress for 120 minutes"),
        ] {
            assert_eq!(outcome(kind, docker::Error::Timeout), Outcome::Failed(text.to_owned()));
            let broken = docker::Error::Unreachable("gone".to_owned());
            assert!(matches!(outcome(kind, broken), Outcome::EngineGone(_)));
            let denied = docker::Error::Transfer("denied".to_owned());
            assert_eq!(outcome(kind, denied), Outcome::Failed("denied".to_owned()));
            assert_eq!(outcome(kind, docker::Error::Cancelled), Outcome::Cancelled);
        }
    }
}
