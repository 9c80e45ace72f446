//! One app on its way: how it is brought into a state and held there, what hits it, and how it is let go.

use super::super::relay::{Gate, Side};
use super::super::stage::{SOON, Stage, registry, with_ports};
use crate::cloud::flock::Identity;
use crate::cloud::peer::Payload;
use crate::cloud::wanted::WantedApp;
use crate::util::tar::Tar;
use crate::util::{TempDir, wait_until};
use crossbeam_channel::Receiver;
use reagent::clock;
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

/// What happens to an app on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// kill -9 of the agent, and a start.
    Agent,
    /// The daemon is stopped in good order and started again.
    Engine,
    /// kill -9 of the daemon, and a start.
    EngineKilled,
    /// kill -9 of both at once; the agent is back first.
    PowerAgentFirst,
    /// The same; the daemon is back first.
    PowerEngineFirst,
    /// The user cancels.
    Cancel,
    /// The session is lost and joined again.
    Session,
    /// The router goes, what was under way ends without it, and it comes back.
    Outage,
}

/// The docker command of the agent: as the real one, but one that is called with a word that is to be held does not go on,
/// takes no notice of SIGTERM, and has a child that does not either and holds the pipe, as the plugin of compose does.
const PROGRAM: &str = r#"#!/bin/sh
dir=${0%/*}
for word in "$@"; do
  if [ -f "$dir/hold-$word" ]; then
    trap '' TERM
    (while [ -d "$dir" ] && [ ! -f "$dir/free" ]; do sleep 0.2; done) &
    mv "$dir/hold-$word" "$dir/held-$word"
    wait
  fi
done
PATH=${PATH#*:} exec docker "$@"
"#;

/// What a build needs to have steps that last.
const BALLAST: usize = 4 << 20;

/// See the module.
pub struct Scene {
    pub stage: Stage,
    pub app: WantedApp,
    pub blow: Blow,
    gate: Option<Gate>,
    /// In front of the agent's `PATH`.
    programs: TempDir,
    /// `/door` of the services, which wait for a file in it.
    door: TempDir,
    /// The app's logs, that of a release too.
    logs: [Receiver<Payload>; 2],
    /// The calls of the backend before what is interrupted.
    pub mark: usize,
}

impl Scene {
    /// A device with its agent on line, and with compose.
    #[track_caller]
    pub fn new(blow: Blow, app: WantedApp) -> Scene {
        let mut stage = Stage::prepare(Identity::generated());
        let programs = TempDir::new("programs");
        let program = programs.join("docker");
        fs::write(&program, PROGRAM).expect("a fresh folder takes a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let compose = super::super::script("compose.sh", &["v2"], &[]);
        let config = Path::new(&compose).ancestors().nth(2).expect("it is in cli-plugins").display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        let set = [
            ("PATH", format!("{}:{path}", programs.path().display())),
            ("DOCKER_CONFIG", config),
            // Longer than what is to happen in it, and no longer than one likes to wait for its end.
            ("REAGENT_PROBATION", "12".to_owned()),
        ];
        stage.agent.options.env.extend(set.map(|(name, value)| (name.to_owned(), value)));
        stage.agent.restart();
        stage.online(0);
        let (door, app) = (TempDir::new("door"), with_ports(app));
        let container = app.container();
        let logs = [container.clone(), container.replace("dev_", "pub_")].map(|log| stage.backend.subscribe_logs(&log));
        Scene { stage, app, blow, gate: None, programs, door, logs, mark: 0 }
    }

    // The app.

    /// The app of this scene in the stage DEV or PROD as the backend has it; as it was made, if the backend has forgotten it.
    pub fn known(&self) -> WantedApp {
        let (key, stage) = (self.app.app_key, self.app.stage.clone());
        let known = self.stage.backend.platform(move |platform| platform.app(key, &stage).cloned());
        known.unwrap_or_else(|| self.app.clone())
    }

    /// The state that was reported last; `UNINSTALLED` if the backend has forgotten the app for that.
    pub fn reported(&self) -> String {
        let (key, stage) = (self.app.app_key, self.app.stage.clone());
        let known =
            self.stage.backend.platform(move |platform| platform.app(key, &stage).map(|app| app.current.clone()));
        known.unwrap_or_else(|| "UNINSTALLED".to_owned())
    }

    /// The reference of an image of the app's project, as the agent and its engine know it.
    pub fn service(&self, name: &str, version: &str) -> String {
        let image = self.app.image(reagent::release::ARCH);
        format!("127.0.0.1:{}/apps/{image}-{name}:{version}", self.stage.download.port())
    }

    /// Has the image of a version in the registry, or those of a project: `db` is of this kind.
    #[track_caller]
    pub fn offers(&self, version: &str, kind: &str) {
        if !self.is_compose() {
            return self.stage.push(&self.app, version, kind);
        }
        for (name, kind) in [("web", "stubborn"), ("db", kind)] {
            let image = format!("{}-{name}", self.app.image(reagent::release::ARCH));
            if !registry().has(&format!("apps/{image}"), version) {
                registry().push(&self.stage.docker, &image, version, kind);
            }
        }
    }

    pub fn is_compose(&self) -> bool {
        self.app.docker_compose.is_some()
    }

    /// Two services, a volume and a port. `web` takes its time to end; `db` is started when `web` finds the door open.
    pub fn waiting_duo(&self, version: &str) -> Value {
        let mut duo = self.duo(version);
        duo["services"]["web"]["healthcheck"] =
            json!({"test": ["CMD", "ls", "/door/open"], "interval": "1s", "timeout": "5s", "retries": 600});
        duo["services"]["db"]["depends_on"] = json!({"web": {"condition": "service_healthy"}});
        duo
    }

    /// The same, and nobody waits.
    pub fn duo(&self, version: &str) -> Value {
        let door = format!("{}:/door", self.door.path().display());
        // Long enough to be hit in; the end of a cancel is not to wait for it.
        let grace = if self.blow == Blow::Cancel { "1s" } else { "4s" };
        json!({"services": {
            "web": {"image": self.service("web", version), "stop_grace_period": grace, "volumes": ["data:/kept", door]},
            "db": {"image": self.service("db", version), "depends_on": ["web"], "ports": ["8080:8080"]},
        }, "volumes": {"data": {}}})
    }

    /// A project of a developer: a service that is built, and one whose image comes from elsewhere if that has a version.
    pub fn kit(&mut self, foreign: Option<&str>) -> Value {
        let mut kit = json!({"services": {"web": {"build": ".", "image": self.service("web", "1.0.0")}}});
        if let Some(version) = foreign {
            let host = format!("127.0.0.1:{}", self.stage.download.port());
            let source = format!("{host}/apps/foreign:{version}");
            kit["services"]["db"] = json!({"image": self.service("db", "1.0.0"), "x-source-image": source});
            let login = json!({host: {"username": "registry-token", "password": "fake-device-secret"}});
            self.app.extra.insert("docker_credentials".to_owned(), login);
        }
        kit
    }

    /// Has the image from elsewhere in the registry.
    #[track_caller]
    pub fn offers_foreign(&self) {
        if !registry().has("apps/foreign", "1.0.0") {
            registry().push(&self.stage.docker, "foreign", "1.0.0", "bulky");
        }
    }

    // What leads to a state.

    /// Asks for a target, as the backend does that knows what was reported last.
    #[track_caller]
    pub fn asks(&mut self, target: &str) {
        self.mark = self.stage.backend.mark();
        let known = self.known().target(target);
        self.stage.backend.request_app_state(&known).expect("the agent takes the request");
    }

    /// Waits for the report of a state after the last request.
    #[track_caller]
    pub fn becomes(&self, state: &str) {
        self.stage.backend.wait_for_state(SOON * 2, self.mark, self.app.app_key, state);
    }

    /// Asks, and waits.
    #[track_caller]
    pub fn goes(&mut self, target: &str) {
        self.asks(target);
        self.becomes(target);
    }

    /// Version 1.0.0 is there.
    #[track_caller]
    pub fn is_present(&mut self) {
        self.offers("1.0.0", "demo");
        self.goes("PRESENT");
    }

    /// Version 1.0.0 runs.
    #[track_caller]
    pub fn runs(&mut self) {
        self.opens_the_door();
        self.offers("1.0.0", "demo");
        self.goes("RUNNING");
    }

    /// An update to a version, whose image is of this kind, is asked for and has begun.
    #[track_caller]
    pub fn updates(&mut self, version: &str, kind: &str) {
        self.offers(version, kind);
        self.mark = self.stage.backend.mark();
        let mut newest = self.known().target("RUNNING").update_to(version, 101);
        newest.new_docker_compose = self.is_compose().then(|| self.duo(version));
        self.stage.backend.request_app_state(&newest).expect("the agent takes the request");
        self.becomes("UPDATING");
    }

    /// The sources of the app, with a file that does not compress.
    pub fn sources(&self, dockerfile: &str) {
        let ballast: Vec<u8> = noise(BALLAST);
        let tar = Tar::default().file("Dockerfile", dockerfile).entry("ballast", b'0', "", &ballast);
        let build = self.stage.agent.apps_dir().join("build");
        fs::create_dir_all(&build).expect("a folder");
        fs::write(build.join(format!("{}.tgz", self.app.name)), tar.pack()).expect("written");
    }

    /// A message of an upload, in order.
    #[track_caller]
    pub fn sends(&self, word: &str, total: usize) {
        let file = format!("{}.tgz", self.app.name);
        let args = vec![json!(word), json!(file), json!(self.app.container()), json!(total), json!("a")];
        self.stage.backend.call_agent("write_data", args, Map::new()).expect("it is taken");
    }

    /// Waits until the app's log says something.
    #[track_caller]
    pub fn says(&self, text: &str) {
        wait_until(SOON, &format!("the log says {text:?}"), || {
            let mut events = self.logs.iter().flat_map(Receiver::try_iter);
            events.any(|event| event.args.iter().any(|arg| arg.to_string().contains(text))).then_some(())
        });
    }

    /// The rest of an upload, which becomes a file.
    #[track_caller]
    pub fn finishes_its_upload(&self) {
        self.sends("0203", 4);
        self.sends("END", 4);
        let archive = self.stage.agent.apps_dir().join("build").join(format!("{}.tgz", self.app.name));
        assert_eq!(fs::read(archive).ok(), Some(vec![0, 1, 2, 3]));
    }

    /// The backend was told of a build, and of a release that it asked for, though there was no session at the time.
    #[track_caller]
    pub fn was_told_what_it_acts_on(&self) {
        let calls = self.stage.backend.calls_since(self.mark);
        let told: Vec<&str> = calls.iter().filter_map(|call| call.argument()["state"].as_str()).collect();
        let wanted = self.known().target;
        assert!(told.contains(&"BUILT") && (wanted == "BUILT" || told.contains(&"PUBLISHED")), "{told:?}");
    }

    // What holds it there.

    /// Holds a request of the agent to the engine.
    pub fn holds(&mut self, text: &str, skip: usize) {
        self.gate = Some(self.stage.requests.gate(Side::Client, text, skip));
    }

    /// Holds the engine's answer to a request: it is done, and the agent does not hear of it.
    pub fn holds_the_answer_to(&mut self, text: &str) {
        self.gate = Some(self.stage.requests.gate(Side::Server, text, 0));
    }

    /// Waits until it is held.
    #[track_caller]
    pub fn is_held(&self, what: &str) {
        self.gate.as_ref().expect("a gate is set").wait(SOON, what);
    }

    /// Waits until what comes from the registry, or goes to it, is stalled in the middle.
    #[track_caller]
    pub fn is_stalled(&self) {
        wait_until(SOON, "a part has passed", || self.stage.download.is_stalled().then_some(()));
    }

    /// The next command of docker with this word hangs.
    pub fn hangs(&self, word: &str) {
        fs::write(self.programs.join(&format!("hold-{word}")), "").expect("written");
    }

    /// Waits until it does.
    #[track_caller]
    pub fn is_hung(&self, word: &str) {
        let held = self.programs.join(&format!("held-{word}"));
        wait_until(SOON, &format!("docker {word} hangs"), || held.exists().then_some(()));
    }

    /// What a service's health check looks for.
    pub fn opens_the_door(&self) {
        fs::write(self.door.join("open"), "").expect("written");
    }

    pub fn closes_the_door(&self) {
        drop(fs::remove_file(self.door.join("open")));
    }

    /// Waits until a container of the app is in a state of Docker's.
    #[track_caller]
    pub fn sees(&self, container: &str, status: &str) {
        let name = self.name_of(container);
        wait_until(SOON, &format!("{name} is {status}"), || {
            let is = |found: Value| found["State"]["Status"] == status;
            let found = self.stage.docker.inspect(&name);
            if status == "absent" { found.is_none() } else { found.is_some_and(is) }.then_some(())
        });
    }

    /// The container of a service of the project, or of the app.
    pub fn name_of(&self, service: &str) -> String {
        if service.is_empty() { self.app.container() } else { format!("{}_compose-{service}-1", self.app.container()) }
    }

    // What hits it.

    /// What was held is over for whoever had asked, or goes on if that is still there.
    fn free(&mut self) {
        let lives = matches!(self.blow, Blow::Session | Blow::Outage);
        match self.gate.take() {
            Some(gate) if lives => gate.open(),
            gate => drop(gate),
        }
        self.stage.requests.release();
        self.stage.download.release();
        self.opens_the_door();
        // A command of an agent that was killed hangs on, so that it is seen whether anybody ends it.
        if lives || matches!(self.blow, Blow::Engine | Blow::EngineKilled) {
            fs::write(self.programs.join("free"), "").expect("written");
        }
    }

    /// See [`Blow`]; cancels are [`Scene::cancels`].
    #[track_caller]
    pub fn falls(&mut self) {
        match self.blow {
            Blow::Agent => {
                self.stage.agent.kill9();
                self.free();
                self.stage.agent.restart();
            }
            Blow::Engine => {
                self.stage.engine.terminate();
                self.free();
                self.stage.engine.launch();
            }
            Blow::EngineKilled => {
                self.stage.engine.kill9();
                self.free();
                self.stage.engine.launch();
            }
            Blow::PowerAgentFirst | Blow::PowerEngineFirst => {
                self.stage.engine.kill9();
                self.stage.agent.kill9();
                self.free();
                if self.blow == Blow::PowerEngineFirst {
                    self.stage.engine.launch();
                    return self.stage.agent.restart();
                }
                let asked = self.stage.requests.lines().len();
                self.stage.agent.restart();
                self.stage.requests.wait_for(asked, "nobody is there");
                self.stage.engine.launch();
            }
            Blow::Session => {
                let mark = self.stage.backend.mark();
                self.stage.tap.relay.cut();
                self.stage.online(mark);
                self.free();
            }
            Blow::Outage => {
                self.stage.crossbar.go_down();
                self.stage.tap.wait_for(SOON, 0, "the agent loses its connection", |frame| {
                    frame.message.get("closed").is_some().then_some(())
                });
                self.free();
                // It has ended when the agent has nothing to ask the engine for any more.
                let quiet = Duration::from_secs(6);
                wait_until(SOON * 2, "what was under way has ended", || {
                    let last = self.stage.requests.lines().last().map(|(at, _)| *at);
                    last.is_some_and(|at| at + quiet < clock::mono()).then_some(())
                });
                let mark = self.stage.backend.mark();
                self.stage.crossbar.come_back();
                self.stage.online(mark);
            }
            Blow::Cancel => panic!("a cancel has a target"),
        }
    }

    /// The user cancels what is under way; from the request to the report of the end.
    #[track_caller]
    pub fn cancels(&mut self, target: &str, end: &str) -> Duration {
        let mark = self.stage.backend.mark();
        let mut wanted = self.known().target(target).cancel();
        wanted.request_update = false;
        let asked = clock::mono();
        self.stage.backend.request_app_state(&wanted).expect("the agent takes the request");
        let told = self.stage.backend.wait_for_state(SOON, mark, self.app.app_key, end);
        self.gate = None;
        told.at.saturating_sub(asked)
    }
}

/// Bytes that do not compress.
pub fn noise(length: usize) -> Vec<u8> {
    let mut number = 88_172_645_463_325_252_u64;
    let next = || {
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        number as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
