//! `cross/rootfs/install` into a folder that stands for an image: what lies where, with which mode, and what stays.

use crate::util::TempDir;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// What every installation has, and what each init system adds: a path with its mode, or with where the link leads.
const COMMON: [(&str, &str); 6] = [
    ("opt/reagent/Reagent-active", "/opt/reagent/reagent-latest"),
    ("opt/reagent/device-config.flock", "600"),
    ("opt/reagent/launch", "755"),
    ("opt/reagent/reagent-latest", "755"),
    ("opt/reagent/reswarm-mode", "644"),
    ("usr/bin/reagent", "/opt/reagent/Reagent-active"),
];
const OWN: [(&str, &[(&str, &str)]); 4] = [
    (
        "systemd",
        &[
            ("etc/systemd/system/multi-user.target.wants/reagent.service", "../reagent.service"),
            ("etc/systemd/system/reagent.service", "644"),
        ],
    ),
    ("openrc", &[("etc/init.d/reagent", "755"), ("etc/runlevels/default/reagent", "/etc/init.d/reagent")]),
    ("busybox", &[("etc/init.d/S90reagent", "755")]),
    ("sysv", &[("etc/init.d/reagent", "755")]),
];

fn install(root: &TempDir, arguments: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", "umask 022; exec \"$@\"", "install"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/rootfs/install"))
        .args(arguments)
        .env("ROOT", root.path())
        .output()
        .expect("there is a shell")
}

/// Every file and link below a folder, with its mode or target.
fn laid_out(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.strip_prefix(root).unwrap().display().to_string();
        let metadata = fs::symlink_metadata(&entry).unwrap();
        if metadata.is_symlink() {
            found.insert(name, fs::read_link(&entry).unwrap().display().to_string());
        } else if metadata.is_dir() {
            assert_eq!(metadata.permissions().mode() & 0o777, 0o755, "{name}");
            laid_out(root, &entry, found);
        } else {
            found.insert(name, format!("{:o}", metadata.permissions().mode() & 0o7777));
        }
    }
}

#[test]
fn each_init_system_gets_its_files_and_a_second_installation_changes_the_binary_alone() {
    for (init, own) in OWN {
        let (root, given) = (TempDir::new("root"), TempDir::new("given"));
        let path = |name: &str| given.join(name).display().to_string();
        fs::write(given.join("device.flock"), "the device").unwrap();
        fs::write(given.join("old"), "the old agent").unwrap();
        fs::write(given.join("new"), "the new agent").unwrap();
        let output = install(&root, &[init, &path("old"), &path("device.flock")]);
        assert!(output.status.success(), "{init}: {}", String::from_utf8_lossy(&output.stderr));
        fs::write(root.join("opt/reagent/reagent.db"), "apps").unwrap();
        let output = install(&root, &[init, &path("new")]);
        assert!(output.status.success(), "{init}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("it starts with: "), "{said}");

        let mut found = BTreeMap::new();
        laid_out(root.path(), root.path(), &mut found);
        assert!(found.remove("opt/reagent/reagent.db").is_some());
        let expected = COMMON.iter().chain(own).map(|(path, what)| ((*path).to_owned(), (*what).to_owned()));
        assert_eq!(found, expected.collect(), "{init}");
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        assert_eq!(read("opt/reagent/reagent-latest"), "the new agent");
        assert_eq!(read("opt/reagent/device-config.flock"), "the device");
    }
}

#[test]
fn what_cannot_be_installed_leaves_the_device_as_it_is() {
    let root = TempDir::new("root");
    let this = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md").display().to_string();
    for arguments in [&["upstart", &this][..], &["systemd", "/none"], &["systemd", &this, "/none"], &["systemd"]] {
        let output = install(&root, arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && told.starts_with("install: "), "{arguments:?}: {told}");
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "{arguments:?}");
    }
}
