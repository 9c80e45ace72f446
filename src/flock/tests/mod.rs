//! Every row of `wamp-and-rpc.md` section 8 and decision 35, on real files.

use super::*;
use crate::os::files;
use crate::os::scratch::Scratch;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

mod fuzz;
mod mounts;

/// The example of 8.4, which has every known member.
const EXAMPLE: &str = include_str!("example.flock");

fn example_with(from: &str, to: &str) -> String {
    assert!(EXAMPLE.contains(from), "the example lacks {from}");
    EXAMPLE.replace(from, to)
}

struct Device {
    dir: Scratch,
    path: PathBuf,
}

impl Device {
    fn with(content: impl AsRef<[u8]>) -> Device {
        let dir = Scratch::new();
        let path = dir.file("device.flock", content);
        Device { dir, path }
    }

    fn load(&self) -> Loaded {
        load(&self.path, self.dir.path()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn refused(&self) -> String {
        let before = self.content();
        let error = load(&self.path, self.dir.path()).expect_err("the file is refused").to_string();
        assert!(error.contains(&self.path.display().to_string()), "the path is named: {error}");
        assert_eq!(self.content(), before, "the file is left alone");
        error
    }

    fn content(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.path).unwrap()).into_owned()
    }

    /// Loads, changes the device's name, saves.
    fn rename_and_save(&self) -> Result<Saved, SaveError> {
        let mut loaded = self.load();
        loaded.flock.name = "renamed".to_owned();
        loaded.file.save(&loaded.flock)
    }
}

fn texts(notices: &[Notice], level: Level) -> Vec<&str> {
    notices.iter().filter(|notice| notice.level == level).map(|notice| notice.text.as_str()).collect()
}

#[test]
fn the_example_is_read() {
    let loaded = Device::with(EXAMPLE).load();
    let expected = Flock {
        name: "example-device".into(),
        secret: Secret::new("FAKE-secret-do-not-use"),
        board_model: "raspberrypi3-64".into(),
        swarm_key: 2,
        device_key: 3,
        swarm_name: "example_project".into(),
        serial_number: "00000000-1111-2222-3333-444444444444".into(),
        authentication_key: Secret::new("-----BEGIN FAKE KEY-----\nAAAA\n-----END FAKE KEY-----\n"),
        authentication_certificate: Secret::new(
            "-----BEGIN FAKE CERTIFICATE-----\nAAAA\n-----END FAKE CERTIFICATE-----\n",
        ),
        swarm_owner_name: "example_owner".into(),
        device_endpoint_url: "wss://router.example.invalid/ws-re-dev".into(),
        environment: "production".into(),
        docker_registry_url: "registry.example.invalid/".into(),
        docker_main_repository: "apps/".into(),
        appliance_domain: "appliance.example.invalid".into(),
        update_url: "https://updates.example.invalid/dl".into(),
    };
    assert_eq!(loaded.flock, expected);
    assert_eq!(loaded.notices, []);
    assert_eq!(loaded.flock.authid(), "2-3");
}

#[test]
fn the_example_is_written_byte_for_byte() {
    let document = Document::parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(document.render()).unwrap(), EXAMPLE);
}

#[test]
fn a_changed_name_changes_one_line_of_the_file() {
    let device = Device::with(EXAMPLE);
    assert_eq!(device.rename_and_save().unwrap(), Saved::Replaced);
    assert_eq!(device.content(), example_with("\"example-device\"", "\"renamed\""));
    assert_eq!(device.dir.names(), ["device.flock"], "nothing is left beside it");
}

#[test]
fn an_unchanged_file_is_not_written() {
    // In another layout than ours, so that a write would show.
    let device = Device::with(EXAMPLE.replace('\n', "\r\n"));
    let before = fs::metadata(&device.path).unwrap().modified().unwrap();
    let mut loaded = device.load();
    let save = loaded.file.save_with(&loaded.flock, |_, _, _| panic!("nothing is to be written"));
    assert_eq!(save.unwrap(), Saved::Unchanged);
    assert_eq!(fs::metadata(&device.path).unwrap().modified().unwrap(), before);
}

#[test]
fn what_is_no_json_object_is_fatal_and_left_alone() {
    for content in
        [&b""[..], b" \n", b"\0\0\0\0", b"[]", b"[{}]", b"null", b"\"text\"", b"7", b"{", b"{\"a\":1,}", b"{}x"]
    {
        let error = Device::with(content).refused();
        assert!(error.contains("no JSON object"), "{content:?}: {error}");
    }
    for cut in (1..EXAMPLE.len()).step_by(97) {
        assert!(Device::with(&EXAMPLE[..cut]).refused().contains("no JSON object"), "cut at {cut}");
    }
    assert!(Device::with(b"{\"name\":\"\xff\"}").refused().contains("no JSON object"), "not UTF-8");
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Device::with(deep).refused().contains("levels deep"));
    assert!(Device::with(" ".repeat(2_000_000)).refused().contains("more than"));
}

#[test]
fn a_file_that_is_not_there_or_no_file_is_fatal() {
    let dir = Scratch::new();
    let error = load(&dir.join("none.flock"), dir.path()).unwrap_err().to_string();
    assert!(error.contains("none.flock") && error.contains("No such file"), "{error}");
    assert!(load(dir.path(), dir.path()).unwrap_err().to_string().contains("is no file"));
}

#[test]
fn a_required_member_that_is_missing_or_of_another_type_is_fatal_and_named() {
    for (name, value) in [
        ("secret", "\"FAKE-secret-do-not-use\""),
        ("swarm_key", "2"),
        ("device_key", "3"),
        ("serial_number", "\"00000000-1111-2222-3333-444444444444\""),
        ("device_endpoint_url", "\"wss://router.example.invalid/ws-re-dev\""),
    ] {
        let member = format!("\"{name}\": {value}");
        for missing in ["null", "\"\""] {
            let error = Device::with(example_with(&member, &format!("\"{name}\": {missing}"))).refused();
            assert!(error.contains(&format!("lacks '{name}'")), "{missing}: {error}");
        }
        let error = Device::with(example_with(&member, &format!("\"was_{name}\": {value}"))).refused();
        assert!(error.contains(&format!("lacks '{name}'")), "{error}");
        for wrong in ["true", "[]", "{}"] {
            let error = Device::with(example_with(&member, &format!("\"{name}\": {wrong}"))).refused();
            assert!(error.contains(&format!("'{name}' has the wrong type")), "{wrong}: {error}");
        }
    }
}

#[test]
fn keys_are_read_as_integer_integral_float_and_decimal_text() {
    for (json, key) in [("7", 7), ("7.0", 7), ("7e2", 700), ("\"7\"", 7), ("9007199254740993", 9_007_199_254_740_993)] {
        let device = Device::with(example_with("\"swarm_key\": 2", &format!("\"swarm_key\": {json}")));
        assert_eq!(device.load().flock.swarm_key, key, "{json}");
        let mut loaded = device.load();
        assert_eq!(loaded.file.save(&loaded.flock).unwrap(), Saved::Unchanged, "{json} is not rewritten");
    }
    for (json, problem) in [
        ("0", "lacks"),
        ("0.0", "lacks"),
        ("\"0\"", "lacks"),
        ("-1", "wrong type"),
        ("1.5", "wrong type"),
        ("\"-1\"", "wrong type"),
        ("\"two\"", "wrong type"),
        ("\"2.0\"", "wrong type"),
        ("1e999", "wrong type"),
        ("1e300", "wrong type"),
        ("18446744073709551616", "wrong type"),
    ] {
        let error = Device::with(example_with("\"swarm_key\": 2", &format!("\"swarm_key\": {json}"))).refused();
        assert!(error.contains(problem), "{json}: {error}");
    }
}

#[test]
fn a_wrong_typed_optional_member_is_warned_of_and_kept() {
    for (name, from, to) in [
        ("name", "\"name\": \"example-device\"", "\"name\": 5"),
        ("model", "\"model\": \"raspberrypi3-64\"", "\"model\": []"),
        ("update_url", "\"update_url\": \"https://updates.example.invalid/dl\"", "\"update_url\": true"),
        ("environment", "\"environment\": \"production\"", "\"environment\": 1.10"),
    ] {
        let content = example_with(from, to);
        let device = Device::with(&content);
        let mut loaded = device.load();
        let warnings = texts(&loaded.notices, Level::Warn);
        assert!(warnings.len() == 1 && warnings[0].contains(&format!("'{name}'")), "{name}: {warnings:?}");
        loaded.flock.swarm_name = "other".to_owned();
        loaded.file.save(&loaded.flock).unwrap();
        assert_eq!(device.content(), content.replace("example_project", "other"));
    }
    let content = example_with("\"board\": {", "\"board\": 7, \"was_board\": {");
    let device = Device::with(content);
    assert!(texts(&device.load().notices, Level::Warn)[0].contains("'board'"));
    device.rename_and_save().unwrap();
    assert!(device.content().contains("\n \"board\": 7,\n"), "{}", device.content());
}

#[test]
fn members_that_only_apps_need_are_warned_of() {
    let device = Device::with(example_with("\"docker_main_repository\": \"apps/\",", ""));
    assert!(texts(&device.load().notices, Level::Warn)[0].contains("'docker_main_repository'"));
}

#[test]
fn legacy_addresses_are_rewritten_once_and_nothing_else_is() {
    let url = "\"device_endpoint_url\": \"wss://router.example.invalid/ws-re-dev\"";
    let device = Device::with(
        example_with(url, "\"device_endpoint_url\": \"wss://cbw.record-evolution.com/ws-re-dev\"").replace(
            "\"docker_registry_url\": \"registry.example.invalid/\"",
            "\"docker_registry_url\": \"registry.reswarm.io/\"",
        ),
    );
    let mut loaded = device.load();
    assert_eq!(loaded.flock.device_endpoint_url, "wss://cbw.ironflock.com/ws-re-dev");
    assert_eq!(loaded.flock.docker_registry_url, "registry.ironflock.com/");
    assert_eq!(loaded.file.save(&loaded.flock).unwrap(), Saved::Replaced);
    let mut again = device.load();
    assert_eq!(again.flock, loaded.flock);
    assert_eq!(again.file.save(&again.flock).unwrap(), Saved::Unchanged, "loading twice gives the same");
    for other in ["wss://cbw.record-evolution.com/ws-re-dev/", "wss://cbw.ironflock.com/ws-re-dev", "wss://x/ws-re-dev"]
    {
        let device = Device::with(example_with(url, &format!("\"device_endpoint_url\": \"{other}\"")));
        let mut loaded = device.load();
        assert_eq!(loaded.flock.device_endpoint_url, other);
        assert_eq!(loaded.file.save(&loaded.flock).unwrap(), Saved::Unchanged);
    }
}

#[test]
fn unknown_members_keep_their_values_and_number_texts() {
    let unknown = r#"{"owner_account_key": 123456789012345678901234567890, "x": [1.10, -0, 1E400, {}, [ ], {"a" : [] , "b":"<&>\/\u00e9\ud83d\ude00"}],
        "half": "\ud800", "swarm_key": 2, "device_key": 3, "secret": "s", "serial_number": "n", "device_endpoint_url": "u",
        "board": {"latestImages": [{"size": 1e3}], "cpu": "c"}, "authentication": {"more": null}}"#;
    let device = Device::with(unknown);
    device.rename_and_save().unwrap();
    let expected = r#"{
 "name": "renamed",
 "secret": "s",
 "board": {
  "cpu": "c",
  "docs": null,
  "board": "",
  "model": "",
  "boardname": "",
  "modelname": "",
  "reflasher": false,
  "architecture": "",
  "latestImages": [
   {
    "size": 1e3
   }
  ]
 },
 "status": "",
 "password": "",
 "wlanssid": "",
 "swarm_key": 2,
 "device_key": 3,
 "swarm_name": "",
 "description": null,
 "architecture": "",
 "serial_number": "n",
 "authentication": {
  "key": "",
  "certificate": "",
  "more": null
 },
 "swarm_owner_name": "",
 "config_passphrase": "",
 "device_endpoint_url": "u",
 "docker_registry_url": "",
 "docker_main_repository": "",
 "owner_account_key": 123456789012345678901234567890,
 "x": [
  1.10,
  -0,
  1E400,
  {},
  [],
  {
   "a": [],
   "b": "\u003c\u0026\u003e/é😀"
  }
 ],
 "half": "\ud800"
}"#;
    assert_eq!(device.content(), expected);
    let again = Document::parse(expected.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(again.render()).unwrap(), expected, "writing is idempotent");
}

#[test]
fn of_two_members_with_one_name_the_last_counts() {
    let device =
        Device::with(example_with("\"name\": \"example-device\",", "\"name\": \"first\", \"name\": \"last\","));
    assert_eq!(device.load().flock.name, "last");
}

#[test]
fn empty_optional_members_are_left_out() {
    let content = example_with("\"environment\": \"production\"", "\"environment\": \"\"")
        .replace("\"update_url\": \"https://updates.example.invalid/dl\"", "\"update_url\": null");
    let device = Device::with(content);
    device.rename_and_save().unwrap();
    assert!(!device.content().contains("\"environment\"") && !device.content().contains("update_url"));
}

#[test]
fn texts_are_escaped_as_other_programs_expect() {
    let device = Device::with(EXAMPLE);
    let mut loaded = device.load();
    loaded.flock.name = "a<b>&c\"\\\n\r\t\u{1}\u{2028}ü".to_owned();
    loaded.file.save(&loaded.flock).unwrap();
    let line = "\n \"name\": \"a\\u003cb\\u003e\\u0026c\\\"\\\\\\n\\r\\t\\u0001\\u2028ü\",\n";
    assert!(format!("\n{}", &device.content()[2..]).starts_with(line), "{}", device.content());
    assert_eq!(device.load().flock.name, loaded.flock.name);
}

#[test]
fn a_symlink_stays_and_its_target_is_replaced() {
    let boot = Scratch::new();
    let target = boot.file("boot.flock", EXAMPLE);
    let dir = Scratch::new();
    let link = dir.join("device-config.flock");
    let middle = dir.join("middle");
    symlink(&target, &middle).unwrap();
    symlink("middle", &link).unwrap();
    let mut loaded = load(&link, dir.path()).unwrap();
    loaded.flock.name = "renamed".to_owned();
    assert_eq!(loaded.file.save(&loaded.flock).unwrap(), Saved::Replaced);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink() && fs::symlink_metadata(&middle).unwrap().is_symlink());
    assert!(fs::read_to_string(&target).unwrap().contains("renamed"));
    assert_eq!(boot.names(), ["boot.flock"]);
}

#[test]
fn the_file_is_private_after_a_write_and_after_every_start() {
    let device = Device::with(EXAMPLE);
    files::set_mode(&device.path, 0o777).unwrap();
    assert_eq!(device.load().file.protect(), None);
    assert_eq!(files::mode(&device.path).unwrap(), 0o600);
    files::set_mode(&device.path, 0o644).unwrap();
    device.rename_and_save().unwrap();
    assert_eq!(files::mode(&device.path).unwrap(), 0o600);
    files::set_mode(&device.path, 0o400).unwrap();
    assert_eq!(device.load().file.protect_with(|_, _| panic!("narrower is fine")), None);
}

#[test]
fn a_file_system_without_modes_is_said_at_debug_level_only() {
    let device = Device::with(EXAMPLE);
    files::set_mode(&device.path, 0o755).unwrap();
    let refuse = |_: &Path, _| Err(io::Error::from(io::ErrorKind::PermissionDenied));
    assert_eq!(device.load().file.protect_with(refuse).map(|notice| notice.level), Some(Level::Debug));
}

#[test]
fn a_refused_rename_is_written_in_place() {
    for kind in [io::ErrorKind::ResourceBusy, io::ErrorKind::PermissionDenied] {
        let device = Device::with(example_with("\"description\": null", "\"description\": \"a long one\""));
        let mut loaded = device.load();
        loaded.flock.name = "x".to_owned();
        let busy = |path: &Path, bytes: &[u8], mode| files::replace_with(path, bytes, mode, |_, _| Err(kind.into()));
        assert_eq!(loaded.file.save_with(&loaded.flock, busy).unwrap(), Saved::InPlace);
        assert_eq!(device.load().flock.name, "x");
        assert!(device.content().ends_with("dl\"\n}"), "cut to its new length: {}", device.content());
        assert_eq!(device.dir.names(), ["device.flock"]);
    }
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let device = Device::with(EXAMPLE);
    let mut loaded = device.load();
    loaded.flock.name = "x".to_owned();
    let full = |path: &Path, bytes: &[u8], mode| {
        files::replace_with(path, bytes, mode, |_, _| Err(io::ErrorKind::StorageFull.into()))
    };
    let error = loaded.file.save_with(&loaded.flock, full).unwrap_err().to_string();
    assert!(error.contains(&device.path.display().to_string()), "{error}");
    assert_eq!(device.content(), EXAMPLE);
    assert_eq!(device.dir.names(), ["device.flock"]);
    assert_eq!(loaded.file.save(&loaded.flock).unwrap(), Saved::Replaced, "the next save makes good for it");
}

#[test]
fn what_others_wrote_meanwhile_is_kept() {
    let device = Device::with(EXAMPLE);
    let mut loaded = device.load();
    fs::write(&device.path, example_with("fake-wifi-password", "new-password")).unwrap();
    loaded.flock.swarm_name = "other".to_owned();
    loaded.file.save(&loaded.flock).unwrap();
    assert_eq!(
        device.content(),
        example_with("fake-wifi-password", "new-password").replace("example_project", "other")
    );
}

#[test]
fn the_file_of_another_device_is_left_alone() {
    let device = Device::with(EXAMPLE);
    let mut loaded = device.load();
    let other = example_with("\"device_key\": 3", "\"device_key\": 4");
    fs::write(&device.path, &other).unwrap();
    loaded.flock.name = "x".to_owned();
    assert!(matches!(loaded.file.save(&loaded.flock), Err(SaveError::OtherDevice(_))));
    assert_eq!(device.content(), other);
}

#[test]
fn a_destroyed_file_is_stood_in_for_by_the_copy_on_every_start() {
    let device = Device::with(EXAMPLE);
    let loaded = device.load();
    loaded.file.keep_copy(device.dir.path(), &loaded.flock).unwrap();
    let [copy, _] = &device.dir.names()[..] else { panic!("{:?}", device.dir.names()) };
    assert!(["reagent-", ".flock", ".reswarm"].iter().all(|word| !copy.contains(word)), "{copy}");
    assert_eq!(files::mode(&device.dir.join(copy)).unwrap(), 0o600);
    for destroyed in ["", "\0\0\0", &EXAMPLE[..200], "[]"] {
        fs::write(&device.path, destroyed).unwrap();
        for _ in 0..2 {
            let mut restored = device.load();
            assert_eq!(restored.flock, loaded.flock);
            assert!(restored.file.is_restored());
            assert_eq!(restored.notices[0].level, Level::Error);
            assert!(restored.notices[0].text.contains(&device.path.display().to_string()));
            restored.flock.name = "renamed".to_owned();
            assert_eq!(restored.file.save(&restored.flock).unwrap(), Saved::LeftAlone);
            assert_eq!(device.content(), destroyed);
        }
    }
}

#[test]
fn valid_json_that_lacks_something_is_never_replaced_by_the_copy() {
    let device = Device::with(EXAMPLE);
    let loaded = device.load();
    loaded.file.keep_copy(device.dir.path(), &loaded.flock).unwrap();
    fs::write(&device.path, "{}").unwrap();
    assert!(device.refused().contains("lacks 'secret'"));
    fs::remove_file(&device.path).unwrap();
    assert!(load(&device.path, device.dir.path()).is_err(), "a missing file is not replaced either");
}

#[test]
fn a_copy_that_is_no_identity_does_not_help() {
    let device = Device::with("");
    fs::write(copy::path(device.dir.path()), "{}").unwrap();
    assert!(device.refused().contains("no JSON object"));
}

#[test]
fn the_copy_follows_the_device_and_is_written_only_on_change() {
    let device = Device::with(EXAMPLE);
    let mut loaded = device.load();
    loaded.file.keep_copy(device.dir.path(), &loaded.flock).unwrap();
    let copy = copy::path(device.dir.path());
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let first = inode(&copy);
    loaded.file.keep_copy(device.dir.path(), &loaded.flock).unwrap();
    assert_eq!(inode(&copy), first, "not written again");
    loaded.flock.swarm_key = 77;
    loaded.file.keep_copy(device.dir.path(), &loaded.flock).unwrap();
    assert!(fs::read_to_string(&copy).unwrap().contains("\"swarm_key\": 77"));
}

#[test]
fn no_secret_is_in_any_debug_form_or_message() {
    let device = Device::with(EXAMPLE);
    let shown = format!("{:?}", device.load());
    for secret in ["FAKE", "fake-wifi-password"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for content in ["\"FAKE-secret\"", "{\"secret\": FAKE-secret}", "{\"secret\": [\"FAKE-secret\"]}"] {
        let error = load(&Device::with(content).path, Path::new("/none")).err();
        assert!(!format!("{error:?}").contains("FAKE"), "{error:?}");
    }
}

#[test]
fn a_metadata_refresh_says_what_it_changed() {
    let flock = Device::with(EXAMPLE).load().flock;
    let of = |metadata: Metadata| {
        let mut flock = flock.clone();
        let refresh = flock.update_metadata(metadata);
        (refresh, flock)
    };
    let same = Metadata {
        device_name: Some("example-device".into()),
        swarm_name: Some("example_project".into()),
        owner_name: Some("example_owner".into()),
        swarm_key: 2,
    };
    assert_eq!(of(same.clone()), (Refresh::Same, flock.clone()));
    assert_eq!(of(Metadata { swarm_key: 2, ..Metadata::default() }), (Refresh::Same, flock.clone()), "missing keeps");
    assert_eq!(of(Metadata::default()).1.swarm_key, 2, "a missing key is no move");
    let (refresh, changed) = of(Metadata { device_name: Some(String::new()), ..same.clone() });
    assert_eq!((refresh, changed.name.as_str()), (Refresh::Changed, ""));
    let (refresh, moved) = of(Metadata { swarm_key: 9, owner_name: Some("new".into()), ..same });
    assert_eq!((refresh, moved.authid().as_str(), moved.swarm_owner_name.as_str()), (Refresh::Moved, "9-3", "new"));
}

#[test]
fn the_environment_is_resolved_in_the_documented_order() {
    let base = Device::with(EXAMPLE).load().flock;
    for (in_file, given, url, expected) in [
        ("Staging", Some("test"), "wss://x.datapods.io", "Staging"),
        ("", Some("test"), "wss://cbw.ironflock.com", "test"),
        ("", None, "wss://x.datapods.io/ironflock.com", "test"),
        ("", None, "wss://cbw.record-evolution.com/ws-re-dev", "production"),
        ("", None, "wss://cbw.ironflock.com/ws-re-dev", "production"),
        ("", None, "ws://localhost:8080", "local"),
    ] {
        let flock = Flock { environment: in_file.into(), device_endpoint_url: url.into(), ..base.clone() };
        assert_eq!(flock.environment(given), expected, "{in_file:?} {given:?} {url}");
    }
}
