//! Handshakes over loopback: plain, TLS with good and bad certificates, and servers that misbehave.

use super::*;
use crate::clock::Wall;
use crate::net::tls;
use crate::secret::Secret;
use crate::thread;
use crate::wamp::endpoint::{Endpoint, Target};
use crate::wamp::handshake::{Handshake, Progress, SUBPROTOCOL};
use crate::wamp::pump;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;

const LIMIT: Duration = Duration::from_secs(10);
const CA: &str = include_str!("../../../tests/golden/tls/ca.pem");
const SERVER: &str = include_str!("../../../tests/golden/tls/server.pem");
const SERVER_FROM_2100: &str = include_str!("../../../tests/golden/tls/server-from-2100.pem");
const SERVER_KEY: &str = include_str!("../../../tests/golden/tls/server.key");
const CLIENT: &str = include_str!("../../../tests/golden/tls/client.pem");
const CLIENT_KEY: &str = include_str!("../../../tests/golden/tls/client.key");

fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
    roots
}

fn server_config(certificate: &str, ask_for_client: bool) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = if ask_for_client {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots()), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    Arc::new(builder.with_single_cert(chain, PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).unwrap()).unwrap())
}

/// Serves one connection, answering the upgrade with `protocol`, then echoes one text and closes. Returns the port and,
/// through the channel, the headers of the upgrade.
fn server(tls: Option<Arc<ServerConfig>>, protocol: Option<&'static str>) -> (u16, Receiver<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (headers, seen) = crossbeam_channel::bounded(1);
    thread::spawn(
        "server",
        |_| {},
        move || {
            let (tcp, _) = listener.accept().unwrap();
            tcp.set_read_timeout(Some(LIMIT)).unwrap();
            #[expect(clippy::result_large_err, reason = "the signature is the library's")]
            let callback = move |request: &Request, mut response: Response| {
                let line = |(name, value): (&_, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
                let mut lines: Vec<String> = request.headers().iter().map(line).collect();
                lines.insert(0, request.uri().to_string());
                headers.send(lines).unwrap();
                if let Some(protocol) = protocol {
                    response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(protocol));
                }
                Ok(response)
            };
            fn echo<S: Read + Write>(web: Result<WebSocket<S>, impl fmt::Debug>) {
                if let Ok(mut web) = web
                    && let Ok(message) = web.read()
                {
                    web.send(Message::Ping("are you there".into())).unwrap();
                    web.send(message).unwrap();
                    let pong = web.read().unwrap();
                    web.send(Message::text(format!("{pong}"))).unwrap();
                    let _ = web.close(None);
                    while web.read().is_ok() {}
                }
            }
            match tls {
                None => echo(tungstenite::accept_hdr(tcp, callback)),
                Some(config) => {
                    let tls = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
                    echo(tungstenite::accept_hdr(tls, callback));
                }
            }
        },
    )
    .unwrap();
    (port, seen)
}

fn connect(url: &str, port: u16, tls: Option<Arc<ClientConfig>>) -> Result<Socket, Error> {
    let target = Target { endpoint: Endpoint::parse(url).unwrap(), tls, via: None, time_floor: Wall::default() };
    let input = pump::spawn("127.0.0.1".to_owned(), port, LIMIT, Arc::new(())).unwrap();
    let Ok(Pumped::Connected(tcp)) = input.recv_timeout(LIMIT) else { panic!("no connection") };
    let mut progress = Handshake::start(target, tcp, input)?;
    loop {
        match progress {
            Progress::Open(socket) => return Ok(socket),
            Progress::Pending(handshake) => {
                wait(handshake.input());
                progress = handshake.advance()?;
            }
        }
    }
}

fn wait(input: &Receiver<Pumped>) {
    let mut select = crossbeam_channel::Select::new();
    select.recv(input);
    select.ready_timeout(LIMIT).expect("nothing came");
}

fn next(socket: &mut Socket) -> Result<Frame, Error> {
    loop {
        match socket.read()? {
            Some(frame) => return Ok(frame),
            None if socket.is_behind() => {
                let mut select = crossbeam_channel::Select::new();
                select.recv(socket.input());
                let _ = select.ready_timeout(Duration::from_millis(5)); // as the `wamp` thread does
                socket.flush()?;
            }
            None => wait(socket.input()),
        }
    }
}

fn echoes(mut socket: Socket) {
    let text = "x".repeat(100_000); // several TLS records, several chunks of the pump
    socket.write(text.clone()).unwrap();
    socket.flush().unwrap();
    assert_eq!(next(&mut socket), Ok(Frame::Control));
    assert_eq!(next(&mut socket), Ok(Frame::Text(text)));
    assert_eq!(next(&mut socket), Ok(Frame::Text("are you there".to_owned())), "the pong carries the ping's payload");
    assert!(next(&mut socket).unwrap_err().to_string().starts_with("closed by the router"));
}

#[test]
fn a_plain_endpoint_is_asked_for_wamp_json_alone() {
    let (port, seen) = server(None, Some(SUBPROTOCOL));
    echoes(connect("ws://localhost:1/ws?x=1", port, None).unwrap());
    let lines = seen.recv_timeout(LIMIT).unwrap();
    assert_eq!(lines[0], "/ws?x=1");
    for line in ["host: localhost:1", "sec-websocket-protocol: wamp.2.json", "sec-websocket-version: 13"] {
        assert!(lines.iter().any(|seen| seen == line), "{line}: {lines:?}");
    }
    for unwanted in ["origin", "cookie", "sec-websocket-extensions"] {
        assert!(!lines.iter().any(|seen| seen.starts_with(unwanted)), "{lines:?}");
    }
}

#[test]
fn a_server_that_selects_no_or_another_sub_protocol_is_refused() {
    for protocol in [None, Some("wamp.2.msgpack")] {
        let (port, _seen) = server(None, protocol);
        let error = connect("ws://localhost/", port, None).map(|_| ()).unwrap_err();
        assert!(error.to_string().to_lowercase().contains("protocol"), "{error}");
    }
}

#[test]
fn a_verified_endpoint_works_over_tls() {
    let (port, _seen) = server(Some(server_config(SERVER, false)), Some(SUBPROTOCOL));
    let config = tls::verified(roots(), Wall::default()).unwrap();
    echoes(connect("wss://localhost/", port, Some(config)).unwrap());
}

#[test]
fn an_unknown_issuer_or_a_wrong_name_is_refused_with_that_reason() {
    let (port, _seen) = server(Some(server_config(SERVER, false)), Some(SUBPROTOCOL));
    let config = tls::verified(tls::system_roots(), Wall::default()).unwrap();
    let error = connect("wss://localhost/", port, Some(config)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("certificate of localhost is of an unknown issuer"), "{error}");
    let (port, _seen) = server(Some(server_config(SERVER, false)), Some(SUBPROTOCOL));
    let config = tls::verified(roots(), Wall::default()).unwrap();
    let error = connect("wss://example.com/", port, Some(config)).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("not valid for the name example.com, but for"), "{error}");
}

#[test]
fn x4_a_certificate_from_the_future_is_refused_by_the_clock_and_taken_at_the_floor() {
    let future = server_config(SERVER_FROM_2100, false);
    let (port, _seen) = server(Some(future.clone()), Some(SUBPROTOCOL));
    let config = tls::verified(roots(), Wall::default()).unwrap();
    let error = connect("wss://localhost/", port, Some(config)).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("certificate of localhost is not valid before 2100-") && text.contains("set the clock"),
        "{text}"
    );
    let (port, _seen) = server(Some(future), Some(SUBPROTOCOL));
    let config = tls::verified(roots(), Wall::parse("2101-01-01T00:00:00Z").unwrap()).unwrap();
    echoes(connect("wss://localhost/", port, Some(config)).unwrap());
}

#[test]
fn the_legacy_endpoint_gets_the_client_certificate_and_is_not_verified() {
    let (port, _seen) = server(Some(server_config(SERVER_FROM_2100, true)), Some(SUBPROTOCOL));
    let config = tls::legacy(CLIENT, &Secret::new(CLIENT_KEY)).unwrap();
    echoes(connect("wss://devices.example.com:8080/", port, Some(config)).unwrap());
}

#[test]
fn a_server_that_speaks_something_else_ends_the_attempt() {
    for answer in ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "SSH-2.0-x\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(
            "server",
            |_| {},
            move || {
                let (mut tcp, _) = listener.accept().unwrap();
                let _ = tcp.read(&mut [0; 1024]);
                tcp.write_all(answer.as_bytes()).unwrap();
            },
        )
        .unwrap();
        let error = connect("ws://localhost/", port, None).map(|_| ()).unwrap_err().to_string();
        assert!(!error.is_empty());
        if answer.contains("404") {
            assert_eq!(error, "server answered 404 Not Found to the WebSocket upgrade");
        }
    }
}

#[test]
fn c3_dropping_the_socket_ends_the_connection_although_the_pump_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = thread::spawn(
        "server",
        |_| {},
        move || {
            let (tcp, _) = listener.accept().unwrap();
            tcp.set_read_timeout(Some(LIMIT)).unwrap();
            #[expect(clippy::result_large_err, reason = "the signature is the library's")]
            let web = tungstenite::accept_hdr(tcp, |_: &Request, mut response: Response| {
                response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
                Ok(response)
            });
            let mut web = web.unwrap();
            let error = web.read().unwrap_err();
            assert!(!matches!(&error, tungstenite::Error::Io(e) if e.kind() == ErrorKind::WouldBlock), "{error}");
        },
    )
    .unwrap();
    drop(connect("ws://localhost/", port, None).unwrap());
    accepted.join().unwrap();
}
