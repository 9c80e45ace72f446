//! Building from an archive.

use super::*;
use crate::util::docker_daemon::{Fault, Pull};
use reagent::domain::job::{Build, Login};
use reagent::secret::Secret;
use serde_json::json;
use std::path::PathBuf;

const TAG: &str = "registry.test/apps/dev_amd64_900001_app";
const DEV: &str = "dev_900001_app";
const FORMATS: [&str; 5] = ["v7", "ustar", "gnu", "pax", "git"];

fn archive(format: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/golden/archives/{format}.tgz", env!("CARGO_MANIFEST_DIR"))).expect("it is there")
}

fn login(registry: &str, username: &str) -> Login {
    Login { registry: registry.to_owned(), username: Secret::new(username), password: Secret::new("hush") }
}

fn build_for(arch: &str) -> JobSpec {
    JobSpec::Build(Box::new(Build {
        app_name: "My App".to_owned(),
        image: TAG.to_owned(),
        id: "build_900001_My App".to_owned(),
        arch: arch.to_owned(),
        logins: vec![login("registry.test/", "token"), login("docker.io", "user")],
        container: DEV.to_owned(),
    }))
}

fn build() -> JobSpec {
    build_for("amd64")
}

impl Jobs {
    /// Where the archive is looked for; its folder exists.
    fn archive(&self) -> PathBuf {
        let folder = self.folder.join("apps/build");
        std::fs::create_dir_all(&folder).expect("a folder");
        folder.join("My App.tgz")
    }

    fn with_archive(daemon: &DockerDaemon) -> Jobs {
        let jobs = Jobs::with(daemon);
        std::fs::write(jobs.archive(), archive("gnu")).expect("written");
        jobs
    }
}

#[test]
fn a_build_sends_the_archive_as_it_is_and_takes_the_dockerfile_for_the_architecture_at_its_root_alone() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    for (n, format) in FORMATS.into_iter().enumerate() {
        std::fs::write(jobs.archive(), archive(format)).expect("written");
        // That for amd64 is in a folder of the archive.
        for (m, (arch, dockerfile)) in [("amd64", "Dockerfile"), ("arm64", "Dockerfile.arm64")].into_iter().enumerate()
        {
            assert_eq!(jobs.perform_accepted(build_for(arch)), Outcome::Done, "{format}");
            let asked = daemon.wait_for_request("POST /build", 2 * n + m + 1);
            assert_eq!(asked.query("dockerfile"), dockerfile, "{format}");
            assert!(asked.body == archive(format), "{format}");
        }
    }
    assert_eq!(daemon.images(), [format!("{TAG}:latest")]);
    let asked = daemon.wait_for_request("POST /build", 1);
    let query = ["t", "buildid", "rm", "forcerm"].map(|name| asked.query(name));
    assert_eq!(query, [TAG, "build_900001_My App", "1", "1"]);
    let logins: serde_json::Value = serde_json::from_str(&login_in(&asked, "x-registry-config")).expect("JSON");
    let expected = json!({
        "registry.test": {"username": "token", "password": "hush"},
        "https://index.docker.io/v1/": {"username": "user", "password": "hush"},
    });
    assert_eq!(logins, expected);
    let lines = jobs.log_of(DEV);
    assert!(lines.iter().any(|line| line.contains("Successfully tagged")), "{lines:?}");
}

#[test]
fn an_archive_that_is_absent_or_no_file_is_said_to_be_missing_and_the_engine_is_not_asked() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    let expect = |what: &str, text: &str| {
        let outcome = jobs.perform(build());
        assert!(matches!(&outcome, Outcome::Failed(said) if said.starts_with(text)), "{what}: {outcome:?}");
    };
    let path = jobs.archive();
    expect("absent", "The source archive was not found: ");
    std::fs::write(jobs.folder.join("elsewhere.tgz"), archive("gnu")).expect("written");
    std::os::unix::fs::symlink(jobs.folder.join("elsewhere.tgz"), &path).expect("a link");
    expect("a link", "The source archive was not found: ");
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder");
    expect("a folder", "The source archive was not found: ");
    std::fs::remove_dir(&path).expect("removed");
    let whole = archive("gnu");
    for broken in [b"rubbish", &whole[..whole.len() / 2], b""] {
        std::fs::write(&path, broken).expect("written");
        expect("broken", "The source archive My App.tgz cannot be used: ");
    }
    let JobSpec::Build(mut elsewhere) = build() else { unreachable!() };
    elsewhere.app_name = "../elsewhere".to_owned();
    let outcome = jobs.perform(JobSpec::Build(elsewhere));
    assert!(matches!(&outcome, Outcome::Failed(said) if said.contains("cannot be the name")), "{outcome:?}");
    assert_eq!(daemon.requests(), []);
}

#[test]
fn a_dockerfile_that_is_missing_or_empty_is_said_in_plain_words() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with_archive(&daemon);
    for (status, message, text) in [
        (500, "Cannot locate specified Dockerfile: Dockerfile", "There is no Dockerfile in the project root"),
        (400, "the Dockerfile (Dockerfile) cannot be empty", "The Dockerfile is empty"),
        (400, "file with no instructions", "file with no instructions"),
    ] {
        daemon.fault("POST /build", Fault::Status(status, message.to_owned()));
        assert_eq!(jobs.perform(build()), Outcome::Failed(text.to_owned()));
    }
}

#[test]
fn s5_a_build_that_fails_says_so_in_its_own_record_however_long_it_is() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with_archive(&daemon);
    let text = format!("returned a non-zero code: 7{}", "!".repeat(300_000));
    daemon.make(TAG, Pull::Fails(text.clone()));
    assert!(jobs.perform_accepted(build()) == Outcome::Failed(text));
    let lines = jobs.log_of(DEV);
    let failures = lines.iter().filter(|line| line.contains("non-zero code"));
    assert_eq!((failures.count(), daemon.images().len()), (1, 0), "the record alone: no agent line repeats it");
}

#[test]
fn c7_a_build_that_stalls_is_cancelled_within_a_second_and_the_engine_stops_it() {
    let daemon = DockerDaemon::start();
    daemon.make(TAG, Pull::Stalls);
    let jobs = Jobs::with_archive(&daemon);
    jobs.handle.start(1, build());
    assert_eq!(jobs.next(), Event::Accepted(1));
    jobs.cancel_at_once(1, &daemon);
    // Before it was accepted, too.
    daemon.fault("POST /build", Fault::Hang);
    jobs.handle.start(2, build());
    daemon.wait_for_request("POST /build", 2);
    jobs.cancel_at_once(2, &daemon);
}

#[test]
fn d1_an_engine_that_hangs_is_found_out_before_the_build() {
    let daemon = DockerDaemon::start();
    let setup = Setup::of(&daemon);
    setup.docker.negotiate().expect("it answers");
    let jobs = Setup { docker: setup.docker.within(Duration::from_millis(50)), ..setup }.spawn();
    std::fs::write(jobs.archive(), archive("gnu")).expect("written");
    daemon.fault("*", Fault::Hang);
    let outcome = jobs.perform(build());
    assert!(matches!(outcome, Outcome::EngineGone(_)), "{outcome:?}");
    assert!(daemon.requests().iter().all(|asked| asked.path == "/_ping"));
}

#[test]
fn an_engine_that_goes_in_the_middle_of_a_build_is_gone() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with_archive(&daemon);
    daemon.fault("POST /build", Fault::Truncate);
    let outcome = jobs.perform_accepted(build());
    assert!(matches!(outcome, Outcome::EngineGone(_)), "{outcome:?}");
    daemon.heal();
    daemon.make(TAG, Pull::Stalls);
    jobs.handle.start(1, build());
    assert_eq!(jobs.next(), Event::Accepted(1));
    daemon.go_down();
    let outcome = jobs.wait_for_end(1);
    assert!(matches!(outcome, Outcome::EngineGone(_)), "{outcome:?}");
    assert!(!jobs.log_of(DEV).iter().any(|line| line.contains("not reachable")), "that is nothing that a viewer did");
}
