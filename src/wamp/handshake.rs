//! From a fresh TCP connection to an open WebSocket: through a proxy, TLS, the upgrade (spec 1.1, 1.2).
//!
//! ```text
//!   [Proxy: CONNECT or SOCKS 5] -> [TLS] -> upgrade -> Socket
//! ```
//!
//! It runs on the `wamp` thread, fed by the pump, and never blocks on a read: the connect bound, a stop and a redial end it
//! at any point by dropping it.

use crate::clock;
use crate::net::proxy::{self, Step};
use crate::net::tls;
use crate::wamp::endpoint::{Error, Target};
use crate::wamp::pipe::Pipe;
use crate::wamp::pump::Pumped;
use crate::wamp::socket::{Socket, Stream, Wire};
use crossbeam_channel::Receiver;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::HeaderValue;
use tungstenite::protocol::WebSocketConfig;

pub(super) const SUBPROTOCOL: &str = "wamp.2.json";
/// What a hostile router can make us hold; real ones stop at 16 MiB.
const MAX_INBOUND: usize = 64 * 1024 * 1024;
const BUFFER: usize = 16 * 1024;

/// A handshake that waits for bytes.
#[derive(Debug)]
pub struct Handshake {
    stage: Stage,
    target: Target,
    wire: Wire,
}

#[derive(Debug)]
enum Stage {
    Proxy { way: proxy::Handshake, pipe: Pipe },
    Upgrade(MidHandshake<ClientHandshake<Stream>>),
}

/// How far a handshake is.
#[derive(Debug)]
pub enum Progress {
    /// Call [`Handshake::advance`] when the pump has brought something.
    Pending(Handshake),
    /// The WebSocket is open.
    Open(Socket),
}

impl Handshake {
    /// Begins over a fresh connection to the first hop of `target`.
    ///
    /// # Errors
    /// [`Error::Url`] or [`Error::Broken`]
    pub fn start(target: Target, tcp: TcpStream, input: Receiver<Pumped>) -> Result<Progress, Error> {
        let clone = tcp.try_clone().map_err(|error| Error::Broken(error.to_string()))?;
        let wire = Wire { tcp: clone, input: input.clone() };
        let mut pipe = Pipe::new(input, tcp);
        let stage = match &target.via {
            Some(proxy) => {
                let refused = |error: &dyn fmt::Display| Error::Broken(target.reason(&error.to_string()));
                let endpoint = &target.endpoint;
                let (way, greeting) = proxy.start(&endpoint.host, endpoint.port).map_err(|error| refused(&error))?;
                pipe.write_all(&greeting).map_err(|error| refused(&error))?;
                Stage::Proxy { way, pipe }
            }
            None => Stage::Upgrade(upgrade(&target, pipe)?),
        };
        Handshake { stage, target, wire }.advance()
    }

    /// Goes on as far as the bytes reach.
    ///
    /// # Errors
    /// [`Error::Broken`]: refused, no TLS agreement, no or another sub-protocol, connection lost.
    pub fn advance(self) -> Result<Progress, Error> {
        let Handshake { stage, target, wire } = self;
        let mid = match stage {
            Stage::Upgrade(mid) => mid,
            Stage::Proxy { mut way, mut pipe } => match pass(&mut way, &mut pipe) {
                Ok(true) => upgrade(&target, pipe)?,
                Ok(false) => {
                    return Ok(Progress::Pending(Handshake { stage: Stage::Proxy { way, pipe }, target, wire }));
                }
                Err(reason) => return Err(Error::Broken(target.reason(&reason))),
            },
        };
        match mid.handshake() {
            Ok((web, _response)) => Ok(Progress::Open(Socket::new(web, wire))),
            Err(HandshakeError::Interrupted(mid)) => {
                Ok(Progress::Pending(Handshake { stage: Stage::Upgrade(mid), target, wire }))
            }
            Err(HandshakeError::Failure(error)) => Err(Error::Broken(target.reason(&failure(&error, &target)))),
        }
    }

    /// The way it goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Readable when there is something to advance with.
    pub fn input(&self) -> &Receiver<Pumped> {
        &self.wire.input
    }
}

/// Talks to the proxy as far as its bytes reach; whether the way is open.
fn pass(way: &mut proxy::Handshake, pipe: &mut Pipe) -> Result<bool, String> {
    let mut byte = [0]; // one at a time, out of the pump's chunk: what follows the answer is not the proxy's
    loop {
        match pipe.read(&mut byte) {
            Ok(0) => return Err("it ended the connection".to_owned()),
            Ok(_) => match way.take(byte[0]).map_err(|error| error.to_string())? {
                Step::More => {}
                Step::Send(bytes) => pipe.write_all(&bytes).map_err(|error| error.to_string())?,
                Step::Open => return Ok(true),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Begins TLS, if the endpoint wants it, and the upgrade.
fn upgrade(target: &Target, pipe: Pipe) -> Result<MidHandshake<ClientHandshake<Stream>>, Error> {
    let broken = |error: &dyn fmt::Display| Error::Broken(target.reason(&error.to_string()));
    let url = |error: &dyn fmt::Display| Error::Url(error.to_string());
    let stream = if let Some(config) = &target.tls {
        let name = ServerName::try_from(target.endpoint.host.clone()).map_err(|error| url(&error))?;
        let connection = ClientConnection::new(config.clone(), name).map_err(|error| broken(&error))?;
        Stream::Tls(Box::new(StreamOwned::new(connection, pipe)))
    } else {
        Stream::Plain(pipe)
    };
    let mut request = target.endpoint.uri.clone().into_client_request().map_err(|error| url(&error))?;
    request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
    let agent = HeaderValue::from_static(concat!("reagent/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert("User-Agent", agent);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(BUFFER)
        .max_frame_size(Some(MAX_INBOUND))
        .max_message_size(Some(MAX_INBOUND));
    ClientHandshake::start(stream, request, Some(config)).map_err(|error| broken(&error))
}

/// In words, with what can be done about it.
fn failure(error: &tungstenite::Error, target: &Target) -> String {
    match error {
        tungstenite::Error::Http(response) => format!("server answered {} to the WebSocket upgrade", response.status()),
        tungstenite::Error::Io(io) => match tls::cause(io) {
            Some(error) => tls::explain(error, &target.endpoint.host, target.time_floor, clock::wall()),
            None => error.to_string(),
        },
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
