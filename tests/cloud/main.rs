//! The local cloud as a program, for `make run`: a router, a backend, and a `.flock` for an agent that is to join them.
//!
//! `cloud --flock FILE [--port N] [--registry HOST:PORT] [--quiet]`. With a registry the device is wanted to run the app
//! that `tests/env/images.sh demo` has pushed there, and what the app writes is shown. Ends on SIGINT and SIGTERM.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

#[path = "mod.rs"]
mod cloud;

use cloud::Cloud;
use cloud::backend::Call;
use cloud::peer::Payload;
use cloud::wanted::WantedApp;
use crossbeam_channel::never;
use serde_json::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: cloud --flock FILE [--port N] [--registry HOST:PORT] [--quiet]";

struct Flags {
    flock: String,
    port: u16,
    registry: Option<String>,
    quiet: bool,
}

fn flags(mut words: impl Iterator<Item = String>) -> Option<Flags> {
    let mut flags = Flags { flock: String::new(), port: 0, registry: None, quiet: false };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--flock" => flags.flock = words.next()?,
            "--port" => flags.port = words.next()?.parse().ok()?,
            "--registry" => flags.registry = Some(words.next()?),
            "--quiet" => flags.quiet = true,
            _ => return None,
        }
    }
    (!flags.flock.is_empty()).then_some(flags)
}

fn main() -> ExitCode {
    let Some(flags) = flags(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloud: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> Result<(), String> {
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    let registry = flags.registry.as_deref().unwrap_or("127.0.0.1:5000");
    let cloud = Cloud::start(flags.port, registry).map_err(|failure| format!("{failure:?}"))?;
    let mut logs = never();
    if flags.registry.is_some() {
        let app = WantedApp::new(501, "demo").port(8080, "http").env("GREETING", "hello");
        logs = cloud.backend.subscribe_logs(&app.container());
        cloud.backend.want(app);
    }
    write_secret(&flags.flock, &cloud.flock()).map_err(|error| format!("{}: {error}", flags.flock))?;
    println!("the local cloud listens on {}", cloud.router.url());
    println!("the device's file is {} (serial number {})", flags.flock, cloud.backend.identity.serial);
    let mut printed = 0;
    while signals.pending().next().is_none() {
        let calls = cloud.backend.calls();
        if !flags.quiet {
            calls[printed..].iter().for_each(print);
        }
        printed = calls.len();
        logs.try_iter().filter(|_| !flags.quiet).for_each(|payload| print_log(&payload));
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// One line per call; reports in words.
fn print(call: &Call) {
    let argument = call.argument();
    match (&argument["status"], &argument["state"]) {
        (status, _) if status.is_string() => println!("[{:8.3}] the device is {status}", call.at.as_secs_f64()),
        (_, state) if state.is_string() => {
            let (stage, key) = (&argument["stage"], &argument["app_key"]);
            println!("[{:8.3}] app {key} ({stage}) is {state}", call.at.as_secs_f64());
        }
        _ => println!("[{:8.3}] the agent calls {}", call.at.as_secs_f64(), call.procedure),
    }
}

/// What the app writes, line by line. Records of a pull are on the same topic.
fn print_log(payload: &Payload) {
    let text = match payload.args.first() {
        Some(Value::String(text)) => text.as_str(),
        Some(Value::Object(map)) => map.get("chunk").and_then(Value::as_str).unwrap_or_default(),
        _ => "",
    };
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('{')) {
        println!("app 501 writes: {line}");
    }
}

/// Writes a file that only its owner can read: it holds the secret of the device.
fn write_secret(path: &str, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
