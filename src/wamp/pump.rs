//! The `wamp-pump` thread: connects, then moves raw bytes from the socket into a bounded channel.
//!
//! It exists because a blocking TLS WebSocket cannot wait for bytes and for commands at once. It never looks at what it
//! reads, never writes, and blocks only in name resolution, connect, read and its channel. It ends when the socket is
//! shut down or the receiver is dropped; a name lookup that hangs ends by the resolver's own timeout.

use crate::os::socket;
use crate::thread;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendError, Sender, bounded};
use std::io::{self, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// One read at most; with the channel this bounds what is read ahead.
const CHUNK: usize = 16 * 1024;
const CHUNKS_AHEAD: usize = 16;
/// Addresses of one name that are tried at most.
const ADDRESSES: usize = 6;
/// How long an address is tried alone before the next one joins (RFC 8305 has 250 ms).
const HEAD_START: Duration = Duration::from_millis(300);
/// A peer that takes no byte for this long is dead (architecture 5).
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// What the pump has to say, in this order: one `Connected`, any number of `Bytes`, one `End`.
#[derive(Debug)]
pub enum Pumped {
    /// TCP is up; the write half for the session.
    Connected(TcpStream),
    /// Bytes as they came.
    Bytes(Vec<u8>),
    /// No connection, or no more bytes: why, or `None` if the peer ended it in order.
    End(Option<String>),
}

/// Starts a pump towards `host`. `lookup` is held while names are resolved, so that its owner can count hanging ones.
///
/// # Errors
/// The system's error when no thread can be created.
pub fn spawn(host: String, port: u16, bound: Duration, lookup: Arc<()>) -> io::Result<Receiver<Pumped>> {
    let (chunks, pumped) = bounded(CHUNKS_AHEAD);
    let body = move || {
        let connected =
            resolve(&host, port, lookup).and_then(|found| race(&found, bound.max(Duration::from_millis(1))));
        // An error of a send means that nobody wants this connection any more.
        let _ = match connected.and_then(|tcp| Ok((tcp.try_clone()?, tcp))) {
            Ok((writer, tcp)) => chunks.send(Pumped::Connected(writer)).and_then(|()| pump(tcp, &chunks)),
            Err(error) => chunks.send(Pumped::End(Some(error.to_string()))),
        };
    };
    thread::spawn("wamp-pump", |_| {}, body)?;
    Ok(pumped)
}

fn pump(mut tcp: TcpStream, chunks: &Sender<Pumped>) -> Result<(), SendError<Pumped>> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match tcp.read(&mut buffer) {
            Ok(0) => return chunks.send(Pumped::End(None)),
            Ok(count) => chunks.send(Pumped::Bytes(buffer[..count].to_vec()))?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return chunks.send(Pumped::End(Some(error.to_string()))),
        }
    }
}

/// The addresses of a host, families taking turns (RFC 8305 4), in the resolver's order otherwise.
fn resolve(host: &str, port: u16, lookup: Arc<()>) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    drop(lookup);
    if found.is_empty() {
        return Err(io::Error::new(ErrorKind::NotFound, "the name has no address"));
    }
    Ok(interleaved(found))
}

/// Families take turns, beginning with the one that the resolver put first.
fn interleaved(found: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = found.first().is_some_and(SocketAddr::is_ipv6);
    let (preferred, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.is_ipv6() == first_is_v6);
    let mut others = others.into_iter();
    let mut mixed: Vec<SocketAddr> =
        preferred.into_iter().flat_map(|address| [Some(address), others.next()]).flatten().collect();
    mixed.extend(others);
    mixed.truncate(ADDRESSES);
    mixed
}

/// Connects to the first address that answers; each gets a head start before the next one.
fn race(addresses: &[SocketAddr], bound: Duration) -> io::Result<TcpStream> {
    if let [address] = addresses {
        return connect(address, bound);
    }
    let (results, result) = bounded(addresses.len().max(1));
    let mut racing = 0;
    let mut failure = io::Error::from(ErrorKind::TimedOut);
    let mut waiting = addresses.iter().copied();
    loop {
        let next = waiting.next();
        if let Some(address) = next {
            let results = results.clone();
            // Losers end with their connect, and their socket with the channel.
            thread::spawn("wamp-race", |_| {}, move || drop(results.send(connect(&address, bound))))?;
            racing += 1;
        } else if racing == 0 {
            return Err(failure);
        }
        match result.recv_timeout(if waiting.len() > 0 { HEAD_START } else { bound + HEAD_START }) {
            Ok(Ok(tcp)) => return Ok(tcp),
            Ok(Err(error)) => (failure, racing) = (error, racing - 1),
            Err(RecvTimeoutError::Timeout) if waiting.len() > 0 => {}
            Err(_) => return Err(failure),
        }
    }
}

fn connect(address: &SocketAddr, bound: Duration) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect_timeout(address, bound)?;
    socket::tune(&tcp, WRITE_TIMEOUT)?;
    Ok(tcp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener};

    const LIMIT: Duration = Duration::from_secs(10);

    fn pumped(listener: &TcpListener) -> (Receiver<Pumped>, TcpStream, TcpStream) {
        let port = listener.local_addr().unwrap().port();
        let pumped = spawn("127.0.0.1".to_owned(), port, LIMIT, Arc::new(())).unwrap();
        let (peer, _) = listener.accept().unwrap();
        match pumped.recv_timeout(LIMIT) {
            Ok(Pumped::Connected(tcp)) => (pumped, tcp, peer),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn bytes_arrive_in_order_and_the_end_of_the_peer_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (pumped, _tcp, mut peer) = pumped(&listener);
        let sent: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        let writer = {
            let sent = sent.clone();
            thread::spawn("peer", |_| {}, move || peer.write_all(&sent).unwrap()).unwrap()
        };
        let mut received = Vec::new();
        loop {
            match pumped.recv_timeout(LIMIT).unwrap() {
                Pumped::Bytes(bytes) => received.extend(bytes),
                Pumped::End(None) => break,
                other => panic!("{other:?}"),
            }
        }
        writer.join().unwrap();
        assert!(received == sent);
        assert_eq!(pumped.recv_timeout(LIMIT).unwrap_err(), RecvTimeoutError::Disconnected);
    }

    #[test]
    fn s8_a_pump_is_ended_by_shutting_the_socket_down_or_by_dropping_the_receiver() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (pumped_one, tcp, _peer) = pumped(&listener);
        tcp.shutdown(Shutdown::Both).unwrap();
        assert!(matches!(pumped_one.recv_timeout(LIMIT), Ok(Pumped::End(_))));
        assert_eq!(pumped_one.recv_timeout(LIMIT).unwrap_err(), RecvTimeoutError::Disconnected);

        // Full channel, blocked in its send: dropping the receiver ends it, and with it the socket.
        let (pumped_two, tcp, mut peer) = pumped(&listener);
        peer.write_all(&vec![0; CHUNK * (CHUNKS_AHEAD + 4)]).unwrap();
        while pumped_two.len() < CHUNKS_AHEAD {
            std::thread::yield_now();
        }
        drop((pumped_two, tcp));
        peer.set_read_timeout(Some(LIMIT)).unwrap();
        let end = peer.read(&mut [0]);
        assert!(
            matches!(&end, Ok(0)) || end.as_ref().is_err_and(|e| e.kind() == ErrorKind::ConnectionReset),
            "{end:?}"
        );
    }

    #[test]
    fn a_refused_connect_is_told_with_its_reason() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let lookup = Arc::new(());
        let pumped = spawn("127.0.0.1".to_owned(), port, LIMIT, lookup.clone()).unwrap();
        match pumped.recv_timeout(LIMIT) {
            Ok(Pumped::End(Some(reason))) => assert!(reason.contains("refused"), "{reason}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(Arc::strong_count(&lookup), 1);
    }

    /// An address that neither accepts nor refuses: its listener has no room for another connection.
    fn black_hole(ip: &str) -> (SocketAddr, Vec<rustix::fd::OwnedFd>, Vec<TcpStream>) {
        use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
        let ip: std::net::IpAddr = ip.parse().unwrap();
        let family = if ip.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        let listener = socket(family, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddr::new(ip, 0)).unwrap();
        listen(&listener, 0).unwrap();
        let address = SocketAddr::try_from(rustix::net::getsockname(&listener).unwrap()).unwrap();
        let mut queue = Vec::new();
        while let Ok(tcp) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            queue.push(tcp);
            assert!(queue.len() < 10, "the listener's queue has no end");
        }
        (address, vec![listener], queue)
    }

    #[test]
    fn addresses_of_both_families_take_turns_beginning_with_the_resolvers_first() {
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        for (found, order) in [
            (&["[::1]:1", "[::2]:1", "1.1.1.1:1"][..], &["[::1]:1", "1.1.1.1:1", "[::2]:1"][..]),
            (&["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"], &["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"]),
            (&["1.1.1.1:1", "1.1.1.2:1"], &["1.1.1.1:1", "1.1.1.2:1"]),
            (&[], &[]),
        ] {
            assert_eq!(interleaved(all(found)), all(order));
        }
        let many = (1..20).map(|port| SocketAddr::from(([1, 1, 1, 1], port))).collect();
        assert_eq!(interleaved(many).len(), ADDRESSES);
    }

    #[test]
    fn a_black_hole_in_front_costs_the_head_start_and_not_the_bound() {
        for (dead, living) in [("::1", "127.0.0.1"), ("127.0.0.1", "::1"), ("127.0.0.1", "127.0.0.1")] {
            let (hole, _listener, _queue) = black_hole(dead);
            let listener = TcpListener::bind((living, 0)).unwrap();
            let living = listener.local_addr().unwrap();
            let began = crate::clock::mono();
            assert_eq!(race(&[hole, living], Duration::from_secs(60)).unwrap().peer_addr().unwrap(), living);
            let took = crate::clock::mono() - began;
            assert!(took >= HEAD_START && took < Duration::from_secs(20), "{hole}: {took:?}");
        }
    }

    #[test]
    fn a_refusal_in_front_costs_nothing_and_the_first_that_answers_wins() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let living = listener.local_addr().unwrap();
        let refusing = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], living.port()));
        assert_eq!(race(&[refusing, living], LIMIT).unwrap().peer_addr().unwrap(), living);
        let both = TcpListener::bind("[::1]:0").unwrap();
        let first = both.local_addr().unwrap();
        assert_eq!(race(&[first, living], LIMIT).unwrap().peer_addr().unwrap(), first);
        let (hole, _listener, _queue) = black_hole("127.0.0.1");
        let error = race(&[hole, hole], Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[test]
    fn a_dead_address_does_not_hide_a_living_one() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let living = listener.local_addr().unwrap();
        assert_eq!(race(&[dead, living], LIMIT).unwrap().peer_addr().unwrap(), living);
        let error = race(&[dead, dead], LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(race(&[], LIMIT).unwrap_err().kind(), ErrorKind::TimedOut);
    }
}
