//! What the core knows of the device: the part of the `.flock` that its rules use, and what the backend told it since.

use super::power::Means;
use crate::secret::Secret;
use std::time::Duration;

/// Identity of the device (wire chapter 8.1). Plain data; the file belongs to the shell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// `name`.
    pub name: String,
    /// `secret`: registry password, never given to a container.
    pub secret: Secret,
    /// `swarm_key`.
    pub swarm_key: u64,
    /// `device_key`.
    pub device_key: u64,
    /// `swarm_name`.
    pub swarm_name: String,
    /// `swarm_owner_name`.
    pub swarm_owner_name: String,
    /// `serial_number`.
    pub serial: String,
    /// `device_endpoint_url`.
    pub endpoint: String,
    /// The environment in force: `production`, `test`, `local` or the file's own word.
    pub environment: String,
    /// `docker_registry_url`, with its slash.
    pub registry: String,
    /// `docker_main_repository`, with its slash.
    pub repository: String,
    /// `appliance_domain`.
    pub appliance_domain: String,
    /// Architecture tag: `amd64`, `arm64`, `armv7`, `armv6`, `armv5`.
    pub arch: String,
    /// Agent version.
    pub version: String,
    /// Extension of archives of sources, without a dot.
    pub archive_extension: String,
    /// What it can do with its machine.
    pub means: Means,
    /// How long a new release has to run before the one before it goes (decision 30).
    pub probation: Duration,
    /// Studio base URL, learned from the status answer, in memory only.
    pub base_url: Option<String>,
    /// Key for app credentials, in memory only.
    pub credential_key: Option<Secret>,
}

impl Device {
    /// The tunnel server's address, which is also `TUNNEL_DOMAIN` (tunnel chapter A.3).
    pub fn tunnel_domain(&self) -> String {
        if !self.appliance_domain.is_empty() {
            return self.appliance_domain.clone();
        }
        if let Some(host) = host_of(&self.endpoint) {
            return tunnel_host(host);
        }
        match self.environment.as_str() {
            "test" => "app.ironflock.dev",
            "local" => "localhost",
            _ => "app.ironflock.com",
        }
        .to_owned()
    }

    /// The endpoint as a container reaches it: a loopback host becomes `host.docker.internal` (apps chapter 4.7).
    pub fn endpoint_for_containers(&self) -> String {
        match host_of(&self.endpoint) {
            Some(host) if is_loopback(host) => self.endpoint.replacen(host, "host.docker.internal", 1),
            _ => self.endpoint.clone(),
        }
    }

    /// The topic or procedure `re.mgmt.<serial>.<name>`.
    pub fn uri(&self, name: &str) -> String {
        format!("re.mgmt.{}.{name}", self.serial)
    }

    /// The topic of a container's log.
    pub fn log_topic(&self, container: &str) -> String {
        format!("reswarm.logs.{}.{container}", self.serial)
    }
}

/// The host of a URL, brackets included for IPv6.
fn host_of(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme.is_empty()
        || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
    {
        return None;
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = if authority.starts_with('[') {
        &authority[..=authority.find(']')?]
    } else {
        authority.split(':').next().unwrap_or_default()
    };
    (!host.is_empty()).then_some(host)
}

fn is_loopback(host: &str) -> bool {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || literal.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn tunnel_host(host: &str) -> String {
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    if host == "host.docker.internal" || !host.contains('.') || literal.parse::<std::net::IpAddr>().is_ok() {
        return host.to_owned();
    }
    match host.split_once('.') {
        Some((_, rest)) if rest.contains('.') => format!("app.{rest}"),
        _ => format!("app.{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(endpoint: &str) -> Device {
        Device { endpoint: endpoint.to_owned(), ..Device::default() }
    }

    #[test]
    fn a_loopback_endpoint_is_rewritten_for_containers_and_nothing_else() {
        for (given, expected) in [
            ("ws://localhost:8080/ws-re-dev", "ws://host.docker.internal:8080/ws-re-dev"),
            ("ws://[::1]:8080/ws", "ws://host.docker.internal:8080/ws"),
            ("ws://127.0.0.9:1/ws", "ws://host.docker.internal:1/ws"),
            ("ws://localhost/ws", "ws://host.docker.internal/ws"),
        ] {
            assert_eq!(at(given).endpoint_for_containers(), expected);
        }
        for same in ["wss://192.168.0.21:18080/x", "wss://cbw.ironflock.com/x", "", "::not a url::", "ws://"] {
            assert_eq!(at(same).endpoint_for_containers(), same);
        }
    }

    #[test]
    fn the_tunnel_domain_follows_the_endpoint() {
        for (endpoint, expected) in [
            ("wss://cbw.ironflock.com/ws-re-dev", "app.ironflock.com"),
            ("wss://example.com/ws", "app.example.com"),
            ("ws://localhost:8080/x", "localhost"),
            ("ws://10.0.0.1:8080/x", "10.0.0.1"),
            ("ws://router/x", "router"),
            ("not a url", "app.ironflock.com"),
        ] {
            assert_eq!(at(endpoint).tunnel_domain(), expected, "{endpoint}");
        }
        let appliance = Device { appliance_domain: "box.local".to_owned(), ..at("wss://cbw.ironflock.com/x") };
        assert_eq!(appliance.tunnel_domain(), "box.local");
        let local = Device { environment: "local".to_owned(), ..at("") };
        assert_eq!(local.tunnel_domain(), "localhost");
    }
}
