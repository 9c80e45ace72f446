//! The Engine's stream formats, sans-IO: lines, and the 8-byte frames of a log without a TTY (`apps.md` 7.3).
//!
//! **Invariant:** the result does not depend on how the bytes were sliced, and no more than one line of [`MAX_LINE`]
//! plus the last slice is held. A longer line is split, never dropped.

use std::collections::VecDeque;

use super::http1::Fault;

/// The longest line, in bytes; the rest of it becomes the next line.
pub const MAX_LINE: usize = 1024 * 1024;

/// Cuts bytes into lines: LF ends one, a CR before it goes, broken UTF-8 is replaced.
#[derive(Debug, Default)]
pub struct LineSplitter {
    pending: Vec<u8>,
    /// Where no LF can be before, so that a long line is searched once.
    searched: usize,
    /// The start of this line was given out already: an end right here is no empty line.
    split: bool,
}

impl LineSplitter {
    /// Takes in `bytes` and hands each complete line to `emit`.
    pub fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(String)) {
        self.pending.extend_from_slice(bytes);
        let mut start = 0;
        loop {
            let from = start.max(self.searched);
            let end = self.pending[from..].iter().position(|byte| *byte == b'\n').map(|at| from + at);
            self.searched = end.unwrap_or(self.pending.len());
            let line = &self.pending[start..end.unwrap_or(self.pending.len())];
            let content = match end {
                Some(_) => without_cr(line).len(),
                // Of a line without an end yet, one byte more than the limit may be the CR that goes.
                None if line.len() > MAX_LINE + 1 => line.len(),
                None => break,
            };
            if content > MAX_LINE {
                let cut = char_boundary(line, MAX_LINE);
                emit(String::from_utf8_lossy(&line[..cut]).into_owned());
                start += cut;
                self.split = true;
                continue;
            }
            if content > 0 || !self.split {
                emit(String::from_utf8_lossy(&line[..content]).into_owned());
            }
            self.split = false;
            start += line.len() + 1;
            self.searched = start;
        }
        self.pending.drain(..start);
        self.searched -= start;
    }

    /// The stream has ended: hands over a last line without LF, if there is one.
    pub fn finish(&mut self, emit: impl FnMut(String)) {
        if !self.pending.is_empty() {
            self.feed(b"\n", emit);
        }
        *self = LineSplitter::default();
    }
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The last place up to `at` that is not inside a UTF-8 character; `at` itself if the bytes are no UTF-8.
fn char_boundary(bytes: &[u8], at: usize) -> usize {
    (at.saturating_sub(3)..=at).rev().find(|&cut| bytes[cut] & 0xC0 != 0x80).unwrap_or(at)
}

/// Where a piece of log comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Standard output, and everything of a container with a TTY. Also what the Engine marks as standard input.
    Stdout,
    /// Standard error.
    Stderr,
    /// The Engine itself: it could not read its log on.
    Engine,
}

/// Takes the frames of a non-TTY stream apart: one byte source, three zero bytes, big-endian length, payload.
#[derive(Debug, Default)]
pub struct Demultiplexer {
    header: [u8; 8],
    filled: usize,
    left: usize,
}

impl Demultiplexer {
    /// Takes in `bytes` and hands pieces of payload to `emit`. Payload is passed on as it comes, whatever length its
    /// frame promises.
    ///
    /// # Errors
    /// [`Fault::Frame`] for an unknown source or non-zero padding: these are no frames.
    pub fn feed(&mut self, mut bytes: &[u8], mut emit: impl FnMut(Source, &[u8])) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
                self.left -= payload.len();
                bytes = rest;
                emit(self.source()?, payload);
                continue;
            }
            self.header[self.filled] = bytes[0];
            self.filled += 1;
            bytes = &bytes[1..];
            if self.filled == 4 {
                self.source()?;
            }
            if let (8, [_, _, _, _, length @ ..]) = (self.filled, self.header) {
                self.filled = 0;
                self.left = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Fault::Frame)?;
            }
        }
        Ok(())
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`Fault::Truncated`] inside a frame.
    pub fn finish(&self) -> Result<(), Fault> {
        if self.filled == 0 && self.left == 0 { Ok(()) } else { Err(Fault::Truncated) }
    }

    fn source(&self) -> Result<Source, Fault> {
        match self.header {
            [0 | 1, 0, 0, 0, ..] => Ok(Source::Stdout),
            [2, 0, 0, 0, ..] => Ok(Source::Stderr),
            [3, 0, 0, 0, ..] => Ok(Source::Engine),
            _ => Err(Fault::Frame),
        }
    }
}

/// One line of a container's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Where it comes from.
    pub source: Source,
    /// The text, without its line end; with timestamps if these were asked for.
    pub text: String,
}

/// Bytes of a log stream to lines, framed or not. Lines of different sources do not mix.
#[derive(Debug)]
pub struct LogDecoder {
    frames: Option<Demultiplexer>,
    splitters: [LineSplitter; 3],
}

impl LogDecoder {
    /// For a container with (`Config.Tty`) or without a TTY.
    pub fn new(tty: bool) -> LogDecoder {
        LogDecoder { frames: (!tty).then(Demultiplexer::default), splitters: Default::default() }
    }

    /// Takes in `bytes` and appends each complete line to `lines`.
    ///
    /// # Errors
    /// As [`Demultiplexer::feed`].
    pub fn feed(&mut self, bytes: &[u8], lines: &mut VecDeque<LogLine>) -> Result<(), Fault> {
        let splitters = &mut self.splitters;
        let mut split = |source: Source, bytes: &[u8]| {
            splitters[source as usize].feed(bytes, |text| lines.push_back(LogLine { source, text }));
        };
        match &mut self.frames {
            Some(frames) => frames.feed(bytes, split),
            None => {
                split(Source::Stdout, bytes);
                Ok(())
            }
        }
    }

    /// The stream has ended: appends what is left of unfinished lines.
    ///
    /// # Errors
    /// As [`Demultiplexer::finish`]; the lines are appended all the same.
    pub fn finish(&mut self, lines: &mut VecDeque<LogLine>) -> Result<(), Fault> {
        for source in [Source::Stdout, Source::Stderr, Source::Engine] {
            self.splitters[source as usize].finish(|text| lines.push_back(LogLine { source, text }));
        }
        self.frames.as_ref().map_or(Ok(()), Demultiplexer::finish)
    }
}

#[cfg(test)]
mod tests;
