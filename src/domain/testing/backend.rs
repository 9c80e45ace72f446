//! The scripted backend: answers every call by itself, unless told otherwise.

use super::object;
use crate::domain::app::{AppKey, Stage};
use crate::domain::message::CallFailure;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A result of a call.
pub(in crate::domain) type Answer = Result<Vec<Value>, CallFailure>;

/// The backend.
#[derive(Debug, Default)]
pub(in crate::domain) struct Backend {
    /// What it wants of each app: the entries of its list.
    pub wanted: BTreeMap<AppKey, Map<String, Value>>,
    /// The list, if it is to say something else.
    pub list: Option<Answer>,
    /// Other answers, by the first word of the trace line; `None` stays silent.
    pub answers: BTreeMap<&'static str, Option<Answer>>,
    /// The arguments of the last call, by the same words.
    pub last: BTreeMap<&'static str, Vec<Value>>,
    /// State reports that it took, by app.
    pub told: BTreeMap<u64, Vec<String>>,
}

impl Backend {
    /// The kwargs of a request, remembered for the list.
    pub fn ask(&mut self, key: u64, target: &str, extra: Value) -> Map<String, Value> {
        let mut kwargs = object(json!({
            "app_key": key, "app_name": "Demo", "stage": "PROD", "target_state": target, "requestor_account_key": 42,
            "device_owner_account_key": 43, "release_key": 100, "new_release_key": 101, "present_version": "",
            "newest_version": "1.0.0", "request_update": false, "ports": [],
        }));
        if let Some(last) = self.wanted.get(&id(key, "PROD")) {
            kwargs.extend(
                last.iter().filter(|(name, _)| *name != "cancel_transition").map(|(k, v)| (k.clone(), v.clone())),
            );
            kwargs.insert("target_state".to_owned(), json!(target));
        }
        kwargs.extend(object(extra));
        let stage = kwargs["stage"].as_str().unwrap_or_default().to_owned();
        self.wanted.insert(id(key, &stage), kwargs.clone());
        kwargs
    }

    /// The line for the trace and the answer to a call.
    pub fn answer(&mut self, uri: &str, args: &[Value]) -> (Option<String>, Option<Answer>) {
        let first = args.first().cloned().unwrap_or_default();
        let text = |key: &str| first.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |key: &str| first.get(key).and_then(Value::as_u64).unwrap_or_default();
        let (word, line, default) = match uri {
            "reswarm.containers.update_app_on_device" if first.get("ports").is_some() => {
                ("ports", format!("{} ports {}", number("app_key"), ports(&first["ports"])), vec![json!(null)])
            }
            "reswarm.containers.update_app_on_device" => {
                let update = text("updateStatus");
                let space = if update.is_empty() { "" } else { " " };
                ("report", format!("{} {}{space}{update}", number("app_key"), text("state")), vec![json!(null)])
            }
            "reswarm.devices.read_device_metadata" => {
                ("metadata", "call metadata".to_owned(), vec![json!({"swarm_key": 2, "device_name": "box"})])
            }
            "reswarm.devices.get_app_cred_key" => ("key", format!("call key {args:?}"), vec![json!("cred-key")]),
            "reswarm.devices.update_device_status" => {
                ("status", format!("call status {}", text("status")), vec![json!({"reswarmBaseURL": "https://studio"})])
            }
            "reswarm.devices.update_device_architecture" => {
                ("architecture", format!("call architecture {}", text("arch")), vec![json!(null)])
            }
            "reswarm.containers.get_requested_app_states" => {
                let list: Vec<Value> = self.wanted.values().cloned().map(Value::Object).collect();
                ("list", "call list".to_owned(), vec![json!(list)])
            }
            "reswarm.containers.get_registry_token" => {
                ("token", format!("call token {}", number("callerID")), vec![json!("registry-token")])
            }
            "reswarm.devices.check_privilege" => (
                "privilege",
                format!("call privilege {} {}", text("privilege"), number("requestor_account_key")),
                vec![json!(true)],
            ),
            "wamp.subscription.match" => ("match", format!("call match {first}"), vec![json!(null)]),
            other => panic!("unknown call {other}"),
        };
        self.last.insert(word, args.to_vec());
        let answer = match (self.answers.get(word), &self.list) {
            (Some(scripted), _) => scripted.clone(),
            (None, Some(list)) if word == "list" => Some(list.clone()),
            _ => Some(Ok(default)),
        };
        if let ("report", Some(Ok(_))) = (word, &answer) {
            self.told.entry(number("app_key")).or_default().push(text("state"));
            if text("updateStatus") == "pending_remote_confirmation" {
                self.confirm(number("app_key"), number("release_key"));
            }
        }
        (Some(line), answer)
    }
}

impl Backend {
    /// An update was done. Release 101 is version 2.0.0 and so on.
    fn confirm(&mut self, key: u64, release: u64) {
        if let Some(wanted) = self.wanted.get_mut(&id(key, "PROD")) {
            wanted.insert("release_key".to_owned(), json!(release));
            wanted.insert("present_version".to_owned(), json!(format!("{}.0.0", release - 99)));
        }
    }
}

fn id(key: u64, stage: &str) -> AppKey {
    AppKey { key, stage: stage.parse().unwrap_or(Stage::Prod) }
}

fn ports(rules: &Value) -> String {
    let rule =
        |rule: &Value| format!("{}>{}", rule["port"], rule.get("host_port").map_or("-".to_owned(), Value::to_string));
    rules.as_array().map(|rules| rules.iter().map(rule).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}
