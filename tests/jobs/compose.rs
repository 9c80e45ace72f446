//! Compose projects, with a `docker` and a `docker-compose` that are scripts of the test: what is called how, what it finds,
//! and what happens when it fails, hangs, or is not there.

use super::*;
use crate::util::docker_daemon::{Behaviour, Fault};
use crate::util::wait_until;
use reagent::docker::{ContainerSpec, Docker, Env};
use reagent::domain::job::{ComposeCommand, Health, Login, Project};
use reagent::secret::Secret;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

mod away;
mod up;

const PROJECT: &str = "prod_900001_app_compose";
const LOG: &str = "prod_900001_app";
const V2: &str = "echo 'Docker Compose version v2.26.1-4'";
const V1: &str = "echo 'docker-compose version 1.29.2, build unknown'";

/// Workers with programs of their own.
struct Bench {
    daemon: DockerDaemon,
    jobs: Jobs,
    programs: TempDir,
}

impl Bench {
    /// No programs at all.
    fn bare() -> Bench {
        Bench::within(reagent::docker::STANDARD_DEADLINE)
    }

    /// No programs at all, and an engine that has to answer in this time.
    fn within(deadline: Duration) -> Bench {
        let (daemon, programs) = (DockerDaemon::start(), TempDir::new("programs"));
        let path = programs.path().as_os_str().to_owned();
        let variables = [("PATH".into(), path), ("HOME".into(), programs.join("home").into())];
        let setup = Setup::of(&daemon);
        let docker = setup.docker.within(deadline);
        let jobs = Setup { docker, programs: Programs::with(variables), ..setup }.spawn();
        Bench { daemon, jobs, programs }
    }

    /// With compose as a plugin.
    fn new() -> Bench {
        let bench = Bench::bare();
        bench.install("docker");
        bench.on("version", V2);
        bench
    }

    /// Links: a program that was just written cannot be run while another test's fork still has it open.
    fn install(&self, program: &str) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/program.sh");
        std::os::unix::fs::symlink(script, self.programs.join(program)).unwrap();
    }

    /// What a program does that is called with this word; `$dir` is its folder.
    fn on(&self, word: &str, script: &str) {
        fs::write(self.programs.join(&format!("do-{word}")), script).unwrap();
    }

    /// How programs were called, in order, without the questions for the version; the definition's path is `F`.
    fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.programs.join("calls")).unwrap_or_default();
        let calls = text.lines().filter(|line| !line.ends_with(" version"));
        calls.map(|line| line.replace(&*self.definition().to_string_lossy(), "F")).collect()
    }

    fn definition(&self) -> std::path::PathBuf {
        self.jobs.folder.join("apps/compose/App/docker-compose.json")
    }

    fn command(&self, command: ComposeCommand) -> Outcome {
        self.jobs.perform(job(command))
    }

    /// How a job ends whose engine goes while the program does `word`, which fails then.
    fn without_engine_from(&self, word: &str, command: ComposeCommand) -> Outcome {
        self.on(word, "echo >\"$dir/begun\"; while [ ! -e \"$dir/gone\" ]; do /bin/sleep 0.02; done; exit 1");
        self.jobs.handle.start(1, job(command));
        wait_until(LIMIT, "the program has begun", || self.programs.join("begun").exists().then_some(()));
        self.daemon.go_down();
        fs::write(self.programs.join("gone"), "").unwrap();
        self.jobs.wait_for_end(1)
    }

    /// A container of the project.
    fn service(&self, service: &str, image: &str, running: bool) {
        let docker = Setup::of(&self.daemon).docker;
        make(&docker, &self.daemon, &format!("{PROJECT}-{service}-1"), PROJECT, (service, image), running);
    }

    fn left(&self) -> Vec<String> {
        self.daemon.containers().into_keys().collect()
    }
}

fn make(docker: &Docker, daemon: &DockerDaemon, name: &str, project: &str, of: (&str, &str), running: bool) {
    let (service, image) = of;
    daemon.add_image(image);
    let labels = [("com.docker.compose.project", project), ("com.docker.compose.service", service)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let spec = ContainerSpec { image: image.to_owned(), labels, env: Env::default(), ..ContainerSpec::default() };
    let id = docker.create_container(name, &spec).expect("a container");
    if running {
        docker.start_container(&id).expect("started");
    }
}

fn project() -> Project {
    Project {
        name: PROJECT.to_owned(),
        container: LOG.to_owned(),
        folder: Folder { stage: Stage::Prod, name: "App".to_owned() },
        definition: json!({"name": PROJECT, "services": {
            "web": {"image": "web:1", "env_file": ".env-compose"}, "own": {"image": "own:1", "build": "."},
        }}),
        environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
    }
}

fn with(project: Project, logins: Vec<Login>, command: ComposeCommand) -> JobSpec {
    JobSpec::Compose { project: Box::new(project), logins, command }
}

fn job(command: ComposeCommand) -> JobSpec {
    with(project(), Vec::new(), command)
}

fn pull(services: &[&str]) -> ComposeCommand {
    ComposeCommand::Pull { services: services.iter().map(|&name| name.to_owned()).collect() }
}

fn login(registry: &str, user: &str) -> Login {
    Login { registry: registry.to_owned(), username: Secret::new(user), password: Secret::new("hush-hush") }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn compose_is_the_plugin_else_a_program_of_its_own_and_version_1_is_told_the_project() {
    let bench = Bench::new();
    bench.install("docker-compose");
    assert_eq!(bench.command(pull(&["web", "own"])), Outcome::Done);
    assert_eq!(bench.calls(), ["docker compose -f F pull web own"]);
    let read = |bench: &Bench| -> Value { serde_json::from_slice(&fs::read(bench.definition()).unwrap()).unwrap() };
    assert_eq!(read(&bench)["name"], PROJECT);

    let bench = Bench::bare();
    bench.install("docker");
    bench.install("docker-compose");
    bench.on("compose", "echo \"docker: 'compose' is not a docker command.\" >&2; exit 1");
    bench.on("version", V2);
    assert_eq!(bench.command(pull(&[])), Outcome::Done);
    assert_eq!(bench.calls(), ["docker-compose -f F pull"]);

    let bench = Bench::bare();
    bench.install("docker-compose");
    bench.on("version", V1);
    assert_eq!(bench.command(ComposeCommand::Build), Outcome::Done);
    assert_eq!(bench.command(ComposeCommand::Push), Outcome::Done);
    let of = |word: &str| format!("docker-compose -p {PROJECT} -f F {word}");
    assert_eq!(bench.calls(), [of("build --force-rm"), of("push")]);
    assert_eq!(read(&bench).get("name"), None, "it would refuse the file");
    assert_eq!(read(&bench)["services"]["web"]["image"], "web:1");
}

#[test]
fn compose_is_looked_for_until_it_is_there_and_then_no_more() {
    let bench = Bench::bare();
    for command in [pull(&[]), ComposeCommand::Build, ComposeCommand::PullRest, ComposeCommand::Up { bindings: vec![] }]
    {
        assert_eq!(bench.command(command), Outcome::ComposeMissing);
    }
    bench.install("docker");
    assert_eq!(bench.command(pull(&[])), Outcome::ComposeMissing, "one that answers nothing");
    bench.on("version", V2);
    assert_eq!(bench.command(pull(&[])), Outcome::Done);
    let asked = || fs::read_to_string(bench.programs.join("calls")).unwrap().matches(" version").count();
    let before = asked();
    assert_eq!(bench.command(pull(&[])), Outcome::Done);
    assert_eq!(asked(), before);
}

#[test]
fn x1_what_compose_reads_is_for_the_owner_alone() {
    let bench = Bench::new();
    assert_eq!(bench.command(pull(&[])), Outcome::Done);
    let definition = bench.definition();
    let variables = definition.with_file_name(".env-compose");
    assert_eq!((mode(&definition), mode(&variables)), (0o600, 0o600));
    assert_eq!(mode(definition.parent().unwrap()), 0o755);
    let text = fs::read_to_string(&variables).unwrap();
    assert!(text.contains("GREETING=hello\n"), "{text}");
    let written: Value = serde_json::from_slice(&fs::read(&definition).unwrap()).unwrap();
    let env = bench.jobs.folder.join("apps/prod/app/env");
    assert_eq!(written["services"]["web"]["volumes"][0], format!("{}:/data/env:ro", env.display()));
    assert!(!env.exists(), "a download starts nothing");
    let mut dev = project();
    dev.folder.stage = Stage::Dev;
    assert_eq!(bench.jobs.perform(with(dev, Vec::new(), ComposeCommand::Build)), Outcome::Done);
    assert!(bench.jobs.folder.join("apps/build/App/docker-compose.json").exists());
}

#[test]
fn x1_a_login_gets_its_password_by_a_pipe_and_keeps_it_for_this_job_alone() {
    let bench = Bench::new();
    fs::create_dir_all(bench.programs.join("home/.docker")).unwrap();
    bench.on("login", "/bin/cat >>\"$dir/passwords\"; /bin/ls -ld \"$DOCKER_CONFIG\" >\"$dir/config\"; echo \"$DOCKER_CONFIG\" >>\"$dir/config\"");
    bench.on("pull", "echo \"$DOCKER_CONFIG\" >>\"$dir/config\"; echo \"$DOCKER_HOST\" >>\"$dir/config\"");
    let logins = vec![login("registry.test/", "token"), login("other.test", "me"), login("nobody.test", "")];
    assert_eq!(bench.jobs.perform(with(project(), logins, pull(&[]))), Outcome::Done);
    let expected = [
        "docker login -u token --password-stdin -- registry.test",
        "docker login -u me --password-stdin -- other.test",
        "docker compose -f F pull",
    ];
    assert_eq!(bench.calls(), expected);
    assert_eq!(fs::read_to_string(bench.programs.join("passwords")).unwrap(), "hush-hushhush-hush");
    let config = fs::read_to_string(bench.programs.join("config")).unwrap();
    let lines: Vec<&str> = config.lines().collect();
    let [rights, folder, same, host] = lines[..] else { panic!("{config}") };
    assert!(rights.starts_with("drwx------"), "{rights}");
    assert_eq!((folder, host), (same, bench.daemon.host().as_str()));
    assert!(folder.starts_with(&*bench.jobs.folder.join("agent").to_string_lossy()), "{folder}");
    assert!(!Path::new(folder).exists());
}

#[test]
fn a_login_that_fails_says_why_and_never_the_password() {
    let bench = Bench::new();
    bench
        .on("login", "read -r word; echo warning; echo \"Error response: $word is wrong\" >&2; echo Error two; exit 1");
    let two = || vec![login("registry.test", "token"), login("other.test", "me")];
    let outcome = bench.jobs.perform(with(project(), two(), pull(&[])));
    let Outcome::Failed(text) = outcome else { panic!("{outcome:?}") };
    assert!(text.starts_with("docker login registry.test failed: Error"), "{text}");
    assert!(!text.contains("hush"), "{text}");
    assert_eq!(bench.calls().len(), 1, "neither the second login nor the pull");
    bench.on("login", "exit 3");
    let outcome = bench.jobs.perform(with(project(), two(), pull(&[])));
    assert_eq!(outcome, Outcome::Failed("docker login registry.test failed: exit status 3".to_owned()));
}

#[test]
fn d3_only_services_that_are_not_built_are_pulled_beside_a_build() {
    for (version, program, expected) in [
        (V2, "docker", "docker compose -f F pull --ignore-buildable".to_owned()),
        ("echo Docker Compose version v2.16.0", "docker", "docker compose -f F pull web".to_owned()),
        (V1, "docker-compose", format!("docker-compose -p {PROJECT} -f F pull web")),
    ] {
        let bench = Bench::bare();
        bench.install(program);
        bench.on("version", version);
        assert_eq!(bench.command(ComposeCommand::PullRest), Outcome::Done);
        assert_eq!(bench.calls(), [expected]);
        let mut built = project();
        built.definition["services"].as_object_mut().unwrap().remove("web");
        if !version.contains("2.26") {
            let before = bench.calls().len();
            assert_eq!(bench.jobs.perform(with(built, Vec::new(), ComposeCommand::PullRest)), Outcome::Done);
            assert_eq!(bench.calls().len(), before, "no name would mean all of them");
        }
    }
}

#[test]
fn a_command_is_shown_on_the_apps_log_and_its_failure_has_the_end_of_it() {
    let bench = Bench::new();
    bench.on("pull", "echo ' web Pulling'; echo 'web Error manifest unknown' >&2; exit 18");
    let outcome = bench.command(pull(&[]));
    let Outcome::Failed(text) = &outcome else { panic!("{outcome:?}") };
    assert!(text.starts_with("docker compose pull failed: exit status 18: "), "{text}");
    assert!(text.contains("web Pulling") && text.contains("web Error manifest unknown"), "{text}");
    let log = bench.jobs.log_of(LOG);
    assert!(log.iter().any(|line| line == " web Pulling"), "{log:?}");
}

#[test]
fn s4_a_pull_that_hangs_and_ignores_term_is_cancelled_within_five_seconds_with_all_its_processes() {
    let bench = Bench::new();
    bench.on("pull", "trap '' TERM; echo $$ >\"$dir/pid\"; (while :; do /bin/sleep 1; done) & echo begun; wait");
    bench.jobs.handle.start(1, job(pull(&[])));
    let pid = wait_until(LIMIT, "the pull has begun", || {
        fs::read_to_string(bench.programs.join("pid")).ok().filter(|pid| pid.ends_with('\n'))
    });
    let asked = reagent::clock::mono();
    bench.jobs.handle.cancel(1);
    assert_eq!(bench.jobs.wait_for_end(1), Outcome::Cancelled);
    let took = reagent::clock::mono().saturating_sub(asked);
    assert!(took < Duration::from_secs(5), "{took:?}");
    let is_of_group = |stat: &str| {
        stat.rsplit(") ").next().is_some_and(|rest| {
            let mut fields = rest.split(' ');
            fields.next() != Some("Z") && fields.nth(1) == Some(pid.trim())
        })
    };
    wait_until(LIMIT, "its group is gone", || {
        let all = fs::read_dir("/proc").unwrap().flatten();
        let mut stats = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
        (!stats.any(|stat| is_of_group(&stat))).then_some(())
    });
    assert_eq!(bench.command(ComposeCommand::Push), Outcome::Done, "the project is free again");
}

#[test]
fn d1_an_engine_that_hangs_is_found_out_before_a_command_that_has_hours() {
    let bench = Bench::within(Duration::from_millis(200));
    bench.install("docker");
    bench.on("version", V2);
    bench.daemon.fault("*", Fault::Hang);
    for command in [pull(&[]), ComposeCommand::Up { bindings: vec![] }, ComposeCommand::Down] {
        assert!(matches!(bench.command(command), Outcome::EngineGone(_)));
    }
    assert_eq!(bench.calls(), Vec::<String>::new());
}

#[test]
fn d1_an_engine_that_goes_during_a_command_is_not_the_apps_failure() {
    let bench = Bench::new();
    bench.on("pull", "echo 'Cannot connect to the Docker daemon' >&2; exit 1");
    bench.daemon.fault("HEAD /_ping", Fault::Status(500, "no".to_owned()));
    bench.daemon.fault("GET /_ping", Fault::Status(500, "no".to_owned()));
    assert!(matches!(bench.command(pull(&[])), Outcome::Failed(_)), "it answers");
    assert_eq!(bench.calls(), Vec::<String>::new());
    bench.daemon.heal();
    assert!(matches!(bench.command(pull(&[])), Outcome::Failed(text) if text.contains("Cannot connect")));
    assert!(matches!(bench.without_engine_from("pull", pull(&[])), Outcome::EngineGone(_)));
    assert!(matches!(bench.command(ComposeCommand::Up { bindings: vec![] }), Outcome::EngineGone(_)));
}

#[test]
fn services_without_their_image_are_named() {
    let bench = Bench::bare();
    bench.daemon.add_image("registry.test/apps/web:1.0.0");
    let images = [("b", "other:1"), ("a", "absent:2"), ("c", "registry.test/apps/web:1.0.0")];
    let images = images.map(|(name, image)| (name.to_owned(), image.to_owned())).into();
    let missing = bench.jobs.perform(JobSpec::MissingImages { images });
    assert_eq!(missing, Outcome::Missing(vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn a_listing_shows_the_services_their_ports_and_which_apps_have_a_definition() {
    let bench = Bench::new();
    bench.service("web", "web:1", true);
    assert_eq!(bench.command(pull(&[])), Outcome::Done);
    for folder in ["apps/compose/Empty", "apps/build/Sources", "apps/build/.Hidden"] {
        fs::create_dir_all(bench.jobs.folder.join(folder)).unwrap();
    }
    fs::write(bench.jobs.folder.join("apps/build/.Hidden/docker-compose.json"), "{}").unwrap();
    fs::write(bench.jobs.folder.join("apps/build/Other.tgz"), "").unwrap();
    let Outcome::Observed(seen) = bench.jobs.perform(JobSpec::Observe { known: BTreeMap::new() }) else {
        panic!("no list")
    };
    assert_eq!(seen.definitions, [Folder { stage: Stage::Prod, name: "App".to_owned() }]);
    let web = &seen.containers[0];
    assert_eq!((web.project.as_deref(), web.service.as_deref()), (Some(PROJECT), Some("web")));
}

#[test]
fn a_project_is_looked_at_as_one() {
    let bench = Bench::bare();
    let look = || bench.jobs.perform(JobSpec::LookProject { project: PROJECT.to_owned() });
    assert_eq!(look(), Outcome::Looked(None));
    bench.daemon.behave("init:1", Behaviour { exits: Some(0), ..Behaviour::default() });
    bench.service("init", "init:1", true);
    bench.service("web", "web:1", true);
    let Outcome::Looked(Some(seen)) = look() else { panic!("nothing") };
    assert_eq!((seen.status.as_str(), seen.health), ("running", None::<Health>));
}

#[test]
fn d7_a_listing_inspects_a_project_only_when_a_part_of_it_has_changed() {
    let bench = Bench::bare();
    bench.service("web", "web:1", true);
    bench.service("db", "db:1", true);
    let Outcome::Looked(Some(seen)) = bench.jobs.perform(JobSpec::LookProject { project: PROJECT.to_owned() }) else {
        panic!("nothing")
    };
    let known: BTreeMap<_, _> = [(seen.name.clone(), (seen.id.clone(), seen.status.clone()))].into();
    let asked = || {
        let before = bench.daemon.requests().len();
        let Outcome::Observed(listed) = bench.jobs.perform(JobSpec::Observe { known: known.clone() }) else {
            panic!("no list")
        };
        let inspected =
            |request: &&Request| request.path.starts_with("/containers/") && request.path != "/containers/json";
        (listed.containers.len(), bench.daemon.requests()[before..].iter().filter(inspected).count())
    };
    assert_eq!(asked(), (2, 0), "all of it runs, as it did");
    bench.daemon.exit_container(&format!("{PROJECT}-db-1"), 0);
    assert_eq!(asked(), (2, 2), "a part has ended, and the whole runs still");
}

#[test]
fn an_uninstalled_app_leaves_nothing_of_its_stage_and_what_is_of_others_stays() {
    let bench = Bench::bare();
    let apps = bench.jobs.folder.join("apps");
    let all = ["prod/app/data", "dev/app/data", "compose/App/f", "build/App/f", "build/App.tgz", "build/App2.tgz"];
    for file in all {
        fs::create_dir_all(apps.join(file).parent().unwrap()).unwrap();
        fs::write(apps.join(file), "").unwrap();
    }
    let there = || all.into_iter().filter(|file| apps.join(file).exists()).collect::<Vec<_>>();
    let delete = |stage| bench.jobs.perform(JobSpec::DeleteFiles(Folder { stage, name: "App".to_owned() }));
    assert_eq!(delete(Stage::Prod), Outcome::Done);
    assert_eq!(there(), ["dev/app/data", "build/App/f", "build/App.tgz", "build/App2.tgz"]);
    assert_eq!(delete(Stage::Dev), Outcome::Done);
    assert_eq!(there(), ["build/App2.tgz"]);
    assert_eq!(delete(Stage::Dev), Outcome::Done, "nothing is there");
}
