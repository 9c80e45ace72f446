//! One WAMP realm as a state machine: messages of connections in, messages to connections out. No sockets, no threads.
//!
//! Follows Crossbar.io 26, which the same tests judge: ids are random over 2^53, meta events go out after the reply, and
//! the error texts are Crossbar's where a caller could look at them.

use crate::cloud::cra;
use reagent::clock;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};

/// A connection of the router; a session lives on one, and takes its id from the realm.
pub type Conn = u64;

/// Who may join.
#[derive(Debug, Clone)]
pub struct User {
    pub secret: String,
    pub role: String,
    pub salt: Option<cra::Salt>,
}

impl User {
    /// A user without salt.
    pub fn plain(secret: &str, role: &str) -> User {
        User { secret: secret.to_owned(), role: role.to_owned(), salt: None }
    }
}

/// A message to a connection, or its end.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    Send(Conn, Value),
    Close(Conn),
}

/// A session that has joined.
#[derive(Debug, Clone)]
pub struct Session {
    pub id: u64,
    pub authid: String,
    pub role: String,
    /// Whether its callee role announced `call_canceling`: only then it is interrupted.
    pub cancels: bool,
    pub testaments: Vec<Publication>,
}

/// What is published: by a session, by a testament, or by the realm itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    pub topic: String,
    /// Positional and keyword arguments as they go onto the wire.
    pub payload: Vec<Value>,
}

enum Phase {
    /// CHALLENGE was sent.
    Challenged {
        challenge: String,
        session: Session,
    },
    Joined(Session),
}

/// See the module.
pub struct Realm {
    pub users: HashMap<String, User>,
    phases: BTreeMap<Conn, Phase>,
    pub(super) subscriptions: Vec<super::broker::Subscription>,
    pub(super) registrations: Vec<super::dealer::Registration>,
    pub(super) invocations: BTreeMap<u64, super::dealer::Invocation>,
    pub(super) last_invocation: u64,
    /// How many more presence registrations are refused as already existing.
    pub refuse_presence: u32,
    /// Whether every signature is called invalid.
    pub refuse_auth: bool,
    service: Session,
    out: Vec<Output>,
    /// Meta events of the message at hand: they leave after its reply.
    later: Vec<Publication>,
}

impl Realm {
    /// An empty realm `realm1` for these users.
    pub fn new(users: HashMap<String, User>) -> Realm {
        let service = Session {
            id: random_id(),
            authid: "routerworker-realm-serviceagent".to_owned(),
            role: "trusted".to_owned(),
            cancels: false,
            testaments: Vec::new(),
        };
        Realm {
            users,
            phases: BTreeMap::new(),
            subscriptions: Vec::new(),
            registrations: Vec::new(),
            invocations: BTreeMap::new(),
            last_invocation: 0,
            refuse_presence: 0,
            refuse_auth: false,
            service,
            out: Vec::new(),
            later: Vec::new(),
        }
    }

    /// What has to be sent since the last call, in order.
    pub fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// The joined session of a connection.
    pub fn session(&self, conn: Conn) -> Option<&Session> {
        match self.phases.get(&conn) {
            Some(Phase::Joined(session)) => Some(session),
            _ => None,
        }
    }

    /// All joined sessions.
    pub fn sessions(&self) -> impl Iterator<Item = (Conn, &Session)> {
        self.phases.iter().filter_map(|(&conn, phase)| match phase {
            Phase::Joined(session) => Some((conn, session)),
            Phase::Challenged { .. } => None,
        })
    }

    pub(super) fn send(&mut self, conn: Conn, message: Value) {
        self.out.push(Output::Send(conn, message));
    }

    /// Publishes a meta event once the reply to the message at hand is out.
    pub(super) fn meta(&mut self, topic: &str, args: Value) {
        self.later.push(Publication { topic: topic.to_owned(), payload: vec![args] });
    }

    /// Takes a message. Whatever violates the protocol ends the connection with an ABORT.
    pub fn on_message(&mut self, conn: Conn, message: &Value) {
        let Some(list) = message.as_array().filter(|list| list.first().is_some_and(Value::is_u64)) else {
            return self.violation(conn, "a message is a list that begins with its type");
        };
        match (list[0].as_u64().unwrap_or_default(), self.phases.get(&conn)) {
            (1, None) => self.on_hello(conn, &at(list, 1), &at(list, 2)),
            (5, Some(Phase::Challenged { .. })) => self.on_authenticate(conn, &at(list, 1)),
            (6, Some(_)) => {
                if at(list, 2) != "wamp.close.goodbye_and_out" {
                    self.send(conn, json!([6, {}, "wamp.close.goodbye_and_out"]));
                }
                self.on_closed(conn);
                self.out.push(Output::Close(conn));
            }
            (3, _) => {
                self.on_closed(conn);
                self.out.push(Output::Close(conn));
            }
            (kind, Some(Phase::Joined(_))) => self.on_joined(conn, kind, list),
            (kind, _) => self.violation(conn, &format!("message type {kind} out of turn")),
        }
        self.flush_meta();
    }

    fn on_joined(&mut self, conn: Conn, kind: u64, list: &[Value]) {
        let request = list.get(1).and_then(Value::as_u64).unwrap_or_default();
        let options = at(list, 2);
        let target = at(list, 3);
        let uri = target.as_str().unwrap_or_default();
        match kind {
            8 if request == 68 => self.on_invocation_error(conn, list),
            16 => self.on_publish(conn, request, &options, uri, payload(list, 4)),
            32 => self.on_subscribe(conn, request, &options, uri),
            34 => self.on_unsubscribe(conn, request, &options),
            48 => self.on_call(conn, request, &options, uri, payload(list, 4)),
            49 => self.on_cancel(conn, request, &options),
            64 => self.on_register(conn, request, &options, uri),
            66 => self.on_unregister(conn, request, &options),
            70 => self.on_yield(conn, request, &options, payload(list, 3)),
            _ => self.violation(conn, &format!("message type {kind} is not for a router")),
        }
    }

    /// The connection is gone: the session leaves the realm, its testaments are published.
    pub fn on_closed(&mut self, conn: Conn) {
        let Some(Phase::Joined(session)) = self.phases.remove(&conn) else { return };
        for testament in &session.testaments {
            self.publish(&session, Some(conn), testament);
        }
        self.forget_calls(conn);
        self.forget_subscriptions(conn);
        self.meta("wamp.session.on_leave", json!([session.id]));
        self.flush_meta();
    }

    fn violation(&mut self, conn: Conn, text: &str) {
        self.send(conn, json!([3, {"message": text}, "wamp.error.protocol_violation"]));
        self.on_closed(conn);
        self.out.push(Output::Close(conn));
    }

    fn abort(&mut self, conn: Conn, reason: &str, text: &str) {
        self.phases.remove(&conn);
        self.send(conn, json!([3, {"message": text}, reason]));
        self.out.push(Output::Close(conn));
    }

    fn on_hello(&mut self, conn: Conn, realm: &Value, details: &Value) {
        if realm != "realm1" {
            return self.abort(conn, "wamp.error.no_such_realm", &format!("no realm {realm} exists on this router"));
        }
        let authid = details["authid"].as_str().unwrap_or_default();
        let methods = details["authmethods"].as_array();
        if !methods.is_some_and(|methods| methods.iter().any(|method| method == "wampcra")) {
            return self.abort(
                conn,
                "wamp.error.no_auth_method",
                "cannot authenticate using any of the offered methods",
            );
        }
        let Some(user) = self.users.get(authid) else {
            let text = format!("no principal with authid \"{authid}\" exists");
            return self.abort(conn, "wamp.error.not_authorized", &text);
        };
        let session = Session {
            id: random_id(),
            authid: authid.to_owned(),
            role: user.role.clone(),
            cancels: details["roles"]["callee"]["features"]["call_canceling"] == true,
            testaments: Vec::new(),
        };
        // The spaces are Crossbar's (Python's): a client that parses and prints the challenge anew would sign another text.
        let challenge = format!(
            r#"{{"authid": "{authid}", "authrole": "{}", "authmethod": "wampcra", "authprovider": "static", "session": {}, "nonce": "{:x}{:x}", "timestamp": "{}"}}"#,
            session.role,
            session.id,
            random_id(),
            random_id(),
            clock::wall()
        );
        let mut extra = json!({"challenge": challenge});
        if let Some(salt) = &user.salt {
            extra["salt"] = json!(salt.text);
            extra["iterations"] = json!(salt.iterations);
            extra["keylen"] = json!(salt.keylen);
        }
        self.phases.insert(conn, Phase::Challenged { challenge, session });
        self.send(conn, json!([4, "wampcra", extra]));
    }

    fn on_authenticate(&mut self, conn: Conn, signature: &Value) {
        let Some(Phase::Challenged { challenge, session }) = self.phases.remove(&conn) else { return };
        let expected = self
            .users
            .get(&session.authid)
            .map(|user| cra::sign(&cra::key(&user.secret, user.salt.as_ref()), &challenge))
            .filter(|_| !self.refuse_auth);
        if expected.as_deref() != signature.as_str() {
            return self.abort(conn, "wamp.error.not_authorized", "WAMP-CRA client signature is invalid");
        }
        self.send(
            conn,
            json!([2, session.id, {
                "realm": "realm1",
                "authid": session.authid,
                "authrole": session.role,
                "authmethod": "wampcra",
                "authprovider": "static",
                "authextra": {},
                "roles": {
                    "broker": {"features": {
                        "publisher_identification": true, "pattern_based_subscription": true, "session_meta_api": true,
                        "subscription_meta_api": true, "publisher_exclusion": true,
                    }},
                    "dealer": {"features": {
                        "caller_identification": true, "session_meta_api": true, "registration_meta_api": true,
                        "call_canceling": true, "testament_meta_api": true,
                    }},
                },
            }]),
        );
        let details = json!([{"session": session.id, "authid": session.authid, "authrole": session.role}]);
        self.phases.insert(conn, Phase::Joined(session));
        self.meta("wamp.session.on_join", details);
    }

    /// The procedures that the realm offers itself: what the agent uses of the meta API. `None` for any other name.
    pub(super) fn call_meta(
        &mut self,
        conn: Conn,
        uri: &str,
        payload: &[Value],
    ) -> Option<Result<Value, (String, String)>> {
        let first = payload.first().map_or(Value::Null, |args| args[0].clone());
        let answer = match uri {
            "wamp.session.add_testament" => {
                let args = payload.first().and_then(Value::as_array).filter(|args| args.len() >= 3);
                let (Some(args), Some(Phase::Joined(session))) = (args, self.phases.get_mut(&conn)) else {
                    return Some(invalid("add_testament takes topic, args and kwargs"));
                };
                let testament = Publication {
                    topic: args[0].as_str().unwrap_or_default().to_owned(),
                    payload: self::payload(&args[1..3], 0),
                };
                session.testaments.push(testament);
                json!(random_id())
            }
            "wamp.session.flush_testaments" => {
                let Some(Phase::Joined(session)) = self.phases.get_mut(&conn) else { return None };
                json!(std::mem::take(&mut session.testaments).len())
            }
            "wamp.subscription.match" => self.match_subscriptions(first.as_str().unwrap_or_default()),
            "wamp.registration.get" => match self.registration(first.as_u64().unwrap_or_default()) {
                Some(details) => details,
                None => {
                    let text = format!("no registration with ID {first} exists on this dealer");
                    return Some(Err(("wamp.error.no_such_registration".to_owned(), text)));
                }
            },
            _ => return None,
        };
        Some(Ok(answer))
    }

    /// The session in whose name the realm answers meta calls and publishes meta events.
    pub(super) fn service(&self) -> &Session {
        &self.service
    }

    fn flush_meta(&mut self) {
        let service = self.service.clone();
        for publication in std::mem::take(&mut self.later) {
            self.publish(&service, None, &publication);
        }
    }
}

fn invalid(text: &str) -> Result<Value, (String, String)> {
    Err(("wamp.error.invalid_argument".to_owned(), text.to_owned()))
}

fn at(list: &[Value], index: usize) -> Value {
    list.get(index).cloned().unwrap_or(Value::Null)
}

/// The arguments from `index` on, as they go onto the wire again: trailing empties left out.
fn payload(list: &[Value], index: usize) -> Vec<Value> {
    let args = list.get(index).and_then(Value::as_array).cloned().unwrap_or_default();
    let kwargs = list.get(index + 1).and_then(Value::as_object).cloned().unwrap_or_default();
    pack(args, kwargs)
}

/// Positional and keyword arguments as they go onto the wire.
pub fn pack(args: Vec<Value>, kwargs: Map<String, Value>) -> Vec<Value> {
    match (args.is_empty(), kwargs.is_empty()) {
        (true, true) => Vec::new(),
        (false, true) => vec![Value::Array(args)],
        (_, false) => vec![Value::Array(args), Value::Object(kwargs)],
    }
}

/// Appends a payload to the head of a message.
pub fn with_payload(mut head: Value, payload: Vec<Value>) -> Value {
    if let Some(list) = head.as_array_mut() {
        list.extend(payload);
    }
    head
}

/// A random id, as WAMP wants it: 1 to 2^53.
pub fn random_id() -> u64 {
    (RandomState::new().hash_one(0_u8) & ((1 << 53) - 1)).max(1)
}
