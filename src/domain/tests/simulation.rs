//! Chaos with a seed: requests, crashes, outages, lost and late jobs, failures of everything. While it lasts the invariants
//! hold after each step; when it is over, every app ends where it was wanted last.

use super::super::job::{Container, JobId, JobSpec, Outcome};
use super::super::message::Event;
use super::super::slot::{Slot, Wait};
use super::super::testing::*;
use super::super::{Job, State, names};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const APPS: u64 = 5;
/// Those of them that are compose projects.
const PROJECTS: [u64; 2] = [3, 5];

/// Numbers out of a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

/// One thing happens.
fn disturb(world: &mut World, dice: &mut Dice) {
    match dice.roll(200) {
        0..=119 => go_on(world, dice),
        120..=139 => request(world, dice),
        140..=149 => {
            let key = 1 + dice.roll(APPS);
            let name = if PROJECTS.contains(&key) { service(key, dice) } else { container(key) };
            world.engine.exit(&name, dice.pick(&[0, 1, 137]));
            match dice.roll(3) {
                0 => {}
                _ if PROJECTS.contains(&key) => world.project_event(key, &name, "die"),
                _ => world.container_event(key, "die"),
            }
        }
        150..=169 => pass(world),
        170..=174 => world.join(),
        175..=176 => world.leave(),
        177..=178 => world.engine_down(),
        179..=182 => world.engine_up(),
        183 => world.engine.down = !world.engine.down,
        184..=185 => world.kill = Some((dice.roll(3) as u32, dice.pick(&[Kill::BeforeCommit, Kill::AfterCommit]))),
        186..=188 => {
            let word = dice.pick(&[
                "testament",
                "metadata",
                "key",
                "status",
                "architecture",
                "report",
                "ports",
                "list",
                "token",
            ]);
            let answer = dice.pick(&[0, 1, 2]);
            world.backend.answers.insert(word, [None, Some(transport()), Some(refusal())][answer].clone());
        }
        189..=192 => world.backend.answers.clear(),
        193 => {
            let answer = dice.roll(4) as usize;
            let odd = [json!(null), json!([]), json!([{"app_key": 1}]), json!("text")];
            world.backend.list = Some(Ok(vec![odd[answer].clone()]));
        }
        194..=195 => world.backend.list = None,
        196 => {
            let words = [
                "pull", "start", "stop", "remove", "observe", "has", "delete", "compose", "missing", "keep", "put",
                "find",
            ];
            let word = dice.pick(&words);
            world.engine.fails.insert(word, (1 + dice.roll(3) as u32, "broken"));
        }
        197 => drop(world.engine.bound.insert(40_000 + dice.roll(20) as u16)),
        198 => world.engine.mute = !world.engine.mute,
        _ => world.engine.short_lived = dice.roll(4) as u32,
    }
}

/// An event is delivered or a job ends, any of them, well or not.
fn go_on(world: &mut World, dice: &mut Dice) {
    let jobs: Vec<JobId> = world.jobs.keys().copied().collect();
    if !world.inbox.is_empty() && (jobs.is_empty() || dice.roll(3) > 0) {
        let at = overtaking(world, dice);
        if let Some(event) = world.inbox.remove(at) {
            world.step(event);
        }
    } else if !jobs.is_empty() {
        let job = dice.pick(&jobs);
        match dice.roll(30) {
            0 => world.ended(job, Outcome::EngineGone("no answer".to_owned())),
            1 => world.ended(job, Outcome::Failed("the worker panicked".to_owned())),
            _ => world.end(job),
        }
    }
}

/// Which event comes next: results of different workers may overtake each other, nothing else.
fn overtaking(world: &World, dice: &mut Dice) -> usize {
    let at = dice.roll(world.inbox.len() as u64) as usize;
    match &world.inbox[at] {
        Event::JobEnded { job, .. } if !world.inbox.contains(&Event::JobAccepted { job: *job }) => at,
        _ => 0,
    }
}

fn pass(world: &mut World) {
    if let Some(next) = world.state.deadline() {
        world.now = world.now.max(next);
        world.step(Event::Tick);
    }
}

fn request(world: &mut World, dice: &mut Dice) {
    let key = 1 + dice.roll(APPS);
    let target = dice.pick(&["RUNNING", "RUNNING", "PRESENT", "REMOVED", "UNINSTALLED", "STOPPED", "STARTING"]);
    let release = dice.roll(3);
    let mut extra = match dice.roll(4) {
        0 => {
            json!({"newest_version": format!("{}.0.0", 1 + release), "new_release_key": 100 + release, "request_update": true})
        }
        1 => json!({"cancel_transition": true, "request_update": false}),
        2 => json!({"ports": [{"port": 80}, {"port": 90 + release}]}),
        _ => json!({}),
    };
    if PROJECTS.contains(&key) {
        extra["docker_compose"] = definition("1.0.0");
        extra["new_docker_compose"] = definition("2.0.0");
    }
    if world.generation.is_some() {
        world.request(key, target, extra);
    } else {
        world.backend.ask(key, target, extra);
    }
}

fn definition(version: &str) -> Value {
    json!({"services": {"web": {"image": format!("web:{version}"), "ports": ["80:80"]}, "db": {"image": "db:1"}}})
}

fn service(key: u64, dice: &mut Dice) -> String {
    format!("{}-{}-1", project(key), dice.pick(&["web", "db"]))
}

fn project(key: u64) -> String {
    names::project(prod(key), "Demo")
}

/// The containers of an app, kept ones too.
fn containers(world: &World, key: u64) -> Vec<&Container> {
    let (name, kept, project) = (container(key), names::kept(prod(key)), project(key));
    let is_its = |it: &&Container| it.name == name || it.name == kept || it.project.as_ref() == Some(&project);
    world.engine.containers.values().filter(is_its).collect()
}

/// What holds at any time.
fn check(world: &World) -> Result<(), String> {
    let state = &world.state;
    for (id, app) in &state.apps {
        let steps: Vec<JobId> = jobs(state, |job| *job == Job::Step(*id));
        let waits = match &app.slot {
            Slot::Busy(run) => match run.waits {
                Some(Wait::Job(job, _)) => vec![job],
                Some(Wait::Token(_) | Wait::Proof) => vec![],
                None => return Err(format!("{id} is busy and waits for nothing: {run:?}")),
            },
            Slot::Idle => vec![],
        };
        if steps != waits {
            return Err(format!("{id} waits for {waits:?}, its jobs are {steps:?}"));
        }
        if app.look.is_some_and(|look| !state.jobs.contains_key(&look)) {
            return Err(format!("{id} waits for a look that nobody takes"));
        }
    }
    for key in 1..=APPS {
        let of_it = world.jobs.values().filter(|spec| works_on(spec, key)).count();
        if of_it > 1 {
            return Err(format!("{of_it} jobs work on {}: {:?}", container(key), world.jobs));
        }
    }
    let starts =
        world.jobs.values().filter_map(|spec| if let JobSpec::Start(launch) = spec { Some(launch) } else { None });
    let starts =
        starts.map(|launch| (&launch.container, launch.bindings.iter().map(|binding| binding.host_port).collect()));
    let running = world.engine.containers.iter().filter(|(_, container)| container.status == "running");
    let running =
        running.map(|(name, container)| (name, container.bindings.iter().map(|port| port.host_port).collect()));
    let given: Vec<(&String, BTreeSet<u16>)> = running.chain(starts).collect();
    for (one, (name, ports)) in given.iter().enumerate() {
        if let Some((other, _)) = given[..one].iter().find(|(other, of_it)| other != name && !of_it.is_disjoint(ports))
        {
            return Err(format!("{name} and {other} have a port in common: {given:?}"));
        }
    }
    match () {
        () if state.deadline().is_some_and(|next| next <= world.now) => Err("a timer in the past is left".to_owned()),
        () if world.tables.outbox.len() > 33 * APPS as usize => Err("the outbox grows".to_owned()),
        () if state.calls.len() > 100 => Err(format!("calls pile up: {:?}", state.calls)),
        () if !world.untrue.is_empty() => Err(format!("untrue: {:?}", world.untrue)),
        () => Ok(()),
    }
}

fn jobs(state: &State, is_it: impl Fn(&Job) -> bool) -> Vec<JobId> {
    state.jobs.iter().filter(|(_, job)| is_it(job)).map(|(job, _)| *job).collect()
}

fn works_on(spec: &JobSpec, key: u64) -> bool {
    let (name, project) = (container(key), project(key));
    match spec {
        JobSpec::Pull { container, .. }
        | JobSpec::Stop { container }
        | JobSpec::RemoveContainer { container }
        | JobSpec::Keep { container, .. }
        | JobSpec::PutBack { container, .. } => *container == name,
        JobSpec::Start(launch) => launch.container == name,
        JobSpec::Compose { project: of, .. } => of.name == project,
        JobSpec::RemoveProject { project: of } => *of == project,
        _ => false,
    }
}

/// Everything heals; then every app is where it was wanted last, and the backend knows.
fn heal(world: &mut World) -> Result<(), String> {
    world.kill = None;
    world.backend.answers.clear();
    world.backend.list = None;
    world.engine.fails.clear();
    world.engine.bound.clear();
    world.engine.mute = false;
    world.engine.short_lived = 0;
    world.engine_up();
    world.settle();
    world.join();
    world.pass(secs(900));
    for (id, wanted) in &world.backend.wanted {
        let target = match wanted["target_state"].as_str().unwrap_or_default() {
            "STARTING" => "RUNNING",
            "STOPPED" => "PRESENT",
            settled => settled,
        };
        let of_it = containers(world, id.key);
        let recorded = world.tables.apps.get(id);
        let is = recorded.map_or("gone", |row| row.state.text());
        let is_running = |container: &&Container| container.status == "running";
        // A project of which one service has ended runs still (2.2).
        let runs = match PROJECTS.contains(&id.key) {
            true => of_it.iter().any(is_running),
            false => !of_it.is_empty() && of_it.iter().all(is_running),
        };
        let told = world.backend.told.get(&id.key).and_then(|told| told.last()).map_or("nothing", String::as_str);
        let right = match target {
            "RUNNING" => is == "RUNNING" && runs && told == "RUNNING",
            "PRESENT" => is == "PRESENT" && of_it.is_empty() && told == "PRESENT",
            // What is uninstalled is removed too: nothing is reported then.
            gone => {
                let is_told = told == gone || (gone, told) == ("REMOVED", "UNINSTALLED");
                is == "gone" && of_it.is_empty() && is_told
            }
        };
        if !right {
            return Err(format!(
                "{id}: wanted {target}, is {is}, runs {runs}, told {told}; {:?}",
                world.state.apps.get(id)
            ));
        }
        let of_installed = |image: &str| recorded.is_some_and(|row| image.ends_with(&format!(":{}", row.version)));
        let images: Vec<&str> = of_it.iter().map(|it| it.image.as_str()).collect();
        if target == "RUNNING" && !PROJECTS.contains(&id.key) && !images.iter().all(|image| of_installed(image)) {
            return Err(format!("{id}: {recorded:?} runs as {images:?}"));
        }
        let newest = wanted["newest_version"].as_str().unwrap_or_default();
        let refused = world.state.apps.get(id).and_then(|app| app.refused.as_deref()) == Some(newest);
        let updates = wanted["request_update"] == json!(true) && recorded.is_some() && !refused;
        if updates && recorded.is_some_and(|row| row.version != newest) {
            return Err(format!("{id}: {recorded:?} where {newest} is wanted"));
        }
    }
    if world.tables.outbox.is_empty() { Ok(()) } else { Err(format!("reports are left: {:?}", world.tables.outbox)) }
}

/// One of so many disturbances is followed by rest.
const HEALS: u64 = 50;

fn run(seed: u64, steps: u32) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut world = World::connected();
    let mut verdict = Ok(());
    for _ in 0..steps {
        disturb(&mut world, &mut dice);
        world.trace.clear();
        world.notes.clear();
        world.answers.clear();
        verdict = check(&world);
        if dice.roll(HEALS) == 0 {
            verdict = verdict.and_then(|()| heal(&mut world));
        }
        if verdict.is_err() {
            break;
        }
    }
    let verdict = verdict.and_then(|()| heal(&mut world));
    if let Err(error) = verdict.and_then(|()| check(&world)) {
        panic!("seed {seed}: {error}\nthe last events: {:#?}", world.tail());
    }
}

#[test]
fn s2_s3_s7_whatever_happens_every_app_ends_in_the_state_that_was_asked_for_last() {
    for seed in 1..=50 {
        run(seed, 2_000);
    }
}
