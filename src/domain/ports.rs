//! Port rules, and the registry of managed host ports (apps chapter 1.3, 4.1). Pure: whether a port can be bound is probed
//! by the job that uses it, which answers with what it found taken.

use super::app::AppKey;
use crate::sorted::IntoSorted;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// First port of the pool.
pub const FIRST: u16 = 40_000;
/// Last port of the pool.
pub const LAST: u16 = 49_999;

/// `tcp` or `udp` on the wire; http and https are tcp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`, as in `8080/tcp`.
    pub fn text(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// One element of an app's `ports`.
#[derive(Debug, Clone, PartialEq)]
pub struct PortRule {
    /// Declared port, the identity of the rule.
    pub port: u16,
    /// `http`, `https`, `tcp`, `udp`; `http` when it was empty.
    pub protocol: String,
    /// Not empty: the rule points away from the app's container and is not published.
    pub local_ip: String,
    /// Further name of the variable that holds the remote port.
    pub remote_port_environment: String,
    /// Port on the tunnel server.
    pub remote_port: u64,
    /// Host port given by the agent, 0 if none.
    pub host_port: u64,
    /// Internet-facing port of an instance tunnel.
    pub cloud_remote_port: u64,
    /// The rule as received: what this agent does not read is sent back as it came.
    rest: Map<String, Value>,
}

impl PortRule {
    /// Decodes a list, strictly: a wrongly typed value is an error for the whole list; null means default.
    ///
    /// # Errors
    /// A text that names the rule and the key.
    pub fn list(values: &[Value]) -> Result<Vec<PortRule>, String> {
        values
            .iter()
            .enumerate()
            .map(|(n, value)| PortRule::one(value).map_err(|key| format!("port rule {}: bad {key}", n + 1)))
            .collect()
    }

    /// The rules that can be read, and what is wrong with the others: one bad rule holds up no start.
    pub fn readable(values: &[Value]) -> (Vec<PortRule>, Vec<String>) {
        let (mut rules, mut faults) = (Vec::new(), Vec::new());
        for (n, value) in values.iter().enumerate() {
            match PortRule::one(value) {
                Ok(rule) => rules.push(rule),
                Err(key) => faults.push(format!("Port rule {} is left out: bad {key}", n + 1)),
            }
        }
        (rules, faults)
    }

    fn one(value: &Value) -> Result<PortRule, &'static str> {
        let map = value.as_object().ok_or("rule, not an object")?;
        let text = |key: &'static str| match map.get(key) {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(key),
        };
        let number = |key: &'static str| match map.get(key) {
            None | Some(Value::Null) => Ok(0),
            Some(value) => super::number::uint(value).ok_or(key),
        };
        for key in ["main", "active", "public"] {
            if !matches!(map.get(key), None | Some(Value::Null | Value::Bool(_))) {
                return Err(key);
            }
        }
        let protocol = match text("protocol")? {
            empty if empty.is_empty() => "http".to_owned(),
            named => named,
        };
        text("name")?;
        Ok(PortRule {
            port: u16::try_from(number("port")?).map_err(|_| "port")?,
            protocol,
            local_ip: text("local_ip")?,
            remote_port_environment: text("remote_port_environment")?,
            remote_port: number("remote_port")?,
            host_port: number("host_port")?,
            cloud_remote_port: number("cloud_remote_port")?,
            rest: map.clone(),
        })
    }

    /// Its protocol on the wire.
    pub fn wire(&self) -> Protocol {
        if self.protocol == "udp" { Protocol::Udp } else { Protocol::Tcp }
    }

    /// Whether the rule is published by the app's container.
    pub fn is_published(&self) -> bool {
        self.local_ip.is_empty()
    }

    /// The host port given by the agent, 0 if there is none that could be one.
    pub fn stored(&self) -> u16 {
        u16::try_from(self.host_port).unwrap_or(0)
    }

    /// The full form of 1.3: integers, all keys but the two that are left out when 0.
    pub fn encode(&self) -> Value {
        let mut map = self.rest.clone();
        let flag = |key: &str| json!(self.rest.get(key).and_then(Value::as_bool).unwrap_or(false));
        for key in ["main", "active", "public"] {
            map.insert(key.to_owned(), flag(key));
        }
        map.insert("name".to_owned(), json!(self.rest.get("name").and_then(Value::as_str).unwrap_or_default()));
        map.insert("port".to_owned(), json!(self.port));
        map.insert("protocol".to_owned(), json!(self.protocol));
        map.insert("local_ip".to_owned(), json!(self.local_ip));
        map.insert("remote_port_environment".to_owned(), json!(self.remote_port_environment));
        map.insert("remote_port".to_owned(), json!(self.remote_port));
        for (key, port) in [("host_port", self.host_port), ("cloud_remote_port", self.cloud_remote_port)] {
            if port == 0 {
                map.remove(key);
            } else {
                map.insert(key.to_owned(), json!(port));
            }
        }
        Value::Object(map)
    }
}

/// What a host port is given to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortKey {
    /// The app.
    pub app: AppKey,
    /// Wire protocol.
    pub protocol: Protocol,
    /// Declared port.
    pub port: u16,
    /// Service of a compose app; empty for a plain app.
    pub service: String,
}

impl PortKey {
    /// The key of a plain app's port.
    pub fn plain(app: AppKey, protocol: Protocol, port: u16) -> PortKey {
        PortKey { app, protocol, port, service: String::new() }
    }
}

/// A port to be published: what the container listens on and where the host is to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Service of a compose app; empty for a plain app.
    pub service: String,
    /// The port that rules and announcements name; of a plain app the one inside the container.
    pub declared: u16,
    /// Port inside the container.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Port on the host.
    pub host_port: u16,
    /// From the pool and in no start yet: probe it before use. Other ports are not probed, the app's own container may hold
    /// them.
    pub fresh: bool,
}

impl Binding {
    /// A port of a plain app.
    pub fn plain(port: u16, protocol: Protocol, host_port: u16) -> Binding {
        Binding { service: String::new(), declared: port, port, protocol, host_port, fresh: false }
    }

    /// What the host port is given to.
    pub fn key(&self, app: AppKey) -> PortKey {
        PortKey { app, protocol: self.protocol, port: self.declared, service: self.service.clone() }
    }
}

/// A port that a container was made with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// Service of a compose app's container; empty for a plain app.
    pub service: String,
    /// Port inside the container.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Port on the host.
    pub host_port: u16,
}

/// Which app holds which host port. In memory; recovered from live bindings and from the rules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ports {
    held: BTreeMap<PortKey, u16>,
    /// The values of `held`. One host port serves one rule, whatever its protocol: a person reads the number alone.
    used: BTreeSet<u16>,
    /// Those of them that no start has been given yet.
    fresh: BTreeSet<u16>,
    /// Found bound by somebody else.
    taken: BTreeSet<(Protocol, u16)>,
}

impl Ports {
    /// The assignment of `key`.
    pub fn get(&self, key: &PortKey) -> Option<u16> {
        self.held.get(key).copied()
    }

    /// The assignment of a declared port, whichever service has it: the first one by name.
    pub fn get_by_port(&self, app: AppKey, protocol: Protocol, port: u16) -> Option<u16> {
        let (key, held) = self.held.range(PortKey::plain(app, protocol, port)..).next()?;
        ((key.app, key.protocol, key.port) == (app, protocol, port)).then_some(*held)
    }

    /// Keeps the assignment, else takes `preferred` if no other app holds it, else the first free port of the pool. The
    /// flag says that the port is from the pool and in no start yet. `None`: the pool is exhausted.
    pub fn recover_or_reserve(&mut self, key: &PortKey, preferred: u16) -> Option<(u16, bool)> {
        if let Some(port) = self.get(key) {
            return Some((port, self.fresh.contains(&port)));
        }
        if !self.taken.contains(&(key.protocol, preferred)) && self.claim(key, preferred) {
            return Some((preferred, false));
        }
        let port = self.take_from_pool(key)?;
        self.fresh.insert(port);
        Some((port, true))
    }

    /// A start is given this port: the next one finds it known.
    pub fn begin_use(&mut self, port: u16) {
        self.fresh.remove(&port);
    }

    /// Assigns `port` if that can be done without taking anything from anybody: true if it is the assignment of `key` then.
    pub fn claim(&mut self, key: &PortKey, port: u16) -> bool {
        if port != 0 && !self.held.contains_key(key) && self.used.insert(port) {
            self.held.insert(key.clone(), port);
        }
        self.get(key) == Some(port)
    }

    /// A running container is bound to `port`: whoever else it was kept for gets another one.
    pub fn found(&mut self, key: &PortKey, port: u16) {
        self.retain(|holder, held| held != port && holder != key);
        self.claim(key, port);
    }

    /// Gives `key` the port that it had before, in place of the one that it has: true if nobody else holds it.
    pub fn take_back(&mut self, key: &PortKey, port: u16) -> bool {
        if self.get(key) == Some(port) {
            return true;
        }
        if self.used.contains(&port) {
            return false;
        }
        self.retain(|holder, _| holder != key);
        self.claim(key, port)
    }

    /// Drops an assignment that cannot be bound: somebody else is there. `port` is passed over from now on.
    pub fn give_up(&mut self, key: &PortKey, port: u16) {
        self.retain(|holder, _| holder != key);
        self.taken.insert((key.protocol, port));
    }

    /// Drops all assignments of an app: an uninstall.
    pub fn release(&mut self, app: AppKey) {
        self.retain(|key, _| key.app != app);
    }

    /// Drops what an app holds besides these: services that its definition no longer has.
    pub fn keep(&mut self, app: AppKey, keys: &[PortKey]) {
        self.retain(|key, _| key.app != app || keys.contains(key));
    }

    fn retain(&mut self, stays: impl Fn(&PortKey, u16) -> bool) {
        self.held.retain(|key, port| stays(key, *port));
        self.used = self.held.values().copied().into_set();
        self.fresh.retain(|port| self.used.contains(port));
    }

    fn take_from_pool(&mut self, key: &PortKey) -> Option<u16> {
        let mut unheld = (FIRST..=LAST).filter(|port| !self.used.contains(port));
        let first = unheld.next()?;
        let port = std::iter::once(first).chain(unheld).find(|port| !self.taken.contains(&(key.protocol, *port)));
        // With none left that was not found taken, those may be free again.
        let port = port.unwrap_or_else(|| {
            self.taken.clear();
            first
        });
        self.claim(key, port).then_some(port)
    }
}

/// Whether an error text names host port `port`, as in `0.0.0.0:40010 failed` (4.3). The next character is no digit.
pub fn names_port(text: &str, port: u16) -> bool {
    let needle = format!(":{port}");
    text.match_indices(&needle).any(|(at, _)| !text[at + needle.len()..].starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::app::Stage;
    use super::*;

    fn key(app: u64, port: u16) -> PortKey {
        PortKey::plain(AppKey { key: app, stage: Stage::Prod }, Protocol::Tcp, port)
    }

    #[test]
    fn the_registry_keeps_recovers_and_gives_ports() {
        let mut ports = Ports::default();
        let (first, fresh) = ports.recover_or_reserve(&key(1, 80), 0).unwrap();
        assert!(fresh && (FIRST..=LAST).contains(&first));
        assert_eq!(ports.recover_or_reserve(&key(1, 80), 0), Some((first, true)), "twice the same");
        ports.begin_use(first);
        assert_eq!(ports.recover_or_reserve(&key(1, 80), 0), Some((first, false)), "a start has it");
        assert_ne!(ports.recover_or_reserve(&key(2, 80), 0).unwrap().0, first, "two apps, one declared port");
        assert_eq!(ports.recover_or_reserve(&key(3, 80), 41_234), Some((41_234, false)));
        let (other, fresh) = ports.recover_or_reserve(&key(4, 80), 41_234).unwrap();
        assert!(other != 41_234 && fresh, "a port held by another app is not preferred");
    }

    #[test]
    fn a_port_that_was_given_up_is_passed_over_until_nothing_else_is_left() {
        let mut ports = Ports::default();
        assert_eq!(ports.recover_or_reserve(&key(1, 80), 0), Some((FIRST, true)));
        ports.give_up(&key(1, 80), FIRST);
        assert_eq!(
            ports.recover_or_reserve(&key(1, 80), FIRST),
            Some((FIRST + 1, true)),
            "also if the backend stored it"
        );
        for port in 2..10_000 {
            assert!(ports.claim(&key(2, port), FIRST + port));
        }
        assert_eq!(ports.recover_or_reserve(&key(3, 80), 0), Some((FIRST, true)));
    }

    #[test]
    fn a_release_frees_the_ports_of_one_app_alone() {
        let mut ports = Ports::default();
        assert!(ports.claim(&key(1, 80), 41_000) && ports.claim(&key(2, 80), 41_001));
        assert!(!ports.claim(&key(3, 80), 41_000) && !ports.claim(&key(1, 80), 41_002) && !ports.claim(&key(3, 80), 0));
        ports.release(key(1, 80).app);
        assert_eq!((ports.get(&key(1, 80)), ports.get(&key(2, 80))), (None, Some(41_001)));
        assert!(ports.claim(&key(3, 80), 41_000));
        ports.found(&key(4, 80), 41_000);
        assert_eq!((ports.get(&key(3, 80)), ports.get(&key(4, 80))), (None, Some(41_000)), "a fact beats a memory");
    }

    #[test]
    fn a_port_that_cannot_be_bound_is_replaced_by_the_next_one_and_may_be_claimed_by_others() {
        let mut ports = Ports::default();
        let busy = ports.recover_or_reserve(&key(1, 80), 0).unwrap().0;
        ports.give_up(&key(1, 80), busy);
        assert_eq!((busy, ports.recover_or_reserve(&key(1, 80), 0)), (FIRST, Some((FIRST + 1, true))));
        assert!(ports.claim(&key(2, 80), busy));
    }

    #[test]
    fn a_declared_port_goes_to_the_first_app_that_asks() {
        let mut ports = Ports::default();
        assert!(ports.claim(&key(1, 80), 8080) && ports.claim(&key(1, 80), 8080) && !ports.claim(&key(2, 80), 8080));
        assert_eq!(ports.recover_or_reserve(&key(2, 80), 8080), Some((FIRST, true)));
    }

    #[test]
    fn a_hundred_reservations_are_a_hundred_ports() {
        let mut ports = Ports::default();
        let given: BTreeSet<u16> = (0..100)
            .filter_map(|n| ports.recover_or_reserve(&key(n % 10, 80 + n as u16), 0))
            .map(|(port, _)| port)
            .collect();
        assert_eq!(given.len(), 100);
    }

    #[test]
    fn services_have_ports_of_their_own_and_lose_them_with_the_service() {
        let mut ports = Ports::default();
        let of = |service: &str| PortKey { service: service.to_owned(), ..key(1, 80) };
        assert!(ports.claim(&of("web"), 41_000) && ports.claim(&of("api"), 41_001) && ports.claim(&key(2, 80), 41_002));
        let app = key(1, 80).app;
        assert_eq!(ports.get_by_port(app, Protocol::Tcp, 80), Some(41_001));
        assert_eq!(
            (ports.get_by_port(app, Protocol::Udp, 80), ports.get_by_port(app, Protocol::Tcp, 79)),
            (None, None)
        );
        ports.keep(app, &[of("web")]);
        assert_eq!(ports.get_by_port(app, Protocol::Tcp, 80), Some(41_000));
        assert!(ports.claim(&of("other"), 41_001) && ports.get(&key(2, 80)) == Some(41_002));
    }

    #[test]
    fn an_exhausted_pool_says_so() {
        let mut ports = Ports::default();
        for port in 0..10_000 {
            assert_eq!(ports.recover_or_reserve(&key(1, port), FIRST + port), Some((FIRST + port, false)));
        }
        assert_eq!(ports.recover_or_reserve(&key(2, 1), 0), None);
    }

    #[test]
    fn rules_are_read_strictly_and_written_in_full() {
        let rules = PortRule::list(&[json!({"port": 8080.0, "active": null, "extra": [1], "main": true})]).unwrap();
        assert_eq!(
            rules[0].encode(),
            json!({"main": true, "name": "", "active": false, "public": false, "port": 8080, "protocol": "http", "local_ip": "",
                   "remote_port_environment": "", "remote_port": 0, "extra": [1]})
        );
        let mut published = rules[0].clone();
        published.host_port = 40_000;
        assert_eq!(published.encode()["host_port"], json!(40_000));
        for bad in [json!({"port": "80"}), json!({"port": 70_000}), json!({"main": 1}), json!({"name": 5}), json!([])] {
            assert!(PortRule::list(std::slice::from_ref(&bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_whole_port_number_in_an_error_counts() {
        let text = "Bind for 0.0.0.0:40010 failed: port is already allocated";
        assert!(names_port(text, 40_010));
        assert!(!names_port(text, 4001));
        assert!(!names_port(text, 40_099));
        assert!(names_port("listen tcp :4000: bind: address already in use", 4000));
    }
}
