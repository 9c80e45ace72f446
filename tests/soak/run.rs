//! One run: a device with four apps, on which the acts of a script happen; then it has to be where it was asked to be.

use super::app::{App, VERSIONS};
use super::machine::{Entry, Machine, Seen};
use super::script::{Act, Kind, Pace, Wish, script};
use super::truth::{self, Judged, Report, Timeline};
use crate::cloud::Cloud;
use crate::cloud::backend::Call;
use crate::cloud::peer::{Failure, Peer};
use crate::util::tar::Tar;
use crate::util::{Agent, Options};
use reagent::clock;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// For what takes no longer on any machine.
const SOON: Duration = Duration::from_secs(30);
/// How old a report may be when it arrives, on a machine that answers at once; and how many times its slowest answer more,
/// since the reports of an app go one after the other.
const SLACK: Duration = Duration::from_secs(1);
const WAYS: u32 = 5;
/// The end has to last for so long.
const CALM: Duration = Duration::from_millis(300);

/// How a run went.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub judged: Judged,
    /// Faults of all kinds.
    pub faults: usize,
    /// Requests of an app in development that had to be made again: a person would.
    pub again: usize,
    /// From the last act to the end.
    pub settled: Duration,
}

struct Run<'m, M> {
    // The agent goes first: it would notice the end of the others.
    agent: Agent,
    user: Peer,
    cloud: Cloud,
    machine: &'m mut M,
    apps: Vec<App>,
    /// The last wish of each app that counts, and when it was made.
    wishes: Vec<Option<(Wish, Duration)>>,
    /// Name of the version that is published next.
    number: String,
    /// When the agent was killed or lost its session.
    losses: Vec<Duration>,
    /// When the engine was away.
    outages: Vec<(Duration, Option<Duration>)>,
    /// The longest time that a request took to be answered.
    slowest: Duration,
    /// What was done.
    story: Vec<String>,
    outcome: Outcome,
}

/// Runs the script of a seed.
///
/// # Errors
/// What was not as it has to be, and everything that happened.
pub fn run<M: Machine>(
    machine: &mut M,
    seed: u32,
    pace: Pace,
    host_port: u64,
    limit: Duration,
) -> Result<Outcome, String> {
    let apps = App::all(&machine.registry(), host_port);
    for app in &apps {
        for version in VERSIONS {
            for (image, tag) in app.releases(version) {
                machine.offer(&image, &tag, tag == VERSIONS[2]);
            }
        }
    }
    let cloud = Cloud::start(0, &machine.registry()).expect("a free loopback port");
    let mut options = Options { flock: cloud.flock(), ..Options::default() };
    machine.equip(&mut options);
    let agent = Agent::start(options);
    cloud.backend.wait_for_status(SOON, 0, "CONNECTED");
    let user = cloud.user("42").expect("the user may join");
    let mut run = Run {
        agent,
        user,
        cloud,
        machine,
        wishes: vec![None; apps.len()],
        apps,
        number: String::new(),
        losses: Vec::new(),
        outages: Vec::new(),
        slowest: Duration::ZERO,
        story: Vec::new(),
        outcome: Outcome::default(),
    };
    let begun = clock::mono();
    for (number, (at, act)) in script(seed, pace).into_iter().enumerate() {
        std::thread::sleep((begun + at).saturating_sub(clock::mono()));
        run.number = format!("{seed}.{number}");
        run.tell(format!("{act:?}"));
        run.act(act);
    }
    for act in [Act::Thaw, Act::RegistryWorks, Act::FreePorts] {
        run.act(act);
    }
    let ended = run.settle(limit).and_then(|()| run.judge());
    match ended {
        Ok(()) => Ok(run.outcome),
        Err(error) => Err(run.report(seed, &error)),
    }
}

impl<M: Machine> Run<'_, M> {
    fn tell(&mut self, what: String) {
        self.story.push(format!("{:9.3} {what}", clock::mono().as_secs_f64()));
    }

    fn act(&mut self, act: Act) {
        let faults = matches!(
            act,
            Act::Exit(..)
                | Act::Kill(_)
                | Act::Cut
                | Act::Freeze
                | Act::Restart
                | Act::RegistryFails
                | Act::TakePort(_)
        );
        self.outcome.faults += usize::from(faults);
        match act {
            Act::Ask(app, wish) => self.ask(app, wish),
            Act::Exit(which, code) => {
                let running: Vec<Seen> =
                    self.machine.containers().unwrap_or_default().into_iter().filter(|seen| seen.runs).collect();
                if !running.is_empty() {
                    let name = running[which % running.len()].name.clone();
                    self.tell(format!("  {name} ends"));
                    self.machine.exit(&name, code);
                }
            }
            Act::Kill(pause) => {
                self.losses.push(clock::mono());
                self.agent.kill9();
                std::thread::sleep(pause);
                self.agent.restart();
            }
            Act::Cut => {
                self.losses.push(clock::mono());
                self.cloud.router.cut(&self.cloud.backend.identity.authid());
            }
            Act::Freeze => {
                self.outages.push((clock::mono(), None));
                self.machine.freeze();
            }
            Act::Thaw => {
                self.machine.thaw();
                self.engine_answers();
            }
            Act::Restart => {
                self.outages.push((clock::mono(), None));
                self.machine.restart();
                self.engine_answers();
            }
            Act::RegistryFails => self.machine.registry_fails(true),
            Act::RegistryWorks => self.machine.registry_fails(false),
            Act::TakePort(app) => {
                let (key, stage) = (self.apps[app].key, self.apps[app].stage());
                let known = self.cloud.backend.platform(move |platform| platform.app(key, stage).cloned());
                let port = known.and_then(|app| app.ports[0]["host_port"].as_u64());
                if let Some(port) = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0) {
                    self.machine.take_port(port);
                }
            }
            Act::FreePorts => self.machine.free_ports(),
        }
    }

    fn engine_answers(&mut self) {
        let now = clock::mono();
        self.outages.iter_mut().filter(|(_, end)| end.is_none()).for_each(|(_, end)| *end = Some(now));
    }

    fn ask(&mut self, at: usize, wish: Wish) {
        let app = self.apps[at].clone();
        if wish == Wish::Build
            && let Err(error) = self.upload(&app)
        {
            self.tell(format!("  not uploaded: {error:?}"));
        }
        let (of_app, number, now) = (app.clone(), self.number.clone(), clock::mono());
        let change = move |wanted: &mut _| of_app.apply(wish, &number, wanted);
        let (wanted, answer) = self.cloud.backend.request_changed(app.fresh(), change);
        if answer.is_ok() {
            self.slowest = self.slowest.max(clock::mono() - now);
        }
        match answer {
            Ok(_) => self.tell(format!("  {} {} in {}", app.name, wanted.target, wanted.newest_version)),
            Err(error) => self.tell(format!("  {} {} not heard: {error:?}", app.name, wanted.target)),
        }
        // What was not heard is in the backend's list; but development is driven by who watches it.
        self.wishes[at] = Some((wish, now));
    }

    /// Sends the sources of an app as a person's browser does.
    fn upload(&self, app: &App) -> Result<(), Failure> {
        let archive = Tar::default().file("Dockerfile", "FROM busybox:local\nCMD [\"/bin/app-silent\"]\n").pack();
        let hex: String = archive.iter().map(|byte| format!("{byte:02x}")).collect();
        let (file, container) = (format!("{}.tgz", app.name), app.fresh().container());
        for word in ["BEGIN", &hex, "END"] {
            let args = vec![json!(word), json!(file), json!(container), json!(archive.len()), json!(self.number)];
            self.user.call(&self.cloud.backend.identity.uri("write_data"), args, Map::new(), SOON)?;
        }
        Ok(())
    }

    fn reports(&self, app: &App) -> Vec<Report> {
        let of_app = |call: &&Call| {
            let argument = call.argument();
            call.is("update_app_on_device") && argument["app_key"] == app.key && argument["stage"] == app.stage()
        };
        let calls = self.cloud.backend.calls();
        calls.iter().filter(of_app).filter_map(|call| Report::of(call.at, call.argument())).collect()
    }

    /// Waits until every app is where it was asked to be, and stays there.
    fn settle(&mut self, limit: Duration) -> Result<(), String> {
        let begun = clock::mono();
        let (mut calm_since, mut changed, mut last) = (None, begun, String::new());
        loop {
            let now = clock::mono();
            let verdict = self.is_settled();
            let shown = format!("{verdict:?} {}", self.cloud.backend.mark());
            if shown != last {
                (last, changed) = (shown, now);
            }
            match verdict {
                Ok(()) if calm_since.is_some_and(|since| now >= since + CALM && changed <= since) => {
                    self.outcome.settled = now - begun;
                    return Ok(());
                }
                Ok(()) => calm_since = calm_since.filter(|since| changed <= *since).or(Some(now)),
                Err(error) => {
                    calm_since = None;
                    if now > begun + limit {
                        return Err(format!("not settled within {limit:?}: {error}"));
                    }
                    // What an app in development does not do by itself a person asks for again, once.
                    let development = self.apps.iter().position(|app| app.kind == Kind::Development);
                    if let Some(at) = development
                        && self.outcome.again == 0
                        && now > changed + Duration::from_secs(2)
                        && self.app_is_settled(at).is_err()
                    {
                        self.ask_again(at);
                        calm_since = None;
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ask_again(&mut self, at: usize) {
        let Some((wish, _)) = self.wishes[at] else { return };
        self.outcome.again += 1;
        self.tell(format!("{wish:?} of {} is asked for again", self.apps[at].name));
        let app = self.apps[at].clone();
        if wish != Wish::Build {
            self.ask(at, Wish::Build);
            let deadline = clock::mono() + SOON;
            while self.reports(&app).last().is_none_or(|report| report.state != "PRESENT") && clock::mono() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        self.ask(at, wish);
    }

    fn is_settled(&mut self) -> Result<(), String> {
        for at in 0..self.apps.len() {
            self.app_is_settled(at)?;
        }
        let containers = self.machine.containers().ok_or("the engine does not answer")?;
        let stray = containers.iter().find(|seen| !self.apps.iter().any(|app| app.owns(&seen.name, &seen.project)));
        if let Some(stray) = stray {
            return Err(format!("a stray container: {stray:?}"));
        }
        let path = self.agent.agent_dir().join("reagent.db");
        let database =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(|e| e.to_string())?;
        let waiting: Result<i64, _> = database.query_row("SELECT count(*) FROM StateOutbox", [], |row| row.get(0));
        match waiting {
            Ok(0) => Ok(()),
            other => Err(format!("reports wait: {other:?}")),
        }
    }

    fn app_is_settled(&self, at: usize) -> Result<(), String> {
        let app = &self.apps[at];
        let Some((wish, since)) = self.wishes[at] else { return Ok(()) };
        let (key, stage) = (app.key, app.stage());
        let known = self.cloud.backend.platform(move |platform| platform.app(key, stage).cloned());
        let reports = self.reports(app);
        let last = reports.last().map_or("nothing", |report| report.state.as_str());
        // An update that is called off leaves what was there; what was never there is fetched by the next start (3.15).
        let called_off = reports.last().is_some_and(|report| report.update_status == "canceled");
        let containers: Vec<Seen> = self.machine.containers().ok_or("the engine does not answer")?;
        let containers: Vec<&Seen> = containers.iter().filter(|seen| app.owns(&seen.name, &seen.project)).collect();
        let images = self.machine.images().ok_or("the engine does not answer")?;
        let has_image = images.iter().any(|image| image.starts_with(&app.image_prefix()));
        let wrong = |what: &str| {
            Err(format!("{} {wish:?}: {what}; reported {last}, {containers:?}, images {images:?}", app.name))
        };
        let must = |is: bool, what: &str| if is { Ok(()) } else { wrong(what) };
        let development = app.kind == Kind::Development;
        match wish {
            Wish::Run | Wish::Update | Wish::UpdateToBad => {
                must(last == "RUNNING", "not running")?;
                // A project of which one service has ended runs still (2.2).
                must(containers.len() == app.size() && containers.iter().any(|seen| seen.runs), "containers")?;
                let Some(known) = known.filter(|_| !development) else { return Ok(()) };
                let refused = reports.iter().any(|report| report.at >= since && report.update_status == "canceled");
                must(!known.request_update || known.newest_version == known.present_version || refused, "not updated")?;
                must(wish != Wish::UpdateToBad || refused || known.present_version != VERSIONS[2], "a bad version")?;
                let releases = app.releases(&known.present_version);
                let is_right = |(image, tag): &(String, String)| {
                    containers.iter().any(|seen| seen.image == app.reference(image, tag))
                };
                must(releases.iter().all(is_right), &format!("not {}", known.present_version))
            }
            Wish::Stop | Wish::Cancel { removed: false } if development => {
                // It is not built for that.
                must(matches!(last, "PRESENT" | "REMOVED" | "UNINSTALLED" | "BUILT" | "PUBLISHED"), "not stopped")?;
                must(containers.is_empty(), "containers")
            }
            Wish::Stop | Wish::Cancel { removed: false } => {
                must(last == "PRESENT", "not present")?;
                must(containers.is_empty(), "containers")?;
                let version = known.map(|known| known.present_version).unwrap_or_default();
                let is_there = |(image, tag): &(String, String)| images.contains(&app.reference(image, tag));
                must(called_off || app.releases(&version).iter().all(is_there), "images")
            }
            Wish::Build => {
                must(last == "PRESENT", "not built")?;
                must(containers.is_empty() && has_image, "containers or images")
            }
            Wish::Publish => {
                must(last == "PUBLISHED", "not published")?;
                let version = known.map(|known| known.version).unwrap_or_default();
                must(self.machine.has_release(&app.release_image(), &version), "not in the registry")
            }
            Wish::Remove | Wish::Uninstall | Wish::Cancel { removed: true } => {
                let gone = ["UNINSTALLED", "REMOVED", "nothing"];
                let uninstalled = wish == Wish::Uninstall;
                must(if uninstalled { last == gone[0] } else { gone.contains(&last) }, "not gone")?;
                // Of a project those of other releases stay (3.9, 3.12), and those of a first download that was cut off (5.4).
                let was_removed = reports.iter().any(|report| report.at >= since && report.state == "DELETING");
                let has_image = match (app.kind, known) {
                    (Kind::Compose, Some(known)) if was_removed => {
                        let mut releases = app.releases(&known.present_version).into_iter();
                        releases.any(|(image, tag)| images.contains(&app.reference(&image, &tag)))
                    }
                    (Kind::Compose, _) => false,
                    // A build that is called off leaves the image of the one before (3.15).
                    (Kind::Development, _) if matches!(wish, Wish::Cancel { .. }) => false,
                    _ => has_image,
                };
                must(containers.is_empty() && !has_image, "containers or images")?;
                let data = self.agent.apps_dir().join(app.stage().to_lowercase()).join(app.name);
                // The data of an app that the backend has forgotten meanwhile stays (5.5 a).
                let forgotten = format!("app {} ({}): unknown to the backend", app.key, app.stage());
                must(!uninstalled || !data.exists() || self.agent.log().contains(&forgotten), "its data is there")
            }
        }
    }

    /// Holds what was reported against what the engine has told.
    fn judge(&mut self) -> Result<(), String> {
        let connected = |call: &&Call| call.is("update_device_status") && call.argument()["status"] == "CONNECTED";
        let calls = self.cloud.backend.calls();
        let back: Vec<Duration> = calls.iter().filter(connected).map(|call| call.at).collect();
        let until = |loss: Duration| back.iter().copied().find(|at| *at > loss);
        let mut outages = self.outages.clone();
        outages.extend(self.losses.iter().map(|loss| (*loss, until(*loss))));
        let history = self.machine.history();
        let slack = SLACK + self.slowest * WAYS;
        for app in &self.apps {
            let reports = self.reports(app);
            let judged = truth::judge(&reports, &timeline(app, &history), &outages, slack)
                .map_err(|error| format!("{} {error}", app.name))?;
            let sum = &mut self.outcome.judged;
            sum.reports += judged.reports;
            sum.settled += judged.settled;
            sum.wide += judged.wide;
        }
        let log = self.agent.log();
        let panicked = log.lines().find(|line| line.contains("panicked"));
        panicked.map_or(Ok(()), |line| Err(line.to_owned()))
    }

    /// Everything that is known of a run that failed.
    fn report(&self, seed: u32, error: &str) -> String {
        let mut lines: Vec<String> = self.story.clone();
        for app in &self.apps {
            for report in self.reports(app) {
                lines.push(format!(
                    "{:9.3}     {} {} {}",
                    report.at.as_secs_f64(),
                    app.name,
                    report.state,
                    report.update_status
                ));
            }
        }
        for entry in self.machine.history() {
            let id = &entry.id[..entry.id.len().min(12)];
            lines.push(format!("{:9.3}         {} {id} {:?}", entry.at.as_secs_f64(), entry.name, entry.told));
        }
        for call in self.cloud.backend.calls().iter().filter(|call| call.is("update_device_status")) {
            lines.push(format!("{:9.3}     {}", call.at.as_secs_f64(), call.argument()["status"]));
        }
        lines.sort();
        let mut text = format!("seed {seed}: {error}\n");
        lines.iter().for_each(|line| text.push_str(&format!("{line}\n")));
        let output = self.agent.output().join("\n");
        text + &format!("--- the agent's output\n{output}\n--- its log\n{}", self.agent.log())
    }
}

fn timeline(app: &App, history: &[Entry]) -> Timeline {
    let mut timeline = Timeline::default();
    let mut ids = BTreeMap::new();
    for entry in history {
        let is_its = entry.id.starts_with(&app.image_prefix()) || app.owns(&entry.name, &entry.project);
        // One that was renamed stays what it was.
        if *ids.entry(&entry.id).or_insert(is_its) {
            timeline.tell(entry.at, &entry.id, &entry.told);
        }
    }
    timeline
}
