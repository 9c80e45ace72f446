//! The scenes recorded with the older agent, replayed on the same parts: what our agent says, compared frame by frame.
//!
//! The recordings are in `tests/golden/recorded`; what the router merely acknowledges is left out of them. Each scene's
//! frames are brought into a form without ids and values of the moment, in lanes that are independent of each other. Then
//! our lanes must be the recorded ones, but for the differences that [`differences`] lists with their reasons.

mod differences;
mod form;

use super::lifecycle::recorded_demo;
use super::relay::Side;
use super::stage::{PoolStart, SOON, Stage, progress};
use crate::cloud::flock::{Identity, USER_SECRET};
use crate::cloud::peer::{Login, Peer};
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use differences::DIFFERENCES;
use form::Lanes;
use reagent::clock;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Duration;

const SERIAL: &str = "c6aa09d3-3dbd-4830-a230-bf75cdd7f149";

/// After this much silence a scene is over.
const QUIET: Duration = Duration::from_millis(1200);

struct Replay {
    stage: Stage,
    used: Vec<bool>,
    faults: Vec<String>,
}

impl Replay {
    /// Compares what the agent sent after `mark` with a scene.
    fn compare(&mut self, scene: &str, mark: usize) {
        self.compare_with(scene, mark, &recorded(scene));
    }

    /// The same for a part of a scene.
    fn compare_with(&mut self, scene: &str, mark: usize, recorded: &[Value]) {
        let ours = self.quiet(mark);
        let mut expected = form::lanes(recorded.iter());
        let mut of_scene = Vec::new();
        for (index, difference) in DIFFERENCES.iter().enumerate() {
            if difference.scenes.iter().any(|of| scene.starts_with(of)) {
                let applied = difference.apply(&mut expected);
                self.used[index] |= applied;
                of_scene.push(format!("{}: {}", if applied { "applied" } else { "no use" }, difference.why));
            }
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

    /// Makes the request of a scene with its recorded keyword arguments, and waits for a state.
    fn request(&mut self, scene: &str, number: usize, state: &str) -> usize {
        let kwargs = requests(scene).swap_remove(number);
        let (mark, calls) = (self.stage.tap.mark(), self.stage.backend.mark());
        let key = kwargs["app_key"].as_u64().expect("a recorded request has a key");
        self.stage.backend.call_agent("request_app_state", vec![], kwargs).expect("the agent takes the request");
        self.stage.backend.wait_for_state(SOON, calls, key, state);
        mark
    }
}

impl Replay {
    /// Makes the calls of a scene up to its request, as the developer who made them; and what the older agent said then.
    fn upload(&mut self, name: &str) -> (usize, Vec<Value>) {
        let developer = Login::new(&self.stage.crossbar.url(), "42", USER_SECRET);
        let developer = Peer::join(&developer).expect("the developer joins Crossbar");
        let (mark, mut said) = (self.stage.tap.mark(), Vec::new());
        let uri = self.stage.backend.identity.uri("write_data");
        for line in scene(name) {
            said.extend(line.get("agent").cloned());
            let Some(call) = line.get("router").filter(|message| message[0] == 68) else { continue };
            let Some(args) = call[4].as_array().filter(|args| !args.is_empty()) else { break };
            developer.call(&uri, args.clone(), Map::new(), SOON).expect("the agent takes it");
        }
        (mark, said)
    }
}

#[test]
fn what_the_agent_says_is_what_was_recorded_but_for_the_listed_differences() {
    let identity = Identity { serial: SERIAL.to_owned(), ..Identity::generated() };
    let stage = Stage::prepare(identity);
    let _alone = PoolStart::take();
    let demo = recorded_demo();
    stage.push(&demo, "1.0.0", "demo");
    stage.push(&demo, "2.0.0", "demo");
    let crashing = WantedApp::new(505, "demo");
    stage.push(&crashing, "1.0.0", "fails");
    let tunnelled = tunnelled();
    stage.push(&tunnelled, "1.0.0", "demo");
    let mut replay = Replay { stage, used: vec![false; DIFFERENCES.len()], faults: Vec::new() };

    replay.stage.agent.restart();
    replay.stage.online(0);
    replay.compare("01-connect", 0);
    replay.stage.backend.want(demo.clone());
    let _lines = replay.stage.backend.subscribe_logs("prod_501_demo");
    for (scene, state) in [
        ("04-install-plain-app", "RUNNING"),
        ("07-stop", "PRESENT"),
        ("08-start", "RUNNING"),
        ("09-update", "RUNNING"),
        ("10-same-state-again", "RUNNING"),
        ("15-remove", "REMOVED"),
    ] {
        let mark = replay.request(scene, 0, state);
        replay.compare(scene, mark);
    }
    let mark = replay.request("16-uninstall", 0, "RUNNING");
    replay.quiet(mark);
    replay.stage.backend.want(demo.target("UNINSTALLED"));
    replay.request("16-uninstall", 1, "UNINSTALLED");
    replay.compare("16-uninstall", mark);
    let _lines = replay.stage.backend.subscribe_logs("prod_506_demo");
    let mark = replay.request("17-missing-image", 0, "FAILED");
    replay.request("17-missing-image", 1, "REMOVED");
    replay.compare("17-missing-image", mark);
    let _lines = replay.stage.backend.subscribe_logs("prod_505_demo");
    let mark = replay.request("18-crash", 0, "FAILED");
    let calls = replay.stage.backend.mark();
    replay.stage.backend.wait_for_state(SOON, calls, 505, "FAILED");
    replay.request("18-crash", 1, "REMOVED");
    replay.compare("18-crash", mark);
    replay.stage.request(&tunnelled, "RUNNING");
    replay.quiet(0);
    let (mark, calls) = (replay.stage.tap.mark(), replay.stage.backend.mark());
    replay.stage.tap.relay.cut();
    replay.stage.online(calls);
    replay.compare("31-reconnect", mark);
    let _lines = replay.stage.backend.subscribe_logs("dev_710_devapp");
    let (mark, upload) = replay.upload("19-dev-upload-build");
    replay.compare_with("19-dev-upload-build", mark, &upload);

    let unused = DIFFERENCES.iter().zip(&replay.used).filter(|(_, used)| !**used);
    let unused = unused.map(|(difference, _)| format!("a listed difference that is none: {}", difference.why));
    let faults: Vec<String> = replay.faults.iter().cloned().chain(unused).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

/// The app of scene 31.
fn tunnelled() -> WantedApp {
    let rule = |main: bool, name: &str, port: u64, protocol: &str| {
        json!({"main": main, "name": name, "active": true, "public": false, "port": port, "protocol": protocol,
            "local_ip": "", "remote_port_environment": "", "remote_port": 0})
    };
    WantedApp::new(801, "demo").rule(rule(true, "web", 8080, "http")).rule(rule(false, "ssh", 22, "tcp"))
}

fn scene(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recorded").join(format!("{name}.jsonl"));
    let text = std::fs::read_to_string(path).expect("a recorded scene");
    text.lines().map(|line| serde_json::from_str(line).expect("a recorded line is JSON")).collect()
}

/// What the older agent sent in a scene.
fn recorded(name: &str) -> Vec<Value> {
    scene(name).into_iter().filter_map(|line| line.get("agent").cloned()).collect()
}

/// The keyword arguments of the invocations in a scene.
fn requests(name: &str) -> Vec<Map<String, Value>> {
    let of_router = scene(name).into_iter().filter_map(|line| line.get("router").cloned());
    of_router.filter(|message| message[0] == 68).filter_map(|message| message[5].as_object().cloned()).collect()
}
