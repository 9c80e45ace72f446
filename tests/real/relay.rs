//! A relay between the agent and a real part, which sees every byte, can hold them back and can cut the connections.
//!
//! One thread accepts, two carry the bytes of each connection. What was seen goes to a channel that the test reads. A
//! [`Gate`] stops one connection that is told by its first bytes.

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
    /// Of the server, of the client.
    budgets: [Arc<AtomicUsize>; 2],
    /// The gate that is set, if any; whoever has the token may look.
    gate: Token,
    refuses: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    pub seen: Receiver<Seen>,
}

/// One that passes between those who may use what it carries.
type Token = (Sender<Option<Watch>>, Receiver<Option<Watch>>);

/// Holds the first connection whose first bytes contain a text. Dropping it ends that connection, as nothing of it may
/// pass any more: who made it, or whom it was for, has gone.
pub struct Gate {
    held: Receiver<()>,
    pass: Sender<()>,
}

impl Gate {
    /// Waits until the connection is held.
    #[track_caller]
    pub fn wait(&self, limit: Duration, what: &str) {
        assert!(self.held.recv_timeout(limit).is_ok(), "not within {limit:?}: {what}");
    }

    /// Lets the connection go on.
    pub fn open(self) {
        self.pass.send(()).unwrap_or_default();
    }
}

#[derive(Clone)]
struct Watch {
    text: String,
    skip: usize,
    /// Whose bytes are held.
    side: Side,
    held: Sender<()>,
    released: Receiver<()>,
}

impl Watch {
    /// Until the gate is opened, or goes: then the connection is over.
    fn hold(&self) -> bool {
        self.held.send(()).unwrap_or_default();
        self.released.recv().is_err()
    }
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
        let budgets = [(); 2].map(|()| Arc::new(AtomicUsize::new(usize::MAX)));
        let ended = Arc::new(AtomicBool::new(false));
        let refuses = Arc::new(AtomicBool::new(false));
        let gate: Token = unbounded();
        gate.0.send(None).expect("its other end is here");
        let (of_pumps, token, end, refusing) = (budgets.clone(), gate.clone(), ended.clone(), refuses.clone());
        let body = move || {
            for connection in 0.. {
                let Ok(client) = accept() else { return };
                if end.load(Ordering::SeqCst) {
                    return;
                }
                if refusing.load(Ordering::SeqCst) {
                    continue;
                }
                let server = upstream.connect();
                let what = What::Opened { reached: server.is_ok() };
                if watched {
                    drop(report.send(Seen { connection, at: clock::mono(), what }));
                }
                // Without a server the client's connection is closed by this drop.
                let Ok(server) = server else { continue };
                let answers = unbounded();
                for (side, from, to) in [(Side::Client, &client, &server), (Side::Server, &server, &client)] {
                    let (from, to) = (from.duplicate(), to.duplicate());
                    drop((keep.send(from.duplicate()), keep.send(to.duplicate())));
                    let budget = of_pumps[usize::from(side == Side::Client)].clone();
                    let (gate, answers, report) = (token.clone(), answers.clone(), report.clone());
                    let pump = Pump { connection, side, watched, budget, gate, answers, report };
                    reagent::thread::spawn("relay-pump", |_| {}, move || pump.run(from, to)).expect("a thread starts");
                }
            }
        };
        reagent::thread::spawn("relay", |_| {}, body).expect("a thread starts");
        Relay { own, links, budgets, gate, refuses, ended, seen }
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
        self.budgets[0].store(bytes, Ordering::SeqCst);
    }

    /// The same for the bytes of the clients.
    pub fn stall_clients_after(&self, bytes: usize) {
        self.budgets[1].store(bytes, Ordering::SeqCst);
    }

    /// Whether nothing passes any more in one of the directions.
    pub fn is_stalled(&self) -> bool {
        self.budgets.iter().any(|budget| budget.load(Ordering::SeqCst) == 0)
    }

    /// Lets everything pass again, but for what a gate holds.
    pub fn release(&self) {
        self.stall_after(usize::MAX);
        self.stall_clients_after(usize::MAX);
    }

    /// Holds what `side` says on the connection that begins with bytes that contain `text`, after `skip` such ones. In
    /// place of any gate before.
    pub fn gate(&self, side: Side, text: &str, skip: usize) -> Gate {
        let ((told, held), (release, released)) = (unbounded(), unbounded());
        let watch = Watch { text: text.to_owned(), skip, side, held: told, released };
        drop(self.gate.1.recv());
        self.gate.0.send(Some(watch)).expect("its other end is here");
        Gate { held, pass: release }
    }

    /// Cuts all connections and takes none, as if the real part were gone, until [`Relay::come_back`].
    pub fn go_away(&self) {
        self.refuses.store(true, Ordering::SeqCst);
        self.cut();
    }

    /// Ends [`Relay::go_away`].
    pub fn come_back(&self) {
        self.refuses.store(false, Ordering::SeqCst);
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
    gate: Token,
    /// From the pump of the client to that of the server: what is answered is to be held.
    answers: (Sender<Watch>, Receiver<Watch>),
    report: Sender<Seen>,
}

impl Pump {
    fn run(&self, mut from: Link, mut to: Link) {
        let mut buffer = [0; 16 * 1024];
        let mut is_first = true;
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            self.spend(count);
            self.report(What::Bytes(self.side, buffer[..count].to_vec()));
            if std::mem::take(&mut is_first) && self.is_gated(&buffer[..count]) {
                from.shutdown(Shutdown::Both);
                to.shutdown(Shutdown::Both);
                break;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Write);
        self.report(What::Closed(self.side));
    }

    /// Whether the connection was held, by its first bytes, and is over.
    fn is_gated(&self, bytes: &[u8]) -> bool {
        if self.side == Side::Server {
            return self.answers.1.try_recv().is_ok_and(|watch| watch.hold());
        }
        let Ok(mut watch) = self.gate.1.recv() else { return false };
        let mut hit = watch.take_if(|watch| String::from_utf8_lossy(bytes).contains(&watch.text));
        if let Some(missed) = hit.take_if(|watch| watch.skip > 0) {
            watch = Some(Watch { skip: missed.skip - 1, ..missed });
        }
        drop(self.gate.0.send(watch));
        match hit {
            Some(hit) if hit.side == Side::Client => hit.hold(),
            Some(hit) => {
                drop(self.answers.0.send(hit));
                false
            }
            None => false,
        }
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
