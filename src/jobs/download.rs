//! Fetching a small document by HTTP with the TLS configuration of the rest of the agent: ureq's own would take certificates
//! by the clock of a board that woke up in 1970 (X4). **Invariant:** nothing but a whole answer of status 200 is a document.

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;
use ureq::Agent;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, TcpConnector,
    Transport, TransportAdapter,
};

/// Why there is no document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Error {
    /// No connection, no answer in time, a broken one, or more than the limit.
    Transfer(String),
    /// The server answered with this status instead of 200: what it sent is not the document (U2).
    Status(u16),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Transfer(text) => f.write_str(text),
            Error::Status(status) => write!(f, "the server answered with status {status}"),
        }
    }
}

impl std::error::Error for Error {}

/// `GET url`: the body, of at most `limit` bytes, within `time` in all.
///
/// # Errors
/// As [`Error`] says.
pub(super) fn fetch(url: &str, limit: u64, time: Duration, tls: Arc<ClientConfig>) -> Result<Vec<u8>, Error> {
    let config =
        Agent::config_builder().timeout_global(Some(time)).http_status_as_error(false).max_redirects(5).build();
    let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(OverTls(tls));
    let agent = Agent::with_parts(config, connector, DefaultResolver::default());
    let transfer = |error: ureq::Error| Error::Transfer(error.to_string());
    let mut response = agent.get(url).call().map_err(transfer)?;
    match response.status().as_u16() {
        200 => response.body_mut().with_config().limit(limit).read_to_vec().map_err(transfer),
        status => Err(Error::Status(status)),
    }
}

/// Wraps connections of `https` addresses.
#[derive(Debug)]
struct OverTls(Arc<ClientConfig>);

impl<In: Transport> Connector<In> for OverTls {
    type Out = Either<In, Tls>;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(plain) = chained else { return Ok(None) };
        if !details.needs_tls() || plain.is_tls() {
            return Ok(Some(Either::A(plain)));
        }
        let host = details.uri.host().unwrap_or_default();
        // IPv6 literals have brackets in an address, and none in a certificate.
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| ureq::Error::Tls("the host is no name for a certificate"))?;
        let connection = ClientConnection::new(self.0.clone(), name)?;
        let mut socket = TransportAdapter::new(plain.boxed(), details.current_time.clone());
        socket.set_timeout(details.timeout);
        let buffers = LazyBuffers::new(details.config.input_buffer_size(), details.config.output_buffer_size());
        Ok(Some(Either::B(Tls { buffers, stream: StreamOwned::new(connection, socket) })))
    }
}

/// A connection over TLS; the handshake comes with the first bytes.
struct Tls {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

#[cfg(test)]
mod tests;
