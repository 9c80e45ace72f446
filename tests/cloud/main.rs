//! The local cloud as a program.

#[path = "mod.rs"]
mod cloud;

fn main() {}
