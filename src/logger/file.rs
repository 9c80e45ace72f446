//! The log file and its rotations. Every failure is swallowed, counted, and tried again later.

use crate::clock::{Now, Wall};
use crate::os::files;
use crate::sorted::sort_by;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A file is never larger (decision 32).
pub(super) const MAX_BYTES: u64 = 5 * 1024 * 1024;

/// Rotations that are kept.
const KEPT: usize = 2;

/// How long a file that cannot be written is left alone: a full disk stays full for a while.
const RETRY: Duration = Duration::from_secs(5);

/// Mode of a new file, and of directories on the way to it.
const MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o755;

/// An open log file, or one that is to be opened again.
#[derive(Debug)]
pub struct LogFile {
    pub(super) path: PathBuf,
    limit: u64,
    state: State,
    lost: usize,
}

#[derive(Debug)]
enum State {
    /// `size` is `None` for a device, which is never moved or cut off.
    Open { file: File, size: Option<u64> },
    /// Nothing is tried before this monotonic time.
    Failed { until: Duration },
}

impl LogFile {
    /// Continues the file at `path`, or begins it; one that is full already is rotated.
    pub fn open(path: &Path, now: Now) -> LogFile {
        LogFile::with_limit(path, MAX_BYTES, now)
    }

    pub(super) fn with_limit(path: &Path, limit: u64, now: Now) -> LogFile {
        let mut log = LogFile { path: path.to_owned(), limit, state: State::Failed { until: Duration::ZERO }, lost: 0 };
        log.reopen(now);
        log
    }

    /// Appends one line, which ends with a line end. Never fails; a line that cannot be written is counted.
    pub fn append(&mut self, line: &[u8], now: Now) {
        if matches!(self.state, State::Failed { until } if now.mono >= until) {
            self.reopen(now);
        }
        if let State::Open { size: Some(size @ 1..), .. } = self.state
            && size + line.len() as u64 > self.limit
        {
            self.state = State::Failed { until: now.mono };
            rotate(&self.path, now.wall);
            self.reopen(now);
        }
        let State::Open { file, size } = &mut self.state else {
            self.lost = self.lost.saturating_add(1);
            return;
        };
        let report = if self.lost > 0 { lost_line(self.lost, now.wall) } else { Vec::new() };
        if file.write_all(&report).and_then(|()| file.write_all(line)).is_ok() {
            *size = size.map(|size| size + (report.len() + line.len()) as u64);
            self.lost = 0;
        } else {
            take_back(file, *size);
            self.lost = self.lost.saturating_add(1);
            self.state = State::Failed { until: now.mono + RETRY };
        }
    }

    /// Whether the file could be opened when that was last tried.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// How many lines were lost since the file could last be written.
    pub fn lost(&self) -> usize {
        self.lost
    }

    fn reopen(&mut self, now: Now) {
        let opened = open(&self.path).and_then(|(file, size)| {
            if size.is_none_or(|size| size < self.limit) {
                return Ok((file, size));
            }
            drop(file);
            rotate(&self.path, now.wall);
            open(&self.path)
        });
        self.state = match opened {
            Ok((file, size)) => State::Open { file, size },
            Err(_) => State::Failed { until: now.mono + RETRY },
        };
    }
}

fn open(path: &Path) -> io::Result<(File, Option<u64>)> {
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        files::create_directory(directory, DIRECTORY_MODE)?;
    }
    let file = files::open_append(path, MODE)?;
    let found = file.metadata()?;
    Ok((file, found.is_file().then_some(found.len())))
}

/// Cuts off a line that was written by half, so that every line of the file can be read.
fn take_back(file: &File, size: Option<u64>) {
    if let (Some(size), Ok(found)) = (size, file.metadata())
        && found.len() > size
    {
        drop(file.set_len(size));
    }
}

fn lost_line(lost: usize, wall: Wall) -> Vec<u8> {
    format!("{{\"level\":\"warn\",\"time\":\"{wall}\",\"message\":\"{lost} log lines could not be written\"}}\n")
        .into_bytes()
}

/// Moves the file away and begins a new one of the same mode and owner. If it cannot be moved it is cut off: old lines
/// are worth less than a disk.
fn rotate(path: &Path, wall: Wall) {
    let old = fs::metadata(path);
    let Some(rotated) = free_name(path, wall).filter(|rotated| fs::rename(path, rotated).is_ok()) else {
        drop(File::options().write(true).truncate(true).open(path));
        return;
    };
    if let (Ok(old), Ok((file, _))) = (old, open(path)) {
        drop(files::copy_rights(&old, &file));
    }
    prune(path, &rotated);
}

/// The name of the rotation; a second one within a millisecond takes a later name.
fn free_name(path: &Path, wall: Wall) -> Option<PathBuf> {
    let (stem, extension) = stem_and_extension(path)?;
    (0..100).find_map(|later| {
        let (year, month, day, hour, minute, second) = wall.civil();
        let milli = (wall.nanos / 1_000_000 + later).min(999);
        let name =
            format!("{stem}-{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}.{milli:03}{extension}");
        Some(path.with_file_name(name)).filter(|path| !path.exists())
    })
}

/// Deletes all rotations but the one just made and the newest other: its name may be an old one, where the clock is.
fn prune(path: &Path, newest: &Path) {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut others: Vec<PathBuf> = entries
        .filter_map(|entry| Some(path.with_file_name(entry.ok()?.file_name())))
        .filter(|other| other != newest && is_rotation(other, path))
        .collect();
    sort_by(&mut others, Ord::cmp);
    others.truncate(others.len().saturating_sub(KEPT - 1));
    for other in others {
        drop(fs::remove_file(other));
    }
}

/// Whether `path` has the name of a rotation of the log file `log`, in its directory: what the disk guard may delete in
/// an emergency.
pub fn is_rotation(path: &Path, log: &Path) -> bool {
    const TIME: &str = "0000-00-00T00-00-00.000";
    let (Some((stem, extension)), Some(name)) =
        (stem_and_extension(log), path.file_name().and_then(|name| name.to_str()))
    else {
        return false;
    };
    let time = name
        .strip_prefix(stem)
        .and_then(|rest| rest.strip_prefix('-'))
        .and_then(|rest| rest.strip_suffix(&extension))
        .unwrap_or_default();
    let fits = |(byte, form): (u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { byte == form };
    path.parent() == log.parent() && time.len() == TIME.len() && time.bytes().zip(TIME.bytes()).all(fits)
}

/// The name before its last dot, and the rest with the dot.
fn stem_and_extension(path: &Path) -> Option<(&str, String)> {
    let stem = path.file_stem()?.to_str()?;
    Some((stem, path.extension().map_or(Some(String::new()), |extension| Some(format!(".{}", extension.to_str()?)))?))
}
