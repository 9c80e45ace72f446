//! Containers: list, inspect, start, stop, wait, remove. Creating and logs have files of their own.

use crate::sorted::IntoSorted;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{Filters, nullable};
use crate::docker::http1::{Method, Request, segment};
use crate::docker::{Docker, Error};

pub use super::create::{ContainerSpec, Env, HostConfig, Mount, PortBinding};
pub use super::logs::{LogOptions, Logs};

/// Which containers to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that run.
    Running,
    /// All of them.
    All,
}

/// A container as a list shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    /// The full id.
    pub id: String,
    /// Its names, each with a slash in front; see [`ContainerSummary::name`].
    #[serde(deserialize_with = "nullable")]
    pub names: Vec<String>,
    /// The image reference it was made from.
    #[serde(deserialize_with = "nullable")]
    pub image: String,
    /// The id of that image.
    #[serde(rename = "ImageID", deserialize_with = "nullable")]
    pub image_id: String,
    /// Seconds since 1970.
    pub created: i64,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    #[serde(deserialize_with = "nullable")]
    pub state: String,
    /// For people: `Exited (137) 2 minutes ago`.
    #[serde(deserialize_with = "nullable")]
    pub status: String,
    /// Its labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Its ports, exposed and published.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<Port>,
    /// The network mode.
    #[serde(deserialize_with = "nullable")]
    pub host_config: ListedHostConfig,
}

impl ContainerSummary {
    /// Its own name, without the slash: links add names with a second one.
    pub fn name(&self) -> &str {
        let own = self.names.iter().filter_map(|name| name.strip_prefix('/'));
        own.min_by_key(|name| name.contains('/')).unwrap_or_default()
    }
}

/// The part of the host configuration that a list has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListedHostConfig {
    /// Such as `bridge`, `host`, `<network name>`.
    #[serde(deserialize_with = "nullable")]
    pub network_mode: String,
}

/// A port in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Port {
    /// The container's port.
    pub private_port: u16,
    /// The host's; 0 if it is not published.
    pub public_port: u16,
    /// `tcp`, `udp`, `sctp`; empty means `tcp`.
    #[serde(rename = "Type", deserialize_with = "nullable")]
    pub protocol: String,
    /// The host address of a published port.
    #[serde(rename = "IP", deserialize_with = "nullable")]
    pub ip: String,
}

/// A container as inspection shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// As the Engine gives it, with a slash in front; see [`Container::name`].
    #[serde(rename = "Name")]
    pub slash_name: String,
    /// The id of its image; the reference is in `config.image`.
    #[serde(deserialize_with = "nullable")]
    pub image: String,
    /// RFC 3339.
    #[serde(deserialize_with = "nullable")]
    pub created: String,
    /// How often the Engine restarted it.
    pub restart_count: i64,
    /// Where the Engine keeps its log, as the Engine sees the file system; empty with log drivers that keep none.
    #[serde(deserialize_with = "nullable")]
    pub log_path: String,
    /// What it is doing.
    pub state: State,
    /// What it was made with.
    pub config: Config,
    /// How it was made.
    pub host_config: InspectedHostConfig,
}

impl Container {
    /// The name, without the slash.
    pub fn name(&self) -> &str {
        self.slash_name.strip_prefix('/').unwrap_or(&self.slash_name)
    }
}

/// What a container is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`.
    pub status: String,
    /// Whether its process lives.
    pub running: bool,
    /// Of the last run; 0 before the first.
    pub exit_code: i64,
    /// Why the last start failed, if it did.
    #[serde(deserialize_with = "nullable")]
    pub error: String,
    /// Whether the kernel killed it for want of memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// The main process on the host; 0 if there is none.
    pub pid: i64,
    /// RFC 3339; `0001-01-01T00:00:00Z` if never.
    #[serde(deserialize_with = "nullable")]
    pub started_at: String,
    /// RFC 3339; `0001-01-01T00:00:00Z` if never.
    #[serde(deserialize_with = "nullable")]
    pub finished_at: String,
    /// Only with a HEALTHCHECK.
    pub health: Option<Health>,
}

/// What a HEALTHCHECK found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `none`, `starting`, `healthy`, `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: i64,
}

/// What a container was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    /// The image reference.
    pub image: String,
    /// `NAME=value`, the image's own included.
    #[serde(deserialize_with = "nullable")]
    pub env: Env,
    /// Labels, the image's own included.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Whether it has a terminal: its log is raw then, else framed.
    pub tty: bool,
}

/// How a container was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct InspectedHostConfig {
    /// By `<port>/<protocol>`; also filled while it is stopped.
    #[serde(deserialize_with = "nullable_bindings")]
    pub port_bindings: BTreeMap<String, Vec<PortBinding>>,
    /// `default` and empty mean `bridge`.
    #[serde(deserialize_with = "nullable")]
    pub network_mode: String,
    /// The OCI runtime.
    #[serde(deserialize_with = "nullable")]
    pub runtime: String,
    /// Whether it is privileged.
    pub privileged: bool,
    /// `type:source:target` of its bind mounts, if they were given in that form.
    #[serde(deserialize_with = "nullable")]
    pub binds: Vec<String>,
    /// `host:address`
    #[serde(deserialize_with = "nullable")]
    pub extra_hosts: Vec<String>,
}

/// The map may be null, and so may the list of each port.
fn nullable_bindings<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<PortBinding>>, D::Error> {
    let map: Option<BTreeMap<String, Option<Vec<PortBinding>>>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_iter().map(|(port, bindings)| (port, bindings.unwrap_or_default())).into_map())
}

/// What starting did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// It was started.
    Now,
    /// It ran already (304).
    Already,
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// That it does not run: at once if it does not.
    NotRunning,
    /// That it is gone. A container that is gone already is [`Error::is_not_found`].
    Removed,
}

/// How to remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Refused (409) while it runs or is in use.
    Gentle,
    /// Killed or untagged first.
    Force,
    /// As [`Removal::Force`]; a container takes its anonymous volumes along.
    WithVolumes,
}

impl Removal {
    /// Adds the wish to a request.
    pub(super) fn apply(self, request: Request) -> Request {
        match self {
            Removal::Gentle => request,
            Removal::Force => request.query("force", "1"),
            Removal::WithVolumes => request.query("force", "1").query("v", "1"),
        }
    }
}

/// A request about one container.
pub(super) fn of_container(method: Method, container: &str, what: &str) -> Request {
    Request::new(method, format!("/containers/{}{what}", segment(container)))
}

fn list_request(which: Which, filters: &Filters) -> Request {
    let request = Request::new(Method::Get, "/containers/json");
    filters.apply(if which == Which::All { request.query("all", "1") } else { request })
}

/// Errors of all calls: [`Error::Unreachable`], [`Error::Timeout`], [`Error::Cancelled`], [`Error::Http`],
/// [`Error::Json`], [`Error::Status`]. An unknown container is [`Error::is_not_found`]. Containers are named by id or name.
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Docker {
    /// `GET /containers/json`. The filter `name` is an unanchored pattern: see [`Docker::find_container`].
    pub fn list_containers(&self, which: Which, filters: &Filters) -> Result<Vec<ContainerSummary>, Error> {
        self.fetch(&list_request(which, filters))
    }

    /// [`Docker::list_containers`] as the Engine gives it: an array.
    pub fn list_containers_raw(&self, which: Which, filters: &Filters) -> Result<Value, Error> {
        self.fetch(&list_request(which, filters))
    }

    /// `GET /containers/{id or name}/json`. The Engine also takes the start of an id.
    pub fn inspect_container(&self, container: &str) -> Result<Container, Error> {
        self.fetch(&of_container(Method::Get, container, "/json"))
    }

    /// The container called exactly `name`, if there is one: not one whose id starts like that.
    pub fn find_container(&self, name: &str) -> Result<Option<Container>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        match self.inspect_container(name) {
            Ok(container) => Ok(Some(container).filter(|container| container.name() == name)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// `POST /containers/{id}/start`.
    pub fn start_container(&self, container: &str) -> Result<Started, Error> {
        let (status, _) = self.call(&of_container(Method::Post, container, "/start"))?;
        Ok(if status == 304 { Started::Already } else { Started::Now })
    }

    /// `POST /containers/{id}/stop`: TERM, and KILL after `grace` (whole seconds). One that does not run is a success.
    /// The deadline of the call begins after the grace.
    pub fn stop_container(&self, container: &str, grace: Duration) -> Result<(), Error> {
        let request = of_container(Method::Post, container, "/stop").query("t", &grace.as_secs().to_string());
        self.within(self.deadline.saturating_add(grace)).call(&request).map(drop)
    }

    /// `POST /containers/{id}/wait`: waits, up to the deadline, and returns the exit code.
    pub fn wait_container(&self, container: &str, until: Condition) -> Result<i64, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Waited {
            status_code: i64,
        }
        let condition = match until {
            Condition::NotRunning => "not-running",
            Condition::Removed => "removed",
        };
        let waited: Waited =
            self.fetch(&of_container(Method::Post, container, "/wait").query("condition", condition))?;
        Ok(waited.status_code)
    }

    /// `DELETE /containers/{id or name}`. Anonymous volumes stay, but for [`Removal::WithVolumes`].
    pub fn remove_container(&self, container: &str, how: Removal) -> Result<(), Error> {
        // Without a name the path would be another one.
        if container.is_empty() {
            return Err(Error::Status { status: 404, message: "no container is named".into() });
        }
        self.call(&how.apply(of_container(Method::Delete, container, ""))).map(drop)
    }

    /// `POST /containers/{id}/rename`. See [`Error::is_name_in_use`].
    pub fn rename_container(&self, container: &str, name: &str) -> Result<(), Error> {
        self.call(&of_container(Method::Post, container, "/rename").query("name", name)).map(drop)
    }

    /// `POST /containers/create`: the id of the new container. See [`Error::is_image_not_found`] and
    /// [`Error::is_name_in_use`].
    pub fn create_container(&self, name: &str, spec: &ContainerSpec) -> Result<String, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Created {
            id: String,
        }
        let request = Request::new(Method::Post, "/containers/create").query("name", name);
        let created: Created = self.fetch(&request.json(serde_json::to_vec(spec)?))?;
        Ok(created.id)
    }

    /// `GET /containers/{id or name}/logs`: a reader of lines. Reading goes on after the deadline of the call, which is
    /// for the head alone.
    pub fn container_logs(&self, container: &str, options: &LogOptions) -> Result<Logs, Error> {
        let response = self.stream(&options.apply(of_container(Method::Get, container, "/logs")))?;
        Ok(Logs::new(response, options.tty))
    }
}

#[cfg(test)]
mod tests;
