//! What the agent's calls and the app's log mean, as lines for the screen. Pure.

use super::screen::Kind;
use crate::cloud::backend::Call;
use crate::cloud::peer::Payload;
use serde_json::Value;
use std::collections::BTreeMap;

/// What to show.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// A line.
    Line(Kind, String),
    /// So many bytes of a pull are there.
    Progress { current: u64, total: u64 },
    /// A pull is over.
    Pulled(String),
}

/// What is known so far of one device and its one app.
#[derive(Debug, Default)]
pub struct Story {
    status: String,
    /// The app's last reported state.
    pub state: String,
    /// Where the app's web port is on the host.
    pub host_port: Option<u16>,
    /// Bytes that are there, and bytes in all, by layer.
    layers: BTreeMap<String, (u64, u64)>,
}

impl Story {
    /// The device has said that it is connected.
    pub fn connected(&self) -> bool {
        self.status == "CONNECTED"
    }

    /// The agent's process has ended: what it said is not true any more.
    pub fn agent_died(&mut self) {
        self.status.clear();
    }

    /// A call of the agent.
    pub fn call(&mut self, call: &Call) -> Vec<Entry> {
        let argument = call.argument();
        if call.is("update_device_status") {
            let status = argument["status"].as_str().unwrap_or_default();
            if status == self.status {
                return Vec::new();
            }
            status.clone_into(&mut self.status);
            return vec![Entry::Line(Kind::Device, status.to_owned())];
        }
        if call.is("update_app_on_device") {
            if let Some(ports) = argument["ports"].as_array() {
                let port = ports.iter().find_map(|rule| rule["host_port"].as_f64());
                self.host_port = port.map(|port| port as u16).filter(|port| *port != 0);
            }
            let Some(state) = argument["state"].as_str() else { return Vec::new() };
            state.clone_into(&mut self.state);
            if state == "DOWNLOADING" {
                self.layers.clear();
            }
            return vec![Entry::Line(Kind::App, state.to_owned())];
        }
        let what = match call.procedure.rsplit('.').next().unwrap_or_default() {
            "read_device_metadata" => "asks for its name and project",
            "get_app_cred_key" => "asks for the key of the apps' credentials",
            "get_requested_app_states" => "asks which apps it shall run",
            "get_registry_token" => "asks for a token for the registry",
            "update_device_architecture" => "tells its architecture",
            other => other,
        };
        vec![Entry::Line(Kind::Call, what.to_owned())]
    }

    /// A publication on the app's log topic: text, `{"type", "chunk"}`, or Docker's progress records as text.
    pub fn log(&mut self, payload: &Payload) -> Vec<Entry> {
        let text = match payload.args.first() {
            Some(Value::String(text)) => text.as_str(),
            Some(Value::Object(map)) => map.get("chunk").and_then(Value::as_str).unwrap_or_default(),
            _ => return Vec::new(),
        };
        let lines = text.lines().filter(|line| !line.trim().is_empty() && *line != "LOGGER_CLEAR");
        let mut entries = Vec::new();
        for line in lines {
            match serde_json::from_str::<Value>(line) {
                Ok(record) if record["status"].is_string() => entries.extend(self.pull(&record)),
                _ => entries.push(Entry::Line(Kind::Log, line.to_owned())),
            }
        }
        entries
    }

    fn pull(&mut self, record: &Value) -> Option<Entry> {
        let status = record["status"].as_str()?;
        if let Some(outcome) = status.strip_prefix("Status: ") {
            return Some(Entry::Pulled(outcome.to_owned()));
        }
        let layer = record["id"].as_str()?;
        match status {
            "Downloading" => {
                let detail = &record["progressDetail"];
                self.layers.insert(layer.to_owned(), (detail["current"].as_u64()?, detail["total"].as_u64()?));
            }
            "Download complete" | "Pull complete" => {
                let (current, total) = self.layers.get_mut(layer)?;
                *current = *total;
            }
            _ => return None,
        }
        let (current, total) = self.layers.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        Some(Entry::Progress { current, total })
    }
}
