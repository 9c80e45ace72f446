//! Pulling, tagging and pushing images, and copying them from registry to registry (`apps.md` 3.1, 3.13).

use super::transfer::{Transfer, auth};
use super::work::{Failure, Work};
use crate::docker::{Reference, RegistryAuth};
use crate::domain::job::{Login, Rehost};
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
        self.pull_by(image, &RegistryAuth { username: username.clone(), password: password.clone() }, container)
    }

    fn pull_by(&self, image: &str, auth: &RegistryAuth, container: &str) -> Result<(), Failure> {
        // The pull itself has all the time that a slow line needs; an Engine that hangs is found out before (D1).
        self.docker.ping()?;
        let begun = self.docker.pull_image(&Reference::parse(image), auth);
        self.follow(Transfer::Pull, begun.map_err(|error| Transfer::Pull.failed(error))?, container)
    }

    /// Pushes `image`; records go to the log of `container`.
    pub(super) fn push(&self, image: &str, login: &Login, container: &str) -> Result<(), Failure> {
        self.docker.ping()?;
        let begun = self.docker.push_image(&Reference::parse(image), &auth(login));
        self.follow(Transfer::Push, begun.map_err(|error| Transfer::Push.failed(error))?, container)
    }

    /// Gives an image a second name.
    pub(super) fn tag(&self, source: &str, target: &str) -> Result<(), Failure> {
        Ok(self.docker.tag_image(source, &Reference::parse(target))?)
    }

    /// Copies an image from one registry to another; both names stay on the device.
    pub(super) fn rehost(&self, rehost: &Rehost) -> Result<(), Failure> {
        let Rehost { source, target, from, to, container } = rehost;
        self.pull_by(source, &from.as_ref().map(auth).unwrap_or_default(), container)?;
        self.tell(container, self.tag(source, target))?;
        let begun = self.docker.push_image(&Reference::parse(target), &auth(to));
        let begun = self.tell(container, begun.map_err(|error| Transfer::Push.failed(error)))?;
        self.follow(Transfer::Push, begun, container)
    }
}
