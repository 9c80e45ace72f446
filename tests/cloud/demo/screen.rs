//! The terminal: aligned columns in colour with one updating line, or plain lines when nobody watches.
//!
//! A reader that goes away is no error here: it is remembered, and the demonstration ends.

use reagent::clock;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// The column that says what a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The parts around the agent.
    Setup,
    /// What the agent's process writes.
    Agent,
    /// A procedure that the agent calls.
    Call,
    /// The status of the device.
    Device,
    /// The state of the app.
    App,
    /// Progress of a pull.
    Pull,
    /// What the app serves.
    Web,
    /// What the app writes.
    Log,
    /// What can be done now.
    Hint,
    /// What went wrong.
    Error,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Setup => "setup",
            Kind::Agent => "agent",
            Kind::Call => "call",
            Kind::Device => "device",
            Kind::App => "app",
            Kind::Pull => "pull",
            Kind::Web => "web",
            Kind::Log => "log",
            Kind::Hint => "hint",
            Kind::Error => "error",
        }
    }

    /// The colour of word and text, as numbers of the escape code.
    fn colours(self, text: &str) -> (&'static str, &'static str) {
        match self {
            Kind::Setup | Kind::Agent | Kind::Call => ("2", "2"),
            Kind::Device if text.starts_with("CONNECTED") => ("1;34", "1;32"),
            Kind::Device => ("1;34", "1;33"),
            Kind::App if text.starts_with("RUNNING") => ("1;35", "1;32"),
            Kind::App if text.starts_with("FAILED") => ("1;35", "1;31"),
            Kind::App => ("1;35", "33"),
            Kind::Pull => ("36", "0"),
            Kind::Web => ("1;36", "1"),
            Kind::Log => ("32", "0"),
            Kind::Hint => ("1;33", "0"),
            Kind::Error => ("1;31", "1"),
        }
    }
}

/// See the module.
pub struct Screen {
    plain: bool,
    start: Duration,
    /// What stands on the updating line.
    live: Option<String>,
    gone: bool,
    /// The last tenth that was written of a progress in plain form.
    tenth: u64,
}

impl Screen {
    /// Plain if asked for, if standard output is no terminal, or if `NO_COLOR` is set.
    pub fn new(plain: bool) -> Screen {
        let plain = plain || !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some();
        Screen { plain, start: clock::mono(), live: None, gone: false, tenth: 0 }
    }

    /// Whether the reader has gone away.
    pub fn gone(&self) -> bool {
        self.gone
    }

    /// The first line.
    pub fn title(&mut self, text: &str) {
        let line = if self.plain { format!("{text}\n\n") } else { format!("\x1b[1m{text}\x1b[0m\n\n") };
        self.write(&line);
    }

    /// One line.
    pub fn line(&mut self, kind: Kind, text: &str) {
        let row = self.row(kind, text);
        let live = self.live.clone().unwrap_or_default();
        let erase = if live.is_empty() { "" } else { "\r\x1b[2K" };
        self.write(&format!("{erase}{row}\n{live}"));
    }

    /// Progress from 0 to `total`, on the updating line; in plain form a line per quarter.
    pub fn progress(&mut self, current: u64, total: u64) {
        let (current, total) = (current.min(total), total.max(1));
        let numbers = format!("{} of {}", megabytes(current), megabytes(total));
        let percent = current * 100 / total;
        if self.plain {
            if percent / 25 != self.tenth {
                self.tenth = percent / 25;
                self.line(Kind::Pull, &format!("{percent:3} %  {numbers}"));
            }
            return;
        }
        let full = usize::try_from(current * 30 / total).unwrap_or(30);
        let bar = format!("{}{}", "█".repeat(full), "░".repeat(30 - full));
        let row = self.row(Kind::Pull, &format!("{bar} {percent:3} %  {numbers}"));
        self.write(&format!("\r\x1b[2K{row}"));
        self.live = Some(row);
    }

    /// Ends the updating line with this text.
    pub fn done(&mut self, text: &str) {
        let erase = if self.live.take().is_some() { "\r\x1b[2K" } else { "" };
        let row = self.row(Kind::Pull, text);
        self.write(&format!("{erase}{row}\n"));
        self.tenth = 0;
    }

    fn row(&self, kind: Kind, text: &str) -> String {
        let seconds = clock::mono().saturating_sub(self.start).as_secs_f64();
        let text = printable(text);
        if self.plain {
            return format!("{seconds:7.2} s  {:<7} {text}", kind.word());
        }
        let (word, body) = kind.colours(&text);
        format!("\x1b[2m{seconds:7.2} s\x1b[0m  \x1b[{word}m{:<7}\x1b[0m \x1b[{body}m{text}\x1b[0m", kind.word())
    }

    fn write(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            self.gone = true;
        }
    }
}

/// Without control characters: what an app writes must not steer the terminal.
fn printable(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
}
