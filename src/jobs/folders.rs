//! The directories of an app below `-appsDir`, and how files get into them (`apps.md` 1.10, storage chapter 7.1).
//!
//! **Invariant:** the app's name is checked before it becomes a path, and nothing here follows a symbolic link that an
//! app may have put in place of its directories.

use super::work::{Failure, Work};
use crate::domain::job::Folder;
use crate::domain::names;
use crate::os::files;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The paths of one app.
#[derive(Debug)]
pub(super) struct Folders {
    /// `<apps>/shared`
    pub(super) shared: PathBuf,
    /// `<apps>/<stage>`
    stage: PathBuf,
    /// `<apps>/<stage>/<name>`, in lower case: `/data` of the container.
    pub(super) data: PathBuf,
    /// `env` in it.
    pub(super) env: PathBuf,
}

impl Work<'_> {
    /// The paths of an app, absolute.
    pub(super) fn folders(&self, folder: &Folder) -> Result<Folders, Failure> {
        let apps = std::path::absolute(&self.settings.apps_dir);
        Folders::new(&apps.map_err(|error| Failure::of(self.settings.apps_dir.display(), error))?, folder)
    }
}

impl Folders {
    pub(super) fn new(apps: &Path, folder: &Folder) -> Result<Folders, Failure> {
        let name = folder.name.to_lowercase();
        if !names::is_path_part(&name) {
            return Err(Failure::Text(format!("the app name {:?} cannot be the name of a directory", folder.name)));
        }
        let stage = apps.join(folder.stage.lower());
        let data = stage.join(name);
        Ok(Folders { shared: apps.join("shared"), env: data.join("env"), stage, data })
    }

    /// Creates what is missing: 0755 but for `env`, which holds secrets and is 0700.
    pub(super) fn create(&self) -> Result<(), Failure> {
        let ours_before = self.env.join(super::env_files::MANIFEST).exists();
        for path in [&self.shared, &self.data] {
            files::create_directory(path, 0o755).map_err(|error| Failure::of(path.display(), error))?;
        }
        // Earlier agents made `env` first, with its parents, all 0700: an app that does not run as root could not even
        // enter its /data. Once only, since an app may have closed it on purpose.
        widen(&self.stage);
        if !ours_before {
            widen(&self.data);
        }
        self.create_env().map_err(|error| Failure::of(self.env.display(), error))
    }

    fn create_env(&self) -> io::Result<()> {
        // The app can write to /data; a link in this place would lead our files elsewhere.
        if fs::symlink_metadata(&self.env).is_ok_and(|found| found.is_symlink()) {
            fs::remove_file(&self.env)?;
        }
        files::create_directory(&self.env, 0o700)?;
        if files::mode(&self.env)? & 0o077 != 0 {
            // A file system without modes refuses, which changes nothing.
            drop(files::set_mode(&self.env, 0o700));
        }
        Ok(())
    }

    /// Deletes the app's directory and everything in it; links are deleted, not followed. To find none is success.
    pub(super) fn delete(&self) -> Result<(), Failure> {
        match fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::of(self.data.display(), error)),
            _ => Ok(()),
        }
    }

    /// Writes `env/<name>.txt` with exactly `mode`, unless that is how it is already: flash memory wears out.
    pub(super) fn write_env(&self, name: &str, value: &str, mode: u32) -> Result<(), Failure> {
        self.write(&format!("{name}.txt"), value.as_bytes(), mode)
    }

    /// [`Folders::write_env`] for any file in `env`.
    pub(super) fn write(&self, file: &str, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        let path = self.env.join(file);
        if is_already(&path, bytes, mode) {
            return Ok(());
        }
        files::write_atomic(&path, bytes, mode).map_err(|error| Failure::of(path.display(), error))
    }

    /// Deletes `env/<name>.txt`.
    pub(super) fn remove_env(&self, name: &str) -> Result<(), Failure> {
        let path = self.env.join(format!("{name}.txt"));
        files::remove_if_there(&path).map_err(|error| Failure::of(path.display(), error))
    }
}

fn widen(path: &Path) {
    if files::mode(path).is_ok_and(|mode| mode == 0o700) {
        drop(files::set_mode(path, 0o755));
    }
}

fn is_already(path: &Path, bytes: &[u8], mode: u32) -> bool {
    let right = fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == bytes.len() as u64);
    right && files::mode(path).is_ok_and(|found| found == mode) && fs::read(path).is_ok_and(|found| found == bytes)
}

/// Whether `<name>.txt` is a plain file name.
pub(super) fn is_file_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 250 && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::app::Stage;
    use crate::os::scratch::Scratch;
    use std::os::unix::fs::symlink;

    fn folders(dir: &Scratch, name: &str) -> Result<Folders, Failure> {
        Folders::new(dir.path(), &Folder { stage: Stage::Prod, name: name.to_owned() })
    }

    #[test]
    fn x1_directories_are_open_to_the_app_but_for_its_secrets() {
        let dir = Scratch::new();
        let folders = folders(&dir, "MyApp").unwrap();
        folders.create().unwrap();
        let mode = |path: &str| files::mode(&dir.join(path)).unwrap();
        assert_eq!(["shared", "prod", "prod/myapp", "prod/myapp/env"].map(mode), [0o755, 0o755, 0o755, 0o700]);
    }

    #[test]
    fn what_an_earlier_agent_closed_is_opened_once() {
        let dir = Scratch::new();
        files::create_directory(&dir.join("prod/app/env"), 0o700).unwrap();
        let folders = folders(&dir, "app").unwrap();
        folders.create().unwrap();
        assert_eq!(files::mode(&folders.stage).unwrap(), 0o755);
        assert_eq!(files::mode(&folders.data).unwrap(), 0o755);
        folders.write(super::super::env_files::MANIFEST, b"[]", 0o600).unwrap();
        files::set_mode(&folders.data, 0o700).unwrap();
        files::set_mode(&folders.env, 0o755).unwrap();
        folders.create().unwrap();
        assert_eq!(files::mode(&folders.data).unwrap(), 0o700, "the app's own wish");
        assert_eq!(files::mode(&folders.env).unwrap(), 0o700);
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_not_followed() {
        let dir = Scratch::new();
        files::create_directory(&dir.join("elsewhere/deep"), 0o755).unwrap();
        let folders = folders(&dir, "app").unwrap();
        folders.create().unwrap();
        fs::remove_dir(&folders.env).unwrap();
        symlink(dir.join("elsewhere"), &folders.env).unwrap();
        folders.create().unwrap();
        folders.write_env("A", "1", 0o600).unwrap();
        assert!(!dir.join("elsewhere/A.txt").exists());
        symlink(dir.join("elsewhere"), folders.data.join("link")).unwrap();
        folders.delete().unwrap();
        assert!(!folders.data.exists() && dir.join("elsewhere/deep").exists());
        symlink(dir.join("elsewhere"), &folders.data).unwrap();
        folders.delete().unwrap();
        assert!(!folders.data.exists() && dir.join("elsewhere/deep").exists());
        folders.delete().unwrap();
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let dir = Scratch::new();
        for name in ["", "..", "../x", "a/b", ".hidden"] {
            assert!(folders(&dir, name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn unchanged_content_is_not_written_again_but_a_wrong_mode_is_corrected() {
        use std::os::unix::fs::MetadataExt;
        let dir = Scratch::new();
        let folders = folders(&dir, "app").unwrap();
        folders.create().unwrap();
        let write = |value: &str| {
            folders.write_env("A", value, 0o600).unwrap();
            fs::metadata(folders.env.join("A.txt")).unwrap().ino()
        };
        let first = write("1");
        assert_eq!(write("1"), first);
        assert_ne!(write("2"), first);
        files::set_mode(&folders.env.join("A.txt"), 0o644).unwrap();
        write("2");
        assert_eq!(files::mode(&folders.env.join("A.txt")).unwrap(), 0o600);
    }
}
