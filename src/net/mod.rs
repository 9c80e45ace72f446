//! What all network clients of the agent share.

pub mod tls;
