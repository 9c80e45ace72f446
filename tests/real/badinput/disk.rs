//! A disk that is full: the engine's, and the one of the apps' files.

use super::{Ground, PATIENCE, fails, project, sleeper};
use crate::cloud::wanted::WantedApp;
use crate::jobs::Setup;
use crate::real::engine::Engine;
use crate::real::{Docker, Registry};
use crate::util::tar::Tar;
use reagent::domain::job::{JobSpec, Outcome};
use reagent::secret::Secret;
use serde_json::{Map, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system of a size, for the time of a test.
struct Small(PathBuf);

impl Small {
    fn mount(path: &Path, size: &str) -> Small {
        std::fs::create_dir_all(path).expect("a folder");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "small"]).arg(path).status();
        assert!(mounted.expect("there is a mount").success());
        Small(path.to_owned())
    }

    /// Leaves about this many bytes.
    fn fill(&self) {
        let room = std::fs::File::create(self.0.join("ballast")).expect("a file");
        let mut room = std::io::BufWriter::new(room);
        while std::io::Write::write_all(&mut room, &[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("it was filled");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // An engine that had its data there has unmounted it when it ended.
        drop(Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status());
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("it is there");
    let mut names: Vec<_> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

#[test]
fn d2_a_full_disk_of_the_apps_fails_what_writes_there_and_nothing_else() {
    let ground = Ground::start();
    let apps = ground.stage.agent.apps_dir();
    let disk = Small::mount(&apps.join("prod"), "1m");
    let builds = Small::mount(&apps.join("build"), "1m");
    let plain = WantedApp::new(7850, "plain");
    let composed = WantedApp::new(7851, "composed").compose(project(&sleeper()));
    let unpacked =
        WantedApp::new(7852, "Unpacked").dev().target("BUILT").compose(json!({"services": {"web": {"build": "."}}}));
    ground.publish(&plain, "1.0.0");
    let sources = Tar::default()
        .file("Dockerfile", "FROM busybox:local\nCMD [\"sleep\", \"1000\"]\n")
        .file("data", &"x".repeat(600_000));
    std::fs::write(apps.join("build/Unpacked.tgz"), sources.pack()).expect("there is room");
    // Many small files: what they hold would fit, what they take does not. The disk is full in the middle.
    let midway = WantedApp::new(7854, "Midway");
    let midway = midway.dev().target("BUILT").compose(json!({"services": {"web": {"build": "."}}}));
    let many = (0..400)
        .fold(Tar::default().file("Dockerfile", "FROM busybox:local\n"), |tar, n| tar.file(&format!("small{n}"), "x"));
    std::fs::write(apps.join("build/Midway.tgz"), many.pack()).expect("there is room");
    std::fs::create_dir_all(apps.join("build/Midway")).expect("there is room");
    std::fs::write(apps.join("build/Midway/before"), "as it was").expect("there is room");
    ground.all_end(&[fails("sources of many files", midway.clone(), &["Midway.tgz", "No space left on device"])]);
    assert_eq!(names(&apps.join("build")), ["Midway", "Midway.tgz", "Unpacked.tgz"], "nothing is left half unpacked");
    assert_eq!(names(&apps.join("build/Midway")), ["before"], "the sources before are not lost");
    let few = Tar::default().file("Dockerfile", "FROM busybox:local\n").pack();
    std::fs::write(apps.join("build/Midway.tgz"), few).expect("there is room");
    disk.fill();
    builds.fill();
    let full = "No space left on device";
    ground.all_end(&[
        fails("variables of a plain app", plain.clone(), &[full]),
        fails("variables of a project", composed.clone(), &[full]),
        fails("sources of a project", unpacked.clone(), &["too large for the disk"]),
    ]);
    // An upload is refused, and leaves nothing.
    let send = |word: &str| {
        let args = vec![json!(word), json!("Upload.tgz"), json!("dev_7853_upload"), json!(1000), json!("one")];
        ground.stage.backend.call_agent("write_data", args, Map::new())
    };
    let answers: Vec<String> = ["BEGIN", &"ab".repeat(1000), "END"]
        .into_iter()
        .filter_map(|word| send(word).err())
        .map(|error| format!("{error:?}"))
        .collect();
    assert!(answers.iter().any(|error| error.contains("space")), "{answers:?}");
    let left = names(&apps.join("build"));
    assert!(!left.iter().any(|name| name.starts_with("Upload")), "{left:?}");
    ground.others_are_untouched();
    disk.free();
    builds.free();
    for word in ["BEGIN", &"ab".repeat(1000), "END"] {
        assert!(send(word).is_ok());
    }
    let mark = ground.stage.backend.mark();
    for app in [&plain, &composed, &unpacked, &midway] {
        ground.stage.backend.request_app_state(&app.clone().current("FAILED")).expect("taken");
    }
    ground.stage.backend.wait_for_state(PATIENCE, mark, 7850, "RUNNING");
    ground.stage.backend.wait_for_state(PATIENCE, mark, 7851, "RUNNING");
    ground.stage.backend.wait_for_state(PATIENCE, mark, 7852, "BUILT");
    ground.stage.backend.wait_for_state(PATIENCE, mark, 7854, "BUILT");
    assert!(!apps.join("build/Midway/before").exists(), "new sources take the place of old ones");
    ground.all_go(&[plain, composed, unpacked, midway]);
}

#[test]
fn d2_a_full_disk_of_the_engine_fails_a_download_and_a_build_and_the_next_one_that_fits_works() {
    let engine = Engine::prepare();
    let folder = engine.socket().parent().expect("it is in a folder").to_owned();
    let _disk = Small::mount(&folder.join("data"), "40m");
    engine.launch();
    engine.has_base();
    let docker = engine.docker();
    let outside = Docker::shared();
    let registry = Registry::start();
    let big = registry.push(&outside, "prod_amd64_7860_big", "1.0.0", "big");
    let small = registry.push(&outside, "prod_amd64_7860_small", "1.0.0", "silent");
    let jobs = Setup::at(&engine.host()).spawn();
    let pull = |image: &str| {
        let (username, password) = (Secret::default(), Secret::default());
        JobSpec::Pull { image: image.to_owned(), username, password, container: "prod_7860_app".to_owned() }
    };
    let full = |outcome: Outcome| {
        assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("no space left on device")), "{outcome:?}");
    };
    full(jobs.perform_accepted(pull(&big)));
    let said = jobs.log_of("prod_7860_app");
    assert!(said.iter().any(|line| line.contains("no space left on device")), "{said:?}");
    assert_eq!(jobs.perform_accepted(pull(&small)), Outcome::Done);

    let build = jobs.folder.join("apps/build");
    std::fs::create_dir_all(&build).expect("a folder");
    let sources = |script: &str| {
        let dockerfile = format!("FROM busybox:local\nRUN {script}\n");
        std::fs::write(build.join("App.tgz"), Tar::default().file("Dockerfile", &dockerfile).pack()).expect("written");
    };
    sources("dd if=/dev/zero of=/x bs=1M count=100");
    let outcome = jobs.perform_accepted(super::super::building::build("amd64", Vec::new()));
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("code: 1")), "{outcome:?}");
    let said = jobs.log_of("dev_7401_app");
    assert!(said.iter().any(|line| line.contains("No space left on device")), "{said:?}");
    sources("echo it fits");
    assert_eq!(jobs.perform_accepted(super::super::building::build("amd64", Vec::new())), Outcome::Done);
    assert_eq!(docker.run(&["ps", "-aq"]), "");
}
