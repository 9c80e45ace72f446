//! One entry of a service's `ports` (apps chapter 4.2): what it says, and how it looks with a managed host port.

use super::super::app::AppKey;
use super::super::number::{digits, lenient, uint};
use super::super::ports::{Binding, PortKey, PortRule, Protocol};
use serde_json::{Value, json};

/// An entry as authored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortEntry {
    /// Its service.
    pub service: String,
    /// Its place in the list of the service.
    pub index: usize,
    /// Address of the host; empty: all.
    pub host_ip: String,
    /// Port on the host; 0: none is written.
    pub host_port: u16,
    /// Port inside the container; 0 only in an entry that cannot be rewritten.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Whether a host port of the agent's can take its place. The others stay as they are: ranges, variables, sctp, and a
    /// second entry of the service for one declared port.
    pub rewritable: bool,
    /// The service has the network of the machine: compose ignores its `ports`, and the declared port is the host's.
    pub host_networking: bool,
}

/// Host address, host port, container port, protocol.
type Parts = (String, u16, u16, Protocol);

impl PortEntry {
    /// Reads the entry at `index` of a service's list.
    pub fn read(service: &str, index: usize, value: &Value, host_networking: bool) -> PortEntry {
        let parts = match value {
            Value::String(text) => short(text),
            Value::Number(_) => uint(value).and_then(port).map(container_port),
            Value::Object(_) => long(value),
            _ => None,
        };
        let parts = parts.filter(|(_, _, container, _)| *container != 0);
        let rewritable = parts.is_some();
        let (host_ip, host_port, container_port, protocol) = parts.unwrap_or((String::new(), 0, 0, Protocol::Tcp));
        PortEntry {
            service: service.to_owned(),
            index,
            host_ip,
            host_port,
            container_port,
            protocol,
            rewritable,
            host_networking,
        }
    }

    /// The port that rules and announcements name: the authored host port, else the container's.
    pub fn declared(&self) -> u16 {
        if self.host_port > 0 { self.host_port } else { self.container_port }
    }

    /// Whether a rule means this entry: it names the declared port.
    pub fn is_meant_by(&self, rule: &PortRule) -> bool {
        self.rewritable && rule.is_published() && (rule.port, rule.wire()) == (self.declared(), self.protocol)
    }

    /// The rule of this entry.
    pub fn rule<'a>(&self, rules: &'a [PortRule]) -> Option<&'a PortRule> {
        rules.iter().find(|rule| self.is_meant_by(rule))
    }

    /// Whether it may have a host port of the agent's.
    pub fn is_managed(&self) -> bool {
        self.rewritable && !self.host_networking
    }

    /// Whether it is to be reachable from outside: it has a host port or a rule.
    pub fn is_published(&self, rules: &[PortRule]) -> bool {
        self.rewritable && (self.host_port > 0 || self.rule(rules).is_some())
    }

    /// What a managed host port for it is given to.
    pub fn key(&self, app: AppKey) -> PortKey {
        PortKey { app, protocol: self.protocol, port: self.declared(), service: self.service.clone() }
    }

    /// The entry published on `host_port`.
    pub fn binding(&self, host_port: u16, fresh: bool) -> Binding {
        Binding {
            service: self.service.clone(),
            declared: self.declared(),
            port: self.container_port,
            protocol: self.protocol,
            host_port,
            fresh,
        }
    }

    /// The entry as it is to stand in the definition: its form stays.
    pub fn rewritten(&self, authored: &Value, host_port: u16) -> Value {
        if let Value::Object(map) = authored {
            let mut map = map.clone();
            map.insert("published".to_owned(), json!(host_port.to_string()));
            map.insert("host_ip".to_owned(), json!("0.0.0.0"));
            return Value::Object(map);
        }
        json!(self.text("0.0.0.0", host_port))
    }

    /// The entry in the short form, with this host side; 0: any port.
    fn text(&self, host_ip: &str, host_port: u16) -> String {
        let host = match (host_ip, host_port) {
            ("", 0) => String::new(),
            ("", port) => format!("{port}:"),
            (ip, 0) => format!("{ip}::"),
            (ip, port) => format!("{ip}:{port}:"),
        };
        let suffix = if self.protocol == Protocol::Udp { "/udp" } else { "" };
        format!("{host}{}{suffix}", self.container_port)
    }

    /// A long entry in the short form: compose 1.29 knows neither `host_ip` nor a port that is a text.
    pub fn shortened(value: &Value) -> Option<Value> {
        let entry = PortEntry::read("", 0, value, false);
        (value.is_object() && entry.rewritable).then(|| json!(entry.text(&entry.host_ip, entry.host_port)))
    }
}

fn port(number: u64) -> Option<u16> {
    u16::try_from(number).ok()
}

fn container_port(container: u16) -> Parts {
    (String::new(), 0, container, Protocol::Tcp)
}

fn protocol(text: &str) -> Option<Protocol> {
    match text.to_lowercase().as_str() {
        "tcp" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        _ => None,
    }
}

/// `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, split from the right: an address may hold colons.
fn short(text: &str) -> Option<Parts> {
    if text.contains('$') {
        return None;
    }
    let (ports, protocol) = match text.rsplit_once('/') {
        Some((ports, name)) => (ports, protocol(name)?),
        None => (text, Protocol::Tcp),
    };
    let decimal = |text: &str| digits(text).and_then(port);
    let Some((rest, container)) = ports.rsplit_once(':') else {
        return Some((String::new(), 0, decimal(ports)?, protocol));
    };
    let (host_ip, host) = rest.rsplit_once(':').unwrap_or(("", rest));
    Some((host_ip.to_owned(), decimal(host)?, decimal(container)?, protocol))
}

fn long(value: &Value) -> Option<Parts> {
    let number = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Some(0),
        Some(Value::String(text)) if text.is_empty() => Some(0),
        Some(value) => lenient(value).and_then(port),
    };
    let text = |key: &str| match value.get(key) {
        None | Some(Value::Null) => Some(""),
        Some(value) => value.as_str(),
    };
    let protocol = match text("protocol")? {
        "" => Protocol::Tcp,
        named => protocol(named)?,
    };
    Some((text("host_ip")?.to_owned(), number("published")?, number("target")?, protocol))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Protocol::{Tcp, Udp};

    fn read(value: &Value) -> PortEntry {
        PortEntry::read("web", 0, value, false)
    }

    #[test]
    fn entries_are_read_in_every_form() {
        for (value, host_ip, host, container, protocol) in [
            (json!("8080:80"), "", 8080, 80, Tcp),
            (json!("8080:80/tcp"), "", 8080, 80, Tcp),
            (json!("8080:80/TCP"), "", 8080, 80, Tcp),
            (json!("53:53/udp"), "", 53, 53, Udp),
            (json!("127.0.0.1:8080:80"), "127.0.0.1", 8080, 80, Tcp),
            (json!("[::1]:8080:80"), "[::1]", 8080, 80, Tcp),
            (json!("80"), "", 0, 80, Tcp),
            (json!(80), "", 0, 80, Tcp),
            (json!(80.0), "", 0, 80, Tcp),
            (json!(80_i64), "", 0, 80, Tcp),
            (
                json!({"target": 80, "published": 8080, "protocol": "tcp", "host_ip": "1.2.3.4"}),
                "1.2.3.4",
                8080,
                80,
                Tcp,
            ),
            (json!({"target": 80.0, "published": "8080", "protocol": "UDP"}), "", 8080, 80, Udp),
            (json!({"target": 80, "published": null, "protocol": null, "host_ip": null}), "", 0, 80, Tcp),
            (json!({"target": 80, "published": 0}), "", 0, 80, Tcp),
            (json!({"target": 80}), "", 0, 80, Tcp),
        ] {
            let entry = read(&value);
            assert!(entry.rewritable, "{value}");
            assert_eq!(
                (entry.host_ip.as_str(), entry.host_port, entry.container_port, entry.protocol),
                (host_ip, host, container, protocol),
                "{value}"
            );
            assert_eq!(entry.declared(), if host > 0 { host } else { container }, "{value}");
        }
    }

    #[test]
    fn other_entries_cannot_be_rewritten() {
        for value in [
            json!("8080-8090:80-90"),
            json!("8080-8090:80"),
            json!({"target": 80, "published": "8000-9000"}),
            json!("${PORT}:80"),
            json!("$PORT:80"),
            json!("80/sctp"),
            json!({"target": 80, "protocol": "sctp"}),
            json!({"target": "${PORT}"}),
            json!({"published": 80}),
            json!({"target": 80, "published": true}),
            json!({"target": 80, "host_ip": 5}),
            json!("65536:80"),
            json!("80:65536"),
            json!(65_536),
            json!(-80),
            json!(80.5),
            json!("127.0.0.1::80"),
            json!(":80"),
            json!("80:"),
            json!("0"),
            json!(""),
            json!(" 80"),
            json!("+80"),
            json!("80/"),
            json!(true),
            json!(null),
            json!(["80"]),
        ] {
            assert!(!read(&value).rewritable, "{value}");
        }
    }

    #[test]
    fn a_rewritten_entry_keeps_its_form() {
        for (authored, host_port, expected) in [
            (json!("8080:80"), 41_234, json!("0.0.0.0:41234:80")),
            (json!("127.0.0.1:8080:80"), 41_234, json!("0.0.0.0:41234:80")),
            (json!("53:53/udp"), 41_235, json!("0.0.0.0:41235:53/udp")),
            (json!("80"), 41_236, json!("0.0.0.0:41236:80")),
            (json!(80), 41_236, json!("0.0.0.0:41236:80")),
            (
                json!({"target": 80, "published": 8080, "mode": "host"}),
                41_237,
                json!({"target": 80, "published": "41237", "host_ip": "0.0.0.0", "mode": "host"}),
            ),
        ] {
            assert_eq!(read(&authored).rewritten(&authored, host_port), expected);
        }
    }

    #[test]
    fn a_rule_refers_to_the_authored_host_port() {
        let rules = PortRule::list(&[
            json!({"port": 8080}),
            json!({"port": 53, "protocol": "udp"}),
            json!({"port": 22, "local_ip": "10.0.0.2"}),
        ])
        .unwrap();
        let of = |value: Value| (read(&value).rule(&rules).map(|rule| rule.port), read(&value).is_published(&rules));
        assert_eq!(of(json!("8080:80")), (Some(8080), true));
        assert_eq!(of(json!("8080")), (Some(8080), true));
        assert_eq!(of(json!("80:8080")), (None, true), "a container's port is not what the rule names");
        assert_eq!(of(json!("53")), (None, false), "another protocol");
        assert_eq!(of(json!("53/udp")), (Some(53), true));
        assert_eq!(of(json!("22")), (None, false), "the rule points elsewhere");
        assert_eq!(of(json!("8080/sctp")), (None, false));
    }
}
