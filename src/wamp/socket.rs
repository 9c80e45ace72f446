//! An open WebSocket over TCP or TLS, fed by the pump: frames in and out, without ever blocking on a read (spec 1.1).
//!
//! What is sent goes out in fragments, and only while little is under way: on a slow link a large result delays neither the
//! reading nor a pong, which goes between two fragments.

use crate::clock;
use crate::os;
use crate::wamp::endpoint::Error;
use crate::wamp::pipe::Pipe;
use crate::wamp::pump::Pumped;
use crossbeam_channel::Receiver;
use rustls::{ClientConnection, StreamOwned};
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;
use tungstenite::protocol::WebSocket;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame as WebFrame};
use tungstenite::{Bytes, Message};

/// A longer text is cut into fragments of about this size.
const FRAGMENT: usize = 16 * 1024;
/// Nothing further is written while this much is not acknowledged: what a pong waits behind. At 10 KB/s that is less than
/// half of what a ping may take (decision 12); at 100 ms of round trip it allows 640 KB/s.
const UNDER_WAY: usize = 64 * 1024;
/// How long writing may take before the caller can look after something else again.
const TURN: Duration = Duration::from_millis(50);
/// What may wait to be written.
const MAX_OUTBOUND: usize = 32 * 1024 * 1024;
/// A peer that acknowledges nothing for this long is dead (architecture 5).
const STALL: Duration = Duration::from_secs(15);

/// TCP or TLS.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(Pipe),
    Tls(Box<StreamOwned<ClientConnection, Pipe>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(pipe) => pipe.read(buffer),
            Stream::Tls(tls) => tls.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(pipe) => pipe.write(bytes),
            Stream::Tls(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(pipe) => pipe.flush(),
            Stream::Tls(tls) => tls.flush(),
        }
    }
}

/// The connection below the WebSocket. Dropping it shuts it down, which also ends the pump.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) tcp: TcpStream,
    pub(super) input: Receiver<Pumped>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Both); // an error means that it is down already
    }
}

/// An inbound frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// Text, to be decoded.
    Text(String),
    /// Ping or pong; a ping is answered with the next read or flush.
    Control,
    /// Nothing that `wamp.2.json` has: binary, or text that is not UTF-8.
    Unusable(&'static str),
}

/// An open WebSocket.
#[derive(Debug)]
pub struct Socket {
    web: WebSocket<Stream>,
    wire: Wire,
    /// Texts that wait, the first one perhaps begun.
    outgoing: VecDeque<Bytes>,
    waiting: usize,
    /// The first one is begun.
    continued: bool,
    /// What was not acknowledged when it was last looked at, and since when that has not changed.
    stalled: Option<(usize, Duration)>,
}

impl Socket {
    pub(super) fn new(web: WebSocket<Stream>, wire: Wire) -> Socket {
        Socket { web, wire, outgoing: VecDeque::new(), waiting: 0, continued: false, stalled: None }
    }

    /// The next frame that has come completely; `None` if there is none now. Answers pings on the way.
    ///
    /// # Errors
    /// [`Error::Broken`]: the connection is lost or closed.
    pub fn read(&mut self) -> Result<Option<Frame>, Error> {
        match self.web.read() {
            Ok(Message::Text(text)) => Ok(Some(Frame::Text(text.as_str().to_owned()))),
            Ok(Message::Binary(_)) => Ok(Some(Frame::Unusable("binary"))),
            Ok(Message::Close(frame)) => {
                let _ = self.web.flush(); // the reply to the close frame; the connection ends anyway
                Err(Error::Broken(frame.map_or_else(
                    || "closed by the router".to_owned(),
                    |frame| format!("closed by the router: {} {}", u16::from(frame.code), frame.reason),
                )))
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(Some(Frame::Control)),
            Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(tungstenite::Error::Utf8(_)) => Ok(Some(Frame::Unusable("not UTF-8"))),
            Err(error) => Err(lost(&error)),
        }
    }

    /// Takes a text to be sent, behind those that wait, and writes as much as may be under way.
    ///
    /// # Errors
    /// [`Error::Broken`]: lost, or the peer takes nothing any more.
    pub fn write(&mut self, text: String) -> Result<(), Error> {
        self.waiting += text.len();
        if self.waiting > MAX_OUTBOUND {
            return Err(Error::Broken("the peer does not take what is sent: too much waits for it".to_owned()));
        }
        self.outgoing.push_back(Bytes::from(text));
        self.push_on()
    }

    /// Whether something waits to be written: flush again soon.
    pub fn is_behind(&self) -> bool {
        !self.outgoing.is_empty()
    }

    fn push_on(&mut self) -> Result<(), Error> {
        let began = clock::mono();
        while let Some(text) = self.outgoing.front_mut() {
            let backlog = os::socket::unacknowledged(&self.wire.tcp);
            if backlog >= UNDER_WAY {
                return self.look_at_stall(backlog, clock::mono());
            }
            self.stalled = None;
            let piece = text.split_to(fragment(text));
            let last = text.is_empty();
            let kind = if self.continued { Data::Continue } else { Data::Text };
            self.continued = !last;
            self.waiting -= piece.len();
            if last {
                self.outgoing.pop_front();
            }
            let frame = WebFrame::message(piece, OpCode::Data(kind), last);
            self.web.write(Message::Frame(frame)).map_err(|error| lost(&error))?;
            if clock::mono() - began >= TURN {
                break;
            }
        }
        Ok(())
    }

    fn look_at_stall(&mut self, backlog: usize, now: Duration) -> Result<(), Error> {
        match self.stalled {
            Some((seen, since)) if seen == backlog && now.saturating_sub(since) >= STALL => {
                Err(Error::Broken("the peer does not take what is sent".to_owned()))
            }
            Some((seen, _)) if seen == backlog => Ok(()),
            _ => {
                self.stalled = Some((backlog, now));
                Ok(())
            }
        }
    }

    /// Buffers a ping.
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub fn ping(&mut self) -> Result<(), Error> {
        self.web.write(Message::Ping(Bytes::from_static(b"keepalive"))).map_err(|error| lost(&error))
    }

    /// Writes what is buffered, and more of what waits. Blocks for the write timeout at most.
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub fn flush(&mut self) -> Result<(), Error> {
        self.push_on()?;
        self.web.flush().map_err(|error| lost(&error))
    }

    /// Sends the close frame of an orderly end (spec 1.13); that it does not get through changes nothing.
    pub fn close(&mut self) {
        let _ = self.web.close(Some(CloseFrame { code: CloseCode::Normal, reason: "goodbye".into() }));
    }

    /// What a further frame would have to wait behind, in bytes.
    pub fn backlog(&self) -> usize {
        self.waiting + os::socket::unacknowledged(&self.wire.tcp)
    }

    /// Readable when there may be a frame.
    pub fn input(&self) -> &Receiver<Pumped> {
        &self.wire.input
    }
}

/// How much of `text` goes into one frame: whole characters, because some peers check each frame for itself.
fn fragment(text: &[u8]) -> usize {
    if text.len() <= FRAGMENT {
        return text.len();
    }
    (FRAGMENT - 3..=FRAGMENT).rev().find(|&end| text[end] & 0xC0 != 0x80).unwrap_or(FRAGMENT)
}

fn lost(error: &tungstenite::Error) -> Error {
    use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
    match error {
        tungstenite::Error::Io(error) => Error::Broken(format!("connection lost: {error}")),
        tungstenite::Error::Protocol(ResetWithoutClosingHandshake) => {
            Error::Broken("connection ended by the peer".to_owned())
        }
        other => Error::Broken(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
