//! The body of a create call, as `apps.md` 3.4 tabulates it. Pure data.
//!
//! What is false or empty is left out, so that the Engine's defaults hold.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Empty, nullable};

/// The configuration of a new container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerSpec {
    /// The image reference.
    pub image: String,
    /// `NAME=value`.
    pub env: Env,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it gets a terminal.
    #[serde(skip_serializing_if = "is_false")]
    pub tty: bool,
    /// See [`ContainerSpec::interactive`].
    #[serde(skip_serializing_if = "is_false")]
    pub attach_stdin: bool,
    /// See [`ContainerSpec::interactive`].
    #[serde(skip_serializing_if = "is_false")]
    pub attach_stdout: bool,
    /// See [`ContainerSpec::interactive`].
    #[serde(skip_serializing_if = "is_false")]
    pub attach_stderr: bool,
    /// See [`ContainerSpec::interactive`].
    #[serde(skip_serializing_if = "is_false")]
    pub open_stdin: bool,
    /// Anonymous volumes by target. `Some` of an empty map (DEV) is written as `{}`, `None` (PROD) is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// `<port>/<protocol>` of each published port.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// What the host gives it.
    pub host_config: HostConfig,
    /// Always empty: the network is the one of `host_config`.
    pub networking_config: Empty,
}

impl ContainerSpec {
    /// The same with standard input, output and error attached and input kept open, as DEV apps have it.
    pub fn interactive(self) -> ContainerSpec {
        ContainerSpec { attach_stdin: true, attach_stdout: true, attach_stderr: true, open_stdin: true, ..self }
    }

    /// Publishes container port `port/protocol` (`tcp`, `udp`) on `host_port` of all IPv4 addresses.
    pub fn publish(&mut self, port: u16, protocol: &str, host_port: u16) {
        let key = format!("{port}/{protocol}");
        let binding = PortBinding { host_ip: "0.0.0.0".into(), host_port: host_port.to_string() };
        self.exposed_ports.insert(key.clone(), Empty {});
        self.host_config.port_bindings.entry(key).or_default().push(binding);
    }
}

/// Environment entries, `NAME=value`. They carry credentials: `Debug` shows the names alone.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Env(pub Vec<String>);

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|entry| entry.split_once('=').map_or("", |(name, _)| name))).finish()
    }
}

/// What the host gives a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    /// What the Engine does when it exits.
    pub restart_policy: RestartPolicy,
    /// All devices and capabilities.
    #[serde(skip_serializing_if = "is_false")]
    pub privileged: bool,
    /// Capabilities in addition to the default ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Devices of the host.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Such as `bridge`.
    pub network_mode: String,
    /// By `<port>/<protocol>`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// `name:address` lines for `/etc/hosts`; the address `host-gateway` needs Engine 20.10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    /// The OCI runtime; empty is the Engine's default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
    /// What is mounted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
}

/// What the Engine does when a container exits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RestartPolicy {
    /// `no`, `always`, `unless-stopped`, `on-failure`.
    pub name: String,
}

impl Default for RestartPolicy {
    fn default() -> RestartPolicy {
        RestartPolicy { name: "no".into() }
    }
}

/// A device of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Device {
    /// On the host.
    pub path_on_host: String,
    /// In the container.
    pub path_in_container: String,
}

/// A published port on the host's side. Compared with what inspection shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// The host's address; empty or `0.0.0.0` for all.
    #[serde(deserialize_with = "nullable")]
    pub host_ip: String,
    /// The host's port, in decimal.
    #[serde(deserialize_with = "nullable")]
    pub host_port: String,
}

/// A bind mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mount {
    #[serde(rename = "Type")]
    kind: &'static str,
    /// The path on the host; it must exist.
    pub source: String,
    /// The path in the container.
    pub target: String,
}

impl Mount {
    /// Host path `source` at `target`, for reading and writing.
    pub fn bind(source: impl Into<String>, target: impl Into<String>) -> Mount {
        Mount { kind: "bind", source: source.into(), target: target.into() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde wants")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec() -> ContainerSpec {
        let mut spec = ContainerSpec {
            image: "registry/apps/prod_amd64_6_app:1.0.0".into(),
            env: Env(vec!["A=1".into()]),
            labels: BTreeMap::from([("real".into(), "True".into())]),
            tty: true,
            host_config: HostConfig {
                privileged: true,
                cap_add: vec!["ALL".into()],
                devices: vec![Device { path_on_host: "/dev".into(), path_in_container: "/dev".into() }],
                network_mode: "bridge".into(),
                extra_hosts: vec!["host.docker.internal:host-gateway".into()],
                mounts: vec![Mount::bind("/opt/shared", "/shared")],
                ..HostConfig::default()
            },
            ..ContainerSpec::default()
        };
        spec.publish(80, "tcp", 8080);
        spec
    }

    fn host() -> serde_json::Value {
        json!({
            "RestartPolicy": {"Name": "no"}, "Privileged": true, "CapAdd": ["ALL"],
            "Devices": [{"PathOnHost": "/dev", "PathInContainer": "/dev"}], "NetworkMode": "bridge",
            "PortBindings": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]},
            "ExtraHosts": ["host.docker.internal:host-gateway"],
            "Mounts": [{"Type": "bind", "Source": "/opt/shared", "Target": "/shared"}],
        })
    }

    #[test]
    fn a_prod_container_is_created_with_exactly_the_fields_of_the_table() {
        assert_eq!(
            serde_json::to_value(spec()).unwrap(),
            json!({
                "Image": "registry/apps/prod_amd64_6_app:1.0.0", "Env": ["A=1"], "Labels": {"real": "True"}, "Tty": true,
                "ExposedPorts": {"80/tcp": {}}, "HostConfig": host(), "NetworkingConfig": {},
            })
        );
    }

    #[test]
    fn a_dev_container_has_its_streams_attached_and_an_empty_volumes_map() {
        let mut spec = ContainerSpec { volumes: Some(BTreeMap::new()), ..spec().interactive() };
        spec.host_config.runtime = "nvidia".into();
        let mut host = host();
        host["Runtime"] = json!("nvidia");
        assert_eq!(
            serde_json::to_value(spec).unwrap(),
            json!({
                "Image": "registry/apps/prod_amd64_6_app:1.0.0", "Env": ["A=1"], "Labels": {"real": "True"}, "Tty": true,
                "AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "OpenStdin": true, "Volumes": {},
                "ExposedPorts": {"80/tcp": {}}, "HostConfig": host, "NetworkingConfig": {},
            })
        );
    }

    #[test]
    fn debug_output_shows_the_names_of_the_environment_alone() {
        let shown = format!("{:?}", Env(vec!["TOKEN=hunter2".into(), "hunter3".into()]));
        assert_eq!(shown, r#"["TOKEN", ""]"#);
    }
}
