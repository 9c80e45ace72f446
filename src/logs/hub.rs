//! The hub: rings, backlogs, listeners and follow states of all containers, put together: pure.
//!
//! Commands, lines and ends of streams go in, [`Output`]s come out, in order. `actor` performs them.

use crate::sorted::sort_by;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::batch::{self, Batch, Budget};
use super::follow::End;
use super::gate::{Gate, Listeners};
use super::ring::{self, Kind, Ring};
use super::source::Start;
use super::streams::{Act, Ended, Stream, Streams, Task};
use super::{Event, Outflow, Publication};
use crate::clock::Now;
use crate::domain::message::LogCommand;

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
    /// Start this follower.
    Attach(Stream, Task),
    /// Stop this follower.
    Detach(Stream),
}

/// What an operation brings.
#[derive(Debug, Clone, PartialEq)]
pub enum Fed {
    /// Of its output.
    Line(String),
    /// In the name of the agent.
    Say(String),
}

#[derive(Debug)]
struct Container {
    ring: Ring,
    dirty: bool,
    batch: Batch,
    streams: Streams,
    /// A stream shows old lines, which take the place of restored ones.
    replays: bool,
    /// Goes as soon as its streams have ended.
    forgotten: bool,
}

impl Container {
    fn new(streams: Streams) -> Container {
        let (ring, batch) = (Ring::default(), Batch::default());
        Container { ring, dirty: false, batch, streams, replays: false, forgotten: false }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Hub {
    gate: Gate,
    /// The router sends no meta events.
    blind: bool,
    containers: BTreeMap<String, Container>,
    budget: Budget,
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
    pub fn command(&mut self, now: Now, command: LogCommand) {
        match command {
            LogCommand::Follow { container, project } => {
                let acts = self.known(&container).streams.follow(now, project);
                self.act(&container, acts);
            }
            LogCommand::Unfollow { container } => {
                let known = self.containers.get_mut(&container);
                let acts = known.map(|known| known.streams.unfollow(now)).unwrap_or_default();
                self.act(&container, acts);
            }
            LogCommand::Forget { container } => self.forget(now, &container),
            LogCommand::Say { container, text } => self.fed(now, &container, Fed::Say(text)),
            LogCommand::Progress { container, id, status, progress } => {
                let payload = json!({"id": id, "status": status, "progress": progress});
                self.tell(now, &container, payload);
            }
            LogCommand::ClearRemote { container } => self.say(now, &container, "LOGGER_CLEAR"),
            LogCommand::ClearHistory { container } => {
                self.known(&container).ring.clear();
                self.dirty(now, &container);
            }
            LogCommand::Restore { container, lines } => self.known(&container).ring.restore(&lines),
            LogCommand::Session { up } => self.session(up),
            LogCommand::MetaRefused => {
                self.blind = true;
                self.ask_at = Some(now.mono + ASK_AGAIN);
            }
            LogCommand::SubscriptionCreated { args } => self.subscribed(now, &args),
            LogCommand::SubscriptionDeleted { args } => {
                self.gate.deleted(&args);
                self.discard_unheard();
            }
            LogCommand::Matched { container, answer } => {
                if answer.is_err() {
                    self.ask_at.get_or_insert(now.mono + ASK_AGAIN);
                }
                self.gate.answer(&container, answer.as_deref().map_err(String::as_str));
                self.discard_unheard();
                if self.containers.get(&container).is_some_and(|known| !known.batch.is_empty()) {
                    self.flush_at.get_or_insert(now.mono + batch::INTERVAL);
                }
            }
            LogCommand::History { container, token } => {
                let known = self.containers.get(&container).filter(|known| !known.forgotten);
                let lines = known.map(|known| known.ring.lines()).unwrap_or_default();
                let only_agent = known.is_none_or(|known| known.ring.only_agent());
                self.emit(Event::History { token, container, lines, only_agent });
            }
        }
    }

    /// Obeys an operation, or the agent itself.
    pub fn fed(&mut self, now: Now, container: &str, fed: Fed) {
        match fed {
            Fed::Line(line) => {
                for line in line.split('\n') {
                    self.line(now, container, line.strip_suffix('\r').unwrap_or(line));
                }
            }
            Fed::Say(text) => {
                self.known(container).ring.push(Kind::Agent, &text);
                self.dirty(now, container);
                self.say(now, container, &text);
            }
        }
    }

    /// Lines of a stream.
    pub fn lines(&mut self, now: Now, stream: &Stream, lines: Vec<String>) {
        for line in lines {
            let Some(known) = self.containers.get_mut(&stream.app).filter(|known| !known.forgotten) else { return };
            if let Some(text) = known.streams.hear(stream, line) {
                if std::mem::take(&mut known.replays) {
                    known.ring.drop_restored();
                }
                self.line(now, &stream.app, &text);
            }
        }
    }

    /// A stream has ended.
    pub fn ended(&mut self, now: Now, stream: &Stream, end: End) {
        let Some(known) = self.containers.get_mut(&stream.app) else { return };
        let Ended { acts, lines, replay } = known.streams.ended(now, stream, end);
        if known.forgotten {
            if !known.streams.has_stream() {
                self.containers.remove(&stream.app);
            }
            return;
        }
        if replay {
            known.ring.drop_restored();
        }
        lines.iter().for_each(|line| self.line(now, &stream.app, line));
        self.act(&stream.app, acts);
    }

    /// When [`Hub::due`] wants to be called; `None` while there is nothing to do.
    pub fn deadline(&self) -> Option<Duration> {
        let follows = self.containers.values().filter_map(|known| known.streams.deadline());
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
        let acts: Vec<_> =
            self.containers.iter_mut().map(|(container, known)| (container.clone(), known.streams.due(now))).collect();
        for (container, acts) in acts {
            self.act(&container, acts);
        }
    }

    /// The last words: everything is flushed, saved and detached.
    pub fn stop(&mut self, now: Now) {
        self.room = usize::MAX;
        self.flush_all(now);
        self.save_all();
        let all: Vec<String> = self.containers.keys().cloned().collect();
        for container in all {
            self.command(now, LogCommand::Unfollow { container });
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
            if self.containers.get(&container).is_none_or(|known| known.streams.is_idle()) {
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
        let new = || Container::new(Streams::new(container));
        let known = self.containers.entry(container.to_owned()).or_insert_with(new);
        known.forgotten = false;
        known
    }

    fn forget(&mut self, now: Now, container: &str) {
        self.gate.remove(container);
        let Some(mut known) = self.containers.remove(container) else { return };
        let acts = known.streams.unfollow(now);
        if known.streams.has_stream() {
            let rest = Container { forgotten: true, ..Container::new(known.streams) };
            self.containers.insert(container.to_owned(), rest);
        }
        self.act(container, acts);
    }

    fn act(&mut self, container: &str, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Attach(stream, task) => {
                    if let (Task::Follow { from, .. }, Some(known)) = (&task, self.containers.get_mut(container)) {
                        known.replays |= matches!(from.start, Start::Tail(_));
                    }
                    self.outputs.push(Output::Attach(stream, task));
                }
                Act::Detach(stream) => self.outputs.push(Output::Detach(stream)),
                Act::GiveUp(reason) => self.emit(Event::FollowEnded { container: container.to_owned(), reason }),
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
        sort_by(&mut full, Ord::cmp);
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
        // Agent lines go out without asking whether anybody listens.
        if !self.gate.has_topic(container) {
            return;
        }
        let topic = self.gate.topic(container);
        self.outputs.push(Output::Publish(Publication { topic, payload, droppable }));
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push(Output::Emit(event));
    }
}

#[cfg(test)]
mod tests;
