//! The core against the world of [`super::testing`], by topic.

mod actions;
mod changes;
mod compose;
mod development;
mod engine;
mod interrupted;
mod kills;
mod lists;
mod ports;
mod power;
mod procedures;
mod projects;
mod reporting;
mod requests;
mod restarts;
mod session;
mod simulation;
mod transfers;
mod updates;
