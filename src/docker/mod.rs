//! A client of the Docker Engine, by hand over its socket (`apps.md` 7). A library: it knows nothing of apps.
//!
//! [`Docker`] is a cheap value: an address, the negotiated API version, and the deadline and cancel token that its calls
//! obey. Calls block the calling thread and are in `endpoints/`, one short function each; a long one runs on a job's
//! thread. `http1` and `stream` are pure; `events` owns the only thread, `docker-events`.
//!
//! ```text
//! endpoints/* -> Docker::call / stream -> conn (deadline, cancel) -> socket
//!                                           |-> http1, stream (sans-IO)
//! ```
//!
//! **Invariant:** every call ends by its deadline or its [`Cancel`]; one that has neither cannot be written.

use std::env;
use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::cancel::Cancel;

pub mod address;
mod conn;
pub mod endpoints;
pub mod error;
pub mod events;
pub mod http1;
pub mod labels;
pub mod references;
#[cfg(test)]
mod scripted;
mod socket;
pub mod stream;

pub use address::Address;
pub use conn::MAX_ANSWER;
pub use endpoints::build::{BUILD_SILENCE, BuildSpec};
pub use endpoints::containers::{
    Condition, Container, ContainerSpec, ContainerSummary, Env, HostConfig, LogOptions, Logs, Mount, PortBinding,
    Removal, Started, Which,
};
pub use endpoints::create::{Device, RestartPolicy};
pub use endpoints::images::{Image, ImageSummary, Progress, RegistryAuth};
pub use endpoints::networks::Network;
pub use endpoints::prune::{Pruned, Unused};
pub use endpoints::system::{Info, Ping, Version};
pub use endpoints::volumes::Volume;
pub use endpoints::{Empty, Filters};
pub use error::Error;
pub use references::Reference;
pub use stream::{LogLine, Source};

use conn::{Deadline, Response};
use http1::Request;

/// The deadline of a call that asks for no other (`apps.md` 7.5).
pub const STANDARD_DEADLINE: Duration = Duration::from_secs(30);
/// How long a pull or push may go without a word (decision 29).
pub const NO_PROGRESS_DEADLINE: Duration = Duration::from_secs(600);
/// The highest API version that we speak. Engines from 29 on refuse clients below 1.44.
pub const MAX_VERSION: ApiVersion = ApiVersion { major: 1, minor: 52 };
/// What an Engine speaks that names no version.
const OLDEST_VERSION: ApiVersion = ApiVersion { major: 1, minor: 24 };

/// A version of the Engine's API, such as 1.41.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are what they are called")]
pub struct ApiVersion {
    pub major: u16,
    pub minor: u16,
}

impl ApiVersion {
    /// Reads `1.41`, also with a leading `v`.
    pub fn parse(text: &str) -> Option<ApiVersion> {
        let (major, minor) = text.strip_prefix('v').unwrap_or(text).split_once('.')?;
        Some(ApiVersion { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }

    fn pack(self) -> u32 {
        u32::from(self.major) << 16 | u32::from(self.minor)
    }

    fn unpack(packed: u32) -> ApiVersion {
        ApiVersion { major: (packed >> 16) as u16, minor: (packed & 0xFFFF) as u16 }
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A client. Clones share the negotiated version and may carry other deadlines and tokens.
#[derive(Clone, Debug)]
pub struct Docker {
    address: Arc<Address>,
    pinned: Option<ApiVersion>,
    /// 0 until negotiated, else [`ApiVersion::pack`].
    negotiated: Arc<AtomicU32>,
    deadline: Duration,
    cancel: Option<Cancel>,
}

impl Docker {
    /// A client as `DOCKER_HOST`, `DOCKER_TLS_VERIFY` and `DOCKER_API_VERSION` say. Connects to nobody yet.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn from_env() -> Result<Docker, Error> {
        let setting = |name| env::var(name).unwrap_or_default();
        let address = Address::from_setting(&setting("DOCKER_HOST"), &setting("DOCKER_TLS_VERIFY"))?;
        let docker = Docker::at(address);
        match setting("DOCKER_API_VERSION").as_str() {
            "" => Ok(docker),
            text => match ApiVersion::parse(text) {
                Some(version) => Ok(docker.pinned_to(version)),
                None => Err(Error::Settings(format!("DOCKER_API_VERSION {text:?} is no version"))),
            },
        }
    }

    /// A client of the Engine at `address`, with [`STANDARD_DEADLINE`].
    pub fn at(address: Address) -> Docker {
        Docker {
            address: Arc::new(address),
            pinned: None,
            negotiated: Arc::default(),
            deadline: STANDARD_DEADLINE,
            cancel: None,
        }
    }

    /// The same client, speaking `version` without negotiation.
    pub fn pinned_to(self, version: ApiVersion) -> Docker {
        Docker { pinned: Some(version), ..self }
    }

    /// The same Engine, with `deadline` for each call: until the whole answer is there, or the head of a stream.
    pub fn within(&self, deadline: Duration) -> Docker {
        Docker { deadline, ..self.clone() }
    }

    /// The same Engine; `cancel` ends each call, and each stream that one opened, with [`Error::Cancelled`]. A token
    /// ends the waits of one thread at a time.
    pub fn cancelled_by(&self, cancel: &Cancel) -> Docker {
        Docker { cancel: Some(cancel.clone()), ..self.clone() }
    }

    /// The deadline of each call.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Where the Engine is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The API version that calls use: pinned or negotiated, `None` before the first answer of the Engine.
    pub fn api_version(&self) -> Option<ApiVersion> {
        let negotiated = self.negotiated.load(Ordering::SeqCst);
        self.pinned.or_else(|| (negotiated != 0).then(|| ApiVersion::unpack(negotiated)))
    }

    /// Asks the Engine for its version and remembers the one to use. Calls do this by themselves the first time; asked
    /// for again when the Engine may have been replaced. If it fails nothing is remembered.
    ///
    /// # Errors
    /// Those of [`Docker::ping`].
    pub fn negotiate(&self) -> Result<ApiVersion, Error> {
        let ping = self.ping()?;
        let version = self.pinned.unwrap_or_else(|| ping.api_version.unwrap_or(OLDEST_VERSION).min(MAX_VERSION));
        self.negotiated.store(version.pack(), Ordering::SeqCst);
        Ok(version)
    }

    /// The path prefix of a versioned call.
    fn prefix(&self) -> Result<String, Error> {
        let version = self.api_version().map_or_else(|| self.negotiate(), Ok)?;
        Ok(format!("/v{version}"))
    }

    /// A call whose answer is collected: its status and body. Anything but 2xx and 304 is [`Error::Status`].
    fn call(&self, request: &Request) -> Result<(u16, Vec<u8>), Error> {
        let deadline = Deadline::after(self.deadline);
        let response = self.open(&self.prefix()?, request, deadline)?;
        let status = response.head.status;
        Ok((status, response.collect(deadline)?))
    }

    /// A call whose answer is JSON.
    fn fetch<T: DeserializeOwned>(&self, request: &Request) -> Result<T, Error> {
        Ok(serde_json::from_slice(&self.call(request)?.1)?)
    }

    /// A call whose answer is read piece by piece.
    fn stream(&self, request: &Request) -> Result<Response, Error> {
        self.open(&self.prefix()?, request, Deadline::after(self.deadline))
    }

    /// A call whose body is read from `body` as it is sent, and whose answer is read piece by piece. `silence` is the
    /// deadline of each piece that is sent, and of the answer's head.
    fn upload(&self, request: &Request, body: &mut dyn Read, silence: Duration) -> Result<Response, Error> {
        let (prefix, cancel) = (self.prefix()?, self.cancel.clone().unwrap_or_default());
        let response = conn::upload(&self.address, &prefix, request, body, silence, cancel)?;
        accepted(response, Deadline::after(silence))
    }

    fn open(&self, prefix: &str, request: &Request, deadline: Deadline) -> Result<Response, Error> {
        let cancel = self.cancel.clone().unwrap_or_default();
        accepted(conn::open(&self.address, prefix, request, deadline, cancel)?, deadline)
    }
}

/// The place where a refusal of the Engine becomes an error.
fn accepted(response: Response, deadline: Deadline) -> Result<Response, Error> {
    match response.head.status {
        101 | 200..300 | 304 => Ok(response),
        // The Engine redirects a path with dots or empty parts, that is a name that leads elsewhere: nothing is called that.
        300..400 => {
            let message = "invalid reference format: the name leads elsewhere".to_owned();
            Err(Error::Status { status: 404, message })
        }
        status => {
            let body = response.collect(deadline)?;
            Err(Error::Status { status, message: endpoints::error_message(&body) })
        }
    }
}
