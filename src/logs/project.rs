//! How compose calls the containers of a project, and how it shows what they write: pure. `storage-and-logs.md` 3.2; seen with
//! compose 2.26.

use std::collections::BTreeMap;

use crate::docker::labels::{NUMBER, ONE_OFF, PROJECT, SERVICE};

/// Containers of one project that are followed at most.
pub const MOST: usize = 32;

/// Whether it was made for one command (`compose run`): compose shows nothing of it.
pub fn is_one_off(labels: &BTreeMap<String, String>) -> bool {
    labels.get(ONE_OFF).is_some_and(|value| value == "True")
}

/// What compose calls the container `name` with these labels: `<service>-<number>`, or by its own name if the definition
/// gives it one.
pub fn label(name: &str, labels: &BTreeMap<String, String>) -> String {
    let of = |key| labels.get(key).map(String::as_str).unwrap_or_default();
    let (project, service, number) = (of(PROJECT), of(SERVICE), of(NUMBER));
    // Version 1 puts underscores between them.
    let is_default = |mark| name == format!("{project}{mark}{service}{mark}{number}");
    if is_default('-') || is_default('_') { format!("{service}-{number}") } else { name.to_owned() }
}

/// A line of the container with this label, where the longest label has `width` bytes.
pub fn line(label: &str, width: usize, text: &str) -> String {
    format!("{label:width$}  | {text}")
}

/// Tells that the container with this label has ended.
pub fn exited(label: &str, code: Option<i64>) -> String {
    match code {
        Some(code) => format!("{label} exited with code {code}"),
        None => format!("{label} exited"),
    }
}

/// Tells how many containers are beyond [`MOST`].
pub fn left_out(count: usize) -> String {
    format!("… {count} more container(s) of the project are not followed (at most {MOST} are)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(service: &str, number: &str) -> BTreeMap<String, String> {
        let pairs = [(PROJECT, "prod_6_app_compose"), (SERVICE, service), (NUMBER, number), (ONE_OFF, "False")];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn containers_are_called_as_compose_calls_them() {
        for (name, service, expected) in [
            ("prod_6_app_compose-web-2", "web", "web-2"),
            ("prod_6_app_compose_web_2", "web", "web-2"),
            ("prod_6_app_compose-my_job-2", "my_job", "my_job-2"),
            ("own_name", "web", "own_name"),
            ("prod_6_app_compose-web-2", "web-2", "prod_6_app_compose-web-2"),
        ] {
            assert_eq!(label(name, &labels(service, "2")), expected);
        }
        assert_eq!(label("bare", &BTreeMap::new()), "bare");
        assert!(!is_one_off(&labels("web", "1")));
        assert!(is_one_off(&BTreeMap::from([(ONE_OFF.to_owned(), "True".to_owned())])));
    }

    #[test]
    fn lines_stand_below_each_other_as_compose_lets_them() {
        // From the recorded scenes.
        assert_eq!(line("web-1", "side-1".len(), "web 1"), "web-1   | web 1");
        assert_eq!(line("side-1", "side-1".len(), ""), "side-1  | ");
        assert_eq!(exited("side-1", Some(137)), "side-1 exited with code 137");
        assert_eq!(exited("side-1", None), "side-1 exited");
    }
}
