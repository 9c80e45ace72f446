//! What arrives at the state thread, and what it means to the core: one conversion per source.

use crate::domain::job::ContainerEvent;
use crate::domain::message::{CallFailure, Event, Invocation, LogEvent};
use crate::probe::Probe;
use crate::thread::Exit;
use crate::{docker, jobs, logs, wamp};
use serde_json::Value;

/// A message to the state thread, one variant per source.
#[derive(Debug)]
pub enum Message {
    /// The WAMP client.
    Wamp(wamp::Event),
    /// The engine's event stream.
    Docker(docker::events::Event),
    /// The workers.
    Jobs(jobs::Event),
    /// The log hub.
    Logs(logs::Event),
    /// A signal asks the agent to end.
    Signal(i32),
    /// Do the threads work? Passed on to all of them.
    Probe(Probe),
    /// An edge has ended.
    Ended(Edge, Exit),
}

/// A thread that the state thread depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// `wamp`
    Wamp,
    /// `docker-events`
    Docker,
    /// `logs`
    Logs,
    /// `signals`
    Signals,
    /// `watchdog`
    Watchdog,
    /// `job-N`
    Jobs,
}

/// What the WAMP client says; `None` for what only the log is told.
pub fn of_wamp(event: wamp::Event) -> Option<Event> {
    Some(match event {
        // The client has logged it.
        wamp::Event::AttemptFailed { .. } | wamp::Event::Published { .. } => return None,
        wamp::Event::GaveUp(_) => return None,
        wamp::Event::Joined { generation, session } => Event::Joined { generation, session },
        wamp::Event::Testament { generation } => Event::Testament { generation },
        wamp::Event::Opened { generation, failed } => Event::Opened { generation, failed },
        wamp::Event::Left { generation, reason } => Event::Left { generation, reason },
        wamp::Event::Answer { id, result } => {
            Event::Answered { call: id, result: result.map(|result| result.args).map_err(of_error) }
        }
        wamp::Event::Invocation { generation, request, procedure, caller_authid, args, kwargs } => {
            Event::Invoked(Invocation {
                generation,
                request,
                procedure,
                caller: caller_authid.and_then(|caller| match caller {
                    Value::String(text) => Some(text),
                    Value::Number(number) => Some(number.to_string()),
                    _ => None,
                }),
                args: args.unwrap_or_default(),
                kwargs: kwargs.unwrap_or_default(),
            })
        }
        wamp::Event::Interrupted { generation, request } => Event::Interrupted { generation, request },
        wamp::Event::Event { generation, topic, args, .. } => Event::Topic { generation, topic, args },
    })
}

fn of_error(error: wamp::CallError) -> CallFailure {
    let text = error.to_string();
    match error {
        wamp::CallError::Error { uri, .. } => CallFailure::Error { uri, text },
        _ => CallFailure::Transport(text),
    }
}

/// What the engine says.
pub fn of_docker(event: docker::events::Event) -> Event {
    match event {
        docker::events::Event::Up { api_version, server_version } => {
            Event::EngineUp { version: format!("{server_version} (API {api_version})") }
        }
        docker::events::Event::Down { reason } => Event::EngineDown { reason: reason.to_string() },
        docker::events::Event::Container(event) => {
            let project = event.attributes.get(docker::labels::PROJECT).cloned();
            Event::Container(ContainerEvent { action: event.action, name: event.name, project })
        }
    }
}

/// What the workers say.
pub fn of_jobs(event: jobs::Event) -> Event {
    match event {
        jobs::Event::Accepted(job) => Event::JobAccepted { job },
        jobs::Event::Ended { job, outcome } => Event::JobEnded { job, outcome },
    }
}

/// What the log hub says; `None` for what only the log is told.
pub fn of_logs(event: logs::Event) -> Option<Event> {
    Some(Event::Logs(match event {
        logs::Event::Lookup { container, .. } => LogEvent::Lookup { container },
        logs::Event::Wanted { container } => LogEvent::Wanted { container },
        logs::Event::History { token, container, lines, only_agent } => {
            LogEvent::History { token, container, lines, only_agent }
        }
        logs::Event::Save { container, lines } => LogEvent::Save { container, lines },
        logs::Event::FollowEnded { container, reason } => {
            log::debug!("log of {container} ended: {reason}");
            return None;
        }
    }))
}
