//! The jobs of compose projects with an engine of their own, a registry that asks for a login, and compose of both
//! generations.

use super::engine::Engine;
use super::stage::registry;
use super::{Docker, script};
use crate::jobs::{Jobs, Setup};
use crate::util::TempDir;
use reagent::clock;
use reagent::domain::app::Stage;
use reagent::domain::compose::Dialect;
use reagent::domain::job::{ComposeCommand, Folder, JobSpec, Login, Outcome, Project};
use reagent::jobs::Programs;
use reagent::secret::Secret;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

const BOTH: [Dialect; 2] = [Dialect::V2, Dialect::V1];
const PROJECT: &str = "prod_7400_app_compose";
const LOG: &str = "prod_7400_app";

/// Workers on an engine of their own, with one kind of compose.
struct Bench {
    jobs: Jobs,
    docker: Docker,
    _programs: TempDir,
    _engine: Engine,
}

impl Bench {
    #[track_caller]
    fn with(dialect: Dialect) -> Bench {
        let engine = Engine::start();
        script("images.sh", &["base"], &[("DOCKER_HOST", &engine.host())]);
        let folder = TempDir::new("programs");
        let program = script("compose.sh", &[if dialect == Dialect::V2 { "v2" } else { "v1" }], &[]);
        let place = Path::new(&program).parent().unwrap();
        let usual = std::env::var_os("PATH").unwrap_or_default();
        let mut variables = vec![("HOME".into(), OsString::from(folder.path()))];
        if dialect == Dialect::V2 {
            variables.push(("PATH".into(), usual));
            variables.push(("DOCKER_CONFIG".into(), place.parent().unwrap().into()));
        } else {
            let alone = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/env/docker-alone.sh");
            std::os::unix::fs::symlink(alone, folder.join("docker")).unwrap();
            let folders = [folder.path().to_owned(), place.to_owned()].into_iter().chain(std::env::split_paths(&usual));
            variables.push(("PATH".into(), std::env::join_paths(folders).unwrap()));
        }
        let mut setup = Setup::at(&engine.host());
        setup.programs = Programs::with(variables);
        let jobs = setup.spawn();
        Bench { jobs, docker: engine.docker(), _programs: folder, _engine: engine }
    }

    fn perform(&self, project: &Project, command: ComposeCommand) -> Outcome {
        self.jobs.perform(with(project, Vec::new(), command))
    }

    /// What carries the label of the project.
    #[track_caller]
    fn left(&self, kind: &[&str]) -> Vec<String> {
        let filter = format!("label=com.docker.compose.project={PROJECT}");
        let listed = self.docker.run(&[kind, &["ls", "-q", "--filter", &filter]].concat());
        listed.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn assert_nothing_is_left(&self) {
        for kind in [&["container"][..], &["network"], &["volume"]] {
            assert_eq!(self.left(kind), Vec::<String>::new(), "{kind:?}");
        }
    }

    /// The container of a service, running or not.
    #[track_caller]
    fn container(&self, service: &str) -> String {
        let filters = [
            format!("label=com.docker.compose.project={PROJECT}"),
            format!("label=com.docker.compose.service={service}"),
        ];
        self.docker.run(&["ps", "-aq", "--filter", &filters[0], "--filter", &filters[1]])
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Bridges of networks would outlive the engine.
        let listed = self.docker.try_run(&["ps", "-aq"]).stdout;
        for id in String::from_utf8_lossy(&listed).lines() {
            self.docker.try_run(&["rm", "-f", id]);
        }
        self.docker.try_run(&["network", "prune", "-f"]);
    }
}

fn with(project: &Project, logins: Vec<Login>, command: ComposeCommand) -> JobSpec {
    JobSpec::Compose { project: Box::new(project.clone()), logins, command }
}

fn up() -> ComposeCommand {
    ComposeCommand::Up { bindings: Vec::new() }
}

fn pull(service: &str) -> ComposeCommand {
    ComposeCommand::Pull { services: vec![service.to_owned()] }
}

/// As the core makes it: a name, and the file of the variables in every service.
fn project(services: Value) -> Project {
    let mut definition = json!({"name": PROJECT, "services": services, "volumes": {"data": {}}});
    for service in definition["services"].as_object_mut().unwrap().values_mut() {
        service["env_file"] = json!(".env-compose");
    }
    Project {
        name: PROJECT.to_owned(),
        container: LOG.to_owned(),
        folder: Folder { stage: Stage::Prod, name: "App".to_owned() },
        definition,
        environment: BTreeMap::from([("GREETING".to_owned(), "a # $b".to_owned())]),
    }
}

/// A service that runs until it is asked to end.
fn sleeper() -> Value {
    json!({"image": "busybox:local", "init": true, "command": ["sleep", "1000"]})
}

fn shell(text: &str) -> Value {
    json!({"image": "busybox:local", "command": ["sh", "-c", text]})
}

fn login(password: &str) -> Login {
    Login { registry: registry().address(), username: Secret::new("registry-token"), password: Secret::new(password) }
}

/// Everything that happens to an app, from the first start to its removal.
fn a_life(dialect: Dialect) {
    let bench = Bench::with(dialect);
    let image = registry().push(&bench.docker, "prod_amd64_7400_app-web", "1.0.0", "demo");
    let web = json!({"image": image, "volumes": ["data:/kept"], "build": "."});
    let app = project(json!({"web": web, "init": shell("echo prepared")}));
    let images = BTreeMap::from([("web".to_owned(), image.clone()), ("init".to_owned(), "busybox:local".to_owned())]);
    let missing = || bench.jobs.perform(JobSpec::MissingImages { images: images.clone() });
    assert_eq!(missing(), Outcome::Missing(vec!["web".to_owned()]));

    let refused = bench.jobs.perform(with(&app, vec![login("not the secret")], pull("web")));
    let Outcome::Failed(text) = &refused else { panic!("{refused:?}") };
    assert!(text.starts_with("docker login 127.0.0.1:") && text.contains("401"), "{text}");
    assert!(!text.contains("not the secret"), "{text}");
    let anonymous = bench.perform(&app, pull("web"));
    let Outcome::Failed(text) = &anonymous else { panic!("{anonymous:?}") };
    assert!(text.starts_with("docker compose pull failed: exit status ") && text.contains("auth"), "{text}");
    assert_eq!(bench.jobs.perform(with(&app, vec![login("fake-device-secret")], pull("web"))), Outcome::Done);
    assert_eq!(missing(), Outcome::Missing(Vec::new()));

    assert_eq!(bench.perform(&app, up()), Outcome::Done, "{:?}", bench.jobs.log_of(LOG));
    let look = || bench.jobs.perform(JobSpec::LookProject { project: PROJECT.to_owned() });
    assert!(matches!(look(), Outcome::Looked(Some(seen)) if seen.status == "running"), "init has done its work");
    let web = bench.container("web");
    assert_eq!(bench.docker.run(&["exec", &web, "sh", "-c", "echo \"$GREETING\""]), "a # $b");
    assert_eq!(bench.docker.run(&["exec", &web, "cat", "/data/env/GREETING.txt"]), "a # $b");
    bench.docker.run(&["exec", &web, "touch", "/kept/file"]);

    assert_eq!(bench.perform(&app, ComposeCommand::TakeDown), Outcome::Done);
    assert_eq!(bench.left(&["container"]), Vec::<String>::new());
    assert_eq!(look(), Outcome::Looked(None));
    assert_eq!(bench.perform(&app, up()), Outcome::Done);
    assert_eq!(bench.docker.run(&["exec", &bench.container("web"), "ls", "/kept"]), "file", "volumes stay");

    // The next release lacks a service, whose container goes too.
    let next = project(json!({"web": {"image": image}}));
    assert_eq!(bench.perform(&next, ComposeCommand::Down), Outcome::Done);
    assert_eq!((bench.left(&["container"]).len(), bench.left(&["network"]).len()), (0, 0));
    assert_eq!(bench.left(&["volume"]).len(), 1);
    assert_eq!(bench.perform(&app, ComposeCommand::Remove), Outcome::Done);
    bench.assert_nothing_is_left();
}

#[test]
fn an_app_of_compose_2_is_pulled_started_stopped_updated_and_removed() {
    a_life(Dialect::V2);
}

#[test]
fn an_app_of_compose_1_29_is_pulled_started_stopped_updated_and_removed() {
    a_life(Dialect::V1);
}

#[test]
fn s13_services_with_one_image_and_a_definition_that_became_unusable_are_removed() {
    for dialect in BOTH {
        let bench = Bench::with(dialect);
        bench.docker.run(&["tag", "busybox:local", "shared:1"]);
        let shared =
            json!({"image": "shared:1", "init": true, "command": ["sleep", "1000"], "volumes": ["data:/d", "/e"]});
        let app = project(json!({"a": shared, "b": shared}));
        assert_eq!(bench.perform(&app, up()), Outcome::Done);
        assert_eq!(bench.docker.run(&["volume", "ls", "-q"]).lines().count(), 3, "one of them has a name");
        let unusable = project(json!({"a": {"image": "shared:1", "nonsense": true}}));
        assert_eq!(bench.perform(&unusable, ComposeCommand::Remove), Outcome::Done);
        bench.assert_nothing_is_left();
        assert_eq!(bench.docker.run(&["volume", "ls", "-q"]), "", "nor those without a name");
        for images in [["shared:1", "shared:1"], ["shared:1", "never:1"]] {
            let images = images.map(str::to_owned).to_vec();
            assert_eq!(bench.jobs.perform(JobSpec::RemoveImageList { images }), Outcome::Done);
        }
        assert_eq!(bench.docker.run(&["images", "-q", "shared:1"]), "");
    }
}

#[test]
fn s4_a_pull_from_a_registry_that_never_answers_is_cancelled_within_five_seconds() {
    for dialect in BOTH {
        let bench = Bench::with(dialect);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let app = project(json!({"web": {"image": format!("{}/web:1", silent.local_addr().unwrap())}}));
        bench.jobs.handle.start(1, with(&app, Vec::new(), pull("web")));
        let _connection = silent.accept().unwrap();
        let asked = clock::mono();
        bench.jobs.handle.cancel(1);
        assert_eq!(bench.jobs.wait_for_end(1), Outcome::Cancelled);
        let took = clock::mono().saturating_sub(asked);
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

#[test]
fn what_does_not_start_says_why_and_leaves_no_container() {
    for dialect in BOTH {
        let bench = Bench::with(dialect);
        // The second service starts after the first one: that has had its time when it is looked at.
        let mut fine = sleeper();
        fine["depends_on"] = json!(["broken"]);
        let app = project(json!({"broken": shell("echo cannot find the sensor; exit 3"), "fine": fine}));
        assert_eq!(bench.perform(&app, up()), Outcome::Failed("service broken ended with exit code 3".to_owned()));
        let log = bench.jobs.log_of(LOG);
        let is_it = |line: &String| line.contains("broken") && line.ends_with("| cannot find the sensor");
        assert!(log.iter().any(is_it), "{log:?}");
        assert_eq!(bench.left(&["container"]), Vec::<String>::new());

        let other = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let mut service = sleeper();
        service["ports"] = json!([format!("0.0.0.0:{port}:80")]);
        let outcome = bench.perform(&project(json!({"web": service})), up());
        let Outcome::PortConflict(text) = &outcome else { panic!("{outcome:?}") };
        assert!(text.contains(&format!(":{port}")), "{text}");
        assert_eq!(bench.left(&["container"]), Vec::<String>::new());
    }
}

#[test]
fn d3_an_app_under_development_is_built_and_a_deployed_one_is_not() {
    for dialect in BOTH {
        let bench = Bench::with(dialect);
        let folder = bench.jobs.folder.join("apps/build/App");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("Dockerfile"), "FROM busybox:local\nCMD [\"sleep\", \"1000\"]\n").unwrap();
        let app = project(json!({"web": {"image": "built:1", "build": ".", "init": true}}));
        let mut dev = app.clone();
        dev.folder.stage = Stage::Dev;
        if dialect == Dialect::V2 {
            let outcome = bench.perform(&app, up());
            assert!(matches!(&outcome, Outcome::Failed(text) if text.contains("built")), "{outcome:?}");
        }
        for command in [ComposeCommand::Build, ComposeCommand::PullRest] {
            let outcome = bench.perform(&dev, command.clone());
            assert_eq!(outcome, Outcome::Done, "{command:?}: {:?}", bench.jobs.log_of(LOG));
        }
        assert!(!bench.docker.run(&["images", "-q", "built:1"]).is_empty());
    }
}
