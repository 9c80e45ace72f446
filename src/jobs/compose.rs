//! Compose projects: their commands, and their containers as the Engine shows them (`apps.md` 3.5 to 3.13, 4.10, 7.4).

use super::work::{Failure, Work};
use crate::domain::job::{ComposeCommand, Login, Outcome, Project};
use std::collections::BTreeMap;

#[expect(clippy::unused_self, unused_variables, reason = "to be written")]
impl Work<'_> {
    /// Runs a command of a project.
    pub(super) fn compose(
        &self,
        project: &Project,
        logins: &[Login],
        command: &ComposeCommand,
    ) -> Result<Outcome, Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Looks for a compose on the device.
    pub(super) fn find_compose(&self) -> Result<Outcome, Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Looks at the containers of a project as one.
    pub(super) fn look_project(&self, project: &str) -> Result<Outcome, Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Removes containers and networks of a project.
    pub(super) fn remove_project(&self, project: &str) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Services whose image is not there.
    pub(super) fn missing_images(&self, images: &BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Removes images, each once.
    pub(super) fn remove_image_list(&self, images: &[String]) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }
}
