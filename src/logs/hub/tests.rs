//! The hub as a whole, without threads: what comes out for what goes in, at which time.

use super::*;
use crate::clock::Wall;
use crate::logs::source::OpenError;

mod projects;

const APP: &str = "prod_6_app";

/// A hub, its clock, and what it has ordered so far.
struct Desk {
    hub: Hub,
    now: Now,
    outputs: Vec<Output>,
}

impl Desk {
    /// No session.
    fn new() -> Desk {
        let now = Now { mono: Duration::from_secs(1000), wall: Wall::from_unix(2_000_000_000) };
        Desk { hub: Hub::new("serial", now), now, outputs: Vec::new() }
    }

    /// A session, and a viewer of `APP`.
    fn watched() -> Desk {
        let mut desk = Desk::new();
        desk.command(LogCommand::Session { up: true });
        desk.subscribe(1, APP);
        desk.take();
        desk
    }

    fn command(&mut self, command: LogCommand) {
        self.hub.command(self.now, command);
        self.outputs.extend(self.hub.take_outputs());
    }

    fn subscribe(&mut self, id: u64, container: &str) {
        let uri = format!("reswarm.logs.serial.{container}");
        self.command(LogCommand::SubscriptionCreated { args: vec![json!(7), json!({"id": id, "uri": uri})] });
    }

    fn unsubscribe(&mut self, id: u64) {
        self.command(LogCommand::SubscriptionDeleted { args: vec![json!(7), json!(id)] });
    }

    fn line(&mut self, container: &str, line: &str) {
        self.hub.fed(self.now, container, Fed::Line(line.to_owned()));
        self.outputs.extend(self.hub.take_outputs());
    }

    fn say(&mut self, text: &str) {
        self.command(LogCommand::Say { container: APP.to_owned(), text: text.to_owned() });
    }

    fn history(&mut self, container: &str) -> (Vec<String>, bool) {
        self.command(LogCommand::History { container: container.to_owned(), token: 5 });
        match self.outputs.pop() {
            Some(Output::Emit(Event::History { token: 5, container: of, lines, only_agent })) if of == container => {
                (lines, only_agent)
            }
            other => panic!("no history but {other:?}"),
        }
    }

    /// Lets time pass, obeying each deadline on its way.
    fn pass(&mut self, time: Duration) {
        let until = self.now.mono + time;
        while let Some(at) = self.hub.deadline().filter(|at| *at <= until) {
            self.now.mono = self.now.mono.max(at);
            self.hub.due(self.now);
            self.outputs.extend(self.hub.take_outputs());
            assert_ne!(self.hub.deadline(), Some(at), "it would spin");
        }
        self.now.mono = until;
    }

    fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// What was published, and forgets the rest.
    fn published(&mut self) -> Vec<Value> {
        let of_publish = |output| match output {
            Output::Publish(Publication { payload, topic, droppable }) => {
                assert!(topic.starts_with("reswarm.logs.serial."));
                assert_eq!(droppable, payload.is_string());
                Some(payload)
            }
            _ => None,
        };
        self.take().into_iter().filter_map(of_publish).collect()
    }

    /// The number of the stream that was ordered last.
    fn attached(&mut self) -> Stream {
        match self.take().pop() {
            Some(Output::Attach(stream, _)) => stream,
            other => panic!("no stream but {other:?}"),
        }
    }

    fn follow(&mut self) -> Stream {
        self.command(LogCommand::Follow { container: APP.to_owned(), project: None });
        self.attached()
    }

    fn hear(&mut self, stream: &Stream, lines: &[&str]) {
        self.hub.lines(self.now, stream, lines.iter().map(|line| (*line).to_owned()).collect());
        self.outputs.extend(self.hub.take_outputs());
    }

    fn end(&mut self, stream: &Stream, end: End) {
        self.hub.ended(self.now, stream, end);
        self.outputs.extend(self.hub.take_outputs());
    }
}

fn agent(text: &str) -> Value {
    json!({"type": "build", "chunk": text})
}

fn flush() -> Duration {
    batch::INTERVAL
}

#[test]
fn three_lines_within_200_ms_give_one_message_and_then_nothing_is_due() {
    let mut desk = Desk::watched();
    for line in ["a", "b", "c"] {
        desk.line(APP, line);
        desk.pass(Duration::from_millis(60));
    }
    assert_eq!(desk.published(), Vec::<Value>::new());
    desk.pass(Duration::from_millis(20));
    assert_eq!(desk.published(), [json!("a\nb\nc")]);
    assert_eq!(desk.hub.deadline(), Some(desk.hub.save_at.unwrap()), "nothing but the save");
    desk.pass(SAVE);
    assert_eq!(desk.published(), Vec::<Value>::new(), "nothing buffered gives no message");
    assert_eq!(desk.hub.deadline(), None);
}

#[test]
fn an_agent_line_is_published_always_and_behind_the_backlog() {
    let mut desk = Desk::new();
    desk.say("no session");
    assert_eq!(desk.published(), [agent("no session")]);
    let mut desk = Desk::watched();
    desk.line(APP, "{\"status\":\"Pulling\"}");
    desk.say("done");
    desk.command(LogCommand::ClearRemote { container: APP.to_owned() });
    assert_eq!(desk.published(), [json!("{\"status\":\"Pulling\"}"), agent("done"), agent("LOGGER_CLEAR")]);
    assert_eq!(desk.history(APP).0, ["{\"status\":\"Pulling\"}", "done"], "the clear is not stored");
}

#[test]
fn progress_is_published_always_and_in_its_place_but_not_kept() {
    let progress = |desk: &mut Desk| {
        let (id, status, progress) = ("app.tgz".to_owned(), "Transfer Progress:".to_owned(), "42.000%".to_owned());
        desk.command(LogCommand::Progress { container: APP.to_owned(), id, status, progress });
    };
    let message = json!({"id": "app.tgz", "status": "Transfer Progress:", "progress": "42.000%"});
    let mut desk = Desk::watched();
    desk.line(APP, "a");
    progress(&mut desk);
    assert_eq!(desk.published(), [json!("a"), message.clone()]);
    assert_eq!(desk.history(APP).0, ["a"]);
    let mut unheard = Desk::new();
    progress(&mut unheard);
    assert_eq!(unheard.published(), [message]);
}

#[test]
fn a_huge_agent_line_is_cut_because_it_is_never_dropped() {
    let mut desk = Desk::watched();
    desk.say(&"x".repeat(1_000_000));
    let chunk = desk.published().remove(0)["chunk"].as_str().unwrap().len();
    assert!(chunk <= AGENT_LINE, "{chunk}");
}

#[test]
fn lines_are_kept_but_not_published_while_nobody_listens() {
    let mut desk = Desk::new();
    desk.line(APP, "offline");
    desk.command(LogCommand::Session { up: true });
    desk.command(LogCommand::Matched { container: APP.to_owned(), answer: Ok(vec![json!([])]) });
    desk.line(APP, "unheard");
    desk.pass(flush() * 2);
    assert_eq!(desk.published(), Vec::<Value>::new());
    desk.subscribe(1, APP);
    desk.line(APP, "heard");
    desk.pass(flush());
    assert_eq!(desk.published(), [json!("heard")]);
    desk.line(APP, "left in the backlog");
    desk.unsubscribe(1);
    desk.line(APP, "unheard again");
    desk.pass(flush());
    assert_eq!(desk.published(), Vec::<Value>::new());
    assert_eq!(desk.history(APP).0.len(), 5);
}

#[test]
fn lines_before_the_first_answer_are_held_and_published_or_dropped_with_it() {
    for (answer, expected) in [(json!([9]), vec![json!("a\nb")]), (json!([]), vec![])] {
        let mut desk = Desk::new();
        desk.command(LogCommand::Session { up: true });
        desk.line(APP, "a");
        desk.line(APP, "b");
        let topic = "reswarm.logs.serial.prod_6_app".to_owned();
        assert_eq!(desk.take(), [Output::Emit(Event::Lookup { container: APP.to_owned(), topic })]);
        desk.pass(Duration::from_secs(5));
        assert_eq!(desk.published(), Vec::<Value>::new());
        desk.command(LogCommand::Matched { container: APP.to_owned(), answer: Ok(vec![answer]) });
        desk.pass(flush());
        assert_eq!(desk.published(), expected);
    }
}

#[test]
fn c6_each_session_asks_again_for_every_container() {
    let mut desk = Desk::watched();
    desk.line(APP, "a");
    desk.line("dev_1_b", "b");
    desk.take();
    desk.command(LogCommand::Session { up: false });
    desk.line(APP, "kept");
    desk.pass(flush());
    desk.line("dev_2_c", "new while offline");
    assert_eq!(desk.take(), [], "what was buffered is void too, and there is nobody to ask");
    desk.command(LogCommand::Session { up: true });
    let asked: Vec<_> =
        desk.take().into_iter().filter(|output| matches!(output, Output::Emit(Event::Lookup { .. }))).collect();
    assert_eq!(asked.len(), 3, "{asked:?}");
    desk.command(LogCommand::Matched { container: APP.to_owned(), answer: Ok(vec![json!([3])]) });
    desk.line(APP, "again");
    desk.pass(flush());
    assert_eq!(desk.published(), [json!("again")]);
}

#[test]
fn a_failed_question_is_asked_again_and_without_meta_events_every_30_s() {
    let mut desk = Desk::new();
    desk.command(LogCommand::Session { up: true });
    desk.line(APP, "a");
    let questions = |desk: &mut Desk| {
        desk.take().iter().filter(|output| matches!(output, Output::Emit(Event::Lookup { .. }))).count()
    };
    assert_eq!(questions(&mut desk), 1);
    desk.command(LogCommand::Matched { container: APP.to_owned(), answer: Err("timeout".to_owned()) });
    desk.pass(Duration::from_secs(31));
    assert_eq!(questions(&mut desk), 1);
    desk.command(LogCommand::Matched { container: APP.to_owned(), answer: Ok(vec![]) });
    desk.pass(Duration::from_secs(300));
    assert_eq!(questions(&mut desk), 0, "events tell the rest");
    desk.command(LogCommand::MetaRefused);
    for answer in [json!([1]), json!([])] {
        desk.pass(Duration::from_secs(30));
        assert_eq!(questions(&mut desk), 1);
        desk.command(LogCommand::Matched { container: APP.to_owned(), answer: Ok(vec![answer.clone()]) });
        desk.line(APP, "x");
        desk.pass(flush());
        assert_eq!(desk.published().is_empty(), answer == json!([]));
    }
    desk.command(LogCommand::Session { up: false });
    desk.pass(Duration::from_secs(300));
    assert_eq!(questions(&mut desk), 0);
}

#[test]
fn a_viewer_of_a_container_that_is_not_followed_is_told() {
    let mut desk = Desk::new();
    desk.command(LogCommand::Session { up: true });
    desk.subscribe(1, APP);
    assert_eq!(desk.take(), [Output::Emit(Event::Wanted { container: APP.to_owned() })]);
    let stream = desk.follow();
    desk.subscribe(2, APP);
    assert_eq!(desk.take(), []);
    desk.end(&stream, End::Refused(OpenError::NotFound));
    desk.take();
    desk.subscribe(3, APP);
    assert_eq!(desk.take(), [Output::Emit(Event::Wanted { container: APP.to_owned() })]);
}

#[test]
fn what_the_container_writes_goes_without_stamps_to_the_ring_and_the_viewers() {
    let mut desk = Desk::watched();
    let stream = desk.follow();
    desk.hear(&stream, &["2026-08-04T09:05:00.000000001Z one", "2026-08-04T09:05:00.000000002Z two"]);
    desk.pass(flush());
    assert_eq!(desk.published(), [json!("one\ntwo")]);
    assert_eq!(desk.history(APP), (vec!["one".to_owned(), "two".to_owned()], false));
}

#[test]
fn d4_lines_and_ends_of_an_older_stream_are_not_taken_for_those_of_the_newer() {
    let mut desk = Desk::watched();
    let old = desk.follow();
    desk.command(LogCommand::Unfollow { container: APP.to_owned() });
    desk.command(LogCommand::Follow { container: APP.to_owned(), project: None });
    assert_eq!(desk.take(), [Output::Detach(old.clone())], "the new one waits for the old one's end");
    desk.end(&old, End::Eof);
    let new = desk.attached();
    assert_ne!(old, new);
    desk.hear(&old, &["late"]);
    desk.end(&old, End::Eof);
    desk.hear(&new, &["live"]);
    assert_eq!(desk.history(APP).0, ["live"]);
}

#[test]
fn d5_an_end_is_followed_by_a_stream_without_a_doubled_line() {
    let mut desk = Desk::watched();
    let stream = desk.follow();
    desk.hear(&stream, &["2026-08-04T09:05:00Z one"]);
    desk.end(&stream, End::Eof);
    desk.take();
    desk.pass(Duration::from_secs(1));
    let stream = desk.attached();
    desk.hear(&stream, &["2026-08-04T09:05:00Z one", "2026-08-04T09:05:01Z two"]);
    assert_eq!(desk.history(APP).0, ["one", "two"]);
    desk.end(&stream, End::Eof);
    desk.pass(Duration::from_secs(1));
    let stream = desk.attached();
    desk.hear(&stream, &["2026-08-04T09:05:01Z two"]);
    desk.end(&stream, End::Eof);
    let ended = Event::FollowEnded { container: APP.to_owned(), reason: "the log ended".to_owned() };
    assert_eq!(desk.take().pop(), Some(Output::Emit(ended)));
    assert_eq!(desk.history(APP).0, ["one", "two"], "the ring outlives its streams");
}

#[test]
fn history_is_saved_once_within_30_s_and_only_if_it_changed() {
    let mut desk = Desk::new();
    desk.command(LogCommand::Restore { container: APP.to_owned(), lines: vec!["old".to_owned()] });
    assert_eq!(desk.hub.deadline(), None, "what was just read needs no save");
    for _ in 0..10 {
        desk.say("x");
    }
    desk.take();
    desk.pass(SAVE - Duration::from_millis(1));
    assert_eq!(desk.take(), []);
    desk.pass(Duration::from_millis(1));
    match &desk.take()[..] {
        [Output::Emit(Event::Save { container, lines })] => {
            assert_eq!((container.as_str(), lines.len(), lines[0].as_str()), (APP, 11, "old"));
        }
        other => panic!("{other:?}"),
    }
    desk.command(LogCommand::ClearHistory { container: APP.to_owned() });
    assert_eq!(desk.history(APP), (vec![], true));
    desk.pass(SAVE);
    assert_eq!(desk.take(), [Output::Emit(Event::Save { container: APP.to_owned(), lines: vec![] })]);
}

#[test]
fn the_engines_replay_takes_the_place_of_restored_history() {
    let mut desk = Desk::new();
    desk.command(LogCommand::Restore { container: APP.to_owned(), lines: vec!["one".to_owned(), "two".to_owned()] });
    desk.say("agent started");
    let stream = desk.follow();
    assert_eq!(desk.history(APP).0, ["one", "two", "agent started"]);
    desk.hear(&stream, &["2026-08-04T09:05:00Z two", "2026-08-04T09:05:01Z three"]);
    assert_eq!(desk.history(APP).0, ["agent started", "two", "three"]);
}

#[test]
fn a_history_of_agent_lines_alone_says_so_and_nobodys_history_is_empty() {
    let mut desk = Desk::new();
    assert_eq!(desk.history("prod_9_nobody"), (vec![], true));
    desk.say("starting");
    assert_eq!(desk.history(APP), (vec!["starting".to_owned()], true));
    desk.line(APP, "x\r\ny");
    assert_eq!(desk.history(APP), (vec!["starting".to_owned(), "x".to_owned(), "y".to_owned()], false));
}

#[test]
fn a_forgotten_container_leaves_nothing_behind() {
    let mut desk = Desk::watched();
    let stream = desk.follow();
    desk.hear(&stream, &["x"]);
    desk.command(LogCommand::Forget { container: APP.to_owned() });
    assert_eq!(desk.take(), [Output::Detach(stream.clone())]);
    desk.hear(&stream, &["late"]);
    assert_eq!(desk.history(APP), (vec![], true));
    desk.end(&stream, End::Broken("cancelled".to_owned()));
    assert!(desk.hub.containers.is_empty());
    desk.pass(SAVE * 2);
    assert_eq!(desk.take(), []);
    assert_eq!(desk.hub.deadline(), None);
}

#[test]
fn stop_flushes_saves_and_detaches() {
    let mut desk = Desk::watched();
    let stream = desk.follow();
    desk.hear(&stream, &["x"]);
    desk.hub.stop(desk.now);
    let outputs = desk.hub.take_outputs();
    assert!(matches!(&outputs[0], Output::Publish(of) if of.payload == json!("x")), "{outputs:?}");
    assert!(matches!(&outputs[1], Output::Emit(Event::Save { .. })), "{outputs:?}");
    assert_eq!(outputs[2], Output::Detach(stream));
}

#[test]
fn c2_a_flood_from_three_containers_stays_within_the_shared_budget_and_starves_nobody() {
    let apps = ["prod_1_a", "prod_2_b", "prod_3_c"];
    let mut desk = Desk::watched();
    for (id, app) in (10..).zip(apps) {
        desk.subscribe(id, app);
    }
    desk.subscribe(20, "prod_4_quiet");
    desk.take();
    let text = "x".repeat(150);
    let mut bytes = [0; 3];
    let seconds = 4;
    for tick in 0..seconds * 10 {
        for n in 0..1000 {
            for app in apps {
                desk.line(app, &format!("{tick} {n} {text}"));
            }
        }
        desk.line("prod_4_quiet", "still here");
        for app in apps {
            assert!(desk.hub.containers[app].batch.len() <= batch::BACKLOG);
        }
        desk.pass(Duration::from_millis(100));
        // The pieces of each flush, put together.
        let mut flushes = BTreeMap::<String, Vec<String>>::new();
        for output in desk.take() {
            let Output::Publish(Publication { topic, payload, .. }) = output else { continue };
            flushes.entry(topic).or_default().push(payload.as_str().unwrap().to_owned());
        }
        for (topic, pieces) in flushes {
            let text = pieces.join("\n");
            assert!(text.len() <= batch::FLUSH + 128);
            if topic.ends_with("quiet") {
                assert!(text.starts_with("still here") && !text.contains("dropped"), "{text}");
            } else {
                assert!(text.ends_with(" log line(s) dropped (rate limit)") && text.contains("\n… "), "a marker");
                bytes[apps.iter().position(|app| topic.ends_with(app)).unwrap()] += text.len();
            }
        }
    }
    let most = batch::BUDGET * (seconds + 1) + 1024 * 100;
    assert!(bytes.iter().sum::<usize>() <= most, "{bytes:?}");
    assert!(bytes.iter().all(|of| *of > most / 3 * 8 / 10), "even shares: {bytes:?}");
}

/// What arrived: the lines, and how many the markers account for.
fn account(published: &[Value]) -> (usize, usize) {
    let (mut lines, mut dropped) = (0, 0);
    for line in published.iter().filter_map(Value::as_str).flat_map(|text| text.split('\n')) {
        match line.strip_prefix("… ").and_then(|rest| rest.strip_suffix(" log line(s) dropped (rate limit)")) {
            Some(count) => dropped += count.parse::<usize>().unwrap(),
            None => lines += 1,
        }
    }
    (lines, dropped)
}

#[test]
fn c2_while_earlier_bulk_waits_nothing_is_flushed_and_nothing_lost_until_the_cap() {
    let mut desk = Desk::watched();
    desk.hub.outflow(Outflow { room: 0 });
    for line in ["a", "b"] {
        desk.line(APP, line);
        desk.pass(flush() * 3);
    }
    assert_eq!(desk.published(), Vec::<Value>::new());
    desk.hub.outflow(Outflow { room: 5000 });
    desk.pass(flush());
    assert_eq!(desk.published(), [json!("a\nb")]);
    desk.hub.outflow(Outflow { room: 0 });
    desk.pass(SAVE);
    assert_eq!(desk.hub.deadline(), None, "no look at the room without a backlog");

    let line = "x".repeat(50 * 1024);
    for _ in 0..40 {
        desk.line(APP, &line);
        assert!(desk.hub.containers[APP].batch.len() <= batch::BACKLOG / 2);
    }
    desk.hub.outflow(Outflow { room: 120 * 1024 });
    desk.pass(flush());
    assert_eq!(account(&desk.published()), (2, 38));
}

#[test]
fn c2_on_a_slow_link_every_line_arrives_or_is_counted_by_a_marker() {
    let apps = [APP, "prod_7_other"];
    let mut desk = Desk::watched();
    desk.subscribe(2, apps[1]);
    let (mut written, mut published, mut most) = (0, Vec::new(), 0);
    for tick in 0..200 {
        // There is room now and then, and more or less of it.
        desk.hub.outflow(Outflow { room: [0, 4096, 0, 0, 2048, 70_000][tick % 6] });
        for n in 0..400 {
            desk.line(apps[n % 2], &format!("{tick} {n} {}", "x".repeat(n)));
            written += 1;
        }
        if tick % 50 == 0 {
            desk.say("an agent line goes always");
        }
        desk.pass(Duration::from_millis(70));
        let now = desk.published();
        most = most.max(now.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0));
        published.extend(now);
    }
    desk.hub.outflow(Outflow::FREE);
    desk.pass(flush());
    published.extend(desk.published());
    let (lines, dropped) = account(&published);
    assert!(lines > 1000 && dropped > 10_000, "{lines} {dropped}");
    assert_eq!(lines + dropped, written);
    assert!(most <= 16 * 1024, "{most}: control goes between two pieces");
    assert_eq!(published.iter().filter(|payload| payload.is_object()).count(), 4);
}

#[test]
fn c2_an_agent_line_goes_behind_a_little_of_the_backlog_even_without_room() {
    let mut desk = Desk::watched();
    desk.hub.outflow(Outflow { room: 0 });
    for _ in 0..30 {
        desk.line(APP, &"x".repeat(99));
    }
    desk.say("done");
    let published = desk.published();
    assert_eq!(account(&published), (20, 10));
    assert_eq!(published.last(), Some(&agent("done")));
}

#[test]
fn the_last_flush_does_not_wait_for_room() {
    let mut desk = Desk::watched();
    desk.hub.outflow(Outflow { room: 0 });
    desk.line(APP, "last words");
    desk.hub.stop(desk.now);
    desk.outputs = desk.hub.take_outputs();
    assert_eq!(desk.published(), [json!("last words")]);
}

#[test]
fn nothing_is_published_for_an_app_whose_name_is_no_topic_and_its_history_is_kept() {
    let mut desk = Desk::watched();
    let odd = "prod_7_two words";
    desk.command(LogCommand::Say { container: odd.to_owned(), text: "it starts".to_owned() });
    desk.command(LogCommand::ClearRemote { container: odd.to_owned() });
    desk.line(odd, "a line");
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.published(), Vec::<Value>::new());
    assert_eq!(desk.history(odd).0, ["it starts", "a line"]);
}
