//! What is made of a compose app's request: project, host ports, announcements, port reports (apps chapter 4.1 to 4.4, 4.7).
//! The plans that run it are elsewhere.

use super::super::app::{AppKey, Stage};
use super::super::job::{ComposeCommand, Container, JobSpec, Project};
use super::super::launch::Release;
use super::super::message::{Effect, LogCommand};
use super::super::plan::Step;
use super::super::ports::{Binding, Protocol, Published};
use super::super::request::Request;
use super::super::slot::{Run, Slot};
use super::super::testing::*;
use super::super::transition::Action;
use serde_json::{Value, json};

fn of(stage: Stage) -> AppKey {
    AppKey { key: 1, stage }
}

/// A world that knows of one compose app, which nothing is done with.
fn world(stage: Stage, definition: Value, extra: Value) -> World {
    let mut world = World::connected();
    let mut kwargs = object(json!({
        "app_key": 1, "app_name": "My.App", "stage": stage.text(), "target_state": "PRESENT", "current_state": "PRESENT",
        "requestor_account_key": 42, "newest_version": "1.0.0", "docker_compose": definition,
    }));
    kwargs.extend(object(extra));
    world.state.accept_call(Request::from_kwargs(&kwargs).unwrap());
    world.state.out.clear();
    world
}

/// An action of it runs.
fn busy(world: &mut World, id: AppKey) {
    let app = world.state.apps.get_mut(&id).unwrap();
    app.slot = Slot::Busy(Box::new(Run::new(Action::Run, Vec::new(), app)));
}

fn project(world: &mut World, id: AppKey) -> (Project, Vec<Binding>) {
    world.state.project(id, Release::Installed).unwrap()
}

/// `service declared>host`, with `*` for a port that is new from the pool.
fn words(bindings: &[Binding]) -> Vec<String> {
    let word =
        |it: &Binding| format!("{} {}>{}{}", it.service, it.declared, it.host_port, if it.fresh { "*" } else { "" });
    bindings.iter().map(word).collect()
}

/// Lines in apps' logs since the last time.
fn said(world: &mut World) -> Vec<String> {
    let effects = std::mem::take(&mut world.state.out);
    effects
        .into_iter()
        .filter_map(|it| if let Effect::Logs(LogCommand::Say { text, .. }) = it { Some(text) } else { None })
        .collect()
}

/// The rules of the port report that was sent last: `declared>host`.
fn synced(world: &mut World, id: AppKey) -> Vec<String> {
    world.state.sync_ports(id);
    let calls = std::mem::take(&mut world.state.out);
    let rules =
        calls.iter().find_map(|it| if let Effect::Call { args, .. } = it { args[0]["ports"].as_array() } else { None });
    rules.into_iter().flatten().map(|rule| format!("{}>{}", rule["port"], rule["host_port"])).collect()
}

fn seen(world: &mut World, id: AppKey, status: &str, ports: &[(&str, u16, u16)]) {
    let published = |(service, port, host_port): &(&str, u16, u16)| Published {
        service: (*service).to_owned(),
        port: *port,
        protocol: Protocol::Tcp,
        host_port: *host_port,
    };
    let bindings = ports.iter().map(published).collect();
    let container = Container { status: status.to_owned(), bindings, ..Container::default() };
    world.state.ports_seen(id, &container);
    world.state.apps.get_mut(&id).unwrap().seen = Some(container);
}

const PROD: Stage = Stage::Prod;
const DEV: Stage = Stage::Dev;

fn two() -> Value {
    json!({"services": {"web": {"image": "r/web:1", "ports": ["8080:80", 90]}, "broker": {"ports": ["1883:1883/udp", "1-2:1-2"]}}})
}

#[test]
fn a_project_has_its_name_its_ports_and_its_variables() {
    let extra = json!({"environment": {"A": {"value": "b # c"}}, "ports": [{"port": 8080, "host_port": 41_000}]});
    let mut world = world(PROD, two(), extra);
    let (project, bindings) = project(&mut world, of(PROD));
    assert_eq!(words(&bindings), ["broker 1883>40000*", "web 8080>41000"], "90 has neither host port nor rule");
    assert_eq!((project.name.as_str(), project.container.as_str()), ("prod_1_myapp_compose", "prod_1_my.app"));
    assert_eq!((project.folder.name.as_str(), project.folder.stage), ("My.App", PROD));
    assert_eq!(project.definition["name"], "prod_1_myapp_compose");
    assert_eq!(project.definition["services"]["web"]["ports"], json!(["0.0.0.0:41000:80", 90]));
    assert_eq!(project.definition["services"]["broker"]["ports"], json!(["0.0.0.0:40000:1883/udp", "1-2:1-2"]));
    let value = |name: &str| project.environment.get(name).map(String::as_str);
    assert_eq!((value("A"), value("ENV"), value("DEVICE_PORT_FOR_8080")), (Some("b # c"), Some("PROD"), Some("41000")));
    assert_eq!((value("DEVICE_PORT_FOR_1883"), value("DEVICE_PORT_FOR_90")), (Some("40000"), None));
    let authored = &world.state.apps[&of(PROD)].request.as_ref().unwrap().docker_compose;
    assert_eq!(authored.as_ref(), Some(&two()), "the authored one stays");
    assert!(!format!("{project:?}").contains("b # c"), "values are not told");
}

#[test]
fn a_rule_publishes_a_port_that_has_no_host_port() {
    let mut world = world(PROD, two(), json!({"ports": [{"port": 90}, {"port": 8080, "local_ip": "10.0.0.9"}]}));
    assert_eq!(words(&project(&mut world, of(PROD)).1), ["broker 1883>40000*", "web 8080>40001*", "web 90>40002*"]);
    let all = ["broker 1883>40000*", "web 8080>40001*", "web 90>40002*"];
    assert_eq!(words(&project(&mut world, of(PROD)).1), all, "new until a start has them");
    busy(&mut world, of(PROD));
    world.state.up(of(PROD), Release::Installed).unwrap();
    assert_eq!(words(&project(&mut world, of(PROD)).1), ["broker 1883>40000", "web 8080>40001", "web 90>40002"]);
}

#[test]
fn the_port_of_the_running_service_goes_before_the_stored_one() {
    let both = json!({"services": {"a": {"ports": ["81:80"]}, "b": {"ports": ["82:80"]}}});
    let mut world = world(PROD, both, json!({"ports": [{"port": 82, "host_port": 41_000}]}));
    seen(&mut world, of(PROD), "running", &[("b", 80, 42_000), ("a", 80, 42_001), ("c", 80, 42_002)]);
    assert_eq!(words(&project(&mut world, of(PROD)).1), ["a 81>42001", "b 82>42000"]);
}

#[test]
fn a_stopped_container_claims_only_what_nobody_has() {
    let mut world = world(PROD, json!({"services": {"a": {"ports": ["81:80"]}}}), json!({}));
    let other = super::super::ports::PortKey::plain(prod(9), Protocol::Tcp, 1);
    assert!(world.state.ports.claim(&other, 42_000));
    seen(&mut world, of(PROD), "exited", &[("a", 80, 42_000)]);
    assert_eq!(world.state.ports.get(&other), Some(42_000));
    seen(&mut world, of(PROD), "running", &[("a", 80, 42_000)]);
    assert_eq!(world.state.ports.get(&other), None);
}

#[test]
fn the_newest_release_has_its_own_definition_and_inherits_the_stored_port() {
    let newest = json!({"services": {"front": {"ports": ["8080:3000"]}}});
    let mut world =
        world(PROD, two(), json!({"new_docker_compose": newest, "ports": [{"port": 8080, "host_port": 41_000}]}));
    assert_eq!(words(&project(&mut world, of(PROD)).1), ["broker 1883>40000*", "web 8080>41000"]);
    let (project, bindings) = world.state.project(of(PROD), Release::Newest).unwrap();
    assert_eq!(words(&bindings), ["front 8080>41000"], "the service that had it is gone");
    assert_eq!(project.definition["services"]["front"]["ports"], json!(["0.0.0.0:41000:3000"]));
    world.state.apps.get_mut(&of(PROD)).unwrap().request.as_mut().unwrap().new_docker_compose = None;
    assert_eq!(words(&world.state.project(of(PROD), Release::Newest).unwrap().1).len(), 2, "none: the installed one");
}

#[test]
fn a_dev_app_is_on_its_declared_port_if_that_is_free_and_is_told_if_not() {
    let definition = json!({"services": {"web": {"ports": ["8080:80", "8081:81"]}}});
    let mut world = world(DEV, definition, json!({"environment": {"A": {"value": "1"}}, "ports": []}));
    let other = super::super::ports::PortKey::plain(prod(9), Protocol::Tcp, 1);
    assert!(world.state.ports.claim(&other, 8081));
    busy(&mut world, of(DEV));
    let (project, command) = world.state.up(of(DEV), Release::Installed).unwrap();
    let ComposeCommand::Up { bindings } = command else { panic!("{command:?}") };
    assert_eq!(words(&bindings), ["web 8080>8080", "web 8081>40000*"]);
    assert_eq!(
        said(&mut world),
        ["Port 8081 of service web is taken by another app; it is reachable on host port 40000 instead"]
    );
    assert_eq!(project.environment.get("A"), None, "payload variables are for PROD");
    world.state.up(of(DEV), Release::Installed).unwrap();
    assert_eq!(said(&mut world), [""; 0], "once per start");
}

#[test]
fn a_plain_dev_app_is_on_its_declared_port_and_has_an_image_without_tag() {
    let mut world = world(DEV, json!(null), json!({"ports": [{"port": 8080}, {"port": 8081}], "newest_version": ""}));
    let other = super::super::ports::PortKey::plain(prod(9), Protocol::Tcp, 1);
    assert!(world.state.ports.claim(&other, 8081));
    busy(&mut world, of(DEV));
    let names = world.state.names(of(DEV), "My.App");
    let launch = world.state.launch(of(DEV), &names).unwrap();
    assert_eq!(launch.image, "registry/apps/dev_amd64_1_my.app");
    assert_eq!(words(&launch.bindings), [" 8080>8080", " 8081>40000*"]);
    assert_eq!(said(&mut world), ["Port 8081 is taken by another app; it is reachable on host port 40000 instead"]);
}

#[test]
fn what_cannot_be_managed_is_said_once_per_start() {
    let mut definition = two();
    definition["services"]["web"]["environment"] = json!({"APP_AUTH_ID": "x"});
    let mut world = world(PROD, definition, json!({"environment": {"A=B": {"value": "1"}}}));
    project(&mut world, of(PROD));
    assert_eq!(said(&mut world), [""; 0], "no start");
    busy(&mut world, of(PROD));
    world.state.up(of(PROD), Release::Installed).unwrap();
    let lines = said(&mut world);
    let parts = ["port \"1-2:1-2\"", "APP_AUTH_ID", "A=B"];
    assert!(lines.len() == 3 && parts.iter().zip(&lines).all(|(part, line)| line.contains(part)), "{lines:?}");
    assert_eq!(world.state.apps[&of(PROD)].version, "1.0.0", "what starts is installed");
    if let Slot::Busy(run) = &mut world.state.apps.get_mut(&of(PROD)).unwrap().slot {
        run.conflicts = 1;
    }
    world.state.up(of(PROD), Release::Installed).unwrap();
    assert_eq!(said(&mut world), [""; 0]);
}

#[test]
fn apps_of_one_name_share_their_directories_with_a_warning() {
    let mut world = world(PROD, two(), json!({}));
    let warned = |world: &mut World| {
        busy(world, of(PROD));
        world.state.up(of(PROD), Release::Installed).unwrap();
        let effects = std::mem::take(&mut world.state.out);
        effects.iter().any(|it| matches!(it, Effect::Note { text, .. } if text.contains("shares its directories")))
    };
    assert!(!warned(&mut world));
    world.request(2, "PRESENT", json!({"app_name": "MY.APP"}));
    world.settle();
    assert!(warned(&mut world));
}

#[test]
fn a_conflict_moves_the_named_service_alone() {
    let stored =
        json!({"ports": [{"port": 8080, "host_port": 40_010}, {"port": 1883, "protocol": "udp", "host_port": 40_011}]});
    let text = "Bind for 0.0.0.0:40010 failed: port is already allocated";
    for (text, expected) in [
        (text.to_owned(), ["broker 1883>40011", "web 8080>40000*"]),
        (text.replace("40010", "40011"), ["broker 1883>40000*", "web 8080>40010"]),
    ] {
        let mut world = world(PROD, two(), stored.clone());
        busy(&mut world, of(PROD));
        world.state.up(of(PROD), Release::Installed).unwrap();
        world.holds = |_| true;
        world.state.start_after_conflict(of(PROD), &text, &[Step::Stop, Step::RemoveImages]);
        let Slot::Busy(run) = &world.state.apps[&of(PROD)].slot else { panic!("it is not tried again") };
        assert_eq!(run.steps, [Step::RemoveImages], "the first of the steps has begun");
        assert_eq!(words(&project(&mut world, of(PROD)).1), expected);
    }
    let mut world = world(PROD, two(), stored);
    busy(&mut world, of(PROD));
    world.state.up(of(PROD), Release::Installed).unwrap();
    world.state.start_after_conflict(of(PROD), &text.replace("40010", "40099"), &[Step::Stop]);
    assert!(world.state.apps[&of(PROD)].is_idle(), "not a port of this app");
    assert_eq!(words(&project(&mut world, of(PROD)).1), ["broker 1883>40011", "web 8080>40010"]);
}

#[test]
fn fresh_ports_that_are_found_taken_are_replaced() {
    let mut world = world(PROD, two(), json!({}));
    busy(&mut world, of(PROD));
    let ComposeCommand::Up { bindings } = world.state.up(of(PROD), Release::Installed).unwrap().1 else {
        panic!("no up")
    };
    assert_eq!(words(&bindings), ["broker 1883>40000*", "web 8080>40001*"]);
    world.state.start_elsewhere(of(PROD), &bindings[..1], &[Step::Stop]);
    assert_eq!(words(&project(&mut world, of(PROD)).1), ["broker 1883>40002*", "web 8080>40001"]);
}

#[test]
fn rules_of_a_compose_app_are_synchronised_by_service() {
    let rules = json!({"ports": [{"port": 8080}, {"port": 1883, "protocol": "udp"}, {"port": 90}, {"port": 7}, {"port": 22, "local_ip": "10.0.0.9"}]});
    let mut world = world(PROD, two(), rules);
    assert_eq!(synced(&mut world, of(PROD)), [""; 0], "nothing is published yet");
    project(&mut world, of(PROD));
    let all = ["8080>40001", "1883>40000", "90>40002", "7>null", "22>null"];
    assert_eq!(synced(&mut world, of(PROD)), all);
    assert_eq!(synced(&mut world, of(PROD)), [""; 0], "told already");
}

#[test]
fn a_live_or_stored_port_is_recovered_for_its_service() {
    let mut world = world(PROD, two(), json!({"ports": [{"port": 8080}, {"port": 90, "host_port": 41_005}]}));
    let app = world.state.apps.get_mut(&of(PROD)).unwrap();
    let live = Published { service: "web".to_owned(), port: 80, protocol: Protocol::Tcp, host_port: 42_000 };
    app.seen = Some(Container { bindings: vec![live], ..Container::default() });
    assert_eq!(synced(&mut world, of(PROD)), ["8080>42000", "90>41005"]);
    assert_eq!(words(&project(&mut world, of(PROD)).1), ["broker 1883>40000*", "web 8080>42000", "web 90>41005"]);
}

#[test]
fn with_the_network_of_the_machine_the_declared_port_is_the_hosts() {
    let definition =
        json!({"services": {"web": {"network_mode": "host", "ports": ["8080:80"]}, "db": {"ports": ["5432:5432"]}}});
    let mut world = world(PROD, definition, json!({"ports": [{"port": 8080}, {"port": 9000}, {"port": 5432}]}));
    let (project, bindings) = project(&mut world, of(PROD));
    assert_eq!(words(&bindings), ["db 5432>40000*"]);
    assert_eq!(project.definition["services"]["web"]["ports"], json!(["8080:80"]));
    let announced = |port: u16| project.environment.get(&format!("DEVICE_PORT_FOR_{port}")).map(String::as_str);
    assert_eq!((announced(8080), announced(5432), announced(9000)), (Some("8080"), Some("40000"), None));
    assert_eq!(synced(&mut world, of(PROD)), ["8080>8080", "9000>9000", "5432>40000"]);
    assert_eq!(world.state.ports.get_by_port(of(PROD), Protocol::Tcp, 8080), None, "it is not the registry's");
}

#[test]
fn a_container_of_an_old_agent_in_the_network_of_the_machine_is_dialled_on_its_declared_port() {
    let mut world = world(PROD, json!(null), json!({"ports": [{"port": 8080}]}));
    world.state.apps.get_mut(&of(PROD)).unwrap().seen = Some(Container { host_network: true, ..Container::default() });
    assert_eq!(synced(&mut world, of(PROD)), ["8080>8080"]);
    assert_eq!(world.state.ports.get_by_port(of(PROD), Protocol::Tcp, 8080), None);
}

#[test]
fn a_definition_that_cannot_be_used_says_why_and_a_bad_rule_does_not_stop_it() {
    for (definition, part) in [(json!({"services": 5}), "no services"), (json!(null), "no compose definition")] {
        let mut world = world(PROD, definition, json!({}));
        let error = world.state.project(of(PROD), Release::Installed).unwrap_err();
        assert!(error.contains(part), "{error}");
    }
    let mut world = world(PROD, two(), json!({"ports": [{"port": "80"}]}));
    assert_eq!(project(&mut world, of(PROD)).1.len(), 2);
    assert!(!world.jobs.values().any(|spec| matches!(spec, JobSpec::Compose { .. })));
}
