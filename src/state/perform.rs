//! Effects of the core, handed to the threads that act: one short arm per kind. Nothing here blocks.

use super::edges::Edges;
use super::main_loop::Ended;
use crate::domain::message::{Effect, Level};
use crate::wamp;
use serde_json::json;

/// What is left for the main loop, because it concerns what that owns.
#[derive(Debug, PartialEq)]
pub enum Own {
    /// Write what the backend said to the `.flock`.
    Metadata(crate::domain::message::Metadata),
    /// Keep a copy of the `.flock`.
    KeepFlock,
    /// End the process.
    Exit(Ended),
}

/// Performs an effect that was committed before; returns what the main loop does itself.
pub fn perform(edges: &Edges, effect: Effect) -> Option<Own> {
    match effect {
        Effect::Persist(_) => {}
        Effect::Call { call, uri, args, timeout } => {
            send(edges, wamp::Command::Call { id: call, uri, args, kwargs: wamp::Map::new(), timeout });
        }
        Effect::Publish { topic, args } => {
            send(edges, wamp::Command::Publish { topic, args, kwargs: wamp::Map::new(), acknowledge: None });
        }
        Effect::Yield { generation, request, args, kwargs } => {
            send(edges, wamp::Command::Yield { generation, request, args, kwargs });
        }
        Effect::Fail { generation, request, text } => {
            let (uri, args) = ("wamp.error.canceled".to_owned(), vec![json!({"error": text})]);
            send(edges, wamp::Command::Fail { generation, request, uri, args });
        }
        Effect::Open { generation } => send(edges, wamp::Command::Open { generation }),
        Effect::Redial { reason } => send(edges, wamp::Command::Redial { reason }),
        Effect::Abort { generation, reason } => send(edges, wamp::Command::Abort { generation, reason }),
        Effect::Start { job, spec } => {
            if let Some(jobs) = &edges.jobs {
                jobs.start(job, spec);
            }
        }
        Effect::Cancel { job } => {
            if let Some(jobs) = &edges.jobs {
                jobs.cancel(job);
            }
        }
        Effect::Logs(command) => {
            if let Some(logs) = &edges.logs {
                logs.send(command);
            }
        }
        Effect::Note { level, text } => log::log!(of_level(level), "{text}"),
        Effect::Metadata(metadata) => return Some(Own::Metadata(metadata)),
        Effect::KeepFlock => return Some(Own::KeepFlock),
        Effect::Exit { code, line, then } => return Some(Own::Exit(Ended { code, line, then })),
    }
    None
}

fn send(edges: &Edges, command: wamp::Command) {
    if let Some(wamp) = &edges.wamp {
        wamp.send(command);
    }
}

fn of_level(level: Level) -> log::Level {
    match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    }
}
