//! The environment of an app's container, and what of it becomes files (apps chapter 1.8, 4.7, 4.8). Pure; a job adds the
//! LAN address, which only the machine knows.

use super::app::{AppKey, Stage};
use super::config::Device;
use super::credential::Credential;
use super::ports::{Binding, PortRule};
use super::request::Request;
use crate::sorted::{IntoSorted, sort_by};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// Entries `K=V` longer than this many bytes do not go into the container's configuration; they are in files only.
pub const MAX_ENTRY: usize = 20_480;

/// Names that an app cannot set itself: they would hide the credential that the agent gives.
pub const RESERVED: [&str; 2] = ["APP_AUTH_ID", "APP_AUTH_SECRET"];

/// Variables of a container, sorted by name, and what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Name to value, escaped.
    pub variables: BTreeMap<String, String>,
    /// Names that were dropped, with the reason, for the log.
    pub dropped: Vec<String>,
}

/// Puts an environment together in the order of 4.7: what comes later wins. `published`: the ports that are announced.
pub fn assemble(
    device: &Device,
    id: AppKey,
    request: &Request,
    credential: Option<&Credential>,
    published: &[Binding],
) -> Environment {
    let mut env = Environment::default();
    let mut set = |name: &str, value: &str| {
        env.variables.insert(name.to_owned(), value.to_owned());
    };
    set("DEVICE_SERIAL_NUMBER", &device.serial);
    set("ENV", id.stage.text());
    set("DEVICE_KEY", &device.device_key.to_string());
    set("SWARM_KEY", &device.swarm_key.to_string());
    set("APP_KEY", &id.key.to_string());
    set("APP_NAME", &request.app_name);
    set("DEVICE_NAME", &device.name);
    set("DEVICE_ENDPOINT_URL", &device.endpoint_for_containers());
    set("TUNNEL_DOMAIN", &device.tunnel_domain());
    if let Some(credential) = credential {
        set("APP_AUTH_ID", &credential.id);
        set("APP_AUTH_SECRET", credential.secret.reveal());
    }
    if request.instance_key > 0 {
        set("INSTANCE_KEY", &request.instance_key.to_string());
    }
    if let Some(base) = &device.base_url {
        set("RESWARM_URL", base);
        let (owner, swarm, name) = (&device.swarm_owner_name, &device.swarm_name, &device.name);
        set("DEVICE_URL", &format!("{base}/{owner}/swarms/{swarm}/settings/devices/{name}"));
    }
    if id.stage == Stage::Prod {
        env.take(&request.environment, "value", Some("<nil>"), &BTreeSet::new());
        for (name, value) in remote_ports(&PortRule::readable(&request.ports).0) {
            if let (true, Some(value)) = (name.ends_with("_CLOUD"), value) {
                env.variables.insert(name, value);
            }
        }
    }
    let already: BTreeSet<String> = match id.stage {
        Stage::Prod => env.variables.keys().cloned().into_set(),
        Stage::Dev => BTreeSet::new(),
    };
    env.take(&request.environment_template, "defaultValue", None, &already);
    env.variables.extend(announcements(published));
    env
}

/// `DEVICE_PORT_FOR_<declared>`: of several ports that are declared alike, tcp comes before udp, then the first service.
fn announcements(published: &[Binding]) -> BTreeMap<String, String> {
    let mut sorted: Vec<&Binding> = published.iter().collect();
    let rank = |binding: &Binding| (binding.declared, binding.protocol, binding.service.clone());
    sort_by(&mut sorted, |a, b| rank(b).cmp(&rank(a)));
    // What comes last stays.
    sorted.iter().map(|port| (format!("DEVICE_PORT_FOR_{}", port.declared), port.host_port.to_string())).into_map()
}

/// The files of remote ports (4.8): name to content, `None` where the file is to go.
pub fn remote_ports(rules: &[PortRule]) -> Vec<(String, Option<String>)> {
    let mut files = Vec::new();
    for rule in rules {
        let further = (!rule.remote_port_environment.is_empty()).then(|| rule.remote_port_environment.clone());
        for name in std::iter::once(format!("REMOTE_PORT_FOR_{}", rule.port)).chain(further) {
            if rule.remote_port > 0 {
                files.push((name.clone(), Some(rule.remote_port.to_string())));
            }
            files.push((
                format!("{name}_CLOUD"),
                (rule.cloud_remote_port > 0).then(|| rule.cloud_remote_port.to_string()),
            ));
        }
    }
    files
}

impl Environment {
    fn take(&mut self, from: &Map<String, Value>, member: &str, null: Option<&str>, already: &BTreeSet<String>) {
        for (name, entry) in from {
            if RESERVED.contains(&name.as_str()) {
                self.dropped.push(format!("{name}: the name is reserved"));
                continue;
            }
            if name.is_empty() || name.contains(['=', '\0']) {
                self.dropped.push(format!("{name:?}: no name of a variable"));
                continue;
            }
            let Some(entry) = entry.as_object() else {
                self.dropped.push(format!("{name}: not an object"));
                continue;
            };
            let value = match entry.get(member) {
                None | Some(Value::Null) => null.map(str::to_owned),
                Some(value) => Some(escape(&text(value))),
            };
            if let (Some(value), false) = (value, already.contains(name)) {
                self.variables.insert(name.clone(), value);
            }
        }
    }
}

/// A value as text: strings verbatim, whole numbers without exponent or fraction, the rest as compact JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => format!("{float:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Newline, tab and carriage return as two characters each (X2): one variable stays one line. NUL cannot be in a value.
pub(super) fn escape(value: &str) -> String {
    value.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r").replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::super::ports::Protocol;
    use super::*;
    use serde_json::json;

    fn request(environment: Value, template: Value) -> Request {
        Request {
            app_name: "Demo".to_owned(),
            environment: environment.as_object().cloned().unwrap_or_default(),
            environment_template: template.as_object().cloned().unwrap_or_default(),
            ..Request::default()
        }
    }

    fn composed(stage: Stage, request: &Request, bindings: &[Binding]) -> Environment {
        let device =
            Device { serial: "s-1".to_owned(), endpoint: "ws://localhost:1/ws".to_owned(), ..Device::default() };
        assemble(&device, AppKey { key: 5, stage }, request, None, bindings)
    }

    #[test]
    fn x2_odd_values_stay_one_line_each() {
        let env = composed(
            Stage::Prod,
            &request(
                json!({"MULTI": {"value": "a\nb\tc\rd"}, "NUM": {"value": 1_000_000.0}, "OBJ": {"value": {"a": [1]}}, "NIL": {"value": null},
                       "BOOL": {"value": true}, "BAD": "text", "A=B": {"value": "x"}, "HASH": {"value": "a # $b"}}),
                json!({}),
            ),
            &[],
        );
        let value = |name: &str| env.variables.get(name).map(String::as_str);
        assert_eq!(value("MULTI"), Some("a\\nb\\tc\\rd"));
        assert_eq!(value("NUM"), Some("1000000"));
        assert_eq!(value("OBJ"), Some("{\"a\":[1]}"));
        assert_eq!(value("NIL"), Some("<nil>"));
        assert_eq!(value("BOOL"), Some("true"));
        assert_eq!(value("HASH"), Some("a # $b"));
        assert_eq!(value("BAD"), None);
        assert_eq!(env.dropped.len(), 2);
    }

    #[test]
    fn x1_reserved_names_and_the_device_secret_stay_out() {
        let env = composed(
            Stage::Prod,
            &request(json!({"APP_AUTH_ID": {"value": "me"}}), json!({"APP_AUTH_SECRET": {"defaultValue": "x"}})),
            &[],
        );
        assert!(!env.variables.contains_key("APP_AUTH_ID") && !env.variables.contains_key("APP_AUTH_SECRET"));
        assert!(!env.variables.contains_key("DEVICE_SECRET"));
    }

    #[test]
    fn template_defaults_fill_gaps_by_exact_name() {
        let request = request(
            json!({"GREETING_LONG": {"value": "hi"}}),
            json!({"GREETING": {"defaultValue": "hello"}, "GREETING_LONG": {"defaultValue": "no"}, "EMPTY": {"defaultValue": null}}),
        );
        let env = composed(Stage::Prod, &request, &[]);
        assert_eq!(env.variables["GREETING"], "hello");
        assert_eq!(env.variables["GREETING_LONG"], "hi");
        assert!(!env.variables.contains_key("EMPTY"));
        assert_eq!(composed(Stage::Dev, &request, &[]).variables.get("GREETING_LONG").map(String::as_str), Some("no"));
    }

    #[test]
    fn announced_ports_are_sorted_and_tcp_comes_first() {
        let bind = |service: &str, declared, protocol, host_port| Binding {
            service: service.to_owned(),
            declared,
            port: 80,
            protocol,
            host_port,
            fresh: false,
        };
        let bindings = [
            bind("", 1883, Protocol::Udp, 40_002),
            bind("web", 8080, Protocol::Tcp, 40_005),
            bind("api", 8080, Protocol::Tcp, 40_001),
            bind("api", 5000, Protocol::Udp, 40_004),
            bind("web", 5000, Protocol::Tcp, 40_003),
        ];
        let own = json!({"DEVICE_PORT_FOR_8080": {"value": "1"}});
        let env = composed(Stage::Prod, &request(own, json!({})), &bindings);
        let announced: Vec<String> = env
            .variables
            .iter()
            .filter(|(name, _)| name.starts_with("DEVICE_PORT_FOR_"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            announced,
            ["DEVICE_PORT_FOR_1883=40002", "DEVICE_PORT_FOR_5000=40003", "DEVICE_PORT_FOR_8080=40001"]
        );
    }

    #[test]
    fn remote_port_files_come_and_go_with_the_ports() {
        let rules = PortRule::list(&[
            json!({"port": 22, "remote_port": 6000, "remote_port_environment": "SSH", "cloud_remote_port": 7000}),
        ])
        .unwrap();
        let written =
            |files: Vec<(String, Option<String>)>| files.into_iter().filter(|(_, value)| value.is_some()).count();
        assert_eq!(written(remote_ports(&rules)), 4);
        let none = PortRule::list(&[json!({"port": 22})]).unwrap();
        assert_eq!(remote_ports(&none), [("REMOTE_PORT_FOR_22_CLOUD".to_owned(), None)]);
    }
}
