//! Ways through proxies on loopback: good ones, refusing ones, and ones that lie. The endpoint's name resolves nowhere:
//! whatever gets through went through the proxy.

use super::*;
use crate::clock::Wall;
use crate::net::proxy::Proxy;
use crate::thread;
use crate::wamp::endpoint::Endpoint;
use crate::wamp::pump;
use crate::wamp::socket::Frame;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
use std::io;
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tungstenite::accept_hdr;
use tungstenite::handshake::server::{Request, Response};

const LIMIT: Duration = Duration::from_secs(10);
const CA: &str = include_str!("../../../tests/golden/tls/ca.pem");
const SERVER: &str = include_str!("../../../tests/golden/tls/server.pem");
const SERVER_KEY: &str = include_str!("../../../tests/golden/tls/server.key");

/// A listener and a thread that serves its first connection.
fn serve(body: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let (tcp, _) = listener.accept().unwrap();
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        let _ = body(tcp); // that a client leaves is no failure of the server
    };
    thread::spawn("server", |_| {}, serve).unwrap();
    port
}

/// A router that echoes one text.
fn router(tls: bool) -> u16 {
    fn echo(stream: impl Read + Write) {
        #[expect(clippy::result_large_err, reason = "the signature is the library's")]
        let web = accept_hdr(stream, |_: &Request, mut response: Response| {
            response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(SUBPROTOCOL));
            Ok(response)
        });
        if let Ok(mut web) = web {
            let message = web.read().unwrap();
            web.send(message).unwrap();
            let _ = web.read();
        }
    }
    serve(move |tcp| {
        if tls {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
            let chain = vec![CertificateDer::from_pem_slice(SERVER.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).unwrap();
            let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
            echo(StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), tcp));
        } else {
            echo(tcp);
        }
        Ok(())
    })
}

/// Carries bytes both ways until both sides have ended.
fn relay(client: TcpStream, router: u16) -> io::Result<()> {
    let router = TcpStream::connect(("127.0.0.1", router))?;
    let (mut from, mut to) = (client.try_clone()?, router.try_clone()?);
    let back = thread::spawn(
        "relay",
        |_| {},
        move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        },
    )?;
    let (mut from, mut to) = (router, client);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Both);
    back.join().unwrap();
    Ok(())
}

fn head(tcp: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        tcp.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

/// A `CONNECT` proxy that knows the user `u` with the password `p%`; its answer comes in single bytes.
fn http_proxy(router: u16, target: &'static str) -> u16 {
    serve(move |mut tcp| {
        let head = head(&mut tcp)?;
        if !head.contains("Proxy-Authorization: Basic dTpwJQ==\r\n") {
            return tcp.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
        }
        assert!(head.starts_with(&format!("CONNECT {target} HTTP/1.1\r\n")), "{head}");
        tcp.set_nodelay(true)?;
        for byte in b"HTTP/1.1 200 OK\r\nVia: test\r\n\r\n" {
            tcp.write_all(&[*byte])?;
        }
        relay(tcp, router)
    })
}

/// A SOCKS 5 proxy that knows the same user, and resolves `localhost` and names of `.invalid`.
fn socks_proxy(router: u16) -> u16 {
    serve(move |mut tcp| {
        let mut greeting = [0; 4];
        tcp.read_exact(&mut greeting[..3])?;
        if greeting[1] == 1 {
            return tcp.write_all(&[5, 0xff]);
        }
        tcp.read_exact(&mut greeting[3..])?;
        assert_eq!(greeting, [5, 2, 0, 2]);
        tcp.write_all(&[5, 2])?;
        let mut login = [0; 6];
        tcp.read_exact(&mut login)?;
        tcp.write_all(&[1, u8::from(&login != b"\x01\x01u\x02p%")])?;
        let mut request = [0; 5];
        tcp.read_exact(&mut request)?;
        assert_eq!(request[..4], [5, 1, 0, 3], "the name is left to the proxy");
        let mut name = vec![0; usize::from(request[4]) + 2];
        tcp.read_exact(&mut name)?;
        if !name.starts_with(b"localhost") && !name.starts_with(b"router.invalid") {
            return tcp.write_all(&[5, 4, 0, 1, 0, 0, 0, 0, 0, 0]);
        }
        tcp.write_all(&[5, 0, 0, 3, 2, b'm', b'e', 0, 9])?;
        relay(tcp, router)
    })
}

fn trusting() -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
    tls::verified(roots, Wall::default()).unwrap()
}

fn connect(proxy: &str, url: &str) -> Result<Socket, String> {
    let via = Proxy::parse(proxy).unwrap();
    let port = via.port;
    open(Some(via), port, url)
}

fn open(via: Option<Proxy>, port: u16, url: &str) -> Result<Socket, String> {
    let endpoint = Endpoint::parse(url).unwrap();
    let tls = endpoint.tls.then(trusting);
    let target = Target { endpoint, tls, via, time_floor: Wall::default() };
    let input = pump::spawn("127.0.0.1".to_owned(), port, LIMIT, Arc::new(())).unwrap();
    let Ok(Pumped::Connected(tcp)) = input.recv_timeout(LIMIT) else { panic!("no connection") };
    let mut progress = Handshake::start(target, tcp, input).map_err(|error| error.to_string())?;
    loop {
        match progress {
            Progress::Open(socket) => return Ok(socket),
            Progress::Pending(handshake) => {
                wait(handshake.input());
                progress = handshake.advance().map_err(|error| error.to_string())?;
            }
        }
    }
}

fn wait(input: &Receiver<Pumped>) {
    let mut select = crossbeam_channel::Select::new();
    select.recv(input);
    select.ready_timeout(LIMIT).expect("nothing came");
}

fn echoes(socket: Result<Socket, String>) {
    let mut socket = socket.unwrap_or_else(|error| panic!("{error}"));
    socket.write("through".to_owned()).unwrap();
    socket.flush().unwrap();
    loop {
        match socket.read().unwrap() {
            Some(frame) => return assert_eq!(frame, Frame::Text("through".to_owned())),
            None => wait(socket.input()),
        }
    }
}

#[test]
fn a_connect_proxy_leads_to_a_plain_and_to_a_tls_endpoint() {
    let port = http_proxy(router(false), "router.invalid:8080");
    echoes(connect(&format!("http://u:p%25@127.0.0.1:{port}"), "ws://router.invalid:8080/ws"));
    // The certificate is for localhost; that it is verified shows that TLS is spoken with the endpoint.
    let port = http_proxy(router(true), "localhost:443");
    echoes(connect(&format!("http://u:p%25@127.0.0.1:{port}"), "wss://localhost/ws"));
}

#[test]
fn a_socks_proxy_leads_to_a_plain_and_to_a_tls_endpoint() {
    let port = socks_proxy(router(false));
    echoes(connect(&format!("socks5://u:p%25@127.0.0.1:{port}"), "ws://router.invalid:8080/ws"));
    let port = socks_proxy(router(true));
    echoes(connect(&format!("socks5h://u:p%25@127.0.0.1:{port}"), "wss://localhost/ws"));
}

#[test]
fn a_refusing_proxy_is_named_with_its_reason_and_without_the_password() {
    let refusal = |proxy: String, url| connect(&proxy, url).map(|_| ()).unwrap_err();
    let port = http_proxy(1, "");
    assert_eq!(
        refusal(format!("127.0.0.1:{port}"), "ws://router.invalid"),
        format!(
            "proxy 127.0.0.1:{port}: it refuses: 407 Proxy Authentication Required: it wants a user and password in its URL"
        )
    );
    let port = http_proxy(1, "");
    let text = refusal(format!("http://u:hunter2@127.0.0.1:{port}"), "wss://router.invalid");
    assert!(text.contains("is not taken") && !text.contains("hunter2"), "{text}");
    let port = socks_proxy(1);
    let text = refusal(format!("socks5://127.0.0.1:{port}"), "wss://router.invalid");
    assert_eq!(text, format!("proxy 127.0.0.1:{port}: it refuses: it wants a user and password in its URL"));
    let port = socks_proxy(1);
    let text = refusal(format!("socks5://u:hunter2@127.0.0.1:{port}"), "wss://router.invalid");
    assert!(!text.contains("hunter2") && text.starts_with("proxy "), "{text}");
    let port = socks_proxy(1);
    let text = refusal(format!("socks5://u:p%25@127.0.0.1:{port}"), "wss://nowhere.invalid");
    assert!(text.contains("cannot resolve the name"), "{text}");
}

#[test]
fn what_is_no_proxy_or_no_tunnel_ends_the_attempt_with_the_proxys_name() {
    for (scheme, answer, url, words) in [
        ("http", "", "ws://router.invalid", "it ended the connection"),
        ("http", "HTTP/1.1 200 OK\r\n", "ws://router.invalid", "it ended the connection"),
        ("http", "SSH-2.0-x\r\n", "ws://router.invalid", "not HTTP"),
        ("http", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n", "ws://router.invalid", "404"),
        ("http", "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 400 Bad Request\r\n\r\n", "wss://localhost", "not TLS"),
        ("http", "HTTP/1.1 200 OK\r\n\r\n", "wss://localhost", ""),
        ("socks5", "HTTP/1.1 400 Bad Request\r\n\r\n", "wss://localhost", "not SOCKS 5"),
        ("socks5", "\x05\x02", "wss://localhost", "not offered"),
        ("socks5", "\x05", "wss://localhost", "it ended the connection"),
    ] {
        let port = serve(move |mut tcp| {
            let _ = tcp.read(&mut [0; 1024])?;
            tcp.write_all(answer.as_bytes())?;
            tcp.shutdown(Shutdown::Write)?;
            while tcp.read(&mut [0; 1024])? > 0 {}
            Ok(())
        });
        let text = connect(&format!("{scheme}://127.0.0.1:{port}"), url).map(|_| ()).unwrap_err();
        assert!(text.starts_with(&format!("proxy 127.0.0.1:{port}: ")) && text.contains(words), "{answer:?}: {text}");
    }
}

#[test]
fn an_answer_without_an_end_is_bounded() {
    let port = serve(|mut tcp| {
        head(&mut tcp)?;
        tcp.write_all(b"HTTP/1.1 200 OK\r\nx: ")?;
        loop {
            tcp.write_all(&[b'x'; 4096])?;
        }
    });
    let text = connect(&format!("http://127.0.0.1:{port}"), "ws://router.invalid").map(|_| ()).unwrap_err();
    assert!(text.contains("no end"), "{text}");
}

#[test]
fn plain_http_on_a_tls_port_and_an_alert_are_told() {
    for (answer, words) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "is not TLS (plain HTTP?)"),
        (&[0x15, 3, 3, 0, 2, 2, 40], "HandshakeFailure (no TLS version or cipher in common)"),
        (&[0x15, 3, 3, 0, 2, 2, 112], "it serves no such name"),
    ] {
        let port = serve(move |mut tcp| {
            let _ = tcp.read(&mut [0; 4096])?;
            tcp.write_all(answer)?;
            while tcp.read(&mut [0; 1024])? > 0 {}
            Ok(())
        });
        let error = open(None, port, "wss://localhost").map(|_| ()).unwrap_err();
        assert!(error.contains(words) && error.contains("localhost"), "{error}");
    }
}
