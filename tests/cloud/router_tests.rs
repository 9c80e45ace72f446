//! The router and the peer, judged: every test of [`judged`] runs against our router and against the real Crossbar.

use super::cra::Salt;
use super::peer::{Failure, Login, PATIENCE, Payload, Peer};
use super::realm::User;
use super::router::{Router, Traffic};
use crossbeam_channel::{Receiver, bounded};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

/// The users that both routers know.
pub fn users() -> HashMap<String, User> {
    let salt = Salt { text: "salt123".to_owned(), iterations: 1000, keylen: 32 };
    let salted = User { salt: Some(salt), ..User::plain("salted-secret", "device") };
    let users = [
        ("2-3", User::plain("fake-device-secret", "device")),
        ("2-4", salted),
        ("42", User::plain("user-secret", "backend")),
        ("system", User::plain("backend-secret", "backend")),
    ];
    users.into_iter().map(|(authid, user)| (authid.to_owned(), user)).collect()
}

/// What the judged tests need of a router.
pub struct UnderTest {
    pub url: String,
}

impl UnderTest {
    fn login(&self, authid: &str) -> Login {
        Login::new(&self.url, authid, &users()[authid].secret)
    }

    fn join(&self, authid: &str) -> Peer {
        Peer::join(&self.login(authid)).expect("a known user may join")
    }
}

fn ours() -> Router {
    Router::start(0, users()).expect("a free loopback port")
}

/// Both routers: ours in the first module, Crossbar (started once per process) in the second.
macro_rules! judged {
    ($($name:ident),+ $(,)?) => {
        mod ours {
            $(#[test] fn $name() {
                let router = super::ours();
                super::$name(&super::UnderTest { url: router.url() });
            })+
        }
        mod crossbar {
            $(#[test] fn $name() {
                super::$name(&super::UnderTest { url: crate::real::crossbar().url() });
            })+
        }
    };
}

judged! {
    who_knows_the_secret_joins_plain_or_salted,
    a_wrong_signature_is_refused_with_the_text_the_agent_looks_for,
    an_unknown_authid_is_refused,
    an_event_reaches_exact_and_pattern_subscribers_but_not_its_publisher,
    subscribers_come_and_go_with_meta_events_after_the_reply,
    match_finds_exact_and_prefix_subscriptions_and_null_otherwise,
    a_call_reaches_its_callee_with_the_caller_disclosed,
    an_error_travels_back_with_uri_and_arguments,
    a_procedure_nobody_offers_is_no_such_procedure,
    an_empty_result_has_no_arguments,
    a_procedure_has_one_callee_unless_it_is_forced,
    a_cancelled_call_interrupts_the_callee_and_fails_at_once,
    calls_to_a_callee_that_goes_away_fail,
    a_caller_that_goes_away_interrupts_the_callee,
    a_testament_is_published_when_the_connection_is_cut,
    a_testament_is_published_after_goodbye_too,
    a_lost_callee_is_announced_and_its_registration_is_unknown_afterwards,
    a_restricted_topic_is_refused,
}

fn text(value: &str) -> Vec<Value> {
    vec![json!(value)]
}

#[track_caller]
fn next(events: &Receiver<Payload>, what: &str) -> Payload {
    events.recv_timeout(SOON).unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"))
}

/// Events of other tests on a shared router are passed over.
#[track_caller]
fn next_where(events: &Receiver<Payload>, what: &str, wanted: impl Fn(&Payload) -> bool) -> Payload {
    let mut others = Vec::new();
    loop {
        match events.recv_timeout(SOON) {
            Ok(event) if wanted(&event) => return event,
            Ok(event) => others.push(event),
            Err(_) => panic!("not within {SOON:?}: {what}; there was {others:?}"),
        }
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Failure>) -> (String, Vec<Value>) {
    match result {
        Err(Failure::Refused { uri, args, .. }) => (uri, args),
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// A topic or procedure of this test alone, since all tests share one Crossbar.
fn own(name: &str) -> String {
    format!("test.{}.{name}", super::realm::random_id())
}

fn who_knows_the_secret_joins_plain_or_salted(router: &UnderTest) {
    assert!(router.join("2-3").session() > 0);
    let salted = Peer::join(&router.login("2-4"));
    assert!(salted.unwrap().session() > 0);
}

fn a_wrong_signature_is_refused_with_the_text_the_agent_looks_for(router: &UnderTest) {
    let login = Login { secret: "wrong".to_owned(), ..router.login("2-3") };
    let (uri, args) = refused(Peer::join(&login).map(drop));
    assert_eq!((uri.as_str(), args), ("wamp.error.not_authorized", text("WAMP-CRA client signature is invalid")));
}

fn an_unknown_authid_is_refused(router: &UnderTest) {
    let login = Login { authid: "9-9".to_owned(), ..router.login("2-3") };
    let (uri, args) = refused(Peer::join(&login).map(drop));
    assert_eq!((uri.as_str(), args), ("wamp.error.not_authorized", text("no principal with authid \"9-9\" exists")));
}

fn an_event_reaches_exact_and_pattern_subscribers_but_not_its_publisher(router: &UnderTest) {
    let (publisher, listener) = (router.join("2-3"), router.join("system"));
    let prefix = own("logs.");
    let topic = format!("{prefix}serial.prod_1_app");
    let (_, own_events) = publisher.subscribe(&topic, "exact").unwrap();
    let (_, exact) = listener.subscribe(&topic, "exact").unwrap();
    let (_, by_prefix) = listener.subscribe(&prefix, "prefix").unwrap();
    let (_, by_wildcard) = listener.subscribe(&format!("{prefix}serial."), "wildcard").unwrap();
    let (_, elsewhere) = listener.subscribe(&format!("{topic}x"), "exact").unwrap();
    let kwargs = Map::from_iter([("k".to_owned(), json!({"deep": [null, 1.5]}))]);
    publisher.publish(&topic, vec![json!("line")], kwargs.clone()).unwrap();
    publisher.publish(&topic, vec![], Map::new()).unwrap();
    for (events, pattern) in [(&exact, false), (&by_prefix, true), (&by_wildcard, true)] {
        let event = next(events, "the event");
        assert_eq!((event.args, event.kwargs), (vec![json!("line")], kwargs.clone()));
        let named = if pattern { json!(topic) } else { Value::Null };
        assert_eq!(event.details["topic"], named);
        assert_eq!(event.details["publisher_authid"], "2-3");
        assert_eq!(next(events, "the empty event").args, Vec::<Value>::new());
    }
    // Both events are there, so what is not here will not come.
    assert!(own_events.is_empty() && elsewhere.is_empty());
}

fn subscribers_come_and_go_with_meta_events_after_the_reply(router: &UnderTest) {
    let (watcher, listener) = (router.join("2-3"), router.join("system"));
    let (_, created) = watcher.subscribe("wamp.subscription.on_create", "exact").unwrap();
    let (_, deleted) = watcher.subscribe("wamp.subscription.on_delete", "exact").unwrap();
    let topic = own("topic");
    let (id, _events) = listener.subscribe(&topic, "exact").unwrap();
    let event = next_where(&created, "on_create", |event| event.args[1]["id"] == json!(id));
    assert_eq!(event.args[0], json!(listener.session()));
    assert_eq!((&event.args[1]["uri"], &event.args[1]["match"]), (&json!(topic), &json!("exact")));
    assert!(event.args[1]["created"].is_string());
    let second = router.join("42");
    let (same, _) = second.subscribe(&topic, "exact").unwrap();
    assert_eq!(same, id);
    listener.unsubscribe(id).unwrap();
    let (short, _) = listener.subscribe(&own("short"), "exact").unwrap();
    listener.unsubscribe(short).unwrap();
    let event = next_where(&deleted, "on_delete", |event| event.args[1] == json!(short));
    assert_eq!(event.args[0], json!(listener.session()));
    second.cut();
    let event = next_where(&deleted, "on_delete", |event| event.args[1] == json!(id));
    assert_eq!(event.args, vec![Value::Null, json!(id)], "a session that was lost has no id any more");
    assert!(created.try_iter().all(|event| event.args[1]["id"] != json!(id)), "one on_create per subscription");
    assert_eq!(refused(listener.unsubscribe(id)).0, "wamp.error.no_such_subscription");
}

fn match_finds_exact_and_prefix_subscriptions_and_null_otherwise(router: &UnderTest) {
    let (asking, listener) = (router.join("2-3"), router.join("system"));
    let prefix = own("logs.");
    let topic = format!("{prefix}one");
    let ask = |topic: &str| asking.call("wamp.subscription.match", text(topic), Map::new(), SOON).unwrap().args;
    assert_eq!(ask(&topic), vec![Value::Null]);
    let (by_prefix, _) = listener.subscribe(&prefix, "prefix").unwrap();
    assert_eq!(ask(&topic), vec![json!([by_prefix])]);
    let (exact, _) = listener.subscribe(&topic, "exact").unwrap();
    let mut both: Vec<u64> = serde_json::from_value(ask(&topic)[0].clone()).unwrap();
    both.sort_unstable();
    let mut expected = vec![by_prefix, exact];
    expected.sort_unstable();
    assert_eq!(both, expected);
}

fn a_call_reaches_its_callee_with_the_caller_disclosed(router: &UnderTest) {
    let (callee, caller) = (router.join("2-3"), router.join("42"));
    let procedure = own("echo");
    callee
        .register(&procedure, json!({"force_reregister": true}), |call| {
            let payload = &call.payload;
            call.answer(vec![payload.details.clone(), json!(payload.args), json!(payload.kwargs)]);
        })
        .unwrap();
    let kwargs = Map::from_iter([("app_key".to_owned(), json!(501))]);
    let result = caller.call(&procedure, vec![], kwargs, SOON).unwrap();
    assert_eq!(
        result.args,
        vec![
            json!({"caller": caller.session(), "caller_authid": "42", "caller_authrole": "backend"}),
            json!([]),
            json!({"app_key": 501}),
        ]
    );
    let callee_details = json!({"callee": callee.session(), "callee_authid": "2-3", "callee_authrole": "device"});
    assert_eq!(result.details, callee_details);
}

fn an_error_travels_back_with_uri_and_arguments(router: &UnderTest) {
    let (callee, caller) = (router.join("2-3"), router.join("42"));
    let procedure = own("fail");
    let error = json!({"error": "insufficient privileges"});
    let sent = error.clone();
    callee.register(&procedure, json!({}), move |call| call.fail("wamp.error.canceled", vec![sent.clone()])).unwrap();
    let answer = refused(caller.call(&procedure, vec![], Map::new(), SOON));
    assert_eq!(answer, ("wamp.error.canceled".to_owned(), vec![error]));
}

fn a_procedure_nobody_offers_is_no_such_procedure(router: &UnderTest) {
    let caller = router.join("42");
    let procedure = own("nobody");
    let (uri, args) = refused(caller.call(&procedure, vec![], Map::new(), SOON));
    assert_eq!(uri, "wamp.error.no_such_procedure");
    assert_eq!(args, text(&format!("no callee registered for procedure <{procedure}>")));
}

fn an_empty_result_has_no_arguments(router: &UnderTest) {
    let (callee, caller) = (router.join("2-3"), router.join("42"));
    let procedure = own("empty");
    callee.register(&procedure, json!({}), |call| call.answer(vec![])).unwrap();
    let result = caller.call(&procedure, vec![], Map::new(), SOON).unwrap();
    assert_eq!((result.args, result.kwargs), (vec![], Map::new()));
}

fn a_procedure_has_one_callee_unless_it_is_forced(router: &UnderTest) {
    let (first, second, caller) = (router.join("2-3"), router.join("2-3"), router.join("42"));
    let procedure = own("one");
    let id = first.register(&procedure, json!({}), |call| call.answer(text("first"))).unwrap();
    let (uri, args) = refused(second.register(&procedure, json!({}), |call| call.answer(text("second"))));
    assert_eq!(uri, "wamp.error.procedure_already_exists");
    assert_eq!(args, text(&format!("register for already registered procedure '{procedure}'")));
    let forced = json!({"force_reregister": true});
    let new = second.register(&procedure, forced, |call| call.answer(text("second"))).unwrap();
    assert_ne!(new, id);
    assert_eq!(caller.call(&procedure, vec![], Map::new(), SOON).unwrap().args, text("second"));
    first.leave();
    assert_eq!(caller.call(&procedure, vec![], Map::new(), SOON).unwrap().args, text("second"));
    second.unregister(new).unwrap();
    assert_eq!(refused(second.unregister(new)).0, "wamp.error.no_such_registration");
    assert_eq!(refused(caller.call(&procedure, vec![], Map::new(), SOON)).0, "wamp.error.no_such_procedure");
}

/// Registers a procedure that never answers; gives its invocations to the test.
fn hanging(callee: &Peer, procedure: &str) -> Receiver<super::peer::Invocation> {
    let (calls, called) = bounded(8);
    callee.register(procedure, json!({}), move |call| drop(calls.send(call))).unwrap();
    called
}

fn a_cancelled_call_interrupts_the_callee_and_fails_at_once(router: &UnderTest) {
    let (callee, caller) = (router.join("2-3"), router.join("42"));
    let procedure = own("hang");
    let called = hanging(&callee, &procedure);
    for mode in ["killnowait", "kill"] {
        let pending = caller.start_call(&procedure, json!({}), vec![], Map::new());
        let call = called.recv_timeout(SOON).expect("the invocation");
        pending.cancel(mode);
        call.interrupted.recv_timeout(SOON).expect("the interrupt");
        if mode == "kill" {
            assert_eq!(pending.wait(Duration::from_millis(50)), Err(Failure::TimedOut), "kill waits for the callee");
            call.fail("wamp.error.canceled", vec![]);
        }
        assert_eq!(refused(pending.wait(SOON)).0, "wamp.error.canceled", "{mode}");
        call.answer(text("too late"));
    }
    let pending = caller.start_call(&procedure, json!({}), vec![], Map::new());
    called.recv_timeout(SOON).expect("the invocation").answer(text("in time"));
    assert_eq!(pending.wait(SOON).unwrap().args, text("in time"));
}

fn calls_to_a_callee_that_goes_away_fail(router: &UnderTest) {
    let (callee, caller) = (router.join("2-3"), router.join("42"));
    let procedure = own("gone");
    let called = hanging(&callee, &procedure);
    let pending = caller.start_call(&procedure, json!({}), vec![], Map::new());
    let _call = called.recv_timeout(SOON).expect("the invocation");
    callee.cut();
    let (uri, args) = refused(pending.wait(SOON));
    assert_eq!(uri, "wamp.error.canceled");
    assert_eq!(args, text("callee disconnected from in-flight request"));
}

fn a_caller_that_goes_away_interrupts_the_callee(router: &UnderTest) {
    let (callee, caller) = (router.join("2-3"), router.join("42"));
    let procedure = own("left");
    let called = hanging(&callee, &procedure);
    let _pending = caller.start_call(&procedure, json!({}), vec![], Map::new());
    let call = called.recv_timeout(SOON).expect("the invocation");
    caller.cut();
    call.interrupted.recv_timeout(SOON).expect("the interrupt");
}

/// Adds a testament as the agent does, and listens for it.
fn testament(router: &UnderTest, device: &Peer) -> (Peer, Receiver<Payload>) {
    let listener = router.join("system");
    let (_, events) = listener.subscribe("reswarm.api.testament_device", "exact").unwrap();
    let payload = json!({"swarm_key": 2, "device_key": 3, "serial_number": "s", "wamp_session_id": device.session()});
    let args = vec![json!("reswarm.api.testament_device"), json!([payload]), json!({})];
    let result = device.call("wamp.session.add_testament", args, Map::new(), SOON).unwrap();
    assert!(result.args[0].is_u64(), "{result:?}");
    (listener, events)
}

#[track_caller]
fn published(events: &Receiver<Payload>, session: u64) {
    let event = next_where(events, "the testament", |event| event.args[0]["wamp_session_id"] == json!(session));
    assert_eq!((event.args.len(), &event.args[0]["serial_number"]), (1, &json!("s")));
}

fn a_testament_is_published_when_the_connection_is_cut(router: &UnderTest) {
    let device = router.join("2-3");
    let (_listener, events) = testament(router, &device);
    device.cut();
    published(&events, device.session());
}

fn a_testament_is_published_after_goodbye_too(router: &UnderTest) {
    let device = router.join("2-3");
    let (_listener, events) = testament(router, &device);
    let session = device.session();
    device.leave();
    published(&events, session);
}

fn a_lost_callee_is_announced_and_its_registration_is_unknown_afterwards(router: &UnderTest) {
    let (watcher, callee) = (router.join("2-3"), router.join("42"));
    let (_, lost) = watcher.subscribe("wamp.registration.on_unregister", "exact").unwrap();
    let procedure = own("resize");
    let id = callee.register(&procedure, json!({}), |call| call.answer(vec![])).unwrap();
    let ask = || watcher.call("wamp.registration.get", vec![json!(id)], Map::new(), SOON);
    let details = ask().unwrap().args[0].clone();
    assert_eq!((&details["id"], &details["uri"]), (&json!(id), &json!(procedure)));
    assert_eq!((&details["match"], &details["invoke"]), (&json!("exact"), &json!("single")));
    callee.cut();
    let event = next_where(&lost, "on_unregister", |event| event.args[1] == json!(id));
    assert_eq!(event.args, vec![Value::Null, json!(id)], "a session that was lost has no id any more");
    assert_eq!(refused(ask()).0, "wamp.error.no_such_registration");
}

fn a_restricted_topic_is_refused(router: &UnderTest) {
    let peer = router.join("2-3");
    assert_eq!(refused(peer.publish("wamp.mine", vec![], Map::new())).0, "wamp.error.invalid_uri");
}

#[test]
fn the_path_of_a_session_is_seen_on_the_tap() {
    let router = ours();
    let traffic = router.tap();
    let peer = UnderTest { url: router.url() }.join("2-3");
    peer.leave();
    let kinds: Vec<Option<u64>> = traffic
        .iter()
        .map_while(|seen| match seen {
            Traffic::FromPeer(_, message) | Traffic::ToPeer(_, message) => Some(message[0].as_u64()),
            Traffic::Opened(_) | Traffic::Ping(_) => Some(None),
            Traffic::Closed(_) => None,
        })
        .collect();
    assert_eq!(kinds, [None, Some(1), Some(4), Some(5), Some(2), Some(6), Some(6)]);
}

#[test]
fn a_router_that_was_down_comes_back_empty_on_its_port() {
    let mut router = ours();
    let under_test = UnderTest { url: router.url() };
    let peer = under_test.join("2-3");
    router.go_down();
    assert!(peer.closed().recv_timeout(PATIENCE).is_err_and(|error| error.is_disconnected()));
    assert!(matches!(Peer::join(&under_test.login("2-3")), Err(Failure::Gone(_))));
    router.come_back().unwrap();
    assert_eq!(router.url(), under_test.url);
    let again = under_test.join("2-3");
    assert_eq!(router.sessions("2-3"), [again.session()]);
}

#[test]
fn a_frozen_router_accepts_and_is_silent_until_it_thaws() {
    let router = ours();
    let under_test = UnderTest { url: router.url() };
    let peer = under_test.join("2-3");
    router.freeze(true);
    let pending = peer.start_call("nobody", json!({}), vec![], Map::new());
    assert_eq!(pending.wait(Duration::from_millis(100)), Err(Failure::TimedOut));
    let tcp = std::net::TcpStream::connect(("127.0.0.1", router.port()));
    assert!(tcp.is_ok());
    router.freeze(false);
    assert_eq!(refused(pending.wait(SOON)).0, "wamp.error.no_such_procedure");
}

#[test]
fn presence_and_signatures_are_refused_on_demand() {
    let router = ours();
    let under_test = UnderTest { url: router.url() };
    router.refuse_presence(2);
    let presence = "re.mgmt.serial.wamp_connection_established";
    let peer = under_test.join("2-3");
    let register = || peer.register(presence, json!({}), |call| call.answer(vec![]));
    for _ in 0..2 {
        assert_eq!(refused(register()).0, "wamp.error.procedure_already_exists");
    }
    assert!(register().is_ok());
    assert_eq!(router.registrations("2-3"), [presence]);
    router.refuse_auth(true);
    let (_, args) = refused(Peer::join(&under_test.login("2-3")).map(drop));
    assert_eq!(args, text("WAMP-CRA client signature is invalid"));
    router.refuse_auth(false);
    under_test.join("2-3");
}

#[test]
fn a_ping_is_answered_and_a_frame_above_the_limit_ends_the_connection() {
    let router = ours();
    let peer = UnderTest { url: router.url() }.join("2-3");
    assert!(router.ping("2-3", SOON).is_some());
    assert_eq!(router.ping("nobody", Duration::from_millis(10)), None);
    let huge = "x".repeat(super::wire::FRAME_LIMIT);
    let pending = peer.start_call("nobody", json!({}), text(&huge), Map::new());
    assert!(matches!(pending.wait(SOON), Err(Failure::Gone(_))));
}

#[test]
fn a_cut_or_dismissed_session_is_gone() {
    let router = ours();
    let under_test = UnderTest { url: router.url() };
    for end in
        [|router: &Router| router.cut("2-3"), |router: &Router| router.dismiss("2-3", "wamp.close.system_shutdown")]
    {
        let peer = under_test.join("2-3");
        assert_eq!(end(&router), 1);
        assert!(peer.closed().recv_timeout(PATIENCE).is_err_and(|error| error.is_disconnected()));
        crate::util::wait_until(SOON, "the session is forgotten", || router.sessions("2-3").is_empty().then_some(()));
    }
}

#[test]
fn an_overlooked_loss_keeps_the_session_and_its_procedures_until_it_is_noticed() {
    let router = ours();
    let under_test = UnderTest { url: router.url() };
    let lost = under_test.join("2-3");
    lost.register("presence", json!({}), |call| call.answer(vec![])).unwrap();
    router.overlook_losses(true);
    lost.cut();
    assert!(lost.closed().recv_timeout(PATIENCE).is_err_and(|error| error.is_disconnected()));
    let again = under_test.join("2-3");
    let register = || again.register("presence", json!({}), |call| call.answer(vec![]));
    assert_eq!(refused(register()).0, "wamp.error.procedure_already_exists");
    assert_eq!(router.sessions("2-3").len(), 2);
    router.overlook_losses(false);
    crate::util::wait_until(SOON, "the loss is noticed", || register().is_ok().then_some(()));
    assert_eq!(router.sessions("2-3"), [again.session()]);
}
