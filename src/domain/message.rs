//! What happens ([`Event`]) and what is to be done ([`Effect`]): plain data, one variant per fact or order.

use super::app::AppKey;
use super::job::{ContainerEvent, JobId, JobSpec, Outcome};
use super::power::Power;
use super::request::Request;
use crate::clock::Wall;
use serde_json::{Map, Value};
use std::time::Duration;

/// Names a call to the router.
pub type CallId = u64;
/// Counts sessions; what carries an older one is dropped.
pub type Generation = u64;

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The agent has started: threads are up, nothing is known yet.
    Started,
    /// A deadline has passed.
    Tick,
    /// A signal asks the agent to end.
    Shutdown,
    /// A session was joined: presence claimed, testament on its way.
    Joined {
        /// Its generation.
        generation: Generation,
        /// Its id on the router.
        session: u64,
    },
    /// The router holds the testament, or has refused it and the session goes on without.
    Testament {
        /// The session.
        generation: Generation,
    },
    /// The declared procedures and subscriptions are registered, but for those named.
    Opened {
        /// The session.
        generation: Generation,
        /// What was refused; it is tried again by itself.
        failed: Vec<String>,
    },
    /// The session was lost.
    Left {
        /// The session.
        generation: Generation,
        /// Why.
        reason: String,
    },
    /// The router refuses this device for good (decision 9); the process ends with this line.
    Refused {
        /// The documented line for stdout.
        line: String,
    },
    /// A call has ended.
    Answered {
        /// The call.
        call: CallId,
        /// Positional results, or why there are none.
        result: Result<Vec<Value>, CallFailure>,
    },
    /// Somebody calls a procedure of ours.
    Invoked(Invocation),
    /// The caller has given up, or its time is over; the session has answered.
    Interrupted {
        /// The session.
        generation: Generation,
        /// The invocation.
        request: u64,
    },
    /// A subscribed topic.
    Topic {
        /// The session.
        generation: Generation,
        /// The topic.
        topic: String,
        /// Positional arguments.
        args: Vec<Value>,
    },
    /// The engine answers and its events are being read.
    EngineUp {
        /// Version text for the log.
        version: String,
    },
    /// The engine's event stream has ended, or the engine cannot be reached.
    EngineDown {
        /// Why.
        reason: String,
    },
    /// A container event.
    Container(ContainerEvent),
    /// The engine has accepted a pull.
    JobAccepted {
        /// The job.
        job: JobId,
    },
    /// A job has ended.
    JobEnded {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
    },
    /// The log hub asks or answers.
    Logs(LogEvent),
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum CallFailure {
    /// No session, session lost, no answer in time: a new session or another try may cure it.
    Transport(String),
    /// The other side answered an error.
    Error {
        /// Its URI.
        uri: String,
        /// Procedure, URI and arguments as one text.
        text: String,
    },
}

impl CallFailure {
    /// What to show.
    pub fn text(&self) -> &str {
        match self {
            CallFailure::Transport(text) | CallFailure::Error { text, .. } => text,
        }
    }
}

/// A call of one of our procedures.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Invocation {
    /// Session that it came by.
    pub generation: Generation,
    /// Request id on that session.
    pub request: u64,
    /// Full URI.
    pub procedure: String,
    /// `caller_authid` as the router disclosed it.
    pub caller: Option<String>,
    /// Positional arguments; absent counts as empty.
    pub args: Vec<Value>,
    /// Keyword arguments.
    pub kwargs: Map<String, Value>,
}

/// What the log hub says.
#[derive(Debug, Clone, PartialEq)]
pub enum LogEvent {
    /// It wants to know who listens to a container's log.
    Lookup {
        /// The container.
        container: String,
    },
    /// Somebody listens to a container that is not followed.
    Wanted {
        /// The container.
        container: String,
    },
    /// Stored lines, as asked for.
    History {
        /// Token of the question.
        token: u64,
        /// The container.
        container: String,
        /// Oldest first.
        lines: Vec<String>,
        /// Nothing but agent messages.
        only_agent: bool,
    },
    /// Lines to be stored.
    Save {
        /// The container.
        container: String,
        /// Oldest first.
        lines: Vec<String>,
    },
}

/// What the log hub is told. Containers are named by their plain, lower-case name (`prod_6_myapp`), compose apps too; a
/// release build has a name that no container has (`pub_6_myapp`).
#[derive(Debug, Clone, PartialEq)]
pub enum LogCommand {
    /// The app runs: follow its container, or each container of its compose project. Active streams are kept, one that waits
    /// for its next try is opened now; of a project the containers are listed anew.
    Follow {
        /// The container; the log of a compose project has the name that its app's only container would have.
        container: String,
        /// Of a compose app the project, normalised: the label of its containers.
        project: Option<String>,
    },
    /// It is gone: end its streams, keep the history.
    Unfollow {
        /// The container.
        container: String,
    },
    /// Its app is gone: no stream, no history, nothing to be saved. To be sent after the last line about it.
    Forget {
        /// The container.
        container: String,
    },
    /// A message of the agent: kept, and published always, after what the container wrote before.
    Say {
        /// The container.
        container: String,
        /// The message.
        text: String,
    },
    /// How far something has come: shown, not stored.
    Progress {
        /// The container.
        container: String,
        /// What it is about: a line of its own for viewers.
        id: String,
        /// What is being done.
        status: String,
        /// `42.000%`
        progress: String,
    },
    /// Clear what viewers see (`LOGGER_CLEAR`); nothing is stored.
    ClearRemote {
        /// The container.
        container: String,
    },
    /// Clear what is stored: in memory at once, in the database with the next save.
    ClearHistory {
        /// The container.
        container: String,
    },
    /// Lines of an earlier run, from the database, to be sent before anything else about the container. They are put before
    /// messages that came earlier, are ignored once there are container lines, and give way to the Engine's own replay.
    Restore {
        /// The container.
        container: String,
        /// Oldest first.
        lines: Vec<String>,
    },
    /// A session was joined and the meta topics are subscribed, or it was lost: what was known about listeners is void.
    Session {
        /// Joined.
        up: bool,
    },
    /// The router refused a meta topic in this session: ask for the listeners every 30 s instead.
    MetaRefused,
    /// `wamp.subscription.on_create`
    SubscriptionCreated {
        /// `[session_id, {"id", "created", "uri", "match"}]`; anything else is ignored.
        args: Vec<Value>,
    },
    /// `wamp.subscription.on_delete`
    SubscriptionDeleted {
        /// `[session_id, subscription_id]`; anything else is ignored.
        args: Vec<Value>,
    },
    /// Answer of `wamp.subscription.match`. One that belongs to a lost session must not be sent.
    Matched {
        /// The container.
        container: String,
        /// The positional results, or why there are none.
        answer: Result<Vec<Value>, String>,
    },
    /// The stored lines are wanted: [`LogEvent::History`].
    History {
        /// The container.
        container: String,
        /// For the answer.
        token: u64,
    },
}

/// A change of what is stored. Those of one turn are one transaction.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// What is wanted of an app; `current` is its own state.
    Requested {
        /// The payload.
        request: Box<Request>,
        /// State for the row.
        current: super::app::AppState,
    },
    /// The state of an app.
    AppState {
        /// The app.
        app: AppKey,
        /// Its name.
        name: String,
        /// Installed version.
        version: String,
        /// Its release.
        release_key: u64,
        /// The state.
        state: super::app::AppState,
        /// What is wanted.
        requested: super::app::AppState,
        /// Stamp.
        at: Wall,
    },
    /// Which version of an app did not prove itself (decision 30).
    Refused {
        /// The app.
        app: AppKey,
        /// The version; `None`: it may be tried again.
        version: Option<String>,
    },
    /// Which versions of an app were replaced or refused, whose images are not removed yet.
    Superseded {
        /// The app.
        app: AppKey,
        /// The versions.
        versions: Vec<String>,
    },
    /// An app is forgotten.
    Delete {
        /// The app.
        app: AppKey,
    },
    /// A report waits to be sent.
    OutboxPut {
        /// Its number, increasing.
        id: u64,
        /// The app.
        app: AppKey,
        /// The report without device, project and serial.
        payload: Value,
        /// Stamp.
        at: Wall,
    },
    /// A report was sent or dropped.
    OutboxDelete {
        /// Its number.
        id: u64,
    },
    /// Log lines of an app.
    LogHistory {
        /// The app.
        app: AppKey,
        /// Name as in the container name.
        name: String,
        /// Oldest first.
        lines: Vec<String>,
    },
    /// A single fact.
    Meta {
        /// Its name.
        key: String,
        /// Its value.
        value: String,
    },
    /// Oldest history rows go.
    Trim,
}

/// How bad a note is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Detail.
    Debug,
    /// What an operator cares about.
    Info,
    /// Abnormal, handled.
    Warn,
    /// Abnormal, something is lost.
    Error,
}

/// What the backend says of the device (wire chapter 1.12); absent members keep the old value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// `device_name`
    pub name: Option<String>,
    /// `swarm_name`
    pub swarm_name: Option<String>,
    /// `ownername`
    pub owner: Option<String>,
    /// `swarm_key`
    pub swarm_key: u64,
}

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Store this, before anything else of the turn is done.
    Persist(Record),
    /// Call a procedure.
    Call {
        /// For the answer.
        call: CallId,
        /// Procedure.
        uri: String,
        /// Positional arguments.
        args: Vec<Value>,
        /// Deadline.
        timeout: Duration,
    },
    /// Publish on the control lane.
    Publish {
        /// Topic.
        topic: String,
        /// Positional arguments.
        args: Vec<Value>,
    },
    /// Answer an invocation.
    Yield {
        /// Its session.
        generation: Generation,
        /// Its id.
        request: u64,
        /// Positional results.
        args: Vec<Value>,
        /// Keyword results.
        kwargs: Map<String, Value>,
    },
    /// Answer an invocation with `wamp.error.canceled` and this text.
    Fail {
        /// Its session.
        generation: Generation,
        /// Its id.
        request: u64,
        /// What the caller sees.
        text: String,
    },
    /// Register and subscribe what is declared.
    Open {
        /// On this session.
        generation: Generation,
    },
    /// End the session with GOODBYE and dial again with the identity of now.
    Redial {
        /// Why.
        reason: String,
    },
    /// Drop the connection and dial again.
    Abort {
        /// The session.
        generation: Generation,
        /// Why.
        reason: String,
    },
    /// Start a job.
    Start {
        /// For its end.
        job: JobId,
        /// What to do.
        spec: JobSpec,
    },
    /// Cancel a job; it ends as [`Outcome::Cancelled`].
    Cancel {
        /// The job.
        job: JobId,
    },
    /// Tell the log hub.
    Logs(LogCommand),
    /// Write what the backend said of the device to the `.flock`, and take its identity for the next dial.
    Metadata(Metadata),
    /// The session was joined and the device is who it thinks: keep a copy of the `.flock` (decision 35).
    KeepFlock,
    /// Write a line to the agent's log.
    Note {
        /// How bad.
        level: Level,
        /// The line.
        text: String,
    },
    /// End the process.
    Exit {
        /// Its exit code.
        code: u8,
        /// A line for stdout.
        line: Option<String>,
        /// What is done with the machine once everything is closed.
        then: Option<Power>,
    },
}
