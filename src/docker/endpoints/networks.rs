//! Networks: list, remove.

use serde::Deserialize;

use super::{Filters, nullable};
use crate::docker::http1::{Method, Request, segment};
use crate::docker::{Docker, Error};

/// A network as a list shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// The full id.
    pub id: String,
    /// Its name, which several may have.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
}

/// Errors of all calls: [`Error::Unreachable`], [`Error::Timeout`], [`Error::Cancelled`], [`Error::Http`],
/// [`Error::Json`], [`Error::Status`].
#[expect(clippy::missing_errors_doc, reason = "said once for all of them")]
impl Docker {
    /// `GET /networks`.
    pub fn list_networks(&self, filters: &Filters) -> Result<Vec<Network>, Error> {
        self.fetch(&filters.apply(Request::new(Method::Get, "/networks")))
    }

    /// `DELETE /networks/{id}`. An unknown one is [`Error::is_not_found`], one with containers [`Error::is_in_use`].
    pub fn remove_network(&self, id: &str) -> Result<(), Error> {
        self.call(&Request::new(Method::Delete, format!("/networks/{}", segment(id)))).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::scripted::{Answer, Scripted, Seen, json};

    #[test]
    fn networks_are_listed_by_label_and_removed_by_id() {
        let answers = vec![
            Answer::Close(json(r#"[{"Id":"n1","Name":"p_default","Labels":null,"Containers":{}}]"#)),
            Answer::Close(json("")),
        ];
        let engine = Scripted::new("networks", answers);
        let filters = Filters::none().with("label", "a=b");
        let found = engine.docker.list_networks(&filters).unwrap();
        assert_eq!(found, [Network { id: "n1".to_owned(), name: "p_default".to_owned() }]);
        engine.docker.remove_network(&found[0].id).unwrap();
        for target in
            ["GET /v1.41/networks?filters=%7B%22label%22%3A%5B%22a%3Db%22%5D%7D ", "DELETE /v1.41/networks/n1 "]
        {
            let Seen::Request(asked) = engine.seen.recv().unwrap() else { panic!("no request") };
            assert!(asked.starts_with(target), "{asked}");
        }
    }
}
