//! What the backend wants of one app: the builder of sync entries (`apps.md` 1.4) and of the keyword arguments of
//! `request_app_state` (recorded scene 04).

use super::flock::Identity;
use serde_json::{Map, Value, json};

/// An app on the device, as the backend's database has it.
#[derive(Debug, Clone, PartialEq)]
pub struct WantedApp {
    pub app_key: u64,
    pub name: String,
    pub stage: String,
    pub target: String,
    /// What the backend believes; its model follows the agent's reports.
    pub current: String,
    pub release_key: u64,
    pub new_release_key: u64,
    /// The version to publish.
    pub version: String,
    pub present_version: String,
    pub newest_version: String,
    pub request_update: bool,
    pub cancel_transition: bool,
    pub requestor: u64,
    pub owner: u64,
    pub environment: Map<String, Value>,
    pub environment_template: Map<String, Value>,
    pub ports: Vec<Value>,
    pub docker_compose: Option<Value>,
    pub new_docker_compose: Option<Value>,
    /// Further keys, and replacements of the ones above, in both forms (`app_cred_epoch`, `instance_key`, broken values).
    pub extra: Map<String, Value>,
}

impl WantedApp {
    /// A `PROD` app in version 1.0.0 that is to run and was never there.
    pub fn new(app_key: u64, name: &str) -> WantedApp {
        WantedApp {
            app_key,
            name: name.to_owned(),
            stage: "PROD".to_owned(),
            target: "RUNNING".to_owned(),
            current: "UNINSTALLED".to_owned(),
            release_key: 100,
            new_release_key: 100,
            version: "1.0.0".to_owned(),
            present_version: "1.0.0".to_owned(),
            newest_version: "1.0.0".to_owned(),
            request_update: false,
            cancel_transition: false,
            requestor: 42,
            owner: 42,
            environment: Map::new(),
            environment_template: Map::new(),
            ports: Vec::new(),
            docker_compose: None,
            new_docker_compose: None,
            extra: Map::new(),
        }
    }

    pub fn dev(mut self) -> WantedApp {
        self.stage = "DEV".to_owned();
        self
    }

    pub fn target(mut self, state: &str) -> WantedApp {
        self.target = state.to_owned();
        self
    }

    pub fn current(mut self, state: &str) -> WantedApp {
        self.current = state.to_owned();
        self
    }

    /// One version everywhere.
    pub fn version(mut self, version: &str) -> WantedApp {
        for field in [&mut self.version, &mut self.present_version, &mut self.newest_version] {
            version.clone_into(field);
        }
        self
    }

    /// Another version and release are the newest; `request_update` asks for them.
    pub fn update_to(mut self, version: &str, release_key: u64) -> WantedApp {
        version.clone_into(&mut self.newest_version);
        self.new_release_key = release_key;
        self.request_update = true;
        self
    }

    pub fn cancel(mut self) -> WantedApp {
        self.cancel_transition = true;
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> WantedApp {
        self.environment.insert(name.to_owned(), json!({"value": value}));
        self
    }

    /// A port rule without a tunnel; for others see [`WantedApp::rule`].
    pub fn port(self, port: u64, protocol: &str) -> WantedApp {
        let main = self.ports.is_empty();
        self.rule(json!({
            "main": main, "name": format!("p{port}"), "active": false, "public": false, "port": port,
            "protocol": protocol, "local_ip": "", "remote_port_environment": "", "remote_port": 0,
        }))
    }

    /// Any port rule.
    pub fn rule(mut self, rule: Value) -> WantedApp {
        self.ports.push(rule);
        self
    }

    pub fn compose(mut self, file: Value) -> WantedApp {
        self.docker_compose = Some(file);
        self
    }

    /// Any key, in both forms.
    pub fn with(mut self, key: &str, value: Value) -> WantedApp {
        self.extra.insert(key.to_owned(), value);
        self
    }

    /// The container's name: `<stage>_<app key>_<name>`, lower case.
    pub fn container(&self) -> String {
        format!("{}_{}_{}", self.stage, self.app_key, self.name).to_lowercase()
    }

    /// The image without registry and tag: `<stage>_<arch>_<app key>_<name>`, lower case.
    pub fn image(&self, arch: &str) -> String {
        format!("{}_{arch}_{}_{}", self.stage, self.app_key, self.name).to_lowercase()
    }

    /// The keyword arguments of `request_app_state`.
    pub fn request(&self) -> Map<String, Value> {
        let mut kwargs = self.shared();
        kwargs.extend(self.extra.clone());
        kwargs
    }

    /// The element of the answer of `get_requested_app_states`.
    pub fn sync_entry(&self, identity: &Identity) -> Value {
        let mut entry = self.shared();
        entry.insert("manually_requested_state".to_owned(), json!(self.target));
        entry.insert("device_key".to_owned(), json!(identity.device_key));
        entry.insert("swarm_key".to_owned(), json!(identity.swarm_key));
        entry.insert("serial_number".to_owned(), json!(identity.serial));
        entry.extend(self.extra.clone());
        Value::Object(entry)
    }

    fn shared(&self) -> Map<String, Value> {
        let shared = json!({
            "app_key": self.app_key,
            "app_name": self.name,
            "stage": self.stage,
            "target_state": self.target,
            "current_state": self.current,
            "requestor_account_key": self.requestor,
            "device_owner_account_key": self.owner,
            "release_key": self.release_key,
            "new_release_key": self.new_release_key,
            "version": self.version,
            "newest_version": self.newest_version,
            "present_version": self.present_version,
            "request_update": self.request_update,
            "cancel_transition": self.cancel_transition,
            "environment": self.environment,
            "environment_template": self.environment_template,
            "ports": self.ports,
        });
        let Value::Object(mut shared) = shared else { unreachable!("an object was written above") };
        for (key, file) in [("docker_compose", &self.docker_compose), ("new_docker_compose", &self.new_docker_compose)]
        {
            if let Some(file) = file {
                shared.insert(key.to_owned(), file.clone());
            }
        }
        shared
    }
}
