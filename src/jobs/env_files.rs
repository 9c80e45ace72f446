//! The variables of an app as files, `env/<NAME>.txt` (`apps.md` 4.8). The agent remembers which ones it wrote, so that a
//! variable that is no more takes its file with it, and no file of the app ever goes.

use super::folders::{Folders, is_file_name};
use super::work::Failure;
use crate::sorted::IntoSorted;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Names of the variables that were written, a JSON list: names may hold anything.
pub(super) const MANIFEST: &str = ".names";
/// The device's own secret, which earlier agents wrote there (X1).
pub(super) const DEVICE_SECRET: &str = "DEVICE_SECRET";

/// Whether a file changes while the app runs: it is not for a start to delete it.
fn is_live(name: &str) -> bool {
    name.starts_with("APP_AUTH_") || name.starts_with("REMOTE_PORT_")
}

/// Brings the files in line with `variables`. What cannot be a file name is left out.
///
/// # Errors
/// The first file that cannot be written or deleted.
pub(super) fn write(folders: &Folders, variables: &BTreeMap<String, String>) -> Result<(), Failure> {
    let wanted: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| is_file_name(name) && *name != DEVICE_SECRET)
        .collect();
    let written = manifest(folders);
    let names = || wanted.iter().map(|(name, _)| *name);
    let all = written.iter().map(String::as_str).chain(names()).into_set();
    // Before the files: whatever happens, none of them is forgotten.
    remember(folders, &all)?;
    folders.remove_env(DEVICE_SECRET)?;
    for (name, value) in &wanted {
        // Remote ports are no secret, and are written with this mode while the app runs too.
        let mode = if name.starts_with("REMOTE_PORT_") { 0o644 } else { 0o600 };
        folders.write_env(name, value, mode)?;
    }
    for name in all.iter().filter(|name| !names().any(|wanted| wanted == **name) && !is_live(name)) {
        folders.remove_env(name)?;
    }
    remember(folders, &names().into_set())
}

/// What an earlier start wrote. A manifest that the app broke names nothing.
fn manifest(folders: &Folders) -> Vec<String> {
    let text = fs::read(folders.env.join(MANIFEST)).unwrap_or_default();
    let mut names: Vec<String> = serde_json::from_slice(&text).unwrap_or_default();
    names.retain(|name| is_file_name(name));
    names
}

fn remember(folders: &Folders, names: &BTreeSet<&str>) -> Result<(), Failure> {
    let text = serde_json::to_vec(names).expect("a list of strings is JSON");
    folders.write(MANIFEST, &text, 0o600)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::app::Stage;
    use crate::domain::job::Folder;
    use crate::os::files;
    use crate::os::scratch::Scratch;

    fn folders(dir: &Scratch) -> Folders {
        let folders = Folders::new(dir.path(), &Folder { stage: Stage::Dev, name: "app".to_owned() }).unwrap();
        folders.create().unwrap();
        folders
    }

    fn start(folders: &Folders, variables: &[(&str, &str)]) {
        write(folders, &variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
            .unwrap();
    }

    fn names(folders: &Folders) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&folders.env)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != MANIFEST)
            .collect();
        names.sort();
        names
    }

    #[test]
    fn x2_every_variable_is_a_file_of_its_own_whatever_its_value_and_odd_names_stay_out() {
        let dir = Scratch::new();
        let folders = folders(&dir);
        let long = "x".repeat(30_000);
        let deep = "n".repeat(300);
        start(
            &folders,
            &[("A", "a # $b"), ("LONG", &long), ("A/B", "1"), ("..", "1"), (&deep, "1"), ("line\nfeed", "2")],
        );
        assert_eq!(names(&folders), ["A.txt", "LONG.txt", "line\nfeed.txt"]);
        assert_eq!(fs::read_to_string(folders.env.join("A.txt")).unwrap(), "a # $b");
        assert_eq!(fs::read_to_string(folders.env.join("LONG.txt")).unwrap(), long);
        assert_eq!(files::mode(&folders.env.join("A.txt")).unwrap(), 0o600);
        start(&folders, &[]);
        assert_eq!(names(&folders), Vec::<String>::new());
    }

    #[test]
    fn x1_the_device_secret_of_an_earlier_agent_goes() {
        let dir = Scratch::new();
        let folders = folders(&dir);
        folders.write_env(DEVICE_SECRET, "old", 0o600).unwrap();
        start(&folders, &[("A", "1"), (DEVICE_SECRET, "new")]);
        assert_eq!(names(&folders), ["A.txt"]);
    }

    #[test]
    fn only_what_an_earlier_start_wrote_is_deleted() {
        let dir = Scratch::new();
        let folders = folders(&dir);
        fs::write(folders.env.join("OWN.txt"), "of the app").unwrap();
        start(&folders, &[("A", "1"), ("B", "2"), ("APP_AUTH_ID", "3"), ("REMOTE_PORT_FOR_1_CLOUD", "4")]);
        start(&folders, &[("B", "2")]);
        let live = ["APP_AUTH_ID.txt", "B.txt", "OWN.txt", "REMOTE_PORT_FOR_1_CLOUD.txt"];
        assert_eq!(names(&folders), live);
        fs::write(folders.env.join(MANIFEST), r#"["../../escape", "B"]"#).unwrap();
        fs::write(dir.join("escape.txt"), "kept").unwrap();
        start(&folders, &[]);
        assert!(dir.join("escape.txt").exists(), "a manifest that the app wrote leads nowhere");
        fs::write(folders.env.join(MANIFEST), "no list").unwrap();
        start(&folders, &[("C", "1")]);
        assert!(names(&folders).contains(&"C.txt".to_owned()));
    }

    #[test]
    fn a_start_that_broke_off_forgets_no_file() {
        let dir = Scratch::new();
        let folders = folders(&dir);
        // A directory in the way of the second variable.
        files::create_directory(&folders.env.join("B.txt/x"), 0o755).unwrap();
        let variables = ["A", "B"].map(|name| (name.to_owned(), "1".to_owned()));
        assert!(write(&folders, &variables.into()).is_err());
        fs::remove_dir_all(folders.env.join("B.txt")).unwrap();
        start(&folders, &[]);
        assert_eq!(names(&folders), Vec::<String>::new());
    }
}
