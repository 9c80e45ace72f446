//! App logs: what a container writes and what the agent says about it, kept as a short history and published live.
//!
//! One thread, `logs`, owns every ring, backlog and subscription set (the pure `hub::Hub`, performed by `actor`); one
//! thread `log-<name>` per followed container blocks on the Engine and hands over lines. Neither waits for the network:
//! publications go to an injected sink that only queues. Source: `storage-and-logs.md` 3, `wamp-and-rpc.md` 6.2, 6.5.
//!
//! **Invariant:** the hub never blocks: not on the sink, not on the state thread's inbox, not on a follower.
//! **Invariant:** a container has at most one stream; a new one opens only after the old one has ended.

mod actor;
mod batch;
mod follow;
mod follower;
mod gate;
mod hub;
mod ring;
pub mod source;
mod stamp;

use crate::probe::Probe;
use crossbeam_channel::Sender;
use serde_json::Value;

use actor::Message;

pub use actor::spawn;

/// What the hub is told. Containers are named by their plain, lower-case name (`prod_6_myapp`), compose apps too.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// The container runs: follow it. An active stream is kept; one that waits for its next try is opened now.
    Follow {
        /// The container.
        container: String,
    },
    /// The container is gone: end the stream, keep the ring.
    Unfollow {
        /// The container.
        container: String,
    },
    /// The app is removed: no stream, no ring, no unsaved history. To be sent after the last line about it.
    Forget {
        /// The container.
        container: String,
    },
    /// Output of an operation: an Engine progress record as text, or a line of the compose CLI. Kept, and published
    /// while somebody listens. From jobs, send it through [`Feed`], which holds a flood back.
    Line {
        /// The container.
        container: String,
        /// One line; line feeds in it start further lines.
        line: String,
    },
    /// A line of the agent: kept, and published always, after what is still in the container's backlog.
    Say {
        /// The container.
        container: String,
        /// The text.
        text: String,
    },
    /// Viewers shall clear their view (`LOGGER_CLEAR`); nothing is stored.
    ClearRemote {
        /// The container.
        container: String,
    },
    /// The history is emptied, in memory at once and in the database with the next save.
    ClearHistory {
        /// The container.
        container: String,
    },
    /// The history from the database, to be sent before anything else about the container. It is put before agent
    /// lines that came earlier, is ignored once there are container lines, and gives way to the Engine's own replay.
    Restore {
        /// The container.
        container: String,
        /// Oldest first.
        lines: Vec<String>,
    },
    /// The WAMP session was joined (with the meta topics subscribed), or lost: what was known about listeners is void.
    Session {
        /// Joined, or lost.
        up: bool,
    },
    /// The router refused the meta topics in this session: ask for the listeners every 30 s instead.
    MetaRefused,
    /// `wamp.subscription.on_create`.
    SubscriptionCreated {
        /// `[session_id, {"id", "created", "uri", "match"}]`; anything else is ignored.
        args: Vec<Value>,
    },
    /// `wamp.subscription.on_delete`.
    SubscriptionDeleted {
        /// `[session_id, subscription_id]`; anything else is ignored.
        args: Vec<Value>,
    },
    /// The answer to [`Event::Lookup`]. One that belongs to a lost session must not be sent.
    Matched {
        /// The container.
        container: String,
        /// The positional results of `wamp.subscription.match`, or why there are none.
        answer: Result<Vec<Value>, String>,
    },
    /// Asks for [`Event::History`].
    History {
        /// The container.
        container: String,
        /// Comes back in the answer.
        token: u64,
    },
}

/// What the hub reports.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Who listens is not known: call `wamp.subscription.match` with this topic and answer with [`Command::Matched`].
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
    /// The answer to [`Command::History`].
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
    /// The stream ended and is not opened again before the next [`Command::Follow`].
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
    /// `args[0]`: a string (lines joined with `\n`), or `{"type": "build", "chunk": <text>}`.
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
    pub fn send(&self, command: Command) {
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
    /// [`Command::Line`]. Waits for the hub (never for the network) when too much is under way.
    pub fn line(&self, container: &str, line: String) {
        self.metered(Command::Line { container: container.to_owned(), line });
    }

    /// [`Command::Say`], likewise.
    pub fn say(&self, container: &str, text: String) {
        self.metered(Command::Say { container: container.to_owned(), text });
    }

    fn metered(&self, command: Command) {
        if self.credits.send(()).is_ok() {
            drop(self.inbox.send(Message::Metered(command)));
        }
    }
}

#[cfg(test)]
mod tests;
