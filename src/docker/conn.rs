//! One call: connect, write the request, read the response, each step within a deadline and until cancelled.
//!
//! There is no pool: a connection serves one request, so that cancelling is shutting it down. Runs on the caller's
//! thread. **Invariant:** no wait here is without a deadline or a [`Cancel`] that ends it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::error::Error;
use super::http1::{Body, Fault, Head, Request, decode_head};
use super::socket::Socket;
use crate::cancel::{Cancel, Guard};
use crate::clock;

/// The largest answer that is collected as a whole, in bytes.
pub const MAX_ANSWER: usize = 16 * 1024 * 1024;
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

/// A response whose head has arrived. Dropping it closes the connection, which cancels a transfer in the Engine.
#[derive(Debug)]
pub struct Response {
    /// Status and headers.
    pub head: Head,
    body: Body,
    /// What came with the head.
    early: Vec<u8>,
    socket: Arc<Socket>,
    cancel: Cancel,
    _closer: Guard,
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
    cancel: &Cancel,
) -> Result<Response, Error> {
    let socket = Arc::new(connect(address, deadline, cancel)?);
    let closer = cancel.on_cancel({
        let socket = socket.clone();
        move || socket.shutdown()
    });
    // A peer that refuses a request early stops reading it: its answer counts, not the failed write.
    let written = write(&socket, &request.encode(prefix), deadline, cancel);
    if let Err(error @ (Error::Timeout | Error::Cancelled)) = written {
        return Err(error);
    }
    let mut early = Vec::new();
    let mut chunk = [0; 8 * 1024];
    let head = loop {
        match decode_head(&early)? {
            // An interim response; the real one follows.
            Some((length, head)) if matches!(head.status, 100 | 102..200) => drop(early.drain(..length)),
            Some((length, head)) => {
                early.drain(..length);
                break head;
            }
            None => match read(&socket, &mut chunk, deadline, cancel)? {
                0 => {
                    written?;
                    return Err(Error::Unreachable("the connection ended without an answer".into()));
                }
                count => early.extend_from_slice(&chunk[..count]),
            },
        }
    };
    let body = head.body(request.method)?;
    Ok(Response { head, body, early, socket, cancel: cancel.clone(), _closer: closer })
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
        let mut chunk = [0; 16 * 1024];
        while out.len() == before {
            if self.body.is_done() {
                return Ok(false);
            }
            match read(&self.socket, &mut chunk, deadline, &self.cancel)? {
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

fn connect(address: &Address, deadline: Deadline, cancel: &Cancel) -> Result<Socket, Error> {
    loop {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let limit = deadline.left()?.map_or(CONNECT_SLICE, |left| left.min(CONNECT_SLICE));
        match Socket::connect(address, limit) {
            Ok(socket) => return Ok(socket),
            Err(error) if is_pause(&error) => {}
            Err(error) => return Err(Error::Unreachable(format!("{address}: {error}"))),
        }
    }
}

fn write(socket: &Socket, mut bytes: &[u8], deadline: Deadline, cancel: &Cancel) -> Result<(), Error> {
    while !bytes.is_empty() {
        match socket.write(bytes, deadline.left()?) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) => interrupted(&error, cancel)?,
        }
    }
    Ok(())
}

fn read(socket: &Socket, into: &mut [u8], deadline: Deadline, cancel: &Cancel) -> Result<usize, Error> {
    loop {
        let limit = deadline.left()?;
        match socket.read(into, limit) {
            // Shutting down reads as an end.
            Ok(_) if cancel.is_cancelled() => return Err(Error::Cancelled),
            Ok(count) => return Ok(count),
            Err(error) => interrupted(&error, cancel)?,
        }
    }
}

/// Whether an operation that ended with `error` is to be tried again; the deadline is looked at there.
fn interrupted(error: &io::Error, cancel: &Cancel) -> Result<(), Error> {
    if cancel.is_cancelled() {
        return Err(Error::Cancelled);
    }
    if is_pause(error) { Ok(()) } else { Err(Error::Unreachable(error.to_string())) }
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
