//! The lock that lets one agent run per host: two of them delete each other's containers (field lesson S6).

use rustix::fs::{FlockOperation, OFlags, flock};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Where every agent since 0.20 looks (`wamp-and-rpc.md` 2.1 step 4).
const PATH: &str = "/tmp/ironflock-reagent.lock";

/// In addition for root, since any user can hold a lock in `/tmp` (`network-system-update.md` D.8).
const ROOT_PATH: &str = "/run/ironflock-reagent.lock";

/// Set by tests to a path that replaces both.
const PATH_VARIABLE: &str = "REAGENT_LOCK_FILE";

/// How often a lock file that others delete and make again is tried for.
const TRIES: u32 = 16;

/// Held for the life of the process; the system releases it however the process ends. Never given to children.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "open as long as the lock is held")] Vec<File>);

/// Why there is no lock: fatal (decision 23).
#[derive(Debug)]
pub enum Error {
    /// Another agent runs.
    Held(PathBuf),
    /// The lock file cannot be made or opened.
    Io {
        /// The lock file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Held(path) => write!(
                f,
                "another agent is running on this host (it holds {}); stop it first: systemctl stop reagent",
                path.display()
            ),
            Error::Io { path, error } => write!(f, "cannot lock {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

/// Takes the lock of this host, without waiting.
///
/// # Errors
/// Another agent holds it, or its file cannot be opened.
pub fn single_instance() -> Result<Lock, Error> {
    if let Some(path) = std::env::var_os(PATH_VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(Lock(vec![acquire(Path::new(&path))?]));
    }
    let mut files = vec![acquire(Path::new(PATH))?];
    if rustix::process::geteuid().is_root() {
        match acquire(Path::new(ROOT_PATH)) {
            Ok(file) => files.push(file),
            Err(held @ Error::Held(_)) => return Err(held),
            // The first lock is the one that counts; a host without /run is no reason not to run.
            Err(Error::Io { .. }) => {}
        }
    }
    Ok(Lock(files))
}

/// Takes the exclusive lock on one file. After locking, the path must still name the locked inode: somebody may have
/// deleted the file, and the next agent would lock another one.
fn acquire(path: &Path) -> Result<File, Error> {
    let fail = |error| Error::Io { path: path.to_owned(), error };
    for _ in 0..TRIES {
        let file = match open(path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => continue,
            file => file.map_err(fail)?,
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(Error::Held(path.to_owned())),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(fail(error.into())),
        }
        let locked = file.metadata().map_err(fail)?;
        if std::fs::symlink_metadata(path).is_ok_and(|named| (named.dev(), named.ino()) == (locked.dev(), locked.ino()))
        {
            return Ok(file);
        }
    }
    Err(fail(io::Error::other("the file is deleted again and again")))
}

/// Opens read-only, creates with 0644 if absent. Two calls, because the kernel refuses `O_CREAT` on a file of another
/// user in `/tmp`. No link is followed and no pipe waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).unwrap_or(0);
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Created only through a writing handle, locked through a reading one on the next round.
            OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
            Err(error)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;
    use std::process::Command;

    const CHILD: &str = "REAGENT_TEST_LOCK_CHILD";

    /// Tries for the lock in a second process of this binary; what it printed.
    fn in_another_process(path: &Path) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "os::lock::tests::s6_a_second_process_is_refused_until_the_first_is_gone", "--nocapture"])
            .env(CHILD, "1")
            .env(PATH_VARIABLE, path)
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn s6_a_second_process_is_refused_until_the_first_is_gone() {
        if std::env::var_os(CHILD).is_some() {
            match single_instance() {
                Ok(_) => println!("locked"),
                Err(error) => println!("refused: {error}"),
            }
            return;
        }
        let dir = Scratch::new();
        let path = dir.join("agent.lock");
        let lock = Lock(vec![acquire(&path).unwrap()]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o644);
        // Children that are still running do not keep the lock.
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        let refused = in_another_process(&path);
        drop(lock);
        let locked = in_another_process(&path);
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        assert!(refused.contains("refused: another agent is running"), "{refused}");
        assert!(refused.contains("systemctl stop reagent") && refused.contains("agent.lock"), "{refused}");
        assert!(locked.contains("locked"), "{locked}");
    }

    #[test]
    fn a_lock_on_a_deleted_file_does_not_count() {
        let dir = Scratch::new();
        let path = dir.join("agent.lock");
        let _old = acquire(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _new = acquire(&path).expect("the new file is free");
        assert!(matches!(acquire(&path), Err(Error::Held(_))));
    }

    #[test]
    fn a_link_or_a_directory_that_is_not_there_is_an_error() {
        let dir = Scratch::new();
        std::os::unix::fs::symlink(dir.join("elsewhere"), dir.join("link")).unwrap();
        assert!(matches!(acquire(&dir.join("link")), Err(Error::Io { .. })));
        assert!(!dir.join("elsewhere").exists(), "nothing is made through a link");
        assert!(matches!(acquire(&dir.join("none/agent.lock")), Err(Error::Io { .. })));
    }
}
