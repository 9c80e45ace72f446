//! A relay between the agent and a real part, which sees every byte, can hold them back and can cut the connections.
//!
//! One thread accepts, two carry the bytes of each connection. What was seen goes to a channel that the test reads.

use crossbeam_channel::{Receiver, Sender, unbounded};
use reagent::clock;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Who sent the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who connected to the relay.
    Client,
    /// The real part.
    Server,
}

/// Something that was seen.
#[derive(Debug)]
pub struct Seen {
    /// Which connection, from 0.
    pub connection: usize,
    /// On the monotonic clock of the test process.
    pub at: Duration,
    pub what: What,
}

/// What was seen.
#[derive(Debug)]
pub enum What {
    /// The client has connected, and the real part was reached or not.
    Opened {
        reached: bool,
    },
    Bytes(Side, Vec<u8>),
    /// This side has nothing more to say.
    Closed(Side),
}

/// A running relay. Dropping it cuts everything.
pub struct Relay {
    own: Address,
    links: Receiver<Link>,
    stalled: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    pub seen: Receiver<Seen>,
}

#[derive(Clone)]
enum Address {
    Tcp(u16),
    Unix(PathBuf),
}

impl Relay {
    /// Between a free loopback port and another one.
    pub fn tcp(upstream: u16) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free loopback port");
        let own = Address::Tcp(listener.local_addr().expect("a bound listener has an address").port());
        Relay::start(own, Address::Tcp(upstream), move || listener.accept().map(|(link, _)| Link::Tcp(link)))
    }

    /// Between a new Unix socket and another one.
    pub fn unix(path: &Path, upstream: &Path) -> Relay {
        let listener = UnixListener::bind(path).expect("a fresh folder takes a socket");
        let accept = move || listener.accept().map(|(link, _)| Link::Unix(link));
        Relay::start(Address::Unix(path.to_owned()), Address::Unix(upstream.to_owned()), accept)
    }

    fn start(own: Address, upstream: Address, accept: impl Fn() -> io::Result<Link> + Send + 'static) -> Relay {
        let (report, seen) = unbounded();
        let (keep, links) = unbounded();
        let (stalled, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (gate, end) = (stalled.clone(), ended.clone());
        let body = move || {
            for connection in 0.. {
                let Ok(client) = accept() else { return };
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let server = upstream.connect();
                let what = What::Opened { reached: server.is_ok() };
                drop(report.send(Seen { connection, at: clock::mono(), what }));
                // Without a server the client's connection is closed by this drop.
                let Ok(server) = server else { continue };
                for (side, from, to) in [(Side::Client, &client, &server), (Side::Server, &server, &client)] {
                    let (from, to) = (from.duplicate(), to.duplicate());
                    drop((keep.send(from.duplicate()), keep.send(to.duplicate())));
                    let pump = Pump { connection, side, gate: gate.clone(), report: report.clone() };
                    reagent::thread::spawn("relay-pump", |_| {}, move || pump.run(from, to)).expect("a thread starts");
                }
            }
        };
        reagent::thread::spawn("relay", |_| {}, body).expect("a thread starts");
        Relay { own, links, stalled, ended, seen }
    }

    /// The loopback port of a TCP relay.
    pub fn port(&self) -> u16 {
        match self.own {
            Address::Tcp(port) => port,
            Address::Unix(_) => panic!("a Unix socket has no port"),
        }
    }

    /// While stalled, what the server sends does not arrive.
    pub fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Cuts all connections; new ones are taken.
    pub fn cut(&self) {
        self.links.try_iter().for_each(|link| link.shutdown(Shutdown::Both));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.stall(false);
        // Wakes the thread that accepts.
        drop(self.own.connect());
        self.cut();
    }
}

impl Address {
    fn connect(&self) -> io::Result<Link> {
        match self {
            Address::Tcp(port) => {
                let link = TcpStream::connect(("127.0.0.1", *port))?;
                link.set_nodelay(true)?;
                Ok(Link::Tcp(link))
            }
            Address::Unix(path) => UnixStream::connect(path).map(Link::Unix),
        }
    }
}

enum Link {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Link {
    fn duplicate(&self) -> Link {
        match self {
            Link::Tcp(link) => Link::Tcp(link.try_clone().expect("a descriptor is free")),
            Link::Unix(link) => Link::Unix(link.try_clone().expect("a descriptor is free")),
        }
    }

    fn shutdown(&self, how: Shutdown) {
        // One that the other side has closed is shut down already.
        let _ = match self {
            Link::Tcp(link) => link.shutdown(how),
            Link::Unix(link) => link.shutdown(how),
        };
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Link::Tcp(link) => link.read(buffer),
            Link::Unix(link) => link.read(buffer),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Link::Tcp(link) => link.write_all(bytes),
            Link::Unix(link) => link.write_all(bytes),
        }
    }
}

struct Pump {
    connection: usize,
    side: Side,
    gate: Arc<AtomicBool>,
    report: Sender<Seen>,
}

impl Pump {
    fn run(&self, mut from: Link, mut to: Link) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            // Polls: the other pumps are blocked in the system's `read`, nobody could wake them.
            while self.side == Side::Server && self.gate.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            self.report(What::Bytes(self.side, buffer[..count].to_vec()));
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write);
        self.report(What::Closed(self.side));
    }

    fn report(&self, what: What) {
        drop(self.report.send(Seen { connection: self.connection, at: clock::mono(), what }));
    }
}
