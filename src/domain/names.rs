//! The names that the platform relies on: containers, images, topics, and their parsers (apps chapter 1.6, 1.7).

use super::app::{AppKey, Stage};

/// Names of one app. `arch` is the architecture tag (`amd64`, `armv7`); `registry` and `repository` carry their slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Container, and log topic, of a plain app; log topic of a compose app too.
    pub container: String,
    /// Image with registry, without tag.
    pub image: String,
    /// Topic of a release build and push.
    pub publish: String,
    /// Compose project, normalised.
    pub project: String,
}

impl Names {
    /// Derives all names.
    pub fn new(id: AppKey, name: &str, arch: &str, registry: &str, repository: &str) -> Names {
        let (stage, key) = (id.stage.text(), id.key);
        Names {
            container: container(id, name),
            image: format!("{registry}{repository}{stage}_{arch}_{key}_{name}").to_lowercase(),
            publish: publish_log(id, name),
            project: project(id, name),
        }
    }

    /// The image at `version`.
    pub fn tagged(&self, version: &str) -> String {
        format!("{}:{version}", self.image)
    }
}

/// `<stage>_<key>_<name>` in lower case.
pub fn container(id: AppKey, name: &str) -> String {
    format!("{}_{}_{name}", id.stage.text(), id.key).to_lowercase()
}

/// `pub_<key>_<name>` in lower case: the log of a release build.
pub fn publish_log(id: AppKey, name: &str) -> String {
    format!("pub_{}_{name}", id.key).to_lowercase()
}

/// Under which name the container of the release before is kept while a new one proves itself (decision 30).
pub fn kept(id: AppKey) -> String {
    format!("kept-{}-{}", id.key, id.stage.lower())
}

/// The compose project of an app, normalised.
pub fn project(id: AppKey, name: &str) -> String {
    normalise_project(&format!("{}_{}_{name}_compose", id.stage.text(), id.key))
}

/// Lower case, only `[a-z0-9_-]`, no leading `_` or `-`: what compose makes of a project name.
pub fn normalise_project(text: &str) -> String {
    let kept: String = text
        .to_lowercase()
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
        .collect();
    kept.trim_start_matches(['_', '-']).to_owned()
}

/// What a container name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// `None` for a prefix that is not of the agent; not an error by itself.
    pub stage: Option<Stage>,
    /// The app key.
    pub key: u64,
    /// The rest, which may hold underscores.
    pub name: String,
}

/// Reads `[/]<stage>_<key>_<name>`; `None` if there are fewer than three parts or the key is no number.
pub fn parse_container(text: &str) -> Option<Parsed> {
    let mut parts = text.strip_prefix('/').unwrap_or(text).splitn(3, '_');
    let (stage, key, name) = (parts.next()?, parts.next()?, parts.next()?);
    let stage = match stage {
        "dev" | "pub" => Some(Stage::Dev),
        "prod" => Some(Stage::Prod),
        _ => None,
    };
    Some(Parsed { stage, key: super::number::digits(key)?, name: name.to_owned() })
}

/// Reads the name of a kept container.
pub fn parse_kept(text: &str) -> Option<AppKey> {
    let (key, stage) = text.strip_prefix("kept-")?.rsplit_once('-')?;
    let stage = [Stage::Dev, Stage::Prod].into_iter().find(|known| known.lower() == stage)?;
    Some(AppKey { key: super::number::digits(key)?, stage })
}

/// Reads a project name of the agent: everything between the second `_` and the suffix `_compose` is the name.
pub fn parse_project(text: &str) -> Option<Parsed> {
    let parsed = parse_container(text.strip_suffix("_compose")?)?;
    (!parsed.name.is_empty()).then_some(parsed)
}

/// Whether an app name may become a part of a path (storage chapter 7.1): it comes from outside. No line of a log and no
/// listing of a terminal shows control characters as what they are, so they are refused as well.
pub fn is_path_part(name: &str) -> bool {
    let is_bad = |c: char| matches!(c, '/' | '\\') || c.is_control();
    !name.is_empty() && name.len() <= 128 && !name.starts_with('.') && !name.contains(is_bad)
}

/// The name of an archive while it arrives, by the transfer numbered `number`.
pub fn part_file(file: &str, number: u64) -> String {
    format!("{file}.part-{number}")
}

/// The archive that a part file is to become; `None` if it is no part file.
pub fn whole_of_part(name: &str) -> Option<&str> {
    let (whole, number) = name.rsplit_once(".part-")?;
    super::number::digits(number).map(|_| whole)
}

/// The exit code of a status text such as `Exited (137) 2 minutes ago`.
pub fn exit_code(status: &str) -> Option<i64> {
    let (_, rest) = status.split_once('(')?;
    rest.split_once(')')?.0.parse().ok()
}

/// An image reference as repository and tag; the tag follows the last colon behind the last slash, a digest is one too.
pub fn split_tag(reference: &str) -> (&str, Option<&str>) {
    let name = reference.rfind('/').map_or(0, |slash| slash + 1);
    match reference[name..].find([':', '@']) {
        Some(colon) => (&reference[..name + colon], Some(&reference[name + colon + 1..])),
        None => (reference, None),
    }
}

/// The registry of an image (1.8): what stands before the first slash if it looks like a host, else `docker.io`.
pub fn registry(image: &str) -> &str {
    match image.split_once('/') {
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => host,
        _ => "docker.io",
    }
}

/// `1st`, `2nd`, `3rd`, `4th`, `11th`.
pub fn ordinal(n: u64) -> String {
    let suffix = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: AppKey = AppKey { key: 6, stage: Stage::Prod };

    #[test]
    fn all_names_follow_from_stage_key_name_and_registry() {
        let names = Names::new(ID, "MyApp", "amd64", "registry.ironflock.com/", "apps/");
        assert_eq!(names.container, "prod_6_myapp");
        assert_eq!(names.publish, "pub_6_myapp");
        assert_eq!(names.project, "prod_6_myapp_compose");
        assert_eq!(names.tagged("1.0.0"), "registry.ironflock.com/apps/prod_amd64_6_myapp:1.0.0");
    }

    #[test]
    fn a_project_name_is_what_compose_accepts() {
        for (given, expected) in [
            ("PROD_6_MyApp_compose", "prod_6_myapp_compose"),
            ("prod_6_my.app x_compose", "prod_6_myappx_compose"),
            ("_-foo", "foo"),
        ] {
            assert_eq!(normalise_project(given), expected);
        }
    }

    #[test]
    fn container_names_are_parsed_as_documented() {
        let of = |stage, key, name: &str| Some(Parsed { stage, key, name: name.to_owned() });
        assert_eq!(parse_container("prod_6_myapp"), of(Some(Stage::Prod), 6, "myapp"));
        assert_eq!(parse_container("/prod_6_myapp"), of(Some(Stage::Prod), 6, "myapp"));
        assert_eq!(parse_container("pub_3_foo"), of(Some(Stage::Dev), 3, "foo"));
        assert_eq!(parse_container("dev_6_net_data"), of(Some(Stage::Dev), 6, "net_data"));
        assert_eq!(parse_container("weird_6_app"), of(None, 6, "app"));
        for text in ["", "prod_6", "prod_abc_app"] {
            assert_eq!(parse_container(text), None, "{text}");
        }
    }

    #[test]
    fn project_names_are_parsed_with_underscores_in_the_app_name() {
        assert_eq!(parse_project("prod_6_my_app_compose").map(|parsed| parsed.name), Some("my_app".to_owned()));
        assert_eq!(parse_project("pub_3_foo_compose").and_then(|parsed| parsed.stage), Some(Stage::Dev));
        assert_eq!(parse_project("weird_6_app_compose").map(|parsed| parsed.stage), Some(None));
        for text in ["prod_6_myapp_other", "ironflock", "x", "prod_abc_app_compose", ""] {
            assert_eq!(parse_project(text), None, "{text}");
        }
    }

    #[test]
    fn an_image_reference_has_a_registry_a_repository_and_perhaps_a_tag() {
        for (image, host, repository, tag) in [
            ("web", "docker.io", "web", None),
            ("web:1", "docker.io", "web", Some("1")),
            ("user/web:1", "docker.io", "user/web", Some("1")),
            ("localhost/web", "localhost", "localhost/web", None),
            ("host:5000/a/web", "host:5000", "host:5000/a/web", None),
            ("registry.example.com/a/web:1.0", "registry.example.com", "registry.example.com/a/web", Some("1.0")),
            ("web:1@sha256:ab", "docker.io", "web", Some("1@sha256:ab")),
            ("web@sha256:ab", "docker.io", "web", Some("sha256:ab")),
        ] {
            assert_eq!((registry(image), split_tag(image)), (host, (repository, tag)), "{image}");
        }
    }

    #[test]
    fn exit_codes_and_ordinals() {
        assert_eq!(exit_code("Exited (137) 2 minutes ago"), Some(137));
        assert_eq!(exit_code("Up 2 minutes"), None);
        let words: Vec<String> = [0, 1, 2, 3, 4, 11, 12, 13, 21, 101, 111].into_iter().map(ordinal).collect();
        assert_eq!(words.join(" "), "0th 1st 2nd 3rd 4th 11th 12th 13th 21st 101st 111th");
    }

    #[test]
    fn an_archive_that_arrives_has_a_name_of_its_own() {
        assert_eq!(part_file("app.tgz", 7), "app.tgz.part-7");
        for (name, whole) in [
            ("app.tgz.part-7", Some("app.tgz")),
            ("app.tgz.part-7.part-8", Some("app.tgz.part-7")),
            ("app.tgz", None),
            ("app.tgz.part-", None),
            ("app.tgz.part-x", None),
        ] {
            assert_eq!(whole_of_part(name), whole, "{name}");
        }
    }

    #[test]
    fn a_name_from_outside_cannot_leave_its_folder() {
        for name in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "a\0b",
            ".hidden",
            "a\nb",
            "a\tb",
            "\x1b[31ma",
            "a\u{85}",
            &"x".repeat(129),
        ] {
            assert!(!is_path_part(name), "{name:?}");
        }
        assert!(is_path_part("My App_1.2"));
    }
}
