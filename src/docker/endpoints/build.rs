//! Building an image from an archive of sources (`apps.md` 3.8, 7.2 row 19), by the Engine's own builder.

use crate::sorted::IntoSorted;
use std::io::Read;
use std::time::Duration;

use super::images::{Progress, RegistryAuth, header_value};
use crate::docker::http1::{Method, Request};
use crate::docker::{Docker, Error};

/// How long a build may go without a word (decision 29): a step that compiles says nothing.
pub const BUILD_SILENCE: Duration = Duration::from_secs(2 * 3600);
/// The key under which the Engine looks for the login at Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// A host of no network that the steps of our builds know. The builder gives its containers neither name nor label, and
/// leaves them when the Engine is killed: by this they are found again.
pub const MARK: &str = "build.agent.invalid:127.0.0.1";

/// What is to be built.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildSpec {
    /// The reference that the image gets.
    pub tag: String,
    /// Name of the Dockerfile in the archive.
    pub dockerfile: String,
    /// Names the build for the Engine.
    pub id: String,
    /// Who pulls base images: registry and login. A registry may have a scheme in front and a path behind.
    pub logins: Vec<(String, RegistryAuth)>,
}

impl BuildSpec {
    fn request(&self, length: u64) -> Request {
        let request = Request::new(Method::Post, "/build")
            .query("t", &self.tag)
            .query("dockerfile", &self.dockerfile)
            .query("buildid", &self.id)
            .query("rm", "1")
            .query("forcerm", "1")
            .query("extrahosts", MARK)
            .header("Content-Type", "application/x-tar")
            .body_follows(length);
        if self.logins.is_empty() {
            return request;
        }
        let logins = self.logins.iter().map(|(registry, auth)| (registry_key(registry), auth.plain())).into_map();
        request.header("X-Registry-Config", header_value(&logins))
    }
}

/// How the Engine names a registry: its host, but for Docker Hub.
fn registry_key(registry: &str) -> String {
    let bare = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    match bare.split('/').next().unwrap_or_default() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        host => host.to_owned(),
    }
}

impl Docker {
    /// `POST /build`: builds from `archive`, a gzip-compressed tar archive of `length` bytes, which is read as it is sent.
    /// The Engine works while the [`Progress`] is read, and stops when it is dropped or the call's token is cancelled.
    /// The deadline of the call does not count, but [`BUILD_SILENCE`] for each piece that is sent and each record.
    ///
    /// # Errors
    /// As every call: [`Error::Unreachable`], [`Error::Timeout`], [`Error::Cancelled`], [`Error::Http`],
    /// [`Error::Status`] (see [`Error::is_dockerfile_missing`], [`Error::is_dockerfile_empty`]); [`Error::Source`].
    pub fn build_image(&self, spec: &BuildSpec, archive: &mut dyn Read, length: u64) -> Result<Progress, Error> {
        let response = self.upload(&spec.request(length), archive, BUILD_SILENCE)?;
        Ok(Progress::new(response, BUILD_SILENCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker::scripted::{Answer, Scripted, golden};
    use crate::secret::Secret;
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE;

    fn spec() -> BuildSpec {
        BuildSpec {
            tag: "registry.test/apps/dev_amd64_6_app".to_owned(),
            dockerfile: "Dockerfile.amd64".to_owned(),
            id: "build_6_My App".to_owned(),
            logins: Vec::new(),
        }
    }

    fn auth(username: &str) -> RegistryAuth {
        RegistryAuth { username: Secret::new(username), password: Secret::new("hush") }
    }

    #[test]
    fn a_build_sends_its_archive_and_gives_out_every_record() {
        let engine = Scripted::new("build", vec![Answer::Close(golden("build"))]);
        let mut progress = engine.docker.build_image(&spec(), &mut &b"archive"[..], 7).unwrap();
        let records: Vec<String> = std::iter::from_fn(|| progress.next_record().unwrap()).collect();
        assert_eq!(records.last().unwrap(), r#"{"stream":"Successfully tagged golden:1\n"}"#);
        let request = engine.request();
        let target = "/v1.41/build?t=registry.test%2Fapps%2Fdev_amd64_6_app&dockerfile=Dockerfile.amd64\
                      &buildid=build_6_My%20App&rm=1&forcerm=1&extrahosts=build.agent.invalid%3A127.0.0.1";
        assert!(request.starts_with(&format!("POST {target} HTTP/1.1\r\n")), "{request}");
        assert!(request.contains("\r\nContent-Type: application/x-tar\r\n"), "{request}");
        assert!(request.ends_with("\r\nContent-Length: 7\r\n\r\narchive"), "{request}");
        assert!(!request.contains("X-Registry-Config"), "nobody logs in: {request}");
    }

    #[test]
    fn a_build_that_fails_or_has_no_dockerfile_says_so() {
        let answers = ["build-error", "build-missing", "build-empty"];
        let engine = Scripted::new("broken", answers.map(|name| Answer::Close(golden(name))).into());
        let build = || engine.docker.build_image(&spec(), &mut &b""[..], 0);
        let text = "The command '/bin/sh -c exit 7' returned a non-zero code: 7";
        assert_eq!(build().unwrap().finish(), Err(Error::Transfer(text.to_owned())));
        let (missing, empty) = (build().unwrap_err(), build().unwrap_err());
        assert!(missing.is_dockerfile_missing() && !missing.is_dockerfile_empty(), "{missing}");
        assert!(empty.is_dockerfile_empty() && !empty.is_dockerfile_missing(), "{empty}");
    }

    #[test]
    fn logins_are_named_as_the_engine_looks_them_up() {
        for (registry, key) in [
            ("registry.test/", "registry.test"),
            ("127.0.0.1:5000/apps/", "127.0.0.1:5000"),
            ("https://registry.test/v2/", "registry.test"),
            ("docker.io", DOCKER_HUB),
            ("https://index.docker.io/v1/", DOCKER_HUB),
        ] {
            assert_eq!(registry_key(registry), key, "{registry}");
        }
        let logins = vec![("registry.test/".to_owned(), auth("token")), ("docker.io".to_owned(), auth("u"))];
        let engine = Scripted::new("logins", vec![Answer::Close(golden("build"))]);
        let spec = BuildSpec { logins, ..spec() };
        assert!(!format!("{spec:?} {:?}", spec.request(0)).contains("hush"));
        engine.docker.build_image(&spec, &mut &b""[..], 0).unwrap().finish().unwrap();
        let request = engine.request();
        let header = request.lines().find_map(|line| line.strip_prefix("X-Registry-Config: ")).unwrap();
        assert_eq!(
            String::from_utf8(URL_SAFE.decode(header).unwrap()).unwrap(),
            r#"{"https://index.docker.io/v1/":{"username":"u","password":"hush"},"registry.test":{"username":"token","password":"hush"}}"#
        );
    }
}
