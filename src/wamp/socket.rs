//! A WebSocket over TCP or TLS, fed by the pump: handshake and frames, without ever blocking on a read (spec 1.1, 1.2).

use crate::net::tls;
use crate::os;
use crate::wamp::pipe::Pipe;
use crate::wamp::pump::Pumped;
use crate::wamp::{ClientCertificate, Settings};
use crossbeam_channel::Receiver;
use log::warn;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::handshake::{HandshakeError, MidHandshake};
use tungstenite::http::{HeaderValue, Uri};
use tungstenite::protocol::frame::CloseFrame;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{WebSocket, WebSocketConfig};
use tungstenite::{Bytes, Message};

const SUBPROTOCOL: &str = "wamp.2.json";
/// What a hostile router can make us hold; real ones stop at 16 MiB.
const MAX_INBOUND: usize = 64 * 1024 * 1024;
const BUFFER: usize = 16 * 1024;

/// Why there is no connection, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The URL is none, or of another scheme.
    Url(String),
    /// No TLS configuration.
    Tls(tls::Error),
    /// The connection failed or ended.
    Broken(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Url(text) => write!(f, "endpoint URL is unusable: {text}"),
            Error::Tls(error) => error.fmt(f),
            Error::Broken(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

/// A parsed endpoint URL.
#[derive(Debug, Clone, PartialEq)]
pub struct Endpoint {
    /// Name or address, an IPv6 address without brackets.
    pub host: String,
    /// Given or the scheme's.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
    uri: Uri,
}

impl Endpoint {
    /// Reads a URL; `http` and `https` mean `ws` and `wss`.
    ///
    /// # Errors
    /// [`Error::Url`]
    pub fn parse(url: &str) -> Result<Endpoint, Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| Error::Url(format!("{url:?} has no scheme")))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(Error::Url(format!("scheme {scheme:?} is neither ws nor wss"))),
        };
        let uri: Uri = format!("{}://{rest}", if tls { "wss" } else { "ws" })
            .parse()
            .map_err(|error| Error::Url(format!("{url:?}: {error}")))?;
        let host =
            uri.host().filter(|host| !host.is_empty()).ok_or_else(|| Error::Url(format!("{url:?} has no host")))?;
        let default = if tls { 443 } else { 80 };
        let port = match uri.authority().and_then(|authority| authority.as_str().rsplit_once(host)) {
            Some((_, "" | ":")) | None => default,
            Some(_) => uri.port_u16().ok_or_else(|| Error::Url(format!("{url:?} has an impossible port")))?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Endpoint { host, port, tls, uri })
    }
}

/// Whether a URL is the legacy endpoint: `devices.*\.(com|io):8080` anywhere in it (spec 1.2).
fn is_legacy(url: &str) -> bool {
    url.find("devices").is_some_and(|at| {
        let rest = &url[at + "devices".len()..];
        rest.contains(".com:8080") || rest.contains(".io:8080")
    })
}

/// The TLS configuration that the settings ask for; `None` for a plain endpoint.
///
/// # Errors
/// [`Error::Tls`]
pub fn tls_config(settings: &Settings, endpoint: &Endpoint) -> Result<Option<Arc<ClientConfig>>, Error> {
    if !endpoint.tls {
        return Ok(None);
    }
    if is_legacy(&settings.url) {
        warn!("{} is a legacy endpoint: the server is not verified, the connection can be intercepted", settings.url);
        let Some(ClientCertificate { certificate, key }) = &settings.client_certificate else {
            return Err(Error::Tls(tls::Error::ClientCertificate("none is configured".to_owned())));
        };
        return tls::legacy(certificate, key).map(Some).map_err(Error::Tls);
    }
    tls::verified(tls::system_roots(), settings.time_floor).map(Some).map_err(Error::Tls)
}

/// TCP or TLS.
#[derive(Debug)]
enum Stream {
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
struct Wire {
    tcp: TcpStream,
    input: Receiver<Pumped>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.tcp.shutdown(Shutdown::Both); // an error means that it is down already
    }
}

/// A WebSocket handshake (and TLS handshake below it) that waits for bytes.
#[derive(Debug)]
pub struct Handshake {
    mid: MidHandshake<ClientHandshake<Stream>>,
    wire: Wire,
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
    /// Begins over a fresh connection.
    ///
    /// # Errors
    /// [`Error::Url`] or [`Error::Broken`]
    pub fn start(
        endpoint: &Endpoint,
        tls: Option<Arc<ClientConfig>>,
        tcp: TcpStream,
        input: Receiver<Pumped>,
    ) -> Result<Progress, Error> {
        let broken = |error: &dyn fmt::Display| Error::Broken(error.to_string());
        let wire = Wire { tcp: tcp.try_clone().map_err(|error| broken(&error))?, input: input.clone() };
        let pipe = Pipe::new(input, tcp);
        let stream = if let Some(config) = tls {
            let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| Error::Url(error.to_string()))?;
            let connection = ClientConnection::new(config, name).map_err(|error| broken(&error))?;
            Stream::Tls(Box::new(StreamOwned::new(connection, pipe)))
        } else {
            Stream::Plain(pipe)
        };
        let mut request = endpoint.uri.clone().into_client_request().map_err(|error| Error::Url(error.to_string()))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
        let agent = HeaderValue::from_static(concat!("reagent/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert("User-Agent", agent);
        let config = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(BUFFER)
            .max_frame_size(Some(MAX_INBOUND))
            .max_message_size(Some(MAX_INBOUND));
        let mid = ClientHandshake::start(stream, request, Some(config)).map_err(|error| broken(&error))?;
        Handshake { mid, wire }.advance()
    }

    /// Goes on as far as the bytes reach.
    ///
    /// # Errors
    /// [`Error::Broken`]: refused, no TLS agreement, no or another sub-protocol, connection lost.
    pub fn advance(self) -> Result<Progress, Error> {
        match self.mid.handshake() {
            Ok((web, _response)) => Ok(Progress::Open(Socket { web, wire: self.wire })),
            Err(HandshakeError::Interrupted(mid)) => Ok(Progress::Pending(Handshake { mid, wire: self.wire })),
            Err(HandshakeError::Failure(tungstenite::Error::Http(response))) => {
                Err(Error::Broken(format!("server answered {} to the WebSocket upgrade", response.status())))
            }
            Err(HandshakeError::Failure(error)) => Err(Error::Broken(error.to_string())),
        }
    }

    /// Readable when there is something to advance with.
    pub fn input(&self) -> &Receiver<Pumped> {
        &self.wire.input
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
}

impl Socket {
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

    /// Buffers a text frame. May write, and block for the write timeout at most.
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub fn write(&mut self, text: String) -> Result<(), Error> {
        self.web.write(Message::text(text)).map_err(|error| lost(&error))
    }

    /// Buffers a ping.
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub fn ping(&mut self) -> Result<(), Error> {
        self.web.write(Message::Ping(Bytes::from_static(b"keepalive"))).map_err(|error| lost(&error))
    }

    /// Writes what is buffered. Blocks for the write timeout at most.
    ///
    /// # Errors
    /// [`Error::Broken`]
    pub fn flush(&mut self) -> Result<(), Error> {
        self.web.flush().map_err(|error| lost(&error))
    }

    /// Sends the close frame of an orderly end (spec 1.13); that it does not get through changes nothing.
    pub fn close(&mut self) {
        let _ = self.web.close(Some(CloseFrame { code: CloseCode::Normal, reason: "goodbye".into() }));
    }

    /// What a further frame would have to wait behind, in bytes.
    pub fn backlog(&self) -> usize {
        os::socket::unacknowledged(&self.wire.tcp)
    }

    /// Readable when there may be a frame.
    pub fn input(&self) -> &Receiver<Pumped> {
        &self.wire.input
    }
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
