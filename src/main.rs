//! Entry point: what the command line asks for.

use reagent::agent;
use reagent::args::{self, Outcome};
use std::io::{self, Write as _};
use std::process::ExitCode;

fn main() -> ExitCode {
    let argv = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    match args::parse(argv) {
        Outcome::Run(options) => ExitCode::from(agent::run(*options)),
        Outcome::Print { stdout, stderr, code } => {
            // A closed pipe is the reader's decision.
            drop(io::stderr().write_all(stderr.as_bytes()));
            drop(io::stdout().write_all(stdout.as_bytes()));
            ExitCode::from(code)
        }
    }
}
