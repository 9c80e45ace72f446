//! The thread `logs`: feeds the pure hub and performs what it orders.
//!
//! It waits for its queue, for room in the state thread's inbox if it has something to tell, and for the hub's next
//! deadline, all at once. Without any of these it sleeps for good.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender};

use super::follow::End;
use super::follower::{Follower, ToHub};
use super::hub::{Fed, Hub, Output};
use super::source::Source;
use super::streams::Stream;
use super::{Event, Feed, Handle, Outflow, Publication};
use crate::clock;
use crate::domain::message::LogCommand;
use crate::probe::Probe;
use crate::thread::{self, Exit};

/// Messages with lines that may be under way. Each has the lines of one read (32 KiB or so; one long line at most).
const CREDITS: usize = 16;
/// Events in the outbox beyond which nothing is taken in that is not needed.
const OUTBOX: usize = 256;
/// For the last saves and the ends of the followers.
const PATIENCE: Duration = Duration::from_secs(2);

/// What comes through the hub's one queue, so that everything about a container stays in order.
#[derive(Debug)]
pub enum Message {
    /// From a [`Handle`].
    Command(LogCommand),
    /// From a [`Feed`], for this container: took a credit.
    Fed(String, Fed),
    /// From a follower: took a credit.
    Lines(Stream, Vec<String>),
    /// A follower's last word.
    Ended(Stream, End),
    /// Answered by being taken.
    Probe(Probe),
    /// The handle is gone.
    Stop,
}

/// Starts the hub. `publish` must only queue; it is called on the hub's thread, with `None` only to ask. Events go to `events`, the state
/// thread's bounded inbox, wrapped by `wrap`; the hub never waits for room there with anything else in its way.
///
/// # Errors
/// The system's, when no thread can be created.
pub fn spawn<T: Send + 'static>(
    serial: &str,
    source: Source,
    publish: impl FnMut(Option<Publication>) -> Outflow + Send + 'static,
    events: Sender<T>,
    wrap: fn(Event) -> T,
    on_exit: impl FnOnce(Exit) + Send + 'static,
) -> io::Result<Handle> {
    // Unbounded for those who may not wait (the state thread); whoever brings lines needs a credit.
    let (inbox, messages) = crossbeam_channel::unbounded();
    let (credits, taken) = crossbeam_channel::bounded(CREDITS);
    let to_hub = ToHub { inbox: inbox.clone(), credits: credits.clone() };
    let hub = Hub::new(serial, clock::now());
    thread::spawn("logs", on_exit, move || {
        let (followers, outbox) = (BTreeMap::new(), VecDeque::new());
        Actor { hub, source, publish, events, wrap, messages, taken, to_hub, followers, outbox }.run();
    })?;
    Ok(Handle { inbox: inbox.clone(), feed: Feed { inbox, credits } })
}

struct Actor<T, P> {
    hub: Hub,
    source: Source,
    publish: P,
    events: Sender<T>,
    wrap: fn(Event) -> T,
    messages: Receiver<Message>,
    /// The credits that are out.
    taken: Receiver<()>,
    to_hub: ToHub,
    followers: BTreeMap<Stream, Follower>,
    /// Events that found no room yet. At most one of a kind and container, but for the answers.
    outbox: VecDeque<Event>,
}

enum Wake {
    Message(Message),
    /// An event went out, or a deadline came.
    Nothing,
    /// Nobody takes events any more.
    Deaf,
}

impl<T, P: FnMut(Option<Publication>) -> Outflow> Actor<T, P> {
    fn run(mut self) {
        loop {
            let wait = self.hub.deadline().map(|at| at.saturating_sub(clock::mono()));
            let woken = self.wait(wait);
            self.hub.outflow((self.publish)(None));
            match woken {
                Wake::Message(Message::Stop) => break,
                Wake::Message(message) => self.take(message),
                Wake::Nothing => {}
                Wake::Deaf => self.outbox.clear(),
            }
            self.hub.due(clock::now());
            self.perform();
        }
        self.stop();
    }

    fn stop(&mut self) {
        self.hub.stop(clock::now());
        self.perform();
        let until = clock::mono() + PATIENCE;
        while !(self.outbox.is_empty() && self.followers.is_empty()) {
            let left = until.saturating_sub(clock::mono());
            if left.is_zero() {
                let names: Vec<&str> = self.followers.keys().map(|stream| stream.app.as_str()).collect();
                log::warn!("logs: stopped without {} events, streams {names:?}", self.outbox.len());
                return;
            }
            match self.wait(Some(left)) {
                Wake::Message(Message::Ended(stream, _)) => self.vanished(&stream),
                Wake::Message(Message::Fed(..) | Message::Lines(..)) => self.credit(),
                Wake::Message(_) | Wake::Nothing => {}
                Wake::Deaf => self.outbox.clear(),
            }
        }
    }

    fn take(&mut self, message: Message) {
        let now = clock::now();
        match message {
            Message::Command(command) => self.command(command),
            Message::Fed(container, fed) => {
                self.credit();
                self.hub.fed(now, &container, fed);
            }
            Message::Lines(stream, lines) => {
                self.credit();
                self.hub.lines(now, &stream, lines);
            }
            Message::Ended(stream, end) => {
                self.vanished(&stream);
                self.hub.ended(now, &stream, end);
            }
            Message::Probe(probe) => probe.answer(),
            Message::Stop => {}
        }
    }

    fn command(&mut self, command: LogCommand) {
        if let LogCommand::Forget { container: gone } = &command {
            self.outbox.retain(|event| !matches!(event, Event::Save { container, .. } if container == gone));
        }
        self.hub.command(clock::now(), command);
    }

    /// Gives a credit back.
    fn credit(&mut self) {
        // There is one for each metered message; were there none, nothing would be lost.
        self.taken.try_recv().unwrap_or_default();
    }

    fn vanished(&mut self, stream: &Stream) {
        if let Some(follower) = self.followers.remove(stream) {
            follower.join();
        }
    }

    fn perform(&mut self) {
        // Starting may fail at once: then there is more to do.
        loop {
            let outputs = self.hub.take_outputs();
            if outputs.is_empty() {
                return;
            }
            for output in outputs {
                match output {
                    Output::Publish(publication) => {
                        self.hub.outflow((self.publish)(Some(publication)));
                    }
                    Output::Emit(event) => self.queue(event),
                    Output::Attach(stream, task) => {
                        match Follower::start(self.source.clone(), stream.clone(), task, self.to_hub.clone()) {
                            Ok(follower) => {
                                self.followers.insert(stream, follower);
                            }
                            Err(error) => {
                                self.hub.ended(clock::now(), &stream, End::Broken(format!("no thread: {error}")));
                            }
                        }
                    }
                    Output::Detach(stream) => {
                        if let Some(follower) = self.followers.get_mut(&stream) {
                            follower.stop();
                        }
                    }
                }
            }
        }
    }

    fn queue(&mut self, event: Event) {
        match &event {
            Event::Save { container: of, .. } => {
                self.outbox.retain(|queued| !matches!(queued, Event::Save { container, .. } if container == of));
            }
            // Its names come from the wire. One that is lost here is made up for by the resync of containers.
            Event::Wanted { .. } if self.outbox.len() >= OUTBOX => return,
            Event::Lookup { .. } | Event::Wanted { .. } | Event::FollowEnded { .. } => {
                self.outbox.retain(|queued| *queued != event);
            }
            Event::History { .. } => {}
        }
        self.outbox.push_back(event);
    }

    /// Waits for a message, for room for the first event of the outbox, and at most for `limit`.
    fn wait(&mut self, limit: Option<Duration>) -> Wake {
        let Some(event) = self.outbox.pop_front() else {
            return match limit {
                None => self.messages.recv().map_or(Wake::Nothing, Wake::Message),
                Some(limit) => match self.messages.recv_timeout(limit) {
                    Ok(message) => Wake::Message(message),
                    Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Wake::Nothing,
                },
            };
        };
        let mut select = Select::new();
        let message = select.recv(&self.messages);
        select.send(&self.events);
        let operation = match limit {
            None => Some(select.select()),
            Some(limit) => select.select_timeout(limit).ok(),
        };
        match operation {
            Some(operation) if operation.index() == message => {
                self.outbox.push_front(event);
                operation.recv(&self.messages).map_or(Wake::Nothing, Wake::Message)
            }
            Some(operation) => match operation.send(&self.events, (self.wrap)(event)) {
                Ok(()) => Wake::Nothing,
                Err(_) => Wake::Deaf,
            },
            None => {
                self.outbox.push_front(event);
                Wake::Nothing
            }
        }
    }
}
