//! Which proxy leads to an endpoint (spec `wamp-and-rpc.md` 1.1 "Proxy"), and the way through it. Pure.
//!
//! The variables mean what Go's `httpproxy` package documents, since deployed agents use that: `NO_PROXY` is a list of
//! names (with their subdomains), `.suffixes`, addresses and CIDR blocks, each with an optional port, or `*` for all.
//!
//! **Invariant:** passwords are [`Secret`]s from the first line on; no error and no `Debug` form shows one.

#[cfg(test)]
mod tests;

use crate::net::connect::Connect;
use crate::net::socks5::Socks5;
use crate::secret::Secret;
use std::fmt;
use std::net::IpAddr;

/// The variables of one environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables {
    https: Secret,
    http: Secret,
    no: String,
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variables").field("no", &self.no).finish_non_exhaustive()
    }
}

/// Why there is no proxy, or no way through it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The variable's value is no URL of a proxy: why. Deployed agents go without a proxy then.
    Unusable(&'static str),
    /// A proxy of a kind that is not supported: its scheme.
    Scheme(String),
    /// The named part is too long for the protocol.
    TooLong(&'static str),
    /// The proxy refuses, in words.
    Refused(String),
    /// What answers is no such proxy.
    Protocol(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unusable(why) => write!(f, "the proxy variable is unusable: {why}"),
            Error::Scheme(scheme) if scheme == "https" => f.write_str(
                "a proxy that itself speaks TLS (https://) is not supported: name its http:// port, TLS to the endpoint \
                 goes through that unchanged",
            ),
            Error::Scheme(scheme) => write!(f, "proxy scheme {scheme:?} is none of http, socks5 and socks5h"),
            Error::TooLong(what) => write!(f, "{what} is too long for the proxy's protocol"),
            Error::Refused(reason) => write!(f, "it refuses: {reason}"),
            Error::Protocol(what) => write!(f, "it is not such a proxy: {what}"),
        }
    }
}

impl std::error::Error for Error {}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// HTTP `CONNECT`.
    Http,
    /// SOCKS 5. Names are resolved by the proxy, for `socks5` and `socks5h` alike, as deployed agents have it.
    Socks5,
}

/// Who we are to the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// User name.
    pub user: String,
    /// Password, empty if none was given.
    pub password: Secret,
}

/// A proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    /// What it speaks.
    pub kind: Kind,
    /// Name or address, an IPv6 address without brackets.
    pub host: String,
    /// Given or the scheme's.
    pub port: u16,
    /// From the URL.
    pub login: Option<Login>,
}

impl fmt::Display for Proxy {
    /// Without the login.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "proxy {}", authority(&self.host, self.port))
    }
}

impl Variables {
    /// Reads them through `lookup`; an empty one counts as missing, and upper case goes first.
    pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Variables {
        let any = |names: [&str; 2]| names.into_iter().filter_map(&lookup).find(|value| !value.is_empty());
        let secret = |names| Secret::new(any(names).unwrap_or_default());
        Variables {
            https: secret(["HTTPS_PROXY", "https_proxy"]),
            http: secret(["HTTP_PROXY", "http_proxy"]),
            no: any(["NO_PROXY", "no_proxy"]).unwrap_or_default(),
        }
    }

    /// The proxy on the way to `host` (an IPv6 address without brackets) and `port`; `None`: there is none.
    ///
    /// # Errors
    /// [`Error::Unusable`] or [`Error::Scheme`], if there should be one.
    pub fn proxy_for(&self, tls: bool, host: &str, port: u16) -> Result<Option<Proxy>, Error> {
        let url = if tls { &self.https } else { &self.http };
        if url.is_empty() || is_local(host) || is_exempt(&self.no, host, port) {
            return Ok(None);
        }
        Proxy::parse(url.reveal()).map(Some)
    }
}

impl Proxy {
    /// Reads the URL of a proxy; without a scheme it is an HTTP proxy.
    ///
    /// # Errors
    /// [`Error::Unusable`] or [`Error::Scheme`]
    pub fn parse(url: &str) -> Result<Proxy, Error> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (kind, default) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (Kind::Http, 80),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            other if is_scheme(other) => return Err(Error::Scheme(other.to_owned())),
            _ => return Err(Error::Unusable("its scheme is none")),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(parse_login(login)?), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address);
        if host.is_empty() {
            return Err(Error::Unusable("it names no host"));
        }
        if !host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte)) {
            return Err(Error::Unusable("its host has characters that no host has"));
        }
        let port = match port {
            "" => default,
            digits => digits.parse().ok().filter(|port| *port > 0).ok_or(Error::Unusable("its port is impossible"))?,
        };
        Ok(Proxy { kind, host: host.to_owned(), port, login })
    }

    /// Begins a way through it to `host` and `port`: the handshake, and the bytes to send first.
    ///
    /// # Errors
    /// [`Error::TooLong`]
    pub fn start(&self, host: &str, port: u16) -> Result<(Handshake, Vec<u8>), Error> {
        match self.kind {
            Kind::Http => {
                let (connect, request) = Connect::start(host, port, self.login.as_ref());
                Ok((Handshake::Connect(connect), request))
            }
            Kind::Socks5 => {
                let (socks, greeting) = Socks5::start(host, port, self.login.as_ref())?;
                Ok((Handshake::Socks5(socks), greeting))
            }
        }
    }
}

/// What follows a byte of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Another byte.
    More,
    /// These bytes are to be sent.
    Send(Vec<u8>),
    /// The way is open: what comes next is the endpoint's.
    Open,
}

/// A handshake with a proxy, fed byte by byte so that nothing of the endpoint is taken for the proxy's.
#[derive(Debug)]
pub enum Handshake {
    /// HTTP.
    Connect(Connect),
    /// SOCKS 5.
    Socks5(Socks5),
}

impl Handshake {
    /// Takes the next byte.
    ///
    /// # Errors
    /// [`Error::Refused`] or [`Error::Protocol`]; nothing may follow.
    pub fn take(&mut self, byte: u8) -> Result<Step, Error> {
        match self {
            Handshake::Connect(connect) => connect.take(byte),
            Handshake::Socks5(socks) => socks.take(byte),
        }
    }
}

/// `host:port`, with brackets where an IPv6 address needs them.
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

fn parse_login(text: &str) -> Result<Login, Error> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok(Login { user: percent_decoded(user)?, password: Secret::new(percent_decoded(password)?) })
}

fn percent_decoded(text: &str) -> Result<String, Error> {
    const BROKEN: Error = Error::Unusable("its user or password has a broken %-escape");
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).ok_or(BROKEN)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(BROKEN);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| BROKEN)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).map_err(|_| BROKEN)
}

/// Host and port of `host`, `host:port`, `[v6]:port`, `[v6]` or a bare IPv6 address; the port may be empty.
fn split_port(text: &str) -> (&str, &str) {
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        return (host, rest.strip_prefix(':').unwrap_or(rest));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, port),
        _ => (text, ""),
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// `localhost` and loopback addresses are never proxied.
fn is_local(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || address(host).is_some_and(|address| address.is_loopback())
}

fn is_exempt(list: &str, host: &str, port: u16) -> bool {
    let host = host.trim().to_ascii_lowercase();
    let (address, port) = (address(&host), port.to_string());
    list.split(',').map(|entry| entry.trim().to_ascii_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = cidr(&entry) {
            return address.is_some_and(|address| contains(network, bits, address));
        }
        let (name, wanted_port) = split_port(&entry);
        if !wanted_port.is_empty() && wanted_port != port {
            return false;
        }
        match (self::address(name), address) {
            (Some(exempt), Some(address)) => exempt == address,
            (Some(_), None) => false,
            (None, _) => has_suffix(&host, name),
        }
    })
}

/// `a.b` means itself and what ends in `.a.b`; `.a.b` and `*.a.b` only the latter.
fn has_suffix(host: &str, name: &str) -> bool {
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    match name.strip_prefix('.') {
        _ if name.is_empty() => false,
        Some(_) => host.ends_with(name),
        None => host.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

fn cidr(entry: &str) -> Option<(IpAddr, u32)> {
    let (network, bits) = entry.split_once('/')?;
    let network: IpAddr = network.parse().ok()?;
    let bits: u32 = bits.parse().ok()?;
    let width = if network.is_ipv4() { 32 } else { 128 };
    (bits <= width).then_some((network, bits))
}

fn contains(network: IpAddr, bits: u32, address: IpAddr) -> bool {
    let same = |a: u128, b: u128, width: u32| a.checked_shr(width - bits) == b.checked_shr(width - bits);
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.into(), b.into(), 128),
        _ => false,
    }
}
