//! A fleet at one Crossbar: the agent's own WAMP client, many times over, each as a device of its own (C9, decision 10).
//!
//! No Docker, no agent processes: what counts is when the sessions dial, and what a session costs. Two threads each.

use super::link::Guard;
use super::router::Router;
use super::run;
use crossbeam_channel::{Receiver, Select, Sender, unbounded};
use reagent::clock::{self, Wall};
use reagent::secret::Secret;
use reagent::wamp::{self, Command, Declaration, Event, Handle, Phase, Settings, Testament};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const PROCEDURES: usize = 12;
const LIMIT: Duration = Duration::from_secs(180);

/// What the fleet calls the router. Nobody listens there: a [`Door`] leads to the Crossbar of the time.
const ADDRESS: &str = "127.0.0.2";
const PORT: u16 = 9;

/// An event of the device with this number, when it came.
type Seen = (usize, Duration, Event);

struct Fleet {
    handles: Vec<Handle>,
    seen: Receiver<Seen>,
    door: Option<Door>,
    router: Router,
}

/// Leads connections to [`ADDRESS`] on to a port of this machine while it lives. With no door they are refused at once.
struct Door(#[expect(dead_code, reason = "it acts by its drop")] Guard);

impl Door {
    #[track_caller]
    fn open(to: u16) -> Door {
        let (from, to) = (PORT.to_string(), to.to_string());
        let rule = ["OUTPUT", "-d", ADDRESS, "-p", "tcp", "--dport", &from, "-j", "REDIRECT", "--to-ports", &to];
        let guard = Guard::new(r#"iptables -w -t nat -D "$@""#, &rule);
        run("iptables", &[&["-w", "-t", "nat", "-A"], &rule[..]].concat());
        Door(guard)
    }
}

/// When, after the router was back, each device dialled it for the first time, and when it had joined.
struct Return {
    dials: Vec<Duration>,
    joins: Vec<Duration>,
    /// Everything declared was there again.
    whole: Duration,
}

impl Fleet {
    /// Starts all at once and waits until all are there with all they declare.
    fn start(size: usize) -> Fleet {
        let devices = (0..size).map(|n| (format!("2-{}", 1000 + n), format!("secret of {n}"))).collect();
        let router = Router::start(&[], devices);
        let door = Some(Door::open(router.port));
        let (mut handles, mut events) = (Vec::new(), Vec::new());
        for number in 0..size {
            let (sender, own) = unbounded();
            let handle = wamp::spawn(settings(&router, number), sender, |event| event, |_| {});
            handles.push(handle.expect("two threads for a session"));
            events.push(own);
            for n in 0..PROCEDURES {
                let entry = Declaration::Procedure(format!("re.mgmt.fleet-{number}.procedure_{n}"));
                handles[number].send(Command::Declare { entry, phase: Phase::Open });
            }
        }
        let (all, seen) = unbounded();
        reagent::thread::spawn("fleet-events", |_| {}, move || collect(&events, &all)).expect("a thread");
        let fleet = Fleet { handles, seen, door, router };
        fleet.all_open("the start", clock::mono());
        fleet
    }

    /// The router is killed, and another one takes connections in its place so much later.
    fn outage(&mut self, length: Duration) -> Return {
        // Crossbar takes seconds to start: the next one waits behind the door.
        let next = Router::start(&[], self.router.devices.clone());
        self.seen.try_iter().for_each(drop);
        let killed = clock::mono();
        self.door = None;
        self.router.kill9();
        self.router = next;
        let back = killed + length;
        std::thread::sleep(back.saturating_sub(clock::mono()));
        self.door = Some(Door::open(self.router.port));
        self.all_open("the outage", back)
    }

    /// Waits until each device has opened a session.
    fn all_open(&self, after: &str, back: Duration) -> Return {
        let mut open = BTreeMap::new();
        let (mut dials, mut joins) = (BTreeMap::new(), BTreeMap::new());
        let deadline = clock::mono() + LIMIT;
        while open.len() < self.handles.len() {
            let left = deadline.saturating_sub(clock::mono());
            let Ok((device, at, event)) = self.seen.recv_timeout(left) else {
                panic!("after {after} {} of {} are there within {LIMIT:?}", open.len(), self.handles.len());
            };
            match event {
                Event::Joined { generation, .. } => {
                    joins.insert(device, at.saturating_sub(back));
                    self.handles[device].send(Command::Open { generation });
                }
                Event::Opened { failed, .. } if failed.is_empty() => drop(open.insert(device, at.saturating_sub(back))),
                Event::Left { .. } => drop((joins.remove(&device), open.remove(&device))),
                Event::AttemptFailed { retry_in, .. } if at + retry_in >= back => {
                    dials.entry(device).or_insert(at + retry_in - back);
                }
                Event::GaveUp(refusal) => panic!("device {device} gave up: {refusal:?}"),
                _ => {}
            }
        }
        let whole = open.into_values().max().unwrap_or_default();
        Return { dials: dials.into_values().collect(), joins: joins.into_values().collect(), whole }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for handle in self.handles.drain(..) {
            handle.send(Command::Stop);
        }
    }
}

fn settings(router: &Router, number: usize) -> Settings {
    let (authid, secret) = router.devices[number].clone();
    let testament = json!({"swarm_key": 2, "device_key": 1000 + number, "serial_number": format!("fleet-{number}")});
    Settings {
        url: format!("ws://{ADDRESS}:{PORT}/ws-re-dev"),
        realm: "realm1".to_owned(),
        authid,
        secret: Secret::new(secret),
        client_certificate: None,
        claim: format!("re.mgmt.fleet-{number}.wamp_connection_established"),
        testament: Some(Testament {
            topic: "reswarm.api.testament_device".to_owned(),
            payload: testament.as_object().cloned().unwrap_or_default(),
        }),
        connect_timeout: Duration::from_millis(1250),
        response_timeout: Duration::from_secs(5),
        ping_interval: Duration::ZERO,
        time_floor: Wall::from_unix(0),
    }
}

/// Numbers and stamps what comes, until all clients have ended.
fn collect(events: &[Receiver<Event>], all: &Sender<Seen>) {
    let mut select = Select::new();
    for own in events {
        select.recv(own);
    }
    let mut left = events.len();
    while left > 0 {
        let ready = select.select();
        let device = ready.index();
        match ready.recv(&events[device]) {
            Ok(event) => drop(all.send((device, clock::mono(), event))),
            Err(_) => {
                select.remove(device);
                left -= 1;
            }
        }
    }
}

/// How many joined in each second, the last one not empty.
fn histogram(joins: &[Duration]) -> Vec<usize> {
    let mut seconds = Vec::new();
    for join in joins {
        let second = usize::try_from(join.as_secs()).expect("minutes at most");
        seconds.resize(seconds.len().max(second + 1), 0);
        seconds[second] += 1;
    }
    seconds
}

/// Resident memory and threads of this process.
fn usage() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").expect("this is Linux");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("every kernel tells");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    };
    (field("VmRSS:"), field("Threads:"))
}

/// What the back-off brings in the busiest second: of the whole fleet, after an outage of so many seconds.
/// `wamp::dial::fleet` counts it over so many devices that chance plays no part: at most a quarter, and a tenth.
const BUSIEST: [(u64, f64); 2] = [(5, 0.245), (30, 0.056)];

/// The most that a run of this size may show. Each device is a draw of its own, so the number that comes in one second
/// scatters around `size * part` with a standard deviation of `sqrt(size * part * (1 - part))`: for 300 devices 73 with 7.4
/// after 5 s, and 17 with 4.0 after 30 s. One run in three is above a quarter by chance alone. Four standard deviations
/// (103 of 300, and 33) are exceeded once in thousands of runs, even by the largest of thirty seconds, and a fleet that
/// comes in step exceeds them each time.
fn most(size: usize, part: f64) -> f64 {
    let mean = size as f64 * part;
    mean + 4.0 * (mean * (1.0 - part)).sqrt()
}

/// `FLEET=300` (`make fleet`) takes that many devices and a second outage, of 30 s.
#[test]
fn c9_a_fleet_comes_back_spread_over_time_after_its_router_was_away() {
    let wanted = std::env::var("FLEET").ok().map(|size| size.parse::<usize>().expect("FLEET is a number"));
    let size = wanted.unwrap_or(40);
    let before = usage();
    let mut fleet = Fleet::start(size);
    let after = usage();
    let each = (after.0.saturating_sub(before.0)) / size as u64;
    eprintln!(
        "{size} sessions: {each} KiB and {:.1} threads each",
        after.1.saturating_sub(before.1) as f64 / size as f64
    );
    eprintln!("| outage | joins in each second | busiest | first dials in each second | busiest | whole after |");
    eprintln!("| --- | --- | --- | --- | --- | --- |");
    let outages = if wanted.is_some() { &BUSIEST[..] } else { &BUSIEST[..1] };
    let mut herds = Vec::new();
    for &(seconds, part) in outages {
        let Return { dials, joins, whole } = fleet.outage(Duration::from_secs(seconds));
        let busiest = |times: &[Duration]| histogram(times).into_iter().max().unwrap_or_default();
        let percent = |times: &[Duration]| format!("{:.1} %", 100.0 * busiest(times) as f64 / size as f64);
        let list = |times: &[Duration]| histogram(times).iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
        eprintln!(
            "| {seconds} s | {} | {} | {} | {} | {:.1} s |",
            list(&joins),
            percent(&joins),
            list(&dials),
            percent(&dials),
            whole.as_secs_f64()
        );
        assert_eq!(joins.len(), size);
        let seen = busiest(&joins);
        if seen as f64 > most(size, part) {
            herds.push(format!("{seen} of {size} in one second after {seconds} s"));
        }
    }
    assert!(herds.is_empty(), "{herds:?}");
}
