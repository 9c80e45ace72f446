//! Building, tagging, pushing (`apps.md` 3.8, 3.13).

use super::work::{Failure, Work};
use crate::domain::job::{Build, Login, Rehost};

#[expect(clippy::unused_self, unused_variables, reason = "to be written")]
impl Work<'_> {
    /// Builds an image from an app's archive.
    pub(super) fn build(&self, build: &Build) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Gives an image a second name.
    pub(super) fn tag(&self, source: &str, target: &str) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Pushes an image.
    pub(super) fn push(&self, image: &str, login: &Login, container: &str) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Copies an image from registry to registry.
    pub(super) fn rehost(&self, rehost: &Rehost) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }
}
