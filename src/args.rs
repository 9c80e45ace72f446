//! The command line: one table of flags, from which parser, usage text and the README test derive.
//!
//! Pure. Parsing yields a value, [`Outcome`]; `main` prints it or runs with it. Syntax, texts and exit codes are those
//! of `wamp-and-rpc.md` section 7: installers and the service manager's script read them.

mod options;
mod syntax;
#[cfg(test)]
mod tests;

use crate::os::home;
use crate::release;
use std::fmt::Write as _;

pub use options::Options;
pub use syntax::{Given, SyntaxError, Value, parse_flags};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// An unsigned 64-bit number in any of the forms of 7.1.
    Number,
    /// Nothing, or `=true` and the like: the only kind that does not take the next argument as its value.
    Switch,
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Flag {
    /// Its name without dashes.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its default in text form: `""` for none.
    pub default: &'static str,
    /// What it does, one line of the usage text.
    pub help: &'static str,
}

const fn text(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind: Kind::Text, default, help }
}

const fn number(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind: Kind::Number, default, help }
}

const fn switch(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind: Kind::Switch, default, help }
}

/// Every flag, sorted by name.
pub const FLAGS: &[Flag] = &[
    text("agentDir", home::AGENT_DIR, "directory of the agent: binaries, tunnel client, database and downloads"),
    text("appsDir", home::APPS_DIR, "directory of the apps' data; does not follow -agentDir"),
    switch("arch", "false", "print the build architecture and exit"),
    text("compressedBuildExtension", "tgz", "file extension of build archives"),
    text("config", "", "path of the .flock file; required to run"),
    number("connTimeout", "1250", "longest time for one connection attempt in ms, 0 for no limit"),
    text("dbFileName", "reagent.db", "database file; a name without a separator is a file in -agentDir"),
    switch("debug", "true", "log at debug level, else at info"),
    switch("debugMessaging", "false", "log WAMP messages, without secrets"),
    text("env", "production", "environment of the device: production, test or local; the .flock file wins"),
    text("logFile", home::LOG_FILE, "log file"),
    switch("nmw", "true", "use NetworkManager"),
    switch("offline", "false", "never connect to the router"),
    number("ppTimeout", "0", "interval of WebSocket pings in ms, 0 for 30 seconds"),
    switch("prettyLogging", "false", "log in readable form to standard output too"),
    switch("profiling", "false", "start the diagnostics web server"),
    number("profilingPort", "80", "port of the diagnostics web server"),
    text("remoteUpdateURL", "https://storage.googleapis.com", "base of update downloads; the .flock file wins"),
    number("respTimeout", "5000", "longest time for a reply of the router in ms, 0 for the default"),
    switch("update", "true", "look for a newer agent at start"),
    switch("version", "false", "print the version and exit"),
];

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// To run as the agent. [`Options::warnings`] go to standard error.
    Run(Box<Options>),
    /// To print and end, without touching lock, log, directories or network.
    Print {
        /// For standard output.
        stdout: String,
        /// For standard error.
        stderr: String,
        /// The exit code.
        code: u8,
    },
}

/// The words that mean something else than "not a flag", in first place only.
const RESERVED: &[&str] = &["status", "apps", "logs", "check", "bundle", "version", "help"];

/// Decides what the whole command line (`argv[0]` first) asks for.
pub fn parse(argv: impl IntoIterator<Item = String>) -> Outcome {
    let mut argv = argv.into_iter();
    let program = argv.next().unwrap_or_else(|| "reagent".to_owned());
    let args: Vec<String> = argv.collect();
    match args.first().map(String::as_str) {
        Some("service") => return failed("'service' is only supported on Windows\n"),
        Some(word) if RESERVED.contains(&word) => return failed(&format!("'{word}' is not built in yet\n")),
        _ => {}
    }
    match parse_flags(&args) {
        Ok(given) => decide(&given),
        Err(SyntaxError::HelpAsked) => print("", &usage(&program), 0),
        Err(error) => print("", &format!("{error}\n{}", usage(&program)), 2),
    }
}

fn decide(given: &Given) -> Outcome {
    let options = Options::from_given(given);
    let warnings: String = options.warnings.iter().map(|warning| format!("{warning}\n")).collect();
    if given.switch("version") {
        print(&format!("{}\n", release::VERSION), &warnings, 0)
    } else if given.switch("arch") {
        print(&format!("{}\n", release::ARCH), &warnings, 0)
    } else if options.config.as_os_str().is_empty() {
        // Exit code 0 is what scripts in the field see today (decision 3).
        print("'-config' argument is required. -help for usage\n", &warnings, 0)
    } else {
        Outcome::Run(Box::new(options))
    }
}

fn print(stdout: &str, stderr: &str, code: u8) -> Outcome {
    Outcome::Print { stdout: stdout.to_owned(), stderr: stderr.to_owned(), code }
}

fn failed(stderr: &str) -> Outcome {
    print("", stderr, 1)
}

/// The usage text of 7.1.
pub fn usage(program: &str) -> String {
    let mut text = format!("Usage of {program}:\n");
    for flag in FLAGS {
        let kind = match flag.kind {
            Kind::Text => " string",
            Kind::Number => " uint",
            Kind::Switch => "",
        };
        let default = match (flag.kind, flag.default) {
            (_, "") | (Kind::Number, "0") | (Kind::Switch, "false") => String::new(),
            (Kind::Text, default) => format!(" (default {default:?})"),
            (_, default) => format!(" (default {default})"),
        };
        writeln!(text, "  -{}{kind}\n    \t{}{default}", flag.name, flag.help).expect("a String takes any text");
    }
    text
}
