//! The streams of an app, without threads: what is ordered for what happens.

use super::*;
use crate::clock::Wall;
use crate::logs::listing::Found;
use crate::logs::source::{OpenError, Start};

const APP: &str = "prod_6_app";
const PROJECT: &str = "prod_6_app_compose";

fn at(seconds: u64) -> Now {
    Now { mono: Duration::from_secs(seconds), wall: Wall::from_unix(2_000_000_000) }
}

fn stamped(second: u32, text: &str) -> String {
    format!("2026-08-04T09:05:{second:02}Z {text}")
}

fn wall(second: u32) -> Wall {
    Wall::parse(&format!("2026-08-04T09:05:{second:02}Z")).unwrap()
}

fn running(label: &str) -> Found {
    let container = format!("{PROJECT}-{label}");
    Found { container, label: label.to_owned(), running: true, ..Found::default() }
}

fn ended(label: &str, run: &str) -> Found {
    Found { running: false, run: run.to_owned(), ..running(label) }
}

fn listing(members: Vec<Found>, lines: &[(&str, String)]) -> End {
    let lines = lines.iter().map(|(label, line)| (format!("{PROJECT}-{label}"), line.clone())).collect();
    End::Listed(Listing { project: PROJECT.to_owned(), members, lines, left_out: 0 })
}

/// An app's streams, and which of them are open.
struct Bench {
    streams: Streams,
    open: BTreeMap<u32, Task>,
}

impl Bench {
    fn new() -> Bench {
        Bench { streams: Streams::new(APP), open: BTreeMap::new() }
    }

    /// What was ordered, in words: the container or `list`, and where it begins; `detach` with what is cancelled.
    fn obey(&mut self, acts: Vec<Act>) -> Vec<String> {
        let name = |container: &str| container.trim_start_matches(PROJECT).trim_start_matches('-').to_owned();
        let mut orders = Vec::new();
        for act in acts {
            orders.push(match act {
                Act::Attach(stream, task) => {
                    assert_eq!(stream.app, APP);
                    let words = match &task {
                        Task::List { project, .. } => format!("list {project}"),
                        Task::Follow { container, from } => match from.start {
                            Start::Tail(lines) => format!("{} tail {lines}", name(container)),
                            Start::Since(since) => format!("{} since :{:02}", name(container), since.civil().5),
                        },
                    };
                    let target = |task: &Task| match task {
                        Task::Follow { container, .. } => container.clone(),
                        Task::List { .. } => "list".to_owned(),
                    };
                    assert!(self.open.values().all(|other| target(other) != target(&task)), "a second {words}");
                    assert_eq!(self.open.insert(stream.number, task), None);
                    words
                }
                Act::Detach(stream) => match &self.open[&stream.number] {
                    Task::Follow { container, .. } => format!("detach {}", name(container)),
                    Task::List { .. } => "detach list".to_owned(),
                },
                Act::GiveUp(reason) => format!("gave up {reason}"),
            });
        }
        orders.sort();
        orders
    }

    fn follow(&mut self, now: u64) -> Vec<String> {
        let acts = self.streams.follow(at(now), Some(PROJECT.to_owned()));
        self.obey(acts)
    }

    fn unfollow(&mut self) -> Vec<String> {
        let acts = self.streams.unfollow(at(0));
        self.obey(acts)
    }

    fn due(&mut self, now: u64) -> Vec<String> {
        let acts = self.streams.due(at(now));
        self.obey(acts)
    }

    /// The open stream of a container, or the listing.
    #[track_caller]
    fn number(&self, label: &str) -> u32 {
        let is = |task: &Task| match task {
            Task::Follow { container, .. } => container.ends_with(label),
            Task::List { .. } => label == "list",
        };
        let found = self.open.iter().find(|(_, task)| is(task));
        *found.unwrap_or_else(|| panic!("no {label} in {:?}", self.open)).0
    }

    #[track_caller]
    fn known(&self, label: &str) -> Known {
        let Task::List { known, .. } = &self.open[&self.number("list")] else { panic!("no listing") };
        known[&format!("{PROJECT}-{label}")].clone()
    }

    #[track_caller]
    fn hear(&mut self, label: &str, line: String) -> Option<String> {
        let number = self.number(label);
        self.streams.hear(&Stream { app: APP.to_owned(), number }, line)
    }

    /// Ends a stream or the listing: orders and lines.
    #[track_caller]
    fn end(&mut self, now: u64, label: &str, end: End) -> (Vec<String>, Vec<String>) {
        let number = self.number(label);
        self.open.remove(&number);
        let ended = self.streams.ended(at(now), &Stream { app: APP.to_owned(), number }, end);
        (self.obey(ended.acts), ended.lines)
    }
}

/// A project of which `web-1` and `side-1` are followed.
fn followed() -> Bench {
    let mut bench = Bench::new();
    assert_eq!(bench.follow(0), [format!("list {PROJECT}")]);
    let (orders, lines) = bench.end(0, "list", listing(vec![running("side-1"), running("web-1")], &[]));
    assert_eq!((orders, lines), (vec!["side-1 tail 100".to_owned(), "web-1 tail 100".to_owned()], vec![]));
    bench
}

fn exited(code: i64, run: &str) -> End {
    End::Exited { code: Some(code), run: run.to_owned() }
}

#[test]
fn every_container_that_runs_is_followed_and_shown_under_its_name() {
    let mut bench = followed();
    assert_eq!(bench.hear("web-1", stamped(1, "a")).as_deref(), Some("web-1   | a"));
    assert_eq!(bench.hear("side-1", stamped(1, "")).as_deref(), Some("side-1  | "));
    assert_eq!(bench.hear("web-1", "the rest of a long line".to_owned()).unwrap(), "web-1   | the rest of a long line");
    assert!(!bench.streams.is_idle());
}

#[test]
fn what_nobody_has_heard_comes_with_the_listing_and_streams_go_on_from_there() {
    let mut bench = Bench::new();
    bench.follow(0);
    let dropped = Found { last: Some((wall(3), 2)), ..running("old-1") };
    let found = vec![ended("init-1", "r1"), dropped, running("mute-1"), running("web-1")];
    let lines = [("init-1", stamped(4, "made")), ("web-1", stamped(5, "a")), ("web-1", stamped(5, "b"))];
    let (orders, lines) = bench.end(0, "list", listing(found, &lines));
    assert_eq!(lines, ["init-1  | made", "web-1   | a", "web-1   | b"]);
    assert_eq!(orders, ["mute-1 tail 100", "old-1 since :02", "web-1 since :04"]);
    assert_eq!(bench.hear("web-1", stamped(5, "a")), None);
    assert_eq!(bench.hear("web-1", stamped(5, "b")), None);
    assert_eq!(bench.hear("web-1", stamped(5, "c")).as_deref(), Some("web-1   | c"));
    assert_eq!(bench.hear("old-1", stamped(3, "one")), None);
    assert_eq!(bench.hear("old-1", stamped(3, "two")), None);
    assert_eq!(bench.hear("old-1", stamped(6, "three")).as_deref(), Some("old-1   | three"));
    bench.follow(1);
    assert_eq!(bench.known("init-1"), Known { open: false, since: Some(wall(3)), run: "r1".to_owned() });
    assert_eq!(bench.known("web-1"), Known { open: true, since: Some(wall(4)), run: String::new() });
}

#[test]
fn d4_each_wish_to_follow_lists_once_more_and_doubles_no_stream() {
    let mut bench = followed();
    assert_eq!(bench.follow(1), [format!("list {PROJECT}")]);
    assert_eq!(bench.follow(1), Vec::<String>::new(), "one is under way");
    assert_eq!(bench.follow(1), Vec::<String>::new());
    let found = vec![running("new-1"), running("side-1"), running("web-1")];
    let (orders, _) = bench.end(1, "list", listing(found.clone(), &[]));
    assert_eq!(
        orders,
        [format!("list {PROJECT}"), "new-1 tail 100".to_owned()],
        "one more for all that came meanwhile"
    );
    assert_eq!(bench.end(1, "list", listing(found, &[])), (vec![], vec![]));
}

#[test]
fn a_container_that_ends_says_so_once_for_each_of_its_runs() {
    let mut bench = followed();
    bench.hear("web-1", stamped(1, "a"));
    let (orders, lines) = bench.end(1, "web-1", exited(137, "r1"));
    assert_eq!((orders, lines), (vec![], vec!["web-1 exited with code 137".to_owned()]));
    assert_eq!(bench.due(2), ["web-1 since :00"], "it may be running again by now");
    let (orders, lines) = bench.end(2, "web-1", exited(137, "r1"));
    assert_eq!((orders, lines), (vec!["gave up web-1: the log ended".to_owned()], vec![]));
    assert!(!bench.streams.is_idle(), "there is the other one");
    bench.follow(3);
    assert_eq!(bench.known("web-1").run, "r1");
    let (orders, _) = bench.end(3, "list", listing(vec![running("side-1"), running("web-1")], &[]));
    assert_eq!(orders, ["web-1 since :00"]);
    let gone = End::Exited { code: None, run: "r2".to_owned() };
    assert_eq!(bench.end(4, "web-1", gone).1, ["web-1 exited"]);
}

#[test]
fn a_run_between_two_listings_is_shown_from_where_the_last_one_was_heard() {
    let mut bench = followed();
    bench.hear("web-1", stamped(1, "a"));
    bench.end(1, "web-1", exited(0, "r1"));
    bench.due(2);
    bench.end(2, "web-1", exited(0, "r1"));
    bench.follow(3);
    let lines = [("web-1", stamped(1, "a")), ("web-1", stamped(2, "b"))];
    let (orders, lines) = bench.end(3, "list", listing(vec![running("side-1"), ended("web-1", "r2")], &lines));
    assert_eq!((orders, lines), (vec![], vec!["web-1   | b".to_owned()]));
    bench.follow(4);
    assert_eq!(bench.known("web-1"), Known { open: false, since: Some(wall(1)), run: "r2".to_owned() });
}

#[test]
fn lines_of_a_listing_are_not_shown_beside_a_stream_that_was_opened_meanwhile() {
    let mut bench = followed();
    bench.hear("web-1", stamped(1, "a"));
    bench.end(1, "web-1", End::Eof);
    bench.follow(1);
    assert!(!bench.known("web-1").open);
    assert_eq!(bench.due(2), ["web-1 since :00"]);
    let lines = [("web-1", stamped(1, "a")), ("web-1", stamped(2, "b"))];
    assert_eq!(bench.end(2, "list", listing(vec![running("side-1"), running("web-1")], &lines)), (vec![], vec![]));
    assert_eq!(bench.hear("web-1", stamped(1, "a")), None);
    assert_eq!(bench.hear("web-1", stamped(2, "b")).as_deref(), Some("web-1   | b"));
}

#[test]
fn s1_containers_that_are_gone_are_forgotten_with_the_next_listing() {
    let mut bench = followed();
    for n in 0..1000 {
        let label = format!("job-{n}");
        bench.follow(n);
        bench.end(n, "list", listing(vec![running("web-1"), running(&label)], &[]));
        assert!(bench.streams.members.len() <= 4, "{:?}", bench.streams.members.keys());
        bench.end(n, &label, exited(0, "r"));
        bench.due(n + 1);
        bench.end(n + 1, &label, End::Refused(OpenError::NotFound));
    }
    assert_eq!(bench.open.len(), 2);
}

#[test]
fn unfollow_ends_everything_and_a_wish_meanwhile_waits_for_the_ends() {
    let mut bench = followed();
    bench.follow(1);
    assert_eq!(bench.unfollow(), ["detach list", "detach side-1", "detach web-1"]);
    assert_eq!(bench.unfollow(), Vec::<String>::new());
    assert!(bench.streams.is_idle() && bench.streams.has_stream());
    let broken = || End::Broken("cancelled".to_owned());
    assert_eq!(bench.end(1, "web-1", exited(0, "r")), (vec![], vec![]), "nobody wants to know");
    assert_eq!(bench.follow(2), Vec::<String>::new());
    assert_eq!(bench.end(2, "list", broken()).0, [format!("list {PROJECT}")]);
    let (orders, _) = bench.end(2, "list", listing(vec![running("side-1"), running("web-1")], &[]));
    assert_eq!(orders, ["web-1 tail 100"]);
    assert_eq!(bench.end(2, "side-1", broken()).0, ["side-1 tail 100"]);
    bench.unfollow();
    for label in ["web-1", "side-1"] {
        bench.end(3, label, broken());
    }
    assert!(!bench.streams.has_stream() && bench.streams.deadline().is_none());
    assert_eq!(bench.due(9999), Vec::<String>::new());
}

#[test]
fn a_listing_that_fails_is_tried_again_five_times_and_then_with_the_next_wish() {
    let mut bench = Bench::new();
    bench.follow(0);
    let mut now = 0;
    let failed = || End::Refused(OpenError::Failed("no engine".to_owned()));
    for wait in [1, 2, 4, 8] {
        assert_eq!(bench.end(now, "list", failed()), (vec![], vec![]));
        assert_eq!(bench.streams.deadline(), Some(at(now + wait).mono));
        now += wait;
        assert_eq!(bench.due(now), [format!("list {PROJECT}")]);
    }
    assert_eq!(bench.end(now, "list", failed()).0, ["gave up the project: no engine"]);
    assert!(bench.streams.is_idle());
    assert_eq!(bench.follow(now), [format!("list {PROJECT}")]);
    bench.end(now, "list", failed());
    assert_eq!(bench.follow(now), [format!("list {PROJECT}")], "a wish does not wait");
}

#[test]
fn a_listing_that_comes_after_the_unfollow_or_of_another_project_is_void() {
    let mut bench = Bench::new();
    bench.follow(0);
    bench.unfollow();
    assert_eq!(bench.end(0, "list", listing(vec![running("web-1")], &[])), (vec![], vec![]));
    bench.follow(0);
    let acts = bench.streams.follow(at(0), Some("another".to_owned()));
    assert_eq!(bench.obey(acts), ["detach list"]);
    assert_eq!(bench.end(0, "list", listing(vec![running("web-1")], &[])), (vec!["list another".to_owned()], vec![]));
}

#[test]
fn an_app_that_becomes_a_project_and_back_leaves_nothing_behind() {
    let mut bench = Bench::new();
    let acts = bench.streams.follow(at(0), None);
    assert_eq!(bench.obey(acts), [format!("{APP} tail 100")]);
    assert_eq!(bench.hear(APP, stamped(1, "plain")).as_deref(), Some("plain"));
    assert_eq!(bench.follow(1), [format!("detach {APP}"), format!("list {PROJECT}")]);
    assert_eq!(bench.end(1, APP, exited(0, "r")), (vec![], vec![]));
    bench.end(1, "list", listing(vec![running("web-1")], &[]));
    assert_eq!(bench.streams.members.len(), 1);
    let acts = bench.streams.follow(at(2), None);
    assert_eq!(bench.obey(acts), ["detach web-1".to_owned(), format!("{APP} tail 100")]);
    assert_eq!(bench.end(2, "web-1", exited(0, "r")), (vec![], vec![]));
    assert_eq!(bench.streams.members.keys().collect::<Vec<_>>(), [APP]);
    assert_eq!(bench.end(2, APP, exited(0, "r")).1, Vec::<String>::new(), "a plain app has no such line");
}

#[test]
fn containers_beyond_the_limit_are_told_once() {
    let mut bench = Bench::new();
    let mut told = Vec::new();
    for left_out in [3, 3, 0, 5] {
        bench.follow(0);
        let listing = Listing { project: PROJECT.to_owned(), left_out, ..Listing::default() };
        told.extend(bench.end(0, "list", End::Listed(listing)).1);
    }
    assert_eq!(told, [project::left_out(3), project::left_out(5)]);
}

#[test]
fn s8_whatever_happens_there_is_at_most_one_stream_of_each_and_nothing_waits_for_nothing() {
    let mut seed = 7_u32;
    let mut random = |most: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % most
    };
    let (mut bench, mut now) = (Bench::new(), 0);
    for _ in 0..30_000 {
        now += u64::from(random(4));
        match random(6) {
            0 => drop(bench.follow(now)),
            1 if random(4) == 0 => drop(bench.unfollow()),
            2 if random(8) == 0 => {
                let acts = bench.streams.follow(at(now), None);
                bench.obey(acts);
            }
            3 => drop(bench.due(now)),
            _ if !bench.open.is_empty() => {
                let (&number, task) =
                    bench.open.iter().nth(random(u32::try_from(bench.open.len()).unwrap()) as usize).unwrap();
                let members: Vec<Found> = ["a-1", "b-1", "c-1", "d-1"]
                    .into_iter()
                    .filter_map(|label| {
                        [None, Some(running(label)), Some(ended(label, "r"))][random(3) as usize].clone()
                    })
                    .collect();
                let end = match (task, random(4)) {
                    (_, 0) => End::Broken(String::new()),
                    (_, 1) => End::Refused(OpenError::NotFound),
                    (Task::List { .. }, _) => listing(members, &[]),
                    (_, 2) => End::Quiet,
                    _ => exited(1, "r"),
                };
                bench.open.remove(&number);
                let ended = bench.streams.ended(at(now), &Stream { app: APP.to_owned(), number }, end);
                // This finds a second stream of a container.
                bench.obey(ended.acts);
            }
            _ => {}
        }
        assert_eq!(bench.streams.has_stream(), !bench.open.is_empty());
        assert!(bench.streams.members.len() <= 5);
        let waits = !bench.open.is_empty() || bench.streams.deadline().is_some();
        assert!(bench.streams.is_idle() || waits, "{:?} waits for nothing", bench.streams);
    }
}
