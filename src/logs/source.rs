//! Where log streams come from: in production the Docker Engine, in tests a closure.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::cancel::Cancel;
use crate::clock::Wall;
use crate::docker::{self, Docker, LogLine, LogOptions};

/// Where a log stream starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// This many lines back.
    Tail(u32),
    /// With the lines of this moment (inclusive).
    Since(Wall),
}

/// Why a log stream could not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenError {
    /// There is no such container (or it is about to vanish).
    NotFound,
    /// The Engine is absent, refused, or took too long; or the stream was cancelled.
    Failed(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::NotFound => f.write_str("no such container"),
            OpenError::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for OpenError {}

/// What an open stream gives when it is asked for the next line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A line with its stamp, without its end; at most 1 MiB of the container's text.
    Line(String),
    /// Nothing within the time. More may come.
    Nothing,
    /// The Engine closed the stream.
    End,
    /// The stream broke, for this reason.
    Broken(String),
}

/// An open stream: waits up to the given time for the next line. Ends soon after its [`Cancel`] is cancelled. Without
/// a time it gives only what has been read already.
pub type Lines = Box<dyn FnMut(Duration) -> Heard>;

/// Opens the log stream of a container (follow, standard output and error, time stamps). Blocks with a deadline, ends
/// soon after the token is cancelled. Called on the follower's thread.
pub type Source = Arc<dyn Fn(&str, Start, &Cancel) -> Result<Lines, OpenError> + Send + Sync>;

/// The log streams of the Engine. Whether a stream is framed is asked for each time: a container of the same name may
/// be another one.
pub fn of_engine(docker: Docker) -> Source {
    Arc::new(move |container, start, cancel| {
        let docker = docker.cancelled_by(cancel);
        let tty = docker.inspect_container(container).map_err(refused)?.config.tty;
        let (tail, since) = match start {
            Start::Tail(lines) => (Some(lines), None),
            Start::Since(stamp) => (None, Some(stamp)),
        };
        let options = LogOptions { tty, follow: true, tail, since, until: None, timestamps: true };
        let mut logs = docker.container_logs(container, &options).map_err(refused)?;
        Ok(Box::new(move |silence| match logs.next_line(silence) {
            // Not the container's: the Engine could not read its own log on.
            Ok(Some(LogLine { source: docker::Source::Engine, text })) => Heard::Broken(text),
            Ok(Some(LogLine { text, .. })) => Heard::Line(text),
            Ok(None) => Heard::End,
            Err(docker::Error::Timeout) => Heard::Nothing,
            Err(error) => Heard::Broken(error.to_string()),
        }))
    })
}

fn refused(error: docker::Error) -> OpenError {
    if error.is_not_found() { OpenError::NotFound } else { OpenError::Failed(error.to_string()) }
}
