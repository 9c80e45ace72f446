//! Reading gzip-compressed tar archives (POSIX ustar and pax, GNU long names), one entry after the other.
//!
//! An archive comes from outside: **Invariant:** whatever it says, no more is unpacked than [`Archive::open`] was allowed,
//! and no more than [`EXTENSION`] bytes of it are held in memory. Source: POSIX.1-2017 `pax`, the GNU tar manual.

use flate2::bufread::MultiGzDecoder;
use std::io::{self, BufReader, Read};

/// Bytes of a block; headers and contents are whole blocks.
const BLOCK: usize = 512;
/// The longest name.
pub(super) const NAME: usize = 4096;
/// The longest extended header that is read: both names at their longest, and what else is in use.
const EXTENSION: usize = 64 * 1024;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A regular file; its content is what [`Archive`] reads next.
    File,
    /// A directory.
    Directory,
    /// A symbolic link to this.
    Symlink(Vec<u8>),
    /// Another name of an entry that came before.
    HardLink(Vec<u8>),
    /// Anything else: its type flag.
    Other(u8),
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// As it is in the archive, at most [`NAME`] bytes and without NUL; anything else may be in it.
    pub(super) name: Vec<u8>,
    /// What it is.
    pub(super) kind: Kind,
}

impl Entry {
    /// The parts of the name, without empty ones and `.`.
    pub(super) fn parts(&self) -> impl Iterator<Item = &[u8]> {
        parts(&self.name)
    }
}

/// The parts of a path, without empty ones and `.`.
pub(super) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// An archive that is being read. [`Read`] gives the content of the entry that came last.
pub(super) struct Archive<R> {
    input: io::Take<MultiGzDecoder<BufReader<R>>>,
    /// Bytes of the content that were not read yet.
    left: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

/// What extended headers say of the entry that follows them.
#[derive(Debug, Default, PartialEq)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn too_large() -> io::Error {
    invalid("it is larger than allowed when unpacked: too large for the disk, for any app, or for the size of the file")
}

impl<R: Read> Archive<R> {
    /// Reads an archive of at most `limit` bytes unpacked, headers included.
    pub(super) fn open(input: R, limit: u64) -> Archive<R> {
        // One more, so that an archive of exactly the limit is told from a longer one.
        let input = MultiGzDecoder::new(BufReader::new(input)).take(limit.saturating_add(1));
        Archive { input, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end, where the rest of the file was read and its checksum found right. What was not
    /// read of the content before is skipped.
    ///
    /// # Errors
    /// Those of the reader; [`io::ErrorKind::InvalidData`] if this is no archive, or one beyond its limit.
    pub(super) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        loop {
            let Some(header) = self.header()? else {
                if extension != Extension::default() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                io::copy(&mut self.input, &mut io::sink())?;
                self.within_limit()?;
                return Ok(None);
            };
            let size = number(&header[124..136])?;
            match header[156] {
                b'x' => self.pax(size, &mut extension)?,
                b'L' => extension.name = Some(self.long_name(size)?),
                b'K' => extension.link = Some(self.long_name(size)?),
                // Of the whole archive: comments, times.
                b'g' => self.content(size)?,
                flag => return self.entry(&header, flag, size, extension).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &[u8; BLOCK], flag: u8, size: u64, extension: Extension) -> io::Result<Entry> {
        let name = extension.name.unwrap_or_else(|| header_name(header));
        let link = extension.link.unwrap_or_else(|| text(&header[157..257]));
        let kind = match flag {
            // Before POSIX a directory was a file with a slash at its end.
            b'0' | 0 | b'7' if name.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'5' => Kind::Directory,
            other => Kind::Other(other),
        };
        // Links, directories and devices have no content, whatever their size says.
        if matches!(flag, b'0' | 0 | b'7'..) {
            self.content(extension.size.unwrap_or(size))?;
        }
        if let Some(long) = [Some(&name), link_of(&kind)].into_iter().flatten().find(|name| name.len() > NAME) {
            return Err(invalid(format!("a name of {} bytes, {NAME} are the most", long.len())));
        }
        if name.contains(&0) || link_of(&kind).is_some_and(|link| link.contains(&0)) {
            return Err(invalid("a name with a NUL in it"));
        }
        Ok(Entry { name, kind })
    }

    /// The next header; `None` at the end: two empty blocks, or nothing.
    fn header(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let rest = std::mem::take(&mut self.left) + std::mem::take(&mut self.padding);
        let skipped = io::copy(&mut self.input.by_ref().take(rest), &mut io::sink())?;
        self.within_limit()?;
        if skipped < rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let Some(block) = self.block()? else { return Ok(None) };
        if block.iter().all(|byte| *byte == 0) {
            return match self.block()? {
                Some(block) if block.iter().any(|byte| *byte != 0) => Err(invalid("something follows an empty block")),
                _ => Ok(None),
            };
        }
        let sum = |byte: fn(u8) -> i64| {
            // The sum itself counts as blanks.
            let others = block[..148].iter().chain(&block[156..]).map(|found| byte(*found));
            others.sum::<i64>() + 8 * i64::from(b' ')
        };
        let expected = i64::try_from(number(&block[148..156])?).ok();
        // Some old programs took bytes for signed numbers.
        if expected != Some(sum(i64::from)) && expected != Some(sum(|byte| i64::from(byte.cast_signed()))) {
            return Err(invalid("no tar archive, or a damaged one: the checksum of a header is wrong"));
        }
        Ok(Some(block))
    }

    fn block(&mut self) -> io::Result<Option<[u8; BLOCK]>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.within_limit()?;
        match filled {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn within_limit(&self) -> io::Result<()> {
        if self.input.limit() == 0 { Err(too_large()) } else { Ok(()) }
    }

    /// What follows is content.
    fn content(&mut self, size: u64) -> io::Result<()> {
        if size >= self.input.limit() {
            return Err(too_large());
        }
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// The content of an extended header.
    fn extension(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > EXTENSION as u64 {
            return Err(invalid(format!("an extended header of {size} bytes, {EXTENSION} are the most")));
        }
        self.content(size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn long_name(&mut self, size: u64) -> io::Result<Vec<u8>> {
        self.extension(size).map(|bytes| text(&bytes))
    }

    /// Records `<length> <key>=<value>\n`, the length being that of the record.
    fn pax(&mut self, size: u64, extension: &mut Extension) -> io::Result<()> {
        let bytes = self.extension(size)?;
        let mut rest = bytes.as_slice();
        // Some programs fill the block up.
        while rest.first().is_some_and(|byte| *byte != 0) {
            let (record, after) = pax_record(rest).ok_or_else(|| invalid("a damaged extended header"))?;
            rest = after;
            let Some(equals) = record.iter().position(|byte| *byte == b'=') else {
                return Err(invalid("a damaged extended header"));
            };
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                _ if key.starts_with(b"GNU.sparse.") => return Err(invalid("files with holes are not supported")),
                b"path" if !value.is_empty() => extension.name = Some(value.to_vec()),
                b"linkpath" if !value.is_empty() => extension.link = Some(value.to_vec()),
                b"size" if !value.is_empty() => {
                    let size = std::str::from_utf8(value).ok().and_then(crate::domain::number::digits);
                    extension.size = Some(size.ok_or_else(|| invalid("a size that is no number"))?);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.input.read(&mut buffer[..most])?;
        self.within_limit()?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= read as u64;
        Ok(read)
    }
}

fn link_of(kind: &Kind) -> Option<&Vec<u8>> {
    match kind {
        Kind::Symlink(link) | Kind::HardLink(link) => Some(link),
        _ => None,
    }
}

/// A record without its length and line feed, and what follows it.
fn pax_record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let blank = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length = crate::domain::number::digits(std::str::from_utf8(&bytes[..blank]).ok()?)?;
    let length = usize::try_from(length).ok()?;
    let record = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    Some((record, &bytes[length..]))
}

/// The name of a header; what POSIX calls a prefix is a time in GNU's format.
fn header_name(header: &[u8; BLOCK]) -> Vec<u8> {
    let (mut prefix, name) = (text(&header[345..500]), text(&header[..100]));
    if &header[257..263] != b"ustar\0" || prefix.is_empty() {
        return name;
    }
    prefix.push(b'/');
    prefix.extend(name);
    prefix
}

/// Up to the first NUL.
fn text(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// Octal digits among blanks and NULs; or, for what is too large for them, the bytes of the number.
fn number(field: &[u8]) -> io::Result<u64> {
    if field[0] & 0x80 != 0 {
        let mut bytes = field.to_vec();
        bytes[0] &= 0x7f;
        let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
        let low = low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        // Sizes end where signed numbers do.
        return match i64::try_from(low) {
            Ok(_) if high.iter().all(|byte| *byte == 0) => Ok(low),
            _ => Err(invalid("a number that is too large")),
        };
    }
    let digits = field.iter().skip_while(|byte| **byte == b' ').take_while(|byte| !matches!(byte, b' ' | 0));
    digits.into_iter().try_fold(0, |sum: u64, digit| match digit {
        b'0'..=b'7' => Ok(sum << 3 | u64::from(digit - b'0')),
        _ => Err(invalid("no tar archive, or a damaged one: a number is none")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write as _;

    /// One tree, packed by GNU tar in its formats and by `git archive`; not every format holds all of it.
    const GOLDEN: [(&str, &[u8]); 5] = [
        ("gnu", include_bytes!("../../tests/golden/archives/gnu.tgz")),
        ("ustar", include_bytes!("../../tests/golden/archives/ustar.tgz")),
        ("pax", include_bytes!("../../tests/golden/archives/pax.tgz")),
        ("v7", include_bytes!("../../tests/golden/archives/v7.tgz")),
        ("git", include_bytes!("../../tests/golden/archives/git.tgz")),
    ];

    fn packed(tar: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(tar).unwrap();
        gzip.finish().unwrap()
    }

    fn unpacked(archive: &[u8]) -> Vec<u8> {
        let mut tar = Vec::new();
        MultiGzDecoder::new(archive).read_to_end(&mut tar).unwrap();
        tar
    }

    /// Kind, path and content of all entries, a line each.
    fn list(archive: &[u8], limit: u64) -> io::Result<Vec<String>> {
        let mut archive = Archive::open(archive, limit);
        let mut lines = Vec::new();
        while let Some(entry) = archive.next()? {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let path = entry.parts().map(text).collect::<Vec<_>>().join("/");
            let what = match &entry.kind {
                Kind::File => {
                    let mut content = Vec::new();
                    archive.read_to_end(&mut content)?;
                    format!("= {}", text(&content).trim_end())
                }
                Kind::Directory => "/".to_owned(),
                Kind::Symlink(target) => format!("-> {}", text(target)),
                Kind::HardLink(target) => format!("is {}", text(target)),
                Kind::Other(flag) => format!("? {flag}"),
            };
            lines.push(format!("{path} {what}"));
        }
        Ok(lines)
    }

    #[test]
    fn archives_of_all_formats_are_read() {
        let (long, middling) = ("long-name-".repeat(12), "middling-".repeat(7));
        for (format, archive) in GOLDEN {
            let mut lines = list(archive, 1 << 20).unwrap();
            lines.retain(|line| !line.ends_with(" /"));
            let has = |name: &str| lines.iter().any(|line| *line == name);
            for line in
                ["Dockerfile = FROM scratch", "src/deep/link -> ../run.sh", "src/deep/Dockerfile.amd64 = FROM x"]
            {
                assert!(has(line), "{format}: {line}: {lines:#?}");
            }
            assert!(has("src/run.sh = #!/bin/sh") || has("src/run.sh is ./src/hard"), "{format}: {lines:#?}");
            assert_eq!(has(&format!("src/{middling}/{middling}/file.txt = deep")), format != "v7", "{format}");
            let expected = matches!(format, "gnu" | "pax" | "git");
            assert_eq!(has(&format!("src/{long}/{long}/file.txt = deep")), expected, "{format}: {lines:#?}");
        }
    }

    #[test]
    fn an_archive_that_ends_early_is_an_error_wherever_it_ends() {
        for (format, archive) in GOLDEN {
            for end in 0..archive.len() {
                assert!(list(&archive[..end], 1 << 20).is_err(), "{format}: {end}");
            }
            // Within: before a header it is one that has no end mark, which some programs leave out.
            let tar = unpacked(archive);
            let last = tar.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(BLOCK);
            for end in (0..last + BLOCK).step_by(37).chain((0..=last).step_by(BLOCK)) {
                let cut = list(&packed(&tar[..end]), 1 << 20);
                assert!(end % BLOCK == 0 || cut.is_err(), "{format}: {end}: {cut:?}");
            }
        }
    }

    #[test]
    fn an_archive_of_exactly_the_limit_is_read_and_a_longer_one_is_not() {
        for (format, archive) in GOLDEN {
            let size = unpacked(archive).len() as u64;
            assert!(list(archive, size).is_ok(), "{format}");
            for limit in [0, 1, 512, 2048, size - 1] {
                let told = list(archive, limit).unwrap_err().to_string();
                assert!(told.starts_with("it is larger than allowed"), "{format} {limit}: {told}");
            }
        }
    }

    #[test]
    fn numbers_are_octal_digits_or_bytes() {
        let of = |field: &[u8]| number(field).ok();
        assert_eq!(of(b"00000000017\0"), Some(15));
        assert_eq!(of(b"    17 \0"), Some(15));
        assert_eq!(of(b"\0\0\0\0"), Some(0));
        assert_eq!(of(b"777777777777"), Some(0o777_777_777_777));
        assert_eq!(of(b"\x80\0\0\0\0\0\0\x01\0\0\0\0"), Some(1 << 32));
        assert_eq!(of(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(of(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None, "negative");
        assert_eq!(of(b"00000000018\0"), None);
        assert_eq!(of(b"-0000000017\0"), None);
    }

    #[test]
    fn records_of_an_extended_header_are_taken_apart_by_their_length() {
        assert_eq!(pax_record(b"9 path=a\n11 path=b\n"), Some((&b"path=a"[..], &b"11 path=b\n"[..])));
        let bad: [&[u8]; 9] =
            [b"", b"x", b"9 path=a", b"8 path=a\n", b"0 path=a\n", b"1 ", b"-9 path=a\n", b"99 path=a\n", b" path=a\n"];
        for bytes in bad {
            assert_eq!(pax_record(bytes), None, "{}", bytes.escape_ascii());
        }
        assert_eq!(pax_record(b"18446744073709551615 a=b\n"), None);
    }
}
