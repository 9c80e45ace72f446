//! The client as a whole behind a proxy: the variables lead there, and a proxy that misbehaves costs an attempt.

use super::*;

fn behind(router: &Router, url: &str) -> Client {
    let proxy = format!("http://u:hunter2@127.0.0.1:{}", router.port());
    let variables = Variables::read(|name| (name == "HTTP_PROXY").then(|| proxy.clone()));
    let settings = Settings { url: url.to_owned(), connect_timeout: MS(400), ..router.settings() };
    Client::behind(settings, variables, unbounded())
}

/// The proxy's end of a connection, after its request.
fn requested(router: &Router) -> (TcpStream, String) {
    let mut tcp = router.tcp();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tcp.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    (tcp, String::from_utf8(head).unwrap())
}

fn failure(client: &Client) -> String {
    match client.event() {
        Event::AttemptFailed { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_proxy_that_hangs_or_refuses_costs_an_attempt_and_the_next_one_joins() {
    let router = Router::new();
    let client = behind(&router, "ws://router.invalid:8080/ws");
    let name = format!("proxy 127.0.0.1:{}: ", router.port());
    let (hanging, head) = requested(&router);
    assert!(head.starts_with("CONNECT router.invalid:8080 HTTP/1.1\r\n"), "{head}");
    assert_eq!(failure(&client), format!("{name}no connection within 400 ms"));
    drop(hanging);
    let (mut refusing, _) = requested(&router);
    refusing.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap();
    assert_eq!(failure(&client), format!("{name}it refuses: 403 Forbidden"));
    let (mut tcp, _) = requested(&router);
    tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let peer = Router::accept_on(tcp, 7);
    assert_eq!(peer.hello[1], "realm1");
    drop(peer);
    client.stopped();
}

#[test]
fn s8_a_stop_or_a_redial_ends_a_hanging_proxy_at_once() {
    let router = Router::new();
    let client = behind(&router, "ws://router.invalid/ws");
    client.handle.send(Command::Configure(Settings {
        url: "ws://router.invalid/ws".to_owned(),
        connect_timeout: Duration::ZERO, // two minutes
        ..router.settings()
    }));
    let (first, _) = requested(&router);
    client.handle.send(Command::Redial { reason: "moved".to_owned() });
    let (mut second, _) = requested(&router);
    let began = clock::mono();
    client.stopped();
    assert_eq!(second.read(&mut [0; 16]).unwrap(), 0, "the connection went with the client");
    assert!(clock::mono() - began < Duration::from_secs(5));
    drop(first);
}

#[test]
fn a_proxy_that_nobody_runs_is_named() {
    let router = Router::new();
    let client = behind(&router, "ws://router.invalid/ws");
    let port = router.port();
    drop(router.tcp()); // the first attempt may have come already
    drop(router);
    let reason = loop {
        let reason = failure(&client);
        if reason.contains("refused") {
            break reason;
        }
    };
    assert!(reason.starts_with(&format!("proxy 127.0.0.1:{port}: connect: ")), "{reason}");
    client.stopped();
}

#[test]
fn a_loopback_endpoint_and_one_without_a_usable_variable_are_dialled_directly() {
    let router = Router::new();
    for value in ["http://127.0.0.1:1", "http://:0"] {
        let variables = Variables::read(|name| (name == "HTTP_PROXY").then(|| value.to_owned()));
        let client = Client::behind(router.settings(), variables, unbounded());
        let peer = router.join(5);
        client.joined(1, 5);
        drop(peer);
        client.stopped();
    }
    let variables = Variables::read(|name| (name == "HTTP_PROXY").then(|| "https://p".to_owned()));
    let settings = Settings { url: "ws://router.invalid".to_owned(), ..router.settings() };
    let client = Client::behind(settings, variables, unbounded());
    let reason = failure(&client);
    assert!(reason.contains("https://) is not supported"), "{reason}");
    client.stopped();
}
