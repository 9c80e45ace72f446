//! App logs: what containers write and what the agent says about them, kept as a short history and published live.
//!
//! One thread, `logs`, owns every ring, backlog and subscription set (the pure `hub::Hub`, performed by `actor`); one
//! thread `log-<name>` per followed container blocks on the Engine and hands over lines. Neither waits for the network:
//! publications go to an injected sink that only queues. Of a compose app every container of the project is followed, and
//! what they write is one log, in which each line begins as compose lets it begin. Source: `storage-and-logs.md` 3,
//! `wamp-and-rpc.md` 6.2, 6.5.
//!
//! Apps are named by their plain, lower-case container name (`prod_6_myapp`), compose apps too.
//!
//! **Invariant:** the hub never blocks: not on the sink, not on the state thread's inbox, not on a follower.
//! **Invariant:** a container has at most one stream; a new one opens only after the old one has ended.

mod actor;
mod batch;
pub mod excerpt;
mod follow;
mod follower;
mod gate;
mod hub;
mod listing;
mod position;
pub mod project;
mod ring;
pub mod source;
mod stamp;
mod streams;

use crate::probe::Probe;
use crossbeam_channel::{Sender, TrySendError};
use serde_json::Value;

use crate::domain::message::LogCommand;
use actor::Message;
use hub::Fed;

pub use actor::spawn;

/// What the hub reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Who listens is not known: call `wamp.subscription.match` with this topic and answer with [`LogCommand::Matched`].
    Lookup {
        /// The container.
        container: String,
        /// Its log topic.
        topic: String,
    },
    /// Somebody subscribed to a container that is not followed. The name comes from the wire and may be nobody's.
    Wanted {
        /// The container.
        container: String,
    },
    /// The answer to [`LogCommand::History`].
    History {
        /// Of the question.
        token: u64,
        /// The container.
        container: String,
        /// Oldest first; empty if nothing is known.
        lines: Vec<String>,
        /// There is no line of the container among them (also if there is none at all): the Engine's last 50 help.
        only_agent: bool,
    },
    /// The history changed: at most every 30 s, and at the end. Ignore it if the app is gone.
    Save {
        /// The container.
        container: String,
        /// Oldest first.
        lines: Vec<String>,
    },
    /// A stream ended and is not opened again before the next [`LogCommand::Follow`].
    FollowEnded {
        /// The container.
        container: String,
        /// For the log.
        reason: String,
    },
}

/// One WAMP PUBLISH: one positional argument, no options.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// `reswarm.logs.<serial>.<container>`.
    pub topic: String,
    /// `args[0]`: a string (lines joined with `\n`), `{"type": "build", "chunk": <text>}`, or a progress message.
    pub payload: Value,
    /// Container output may be dropped on a slow link. Agent lines (at most 64 KiB each, and few) may not; but they keep
    /// their place between the lines of their topic, so both kinds travel in one queue.
    pub droppable: bool,
}

/// What the sink says about its queue, after it took (or dropped) a publication or when it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outflow {
    /// Bytes that may be handed over now. With 0, earlier ones wait: the hub keeps its backlogs.
    pub room: usize,
}

impl Outflow {
    /// Nothing is in the way.
    pub const FREE: Outflow = Outflow { room: usize::MAX };
}

/// What the state thread holds. Dropping it stops the hub.
#[derive(Debug)]
pub struct Handle {
    inbox: Sender<Message>,
    feed: Feed,
}

impl Handle {
    /// Hands a command over; never blocks. Commands of one sender are obeyed in order.
    pub fn send(&self, command: LogCommand) {
        // A hub that has ended is known by its exit hook; what was meant for it is void.
        drop(self.inbox.send(Message::Command(command)));
    }

    /// Asks the thread whether it works. Never blocks.
    pub fn probe(&self, probe: Probe) {
        drop(self.inbox.send(Message::Probe(probe)));
    }

    /// A way in for jobs.
    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Ends all streams, flushes, hands over the last [`Event::Save`]s and ends the thread: within 2 s, without waiting
    /// for it. The exit hook tells when.
    pub fn stop(self) {}
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.inbox.send(Message::Stop));
    }
}

/// The way in for the threads that run operations: in order with [`Handle::send`], but a flood is held back.
#[derive(Debug, Clone)]
pub struct Feed {
    inbox: Sender<Message>,
    credits: Sender<()>,
}

impl Feed {
    /// Output of an operation: an Engine progress record as text, or a line of the compose CLI. Kept, and published while
    /// somebody listens, as it is; line feeds in it start further lines. Waits for the hub (never for the network) when too
    /// much is under way.
    pub fn line(&self, container: &str, line: String) {
        self.metered(container, Fed::Line(line));
    }

    /// [`LogCommand::Say`], likewise.
    pub fn say(&self, container: &str, text: String) {
        self.metered(container, Fed::Say(text));
    }

    /// [`Feed::line`] for whoever must not wait, not even for the hub: `false`, and `line` is not asked for, when too much
    /// is under way.
    pub fn offer(&self, container: &str, line: impl FnOnce() -> String) -> bool {
        let taken = self.credits.try_send(());
        if taken.is_ok() {
            drop(self.inbox.send(Message::Fed(container.to_owned(), Fed::Line(line()))));
        }
        // A hub that has ended takes everything.
        !matches!(taken, Err(TrySendError::Full(())))
    }

    fn metered(&self, container: &str, fed: Fed) {
        if self.credits.send(()).is_ok() {
            drop(self.inbox.send(Message::Fed(container.to_owned(), fed)));
        }
    }
}

#[cfg(test)]
mod tests;
