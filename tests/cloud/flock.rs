//! The identity of a test device and its `.flock` file (`wamp-and-rpc.md` 8.4).

use super::realm::{User, random_id};
use serde_json::{Value, json};
use std::collections::HashMap;

/// A device as the platform knows it. Every value is fake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub serial: String,
    pub secret: String,
    pub name: String,
    pub swarm_name: String,
    pub owner: String,
    pub swarm_key: u64,
    pub device_key: u64,
}

/// The secret of the backend.
pub const BACKEND_SECRET: &str = "backend-secret";
/// The secret of the user 42.
pub const USER_SECRET: &str = "user-secret";

impl Identity {
    /// Device 3 of project 2 with a serial number of its own. Crossbar's users are in a file, hence the fixed keys.
    pub fn generated() -> Identity {
        let (a, b) = (random_id(), random_id());
        let serial = format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            a >> 16 & 0xffff_ffff,
            a & 0xffff,
            b >> 40 & 0xfff,
            b >> 28 & 0xfff,
            b & 0xffff_ffff_ffff
        );
        Identity {
            serial,
            secret: "fake-device-secret".to_owned(),
            name: "device-b".to_owned(),
            swarm_name: "demo_swarm".to_owned(),
            owner: "marko".to_owned(),
            swarm_key: 2,
            device_key: 3,
        }
    }

    /// Under which name it joins.
    pub fn authid(&self) -> String {
        format!("{}-{}", self.swarm_key, self.device_key)
    }

    /// A procedure or topic below `re.mgmt.<serial>.`.
    pub fn uri(&self, name: &str) -> String {
        format!("re.mgmt.{}.{name}", self.serial)
    }

    /// The log topic of a container.
    pub fn log_topic(&self, container: &str) -> String {
        format!("reswarm.logs.{}.{container}", self.serial)
    }

    /// Everybody whom the local router lets in: the device, the backend, and the users 42 and 43.
    pub fn users(&self) -> HashMap<String, User> {
        HashMap::from([
            (self.authid(), User::plain(&self.secret, "device")),
            ("system".to_owned(), User::plain(BACKEND_SECRET, "backend")),
            ("42".to_owned(), User::plain(USER_SECRET, "backend")),
            ("43".to_owned(), User::plain(USER_SECRET, "backend")),
        ])
    }

    /// The `.flock` for a router at `url` and a registry at `host:port`.
    pub fn flock(&self, url: &str, registry: &str) -> Value {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        json!({
            "name": self.name,
            "secret": self.secret,
            "board": {
                "cpu": "fake", "docs": null, "board": "fake", "model": "fake", "boardname": "Fake Board",
                "modelname": "Fake Model", "reflasher": false, "architecture": arch,
            },
            "status": "DISCONNECTED",
            "password": "fake-wifi-password",
            "wlanssid": "fake-wifi",
            "swarm_key": self.swarm_key,
            "device_key": self.device_key,
            "swarm_name": self.swarm_name,
            "description": null,
            "architecture": arch,
            "serial_number": self.serial,
            "authentication": {
                "key": "-----BEGIN FAKE KEY-----\nAAAA\n-----END FAKE KEY-----\n",
                "certificate": "-----BEGIN FAKE CERTIFICATE-----\nAAAA\n-----END FAKE CERTIFICATE-----\n",
            },
            "swarm_owner_name": self.owner,
            "config_passphrase": "",
            "device_endpoint_url": url,
            "environment": "local",
            "docker_registry_url": format!("{registry}/"),
            "insecure-registries": format!("{registry}/"),
            "docker_main_repository": "apps/",
        })
    }
}
