//! Reads along between the agent and the router: WebSocket frames, decoded to WAMP messages.

use super::relay::{Relay, Seen, Side, What};
use reagent::clock;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Cursor;
use std::time::Duration;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

/// A message on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub connection: usize,
    /// On the monotonic clock of the test process.
    pub at: Duration,
    pub side: Side,
    /// The WAMP message; of the HTTP upgrade `{"http": [line, ...]}`; of an end `{"closed": true}`.
    pub message: Value,
}

impl Frame {
    /// Whether it is a WAMP message of this type.
    pub fn is(&self, side: Side, kind: u64) -> bool {
        self.side == side && self.message[0] == kind
    }
}

/// A [`Relay`] in front of a router.
pub struct Tap {
    pub relay: Relay,
    streams: RefCell<HashMap<(usize, bool), Decoder>>,
    frames: RefCell<Vec<Frame>>,
}

impl Tap {
    /// In front of the router on a loopback port.
    pub fn start(router: u16) -> Tap {
        Tap { relay: Relay::tcp(router, true), streams: RefCell::default(), frames: RefCell::default() }
    }

    /// The URL for the agent's `.flock`.
    pub fn url(&self) -> String {
        format!("ws://localhost:{}/ws-re-dev", self.relay.port())
    }

    /// Everything so far, in the order in which it passed.
    pub fn frames(&self) -> Vec<Frame> {
        self.relay.seen.try_iter().for_each(|seen| self.take(seen));
        self.frames.borrow().clone()
    }

    /// How many frames there were, for `&frames()[mark..]` later.
    pub fn mark(&self) -> usize {
        self.frames().len()
    }

    /// Waits until the frames after `mark` contain what is looked for; after `limit` the test fails and prints them.
    #[track_caller]
    pub fn wait_for<T>(&self, limit: Duration, mark: usize, what: &str, look: impl Fn(&Frame) -> Option<T>) -> T {
        let deadline = clock::mono() + limit;
        loop {
            let frames = self.frames();
            if let Some(found) = frames[mark..].iter().find_map(&look) {
                return found;
            }
            match self.relay.seen.recv_timeout(deadline.saturating_sub(clock::mono())) {
                Ok(seen) => self.take(seen),
                Err(_) => panic!("not within {limit:?}: {what}; the wire said\n{}", transcript(&frames[mark..])),
            }
        }
    }

    fn take(&self, seen: Seen) {
        let (side, message) = match seen.what {
            What::Bytes(side, bytes) => {
                let mut streams = self.streams.borrow_mut();
                let stream = streams.entry((seen.connection, side == Side::Client)).or_default();
                stream.bytes.extend_from_slice(&bytes);
                for message in std::iter::from_fn(|| stream.next()) {
                    let frame = Frame { connection: seen.connection, at: seen.at, side, message };
                    self.frames.borrow_mut().push(frame);
                }
                return;
            }
            What::Opened { reached: true } => return,
            What::Opened { reached: false } => (Side::Client, json!({"refused": true})),
            What::Closed(side) => (side, json!({"closed": true})),
        };
        self.frames.borrow_mut().push(Frame { connection: seen.connection, at: seen.at, side, message });
    }
}

/// Frames for a failing test's output.
pub fn transcript(frames: &[Frame]) -> String {
    let line = |frame: &Frame| {
        let text = frame.message.to_string();
        let cut = text.char_indices().nth(300).map_or(text.len(), |(at, _)| at);
        let side = if frame.side == Side::Client { "agent " } else { "router" };
        format!("  {:9.3} #{} {side} {}", frame.at.as_secs_f64(), frame.connection, &text[..cut])
    };
    frames.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One direction of one connection.
#[derive(Default)]
struct Decoder {
    bytes: Vec<u8>,
    upgraded: bool,
    text: Vec<u8>,
}

impl Decoder {
    fn next(&mut self) -> Option<Value> {
        if !self.upgraded {
            let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
            let head = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
            self.bytes.drain(..end + 4);
            self.upgraded = true;
            return Some(json!({"http": head.split("\r\n").collect::<Vec<_>>()}));
        }
        loop {
            let mut cursor = Cursor::new(self.bytes.as_slice());
            let (header, length) = FrameHeader::parse(&mut cursor).expect("both sides send valid frames")?;
            let start = usize::try_from(cursor.position()).expect("a position in memory");
            let end = start + usize::try_from(length).expect("a frame fits into memory");
            let mut payload = self.bytes.get(start..end)?.to_vec();
            self.bytes.drain(..end);
            if let Some(mask) = header.mask {
                payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
            }
            if let OpCode::Data(Data::Text | Data::Continue) = header.opcode {
                self.text.extend(payload);
                if header.is_final {
                    let text = std::mem::take(&mut self.text);
                    return Some(serde_json::from_slice(&text).expect("a WAMP message is JSON"));
                }
            }
        }
    }
}
