//! Image references: name, tag, digest and registry, split as the Engine does (`apps.md` 7.2 notes). Pure.

/// `name[:tag][@digest]`, split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The repository, with the registry in front if one was given (`registry.example:5000/apps/web`).
    pub name: String,
    /// The tag, if there is one.
    pub tag: Option<String>,
    /// The digest with its algorithm (`sha256:...`), if there is one.
    pub digest: Option<String>,
}

impl Reference {
    /// Splits `text`. A colon before the last slash belongs to a registry's port, not to a tag.
    pub fn parse(text: &str) -> Reference {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        let base = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[base..].find(':') {
            Some(colon) => (&rest[..base + colon], Some(&rest[base + colon + 1..])),
            None => (rest, None),
        };
        let owned = |part: Option<&str>| part.filter(|part| !part.is_empty()).map(str::to_owned);
        Reference { name: name.to_owned(), tag: owned(tag), digest: owned(digest) }
    }

    /// What goes into `tag` of a pull: the digest, else the tag, else `latest`. Without one the Engine pulls all tags.
    pub fn pull_tag(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// The registry: `docker.io` for short names.
    pub fn registry(&self) -> &str {
        registry(&self.name)
    }
}

/// The registry of an image name or reference: its first part if that looks like a host, else `docker.io`.
pub fn registry(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((host, _))
            if host.contains(['.', ':']) || host == "localhost" || host.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            host
        }
        _ => "docker.io",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (String, Option<String>, Option<String>) {
        let Reference { name, tag, digest } = Reference::parse(text);
        (name, tag, digest)
    }

    #[test]
    fn a_reference_is_split_after_its_last_slash() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(split("nginx"), ("nginx".into(), None, None));
        assert_eq!(split("nginx:1"), ("nginx".into(), some("1"), None));
        assert_eq!(split("localhost:5000/app"), ("localhost:5000/app".into(), None, None));
        assert_eq!(split("localhost:5000/app:1.0"), ("localhost:5000/app".into(), some("1.0"), None));
        assert_eq!(split("a.b/c@sha256:12"), ("a.b/c".into(), None, some("sha256:12")));
        assert_eq!(split("a.b:1/c:2@sha256:12"), ("a.b:1/c".into(), some("2"), some("sha256:12")));
        assert_eq!(split("app:"), ("app".into(), None, None));
        assert_eq!(split(""), (String::new(), None, None));
    }

    #[test]
    fn a_pull_names_the_digest_or_the_tag_or_latest() {
        for (text, tag) in [("a:2@sha256:12", "sha256:12"), ("a:2", "2"), ("h:5/a", "latest")] {
            assert_eq!(Reference::parse(text).pull_tag(), tag, "{text}");
        }
    }

    #[test]
    fn short_names_belong_to_docker_hub() {
        for (text, host) in [
            ("nginx:1", "docker.io"),
            ("library/nginx", "docker.io"),
            ("localhost/app", "localhost"),
            ("127.0.0.1:5000/app:1", "127.0.0.1:5000"),
            ("registry.example.com/apps/app", "registry.example.com"),
            ("HOST/app", "HOST"),
        ] {
            assert_eq!(registry(text), host, "{text}");
        }
    }
}
