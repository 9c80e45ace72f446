//! The WAMP client: one session with a router, kept up for ever (spec `wamp-and-rpc.md` 1).
//!
//! Two threads: `wamp` owns the session and everything that is decided, `wamp-pump` connects and then only reads raw
//! bytes. Others hold a [`Handle`], send [`Command`]s and receive [`Event`]s; nobody ever waits for the network.
//! A library: it knows procedures, topics and payloads, and nothing of what they mean.
//!
//! **Invariant:** whatever belongs to a lost session carries its generation and is dropped; the declared table
//! ([`Declaration`]) and the testament are applied again to each new one.
//! **Invariant:** a consumer of events that does not keep up never delays a pong, a result or a ping.

pub mod auth;
mod dial;
pub mod endpoint;
mod handle;
mod handshake;
mod lane;
pub mod message;
mod pipe;
mod pump;
mod run;
pub mod session;
mod socket;

use crate::clock::Wall;
use crate::probe::Probe;
use crate::secret::Secret;
pub use handle::{Handle, spawn};
pub use lane::Bulk;
pub use message::Map;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// How and as whom to connect. Everything is read anew for each dial (spec 1.3).
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `ws`, `wss` (or `http`, `https`, which mean the same) with host, optional port and path.
    pub url: String,
    /// The realm to join.
    pub realm: String,
    /// The identity, `<swarm key>-<device key>`.
    pub authid: String,
    /// The secret for WAMP-CRA.
    pub secret: Secret,
    /// Presented to the legacy endpoint (spec 1.2), and to no other.
    pub client_certificate: Option<ClientCertificate>,
    /// The presence procedure (spec 1.8): registered first and unforced, answered by the session itself.
    pub claim: String,
    /// What the router is to publish when the session goes away (spec 1.10).
    pub testament: Option<Testament>,
    /// Bounds TCP, TLS and the WebSocket handshake together; zero: no bound but an own one of two minutes.
    pub connect_timeout: Duration,
    /// How long each reply of the router is waited for; zero: 5 s.
    pub response_timeout: Duration,
    /// Distance between two pings, at most 30 s; zero: 30 s (decision 12).
    pub ping_interval: Duration,
    /// Certificates are checked against this time if the system clock is older (spec 1.2).
    pub time_floor: Wall,
}

/// A client certificate as PEM text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The certificate, with or without its chain.
    pub certificate: String,
    /// Its private key.
    pub key: Secret,
}

/// A publication that the router makes when the session is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Testament {
    /// The topic.
    pub topic: String,
    /// The one positional argument; the session adds its id as `wamp_session_id`.
    pub payload: Map,
}

/// An entry of the declared table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Declaration {
    /// A procedure, registered with `force_reregister`.
    Procedure(String),
    /// A subscription to a topic.
    Subscription(String),
}

impl Declaration {
    /// The URI of the procedure or the topic.
    pub fn uri(&self) -> &str {
        match self {
            Declaration::Procedure(uri) | Declaration::Subscription(uri) => uri,
        }
    }
}

/// When an entry of the declared table is applied to a new session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Right after joining.
    Join,
    /// On [`Command::Open`].
    Open,
}

/// What the `wamp` thread is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Other settings, from the next dial on.
    Configure(Settings),
    /// Adds an entry to the table, and applies it at once if the session is past that phase.
    Declare {
        /// The entry.
        entry: Declaration,
        /// When it is applied to later sessions.
        phase: Phase,
    },
    /// Removes an entry from the table and from the session; invocations and events of it are not delivered any more.
    Withdraw(Declaration),
    /// Applies the entries of [`Phase::Open`] to the session; answered by [`Event::Opened`].
    Open {
        /// The session meant; any other is left alone.
        generation: u64,
    },
    /// Calls a procedure; answered exactly once by [`Event::Answer`].
    Call {
        /// Chosen by the caller, unique among its open calls.
        id: u64,
        /// The procedure.
        uri: String,
        /// Positional arguments.
        args: Vec<Value>,
        /// Keyword arguments.
        kwargs: Map,
        /// The deadline of the answer.
        timeout: Duration,
    },
    /// Gives a call up: its answer is what the router says to that, or a timeout.
    CancelCall {
        /// The id of the call.
        id: u64,
    },
    /// Publishes on the control lane. For logs and terminal output there is [`Handle::bulk`].
    Publish {
        /// The topic.
        topic: String,
        /// Positional arguments.
        args: Vec<Value>,
        /// Keyword arguments.
        kwargs: Map,
        /// Asks the router for an acknowledgement, reported with this id in [`Event::Published`].
        acknowledge: Option<u64>,
    },
    /// The result of an invocation.
    Yield {
        /// The session that it came from.
        generation: u64,
        /// The request id of the invocation.
        request: u64,
        /// Positional arguments.
        args: Vec<Value>,
        /// Keyword arguments.
        kwargs: Map,
    },
    /// The failure of an invocation.
    Fail {
        /// The session that it came from.
        generation: u64,
        /// The request id of the invocation.
        request: u64,
        /// The error URI.
        uri: String,
        /// The positional arguments of the error.
        args: Vec<Value>,
    },
    /// The identity changed: takes leave of the router and dials again at once.
    Redial {
        /// For the log and for [`Event::Left`].
        reason: String,
    },
    /// The session is dead as far as its user can see: drops the socket without a word, then dials (spec 1.10).
    Abort {
        /// The session meant; any other is left alone.
        generation: u64,
        /// For the log and for [`Event::Left`].
        reason: String,
    },
    /// Answered by being taken.
    Probe(Probe),
    /// Takes leave of the router, waiting a few seconds at most, and ends the thread.
    Stop,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A dial did not lead to a joined session.
    AttemptFailed {
        /// Counts from 1 in each series of dials.
        attempt: u64,
        /// In words.
        reason: String,
        /// How long the next attempt is held back.
        retry_in: Duration,
    },
    /// Decision 9: the router will not have this device, which it has never had. The thread ends after this.
    GaveUp(Refusal),
    /// A session is up: presence claimed (or refused for another reason than an existing holder, and then tried again),
    /// testament and entries of [`Phase::Join`] on their way.
    Joined {
        /// Names this session in commands and events.
        generation: u64,
        /// The router's id of the session.
        session: u64,
    },
    /// The router holds the testament, or has refused it and the session goes on without. On the first session of a process
    /// a refusal ends the session instead.
    Testament {
        /// The session.
        generation: u64,
    },
    /// Every entry of [`Phase::Open`] was answered.
    Opened {
        /// The session.
        generation: u64,
        /// URIs that were refused or not answered; they are retried while the session lives.
        failed: Vec<String>,
    },
    /// A joined session is gone; its open calls have been answered with [`CallError::Lost`].
    Left {
        /// The session.
        generation: u64,
        /// In words.
        reason: String,
    },
    /// The answer to a call.
    Answer {
        /// The id of the call.
        id: u64,
        /// What came of it.
        result: Result<CallResult, CallError>,
    },
    /// The fate of a publication with `acknowledge`.
    Published {
        /// The id given with it.
        id: u64,
        /// Whether the router took it.
        result: Result<(), CallError>,
    },
    /// Somebody calls a declared procedure; to be answered with [`Command::Yield`] or [`Command::Fail`].
    Invocation {
        /// The session.
        generation: u64,
        /// To be named in the answer.
        request: u64,
        /// The URI.
        procedure: String,
        /// `details.caller_authid` as the router sent it: text, a number, or missing.
        caller_authid: Option<Value>,
        /// Positional arguments; `None` if absent.
        args: Option<Vec<Value>>,
        /// Keyword arguments; `None` if absent.
        kwargs: Option<Map>,
    },
    /// The caller gave up or its time is over. The session has answered already; a late answer is dropped.
    Interrupted {
        /// The session.
        generation: u64,
        /// The invocation.
        request: u64,
    },
    /// A publication on a declared topic.
    Event {
        /// The session.
        generation: u64,
        /// The topic as declared.
        topic: String,
        /// Positional arguments.
        args: Vec<Value>,
        /// Keyword arguments.
        kwargs: Map,
    },
}

/// Why the client gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The secret is wrong: refused three times in a row.
    Secret,
    /// Another session holds the presence procedure: refused eight times.
    Presence,
}

/// What a call returned.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CallResult {
    /// Positional; empty if absent.
    pub args: Vec<Value>,
    /// Keyword; empty if absent.
    pub kwargs: Map,
}

/// Why a call or an acknowledged publication has no result.
#[derive(Debug, Clone, PartialEq)]
pub enum CallError {
    /// No answer within its deadline.
    Timeout,
    /// The session ended before the answer.
    Lost,
    /// There was no joined session.
    NotConnected,
    /// The router or the callee refused.
    Error {
        /// The procedure or the topic.
        procedure: String,
        /// The error URI.
        uri: String,
        /// Positional arguments of the error.
        args: Vec<Value>,
        /// Keyword arguments of the error.
        kwargs: Map,
    },
}

impl CallError {
    /// Whether it says something about the connection, and not about the call (spec 1.11).
    pub fn is_transport(&self) -> bool {
        !matches!(self, CallError::Error { .. })
    }
}

impl fmt::Display for CallError {
    /// Names procedure, error URI and joined arguments: some callers look for substrings (spec 1.5, "call errors").
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Timeout => f.write_str("timeout waiting for reply"),
            CallError::Lost => f.write_str("connection lost before the reply"),
            CallError::NotConnected => f.write_str("not connected"),
            CallError::Error { procedure, uri, args, kwargs } => {
                write!(f, "{procedure}: {uri}")?;
                for (index, arg) in args.iter().enumerate() {
                    f.write_str(if index == 0 { ": " } else { ", " })?;
                    match arg {
                        Value::String(text) => f.write_str(text)?,
                        other => write!(f, "{other}")?,
                    }
                }
                if !kwargs.is_empty() {
                    write!(f, " {}", Value::Object(kwargs.clone()))?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for CallError {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_refused_call_names_procedure_uri_and_arguments() {
        let kwargs = Map::from_iter([("code".to_owned(), json!(7))]);
        let error = |args, kwargs| CallError::Error {
            procedure: "a.b".to_owned(),
            uri: "wamp.error.procedure_already_exists".to_owned(),
            args,
            kwargs,
        };
        assert_eq!(error(vec![], Map::new()).to_string(), "a.b: wamp.error.procedure_already_exists");
        assert_eq!(
            error(vec![json!("Duplicate value"), json!({"x": 1})], kwargs).to_string(),
            r#"a.b: wamp.error.procedure_already_exists: Duplicate value, {"x":1} {"code":7}"#
        );
        assert!(!error(vec![], Map::new()).is_transport());
        for (error, text) in [
            (CallError::Timeout, "timeout waiting for reply"),
            (CallError::Lost, "connection lost before the reply"),
            (CallError::NotConnected, "not connected"),
        ] {
            assert!(error.is_transport());
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn settings_do_not_print_secrets() {
        let certificate = ClientCertificate { certificate: "PEM".to_owned(), key: Secret::new("hunter2") };
        assert!(!format!("{certificate:?}").contains("hunter2"));
    }
}
