//! Compose projects: their commands, and their containers as the Engine shows them (`apps.md` 3.5 to 3.13, 4.10, 7.4).
//!
//! ```text
//! commands -> cli (runs them) -> output (log, error text) -> os::child
//!    |         |-- flavour (which compose)  login (credentials of one job)  files (what compose reads)
//!    '------> project (by label, through the Engine)
//! ```
//!
//! What brings images or starts containers needs compose. What takes away uses it where it can, so that services end as
//! their definition asks, and then makes sure by label: an unusable definition, services that it does not name any more,
//! or a device without compose keep no container.

mod cli;
mod files;
mod flavour;
mod login;
mod output;
mod project;

use super::start::is_free;
use super::work::{Failure, Work, for_all};
use crate::docker::Filters;
use crate::docker::error::is_port_conflict;
use crate::domain::app::Stage;
use crate::domain::job::{ComposeCommand, Login, Outcome, Project};
use crate::domain::ports::Binding;
use crate::domain::{compose, lines};
use crate::sorted::IntoSorted;
use cli::{Cli, Runner, TEARDOWN, TRANSFER};
use log::warn;
use project::{Ending, Extent};
use std::collections::BTreeMap;

pub(super) use flavour::Compose;
pub(super) use login::forget_all as forget_logins;

// What `rm -f` would do after each of them is done by label: 1.29 takes seconds for it on a small board.
const TAKE_DOWN: &[&str] = &["stop"];
const DOWN: &[&str] = &["down", "--remove-orphans"];
const REMOVE: &[&str] = &["down", "-v"];

impl Work<'_> {
    /// Looks for a compose on this device.
    pub(super) fn find_compose(&self) -> Result<Outcome, Failure> {
        let found = self.compose_flavour(&Cli::of(self, "none")?)?;
        Ok(if found.is_some() { Outcome::Done } else { Outcome::ComposeMissing })
    }

    /// Runs a command of a project.
    pub(super) fn compose(
        &self,
        project: &Project,
        logins: &[Login],
        command: &ComposeCommand,
    ) -> Result<Outcome, Failure> {
        match command {
            ComposeCommand::TakeDown => self.take_away(project, Extent::Containers, TAKE_DOWN),
            ComposeCommand::Down => self.take_away(project, Extent::Networks, DOWN),
            ComposeCommand::Remove => self.take_away(project, Extent::Volumes, REMOVE),
            ComposeCommand::Up { bindings } => self.up(project, logins, bindings),
            ComposeCommand::Pull { services } => {
                let names = services.iter().map(String::as_str);
                self.transfer(project, logins, |_| Some(["pull"].into_iter().chain(names).collect()))
            }
            ComposeCommand::Build => self.transfer(project, logins, |compose| Some(compose.build().to_vec())),
            ComposeCommand::Push => self.transfer(project, logins, |_| Some(vec!["push"])),
            ComposeCommand::PullRest => {
                let named = not_built(project)?;
                self.transfer(project, logins, |compose| match compose.ignores_buildable() {
                    true => Some(vec!["pull", "--ignore-buildable"]),
                    // Without a name it would be all of them.
                    false if named.is_empty() => None,
                    false => Some(["pull"].into_iter().chain(named.iter().map(String::as_str)).collect()),
                })
            }
        }
    }

    /// A command that moves images; its words depend on the flavour, and `None` is nothing to do.
    fn transfer<'s>(
        &self,
        project: &Project,
        logins: &[Login],
        words: impl FnOnce(Compose) -> Option<Vec<&'s str>>,
    ) -> Result<Outcome, Failure> {
        // What follows has all the time that a slow line needs; an Engine that hangs is found out before (D1).
        self.docker.ping()?;
        let Some(runner) = Runner::of(self, project)? else { return Ok(Outcome::ComposeMissing) };
        let Some(words) = words(runner.compose) else { return Ok(Outcome::Done) };
        let done = runner.cli.log_in(logins).and_then(|()| runner.run(&words, TRANSFER));
        done.map_err(|failure| self.blame(failure))?;
        Ok(Outcome::Done)
    }

    /// Starts a project and waits until it runs.
    fn up(&self, project: &Project, logins: &[Login], bindings: &[Binding]) -> Result<Outcome, Failure> {
        let taken: Vec<Binding> = bindings.iter().filter(|binding| !is_free(binding)).cloned().collect();
        if !taken.is_empty() {
            return Ok(Outcome::PortsTaken(taken));
        }
        self.docker.ping()?;
        let Some(runner) = Runner::of(self, project)? else { return Ok(Outcome::ComposeMissing) };
        runner.files.write_environment()?;
        if !runner.files.skipped.is_empty() {
            self.settings.feed.say(&project.container, lines::env_skipped(&runner.files.skipped));
        }
        if let Err(failure) = runner.cli.log_in(logins) {
            self.go_on_without(failure, project)?;
        }
        let words: &[&str] = match project.folder.stage {
            Stage::Dev => &["up", "--remove-orphans", "-d"],
            // The definition has `build` sections still, whose sources are not here (D3).
            Stage::Prod => &["up", "--remove-orphans", "-d", "--no-build"],
        };
        let up = runner.run(words, TRANSFER).map_err(|failure| self.blame(failure));
        let Err(failure) = up.and_then(|()| self.until_project_runs(&project.name)) else { return Ok(Outcome::Done) };
        if failure.is_final() {
            return Err(failure);
        }
        let text = failure.to_string();
        let conflict = is_port_conflict(&text);
        if !conflict {
            self.show_tails(&project.name, &project.container)?;
        }
        match self.make_sure(runner.run(TAKE_DOWN, TEARDOWN), project, Extent::Containers) {
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => warn!("{}: what did not start is not taken down: {failure}", project.name),
            Ok(()) => {}
        }
        if conflict { Ok(Outcome::PortConflict(text)) } else { Err(Failure::Text(text)) }
    }

    /// A device that boots without its registry runs what it has (3.5, step 2).
    fn go_on_without(&self, failure: Failure, project: &Project) -> Result<(), Failure> {
        let Failure::Text(text) = &failure else { return Err(failure) };
        let images = compose::images(&project.definition).map_err(Failure::Text)?;
        if !self.missing_images(&images)?.is_empty() {
            return Err(failure);
        }
        self.settings.feed.say(&project.container, text.clone());
        Ok(())
    }

    /// Takes away what there is of a project.
    fn take_away(&self, project: &Project, extent: Extent, words: &[&str]) -> Result<Outcome, Failure> {
        if !self.is_there(&project.name, extent)? {
            return Ok(Outcome::Done);
        }
        let asked = match Runner::of(self, project) {
            Ok(Some(runner)) => runner.run(words, TEARDOWN),
            other => other.map(drop),
        };
        self.make_sure(asked, project, extent)?;
        Ok(Outcome::Done)
    }

    /// Takes away what compose, which was `asked` before, has left.
    fn make_sure(&self, asked: Result<(), Failure>, project: &Project, extent: Extent) -> Result<(), Failure> {
        match asked {
            Err(failure) if failure.is_final() => return Err(failure),
            Err(failure) => warn!("{}: it is taken away without compose: {failure}", project.name),
            Ok(()) => {}
        }
        self.remove_by_label(&project.name, extent, Ending::Asked)
    }

    /// Services whose image is not there.
    pub(super) fn missing_images(&self, images: &BTreeMap<String, String>) -> Result<Vec<String>, Failure> {
        let local = self.docker.list_images(&Filters::none())?;
        let tags: Vec<String> = local.into_iter().flat_map(|image| image.repo_tags).collect();
        Ok(compose::missing(images, &tags))
    }

    /// Removes images, each once.
    pub(super) fn remove_image_list(&self, images: &[String]) -> Result<(), Failure> {
        for_all(images.iter().map(String::as_str).into_set(), |image| self.remove_image(image))
    }

    /// A command may have failed since the Engine has gone: then nothing is known of its effect.
    fn blame(&self, failure: Failure) -> Failure {
        if failure.is_final() {
            return failure;
        }
        match self.docker.ping() {
            Err(error) if Failure::Engine(error.clone()).is_final() => error.into(),
            _ => failure,
        }
    }
}

/// The services that are pulled, not built.
fn not_built(project: &Project) -> Result<Vec<String>, Failure> {
    let built = compose::built(&project.definition).map_err(Failure::Text)?;
    let services = compose::services(&project.definition).map_err(Failure::Text)?;
    Ok(services.keys().filter(|name| !built.contains(name)).cloned().collect())
}
