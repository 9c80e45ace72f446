//! What can go wrong with a call to the Docker Engine, as plain data, and what it means.
//!
//! Classification goes by the HTTP status first and by the text second, since texts vary between engine versions
//! (`apps.md` 8).

use std::fmt;

use super::http1::Fault;

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// `DOCKER_HOST` or `DOCKER_API_VERSION` cannot be used; with the reason.
    Settings(String),
    /// Nobody listens on the socket, or the connection broke: the Engine is absent or restarting.
    Unreachable(String),
    /// The Engine did not answer (or made no progress) within the deadline of the call.
    Timeout,
    /// The call's [`Cancel`](crate::cancel::Cancel) ended it.
    Cancelled,
    /// What came is not the HTTP that we understand, or it ended in mid-answer.
    Http(Fault),
    /// The answer is no JSON of the expected shape.
    Json(String),
    /// The Engine refused: a status outside of 2xx, with the `message` of its body.
    Status {
        /// The HTTP status, 300 to 599.
        status: u16,
        /// The Engine's text.
        message: String,
    },
    /// What was to be sent could not be read.
    Source(String),
    /// A transfer was accepted and then reported this `error` in its progress stream.
    Transfer(String),
}

impl Error {
    /// The Engine's own words, empty if it said nothing.
    pub fn message(&self) -> &str {
        match self {
            Error::Status { message, .. } => message,
            Error::Transfer(text) => text,
            _ => "",
        }
    }

    /// The HTTP status with which the Engine refused.
    pub fn status(&self) -> Option<u16> {
        match self {
            Error::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    fn refused(&self, with: u16, text: &str) -> bool {
        self.status() == Some(with) && self.says(text)
    }

    fn says(&self, text: &str) -> bool {
        self.message().to_ascii_lowercase().contains(text)
    }

    /// The thing that the call is about does not exist (404), or will not in a moment ("dead or marked for removal").
    pub fn is_not_found(&self) -> bool {
        self.status() == Some(404) || (self.status().is_some() && self.says("dead or marked for removal"))
    }

    /// Creating needs an image that is not on the device, or a pull names one that the registry lacks.
    pub fn is_image_not_found(&self) -> bool {
        let absent = self.says("no such image") || self.says("manifest unknown") || self.says("not found: manifest");
        absent && matches!(self.status(), Some(404) | None)
    }

    /// Creating found the name taken by another container (409).
    pub fn is_name_in_use(&self) -> bool {
        self.refused(409, "is already in use by container")
    }

    /// Somebody else is removing the same container (409).
    pub fn is_removal_in_progress(&self) -> bool {
        self.refused(409, "is already in progress")
    }

    /// A build found no Dockerfile of the name that it was told.
    pub fn is_dockerfile_missing(&self) -> bool {
        self.says("cannot locate specified dockerfile")
    }

    /// A build found nothing in its Dockerfile.
    pub fn is_dockerfile_empty(&self) -> bool {
        self.says("the dockerfile (") && self.says("cannot be empty")
    }

    /// Removing a network that has containers (403), or a volume that a container has (409).
    pub fn is_in_use(&self) -> bool {
        self.refused(403, "has active endpoints")
            || self.refused(409, "has active endpoints")
            || self.refused(409, "volume is in use")
    }

    /// Starting failed since a host port is taken (`apps.md` 4.3).
    pub fn is_port_conflict(&self) -> bool {
        is_port_conflict(self.message())
    }

    /// The `nvidia` runtime or driver is what failed, not an app that merely carries the word in its name.
    pub fn is_nvidia_runtime(&self) -> bool {
        const SIGNS: [&str; 5] = [
            "unknown or invalid runtime name: nvidia",
            "unknown runtime specified nvidia",
            "nvidia-container-cli",
            "nvidia-container-runtime",
            "could not select device driver \"nvidia\"",
        ];
        SIGNS.iter().any(|sign| self.says(sign))
    }

    /// The Engine is not there or not answering, as opposed to having refused: worth another try later.
    pub fn is_engine_down(&self) -> bool {
        matches!(self, Error::Unreachable(_) | Error::Timeout | Error::Http(Fault::Truncated))
    }
}

/// Whether a text of the Engine or of the compose CLI complains about a taken host port.
pub fn is_port_conflict(text: &str) -> bool {
    text.contains("port is already allocated") || text.contains("address already in use")
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Settings(reason) => write!(f, "docker settings: {reason}"),
            Error::Unreachable(reason) => write!(f, "docker is not reachable: {reason}"),
            Error::Timeout => f.write_str("docker did not answer in time"),
            Error::Cancelled => f.write_str("cancelled"),
            Error::Http(fault) => write!(f, "docker's answer is broken: {fault}"),
            Error::Json(reason) => write!(f, "docker's answer has an unexpected shape: {reason}"),
            Error::Status { status, message } if message.is_empty() => {
                write!(f, "docker answered with status {status}")
            }
            Error::Status { message, .. } => f.write_str(message),
            Error::Source(reason) => write!(f, "what was to be sent cannot be read: {reason}"),
            Error::Transfer(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for Error {}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Error {
        Error::Http(fault)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::Json(error.to_string())
    }
}
