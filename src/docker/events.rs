//! The Engine's event stream as messages: the thread `docker-events` (`apps.md` 7.2 no. 20, decision 16).
//!
//! ```text
//!   waiting --answers ping and version, takes the subscription--> Up --> Container*
//!      ^                                                                    |
//!      +---------------------------------- Down <---------- stream ends ----+
//! ```
//!
//! It waits for an absent Engine, tells of each container's changes, and starts over when the stream ends. It never
//! judges what a change means. **Invariant:** `Up` comes after the subscription, so whoever lists containers on `Up` and
//! then follows the events misses nothing.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use serde::Deserialize;

use super::conn::{Deadline, Response};
use super::endpoints::{Filters, logs::unix_time, nullable};
use super::http1::{Method, Request};
use super::stream::LineSplitter;
use super::{ApiVersion, Docker, Error};
use crate::cancel::Cancel;
use crate::clock;
use crate::probe::Probe;
use crate::thread::{self, Exit};

/// How often a new or restarting Engine is tried at first, and for how long.
const QUICK: Duration = Duration::from_millis(100);
const QUICK_PHASE: Duration = Duration::from_secs(5);
/// How often it is tried after that.
const SLOW: Duration = Duration::from_secs(1);
/// How long the Engine may take for each answer on the way to a subscription.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How long [`Handle::stop`] waits for the thread.
const STOP_LIMIT: Duration = Duration::from_secs(2);
/// The changes that are subscribed to.
const ACTIONS: [&str; 9] = ["create", "start", "die", "oom", "pause", "unpause", "rename", "destroy", "health_status"];

/// What the thread tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The Engine answers and the subscription stands: time to list the containers.
    Up {
        /// The API version in use.
        api_version: ApiVersion,
        /// The Engine's version, such as `20.10.24`.
        server_version: String,
    },
    /// A container changed.
    Container(ContainerEvent),
    /// The stream ended, or the Engine was not there in the first five seconds of waiting. Nothing is known of changes
    /// until the next `Up`.
    Down {
        /// Why, for the log and for people.
        reason: Error,
    },
}

/// A change of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerEvent {
    /// `create`, `start`, `die`, `oom`, `pause`, `unpause`, `rename`, `destroy`, `health_status: healthy`, ...
    pub action: String,
    /// The full id.
    pub id: String,
    /// The name, without a slash.
    pub name: String,
    /// The Engine's attributes: the labels, `image`, `exitCode`, `oldName`, ...
    pub attributes: BTreeMap<String, String>,
    /// With `die`: how its process ended.
    pub exit_code: Option<i64>,
    /// When, in nanoseconds since 1970.
    pub time_nano: i64,
}

/// Holds the thread. Dropping it asks the thread to end without waiting for it.
#[derive(Debug)]
pub struct Handle {
    questions: Questions,
    cancel: Cancel,
    stop: Option<Sender<()>>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Ends the thread and waits for it, up to two seconds. `false` if it was still busy then.
    pub fn stop(mut self) -> bool {
        self.ask();
        // A disconnected channel is the sign: nothing is ever sent.
        let ended = self.ended.recv_timeout(STOP_LIMIT) == Err(crossbeam_channel::RecvTimeoutError::Disconnected);
        if ended && let Some(thread) = self.thread.take() {
            // Its panic, if there was one, went to `on_exit`.
            let _ = thread.join();
        }
        ended
    }

    /// Asks the thread whether it works. Never blocks.
    pub fn probe(&self, probe: Probe) {
        self.questions.put(probe);
    }

    fn ask(&mut self) {
        self.stop = None;
        self.cancel.cancel();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.ask();
    }
}

/// Starts the thread. Each event is wrapped and sent to `sink`; a full sink holds the thread up, and nothing else.
/// `on_exit` runs on the thread when it has ended: after [`Handle::stop`], when the sink is gone, or on a panic.
///
/// # Errors
/// Those of [`thread::spawn`].
pub fn spawn<T: Send + 'static>(
    docker: &Docker,
    sink: Sender<T>,
    wrap: fn(Event) -> T,
    on_exit: impl FnOnce(Exit) + Send + 'static,
) -> io::Result<Handle> {
    let cancel = Cancel::new();
    let (stop, stopped) = bounded(0);
    let (end, ended) = bounded(0);
    let docker = docker.within(ANSWER_DEADLINE).cancelled_by(&cancel);
    let questions = Questions::default();
    let watcher = Watcher { docker, sink, wrap, stopped, questions: questions.clone() };
    let last = questions.clone();
    let exit = move |exit| {
        last.answer_for_the_thread();
        on_exit(exit);
        drop::<Sender<()>>(end);
    };
    let thread = thread::spawn("docker-events", exit, move || watcher.run())?;
    Ok(Handle { questions, cancel, stop: Some(stop), ended, thread: Some(thread) })
}

/// The thread has to end.
struct Stopped;

struct Watcher<T> {
    docker: Docker,
    sink: Sender<T>,
    wrap: fn(Event) -> T,
    /// Disconnects when the thread has to end; nothing is ever sent.
    stopped: Receiver<()>,
    questions: Questions,
}

/// Questions to a thread that is in calls of the Engine nearly all of its time. Those are no sign of being stuck: a call has
/// a deadline, or the handle ends it. Meanwhile its questions are answered for it.
#[derive(Clone, Debug)]
struct Questions {
    calling: Arc<AtomicBool>,
    put: Sender<Probe>,
    open: Receiver<Probe>,
}

impl Default for Questions {
    fn default() -> Questions {
        let (put, open) = unbounded();
        Questions { calling: Arc::default(), put, open }
    }
}

impl Questions {
    /// For the handle. It looks after the question is in the queue, and the thread empties the queue after it has said that it
    /// calls: so one of them sees what the other did.
    fn put(&self, probe: Probe) {
        let _ = self.put.send(probe);
        if self.calling.load(Ordering::SeqCst) {
            self.open.try_iter().for_each(Probe::answer);
        }
    }

    /// For the thread: from now on the handle answers.
    fn answer_for_the_thread(&self) {
        self.calling.store(true, Ordering::SeqCst);
        self.open.try_iter().for_each(Probe::answer);
    }

    /// For the thread: a call.
    fn during<R>(&self, call: impl FnOnce() -> R) -> R {
        self.answer_for_the_thread();
        let result = call();
        self.calling.store(false, Ordering::SeqCst);
        result
    }
}

impl<T> Watcher<T> {
    fn run(self) {
        // Only the end is of interest here; each way there is a `Stopped`.
        let Stopped = self.watch().unwrap_or_else(|stopped| stopped);
    }

    fn watch(&self) -> Result<Stopped, Stopped> {
        let mut waiting_since = clock::mono();
        let mut told = false;
        let mut last = None;
        loop {
            let reason = match self.questions.during(|| self.subscribe()) {
                Ok((up, stream)) => {
                    self.emit(up)?;
                    let up_since = clock::mono();
                    let reason = self.follow(stream)?;
                    // An Engine that came and went at once is not tried again in quick succession.
                    if clock::mono().saturating_sub(up_since) >= QUICK_PHASE {
                        waiting_since = clock::mono();
                    }
                    told = false;
                    Some(reason)
                }
                Err(Error::Cancelled) => return Ok(Stopped),
                Err(reason) => {
                    // Once per reason: an Engine that stays away must not fill the log.
                    if last.as_ref() != Some(&reason) {
                        log::debug!("no docker yet: {reason}");
                        last = Some(reason.clone());
                    }
                    let late = clock::mono().saturating_sub(waiting_since) >= QUICK_PHASE;
                    (late && !told).then_some(reason)
                }
            };
            if let Some(reason) = reason {
                told = true;
                self.emit(Event::Down { reason })?;
            }
            let quick = clock::mono().saturating_sub(waiting_since) < QUICK_PHASE;
            self.pause(if quick { QUICK } else { SLOW })?;
        }
    }

    /// Ping, version and subscription, each with a deadline: a daemon that accepts and never answers is found here.
    fn subscribe(&self) -> Result<(Event, Response), Error> {
        let api_version = self.docker.negotiate()?;
        let server_version = self.docker.version()?.version;
        let filters = ACTIONS.iter().fold(Filters::none().with("type", "container"), |all, a| all.with("event", a));
        // The Engine sends the head just before it subscribes. `since` closes that gap: what happens in it is replayed.
        let since = unix_time(clock::wall());
        let request = filters.apply(Request::new(Method::Get, "/events").query("since", &since));
        let stream = self.docker.stream(&request)?;
        Ok((Event::Up { api_version, server_version }, stream))
    }

    /// Passes events on until the stream ends; the reason.
    fn follow(&self, mut stream: Response) -> Result<Error, Stopped> {
        let mut lines = LineSplitter::default();
        let mut bytes = Vec::new();
        let mut events = Vec::new();
        loop {
            bytes.clear();
            match self.questions.during(|| stream.read(&mut bytes, Deadline::NEVER)) {
                Ok(true) => lines.feed(&bytes, |line| events.extend(parse(&line))),
                Ok(false) => return Ok(Error::Unreachable("the event stream ended".into())),
                Err(Error::Cancelled) => return Err(Stopped),
                Err(error) => return Ok(error),
            }
            for event in events.drain(..) {
                self.emit(Event::Container(event))?;
            }
        }
    }

    fn emit(&self, event: Event) -> Result<(), Stopped> {
        select! {
            send(self.sink, (self.wrap)(event)) -> sent => sent.map_err(|_| Stopped),
            recv(self.stopped) -> _ => Err(Stopped),
        }
    }

    fn pause(&self, time: Duration) -> Result<(), Stopped> {
        match self.stopped.recv_timeout(time) {
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Stopped),
        }
    }
}

/// One record of the stream; `None`, with a warning, for what is none.
fn parse(line: &str) -> Option<ContainerEvent> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Record {
        action: String,
        actor: Actor,
        #[serde(rename = "timeNano", default)]
        time_nano: i64,
    }
    #[derive(Deserialize)]
    struct Actor {
        #[serde(rename = "ID")]
        id: String,
        #[serde(rename = "Attributes", default, deserialize_with = "nullable")]
        attributes: BTreeMap<String, String>,
    }
    if line.is_empty() {
        return None;
    }
    match serde_json::from_str(line) {
        Ok(Record { action, actor: Actor { id, attributes }, time_nano }) => {
            let name = attributes.get("name").cloned().unwrap_or_default();
            let exit_code = attributes.get("exitCode").and_then(|code| code.parse().ok());
            Some(ContainerEvent { action, id, name, attributes, exit_code, time_nano })
        }
        Err(error) => {
            log::warn!("a record of docker's event stream is not understood: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests;
