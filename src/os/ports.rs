//! Whether a port of this host is free: it is bound on all interfaces and closed again.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

/// What listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A stream listener.
    Tcp,
    /// A datagram socket.
    Udp,
}

/// Whether `port` could be bound at this moment. Port 0 is always free.
pub fn is_free(transport: Transport, port: u16) -> bool {
    // The socket of IPv6 covers IPv4 as well, where the host has IPv6 at all.
    let v6 = bind(transport, SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    if v6.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::PermissionDenied)) {
        return false;
    }
    bind(transport, SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).is_ok()
}

fn bind(transport: Transport, address: SocketAddr) -> io::Result<()> {
    match transport {
        Transport::Tcp => TcpListener::bind(address).map(drop),
        Transport::Udp => UdpSocket::bind(address).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_taken_while_somebody_listens_on_any_address() {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = tcp.local_addr().unwrap().port();
        assert!(!is_free(Transport::Tcp, port));
        drop(tcp);
        assert!(is_free(Transport::Tcp, port));
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = udp.local_addr().unwrap().port();
        assert!(!is_free(Transport::Udp, port));
        drop(udp);
        assert!(is_free(Transport::Udp, port));
    }
}
