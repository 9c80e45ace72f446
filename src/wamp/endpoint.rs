//! Where a dial goes: the endpoint URL, the TLS configuration for it, and the proxy on the way (spec 1.1, 1.2).

use crate::clock::Wall;
use crate::net::proxy::{self, Proxy, Variables};
use crate::net::tls;
use crate::wamp::{ClientCertificate, Settings};
use log::warn;
use rustls::ClientConfig;
use std::fmt;
use std::sync::Arc;
use tungstenite::http::Uri;

/// Why there is no connection, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The URL is none, or of another scheme.
    Url(String),
    /// No TLS configuration.
    Tls(tls::Error),
    /// No usable proxy.
    Proxy(proxy::Error),
    /// The connection failed or ended.
    Broken(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Url(text) => write!(f, "endpoint URL is unusable: {text}"),
            Error::Tls(error) => error.fmt(f),
            Error::Proxy(error) => error.fmt(f),
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
    pub(super) uri: Uri,
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
        let host = uri.host().unwrap_or_default();
        let default = if tls { 443 } else { 80 };
        let port = match uri.authority().and_then(|authority| authority.as_str().rsplit_once(host)) {
            Some((_, "" | ":")) | None => default,
            Some(_) => uri.port_u16().ok_or_else(|| Error::Url(format!("{url:?} has an impossible port")))?,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(Error::Url(format!("{url:?} has no host")));
        }
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
fn tls_config(settings: &Settings, endpoint: &Endpoint) -> Result<Option<Arc<ClientConfig>>, Error> {
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

/// Everything that a dial needs to know about its way.
#[derive(Debug)]
pub struct Target {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// How TLS is spoken with it, if at all.
    pub tls: Option<Arc<ClientConfig>>,
    /// The proxy in between.
    pub via: Option<Proxy>,
    /// What certificates are checked against if the clock is older.
    pub time_floor: Wall,
}

impl Target {
    /// The way that the settings and the environment ask for.
    ///
    /// # Errors
    /// [`Error::Url`], [`Error::Tls`], [`Error::Proxy`]
    pub fn new(settings: &Settings, variables: &Variables) -> Result<Target, Error> {
        let endpoint = Endpoint::parse(&settings.url)?;
        let tls = tls_config(settings, &endpoint)?;
        let via = match variables.proxy_for(endpoint.tls, &endpoint.host, endpoint.port) {
            Ok(via) => via,
            // Devices with such a variable are online today.
            Err(error @ proxy::Error::Unusable(_)) => {
                warn!("{error}; connecting without a proxy");
                None
            }
            Err(error) => return Err(Error::Proxy(error)),
        };
        Ok(Target { endpoint, tls, via, time_floor: settings.time_floor })
    }

    /// Where TCP leads.
    pub fn first_hop(&self) -> (&str, u16) {
        match &self.via {
            Some(proxy) => (&proxy.host, proxy.port),
            None => (&self.endpoint.host, self.endpoint.port),
        }
    }

    /// A reason that names the proxy, if there is one.
    pub fn reason(&self, text: &str) -> String {
        match &self.via {
            Some(proxy) => format!("{proxy}: {text}"),
            None => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_legacy_pattern_is_the_legacy_endpoint() {
        for url in [
            "devices.ironflock.com:8080",
            "devices.reswarm.io:8080",
            "devices.example.com:8080",
            "wss://devices.ironflock.com:8080",
            "wss://devicesx/devices.com:80800",
        ] {
            assert!(is_legacy(url), "{url}");
        }
        for url in [
            "devices.ironflock.com",
            "devices.ironflock.com:443",
            "wss://devices.ironflock.com/ws",
            "x.com:8080/devices",
            "wss://device.ironflock.com:8080",
        ] {
            assert!(!is_legacy(url), "{url}");
        }
    }

    #[test]
    fn endpoints_are_parsed_with_their_aliases_and_defaults() {
        let parsed = |url| Endpoint::parse(url).map(|endpoint| (endpoint.host, endpoint.port, endpoint.tls));
        for (url, host, port, tls) in [
            ("ws://a.b/x", "a.b", 80, false),
            ("wss://a.b", "a.b", 443, true),
            ("http://a.b:81", "a.b", 81, false),
            ("HTTPS://a.b:8443/ws-re-dev", "a.b", 8443, true),
            ("ws://[::1]:8080/", "::1", 8080, false),
            ("wss://127.0.0.1:9/", "127.0.0.1", 9, true),
        ] {
            assert_eq!(parsed(url), Ok((host.to_owned(), port, tls)), "{url}");
        }
        for url in ["", "a.b:80", "ftp://a.b", "ws://", "ws:///x", "ws://a b/", "ws://[]:80/", "ws://a.b:99999/"] {
            assert!(matches!(parsed(url), Err(Error::Url(_))), "{url}: {:?}", parsed(url));
        }
    }
}
