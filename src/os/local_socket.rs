//! The way to a server on this machine: a Unix socket (on Windows it will be a named pipe).

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connected stream.
pub type LocalStream = UnixStream;

/// Connects within `limit`. A connect to a Unix socket waits while the listener's backlog is full, for as long as its
/// send timeout says; `std` cannot set that before connecting, and would wait for ever for a stopped daemon.
///
/// # Errors
/// The system's; [`io::ErrorKind::WouldBlock`] when the limit has passed.
pub fn connect(path: &Path, limit: Duration) -> io::Result<LocalStream> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}
