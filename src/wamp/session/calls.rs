//! Calls and publications of a session (spec 1.5).

use super::{MAX_FRAME, Output, Pending, Reply, Session, What};
use crate::wamp::message::{self, Map, Message, Payload, option};
use crate::wamp::{CallError, CallResult, Event};
use log::debug;
use serde_json::Value;
use std::time::Duration;

/// The standard's error for what would not go through (WAMP 5.4).
const TOO_LARGE: &str = "wamp.error.payload_size_exceeded";

impl Session {
    pub(super) fn call(
        &mut self,
        now: Duration,
        id: u64,
        procedure: String,
        args: Vec<Value>,
        kwargs: Map,
        timeout: Duration,
    ) {
        let until = now.saturating_add(timeout);
        let request = self.wait(What::Call { id, procedure: procedure.clone(), given_up: false }, until);
        let payload = Payload::new(args, kwargs);
        let call = Message::Call { request, options: Map::new(), procedure: procedure.clone(), payload };
        if !self.send_within_limit(call) {
            self.pending.remove(&request);
            self.emit(Event::Answer { id, result: Err(too_large(procedure)) });
        }
    }

    /// The answer follows: what the router says to the CANCEL, or a timeout.
    pub(super) fn cancel_call(&mut self, now: Duration, id: u64) {
        let bound = now + self.reply_bound();
        let canceled = self.pending.iter_mut().find_map(|(request, pending)| match &mut pending.what {
            What::Call { id: call, given_up, .. } if *call == id && !*given_up => {
                *given_up = true;
                pending.until = pending.until.min(bound);
                Some(*request)
            }
            _ => None,
        });
        if let Some(request) = canceled {
            self.send_cancel(request);
        }
    }

    /// The caller is answered at once; the router gets time to confirm the CANCEL, so that its ERROR is no surprise.
    pub(super) fn on_call_overdue(&mut self, now: Duration, request: u64, id: u64, given_up: bool) {
        self.emit(Event::Answer { id, result: Err(CallError::Timeout) });
        if !given_up {
            self.send_cancel(request);
            let until = now + self.reply_bound();
            self.pending.insert(request, Pending { what: What::Canceled, until });
        }
    }

    pub(super) fn on_answer(&mut self, id: u64, procedure: String, reply: Result<Reply, (String, Payload)>) {
        let result = match reply {
            Ok(Reply::Result(payload)) => {
                Ok(CallResult { args: payload.args.unwrap_or_default(), kwargs: payload.kwargs.unwrap_or_default() })
            }
            Ok(_) => Err(error(procedure, "wamp.error.protocol_violation".to_owned(), Payload::none())),
            Err((uri, payload)) => Err(error(procedure, uri, payload)),
        };
        self.emit(Event::Answer { id, result });
    }

    pub(super) fn publish(
        &mut self,
        now: Duration,
        topic: String,
        args: Vec<Value>,
        kwargs: Map,
        acknowledge: Option<u64>,
    ) {
        let payload = Payload::new(args, kwargs);
        let Some(id) = acknowledge else {
            let request = self.next_request();
            let publish = Message::Publish { request, options: Map::new(), topic: topic.clone(), payload };
            if !self.send_within_limit(publish) {
                debug!("a publication on {topic} is too large");
            }
            return;
        };
        let request = self.wait(What::Publish { id, topic: topic.clone() }, now + self.reply_bound());
        let options = option("acknowledge", true);
        if !self.send_within_limit(Message::Publish { request, options, topic: topic.clone(), payload }) {
            self.pending.remove(&request);
            self.emit(Event::Published { id, result: Err(too_large(topic)) });
        }
    }

    pub(super) fn on_published(&mut self, id: u64, topic: String, failure: Option<(String, Payload)>) {
        let result = failure.map_or(Ok(()), |(uri, payload)| Err(error(topic, uri, payload)));
        self.emit(Event::Published { id, result });
    }

    /// Whether the message was small enough to be sent.
    pub(super) fn send_within_limit(&mut self, message: Message) -> bool {
        let text = message::encode(message);
        let fits = text.len() <= MAX_FRAME;
        if fits {
            self.outputs.push(Output::Send(text));
        }
        fits
    }

    fn send_cancel(&mut self, request: u64) {
        let options = option("mode", "killnowait");
        self.send(Message::Cancel { request, options });
    }
}

fn error(procedure: String, uri: String, payload: Payload) -> CallError {
    CallError::Error {
        procedure,
        uri,
        args: payload.args.unwrap_or_default(),
        kwargs: payload.kwargs.unwrap_or_default(),
    }
}

fn too_large(procedure: String) -> CallError {
    error(procedure, TOO_LARGE.to_owned(), Payload::none())
}
