//! Bind mounts and read-only media, in a mount namespace of a second process of this test binary.

use super::*;
use std::process::Command;

const CHILD: &str = "REAGENT_TEST_MOUNTED_FLOCK";

/// Runs this very test again in a namespace that `script` (with `$1` = the directory of the file) has prepared; there
/// it prints what saving yields. Without the right to namespaces a user namespace gives it; without either this fails.
fn in_namespace(test: &str, script: &str, device: &Device) -> String {
    let allowed = |way: &&&str| {
        Command::new("unshare").args([**way, "true"]).output().is_ok_and(|output| output.status.success())
    };
    let way = ["-m", "-rm"].iter().find(allowed).expect("mount namespaces: run this as root, or allow user namespaces");
    let output = Command::new("unshare")
        .args([*way, "sh", "-ec", &format!("{script}; shift; exec \"$@\""), "sh"])
        .arg(device.dir.path())
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, &device.path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The part that runs in the namespace; `false` outside.
fn is_child() -> bool {
    let Some(path) = std::env::var_os(CHILD) else { return false };
    let path = PathBuf::from(path);
    let mut loaded = load(&path, Path::new("/none")).unwrap();
    loaded.flock.name = "renamed".to_owned();
    match loaded.file.save(&loaded.flock) {
        Ok(saved) => println!("saved: {saved:?}"),
        Err(error) => println!("not saved: {error}"),
    }
    true
}

#[test]
fn a_bind_mount_is_written_in_place() {
    if is_child() {
        return;
    }
    let device = Device::with(EXAMPLE);
    fs::write(device.dir.join("mounted"), EXAMPLE).unwrap();
    let script = "mount --bind \"$1/mounted\" \"$1/device.flock\"";
    let text = in_namespace("flock::tests::mounts::a_bind_mount_is_written_in_place", script, &device);
    assert!(text.contains("saved: InPlace"), "{text}");
    assert!(fs::read_to_string(device.dir.join("mounted")).unwrap().contains("renamed"));
    assert_eq!(device.content(), EXAMPLE, "what lies under the mount is untouched");
    assert_eq!(device.dir.names(), ["device.flock", "mounted"]);
}

#[test]
fn a_read_only_medium_is_an_error_to_warn_of() {
    if is_child() {
        return;
    }
    let device = Device::with(EXAMPLE);
    let script = "mount --bind \"$1\" \"$1\"; mount -o remount,ro,bind \"$1\"";
    let text = in_namespace("flock::tests::mounts::a_read_only_medium_is_an_error_to_warn_of", script, &device);
    assert!(text.contains("not saved: cannot write the config file"), "{text}");
    assert_eq!(device.content(), EXAMPLE);
}
