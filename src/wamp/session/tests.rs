//! The session against scripted frames: one line per thing that it wants done.

mod calls;

use super::*;
use crate::clock::Wall;
use crate::secret::Secret;
use crate::wamp::Testament;

const MS: fn(u64) -> Duration = Duration::from_millis;
const S: fn(u64) -> Duration = Duration::from_secs;

fn settings() -> Settings {
    Settings {
        url: "ws://router".to_owned(),
        realm: "realm1".to_owned(),
        authid: "2-3".to_owned(),
        secret: Secret::new("fake-device-secret"),
        client_certificate: None,
        claim: "a.claim".to_owned(),
        testament: Some(Testament {
            topic: "a.testament".to_owned(),
            payload: Map::from_iter([("device_key".to_owned(), 3.into())]),
        }),
        connect_timeout: S(1),
        response_timeout: S(5),
        ping_interval: Duration::ZERO,
        time_floor: Wall::default(),
    }
}

const TESTAMENT: &str = "Emit(Testament { generation: 1 })";

/// A session and its clock.
struct Bench {
    session: Session,
    now: Duration,
}

impl Bench {
    fn new(declared: &[(Declaration, Phase)], joined_before: bool) -> Bench {
        let declared = declared.iter().cloned().collect();
        let now = S(1000);
        let mut bench = Bench { session: Session::new(1, settings(), &declared, joined_before, now), now };
        let hello = bench.seen();
        assert!(hello.len() == 1 && hello[0].starts_with(r#"[1,"realm1",{"authid":"2-3","#), "{hello:?}");
        bench
    }

    /// Joined, with everything before it checked once in its own test.
    fn joined(declared: &[(Declaration, Phase)]) -> Bench {
        let mut bench = Bench::new(declared, false);
        bench.router(json!([2, 77, {"roles": {"broker": {}, "dealer": {}}}]));
        let seen = bench.router(json!([65, 1, 100]));
        assert_eq!(seen[1], "Emit(Joined { generation: 1, session: 77 })");
        assert_eq!(bench.router(json!([50, 2, {}, [1]])), [TESTAMENT]);
        bench
    }

    fn seen(&mut self) -> Vec<String> {
        let line = |output| match output {
            Output::Send(text) => text,
            other => format!("{other:?}"),
        };
        self.session.outputs().into_iter().map(line).collect()
    }

    fn router(&mut self, frame: Value) -> Vec<String> {
        self.session.on_frame();
        self.session.on_message(self.now, message::decode(&frame.to_string()).unwrap());
        self.seen()
    }

    fn command(&mut self, command: Command) -> Vec<String> {
        self.session.on_command(self.now, command);
        self.seen()
    }

    /// Runs the clock up to `now`, deadline by deadline; the router answers pings.
    fn until(&mut self, now: Duration) -> Vec<String> {
        let mut seen = Vec::new();
        let mut at_once = 0;
        while self.session.deadline() <= now {
            let deadline = self.session.deadline();
            at_once = if deadline > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 10, "a deadline that on_deadline does not clear: {seen:?}");
            self.now = deadline.max(self.now);
            self.session.on_deadline(self.now);
            let lines = self.seen();
            if lines.contains(&"Ping".to_owned()) {
                self.session.on_frame();
            }
            seen.extend(lines.into_iter().filter(|line| line != "Ping"));
        }
        self.now = now;
        seen
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.until(self.now + time)
    }
}

fn procedure(uri: &str) -> Declaration {
    Declaration::Procedure(uri.to_owned())
}

fn subscription(topic: &str) -> Declaration {
    Declaration::Subscription(topic.to_owned())
}

fn call(id: u64, uri: &str) -> Command {
    Command::Call { id, uri: uri.to_owned(), args: vec![id.into()], kwargs: Map::new(), timeout: S(10) }
}

fn answer(request: u64) -> Command {
    Command::Yield { generation: 1, request, args: vec![], kwargs: Map::new() }
}

fn welcome() -> Value {
    json!([2, 77, {"roles": {"broker": {}}}])
}

#[test]
fn joining_is_challenge_welcome_claim_and_testament_in_this_order() {
    let mut bench = Bench::new(&[(procedure("a.p"), Phase::Join), (procedure("a.open"), Phase::Open)], false);
    let challenge = r#"{"authid":"2-3","authrole":"device","authmethod":"wampcra","authprovider":"dynamic","session":1234567890123456,"nonce":"FAKE-NONCE-000000","timestamp":"2030-01-01T00:00:00.000Z"}"#;
    assert_eq!(
        bench.router(json!([4, "wampcra", {"challenge": challenge}])),
        [r#"[5,"FbPDRoIP4VNyKTb7cs32YN3c4AL5kjZfdyBN5j/fqGo=",{}]"#]
    );
    assert_eq!(bench.router(welcome()), ["Reached(Welcomed)", r#"[64,1,{},"a.claim"]"#]);
    assert!(!bench.session.is_open());
    // Nothing waits for the testament; it only comes first.
    assert_eq!(
        bench.router(json!([65, 1, 100])),
        [
            "Reached(Claimed)",
            "Emit(Joined { generation: 1, session: 77 })",
            r#"[48,2,{},"wamp.session.add_testament",["a.testament",[{"device_key":3,"wamp_session_id":77}],{}]]"#,
            r#"[64,3,{"force_reregister":true},"a.p"]"#
        ]
    );
    assert!(bench.session.is_open() && bench.session.was_joined());
    assert_eq!(bench.command(call(41, "a.b")), [r#"[48,4,{},"a.b",[41]]"#]);
    assert_eq!(bench.router(json!([50, 2, {}, [5]])), [TESTAMENT]);
}

#[test]
fn without_a_testament_there_is_none_to_wait_for() {
    let settings = Settings { testament: None, ..settings() };
    let mut bench = Bench { session: Session::new(1, settings, &BTreeMap::new(), false, S(1000)), now: S(1000) };
    bench.router(welcome());
    let seen = bench.router(json!([65, 1, 100]));
    assert_eq!(seen, ["Reached(Claimed)", "Emit(Joined { generation: 1, session: 77 })", TESTAMENT]);
}

#[test]
fn hello_announces_what_is_supported_under_the_four_role_names() {
    let roles = &hello("2-3")["roles"];
    for role in ["publisher", "subscriber", "caller", "callee"] {
        assert!(roles[role].is_object(), "{role}");
    }
    assert_eq!(
        roles["callee"]["features"],
        json!({"call_canceling": true, "call_timeout": true, "caller_identification": true})
    );
}

#[test]
fn whatever_goes_wrong_before_welcome_ends_the_attempt_with_a_reason() {
    let signature = "WAMP-CRA client signature is invalid";
    let cases = [
        (vec![json!([3, {"message": "no such realm"}, "wamp.error.no_such_realm"])], "wamp.error.no_such_realm"),
        (vec![json!([4, "wampcra", {"challenge": 7}])], "challenge without a text"),
        (vec![json!([2, 1, {"roles": {"caller": {}}}])], "neither broker nor dealer"),
        (vec![json!([4, "wampcra", {"challenge": "x"}]), json!([3, {"message": "later"}, "x"])], r#"Gone("later")"#),
        (vec![json!([4, "wampcra", {"challenge": "x"}]), json!([3, {}, "x"])], r#"Gone("authentication failed")"#),
        (vec![json!([4, "wampcra", {"challenge": "x"}]), json!([3, {"message": signature}, "x"])], "Refused(Secret, "),
    ];
    for (frames, end) in cases {
        let mut bench = Bench::new(&[], false);
        let seen: Vec<String> = frames.iter().flat_map(|frame| bench.router(frame.clone())).collect();
        let last = seen.last().unwrap();
        assert!(last.starts_with("End(") && last.contains(end), "{frames:?}: {seen:?}");
        assert_eq!(bench.session.deadline(), Duration::MAX);
    }
}

#[test]
fn another_challenge_is_answered_with_an_empty_signature() {
    let mut bench = Bench::new(&[], false);
    assert_eq!(bench.router(json!([4, "ticket", {}])), [r#"[5,"",{}]"#]);
}

#[test]
fn a_router_that_does_not_answer_hello_or_authenticate_is_left_after_the_response_timeout() {
    let mut bench = Bench::new(&[], false);
    assert!(bench.after(MS(4999)).is_empty());
    assert_eq!(bench.after(MS(1)), [r#"End(Gone("timeout waiting for reply to HELLO"))"#]);
    let mut bench = Bench::new(&[], false);
    bench.after(S(4));
    bench.router(json!([4, "wampcra", {"challenge": "x"}]));
    assert!(bench.after(MS(4999)).is_empty(), "each reply has its own bound");
    assert_eq!(bench.after(MS(1)).len(), 1);
}

#[test]
fn a_claim_that_exists_already_leaves_the_session_politely_and_counts_as_refusal() {
    let mut bench = Bench::new(&[], true);
    bench.router(welcome());
    let refused = json!([8, 64, 1, {}, "wamp.error.procedure_already_exists", ["taken"]]);
    assert_eq!(bench.router(refused), [r#"[6,{},"wamp.close.close_realm"]"#]);
    assert_eq!(
        bench.router(json!([6, {}, "wamp.close.goodbye_and_out"])),
        ["Close", r#"End(Refused(Presence, "wamp.error.procedure_already_exists [\"taken\"]"))"#]
    );
    // And without an answer to GOODBYE, within 5 s.
    let mut bench = Bench::new(&[], true);
    bench.router(welcome());
    bench.router(json!([8, 64, 1, {}, "wamp.error.procedure_already_exists"]));
    let seen = bench.after(S(5));
    assert!(seen.last().unwrap().starts_with("End(Refused(Presence"), "{seen:?}");
}

#[test]
fn a_claim_that_fails_otherwise_keeps_the_session_and_is_tried_again() {
    let mut bench = Bench::new(&[], false);
    bench.router(welcome());
    let seen = bench.router(json!([8, 64, 1, {}, "wamp.error.not_authorized"]));
    assert_eq!(seen[..2], ["Reached(NotClaimed)", "Emit(Joined { generation: 1, session: 77 })"]);
    assert!(seen[2].contains("add_testament"), "{seen:?}");
    bench.router(json!([50, 2, {}]));
    assert!(bench.session.is_open());
    assert_eq!(bench.after(S(1)), [r#"[64,3,{},"a.claim"]"#]);
    // Held by somebody else by now: the session is up and stays up.
    let seen = bench.router(json!([8, 64, 3, {}, "wamp.error.procedure_already_exists"]));
    assert_eq!(seen, ["Reached(NotClaimed)"]);
    assert_eq!(bench.after(S(3)), [r#"[64,4,{},"a.claim"]"#]);
    assert_eq!(bench.router(json!([65, 4, 9])), ["Reached(Claimed)"]);
    assert_eq!(bench.router(json!([68, 1, 9, {}])), [r#"[70,1,{},["Hello :-)"]]"#]);
}

#[test]
fn a_testament_that_fails_starts_over_at_first_and_is_only_logged_later() {
    for failure in [Some(json!([8, 48, 2, {}, "wamp.error.no_such_procedure"])), None] {
        for joined_before in [false, true] {
            let mut bench = Bench::new(&[], joined_before);
            bench.router(welcome());
            bench.router(json!([65, 1, 100]));
            let seen = match failure.clone() {
                Some(failure) => bench.router(failure),
                None => bench.after(S(10)),
            };
            let expected = if joined_before { TESTAMENT } else { r#"[6,{},"wamp.close.close_realm"]"# };
            assert_eq!(seen, [expected]);
        }
    }
}

#[test]
fn the_claim_answers_itself_with_any_arguments() {
    let mut bench = Bench::joined(&[]);
    for (request, frame) in [json!([68, 1, 100, {}]), json!([68, 2, 100, {}, [null], {"a": 1}])].into_iter().enumerate()
    {
        assert_eq!(bench.router(frame), [format!(r#"[70,{},{{}},["Hello :-)"]]"#, request + 1)]);
    }
}

#[test]
fn c6_the_declared_table_is_applied_in_two_phases_and_opened_is_told_once() {
    let declared =
        [(subscription("a.t"), Phase::Join), (procedure("a.x"), Phase::Open), (subscription("a.y"), Phase::Open)];
    let mut bench = Bench::joined(&declared);
    bench.router(json!([33, 3, 200]));
    assert!(bench.command(Command::Open { generation: 2 }).is_empty(), "another session is meant");
    assert_eq!(
        bench.command(Command::Open { generation: 1 }),
        [r#"[64,4,{"force_reregister":true},"a.x"]"#, r#"[32,5,{},"a.y"]"#]
    );
    assert!(bench.router(json!([65, 4, 201])).is_empty());
    let seen = bench.router(json!([8, 32, 5, {}, "wamp.error.not_authorized"]));
    assert_eq!(seen, [r#"Emit(Opened { generation: 1, failed: ["a.y"] })"#]);
    // The failed one is asked for again, with a growing pause, and nothing is announced twice.
    assert_eq!(bench.after(S(1)), [r#"[32,6,{},"a.y"]"#]);
    bench.router(json!([8, 32, 6, {}, "wamp.error.not_authorized"]));
    assert!(bench.after(MS(1999)).is_empty());
    assert_eq!(bench.after(MS(1)), [r#"[32,7,{},"a.y"]"#]);
    assert!(bench.router(json!([33, 7, 202])).is_empty());
    let event = bench.router(json!([36, 202, 1, {}, ["hi"]]));
    assert!(event[0].contains(r#"topic: "a.y", args: [String("hi")]"#), "{event:?}");
}

#[test]
fn an_open_phase_without_entries_or_with_silent_answers_ends_too() {
    let mut bench = Bench::joined(&[]);
    assert_eq!(bench.command(Command::Open { generation: 1 }), ["Emit(Opened { generation: 1, failed: [] })"]);
    let mut bench = Bench::joined(&[(procedure("a.x"), Phase::Open)]);
    bench.command(Command::Open { generation: 1 });
    assert_eq!(bench.after(S(5)), [r#"Emit(Opened { generation: 1, failed: ["a.x"] })"#]);
}

#[test]
fn a_declaration_during_the_session_is_applied_at_once_if_its_phase_has_begun() {
    let mut bench = Bench::joined(&[]);
    let declare = |uri: &str, phase| Command::Declare { entry: procedure(uri), phase };
    assert_eq!(bench.command(declare("a.now", Phase::Join)), [r#"[64,3,{"force_reregister":true},"a.now"]"#]);
    assert!(bench.command(declare("a.now", Phase::Join)).is_empty(), "once is enough");
    assert!(bench.command(declare("a.later", Phase::Open)).is_empty());
    assert_eq!(bench.command(Command::Open { generation: 1 }), [r#"[64,4,{"force_reregister":true},"a.later"]"#]);
    assert_eq!(bench.command(declare("a.late", Phase::Open)), [r#"[64,5,{"force_reregister":true},"a.late"]"#]);
}

#[test]
fn withdrawing_removes_the_handler_first_and_then_asks_the_router() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join), (subscription("a.t"), Phase::Join)]);
    bench.router(json!([65, 3, 200]));
    bench.router(json!([33, 4, 300]));
    assert_eq!(bench.command(Command::Withdraw(procedure("a.p"))), ["[66,5,200]"]);
    let seen = bench.router(json!([68, 9, 200, {}]));
    assert!(seen[0].starts_with(r#"[8,68,9,{},"wamp.error.invalid_argument",["#), "{seen:?}");
    assert_eq!(bench.command(Command::Withdraw(subscription("a.t"))), ["[34,6,300]"]);
    assert!(bench.router(json!([36, 300, 1, {}])).is_empty(), "events under way are dropped");
    assert!(bench.router(json!([67, 5])).is_empty());
    assert!(bench.router(json!([35, 6])).is_empty());
    assert!(bench.command(Command::Withdraw(procedure("a.p"))).is_empty(), "never registered: logged");
    assert!(bench.router(json!([67, 0])).is_empty(), "a revocation is ignored");
}

#[test]
fn what_is_withdrawn_before_the_reply_is_given_back_with_it() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join)]);
    assert!(bench.command(Command::Withdraw(procedure("a.p"))).is_empty());
    assert_eq!(bench.router(json!([65, 3, 200])), ["[66,4,200]"]);
    assert!(bench.router(json!([8, 66, 4, {}, "wamp.error.no_such_registration"])).is_empty());
    // And with an open phase waiting for it.
    let mut bench = Bench::joined(&[(procedure("a.x"), Phase::Open)]);
    bench.command(Command::Open { generation: 1 });
    let seen = bench.command(Command::Withdraw(procedure("a.x")));
    assert_eq!(seen, ["Emit(Opened { generation: 1, failed: [] })"]);
}

#[test]
fn an_invocation_directly_after_registered_is_delivered_with_its_caller_and_arguments() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join)]);
    bench.router(json!([65, 3, 200]));
    let seen = bench.router(json!([68, 7, 200, {"caller_authid": 42, "caller": 5}, [1], {"k": null}]));
    assert_eq!(
        seen,
        [concat!(
            r#"Emit(Invocation { generation: 1, request: 7, procedure: "a.p", caller_authid: Some(Number(42)), "#,
            r#"args: Some([Number(1)]), kwargs: Some({"k": Null}) })"#
        )]
    );
    let seen = bench.router(json!([68, 8, 200, {}]));
    assert!(seen[0].ends_with("caller_authid: None, args: None, kwargs: None })"), "{seen:?}");
    assert_eq!(bench.command(answer(8)), ["[70,8,{}]"]);
    assert!(bench.command(answer(8)).is_empty(), "answered once");
    let error = json!({"error": "no"});
    let fail = Command::Fail { generation: 1, request: 7, uri: "wamp.error.canceled".to_owned(), args: vec![error] };
    assert_eq!(bench.command(fail), [r#"[8,68,7,{},"wamp.error.canceled",[{"error":"no"}]]"#]);
}

#[test]
fn c6_answers_of_another_generation_are_dropped() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join)]);
    bench.router(json!([65, 3, 200]));
    bench.router(json!([68, 7, 200, {}]));
    for generation in [0, 2] {
        let (args, kwargs, uri) = (vec![], Map::new(), String::new());
        assert!(bench.command(Command::Yield { generation, request: 7, args: vec![], kwargs }).is_empty());
        assert!(bench.command(Command::Fail { generation, request: 7, uri, args }).is_empty());
        assert!(bench.command(Command::Abort { generation, reason: String::new() }).is_empty());
    }
    assert!(bench.session.is_open());
}

#[test]
fn an_interrupt_or_an_elapsed_timeout_is_answered_and_the_late_result_dropped() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join)]);
    bench.router(json!([65, 3, 200]));
    bench.router(json!([68, 7, 200, {}]));
    let canceled = |request: u64| {
        [
            format!(r#"[8,68,{request},{{}},"wamp.error.canceled"]"#),
            format!("Emit(Interrupted {{ generation: 1, request: {request} }})"),
        ]
    };
    assert_eq!(bench.router(json!([69, 7, {"mode": "kill"}])), canceled(7));
    assert!(bench.router(json!([69, 7, {"mode": "kill"}])).is_empty());
    bench.router(json!([68, 8, 200, {"timeout": 250}]));
    assert!(bench.after(MS(249)).is_empty());
    assert_eq!(bench.after(MS(1)), canceled(8));
    for request in [7, 8] {
        assert!(bench.command(answer(request)).is_empty());
    }
    bench.router(json!([68, 9, 200, {"timeout": 0}]));
    assert!(bench.after(S(100)).is_empty(), "zero is no timeout");
    bench.router(json!([68, 10, 200, {"timeout": u64::MAX}]));
    assert!(bench.after(S(100)).is_empty());
}

#[test]
fn more_invocations_than_can_be_kept_are_refused_and_the_session_goes_on() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join)]);
    bench.router(json!([65, 3, 200]));
    for request in 1..=1024 {
        assert!(bench.router(json!([68, request, 200, {}]))[0].starts_with("Emit(Invocation"));
    }
    assert!(bench.router(json!([68, 1025, 200, {}]))[0].contains("too many calls"));
    bench.command(answer(5));
    assert!(bench.router(json!([68, 1026, 200, {}]))[0].starts_with("Emit(Invocation"));
}

#[test]
fn a_result_above_the_frame_limit_becomes_an_error() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join)]);
    bench.router(json!([65, 3, 200]));
    bench.router(json!([68, 7, 200, {}]));
    let args = vec!["x".repeat(MAX_FRAME).into()];
    let seen = bench.command(Command::Yield { generation: 1, request: 7, args: args.clone(), kwargs: Map::new() });
    assert!(seen.len() == 1 && seen[0].starts_with(r#"[8,68,7,{},"wamp.error.canceled",[{"error":"the result"#));
    let (uri, kwargs) = ("a.q".to_owned(), Map::new());
    let seen = bench.command(Command::Call { id: 1, uri, args: args.clone(), kwargs: kwargs.clone(), timeout: S(1) });
    assert!(seen.len() == 1 && seen[0].contains("payload_size_exceeded"));
    assert!(bench.after(S(10)).is_empty(), "nothing is waited for");
    let topic = "a.t".to_owned();
    let seen = bench.command(Command::Publish { topic, args: args.clone(), kwargs, acknowledge: Some(4) });
    assert!(seen.len() == 1 && seen[0].contains("Published { id: 4, result: Err("));
    assert_eq!(bench.session.bulk_frame("a.t".to_owned(), args), None);
}

#[test]
fn before_joining_calls_are_refused_at_once() {
    let not_connected = ["Emit(Answer { id: 41, result: Err(NotConnected) })"];
    let mut bench = Bench::new(&[], false);
    assert_eq!(bench.command(call(41, "a.b")), not_connected);
    assert_eq!(bench.session.bulk_frame("a.l".to_owned(), vec![]), None);
    bench.router(welcome());
    assert_eq!(bench.command(call(41, "a.b")), not_connected);
}

#[test]
fn c7_losing_the_connection_answers_everything_that_waits() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join)]);
    bench.command(call(41, "a.b"));
    let topic = "a.t".to_owned();
    bench.command(Command::Publish { topic, args: vec![], kwargs: Map::new(), acknowledge: Some(5) });
    bench.session.on_closed("cable pulled".to_owned());
    assert_eq!(
        bench.seen(),
        [
            "Emit(Answer { id: 41, result: Err(Lost) })",
            "Emit(Published { id: 5, result: Err(Lost) })",
            r#"End(Gone("cable pulled"))"#
        ]
    );
    bench.session.on_closed("again".to_owned());
    assert!(bench.router(json!([68, 1, 100, {}])).is_empty());
    assert!(bench.seen().is_empty(), "nothing follows the end");
}

#[test]
fn stopping_says_goodbye_waits_for_the_answer_and_closes() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Join)]);
    bench.router(json!([65, 3, 200]));
    bench.router(json!([68, 7, 200, {}]));
    assert_eq!(bench.command(Command::Stop), [r#"[6,{},"wamp.close.close_realm"]"#]);
    assert!(bench.command(Command::Stop).is_empty());
    assert_eq!(bench.command(call(41, "a.b")), ["Emit(Answer { id: 41, result: Err(NotConnected) })"]);
    assert!(bench.command(answer(7)).is_empty());
    assert!(bench.router(json!([68, 8, 200, {}])).is_empty(), "nothing is sent after GOODBYE");
    assert_eq!(bench.router(json!([6, {}, "wamp.close.goodbye_and_out"])), ["Close", r#"End(Gone("stopped"))"#]);
    // A router that does not answer is not waited for longer than 5 s, and a vanished one not at all.
    let mut bench = Bench::joined(&[]);
    bench.command(Command::Redial { reason: "moved".to_owned() });
    assert_eq!(bench.after(S(5)), ["Close", r#"End(Gone("moved"))"#]);
    let mut bench = Bench::joined(&[]);
    bench.command(Command::Redial { reason: "moved".to_owned() });
    bench.session.on_closed("connection lost".to_owned());
    assert_eq!(bench.seen().last().unwrap(), r#"End(Gone("moved"))"#);
}

#[test]
fn a_goodbye_of_the_router_is_answered() {
    let mut bench = Bench::joined(&[]);
    assert_eq!(
        bench.router(json!([6, {}, "wamp.close.system_shutdown"])),
        [r#"[6,{},"wamp.close.goodbye_and_out"]"#, r#"End(Gone("router said goodbye: wamp.close.system_shutdown"))"#]
    );
}

#[test]
fn c4_a_router_that_falls_silent_is_left_within_45_seconds() {
    let mut bench = Bench::joined(&[]);
    let last_heard = bench.now;
    bench.command(call(41, "a.b"));
    while bench.session.deadline() < Duration::MAX {
        bench.now = bench.session.deadline();
        bench.session.on_deadline(bench.now);
    }
    assert_eq!(bench.now - last_heard, S(45));
    let seen = bench.seen();
    assert_eq!(seen.last().unwrap(), r#"End(Gone("nothing heard for 15000 ms after a ping"))"#);
}

#[test]
fn messages_that_do_not_belong_to_a_router_are_ignored_in_every_stage() {
    let strange = [
        json!([1, "realm1", {}]),
        json!([5, "x", {}]),
        json!([16, 1, {}, "t"]),
        json!([48, 1, {}, "p"]),
        json!([70, 1, {}]),
        json!([65, 999, 1]),
        json!([33, 0, 1]),
        json!([67, 0, {"registration": 1}]),
        json!([50, 999, {}]),
        json!([8, 48, 999, {}, "x"]),
        json!([36, 999, 1, {}]),
        json!([69, 999, {}]),
        json!([17, 999, 1]),
    ];
    for frame in strange {
        let mut bench = Bench::new(&[], false);
        assert!(bench.router(frame.clone()).is_empty(), "hello: {frame}");
        bench.router(welcome());
        assert!(bench.router(frame.clone()).is_empty(), "claim: {frame}");
        assert!(Bench::joined(&[]).router(frame.clone()).is_empty(), "joined: {frame}");
    }
}

#[test]
fn a_reply_of_another_kind_than_asked_for_is_a_failure_and_no_panic() {
    let mut bench = Bench::joined(&[(procedure("a.p"), Phase::Open)]);
    bench.command(Command::Open { generation: 1 });
    assert_eq!(bench.router(json!([67, 3])), [r#"Emit(Opened { generation: 1, failed: ["a.p"] })"#]);
    bench.command(call(41, "a.b"));
    assert!(bench.router(json!([65, 4, 7]))[0].contains("protocol_violation"));
}

#[test]
fn request_ids_count_from_one_and_wrap_after_two_to_the_53rd() {
    let mut bench = Bench::joined(&[]);
    bench.session.last_request = LAST_REQUEST - 1;
    assert_eq!(bench.command(call(1, "a")), [r#"[48,9007199254740992,{},"a",[1]]"#]);
    assert_eq!(bench.command(call(2, "a")), [r#"[48,1,{},"a",[2]]"#]);
}
