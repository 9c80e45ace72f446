//! The scenes recorded with the older agent, replayed on the same parts: what our agent says, compared frame by frame, and
//! what is on the machine then.
//!
//! The recordings are in `tests/golden/recorded`; what the router merely acknowledges is left out of them. Each scene's
//! frames are brought into a form without ids and values of the moment, in lanes that are independent of each other. Then
//! our lanes must be the recorded ones, but for the differences that [`differences`] lists with their reasons. What the
//! machine shows is compared by [`super::machine`].

mod differences;
mod form;
mod recording;

use super::flavour::Flavour;
use super::lifecycle::recorded_demo;
use super::machine;
use super::relay::Side;
use super::stage::{PoolStart, SOON, Stage, progress, registry};
use crate::cloud::flock::{Identity, USER_SECRET};
use crate::cloud::peer::{Login, Peer};
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use differences::DIFFERENCES;
use form::Lanes;
use reagent::clock;
use recording::{Part, parts};
use serde_json::{Map, Value, json};
use std::time::Duration;

const SERIAL: &str = "c6aa09d3-3dbd-4830-a230-bf75cdd7f149";
/// The registry of the recorded device.
const REGISTRY: &str = "127.0.0.1:5000";

/// After this much silence a scene is over.
const QUIET: Duration = Duration::from_millis(1200);

/// What is done where the recording has a call.
enum Call {
    /// The backend asks for a state of an app; these states are waited for, one after the other.
    Wants(&'static [&'static str]),
    /// The developer calls this procedure.
    Asks(&'static str),
    /// A procedure that comes with a later issue.
    Later,
}

use Call::{Asks, Later, Wants};

struct Replay {
    stage: Stage,
    developer: Peer,
    faults: Vec<String>,
}

impl Replay {
    /// On this stage, whose agent was not started yet.
    fn of(stage: Stage) -> Replay {
        let developer = Login::new(&stage.crossbar.url(), "42", USER_SECRET);
        let developer = Peer::join(&developer).expect("the developer joins Crossbar");
        let mut replay = Replay { stage, developer, faults: Vec::new() };
        replay.stage.agent.restart();
        replay.stage.online(0);
        replay
    }

    /// A stage for an agent with the identity of the recorded one.
    fn stage() -> Stage {
        Stage::prepare(Identity { serial: SERIAL.to_owned(), ..Identity::generated() })
    }

    /// Makes the calls of a scene one after the other, and compares what the agent sends meanwhile.
    fn play(&mut self, scene: &str, calls: &[Call]) {
        let mark = self.stage.tap.mark();
        let parts = parts(scene);
        assert_eq!(parts.len(), calls.len() + 1, "scene {scene} has other calls");
        let mut expected = parts[0].said.clone();
        for (n, (part, call)) in parts[1..].iter().zip(calls).enumerate() {
            match call {
                Later => continue,
                Asks(name) => self.ask(name, part),
                Wants(states) => self.want(part, states),
            }
            expected.extend(part.said.iter().cloned());
            if matches!(call, Wants(_)) && n + 1 < calls.len() {
                self.quiet(mark);
            }
        }
        self.compare(scene, mark, &expected);
    }

    fn ask(&self, name: &str, part: &Part) {
        let uri = self.stage.backend.identity.uri(name);
        self.developer.call(&uri, part.args.clone(), part.kwargs.clone(), SOON).expect("the agent takes it");
    }

    fn want(&self, part: &Part, states: &[&str]) {
        let own = format!("127.0.0.1:{}", self.stage.download.port());
        let kwargs = Value::from(part.kwargs.clone()).to_string().replace(REGISTRY, &own);
        let kwargs: Map<String, Value> = serde_json::from_str(&kwargs).expect("it was JSON before");
        let key = kwargs["app_key"].as_u64().expect("a recorded request has a key");
        let mut calls = self.stage.backend.mark();
        self.stage.backend.call_agent("request_app_state", vec![], kwargs).expect("the agent takes the request");
        for state in states {
            self.stage.backend.wait_for_state(SOON, calls, key, state);
            calls = self.stage.backend.mark();
        }
    }

    /// Compares what the agent sent after `mark` with what the older one said in a scene.
    fn compare(&mut self, scene: &str, mark: usize, recorded: &[Value]) {
        let ours = at_its_own_time(scene, self.quiet(mark));
        let mut expected = at_its_own_time(scene, form::lanes(recorded.iter()));
        let mut of_scene = Vec::new();
        for difference in DIFFERENCES.iter().filter(|of| of.scenes.iter().any(|of| scene.starts_with(of))) {
            let applied = difference.apply(&mut expected);
            if !applied {
                self.faults.push(format!("scene {scene}: a listed difference that is none: {}", difference.why));
            }
            of_scene.push(format!("{}: {}", if applied { "applied" } else { "no use" }, difference.why));
        }
        progress(&format!("scene {scene}: {} frames of ours", ours.values().map(Vec::len).sum::<usize>()));
        if ours != expected {
            self.faults.push(format!("scene {scene}\n{}\n{}", form::diff(&expected, &ours), of_scene.join("\n")));
        }
    }

    /// The agent's frames after `mark`, once nothing but lines of containers comes any more.
    fn quiet(&self, mark: usize) -> Lanes {
        wait_until(SOON, "the end of a scene", || {
            let frames = self.stage.tap.frames();
            let last =
                frames[mark..].iter().rfind(|frame| frame.side == Side::Client && !form::is_lines(&frame.message));
            let over = last.is_some_and(|last| last.at + QUIET < clock::mono());
            over.then(|| {
                let sent = frames[mark..].iter().filter(|frame| frame.side == Side::Client);
                form::lanes(sent.map(|frame| &frame.message))
            })
        })
    }

    /// Compares a container with the one of a scene. `ports`: the host ports of the recorded one, and ours.
    fn container(&mut self, scene: &str, name: &str, ports: &[(u16, u16)]) {
        let ours = self.stage.docker.inspect(name).unwrap_or_else(|| panic!("there is no container {name}"));
        let recorded = recording::machine(scene, &format!("container /{name}"));
        let fault = machine::container_differs(&self.stage, &ours, &recorded, ports);
        self.faults.extend(fault.map(|fault| format!("scene {scene}: container {name}\n{fault}")));
    }

    /// Compares the files below `-appsDir` with those of a scene; `left_out` begins what belongs to other apps.
    fn files(&mut self, scene: &str, left_out: &str, ports: &[(u16, u16)]) {
        let recorded = recording::machine(scene, "apps folder");
        let fault = machine::files_differ(&self.stage, "", &recorded, left_out, ports);
        self.faults.extend(fault.map(|fault| format!("scene {scene}: files\n{fault}")));
    }

    #[track_caller]
    fn end(self) {
        assert!(self.faults.is_empty(), "\n{}", self.faults.join("\n\n"));
    }
}

/// Without what comes every half minute, or a minute after the start: when that is depends on the pace of the scenes.
fn at_its_own_time(scene: &str, mut lanes: Lanes) -> Lanes {
    if !scene.starts_with("01") && !scene.starts_with("31") {
        for lane in lanes.values_mut() {
            lane.retain(|line| !line.contains("update_device_status") && !line.contains("get_requested_app_states"));
        }
        lanes.retain(|_, lane| !lane.is_empty());
    }
    lanes
}

#[test]
fn what_is_said_of_an_app_of_one_container_is_what_was_recorded_but_for_the_listed_differences() {
    let stage = Replay::stage();
    let _alone = PoolStart::take();
    let demo = recorded_demo();
    stage.push(&demo, "1.0.0", "demo");
    stage.push(&demo, "2.0.0", "demo");
    stage.push(&WantedApp::new(505, "demo"), "1.0.0", "fails");
    let tunnelled = tunnelled();
    stage.push(&tunnelled, "1.0.0", "demo");

    let mut replay = Replay::of(stage);
    replay.compare("01-connect", 0, &recording::said("01-connect"));
    replay.stage.backend.want(demo.clone());
    let _lines = replay.stage.backend.subscribe_logs("prod_501_demo");
    replay.play("04-install-plain-app", &[Wants(&["RUNNING"])]);
    let ports = [(40_000, replay.stage.host_port(&demo, 8080)), (40_001, replay.stage.host_port(&demo, 53))];
    replay.container("04-install-plain-app", "prod_501_demo", &ports);
    replay.files("04-install-plain-app", "none", &ports);
    replay.play("05-lists-with-an-app", &[Asks("list_containers"), Asks("get_images")]);
    replay.play("06-log-queries", &[Asks("get_app_log_history"), Later, Later, Later, Later, Later]);
    replay.play("07-stop", &[Wants(&["PRESENT"])]);
    replay.play("08-start", &[Wants(&["RUNNING"])]);
    replay.play("09-update", &[Wants(&["RUNNING"])]);
    replay.play("10-same-state-again", &[Wants(&["RUNNING"])]);
    replay.play("15-remove", &[Wants(&["REMOVED"])]);
    replay.files("15-remove", "none", &ports);
    replay.stage.backend.want(demo.target("UNINSTALLED"));
    replay.play("16-uninstall", &[Wants(&["RUNNING"]), Wants(&["UNINSTALLED"])]);
    replay.files("16-uninstall", "none", &[]);
    let _lines = replay.stage.backend.subscribe_logs("prod_506_demo");
    replay.play("17-missing-image", &[Wants(&["FAILED"]), Wants(&["REMOVED"])]);
    let _lines = replay.stage.backend.subscribe_logs("prod_505_demo");
    replay.play("18-crash", &[Wants(&["FAILED", "FAILED"]), Wants(&["REMOVED"])]);
    replay.stage.request(&tunnelled, "RUNNING");
    replay.quiet(0);
    let (mark, calls) = (replay.stage.tap.mark(), replay.stage.backend.mark());
    replay.stage.tap.relay.cut();
    replay.stage.online(calls);
    replay.compare("31-reconnect", mark, &recording::said("31-reconnect"));
    replay.end();
}

#[test]
fn what_is_said_of_an_app_in_development_is_what_was_recorded_but_for_the_listed_differences() {
    let stage = Replay::stage();
    stage.engine.has_base();
    let mut replay = Replay::of(stage);
    let _lines = replay.stage.backend.subscribe_logs("dev_710_devapp");
    let upload = || Asks("write_data");
    replay.play("19-dev-upload-build", &[upload(), upload(), upload(), Wants(&["PRESENT"])]);
    replay.files("19-dev-upload-build", "prod", &[]);
    replay.play("20-dev-run", &[Wants(&["RUNNING"]), Wants(&["PRESENT"])]);
    replay.play("21-dev-publish", &[Wants(&["PUBLISHED"])]);
    assert!(registry().has("apps/prod_amd64_710_devapp", "3.1.4"));
    let _lines = replay.stage.backend.subscribe_logs("dev_713_badbuild");
    replay.play("22-dev-build-error", &[upload(), upload(), upload(), Wants(&["FAILED"])]);
    // The container is there in the middle of its scene.
    replay.want(&parts("20-dev-run")[1], &["RUNNING"]);
    replay.container("20-dev-run", "dev_710_devapp", &[]);
    replay.end();
}

#[test]
fn what_is_said_of_a_compose_app_is_what_was_recorded_but_for_the_listed_differences() {
    let mut stage = Replay::stage();
    stage.has_compose(Flavour::Plugin);
    let _alone = PoolStart::take();
    let image = "prod_amd64_700_composebase";
    if !registry().has(&format!("apps/{image}"), "1.0.0") {
        registry().push(&stage.docker, image, "1.0.0", "silent");
    }
    let mut replay = Replay::of(stage);
    let _lines = replay.stage.backend.subscribe_logs("prod_701_comp");
    let comp = WantedApp { ports: vec![json!({"port": 8090})], ..WantedApp::new(701, "comp") };
    replay.stage.backend.want(comp.clone());
    replay.play("23-compose-install", &[Wants(&["RUNNING"])]);
    let ports = [(40_000, replay.stage.host_port(&comp, 8090))];
    replay.container("23-compose-install", "prod_701_comp_compose-web-1", &ports);
    let files = recording::machine("23-compose-install", "compose files");
    let fault = machine::files_differ(&replay.stage, "compose", &files, "none", &ports);
    replay.faults.extend(fault.map(|fault| format!("compose files\n{fault}")));
    replay.play("24-compose-lists", &[Asks("list_containers"), Asks("get_app_log_history"), Later]);
    replay.play("25-compose-stop", &[Wants(&["PRESENT"])]);
    replay.play("26-compose-uninstall", &[Wants(&["UNINSTALLED"])]);
    replay.end();
}

/// The app of scene 31.
fn tunnelled() -> WantedApp {
    let rule = |main: bool, name: &str, port: u64, protocol: &str| {
        json!({"main": main, "name": name, "active": true, "public": false, "port": port, "protocol": protocol,
            "local_ip": "", "remote_port_environment": "", "remote_port": 0})
    };
    WantedApp::new(801, "demo").rule(rule(true, "web", 8080, "http")).rule(rule(false, "ssh", 22, "tcp"))
}
