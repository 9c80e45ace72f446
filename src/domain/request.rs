//! What is wanted of an app: one plain value, made from the kwargs of `request_app_state`, from an entry of the backend's
//! list, or from the database row (apps chapter 1.2, 1.4, 6.1).

use super::app::{AppKey, AppState, Stage};
use super::number::{lenient, uint};
use crate::secret::Secret;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Login of one registry, sent with a request, never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// User name.
    pub username: String,
    /// Password.
    pub password: Secret,
}

/// Everything a transition needs to know about the wanted app. Absent values are 0, `""`, false, empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// App key, never 0 in an accepted request.
    pub app_key: u64,
    /// Name, case kept.
    pub app_name: String,
    /// Stage.
    pub stage: Stage,
    /// Wanted state, as sent; [`AppState::as_request`] is applied on acceptance.
    pub requested_state: AppState,
    /// What the backend believes.
    pub current_state: Option<AppState>,
    /// Account that asks.
    pub requestor_account_key: u64,
    /// Account that owns the device.
    pub device_owner_account_key: u64,
    /// Instance, 0 on cloud devices.
    pub instance_key: u64,
    /// Credential epoch, 0 if not sent.
    pub app_cred_epoch: u64,
    /// Name to `{"value": ...}`.
    pub environment: Map<String, Value>,
    /// Name to `{"defaultValue": ...}`.
    pub environment_template: Map<String, Value>,
    /// Present: a compose app.
    pub docker_compose: Option<Value>,
    /// Definition of the newest version.
    pub new_docker_compose: Option<Value>,
    /// Port rules, untyped; see [`super::ports::PortRule::list`].
    pub ports: Vec<Value>,
    /// Further registry logins.
    pub docker_credentials: BTreeMap<String, RegistryLogin>,
    /// Version to publish.
    pub version: String,
    /// Version on the device, as the backend knows it.
    pub present_version: String,
    /// Version to pull or update to.
    pub newest_version: String,
    /// Release of the present version.
    pub release_key: u64,
    /// Release of the newest version.
    pub new_release_key: u64,
    /// An update is wanted.
    pub request_update: bool,
    /// The running transition is to be cancelled.
    pub cancel_transition: bool,
}

impl Default for Request {
    fn default() -> Request {
        Request {
            app_key: 0,
            app_name: String::new(),
            stage: Stage::Prod,
            requested_state: AppState::Present,
            current_state: None,
            requestor_account_key: 0,
            device_owner_account_key: 0,
            instance_key: 0,
            app_cred_epoch: 0,
            environment: Map::new(),
            environment_template: Map::new(),
            docker_compose: None,
            new_docker_compose: None,
            ports: Vec::new(),
            docker_credentials: BTreeMap::new(),
            version: String::new(),
            present_version: String::new(),
            newest_version: String::new(),
            release_key: 0,
            new_release_key: 0,
            request_update: false,
            cancel_transition: false,
        }
    }
}

impl Request {
    /// Identity of the app.
    pub fn id(&self) -> AppKey {
        AppKey { key: self.app_key, stage: self.stage }
    }

    /// Whether it is a compose app.
    pub fn is_compose(&self) -> bool {
        self.docker_compose.is_some()
    }

    /// Whether a release other than `installed` is wanted (2.4 gate 2).
    pub fn wants_update_from(&self, installed: &str) -> bool {
        self.request_update
            && !self.newest_version.is_empty()
            && self.newest_version != installed
            && !self.requested_state.is_gone()
    }

    /// Whose registry token serves it (4.6).
    pub fn token_account(&self) -> u64 {
        match (self.stage, self.device_owner_account_key) {
            (Stage::Dev, _) | (_, 0) => self.requestor_account_key,
            (Stage::Prod, owner) => owner,
        }
    }

    /// Reads the kwargs of `request_app_state`, in table order; the first fault is the answer.
    ///
    /// # Errors
    /// The text for the caller, `failed to parse <label>` or `missing from payload <label>`.
    pub fn from_kwargs(kwargs: &Map<String, Value>) -> Result<Request, String> {
        let fields = Fields(kwargs);
        let app_key = fields.get("app_key").map_or(Some(0), uint).ok_or("failed to parse app_key")?;
        if app_key == 0 {
            return Err("missing from payload app_key".to_owned());
        }
        let app_name = fields.text("app_name", "appName")?;
        if app_name.is_empty() {
            return Err("failed to parse appName".to_owned());
        }
        let stage = fields.text("stage", "stage")?;
        if stage.is_empty() {
            return Err("missing from payload stage".to_owned());
        }
        let stage = stage.parse().map_err(|()| "failed to parse stage")?;
        let target = fields.text("target_state", "requestedState")?;
        let manual = fields.text("manually_requested_state", "manuallyRequestedState")?;
        let current = fields.text("current_state", "currentState")?;
        let state = fields.text("state", "currentState2")?;
        let requestor = fields.account("requestor_account_key", "requestorAccountKey")?;
        let account = fields.account("account_id", "requestorAccountKey2")?;
        let device_owner_account_key = fields.account("device_owner_account_key", "deviceOwnerAccountKey")?;
        let instance_key = fields.get("instance_key").and_then(lenient).unwrap_or(0);
        let app_cred_epoch = fields.get("app_cred_epoch").and_then(lenient).unwrap_or(0);
        let release_key = fields.account("release_key", "releaseKeyString")?;
        let new_release_key =
            fields.get("new_release_key").map_or(Some(0), uint).ok_or("failed to parse newReleaseKey")?;
        let version = fields.text("version", "version")?;
        let newest_version = fields.text("newest_version", "newestVersion")?;
        let present_version = fields.text("present_version", "presentVersion")?;
        let request_update = fields.flag("request_update", "requestUpdate")?;
        let cancel_transition = fields.flag("cancel_transition", "cancelTransition")?;
        let environment = fields.dict("environment", "environment")?.unwrap_or_default();
        let environment_template = fields.dict("environment_template", "environment template")?.unwrap_or_default();
        let ports = match fields.get("ports") {
            None => Vec::new(),
            Some(Value::Array(list)) => list.clone(),
            Some(_) => return Err("failed to parse ports".to_owned()),
        };
        let docker_compose = fields.dict("docker_compose", "docker compose")?.map(Value::Object);
        let new_docker_compose = fields.dict("new_docker_compose", "new docker compose")?.map(Value::Object);
        let docker_credentials = fields.logins()?;
        let wanted = if target.is_empty() { &manual } else { &target };
        if wanted.is_empty() {
            return Err("missing from payload requestedState".to_owned());
        }
        let believed = if current.is_empty() { &state } else { &current };
        Ok(Request {
            app_key,
            app_name,
            stage,
            requested_state: wanted.parse().map_err(|()| "failed to parse requestedState")?,
            current_state: match believed.as_str() {
                "" => None,
                text => Some(text.parse().map_err(|()| "failed to parse currentState")?),
            },
            requestor_account_key: if requestor == 0 { account } else { requestor },
            device_owner_account_key,
            instance_key,
            app_cred_epoch,
            environment,
            environment_template,
            docker_compose,
            new_docker_compose,
            ports,
            docker_credentials,
            version,
            present_version,
            newest_version,
            release_key,
            new_release_key,
            request_update,
            cancel_transition,
        })
    }

    /// Reads one entry of the backend's list: lenient in every field but its identity and the wanted state.
    ///
    /// # Errors
    /// Why the entry cannot be used. Then nothing may be deleted in this run (decision 21).
    pub fn from_sync(entry: &Value) -> Result<Request, String> {
        let fields = Fields(entry.as_object().ok_or("not an object")?);
        let number = |key| fields.get(key).and_then(lenient).unwrap_or(0);
        let text = |key| fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let dict = |key| fields.get(key).and_then(Value::as_object).cloned();
        let app_key = number("app_key");
        let app_name = text("app_name");
        if app_key == 0 {
            return Err("without an app_key".to_owned());
        }
        if app_name.is_empty() {
            return Err(format!("app {app_key}: without a name"));
        }
        let stage: Stage = text("stage").parse().map_err(|()| format!("app {app_key}: without a stage"))?;
        let wanted = text("target_state");
        let requested_state = wanted.parse().map_err(|()| format!("app {app_key}: unknown target state {wanted:?}"))?;
        Ok(Request {
            app_key,
            app_name,
            stage,
            requested_state,
            current_state: text("current_state").parse().ok(),
            requestor_account_key: number("requestor_account_key"),
            device_owner_account_key: number("device_owner_account_key"),
            instance_key: number("instance_key"),
            app_cred_epoch: number("app_cred_epoch"),
            environment: dict("environment").unwrap_or_default(),
            environment_template: dict("environment_template").unwrap_or_default(),
            docker_compose: dict("docker_compose").map(Value::Object),
            new_docker_compose: dict("new_docker_compose").map(Value::Object),
            ports: fields.get("ports").and_then(Value::as_array).cloned().unwrap_or_default(),
            docker_credentials: BTreeMap::new(),
            version: text("present_version"),
            present_version: text("present_version"),
            newest_version: text("newest_version"),
            release_key: number("release_key"),
            new_release_key: number("new_release_key"),
            request_update: fields.get("request_update").and_then(Value::as_bool).unwrap_or(false),
            cancel_transition: false,
        })
    }
}

/// Named arguments; null counts as absent.
struct Fields<'a>(&'a Map<String, Value>);

impl Fields<'_> {
    fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    fn text(&self, key: &str, label: &str) -> Result<String, String> {
        match self.get(key) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(_) => Err(format!("failed to parse {label}")),
        }
    }

    fn flag(&self, key: &str, label: &str) -> Result<bool, String> {
        self.get(key).map_or(Some(false), Value::as_bool).ok_or_else(|| format!("failed to parse {label}"))
    }

    fn dict(&self, key: &str, label: &str) -> Result<Option<Map<String, Value>>, String> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map.clone())),
            Some(_) => Err(format!("failed to parse {label}")),
        }
    }

    /// `UINT/S`: a text of other than digits is named as it came.
    fn account(&self, key: &str, label: &str) -> Result<u64, String> {
        match self.get(key) {
            None => Ok(0),
            Some(Value::String(text)) => {
                super::number::digits(text).ok_or_else(|| format!("{key}: {text:?} is not a number"))
            }
            Some(value) => uint(value).ok_or_else(|| format!("failed to parse {label}")),
        }
    }

    fn logins(&self) -> Result<BTreeMap<String, RegistryLogin>, String> {
        let fault = || "failed to parse docker credentials".to_owned();
        let Some(map) = self.dict("docker_credentials", "docker credentials")? else { return Ok(BTreeMap::new()) };
        let mut logins = BTreeMap::new();
        for (registry, entry) in map {
            let part = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(fault);
            let login = RegistryLogin { username: part("username")?, password: Secret::new(part("password")?) };
            logins.insert(registry, login);
        }
        Ok(logins)
    }
}

#[cfg(test)]
#[path = "request/tests.rs"]
mod tests;
