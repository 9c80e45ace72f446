//! Files that are whole or not there: written under another name, flushed, renamed.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, fchown, symlink,
};
use std::path::{Path, PathBuf};

/// How the names of temporary files begin.
const TEMPORARY: &str = ".new-";

/// How [`replace`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// Atomically.
    Renamed,
    /// Over the old content, since the file could not be renamed or nothing could be made beside it.
    InPlace,
}

/// Writes `bytes` to `path` with exactly `mode`, atomically: a temporary file in the same directory, fsync, rename,
/// fsync of the directory. A symbolic link at `path` is replaced.
///
/// # Errors
/// The system's; the old file is untouched and nothing is left beside it.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_beside(path, bytes, mode, None).and_then(|temporary| rename(&temporary, path, fs_rename))
}

/// Replaces the content of the file that `path` leads to, which must exist: links stay, the owner stays. Where the
/// rename is refused (bind mount) or the directory is not writable it is written in place.
///
/// # Errors
/// The system's. After a failed write in place the content is undefined; everything before leaves the file alone.
pub fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<Replaced> {
    replace_with(path, bytes, mode, fs_rename)
}

/// [`replace`] with another rename, for what a test cannot have: a bind mount.
pub(crate) fn replace_with(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    by: impl Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<Replaced> {
    let real = fs::canonicalize(path)?;
    let old = fs::metadata(&real)?;
    let renamed = write_beside(&real, bytes, mode, Some((old.uid(), old.gid())))
        .and_then(|temporary| rename(&temporary, &real, by));
    match renamed {
        Ok(()) => Ok(Replaced::Renamed),
        Err(error) if denies_the_directory(&error) => write_in_place(&real, bytes).map(|()| Replaced::InPlace),
        Err(error) => Err(error),
    }
}

/// Whether an error says that this directory or name cannot be used, unlike a full or broken disk.
fn denies_the_directory(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, ReadOnlyFilesystem, ResourceBusy};
    matches!(error.kind(), ResourceBusy | PermissionDenied | ReadOnlyFilesystem | CrossesDevices)
}

fn fs_rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)
}

/// The whole content in a temporary file beside `path`, on the disk.
fn write_beside(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<PathBuf> {
    let temporary = temporary(path);
    remove_if_there(&temporary)?;
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        let made = file.metadata()?;
        if let Some((uid, gid)) = owner
            && (made.uid(), made.gid()) != (uid, gid)
        {
            chown(&temporary, Some(uid), Some(gid))?;
        }
        // The umask may have taken rights away. A file system without modes refuses, which changes nothing.
        if made.mode() & 0o7777 != mode {
            drop(file.set_permissions(Permissions::from_mode(mode)));
        }
        file.write_all(bytes)?;
        file.sync_all()
    })();
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            drop(fs::remove_file(&temporary));
            Err(error)
        }
    }
}

fn rename(temporary: &Path, path: &Path, by: impl Fn(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    if let Err(error) = by(temporary, path) {
        drop(fs::remove_file(temporary));
        return Err(error);
    }
    // The new content is in place whether or not this works; some file systems do not offer it.
    drop(sync_directory(directory(path)));
    Ok(())
}

/// Everything is written before anything is cut off: what a power cut leaves is as little broken as it can be.
fn write_in_place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

/// Always the same name for one target and thread, so that a crash leaves no more than there are threads, and two that
/// write one file at a time do not meet; it begins with a dot and repeats nothing of the target's name, since other
/// programs look for names that contain certain words.
fn temporary(path: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    path.file_name().unwrap_or(OsStr::new("")).hash(&mut hasher);
    std::thread::current().name().hash(&mut hasher);
    directory(path).join(format!("{TEMPORARY}{:016x}", hasher.finish()))
}

/// Removes what writers of files in this directory left that were killed. A link in its place is not followed.
pub fn remove_temporaries(directory: &Path) {
    if !fs::symlink_metadata(directory).is_ok_and(|found| found.is_dir()) {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_temporary = |name: &str| {
            name.strip_prefix(TEMPORARY).is_some_and(|rest| rest.len() == 16 && u64::from_str_radix(rest, 16).is_ok())
        };
        if entry.file_name().to_str().is_some_and(is_temporary) {
            // A directory of that name is somebody else's.
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Flushes the names in a directory to the disk.
///
/// # Errors
/// The system's.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a directory and its parents with `mode` less the umask; one that exists keeps its mode.
///
/// # Errors
/// The system's, also when something else has that name.
pub fn create_directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Removes a file; to find none is success.
///
/// # Errors
/// The system's.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes `path` a symbolic link to `target`.
///
/// # Errors
/// The system's, also when something has that name.
pub fn link(target: &Path, path: &Path) -> io::Result<()> {
    symlink(target, path)
}

/// The permission bits of what `path` leads to.
///
/// # Errors
/// The system's.
pub fn mode(path: &Path) -> io::Result<u32> {
    Ok(fs::metadata(path)?.mode() & 0o7777)
}

/// Sets the permission bits of what `path` leads to.
///
/// # Errors
/// The system's; `PermissionDenied` or `Unsupported` where the file system has none.
pub fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Opens a file to read and write, creates it with mode 0600, and leaves what is in it.
///
/// # Errors
/// The system's.
pub fn open_private(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Creates a file with mode 0600 to write to it.
///
/// # Errors
/// The system's, also when there is one of that name.
pub fn create_private(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Creates a file with exactly `mode` to write to it.
///
/// # Errors
/// The system's, also when there is something of that name, be it a link to nowhere.
pub fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have taken rights away. A file system without modes refuses, which changes nothing.
    drop(file.set_permissions(Permissions::from_mode(mode)));
    Ok(file)
}

/// Opens a file that is there to append to it.
///
/// # Errors
/// The system's, also for a link.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

/// Opens a file to append to it, creates it with `mode` less the umask. A named pipe that nobody reads is not waited for.
///
/// # Errors
/// The system's.
pub fn open_append(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(mode).custom_flags(libc::O_NONBLOCK).open(path)
}

/// Opens a regular file to read. A symbolic link in its place is not followed, and a named pipe is not waited for.
///
/// # Errors
/// The system's; [`io::ErrorKind::InvalidInput`] for a directory, a pipe or a device.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let is_file = file.metadata()?.is_file();
    if is_file { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")) }
}

/// Gives `file` the permission bits and the owner that `of` tells of.
///
/// # Errors
/// The system's.
pub fn copy_rights(of: &Metadata, file: &File) -> io::Result<()> {
    file.set_permissions(of.permissions())?;
    fchown(file, Some(of.uid()), Some(of.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    #[test]
    fn an_atomic_write_has_exactly_its_mode_and_leaves_nothing_beside_it() {
        let dir = Scratch::new();
        let path = dir.file("file", "old");
        for mode in [0o600, 0o666, 0o755] {
            write_atomic(&path, b"new", mode).unwrap();
            assert_eq!(super::mode(&path).unwrap(), mode);
        }
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(dir.names(), ["file"]);
    }

    #[test]
    fn a_failed_atomic_write_leaves_the_old_content_and_nothing_beside_it() {
        let dir = Scratch::new();
        fs::create_dir_all(dir.join("file/inside")).unwrap();
        assert!(write_atomic(&dir.join("file"), b"new", 0o600).is_err(), "a directory is not replaced");
        assert_eq!(dir.names(), ["file"]);
        assert!(write_atomic(&dir.join("none/file"), b"new", 0o600).is_err());
    }

    #[test]
    fn two_threads_that_write_one_file_at_a_time_do_not_meet() {
        let dir = Scratch::new();
        let path = dir.join("file");
        let writers: Vec<_> = ["one", "two"]
            .into_iter()
            .map(|name| {
                let path = path.clone();
                let (ended, end) = crossbeam_channel::bounded(1);
                let body = move || {
                    let written: Vec<_> = (0..300)
                        .map(|_| write_atomic(&path, name.as_bytes(), 0o600).map_err(|e| e.to_string()))
                        .collect();
                    ended.send(written).unwrap();
                };
                crate::thread::spawn(name, |_| {}, body).unwrap();
                end
            })
            .collect();
        for end in writers {
            assert!(end.recv().unwrap().iter().all(Result::is_ok));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn s7_what_a_killed_writer_left_is_removed_and_nothing_else() {
        let (dir, other) = (Scratch::new(), Scratch::new());
        let left = [temporary(&dir.join("a")), temporary(&other.join("a"))];
        left.iter().for_each(|path| fs::write(path, "half").unwrap());
        let others = [".new-thing", "a", ".new-0123456789abcdeg", ".new-00112233445566778"];
        others.iter().for_each(|name| drop(dir.file(name, "")));
        symlink(other.path(), dir.join("link")).unwrap();
        remove_temporaries(dir.path());
        remove_temporaries(&dir.join("link"));
        remove_temporaries(&dir.join("none"));
        assert_eq!(left.map(|path| path.exists()), [false, true]);
        assert!(others.iter().all(|name| dir.join(name).exists()));
    }

    #[test]
    fn what_a_crash_left_beside_the_file_is_written_over() {
        let dir = Scratch::new();
        let path = dir.join("agent.flock");
        fs::write(temporary(&path), "half").unwrap();
        write_atomic(&path, b"new", 0o600).unwrap();
        assert_eq!(dir.names(), ["agent.flock"]);
        let name = temporary(&dir.join("reagent-v1.flock")).file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with('.') && [".flock", ".reswarm", "reagent-"].iter().all(|word| !name.contains(word)));
    }

    #[test]
    fn the_owner_stays_when_content_is_replaced() {
        let dir = Scratch::new();
        let path = dir.file("file", "old");
        // Without the right to give files away the owner is the same in any case.
        let given = chown(&path, Some(12_345), Some(12_345)).is_ok();
        assert_eq!(replace(&path, b"new", 0o600).unwrap(), Replaced::Renamed);
        let found = fs::metadata(&path).unwrap();
        assert!(!given || (found.uid(), found.gid()) == (12_345, 12_345));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_not_waited_for() {
        let dir = Scratch::new();
        let path = dir.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(open_append(&path, 0o600).is_err());
    }
}
