//! Where the Engine listens: `DOCKER_HOST`, else the usual socket (`apps.md` 7.1).

use std::fmt;
use std::path::PathBuf;

use super::error::Error;

/// Where the Engine listens if nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// An address that we can connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain TCP, as `host:port`: for tests on loopback. There is no TLS.
    Tcp(String),
}

impl Address {
    /// Reads the value of `DOCKER_HOST` (absent or empty: [`DEFAULT_SOCKET`]).
    ///
    /// # Errors
    /// [`Error::Settings`] for another scheme, or for TCP when `tls_verify` (`DOCKER_TLS_VERIFY`) asks for TLS: a wish
    /// for TLS must never end in plain text.
    pub fn from_setting(host: &str, tls_verify: &str) -> Result<Address, Error> {
        if host.is_empty() {
            return Ok(Address::Unix(PathBuf::from(DEFAULT_SOCKET)));
        }
        match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') && !path.contains('\0') => Ok(Address::Unix(path.into())),
            Some(("tcp", _)) if !tls_verify.is_empty() => Err(Error::Settings("TLS to docker is not supported".into())),
            Some(("tcp", rest)) if is_host_and_port(rest.trim_end_matches('/')) => {
                Ok(Address::Tcp(rest.trim_end_matches('/').to_owned()))
            }
            _ => Err(Error::Settings(format!("DOCKER_HOST {host:?} is not understood"))),
        }
    }
}

fn is_host_and_port(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
            Address::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_a_socket_or_plain_tcp() {
        let unix = |path: &str| Ok(Address::Unix(path.into()));
        assert_eq!(Address::from_setting("", ""), unix("/var/run/docker.sock"));
        assert_eq!(Address::from_setting("", "1"), unix("/var/run/docker.sock"));
        assert_eq!(Address::from_setting("unix:///run/other.sock", "1"), unix("/run/other.sock"));
        assert_eq!(Address::from_setting("tcp://127.0.0.1:2375", ""), Ok(Address::Tcp("127.0.0.1:2375".into())));
        assert_eq!(Address::from_setting("tcp://[::1]:2375/", ""), Ok(Address::Tcp("[::1]:2375".into())));
    }

    #[test]
    fn what_cannot_be_used_is_refused_by_name() {
        for host in [
            "ssh://pi@host",
            "npipe:////./pipe/x",
            "tcp://host",
            "tcp://:1",
            "tcp://h:0",
            "unix://relative",
            "nonsense",
        ] {
            let refusal = Address::from_setting(host, "").unwrap_err().to_string();
            assert!(refusal.contains(host.trim_start_matches("unix")), "{refusal}");
        }
        assert!(Address::from_setting("tcp://127.0.0.1:2376", "1").is_err());
    }
}
