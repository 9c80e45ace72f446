//! Answers to RPCs that need the Engine or the system (`wamp-and-rpc.md` 4.1, 4.2, 4.3).

use super::work::{Failure, Work};
use crate::docker::{Error, Filters, Which};
use crate::domain::job::Query;
use crate::logs::excerpt::{self, Member, Window};
use crate::os::addresses;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use log::debug;
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;
use std::time::Duration;

/// For the list of images: a viewer waits for it.
const IMAGES_DEADLINE: Duration = Duration::from_secs(2);
/// What of an app's log helps where nothing is stored.
const TAIL: Window = Window { tail: 50, bytes: 256 * 1024, since: None, until: None, limit: Duration::from_secs(20) };

impl Work<'_> {
    /// The positional results of a query.
    pub(super) fn answer(&self, query: &Query) -> Result<Vec<Value>, Failure> {
        match query {
            Query::Containers => Ok(vec![self.docker.list_containers_raw(Which::All, &Filters::none())?]),
            Query::Images => {
                let docker = self.docker.within(self.docker.deadline().min(IMAGES_DEADLINE));
                Ok(images(&docker.list_images_raw(&Filters::none())?))
            }
            Query::Prune { all: true } => Ok(vec![json!(self.prune_everything()?)]),
            Query::Prune { all: false } => self.prune_untagged().map(|()| Vec::new()),
            Query::NetworkMetadata => {
                let of = |address: &addresses::Address| json!({"IP": address.ip.to_string(), "Mask": STANDARD.encode(address.mask_bytes())});
                Ok(all_addresses()?.iter().map(of).collect())
            }
            Query::Ipv4Addresses => {
                let found = all_addresses()?;
                let of = |(interface, ip): (&str, Ipv4Addr)| json!({"interfaceName": interface, "ip": ip.to_string()});
                Ok(vec![addresses::of_ipv4(&found).into_iter().map(of).collect()])
            }
            Query::AgentMetadata => Ok(vec![self.agent_metadata()]),
            Query::Tail { container, project, history } => {
                let mut lines = history.clone();
                match self.tail(container, project.as_deref()) {
                    Err(Error::Cancelled) => return Err(Error::Cancelled.into()),
                    // What is stored is an answer too.
                    Err(error) => debug!("{container}: only what is stored: {error}"),
                    Ok(more) => lines.extend(more),
                }
                Ok(vec![json!(lines)])
            }
        }
    }

    /// The last lines that a container wrote, or those of a project, as compose shows them.
    fn tail(&self, container: &str, project: Option<&str>) -> Result<Vec<String>, Error> {
        let members = match project {
            Some(project) => excerpt::members(&self.docker, project)?,
            None => {
                let found = self.docker.find_container(container)?;
                found.map(|found| Member::plain(&found)).into_iter().collect()
            }
        };
        let lines = excerpt::read(&self.docker, &members, &TAIL)?;
        Ok(excerpt::shown(&members, lines, excerpt::Line::text))
    }
}

fn all_addresses() -> Result<Vec<addresses::Address>, Failure> {
    addresses::all().map_err(|error| Failure::of("network interfaces", error))
}

/// One object per image with the names of the protocol; what is zero or empty is left out.
fn images(listed: &Value) -> Vec<Value> {
    const NAMES: [(&str, &str); 8] = [
        ("Created", "created"),
        ("Containers", "containers"),
        ("SharedSize", "sharedSize"),
        ("VirtualSize", "virtualSize"),
        ("Id", "id"),
        ("Labels", "labels"),
        ("Size", "size"),
        ("RepoTags", "repoTags"),
    ];
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) => false,
    };
    let one = |image: &Value| {
        let members = NAMES.into_iter().map(|(theirs, ours)| (ours.to_owned(), image[theirs].clone()));
        let mut kept = Map::new();
        kept.extend(members.filter(|(_, value)| !is_empty(value)));
        Value::Object(kept)
    };
    listed.as_array().map(|list| list.iter().map(one).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_the_names_of_the_protocol_and_nothing_that_is_empty() {
        let listed = json!([
            {"Id": "sha256:1", "RepoTags": ["a:1"], "Created": 12, "Size": 1000, "VirtualSize": 1000, "SharedSize": -1,
             "Labels": {"k": "v"}, "Containers": -1, "ParentId": "", "RepoDigests": null},
            {"Id": "sha256:2", "RepoTags": null, "Created": 0, "Size": 0, "SharedSize": 0, "Labels": {}, "Containers": 0},
        ]);
        let expected = json!([
            {"id": "sha256:1", "repoTags": ["a:1"], "created": 12, "size": 1000, "virtualSize": 1000, "sharedSize": -1,
             "labels": {"k": "v"}, "containers": -1},
            {"id": "sha256:2"},
        ]);
        assert_eq!(Value::Array(images(&listed)), expected);
        assert_eq!(images(&json!(null)), Vec::<Value>::new());
    }
}
