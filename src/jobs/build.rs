//! Building the image of a DEV app from its archive of sources (`apps.md` 3.8, storage chapter 7.4).

use super::archive::has_root_file;
use super::transfer::{Transfer, auth};
use super::work::{Failure, Work};
use crate::cancel::Cancel;
use crate::docker::{self, BuildSpec};
use crate::domain::job::Build;
use crate::domain::{lines, names};
use crate::os::files;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::PathBuf;

const DOCKERFILE: &str = "Dockerfile";

impl Work<'_> {
    /// Builds an image from an app's archive; records go to the log of the build's container.
    pub(super) fn build(&self, build: &Build) -> Result<(), Failure> {
        let path = self.archive_of(&build.app_name)?;
        let absent = |error| Failure::Text(lines::no_sources(&format!("{}: {error}", path.display())));
        let mut archive = files::open_regular(&path).map_err(absent)?;
        let length = archive.metadata().map_err(absent)?.len();
        let dockerfile = self.dockerfile(&mut archive, &build.arch)?;
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
        let file = format!("{app_name}.{}", self.settings.archive_extension);
        Ok(self.settings.apps_dir.join("build").join(file))
    }

    /// The Dockerfile to use: that for this architecture if the archive has one. The archive is at its start afterwards.
    fn dockerfile(&self, archive: &mut File, arch: &str) -> Result<String, Failure> {
        let special = format!("{DOCKERFILE}.{arch}");
        let found = has_root_file(Watched { file: archive, cancel: self.cancel }, &special);
        let found = found.and_then(|found| archive.rewind().map(|()| found));
        match found {
            Ok(true) => Ok(special),
            Ok(false) => Ok(DOCKERFILE.to_owned()),
            Err(_) if self.cancel.is_cancelled() => Err(docker::Error::Cancelled.into()),
            Err(error) => Err(Failure::of("the source archive cannot be read", error)),
        }
    }
}

/// Reads until the job is cancelled: a large archive takes a small board a while.
struct Watched<'a> {
    file: &'a mut File,
    cancel: &'a Cancel,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { self.file.read(into) }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    #[test]
    fn a_search_for_the_dockerfile_can_be_cancelled() {
        let dir = Scratch::new();
        let path = dir.file("app.tgz", include_bytes!("../../tests/golden/archives/gnu.tgz"));
        let (mut file, cancel) = (files::open_regular(&path).unwrap(), Cancel::new());
        let mut search = || has_root_file(Watched { file: &mut file, cancel: &cancel }, "Dockerfile.amd64");
        assert!(!search().unwrap());
        cancel.cancel();
        assert_eq!(search().unwrap_err().to_string(), "cancelled");
    }
}
