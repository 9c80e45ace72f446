//! Where log streams come from: in production the Docker Engine, in tests closures.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::listing::{self, Known, Listing};
use crate::cancel::Cancel;
use crate::clock::{self, Wall};
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
    /// Nothing within the time, and it is not known that there was nothing to hear. More may come.
    Nothing,
    /// The Engine closed the stream.
    End,
    /// It did, since the container has ended.
    Exited {
        /// Its exit code, if it could still be seen.
        code: Option<i64>,
        /// Names the run that has ended: when it began.
        run: String,
    },
    /// The stream broke, for this reason.
    Broken(String),
}

/// An open stream: waits up to the given time for the next line. Ends soon after its [`Cancel`] is cancelled. Without
/// a time it gives only what has been read already.
pub type Lines = Box<dyn FnMut(Duration) -> Heard>;

/// Opens the log stream of a container (follow, standard output and error, time stamps). Blocks with a deadline, ends
/// soon after the token is cancelled. Called on the follower's thread.
pub type Open = dyn Fn(&str, Start, &Cancel) -> Result<Lines, OpenError> + Send + Sync;

/// Lists the containers of a project, some of which are known by their name. Blocks and ends likewise.
pub type List = dyn Fn(&str, &BTreeMap<String, Known>, &Cancel) -> Result<Listing, OpenError> + Send + Sync;

/// Both.
#[derive(Clone)]
pub struct Source {
    /// Containers.
    pub open: Arc<Open>,
    /// Projects.
    pub list: Arc<List>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// The log streams of the Engine. Whether a stream is framed is asked for each time: a container of the same name may
/// be another one.
pub fn of_engine(docker: Docker) -> Source {
    let of_list = docker.clone();
    Source {
        open: Arc::new(move |container, start, cancel| open(&docker.cancelled_by(cancel), container, start)),
        list: Arc::new(move |name, known, cancel| {
            listing::list(&of_list.cancelled_by(cancel), name, known).map_err(refused)
        }),
    }
}

fn open(docker: &Docker, container: &str, start: Start) -> Result<Lines, OpenError> {
    let inspected = docker.inspect_container(container).map_err(refused)?;
    let (tty, mut file) = (inspected.config.tty, LogFile::new(inspected.log_path));
    let (id, run) = (inspected.id, inspected.state.started_at);
    let (tail, since) = match start {
        Start::Tail(lines) => (Some(lines), None),
        Start::Since(stamp) => (None, Some(stamp)),
    };
    let options = LogOptions { tty, follow: true, tail, since, until: None, timestamps: true };
    let mut logs = docker.container_logs(container, &options).map_err(refused)?;
    let docker = docker.clone();
    Ok(Box::new(move |silence| {
        loop {
            return match logs.next_line(silence) {
                // Not the container's: the Engine could not read its own log on.
                Ok(Some(LogLine { source: docker::Source::Engine, text })) => Heard::Broken(text),
                Ok(Some(LogLine { text, .. })) => {
                    file.heard = clock::wall();
                    Heard::Line(text)
                }
                Ok(None) => end(&docker, &id, &run),
                Err(docker::Error::Timeout) if !silence.is_zero() && file.has_nothing_new() => continue,
                Err(docker::Error::Timeout) => Heard::Nothing,
                Err(error) => Heard::Broken(error.to_string()),
            };
        }
    }))
}

/// Whether a stream has ended because that run of the container has.
fn end(docker: &Docker, id: &str, run: &str) -> Heard {
    let exited = |code| Heard::Exited { code, run: run.to_owned() };
    match docker.inspect_container(id) {
        // It runs again, or is gone: nobody knows the code any more.
        Ok(found) if found.state.started_at != run => exited(None),
        Err(error) if error.is_not_found() => exited(None),
        // One that restarts counts as running.
        Ok(found) if !found.state.running || found.state.status == "restarting" => exited(Some(found.state.exit_code)),
        Ok(_) | Err(_) => Heard::End,
    }
}

/// The file in which the Engine keeps a log. It tells a stream that has stalled from a container that is silent, without
/// asking the Engine (D5: a stream is opened anew after silence *while the container writes*).
struct LogFile {
    path: String,
    /// When something of it was last heard; at first, when the stream was opened.
    heard: Wall,
}

impl LogFile {
    fn new(path: String) -> LogFile {
        LogFile { path, heard: clock::wall() }
    }

    /// Whether it was not written since. `false` if that cannot be seen: the Engine may have another file system.
    fn has_nothing_new(&self) -> bool {
        clock::written(self.path.as_ref()).is_ok_and(|written| written <= self.heard)
    }
}

fn refused(error: docker::Error) -> OpenError {
    if error.is_not_found() { OpenError::NotFound } else { OpenError::Failed(error.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn d5_a_silent_container_is_told_from_a_stalled_stream_by_the_time_of_its_log_file() {
        let path = std::env::temp_dir().join(format!("reagent-log-file-{}", std::process::id()));
        let file = std::fs::File::create(&path).unwrap();
        let log = LogFile::new(path.to_string_lossy().into_owned());
        let written = |at: SystemTime| file.set_modified(at).unwrap();
        written(SystemTime::UNIX_EPOCH);
        assert!(log.has_nothing_new());
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(log.heard.seconds).unwrap() + 60);
        written(later);
        assert!(!log.has_nothing_new(), "written after the last line that came");
        std::fs::remove_file(&path).unwrap();
        assert!(!log.has_nothing_new(), "what cannot be seen may have been written");
        assert!(!LogFile::new(String::new()).has_nothing_new());
    }
}
