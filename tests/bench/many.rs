//! `make bench-apps`: a device with many apps. How long it takes until all of them run, from nothing, when the agent is
//! started again and when the engine is; what one listing costs; what the agent takes while nothing happens.
//!
//! One engine, one registry, one cloud. "Run" is what was reported and what the engine has. For the last part the agent's
//! calls of the engine go through a relay that counts them.

use crate::cloud::Cloud;
use crate::cloud::wanted::WantedApp;
use crate::parts::{Agent, Registry};
use crate::relay::{Relay, Seen, Side, What};
use crate::scene::{Candidate, Engine, rounded};
use crate::temp_dir::TempDir;
use crate::usage::Usage;
use crate::{SETTLED, Stop, load_average};
use reagent::clock;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// So many apps are installed within this on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// The time without events that is measured: two listings fall into it.
const IDLE: Duration = Duration::from_secs(121);
/// What belongs to a listing comes within this after its first request.
const BURST: Duration = Duration::from_secs(5);
/// Requests of one listing, however many apps there are (decision 16).
const REQUESTS: f64 = 3.0;
/// Threads beside the followers of logs, one for each container.
const THREADS: u64 = 19;

/// What is on the device.
struct Device<'a> {
    candidate: &'a Candidate,
    folder: &'a Path,
    engine: Engine,
    cloud: Cloud,
    apps: Vec<WantedApp>,
    stop: &'a Stop,
}

/// Measures `candidate` with so many apps. The result is as it is written to the file.
pub fn run(candidate: &Candidate, apps: usize, stop: &Stop) -> Result<Value, String> {
    let folder = TempDir::new("bench");
    let registry = Registry::start(&folder)?;
    let engine = Engine::start(&folder.join("e"))?;
    let apps: Vec<WantedApp> = (0..apps).map(|n| WantedApp::new(600 + n as u64, &format!("app{n}"))).collect();
    println!("{} apps are made", apps.len());
    offer(&registry, &engine, &apps, &candidate.arch)?;
    let cloud = Cloud::start(0, &registry.address()).map_err(|failure| format!("{failure:?}"))?;
    apps.iter().for_each(|app| cloud.backend.want(app.clone()));
    let device = Device { candidate, folder: folder.path(), engine, cloud, apps, stop };
    let before = load_average();

    println!("the agent is started on an engine that has nothing");
    let (agent, cold) = device.start(&device.engine.host())?;
    println!("and again, while they run");
    end(agent)?;
    let had = device.containers()?;
    let (agent, warm) = device.start(&device.engine.host())?;
    if device.containers()? != had {
        return Err("a start of the agent has changed containers".to_owned());
    }
    println!("the engine is started again");
    let restart = device.restart_of_the_engine(&agent)?;
    end(agent)?;

    println!("{} s in which nothing happens", IDLE.as_secs());
    let relay = Relay::unix(&folder.join("relay"), Path::new(device.engine.host().trim_start_matches("unix://")));
    let (agent, _) = device.start(&format!("unix://{}", folder.join("relay").display()))?;
    let mut traffic = Traffic::default();
    traffic.take(&relay);
    let at_start = traffic.requests(Duration::ZERO).count();
    stop.pause(SETTLED)?;
    let (idle, resync) = device.idle(&agent, &relay, &mut traffic)?;
    end(agent)?;

    let (count, listings) = (device.apps.len(), resync["requests"].as_f64());
    let mut breaches = Vec::new();
    if listings.is_none_or(|requests| requests > REQUESTS) {
        breaches.push(format!("a listing of {count} apps takes {} requests, at most {REQUESTS}", resync["requests"]));
    }
    let most = THREADS + count as u64;
    if idle["threads"].as_u64().is_none_or(|threads| threads > most) {
        breaches.push(format!("{} threads with {count} apps, at most {most}", idle["threads"]));
    }
    Ok(json!({
        "apps": count, "name": candidate.name, "version": candidate.version, "arch": candidate.arch,
        "bytes": candidate.bytes, "load_average": [before, load_average()],
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "cold": cold, "warm": warm, "engine_restart": restart, "requests_at_a_warm_start": at_start,
        "resync": resync, "idle": idle, "breaches": breaches,
    }))
}

/// Has an image of each app in the registry, and none on the engine. They are one, under many names.
fn offer(registry: &Registry, engine: &Engine, apps: &[WantedApp], arch: &str) -> Result<(), String> {
    let reference = |app: &WantedApp| format!("{}/apps/{}:{}", registry.address(), app.image(arch), app.version);
    let Some((first, others)) = apps.split_first() else { return Err("no apps".to_owned()) };
    registry.push_from(Some(&engine.host()), &first.image(arch), &first.version, "silent")?;
    engine.docker(&["pull", "-q", &reference(first)])?;
    for app in others {
        engine.docker(&["tag", &reference(first), &reference(app)])?;
        engine.docker(&["push", "-q", &reference(app)])?;
        engine.docker(&["image", "rm", &reference(app)])?;
    }
    engine.docker(&["image", "rm", &reference(first)]).map(drop)
}

fn end(mut agent: Agent) -> Result<(), String> {
    agent.stop(Duration::from_secs(12)).map(drop).ok_or_else(|| "the agent does not end within 12 s".to_owned())
}

impl Device<'_> {
    /// Starts the agent; returns when all apps run, with how long that took, and what it used for it.
    fn start(&self, host: &str) -> Result<(Agent, Value), String> {
        let mark = self.cloud.backend.mark();
        let (agent, connected) = self.candidate.start(&self.folder.join("a"), host, &self.cloud, self.stop)?;
        let mut reported = self.until_all_run(mark, &BTreeSet::new())?;
        reported.sort();
        let after = |at: &Duration| rounded(at.saturating_sub(agent.started).as_secs_f64());
        let usage = Usage::of(agent.pid(), false)?;
        let took = json!({
            "connected_s": rounded(connected.as_secs_f64()),
            "first_runs_s": reported.first().map(after), "all_run_s": reported.last().map(after),
            "cpu_ms": usage.busy_us as f64 / 1000.0,
        });
        Ok((agent, took))
    }

    /// Waits until every app was reported as RUNNING after `mark`, nothing else after that, and none of these containers
    /// is left; then the engine has to agree. When each was reported.
    fn until_all_run(&self, mark: usize, old: &BTreeSet<String>) -> Result<Vec<Duration>, String> {
        let deadline = clock::mono() + PATIENCE;
        loop {
            let mut last = BTreeMap::new();
            for call in self.cloud.backend.calls_since(mark).iter().filter(|call| call.is("update_app_on_device")) {
                if let (Some(key), Some(state)) =
                    (call.argument()["app_key"].as_u64(), call.argument()["state"].as_str())
                {
                    last.insert(key, (state.to_owned(), call.at));
                }
            }
            let running = last.values().filter(|(state, _)| state == "RUNNING").count();
            if running == self.apps.len() {
                let now = self.containers()?;
                if now.len() != self.apps.len() || !now.is_disjoint(old) {
                    return Err(format!("all {running} apps are reported as RUNNING, the engine runs {}", now.len()));
                }
                return Ok(last.into_values().map(|(_, at)| at).collect());
            }
            if clock::mono() > deadline {
                return Err(format!("after {PATIENCE:?} {running} of {} apps run: {last:?}", self.apps.len()));
            }
            self.stop.pause(Duration::from_millis(20))?;
        }
    }

    /// Those that run, with the moment of their start.
    fn containers(&self) -> Result<BTreeSet<String>, String> {
        let ids = self.engine.docker(&["ps", "-q", "--no-trunc"])?;
        let mut words = vec!["inspect", "--format", "{{.Id}} {{.State.StartedAt}}"];
        words.extend(ids.lines());
        if ids.is_empty() {
            return Ok(BTreeSet::new());
        }
        Ok(self.engine.docker(&words)?.lines().map(str::to_owned).collect())
    }

    /// The daemon ends its containers and itself in good order, and is there again.
    fn restart_of_the_engine(&self, agent: &Agent) -> Result<Value, String> {
        let (mark, old, cpu) = (self.cloud.backend.mark(), self.containers()?, Usage::of(agent.pid(), false)?.cpu_ms);
        let begun = clock::mono();
        self.engine.terminate()?;
        let down = clock::mono();
        self.engine.launch()?;
        let up = clock::mono();
        let reported = self.until_all_run(mark, &old)?;
        let last = reported.into_iter().max().unwrap_or_default();
        let cpu = Usage::of(agent.pid(), false)?.cpu_ms.saturating_sub(cpu);
        Ok(json!({
            "down_after_s": rounded((down - begun).as_secs_f64()), "up_after_s": rounded((up - begun).as_secs_f64()),
            "all_run_s_after_up": rounded(last.saturating_sub(up).as_secs_f64()), "cpu_s": cpu as f64 / 1000.0,
        }))
    }

    /// What the agent uses while nothing happens, and what of it is for one listing.
    fn idle(&self, agent: &Agent, relay: &Relay, traffic: &mut Traffic) -> Result<(Value, Value), String> {
        let begin = clock::mono();
        let mut looks = vec![(begin, Usage::of(agent.pid(), false)?)];
        while clock::mono() < begin + IDLE {
            self.stop.pause(Duration::from_secs(1))?;
            looks.push((clock::mono(), Usage::of(agent.pid(), false)?));
        }
        traffic.take(relay);
        let ((_, first), (end, last)) = (&looks[0], &looks[looks.len() - 1]);
        let seconds = (*end - begin).as_secs_f64();
        let most = |of: fn(&Usage) -> u64| looks.iter().map(|(_, look)| of(look)).max().unwrap_or_default();
        let busy = last.busy_us.saturating_sub(first.busy_us) as f64;
        let idle = json!({
            "seconds": rounded(seconds), "cpu_ms_per_minute": rounded(busy / 1000.0 / seconds * 60.0),
            "cpu_percent": (busy / 10_000.0 / seconds * 1000.0).round() / 1000.0,
            "rss_kib": most(|look| look.rss), "own_kib": most(|look| look.own), "pss_kib": most(|look| look.pss),
            "anonymous_kib": most(|look| look.anonymous), "threads": most(|look| look.threads),
            "descriptors": most(|look| look.descriptors),
            "wakeups_per_s": rounded(last.wakeups.saturating_sub(first.wakeups) as f64 / seconds),
            "written_bytes": last.written.saturating_sub(first.written),
        });
        let all: Vec<&Exchange> = traffic.requests(begin).collect();
        let starts = all.iter().filter(|it| it.line.contains("/containers/json")).map(|it| it.from);
        let mut listings: Vec<Duration> = starts.collect();
        listings.dedup_by(|later, first| *later < *first + BURST);
        // Of the listings the shortest is told: nothing else of the machine was in its way.
        let of = |listing: &Duration| {
            let own = all.iter().filter(|it| (*listing..*listing + BURST).contains(&it.from));
            let (wall, bytes) = own.clone().fold((Duration::ZERO, 0), |(wall, bytes), it| {
                (wall.max(it.to.saturating_sub(*listing)), bytes + it.bytes)
            });
            let at = |moment: Duration| looks.iter().rfind(|(at, _)| *at <= moment).map_or(0, |(_, look)| look.busy_us);
            let after = looks.iter().find(|(at, _)| *at > *listing + wall).map_or(0, |(_, look)| look.busy_us);
            let cpu = after.saturating_sub(at(*listing));
            (wall, own.count(), bytes, cpu)
        };
        let Some((wall, _, bytes, cpu)) = listings.iter().map(of).min() else {
            return Err(format!("no listing within {IDLE:?}"));
        };
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for it in &all {
            *kinds.entry(it.line.as_str()).or_default() += 1;
        }
        let resync = json!({
            "listings": listings.len(), "requests": rounded(all.len() as f64 / listings.len() as f64),
            "bytes": bytes, "wall_ms": rounded(wall.as_secs_f64() * 1000.0), "cpu_ms": cpu as f64 / 1000.0, "all": kinds,
        });
        Ok((idle, resync))
    }
}

/// One connection: the client makes one for each request.
#[derive(Debug, Default)]
struct Exchange {
    line: String,
    from: Duration,
    to: Duration,
    /// In both directions.
    bytes: usize,
}

/// What went through a relay, by connection.
#[derive(Debug, Default)]
struct Traffic(BTreeMap<usize, Exchange>);

impl Traffic {
    fn take(&mut self, relay: &Relay) {
        for Seen { connection, at, what } in relay.seen.try_iter() {
            let exchange = self.0.entry(connection).or_insert_with(|| Exchange { from: at, ..Exchange::default() });
            exchange.to = at;
            if let What::Bytes(side, bytes) = what {
                exchange.bytes += bytes.len();
                if side == Side::Client && exchange.line.is_empty() {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    text.lines().next().unwrap_or_default().clone_into(&mut exchange.line);
                }
            }
        }
    }

    /// Those that began at `begin` or later.
    fn requests(&self, begin: Duration) -> impl Iterator<Item = &Exchange> {
        self.0.values().filter(move |exchange| exchange.from >= begin)
    }
}

/// Figures in the table: title, and where they are.
const ROWS: [(&str, &str); 19] = [
    ("first start: CONNECTED, s", "/cold/connected_s"),
    ("first start: all apps run, s", "/cold/all_run_s"),
    ("  the first of them, s", "/cold/first_runs_s"),
    ("  processor, ms", "/cold/cpu_ms"),
    ("start while they run: all reported, s", "/warm/all_run_s"),
    ("  processor, ms", "/warm/cpu_ms"),
    ("  requests to the engine", "/requests_at_a_warm_start"),
    ("engine started again: away for, s", "/engine_restart/up_after_s"),
    ("  all run, s after it answers", "/engine_restart/all_run_s_after_up"),
    ("a listing: requests", "/resync/requests"),
    ("  bytes", "/resync/bytes"),
    ("  ms", "/resync/wall_ms"),
    ("  processor, ms", "/resync/cpu_ms"),
    ("idle: processor, ms per minute", "/idle/cpu_ms_per_minute"),
    ("  % of a core", "/idle/cpu_percent"),
    ("  resident (in no file), KiB", "/idle/rss_kib"),
    ("  proportional, KiB", "/idle/pss_kib"),
    ("  threads", "/idle/threads"),
    ("  descriptors", "/idle/descriptors"),
];

/// The table.
pub fn table(result: &Value) -> String {
    let shown = |path: &str| result.pointer(path).map_or_else(|| "-".to_owned(), Value::to_string);
    let mut lines = vec![format!("{:<40} {:>10}", "apps", shown("/apps"))];
    lines.extend(ROWS.iter().map(|(title, path)| format!("{title:<40} {:>10}", shown(path))));
    let (load, processors) = (shown("/load_average"), shown("/processors"));
    lines.push(format!("load of the machine {load} on {processors} processors"));
    lines.join("\n")
}
