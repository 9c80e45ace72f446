//! The thread `state`: it waits for messages, steps the core, commits, then has the effects performed.
//!
//! **Invariant:** it blocks on its inbox and on the database's disk alone. **Invariant:** commit, then act: what one turn
//! wants stored is one transaction, done before any other effect of the turn. A turn takes what is in the inbox already, so
//! a burst costs one commit. A commit that fails is kept and tried again; it stops no effect.

use super::edges::{self, Context, Edges};
use super::inbox::{self, Edge, Message};
use super::perform::{Own, perform};
use super::rows;
use super::store::{Store, Write};
use super::supervise::{Panics, Verdict};
use crate::clock;
use crate::docker;
use crate::domain::message::{Effect, Event, LogCommand, Record};
use crate::domain::power::Power;
use crate::domain::{Recorded, State};
use crate::flock::{File, Flock, Metadata};
use crate::service::Status;
use crate::startup::Milestones;
use crate::thread::Exit;
use crate::wamp::{self, Refusal};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// Messages that wait; edges block when it is full, the state thread never does. They are boxed: the queue takes the memory of
/// all its places at once.
pub const INBOX: usize = 1024;
/// Messages of one turn.
const TURN: usize = 256;
/// When a failed commit is tried again.
const COMMIT_RETRY: Duration = Duration::from_secs(30);
/// Writes kept while the disk refuses them.
const UNWRITTEN: usize = 4096;

/// What the state thread owns.
pub struct MainLoop {
    core: State,
    store: Store,
    edges: Edges,
    inbox: Receiver<Box<Message>>,
    flock: Flock,
    file: File,
    context: Context,
    milestones: Milestones,
    status: Option<Status>,
    panics: Panics,
    unwritten: Vec<Write>,
    retry_commit_at: Option<Duration>,
    ending: Option<Ended>,
    /// The history is trimmed with the next write: whoever has nothing to write leaves the disk alone.
    trim_due: bool,
}

/// How the agent ends.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit code.
    pub code: u8,
    /// A last line for stdout.
    pub line: Option<String>,
    /// What is done with the machine once everything is closed.
    pub then: Option<Power>,
}

impl Ended {
    /// After a fault of the agent's own.
    pub fn failed() -> Ended {
        Ended { code: 1, line: None, then: None }
    }
}

impl MainLoop {
    /// Loads what is recorded and starts the edges.
    pub fn start(
        context: Context,
        mut store: Store,
        flock: Flock,
        file: File,
        milestones: Milestones,
        channel: (Sender<Box<Message>>, Receiver<Box<Message>>),
    ) -> MainLoop {
        let (recorded, odd) = match store.load() {
            Ok(loaded) => rows::recorded(loaded),
            Err(error) => (Recorded::default(), vec![error.to_string()]),
        };
        odd.iter().for_each(|row| log::error!("not loaded: {row}"));
        let histories: Vec<_> = recorded
            .apps
            .iter()
            .filter_map(|app| Some((crate::domain::names::container(app.id, &app.name), history(&mut store, app.id)?)))
            .collect();
        let core = State::new(edges::device(&context, &flock), recorded, seed(), context.options.offline, clock::now());
        let (sender, inbox) = channel;
        let edges = Edges::start(context.clone(), sender, &flock);
        for (container, lines) in histories {
            perform(&edges, Effect::Logs(LogCommand::Restore { container, lines }));
        }
        let status = Status::of(&context.service, &flock.device_endpoint_url, context.options.offline);
        MainLoop {
            core,
            store,
            edges,
            inbox,
            flock,
            file,
            context,
            milestones,
            status,
            panics: Panics::default(),
            unwritten: Vec::new(),
            retry_commit_at: None,
            ending: None,
            trim_due: false,
        }
    }

    /// Runs until the agent is to end; returns how. [`MainLoop::shut_down`] follows.
    pub fn run(&mut self) -> Ended {
        let mut turn = vec![Event::Started];
        loop {
            self.turn(std::mem::take(&mut turn));
            if let Some(ended) = self.ending.take() {
                return ended;
            }
            let wait = self.wait();
            let first = match self.inbox.recv_timeout(wait) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                // The edges hold senders; without any there is nobody left to hear.
                Err(RecvTimeoutError::Disconnected) => return Ended::failed(),
            };
            let more: Vec<Box<Message>> = self.inbox.try_iter().take(TURN).collect();
            for message in first.into_iter().chain(more) {
                turn.extend(self.event_of(*message));
            }
            if turn.is_empty() {
                turn.push(Event::Tick);
            }
        }
    }

    fn wait(&self) -> Duration {
        let deadlines = [self.core.deadline(), self.edges.deadline(), self.retry_commit_at];
        let now = clock::mono();
        // Nothing due: any message wakes the thread. A day, since a channel cannot wait for ever and be timed.
        deadlines.into_iter().flatten().min().map_or(Duration::from_secs(86_400), |at| at.saturating_sub(now))
    }

    /// One turn: all events, one commit, then the effects.
    fn turn(&mut self, events: Vec<Event>) {
        let mut effects = Vec::new();
        for event in events {
            effects.extend(self.core.step(clock::now(), event));
        }
        let now = clock::now();
        let mut writes = Vec::new();
        for effect in &effects {
            match effect {
                Effect::Persist(Record::Trim) => self.trim_due = true,
                Effect::Persist(record) => writes.extend(rows::write(record.clone(), now.wall)),
                _ => {}
            }
        }
        let writes_anyway = !writes.is_empty();
        self.commit(writes, now.mono);
        for effect in effects {
            if let Some(own) = perform(&self.edges, effect) {
                self.perform_own(own);
            }
        }
        if writes_anyway && std::mem::take(&mut self.trim_due) {
            self.trim();
        }
        for edge in self.edges.restart_due(now.mono, &self.flock) {
            self.restarted(edge);
        }
        if let Some(status) = &mut self.status {
            status.tell();
        }
    }

    fn commit(&mut self, writes: Vec<Write>, now: Duration) {
        let due = self.retry_commit_at.is_some_and(|at| at <= now);
        if writes.is_empty() && !due {
            return;
        }
        self.unwritten.extend(writes);
        match self.store.commit(&self.unwritten) {
            Ok(committed) => {
                if self.retry_commit_at.take().is_some() {
                    log::warn!("the database takes writes again, {} changes are on disk", self.unwritten.len());
                }
                self.unwritten.clear();
                for refused in committed.refused {
                    log::error!("not stored: {}", refused.reason);
                }
            }
            Err(error) => {
                if self.retry_commit_at.is_none() {
                    log::error!("{error}; what changes is kept in memory and written later");
                }
                let excess = self.unwritten.len().saturating_sub(UNWRITTEN);
                self.unwritten.drain(..excess);
                self.retry_commit_at = Some(now + COMMIT_RETRY);
            }
        }
    }

    fn trim(&mut self) {
        while let Ok(1..) = self.store.trim_history() {}
    }

    fn perform_own(&mut self, own: Own) {
        match own {
            Own::Metadata(metadata) => {
                self.flock.update_metadata(Metadata {
                    device_name: metadata.name,
                    swarm_name: metadata.swarm_name,
                    owner_name: metadata.owner,
                    swarm_key: metadata.swarm_key,
                });
                if let Err(error) = self.file.save(&self.flock) {
                    log::warn!("the device file is not updated: {error}");
                }
                self.edges.reconfigure(&self.flock);
            }
            Own::KeepFlock => {
                self.milestones.say("connected");
                if let Err(error) = self.file.keep_copy(&self.context.options.agent_dir, &self.flock) {
                    log::warn!("no copy of the device file is kept: {error}");
                }
            }
            Own::Exit(ended) => self.ending = Some(ended),
        }
    }

    /// What a message means to the core, if anything.
    fn event_of(&mut self, message: Message) -> Option<Event> {
        match (&mut self.status, &message) {
            (Some(status), Message::Wamp(event)) => status.on_wamp(event),
            (Some(status), Message::Docker(event)) => status.on_docker(event),
            _ => {}
        }
        match message {
            Message::Wamp(wamp::Event::GaveUp(refusal)) => {
                Some(Event::Refused { line: refused(refusal, &self.flock.serial_number) })
            }
            Message::Wamp(event) => inbox::of_wamp(event),
            Message::Docker(event) => {
                if let (Milestones::Plain, docker::events::Event::Down { reason }) = (self.milestones, &event) {
                    self.milestones.say(&format!("Docker is not reachable: {reason}; apps wait for it"));
                }
                Some(inbox::of_docker(event))
            }
            Message::Jobs(event) => Some(inbox::of_jobs(event)),
            Message::Logs(event) => inbox::of_logs(event),
            Message::Signal(number) => {
                log::info!("signal {number}: shutting down");
                Some(Event::Shutdown)
            }
            Message::Probe(probe) => {
                self.edges.probe(&probe);
                None
            }
            Message::Ended(edge, Exit::Panicked(text)) => self.panicked(edge, &text),
            Message::Ended(edge, Exit::Done) => {
                log::debug!("{edge:?} has ended");
                None
            }
        }
    }

    fn panicked(&mut self, edge: Edge, text: &str) -> Option<Event> {
        log::error!("{edge:?} panicked: {text}");
        match self.panics.count(clock::mono()) {
            Verdict::RestartAt(at) => self.edges.restart_at(edge, at),
            Verdict::GiveUp => self.ending = Some(Ended::failed()),
        }
        match (edge, self.core.current_generation()) {
            (Edge::Wamp, Some(generation)) => {
                Some(Event::Left { generation, reason: "the session thread panicked".to_owned() })
            }
            (Edge::Docker, _) => Some(Event::EngineDown { reason: "the event thread panicked".to_owned() }),
            _ => None,
        }
    }

    /// A new log hub knows nothing: it is told what the old one knew.
    fn restarted(&mut self, edge: Edge) {
        log::warn!("{edge:?} was started again");
        if edge == Edge::Logs {
            for command in self.core.log_commands_for_a_new_hub() {
                perform(&self.edges, Effect::Logs(command));
            }
        }
    }

    /// Ends the threads in the order in which they need each other; each step is bounded.
    pub fn shut_down(mut self) {
        // Nobody takes questions any more.
        self.edges.watchdog = None;
        if let Some(jobs) = self.edges.jobs.take() {
            let stragglers = jobs.stop();
            if !stragglers.is_empty() {
                log::warn!("still busy: {}", stragglers.join(", "));
            }
        }
        if let Some(logs) = self.edges.logs.take() {
            logs.stop();
            self.drain_logs();
        }
        if self.edges.wamp.take().is_some_and(|wamp| !wamp.stop()) {
            log::warn!("the session did not end in time");
        }
        if self.edges.events.take().is_some_and(|events| !events.stop()) {
            log::warn!("the engine's events did not end in time");
        }
        let mut store = self.store;
        if !self.unwritten.is_empty() && store.commit(&self.unwritten).is_err() {
            log::error!("{} changes could not be written", self.unwritten.len());
        }
        store.close();
        log::info!("stopped; the apps keep running");
    }

    /// Takes what the log hub still wants stored, until it has ended.
    fn drain_logs(&mut self) {
        let until = clock::mono() + Duration::from_secs(2);
        while let Ok(message) = self.inbox.recv_timeout(until.saturating_sub(clock::mono())) {
            match *message {
                Message::Logs(event) => {
                    if let Some(event) = inbox::of_logs(event) {
                        let effects = self.core.step(clock::now(), event);
                        let now = clock::now();
                        let writes = effects.into_iter().filter_map(|effect| match effect {
                            Effect::Persist(record) => rows::write(record, now.wall),
                            _ => None,
                        });
                        self.commit(writes.collect(), now.mono);
                    }
                }
                Message::Ended(Edge::Logs, _) => return,
                _ => {}
            }
        }
    }
}

fn refused(refusal: Refusal, serial: &str) -> String {
    match refusal {
        Refusal::Secret => "The IronFlock device connect authentication failed".to_owned(),
        Refusal::Presence => format!("a WAMP connection for {serial} already exists"),
    }
}

fn history(store: &mut Store, id: crate::domain::app::AppKey) -> Option<Vec<String>> {
    store.log_history(id.key, id.stage.text()).ok().flatten().filter(|lines| !lines.is_empty())
}

/// A number that differs from start to start: it makes the jitter of a fleet differ.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}
