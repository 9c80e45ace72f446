//! The Engine itself: ping, version, info.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::nullable;
use crate::docker::conn::Deadline;
use crate::docker::http1::{Head, Method, Request};
use crate::docker::{ApiVersion, Docker, Error};

/// The answer to a ping: what its headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ping {
    /// The highest API version of the Engine, if it names one.
    pub api_version: Option<ApiVersion>,
    /// The operating system of its containers (`linux`).
    pub os: String,
}

/// What the Engine is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Version {
    /// Such as `20.10.24`.
    #[serde(deserialize_with = "nullable")]
    pub version: String,
    /// The highest API version, such as `1.41`.
    #[serde(deserialize_with = "nullable")]
    pub api_version: String,
}

/// How the Engine is set up.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Info {
    /// Where it keeps images and containers.
    #[serde(deserialize_with = "nullable")]
    pub docker_root_dir: String,
    /// Its OCI runtimes by name (`nvidia` among them?).
    #[serde(deserialize_with = "nullable")]
    pub runtimes: BTreeMap<String, Value>,
    /// Such as `20.10.24`.
    #[serde(deserialize_with = "nullable")]
    pub server_version: String,
    /// The storage driver, such as `overlay2`.
    #[serde(deserialize_with = "nullable")]
    pub driver: String,
    /// The operating system, such as `Debian GNU/Linux 12 (bookworm)`.
    #[serde(deserialize_with = "nullable")]
    pub operating_system: String,
    /// Such as `x86_64`.
    #[serde(deserialize_with = "nullable")]
    pub architecture: String,
    /// How many containers there are in all.
    pub containers: i64,
    /// How many of them run.
    pub containers_running: i64,
    /// How many images there are.
    pub images: i64,
}

impl Docker {
    /// `HEAD /_ping`, else `GET /_ping`: whether the Engine answers, and which API version it speaks.
    ///
    /// # Errors
    /// As every call: [`Error::Unreachable`], [`Error::Timeout`], [`Error::Cancelled`], [`Error::Http`],
    /// [`Error::Status`].
    pub fn ping(&self) -> Result<Ping, Error> {
        let deadline = Deadline::after(self.deadline);
        let head = match self.open("", &Request::new(Method::Head, "/_ping"), deadline) {
            // Engines before 1.40, and proxies in between, know the GET alone.
            Err(Error::Status { .. }) => self.open("", &Request::new(Method::Get, "/_ping"), deadline)?.head,
            answer => answer?.head,
        };
        let text = |head: &Head, name| head.header(name).unwrap_or_default().to_owned();
        Ok(Ping { api_version: ApiVersion::parse(&text(&head, "api-version")), os: text(&head, "ostype") })
    }

    /// `GET /version`.
    ///
    /// # Errors
    /// As [`Docker::ping`]; [`Error::Json`].
    pub fn version(&self) -> Result<Version, Error> {
        self.fetch(&Request::new(Method::Get, "/version"))
    }

    /// `GET /info`. Touches the storage driver: of all calls the first that hangs when the Engine is stuck.
    ///
    /// # Errors
    /// As [`Docker::version`].
    pub fn info(&self) -> Result<Info, Error> {
        self.fetch(&Request::new(Method::Get, "/info"))
    }

    /// [`Docker::info`] as the Engine gives it.
    ///
    /// # Errors
    /// As [`Docker::version`].
    pub fn info_raw(&self) -> Result<Value, Error> {
        self.fetch(&Request::new(Method::Get, "/info"))
    }
}
