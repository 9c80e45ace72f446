//! One WAMP session from HELLO to its end (spec 1.3 to 1.10), sans IO: messages, commands and time in, [`Output`]s out.
//!
//! ```text
//!             CHALLENGE           WELCOME          REGISTERED: the testament is sent
//!   Hello ---------------> Auth ----------> Claim ----------------> Joined
//!     |  \___________________________________^                       |  \
//!     |              WELCOME without a challenge    Redial, Stop     |   `- closed(): pings unanswered,
//!     `--- ABORT, no reply in time: End <- Leaving <- GOODBYE -------'      socket lost
//! ```
//!
//! The claim is settled before anything else is said: a session that is refused leaves no trace with the router. From then
//! on nobody waits: users may call while the testament is on its way, and hear of it by [`Event::Testament`].
//!
//! It owns the request ids, what is waited for (each with its deadline), the registrations, subscriptions and running
//! invocations of the session, and the pings. It never survives its connection: nothing can leak into the next one.

mod calls;
mod invocations;
mod liveness;
mod table;
#[cfg(test)]
mod tests;

use self::liveness::{Due, Liveness};
use self::table::Table;
use crate::wamp::message::{self, Map, Message, Payload};
use crate::wamp::{CallError, Command, Declaration, Event, Phase, Refusal, Settings, auth};
use log::{debug, warn};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// The router drops a peer that sends a larger frame (spec 1.1).
pub const MAX_FRAME: usize = 16 * 1024 * 1024;
const TESTAMENT_BOUND: Duration = Duration::from_secs(10);
const DEFAULT_REPLY: Duration = Duration::from_secs(5);
const LONGEST_GOODBYE: Duration = Duration::from_secs(5);
const LAST_REQUEST: u64 = 1 << 53;
/// How a refusal of the secret is told from other refusals (spec 1.7).
const WRONG_SECRET: &str = "WAMP-CRA client signature is invalid";
const ALREADY_EXISTS: &str = "wamp.error.procedure_already_exists";

/// What the session wants done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send this text frame.
    Send(String),
    /// Send a WebSocket ping.
    Ping,
    /// Tell the users.
    Emit(Event),
    /// Tell the dial policy.
    Reached(Milestone),
    /// Send the WebSocket close frame: the leave was taken.
    Close,
    /// The session is over, with this reason; drop the socket. Nothing follows.
    End(End),
}

/// What the dial policy counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestone {
    /// WELCOME.
    Welcomed,
    /// The presence procedure was registered.
    Claimed,
    /// Its registration failed, but not because another session holds it.
    NotClaimed,
}

/// How a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The router refused this device.
    Refused(Refusal, String),
    /// Lost, left or failed.
    Gone(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Hello { until: Duration },
    Auth { until: Duration },
    Claim,
    Joined,
    Leaving { until: Duration, end: End },
    Ended,
}

/// A request without its reply.
#[derive(Debug)]
struct Pending {
    what: What,
    until: Duration,
}

#[derive(Debug)]
enum What {
    Claim,
    Testament,
    /// REGISTER or SUBSCRIBE.
    Apply(Declaration),
    /// The same, withdrawn before the reply: to be given back at once.
    GiveBack(Declaration),
    /// UNREGISTER or UNSUBSCRIBE.
    Release(Declaration),
    Call {
        id: u64,
        procedure: String,
        given_up: bool,
    },
    /// A call that was answered with a timeout; what still comes is expected and dropped.
    Canceled,
    Publish {
        id: u64,
        topic: String,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    generation: u64,
    settings: Settings,
    /// Whether an earlier session of this process was joined and had its testament: then a failing one is no reason to start
    /// over.
    joined_before: bool,
    stage: Stage,
    joined: bool,
    last_request: u64,
    pending: BTreeMap<u64, Pending>,
    table: Table,
    invocations: BTreeMap<u64, Option<Duration>>,
    liveness: Liveness,
    outputs: Vec<Output>,
}

impl Session {
    /// Starts with HELLO over a fresh connection.
    pub fn new(
        generation: u64,
        settings: Settings,
        declared: &BTreeMap<Declaration, Phase>,
        joined_before: bool,
        now: Duration,
    ) -> Session {
        let mut session = Session {
            generation,
            stage: Stage::Ended,
            joined: false,
            joined_before,
            last_request: 0,
            pending: BTreeMap::new(),
            table: Table::new(declared),
            invocations: BTreeMap::new(),
            liveness: Liveness::new(settings.ping_interval, now),
            outputs: Vec::new(),
            settings,
        };
        session.stage = Stage::Hello { until: now + session.reply_bound() };
        session
            .send(Message::Hello { realm: session.settings.realm.clone(), details: hello(&session.settings.authid) });
        session
    }

    /// What is to be done; empties the list.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Whether [`Event::Joined`] was emitted.
    pub fn was_joined(&self) -> bool {
        self.joined
    }

    /// Whether publications go through.
    pub fn is_open(&self) -> bool {
        self.stage == Stage::Joined
    }

    /// When [`Session::on_deadline`] wants to be called.
    pub fn deadline(&self) -> Duration {
        let stage = match &self.stage {
            Stage::Ended => return Duration::MAX,
            Stage::Leaving { until, .. } => return *until,
            Stage::Hello { until } | Stage::Auth { until } => Some(*until),
            _ => None,
        };
        let pending = self.pending.values().map(|pending| pending.until);
        let invocations = self.invocations.values().flatten().copied();
        let retry = self.table.next_retry().filter(|_| self.is_open());
        let others = pending.chain(invocations).chain(stage).chain(retry);
        others.fold(self.liveness.deadline(), Duration::min)
    }

    /// Any frame came in, also a ping or a pong.
    pub fn on_frame(&mut self) {
        self.liveness.heard();
    }

    /// Nothing is read at the moment, because the users do not keep up.
    pub fn on_held_back(&mut self, now: Duration) {
        self.liveness.not_reading(now);
    }

    /// The socket is gone, or is to be.
    pub fn on_closed(&mut self, reason: String) {
        let end = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Ended => return,
            Stage::Leaving { end, .. } => {
                self.outputs.push(Output::Close);
                end
            }
            _ => End::Gone(reason),
        };
        self.end(end);
    }

    /// A message of the router.
    pub fn on_message(&mut self, now: Duration, message: Message) {
        match (&self.stage, message) {
            (Stage::Ended, _) => {}
            (Stage::Leaving { .. }, Message::Goodbye { .. } | Message::Abort { .. }) => self.on_closed(String::new()),
            (Stage::Leaving { .. }, _) => {}
            (Stage::Hello { .. }, Message::Challenge { method, extra }) => self.answer_challenge(now, &method, &extra),
            (Stage::Hello { .. } | Stage::Auth { .. }, Message::Welcome { session, details }) => {
                self.on_welcome(now, session, &details);
            }
            (Stage::Auth { .. }, Message::Abort { details, .. }) => {
                let text = details.get("message").and_then(Value::as_str).unwrap_or("authentication failed").to_owned();
                let wrong_secret = text.contains(WRONG_SECRET);
                self.end(if wrong_secret { End::Refused(Refusal::Secret, text) } else { End::Gone(text) });
            }
            (_, Message::Abort { details, reason }) => {
                self.end(End::Gone(format!("router aborted: {reason} {}", Value::Object(details))));
            }
            (Stage::Hello { .. } | Stage::Auth { .. }, other) => debug!("not expected before WELCOME: {other:?}"),
            (_, Message::Goodbye { reason, .. }) => {
                self.send(goodbye("wamp.close.goodbye_and_out"));
                self.end(End::Gone(format!("router said goodbye: {reason}")));
            }
            (_, Message::Invocation { request, registration, details, payload }) => {
                self.on_invocation(now, request, registration, details, payload);
            }
            (_, Message::Interrupt { request, .. }) => self.interrupt(request),
            (_, Message::Event { subscription, payload, .. }) => self.on_event(subscription, payload),
            (_, Message::Registered { request, registration: id })
            | (_, Message::Subscribed { request, subscription: id }) => {
                self.on_reply(now, request, Ok(Reply::Held(id)));
            }
            (_, Message::Unregistered { request } | Message::Unsubscribed { request })
            | (_, Message::Published { request, .. }) => self.on_reply(now, request, Ok(Reply::Done)),
            (_, Message::Result { request, payload, .. }) => self.on_reply(now, request, Ok(Reply::Result(payload))),
            (_, Message::Error { request, uri, payload, .. }) => self.on_reply(now, request, Err((uri, payload))),
            (_, other) => debug!("not expected from a router: {other:?}"),
        }
    }

    /// A command of a user. Configure is not for the session; Stop and Redial take leave of the router.
    pub fn on_command(&mut self, now: Duration, command: Command) {
        match command {
            command if self.stage == Stage::Ended => self.outputs.extend(refuse(command).map(Output::Emit)),
            Command::Declare { entry, phase } => self.declare(now, entry, phase),
            Command::Withdraw(entry) => self.withdraw(now, &entry),
            Command::Open { generation } if generation == self.generation => self.open(now),
            Command::Yield { generation, request, args, kwargs } if generation == self.generation => {
                self.yield_result(request, args, kwargs);
            }
            Command::Fail { generation, request, uri, args } if generation == self.generation => {
                self.fail(request, uri, args);
            }
            Command::Abort { generation, reason } if generation == self.generation => self.on_closed(reason),
            Command::Redial { reason } => self.leave(now, End::Gone(reason)),
            Command::Stop => self.leave(now, End::Gone("stopped".to_owned())),
            command @ (Command::Call { .. } | Command::Publish { .. }) if !self.is_open() => {
                self.outputs.extend(refuse(command).map(Output::Emit));
            }
            Command::Call { id, uri, args, kwargs, timeout } => self.call(now, id, uri, args, kwargs, timeout),
            Command::CancelCall { id } => self.cancel_call(now, id),
            Command::Publish { topic, args, kwargs, acknowledge } => {
                self.publish(now, topic, args, kwargs, acknowledge);
            }
            Command::Open { .. }
            | Command::Yield { .. }
            | Command::Fail { .. }
            | Command::Abort { .. }
            | Command::Configure(_)
            | Command::Probe(_) => {}
        }
    }

    /// Something may be due.
    pub fn on_deadline(&mut self, now: Duration) {
        match &self.stage {
            Stage::Hello { until } | Stage::Auth { until } if *until <= now => {
                return self.end(End::Gone("timeout waiting for reply to HELLO".to_owned()));
            }
            Stage::Leaving { until, .. } if *until <= now => return self.on_closed(String::new()),
            Stage::Leaving { .. } | Stage::Ended => return,
            _ => {}
        }
        let due: Vec<u64> = self.pending.iter().filter(|(_, p)| p.until <= now).map(|(request, _)| *request).collect();
        for request in due {
            self.on_reply_missing(now, request);
        }
        let due: Vec<u64> = self
            .invocations
            .iter()
            .filter(|(_, until)| until.is_some_and(|until| until <= now))
            .map(|(r, _)| *r)
            .collect();
        for request in due {
            self.interrupt(request);
        }
        self.retry(now);
        match self.liveness.due(now) {
            Due::Nothing => {}
            Due::Ping => self.outputs.push(Output::Ping),
            Due::Dead => {
                self.on_closed(format!("nothing heard for {} ms after a ping", self.liveness.silence().as_millis()));
            }
        }
    }

    /// A PUBLISH without acknowledgement for the bulk lane; `None` if there is no session or it is too large.
    pub fn bulk_frame(&mut self, topic: String, args: Vec<Value>) -> Option<String> {
        if !self.is_open() {
            return None;
        }
        let payload = Payload { args: Some(args), kwargs: None };
        let request = self.next_request();
        let text = message::encode(Message::Publish { request, options: Map::new(), topic, payload });
        (text.len() <= MAX_FRAME).then_some(text)
    }

    fn answer_challenge(&mut self, now: Duration, method: &str, extra: &Map) {
        let signature = if method == "wampcra" {
            match auth::sign(&self.settings.secret, extra) {
                Ok(signature) => signature,
                Err(error) => return self.end(End::Gone(error.to_string())),
            }
        } else {
            String::new()
        };
        self.send(Message::Authenticate { signature, extra: Map::new() });
        self.stage = Stage::Auth { until: now + self.reply_bound() };
    }

    fn on_welcome(&mut self, now: Duration, session: u64, details: &Map) {
        let roles = details.get("roles").and_then(Value::as_object);
        if !roles.is_some_and(|roles| roles.contains_key("broker") || roles.contains_key("dealer")) {
            return self.end(End::Gone("router offers neither broker nor dealer".to_owned()));
        }
        self.outputs.push(Output::Reached(Milestone::Welcomed));
        self.table.session = session;
        self.stage = Stage::Claim;
        self.claim(now);
    }

    /// The claim is settled.
    fn join(&mut self, now: Duration) {
        self.stage = Stage::Joined;
        self.joined = true;
        let joined = Event::Joined { generation: self.generation, session: self.table.session };
        self.outputs.push(Output::Emit(joined));
        self.add_testament(now);
        self.apply_phase(now, Phase::Join);
    }

    fn add_testament(&mut self, now: Duration) {
        let Some(testament) = self.settings.testament.clone() else { return self.on_testament(now, None) };
        let mut payload = testament.payload;
        payload.insert("wamp_session_id".to_owned(), self.table.session.into());
        let args = json!([testament.topic, [payload], {}]);
        let Value::Array(args) = args else { return };
        let request = self.wait(What::Testament, now + TESTAMENT_BOUND);
        let procedure = "wamp.session.add_testament".to_owned();
        let payload = Payload { args: Some(args), kwargs: None };
        self.send(Message::Call { request, options: Map::new(), procedure, payload });
    }

    fn on_testament(&mut self, now: Duration, failure: Option<String>) {
        match failure {
            Some(failure) if !self.joined_before => {
                return self.leave(now, End::Gone(format!("testament was not taken: {failure}")));
            }
            Some(failure) => warn!("testament was not taken, the session goes on without: {failure}"),
            None => {}
        }
        self.emit(Event::Testament { generation: self.generation });
    }

    /// GOODBYE, and a bounded wait for the router's own; before WELCOME there is nobody to take leave of.
    fn leave(&mut self, now: Duration, end: End) {
        match self.stage {
            Stage::Ended | Stage::Leaving { .. } => {}
            Stage::Hello { .. } | Stage::Auth { .. } => self.end(end),
            Stage::Claim | Stage::Joined => {
                self.send(goodbye("wamp.close.close_realm"));
                self.stage = Stage::Leaving { until: now + (2 * self.reply_bound()).min(LONGEST_GOODBYE), end };
            }
        }
    }

    fn end(&mut self, end: End) {
        self.stage = Stage::Ended;
        for (_, pending) in std::mem::take(&mut self.pending) {
            match pending.what {
                What::Call { id, .. } => self.emit(Event::Answer { id, result: Err(CallError::Lost) }),
                What::Publish { id, .. } => self.emit(Event::Published { id, result: Err(CallError::Lost) }),
                _ => {}
            }
        }
        self.outputs.push(Output::End(end));
    }

    fn on_reply(&mut self, now: Duration, request: u64, reply: Result<Reply, (String, Payload)>) {
        let Some(pending) = self.pending.remove(&request) else {
            return debug!("reply to request {request}, which nobody waits for");
        };
        match (pending.what, reply) {
            (What::Claim, reply) => self.on_claim(now, reply),
            (What::Testament, reply) => self.on_testament(now, reply.err().map(|(uri, payload)| text(&uri, &payload))),
            (What::Apply(entry), Ok(Reply::Held(id))) => self.on_applied(now, entry, Ok(id)),
            (What::Apply(entry), Err((uri, payload))) => self.on_applied(now, entry, Err(text(&uri, &payload))),
            (What::GiveBack(entry), Ok(Reply::Held(id))) => self.release(now, entry, id),
            (What::GiveBack(_), _) | (What::Canceled, _) | (What::Release(_), Ok(_)) => {}
            (What::Release(entry), Err((uri, payload))) => {
                warn!("{} was not given back: {}", entry.uri(), text(&uri, &payload));
            }
            (What::Call { id, procedure, .. }, reply) => self.on_answer(id, procedure, reply),
            (What::Publish { id, topic }, reply) => self.on_published(id, topic, reply.err()),
            (What::Apply(entry), Ok(_)) => self.on_applied(now, entry, Err("a reply of another kind".to_owned())),
        }
    }

    fn on_reply_missing(&mut self, now: Duration, request: u64) {
        const MISSING: &str = "timeout waiting for reply";
        let Some(pending) = self.pending.remove(&request) else { return };
        match pending.what {
            What::Claim => self.on_claim_failed(now, MISSING),
            What::Testament => self.on_testament(now, Some(MISSING.to_owned())),
            What::Apply(entry) => self.on_applied(now, entry, Err(MISSING.to_owned())),
            What::GiveBack(_) | What::Canceled => {}
            What::Release(entry) => warn!("{} was not given back: {MISSING}", entry.uri()),
            What::Call { id, given_up, .. } => self.on_call_overdue(now, request, id, given_up),
            What::Publish { id, .. } => self.emit(Event::Published { id, result: Err(CallError::Timeout) }),
        }
    }

    fn reply_bound(&self) -> Duration {
        let bound = self.settings.response_timeout;
        if bound.is_zero() { DEFAULT_REPLY } else { bound }
    }

    fn wait(&mut self, what: What, until: Duration) -> u64 {
        let request = self.next_request();
        self.pending.insert(request, Pending { what, until });
        request
    }

    fn next_request(&mut self) -> u64 {
        self.last_request = if self.last_request >= LAST_REQUEST { 1 } else { self.last_request + 1 };
        self.last_request
    }

    fn send(&mut self, message: Message) {
        self.outputs.push(Output::Send(message::encode(message)));
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push(Output::Emit(event));
    }
}

/// A positive reply.
#[derive(Debug)]
enum Reply {
    /// REGISTERED or SUBSCRIBED, with the id.
    Held(u64),
    /// UNREGISTERED, UNSUBSCRIBED or PUBLISHED.
    Done,
    /// RESULT.
    Result(Payload),
}

/// What a command that needs a session is answered with while there is none.
pub fn refuse(command: Command) -> Option<Event> {
    match command {
        Command::Call { id, .. } => Some(Event::Answer { id, result: Err(CallError::NotConnected) }),
        Command::Publish { acknowledge: Some(id), .. } => {
            Some(Event::Published { id, result: Err(CallError::NotConnected) })
        }
        _ => None,
    }
}

/// HELLO announces what is implemented, and the names of the four roles.
fn hello(authid: &str) -> Map {
    let details = json!({
        "authid": authid,
        "authmethods": ["wampcra"],
        "roles": {
            "publisher": {},
            "subscriber": {},
            "caller": {"features": {"call_canceling": true, "caller_identification": true}},
            "callee": {"features": {"call_canceling": true, "call_timeout": true, "caller_identification": true}},
        },
    });
    match details {
        Value::Object(details) => details,
        _ => Map::new(),
    }
}

fn goodbye(reason: &str) -> Message {
    Message::Goodbye { details: Map::new(), reason: reason.to_owned() }
}

/// An ERROR in words.
fn text(uri: &str, payload: &Payload) -> String {
    match &payload.args {
        Some(args) if !args.is_empty() => format!("{uri} {}", Value::Array(args.clone())),
        _ => uri.to_owned(),
    }
}
