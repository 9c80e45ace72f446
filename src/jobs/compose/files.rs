//! The files of a project (`apps.md` 4.9, step 7): the definition and the variables that it names, which hold the app's
//! secrets and are for the owner alone, in the app's directory below `<apps>/compose` (PROD) or `<apps>/build` (DEV).

use super::flavour::Compose;
use crate::domain::compose::{Dialect, dotenv, for_version_1, mount_environment};
use crate::domain::job::Project;
use crate::jobs::env_files;
use crate::jobs::folders::{self, DEFINITION, Folders};
use crate::jobs::start::with_lan_ip;
use crate::jobs::work::{Failure, Work};
use crate::os::files;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// As every service's `env_file` names it.
const VARIABLES: &str = ".env-compose";

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    /// The definition, absolute.
    pub(super) definition: PathBuf,
    /// Names of variables that compose cannot read.
    pub(super) skipped: Vec<String>,
    /// The variables.
    variables: BTreeMap<String, String>,
    folders: Folders,
}

impl Work<'_> {
    /// Writes what the commands of a project read, in the dialect of `compose`.
    pub(super) fn write_definition(&self, project: &Project, compose: Compose) -> Result<Written, Failure> {
        let folders = self.folders(&project.folder)?;
        let folder = &folders.definition;
        // A source archive may have put a link in this place.
        if fs::symlink_metadata(folder).is_ok_and(|found| found.is_symlink()) {
            fs::remove_file(folder).map_err(|error| Failure::of(folder.display(), error))?;
        }
        files::create_directory(folder, 0o755).map_err(|error| Failure::of(folder.display(), error))?;
        let variables = with_lan_ip(&project.environment);
        let (text, skipped) = dotenv(&variables, compose.dialect());
        folders::write(&folder.join(VARIABLES), text.as_bytes(), 0o600)?;
        let mut definition = project.definition.clone();
        mount_environment(&mut definition, &folders.env.to_string_lossy());
        if compose.dialect() == Dialect::V1 {
            for_version_1(&mut definition);
        }
        let path = folder.join(DEFINITION);
        folders::write(&path, definition.to_string().as_bytes(), 0o600)?;
        Ok(Written { definition: path, skipped, variables, folders })
    }
}

impl Written {
    /// Writes the variables as files, which the services find below `/data/env`.
    pub(super) fn write_environment(&self) -> Result<(), Failure> {
        self.folders.create()?;
        env_files::write(&self.folders, &self.variables)
    }
}
