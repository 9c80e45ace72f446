//! Starting a project.

use super::*;
use std::net::TcpListener;

fn up() -> ComposeCommand {
    ComposeCommand::Up { bindings: Vec::new() }
}

fn binding(host_port: u16, fresh: bool) -> Binding {
    Binding { service: "web".to_owned(), declared: 80, port: 80, protocol: Protocol::Tcp, host_port, fresh }
}

#[test]
fn a_project_is_up_when_its_services_run_or_have_done_their_work() {
    let bench = Bench::new();
    bench.daemon.behave("init:1", Behaviour { exits: Some(0), ..Behaviour::default() });
    bench.service("init", "init:1", true);
    bench.service("web", "web:1", false);
    bench.jobs.handle.start(1, job(up()));
    bench.daemon.wait_for_request("GET /containers/json", 2);
    assert!(bench.jobs.events.is_empty(), "one of them is created only");
    let docker = Setup::of(&bench.daemon).docker;
    docker.start_container(&format!("{PROJECT}-web-1")).unwrap();
    assert_eq!(bench.jobs.wait_for_end(1), Outcome::Done);
    assert_eq!(bench.calls(), ["docker compose -f F up --remove-orphans -d --no-build"]);
    let env = bench.jobs.folder.join("apps/prod/app/env");
    assert_eq!(fs::read_to_string(env.join("GREETING.txt")).unwrap(), "hello");
    assert_eq!((mode(&env), mode(&env.join("GREETING.txt"))), (0o700, 0o600));
}

#[test]
fn d3_a_deployed_app_is_never_built_and_one_under_development_may_be() {
    let bench = Bench::new();
    bench.service("web", "web:1", true);
    let mut dev = project();
    dev.folder.stage = Stage::Dev;
    assert_eq!(bench.jobs.perform(with(dev, Vec::new(), up())), Outcome::Done);
    let calls = bench.calls();
    assert!(calls[0].ends_with("docker-compose.json up --remove-orphans -d"), "{calls:?}");
}

#[test]
fn a_new_port_that_somebody_has_is_told_before_anything_is_started() {
    let bench = Bench::new();
    bench.service("web", "web:1", true);
    let other = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let taken = ComposeCommand::Up { bindings: vec![binding(port, true)] };
    assert_eq!(bench.command(taken), Outcome::PortsTaken(vec![binding(port, true)]));
    assert_eq!(bench.calls(), Vec::<String>::new());
    assert_eq!(bench.command(ComposeCommand::Up { bindings: vec![binding(port, false)] }), Outcome::Done, "it is ours");
}

#[test]
fn a_port_conflict_is_told_in_the_words_of_compose_and_the_project_is_taken_down() {
    let bench = Bench::new();
    bench.on("up", "echo 'Error: Bind for 0.0.0.0:40010 failed: port is already allocated' >&2; exit 1");
    bench.service("web", "web:1", true);
    let outcome = bench.command(up());
    let Outcome::PortConflict(text) = &outcome else { panic!("{outcome:?}") };
    assert!(text.contains("0.0.0.0:40010 failed"), "{text}");
    let words = ["up --remove-orphans -d --no-build", "stop"];
    assert_eq!(bench.calls(), words.map(|words| format!("docker compose -f F {words}")));
    assert_eq!(bench.left(), Vec::<String>::new(), "a container that runs on would hold the port");
}

#[test]
fn the_last_lines_of_a_service_that_fails_are_shown_before_the_project_goes() {
    let bench = Bench::new();
    let log = (1..=30).map(|n| format!("line {n}")).collect();
    bench.daemon.behave("web:1", Behaviour { log, exits: Some(3), ..Behaviour::default() });
    bench.daemon.behave("other:1", Behaviour { log: vec!["all is well".to_owned()], ..Behaviour::default() });
    bench.service("web", "web:1", true);
    bench.service("zoo", "other:1", true);
    assert_eq!(bench.command(up()), Outcome::Failed("service web ended with exit code 3".to_owned()));
    let log = bench.jobs.log_of(LOG);
    let has = |service: &str, text: &str| log.iter().any(|line| line.contains(service) && line.ends_with(text));
    assert!(has("web", "| line 30") && has("zoo", "| all is well"), "{log:?}");
    assert_eq!(bench.left(), Vec::<String>::new());
}

#[test]
fn compose_that_fails_has_its_project_taken_down_even_if_it_cannot_do_that_either() {
    let bench = Bench::new();
    bench.on("up", "echo 'dependency failed to start' >&2; exit 1");
    bench.on("stop", "exit 1");
    bench.service("web", "web:1", true);
    let failed = "docker compose up failed: exit status 1: dependency failed to start";
    assert_eq!(bench.command(up()), Outcome::Failed(failed.to_owned()));
    assert_eq!(bench.left(), Vec::<String>::new());
}

#[test]
fn a_registry_that_refuses_holds_nobody_up_who_has_all_images() {
    let bench = Bench::new();
    bench.on("login", "echo 'Error: no route to host'; exit 1");
    bench.service("web", "web:1", true);
    let start = || with(project(), vec![login("registry.test", "token")], up());
    let refused = "docker login registry.test failed: Error: no route to host".to_owned();
    assert_eq!(bench.jobs.perform(start()), Outcome::Failed(refused.clone()), "one image is not here");
    bench.daemon.add_image("own:1");
    assert_eq!(bench.jobs.perform(start()), Outcome::Done);
    assert!(bench.jobs.log_of(LOG).contains(&refused));
}

#[test]
fn x2_variables_that_compose_cannot_read_are_named_on_the_log() {
    let bench = Bench::new();
    bench.service("web", "web:1", true);
    let mut odd = project();
    odd.environment.insert("MY KEY".to_owned(), "1".to_owned());
    assert_eq!(bench.jobs.perform(with(odd, Vec::new(), up())), Outcome::Done);
    let log = bench.jobs.log_of(LOG);
    assert!(log.iter().any(|line| line.contains("left out") && line.ends_with("MY KEY")), "{log:?}");
    let text = fs::read_to_string(bench.definition().with_file_name(".env-compose")).unwrap();
    assert!(!text.contains("MY KEY"), "{text}");
}

#[test]
fn a_start_that_is_cancelled_ends_while_it_waits_for_the_services() {
    let bench = Bench::new();
    bench.service("web", "web:1", false);
    bench.jobs.handle.start(1, job(up()));
    bench.daemon.wait_for_request("GET /containers/json", 1);
    bench.jobs.handle.cancel(1);
    assert_eq!(bench.jobs.wait_for_end(1), Outcome::Cancelled);
}
