//! Local images by repository (`apps.md` 3.9). Removing what is gone, or what another container needs, is success: an
//! image that two services share was once removed twice, and the app could never be uninstalled (S13).

use super::work::{Failure, Work};
use crate::docker::{Filters, Reference, Removal};
use std::collections::BTreeSet;

impl Work<'_> {
    /// Removes all tags of exactly this repository.
    pub(super) fn remove_images(&self, repository: &str) -> Result<(), Failure> {
        self.tags_of(repository)?.iter().try_for_each(|tag| self.remove_image(tag))
    }

    /// Removes one image.
    pub(super) fn remove_image(&self, image: &str) -> Result<(), Failure> {
        match self.docker.remove_image(image, Removal::Force) {
            // 409 is only said of an image that a container needs.
            Err(error) if !error.is_not_found() && error.status() != Some(409) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Whether there is an image of exactly this repository.
    pub(super) fn has_image(&self, image: &str) -> Result<bool, Failure> {
        Ok(self.tags_of(&Reference::parse(image).name)?.contains(image))
    }

    fn tags_of(&self, repository: &str) -> Result<BTreeSet<String>, Failure> {
        let images = self.docker.list_images(&Filters::none())?;
        let tags = images.into_iter().flat_map(|image| image.repo_tags);
        Ok(tags.filter(|tag| Reference::parse(tag).name == repository).collect())
    }
}
