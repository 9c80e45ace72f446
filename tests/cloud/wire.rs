//! A WebSocket that one thread reads and another writes, for both ends of the local cloud.
//!
//! `tungstenite` answers pings and closes from inside `read`; here those bytes go through the writer thread too, so that
//! two threads never write into one socket. A [`Gate`] in front of the socket plays the peer that has stopped.

use crossbeam_channel::{Receiver, Sender, unbounded};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

/// The largest frame and message that is taken, as in Crossbar.
pub const FRAME_LIMIT: usize = 16 << 20;

/// While shut, nothing is read from or written to the sockets behind it: a host that is hung, with a living TCP stack.
#[derive(Clone, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    pub fn shut(&self, shut: bool) {
        self.0.store(shut, Ordering::SeqCst);
    }

    /// Holds the calling thread while the gate is shut. Polls: the threads behind a gate are blocked in the system's
    /// `read` most of the time, and a waiting list would have to know them all.
    fn pass(&self) {
        while self.0.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What the writer thread is asked to do.
pub enum Out {
    /// Send a message.
    Message(Message),
    /// Send bytes that are frames already (pongs and closes made by the reading half).
    Raw(Vec<u8>),
    /// Cut the connection, without a WebSocket close.
    Cut,
}

/// The reading half's view of the socket.
pub struct Half {
    tcp: TcpStream,
    gate: Gate,
    out: Option<Sender<Out>>,
    pending: Vec<u8>,
}

impl Half {
    /// A socket before its handshake: reads and writes directly.
    pub fn new(tcp: TcpStream, gate: Gate) -> Half {
        Half { tcp, gate, out: None, pending: Vec::new() }
    }
}

impl Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.tcp.read(buffer)?;
        self.gate.pass();
        Ok(count)
    }
}

impl Write for Half {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.is_some() {
            self.pending.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        self.gate.pass();
        self.tcp.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(out) = &self.out {
            let bytes = std::mem::take(&mut self.pending);
            if !bytes.is_empty() && out.send(Out::Raw(bytes)).is_err() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }
}

/// Limits of both halves.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_frame_size(Some(FRAME_LIMIT)).max_message_size(Some(FRAME_LIMIT))
}

/// Starts the writer thread of a socket that has done its handshake. The thread ends when the connection does, on
/// [`Out::Cut`], or when the last sender is gone.
pub fn split(socket: &mut WebSocket<Half>, role: Role, thread: &str) -> io::Result<Sender<Out>> {
    let (out, wanted) = unbounded();
    let tcp = socket.get_ref().tcp.try_clone()?;
    let gate = socket.get_ref().gate.clone();
    socket.get_mut().out = Some(out.clone());
    reagent::thread::spawn(
        thread,
        |_| {},
        move || {
            let _ = write(&tcp, &gate, role, &wanted);
            let _ = tcp.shutdown(Shutdown::Both);
        },
    )?;
    Ok(out)
}

fn write(tcp: &TcpStream, gate: &Gate, role: Role, wanted: &Receiver<Out>) -> Result<(), tungstenite::Error> {
    let mut socket = WebSocket::from_raw_socket(tcp, role, Some(config()));
    while let Ok(out) = wanted.recv() {
        gate.pass();
        match out {
            Out::Message(message) => socket.send(message)?,
            Out::Raw(bytes) => socket.get_mut().write_all(&bytes)?,
            Out::Cut => break,
        }
    }
    Ok(())
}

impl Half {
    /// The longest wait of a read, `None` for no limit.
    pub fn set_read_timeout(&self, limit: Option<Duration>) -> io::Result<()> {
        self.tcp.set_read_timeout(limit)
    }
}
