//! The agent's own log: JSON lines in a file, readable lines on the consoles (`storage-and-logs.md` section 5).
//!
//! Runs on whichever thread logs. It never fails its caller and never waits for a reader: what cannot be written, to a
//! full disk or a pipe that nobody reads, is lost and counted.

mod file;
mod line;
#[cfg(test)]
mod tests;

use crate::clock;
use crate::os::console;
use env_logger::{Builder, Target};
use line::Colour;
use log::{Level, LevelFilter};
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;

pub use file::{LogFile, is_rotation};

/// Log target of the lines that `-debugMessaging` adds. What is logged there must already be free of secrets.
pub const MESSAGING: &str = "messaging";

/// Stands between the parts of one record on its way to the writer. Texts never hold it: control characters are
/// escaped in the file's line and taken out of the consoles'.
const SEPARATOR: u8 = 0x1e;

/// How to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `-logFile`.
    pub path: PathBuf,
    /// `-debug`: debug level, else info.
    pub debug: bool,
    /// `-debugMessaging`: also the [`MESSAGING`] lines.
    pub messaging: bool,
    /// `-prettyLogging`: also readable lines on standard output.
    pub pretty: bool,
}

/// Installs the logger for the whole process. Without a writable file it logs to the consoles and tries again later.
///
/// # Errors
/// A logger is installed already.
pub fn install(settings: &Settings) -> Result<(), log::SetLoggerError> {
    let sinks = Sinks { file: LogFile::open(&settings.path, clock::now()) };
    let opened = sinks.file.is_open();
    builder(settings, Box::new(sinks)).try_init()?;
    if !opened {
        log::warn!("the log file {} cannot be opened; it is tried again later", settings.path.display());
    }
    Ok(())
}

/// The filter and the form of lines. Libraries are heard from `warn` on: rustls and ureq tell every step at debug.
fn builder(settings: &Settings, sink: Box<dyn Write + Send>) -> Builder {
    let own = if settings.debug { LevelFilter::Debug } else { LevelFilter::Info };
    let messaging = if settings.messaging { LevelFilter::Debug } else { LevelFilter::Off };
    let pretty = settings.pretty;
    let colour = if pretty && io::stdout().is_terminal() { Colour::Ansi } else { Colour::None };
    let mut builder = Builder::new();
    builder
        .filter_level(LevelFilter::Warn)
        .filter_module(env!("CARGO_PKG_NAME"), own)
        .filter_module(MESSAGING, messaging)
        .format(move |out, record| {
            let wall = clock::wall();
            line::write_json(out, wall, record)?;
            if pretty {
                out.write_all(&[SEPARATOR, b'o'])?;
                line::write_readable(out, wall, record, colour)
            } else if record.level() <= Level::Warn {
                out.write_all(&[SEPARATOR, b'e'])?;
                line::write_plain(out, record)
            } else {
                Ok(())
            }
        })
        .target(Target::Pipe(sink));
    builder
}

/// Where records go. The lock around it, which keeps lines whole, is env_logger's.
struct Sinks {
    file: LogFile,
}

impl Write for Sinks {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let mut parts = record.split(|byte| *byte == SEPARATOR);
        self.file.append(parts.next().unwrap_or_default(), clock::now());
        for part in parts {
            match part.split_first() {
                Some((b'o', text)) => console::write_if_ready(io::stdout(), text),
                Some((_, text)) => console::write_if_ready(io::stderr(), text),
                None => true,
            };
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
