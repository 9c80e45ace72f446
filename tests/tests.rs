//! The one integration test binary: one line per module that says what belongs there.

#![expect(clippy::print_stderr, reason = "a failing test says what it saw")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

/// The whole agent: the real binary against the local cloud and the fake Docker daemon.
mod agent;
/// The limits of `make bench`.
#[path = "bench/figures.rs"]
mod bench;
/// The local cloud, and the tests that judge its router by Crossbar.
#[path = "cloud/mod.rs"]
mod cloud;
/// The demonstration of `make run`, as a newcomer sees it.
mod demo;
/// Seeded fuzzing of every decoder.
mod fuzz;
/// The job workers against the fake Docker daemon.
mod jobs;
/// The log hub against the fake Docker daemon.
mod logs;
/// The agent over a network path that fails, a fleet of sessions, and the agent under load.
mod network;
/// The real parts: Docker Engine, registry, Crossbar, compose, and the scenarios against them.
mod real;
/// `make publish` and `make release`, into a folder, a server and a stand-in for gsutil.
mod release;
/// Long-running proofs: random requests and faults, cycles of starts and stops.
mod soak;
/// The project's rules: layout, purity, ceilings, tables and documents that agree.
mod tidy;
/// What several modules need: temporary folder, wait with a limit, the real binary, the fake Docker daemon.
mod util;
