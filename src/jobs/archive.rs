//! Archives of sources: how they arrive and how they are unpacked (storage chapter 7.3, 7.4).

use super::tar::{Archive, Kind};
use super::work::{Failure, Work};
use crate::domain::job::Upload;
use std::fs::File;
use std::io;
use std::path::Path;

/// Bytes of an archive that is unpacked, at most.
const UNPACKED: u64 = 4 << 30;

/// Whether an archive has a regular file of this name at its root. The archive is read as far as that takes.
///
/// # Errors
/// Those of reading; `InvalidData` if it is no gzip-compressed tar archive.
#[cfg_attr(not(test), expect(dead_code, reason = "builds are about to ask"))]
pub(super) fn has_root_file(archive: &Path, name: &str) -> io::Result<bool> {
    let mut archive = Archive::open(File::open(archive)?, UNPACKED);
    while let Some(entry) = archive.next()? {
        if entry.kind == Kind::File && entry.parts().eq([name.as_bytes()]) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[expect(clippy::unused_self, unused_variables, reason = "to be written")]
impl Work<'_> {
    /// Takes a message of an arriving archive.
    pub(super) fn upload(&self, upload: &Upload) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Unpacks the archive of an app.
    pub(super) fn unpack(&self, app_name: &str) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::scratch::Scratch;

    #[test]
    fn a_file_counts_at_the_root_of_the_archive_alone() {
        let dir = Scratch::new();
        let path = dir.join("app.tgz");
        for archive in [
            &include_bytes!("../../tests/golden/archives/gnu.tgz")[..],
            &include_bytes!("../../tests/golden/archives/git.tgz")[..],
        ] {
            std::fs::write(&path, archive).unwrap();
            let has = |name| has_root_file(&path, name).unwrap();
            assert!(has("Dockerfile") && has("Dockerfile.arm64"));
            assert!(!has("Dockerfile.amd64") && !has("src") && !has("run.sh") && !has(""));
        }
        std::fs::write(&path, "no archive").unwrap();
        assert!(has_root_file(&path, "Dockerfile").is_err());
        assert!(has_root_file(&dir.join("none"), "Dockerfile").is_err());
    }
}
