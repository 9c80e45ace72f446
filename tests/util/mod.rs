//! What several modules of the tests need.

#![allow(dead_code, unused_imports, reason = "each of these is used by some test modules")]

mod agent;
pub mod docker_daemon;
mod program;
mod service_manager;
pub mod tar;
mod temp_dir;
mod wait;

pub use agent::{Agent, Options};
pub use program::{copy_of_the_agent, lines_of, program};
pub use service_manager::ServiceManager;
pub use temp_dir::TempDir;
pub use wait::wait_until;
