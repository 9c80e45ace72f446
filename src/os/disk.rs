//! Space on file systems.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The file system that a path lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes not in use, the reserve of root included.
    pub free: u64,
    /// Bytes that everybody may use.
    pub available: u64,
    /// Inodes in all; 0 where the file system does not count them.
    pub inodes: u64,
    /// Inodes that everybody may use.
    pub inodes_available: u64,
    /// Whether it cannot be written to.
    pub read_only: bool,
    /// Number of its device: equal for two paths on one file system.
    pub device: u64,
}

impl Space {
    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.free)
    }

    /// Bytes that may still be written before fewer are available than the emergency limit (storage chapter 6.1).
    pub fn spare(&self) -> u64 {
        self.available.saturating_sub((self.total / 20).min(1 << 30))
    }
}

/// Asks for the file system of `path`; neither waits for Docker nor writes.
///
/// # Errors
/// The system's, also when the path does not exist.
pub fn space(path: &Path) -> io::Result<Space> {
    let device = std::fs::metadata(path)?.dev();
    let found = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space {
        total: bytes(found.f_blocks),
        free: bytes(found.f_bfree),
        available: bytes(found.f_bavail),
        inodes: found.f_files,
        inodes_available: found.f_favail,
        read_only: found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY),
        device,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_file_system_has_consistent_numbers() {
        let root = space(Path::new("/")).unwrap();
        assert!(root.total > 0 && root.available <= root.free && root.free <= root.total, "{root:?}");
        assert_eq!(root.used() + root.free, root.total);
        assert_eq!(space(Path::new("/.")).unwrap().device, root.device);
        assert_ne!(space(Path::new("/proc")).unwrap().device, root.device);
    }

    #[test]
    fn what_is_spare_ends_at_the_emergency_limit() {
        let any = space(Path::new("/")).unwrap();
        let of = |total: u64, available: u64| Space { total, available, ..any }.spare();
        assert_eq!(of(100 << 30, 3 << 30), 2 << 30);
        assert_eq!(of(100 << 30, 1 << 30), 0);
        assert_eq!(of(100 << 30, 5), 0);
        assert_eq!(of(2000, 1000), 900);
    }

    #[test]
    fn a_path_that_is_not_there_is_an_error() {
        assert_eq!(space(Path::new("/none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
