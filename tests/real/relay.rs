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
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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
    budget: Arc<AtomicUsize>,
    ended: Arc<AtomicBool>,
    refused: Arc<AtomicBool>,
    pub seen: Receiver<Seen>,
}

#[derive(Clone)]
enum Address {
    Tcp(u16),
    Unix(PathBuf),
}

impl Relay {
    /// Between a free loopback port and another one; `watched` tells whether what passes is kept in `seen`.
    pub fn tcp(upstream: u16, watched: bool) -> Relay {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free loopback port");
        let own = Address::Tcp(listener.local_addr().expect("a bound listener has an address").port());
        Relay::start(own, Address::Tcp(upstream), watched, move || listener.accept().map(|(link, _)| Link::Tcp(link)))
    }

    /// Between a new Unix socket and another one.
    pub fn unix(path: &Path, upstream: &Path) -> Relay {
        let listener = UnixListener::bind(path).expect("a fresh folder takes a socket");
        let accept = move || listener.accept().map(|(link, _)| Link::Unix(link));
        Relay::start(Address::Unix(path.to_owned()), Address::Unix(upstream.to_owned()), true, accept)
    }

    fn start(
        own: Address,
        upstream: Address,
        watched: bool,
        accept: impl Fn() -> io::Result<Link> + Send + 'static,
    ) -> Relay {
        let (report, seen) = unbounded();
        let (keep, links) = unbounded();
        let (budget, ended) = (Arc::new(AtomicUsize::new(usize::MAX)), Arc::new(AtomicBool::new(false)));
        let refused = Arc::new(AtomicBool::new(false));
        let (gate, end, refuses) = (budget.clone(), ended.clone(), refused.clone());
        let body = move || {
            for connection in 0.. {
                let Ok(client) = accept() else { return };
                if end.load(Ordering::SeqCst) {
                    return;
                }
                if refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let server = upstream.connect();
                let what = What::Opened { reached: server.is_ok() };
                if watched {
                    drop(report.send(Seen { connection, at: clock::mono(), what }));
                }
                // Without a server the client's connection is closed by this drop.
                let Ok(server) = server else { continue };
                for (side, from, to) in [(Side::Client, &client, &server), (Side::Server, &server, &client)] {
                    let (from, to) = (from.duplicate(), to.duplicate());
                    drop((keep.send(from.duplicate()), keep.send(to.duplicate())));
                    let pump = Pump { connection, side, watched, budget: gate.clone(), report: report.clone() };
                    reagent::thread::spawn("relay-pump", |_| {}, move || pump.run(from, to)).expect("a thread starts");
                }
            }
        };
        reagent::thread::spawn("relay", |_| {}, body).expect("a thread starts");
        Relay { own, links, budget, ended, refused, seen }
    }

    /// The loopback port of a TCP relay.
    pub fn port(&self) -> u16 {
        match self.own {
            Address::Tcp(port) => port,
            Address::Unix(_) => panic!("a Unix socket has no port"),
        }
    }

    /// Lets about this many more bytes of the server pass, in all connections together; then they stall.
    pub fn stall_after(&self, bytes: usize) {
        self.budget.store(bytes, Ordering::SeqCst);
    }

    /// Lets everything pass again.
    pub fn release(&self) {
        self.stall_after(usize::MAX);
    }

    /// Whether connections are closed at once: those that there are, too.
    pub fn refuse(&self, refused: bool) {
        self.refused.store(refused, Ordering::SeqCst);
        if refused {
            self.cut();
        }
    }

    /// Cuts all connections; new ones are taken.
    pub fn cut(&self) {
        self.links.try_iter().for_each(|link| link.shutdown(Shutdown::Both));
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        self.release();
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
    watched: bool,
    budget: Arc<AtomicUsize>,
    report: Sender<Seen>,
}

impl Pump {
    fn run(&self, mut from: Link, mut to: Link) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if self.side == Side::Server {
                self.spend(count);
            }
            self.report(What::Bytes(self.side, buffer[..count].to_vec()));
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write);
        self.report(What::Closed(self.side));
    }

    /// Waits until the budget is not used up. Polls: the other pumps are blocked in the system's `read`, and nobody could
    /// wake them.
    fn spend(&self, count: usize) {
        loop {
            let left = self.budget.load(Ordering::SeqCst);
            match left {
                usize::MAX => return,
                0 => std::thread::sleep(Duration::from_millis(5)),
                _ => {
                    let rest = left.saturating_sub(count);
                    if self.budget.compare_exchange(left, rest, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                        return;
                    }
                }
            }
        }
    }

    fn report(&self, what: What) {
        if !self.watched {
            return;
        }
        drop(self.report.send(Seen { connection: self.connection, at: clock::mono(), what }));
    }
}
