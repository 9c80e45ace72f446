//! Servers on loopback: good ones, bad ones, and certificates.

use super::*;
use crate::clock::Wall;
use crate::net::tls;
use crate::thread;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use std::net::{TcpListener, TcpStream};

const LIMIT: Duration = Duration::from_secs(10);
const CA: &str = include_str!("../../../tests/golden/tls/ca.pem");
const SERVER: &str = include_str!("../../../tests/golden/tls/server.pem");
const SERVER_FROM_2100: &str = include_str!("../../../tests/golden/tls/server-from-2100.pem");
const SERVER_KEY: &str = include_str!("../../../tests/golden/tls/server.key");

/// Answers one request with `answer`, then waits for the client to go. Its port.
fn server(answer: &'static str, certificate: Option<&'static str>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = move || {
        let (tcp, _) = listener.accept().unwrap();
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        match certificate {
            None => reply(tcp, answer),
            Some(pem) => {
                let connection = ServerConnection::new(server_config(pem)).unwrap();
                reply(StreamOwned::new(connection, tcp), answer);
            }
        }
    };
    thread::spawn("server", |_| {}, serve).unwrap();
    port
}

fn reply(mut stream: impl Read + Write, answer: &str) {
    let mut request = Vec::new();
    let mut chunk = [0; 1024];
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => request.extend_from_slice(&chunk[..count]),
            _ => return,
        }
    }
    let _ = stream.write_all(answer.as_bytes());
    let _ = stream.flush();
    while matches!(stream.read(&mut chunk), Ok(count) if count > 0) {}
}

fn server_config(certificate: &str) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY.as_bytes()).unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

fn client(floor: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CA.as_bytes()).unwrap()).unwrap();
    tls::verified(roots, Wall::parse(floor).unwrap()).unwrap()
}

fn get(scheme: &str, port: u16) -> Result<Vec<u8>, Error> {
    fetch(&format!("{scheme}://localhost:{port}/list"), 64, LIMIT, client("1970-01-01T00:00:00Z"))
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";

#[test]
fn a_document_comes_over_plain_http_and_over_tls() {
    assert_eq!(get("http", server(GOOD, None)).unwrap(), b"body");
    assert_eq!(get("https", server(GOOD, Some(SERVER))).unwrap(), b"body");
}

#[test]
fn u2_a_page_that_says_not_found_is_no_document() {
    let port = server("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nbody", None);
    assert_eq!(get("http", port), Err(Error::Status(404)));
    let port = server("HTTP/1.1 204 No Content\r\n\r\n", None);
    assert_eq!(get("http", port), Err(Error::Status(204)));
}

#[test]
fn u2_half_a_document_or_too_much_of_it_is_none() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{\"all\": \"1.0.0\"}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         41\r\n00000000000000000000000000000000000000000000000000000000000000000\r\n0\r\n\r\n",
    ] {
        let port = server(answer, None);
        let limit = Duration::from_millis(300);
        let found = fetch(&format!("http://localhost:{port}/"), 64, limit, client("1970-01-01T00:00:00Z"));
        assert!(matches!(found, Err(Error::Transfer(_))), "{found:?}");
    }
}

#[test]
fn c7_a_server_that_says_nothing_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://localhost:{port}/");
        let found = fetch(&url, 64, Duration::from_millis(300), client("1970-01-01T00:00:00Z"));
        assert!(matches!(&found, Err(Error::Transfer(text)) if text.contains("timeout")), "{found:?}");
    }
    drop(listener);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(matches!(get("http", port), Err(Error::Transfer(_))), "nobody is there");
}

#[test]
fn x4_certificates_are_judged_by_the_floor_of_time() {
    let port = server(GOOD, Some(SERVER_FROM_2100));
    let error = get("https", port).unwrap_err().to_string();
    assert!(error.contains("not valid yet"), "{error}");
    let port = server(GOOD, Some(SERVER_FROM_2100));
    let url = format!("https://localhost:{port}/");
    assert_eq!(fetch(&url, 64, LIMIT, client("2101-01-01T00:00:00Z")).unwrap(), b"body");
}
