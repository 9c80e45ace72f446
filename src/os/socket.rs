//! TCP socket options that the standard library does not offer. Linux; elsewhere the system's defaults hold.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

/// Unacknowledged data or an unanswered keepalive for this long ends the connection (decision 12).
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(30);
#[cfg(target_os = "linux")]
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Prepares a connection that must notice its own death: no delay, keepalive each 15 s, `TCP_USER_TIMEOUT` 30 s, and a
/// bound on how long a single write may make no progress.
///
/// # Errors
/// The system's error; no connection known to us refuses these.
pub fn tune(tcp: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    tcp.set_write_timeout(Some(write_timeout))?;
    #[cfg(target_os = "linux")]
    {
        use rustix::net::sockopt;
        sockopt::set_socket_keepalive(tcp, true)?;
        sockopt::set_tcp_keepidle(tcp, KEEPALIVE)?;
        sockopt::set_tcp_keepintvl(tcp, KEEPALIVE)?;
        sockopt::set_tcp_user_timeout(tcp, u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX))?;
    }
    Ok(())
}

/// How many written bytes the peer has not acknowledged yet: what a further write would have to wait behind.
/// 0 where the system does not say.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "neither the standard library nor rustix has a safe form of SIOCOUTQ")]
pub fn unacknowledged(tcp: &TcpStream) -> usize {
    use std::os::fd::AsRawFd;
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (the same number as SIOCOUTQ) writes one int through the pointer, which is valid for the call;
    // the descriptor is open as long as `tcp` is borrowed.
    let result = unsafe { libc::ioctl(tcp.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).unwrap_or(0) } else { 0 }
}

/// How many written bytes the peer has not acknowledged yet; this system does not say.
#[cfg(not(target_os = "linux"))]
pub fn unacknowledged(_tcp: &TcpStream) -> usize {
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn c4_a_tuned_socket_has_the_options_of_decision_12() {
        use rustix::net::sockopt;
        let (client, _server) = pair();
        tune(&client, Duration::from_secs(15)).unwrap();
        assert!(client.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&client).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&client).unwrap(), Duration::from_secs(15));
        assert_eq!(sockopt::tcp_user_timeout(&client).unwrap(), 30_000);
    }

    #[test]
    fn unacknowledged_bytes_pile_up_behind_a_peer_that_does_not_read() {
        let (mut client, mut server) = pair();
        tune(&client, Duration::from_millis(50)).unwrap();
        assert_eq!(unacknowledged(&client), 0);
        let chunk = vec![0; 1 << 20];
        let mut written = 0;
        let error = loop {
            match client.write(&chunk) {
                Ok(count) => written += count,
                Err(error) => break error,
            }
            assert!(written < 1 << 30, "the peer's buffers have no end");
        };
        assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
        assert!(unacknowledged(&client) > 0);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), written);
    }
}
