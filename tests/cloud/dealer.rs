//! The dealer of the realm: registrations, calls with the caller disclosed, cancelling, registration meta events.

use super::realm::{Conn, Realm, random_id, with_payload};
use reagent::clock;
use serde_json::{Value, json};

/// A procedure with its one callee.
#[derive(Debug, Clone)]
pub struct Registration {
    pub id: u64,
    pub uri: String,
    pub callee: Conn,
    created: String,
}

/// A call that its callee has not answered.
#[derive(Debug, Clone)]
pub struct Invocation {
    caller: Conn,
    request: u64,
    callee: Conn,
    /// The caller asked to cancel; `true` if its ERROR waits for the callee's answer (mode `kill`).
    cancelled: Option<bool>,
}

impl Realm {
    pub(super) fn on_register(&mut self, conn: Conn, request: u64, options: &Value, uri: &str) {
        let session = self.session(conn).map_or(0, |session| session.id);
        let force = options["force_reregister"] == true;
        let refused = uri.ends_with(".wamp_connection_established") && self.refuse_presence > 0;
        if refused {
            self.refuse_presence -= 1;
        }
        let old = self.registrations.iter().position(|known| known.uri == uri);
        if refused || (old.is_some() && !force) {
            let text = format!("register for already registered procedure '{uri}'");
            return self.send(conn, json!([8, 64, request, {}, "wamp.error.procedure_already_exists", [text]]));
        }
        if let Some(index) = old {
            // As Crossbar: the loser is told, but no meta event says that the old registration went.
            let old = self.registrations.remove(index);
            let details = json!({"registration": old.id, "reason": "wamp.error.unregistered"});
            self.send(old.callee, json!([67, 0, details]));
        }
        let created = clock::wall().to_string();
        let registration = Registration { id: random_id(), uri: uri.to_owned(), callee: conn, created };
        let id = registration.id;
        let details = details_of(&registration);
        self.registrations.push(registration);
        self.send(conn, json!([65, request, id]));
        self.meta("wamp.registration.on_create", json!([session, details]));
        self.meta("wamp.registration.on_register", json!([session, id]));
    }

    pub(super) fn on_unregister(&mut self, conn: Conn, request: u64, id: &Value) {
        let session = self.session(conn).map_or(0, |session| session.id);
        let own = |known: &Registration| json!(known.id) == *id && known.callee == conn;
        let Some(index) = self.registrations.iter().position(own) else {
            return self.send(conn, json!([8, 66, request, {}, "wamp.error.no_such_registration"]));
        };
        self.send(conn, json!([67, request]));
        self.unregister(index, &json!(session));
    }

    /// `session` is null for a session that was lost, as Crossbar publishes it.
    fn unregister(&mut self, index: usize, session: &Value) {
        let id = self.registrations.remove(index).id;
        self.meta("wamp.registration.on_unregister", json!([session, id]));
        self.meta("wamp.registration.on_delete", json!([session, id]));
    }

    /// The connection is gone: its calls are interrupted, calls to it fail, its procedures go.
    pub(super) fn forget_calls(&mut self, conn: Conn) {
        let gone: Vec<u64> = self
            .invocations
            .iter()
            .filter(|(_, call)| call.caller == conn || call.callee == conn)
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            let Some(call) = self.invocations.remove(&id) else { continue };
            if call.callee == conn {
                let text = "callee disconnected from in-flight request";
                self.send(call.caller, json!([8, 48, call.request, {}, "wamp.error.canceled", [text]]));
            } else if call.cancelled.is_none() && self.session(call.callee).is_some_and(|callee| callee.cancels) {
                self.send(call.callee, json!([69, id, {"mode": "killnowait"}]));
            }
        }
        while let Some(index) = self.registrations.iter().position(|known| known.callee == conn) {
            self.unregister(index, &Value::Null);
        }
    }

    pub(super) fn on_call(&mut self, conn: Conn, request: u64, options: &Value, uri: &str, payload: Vec<Value>) {
        if let Some(answer) = self.call_meta(conn, uri, &payload) {
            let service = self.service();
            let reply = match answer {
                Ok(value) => json!([50, request, {
                    "callee": service.id, "callee_authid": service.authid, "callee_authrole": service.role,
                }, [value]]),
                Err((error, text)) => json!([8, 48, request, {}, error, [text]]),
            };
            return self.send(conn, reply);
        }
        let Some(registration) = self.registrations.iter().find(|known| known.uri == uri) else {
            let text = format!("no callee registered for procedure <{uri}>");
            return self.send(conn, json!([8, 48, request, {}, "wamp.error.no_such_procedure", [text]]));
        };
        let (id, callee) = (registration.id, registration.callee);
        let Some(caller) = self.session(conn) else { return };
        let mut details = json!({"caller": caller.id, "caller_authid": caller.authid, "caller_authrole": caller.role});
        for option in ["timeout", "receive_progress"] {
            if !options[option].is_null() {
                details[option] = options[option].clone();
            }
        }
        self.last_invocation += 1;
        let invocation = self.last_invocation;
        self.invocations.insert(invocation, Invocation { caller: conn, request, callee, cancelled: None });
        self.send(callee, with_payload(json!([68, invocation, id, details]), payload));
    }

    pub(super) fn on_cancel(&mut self, conn: Conn, request: u64, options: &Value) {
        let of_caller = |call: &Invocation| call.caller == conn && call.request == request;
        let Some((&id, call)) = self.invocations.iter().find(|(_, call)| of_caller(call)) else { return };
        if call.cancelled.is_some() {
            return;
        }
        let callee = call.callee;
        let interruptible = self.session(callee).is_some_and(|session| session.cancels);
        let mode = options["mode"].as_str().unwrap_or("killnowait");
        // Crossbar answers nothing at all to a skipped call: the caller hears neither error nor result.
        let waits = interruptible && mode == "kill";
        if let Some(call) = self.invocations.get_mut(&id) {
            call.cancelled = Some(waits);
        }
        if !interruptible || mode == "skip" {
            return;
        }
        self.send(callee, json!([69, id, {"mode": mode}]));
        if !waits {
            self.send(conn, json!([8, 48, request, {}, "wamp.error.canceled"]));
        }
    }

    pub(super) fn on_yield(&mut self, conn: Conn, id: u64, options: &Value, payload: Vec<Value>) {
        let Some(call) = self.invocations.get(&id).filter(|call| call.callee == conn).cloned() else { return };
        let progress = options["progress"] == true;
        if !progress {
            self.invocations.remove(&id);
        }
        match call.cancelled {
            Some(true) => self.send(call.caller, json!([8, 48, call.request, {}, "wamp.error.canceled"])),
            Some(false) => {}
            None => {
                let Some(callee) = self.session(conn) else { return };
                let mut details =
                    json!({"callee": callee.id, "callee_authid": callee.authid, "callee_authrole": callee.role});
                if progress {
                    details["progress"] = json!(true);
                }
                self.send(call.caller, with_payload(json!([50, call.request, details]), payload));
            }
        }
    }

    pub(super) fn on_invocation_error(&mut self, conn: Conn, list: &[Value]) {
        let id = list.get(2).and_then(Value::as_u64).unwrap_or_default();
        let Some(call) = self.invocations.get(&id).filter(|call| call.callee == conn).cloned() else { return };
        self.invocations.remove(&id);
        match call.cancelled {
            Some(true) => self.send(call.caller, json!([8, 48, call.request, {}, "wamp.error.canceled"])),
            Some(false) => {}
            None => {
                let error = list.get(4).cloned().unwrap_or(Value::Null);
                let payload = list.get(5..).unwrap_or_default().to_vec();
                self.send(call.caller, with_payload(json!([8, 48, call.request, {}, error]), payload));
            }
        }
    }

    /// The answer of `wamp.registration.get`.
    pub(super) fn registration(&self, id: u64) -> Option<Value> {
        self.registrations.iter().find(|known| known.id == id).map(details_of)
    }
}

fn details_of(registration: &Registration) -> Value {
    json!({
        "id": registration.id,
        "created": registration.created,
        "uri": registration.uri,
        "match": "exact",
        "invoke": "single",
    })
}
