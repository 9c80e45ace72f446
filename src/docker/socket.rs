//! A connected stream socket, Unix or TCP: what the rest of this module reads and writes.
//!
//! Every operation has a limit, and `shutdown` from any thread ends whatever is blocked in a read or write.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

use super::address::Address;
use crate::os::local_socket::{self, LocalStream};

/// See the module.
#[derive(Debug)]
pub enum Socket {
    /// The Engine's usual socket.
    Unix(LocalStream),
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
            Address::Unix(path) => local_socket::connect(path, limit).map(Socket::Unix),
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
