//! Removing what nobody uses: the calls behind `docker image prune` and `docker system prune`.

use serde::Deserialize;

use super::{Filters, nullable};
use crate::docker::http1::{Method, Request};
use crate::docker::{Docker, Error};

/// A kind of thing that may be unused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unused {
    /// Containers that do not run.
    Containers,
    /// Networks without a container.
    Networks,
    /// Anonymous volumes without a container; before API 1.42 named ones too.
    Volumes,
    /// Images that have no tag.
    UntaggedImages,
    /// Images without a container.
    Images,
    /// All of the build cache.
    BuildCache,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Ids and names; of images `untagged: <reference>` and `deleted: <id>`.
    pub removed: Vec<String>,
    /// In bytes.
    pub reclaimed: u64,
}

/// The answers of all five calls; each fills its own list.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Answer {
    #[serde(deserialize_with = "nullable")]
    containers_deleted: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    networks_deleted: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    volumes_deleted: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    images_deleted: Vec<ImageDeleted>,
    #[serde(deserialize_with = "nullable")]
    caches_deleted: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    space_reclaimed: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
enum ImageDeleted {
    Untagged(String),
    Deleted(String),
}

impl From<Answer> for Pruned {
    fn from(answer: Answer) -> Pruned {
        let images = answer.images_deleted.into_iter().map(|image| match image {
            ImageDeleted::Untagged(reference) => format!("untagged: {reference}"),
            ImageDeleted::Deleted(id) => format!("deleted: {id}"),
        });
        let lists = [answer.containers_deleted, answer.networks_deleted, answer.volumes_deleted, answer.caches_deleted];
        Pruned { removed: lists.into_iter().flatten().chain(images).collect(), reclaimed: answer.space_reclaimed }
    }
}

impl Docker {
    /// `POST /<kind>/prune`. With a full disk it may take minutes.
    ///
    /// # Errors
    /// As every call: [`Error::Unreachable`], [`Error::Timeout`], [`Error::Cancelled`], [`Error::Http`],
    /// [`Error::Json`], [`Error::Status`] (404 for the build cache of an old Engine).
    pub fn prune(&self, what: Unused) -> Result<Pruned, Error> {
        let request = |path| Request::new(Method::Post, path);
        let images = |dangling| Filters::none().with("dangling", dangling).apply(request("/images/prune"));
        let answer: Answer = self.fetch(&match what {
            Unused::Containers => request("/containers/prune"),
            Unused::Networks => request("/networks/prune"),
            Unused::Volumes => request("/volumes/prune"),
            Unused::UntaggedImages => images("true"),
            Unused::Images => images("false"),
            Unused::BuildCache => request("/build/prune").query("all", "1"),
        })?;
        Ok(answer.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::scripted::{Answer, Scripted, Seen, json};

    #[test]
    fn each_kind_is_asked_for_in_its_own_way_and_its_list_is_read() {
        let answers = [
            r#"{"ContainersDeleted":["c1"],"SpaceReclaimed":1}"#,
            r#"{"NetworksDeleted":["n1"]}"#,
            r#"{"VolumesDeleted":null,"SpaceReclaimed":0}"#,
            r#"{"ImagesDeleted":[{"Untagged":"a:1"},{"Deleted":"sha256:1"}],"SpaceReclaimed":5000000000}"#,
            r#"{"ImagesDeleted":null,"SpaceReclaimed":0}"#,
            r#"{"CachesDeleted":["b1"],"SpaceReclaimed":2}"#,
        ];
        let engine = Scripted::new("prune", answers.iter().map(|body| Answer::Close(json(body))).collect());
        let kinds = [
            (Unused::Containers, "/v1.41/containers/prune"),
            (Unused::Networks, "/v1.41/networks/prune"),
            (Unused::Volumes, "/v1.41/volumes/prune"),
            (Unused::Images, "/v1.41/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D"),
            (Unused::UntaggedImages, "/v1.41/images/prune?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D"),
            (Unused::BuildCache, "/v1.41/build/prune?all=1"),
        ];
        let found: Vec<Pruned> = kinds
            .into_iter()
            .map(|(what, target)| {
                let pruned = engine.docker.prune(what).unwrap();
                let Seen::Request(asked) = engine.seen.recv().unwrap() else { panic!("no request") };
                assert!(asked.starts_with(&format!("POST {target} HTTP/1.1\r\n")), "{asked}");
                pruned
            })
            .collect();
        let removed: Vec<&str> = found.iter().flat_map(|pruned| pruned.removed.iter().map(String::as_str)).collect();
        assert_eq!(removed, ["c1", "n1", "untagged: a:1", "deleted: sha256:1", "b1"]);
        assert_eq!(found.iter().map(|pruned| pruned.reclaimed).sum::<u64>(), 5_000_000_003);
    }
}
