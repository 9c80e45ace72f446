//! One call: connect, write the request, read the response, each step within a deadline and until cancelled.
//!
//! There is no pool: a connection serves one request, so that cancelling is shutting it down. Runs on the caller's
//! thread. **Invariant:** no wait here is without a deadline or a [`Cancel`] that ends it.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::error::Error;
use super::http1::{Body, Fault, Head, Method, Request, decode_head};
use super::socket::Socket;
use crate::cancel::{Cancel, Guard};
use crate::clock;

/// The largest answer that is collected as a whole, in bytes.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;
/// How much of a long body is read and sent at a time, in bytes.
const PIECE: usize = 64 * 1024;
/// How much of an answer is read at a time, in bytes. It is on the stack, and what a thread has once used of that stays
/// resident: each follower of logs would keep more for as long as its app runs.
const CHUNK: usize = 4 * 1024;
/// How long such a piece waits for room before it looks whether the answer has begun already.
const ROOM: Duration = Duration::from_secs(1);
/// How long one attempt to connect lasts before the cancel token is looked at: nothing else can interrupt a connect.
const CONNECT_SLICE: Duration = Duration::from_millis(100);

/// When a call must have ended, in [`clock::mono`] time.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Duration>);

impl Deadline {
    /// No deadline: only for what a [`Cancel`] ends.
    pub const NEVER: Deadline = Deadline(None);

    /// `limit` from now.
    pub fn after(limit: Duration) -> Deadline {
        Deadline(Some(clock::mono().saturating_add(limit)))
    }

    /// The time left.
    fn left(self) -> Result<Option<Duration>, Error> {
        let Some(at) = self.0 else { return Ok(None) };
        match at.saturating_sub(clock::mono()) {
            Duration::ZERO => Err(Error::Timeout),
            // The system refuses a limit of less than a microsecond.
            left => Ok(Some(left.max(Duration::from_millis(1)))),
        }
    }
}

/// A connected socket and what ends waiting on it.
#[derive(Debug)]
struct Connection {
    socket: Arc<Socket>,
    cancel: Cancel,
}

/// A response whose head has arrived. Dropping it closes the connection, which cancels a transfer in the Engine.
#[derive(Debug)]
pub struct Response {
    /// Status and headers.
    pub head: Head,
    body: Body,
    /// What came with the head.
    early: Vec<u8>,
    connection: Connection,
}

/// Sends `request` below `prefix` and waits for the head of the final response.
///
/// # Errors
/// [`Error::Unreachable`], [`Error::Timeout`], [`Error::Cancelled`], [`Error::Http`].
pub fn open(
    address: &Address,
    prefix: &str,
    request: &Request,
    deadline: Deadline,
    cancel: Cancel,
) -> Result<Response, Error> {
    let connection = Connection::to(address, deadline, cancel)?;
    let written = connection.write(&request.encode(prefix), deadline);
    connection.answer(request.method, written, Vec::new(), deadline)
}

/// [`open`] for a request whose body [`follows`](Request::body_follows): it is read from `body` as it is sent, a piece at
/// a time. `silence` is the deadline of each piece, and of the answer. A peer that answers before it has read all need not
/// read the rest.
///
/// # Errors
/// As [`open`]; [`Error::Source`].
pub fn upload(
    address: &Address,
    prefix: &str,
    request: &Request,
    body: &mut dyn Read,
    silence: Duration,
    cancel: Cancel,
) -> Result<Response, Error> {
    let soon = || Deadline::after(silence);
    let connection = Connection::to(address, soon(), cancel)?;
    let mut written = connection.write(&request.encode(prefix), soon());
    let (mut left, mut piece, mut early) = (request.follows(), vec![0; PIECE], Vec::new());
    while written.is_ok() && left > 0 && early.is_empty() {
        let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        match body.read(&mut piece[..most]) {
            Ok(0) => return Err(Error::Source("it is shorter than it was".into())),
            Ok(count) => {
                written = connection.write_unless_answered(&piece[..count], &mut early, soon());
                left -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Source(error.to_string())),
        }
    }
    connection.answer(request.method, written, early, soon())
}

impl Response {
    /// Appends more of the body to `out`: `false` at its end. After [`Error::Timeout`] it may be called again.
    ///
    /// # Errors
    /// As [`open`]; a body that ends early is [`Fault::Truncated`].
    pub fn read(&mut self, out: &mut Vec<u8>, deadline: Deadline) -> Result<bool, Error> {
        let before = out.len();
        let early = std::mem::take(&mut self.early);
        self.body.feed(&early, out)?;
        let mut chunk = [0; CHUNK];
        while out.len() == before {
            if self.body.is_done() {
                return Ok(false);
            }
            match self.connection.read(&mut chunk, deadline)? {
                0 => return self.body.end().map(|()| false).map_err(Error::Http),
                count => self.body.feed(&chunk[..count], out)?,
            };
        }
        Ok(true)
    }

    /// The whole body, up to [`MAX_ANSWER`] bytes.
    ///
    /// # Errors
    /// As [`Response::read`]; [`Fault::BodyTooLarge`].
    pub fn collect(mut self, deadline: Deadline) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        while self.read(&mut out, deadline)? {
            if out.len() > MAX_ANSWER {
                return Err(Error::Http(Fault::BodyTooLarge));
            }
        }
        Ok(out)
    }
}

impl Connection {
    fn to(address: &Address, deadline: Deadline, cancel: Cancel) -> Result<Connection, Error> {
        loop {
            if cancel.is_cancelled() {
                return Err(Error::Cancelled);
            }
            let limit = deadline.left()?.map_or(CONNECT_SLICE, |left| left.min(CONNECT_SLICE));
            match Socket::connect(address, limit) {
                Ok(socket) => return Ok(Connection { socket: Arc::new(socket), cancel }),
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(Error::Unreachable(format!("{address}: {error}"))),
            }
        }
    }

    fn write(&self, mut bytes: &[u8], deadline: Deadline) -> Result<(), Error> {
        let _closer = self.closer();
        while !bytes.is_empty() {
            match self.socket.write(bytes, deadline.left()?) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => self.go_on_after(&error)?,
            }
        }
        Ok(())
    }

    /// [`Connection::write`], until something comes back, which goes into `early`.
    fn write_unless_answered(&self, mut bytes: &[u8], early: &mut Vec<u8>, deadline: Deadline) -> Result<(), Error> {
        let _closer = self.closer();
        let mut chunk = [0; 1024];
        while !bytes.is_empty() && early.is_empty() {
            match self.socket.write(bytes, deadline.left()?.map(|left| left.min(ROOM))) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => {
                    self.go_on_after(&error)?;
                    let count = self.socket.read(&mut chunk, Some(Duration::from_millis(1))).unwrap_or_default();
                    early.extend_from_slice(&chunk[..count]);
                }
            }
        }
        Ok(())
    }

    /// Waits for the head of the final response to a request that was written like that; `early` is the start of it.
    fn answer(
        self,
        to: Method,
        written: Result<(), Error>,
        mut early: Vec<u8>,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        // A peer that refuses a request early stops reading it: its answer counts, not the failed write.
        if let Err(error @ (Error::Timeout | Error::Cancelled)) = written {
            return Err(error);
        }
        let mut chunk = [0; CHUNK];
        let head = loop {
            match decode_head(&early)? {
                // An interim response; the real one follows.
                Some((length, head)) if matches!(head.status, 100 | 102..200) => drop(early.drain(..length)),
                Some((length, head)) => {
                    early.drain(..length);
                    break head;
                }
                None => match self.read(&mut chunk, deadline)? {
                    0 => {
                        written?;
                        return Err(Error::Unreachable("the connection ended without an answer".into()));
                    }
                    count => early.extend_from_slice(&chunk[..count]),
                },
            }
        };
        let body = head.body(to)?;
        Ok(Response { head, body, early, connection: self })
    }

    /// Some bytes; 0 is the end.
    fn read(&self, into: &mut [u8], deadline: Deadline) -> Result<usize, Error> {
        let _closer = self.closer();
        loop {
            match self.socket.read(into, deadline.left()?) {
                // Shutting down reads as an end.
                Ok(_) if self.cancel.is_cancelled() => return Err(Error::Cancelled),
                Ok(count) => return Ok(count),
                Err(error) => self.go_on_after(&error)?,
            }
        }
    }

    /// Makes the token shut the socket down. Only while this thread is blocked here: a token has room for one closer,
    /// and in between the thread may make other calls with the same token.
    fn closer(&self) -> Guard {
        let socket = self.socket.clone();
        self.cancel.on_cancel(move || socket.shutdown())
    }

    /// Whether an operation that ended with `error` is to be tried again; the deadline is looked at there.
    fn go_on_after(&self, error: &io::Error) -> Result<(), Error> {
        if self.cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if is_pause(error) { Ok(()) } else { Err(Error::Unreachable(error.to_string())) }
    }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
