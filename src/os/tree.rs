//! A directory tree that is made by names from outside, such as those in an archive.
//!
//! **Invariant:** nothing outside the tree is touched, whatever the names are, and no link in it leads outside: parents are
//! entered one by one and never through a link, and what has a name already is replaced, not written to.

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, fchmod, linkat, mkdirat, openat, statat, symlinkat, syncfs, unlinkat,
};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Component, Path};

/// What is made can be read and executed by everybody: builds rely on that.
const MODE: Mode = Mode::from_raw_mode(0o755);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// See the module. All paths are bytes, relative to its root, of normal parts only: no `..`, no leading slash.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
}

impl Tree {
    /// Creates the directory `root`.
    ///
    /// # Errors
    /// The system's, also when it exists.
    pub fn create(root: &Path) -> io::Result<Tree> {
        fs::DirBuilder::new().mode(MODE.as_raw_mode()).create(root)?;
        let root = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
        open_up(&root);
        Ok(Tree { root })
    }

    /// Makes a directory with its parents; one that is there stays.
    ///
    /// # Errors
    /// The system's; `InvalidInput` for a path that is not allowed.
    pub fn directory(&self, path: &[u8]) -> io::Result<()> {
        let (parent, name) = self.parent(path, Missing::Made)?;
        enter(parent.as_fd(), name, Missing::Made).map(drop)
    }

    /// Makes an empty file to write to, in place of whatever has its name but for a directory.
    ///
    /// # Errors
    /// As [`Tree::directory`].
    pub fn file(&self, path: &[u8]) -> io::Result<File> {
        let (parent, name) = self.place(path)?;
        let file = openat(&parent, name, NEW_FILE, MODE)?;
        open_up(&file);
        Ok(File::from(file))
    }

    /// Makes a symbolic link, in place of whatever has its name but for a directory. What it leads to need not be there.
    ///
    /// # Errors
    /// As [`Tree::directory`]; `InvalidInput` also if it leads, or could lead, outside.
    pub fn symlink(&self, path: &[u8], target: &[u8]) -> io::Result<()> {
        if leads_outside(of_bytes(path), of_bytes(target)) {
            return Err(refused("a link that leads outside"));
        }
        let (parent, name) = self.place(path)?;
        Ok(symlinkat(of_bytes(target), &parent, name)?)
    }

    /// Gives a regular file that is there a second name, in place of whatever has that but for a directory.
    ///
    /// # Errors
    /// As [`Tree::directory`].
    pub fn hard_link(&self, path: &[u8], of: &[u8]) -> io::Result<()> {
        let (folder, file) = self.parent(of, Missing::Refused)?;
        let found = statat(&folder, file, AtFlags::SYMLINK_NOFOLLOW)?;
        // A second name for a symbolic link would lead elsewhere than the first.
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(refused("a second name for something that is no file"));
        }
        if path == of {
            return Ok(());
        }
        let (parent, name) = self.place(path)?;
        Ok(linkat(&folder, file, &parent, name, AtFlags::empty())?)
    }

    /// Flushes everything to the disk: the whole file system, which is one call instead of one per file.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&self) -> io::Result<()> {
        Ok(syncfs(&self.root)?)
    }

    /// The directory in which `path` lies, and its name there, which is free.
    fn place<'a>(&self, path: &'a [u8]) -> io::Result<(OwnedFd, &'a OsStr)> {
        let (parent, name) = self.parent(path, Missing::Made)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Err(error) if error != Errno::NOENT => Err(error.into()),
            _ => Ok((parent, name)),
        }
    }

    fn parent<'a>(&self, path: &'a [u8], missing: Missing) -> io::Result<(OwnedFd, &'a OsStr)> {
        let mut parts = parts(of_bytes(path))?;
        let name = parts.pop().ok_or_else(|| refused("an empty name"))?;
        let mut folder = self.root.try_clone()?;
        for part in parts {
            folder = enter(folder.as_fd(), part, missing)?;
        }
        Ok((folder, name))
    }
}

/// What is done about a directory that is not there.
#[derive(Clone, Copy)]
enum Missing {
    Made,
    Refused,
}

fn enter(folder: BorrowedFd<'_>, name: &OsStr, missing: Missing) -> io::Result<OwnedFd> {
    match (openat(folder, name, DIRECTORY, Mode::empty()), missing) {
        (Err(Errno::NOENT), Missing::Made) => {
            mkdirat(folder, name, MODE)?;
            let made = openat(folder, name, DIRECTORY, Mode::empty())?;
            open_up(&made);
            Ok(made)
        }
        (found, _) => Ok(found?),
    }
}

/// The umask may have taken rights away. A file system without modes refuses, which changes nothing.
fn open_up(made: impl AsFd) {
    let _ = fchmod(made, MODE);
}

fn parts(path: &Path) -> io::Result<Vec<&OsStr>> {
    path.components()
        .map(|part| match part {
            Component::Normal(name) => Ok(name),
            _ => Err(refused("a path that leads elsewhere")),
        })
        .collect()
}

/// Whether a link at `path` could lead out of the tree. The directories above it are no links, so each `..` at the
/// beginning goes up by one; behind a name, which may be a link itself, it could go anywhere.
fn leads_outside(path: &Path, target: &Path) -> bool {
    let depth = path.components().count().saturating_sub(1);
    let mut parts = target.components().filter(|part| *part != Component::CurDir).peekable();
    let mut ups = 0;
    while parts.next_if_eq(&Component::ParentDir).is_some() {
        ups += 1;
    }
    ups > depth || parts.any(|part| !matches!(part, Component::Normal(_)))
}

fn of_bytes(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn refused(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::files::mode;
    use crate::os::scratch::Scratch;
    use std::io::Write as _;

    fn tree(dir: &Scratch) -> Tree {
        Tree::create(&dir.join("tree")).unwrap()
    }

    fn write(tree: &Tree, path: &str, text: &str) -> io::Result<()> {
        tree.file(path.as_bytes())?.write_all(text.as_bytes())
    }

    #[test]
    fn files_come_with_their_parents_and_can_be_executed() {
        let dir = Scratch::new();
        let tree = tree(&dir);
        write(&tree, "a/b/c", "1").unwrap();
        write(&tree, "a/b/c", "22").unwrap();
        tree.directory(b"a/b").unwrap();
        tree.directory(b"d/e").unwrap();
        tree.sync().unwrap();
        assert_eq!(fs::read_to_string(dir.join("tree/a/b/c")).unwrap(), "22");
        for path in ["tree", "tree/a", "tree/a/b", "tree/a/b/c", "tree/d/e"] {
            assert_eq!(mode(&dir.join(path)).unwrap(), 0o755, "{path}");
        }
        assert!(Tree::create(&dir.join("tree")).is_err(), "it is a new one");
        assert!(write(&tree, "a/b", "").is_err(), "a directory is not replaced");
        assert!(write(&tree, "a/b/c/d", "").is_err(), "a file is no directory");
    }

    #[test]
    fn no_path_leads_outside() {
        let dir = Scratch::new();
        dir.file("beside", "old");
        let tree = tree(&dir);
        let beside = dir.join("beside");
        for path in ["../beside", "a/../../beside", "..", "/", "", beside.to_str().unwrap(), "a/.."] {
            assert!(write(&tree, path, "new").is_err(), "{path}");
            assert!(tree.directory(path.as_bytes()).is_err(), "{path}");
            assert!(tree.symlink(path.as_bytes(), b"x").is_err(), "{path}");
            assert!(tree.hard_link(b"x", path.as_bytes()).is_err(), "{path}");
        }
        assert_eq!(fs::read_to_string(&beside).unwrap(), "old");
        assert_eq!(dir.names(), ["beside", "tree"]);
    }

    #[test]
    fn links_stay_inside_and_are_neither_followed_nor_written_through() {
        let dir = Scratch::new();
        let tree = tree(&dir);
        write(&tree, "a/file", "1").unwrap();
        let link = |path: &str, target: &str| tree.symlink(path.as_bytes(), target.as_bytes());
        for (path, target) in [
            ("l", "a/file"),
            ("a/l", "file"),
            ("a/up", "../a"),
            ("a/b/up", "../.."),
            ("dot", "./a/file"),
            ("self", "."),
        ] {
            link(path, target).unwrap();
        }
        for (path, target) in [
            ("x", "/etc/passwd"),
            ("x", ".."),
            ("x", "../x"),
            ("a/x", "../../x"),
            ("a/x", "l/../../x"),
            ("x", "a/.."),
            ("x", "a/up/../../.."),
            ("x", "./.."),
            ("a/b/x", "../../../x"),
        ] {
            assert!(link(path, target).is_err(), "{path} -> {target}");
        }
        assert!(link("x", "").is_err());
        assert!(write(&tree, "a/up/file", "2").is_err(), "not through a link");
        write(&tree, "l", "2").unwrap();
        assert_eq!(fs::read_to_string(dir.join("tree/a/file")).unwrap(), "1", "the link was replaced");
        assert!(tree.directory(b"dot").is_err());
    }

    #[test]
    fn a_second_name_is_for_files_alone() {
        let dir = Scratch::new();
        let tree = tree(&dir);
        write(&tree, "a/file", "1").unwrap();
        tree.symlink(b"a/b/link", b"../../a").unwrap();
        let link = |path: &str, of: &str| tree.hard_link(path.as_bytes(), of.as_bytes());
        link("second", "a/file").unwrap();
        link("second", "second").unwrap();
        // At the root this link would lead outside.
        for of in ["a/b/link", "a", "none", "none/none", "a/b/link/file"] {
            assert!(link("x", of).is_err(), "{of}");
        }
        write(&tree, "second", "2").unwrap();
        assert_eq!(fs::read_to_string(dir.join("tree/a/file")).unwrap(), "1");
        assert!(!dir.join("tree/x").exists() && !dir.join("tree/none").exists());
    }
}
