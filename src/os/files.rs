//! Files that are whole or not there: written under another name, flushed, renamed.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

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

/// Always the same name for one target, so that a crash leaves at most one; it begins with a dot and repeats nothing
/// of the target's name, since other programs look for names that contain certain words.
fn temporary(path: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    path.file_name().unwrap_or(OsStr::new("")).hash(&mut hasher);
    directory(path).join(format!(".new-{:016x}", hasher.finish()))
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
