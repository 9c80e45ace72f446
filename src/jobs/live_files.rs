//! The files that change while an app runs: its credential and its remote ports (`apps.md` 4.8).

use super::env_files::DEVICE_SECRET;
use super::folders::{Folders, is_file_name};
use super::work::Failure;
use crate::domain::job::LiveFiles;

/// Writes what changed. No directory is made for files that are only to go.
///
/// # Errors
/// The first file that cannot be written or deleted.
pub(super) fn write(folders: &Folders, files: &LiveFiles) -> Result<(), Failure> {
    let mut remote = files.remote.iter().filter(|(name, _)| is_file_name(name));
    let credential = files.credential.as_ref().filter(|_| {
        // The credential of an epoch that is only assumed must not replace one of the epoch that the backend verifies.
        !files.only_if_absent || !folders.env.join("APP_AUTH_ID.txt").exists()
    });
    if credential.is_some() || remote.clone().any(|(_, content)| content.is_some()) {
        folders.create()?;
    } else if !folders.env.exists() {
        return Ok(());
    }
    if let Some(credential) = credential {
        folders.write_env("APP_AUTH_ID", &credential.id, 0o600)?;
        folders.write_env("APP_AUTH_SECRET", credential.secret.reveal(), 0o600)?;
    }
    if files.credential.is_some() {
        folders.remove_env(DEVICE_SECRET)?;
    }
    remote.try_for_each(|(name, content)| match content {
        Some(content) => folders.write_env(name, content, 0o644),
        None => folders.remove_env(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::app::Stage;
    use crate::domain::credential::Credential;
    use crate::domain::job::Folder;
    use crate::os::files;
    use crate::os::scratch::Scratch;
    use crate::secret::Secret;
    use std::fs;

    fn live(id: Option<&str>, remote: &[(&str, Option<&str>)]) -> LiveFiles {
        LiveFiles {
            folder: Folder { stage: Stage::Prod, name: "App".to_owned() },
            credential: id.map(|id| Credential { id: id.to_owned(), secret: Secret::new("hush") }),
            only_if_absent: false,
            remote: remote.iter().map(|(name, content)| ((*name).to_owned(), content.map(str::to_owned))).collect(),
        }
    }

    fn written(dir: &Scratch, files: &LiveFiles) -> Folders {
        let folders = Folders::new(dir.path(), &files.folder).unwrap();
        write(&folders, files).unwrap();
        folders
    }

    #[test]
    fn no_directory_is_made_for_nothing() {
        let dir = Scratch::new();
        written(&dir, &live(None, &[("REMOTE_PORT_FOR_1_CLOUD", None)]));
        assert_eq!(dir.names(), Vec::<String>::new());
    }

    #[test]
    fn x1_a_credential_is_for_the_owner_alone_and_the_device_secret_goes() {
        let dir = Scratch::new();
        let folders = written(&dir, &live(Some("e1"), &[("R", Some("6000")), ("../R", Some("1"))]));
        let mode = |name: &str| files::mode(&folders.env.join(name)).unwrap();
        assert_eq!((mode("APP_AUTH_ID.txt"), mode("APP_AUTH_SECRET.txt"), mode("R.txt")), (0o600, 0o600, 0o644));
        assert_eq!(fs::read_to_string(folders.env.join("APP_AUTH_SECRET.txt")).unwrap(), "hush");
        assert!(!folders.data.join("R.txt").exists());
        folders.write_env(DEVICE_SECRET, "old", 0o600).unwrap();
        written(&dir, &live(Some("e1"), &[("R", None)]));
        assert!(!folders.env.join("DEVICE_SECRET.txt").exists() && !folders.env.join("R.txt").exists());
    }

    #[test]
    fn a_credential_of_an_unknown_epoch_replaces_none() {
        let dir = Scratch::new();
        let guess = |id| LiveFiles { only_if_absent: true, ..live(Some(id), &[]) };
        let folders = written(&dir, &guess("e1"));
        let id = || fs::read_to_string(folders.env.join("APP_AUTH_ID.txt")).unwrap();
        assert_eq!(id(), "e1");
        written(&dir, &live(Some("e2"), &[]));
        written(&dir, &guess("e1"));
        assert_eq!(id(), "e2");
    }
}
