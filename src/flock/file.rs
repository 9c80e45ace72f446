//! Writing the file (8.3): only on change, never by halves, never to a file that is not this device's.

use super::{Document, Flock, Notice, copy, load};
use crate::os::files;
use log::Level;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Mode of the file: it holds the device's secret.
const MODE: u32 = 0o600;

/// The file a configuration came from. Its owner is the only writer.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    document: Document,
    /// The file itself was unusable, `document` is the copy's: the file is never written to.
    restored: bool,
}

/// What [`File::save`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The file says the same already.
    Unchanged,
    /// Written under another name and renamed.
    Replaced,
    /// Written over, since it cannot be renamed (bind mount, directory not writable).
    InPlace,
    /// Not written: the agent runs from the copy, and the file is for the owner to look at.
    LeftAlone,
}

/// Why the file was not written. A warning: the agent goes on with what it has in memory.
#[derive(Debug)]
pub enum SaveError {
    /// The system refused.
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Somebody has put the file of another device there.
    OtherDevice(PathBuf),
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SaveError::Io { path, error } => write!(f, "cannot write the config file {}: {error}", path.display()),
            SaveError::OtherDevice(path) => {
                write!(f, "the config file {} is another device's now; it was left as it is", path.display())
            }
        }
    }
}

impl std::error::Error for SaveError {}

impl File {
    pub(super) fn new(path: &Path, document: Document, restored: bool) -> File {
        File { path: path.to_owned(), document, restored }
    }

    /// Whether the agent runs from the copy.
    pub fn is_restored(&self) -> bool {
        self.restored
    }

    /// Writes what `flock` says differently. What others changed in the file meanwhile is kept.
    ///
    /// # Errors
    /// See [`SaveError`]; the file is as it was, or (in place, on a full disk) being repaired by the next save.
    pub fn save(&mut self, flock: &Flock) -> Result<Saved, SaveError> {
        self.save_with(flock, files::replace)
    }

    pub(super) fn save_with(
        &mut self,
        flock: &Flock,
        replace: impl FnOnce(&Path, &[u8], u32) -> io::Result<files::Replaced>,
    ) -> Result<Saved, SaveError> {
        if self.restored {
            apply(flock, &mut self.document);
            return Ok(Saved::LeftAlone);
        }
        let on_disk = load::read(&self.path).ok().and_then(|bytes| Document::parse(&bytes).ok());
        let mut whole = true;
        let mut document = on_disk.unwrap_or_else(|| {
            whole = false;
            self.document.clone()
        });
        if !is_of(flock, &document) {
            return Err(SaveError::OtherDevice(self.path.clone()));
        }
        let changed = apply(flock, &mut document);
        let outcome = if changed || !whole {
            match replace(&self.path, &document.render(), MODE) {
                Ok(files::Replaced::Renamed) => Ok(Saved::Replaced),
                Ok(files::Replaced::InPlace) => Ok(Saved::InPlace),
                Err(error) => Err(SaveError::Io { path: self.path.clone(), error }),
            }
        } else {
            Ok(Saved::Unchanged)
        };
        self.document = document;
        outcome
    }

    /// Keeps a copy in `agent_dir` for a start with a destroyed file; to be called after each successful join. Writes
    /// only when the copy would be another.
    ///
    /// # Errors
    /// The system's reason; the old copy is whole.
    pub fn keep_copy(&self, agent_dir: &Path, flock: &Flock) -> io::Result<()> {
        let path = copy::path(agent_dir);
        let mut document = self.document.clone();
        apply(flock, &mut document);
        let bytes = document.render();
        if load::read(&path).is_ok_and(|old| old == bytes) {
            return Ok(());
        }
        files::write_atomic(&path, &bytes, MODE)
    }

    /// Takes the rights of others to the file away, at every start. A file system without modes (FAT) is no error:
    /// the answer is something to log at debug level.
    pub fn protect(&self) -> Option<Notice> {
        self.protect_with(files::set_mode)
    }

    pub(super) fn protect_with(&self, set_mode: impl FnOnce(&Path, u32) -> io::Result<()>) -> Option<Notice> {
        let mode = files::mode(&self.path).ok()?;
        if mode & !MODE == 0 {
            return None;
        }
        let error = set_mode(&self.path, MODE).err()?;
        let text = format!("the config file {} stays readable for others: {error}", self.path.display());
        Some(Notice::new(Level::Debug, text))
    }
}

/// Whether `document` is the identity that `flock` was made of. The project may differ: the device moves.
fn is_of(flock: &Flock, document: &Document) -> bool {
    document.get("device_key").and_then(load::key) == Some(flock.device_key)
        && load::text(document.get("serial_number")).as_deref() == Some(&flock.serial_number)
        && load::text(document.get("secret")).as_deref() == Some(flock.secret.reveal())
}

/// Puts what the agent may change into `document`; says whether it was there already.
fn apply(flock: &Flock, document: &mut Document) -> bool {
    let mut changed = false;
    for (name, value) in [
        ("name", &flock.name),
        ("swarm_name", &flock.swarm_name),
        ("swarm_owner_name", &flock.swarm_owner_name),
        ("device_endpoint_url", &flock.device_endpoint_url),
        ("docker_registry_url", &flock.docker_registry_url),
    ] {
        // A member of the wrong type counts as empty and is kept, unless the agent knows better.
        if load::text(document.get(name)).unwrap_or_default() != *value {
            document.set(name, value);
            changed = true;
        }
    }
    if document.get("swarm_key").and_then(load::key) != Some(flock.swarm_key) {
        document.set("swarm_key", &flock.swarm_key);
        changed = true;
    }
    changed
}
