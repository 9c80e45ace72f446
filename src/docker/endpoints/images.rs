//! Images: list, inspect, remove, tag, pull, push.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::containers::Removal;
use super::{Filters, nullable};
use crate::docker::conn::{Deadline, Response};
use crate::docker::http1::{Method, Request, path};
use crate::docker::references::Reference;
use crate::docker::stream::LineSplitter;
use crate::docker::{Docker, Error, NO_PROGRESS_DEADLINE};
use crate::secret::Secret;

/// An image as a list shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// `sha256:...`.
    pub id: String,
    /// `name:tag`; `<none>:<none>` for a dangling one on old Engines, else empty.
    #[serde(deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    /// `name@digest` of what was pulled or pushed.
    #[serde(deserialize_with = "nullable")]
    pub repo_digests: Vec<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// In bytes.
    pub size: i64,
    /// Its labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// An image as inspection shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Image {
    /// `sha256:...`.
    pub id: String,
    /// `name:tag`.
    #[serde(deserialize_with = "nullable")]
    pub repo_tags: Vec<String>,
    /// `name@digest`.
    #[serde(deserialize_with = "nullable")]
    pub repo_digests: Vec<String>,
    /// RFC 3339; empty if unknown.
    #[serde(deserialize_with = "nullable")]
    pub created: String,
    /// In bytes.
    pub size: i64,
    /// Such as `amd64`.
    #[serde(deserialize_with = "nullable")]
    pub architecture: String,
}

/// Who pulls or pushes. The default is nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistryAuth {
    /// The user, which may be a token.
    pub username: Secret,
    /// The password or token.
    pub password: Secret,
}

/// What the Engine reads of a [`RegistryAuth`].
#[derive(Serialize)]
pub(super) struct PlainAuth<'a> {
    username: &'a str,
    password: &'a str,
}

impl RegistryAuth {
    pub(super) fn plain(&self) -> PlainAuth<'_> {
        PlainAuth { username: self.username.reveal(), password: self.password.reveal() }
    }

    /// The value of `X-Registry-Auth` (`apps.md` 4.6).
    fn header(&self) -> String {
        header_value(&self.plain())
    }
}

/// JSON as URL-safe base64 with padding.
pub(super) fn header_value(value: &impl Serialize) -> String {
    URL_SAFE.encode(serde_json::to_vec(value).expect("strings are JSON"))
}

fn list_request(filters: &Filters) -> Request {
    filters.apply(Request::new(Method::Get, "/images/json"))
}

/// Errors of all calls: [`Error::Unreachable`], [`Error::Timeout`], [`Error::Cancelled`], [`Error::Http`],
/// [`Error::Json`], [`Error::Status`]. An unknown image is [`Error::is_not_found`].
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Docker {
    /// `GET /images/json`. The filter `reference` without a tag matches all tags of the repository.
    pub fn list_images(&self, filters: &Filters) -> Result<Vec<ImageSummary>, Error> {
        self.fetch(&list_request(filters))
    }

    /// [`Docker::list_images`] as the Engine gives it: an array.
    pub fn list_images_raw(&self, filters: &Filters) -> Result<Value, Error> {
        self.fetch(&list_request(filters))
    }

    /// `GET /images/{reference}/json`.
    pub fn inspect_image(&self, reference: &str) -> Result<Image, Error> {
        self.fetch(&Request::new(Method::Get, format!("/images/{}/json", path(reference))))
    }

    /// `DELETE /images/{reference}`; layers below that have no tag stay (`noprune`). 409 if a container needs it.
    pub fn remove_image(&self, reference: &str, how: Removal) -> Result<(), Error> {
        let request = Request::new(Method::Delete, format!("/images/{}", path(reference)));
        self.call(&how.apply(request).query("noprune", "1")).map(drop)
    }

    /// `POST /images/create`: pulls `reference` (no tag: `latest`). The Engine works while the [`Progress`] is read and
    /// stops when it is dropped or the call's token is cancelled. The deadline of the call does not count: a pull has
    /// none but [`NO_PROGRESS_DEADLINE`] (decision 29), for its head too.
    pub fn pull_image(&self, reference: &Reference, auth: &RegistryAuth) -> Result<Progress, Error> {
        let request = Request::new(Method::Post, "/images/create")
            .query("fromImage", &reference.name)
            .query("tag", reference.pull_tag())
            .header("X-Registry-Auth", auth.header());
        self.transfer(&request)
    }

    /// `POST /images/{name}/push`: pushes one tag. As [`Docker::pull_image`] otherwise.
    pub fn push_image(&self, reference: &Reference, auth: &RegistryAuth) -> Result<Progress, Error> {
        let request = Request::new(Method::Post, format!("/images/{}/push", path(&reference.name)))
            .query("tag", reference.tag.as_deref().unwrap_or("latest"))
            .header("X-Registry-Auth", auth.header());
        self.transfer(&request)
    }

    /// `POST /images/{source}/tag`: another reference for an image of the device.
    pub fn tag_image(&self, source: &str, reference: &Reference) -> Result<(), Error> {
        let request = Request::new(Method::Post, format!("/images/{}/tag", path(source)))
            .query("repo", &reference.name)
            .query("tag", reference.tag.as_deref().unwrap_or("latest"));
        self.call(&request).map(drop)
    }

    /// A call that answers with progress records.
    fn transfer(&self, request: &Request) -> Result<Progress, Error> {
        self.prefix()?;
        Ok(Progress::new(self.within(NO_PROGRESS_DEADLINE).stream(request)?, NO_PROGRESS_DEADLINE))
    }
}

/// The progress of a pull, push or build: JSON records as text. Its end tells whether it succeeded.
#[derive(Debug)]
pub struct Progress {
    response: Response,
    silence: Duration,
    splitter: LineSplitter,
    lines: VecDeque<String>,
    bytes: Vec<u8>,
    ended: bool,
    failure: Option<String>,
}

impl Progress {
    pub(super) fn new(response: Response, silence: Duration) -> Progress {
        Progress {
            response,
            silence,
            splitter: LineSplitter::default(),
            lines: VecDeque::new(),
            bytes: Vec::new(),
            ended: false,
            failure: None,
        }
    }

    /// The next record, such as `{"status":"Pulling fs layer","id":"a3ed95caeb02"}`; `None` when all went well.
    ///
    /// # Errors
    /// At the end [`Error::Transfer`] if a record had a non-empty `error` (the record itself was given out);
    /// [`Error::Timeout`] without a record for the no-progress deadline, [`Error::Cancelled`], [`Error::Unreachable`],
    /// [`Error::Http`]. All of them are final.
    pub fn next_record(&mut self) -> Result<Option<String>, Error> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                self.failure = self.failure.take().or_else(|| error_of(&line));
                return Ok(Some(line));
            }
            if self.ended {
                return self.failure.clone().map_or(Ok(None), |text| Err(Error::Transfer(text)));
            }
            self.bytes.clear();
            let lines = &mut self.lines;
            let keep = |line: String| {
                if !line.trim().is_empty() {
                    lines.push_back(line);
                }
            };
            if self.response.read(&mut self.bytes, Deadline::after(self.silence))? {
                self.splitter.feed(&self.bytes, keep);
            } else {
                self.ended = true;
                self.splitter.finish(keep);
            }
        }
    }

    /// Reads to the end and judges it.
    ///
    /// # Errors
    /// As [`Progress::next_record`].
    pub fn finish(mut self) -> Result<(), Error> {
        while self.next_record()?.is_some() {}
        Ok(())
    }
}

/// The non-empty `error` of a record, if it has one.
fn error_of(record: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Record {
        #[serde(default, deserialize_with = "nullable")]
        error: String,
    }
    serde_json::from_str(record).ok().map(|record: Record| record.error).filter(|error| !error.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_header_is_url_safe_base64_with_padding_of_lower_case_keys() {
        let auth = RegistryAuth { username: Secret::new("7"), password: Secret::new("a?>b~~") };
        let header = auth.header();
        let plain = String::from_utf8(URL_SAFE.decode(&header).unwrap()).unwrap();
        assert_eq!(plain, r#"{"username":"7","password":"a?>b~~"}"#);
        assert!(header.contains(['-', '_']) && header.len().is_multiple_of(4), "{header}");
        assert_eq!(URL_SAFE.decode(RegistryAuth::default().header()).unwrap(), br#"{"username":"","password":""}"#);
    }

    #[test]
    fn only_a_record_with_a_non_empty_error_is_a_failure() {
        assert_eq!(error_of(r#"{"errorDetail":{"message":"m"},"error":"no such"}"#), Some("no such".to_owned()));
        for fine in [r#"{"error":""}"#, r#"{"error":null}"#, r#"{"status":"error"}"#, "error", "[]"] {
            assert_eq!(error_of(fine), None, "{fine}");
        }
    }
}
