//! The WAMP codec: one JSON array per message (<https://wamp-proto.org/spec.html>, 5 and 6), both directions.
//!
//! Pure. Lenient to what it does not know: unknown details and options are kept, missing trailing dictionaries are empty
//! ones, `null` in the place of arguments means none. Unknown message types are reported, never guessed.
//! Encoding always writes options and details, and leaves out trailing empty arguments (spec 0, "Empty slots").

#[cfg(test)]
mod tests;

use serde_json::Value;
use std::fmt;

/// A JSON object.
pub type Map = serde_json::Map<String, Value>;

/// A dictionary of one option.
pub fn option(name: &str, value: impl Into<Value>) -> Map {
    let mut options = Map::new();
    options.insert(name.to_owned(), value.into());
    options
}

/// Message type of CALL, as an ERROR names it.
pub const CALL: u64 = 48;
/// Message type of REGISTER, as an ERROR names it.
pub const REGISTER: u64 = 64;
/// Message type of INVOCATION, as an ERROR names it.
pub const INVOCATION: u64 = 68;

/// Arguments as they were on the wire: absent is not the same as empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Payload {
    /// The positional arguments.
    pub args: Option<Vec<Value>>,
    /// The keyword arguments.
    pub kwargs: Option<Map>,
}

impl Payload {
    /// Positional and keyword arguments; empty ones are not sent.
    pub fn new(args: Vec<Value>, kwargs: Map) -> Payload {
        Payload { args: Some(args), kwargs: Some(kwargs) }
    }

    /// No arguments at all.
    pub fn none() -> Payload {
        Payload::default()
    }
}

/// A WAMP message. Field names are those of the specification; ids are integers up to 2^53.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "variants and fields are the specification's")]
pub enum Message {
    Hello { realm: String, details: Map },
    Welcome { session: u64, details: Map },
    Abort { details: Map, reason: String },
    Challenge { method: String, extra: Map },
    Authenticate { signature: String, extra: Map },
    Goodbye { details: Map, reason: String },
    Error { kind: u64, request: u64, details: Map, uri: String, payload: Payload },
    Publish { request: u64, options: Map, topic: String, payload: Payload },
    Published { request: u64, publication: u64 },
    Subscribe { request: u64, options: Map, topic: String },
    Subscribed { request: u64, subscription: u64 },
    Unsubscribe { request: u64, subscription: u64 },
    Unsubscribed { request: u64 },
    Event { subscription: u64, publication: u64, details: Map, payload: Payload },
    Call { request: u64, options: Map, procedure: String, payload: Payload },
    Cancel { request: u64, options: Map },
    Result { request: u64, details: Map, payload: Payload },
    Register { request: u64, options: Map, procedure: String },
    Registered { request: u64, registration: u64 },
    Unregister { request: u64, registration: u64 },
    Unregistered { request: u64 },
    Invocation { request: u64, registration: u64, details: Map, payload: Payload },
    Interrupt { request: u64, options: Map },
    Yield { request: u64, options: Map, payload: Payload },
}

/// Why a text is no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecodeError {
    /// It is not JSON (or nested too deeply); the parser's words.
    NotJson(String),
    /// It is JSON, but not an array that begins with a non-negative integer.
    NotAMessage,
    /// A message type that this client does not know.
    UnknownType(u64),
    /// The named slot of a message of this type is missing or of the wrong kind.
    Slot(u64, &'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::NotJson(text) => write!(f, "not JSON: {text}"),
            DecodeError::NotAMessage => f.write_str("not an array that begins with a message type"),
            DecodeError::UnknownType(kind) => write!(f, "unknown message type {kind}"),
            DecodeError::Slot(kind, slot) => write!(f, "message of type {kind} without a usable {slot}"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads one frame.
///
/// # Errors
/// See [`DecodeError`]; nothing about the connection is broken then, the frame is skipped.
pub fn decode(text: &str) -> Result<Message, DecodeError> {
    let value = serde_json::from_str(text).map_err(|error| DecodeError::NotJson(error.to_string()))?;
    let Value::Array(slots) = value else { return Err(DecodeError::NotAMessage) };
    let mut slots = slots.into_iter();
    let kind = slots.next().as_ref().and_then(unsigned).ok_or(DecodeError::NotAMessage)?;
    let mut slots = Slots { kind, slots };
    let slots = &mut slots;
    // Struct fields are evaluated in the order written here, which is the order on the wire.
    Ok(match kind {
        1 => Message::Hello { realm: slots.text("realm")?, details: slots.dict("details")? },
        2 => Message::Welcome { session: slots.id("session")?, details: slots.dict("details")? },
        3 => Message::Abort { details: slots.dict("details")?, reason: slots.text("reason")? },
        4 => Message::Challenge { method: slots.text("method")?, extra: slots.dict("extra")? },
        5 => Message::Authenticate { signature: slots.text("signature")?, extra: slots.dict("extra")? },
        6 => Message::Goodbye { details: slots.dict("details")?, reason: slots.text("reason")? },
        8 => Message::Error {
            kind: slots.id("request type")?,
            request: slots.id("request")?,
            details: slots.dict("details")?,
            uri: slots.text("error")?,
            payload: slots.payload()?,
        },
        16 => Message::Publish {
            request: slots.id("request")?,
            options: slots.dict("options")?,
            topic: slots.text("topic")?,
            payload: slots.payload()?,
        },
        17 => Message::Published { request: slots.id("request")?, publication: slots.id("publication")? },
        32 => Message::Subscribe {
            request: slots.id("request")?,
            options: slots.dict("options")?,
            topic: slots.text("topic")?,
        },
        33 => Message::Subscribed { request: slots.id("request")?, subscription: slots.id("subscription")? },
        34 => Message::Unsubscribe { request: slots.id("request")?, subscription: slots.id("subscription")? },
        35 => Message::Unsubscribed { request: slots.id("request")? },
        36 => Message::Event {
            subscription: slots.id("subscription")?,
            publication: slots.id("publication")?,
            details: slots.dict("details")?,
            payload: slots.payload()?,
        },
        CALL => Message::Call {
            request: slots.id("request")?,
            options: slots.dict("options")?,
            procedure: slots.text("procedure")?,
            payload: slots.payload()?,
        },
        49 => Message::Cancel { request: slots.id("request")?, options: slots.dict("options")? },
        50 => Message::Result {
            request: slots.id("request")?,
            details: slots.dict("details")?,
            payload: slots.payload()?,
        },
        REGISTER => Message::Register {
            request: slots.id("request")?,
            options: slots.dict("options")?,
            procedure: slots.text("procedure")?,
        },
        65 => Message::Registered { request: slots.id("request")?, registration: slots.id("registration")? },
        66 => Message::Unregister { request: slots.id("request")?, registration: slots.id("registration")? },
        67 => Message::Unregistered { request: slots.id("request")? },
        INVOCATION => Message::Invocation {
            request: slots.id("request")?,
            registration: slots.id("registration")?,
            details: slots.dict("details")?,
            payload: slots.payload()?,
        },
        69 => Message::Interrupt { request: slots.id("request")?, options: slots.dict("options")? },
        70 => {
            Message::Yield { request: slots.id("request")?, options: slots.dict("options")?, payload: slots.payload()? }
        }
        other => return Err(DecodeError::UnknownType(other)),
    })
}

/// Writes one frame.
pub fn encode(message: Message) -> String {
    use Message::*;
    let slots = match message {
        Hello { realm, details } => frame(1, [realm.into(), details.into()], None),
        Welcome { session, details } => frame(2, [session.into(), details.into()], None),
        Abort { details, reason } => frame(3, [details.into(), reason.into()], None),
        Challenge { method, extra } => frame(4, [method.into(), extra.into()], None),
        Authenticate { signature, extra } => frame(5, [signature.into(), extra.into()], None),
        Goodbye { details, reason } => frame(6, [details.into(), reason.into()], None),
        Error { kind, request, details, uri, payload } => {
            frame(8, [kind.into(), request.into(), details.into(), uri.into()], Some(payload))
        }
        Publish { request, options, topic, payload } => {
            frame(16, [request.into(), options.into(), topic.into()], Some(payload))
        }
        Published { request, publication } => frame(17, [request.into(), publication.into()], None),
        Subscribe { request, options, topic } => frame(32, [request.into(), options.into(), topic.into()], None),
        Subscribed { request, subscription } => frame(33, [request.into(), subscription.into()], None),
        Unsubscribe { request, subscription } => frame(34, [request.into(), subscription.into()], None),
        Unsubscribed { request } => frame(35, [request.into()], None),
        Event { subscription, publication, details, payload } => {
            frame(36, [subscription.into(), publication.into(), details.into()], Some(payload))
        }
        Call { request, options, procedure, payload } => {
            frame(CALL, [request.into(), options.into(), procedure.into()], Some(payload))
        }
        Cancel { request, options } => frame(49, [request.into(), options.into()], None),
        Result { request, details, payload } => frame(50, [request.into(), details.into()], Some(payload)),
        Register { request, options, procedure } => {
            frame(REGISTER, [request.into(), options.into(), procedure.into()], None)
        }
        Registered { request, registration } => frame(65, [request.into(), registration.into()], None),
        Unregister { request, registration } => frame(66, [request.into(), registration.into()], None),
        Unregistered { request } => frame(67, [request.into()], None),
        Invocation { request, registration, details, payload } => {
            frame(INVOCATION, [request.into(), registration.into(), details.into()], Some(payload))
        }
        Interrupt { request, options } => frame(69, [request.into(), options.into()], None),
        Yield { request, options, payload } => frame(70, [request.into(), options.into()], Some(payload)),
    };
    Value::Array(slots).to_string()
}

fn frame<const N: usize>(kind: u64, slots: [Value; N], payload: Option<Payload>) -> Vec<Value> {
    let mut frame = Vec::with_capacity(N + 3);
    frame.push(kind.into());
    frame.extend(slots);
    let payload = payload.unwrap_or_default();
    let (args, kwargs) = (payload.args.unwrap_or_default(), payload.kwargs.unwrap_or_default());
    if !args.is_empty() || !kwargs.is_empty() {
        frame.push(args.into());
    }
    if !kwargs.is_empty() {
        frame.push(kwargs.into());
    }
    frame
}

/// A non-negative integer, also in the form of a float without a fraction (callers on other serializers produce it).
fn unsigned(value: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53, the bound of WAMP ids
    value.as_u64().or_else(|| {
        value.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=EXACT).contains(float)).map(|float| float as u64)
    })
}

struct Slots {
    kind: u64,
    slots: std::vec::IntoIter<Value>,
}

impl Slots {
    fn id(&mut self, name: &'static str) -> Result<u64, DecodeError> {
        self.slots.next().as_ref().and_then(unsigned).ok_or(DecodeError::Slot(self.kind, name))
    }

    fn text(&mut self, name: &'static str) -> Result<String, DecodeError> {
        match self.slots.next() {
            Some(Value::String(text)) => Ok(text),
            _ => Err(DecodeError::Slot(self.kind, name)),
        }
    }

    fn dict(&mut self, name: &'static str) -> Result<Map, DecodeError> {
        match self.slots.next() {
            Some(Value::Object(map)) => Ok(map),
            Some(Value::Null) | None => Ok(Map::new()),
            Some(_) => Err(DecodeError::Slot(self.kind, name)),
        }
    }

    fn payload(&mut self) -> Result<Payload, DecodeError> {
        let args = match self.slots.next() {
            Some(Value::Array(args)) => Some(args),
            Some(Value::Null) | None => None,
            Some(_) => return Err(DecodeError::Slot(self.kind, "argument list")),
        };
        let kwargs = match self.slots.next() {
            Some(Value::Object(kwargs)) => Some(kwargs),
            Some(Value::Null) | None => None,
            Some(_) => return Err(DecodeError::Slot(self.kind, "keyword arguments")),
        };
        Ok(Payload { args, kwargs })
    }
}
