//! What a network does to a session, case by case, and how long the agent takes (decisions 9, 10, 12, 17).
//!
//! Each [`Site`] goes through its cases one after the other, the sites side by side. After each case everything is back on
//! the router, nothing is left over in the process, and the container was never touched.

use super::site::{Flood, LIMIT, Site, app};
use crate::util::docker_daemon::DockerDaemon;
use crate::util::{Agent, Options, wait_until};
use reagent::{clock, thread};
use serde_json::json;
use std::time::Duration;

const S: fn(u64) -> Duration = Duration::from_secs;
/// A dead link is found within 45 s; what the measuring itself may take comes on top.
const DETECTION: Duration = Duration::from_secs(45 + 2);
/// From the first dial that the router takes until everything is back (C6).
const RESTORATION: Duration = Duration::from_secs(5);

/// A line of the table.
struct Row {
    case: &'static str,
    /// From the fault until the agent gave the session up.
    detected: Option<Duration>,
    /// From the moment at which a dial could succeed until CONNECTED.
    restored: Option<Duration>,
    /// The same from the dial that did.
    dialled: Option<Duration>,
    note: String,
}

impl Row {
    /// The session outlived the fault.
    fn kept(case: &'static str, note: String) -> Row {
        Row { case, detected: None, restored: None, dialled: None, note }
    }
}

type Case = fn(&mut Site) -> Vec<Row>;

/// Begins a fault, waits until the agent has noticed it and one dial has failed, ends it, and waits until all is back.
/// Returns the id of the session that was lost, too.
#[track_caller]
fn outage(case: &'static str, site: &mut Site, begin: fn(&mut Site), end: fn(&mut Site)) -> (Row, u64) {
    site.settle();
    let (old, mark) = (site.session(), site.backend.mark());
    let began = clock::mono();
    begin(site);
    let noticed = site.log.wait_for(began, "session left: ");
    site.log.wait_for(noticed, " failed: ");
    end(site);
    let back = clock::mono();
    let connected = site.wait_for_other(old, mark).at;
    let row = measured(case, site, (began, noticed, back, connected));
    assert!(row.detected.is_some_and(|took| took <= DETECTION), "{case}: noticed after {:?}", row.detected);
    assert!(row.dialled.is_some_and(|took| took <= RESTORATION), "{case}: back {:?} after the dial", row.dialled);
    site.assert_whole();
    (row, old)
}

fn measured(case: &'static str, site: &Site, times: (Duration, Duration, Duration, Duration)) -> Row {
    let (began, noticed, back, connected) = times;
    let joined = site.log.last_before(connected, "joined ").expect("the join is logged");
    let dialled = site.log.last_before(joined, "dial ").expect("the dial is logged");
    let reason = site.log.lines().into_iter().rev().find_map(|(at, line)| {
        let reason = line.split("session left: ").nth(1)?;
        (at <= noticed).then(|| reason.trim_end_matches(['"', '}']).to_owned())
    });
    Row {
        case,
        detected: Some(noticed - began),
        restored: Some(connected.saturating_sub(back)),
        dialled: Some(connected - dialled),
        note: reason.unwrap_or_default(),
    }
}

/// [`outage`] of the path: the router sees the old session die, too, and publishes its testament.
#[track_caller]
fn of_the_path(case: &'static str, site: &mut Site, begin: fn(&mut Site), end: fn(&mut Site)) -> Vec<Row> {
    let (row, old) = outage(case, site, begin, end);
    site.assert_testament_of(old);
    vec![row]
}

fn cable(site: &mut Site) -> Vec<Row> {
    of_the_path("cable pulled", site, |site| site.link.unplug(), |site| site.link.plug())
}

fn address(site: &mut Site) -> Vec<Row> {
    of_the_path("address removed", site, |site| site.link.remove_address(), |site| site.link.restore_address())
}

fn black_hole(site: &mut Site) -> Vec<Row> {
    of_the_path("black hole", site, |site| site.link.black_hole(), |site| site.link.clear())
}

fn outbound_lost(site: &mut Site) -> Vec<Row> {
    let begin = |site: &mut Site| site.link.swallow_outbound();
    of_the_path("one-way loss, device to router", site, begin, |site| site.link.clear())
}

fn inbound_lost(site: &mut Site) -> Vec<Row> {
    let begin = |site: &mut Site| site.link.swallow_inbound();
    of_the_path("one-way loss, router to device", site, begin, |site| site.link.clear())
}

fn reset(site: &mut Site) -> Vec<Row> {
    let begin = |site: &mut Site| {
        site.link.abort_connections();
        site.link.reset();
    };
    of_the_path("RST", site, begin, |site| site.link.clear())
}

/// The router comes back behind a closed door: a device that overtakes the backend meets procedures that are not there yet.
fn come_back(site: &mut Site) {
    site.link.reset();
    site.router.come_back();
    let ours = |site: &Site| {
        site.backend.session().is_some_and(|id| {
            let sessions = site.router.user().call("wamp.session.list", vec![], serde_json::Map::new(), LIMIT);
            sessions.is_ok_and(|list| list.args[0].as_array().is_some_and(|all| all.contains(&json!(id))))
        })
    };
    wait_until(LIMIT, "the backend is back", || ours(site).then_some(()));
    site.link.clear();
}

fn killed(site: &mut Site) -> Vec<Row> {
    vec![outage("router killed (SIGKILL), restarted", site, |site| site.router.kill9(), come_back).0]
}

fn frozen(site: &mut Site) -> Vec<Row> {
    let end = |site: &mut Site| {
        // 60 s in all, most of which the agent has spent noticing.
        std::thread::sleep(S(15));
        site.router.thaw();
        let user = site.router.user();
        user.call("wamp.session.count", vec![], serde_json::Map::new(), LIMIT).expect("the router answers again");
    };
    vec![outage("router frozen (SIGSTOP) 60 s", site, |site| site.router.freeze(), end).0]
}

fn killed_under_load(site: &mut Site) -> Vec<Row> {
    let container = app().container();
    let lines = site.backend.subscribe_logs(&container);
    let flood = Flood::start(&site.engine, &container, 1000);
    lines.recv_timeout(LIMIT).expect("the flood arrives");
    let row = outage("router killed under a log flood", site, |site| site.router.kill9(), come_back).0;
    lines.try_iter().for_each(drop);
    lines.recv_timeout(LIMIT).expect("the flood arrives again");
    drop(flood);
    site.backend.unsubscribe_logs(&container);
    vec![row]
}

/// Every session is taken for a stable one by a clock that skips a minute: without that, the back-off of decision 10 would
/// make this case twelve minutes long (45 waits of 15 s on the average).
fn fifty_drops(site: &mut Site) -> Vec<Row> {
    let mut slowest = (Duration::ZERO, None);
    for drop in 0..50 {
        site.clock.skip(S(61));
        site.call("device_handshake", vec![]).expect("the session is up");
        let (old, mark) = (site.session(), site.backend.mark());
        let began = clock::mono();
        site.link.abort_connections();
        let noticed = site.log.wait_for(began, "session left: ");
        let connected = site.wait_for_other(old, mark).at;
        let row = measured("50 drops in a row, the slowest", site, (began, noticed, noticed, connected));
        assert!(row.dialled.is_some_and(|took| took <= RESTORATION), "drop {drop}: {:?} after the dial", row.dialled);
        if row.restored.is_some_and(|took| took >= slowest.0) {
            slowest = (connected - noticed, Some(row));
        }
    }
    site.assert_whole();
    slowest.1.into_iter().collect()
}

fn same_serial(site: &mut Site) -> Vec<Row> {
    site.settle();
    let (session, before) = (site.session(), clock::mono());
    let engine = DockerDaemon::start();
    let env = vec![("DOCKER_HOST".to_owned(), engine.host())];
    let mut second = Agent::start(Options { env, flags: vec![], ..site.agent.options.clone() });
    let status = second.wait_exit(LIMIT);
    let line = format!("out: a WAMP connection for {} already exists", site.backend.identity.serial);
    assert_eq!(status.code(), Some(1));
    assert!(second.output().contains(&line), "{:?}", second.output());
    let dials = second.log().lines().filter(|line| line.contains("dial ") && line.contains(" to ws://")).count();
    assert_eq!(dials, 8, "eight refusals");
    assert_eq!(site.session(), session, "the first is untouched");
    assert!(site.log.last_before(Duration::MAX, "session left: ").is_none_or(|at| at < before));
    site.assert_whole();
    vec![Row::kept("second agent with the same serial", "the second exits with 1 after 8 refusals".to_owned())]
}

fn wrong_secret(site: &mut Site) -> Vec<Row> {
    let begin = |site: &mut Site| {
        site.router.kill9();
        "another secret".clone_into(&mut site.router.devices[0].1);
        site.router.come_back();
        let began = clock::mono();
        let refused = |site: &Site| {
            let lines = site.log.lines();
            lines.iter().filter(|(at, line)| *at > began && line.contains("signature is invalid")).count()
        };
        wait_until(LIMIT, "five refusals", || (refused(site) >= 5).then_some(()));
        site.router.kill9();
        site.router.devices[0].1.clone_from(&site.backend.identity.secret);
    };
    vec![outage("wrong secret five times, then right", site, begin, come_back).0]
}

fn clock_jumps(site: &mut Site) -> Vec<Row> {
    site.settle();
    let (session, before) = (site.session(), clock::mono());
    for hours in [6, -12] {
        site.clock.set_wall(hours * 3600);
        let told = site.call("device_handshake", vec![]).expect("it answers").kwargs["utp"].clone();
        let there = clock::wall().seconds + hours * 3600;
        let told = clock::Wall::parse(told.as_str().expect("a text")).expect("a time").seconds;
        assert!((told - there).abs() < 60, "the agent's clock has jumped: {told}, not {there}");
        let mark = site.backend.mark();
        site.backend.wait_for_status(S(45), mark, "CONNECTED");
    }
    site.clock.set_wall(0);
    assert_eq!(site.session(), session);
    assert!(site.log.last_before(Duration::MAX, "session left: ").is_none_or(|at| at < before));
    site.assert_whole();
    vec![Row::kept("wall clock jumps by +6 h, -18 h, +12 h", "kept over a ping and a heartbeat each".to_owned())]
}

/// Calls over a path that is bad but there; the times of the calls.
fn calls(site: &Site, count: usize) -> Vec<Duration> {
    let call = |_| {
        let began = clock::mono();
        site.call("device_handshake", vec![]).expect("it answers");
        clock::mono() - began
    };
    let mut took: Vec<Duration> = (0..count).map(call).collect();
    took.sort();
    took
}

/// Seven and a half round trips are 3.8 s, and each lost packet costs TCP 0.2 s more. A packet that is lost three times in a
/// row costs 1.4 s: one join in some hundreds takes longer than the limit for that.
fn long_way(site: &mut Site) -> Vec<Row> {
    const CASE: &str = "500 ms round trip, 5 % loss: kept";
    site.settle();
    let session = site.session();
    site.link.lose_one_in(20);
    let took = calls(site, 40);
    assert_eq!(site.session(), session);
    let note = format!("40 calls: median {} ms, max {} ms", took[20].as_millis(), took[39].as_millis());
    let kept = Row::kept(CASE, note);
    let begin = |site: &mut Site| {
        site.link.abort_connections();
        site.link.reset();
    };
    let end = |site: &mut Site| {
        site.link.clear();
        site.link.lose_one_in(20);
    };
    let mut joins = Vec::new();
    for _ in 0..3 {
        site.link.clear();
        joins.extend(of_the_path("the same: RST, then joined over it, the slowest of three", site, begin, end));
    }
    site.link.clear();
    [kept].into_iter().chain(joins.into_iter().max_by_key(|row| row.dialled)).collect()
}

/// Lines of 100 bytes per second: a hundred times what 64 kbit/s carry.
const NARROW: u32 = 10_000;

fn narrow_way(site: &mut Site) -> Vec<Row> {
    site.settle();
    let session = site.session();
    let container = app().container();
    let lines = site.backend.subscribe_logs(&container);
    site.link.limit(64);
    let flood = Flood::start(&site.engine, &container, NARROW);
    lines.recv_timeout(LIMIT).expect("the flood arrives");
    let (took, quiet) = (calls(site, 20), S(40));
    std::thread::sleep(quiet);
    assert_eq!(site.session(), session);
    // What is under way on such a link takes seconds, but it is little: see `wamp::lane::pace`.
    assert!(took[19] < S(20), "{took:?}");
    drop(flood);
    site.backend.unsubscribe_logs(&container);
    let note = format!("20 calls: median {} ms, max {} ms", took[10].as_millis(), took[19].as_millis());
    let mut rows = vec![Row::kept("64 kbit/s under a log flood: kept", note)];
    let begin = |site: &mut Site| {
        site.link.abort_connections();
        site.link.reset();
    };
    let end = |site: &mut Site| {
        site.link.clear();
        site.link.limit(64);
    };
    rows.extend(of_the_path("the same: RST, then joined over it", site, begin, end));
    site.link.clear();
    rows
}

/// The cases of one site, in order.
struct Course {
    delay: Option<Duration>,
    cases: &'static [Case],
}

const SHORT: &[Course] = &[
    Course { delay: None, cases: &[killed, fifty_drops] },
    Course { delay: None, cases: &[black_hole, same_serial] },
    Course { delay: None, cases: &[cable, reset] },
];

const LONG: &[Course] = &[
    Course { delay: None, cases: &[killed, reset, fifty_drops, same_serial] },
    Course { delay: None, cases: &[black_hole, outbound_lost] },
    Course { delay: None, cases: &[inbound_lost, wrong_secret, killed_under_load] },
    Course { delay: None, cases: &[cable, address] },
    Course { delay: None, cases: &[frozen, clock_jumps] },
    Course { delay: None, cases: &[narrow_way] },
    Course { delay: Some(Duration::from_millis(250)), cases: &[long_way] },
];

fn print(rows: &[Row]) {
    let seconds = |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()));
    eprintln!("| case | detected after | restored after the network was back | of that, after the dial | |");
    eprintln!("| --- | --- | --- | --- | --- |");
    for Row { case, detected, restored, dialled, note } in rows {
        let times = [detected, restored, dialled].map(|time| seconds(*time)).join(" | ");
        eprintln!("| {case} | {times} | {note} |");
    }
}

/// `FAULTS=long` (`make faults`) goes through all cases, else through those that a change is most likely to break.
#[test]
fn c3_c4_c5_c6_a_session_is_back_after_whatever_a_network_does_and_no_container_is_touched() {
    let courses = if std::env::var("FAULTS").is_ok_and(|form| form == "long") { LONG } else { SHORT };
    let began = clock::mono();
    let (done, results) = crossbeam_channel::unbounded();
    for course in courses {
        let (rows, done) = (done.clone(), done.clone());
        let exit = move |exit| {
            if let thread::Exit::Panicked(text) = exit {
                let _ = done.send(Err(text));
            }
        };
        let run = move || {
            let mut site = Site::start(course.delay);
            for case in course.cases {
                let _ = rows.send(Ok(case(&mut site)));
            }
            // The last session left its testament with the router, too.
            let session = site.session();
            site.agent.kill9();
            site.assert_testament_of(session);
        };
        thread::spawn_with_stack("site", 2 << 20, exit, run).expect("a thread");
    }
    drop(done);
    let (rows, failures): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    let rows: Vec<Row> = rows.into_iter().flat_map(Result::unwrap_or_default).collect();
    print(&rows);
    eprintln!("{} cases in {:.0} s", rows.len(), (clock::mono() - began).as_secs_f64());
    let failures: Vec<String> = failures.into_iter().filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{failures:#?}");
}
