//! A folder that goes with its owner.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A fresh folder below the system's temporary one, removed with everything in it on drop.
pub struct TempDir(PathBuf);

impl TempDir {
    /// `label` is part of the name, so that a folder that was left behind says whose it is.
    pub fn new(label: &str) -> TempDir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        loop {
            let name = format!("reagent-test-{label}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
            let path = std::env::temp_dir().join(name);
            match std::fs::create_dir(&path) {
                Ok(()) => return TempDir(path),
                // Left behind by a killed test process that had our id.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot make {}: {error}", path.display()),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}

#[test]
fn a_temporary_folder_goes_with_its_owner() {
    let folder = TempDir::new("own");
    std::fs::create_dir(folder.join("sub")).unwrap();
    std::fs::write(folder.join("sub/file"), "text").unwrap();
    let path = folder.path().to_owned();
    assert!(path.join("sub/file").is_file());
    drop(folder);
    assert!(!path.exists());
}
