//! The `.flock` file: identity and credentials of the device (`wamp-and-rpc.md` section 8).
//!
//! [`Flock`] is the live configuration, plain data that its readers see as a whole. [`File`] is the document it came
//! from: it keeps what the agent does not know, and writes. The file's name is not looked at.
//!
//! **Invariant:** [`load()`] never writes, and a file that could not be read as a device's identity is never written to.

mod copy;
mod document;
mod file;
mod load;
#[cfg(test)]
mod tests;

use crate::secret::Secret;
use log::Level;

pub use document::Document;
pub use file::{File, SaveError, Saved};
pub use load::{Error, Loaded, load};

/// The live configuration of the device. `Debug` hides the secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flock {
    /// Name of the device, refreshed from the backend.
    pub name: String,
    /// CRA secret, registry password, tunnel proof.
    pub secret: Secret,
    /// `board.model`; `appliance` enables the registry's garbage collection.
    pub board_model: String,
    /// Part of the authid, refreshed from the backend. Never 0.
    pub swarm_key: u64,
    /// Part of the authid. Never 0.
    pub device_key: u64,
    /// Name of the project, refreshed from the backend.
    pub swarm_name: String,
    /// Part of the URIs. Never empty.
    pub serial_number: String,
    /// `authentication.key`, PEM; for the legacy endpoint only.
    pub authentication_key: Secret,
    /// `authentication.certificate`, PEM; for the legacy endpoint only.
    pub authentication_certificate: Secret,
    /// Owner of the project, refreshed from the backend.
    pub swarm_owner_name: String,
    /// URL of the router. Never empty.
    pub device_endpoint_url: String,
    /// `environment` as in the file; see [`Flock::environment`] for the one in force.
    pub environment: String,
    /// Registry of the apps' images, ends with `/`.
    pub docker_registry_url: String,
    /// Repository in that registry, ends with `/`.
    pub docker_main_repository: String,
    /// Set in appliance mode (tunnels, registry garbage collection).
    pub appliance_domain: String,
    /// Wins over `-remoteUpdateURL` if not empty.
    pub update_url: String,
}

/// What the backend says about the device (`reswarm.devices.read_device_metadata`). `None`: absent or null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `device_name`.
    pub device_name: Option<String>,
    /// `swarm_name`.
    pub swarm_name: Option<String>,
    /// `ownername`.
    pub owner_name: Option<String>,
    /// `swarm_key`, decoded by its caller; an undecodable one must not get here (1.12).
    pub swarm_key: u64,
}

/// What a refresh of the metadata did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// Nothing changed: nothing to write.
    Same,
    /// Names changed: write the file.
    Changed,
    /// The device belongs to another project: write the file, then drop the session, since its authid is fixed.
    Moved,
}

impl Flock {
    /// The authid of the device: `<swarm_key>-<device_key>`.
    pub fn authid(&self) -> String {
        format!("{}-{}", self.swarm_key, self.device_key)
    }

    /// Takes over what the backend says (1.12). A missing text keeps the old value, and so does a key of 0, which
    /// stands for a missing one.
    pub fn update_metadata(&mut self, metadata: Metadata) -> Refresh {
        let before = self.clone();
        self.name = metadata.device_name.unwrap_or_else(|| before.name.clone());
        self.swarm_name = metadata.swarm_name.unwrap_or_else(|| before.swarm_name.clone());
        self.swarm_owner_name = metadata.owner_name.unwrap_or_else(|| before.swarm_owner_name.clone());
        if metadata.swarm_key != 0 {
            self.swarm_key = metadata.swarm_key;
        }
        match () {
            () if self.swarm_key != before.swarm_key => Refresh::Moved,
            () if *self != before => Refresh::Changed,
            () => Refresh::Same,
        }
    }

    /// The environment in force (7.2): that of the file, else an explicit `-env`, else what the router's URL says.
    pub fn environment<'a>(&'a self, given: Option<&'a str>) -> &'a str {
        let by_url = |part: &str| self.device_endpoint_url.contains(part);
        match given {
            _ if !self.environment.is_empty() => &self.environment,
            Some(given) => given,
            None if by_url("datapods") => "test",
            None if by_url("record-evolution") || by_url("ironflock.com") => "production",
            None => "local",
        }
    }
}

/// Something to log about the file, known before the log is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How bad it is.
    pub level: Level,
    /// What to say; holds no secret.
    pub text: String,
}

impl Notice {
    fn new(level: Level, text: String) -> Notice {
        Notice { level, text }
    }
}
