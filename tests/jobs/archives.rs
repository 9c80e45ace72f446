//! Unpacking what a developer, or somebody in his place, has sent (storage chapter 7.4): what is taken, what is refused, and
//! that nothing beside the app's own directory is ever touched.

use super::Jobs;
use crate::util::docker_daemon::DockerDaemon;
use crate::util::tar::{Tar, compressed};
use reagent::domain::job::{JobSpec, Outcome};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Workers whose apps have a build directory, and something beside it that is to stay as it is.
struct Bench {
    jobs: Jobs,
    _daemon: DockerDaemon,
}

impl Bench {
    fn new() -> Bench {
        let daemon = DockerDaemon::start();
        let bench = Bench { jobs: Jobs::with(&daemon), _daemon: daemon };
        fs::create_dir_all(bench.build("")).unwrap();
        fs::write(bench.jobs.folder.join("outside"), "as it was").unwrap();
        bench
    }

    fn build(&self, name: &str) -> PathBuf {
        self.jobs.folder.join("apps/build").join(name)
    }

    #[track_caller]
    fn unpack(&self, archive: &[u8]) -> Outcome {
        fs::write(self.build("Demo.tgz"), archive).unwrap();
        let outcome = self.jobs.perform(JobSpec::Unpack { app_name: "Demo".to_owned() });
        assert_eq!(fs::read_to_string(self.jobs.folder.join("outside")).unwrap(), "as it was");
        assert_eq!(names(self.jobs.folder.path()), ["apps", "outside"]);
        assert_eq!(names(&self.jobs.folder.join("apps")), ["build"]);
        outcome
    }

    /// It is refused with these words, and what was there before stays.
    #[track_caller]
    fn refuses(&self, archive: &[u8], part: &str) {
        drop(fs::remove_dir_all(self.build("Demo")));
        fs::create_dir_all(self.build("Demo")).unwrap();
        fs::write(self.build("Demo/before"), "").unwrap();
        match self.unpack(archive) {
            Outcome::Failed(text) => assert!(text.contains(part) && text.len() < 600, "{text} lacks {part}"),
            other => panic!("no refusal for {part:?} but {other:?}"),
        }
        assert_eq!(names(&self.build("")), ["Demo", "Demo.tgz"]);
        assert_eq!(names(&self.build("Demo")), ["before"]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_real_programs_pack_is_unpacked_in_place_of_what_was_there() {
    let bench = Bench::new();
    for format in ["gnu", "ustar", "pax", "v7", "git"] {
        let archive = fs::read(format!("{}/tests/golden/archives/{format}.tgz", env!("CARGO_MANIFEST_DIR"))).unwrap();
        fs::create_dir_all(bench.build("Demo/old")).unwrap();
        assert_eq!(bench.unpack(&archive), Outcome::Done, "{format}");
        let demo = bench.build("Demo");
        assert!(!demo.join("old").exists());
        assert_eq!(fs::read_to_string(demo.join("Dockerfile")).unwrap(), "FROM scratch\n");
        assert_eq!(fs::read_to_string(demo.join("src/deep/link")).unwrap(), "#!/bin/sh\n", "{format}");
        for path in ["", "src", "src/deep", "Dockerfile", "src/run.sh"] {
            let mode = fs::metadata(demo.join(path)).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o755, "{format} {path}");
        }
        if format != "v7" {
            let middling = "middling-".repeat(7);
            assert_eq!(fs::read_to_string(demo.join(format!("src/{middling}/{middling}/file.txt"))).unwrap(), "deep\n");
        }
        assert_eq!(names(&bench.build("")), ["Demo", "Demo.tgz"]);
    }
}

#[test]
fn parents_are_made_and_later_entries_take_the_place_of_earlier_ones() {
    let bench = Bench::new();
    let archive = Tar::default()
        .file("a/b/c", "1")
        .file("./a//b/./d", "2")
        .symlink("a/l", "b/c")
        .file("a/l", "3")
        .hard_link("again", "a/b/c")
        .file("a/b/c", "4")
        .entry("a", b'5', "", b"");
    assert_eq!(bench.unpack(&archive.pack()), Outcome::Done);
    let text = |path: &str| fs::read_to_string(bench.build("Demo").join(path)).unwrap();
    assert_eq!(["a/b/c", "a/b/d", "a/l", "again"].map(text), ["4", "2", "3", "1"]);
    assert_eq!(bench.unpack(&Tar::default().pack()), Outcome::Done);
    assert_eq!(names(&bench.build("Demo")), [] as [&str; 0]);
}

#[test]
fn an_entry_that_leads_outside_is_refused_and_nothing_of_the_archive_stays() {
    let bench = Bench::new();
    let outside = bench.jobs.folder.join("outside").to_str().unwrap().to_owned();
    let good = || Tar::default().file("good", "1");
    bench.refuses(&good().file("./", "x").entry("", b'0', "", b"x").pack(), "an empty name");
    for name in ["../outside", "../../../outside", "a/../../../../outside", "a/..", ".."] {
        bench.refuses(&good().file(name, "x").pack(), "leads");
        bench.refuses(
            &good().extended("path", "long").file(name, "x").extended("path", "../x").file("y", "").pack(),
            "leads",
        );
    }
    bench.refuses(&good().file(&outside, "x").pack(), "an absolute path");
    bench.refuses(&good().extended("path", &outside).file("x", "x").pack(), "an absolute path");
    bench.refuses(&good().entry("L", b'L', "", outside.as_bytes()).file("x", "x").pack(), "an absolute path");
    for target in ["/", &outside, "..", "../..", "a/../..", "good/.."] {
        bench.refuses(&good().symlink("link", target).pack(), "outside");
        if !target.starts_with('/') {
            bench.refuses(&good().symlink("a/b/link", &format!("../../{target}")).pack(), "outside");
        }
    }
    bench.refuses(&good().hard_link("link", &outside).pack(), "an absolute path");
    bench.refuses(&good().hard_link("link", "../../../outside").pack(), "leads elsewhere");
    bench.refuses(&good().hard_link("link", "none").pack(), "No such file");
    // Step by step: each link is inside, what it makes of the next name is not.
    bench.refuses(&good().symlink("a", "b").symlink("b", ".").file("a/../outside", "x").pack(), "leads");
    bench.refuses(&good().symlink("a/l", "..").file("a/l/x", "x").pack(), "a/l/x");
    bench.refuses(&good().symlink("a/b/l", "../..").hard_link("l", "a/b/l").pack(), "no file");
    bench.refuses(&good().symlink("a/b/l", "../..").hard_link("x", "a/b/l/good").pack(), "\"x\"");
}

#[test]
fn devices_and_what_else_is_no_file_are_refused() {
    let bench = Bench::new();
    for flag in [b'3', b'4', b'6', b'S', b'V', b'M', b'Z', b'8'] {
        bench.refuses(&Tar::default().entry("dev", flag, "", b"").pack(), "only files, directories and links");
    }
    bench.refuses(&Tar::default().extended("GNU.sparse.major", "1").file("x", "").pack(), "holes");
    bench.refuses(&Tar::default().file("a", "1").file("a/b", "2").pack(), "a/b");
    bench.refuses(&Tar::default().file("a/b", "1").file("a", "2").pack(), "\"a\"");
}

#[test]
fn names_sizes_and_numbers_have_their_limits() {
    let bench = Bench::new();
    let deep = |bytes: usize| "d/".repeat(bytes / 2);
    assert_eq!(bench.unpack(&Tar::default().extended("path", &deep(2048)).file("x", "").pack()), Outcome::Done);
    bench.refuses(&Tar::default().extended("path", &deep(4098)).file("x", "").pack(), "4096 are the most");
    bench.refuses(&Tar::default().extended("linkpath", &deep(4098)).symlink("x", "").pack(), "4096 are the most");
    bench.refuses(&Tar::default().extended("path", "a\0b").file("x", "").pack(), "NUL");
    bench.refuses(&Tar::default().extended("path", &"x".repeat(256)).file("x", "").pack(), "too long");
    bench.refuses(&Tar::default().extended("comment", &"x".repeat(70_000)).file("x", "").pack(), "extended header");
    bench.refuses(&Tar::default().extended("size", "18446744073709551615").file("x", "").pack(), "larger than allowed");
    bench.refuses(&Tar::default().extended("size", "-1").file("x", "").pack(), "no number");
    bench.refuses(&compressed(&vec![0; 65 << 20]), "larger than allowed");
    let zeros = "\0".repeat(64 << 20);
    bench.refuses(&Tar::default().file("zeros", &zeros).pack(), "larger than allowed");
    assert_eq!(bench.unpack(&Tar::default().file("zeros", &zeros[..63 << 20]).pack()), Outcome::Done);
}

#[test]
fn an_archive_of_too_many_entries_is_refused() {
    let bench = Bench::new();
    // All the same one, so that the test is no burden to the disk.
    let mut tar = Tar::default().entry("d", b'5', "", b"").bytes().repeat(200_001);
    tar.resize(tar.len() + 1024, 0);
    bench.refuses(&compressed(&tar), "more than 200000 entries");
}

#[test]
fn what_is_no_archive_or_half_of_one_changes_nothing() {
    let bench = Bench::new();
    let whole = Tar::default().file("a", "1").file("b", &"2".repeat(5000)).pack();
    for archive in [&b""[..], b"no archive", &whole[..whole.len() - 5], &whole[..30], &compressed(b"no archive")] {
        bench.refuses(archive, "Demo.tgz");
    }
    let mut damaged = whole.clone();
    let at = damaged.len() - 8;
    damaged[at] ^= 1;
    bench.refuses(&damaged, "checksum");
    fs::remove_file(bench.build("Demo.tgz")).unwrap();
    let outcome = bench.jobs.perform(JobSpec::Unpack { app_name: "Demo".to_owned() });
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("Demo.tgz")), "{outcome:?}");
    for name in ["", "..", "../x", "a/b", ".hidden"] {
        let outcome = bench.jobs.perform(JobSpec::Unpack { app_name: name.to_owned() });
        assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("cannot be the name")), "{outcome:?}");
    }
}
