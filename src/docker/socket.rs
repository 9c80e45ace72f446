//! A connected stream socket, Unix or TCP: the only file of this module that touches the system.
//!
//! Every operation has a limit, and `shutdown` from any thread ends whatever is blocked in a read or write.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::address::Address;

/// See the module.
#[derive(Debug)]
pub enum Socket {
    /// The Engine's usual socket.
    Unix(UnixStream),
    /// Plain TCP.
    Tcp(TcpStream),
}

impl Socket {
    /// Connects within `limit`.
    ///
    /// # Errors
    /// The system's; [`io::ErrorKind::WouldBlock`] or `TimedOut` when the limit has passed: a hung peer accepts nothing.
    pub fn connect(address: &Address, limit: Duration) -> io::Result<Socket> {
        match address {
            Address::Unix(path) => connect_unix(path, limit).map(Socket::Unix),
            Address::Tcp(host) => {
                let target = host.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
                TcpStream::connect_timeout(&target, limit).map(Socket::Tcp)
            }
        }
    }

    /// Reads what is there, waiting for it up to `limit` (`None`: until somebody shuts the socket down). 0 is the end.
    ///
    /// # Errors
    /// The system's; `WouldBlock` or `TimedOut` when the limit has passed.
    pub fn read(&self, into: &mut [u8], limit: Option<Duration>) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.set_read_timeout(limit).and_then(|()| (&mut &*stream).read(into)),
            Socket::Tcp(stream) => stream.set_read_timeout(limit).and_then(|()| (&mut &*stream).read(into)),
        }
    }

    /// Writes some of `bytes`, waiting for room up to `limit`.
    ///
    /// # Errors
    /// As [`Socket::read`].
    pub fn write(&self, bytes: &[u8], limit: Option<Duration>) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.set_write_timeout(limit).and_then(|()| (&mut &*stream).write(bytes)),
            Socket::Tcp(stream) => stream.set_write_timeout(limit).and_then(|()| (&mut &*stream).write(bytes)),
        }
    }

    /// Ends the connection in both directions; reads and writes in other threads return.
    pub fn shutdown(&self) {
        // A socket that is already down is what was asked for.
        let _ = match self {
            Socket::Unix(stream) => stream.shutdown(Shutdown::Both),
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// A connect to a Unix socket waits while the listener's backlog is full, for as long as its send timeout says. `std`
/// cannot set that before connecting, and would wait for ever for a stopped daemon.
fn connect_unix(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(limit))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(socket))
}
