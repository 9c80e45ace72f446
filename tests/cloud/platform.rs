//! The backend's side of the contract: what the platform knows, and what it answers (`wamp-and-rpc.md` 5). Pure.

use super::flock::Identity;
use super::wanted::WantedApp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Every procedure that the agent calls, except the router's own.
pub const PROCEDURES: [&str; 10] = [
    "reswarm.devices.read_device_metadata",
    "reswarm.devices.get_app_cred_key",
    "reswarm.devices.update_device_status",
    "reswarm.devices.update_device_architecture",
    "reswarm.containers.get_requested_app_states",
    "reswarm.containers.update_app_on_device",
    "reswarm.containers.get_registry_token",
    "reswarm.devices.check_privilege",
    "re.tunnel.expose_port",
    "reswarm.registry.run_gc",
];

/// What the platform knows of one device.
#[derive(Debug, Clone)]
pub struct Platform {
    pub identity: Identity,
    /// The apps of the device, in the order of the sync answer.
    pub apps: Vec<WantedApp>,
    /// Privileges that nobody has.
    pub denied: BTreeSet<String>,
    pub base_url: String,
    /// The text from which app credentials are derived; the one of the contract's test vector.
    pub cred_key: String,
    pub registry_token: String,
    /// Versions by app and release.
    releases: BTreeMap<(u64, u64), String>,
    next_port: u64,
}

impl Platform {
    pub fn new(identity: Identity) -> Platform {
        Platform {
            identity,
            apps: Vec::new(),
            denied: BTreeSet::new(),
            base_url: "https://studio.example.invalid".to_owned(),
            cred_key: "dGVzdC1rZXktZm9yLXZlY3Rvcg==".to_owned(),
            registry_token: "registry-token".to_owned(),
            releases: BTreeMap::new(),
            next_port: 30_022,
        }
    }

    /// The app of a key and stage.
    pub fn app(&mut self, app_key: u64, stage: &str) -> Option<&mut WantedApp> {
        self.apps.iter_mut().find(|app| app.app_key == app_key && app.stage == stage)
    }

    /// Adds an app, or replaces the one with its key and stage.
    pub fn want(&mut self, wanted: WantedApp) {
        self.releases.insert((wanted.app_key, wanted.release_key), wanted.present_version.clone());
        self.releases.insert((wanted.app_key, wanted.new_release_key), wanted.newest_version.clone());
        match self.app(wanted.app_key, &wanted.stage.clone()) {
            Some(app) => *app = wanted,
            None => self.apps.push(wanted),
        }
    }

    /// The positional arguments of the answer to a call with this first argument.
    pub fn answer(&mut self, procedure: &str, argument: &Value) -> Vec<Value> {
        let answer = match procedure {
            "reswarm.devices.read_device_metadata" => json!({
                "device_name": self.identity.name,
                "swarm_name": self.identity.swarm_name,
                "ownername": self.identity.owner,
                "swarm_key": self.identity.swarm_key,
            }),
            "reswarm.devices.get_app_cred_key" => json!(self.cred_key),
            "reswarm.devices.update_device_status" => json!({"reswarmBaseURL": self.base_url}),
            "reswarm.containers.get_requested_app_states" => {
                self.apps.iter().map(|app| app.sync_entry(&self.identity)).collect()
            }
            "reswarm.containers.update_app_on_device" => {
                self.learn(argument);
                Value::Null
            }
            "reswarm.containers.get_registry_token" => json!(self.registry_token),
            "reswarm.devices.check_privilege" => {
                json!(!argument["privilege"].as_str().is_some_and(|privilege| self.denied.contains(privilege)))
            }
            "re.tunnel.expose_port" => {
                let wanted = argument["port"].as_u64().unwrap_or_default();
                self.next_port += 1;
                json!({"remote_port": if wanted == 0 { self.next_port } else { wanted }})
            }
            "reswarm.registry.run_gc" => json!({}),
            _ => Value::Null,
        };
        vec![answer]
    }

    /// Follows a state or port report. An app that was to be uninstalled and is reported so is forgotten; the one that is
    /// not there yet is reported so, too.
    fn learn(&mut self, report: &Value) {
        let key = report["app_key"].as_u64().unwrap_or_default();
        let stage = report["stage"].as_str().unwrap_or_default();
        let release = report["release_key"].as_u64().unwrap_or_default();
        let version = self.releases.get(&(key, release)).cloned();
        let Some(app) = self.app(key, stage) else { return };
        if let Some(ports) = report["ports"].as_array() {
            app.ports.clone_from(ports);
        }
        let Some(state) = report["state"].as_str() else { return };
        state.clone_into(&mut app.current);
        if report["updateStatus"] == "pending_remote_confirmation" {
            // Another one may be asked for by now.
            app.request_update &= app.new_release_key != release;
            app.release_key = release;
            app.present_version = version.unwrap_or_else(|| app.newest_version.clone());
        }
        if state == "UNINSTALLED" && app.target == state {
            self.apps.retain(|app| app.app_key != key || app.stage != stage);
        }
    }
}
