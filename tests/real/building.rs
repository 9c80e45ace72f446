//! Builds by a real Engine, from archives that tar has made.

use super::engine::Engine;
use super::stage::progress;
use super::{Docker, Registry};
use crate::jobs::{Jobs, Setup};
use crate::util::wait_until;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use reagent::clock;
use reagent::domain::job::{Build, JobSpec, Login, Outcome};
use reagent::jobs::Event;
use reagent::secret::Secret;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const APP: &str = "App";
const CONTAINER: &str = "dev_7401_app";
const IMAGE: &str = "registry.test/apps/dev_amd64_7401_app";

/// An engine of its own, and workers for it.
pub struct Workshop {
    pub jobs: Jobs,
    pub docker: Docker,
    pub engine: Engine,
}

impl Workshop {
    #[track_caller]
    pub fn open() -> Workshop {
        let engine = Engine::start();
        engine.has_base();
        let docker = engine.docker();
        Workshop { jobs: Setup::at(&engine.host()).spawn(), docker, engine }
    }

    /// Packs these files (name, content) as the sources of the app.
    #[track_caller]
    pub fn sources(&self, files: &[(&str, &[u8])]) {
        let sources = self.jobs.folder.join("sources");
        drop(std::fs::remove_dir_all(&sources));
        let build = self.jobs.folder.join("apps/build");
        std::fs::create_dir_all(&build).expect("a folder");
        std::fs::create_dir(&sources).expect("a folder");
        for (name, content) in files {
            let path = sources.join(name);
            std::fs::create_dir_all(path.parent().expect("it is below the sources")).expect("a folder");
            std::fs::write(path, content).expect("written");
        }
        let names = files.iter().map(|(name, _)| *name);
        let packed = Command::new("tar").arg("-C").arg(&sources).arg("-czf").arg(self.archive()).args(names).status();
        assert!(packed.expect("there is a tar").success());
    }

    /// Overwrites the header of this entry in the archive.
    fn damage(&self, name: &str) {
        let mut tar = Vec::new();
        let packed = std::fs::File::open(self.archive()).expect("it was packed");
        MultiGzDecoder::new(packed).read_to_end(&mut tar).expect("it is gzip");
        let at = tar.windows(name.len()).position(|bytes| bytes == name.as_bytes()).expect("the entry is there");
        tar[at..at + 512].fill(b'x');
        let mut file = GzEncoder::new(std::fs::File::create(self.archive()).expect("created"), Compression::fast());
        file.write_all(&tar).and_then(|()| file.finish().map(drop)).expect("written");
    }

    fn archive(&self) -> std::path::PathBuf {
        self.jobs.folder.join("apps/build").join(format!("{APP}.tgz"))
    }

    /// What is left on the engine: containers, and images without a name.
    fn leftovers(&self) -> String {
        self.docker.run(&["ps", "-aq"]) + &self.docker.run(&["images", "-q", "--filter", "dangling=true"])
    }

    /// The label `which` of the image that was built last.
    fn which(&self) -> String {
        self.docker.run(&["image", "inspect", "--format", "{{index .Config.Labels \"which\"}}", IMAGE])
    }
}

pub fn build(arch: &str, logins: Vec<Login>) -> JobSpec {
    JobSpec::Build(Box::new(Build {
        app_name: APP.to_owned(),
        image: IMAGE.to_owned(),
        id: "build_7401_App".to_owned(),
        arch: arch.to_owned(),
        logins,
        container: CONTAINER.to_owned(),
    }))
}

fn failed(text: &str) -> Outcome {
    Outcome::Failed(text.to_owned())
}

#[test]
fn an_image_is_built_by_the_dockerfile_for_the_architecture_or_the_plain_one_and_nothing_is_left_behind() {
    let shop = Workshop::open();
    shop.sources(&[
        ("Dockerfile", b"FROM busybox:local\nLABEL which=plain\nCOPY data/file /file\nRUN cat /file\n"),
        ("Dockerfile.amd64", b"FROM busybox:local\nRUN echo for amd64\nLABEL which=special\n"),
        ("data/Dockerfile.armv7", b"FROM nothing\n"),
        ("data/file", b"the content of the file\n"),
    ]);
    assert_eq!(shop.jobs.perform_accepted(build("amd64", Vec::new())), Outcome::Done);
    assert_eq!(shop.which(), "special");
    assert_eq!(shop.jobs.perform_accepted(build("armv7", Vec::new())), Outcome::Done);
    assert_eq!(shop.which(), "plain", "the other one is not at the root");
    let log = shop.jobs.log_of(CONTAINER);
    assert!(log.iter().any(|line| line.contains("the content of the file")), "{log:?}");
    assert_eq!(shop.docker.run(&["ps", "-aq"]), "", "no intermediate container");
    let tags = shop.docker.run(&["images", "--format", "{{.Repository}}:{{.Tag}}", IMAGE]);
    assert_eq!(tags, format!("{IMAGE}:latest"));
}

#[test]
fn a_build_that_cannot_be_done_says_why() {
    let shop = Workshop::open();
    let outcome = shop.jobs.perform(build("amd64", Vec::new()));
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("archive was not found")), "{outcome:?}");
    shop.sources(&[("other", b"")]);
    let outcome = shop.jobs.perform(build("amd64", Vec::new()));
    assert_eq!(outcome, failed("There is no Dockerfile in the project root"));
    shop.sources(&[("Dockerfile", b"")]);
    assert_eq!(shop.jobs.perform(build("amd64", Vec::new())), failed("The Dockerfile is empty"));
    shop.sources(&[("Dockerfile.amd64", b""), ("Dockerfile", b"FROM busybox:local\n")]);
    assert_eq!(shop.jobs.perform(build("amd64", Vec::new())), failed("The Dockerfile.amd64 is empty"));
    shop.sources(&[("Dockerfile", b"FROM busybox:local\nRUN exit 7\n")]);
    let said = "The command '/bin/sh -c exit 7' returned a non-zero code: 7";
    assert_eq!(shop.jobs.perform_accepted(build("amd64", Vec::new())), failed(said));
    assert_eq!(shop.jobs.log_of(CONTAINER).iter().filter(|line| line.contains("non-zero code")).count(), 1);
    assert_eq!(shop.leftovers(), "", "of a step that failed neither");
}

#[test]
fn s5_an_engine_that_answers_before_it_has_read_the_whole_archive_is_heard() {
    let shop = Workshop::open();
    let mut rubbish = vec![0; 16 << 20];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut rubbish)).expect("there is no end");
    // It has a header that is none, after the Dockerfile.
    shop.sources(&[("Dockerfile.amd64", b"FROM busybox:local\n"), ("damaged", &rubbish)]);
    shop.damage("damaged");
    let outcome = shop.jobs.perform(build("amd64", Vec::new()));
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("tar")), "{outcome:?}");
    // Something follows the archive that the engine does not want, and the build says more than any buffer holds.
    let talk = format!("FROM busybox:local\nRUN yes {} | head -n 4000\nLABEL which=talkative\n", "talk ".repeat(100));
    shop.sources(&[("Dockerfile.amd64", talk.as_bytes())]);
    let archive = [std::fs::read(shop.archive()).expect("it was packed"), rubbish].concat();
    std::fs::write(shop.archive(), archive).expect("written");
    assert_eq!(shop.jobs.perform_accepted(build("amd64", Vec::new())), Outcome::Done);
    assert_eq!(shop.which(), "talkative");
}

#[test]
fn s4_a_build_step_that_hangs_is_ended_within_five_seconds_of_the_cancel() {
    let shop = Workshop::open();
    shop.sources(&[("Dockerfile", b"FROM busybox:local\nRUN sleep 1000\n")]);
    shop.jobs.handle.start(1, build("amd64", Vec::new()));
    assert_eq!(shop.jobs.next(), Event::Accepted(1));
    wait_until(SOON, "the step runs", || (!shop.docker.run(&["ps", "-q"]).is_empty()).then_some(()));
    let asked = clock::mono();
    shop.jobs.handle.cancel(1);
    assert_eq!(shop.jobs.wait_for_end(1), Outcome::Cancelled);
    wait_until(Duration::from_secs(5), "its container is gone", || shop.leftovers().is_empty().then_some(()));
    progress(&format!("the container of the step is gone after {:.2?}", clock::mono() - asked));
    assert!(shop.docker.run(&["images", "-q", IMAGE]).is_empty());
}

#[test]
fn a_base_image_is_fetched_with_the_login_of_its_registry_which_no_process_shows() {
    let registry = Registry::start_with_login("vendor", "vendors-secret");
    let shop = Workshop::open();
    let base = registry.push(&shop.docker, "base", "1", "silent");
    shop.sources(&[("Dockerfile", format!("FROM {base}\nLABEL which=private\n").as_bytes())]);
    let outcome = shop.jobs.perform_accepted(build("amd64", Vec::new()));
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("no basic auth credentials")), "{outcome:?}");
    let login = |password: &str| Login {
        registry: format!("{}/", registry.address()),
        username: Secret::new("vendor"),
        password: Secret::new(password),
    };
    let outcome = shop.jobs.perform_accepted(build("amd64", vec![login("wrong")]));
    assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("unauthorized")), "{outcome:?}");
    assert_eq!(shop.jobs.perform_accepted(build("amd64", vec![login("vendors-secret")])), Outcome::Done);
    assert_eq!(shop.which(), "private");
    let log = shop.jobs.log_of(CONTAINER).join("\n");
    assert!(!log.contains("vendors-secret"), "{log}");
    assert!(Path::new(&shop.archive()).exists(), "the archive stays for the next build");
}
