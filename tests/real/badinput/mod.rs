//! Bad input and faults of the surroundings: every row says in the app's log what is wrong, fails where the contract says
//! so, loses nothing, and the next good request works. Rows run side by side as apps of one agent; what does not belong to
//! them (two good apps, foreign containers and a foreign project) is the same afterwards.

mod definitions;
mod disk;
mod registries;
mod requests;
mod sources;
mod variables;

use super::script;
use super::stage::{SOON, Stage, progress, registry};
use crate::cloud::flock::{Identity, USER_SECRET};
use crate::cloud::peer::{Login, Payload, Peer};
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use crossbeam_channel::Receiver;
use serde_json::{Map, Value, json};
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Of which all images are copies.
const TEMPLATE: &str = "bad-input-template";
/// Longer than any start, failure and retry takes on a machine with much to do.
const PATIENCE: Duration = Duration::from_secs(90);

/// A stage with compose, and with things on its engine that are to stay as they are.
struct Ground {
    stage: Stage,
    /// Containers, and what identifies them and their run.
    untouched: RefCell<Vec<(String, String)>>,
    listener: Option<Peer>,
    /// Of the agent.
    starts: Cell<usize>,
}

/// What goes wrong, and how it has to end.
struct Row {
    what: &'static str,
    app: WantedApp,
    ends: &'static str,
    /// Parts of the app's log.
    says: Vec<String>,
}

/// An app that has to fail with these parts in its log.
fn fails(what: &'static str, app: WantedApp, says: &[&str]) -> Row {
    Row { what, app, ends: "FAILED", says: says.iter().map(|part| (*part).to_owned()).collect() }
}

/// An app that runs in spite of something.
fn runs(what: &'static str, app: WantedApp, says: &[&str]) -> Row {
    Row { ends: "RUNNING", ..fails(what, app, says) }
}

/// The log of an app as a subscriber hears it; where its name is no topic, as the history has it.
struct Heard<'a> {
    ground: &'a Ground,
    container: String,
    events: Option<Receiver<Payload>>,
    text: RefCell<String>,
}

impl Heard<'_> {
    /// Everything so far.
    fn text(&self) -> String {
        let mut text = self.text.borrow_mut();
        let Some(events) = &self.events else {
            let args = vec![json!({"containerName": self.container})];
            let answer = self.ground.stage.backend.call_agent("get_app_log_history", args, Map::new());
            let lines: Vec<String> =
                serde_json::from_value(answer.expect("it is answered").args[0].clone()).expect("texts");
            return lines.join("\n");
        };
        for event in events.try_iter() {
            for arg in event.args {
                let line = arg.get("chunk").and_then(Value::as_str).or(arg.as_str()).map(str::to_owned);
                text.push_str(&line.unwrap_or_else(|| arg.to_string()));
                text.push('\n');
            }
        }
        text.clone()
    }
}

/// A service that runs until it is stopped, at once.
fn sleeper() -> Value {
    json!({"image": "busybox:local", "command": ["sleep", "1000000"], "stop_grace_period": "0s"})
}

/// A project of this one service.
fn project(service: &Value) -> Value {
    json!({"services": {"web": service}})
}

impl Ground {
    #[track_caller]
    fn start() -> Ground {
        let mut stage = Stage::prepare(Identity::generated());
        let plugin = PathBuf::from(script("compose.sh", &["v2"], &[]));
        let config = plugin.ancestors().nth(2).expect("it is in cli-plugins").to_string_lossy().into_owned();
        stage.agent.options.env.push(("DOCKER_CONFIG".to_owned(), config));
        stage.engine.has_base();
        if !registry().has(&format!("apps/{TEMPLATE}"), "1.0.0") {
            registry().push(&stage.docker, TEMPLATE, "1.0.0", "silent");
        }
        let mut ground = Ground { stage, untouched: RefCell::default(), listener: None, starts: Cell::new(1) };
        ground.put_foreign();
        // Somebody who listens to the logs of all apps, whatever they are called.
        let login = Login::new(&ground.stage.crossbar.url(), "42", USER_SECRET);
        let listener = Peer::join(&login).expect("Crossbar knows the user");
        drop(listener.subscribe("reswarm.logs.", "prefix").expect("everybody may listen"));
        ground.listener = Some(listener);
        ground.stage.agent.restart();
        ground.stage.online(0);
        let good = [WantedApp::new(7601, "bystander"), WantedApp::new(7602, "bystanders").compose(project(&sleeper()))];
        ground.publish(&good[0], "1.0.0");
        for app in &good {
            ground.stage.request(app, "RUNNING");
        }
        for name in ["prod_7601_bystander", "prod_7602_bystanders_compose-web-1"] {
            ground.watch(name);
        }
        ground
    }

    fn put_foreign(&self) {
        let docker = &self.stage.docker;
        let project = "com.docker.compose.project";
        docker.run(&["volume", "create", "--label", &format!("{project}=ironflock"), "ironflock_data"]);
        let containers: [(&str, &[&str]); 4] = [
            ("other_1_thing", &[]),
            ("prod_9_foreign", &[]),
            ("ironflock-web-1", &["--label", "com.docker.compose.project=ironflock", "-v", "ironflock_data:/data"]),
            ("x-db-1", &["--label", "com.docker.compose.project=x"]),
        ];
        for (name, flags) in containers {
            let app = ["busybox:local", "sleep", "1000000"];
            docker.run(&[&["run", "-d", "--name", name], flags, &app[..]].concat());
            self.watch(name);
        }
    }

    /// This container is to stay as it is.
    fn watch(&self, name: &str) {
        let identity = self.identity(name).unwrap_or_else(|| panic!("there is no {name}"));
        self.untouched.borrow_mut().push((name.to_owned(), identity));
    }

    fn identity(&self, name: &str) -> Option<String> {
        let found = self.stage.docker.inspect(name)?;
        Some(format!("{} {} {}", found["Id"], found["State"]["StartedAt"], found["State"]["Status"]))
    }

    /// Has the app's image in the registry, in a version: a copy of the template.
    fn publish(&self, app: &WantedApp, version: &str) {
        self.publish_as(&app.image(reagent::release::ARCH), version);
    }

    fn publish_as(&self, image: &str, version: &str) {
        let apps = registry().storage().join("docker/registry/v2/repositories/apps");
        let (from, to) = (apps.join(TEMPLATE), apps.join(image));
        if !to.exists() {
            copy(&from, &to);
            std::fs::remove_dir_all(to.join("_manifests/tags/1.0.0")).expect("it was copied");
        }
        copy(&from.join("_manifests/tags/1.0.0"), &to.join("_manifests/tags").join(version));
    }

    /// The reference of an image for the agent.
    fn reference(&self, image: &str, version: &str) -> String {
        format!("127.0.0.1:{}/apps/{image}:{version}", self.stage.download.port())
    }

    fn hear(&self, app: &WantedApp) -> Heard<'_> {
        let container = app.container();
        // A router ends the session of who subscribes to what is no topic.
        let is_topic = container
            .split('.')
            .all(|part| !part.is_empty() && !part.contains(|c: char| c == '#' || c.is_whitespace()));
        let events = is_topic.then(|| self.stage.backend.subscribe_logs(&container));
        Heard { ground: self, container, events, text: RefCell::default() }
    }

    /// Requests every row's app and waits until all have ended as they have to.
    #[track_caller]
    fn all_end(&self, rows: &[Row]) {
        let heard: Vec<Heard<'_>> = rows.iter().map(|row| self.hear(&row.app)).collect();
        let mark = self.stage.backend.mark();
        for row in rows {
            let answer = self.stage.backend.request_app_state(&row.app);
            assert!(answer.is_ok(), "{}: {answer:?}", row.what);
        }
        let mut silent = Vec::new();
        for (row, heard) in rows.iter().zip(&heard) {
            let state = self.stage.backend.wait_for_state(PATIENCE, mark, row.app.app_key, row.ends);
            let began = self.stage.backend.calls()[mark].at;
            progress(&format!("{}: {} after {:.2?}", row.what, row.ends, state.at.saturating_sub(began)));
            for part in &row.says {
                let deadline = reagent::clock::mono() + Duration::from_secs(5);
                // A history has to be asked for.
                while !heard.text().contains(part) && reagent::clock::mono() < deadline {
                    std::thread::sleep(Duration::from_millis(20));
                }
                if !heard.text().contains(part) {
                    silent.push(format!("{}: its log lacks {part:?}:\n{}", row.what, heard.text()));
                }
            }
            assert!(!heard.text().contains("fake-device-secret"), "{}: X1: {}", row.what, heard.text());
            if heard.events.is_some() {
                self.stage.backend.unsubscribe_logs(&heard.container);
            }
        }
        assert!(silent.is_empty(), "{}", silent.join("\n"));
    }

    /// Every third row's app, mended, runs; then all go without a trace, also those that never ran.
    #[track_caller]
    fn mended_all_run(&self, rows: &[Row], mend: impl Fn(&WantedApp) -> WantedApp) {
        let mended: Vec<WantedApp> = rows.iter().step_by(3).map(|row| mend(&row.app)).collect();
        self.all_reach(&mended, "RUNNING", "RUNNING");
        for app in &mended {
            let left = self.containers_of(app);
            assert_eq!(left.len(), 1, "app {} {:?}: {left:?}", app.app_key, app.name);
        }
        let others = rows.iter().enumerate().filter(|(n, _)| n % 3 != 0).map(|(_, row)| row.app.clone());
        self.all_go(&mended.into_iter().chain(others).collect::<Vec<_>>());
    }

    /// Every app is uninstalled, and nothing of it is left.
    #[track_caller]
    fn all_go(&self, apps: &[WantedApp]) {
        self.all_reach(apps, "UNINSTALLED", "UNINSTALLED");
        for app in apps {
            wait_until(SOON, &format!("nothing is left of app {} {:?}", app.app_key, app.name), || {
                self.containers_of(app).is_empty().then_some(())
            });
        }
        self.others_are_untouched();
    }

    /// Requests a target for every app and waits for a state of each.
    #[track_caller]
    fn all_reach(&self, apps: &[WantedApp], target: &str, state: &str) {
        let mark = self.stage.backend.mark();
        for app in apps {
            let answer = self.stage.backend.request_app_state(&app.clone().target(target));
            assert!(answer.is_ok(), "app {} {:?}: {answer:?}", app.app_key, app.name);
        }
        for app in apps {
            self.stage.backend.wait_for_state(PATIENCE, mark, app.app_key, state);
        }
    }

    /// Names of the containers of an app, whatever its kind.
    fn containers_of(&self, app: &WantedApp) -> Vec<String> {
        let prefix = format!("{}_{}_", app.stage.to_lowercase(), app.app_key);
        let mut names = self.stage.docker.names(&prefix);
        names.extend(self.stage.docker.names(&format!("kept-{}-", app.app_key)));
        names
    }

    /// Good apps and foreign containers are as they were.
    #[track_caller]
    fn others_are_untouched(&self) {
        for (name, identity) in self.untouched.borrow().iter() {
            assert_eq!(self.identity(name).as_ref(), Some(identity), "{name}");
        }
        let joined = self.stage.backend.statuses().into_iter().filter(|status| status == "CONFIGURING").count();
        assert_eq!(joined, self.starts.get(), "the session was lost");
        let volumes = self.stage.docker.run(&["volume", "ls", "--format", "{{.Name}}"]);
        assert!(volumes.contains("ironflock_data"), "{volumes}");
        for key in [7601, 7602] {
            let reports = self.stage.backend.reports(key);
            assert!(!reports.contains(&"FAILED".to_owned()), "app {key}: {reports:?}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(copied.expect("there is a cp").success(), "{} to {}", from.display(), to.display());
}
