//! Every call to the platform: the only folder where `unsafe` may be asked for and where Linux shows through.
//!
//! A library: it knows nothing of the agent's domain and starts no thread.

pub mod addresses;
#[cfg(all(target_env = "musl", not(test)))]
mod allocator;
pub mod child;
pub mod console;
pub mod disk;
pub mod files;
pub mod gpu;
pub mod home;
pub mod local_socket;
pub mod lock;
pub mod memory;
pub mod notify;
pub mod ports;
pub mod power;
pub mod release;
#[cfg(test)]
pub(crate) mod scratch;
pub mod socket;
pub mod statistics;
pub mod strays;
pub mod time;
pub mod tree;
