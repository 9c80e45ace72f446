//! Calls of our procedures: who calls, whether they may, and the answer (wire chapter 3.3, 3.4, 4). The procedures themselves
//! are the table in [`crate::rpc`].

use super::job::{JobSpec, Outcome};
use super::message::{CallFailure, Effect, Generation, Invocation, Level, LogCommand};
use super::plan::Kind;
use super::{Call, Job, State};
use crate::rpc::{self, Handler, Procedure, Reply};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Calls that may wait at once; more are refused.
const WAITING: usize = 256;
/// Bytes of the arguments of those that wait, about; the first may have more.
const BYTES: usize = 64 << 20;
/// Most bytes of a refusal, which may quote what the caller sent.
const TEXT: usize = 4096;

/// An invocation that waits.
#[derive(Debug, Clone)]
pub(crate) struct Pending {
    /// The call.
    pub invocation: Invocation,
    /// Its procedure.
    pub procedure: &'static Procedure,
    /// About how many bytes it keeps.
    pub weight: usize,
}

impl State {
    pub(super) fn on_invoked(&mut self, mut invocation: Invocation) {
        if self.generation() != Some(invocation.generation) {
            return;
        }
        let prefix = self.device.uri("");
        let Some(procedure) = invocation.procedure.strip_prefix(&prefix).and_then(rpc::find) else {
            return self.refuse(&invocation, format!("{} is no procedure of this device", invocation.procedure));
        };
        // What is answered at once by anybody's call must not be kept out by those who wait.
        let waits = procedure.privilege.is_some() || !matches!(procedure.handler, Handler::State(_));
        if waits && self.invocations.len() >= WAITING {
            return self.refuse(&invocation, format!("{WAITING} calls are waiting already"));
        }
        let weight = weight(&invocation);
        let waiting: usize = self.invocations.values().map(|pending| pending.weight).sum();
        if waits && waiting > 0 && waiting + weight > BYTES {
            return self.refuse(&invocation, format!("calls of {BYTES} bytes are waiting already"));
        }
        // Without a privilege nobody asks who calls, and the arguments speak for themselves.
        if procedure.privilege.is_some() {
            match caller(&invocation) {
                Ok(identity) => invocation.caller = identity,
                Err(error) => return self.refuse(&invocation, error),
            }
        }
        let id = self.id();
        if matches!(procedure.handler, Handler::Transfer)
            && let Some(container) = rpc::write_data::container(&invocation.args)
        {
            self.transfer_arrives(id, &container);
        }
        let pending = Pending { invocation, procedure, weight };
        match (procedure.privilege, pending.invocation.caller.as_deref()) {
            (None, _) | (Some(_), Some("system")) => {
                self.invocations.insert(id, pending);
                self.run_procedure(id);
            }
            (Some(privilege), caller) => match caller.and_then(|caller| caller.parse::<i64>().ok()) {
                Some(account) => {
                    self.invocations.insert(id, pending);
                    let args = vec![
                        json!({"privilege": privilege.text(), "entity": "DEVICE", "entity_key": self.device.device_key,
                        "requestor_account_key": account, "swarm_key": self.device.swarm_key}),
                    ];
                    self.call(Call::Privilege(id), "reswarm.devices.check_privilege", args, Duration::from_secs(10));
                }
                None => {
                    let text = format!("privilege check: the caller {caller:?} is not an account number");
                    self.transfer_refused(id);
                    self.refuse(&pending.invocation, text);
                }
            },
        }
    }

    pub(super) fn on_privilege(&mut self, id: u64, result: Result<Vec<Value>, CallFailure>) {
        let Some(pending) = self.invocations.get(&id) else { return };
        let verdict = match result {
            Ok(args) => match args.first().and_then(Value::as_bool) {
                Some(true) => Ok(()),
                Some(false) => Err(format!("insufficient privileges to call {}", pending.procedure.name)),
                None => Err("privilege check: the answer's argument is not a bool".to_owned()),
            },
            Err(failure) => Err(format!("privilege check: {}", failure.text())),
        };
        match verdict {
            Ok(()) => self.run_procedure(id),
            Err(text) => self.end_invocation(id, Err(text)),
        }
    }

    fn run_procedure(&mut self, id: u64) {
        let Some(pending) = self.invocations.get_mut(&id) else { return };
        match pending.procedure.handler {
            Handler::State(handler) => {
                let invocation = pending.invocation.clone();
                let result = handler(self, &invocation);
                let drive = result.as_ref().ok().and_then(|reply| reply.drive);
                self.end_invocation(id, result);
                if let Some(app) = drive {
                    self.drive(app, super::slot::Why::Requested);
                }
            }
            Handler::Query(query) => match query(&pending.invocation) {
                Ok(query) => {
                    self.start_job(Job::Invocation(id), JobSpec::Query(query));
                }
                Err(text) => self.end_invocation(id, Err(text)),
            },
            Handler::Statistics => {
                self.start_job(Job::Invocation(id), JobSpec::Statistics { previous: None });
            }
            Handler::History => match rpc::container_name(&pending.invocation) {
                Ok(container) => self.logs(LogCommand::History { container, token: id }),
                Err(text) => self.end_invocation(id, Err(text)),
            },
            // Its arguments are large: they are taken, not copied.
            Handler::Transfer => match rpc::write_data::message(std::mem::take(&mut pending.invocation.args)) {
                Ok(message) => self.transfer_allowed(id, message),
                Err(text) => self.end_invocation(id, Err(text)),
            },
        }
    }

    /// The log hub's lines: if there are none but the agent's own, the container's last lines follow.
    pub(super) fn on_history(&mut self, id: u64, container: String, lines: Vec<String>, only_agent: bool) {
        if !self.invocations.contains_key(&id) {
            return;
        }
        if only_agent && self.engine.answers() {
            let app = self.apps.values().find(|app| app.container == container && app.kind() == Kind::Compose);
            let project = app.map(|app| app.project.clone());
            let query = super::job::Query::Tail { container, project, history: lines };
            self.start_job(Job::Invocation(id), JobSpec::Query(query));
        } else {
            self.end_invocation(id, Ok(Reply::of(json!(lines))));
        }
    }

    pub(super) fn on_query(&mut self, id: u64, outcome: Outcome) {
        let result = match outcome {
            Outcome::Answer(args) => Ok(Reply { args, ..Reply::default() }),
            Outcome::Statistics { mut stats, .. } => {
                // The load of the last full window: a reading right now would be noise.
                stats["cpu_usage"] = json!(self.status.cpu_usage);
                Ok(Reply::of(stats))
            }
            Outcome::Failed(text) | Outcome::EngineGone(text) => Err(text),
            Outcome::Cancelled => Err("the agent is shutting down".to_owned()),
            other => Err(format!("unexpected {other:?}")),
        };
        self.end_invocation(id, result);
    }

    pub(super) fn on_interrupted(&mut self, generation: Generation, request: u64) {
        self.forget_invocations(|invocation| (invocation.generation, invocation.request) == (generation, request));
    }

    /// Forgets calls that nobody waits for any more. Jobs that only read for them end: a caller who asks again and again
    /// must not fill the queue of an engine that does not answer.
    pub(super) fn forget_invocations(&mut self, gone: impl Fn(&Invocation) -> bool) {
        let gone: Vec<_> = self.invocations.extract_if(.., |_, pending| gone(&pending.invocation)).collect();
        for (id, pending) in gone {
            let job = self.jobs.iter().find(|(_, purpose)| **purpose == Job::Invocation(id)).map(|(job, _)| *job);
            if let Some(job) = job.filter(|_| pending.procedure.privilege == Some(rpc::Privilege::Read)) {
                self.effect(Effect::Cancel { job });
            }
            self.transfer_refused(id);
        }
    }

    pub(super) fn end_invocation(&mut self, id: u64, result: Result<Reply, String>) {
        let Some(pending) = self.invocations.remove(&id) else { return };
        self.transfer_refused(id);
        match result {
            Ok(reply) => {
                let Invocation { generation, request, .. } = pending.invocation;
                self.effect(Effect::Yield { generation, request, args: reply.args, kwargs: reply.kwargs });
            }
            Err(text) => self.refuse(&pending.invocation, text),
        }
    }

    fn refuse(&mut self, invocation: &Invocation, mut text: String) {
        text.truncate(text.floor_char_boundary(TEXT));
        self.note(Level::Error, format!("{}: {text}", invocation.procedure));
        let Invocation { generation, request, .. } = *invocation;
        self.effect(Effect::Fail { generation, request, text });
    }
}

/// About how many bytes the arguments of a call keep.
fn weight(invocation: &Invocation) -> usize {
    fn of(value: &Value) -> usize {
        let inside = match value {
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(of).sum(),
            Value::Object(map) => map.iter().map(|(key, value)| key.len() + of(value)).sum(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        };
        size_of::<Value>() + inside
    }
    let named = invocation.kwargs.iter().map(|(key, value)| key.len() + of(value));
    named.chain(invocation.args.iter().map(of)).sum()
}

/// The identity that counts: the backend may act for a user (3.3).
fn caller(invocation: &Invocation) -> Result<Option<String>, String> {
    if invocation.caller.as_deref() != Some("system") {
        return Ok(invocation.caller.clone());
    }
    let key = |map: &Map<String, Value>| map.get("requestor_account_key").filter(|value| !value.is_null()).cloned();
    let named = key(&invocation.kwargs).or_else(|| invocation.args.first().and_then(Value::as_object).and_then(key));
    match named {
        None => Ok(invocation.caller.clone()),
        Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
        Some(Value::Number(number)) => match super::number::uint(&Value::Number(number)) {
            Some(whole) => Ok(Some(whole.to_string())),
            None => Err("invalid requestor: not an integer".to_owned()),
        },
        Some(Value::String(text)) if text.parse::<i64>().is_ok() => Ok(Some(text)),
        // Staying `system` would grant everything on a malformed key.
        Some(_) => Err("invalid requestor: not an integer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_may_name_who_it_acts_for() {
        let call = |caller: &str, args: Value, kwargs: Value| {
            caller_of(Invocation {
                caller: Some(caller.to_owned()),
                args: args.as_array().cloned().unwrap_or_default(),
                kwargs: kwargs.as_object().cloned().unwrap_or_default(),
                ..Invocation::default()
            })
        };
        fn caller_of(invocation: Invocation) -> Result<Option<String>, String> {
            caller(&invocation)
        }
        let is = |text: &str| Ok(Some(text.to_owned()));
        assert_eq!(call("system", json!([]), json!({"requestor_account_key": "42"})), is("42"));
        assert_eq!(call("system", json!([{"requestor_account_key": "7"}]), json!({})), is("7"));
        assert_eq!(
            call("system", json!([{"requestor_account_key": 7.0}]), json!({"requestor_account_key": null})),
            is("7")
        );
        assert_eq!(call("system", json!([]), json!({})), is("system"));
        assert_eq!(call("123", json!([]), json!({"requestor_account_key": 42})), is("123"));
        assert!(call("system", json!([]), json!({"requestor_account_key": "not-a-number"})).is_err());
        assert!(call("system", json!([{"requestor_account_key": []}]), json!({})).is_err());
    }
}
