//! A small WAMP client for tests: the backend, users of the front end, a second device. Written without the agent's code.
//!
//! One thread reads the socket and owns the session; calls block their own thread, always with a limit. Handlers and event
//! channels are installed before the message after REGISTERED or SUBSCRIBED is looked at.

use super::cra;
use super::realm::{pack, with_payload};
use super::wire::{self, Gate, Half, Out};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

/// How long a router may take to answer SUBSCRIBE, REGISTER and the like.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why something was not done.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// The router or the callee said so.
    Refused { uri: String, args: Vec<Value>, kwargs: Map<String, Value> },
    /// No answer within the limit.
    TimedOut,
    /// No connection, or it went away; with the reason as far as it is known.
    Gone(String),
}

impl Failure {
    /// The error URI, or an empty text.
    pub fn uri(&self) -> &str {
        match self {
            Failure::Refused { uri, .. } => uri,
            Failure::TimedOut | Failure::Gone(_) => "",
        }
    }
}

/// An event, a result, or an invocation's arguments.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    /// The details of the message.
    pub details: Value,
    pub args: Vec<Value>,
    pub kwargs: Map<String, Value>,
}

impl Payload {
    fn of(list: &[Value], details: usize) -> Payload {
        let after = |offset| list.get(details + offset).cloned().unwrap_or(Value::Null);
        let args_at = if list.first() == Some(&json!(8)) { 2 } else { 1 };
        let args = after(args_at).as_array().cloned().unwrap_or_default();
        let kwargs = after(args_at + 1).as_object().cloned().unwrap_or_default();
        Payload { details: after(0), args, kwargs }
    }
}

/// A call that has come in. It is answered once, now or later, or never.
pub struct Invocation {
    pub procedure: String,
    pub payload: Payload,
    /// Hears when the caller has cancelled or gone.
    pub interrupted: Receiver<()>,
    id: u64,
    out: Sender<Out>,
}

impl Invocation {
    /// YIELD with positional arguments.
    pub fn answer(&self, args: Vec<Value>) {
        self.send(with_payload(json!([70, self.id, {}]), pack(args, Map::new())));
    }

    /// A progressive result.
    pub fn progress(&self, args: Vec<Value>) {
        self.send(with_payload(json!([70, self.id, {"progress": true}]), pack(args, Map::new())));
    }

    /// ERROR.
    pub fn fail(&self, uri: &str, args: Vec<Value>) {
        self.send(with_payload(json!([8, 68, self.id, {}, uri]), pack(args, Map::new())));
    }

    fn send(&self, message: Value) {
        let _ = self.out.send(text(&message));
    }
}

/// What is done with the calls of a procedure, on the peer's thread: it must not block, but may pass the call on.
pub type Handler = Box<dyn FnMut(Invocation) + Send>;

enum Then {
    Nothing,
    Handle(String, Handler),
    Deliver(Sender<Payload>),
}

type Answer = Result<Vec<Value>, Failure>;

enum Command {
    /// Send `message` with the next request id in place 1; its answer goes to `answer`.
    Request {
        message: Value,
        then: Then,
        token: usize,
        answer: Sender<Answer>,
    },
    /// Send as it is.
    Send(Value),
    Cancel {
        token: usize,
        mode: &'static str,
    },
}

enum Input {
    Message(Value),
    Command(Command),
    Closed(String),
}

/// Who joins, and where.
#[derive(Debug, Clone)]
pub struct Login {
    pub url: String,
    pub authid: String,
    pub secret: String,
}

impl Login {
    pub fn new(url: &str, authid: &str, secret: &str) -> Login {
        Login { url: url.to_owned(), authid: authid.to_owned(), secret: secret.to_owned() }
    }
}

/// A joined session. Dropping it cuts the connection.
pub struct Peer {
    session: u64,
    inputs: Sender<Input>,
    out: Sender<Out>,
    tokens: Arc<AtomicUsize>,
    closed: Receiver<()>,
}

/// A call whose answer is awaited elsewhere.
pub struct Pending {
    token: usize,
    inputs: Sender<Input>,
    answer: Receiver<Answer>,
}

impl Pending {
    /// CANCEL with `skip`, `kill` or `killnowait`.
    pub fn cancel(&self, mode: &'static str) {
        let _ = self.inputs.send(Input::Command(Command::Cancel { token: self.token, mode }));
    }

    /// The result, progressive ones included: each call of this gives the next.
    pub fn wait(&self, limit: Duration) -> Result<Payload, Failure> {
        answer_within(&self.answer, limit).map(|list| Payload::of(&list, 2))
    }
}

impl Peer {
    /// Connects and joins `realm1` by WAMP-CRA.
    pub fn join(login: &Login) -> Result<Peer, Failure> {
        let mut socket = connect(&login.url)?;
        let features = json!({"callee": {"features": {"call_canceling": true, "caller_identification": true,
            "progressive_call_results": true}}, "caller": {"features": {"call_canceling": true,
            "progressive_call_results": true}}, "publisher": {}, "subscriber": {"features":
            {"pattern_based_subscription": true}}});
        let hello = json!([1, "realm1", {"authid": login.authid, "authmethods": ["wampcra"], "roles": features}]);
        send(&mut socket, &hello)?;
        let session = loop {
            let message = receive(&mut socket)?;
            match message[0].as_u64() {
                Some(4) => send(&mut socket, &json!([5, cra::answer(&login.secret, &message[2]), {}]))?,
                Some(2) => break message[1].as_u64().unwrap_or_default(),
                Some(3) => {
                    let uri = message[2].as_str().unwrap_or_default().to_owned();
                    let args = vec![message[1]["message"].clone()];
                    return Err(Failure::Refused { uri, args, kwargs: Map::new() });
                }
                _ => return Err(Failure::Gone(format!("unexpected {message}"))),
            }
        };
        let broken = |error: std::io::Error| Failure::Gone(error.to_string());
        socket.get_ref().set_read_timeout(None).map_err(broken)?;
        let out = wire::split(&mut socket, Role::Client, "peer-write").map_err(broken)?;
        let (inputs, received) = unbounded();
        let (closing, closed) = bounded(0);
        let reading = inputs.clone();
        reagent::thread::spawn(
            "peer-read",
            |_| {},
            move || {
                let end = loop {
                    match receive(&mut socket) {
                        Ok(message) => {
                            if reading.send(Input::Message(message)).is_err() {
                                break String::new();
                            }
                        }
                        Err(Failure::Gone(reason)) => break reason,
                        Err(_) => break String::new(),
                    }
                };
                let _ = reading.send(Input::Closed(end));
            },
        )
        .map_err(broken)?;
        let mut core = Core {
            out: out.clone(),
            next: 0,
            pending: HashMap::new(),
            handlers: HashMap::new(),
            events: HashMap::new(),
            interrupts: HashMap::new(),
        };
        reagent::thread::spawn(
            "peer",
            |_| {},
            move || {
                core.run(&received);
                drop(closing);
            },
        )
        .map_err(broken)?;
        Ok(Peer { session, inputs, out, tokens: Arc::default(), closed })
    }

    /// The session id.
    pub fn session(&self) -> u64 {
        self.session
    }

    /// Disconnects (as a channel) when the connection is gone.
    pub fn closed(&self) -> &Receiver<()> {
        &self.closed
    }

    /// Offers a procedure; `options` as on the wire. Returns the registration id.
    pub fn register(
        &self,
        uri: &str,
        options: Value,
        handler: impl FnMut(Invocation) + Send + 'static,
    ) -> Result<u64, Failure> {
        let then = Then::Handle(uri.to_owned(), Box::new(handler));
        let list = answer_within(&self.request(json!([64, 0, options, uri]), then).answer, PATIENCE)?;
        Ok(list.get(2).and_then(Value::as_u64).unwrap_or_default())
    }

    /// Takes a procedure back.
    pub fn unregister(&self, registration: u64) -> Result<(), Failure> {
        answer_within(&self.request(json!([66, 0, registration]), Then::Nothing).answer, PATIENCE).map(drop)
    }

    /// Subscribes; `kind` is `exact`, `prefix` or `wildcard`. Returns the subscription id and its events in order.
    pub fn subscribe(&self, topic: &str, kind: &str) -> Result<(u64, Receiver<Payload>), Failure> {
        let (events, delivered) = unbounded();
        Ok((self.subscribe_into(topic, kind, events)?, delivered))
    }

    /// [`Peer::subscribe`] into a channel that may outlive the session.
    pub fn subscribe_into(&self, topic: &str, kind: &str, events: Sender<Payload>) -> Result<u64, Failure> {
        let options = if kind == "exact" { json!({}) } else { json!({"match": kind}) };
        let pending = self.request(json!([32, 0, options, topic]), Then::Deliver(events));
        let list = answer_within(&pending.answer, PATIENCE)?;
        Ok(list.get(2).and_then(Value::as_u64).unwrap_or_default())
    }

    /// Ends a subscription.
    pub fn unsubscribe(&self, subscription: u64) -> Result<(), Failure> {
        answer_within(&self.request(json!([34, 0, subscription]), Then::Nothing).answer, PATIENCE).map(drop)
    }

    /// Publishes and waits until the router has taken it.
    pub fn publish(&self, topic: &str, args: Vec<Value>, kwargs: Map<String, Value>) -> Result<(), Failure> {
        let message = with_payload(json!([16, 0, {"acknowledge": true}, topic]), pack(args, kwargs));
        answer_within(&self.request(message, Then::Nothing).answer, PATIENCE).map(drop)
    }

    /// Calls and waits.
    pub fn call(
        &self,
        uri: &str,
        args: Vec<Value>,
        kwargs: Map<String, Value>,
        limit: Duration,
    ) -> Result<Payload, Failure> {
        self.start_call(uri, json!({}), args, kwargs).wait(limit)
    }

    /// Calls without waiting.
    pub fn start_call(&self, uri: &str, options: Value, args: Vec<Value>, kwargs: Map<String, Value>) -> Pending {
        self.request(with_payload(json!([48, 0, options, uri]), pack(args, kwargs)), Then::Nothing)
    }

    /// Sends any message, also a wrong one.
    pub fn send(&self, message: Value) {
        let _ = self.inputs.send(Input::Command(Command::Send(message)));
    }

    /// Says GOODBYE and waits until the connection is gone.
    pub fn leave(self) {
        self.send(json!([6, {}, "wamp.close.close_realm"]));
        let _ = self.closed.recv_timeout(PATIENCE);
    }

    /// Cuts the connection, as a power cut would.
    pub fn cut(&self) {
        let _ = self.out.send(Out::Cut);
    }

    fn request(&self, message: Value, then: Then) -> Pending {
        let token = self.tokens.fetch_add(1, Ordering::SeqCst);
        let (answer, answered) = unbounded();
        // A send that fails drops `answer`, and the wait says that the session is gone.
        let _ = self.inputs.send(Input::Command(Command::Request { message, then, token, answer }));
        Pending { token, inputs: self.inputs.clone(), answer: answered }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.cut();
    }
}

fn answer_within(answer: &Receiver<Answer>, limit: Duration) -> Answer {
    match answer.recv_timeout(limit) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout) => Err(Failure::TimedOut),
        Err(RecvTimeoutError::Disconnected) => Err(Failure::Gone("the session has ended".to_owned())),
    }
}

/// What the thread `peer` owns.
struct Core {
    out: Sender<Out>,
    next: u64,
    pending: HashMap<u64, (usize, Then, Sender<Answer>)>,
    handlers: HashMap<u64, (String, Handler)>,
    events: HashMap<u64, Sender<Payload>>,
    interrupts: HashMap<u64, Sender<()>>,
}

impl Core {
    fn run(&mut self, inputs: &Receiver<Input>) {
        while let Ok(input) = inputs.recv() {
            match input {
                Input::Command(Command::Request { mut message, then, token, answer }) => {
                    self.next += 1;
                    message[1] = json!(self.next);
                    self.pending.insert(self.next, (token, then, answer));
                    self.send(&message);
                }
                Input::Command(Command::Send(message)) => self.send(&message),
                Input::Command(Command::Cancel { token, mode }) => {
                    let request = self.pending.iter().find(|(_, (of, ..))| *of == token).map(|(&request, _)| request);
                    if let Some(request) = request {
                        self.send(&json!([49, request, {"mode": mode}]));
                    }
                }
                Input::Message(message) => self.on_message(message.as_array().map_or(&[], Vec::as_slice)),
                Input::Closed(reason) => {
                    for (_, (_, _, answer)) in self.pending.drain() {
                        let _ = answer.send(Err(Failure::Gone(reason.clone())));
                    }
                    return;
                }
            }
        }
    }

    fn on_message(&mut self, list: &[Value]) {
        let number = |index: usize| list.get(index).and_then(Value::as_u64).unwrap_or_default();
        match number(0) {
            6 => {
                if list.get(2) != Some(&json!("wamp.close.goodbye_and_out")) {
                    self.send(&json!([6, {}, "wamp.close.goodbye_and_out"]));
                }
                let _ = self.out.send(Out::Message(Message::Close(None)));
            }
            8 => {
                let Some((_, _, answer)) = self.pending.remove(&number(2)) else { return };
                let Payload { args, kwargs, .. } = Payload::of(list, 3);
                let uri = list.get(4).and_then(Value::as_str).unwrap_or_default().to_owned();
                let _ = answer.send(Err(Failure::Refused { uri, args, kwargs }));
            }
            36 => {
                if let Some(events) = self.events.get(&number(1)) {
                    let _ = events.send(Payload::of(list, 3));
                }
            }
            50 if list.get(2).is_some_and(|details| details["progress"] == true) => {
                if let Some((_, _, answer)) = self.pending.get(&number(1)) {
                    let _ = answer.send(Ok(list.to_vec()));
                }
            }
            17 | 33 | 35 | 50 | 65 | 67 => {
                let Some((_, then, answer)) = self.pending.remove(&number(1)) else { return };
                match then {
                    Then::Handle(uri, handler) => drop(self.handlers.insert(number(2), (uri, handler))),
                    Then::Deliver(events) => drop(self.events.insert(number(2), events)),
                    Then::Nothing => {}
                }
                let _ = answer.send(Ok(list.to_vec()));
            }
            68 => self.on_invocation(number(1), number(2), list),
            69 => {
                if let Some(interrupt) = self.interrupts.remove(&number(1)) {
                    let _ = interrupt.send(());
                }
            }
            _ => {}
        }
    }

    fn on_invocation(&mut self, id: u64, registration: u64, list: &[Value]) {
        let Some((procedure, handler)) = self.handlers.get_mut(&registration) else {
            let text = format!("no handler for registration {registration}");
            return self.send(&json!([8, 68, id, {}, "wamp.error.invalid_argument", [text]]));
        };
        let (interrupt, interrupted) = bounded(1);
        self.interrupts.insert(id, interrupt);
        let payload = Payload::of(list, 3);
        handler(Invocation { procedure: procedure.clone(), payload, interrupted, id, out: self.out.clone() });
    }

    fn send(&self, message: &Value) {
        let _ = self.out.send(text(message));
    }
}

fn text(message: &Value) -> Out {
    Out::Message(Message::text(message.to_string()))
}

fn connect(url: &str) -> Result<WebSocket<Half>, Failure> {
    let gone = |error: &dyn std::fmt::Display| Failure::Gone(format!("{url}: {error}"));
    let mut request = url.into_client_request().map_err(|error| gone(&error))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("wamp.2.json"));
    let host = request.uri().host().unwrap_or_default().to_owned();
    let tcp = TcpStream::connect((host, request.uri().port_u16().unwrap_or(80))).map_err(|error| gone(&error))?;
    tcp.set_nodelay(true).map_err(|error| gone(&error))?;
    tcp.set_read_timeout(Some(PATIENCE)).map_err(|error| gone(&error))?;
    let half = Half::new(tcp, Gate::default());
    let (socket, _) =
        tungstenite::client::client_with_config(request, half, Some(wire::config())).map_err(|error| gone(&error))?;
    Ok(socket)
}

fn send(socket: &mut WebSocket<Half>, message: &Value) -> Result<(), Failure> {
    socket.send(Message::text(message.to_string())).map_err(|error| Failure::Gone(error.to_string()))
}

fn receive(socket: &mut WebSocket<Half>) -> Result<Value, Failure> {
    loop {
        if let Message::Text(text) = socket.read().map_err(|error| Failure::Gone(error.to_string()))? {
            return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
        }
    }
}
