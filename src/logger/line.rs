//! One record in its three forms: a JSON line for the file, a readable line, a plain line for the service journal. Pure.

use crate::clock::Wall;
use log::{Level, Record};
use serde::Serialize;
use std::io::{self, Write};

/// Longest message in bytes; the rest is cut off.
const MAX_MESSAGE: usize = 16 * 1024;

/// Whether a console understands colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    /// No escape sequences.
    None,
    /// ANSI ones.
    Ansi,
}

/// The keys are those that every agent since 0.15 writes and reads.
#[derive(Serialize)]
struct Json<'a> {
    level: &'static str,
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    caller: Option<String>,
    message: &'a str,
}

/// The line for the file. What is wrong says where it was found.
pub(super) fn write_json(out: &mut impl Write, wall: Wall, record: &Record<'_>) -> io::Result<()> {
    let caller = match (record.level(), record.file(), record.line()) {
        (Level::Error | Level::Warn, Some(file), Some(line)) => Some(format!("{file}:{line}")),
        _ => None,
    };
    let message = message(record);
    let json = Json { level: name(record.level()), time: wall.to_string(), caller, message: &message };
    serde_json::to_writer(&mut *out, &json)?;
    out.write_all(b"\n")
}

/// `2026-08-04 09:05:00 INFO  message`.
pub(super) fn write_readable(out: &mut impl Write, wall: Wall, record: &Record<'_>, colour: Colour) -> io::Result<()> {
    let (year, month, day, hour, minute, second) = wall.civil();
    let (on, off) = match (colour, record.level()) {
        (Colour::None, _) | (_, Level::Info) => ("", ""),
        (Colour::Ansi, Level::Error) => ("\x1b[31m", "\x1b[0m"),
        (Colour::Ansi, Level::Warn) => ("\x1b[33m", "\x1b[0m"),
        (Colour::Ansi, Level::Debug | Level::Trace) => ("\x1b[2m", "\x1b[0m"),
    };
    let (level, message) = (record.level(), one_line(&message(record)));
    writeln!(out, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} {on}{level:<5}{off} {message}")
}

/// `warn: message`.
pub(super) fn write_plain(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    writeln!(out, "{}: {}", name(record.level()), one_line(&message(record)))
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// The text of a record without control characters but line ends and tabs, which JSON escapes.
fn message(record: &Record<'_>) -> String {
    let mut text = record.args().to_string();
    if text.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text.retain(|c| !c.is_control() || c == '\n' || c == '\t');
    text
}

/// A record is one line on a console: nobody forges a second one.
fn one_line(message: &str) -> String {
    message.replace(['\n', '\t'], " ")
}
