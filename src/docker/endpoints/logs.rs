//! A container's log as lines, whether the container has a TTY or not (`apps.md` 7.3, `storage-and-logs.md` 3.6).
//!
//! Read on the caller's thread. Bytes are read and cut here, so that no line length and no slow consumer stops the
//! reader half-way through a frame (S5).

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Wall;
use crate::docker::Error;
use crate::docker::conn::{Deadline, Response};
use crate::docker::http1::Request;
use crate::docker::stream::{LogDecoder, LogLine};

/// Which part of a log to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// `Config.Tty` of the container: its log is raw then, else framed.
    pub tty: bool,
    /// Stay until the container stops.
    pub follow: bool,
    /// Only so many lines from the end; `None` is all.
    pub tail: Option<u32>,
    /// Only lines from this time on.
    pub since: Option<Wall>,
    /// Only lines up to this time.
    pub until: Option<Wall>,
    /// Each line begins with its RFC 3339 time and a space.
    pub timestamps: bool,
}

impl LogOptions {
    pub(super) fn apply(&self, request: Request) -> Request {
        let tail = self.tail.map_or_else(|| "all".to_owned(), |lines| lines.to_string());
        let mut request = request.query("stdout", "1").query("stderr", "1").query("tail", &tail);
        for (name, wanted) in [("follow", self.follow), ("timestamps", self.timestamps)] {
            if wanted {
                request = request.query(name, "1");
            }
        }
        for (name, time) in [("since", self.since), ("until", self.until)] {
            if let Some(time) = time {
                request = request.query(name, &unix_time(time));
            }
        }
        request
    }
}

/// Seconds and nanoseconds since 1970, as the Engine reads them. A time before is 0: all there is.
pub(in crate::docker) fn unix_time(time: Wall) -> String {
    if time.seconds < 0 { "0".to_owned() } else { format!("{}.{:09}", time.seconds, time.nanos) }
}

/// An open log. Dropping it closes the stream.
#[derive(Debug)]
pub struct Logs {
    response: Response,
    decoder: LogDecoder,
    lines: VecDeque<LogLine>,
    bytes: Vec<u8>,
    end: Option<Result<(), Error>>,
}

impl Logs {
    pub(super) fn new(response: Response, tty: bool) -> Logs {
        Logs { response, decoder: LogDecoder::new(tty), lines: VecDeque::new(), bytes: Vec::new(), end: None }
    }

    /// The next line, waiting for it up to `silence`; `None` at the end of the log. Lines that came are given out before
    /// an error is.
    ///
    /// # Errors
    /// [`Error::Timeout`] when nothing was written for `silence`: call again, or open anew with `since` (D5).
    /// [`Error::Cancelled`]; [`Error::Unreachable`] or [`Error::Http`] when the stream broke, from then on each time.
    pub fn next_line(&mut self, silence: Duration) -> Result<Option<LogLine>, Error> {
        let deadline = Deadline::after(silence);
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Ok(Some(line));
            }
            if let Some(end) = &self.end {
                return end.clone().map(|()| None);
            }
            self.bytes.clear();
            match self.response.read(&mut self.bytes, deadline) {
                Err(Error::Timeout) => return Err(Error::Timeout),
                Ok(true) => {
                    if let Err(fault) = self.decoder.feed(&self.bytes, &mut self.lines) {
                        self.end = Some(Err(fault.into()));
                    }
                }
                end => {
                    let rest = self.decoder.finish(&mut self.lines).map_err(Error::Http);
                    self.end = Some(end.and(rest));
                }
            }
        }
    }
}
