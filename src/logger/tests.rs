//! Lines, levels and rotation, on real files.

use super::*;
use crate::clock::{Now, Wall};
use crate::os::files;
use crate::os::scratch::Scratch;
use log::{Log as _, Record};
use std::fs;
use std::path::Path;
use std::time::Duration;

fn now(seconds: u64) -> Now {
    let wall = Wall { seconds: 1_785_834_300 + i64::try_from(seconds).unwrap(), nanos: 7_000_000 };
    Now { mono: Duration::from_secs(seconds), wall }
}

/// What one record looks like to the writer.
fn written(settings: &Settings, level: Level, target: &str, message: &str) -> String {
    let (mut reader, writer) = io::pipe().unwrap();
    let logger = builder(settings, Box::new(writer)).build();
    logger.log(
        &Record::builder()
            .level(level)
            .target(target)
            .file(Some("src/x.rs"))
            .line(Some(7))
            .args(format_args!("{message}"))
            .build(),
    );
    drop(logger);
    io::read_to_string(&mut reader).unwrap()
}

fn settings() -> Settings {
    Settings { path: PathBuf::new(), debug: true, messaging: false, pretty: false }
}

#[test]
fn a_record_is_one_json_line_with_the_documented_keys() {
    let line = written(&settings(), Level::Info, "reagent::x", "up \"and\"\nrunning\u{1e}\u{1b}[31m");
    let json: serde_json::Value = serde_json::from_str(line.trim_end()).unwrap();
    assert_eq!(json["level"], "info");
    assert_eq!(json["message"], "up \"and\"\nrunning[31m");
    let time = json["time"].as_str().unwrap();
    assert!(Wall::parse(time).is_some() && time.ends_with('Z') && time.len() == 20, "{time}");
    assert_eq!(json.as_object().unwrap().len(), 3);
    assert!(line.starts_with("{\"level\":") && line.ends_with("}\n") && line.lines().count() == 1, "{line}");
}

#[test]
fn warnings_and_worse_go_to_standard_error_as_well() {
    for (level, name) in [(Level::Warn, "warn"), (Level::Error, "error")] {
        let text = written(&settings(), level, "reagent", "two\nlines");
        let (json, console) = text.split_once('\u{1e}').unwrap();
        assert_eq!(console, format!("e{name}: two lines\n"));
        let json: serde_json::Value = serde_json::from_str(json.trim_end()).unwrap();
        assert_eq!((json["level"].as_str(), json["caller"].as_str()), (Some(name), Some("src/x.rs:7")));
    }
    assert!(!written(&settings(), Level::Info, "reagent", "x").contains('\u{1e}'));
}

#[test]
fn pretty_lines_are_readable_and_plain_where_there_is_no_terminal() {
    let pretty = Settings { pretty: true, ..settings() };
    let text = written(&pretty, Level::Warn, "reagent", "careful");
    let (json, console) = text.split_once('\u{1e}').unwrap();
    assert!(json.starts_with('{'), "the file stays JSON: {json}");
    let line = console.strip_prefix('o').unwrap();
    assert_eq!(&line[4..5], "-");
    assert!(line[19..].ends_with("careful\n") && line[..19].replacen(' ', "T", 1).len() == 19, "{line}");
    let mut coloured = Vec::new();
    let record = Record::builder().level(Level::Error).args(format_args!("bad")).build();
    line::write_readable(&mut coloured, Wall::from_unix(0), &record, Colour::Ansi).unwrap();
    assert_eq!(String::from_utf8(coloured).unwrap(), "1970-01-01 00:00:00 \u{1b}[31mERROR\u{1b}[0m bad\n");
}

#[test]
fn levels_follow_the_flags_and_libraries_are_heard_from_warn_on() {
    let quiet = Settings { debug: false, ..settings() };
    let chatty = Settings { messaging: true, ..settings() };
    for (settings, level, target, heard) in [
        (&settings(), Level::Debug, "reagent::wamp", true),
        (&settings(), Level::Trace, "reagent", false),
        (&quiet, Level::Debug, "reagent", false),
        (&quiet, Level::Info, "reagent", true),
        (&settings(), Level::Debug, MESSAGING, false),
        (&chatty, Level::Debug, MESSAGING, true),
        (&settings(), Level::Info, "rustls::client", false),
        (&settings(), Level::Debug, "ureq", false),
        (&settings(), Level::Warn, "tungstenite", true),
    ] {
        assert_eq!(!written(settings, level, target, "x").is_empty(), heard, "{level} of {target} with {settings:?}");
    }
}

#[test]
fn a_message_without_end_is_cut_at_a_character() {
    let line = written(&settings(), Level::Info, "reagent", &"ä".repeat(20_000));
    assert!(line.len() < 17_000 && line.contains("ä…\""), "{}", line.len());
}

#[test]
fn an_existing_file_is_continued_and_a_new_one_is_private() {
    let dir = Scratch::new();
    let path = dir.join("deep/er/reagent.log");
    LogFile::open(&path, now(0)).append(b"one\n", now(0));
    LogFile::open(&path, now(1)).append(b"two\n", now(1));
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    assert_eq!(files::mode(&path).unwrap(), 0o600);
}

#[test]
fn the_file_is_rotated_before_a_line_would_pass_the_limit_and_two_rotations_are_kept() {
    let dir = Scratch::new();
    let path = dir.file("reagent.log", "");
    files::set_mode(&path, 0o640).unwrap();
    for other in ["reagent-notes.log", "other-2026-08-04T00-00-00.000.log"] {
        dir.file(other, "kept");
    }
    let mut log = LogFile::with_limit(&path, 10, now(0));
    for second in 0..9 {
        log.append(b"12345\n", now(second));
    }
    let expected = [
        "other-2026-08-04T00-00-00.000.log",
        "reagent-2026-08-04T09-05-07.007.log",
        "reagent-2026-08-04T09-05-08.007.log",
        "reagent-notes.log",
        "reagent.log",
    ];
    assert_eq!(dir.names(), expected);
    assert_eq!(files::mode(&path).unwrap(), 0o640, "as the old one");
    assert_eq!(fs::read_to_string(&path).unwrap(), "12345\n");
    log.append(b"1234\n", now(9));
    assert_eq!(fs::metadata(&path).unwrap().len(), 5, "rotated: 11 bytes are more than 10");
    log.append(b"1234\n", now(9));
    assert_eq!(fs::metadata(&path).unwrap().len(), 10, "exactly the limit fits");
    log.append(&[b'x'; 50], now(10));
    assert_eq!(fs::metadata(&path).unwrap().len(), 50, "a line longer than a file gets one of its own");
}

#[test]
fn two_rotations_in_one_millisecond_have_two_names() {
    let dir = Scratch::new();
    let mut log = LogFile::with_limit(&dir.join("a.log"), 5, now(0));
    for line in [b"1st.\n", b"2nd.\n", b"3rd.\n"] {
        log.append(line, now(0));
    }
    assert_eq!(dir.names(), ["a-2026-08-04T09-05-00.007.log", "a-2026-08-04T09-05-00.008.log", "a.log"]);
}

#[test]
fn a_rotation_made_while_the_clock_is_unset_is_not_the_one_to_go() {
    let dir = Scratch::new();
    for day in 1..=3 {
        dir.file(&format!("a-2026-08-0{day}T00-00-00.000.log"), "");
    }
    let path = dir.file("a.log", "full!");
    LogFile::with_limit(&path, 5, Now { mono: Duration::ZERO, wall: Wall::from_unix(0) });
    assert_eq!(dir.names(), ["a-1970-01-01T00-00-00.000.log", "a-2026-08-03T00-00-00.000.log", "a.log"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "", "rotated at the start");
}

#[test]
fn a_file_that_cannot_be_moved_is_cut_off() {
    let dir = Scratch::new();
    // A name that leaves no room for the time.
    let path = dir.file(&format!("{}.log", "n".repeat(240)), "full!");
    let mut log = LogFile::with_limit(&path, 5, now(0));
    log.append(b"new\n", now(0));
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    assert_eq!(dir.names().len(), 1);
}

#[test]
fn d2_a_full_disk_loses_lines_and_says_how_many_when_it_is_over() {
    let mut log = LogFile::open(Path::new("/dev/full"), now(0));
    for second in 0..3 {
        log.append(b"lost\n", now(second));
    }
    assert_eq!(log.lost(), 3);
    let dir = Scratch::new();
    log.path = dir.join("reagent.log");
    log.append(b"too early\n", now(3));
    assert_eq!(dir.names(), Vec::<String>::new(), "a failing file is left alone for a while");
    log.append(b"back\n", now(60));
    let text = fs::read_to_string(dir.join("reagent.log")).unwrap();
    let (report, line) = text.split_once('\n').unwrap();
    assert_eq!(line, "back\n");
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!(report["message"], "4 log lines could not be written");
    assert_eq!(log.lost(), 0);
}

#[test]
fn a_device_is_never_moved_or_cut_off() {
    // A link, so that a fault here does not take the device away from this machine.
    let dir = Scratch::new();
    let path = dir.join("null.log");
    std::os::unix::fs::symlink("/dev/null", &path).unwrap();
    let mut log = LogFile::with_limit(&path, 5, now(0));
    for _ in 0..3 {
        log.append(b"1234\n", now(0));
    }
    assert_eq!((log.lost(), dir.names()), (0, vec!["null.log".to_owned()]));
}

#[test]
fn a_directory_that_cannot_be_made_is_tried_again_later() {
    let dir = Scratch::new();
    let blocker = dir.file("blocker", "");
    let path = blocker.join("reagent.log");
    let mut log = LogFile::open(&path, now(0));
    log.append(b"lost\n", now(0));
    fs::remove_file(&blocker).unwrap();
    log.append(b"back\n", now(60));
    assert!(fs::read_to_string(&path).unwrap().ends_with("back\n"));
}

#[test]
fn only_rotations_of_this_log_are_told_apart_from_other_files() {
    let log = Path::new("/var/log/reagent.log");
    assert!(is_rotation(Path::new("/var/log/reagent-2026-08-04T00-00-00.000.log"), log));
    for other in [
        "/var/log/reagent.log",
        "/var/log/reagent-2026-08-04T00-00-00.log",
        "/var/log/reagent-2026-08-04T00:00:00.000.log",
        "/var/log/xreagent-2026-08-04T00-00-00.000.log",
        "/tmp/reagent-2026-08-04T00-00-00.000.log",
        "/var/log/reagent-2026-08-04T00-00-00.000.log.gz",
    ] {
        assert!(!is_rotation(Path::new(other), log), "{other}");
    }
}
