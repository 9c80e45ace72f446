//! An app that is walked through a table: what is asked of it, what the backend hears then, what is on the device and what
//! stands in the user's log.

use super::stage::{Stage, progress, registry};
use crate::cloud::backend::Call;
use crate::cloud::flock::USER_SECRET;
use crate::cloud::peer::{Failure, Login, Payload, Peer};
use crate::cloud::wanted::WantedApp;
use crate::util::tar::Tar;
use crate::util::wait_until;
use crossbeam_channel::Receiver;
use reagent::clock;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// What has to have happened after a moment, also where compose is slow and the machine busy.
const LATER: Duration = Duration::from_secs(90);

/// One row of a table.
pub struct Row {
    /// The action, as apps chapter 3.0 calls it, and what is special about the case.
    pub action: &'static str,
    pub act: Act,
    /// The states in the order of their reports, each with what else the report says ([`word`]).
    pub reports: &'static [&'static str],
    /// Everything that is on the device then ([`inventory`]).
    pub there: &'static [&'static str],
    /// Whose log (`dev`, `prod`, `pub`), and a part of what it shows.
    pub says: &'static [(&'static str, &'static str)],
}

/// What happens.
pub enum Act {
    /// The backend asks for this, given what it knows.
    Ask(fn(WantedApp) -> WantedApp),
    /// Something else.
    Do(fn(&Walk<'_>)),
}

/// An app on its way.
pub struct Walk<'a> {
    pub stage: &'a Stage,
    app: RefCell<WantedApp>,
    heard: BTreeMap<&'static str, Heard>,
    told: usize,
}

/// What a topic brought.
struct Heard {
    events: Receiver<Payload>,
    lines: RefCell<Vec<String>>,
}

impl Heard {
    fn lines(&self) -> Vec<String> {
        let text = |arg: Value| match (&arg, &arg["chunk"]) {
            (_, Value::String(chunk)) => chunk.clone(),
            (Value::String(lines), _) => lines.clone(),
            _ => arg.to_string(),
        };
        let new = self.events.try_iter().flat_map(|event| event.args).map(text);
        self.lines.borrow_mut().extend(new);
        self.lines.borrow().clone()
    }
}

impl Walk<'_> {
    /// An app that the backend has not asked for yet. Somebody listens to each of its logs.
    #[track_caller]
    pub fn of(stage: &Stage, app: WantedApp) -> Walk<'_> {
        let topic = |prefix: &'static str| {
            let events = stage.backend.subscribe_logs(&format!("{prefix}_{}_{}", app.app_key, app.name).to_lowercase());
            (prefix, Heard { events, lines: RefCell::default() })
        };
        let heard = ["dev", "prod", "pub"].map(topic).into();
        let mut walk = Walk { stage, app: RefCell::new(app), heard, told: 0 };
        // It may have been there before.
        walk.told = walk.words(&stage.backend.calls()).len();
        walk
    }

    /// Goes through the rows, one after the other.
    #[track_caller]
    pub fn goes(&mut self, rows: &[Row]) {
        for row in rows {
            self.goes_through(row);
        }
    }

    #[track_caller]
    fn goes_through(&mut self, row: &Row) {
        progress(row.action);
        let before: BTreeMap<&str, usize> = self.heard.iter().map(|(name, of)| (*name, of.lines().len())).collect();
        match row.act {
            Act::Ask(wish) => self.ask(wish),
            Act::Do(act) => act(self),
        }
        let count = self.told + row.reports.len();
        let words = self.stage.backend.wait_for(LATER, &format!("{}: {:?}", row.action, row.reports), |calls| {
            let words = self.words(calls);
            (words.len() >= count).then_some(words)
        });
        assert_eq!(words[self.told..], *row.reports, "{}", row.action);
        self.told = count;
        becomes(row.action, &mut sorted(row.there), || inventory(self.stage));
        for (topic, part) in row.says {
            let heard = || self.heard[topic].lines().split_off(before[topic]);
            let found = || heard().iter().any(|line| line.contains(part)).then_some(());
            let deadline = clock::mono() + LATER;
            while found().is_none() {
                assert!(clock::mono() < deadline, "{}: {topic} does not say {part:?} but {:#?}", row.action, heard());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Asks for what becomes of the app as the backend knows it.
    #[track_caller]
    pub fn ask(&self, wish: fn(WantedApp) -> WantedApp) {
        let wanted = self.here(wish(self.known()));
        self.stage.backend.request_app_state(&wanted).expect("the agent takes the request");
        *self.app.borrow_mut() = wanted;
    }

    /// The app as the backend knows it; one that it has forgotten is not on the device.
    pub fn known(&self) -> WantedApp {
        let last = self.app.borrow().clone();
        let (key, stage) = (last.app_key, last.stage.clone());
        let known = self.stage.backend.platform(move |platform| platform.app(key, &stage).cloned());
        known.unwrap_or_else(|| last.current("UNINSTALLED"))
    }

    /// In definitions: `REGISTRY` is the agent's, `ARCH` that of this machine.
    fn here(&self, mut app: WantedApp) -> WantedApp {
        let address = format!("127.0.0.1:{}", self.stage.download.port());
        for definition in [&mut app.docker_compose, &mut app.new_docker_compose].into_iter().flatten() {
            let text = definition.to_string().replace("REGISTRY", &address).replace("ARCH", reagent::release::ARCH);
            *definition = serde_json::from_str(&text).expect("it was JSON before");
        }
        app
    }

    /// Waits for the next report of a state.
    #[track_caller]
    pub fn waits_for(&self, mark: usize, state: &str) {
        self.stage.backend.wait_for_state(LATER, mark, self.app.borrow().app_key, state);
    }

    /// Waits until a log shows this.
    #[track_caller]
    pub fn hears(&self, topic: &str, part: &str) {
        wait_until(LATER, &format!("{topic} says {part:?}"), || {
            self.heard[topic].lines().iter().any(|line| line.contains(part)).then_some(())
        });
    }

    /// Every container of the app is killed, and the backend is told of it.
    #[track_caller]
    pub fn fails(&self) {
        let mark = self.stage.backend.mark();
        let prefix = self.app.borrow().container();
        for name in self.stage.docker.names(&prefix) {
            self.stage.docker.run(&["kill", &name]);
        }
        self.waits_for(mark, "FAILED");
    }

    /// The developer sends sources, as the studio does.
    #[track_caller]
    pub fn uploads(&self, files: &[(&str, &str)]) {
        let tar = files.iter().fold(Tar::default(), |tar, (name, content)| tar.file(name, content));
        let bytes = tar.pack();
        let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a text takes everything");
            hex
        });
        for piece in ["BEGIN", &hex, "END"] {
            self.sends(piece, bytes.len()).expect("the agent takes it");
        }
    }

    /// One message of an upload of `total` bytes.
    pub fn sends(&self, piece: &str, total: usize) -> Result<Payload, Failure> {
        let app = self.app.borrow();
        let developer = Login::new(&self.stage.crossbar.url(), "42", USER_SECRET);
        let developer = Peer::join(&developer)?;
        let args = vec![
            json!(piece),
            json!(format!("{}.tgz", app.name)),
            json!(app.container()),
            json!(total),
            json!("8eb5bb4f-a736-4c25-ae6b-5c2a804ce303"),
        ];
        developer.call(&self.stage.backend.identity.uri("write_data"), args, Map::new(), LATER)
    }

    /// Nothing but what the rows say was reported, nothing went to the other logs, and no log has a secret.
    #[track_caller]
    pub fn ends(self, silent: &[&str]) {
        let words = self.words(&self.stage.backend.calls());
        assert_eq!(words.len(), self.told, "more was reported: {words:?}");
        for topic in silent {
            assert_eq!(self.heard[topic].lines(), Vec::<String>::new(), "on the log {topic}");
        }
        let all: Vec<String> = self.heard.values().flat_map(Heard::lines).collect();
        for text in [all.join("\n"), self.stage.agent.log()] {
            assert!(!text.contains("fake-device-secret"), "X1");
        }
    }

    fn words(&self, calls: &[Call]) -> Vec<String> {
        let app = self.app.borrow();
        let of_app = |argument: &&Value| argument["app_key"] == app.app_key && argument["stage"] == *app.stage;
        calls.iter().map(Call::argument).filter(of_app).filter_map(word).collect()
    }
}

/// A report as a word: the state, `+pending` and `+canceled` for those statuses of an update, `+release` for a build that is
/// to be pushed.
pub fn word(report: &Value) -> Option<String> {
    let mut word = report["state"].as_str()?.to_owned();
    match report["updateStatus"].as_str()? {
        "pending_remote_confirmation" => word.push_str("+pending"),
        "canceled" => word.push_str("+canceled"),
        _ => {}
    }
    if report["release_build"] == true {
        word.push_str("+release");
    }
    Some(word)
}

/// Everything that is on the device, sorted: containers with state and image (but for those of the steps of a build), images of the registry, volumes, and what is
/// below the directories of the apps. Names are those of chapter 1.6 without registry and architecture; a service of a
/// project is `<project>/<service>`.
pub fn inventory(stage: &Stage) -> Vec<String> {
    let prefix = format!("127.0.0.1:{}/apps/", stage.download.port());
    let short = |image: &str| image.replace(&prefix, "").replace(&format!("_{}_", reagent::release::ARCH), "_");
    let mut found = Vec::new();
    let format = r#"{{.Names}} {{.State}} {{.Image}} {{.Label "com.docker.compose.project"}}/{{.Label "com.docker.compose.service"}}"#;
    for line in stage.docker.run(&["ps", "-a", "--format", format]).lines() {
        let parts: Vec<&str> = line.split(' ').collect();
        let name = if parts[3] == "/" { parts[0] } else { parts[3] };
        found.push(match ["dev_", "prod_", "kept-"].iter().any(|prefix| name.starts_with(prefix)) {
            true => format!("container {name} {} {}", parts[1], short(parts[2])),
            // Its name is of the engine's choice.
            false => "container of a build".to_owned(),
        });
    }
    let images = stage.docker.run(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    found.extend(images.lines().filter(|tag| tag.starts_with(&prefix)).map(|tag| format!("image {}", short(tag))));
    found.extend(stage.docker.run(&["volume", "ls", "-q"]).lines().map(|name| format!("volume {name}")));
    for folder in ["dev", "prod", "compose", "build"] {
        let entries = std::fs::read_dir(stage.agent.apps_dir().join(folder)).into_iter().flatten();
        let names = entries.map_while(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned());
        found.extend(names.map(|name| format!("file {folder}/{name}")));
    }
    found.sort();
    found
}

fn sorted(lines: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    lines.sort();
    lines
}

/// Looks until it sees what is expected.
#[track_caller]
fn becomes(what: &str, expected: &mut Vec<String>, look: impl Fn() -> Vec<String>) {
    let deadline = clock::mono() + Duration::from_secs(20);
    loop {
        let seen = look();
        if seen == *expected {
            return;
        }
        assert!(clock::mono() < deadline, "{what}: on the device is {seen:#?}\nand not {expected:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Has an image in the registry, whatever app it is of.
#[track_caller]
pub fn has_image(stage: &Stage, name: &str, version: &str, kind: &str) {
    let image = name.replacen('_', &format!("_{}_", reagent::release::ARCH), 1);
    if !registry().has(&format!("apps/{image}"), version) {
        registry().push(&stage.docker, &image, version, kind);
    }
}
