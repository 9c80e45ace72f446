//! The agent over a real network path that fails, a fleet of sessions at one router, and the agent under load.
//!
//! The short forms run with all tests; `make faults` and `make fleet` run the long ones, which print more. Namespaces and
//! packet filters need root.

pub(crate) mod clock;
mod faults;
mod fleet;
mod lanes;
mod link;
mod relay;
mod router;
mod site;

use std::process::Command;

/// Runs a program to its end; a failure fails the test with what it wrote.
#[track_caller]
fn run(program: &str, args: &[&str]) {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {} failed: {error}", args.join(" "));
}
