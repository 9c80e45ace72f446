//! The core against the world of [`super::testing`], by topic.

mod actions;
mod compose;
mod engine;
mod kills;
mod lists;
mod ports;
mod power;
mod procedures;
mod reporting;
mod requests;
mod restarts;
mod session;
mod simulation;
mod updates;
