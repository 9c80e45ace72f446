//! S1: apps are started and stopped, again and again, and nothing of a cycle stays: no thread, descriptor, stream,
//! connection, row, file or memory.
//!
//! All apps are started together and stopped together. A cycle is one app that was asked for RUNNING and back for PRESENT,
//! both of which were reported and true, and whose log was heard in between. `make soak-cycles` does a thousand
//! (`SOAK_CYCLES`; `SOAK_SIDE` is how many plain apps there are beside each other, and beside one compose project).

mod fake;
mod growth;
mod real;
mod sample;
#[path = "../../bench/usage.rs"]
#[allow(dead_code, reason = "the benchmark uses more of it")]
mod usage;

use super::machine::{Machine, Seen};
use super::setting;
use crate::cloud::Cloud;
use crate::cloud::backend::Call;
use crate::cloud::peer::Payload;
use crate::cloud::wanted::WantedApp;
use crate::real::stage::{progress, with_ports};
use crate::util::{Agent, Options, wait_until};
use crossbeam_channel::Receiver;
use reagent::clock;
use reagent::release::ARCH;
use sample::{Sample, Socket, difference};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// For what takes no longer on any machine.
const LIMIT: Duration = Duration::from_secs(120);
/// So many looks that show the same, one after the other, are rest.
const CALM: usize = 15;
const VERSION: &str = "1.0.0";
/// Part of every line that the apps write.
const WORD: &str = " line ";

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Extent {
    cycles: usize,
    /// Plain apps; a project is beside them.
    side: usize,
}

impl Extent {
    fn or(cycles: usize, side: usize) -> Extent {
        Extent { cycles: setting("CYCLES", cycles), side: setting("SIDE", side) }
    }

    fn apps(self) -> usize {
        self.side + 1
    }

    /// Starts and stops of all apps.
    fn rounds(self) -> usize {
        self.cycles.div_ceil(self.apps()).max(4)
    }

    /// What grows until it is full, or is made once, has a fifth of them.
    fn warm_up(self) -> usize {
        (self.rounds() / 5).max(2)
    }
}

/// An app of the cycles, and the images that it has: names without registry and version.
#[derive(Debug, Clone)]
struct App {
    wanted: WantedApp,
    images: Vec<String>,
    log: Option<Receiver<Payload>>,
}

impl App {
    fn all(extent: Extent, registry: &str) -> Vec<App> {
        let fresh = |n: usize| with_ports(WantedApp::new(801 + n as u64, &format!("cycle{n}")).port(8080, "http"));
        let plain = |n: usize| {
            let wanted = fresh(n);
            App { images: vec![wanted.image(ARCH)], wanted, log: None }
        };
        let mut project = plain(extent.side);
        project.images = ["web", "side"].map(|service| format!("{}_{service}", project.images[0])).to_vec();
        let service =
            |image: &String| json!({"image": format!("{registry}/apps/{image}:{VERSION}"), "stop_grace_period": "1s"});
        let (mut web, side) = (service(&project.images[0]), service(&project.images[1]));
        web["ports"] = json!(["8080:8080"]);
        project.wanted = project.wanted.compose(json!({"services": {"web": web, "side": side}}));
        (0..extent.side).map(plain).chain([project]).collect()
    }

    fn owns(&self, seen: &Seen) -> bool {
        let container = self.wanted.container();
        seen.name == container || seen.project == format!("{container}_compose")
    }
}

struct Cycles<'m, M> {
    // The agent goes first: it would notice the end of the others.
    agent: Agent,
    cloud: Cloud,
    apps: Vec<App>,
    machine: &'m mut M,
    engine: Socket,
}

/// Does the cycles. `engine` is the socket of the machine's engine, `speak` has a running container of this name write a
/// line with [`WORD`] in it, if it does not do so by itself.
#[track_caller]
fn cycle<M: Machine>(machine: &mut M, engine: &Path, extent: Extent, speak: impl Fn(&M, &str)) {
    let mut apps = App::all(extent, &machine.registry());
    for image in apps.iter().flat_map(|app| &app.images) {
        machine.offer(image, VERSION, false);
    }
    let cloud = Cloud::start(0, &machine.registry()).expect("a free loopback port");
    let mut options = Options { flock: cloud.flock(), ..Options::default() };
    machine.equip(&mut options);
    // Else glibc keeps for each thread some of what that has freed, more and more of it for a thousand cycles. The builds for
    // boards have another allocator.
    options.env.push(("GLIBC_TUNABLES".to_owned(), "glibc.malloc.tcache_count=0".to_owned()));
    let engine = Socket::of(engine);
    let agent = Agent::start(options);
    cloud.backend.wait_for_status(LIMIT, 0, "CONNECTED");
    for app in &mut apps {
        app.log = Some(cloud.backend.subscribe_logs(&app.wanted.container()));
    }
    let cycles = Cycles { agent, cloud, apps, machine, engine };
    cycles.run(extent, speak);
}

impl<M: Machine> Cycles<'_, M> {
    #[track_caller]
    fn run(&self, extent: Extent, speak: impl Fn(&M, &str)) {
        let begun = clock::mono();
        let (rounds, warm_up) = (extent.rounds(), extent.warm_up());
        let (mut before, mut memory): (Option<Sample>, _) = (None, Vec::new());
        progress(Sample::HEAD);
        for round in 1..=rounds {
            self.change("RUNNING", &["STARTING", "RUNNING"], round > 1);
            self.all_run(&speak);
            self.change("PRESENT", &["STOPPING", "PRESENT"], true);
            let now = self.at_rest(before.as_ref());
            assert!(now.logs <= extent.apps() as i64, "{} logs are kept", now.logs);
            let cycles = round * extent.apps();
            if round >= warm_up {
                memory.push((cycles as f64, now.anonymous as f64));
                before.get_or_insert_with(|| now.clone());
            }
            if round == 1 || round == warm_up || round == rounds || round.is_multiple_of(rounds.div_ceil(20)) {
                progress(&now.row(cycles, clock::mono() - begun));
            }
        }
        let log = self.agent.log();
        let panicked = log.lines().find(|line| line.contains("panicked"));
        assert_eq!(panicked, None);
        let growth = growth::over(&memory);
        progress(&growth.shown());
        assert!(!growth.is_too_much(), "memory grows: {}", growth.shown());
    }

    /// Asks all apps for a target, and waits until it is reported; then it is true. `told`: what is reported on the way.
    #[track_caller]
    fn change(&self, target: &'static str, told: &[&str], is_usual: bool) {
        let backend = &self.cloud.backend;
        let mark = backend.mark();
        for app in &self.apps {
            let (_, answer) =
                backend.request_changed(app.wanted.clone(), |wanted| target.clone_into(&mut wanted.target));
            answer.expect("the agent takes the request");
        }
        for app in &self.apps {
            backend.wait_for_state(LIMIT, mark, app.wanted.app_key, target);
        }
        let calls = backend.calls_since(mark);
        for app in &self.apps {
            let key = app.wanted.app_key;
            let mut states: Vec<&str> = calls
                .iter()
                .filter(|call| is_of(call, key))
                .filter_map(|call| call.argument()["state"].as_str())
                .collect();
            // A stop of a plain app is told twice (3.11).
            states.dedup();
            assert!(!is_usual || states == told, "app {key} was reported as {states:?}");
        }
        let containers = self.containers();
        for app in &self.apps {
            let own: Vec<&Seen> = containers.iter().filter(|seen| app.owns(seen)).collect();
            let wanted = if target == "RUNNING" { app.images.len() } else { 0 };
            assert!(
                own.len() == wanted && own.iter().all(|seen| seen.runs),
                "{} is reported as {target}: {own:?}",
                app.wanted.name
            );
        }
    }

    #[track_caller]
    fn containers(&self) -> Vec<Seen> {
        wait_until(LIMIT, "the engine lists its containers", || self.machine.containers())
    }

    /// Every log is heard, by one stream for each container.
    #[track_caller]
    fn all_run(&self, speak: &impl Fn(&M, &str)) {
        let containers = self.containers();
        containers.iter().for_each(|seen| speak(self.machine, &seen.name));
        for app in &self.apps {
            let log = app.log.as_ref().expect("it is subscribed to at the start");
            wait_until(LIMIT, &format!("a line of {} is heard", app.wanted.name), || {
                let is_line =
                    |event: Payload| event.args.first().and_then(Value::as_str).is_some_and(|text| text.contains(WORD));
                log.try_iter().any(is_line).then_some(())
            });
        }
        let mut last = (0, 0);
        let is_so = || {
            let now = Sample::of(&self.agent, &self.engine);
            last = (now.streams, now.connections);
            (last == (containers.len(), containers.len() + 1)).then_some(())
        };
        wait_until(LIMIT, "there is a stream for each container, the events, and nothing else", is_so);
    }

    /// Nothing is done any more, and what is held is what was held `before`.
    #[track_caller]
    fn at_rest(&self, before: Option<&Sample>) -> Sample {
        let deadline = clock::mono() + LIMIT;
        let mut same = 0;
        let mut last = Sample::of(&self.agent, &self.engine);
        loop {
            std::thread::sleep(Duration::from_millis(20));
            let now = Sample::of(&self.agent, &self.engine);
            same = if now.held == last.held { same + 1 } else { 0 };
            let differs = match before {
                Some(before) => difference(&before.held, &now.held),
                // What only comes and goes is not what others are held against.
                None if now.is_quiet() && same >= CALM => Vec::new(),
                None => now.held.iter().cloned().collect(),
            };
            if differs.is_empty() {
                return now;
            }
            assert!(clock::mono() < deadline, "after a cycle this is otherwise: {differs:#?}");
            last = now;
        }
    }
}

fn is_of(call: &Call, key: u64) -> bool {
    call.is("update_app_on_device") && call.argument()["app_key"] == key
}
