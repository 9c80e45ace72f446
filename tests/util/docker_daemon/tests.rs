//! The fake daemon as the real client sees it: each test also shows how to use it.

use super::*;
use crossbeam_channel::{Receiver, unbounded};
use reagent::cancel::Cancel;
use reagent::docker::events::{self, ContainerEvent, Event};
use reagent::docker::http1;
use reagent::docker::{
    Address, Condition, ContainerSpec, Docker, Error, Filters, LogOptions, Reference, RegistryAuth, Removal, Started,
    Which,
};

const IMAGE: &str = "registry.test/apps/app:1.0.0";

fn client(daemon: &DockerDaemon) -> Docker {
    Docker::at(Address::from_setting(&daemon.host(), "").unwrap()).within(LIMIT)
}

fn spec(host_port: u16) -> ContainerSpec {
    let mut spec = ContainerSpec { image: IMAGE.into(), tty: true, ..ContainerSpec::default() };
    spec.labels.insert("real".into(), "True".into());
    spec.publish(80, "tcp", host_port);
    spec
}

fn watch(docker: &Docker) -> (events::Handle, Receiver<Event>) {
    let (sink, events) = unbounded();
    (events::spawn(docker, sink, |event| event, |_| {}).unwrap(), events)
}

fn next_change(events: &Receiver<Event>) -> ContainerEvent {
    match events.recv_timeout(LIMIT) {
        Ok(Event::Container(event)) => event,
        other => panic!("no change of a container but {other:?}"),
    }
}

#[track_caller]
fn expect_up(events: &Receiver<Event>) {
    let event = events.recv_timeout(LIMIT);
    assert!(matches!(event, Ok(Event::Up { .. })), "{event:?}");
}

#[test]
fn a_container_lives_its_life_and_every_step_is_an_event() {
    let daemon = DockerDaemon::start();
    let docker = client(&daemon);
    let (handle, events) = watch(&docker);
    expect_up(&events);
    let absent = docker.create_container("prod_1_app", &spec(8080)).unwrap_err();
    assert!(absent.is_image_not_found(), "{absent:?}");
    daemon.add_image(IMAGE);
    let id = docker.create_container("prod_1_app", &spec(8080)).unwrap();
    assert!(docker.create_container("prod_1_app", &spec(8080)).unwrap_err().is_name_in_use());
    assert_eq!(docker.start_container(&id), Ok(Started::Now));
    assert_eq!(docker.start_container(&id), Ok(Started::Already));
    daemon.wait_for_status("prod_1_app", "running");
    assert_eq!(docker.find_container("prod_1_app").unwrap().unwrap().state.status, "running");
    assert_eq!(docker.find_container(&id[..4]), Ok(None), "the start of an id is no name");
    let listed = docker.list_containers(Which::Running, &Filters::none().with("label", "real=True")).unwrap();
    assert_eq!((listed[0].name(), listed[0].ports[0].public_port), ("prod_1_app", 8080));
    assert!(docker.remove_container(&id, Removal::Gentle).is_err());
    daemon.exit_container("prod_1_app", 7);
    assert_eq!(docker.wait_container(&id, Condition::NotRunning), Ok(7));
    docker.start_container("prod_1_app").unwrap();
    docker.stop_container(&id, Duration::from_secs(1)).unwrap();
    docker.remove_container(&id, Removal::Force).unwrap();
    daemon.wait_for_status("prod_1_app", "absent");
    assert!(docker.wait_container(&id, Condition::Removed).unwrap_err().is_not_found());
    let seen: Vec<_> = (0..6).map(|_| next_change(&events)).map(|event| (event.action, event.exit_code)).collect();
    let expected = [("create", None), ("start", None), ("die", Some(7)), ("start", None), ("die", Some(137))];
    let expected: Vec<_> = expected.into_iter().map(|(action, code)| (action.to_owned(), code)).collect();
    assert_eq!(seen[..5], expected);
    assert_eq!(seen[5].0, "destroy");
    assert!(handle.stop());
    assert!(daemon.containers().is_empty());
}

#[test]
fn a_port_is_given_to_one_container_alone() {
    let daemon = DockerDaemon::start();
    let docker = client(&daemon);
    daemon.add_image(IMAGE);
    docker.create_container("a", &spec(8080)).unwrap();
    docker.create_container("b", &spec(8080)).unwrap();
    docker.create_container("c", &spec(8081)).unwrap();
    daemon.take_port(8081);
    docker.start_container("a").unwrap();
    for name in ["b", "c"] {
        assert!(docker.start_container(name).unwrap_err().is_port_conflict());
        assert!(docker.inspect_container(name).unwrap().state.error.contains("port is already allocated"));
    }
    assert_eq!(daemon.created_with("a").unwrap()["Image"], IMAGE);
}

#[test]
fn a_log_is_followed_until_its_container_ends() {
    let daemon = DockerDaemon::start();
    let docker = client(&daemon);
    daemon.add_image(IMAGE);
    daemon.behave(IMAGE, Behaviour { log: vec!["hello".into()], ..Behaviour::default() });
    for tty in [true, false] {
        let spec = ContainerSpec { tty, ..spec(8080) };
        docker.create_container("app", &spec).unwrap();
        docker.start_container("app").unwrap();
        let mut logs =
            docker.container_logs("app", &LogOptions { tty, follow: true, ..LogOptions::default() }).unwrap();
        assert_eq!(logs.next_line(LIMIT).unwrap().unwrap().text, "hello");
        daemon.write_log("app", 2, "oops");
        assert_eq!(logs.next_line(LIMIT).unwrap().unwrap().text, "oops");
        daemon.exit_container("app", 0);
        assert_eq!(logs.next_line(LIMIT), Ok(None));
        docker.remove_container("app", Removal::Force).unwrap();
    }
}

#[test]
fn a_pull_works_fails_stalls_or_is_refused() {
    let daemon = DockerDaemon::start();
    let cancel = Cancel::new();
    let docker = client(&daemon).cancelled_by(&cancel);
    let pull = |reference: &str| docker.pull_image(&Reference::parse(reference), &RegistryAuth::default());
    daemon.offer(IMAGE, Pull::Works);
    daemon.offer("broken:1", Pull::Fails("no space left on device".into()));
    daemon.offer("slow:1", Pull::Stalls);
    pull(IMAGE).unwrap().finish().unwrap();
    assert_eq!(daemon.images(), [IMAGE]);
    assert_eq!(pull("broken:1").unwrap().finish(), Err(Error::Transfer("no space left on device".into())));
    assert!(pull("absent").unwrap_err().is_image_not_found());
    let mut slow = pull("slow:1").unwrap();
    assert!(slow.next_record().unwrap().unwrap().contains("Pulling from slow"));
    cancel.cancel();
    assert_eq!(slow.finish(), Err(Error::Cancelled));
    assert_eq!(daemon.wait_for_request("POST /images/create", 4).query("fromImage"), "slow");
    let docker = client(&daemon);
    assert_eq!(docker.list_images(&Filters::none().with("reference", "registry.test/apps/app")).unwrap().len(), 1);
    assert_eq!(docker.inspect_image(IMAGE).unwrap().repo_tags, [IMAGE]);
    docker.remove_image(IMAGE, Removal::Force).unwrap();
    assert!(docker.remove_image(IMAGE, Removal::Force).unwrap_err().is_not_found());
    daemon.wait("the cancelled connection to end", |inner| inner.connections.is_empty().then_some(()));
}

#[test]
fn an_image_is_tagged_pushed_removed_and_pulled_again() {
    let daemon = DockerDaemon::start();
    let docker = client(&daemon);
    daemon.add_image("built");
    let (reference, nobody) = (Reference::parse(IMAGE), RegistryAuth::default());
    let absent = docker.push_image(&reference, &nobody).unwrap().finish();
    assert!(matches!(absent, Err(Error::Transfer(_))), "{absent:?}");
    docker.tag_image("built", &reference).unwrap();
    docker.push_image(&reference, &nobody).unwrap().finish().unwrap();
    docker.remove_image(IMAGE, Removal::Force).unwrap();
    assert_eq!(daemon.images(), ["built:latest"]);
    docker.pull_image(&reference, &nobody).unwrap().finish().unwrap();
    assert_eq!(daemon.images(), ["built:latest", IMAGE]);
}

#[test]
fn d1_faults_are_switched_per_route_and_healed() {
    let daemon = DockerDaemon::start();
    let docker = client(&daemon);
    let hurried = docker.within(Duration::from_millis(50));
    daemon.fault("GET /info", Fault::Hang);
    docker.negotiate().unwrap();
    assert_eq!(hurried.info(), Err(Error::Timeout));
    assert!(docker.list_containers(Which::All, &Filters::none()).is_ok(), "other routes are well");
    daemon.fault("GET /info", Fault::Truncate);
    assert_eq!(docker.info(), Err(Error::Http(http1::Fault::Truncated)));
    daemon.fault("*", Fault::Status(500, "no luck".into()));
    assert_eq!(docker.inspect_container("x").unwrap_err().to_string(), "no luck");
    daemon.fault("GET /containers/*/json", Fault::Slow(Duration::from_secs(3600)));
    assert_eq!(hurried.inspect_container("x"), Err(Error::Timeout));
    daemon.heal();
    assert_eq!(docker.info().unwrap().server_version, "20.10.24");
    daemon.go_down();
    assert!(matches!(docker.info(), Err(Error::Unreachable(_))));
    daemon.come_up();
    assert!(docker.info().is_ok());
}

#[test]
fn d1_events_survive_a_restart_of_the_daemon_and_a_hanging_ping() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let docker = client(&daemon);
    let (handle, events) = watch(&docker);
    expect_up(&events);
    daemon.fault("HEAD /_ping", Fault::Hang);
    daemon.restart();
    let event = events.recv_timeout(LIMIT);
    assert!(matches!(event, Ok(Event::Down { .. })), "{event:?}");
    daemon.wait_for_request("HEAD /_ping", 2);
    assert!(events.is_empty(), "it is not up before it answers");
    daemon.heal();
    expect_up(&events);
    docker.create_container("app", &spec(8080)).unwrap();
    assert_eq!(next_change(&events).action, "create");
    assert!(handle.stop());
    daemon.wait("the event stream to end", |inner| inner.connections.is_empty().then_some(()));
    assert_eq!(daemon.connections(), 0);
}

#[test]
fn s1_a_thousand_starts_and_stops_leave_one_stream() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let docker = client(&daemon);
    let (handle, events) = watch(&docker);
    expect_up(&events);
    docker.create_container("app", &spec(8080)).unwrap();
    for _ in 0..1000 {
        docker.start_container("app").unwrap();
        docker.stop_container("app", Duration::from_secs(1)).unwrap();
    }
    let changes: Vec<_> = (0..2001).map(|_| next_change(&events).action).collect();
    assert_eq!(changes.iter().filter(|action| *action == "die").count(), 1000);
    daemon.wait("one connection, the event stream", |inner| (inner.connections.len() == 1).then_some(()));
    assert!(handle.stop());
}

#[test]
fn behaviours_start_with_an_exit_or_an_error() {
    let daemon = DockerDaemon::start();
    let docker = client(&daemon);
    daemon.add_image(IMAGE);
    docker.create_container("app", &spec(8080)).unwrap();
    daemon.behave(IMAGE, Behaviour { exits: Some(3), ..Behaviour::default() });
    docker.start_container("app").unwrap();
    assert_eq!(docker.inspect_container("app").unwrap().state.exit_code, 3);
    daemon.behave(IMAGE, Behaviour { start_error: Some("oci runtime error".into()), ..Behaviour::default() });
    assert_eq!(docker.start_container("app").unwrap_err().to_string(), "oci runtime error");
}

/// Runs the daemon's `docker` command; its status and what it said.
fn docker(daemon: &DockerDaemon, folder: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(folder.join("docker"));
    let output = command.args(words).env("DOCKER_HOST", daemon.host()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn the_command_of_the_daemon_brings_a_project_up_and_down_one_container_at_a_time() {
    let (daemon, folder) = (DockerDaemon::start(), crate::util::TempDir::new("cli"));
    daemon.put_cli(folder.path());
    let file = folder.join("docker-compose.json");
    let definition = serde_json::json!({"name": "prod_7_demo_compose", "services": {
        "side": {"image": "side:1"}, "web": {"image": "web:1", "ports": ["0.0.0.0:8080:80", "0.0.0.0:8053:53/udp"]},
    }});
    std::fs::write(&file, definition.to_string()).unwrap();
    let compose =
        |words: &[&str]| docker(&daemon, folder.path(), &[&["compose", "-f", file.to_str().unwrap()], words].concat());
    assert_eq!(docker(&daemon, folder.path(), &["compose", "version"]).0, Some(0));
    let (status, said) = compose(&["pull"]);
    assert!(status == Some(1) && said.contains("manifest for side:1 not found"), "{said}");
    ["side:1", "web:1"].into_iter().for_each(|image| daemon.offer(image, Pull::Works));
    daemon.registry_fails(Some("connection refused"));
    assert_eq!(docker(&daemon, folder.path(), &["login", "-u", "x", "--", "registry"]).0, Some(1));
    assert_eq!(compose(&["pull"]).0, Some(1));
    daemon.registry_fails(None);
    assert_eq!(compose(&["pull"]).0, Some(0));
    daemon.take_port(8080);
    let (status, said) = compose(&["up", "--remove-orphans", "-d", "--no-build"]);
    assert!(status == Some(1) && said.contains("Bind for 0.0.0.0:8080 failed: port is already allocated"), "{said}");
    daemon.wait_for_status("prod_7_demo_compose-side-1", "running");
    daemon.wait_for_status("prod_7_demo_compose-web-1", "created");
    daemon.free_port(8080);
    assert_eq!(compose(&["up", "-d"]).0, Some(0));
    daemon.wait_for_status("prod_7_demo_compose-web-1", "running");
    let seen = client(&daemon).find_container("prod_7_demo_compose-web-1").unwrap().unwrap();
    assert_eq!(seen.host_config.port_bindings.keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
    assert_eq!(seen.config.labels["com.docker.compose.service"], "web");
    assert_eq!(compose(&["stop"]).0, Some(0));
    daemon.wait_for_status("prod_7_demo_compose-side-1", "exited");
    assert_eq!(compose(&["rm", "-f"]).0, Some(0));
    assert!(daemon.containers().is_empty());
    assert_eq!(compose(&["up", "-d"]).0, Some(0));
    assert_eq!(compose(&["down", "-v"]).0, Some(0));
    assert!(daemon.containers().is_empty());
    daemon.go_down();
    assert_eq!(compose(&["up", "-d"]).0, Some(1));
}
