//! The hub: rings, backlogs, listeners and follow states of all containers, put together: pure.
//!
//! Commands, lines and ends of streams go in, [`Output`]s come out, in order. `actor` performs them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::batch::{self, Batch, Budget};
use super::follow::{End, Follow, From, Order};
use super::follower::Stream;
use super::gate::{Gate, Listeners};
use super::ring::{self, Kind, Ring};
use super::source::Start;
use super::{Command, Event, Outflow, Publication, stamp};
use crate::clock::Now;

/// A changed history is saved this much later.
const SAVE: Duration = Duration::from_secs(30);
/// After this the question who listens is asked again, if it failed or there are no meta events.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// The longest agent line on the wire: what is never dropped has to be small.
const AGENT_LINE: usize = 64 * 1024;
/// What of a backlog goes before an agent line, even if there is no room.
const BEFORE_AGENT_LINE: usize = 2 * 1024;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Hand it to the sink.
    Publish(Publication),
    /// Tell the state thread.
    Emit(Event),
    /// Start a follower.
    Attach(Stream, From),
    /// Stop this follower.
    Detach(String),
}

#[derive(Debug, Default)]
struct Container {
    ring: Ring,
    dirty: bool,
    batch: Batch,
    follow: Follow,
    /// The stream that is open or closing.
    stream: u32,
    /// The stream shows old lines, which take the place of restored ones.
    replays: bool,
    /// Goes as soon as its stream has ended.
    forgotten: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    gate: Gate,
    /// The router sends no meta events.
    blind: bool,
    containers: BTreeMap<String, Container>,
    budget: Budget,
    streams: u32,
    /// Bytes that the sink takes now.
    room: usize,
    flush_at: Option<Duration>,
    save_at: Option<Duration>,
    ask_at: Option<Duration>,
    outputs: Vec<Output>,
}

impl Hub {
    /// For the device `serial`.
    pub fn new(serial: &str, now: Now) -> Hub {
        Hub {
            gate: Gate::new(serial),
            blind: false,
            containers: BTreeMap::new(),
            budget: Budget::new(now.mono),
            streams: 0,
            room: usize::MAX,
            flush_at: None,
            save_at: None,
            ask_at: None,
            outputs: Vec::new(),
        }
    }

    /// What is to be done since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// What the sink takes now.
    pub fn outflow(&mut self, outflow: Outflow) {
        self.room = outflow.room;
    }

    /// Obeys.
    pub fn command(&mut self, now: Now, command: Command) {
        match command {
            Command::Follow { container } => {
                let order = self.known(&container).follow.follow(now);
                self.order(&container, order);
            }
            Command::Unfollow { container } => {
                let order = self.containers.get_mut(&container).and_then(|known| known.follow.unfollow());
                self.order(&container, order);
            }
            Command::Forget { container } => self.forget(&container),
            Command::Line { container, line } => {
                for line in line.split('\n') {
                    self.line(now, &container, line.strip_suffix('\r').unwrap_or(line));
                }
            }
            Command::Say { container, text } => {
                self.known(&container).ring.push(Kind::Agent, &text);
                self.dirty(now, &container);
                self.say(now, &container, &text);
            }
            Command::Progress { container, id, status, progress } => {
                let payload = json!({"id": id, "status": status, "progress": progress});
                self.tell(now, &container, payload);
            }
            Command::ClearRemote { container } => self.say(now, &container, "LOGGER_CLEAR"),
            Command::ClearHistory { container } => {
                self.known(&container).ring.clear();
                self.dirty(now, &container);
            }
            Command::Restore { container, lines } => self.known(&container).ring.restore(&lines),
            Command::Session { up } => self.session(up),
            Command::MetaRefused => {
                self.blind = true;
                self.ask_at = Some(now.mono + ASK_AGAIN);
            }
            Command::SubscriptionCreated { args } => self.subscribed(now, &args),
            Command::SubscriptionDeleted { args } => {
                self.gate.deleted(&args);
                self.discard_unheard();
            }
            Command::Matched { container, answer } => {
                if answer.is_err() {
                    self.ask_at.get_or_insert(now.mono + ASK_AGAIN);
                }
                self.gate.answer(&container, answer.as_deref().map_err(String::as_str));
                self.discard_unheard();
                if self.containers.get(&container).is_some_and(|known| !known.batch.is_empty()) {
                    self.flush_at.get_or_insert(now.mono + batch::INTERVAL);
                }
            }
            Command::History { container, token } => {
                let known = self.containers.get(&container).filter(|known| !known.forgotten);
                let lines = known.map(|known| known.ring.lines()).unwrap_or_default();
                let only_agent = known.is_none_or(|known| known.ring.only_agent());
                self.emit(Event::History { token, container, lines, only_agent });
            }
        }
    }

    /// Lines of a stream.
    pub fn lines(&mut self, now: Now, stream: &Stream, lines: Vec<String>) {
        for line in lines {
            let (stamp, text) = stamp::take(line);
            let Some(known) = self
                .containers
                .get_mut(&stream.container)
                .filter(|known| known.stream == stream.number && known.follow.has_stream() && !known.forgotten)
            else {
                return;
            };
            if known.follow.line(stamp) {
                if std::mem::take(&mut known.replays) {
                    known.ring.drop_restored();
                }
                self.line(now, &stream.container, &text);
            }
        }
    }

    /// A stream has ended.
    pub fn ended(&mut self, now: Now, stream: &Stream, end: End) {
        let Some(known) = self.containers.get_mut(&stream.container).filter(|known| known.stream == stream.number)
        else {
            return;
        };
        let order = known.follow.ended(now, end);
        if known.forgotten && order.is_none() {
            self.containers.remove(&stream.container);
        } else {
            self.order(&stream.container, order);
        }
    }

    /// When [`Hub::due`] wants to be called; `None` while there is nothing to do.
    pub fn deadline(&self) -> Option<Duration> {
        let follows = self.containers.values().filter_map(|known| known.follow.deadline());
        follows.chain(self.flush_at).chain(self.save_at).chain(self.ask_at).min()
    }

    /// Does what is due.
    pub fn due(&mut self, now: Now) {
        let is_due = |at: &mut Option<Duration>| at.take_if(|at| *at <= now.mono).is_some();
        if is_due(&mut self.flush_at) {
            self.flush_all(now);
        }
        if is_due(&mut self.save_at) {
            self.save_all();
        }
        if is_due(&mut self.ask_at) {
            self.ask_all();
            self.ask_at = self.blind.then_some(now.mono + ASK_AGAIN);
        }
        let orders: Vec<_> = self
            .containers
            .iter_mut()
            .filter_map(|(container, known)| Some((container.clone(), known.follow.due(now)?)))
            .collect();
        for (container, order) in orders {
            self.order(&container, Some(order));
        }
    }

    /// The last words: everything is flushed, saved and detached.
    pub fn stop(&mut self, now: Now) {
        self.room = usize::MAX;
        self.flush_all(now);
        self.save_all();
        let all: Vec<String> = self.containers.keys().cloned().collect();
        for container in all {
            self.command(now, Command::Unfollow { container });
        }
    }

    fn session(&mut self, up: bool) {
        self.gate.session(up);
        self.blind = false;
        self.ask_at = None;
        self.discard_unheard();
        if up {
            self.ask_all();
        }
    }

    fn subscribed(&mut self, now: Now, args: &[Value]) {
        for container in self.gate.created(args) {
            if self.containers.get(&container).is_none_or(|known| known.follow.is_idle()) {
                self.emit(Event::Wanted { container: container.clone() });
            }
            // Lines that were held while nobody knew.
            if self.containers.get(&container).is_some_and(|known| !known.batch.is_empty()) {
                self.flush_at.get_or_insert(now.mono + batch::INTERVAL);
            }
        }
    }

    /// The container's record, made if missing.
    fn known(&mut self, container: &str) -> &mut Container {
        if self.gate.add(container) {
            self.ask(container);
        }
        let known = self.containers.entry(container.to_owned()).or_default();
        known.forgotten = false;
        known
    }

    fn forget(&mut self, container: &str) {
        self.gate.remove(container);
        let Some(known) = self.containers.get_mut(container) else { return };
        let order = known.follow.unfollow();
        if known.follow.has_stream() {
            *known = Container {
                follow: std::mem::take(&mut known.follow),
                stream: known.stream,
                forgotten: true,
                ..Container::default()
            };
        } else {
            self.containers.remove(container);
        }
        self.order(container, order);
    }

    fn order(&mut self, container: &str, order: Option<Order>) {
        let Some(known) = self.containers.get_mut(container) else { return };
        match order {
            None => {}
            Some(Order::Attach(from)) => {
                self.streams = self.streams.wrapping_add(1);
                known.stream = self.streams;
                known.replays = matches!(from.start, Start::Tail(_));
                let stream = Stream { container: container.to_owned(), number: known.stream };
                self.outputs.push(Output::Attach(stream, from));
            }
            Some(Order::Detach) => self.outputs.push(Output::Detach(container.to_owned())),
            Some(Order::GiveUp(reason)) => {
                self.emit(Event::FollowEnded { container: container.to_owned(), reason });
            }
        }
    }

    /// One line of the container.
    fn line(&mut self, now: Now, container: &str, text: &str) {
        // On a slow link less is kept, since most of it cannot go out anyway.
        let cap = if self.room < batch::FLUSH { batch::BACKLOG / 2 } else { batch::BACKLOG };
        let known = self.known(container);
        known.ring.push(Kind::Container, text);
        self.dirty(now, container);
        let listeners = self.gate.listeners(container);
        if listeners == Listeners::None {
            return;
        }
        self.known(container).batch.push(text, cap);
        if listeners == Listeners::Some {
            self.flush_at.get_or_insert(now.mono + batch::INTERVAL);
        }
    }

    /// Publishes an agent line.
    fn say(&mut self, now: Now, container: &str, text: &str) {
        self.tell(now, container, json!({"type": "build", "chunk": ring::cut(text, AGENT_LINE)}));
    }

    /// Publishes a message of the agent behind the backlog.
    fn tell(&mut self, now: Now, container: &str, payload: Value) {
        if self.gate.listeners(container) == Listeners::Some {
            let limit = self.room.clamp(BEFORE_AGENT_LINE, batch::FLUSH).min(self.budget.available(now.mono));
            self.flush(container, limit);
        }
        self.publish(container, payload, false);
    }

    /// Flushes every backlog, or none while there is no room. What the budget has and the sink takes is shared out evenly:
    /// who needs less leaves the rest to the others.
    fn flush_all(&mut self, now: Now) {
        let mut full: Vec<(usize, String)> = self
            .containers
            .iter()
            .filter(|(container, known)| !known.batch.is_empty() && self.gate.listeners(container) == Listeners::Some)
            .map(|(container, known)| (known.batch.len(), container.clone()))
            .collect();
        if self.room == 0 && !full.is_empty() {
            self.flush_at = Some(now.mono + batch::INTERVAL);
            return;
        }
        full.sort();
        for (done, (_, container)) in full.iter().enumerate() {
            let share = self.budget.available(now.mono).min(self.room) / (full.len() - done);
            self.flush(container, share.min(batch::FLUSH));
        }
    }

    fn flush(&mut self, container: &str, limit: usize) {
        if let Some(text) = self.containers.get_mut(container).and_then(|known| known.batch.flush(limit)) {
            self.budget.take(text.len() + 1);
            self.room = self.room.saturating_sub(text.len() + 1);
            for piece in batch::pieces(&text) {
                self.publish(container, piece.into(), true);
            }
        }
    }

    /// Empties the backlogs that nobody waits for.
    fn discard_unheard(&mut self) {
        for (container, known) in &mut self.containers {
            if self.gate.listeners(container) == Listeners::None {
                known.batch.discard();
            }
        }
    }

    fn ask(&mut self, container: &str) {
        if self.gate.ask(container) {
            let topic = self.gate.topic(container);
            self.emit(Event::Lookup { container: container.to_owned(), topic });
        }
    }

    fn ask_all(&mut self) {
        let all: Vec<String> = self.gate.containers().map(str::to_owned).collect();
        for container in all {
            self.ask(&container);
        }
    }

    fn dirty(&mut self, now: Now, container: &str) {
        if let Some(known) = self.containers.get_mut(container) {
            known.dirty = true;
            self.save_at.get_or_insert(now.mono + SAVE);
        }
    }

    /// All at once, so that it is one transaction.
    fn save_all(&mut self) {
        for (container, known) in &mut self.containers {
            if std::mem::take(&mut known.dirty) {
                let lines = known.ring.lines();
                self.outputs.push(Output::Emit(Event::Save { container: container.clone(), lines }));
            }
        }
    }

    fn publish(&mut self, container: &str, payload: Value, droppable: bool) {
        let topic = self.gate.topic(container);
        self.outputs.push(Output::Publish(Publication { topic, payload, droppable }));
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push(Output::Emit(event));
    }
}

#[cfg(test)]
mod tests;
