//! Archives of sources: what is in them, and how they are unpacked (storage chapter 7.4).
//!
//! **Invariant:** an archive is unpacked beside its place and takes it when all of it is there. One that cannot be unpacked
//! changes nothing and leaves nothing.

use super::folders::workshop;
use super::tar::{Archive, Entry, Kind, parts};
use super::work::{Failure, Work};
use crate::cancel::Cancel;
use crate::docker;
use crate::domain::app::Stage;
use crate::domain::{lines, names};
use crate::os::disk;
use crate::os::files;
use crate::os::tree::Tree;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

/// Bytes of an unpacked archive, at most.
const UNPACKED: u64 = 4 << 30;
/// How many times its own size an archive may be when unpacked: sources are a tenth of it.
const RATIO: u64 = 200;
/// So much may come out of the smallest archive.
const SMALL: u64 = 64 << 20;
/// Files, directories and links in an archive, at most.
const ENTRIES: usize = 200_000;
/// After so many bytes the free space is looked at again: others write, too.
const LOOK: u64 = 16 << 20;
/// What a name takes on the disk, about.
const NAME: u64 = 4096;

impl Work<'_> {
    /// Unpacks the archive of an app into its directory, in place of what is there.
    pub(super) fn unpack(&self, app_name: &str) -> Result<(), Failure> {
        if !names::is_path_part(app_name) {
            return Err(Failure::Text(format!("the app name {app_name:?} cannot be the name of a directory")));
        }
        let build = self.build_folder()?;
        let archive = build.join(format!("{app_name}.{}", self.settings.archive_extension));
        if let Err(error) = files::open_regular(&archive) {
            return Err(Failure::Text(lines::no_sources(&format!("{}: {error}", archive.display()))));
        }
        unpack(&archive, &build, app_name, self.cancel)
    }

    /// Where archives and DEV compose apps are.
    pub(super) fn build_folder(&self) -> Result<PathBuf, Failure> {
        let apps = &self.settings.apps_dir;
        let apps = std::path::absolute(apps).map_err(|error| Failure::of(apps.display(), error))?;
        Ok(apps.join("build"))
    }
}

/// Whether the archive `file`, called `path`, has a regular file of this name at its root. It is read from its start, as far
/// as that takes, and is at its start afterwards.
///
/// # Errors
/// Those of reading, also if it is no gzip-compressed tar archive; cancelled.
pub(super) fn has_root_file(mut file: &File, path: &Path, name: &str, cancel: &Cancel) -> Result<bool, Failure> {
    let find = || {
        let mut archive = read(file, UNPACKED, cancel)?;
        while let Some(entry) = archive.next()? {
            if entry.kind == Kind::File && entry.parts().eq([name.as_bytes()]) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    let found = find().and_then(|found| file.rewind().map(|()| found));
    found.map_err(|error| failure(path, error, cancel))
}

/// Unpacks `archive` to `<build>/<name>`.
fn unpack(archive: &Path, build: &Path, name: &str, cancel: &Cancel) -> Result<(), Failure> {
    // No app's name begins with a dot.
    let (place, new, old) = (build.join(name), build.join(format!(".{name}.new")), build.join(format!(".{name}.old")));
    let unpack = || {
        let file = files::open_regular(archive)?;
        let mut archive = read(&file, disk::space(build)?.spare(), cancel)?;
        remove(&new)?;
        let tree = Tree::create(&new)?;
        fill(&tree, &mut archive, build)?;
        tree.sync()?;
        swap(&new, &place, &old)
    };
    let result = unpack().map_err(|error| failure(archive, error, cancel));
    for path in [new, old] {
        if let Err(error) = remove(&path) {
            log::warn!("{} is left behind: {error}", path.display());
        }
    }
    result
}

/// Removes what the end of the process left unfinished below the directory of the apps: archives, unpackings, and the files
/// of apps that were being written.
pub fn remove_leftovers(apps_dir: &Path) {
    for stage in [Stage::Prod, Stage::Dev] {
        let apps = |folder: &str| fs::read_dir(apps_dir.join(folder)).into_iter().flatten().flatten();
        apps(stage.lower()).for_each(|app| files::remove_temporaries(&app.path().join("env")));
        apps(workshop(stage)).for_each(|app| files::remove_temporaries(&app.path()));
    }
    let build = apps_dir.join("build");
    // Its absence is no news: it could not be created a moment ago.
    let Ok(entries) = fs::read_dir(&build) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let unpacking = name.starts_with('.') && (name.ends_with(".new") || name.ends_with(".old"));
        if (unpacking || names::whole_of_part(&name).is_some())
            && let Err(error) = remove(&entry.path())
        {
            log::warn!("{} is left behind: {error}", entry.path().display());
        }
    }
}

/// A file whose reading ends when the job is cancelled.
struct Watched<'a> {
    file: &'a File,
    cancel: &'a Cancel,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() { Err(io::Error::other("cancelled")) } else { self.file.read(buffer) }
    }
}

fn read<'a>(file: &'a File, spare: u64, cancel: &'a Cancel) -> io::Result<Archive<Watched<'a>>> {
    let by_size = file.metadata()?.len().saturating_mul(RATIO).max(SMALL);
    Ok(Archive::open(Watched { file, cancel }, UNPACKED.min(by_size).min(spare)))
}

fn failure(archive: &Path, error: io::Error, cancel: &Cancel) -> Failure {
    match archive.file_name() {
        _ if cancel.is_cancelled() => docker::Error::Cancelled.into(),
        Some(name) => Failure::of(format_args!("The source archive {} cannot be used", name.display()), error),
        None => Failure::of(archive.display(), error),
    }
}

fn fill(tree: &Tree, archive: &mut Archive<impl Read>, folder: &Path) -> io::Result<()> {
    let mut room = Room { folder, taken: 0 };
    let mut count = 0;
    while let Some(entry) = archive.next()? {
        count += 1;
        if count > ENTRIES {
            return Err(io::Error::other(format!("it has more than {ENTRIES} entries")));
        }
        make(tree, &entry, archive, &mut room).map_err(|error| {
            let name = String::from_utf8_lossy(&entry.name).chars().take(200).collect::<String>();
            io::Error::new(error.kind(), format!("{name:?}: {error}"))
        })?;
    }
    Ok(())
}

fn make(tree: &Tree, entry: &Entry, content: &mut impl Read, room: &mut Room<'_>) -> io::Result<()> {
    room.take(NAME)?;
    let path = relative(&entry.name)?;
    match &entry.kind {
        // The root, which is there.
        Kind::Directory if path.is_empty() => Ok(()),
        Kind::Directory => tree.directory(&path),
        Kind::Symlink(target) => tree.symlink(&path, target),
        Kind::HardLink(target) => tree.hard_link(&path, &relative(target)?),
        Kind::Other(flag) => Err(io::Error::other(format!(
            "only files, directories and links are unpacked, not type {:?}",
            *flag as char
        ))),
        Kind::File => {
            let mut file = tree.file(&path)?;
            let mut buffer = [0; 16 * 1024];
            loop {
                match content.read(&mut buffer)? {
                    0 => return Ok(()),
                    read => file.write_all(&buffer[..read])?,
                }
                room.take(buffer.len() as u64)?;
            }
        }
    }
}

/// A name without its empty parts. Where it leads is the tree's concern.
fn relative(name: &[u8]) -> io::Result<Vec<u8>> {
    if name.starts_with(b"/") {
        return Err(io::Error::other("an absolute path"));
    }
    Ok(parts(name).collect::<Vec<_>>().join(&b'/'))
}

/// The free space of a file system while something is written to it.
struct Room<'a> {
    folder: &'a Path,
    /// Since the last look.
    taken: u64,
}

impl Room<'_> {
    fn take(&mut self, bytes: u64) -> io::Result<()> {
        self.taken += bytes;
        if self.taken >= LOOK {
            self.taken = 0;
            if disk::space(self.folder)?.spare() == 0 {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is too full to go on"));
            }
        }
        Ok(())
    }
}

/// Puts `new` in the place of `place`; what was there is `old` then. On an error all is as before.
fn swap(new: &Path, place: &Path, old: &Path) -> io::Result<()> {
    remove(old)?;
    match fs::rename(place, old) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Err(error) = fs::rename(new, place) {
        drop(fs::rename(old, place));
        return Err(error);
    }
    // In place, whether or not this works; some file systems do not offer it.
    drop(place.parent().map(files::sync_directory));
    Ok(())
}

/// Removes whatever has that name; to find nothing is success. Links are not followed.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => files::remove_if_there(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    const GNU: &[u8] = include_bytes!("../../tests/golden/archives/gnu.tgz");
    const GIT: &[u8] = include_bytes!("../../tests/golden/archives/git.tgz");

    #[test]
    fn a_file_counts_at_the_root_of_the_archive_alone() {
        let (dir, cancel) = (Scratch::new(), Cancel::new());
        for archive in [GNU, GIT] {
            let path = dir.file("app.tgz", archive);
            let file = File::open(&path).unwrap();
            let has = |name| has_root_file(&file, &path, name, &cancel).unwrap();
            assert!(has("Dockerfile") && has("Dockerfile.arm64"));
            assert!(!has("Dockerfile.amd64") && !has("src") && !has("run.sh") && !has(""));
        }
        let path = dir.file("app.tgz", "no archive");
        let file = File::open(&path).unwrap();
        let told = has_root_file(&file, &path, "Dockerfile", &cancel);
        assert!(
            matches!(&told, Err(Failure::Text(text)) if text.starts_with("The source archive app.tgz cannot be used: ")),
            "{told:?}"
        );
        cancel.cancel();
        let told = has_root_file(&file, &path, "Dockerfile", &cancel);
        assert_eq!(told, Err(docker::Error::Cancelled.into()));
    }

    #[test]
    fn a_cancelled_unpacking_leaves_what_was_there() {
        let (dir, cancel) = (Scratch::new(), Cancel::new());
        let archive = dir.file("app.tgz", GNU);
        unpack(&archive, dir.path(), "app", &cancel).unwrap();
        fs::write(dir.join("app/mark"), "").unwrap();
        cancel.cancel();
        let told = unpack(&archive, dir.path(), "app", &cancel);
        assert_eq!(told, Err(docker::Error::Cancelled.into()));
        assert!(dir.join("app/mark").exists());
        assert_eq!(dir.names(), ["app", "app.tgz"]);
    }

    #[test]
    fn the_new_directory_takes_the_place_of_whatever_was_there() {
        let (dir, cancel) = (Scratch::new(), Cancel::new());
        let archive = dir.file("app.tgz", GNU);
        dir.file("app", "a file");
        dir.file(".app.new", "a file");
        fs::create_dir_all(dir.join(".app.old/deep")).unwrap();
        for _ in 0..2 {
            unpack(&archive, dir.path(), "app", &cancel).unwrap();
            assert_eq!(fs::read_to_string(dir.join("app/Dockerfile")).unwrap(), "FROM scratch\n");
            assert_eq!(dir.names(), ["app", "app.tgz"]);
            fs::write(dir.join("app/old"), "").unwrap();
        }
        unpack(&archive, dir.path(), "app", &cancel).unwrap();
        assert!(!dir.join("app/old").exists());
    }

    #[test]
    fn s7_what_a_killed_agent_was_writing_goes_at_the_next_start() {
        let dir = Scratch::new();
        let build = dir.join("build");
        for folder in [".app.new/deep", ".app.old/deep", "app/deep", ".other"] {
            fs::create_dir_all(build.join(folder)).unwrap();
        }
        for file in ["app.tgz", "app.tgz.part-7", "app.part-x", ".app.new/deep/file"] {
            fs::write(build.join(file), "").unwrap();
        }
        let half = ["dev/app/env", "prod/app/env", "compose/App", "build/app"].map(|folder| {
            fs::create_dir_all(dir.join(folder)).unwrap();
            dir.join(folder).join(".new-0123456789abcdef")
        });
        half.iter().for_each(|path| fs::write(path, "").unwrap());
        remove_leftovers(dir.path());
        assert!(half.iter().all(|path| !path.exists()));
        let mut left: Vec<_> =
            fs::read_dir(&build).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, [".other", "app", "app.part-x", "app.tgz"]);
        remove_leftovers(&dir.join("none"));
    }
}
