//! Endpoint URLs, proxy variables, and what a proxy may answer.

use super::cases;
use super::generator::Random;
use reagent::net::proxy::{Step, Variables};
use reagent::wamp::endpoint::Endpoint;

const URLS: &[&str] = &[
    "wss://router.example.com/ws-re-dev",
    "ws://[2001:db8::1]:8080/ws?x=1",
    "HTTPS://1.2.3.4:443",
    "http://user:p%25@proxy.example.com:3128",
    "socks5h://[::1]:1080/",
    "proxy:80",
    "*.example.com, 10.0.0.0/8, [::1]:80, example.com:8080, ::/0, .x",
];

/// One of the above, changed; often still of use.
fn url(random: &mut Random) -> String {
    let all: Vec<Vec<u8>> = URLS.iter().map(|url| url.as_bytes().to_vec()).collect();
    let start = &all[random.below(all.len())];
    if random.once_in(4) {
        return String::from_utf8_lossy(start).into_owned();
    }
    let mut text = String::from_utf8_lossy(&random.mutate(start, &all)).into_owned();
    if random.once_in(3) {
        let at = (0..=text.len()).rev().filter(|&at| text.is_char_boundary(at)).nth(random.below(4)).unwrap_or(0);
        text.insert_str(at, random.pick(&["\r\n", "@", ":", "%", "[", "]", "/", "#", "?", "\0", " ", "é", "::"]));
    }
    text
}

#[test]
fn an_endpoint_is_read_or_refused_and_never_smuggles_anything() {
    cases(10_000, |random, case| {
        let text = url(random);
        case.note(&text);
        if let Ok(Endpoint { host, .. }) = Endpoint::parse(&text) {
            assert!(
                !host.is_empty() && !host.contains(|char: char| char.is_control() || " /@?#".contains(char)),
                "{host:?}"
            );
        }
    });
}

#[test]
fn any_variables_and_any_answer_are_survived() {
    let (found, opened) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    cases(10_000, |random, case| {
        let (proxy, exempt, endpoint) = (url(random), url(random), url(random));
        case.note((&proxy, &exempt, &endpoint));
        let variables = Variables::read(|name| match name {
            "HTTPS_PROXY" | "http_proxy" => Some(proxy.clone()),
            "NO_PROXY" => Some(exempt.clone()),
            _ => None,
        });
        let endpoint = Endpoint::parse(&endpoint);
        let (host, port, tls) = endpoint.map_or(("router.example.com".to_owned(), 443, true), |endpoint| {
            (endpoint.host, endpoint.port, endpoint.tls)
        });
        let Ok(Some(proxy)) = variables.proxy_for(tls, &host, port) else { return };
        found.set(found.get() + 1);
        assert!(!proxy.host.is_empty() && proxy.port > 0);
        let Ok((mut way, sent)) = proxy.start(&host, port) else { return };
        let lines = sent.windows(2).filter(|pair| pair == b"\r\n").count();
        assert!(sent[0] == 5 || lines == 4 + usize::from(proxy.login.is_some()), "a line too many: {sent:?}");
        let answers = [
            b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n".to_vec(),
            vec![5, 0, 5, 0, 0, 3, 1, b'x', 0, 80],
            vec![5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        ];
        let start = &answers[random.below(answers.len())];
        let answer = if random.once_in(3) { start.clone() } else { random.mutate(start, &answers) };
        case.note_bytes(&answer);
        for (at, byte) in answer.iter().enumerate() {
            match way.take(*byte) {
                Ok(Step::More) => {}
                Ok(Step::Send(bytes)) => assert!(!bytes.is_empty() && bytes.len() < 600),
                Ok(Step::Open) => {
                    assert!(at >= 6, "open after {at} bytes");
                    return opened.set(opened.get() + 1);
                }
                Err(error) => return assert!(!error.to_string().contains("p%"), "{error}"),
            }
        }
    });
    assert!(found.get() > 0 && opened.get() > 0, "{found:?} proxies, {opened:?} ways");
}
