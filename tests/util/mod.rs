//! What several modules of the tests need.

pub mod docker_daemon;
