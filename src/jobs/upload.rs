//! Archives of sources as they arrive, piece by piece (storage chapter 7.3). Order and names are the core's concern; here a
//! piece is brought to the disk.
//!
//! **Invariant:** an archive has its name when all of it is on the disk. Until then it is `<file>.part-<number>`, and what
//! an earlier transfer left goes when the next one of that name begins, or with the start of the agent.

use super::work::{Failure, Work};
use crate::domain::job::{Piece, Upload};
use crate::domain::names;
use crate::os::{disk, files};
use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Everybody may read an archive.
const MODE: u32 = 0o644;
/// Digits that are decoded at once.
const DIGITS: usize = 64 * 1024;

impl Work<'_> {
    /// Takes a message of an arriving archive.
    pub(super) fn upload(&self, upload: &Upload) -> Result<(), Failure> {
        let Upload { file, transfer, piece } = upload;
        if !names::is_path_part(file) {
            return Err(Failure::Text(format!("{file:?} cannot be the name of a file")));
        }
        let folder = self.build_folder()?;
        let part = Part { path: folder.join(names::part_file(file, *transfer)), folder };
        match piece {
            Piece::Begin { total } => part.begin(file, *total),
            Piece::Data { hex, offset } => part.append(hex.as_bytes(), *offset),
            Piece::End { length } => part.finish(file, *length),
            Piece::Discard => files::remove_if_there(&part.path).map_err(|error| part.failure(error)),
        }
    }
}

/// The file that grows.
struct Part {
    folder: PathBuf,
    path: PathBuf,
}

impl Part {
    fn begin(&self, file: &str, total: u64) -> Result<(), Failure> {
        files::create_directory(&self.folder, 0o755).map_err(|error| Failure::of(self.folder.display(), error))?;
        remove_parts(&self.folder, file);
        self.room_for(total)?;
        files::create_new(&self.path, MODE).map(drop).map_err(|error| self.failure(error))
    }

    fn append(&self, hex: &[u8], offset: u64) -> Result<(), Failure> {
        let (pairs, odd) = hex.as_chunks::<2>();
        if !odd.is_empty() {
            return Err(Failure::Text("the data is not hexadecimal: half a byte at its end".to_owned()));
        }
        self.room_for(pairs.len() as u64)?;
        let mut part = files::open_to_append(&self.path).map_err(|error| self.failure(error))?;
        self.has_length(&part, offset)?;
        let mut bytes = Vec::with_capacity(pairs.len().min(DIGITS / 2));
        for pairs in pairs.chunks(DIGITS / 2) {
            bytes.clear();
            for pair in pairs {
                let byte = byte(*pair).ok_or_else(|| Failure::Text("the data is not hexadecimal".to_owned()))?;
                bytes.push(byte);
            }
            part.write_all(&bytes).map_err(|error| self.failure(error))?;
        }
        Ok(())
    }

    fn finish(&self, file: &str, length: u64) -> Result<(), Failure> {
        let part = files::open_to_append(&self.path).map_err(|error| self.failure(error))?;
        self.has_length(&part, length)?;
        part.sync_all().map_err(|error| self.failure(error))?;
        let place = self.folder.join(file);
        fs::rename(&self.path, &place).map_err(|error| Failure::of(place.display(), error))?;
        // In place, whether or not this works; some file systems do not offer it.
        drop(files::sync_directory(&self.folder));
        Ok(())
    }

    fn has_length(&self, part: &fs::File, expected: u64) -> Result<(), Failure> {
        match part.metadata().map_err(|error| self.failure(error))?.len() {
            length if length == expected => Ok(()),
            length => Err(self.failure(format!("it has {length} bytes instead of {expected}: send it anew"))),
        }
    }

    fn room_for(&self, bytes: u64) -> Result<(), Failure> {
        let spare = disk::space(&self.folder).map_err(|error| Failure::of(self.folder.display(), error))?.spare();
        if bytes <= spare {
            return Ok(());
        }
        Err(Failure::Text(format!("no room for {bytes} bytes: {spare} can be spared, free some disk space")))
    }

    fn failure(&self, error: impl Display) -> Failure {
        Failure::of(self.path.display(), error)
    }
}

/// Removes the part files of earlier transfers of `file`.
fn remove_parts(folder: &Path, file: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_part = entry.file_name().to_str().and_then(names::whole_of_part).is_some_and(|whole| whole == file);
        if is_part && let Err(error) = files::remove_if_there(&entry.path()) {
            log::warn!("{} is left behind: {error}", entry.path().display());
        }
    }
}

/// The byte of two hexadecimal digits.
fn byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |of: u8| char::from(of).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::files::mode;
    use crate::os::scratch::Scratch;

    fn part(dir: &Scratch, number: u64) -> Part {
        Part { folder: dir.join("build"), path: dir.join("build").join(names::part_file("app.tgz", number)) }
    }

    fn names_in(dir: &Scratch) -> Vec<String> {
        let entries = fs::read_dir(dir.join("build")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn pieces_become_a_file_that_has_its_name_only_when_it_is_whole() {
        let dir = Scratch::new();
        let part = part(&dir, 1);
        part.begin("app.tgz", 6).unwrap();
        part.append(b"000102", 0).unwrap();
        part.append(b"fFAa", 3).unwrap();
        part.append(b"", 5).unwrap();
        assert!(part.finish("app.tgz", 6).is_err(), "a byte is missing");
        assert_eq!(names_in(&dir), ["app.tgz.part-1"]);
        part.append(b"07", 5).unwrap();
        part.finish("app.tgz", 6).unwrap();
        assert_eq!(names_in(&dir), ["app.tgz"]);
        assert_eq!(fs::read(dir.join("build/app.tgz")).unwrap(), [0, 1, 2, 0xff, 0xaa, 7]);
        assert_eq!(mode(&dir.join("build/app.tgz")).unwrap(), 0o644);
    }

    #[test]
    fn a_transfer_that_begins_ends_those_of_its_name_and_leaves_the_archive_alone() {
        let dir = Scratch::new();
        fs::create_dir(dir.join("build")).unwrap();
        for name in ["app.tgz", "app.tgz.part-1", "app.tgz.part-22", "other.tgz.part-1", "app.tgz.part-x"] {
            fs::write(dir.join("build").join(name), "old").unwrap();
        }
        part(&dir, 22).begin("app.tgz", 0).unwrap();
        assert_eq!(names_in(&dir), ["app.tgz", "app.tgz.part-22", "app.tgz.part-x", "other.tgz.part-1"]);
        assert_eq!(fs::read(dir.join("build/app.tgz")).unwrap(), b"old", "a build may be reading it");
        assert_eq!(fs::read(dir.join("build/app.tgz.part-22")).unwrap(), b"");
    }

    #[test]
    fn a_piece_that_does_not_fit_is_refused() {
        let dir = Scratch::new();
        let part = part(&dir, 1);
        assert!(part.append(b"00", 0).is_err(), "nothing was begun");
        assert!(part.begin("app.tgz", 1 << 60).is_err(), "no disk is so large");
        part.begin("app.tgz", 0).unwrap();
        for (hex, offset) in [(&b"0"[..], 0), (b"0g", 0), (b" 00 ", 0), (b"0\xc3", 0), (b"00", 1)] {
            assert!(part.append(hex, offset).is_err(), "{hex:?}");
            assert_eq!(fs::metadata(&part.path).unwrap().len(), 0);
        }
    }

    #[test]
    fn a_link_is_not_written_through() {
        let dir = Scratch::new();
        let part = part(&dir, 1);
        fs::create_dir(dir.join("build")).unwrap();
        let outside = dir.file("outside", "");
        std::os::unix::fs::symlink(&outside, &part.path).unwrap();
        assert!(part.append(b"00", 0).is_err());
        part.begin("app.tgz", 0).unwrap();
        part.append(b"00", 0).unwrap();
        std::os::unix::fs::symlink(&outside, dir.join("build/app.tgz")).unwrap();
        part.finish("app.tgz", 1).unwrap();
        assert_eq!(fs::read(dir.join("build/app.tgz")).unwrap(), [0]);
        assert_eq!(fs::read(outside).unwrap(), b"");
    }

    #[test]
    fn more_digits_than_are_decoded_at_once_are_decoded_all() {
        let dir = Scratch::new();
        let part = part(&dir, 1);
        part.begin("app.tgz", 0).unwrap();
        let bytes: Vec<u8> = (0..100_001_u32).map(|n| (n % 251) as u8).collect();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        part.append(hex.as_bytes(), 0).unwrap();
        assert_eq!(fs::read(&part.path).unwrap(), bytes);
    }
}
