//! The world around the core, for its tests: backend, router, engine, database and clock as plain values (cfg(test) only).
//!
//! [`World::settle`] delivers events and ends jobs until nothing is left to do, [`World::pass`] lets time pass by jumping
//! from deadline to deadline. What the outside would see is written to a trace of short lines:
//!
//! ```text
//!   1 RUNNING        a state report of app 1       say Demo is running   a line in the app's log
//!   1 ports 80>40000 a port report                 clear / forget        its view is cleared, its log is dropped
//!   status CONNECTED, token 42, list ...           calls                 start, pull x:1 ...   jobs of the engine
//! ```

use super::app::{AppKey, AppState, Stage};
use super::config::Device;
use super::job::{Container, ContainerEvent, JobId, JobSpec, Outcome};
use super::message::{CallFailure, CallId, Effect, Event, Invocation, Level, LogCommand, Record};
use super::power::Power;
use super::{Recorded, State};
use crate::clock::{Now, Wall};
use crate::secret::Secret;
use backend::Backend;
use engine::Engine;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tables::Tables;

#[path = "testing/archives.rs"]
pub(super) mod archives;
#[path = "testing/backend.rs"]
pub(super) mod backend;
#[path = "testing/engine.rs"]
pub(super) mod engine;
#[path = "testing/tables.rs"]
pub(super) mod tables;

/// Where a kill -9 hits a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kill {
    /// Before its transaction: the turn has not happened.
    BeforeCommit,
    /// After its transaction, before anything else of it.
    AfterCommit,
}

/// What the caller of a procedure gets: positional and named results, or a text.
pub(super) type Answer = Result<(Vec<Value>, Map<String, Value>), String>;

/// For a failure's report; formatted only then.
#[derive(Debug)]
#[expect(dead_code, reason = "read by Debug alone")]
pub(super) enum Happened {
    /// An event was delivered.
    Event(Duration, Event),
    /// The agent was killed.
    Killed(Duration),
}

/// Everything.
pub(super) struct World {
    pub state: State,
    pub backend: Backend,
    pub engine: Engine,
    pub tables: Tables,
    pub now: Duration,
    /// Events that were not delivered yet.
    pub inbox: VecDeque<Event>,
    /// Jobs that were started and have not ended.
    pub jobs: BTreeMap<JobId, JobSpec>,
    /// Jobs that do not end until this lets them.
    pub holds: fn(&JobSpec) -> bool,
    /// Turns from now until a kill -9.
    pub kill: Option<(u32, Kill)>,
    /// The process has ended with this code.
    pub exit: Option<u8>,
    /// What is done with the machine after that.
    pub then: Option<Power>,
    /// What the outside saw.
    pub trace: Vec<String>,
    /// Notes of the agent's log.
    pub notes: Vec<(Level, String)>,
    /// Answers to invocations.
    pub answers: Vec<(u64, Answer)>,
    /// Every event, for a failure's report.
    pub history: VecDeque<Happened>,
    /// The session, if there is one.
    pub generation: Option<u64>,
    /// With a router that is far away: answers that are under way. They come with [`World::round_trip`] alone.
    pub under_way: Option<Vec<Event>>,
    /// What the router refuses to register.
    pub refuses: Vec<String>,
    /// Claims of reports that were not true when they were stored.
    pub untrue: Vec<String>,
    sessions: u64,
    turns: u64,
    seed: u64,
}

/// An app key of stage PROD.
pub(super) fn prod(key: u64) -> AppKey {
    AppKey { key, stage: Stage::Prod }
}

/// The device of the tests.
pub(super) fn device() -> Device {
    Device {
        name: "box".to_owned(),
        secret: Secret::new("device-secret"),
        swarm_key: 2,
        device_key: 3,
        serial: "s-1".to_owned(),
        endpoint: "ws://localhost:1/ws".to_owned(),
        registry: "registry/".to_owned(),
        repository: "apps/".to_owned(),
        arch: "amd64".to_owned(),
        version: "0.30.0".to_owned(),
        probation: secs(30),
        archive_extension: "tgz".to_owned(),
        ..Device::default()
    }
}

impl World {
    /// An agent that has never run, before its first event.
    pub fn empty() -> World {
        let now = Duration::from_secs(1);
        let mut world = World {
            state: State::new(device(), Recorded::default(), 7, false, at(now)),
            backend: Backend::default(),
            engine: Engine::default(),
            tables: Tables::default(),
            now,
            inbox: VecDeque::new(),
            jobs: BTreeMap::new(),
            holds: |_| false,
            kill: None,
            exit: None,
            then: None,
            trace: Vec::new(),
            notes: Vec::new(),
            answers: Vec::new(),
            history: VecDeque::new(),
            generation: None,
            under_way: None,
            refuses: Vec::new(),
            untrue: Vec::new(),
            sessions: 0,
            turns: 0,
            seed: 7,
        };
        world.inbox.push_back(Event::Started);
        world
    }

    /// An agent that is connected, with an engine, without apps; the second list has confirmed that.
    pub fn connected() -> World {
        let mut world = World::empty();
        world.engine_up();
        world.join();
        world.pass(secs(31));
        world.trace.clear();
        world
    }

    /// The same with app 1 running.
    pub fn running() -> World {
        let mut world = World::connected();
        world.request(1, "RUNNING", json!({}));
        world.settle();
        assert_eq!(world.reports().last().map(String::as_str), Some("1 RUNNING"));
        world.trace.clear();
        world
    }

    // What happens.

    /// The backend asks for a state.
    pub fn request(&mut self, key: u64, target: &str, extra: Value) -> u64 {
        let kwargs = self.backend.ask(key, target, extra);
        self.invoke("request_app_state", Some("system"), Vec::new(), kwargs)
    }

    /// Somebody calls a procedure; the number of the call.
    pub fn invoke(&mut self, name: &str, caller: Option<&str>, args: Vec<Value>, kwargs: Map<String, Value>) -> u64 {
        self.turns += 1_000_000;
        self.inbox.push_back(Event::Invoked(Invocation {
            generation: self.generation.unwrap_or(0),
            request: self.turns,
            procedure: format!("re.mgmt.s-1.{name}"),
            caller: caller.map(str::to_owned),
            args,
            kwargs,
        }));
        self.turns
    }

    /// A session is joined.
    pub fn join(&mut self) {
        self.leave();
        self.sessions += 1;
        self.generation = Some(self.sessions);
        self.inbox.push_back(Event::Joined { generation: self.sessions, session: 1000 + self.sessions });
        if self.backend.answers.get("testament") != Some(&None) {
            self.hear(Event::Testament { generation: self.sessions });
        }
    }

    /// The session is lost, and with it every call.
    pub fn leave(&mut self) {
        if let Some(generation) = self.generation.take() {
            let of_session = |event: &Event| {
                matches!(event, Event::Answered { .. } | Event::Opened { .. } | Event::Testament { .. })
            };
            self.inbox.retain(|event| !of_session(event));
            self.under_way.iter_mut().for_each(Vec::clear);
            self.inbox.push_back(Event::Left { generation, reason: "test".to_owned() });
        }
    }

    pub fn engine_up(&mut self) {
        self.engine.down = false;
        self.inbox.push_back(Event::EngineUp { version: "20.10".to_owned() });
    }

    pub fn engine_down(&mut self) {
        self.engine.down = true;
        self.inbox.push_back(Event::EngineDown { reason: "test".to_owned() });
    }

    /// A container ends.
    pub fn exits(&mut self, key: u64, code: i64) {
        self.engine.exit(&container(key), code);
        self.container_event(key, "die");
    }

    /// Something happens to a container of the project of an app.
    pub fn project_event(&mut self, key: u64, name: &str, action: &str) {
        let project = Some(super::names::project(prod(key), "Demo"));
        let (action, name) = (action.to_owned(), name.to_owned());
        self.inbox.push_back(Event::Container(ContainerEvent { action, name, project }));
    }

    pub fn container_event(&mut self, key: u64, action: &str) {
        self.inbox.push_back(Event::Container(ContainerEvent {
            action: action.to_owned(),
            name: container(key),
            project: None,
        }));
    }

    /// kill -9 and a new start. The database is what was committed; jobs and session are gone, containers stay.
    pub fn crash(&mut self) {
        self.reboot();
        self.inbox.push_back(Event::Started);
        if !self.engine.down {
            self.engine_up();
        }
    }

    fn reboot(&mut self) {
        for spec in std::mem::take(&mut self.jobs).into_values() {
            self.engine.half(&spec);
        }
        self.inbox.clear();
        self.under_way.iter_mut().for_each(Vec::clear);
        self.generation = None;
        self.kill = None;
        self.seed += 1;
        let recorded = self.tables.recorded();
        self.state = State::new(device(), recorded, self.seed, false, at(self.now));
        self.history.push_back(Happened::Killed(self.now));
    }

    // How it goes on.

    /// Delivers events and ends jobs until nothing is left but time.
    pub fn settle(&mut self) {
        for _ in 0..5_000 {
            if let Some(event) = self.inbox.pop_front() {
                self.step(event);
            } else if let Some(job) = self.next_job() {
                self.end(job);
            } else {
                return;
            }
        }
        panic!("does not come to rest; the last of it: {:#?}", self.tail());
    }

    /// Lets the answers that are under way arrive, in this order, and everything settle. Returns what was done since.
    pub fn round_trip(&mut self, order: impl FnOnce(&mut Vec<Event>)) -> Vec<String> {
        let mut arrived = self.under_way.replace(Vec::new()).unwrap_or_default();
        order(&mut arrived);
        self.inbox.extend(arrived);
        self.settle();
        std::mem::take(&mut self.trace)
    }

    /// Lets time pass, from deadline to deadline, and everything settle.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(deadline) = self.state.deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.step(Event::Tick);
            assert!(self.state.deadline().is_none_or(|next| next > self.now), "a timer in the past is left");
            self.settle();
        }
        self.now = end;
    }

    /// One turn: the event, the transaction, then everything else.
    pub fn step(&mut self, event: Event) {
        self.history.push_back(Happened::Event(self.now, event.clone()));
        if self.history.len() > 30 {
            self.history.pop_front();
        }
        let effects = self.state.step(at(self.now), event);
        let kill = self.kill.as_mut().and_then(|(turns, kill)| match turns {
            0 => Some(*kill),
            _ => {
                *turns -= 1;
                None
            }
        });
        if kill == Some(Kill::BeforeCommit) {
            return self.crash();
        }
        let records: Vec<&Record> = effects
            .iter()
            .filter_map(|effect| if let Effect::Persist(record) = effect { Some(record) } else { None })
            .collect();
        records.iter().for_each(|record| self.check_truth(record));
        records.iter().for_each(|record| self.tables.apply(record));
        if kill == Some(Kill::AfterCommit) {
            return self.crash();
        }
        for effect in effects {
            self.perform(effect);
        }
    }

    /// Ends a job: it does what it is for, and the core hears of it.
    pub fn end(&mut self, job: JobId) {
        let Some(spec) = self.jobs.remove(&job) else { return };
        let outcome = self.engine.perform(&spec);
        self.ended(job, outcome);
    }

    /// A job ends like this, whatever it was.
    pub fn ended(&mut self, job: JobId, outcome: Outcome) {
        self.jobs.remove(&job);
        self.inbox.push_back(Event::JobEnded { job, outcome });
        for event in self.engine.take_events() {
            self.inbox.push_back(Event::Container(event));
        }
    }

    /// The oldest job that may end.
    pub fn next_job(&self) -> Option<JobId> {
        self.jobs.iter().find(|(_, spec)| !(self.holds)(spec)).map(|(job, _)| *job)
    }

    /// The job of a kind that runs.
    pub fn job(&self, is_it: fn(&JobSpec) -> bool) -> JobId {
        let found = self.jobs.iter().find(|(_, spec)| is_it(spec));
        *found.unwrap_or_else(|| panic!("no such job in {:?}", self.jobs)).0
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(_) | Effect::KeepFlock => {}
            Effect::Call { call, uri, args, .. } => self.answer(call, &uri, &args),
            Effect::Publish { topic, .. } => {
                let name = topic.rsplit('.').next().unwrap_or_default();
                self.trace.push(format!("publish {name}"));
            }
            Effect::Yield { request, args, kwargs, .. } => self.answers.push((request, Ok((args, kwargs)))),
            Effect::Fail { request, text, .. } => self.answers.push((request, Err(text))),
            Effect::Open { generation } => {
                self.trace.push("open".to_owned());
                self.hear(Event::Opened { generation, failed: self.refuses.clone() });
            }
            Effect::Redial { .. } => {
                self.trace.push("redial".to_owned());
                self.join();
            }
            Effect::Abort { .. } => {
                self.trace.push("abort".to_owned());
                self.leave();
            }
            Effect::Start { job, spec } => {
                if let Some(name) = engine::name(&spec) {
                    self.trace.push(name);
                }
                if self.engine.accepts(&spec) {
                    self.inbox.push_back(Event::JobAccepted { job });
                }
                self.jobs.insert(job, spec);
            }
            Effect::Cancel { job } => {
                if self.jobs.contains_key(&job) {
                    self.ended(job, Outcome::Cancelled);
                }
            }
            Effect::Logs(command) => self.trace_log(command),
            Effect::Metadata(metadata) => self.trace.push(format!("metadata {}", metadata.swarm_key)),
            Effect::Note { level, text } => self.notes.push((level, text)),
            Effect::Exit { code, then, .. } => (self.exit, self.then) = (Some(code), then),
        }
    }

    fn answer(&mut self, call: CallId, uri: &str, args: &[Value]) {
        let (line, result) = self.backend.answer(uri, args);
        self.trace.extend(line);
        if let Some(result) = result.filter(|_| self.generation.is_some()) {
            self.hear(Event::Answered { call, result });
        }
    }

    /// The router or the backend has answered.
    fn hear(&mut self, event: Event) {
        match &mut self.under_way {
            Some(under_way) => under_way.push(event),
            None => self.inbox.push_back(event),
        }
    }

    /// Compares what a report says with what is, as far as that can be told apart.
    fn check_truth(&mut self, record: &Record) {
        let Record::OutboxPut { app, payload, .. } = record else { return };
        let state = payload["state"].as_str().unwrap_or_default();
        let (name, project) = (container(app.key), super::names::project(*app, "Demo"));
        let is_its = |it: &&Container| it.name == name || it.project.as_ref() == Some(&project);
        let of_it: Vec<&Container> = self.engine.containers.values().filter(is_its).collect();
        let is_true = match state {
            // It may have ended since; then it is still there.
            "RUNNING" => !of_it.is_empty(),
            // What was found in the middle of an update counts as present, whatever runs (table of 5.4).
            "PRESENT" if self.recorded(*app) == Some(AppState::Updating) => true,
            // Likewise what was found in the middle of a transfer counts as removed, or as present if it is to be removed.
            "REMOVED" | "PRESENT" if self.recorded(*app).is_some_and(is_transfer) => true,
            // The confirmation of an update, or the end of one whose release before had to be fetched (decision 30).
            "PRESENT" if payload["updateStatus"] == json!("pending_remote_confirmation") => true,
            "PRESENT"
                if payload["updateStatus"] == json!("canceled") && self.recorded(*app) == Some(AppState::Starting) =>
            {
                true
            }
            "PRESENT" | "REMOVED" | "UNINSTALLED" => of_it.iter().all(|container| container.status != "running"),
            _ => true,
        };
        if !is_true {
            self.untrue.push(format!("{app} is not {state}: {of_it:?}"));
        }
    }

    fn recorded(&self, app: AppKey) -> Option<AppState> {
        self.tables.apps.get(&app).map(|row| row.state)
    }

    /// Jumps to the next deadline and settles.
    pub fn tick(&mut self) {
        let next = self.state.deadline().expect("something is always due");
        self.pass(next.saturating_sub(self.now));
    }

    fn trace_log(&mut self, command: LogCommand) {
        self.trace.push(match command {
            LogCommand::Say { text, .. } => format!("say {text}"),
            LogCommand::Progress { id, progress, .. } => format!("progress {id} {progress}"),
            LogCommand::ClearRemote { .. } => "clear".to_owned(),
            LogCommand::ClearHistory { .. } => "clear history".to_owned(),
            LogCommand::Forget { .. } => "forget".to_owned(),
            LogCommand::Follow { .. } => "follow".to_owned(),
            LogCommand::Session { up } => format!("log session {up}"),
            LogCommand::MetaRefused => "log meta refused".to_owned(),
            other => format!("log {other:?}"),
        });
    }

    // What is seen.

    /// Takes the lines of the trace that begin with one of these words.
    pub fn take(&mut self, words: &[&str]) -> Vec<String> {
        let trace = std::mem::take(&mut self.trace);
        trace.into_iter().filter(|line| words.iter().any(|word| line.starts_with(word))).collect()
    }

    /// The state reports so far.
    pub fn reports(&self) -> Vec<String> {
        let is_report = |line: &&String| line.split(' ').nth(1).is_some_and(|word| word.parse::<AppState>().is_ok());
        self.trace.iter().filter(is_report).cloned().collect()
    }

    /// What the note says that holds `part`.
    pub fn noted(&self, part: &str) -> bool {
        self.notes.iter().any(|(_, text)| text.contains(part))
    }

    /// The end of the history.
    pub fn tail(&self) -> Vec<&Happened> {
        self.history.iter().collect()
    }

    /// The answer to an invocation.
    pub fn answer_to(&self, request: u64) -> Option<&Answer> {
        self.answers.iter().find(|(number, _)| *number == request).map(|(_, answer)| answer)
    }
}

/// Settles the world and compares its state reports; then they are forgotten.
#[track_caller]
pub(super) fn reports(world: &mut World, expected: &[&str]) {
    world.settle();
    let seen = world.reports();
    assert_eq!(seen, expected, "trace: {:#?}\nevents: {:#?}", world.trace, world.tail());
    world.trace.clear();
}

/// Name of the container of a PROD app "Demo".
pub(super) fn container(key: u64) -> String {
    format!("prod_{key}_demo")
}

/// A failure in transport.
pub(super) fn transport() -> Result<Vec<Value>, CallFailure> {
    Err(CallFailure::Transport("timeout".to_owned()))
}

/// An error answer.
pub(super) fn refusal() -> Result<Vec<Value>, CallFailure> {
    Err(CallFailure::Error { uri: "wamp.error.runtime_error".to_owned(), text: "refused".to_owned() })
}

/// Whole seconds.
pub(super) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(mono: Duration) -> Now {
    Now { mono, wall: Wall::from_unix(1_700_000_000) }
}

/// An object out of a JSON literal.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => json!({}).as_object().cloned().unwrap_or_default(),
    }
}

fn is_transfer(state: AppState) -> bool {
    matches!(state, AppState::Downloading | AppState::Building | AppState::Publishing | AppState::Transfering)
}
