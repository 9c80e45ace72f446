//! Archives of sources: how they arrive and how they are unpacked (storage chapter 7.3, 7.4).

use super::tar::{Archive, Kind};
use super::work::{Failure, Work};
use crate::domain::job::Upload;
use std::io::{self, Read};

/// Bytes of an archive that is unpacked, at most.
const UNPACKED: u64 = 4 << 30;

/// Whether an archive has a regular file of this name at its root. The archive is read as far as that takes.
///
/// # Errors
/// Those of reading; `InvalidData` if it is no gzip-compressed tar archive.
pub(super) fn has_root_file(archive: impl Read, name: &str) -> io::Result<bool> {
    let mut archive = Archive::open(archive, UNPACKED);
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

    #[test]
    fn a_file_counts_at_the_root_of_the_archive_alone() {
        for archive in [
            &include_bytes!("../../tests/golden/archives/gnu.tgz")[..],
            &include_bytes!("../../tests/golden/archives/git.tgz")[..],
        ] {
            let has = |name| has_root_file(archive, name).unwrap();
            assert!(has("Dockerfile") && has("Dockerfile.arm64"));
            assert!(!has("Dockerfile.amd64") && !has("src") && !has("run.sh") && !has(""));
        }
        assert!(has_root_file(&b"no archive"[..], "Dockerfile").is_err());
    }
}
