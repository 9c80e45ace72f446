//! reagent: the device agent. See the README for what it does.

pub mod agent;
pub mod args;
pub mod cancel;
pub mod clock;
pub mod docker;
pub mod domain;
pub mod flock;
pub mod jobs;
pub mod logger;
pub mod logs;
pub mod net;
pub mod os;
pub mod release;
pub mod rpc;
pub mod secret;
pub mod signals;
pub mod startup;
pub mod state;
pub mod thread;
pub mod wamp;
