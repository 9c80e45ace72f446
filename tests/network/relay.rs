//! A TCP relay that holds back what it passes on: a long way, for kernels that cannot make one (`netem`).

use crossbeam_channel::{Receiver, Sender, unbounded};
use reagent::clock;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Listens on an address and passes on to a port of 127.0.0.1.
pub struct Relay {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl Relay {
    #[track_caller]
    pub fn start(address: &str, to: u16, delay: Duration) -> Relay {
        let listener = TcpListener::bind((address, 0)).expect("the address is ours");
        let address = listener.local_addr().expect("it listens");
        let ended = Arc::new(AtomicBool::new(false));
        let over = ended.clone();
        let accept = move || {
            while let Ok((device, _)) = listener.accept() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                // While the router is down the device's connection ends at once.
                if let Ok(router) = TcpStream::connect(("127.0.0.1", to)) {
                    let _ = pass(&device, &router, delay).and_then(|()| pass(&router, &device, delay));
                }
            }
        };
        reagent::thread::spawn("relay", |_| {}, accept).expect("a thread");
        Relay { address, ended }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// One direction: a thread reads, another writes when the time has come. Both end with the connection.
fn pass(from: &TcpStream, to: &TcpStream, delay: Duration) -> std::io::Result<()> {
    let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
    to.set_nodelay(true)?;
    let (pieces, due): (Sender<(Duration, Vec<u8>)>, Receiver<_>) = unbounded();
    let read = move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = from.read(&mut buffer) {
            if pieces.send((clock::mono() + delay, buffer[..count].to_vec())).is_err() || count == 0 {
                break;
            }
        }
    };
    let write = move || {
        for (at, piece) in due {
            std::thread::sleep(at.saturating_sub(clock::mono()));
            if piece.is_empty() || to.write_all(&piece).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    };
    reagent::thread::spawn("relay-read", |_| {}, read)?;
    reagent::thread::spawn("relay-write", |_| {}, write).map(drop)
}
