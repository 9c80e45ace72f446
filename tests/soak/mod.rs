//! Long-running proofs of what happens to apps, each on the fake engine and on the real one.
//!
//! ```text
//! script (seed -> requests and faults) -> run (one device) -> truth (reports beside the engine's own record)
//!                                          |-- machine: fake | real
//! ```
//!
//! `make soak-random` runs them, as many as `SOAK_RUNS` says from seed `SOAK_FROM` on, `SOAK_WORLDS` side by side. [`cycles`]
//! is `make soak-cycles`: starts and stops, of which nothing stays.

mod app;
mod cycles;
mod fake;
mod machine;
mod observer;
mod random;
mod real;
mod run;
mod script;
mod truth;

use std::fmt::Debug;
use std::str::FromStr;

/// A number of the environment (`SOAK_RUNS`), set by the Makefile; else the one of the ordinary tests.
#[track_caller]
fn setting<T: FromStr<Err: Debug>>(name: &str, usual: T) -> T {
    match std::env::var(format!("SOAK_{name}")) {
        Ok(text) if !text.is_empty() => text.parse().unwrap_or_else(|error| panic!("SOAK_{name}={text}: {error:?}")),
        _ => usual,
    }
}
