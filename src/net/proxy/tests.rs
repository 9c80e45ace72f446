//! The variables by a table, and what must never be printed.

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Variables {
    Variables::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
}

fn route(pairs: &[(&str, &str)], tls: bool, host: &str, port: u16) -> Option<String> {
    let found = variables(pairs).proxy_for(tls, host, port).unwrap();
    found.map(|proxy| authority(&proxy.host, proxy.port))
}

#[test]
fn the_scheme_of_the_endpoint_chooses_the_variable_and_upper_case_goes_first() {
    let all = [
        ("HTTPS_PROXY", "http://secure:1"),
        ("https_proxy", "http://lower:2"),
        ("HTTP_PROXY", ""),
        ("http_proxy", "plain:3"),
        ("ALL_PROXY", "http://all:4"),
    ];
    assert_eq!(route(&all, true, "a.b", 443).as_deref(), Some("secure:1"));
    assert_eq!(route(&all, false, "a.b", 80).as_deref(), Some("plain:3"), "an empty variable is a missing one");
    assert_eq!(route(&all[..1], false, "a.b", 80), None);
    assert_eq!(route(&[], true, "a.b", 443), None);
}

#[test]
fn loopback_is_never_proxied() {
    let always = [("HTTP_PROXY", "http://p")];
    for host in ["localhost", "LocalHost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        assert_eq!(route(&always, false, host, 80), None, "{host}");
    }
    for host in ["localhost.example", "128.0.0.1", "::2", "0.0.0.0"] {
        assert!(route(&always, false, host, 80).is_some(), "{host}");
    }
}

#[test]
fn no_proxy_exempts_names_suffixes_addresses_blocks_and_ports() {
    for (list, exempt, proxied) in [
        (
            "example.com",
            &["example.com:1", "EXAMPLE.com:1", "a.b.example.com:1"][..],
            &["badexample.com:1", "com:1"][..],
        ),
        (".example.com", &["a.example.com:1"], &["example.com:1", "badexample.com:1"]),
        ("*.example.com", &["a.example.com:1"], &["example.com:1"]),
        ("example.com:8080", &["example.com:8080", "a.example.com:8080"], &["example.com:80"]),
        ("example.com:", &["example.com:8080"], &[]),
        (" x , Example.COM ,,", &["example.com:1", "x:1"], &["y:1"]),
        ("10.0.0.0/8", &["10.1.2.3:1", "[::ffff:10.1.2.3]:1"], &["11.0.0.1:1", "ten.example:1", "[::a00:1]:1"]),
        ("192.168.4.0/23", &["192.168.4.0:1", "192.168.5.255:1"], &["192.168.6.0:1", "192.168.3.255:1"]),
        ("0.0.0.0/0", &["8.8.8.8:1"], &["[2001::1]:1", "a.b:1"]),
        ("1.2.3.4/32", &["1.2.3.4:1"], &["1.2.3.5:1"]),
        ("2001:db8::/32", &["[2001:db8:5::1]:1"], &["[2001:db9::1]:1"]),
        ("::/0", &["[2001::1]:1"], &["8.8.8.8:1"]),
        ("1.2.3.4", &["1.2.3.4:1", "[::ffff:1.2.3.4]:1"], &["1.2.3.40:1", "a.1.2.3.4.example:1"]),
        ("1.2.3.4:80", &["1.2.3.4:80"], &["1.2.3.4:81"]),
        ("2001:db8::1", &["[2001:db8::1]:1"], &["[2001:db8::2]:1"]),
        ("[2001:db8::1]", &["[2001:db8::1]:1"], &["[2001:db8::2]:1"]),
        ("[2001:db8::1]:80", &["[2001:db8::1]:80"], &["[2001:db8::1]:81"]),
        ("*", &["a.b:1", "8.8.8.8:1", "[2001::1]:1"], &[]),
        ("no.such, *", &["a.b:1"], &[]),
        ("1.2.3.4/33, 1.2.3/8, :80, ., /, *., ., [, ], []:80", &[], &["a.b:1", "1.2.3.4:1"]),
        ("", &[], &["a.b:1"]),
    ] {
        let all = [("HTTP_PROXY", "http://p"), ("NO_PROXY", list)];
        let is_proxied = |place: &&str| {
            let (host, port) = split_port(place);
            route(&all, false, host, port.parse().unwrap()).is_some()
        };
        assert!(!exempt.iter().any(is_proxied), "{list}: {exempt:?}");
        assert!(proxied.iter().all(is_proxied), "{list}: {proxied:?}");
    }
    assert_eq!(route(&[("HTTP_PROXY", "p"), ("no_proxy", "a.b")], false, "a.b", 80), None);
}

#[test]
fn urls_of_proxies_are_read_with_their_defaults() {
    for (url, kind, address, login) in [
        ("http://proxy.corp:3128", Kind::Http, "proxy.corp:3128", None),
        ("proxy.corp:3128", Kind::Http, "proxy.corp:3128", None),
        ("localhost:3128", Kind::Http, "localhost:3128", None),
        ("proxy", Kind::Http, "proxy:80", None),
        ("HTTP://10.0.0.1/path?query", Kind::Http, "10.0.0.1:80", None),
        ("socks5://p", Kind::Socks5, "p:1080", None),
        ("socks5h://u:p@[::1]:9050/", Kind::Socks5, "[::1]:9050", Some(("u", "p"))),
        ("http://user@p", Kind::Http, "p:80", Some(("user", ""))),
        ("http://d%5Cu%40x:p%3a%2F%25ss:w@p:1", Kind::Http, "p:1", Some((r"d\u@x", "p:/%ss:w"))),
        ("http://:@p", Kind::Http, "p:80", Some(("", ""))),
        ("http://a:b@c@p", Kind::Http, "p:80", Some(("a", "b@c"))),
        ("u:p@h:1", Kind::Http, "h:1", Some(("u", "p"))),
    ] {
        let proxy = Proxy::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"));
        assert_eq!((proxy.kind, authority(&proxy.host, proxy.port).as_str()), (kind, address), "{url}");
        let login_read = proxy.login.as_ref().map(|login| (login.user.as_str(), login.password.reveal()));
        assert_eq!(login_read, login, "{url}");
    }
    for url in [
        "http://",
        "http://:80",
        "http://a b",
        "http://a:0",
        "http://a:65536",
        "http://a:b",
        "http://%zz@a",
        "http://%a@a",
    ] {
        assert!(matches!(Proxy::parse(url), Err(Error::Unusable(_))), "{url}: {:?}", Proxy::parse(url));
    }
    for url in ["http://%ff@a", "http://%", "http://%ä@a", "http://a\r\nb", "://a", "1x://a"] {
        assert!(matches!(Proxy::parse(url), Err(Error::Unusable(_))), "{url:?}: {:?}", Proxy::parse(url));
    }
    let error = Proxy::parse("https://a").unwrap_err();
    assert!(error.to_string().contains("https://) is not supported"), "{error}");
    assert_eq!(Proxy::parse("FTP://a"), Err(Error::Scheme("ftp".to_owned())));
}

#[test]
fn no_debug_or_display_form_shows_a_login() {
    let all = variables(&[("HTTPS_PROXY", "http://u:hunter2@p"), ("HTTP_PROXY", "http://u:hunter2@p")]);
    let proxy = all.proxy_for(true, "a.b", 443).unwrap().unwrap();
    let (handshake, _) = proxy.start("a.b", 443).unwrap();
    let socks = Proxy { kind: Kind::Socks5, ..proxy.clone() };
    let (socks, _) = socks.start("a.b", 443).unwrap();
    let shown = format!("{all:?} {proxy:?} {proxy} {handshake:?} {socks:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
}
