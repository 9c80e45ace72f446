//! The functional core: the whole agent as one value. No IO, clock, thread, channel, randomness or log call is in here.
//!
//! Whatever happens arrives as an [`Event`]; whatever is to be done leaves as an [`Effect`]. [`State::step`] is the only way
//! in. Rules compare what is *wanted* (the backend's request), what is *recorded* (the app's state, which is in the
//! database) and what is *observed* (its container) and find the next step from that: a lost message, a restart or a
//! reconnect needs no code of its own, the comparison simply runs again.
//!
//! Where to read on: [`transition`] is the table, [`plan`] what its actions do, [`accept`] takes requests, [`reconcile`]
//! decides, [`walk`] goes through plans, [`crash`] tries again, [`observe`] judges containers, [`report`] tells the backend,
//! [`connect`] is the sequence after joining, [`sync`] takes the backend's list, [`invoke`] answers calls, [`transfer`] takes
//! archives of sources.
//!
//! **Invariant:** the same state and the same event give the same effects.

pub mod accept;
pub mod app;
pub mod backoff;
pub mod compose;
pub mod config;
pub mod connect;
pub mod crash;
pub mod credential;
pub mod environment;
pub mod heartbeat;
pub mod host_ports;
pub mod invoke;
pub mod job;
pub mod launch;
pub mod lines;
pub mod message;
pub mod names;
pub mod number;
pub mod observe;
pub mod order;
pub mod plan;
pub mod ports;
pub mod power;
pub mod reconcile;
pub mod report;
pub mod request;
pub mod slot;
pub mod sync;
pub mod timers;
pub mod transfer;
pub mod transition;
pub mod walk;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use crate::clock::Now;
use app::AppKey;
use config::Device;
use job::{JobId, JobSpec, Subject};
use message::{CallId, Effect, Event, Generation, Level, LogCommand, LogEvent, Record};
use slot::App;
use std::collections::BTreeMap;
use std::time::Duration;
use timers::{Timer, Timers};

/// How long the end of the agent waits for its jobs.
const DRAIN: Duration = Duration::from_secs(4);

/// The agent.
#[derive(Debug, Clone)]
pub struct State {
    /// Identity and what the backend told of it.
    pub device: Device,
    /// Apps by key and stage.
    pub(crate) apps: BTreeMap<AppKey, App>,
    /// Managed host ports.
    pub(crate) ports: ports::Ports,
    /// The container engine as the agent knows it.
    engine: observe::Engine,
    /// The session and the connect sequence.
    session: connect::Session,
    /// Reports that wait for the backend.
    reports: report::Reports,
    /// What the backend's list left open.
    sync: sync::Sync,
    /// Statistics of the machine for the status reports.
    status: heartbeat::Status,
    /// Calls to the router that have no answer yet.
    calls: BTreeMap<CallId, Call>,
    /// Jobs that have not ended.
    jobs: BTreeMap<JobId, Job>,
    /// Invocations that wait for a privilege check, a job or the log hub.
    invocations: BTreeMap<u64, invoke::Pending>,
    /// Archives that arrive.
    transfers: transfer::Transfers,
    timers: Timers,
    /// Reboot, power-off or restart that is about to happen.
    power: Option<power::Power>,
    offline: bool,
    /// The agent is about to end.
    ending: bool,
    next_id: u64,
    random: u64,
    now: Now,
    out: Vec<Effect>,
}

/// What a call was made for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Call {
    /// A part of the connect sequence.
    Connect(connect::Part),
    /// The status of a heartbeat.
    Heartbeat,
    /// A state report of an app.
    Report(AppKey),
    /// A port report: the rules as sent.
    Ports(AppKey, Vec<serde_json::Value>),
    /// The registry token for an app's action.
    Token(AppKey),
    /// The second look at the backend's list.
    SecondFetch,
    /// Who listens to a container's log.
    Match(String),
    /// Whether the caller of an invocation may call it.
    Privilege(u64),
}

/// What a job was started for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Job {
    /// A step of an app's plan.
    Step(AppKey),
    /// The steps that nobody waits for: their failure is a warning.
    Detached(Subject),
    /// A listing.
    Observe,
    /// A look at one app's container.
    Look(AppKey),
    /// Statistics for a status report.
    Statistics,
    /// What the machine is.
    Platform,
    /// An answer to an invocation.
    Invocation(u64),
    /// A message of an archive that arrives for this container.
    Upload(String),
}

/// What the database held at start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recorded {
    /// Requests.
    pub requests: Vec<request::Request>,
    /// States.
    pub apps: Vec<RecordedApp>,
    /// Reports that were not delivered: number, app, payload.
    pub outbox: Vec<(u64, AppKey, serde_json::Value)>,
    /// Versions that did not prove themselves (decision 30).
    pub refused: Vec<(AppKey, String)>,
    /// Versions that were replaced or refused, whose images are not removed yet.
    pub superseded: Vec<(AppKey, Vec<String>)>,
    /// A backend's list was taken at least once since the database was created or recovered.
    pub synced: bool,
}

/// A recorded state of an app.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedApp {
    /// The app.
    pub id: AppKey,
    /// Its name.
    pub name: String,
    /// Installed version.
    pub version: String,
    /// Its release.
    pub release_key: u64,
    /// The state.
    pub state: app::AppState,
}

impl State {
    /// The agent at its start: `recorded` is what the database held, `seed` makes its jitter, `offline` keeps it from
    /// waiting for a session.
    pub fn new(device: Device, recorded: Recorded, seed: u64, offline: bool, now: Now) -> State {
        let mut state = State {
            device,
            apps: BTreeMap::new(),
            ports: ports::Ports::default(),
            engine: observe::Engine::default(),
            session: connect::Session::default(),
            reports: report::Reports::default(),
            sync: sync::Sync::new(recorded.synced),
            status: heartbeat::Status::default(),
            calls: BTreeMap::new(),
            jobs: BTreeMap::new(),
            invocations: BTreeMap::new(),
            transfers: transfer::Transfers::default(),
            timers: Timers::default(),
            power: None,
            offline,
            ending: false,
            next_id: 1,
            random: seed,
            now,
            out: Vec::new(),
        };
        state.restore(recorded);
        state
    }

    /// Applies one event. Pure: same state, same event, same effects.
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Effect> {
        self.now = now;
        if self.ending {
            self.step_to_the_end(&event);
        } else {
            self.apply(event);
        }
        for timer in self.timers.due(now.mono) {
            self.on_timer(timer);
        }
        std::mem::take(&mut self.out)
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Started => self.on_started(),
            Event::Tick => {}
            Event::Shutdown => {
                self.call_off();
                self.end();
            }
            Event::Joined { generation, session } => self.on_joined(generation, session),
            Event::Testament { generation } => self.on_testament(generation),
            Event::Opened { generation, failed } => self.on_opened(generation, &failed),
            Event::Left { generation, reason } => self.on_left(generation, &reason),
            Event::Refused { line } => self.effect(Effect::Exit { code: 1, line: Some(line), then: None }),
            Event::Answered { call, result } => {
                if let Some(purpose) = self.calls.remove(&call) {
                    self.on_answer(purpose, result);
                }
            }
            Event::Invoked(invocation) => self.on_invoked(invocation),
            Event::Interrupted { generation, request } => self.on_interrupted(generation, request),
            Event::Topic { generation, topic, args } => self.on_topic(generation, &topic, args),
            Event::EngineUp { version } => self.on_engine_up(&version),
            Event::EngineDown { reason } => self.on_engine_down(&reason),
            Event::Container(event) => self.on_container(&event),
            Event::JobAccepted { job } => {
                if let Some(Job::Step(app)) = self.jobs.get(&job) {
                    self.on_accepted(*app);
                }
            }
            Event::JobEnded { job, outcome } => {
                if let Some(purpose) = self.jobs.remove(&job) {
                    self.on_job(job, purpose, outcome);
                }
            }
            Event::Logs(event) => self.on_log_event(event),
        }
    }

    /// When [`State::step`] wants to be called with [`Event::Tick`] if nothing else happens.
    pub fn deadline(&self) -> Option<Duration> {
        self.timers.next()
    }

    /// Jobs that have not ended, for the log at shutdown.
    pub fn unfinished(&self) -> Vec<JobId> {
        self.jobs.keys().copied().collect()
    }

    fn on_started(&mut self) {
        self.start_job(Job::Platform, JobSpec::Platform);
        self.timers.set(Timer::Trim, self.now.mono + Duration::from_secs(600));
        if self.offline {
            self.note(Level::Info, "offline mode: no connection will be made");
        }
    }

    /// Ends the process when all jobs have, at the latest after [`DRAIN`], and at once when asked a second time. What a
    /// job leaves half done is found at the next start, as after a power cut (S7).
    fn end(&mut self) {
        if self.ending || self.jobs.is_empty() {
            return self.exit();
        }
        self.ending = true;
        self.timers.clear_all();
        self.timers.set(Timer::Exit, self.now.mono + DRAIN);
        for job in self.unfinished() {
            self.effect(Effect::Cancel { job });
        }
    }

    /// Nothing is begun any more: only the ends of jobs count.
    fn step_to_the_end(&mut self, event: &Event) {
        match event {
            Event::Shutdown => {
                self.call_off();
                self.exit();
            }
            Event::JobEnded { job, .. } => {
                self.jobs.remove(job);
                if self.jobs.is_empty() {
                    self.exit();
                }
            }
            // The last lines of the apps' logs are still taken.
            Event::Logs(event @ LogEvent::Save { .. }) => self.on_log_event(event.clone()),
            _ => {}
        }
    }

    fn on_answer(&mut self, purpose: Call, result: Result<Vec<serde_json::Value>, message::CallFailure>) {
        match purpose {
            Call::Connect(part) => self.on_connect_answer(part, result),
            Call::Heartbeat => self.on_heartbeat_answer(result),
            Call::Report(app) => self.on_report_answer(app, result),
            Call::Ports(app, sent) => self.on_ports_answer(app, sent, result),
            Call::Token(app) => self.on_token(app, result),
            Call::SecondFetch => self.on_second_fetch(result),
            Call::Match(container) => {
                let answer = result.map_err(|failure| failure.text().to_owned());
                self.logs(LogCommand::Matched { container, answer });
            }
            Call::Privilege(invocation) => self.on_privilege(invocation, result),
        }
    }

    fn on_job(&mut self, job: JobId, purpose: Job, outcome: job::Outcome) {
        match purpose {
            Job::Step(app) => self.on_step_ended(app, outcome),
            Job::Detached(subject) => {
                if let job::Outcome::Failed(error) | job::Outcome::EngineGone(error) = outcome {
                    let subject = subject.map_or_else(|| "clean-up".to_owned(), |app| app.to_string());
                    self.note(Level::Warn, format!("{subject}: {error}"));
                }
            }
            Job::Observe => self.on_observed(outcome),
            Job::Look(app) => self.on_looked(job, app, outcome),
            Job::Statistics => self.on_statistics(outcome),
            Job::Platform => {
                if let job::Outcome::Platform { os } = outcome {
                    self.status.os = os;
                }
            }
            Job::Invocation(invocation) => self.on_query(invocation, outcome),
            Job::Upload(container) => self.on_upload(&container, outcome),
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Heartbeat => self.on_heartbeat(),
            Timer::Resync => self.observe(),
            Timer::SecondFetch => self.fetch_again(),
            Timer::Connect => self.on_connect_timer(),
            Timer::CrashLoop(app) => self.on_crash_timer(app),
            Timer::Stable(app) => self.on_stable(app),
            Timer::Drive(app) => self.drive(app, slot::Why::Verify),
            Timer::Report(app) => self.send_report(app),
            Timer::Token(app) => self.ask_for_token(app),
            Timer::Prove(app) => self.prove(app),
            Timer::Transfer(number) => self.on_transfer_expired(number),
            Timer::Progress(number) => self.on_progress_due(number),
            Timer::Power => self.end(),
            Timer::Exit => self.exit(),
            Timer::Trim => {
                self.persist(Record::Trim);
                self.timers.set(Timer::Trim, self.now.mono + Duration::from_secs(24 * 3600));
            }
        }
    }

    fn on_log_event(&mut self, event: LogEvent) {
        match event {
            LogEvent::Lookup { container } => self.look_up_listeners(container),
            LogEvent::Wanted { container } => {
                let wanted = self.apps.values().find(|app| app.container == container && app.runs());
                if let Some(id) = wanted.map(|app| app.id) {
                    self.follow(id);
                }
            }
            LogEvent::History { token, container, lines, only_agent } => {
                self.on_history(token, container, lines, only_agent);
            }
            LogEvent::Save { container, lines } => {
                let found = self.apps.values().find(|app| app.container == container);
                if let (Some(app), Some(parsed)) = (found, names::parse_container(&container)) {
                    self.persist(Record::LogHistory { app: app.id, name: parsed.name, lines });
                }
            }
        }
    }

    /// The wall clock of the current turn.
    pub fn wall(&self) -> crate::clock::Wall {
        self.now.wall
    }

    /// Accepts a request of a caller; the app is driven once the answer is out.
    pub fn accept_call(&mut self, request: request::Request) {
        self.accept(request, accept::Source::Call);
    }

    /// The session that lives.
    pub fn current_generation(&self) -> Option<Generation> {
        self.generation()
    }

    /// What a log hub that was started again has to know.
    pub fn log_commands_for_a_new_hub(&self) -> Vec<LogCommand> {
        let session = LogCommand::Session { up: self.generation().is_some() };
        let running = self.apps.values().filter(|app| app.runs());
        std::iter::once(session).chain(running.map(App::follow)).collect()
    }

    // What the rules use to act.

    fn effect(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    fn persist(&mut self, record: Record) {
        self.effect(Effect::Persist(record));
    }

    fn note(&mut self, level: Level, text: impl Into<String>) {
        self.effect(Effect::Note { level, text: text.into() });
    }

    fn logs(&mut self, command: LogCommand) {
        self.effect(Effect::Logs(command));
    }

    fn call(&mut self, purpose: Call, uri: &str, args: Vec<serde_json::Value>, timeout: Duration) {
        let call = self.id();
        self.calls.insert(call, purpose);
        self.effect(Effect::Call { call, uri: uri.to_owned(), args, timeout });
    }

    fn start_job(&mut self, purpose: Job, spec: JobSpec) -> JobId {
        let job = self.id();
        self.jobs.insert(job, purpose);
        self.effect(Effect::Start { job, spec });
        job
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// The next random number: xorshift over the seed that came from outside.
    fn random(&mut self) -> u64 {
        let mut x = self.random | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        x
    }

    fn generation(&self) -> Option<Generation> {
        self.session.generation
    }
}
