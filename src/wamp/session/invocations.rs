//! Invocations: handed over as events, answered by commands, each exactly once (spec 1.5).

use super::Session;
use crate::wamp::Event;
use crate::wamp::message::{self, Map, Message, Payload};
use log::warn;
use serde_json::{Value, json};
use std::time::Duration;

/// The URI of every application error (spec 1.5).
const CANCELED: &str = "wamp.error.canceled";
/// More calls at once are refused: handlers that never answer must not fill the memory.
const MAX_RUNNING: usize = 1024;

impl Session {
    pub(super) fn on_invocation(
        &mut self,
        now: Duration,
        request: u64,
        registration: u64,
        mut details: Map,
        payload: Payload,
    ) {
        if self.table.is_claim(registration) {
            let payload = Payload { args: Some(vec!["Hello :-)".into()]), kwargs: None };
            return self.send(Message::Yield { request, options: Map::new(), payload });
        }
        let Some(procedure) = self.table.procedure(registration).map(str::to_owned) else {
            let text = format!("no procedure is registered with the id {registration}");
            return self.send_error(request, "wamp.error.invalid_argument".to_owned(), vec![text.into()]);
        };
        if self.invocations.len() >= MAX_RUNNING {
            warn!("{procedure} is refused: {MAX_RUNNING} calls are in progress");
            let text = json!({"error": "too many calls are in progress"});
            return self.send_error(request, CANCELED.to_owned(), vec![text]);
        }
        let timeout = details.get("timeout").and_then(Value::as_u64).filter(|&timeout| timeout > 0);
        self.invocations.insert(request, timeout.map(|ms| now.saturating_add(Duration::from_millis(ms))));
        self.emit(Event::Invocation {
            generation: self.generation,
            request,
            procedure,
            caller_authid: details.remove("caller_authid").filter(|authid| !authid.is_null()),
            args: payload.args,
            kwargs: payload.kwargs,
        });
    }

    /// INTERRUPT came, or the time of the invocation is over.
    pub(super) fn interrupt(&mut self, request: u64) {
        if self.invocations.remove(&request).is_some() {
            self.send_error(request, CANCELED.to_owned(), Vec::new());
            self.emit(Event::Interrupted { generation: self.generation, request });
        }
    }

    pub(super) fn yield_result(&mut self, request: u64, args: Vec<Value>, kwargs: Map) {
        if !self.is_open() || self.invocations.remove(&request).is_none() {
            return;
        }
        let payload = Payload::new(args, kwargs);
        if !self.send_within_limit(Message::Yield { request, options: Map::new(), payload }) {
            warn!("the result of request {request} is too large to be sent");
            let text = json!({"error": "the result is too large to be sent (over 16 MiB)"});
            self.send_error(request, CANCELED.to_owned(), vec![text]);
        }
    }

    pub(super) fn fail(&mut self, request: u64, uri: String, args: Vec<Value>) {
        if self.is_open() && self.invocations.remove(&request).is_some() {
            self.send_error(request, uri, args);
        }
    }

    fn send_error(&mut self, request: u64, uri: String, args: Vec<Value>) {
        let error = |uri: String, args| {
            let payload = Payload { args: Some(args), kwargs: None };
            Message::Error { kind: message::INVOCATION, request, details: Map::new(), uri, payload }
        };
        if !self.send_within_limit(error(uri, args)) {
            self.send(error(CANCELED.to_owned(), vec![json!({"error": "the error is too large to be sent"})]));
        }
    }
}
