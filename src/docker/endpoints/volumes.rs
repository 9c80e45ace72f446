//! Volumes: list, remove.

use serde::Deserialize;

use super::{Filters, nullable};
use crate::docker::http1::{Method, Request, segment};
use crate::docker::{Docker, Error};

/// A volume as a list shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Volume {
    /// What it is called; of an anonymous one 64 hexadecimal digits.
    pub name: String,
}

/// Errors of all calls: [`Error::Unreachable`], [`Error::Timeout`], [`Error::Cancelled`], [`Error::Http`],
/// [`Error::Json`], [`Error::Status`].
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Docker {
    /// `GET /volumes`. The filter `dangling` (`true`) selects those that no container has.
    pub fn list_volumes(&self, filters: &Filters) -> Result<Vec<Volume>, Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Listed {
            #[serde(default, deserialize_with = "nullable")]
            volumes: Vec<Volume>,
        }
        let listed: Listed = self.fetch(&filters.apply(Request::new(Method::Get, "/volumes")))?;
        Ok(listed.volumes)
    }

    /// `DELETE /volumes/{name}`, with what is in it. An unknown one is [`Error::is_not_found`], one that a container has
    /// [`Error::is_in_use`].
    pub fn remove_volume(&self, name: &str) -> Result<(), Error> {
        self.call(&Request::new(Method::Delete, format!("/volumes/{}", segment(name)))).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::scripted::{Answer, Scripted, Seen, json};

    #[test]
    fn volumes_are_listed_also_if_there_are_none_and_removed_by_name() {
        let answers = vec![
            Answer::Close(json(r#"{"Volumes":null,"Warnings":null}"#)),
            Answer::Close(json(r#"{"Volumes":[{"Name":"p_data","Labels":{"a":"b"},"Driver":"local"}]}"#)),
            Answer::Close(json("")),
        ];
        let engine = Scripted::new("volumes", answers);
        assert_eq!(engine.docker.list_volumes(&Filters::none()).unwrap(), []);
        let found = engine.docker.list_volumes(&Filters::none().with("dangling", "true")).unwrap();
        assert_eq!(found, [Volume { name: "p_data".to_owned() }]);
        engine.docker.remove_volume("p_data").unwrap();
        for target in [
            "GET /v1.41/volumes ",
            "GET /v1.41/volumes?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D ",
            "DELETE /v1.41/volumes/p_data ",
        ] {
            let Seen::Request(asked) = engine.seen.recv().unwrap() else { panic!("no request") };
            assert!(asked.starts_with(target), "{asked}");
        }
    }
}
