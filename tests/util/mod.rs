//! What several modules of the tests need.

#![allow(dead_code, unused_imports, reason = "each of these is used by some test modules")]

mod agent;
pub mod docker_daemon;
pub mod tar;
mod temp_dir;
mod wait;

pub use agent::{Agent, Options};
pub use temp_dir::TempDir;
pub use wait::wait_until;
