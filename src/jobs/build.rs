//! Building the image of a DEV app from its archive of sources (`apps.md` 3.8, storage chapter 7.4).

use super::archive::has_root_file;
use super::transfer::{Transfer, auth};
use super::work::{Failure, Work};
use crate::docker::{self, BuildSpec};
use crate::domain::job::Build;
use crate::domain::{lines, names};
use crate::os::files;
use std::path::PathBuf;

const DOCKERFILE: &str = "Dockerfile";

impl Work<'_> {
    /// Builds an image from an app's archive; records go to the log of the build's container.
    pub(super) fn build(&self, build: &Build) -> Result<(), Failure> {
        let path = self.archive_of(&build.app_name)?;
        let absent = |error| Failure::Text(lines::no_sources(&format!("{}: {error}", path.display())));
        let mut archive = files::open_regular(&path).map_err(absent)?;
        let length = archive.metadata().map_err(absent)?.len();
        let special = format!("{DOCKERFILE}.{}", build.arch);
        let has_special = has_root_file(&archive, &path, &special, self.cancel)?;
        let dockerfile = if has_special { special } else { DOCKERFILE.to_owned() };
        // The build itself has all the time that it needs; an Engine that hangs is found out before (D1).
        self.docker.ping()?;
        let spec = BuildSpec {
            tag: build.image.clone(),
            dockerfile,
            id: build.id.clone(),
            logins: build.logins.iter().map(|login| (login.registry.clone(), auth(login))).collect(),
        };
        let begun = self.docker.build_image(&spec, &mut archive, length);
        self.follow(Transfer::Build, begun.map_err(|error| refused(error, &spec.dockerfile))?, &build.container)
    }

    /// `<apps>/build/<name>.<ext>`
    fn archive_of(&self, app_name: &str) -> Result<PathBuf, Failure> {
        if !names::is_path_part(app_name) {
            return Err(Failure::Text(format!("the app name {app_name:?} cannot be the name of a file")));
        }
        Ok(self.build_folder()?.join(format!("{app_name}.{}", self.settings.archive_extension)))
    }
}

/// In words that say what to do.
fn refused(error: docker::Error, dockerfile: &str) -> Failure {
    if error.is_dockerfile_missing() {
        Failure::Text(lines::no_dockerfile(dockerfile))
    } else if error.is_dockerfile_empty() {
        Failure::Text(lines::empty_dockerfile(dockerfile))
    } else {
        Transfer::Build.failed(error)
    }
}
