//! What all network clients of the agent share.

pub mod connect;
pub mod proxy;
pub mod socks5;
pub mod tls;
