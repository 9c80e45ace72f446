//! Archives of sources and the calls that bring them: whatever they say, the worker neither panics nor touches anything
//! beside the app's directory (storage chapter 7.3, 7.4).

use super::generator::{Random, golden};
use super::{Case, cases};
use crate::util::TempDir;
use crate::util::tar::{Tar, compressed};
use crossbeam_channel::{Receiver, unbounded};
use reagent::docker::{Address, Docker};
use reagent::domain::job::{JobSpec, Outcome};
use reagent::domain::names;
use reagent::jobs::{self, Event, Handle, Settings};
use reagent::logs;
use reagent::rpc::write_data;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// Workers without an Engine, and folders with something to be left alone.
struct Bench {
    // The workers go before their folder.
    handle: Handle,
    events: Receiver<Event>,
    _hub: logs::Handle,
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = TempDir::new("fuzz");
        let docker = Docker::at(Address::from_setting("unix:///none", "").unwrap());
        let source = logs::source::of_engine(docker.clone());
        let hub = logs::spawn("serial", source, |_| logs::Outflow::FREE, unbounded().0, |event| event, |_| {}).unwrap();
        let settings = Settings {
            docker,
            apps_dir: folder.join("apps"),
            archive_extension: "tgz".to_owned(),
            agent_dir: folder.join("agent"),
            device_env: "test".to_owned(),
            update_base: String::new(),
            serial: "serial".to_owned(),
            feed: hub.feed(),
            time_floor: reagent::clock::Wall::default(),
            programs: jobs::Programs::with([]),
        };
        let (sink, events) = unbounded();
        let handle = jobs::spawn(settings, sink, |event| event, |_| {}).unwrap();
        fs::create_dir_all(folder.join("apps/build")).unwrap();
        for file in ["outside", "apps/outside", "apps/build/outside"] {
            fs::write(folder.join(file), "as it was").unwrap();
        }
        Bench { handle, events, _hub: hub, folder }
    }

    fn unpack(&self, archive: &[u8]) -> Outcome {
        fs::write(self.folder.join("apps/build/app.tgz"), archive).unwrap();
        self.handle.start(1, JobSpec::Unpack { app_name: "app".to_owned() });
        match self.events.recv_timeout(Duration::from_secs(60)).expect("an end") {
            Event::Ended { outcome, .. } => outcome,
            other => panic!("no end but {other:?}"),
        }
    }

    /// Everything but the app's directory is as it was, and nothing in that leads out of it.
    fn judge(&self, outcome: &Outcome) {
        let is_done = match outcome {
            Outcome::Done => true,
            Outcome::Failed(text) => {
                assert!(!text.contains("panicked"), "{text}");
                false
            }
            other => panic!("{other:?}"),
        };
        let build = self.folder.join("apps/build");
        assert_eq!(names_in(self.folder.path()), ["apps", "outside"]);
        assert_eq!(names_in(&self.folder.join("apps")), ["build", "outside"]);
        let expected: &[&str] = if is_done { &["app", "app.tgz", "outside"] } else { &["app.tgz", "outside"] };
        assert_eq!(names_in(&build), expected);
        for file in ["outside", "apps/outside", "apps/build/outside"] {
            let path = self.folder.join(file);
            assert_eq!(fs::read(&path).unwrap(), b"as it was");
            assert_eq!(fs::metadata(&path).unwrap().nlink(), 1, "no second name");
        }
        if is_done {
            inspect(&build.join("app"), &build.join("app").canonicalize().unwrap());
            fs::remove_dir_all(build.join("app")).unwrap();
        }
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Only files, directories and links that stay below `root`.
fn inspect(folder: &Path, root: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_symlink() {
            // One that leads nowhere, or to itself, leads nowhere else.
            if let Ok(real) = path.canonicalize() {
                assert!(real.starts_with(root), "{} leads to {}", path.display(), real.display());
            }
        } else {
            assert!(kind.is_dir() || kind.is_file(), "{}", path.display());
            assert_eq!(entry.metadata().unwrap().mode() & 0o7777, 0o755, "{}", path.display());
            if kind.is_dir() {
                inspect(&path, root);
            }
        }
    }
}

/// A path that leads elsewhere, perhaps.
fn path(random: &mut Random) -> String {
    let parts: Vec<&str> =
        (0..1 + random.below(4)).map(|_| random.pick(&["a", "b", "..", "..", "..", ".", "", "outside", "l"])).collect();
    let slash = if random.once_in(12) { "/" } else { "" };
    format!("{slash}{}", parts.join("/"))
}

/// Mostly a good one, out of parts that meet often: an archive is taken only if all of its names are good.
fn name(random: &mut Random) -> String {
    if random.once_in(40) {
        return path(random);
    }
    let parts: Vec<&str> = (0..1 + random.below(3)).map(|_| random.pick(&["a", "b", "l", "m"])).collect();
    parts.join("/")
}

/// Files, links, directories, and now and then a device.
const FLAGS: &[&[u8; 1]] = &[b"0", b"0", b"0", b"0", b"1", b"2", b"2", b"2", b"2", b"5", b"5", b"5", b"7", b"\0", b"g"];

fn tar(random: &mut Random, case: &mut Case) -> Tar {
    let mut tar = Tar::default();
    for _ in 0..1 + random.below(8) {
        let name = name(random);
        let target = if random.once_in(3) { path(random) } else { self::name(random) };
        let flag = if random.once_in(60) { b"3" } else { random.pick(FLAGS) };
        if random.once_in(20) {
            let key = random.pick(&["path", "linkpath", "size", "comment", "GNU.sparse.name"]);
            let value = if key == "size" { random.below(2000).to_string() } else { path(random) };
            case.note((key, &value));
            tar = tar.extended(key, &value);
        }
        if random.once_in(20) {
            let flag = *random.pick(&[b"L", b"K"]);
            tar = tar.entry("long", flag[0], "", path(random).as_bytes());
        }
        case.note((&name, char::from(flag[0]), &target));
        // Links, directories and devices have none, whatever their size says; what follows is the next header then.
        let has_content = matches!(flag[0], b'0' | b'7' | 0 | b'g') || random.once_in(30);
        let count = if has_content { random.below(1500) } else { 0 };
        let content = random.bytes(count);
        tar = tar.entry(&name, flag[0], &target, &content);
    }
    tar
}

#[test]
fn archives_of_every_kind_stay_in_their_directory() {
    let bench = Bench::new();
    cases(1500, |random, case| {
        let mut bytes = tar(random, case).bytes();
        if random.once_in(6) {
            bytes = random.mutate(&bytes, &[]);
        }
        if random.once_in(2) {
            bytes.resize(bytes.len() + 1024, 0);
        }
        let outcome = bench.unpack(&compressed(&bytes));
        case.note(&outcome);
        bench.judge(&outcome);
    });
}

#[test]
fn damaged_archives_of_real_programs_stay_in_their_directory() {
    let (bench, archives) = (Bench::new(), golden("archives"));
    cases(1000, |random, case| {
        let archive = &archives[random.below(archives.len())];
        let archive = random.mutate(archive, &archives);
        case.note_bytes(&archive);
        let outcome = bench.unpack(&archive);
        bench.judge(&outcome);
    });
}

#[test]
fn p2_arguments_of_every_kind_are_a_message_with_harmless_names_or_an_error() {
    cases(20_000, |random, case| {
        let mut args: Vec<Value> = vec![json!("BEGIN"), json!("a.tgz"), json!("dev_1_a"), json!(1), json!("id")];
        for _ in 0..random.below(4) {
            let at = random.below(5);
            args[at] = match random.below(4) {
                0 => random.json(2),
                1 => json!(path(random)),
                2 => json!(random.text(12)),
                _ => json!(format!("dev_{}_{}", random.below(20), random.text(8))),
            };
        }
        args.truncate(if random.once_in(8) { random.below(6) } else { 5 });
        case.note(&args);
        let container = write_data::container(&args);
        if let Ok(message) = write_data::message(args) {
            assert!(names::is_path_part(&message.file));
            assert_eq!(container.as_ref(), Some(&message.container));
            assert!(names::parse_container(&message.container).is_some());
            assert!(!message.container.contains(|c: char| c.is_whitespace() || c == '#' || c == '/'));
        }
    });
}
