//! The local cloud: a small but correct WAMP router and the backend of the platform, for `make run` and for tests.
//!
//! [`router`] listens and owns a [`realm`]; [`peer`] is a WAMP client written without the agent's code, so that the two
//! check each other; [`backend`] is the peer that answers what the agent calls. The same tests run against the real
//! Crossbar.

#![allow(dead_code, reason = "the program and the tests use different halves")]

pub mod broker;
pub mod cra;
pub mod dealer;
pub mod peer;
pub mod realm;
pub mod router;
pub mod wire;

#[cfg(test)]
mod router_tests;
