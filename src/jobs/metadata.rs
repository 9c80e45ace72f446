//! `get_agent_metadata`: what this agent is, and what is published for it (`wamp-and-rpc.md` 4.1).

use super::download;
use super::work::Work;
use crate::net::tls;
use crate::os::release::arch_and_variant;
use crate::release::{ARCH, VERSION};
use log::debug;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// For the list of published versions, all in all.
const DEADLINE: Duration = Duration::from_secs(10);
/// The list has five entries.
const LIMIT: u64 = 64 * 1024;
/// The tunnel client that goes with this agent.
const TUNNEL_VERSION: &str = "0.70.0";

impl Work<'_> {
    /// The dict of the answer; the keys about what is published are absent if that cannot be learnt.
    pub(super) fn agent_metadata(&self) -> Value {
        let (os, (arch, variant)) = (self.os(), arch_and_variant(ARCH));
        let mut metadata = json!({
            "os": os, "OSVersion": os, "arch": arch, "variant": variant, "version": VERSION,
            "serialNumber": self.settings.serial, "canUpdate": true, "tunnelCapable": false,
        });
        match self.published_version() {
            Ok(latest) => {
                metadata["latestVersion"] = json!(latest);
                metadata["latestAgentVersion"] = json!(latest);
                metadata["latestTunnelVersion"] = json!(TUNNEL_VERSION);
                metadata["hasLatest"] = json!(latest == VERSION);
            }
            Err(error) => debug!("published versions are not known: {error}"),
        }
        metadata
    }

    fn published_version(&self) -> Result<String, String> {
        let url = format!("{}/re-agent/availableVersions.json", self.settings.update_base.trim_end_matches('/'));
        let tls = tls::verified(tls::system_roots(), self.settings.time_floor).map_err(|error| error.to_string())?;
        let bytes = download::fetch(&url, LIMIT, DEADLINE, tls).map_err(|error| error.to_string())?;
        version_for(&bytes, &self.settings.device_env).ok_or_else(|| format!("{url} names no version"))
    }
}

/// The version for an environment, else the one for `all`; an empty one is none.
fn version_for(list: &[u8], environment: &str) -> Option<String> {
    let versions: Map<String, Value> = serde_json::from_slice(list).ok()?;
    let of = |key: &str| versions.get(key)?.as_str().map(str::trim).filter(|version| !version.is_empty());
    of(environment).or_else(|| of("all")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_of_the_environment_or_of_all() {
        let list = br#"{"production": "1.0.0", "test": "", "all": "0.9.0", "local": 1}"#;
        assert_eq!(version_for(list, "production").as_deref(), Some("1.0.0"));
        for environment in ["test", "local", "other"] {
            assert_eq!(version_for(list, environment).as_deref(), Some("0.9.0"), "{environment}");
        }
    }

    #[test]
    fn u2_what_is_no_list_of_versions_names_none() {
        for list in ["", "<html>not found</html>", "[]", "{}", r#"{"all": ""}"#, r#"{"all": null}"#] {
            assert_eq!(version_for(list.as_bytes(), "production"), None, "{list}");
        }
    }
}
