//! One short function per call of the Engine: typed request in, the fields that we read out (`apps.md` 7.2).
//!
//! Pure data and request building; `Docker::call`, `fetch` and `stream` do the talking. The Engine writes `null` for
//! empty lists and maps, and fields come and go with versions: every field is optional and defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

pub mod build;
pub mod containers;
pub mod create;
pub mod images;
pub mod logs;
pub mod networks;
pub mod prune;
pub mod system;
pub mod volumes;

/// The empty JSON object, as the Engine writes members of a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// The `filters` of a list: all keys must match, and one of the values of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// No condition.
    pub fn none() -> Filters {
        Filters::default()
    }

    /// In addition, `key` (`label`, `name`, `reference`, `type`, ...) must match `value`, or one of its other values.
    pub fn with(mut self, key: &str, value: &str) -> Filters {
        self.0.entry(key.to_owned()).or_default().push(value.to_owned());
        self
    }

    /// Adds the filters to a request, if there are any.
    pub(super) fn apply(&self, request: super::http1::Request) -> super::http1::Request {
        if self.0.is_empty() {
            return request;
        }
        request.query("filters", &serde_json::to_string(self).expect("a map of strings is JSON"))
    }
}

/// The text of a refusal: `{"message": "..."}`, or whatever else there is, within reason.
pub(super) fn error_message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
    }
    serde_json::from_slice(body).map_or_else(
        |_| String::from_utf8_lossy(&body[..body.len().min(1024)]).trim().to_owned(),
        |refusal: Refusal| refusal.message,
    )
}

/// `null` is the default.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
