//! The directories of an app below `-appsDir`, and how files get into them (`apps.md` 1.10, storage chapter 7.1).
//!
//! **Invariant:** the app's name is checked before it becomes a path, and nothing here follows a symbolic link that an
//! app may have put in place of its directories.

use super::work::{Failure, Work, for_all};
use crate::domain::app::Stage;
use crate::domain::job::Folder;
use crate::domain::names;
use crate::os::files;
use crate::sorted::sort_by;
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
    /// `<apps>/compose/<name>` (PROD), `<apps>/build/<name>` (DEV), case kept: what compose reads.
    pub(super) definition: PathBuf,
}

/// The definition of a compose project, in [`Folders::definition`].
pub(super) const DEFINITION: &str = "docker-compose.json";

/// Below `<apps>`: where the definitions of a stage are, and in DEV the archives of sources.
pub(super) fn workshop(stage: Stage) -> &'static str {
    match stage {
        Stage::Dev => "build",
        Stage::Prod => "compose",
    }
}

impl Work<'_> {
    /// The paths of an app, absolute.
    pub(super) fn folders(&self, folder: &Folder) -> Result<Folders, Failure> {
        let apps = std::path::absolute(&self.settings.apps_dir);
        Folders::new(&apps.map_err(|error| Failure::of(self.settings.apps_dir.display(), error))?, folder)
    }

    /// Deletes everything of an app: its directory, what compose read, and in DEV its sources.
    pub(super) fn delete_files(&self, folder: &Folder) -> Result<(), Failure> {
        let folders = self.folders(folder)?;
        let all = for_all([&folders.data, &folders.definition], |path| delete(path));
        let archive = folders.definition.with_file_name(format!("{}.{}", folder.name, self.settings.archive_extension));
        // A directory of that name is another app's.
        if folder.stage == Stage::Prod || archive.is_dir() {
            return all;
        }
        all.and(files::remove_if_there(&archive).map_err(|error| Failure::of(archive.display(), error)))
    }

    /// Which apps have a compose definition on the device.
    pub(super) fn definitions(&self) -> Vec<Folder> {
        let of_stage = |stage: Stage| {
            let folder = self.settings.apps_dir.join(workshop(stage));
            let entries = fs::read_dir(folder).into_iter().flatten().map_while(Result::ok);
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .filter(|entry| entry.path().join(DEFINITION).is_file())
                .filter_map(|entry| entry.file_name().into_string().ok())
                .filter(|name| names::is_path_part(name))
                .map(move |name| Folder { stage, name })
        };
        let mut found: Vec<Folder> = [Stage::Dev, Stage::Prod].into_iter().flat_map(of_stage).collect();
        sort_by(&mut found, |a, b| (a.stage, &a.name).cmp(&(b.stage, &b.name)));
        found
    }
}

impl Folders {
    pub(super) fn new(apps: &Path, folder: &Folder) -> Result<Folders, Failure> {
        let name = folder.name.to_lowercase();
        // A letter may be longer in lower case.
        if !names::is_path_part(&name) || !names::is_path_part(&folder.name) {
            return Err(Failure::Text(format!("the app name {:?} cannot be the name of a directory", folder.name)));
        }
        let stage = apps.join(folder.stage.lower());
        let data = stage.join(name);
        let definition = apps.join(workshop(folder.stage)).join(&folder.name);
        Ok(Folders { shared: apps.join("shared"), env: data.join("env"), stage, data, definition })
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

    /// Writes `env/<name>.txt` with exactly `mode`, unless that is how it is already: flash memory wears out.
    pub(super) fn write_env(&self, name: &str, value: &str, mode: u32) -> Result<(), Failure> {
        self.write(&format!("{name}.txt"), value.as_bytes(), mode)
    }

    /// [`Folders::write_env`] for any file in `env`.
    pub(super) fn write(&self, file: &str, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        write(&self.env.join(file), bytes, mode)
    }

    /// Deletes `env/<name>.txt`.
    pub(super) fn remove_env(&self, name: &str) -> Result<(), Failure> {
        let path = self.env.join(format!("{name}.txt"));
        files::remove_if_there(&path).map_err(|error| Failure::of(path.display(), error))
    }
}

/// Writes a file with exactly `mode`, unless that is how it is already. A link in its place is replaced.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Failure> {
    if is_already(path, bytes, mode) {
        return Ok(());
    }
    files::write_atomic(path, bytes, mode).map_err(|error| Failure::of(path.display(), error))
}

/// Deletes a directory and everything in it; links are deleted, not followed. To find none is success.
fn delete(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::of(path.display(), error)),
        _ => Ok(()),
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
        delete(&folders.data).unwrap();
        assert!(!folders.data.exists() && dir.join("elsewhere/deep").exists());
        symlink(dir.join("elsewhere"), &folders.data).unwrap();
        delete(&folders.data).unwrap();
        assert!(!folders.data.exists() && dir.join("elsewhere/deep").exists());
        delete(&folders.data).unwrap();
    }

    #[test]
    fn an_app_has_its_definition_under_its_name_as_it_is_written() {
        let dir = Scratch::new();
        let definition = |stage, name: &str| {
            let folder = Folder { stage, name: name.to_owned() };
            Folders::new(dir.path(), &folder).unwrap().definition
        };
        assert_eq!(definition(Stage::Prod, "MyApp"), dir.join("compose/MyApp"));
        assert_eq!(definition(Stage::Dev, "MyApp"), dir.join("build/MyApp"));
    }

    #[test]
    fn a_file_is_written_in_place_of_a_link_and_not_through_it() {
        let dir = Scratch::new();
        dir.file("elsewhere", "old");
        symlink(dir.join("elsewhere"), dir.join("file")).unwrap();
        write(&dir.join("file"), b"old", 0o600).unwrap();
        assert_eq!(fs::read(dir.join("elsewhere")).unwrap(), b"old");
        assert!(!fs::symlink_metadata(dir.join("file")).unwrap().is_symlink());
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
