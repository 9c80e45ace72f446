//! The client as a whole against a scripted router on loopback (spec 9, behaviours 1 to 4 and 6).

mod frames;
mod proxies;
mod slow;

use super::*;
use crate::clock::Wall;
use crate::probe::Round;
use crate::secret::Secret;
use crate::thread::{self, Exit};
use crate::wamp::handle::spawn_with;
use crate::wamp::{CallError, Handle, Map, Refusal, Testament};
use crossbeam_channel::{bounded, unbounded};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use serde_json::{Value, json};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use tungstenite::handshake::server::{Request, Response};
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

const LIMIT: Duration = Duration::from_secs(20);
const MS: fn(u64) -> Duration = Duration::from_millis;

struct Router {
    listener: TcpListener,
}

/// One connection, from the router's side.
struct Peer {
    web: WebSocket<TcpStream>,
    hello: Value,
    session: u64,
}

impl Router {
    fn new() -> Router {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        set_socket_timeout(&listener, Timeout::Recv, Some(LIMIT)).unwrap();
        Router { listener }
    }

    fn settings(&self) -> Settings {
        let payload = Map::from_iter([("device_key".to_owned(), 3.into())]);
        Settings {
            url: format!("ws://{}/ws", self.listener.local_addr().unwrap()),
            realm: "realm1".to_owned(),
            authid: "2-3".to_owned(),
            secret: Secret::new("fake-device-secret"),
            client_certificate: None,
            claim: "a.claim".to_owned(),
            testament: Some(Testament { topic: "a.testament".to_owned(), payload }),
            connect_timeout: MS(1250),
            response_timeout: MS(5000),
            ping_interval: Duration::ZERO,
            time_floor: Wall::default(),
        }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    fn tcp(&self) -> TcpStream {
        let tcp = self.listener.accept().expect("nobody dials").0;
        tcp.set_read_timeout(Some(LIMIT)).unwrap();
        tcp
    }

    /// Up to HELLO.
    fn accept(&self, session: u64) -> Peer {
        Router::accept_on(self.tcp(), session)
    }

    fn accept_on(tcp: TcpStream, session: u64) -> Peer {
        #[expect(clippy::result_large_err, reason = "the signature is the library's")]
        let web = tungstenite::accept_hdr(tcp, |_: &Request, mut response: Response| {
            response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("wamp.2.json"));
            Ok(response)
        });
        let mut peer = Peer { web: web.unwrap(), hello: Value::Null, session };
        peer.hello = peer.next();
        assert_eq!(peer.hello[0], 1);
        peer
    }

    /// Up to REGISTER of the claim.
    fn welcome(&self, session: u64) -> Peer {
        let mut peer = self.accept(session);
        peer.send(json!([4, "wampcra", {"challenge": "{}"}]));
        assert_eq!(peer.next()[0], 5);
        peer.send(json!([2, session, {"roles": {"broker": {}, "dealer": {}}}]));
        assert_eq!(peer.next(), json!([64, 1, {}, "a.claim"]));
        peer
    }

    fn join(&self, session: u64) -> Peer {
        let mut peer = self.welcome(session);
        peer.send(json!([65, 1, 100]));
        let testament = peer.next();
        assert_eq!(testament[4][0], "a.testament");
        assert_eq!(testament[4][1][0], json!({"device_key": 3, "wamp_session_id": session}));
        peer.send(json!([50, 2, {}]));
        peer
    }
}

impl Peer {
    fn send(&mut self, frame: Value) {
        self.web.send(Message::text(frame.to_string())).unwrap();
    }

    fn frame(&mut self) -> Message {
        self.web.read().unwrap_or_else(|error| panic!("session {}: {error}", self.session))
    }

    fn next(&mut self) -> Value {
        loop {
            if let Message::Text(text) = self.frame() {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }

    /// Registers or subscribes whatever is asked for until `count` entries are; returns their URIs.
    fn confirm(&mut self, count: usize, first_id: u64) -> Vec<String> {
        let mut uris = Vec::new();
        for id in (first_id..).take(count) {
            let asked = self.next();
            let kind = asked[0].as_u64().unwrap();
            assert!(kind == 64 || kind == 32, "{asked}");
            self.send(json!([kind + 1, asked[1], id]));
            uris.push(asked[3].as_str().unwrap().to_owned());
        }
        uris
    }

    /// Whether the agent has ended its side by now, without waiting.
    fn is_gone(&mut self) -> bool {
        self.web.get_mut().set_nonblocking(true).unwrap();
        let read = self.web.get_mut().read(&mut [0; 1024]);
        !matches!(read, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }
}

struct Client {
    handle: Handle,
    events: Receiver<Event>,
    exit: Receiver<Exit>,
}

impl Client {
    fn new(settings: Settings) -> Client {
        Client::with(settings, unbounded())
    }

    fn with(settings: Settings, events: (Sender<Event>, Receiver<Event>)) -> Client {
        Client::behind(settings, Variables::default(), events)
    }

    fn behind(settings: Settings, variables: Variables, (sender, events): (Sender<Event>, Receiver<Event>)) -> Client {
        let (exits, exit) = bounded(1);
        let on_exit = move |how| exits.send(how).unwrap();
        let handle = spawn_with(settings, variables, sender, |event| event, on_exit).unwrap();
        Client { handle, events, exit }
    }

    fn event(&self) -> Event {
        self.events.recv_timeout(LIMIT).expect("no event")
    }

    /// The next event that is no failed attempt.
    fn beyond_failures(&self) -> Event {
        loop {
            match self.event() {
                Event::AttemptFailed { .. } => {}
                event => return event,
            }
        }
    }

    fn joined(&self, generation: u64, session: u64) {
        assert_eq!(self.beyond_failures(), Event::Joined { generation, session });
        assert_eq!(self.event(), Event::Testament { generation });
    }

    fn stopped(self) {
        let exit = self.exit.clone();
        assert!(self.handle.stop());
        assert_eq!(exit.recv_timeout(LIMIT), Ok(Exit::Done));
    }
}

/// Runs the router's half of a goodbye.
fn goodbye(peer: Peer) -> std::thread::JoinHandle<()> {
    thread::spawn(
        "goodbye",
        |_| {},
        move || {
            let mut peer = peer;
            loop {
                if peer.next()[0] == 6 {
                    break;
                }
            }
            peer.send(json!([6, {}, "wamp.close.goodbye_and_out"]));
            match peer.web.read() {
                Ok(Message::Close(Some(frame))) => {
                    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1000, "goodbye"));
                }
                other => panic!("{other:?}"),
            }
        },
    )
    .unwrap()
}

#[test]
fn two_failed_dials_and_then_a_session() {
    let router = Router::new();
    let client = Client::new(router.settings());
    for attempt in 1..=2 {
        drop(router.tcp());
        match client.event() {
            Event::AttemptFailed { attempt: number, retry_in, .. } => {
                assert_eq!(number, attempt);
                assert!(retry_in <= MS(1000 * attempt), "{retry_in:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    let peer = router.join(77);
    assert_eq!((&peer.hello[1], &peer.hello[2]["authid"]), (&json!("realm1"), &json!("2-3")));
    assert_eq!(client.event(), Event::Joined { generation: 1, session: 77 });
    let peer = goodbye(peer);
    client.stopped();
    peer.join().unwrap();
}

#[test]
fn c6_five_drops_in_a_row_give_six_sessions_with_everything_declared() {
    let router = Router::new();
    let client = Client::new(router.settings());
    let declare = |entry, phase| client.handle.send(Command::Declare { entry, phase });
    declare(Declaration::Subscription("a.meta".to_owned()), Phase::Join);
    declare(Declaration::Procedure("a.p".to_owned()), Phase::Open);
    declare(Declaration::Subscription("a.input".to_owned()), Phase::Open);
    for generation in 1..=6 {
        let mut peer = router.join(generation * 10);
        client.joined(generation, generation * 10);
        assert_eq!(peer.confirm(1, 200), ["a.meta"]);
        client.handle.send(Command::Open { generation });
        assert_eq!(peer.confirm(2, 300), ["a.p", "a.input"]);
        assert_eq!(client.event(), Event::Opened { generation, failed: vec![] });
        if generation == 6 {
            let peer = goodbye(peer);
            client.stopped();
            return peer.join().unwrap();
        }
        // An invocation and a call are open when the line is cut; neither may leak into the next session.
        peer.send(json!([68, 1, 300, {}]));
        assert!(matches!(client.event(), Event::Invocation { generation: of, request: 1, .. } if of == generation));
        let (uri, args, kwargs) = ("b.c".to_owned(), vec![], Map::new());
        client.handle.send(Command::Call { id: generation, uri, args, kwargs, timeout: LIMIT });
        assert_eq!(peer.next()[3], "b.c");
        drop(peer);
        assert_eq!(client.event(), Event::Answer { id: generation, result: Err(CallError::Lost) });
        assert!(matches!(client.event(), Event::Left { generation: of, .. } if of == generation));
        client.handle.send(Command::Yield { generation, request: 1, args: vec![], kwargs: Map::new() });
        client.handle.send(Command::Redial { reason: "no need to wait".to_owned() });
    }
}

#[test]
fn a_testament_that_is_refused_starts_over_until_one_was_taken() {
    let router = Router::new();
    let client = Client::new(router.settings());
    // Whether the router takes it, and whether the session goes on.
    for (session, (taken, goes_on)) in
        [(false, false), (false, false), (true, true), (false, true)].into_iter().enumerate()
    {
        let (session, generation) = (session as u64 + 100, session as u64 + 1);
        let mut peer = router.welcome(session);
        peer.send(json!([65, 1, 100]));
        assert_eq!(peer.next()[3], "wamp.session.add_testament");
        assert_eq!(client.beyond_failures(), Event::Joined { generation, session });
        peer.send(if taken { json!([50, 2, {}]) } else { json!([8, 48, 2, {}, "wamp.error.no_such_procedure"]) });
        if goes_on {
            assert_eq!(client.event(), Event::Testament { generation });
        } else {
            assert_eq!(peer.next()[0], 6, "the session is left politely");
        }
        drop(peer);
        assert!(matches!(client.event(), Event::Left { generation: of, .. } if of == generation));
        client.handle.send(Command::Redial { reason: "no need to wait".to_owned() });
    }
    client.stopped();
}

#[test]
fn s8_stopping_during_a_failing_dial_loop_returns_at_once_and_three_times_is_harmless() {
    let router = Router::new();
    let mut settings = router.settings();
    drop(router); // nobody listens there any more
    settings.connect_timeout = Duration::ZERO;
    let client = Client::new(settings.clone());
    assert!(matches!(client.event(), Event::AttemptFailed { attempt: 1, .. }));
    let began = clock::mono();
    for handle in [client.handle.clone(), client.handle.clone(), client.handle.clone()] {
        assert!(handle.stop());
    }
    assert!(clock::mono() - began < Duration::from_secs(2));
    assert_eq!(client.exit.recv_timeout(LIMIT), Ok(Exit::Done));

    // The same while a server accepts and then says nothing.
    let silent = Router::new();
    settings.url = silent.settings().url;
    let client = Client::new(settings);
    let _tcp = silent.tcp();
    let began = clock::mono();
    client.stopped();
    assert!(clock::mono() - began < Duration::from_secs(2));
}

#[test]
fn a_question_is_answered_while_nobody_answers_the_dial_and_in_a_session_whose_events_nobody_takes() {
    let router = Router::new();
    let client = Client::with(router.settings(), bounded(0));
    let answered = |handle: &Handle| {
        let (probe, mut round) = Round::begin("wamp");
        handle.send(Command::Probe(probe));
        round.is_answered_within(LIMIT)
    };
    let tcp = router.tcp();
    assert!(answered(&client.handle), "it waits for the handshake");
    drop(tcp);
    assert!(matches!(client.event(), Event::AttemptFailed { .. }));
    let peer = router.join(5);
    assert!(answered(&client.handle));
    client.joined(1, 5);
    let peer = goodbye(peer);
    let handle = client.handle.clone();
    client.stopped();
    peer.join().unwrap();
    assert!(answered(&handle), "a thread that has ended is not stuck");
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_a_connect_timeout() {
    let router = Router::new();
    let client = Client::new(Settings { connect_timeout: MS(50), ..router.settings() });
    let tcp = router.tcp();
    match client.event() {
        Event::AttemptFailed { attempt: 1, reason, .. } => assert_eq!(reason, "no connection within 50 ms"),
        other => panic!("{other:?}"),
    }
    drop(tcp);
    client.stopped();
}

#[test]
fn presence_refused_eight_times_gives_up_if_never_joined() {
    let router = Router::new();
    let client = Client::new(router.settings());
    for round in 1..=8 {
        let mut peer = router.welcome(round);
        peer.send(json!([8, 64, 1, {}, "wamp.error.procedure_already_exists"]));
        assert_eq!(peer.next()[0], 6, "the session is left politely");
        peer.send(json!([6, {}, "wamp.close.goodbye_and_out"]));
        match client.event() {
            Event::AttemptFailed { attempt, retry_in, .. } if round < 8 => {
                assert_eq!((attempt, retry_in), (round, MS(1000)));
            }
            Event::GaveUp(Refusal::Presence) if round == 8 => {}
            other => panic!("{round}: {other:?}"),
        }
    }
    assert_eq!(client.exit.recv_timeout(LIMIT), Ok(Exit::Done));
}

#[test]
fn a_wrong_secret_gives_up_after_three_refusals() {
    let router = Router::new();
    let client = Client::new(router.settings());
    for _ in 1..=3 {
        let mut peer = router.accept(1);
        peer.send(json!([4, "wampcra", {"challenge": "{}"}]));
        peer.next();
        peer.send(json!([3, {"message": "WAMP-CRA client signature is invalid"}, "wamp.error.not_authorized"]));
    }
    assert_eq!(client.beyond_failures(), Event::GaveUp(Refusal::Secret));
    assert_eq!(client.exit.recv_timeout(LIMIT), Ok(Exit::Done));
}

#[test]
fn c3_an_aborted_session_is_gone_from_the_router_before_the_next_hello() {
    let router = Router::new();
    let client = Client::new(router.settings());
    let mut old = router.join(1);
    client.joined(1, 1);
    client.handle.send(Command::Abort { generation: 7, reason: "another".to_owned() });
    client.handle.send(Command::Abort { generation: 1, reason: "heartbeat".to_owned() });
    let new = router.accept(2);
    assert!(old.is_gone());
    assert_eq!(client.event(), Event::Left { generation: 1, reason: "heartbeat".to_owned() });
    drop(new);
    client.stopped();
}

#[test]
fn a_moved_device_says_goodbye_and_comes_back_with_its_new_identity() {
    let router = Router::new();
    let client = Client::new(router.settings());
    let old = router.join(1);
    client.joined(1, 1);
    let old = goodbye(old);
    client.handle.send(Command::Configure(Settings { authid: "9-3".to_owned(), ..router.settings() }));
    client.handle.send(Command::Redial { reason: "moved".to_owned() });
    let new = router.join(2);
    old.join().unwrap();
    assert_eq!(new.hello[2]["authid"], "9-3");
    assert_eq!(client.event(), Event::Left { generation: 1, reason: "moved".to_owned() });
    client.joined(2, 2);
    let new = goodbye(new);
    client.stopped();
    new.join().unwrap();
}

#[test]
fn c5_a_router_that_does_not_answer_goodbye_holds_nobody_up() {
    let router = Router::new();
    let client = Client::new(Settings { response_timeout: MS(300), ..router.settings() });
    let peer = router.join(1);
    client.joined(1, 1);
    client.stopped();
    drop(peer);
}

#[test]
fn without_a_session_calls_fail_at_once_and_publications_are_dropped() {
    let router = Router::new();
    let client = Client::new(router.settings());
    let (uri, topic) = ("a.b".to_owned(), "a.t".to_owned());
    let (args, kwargs) = (vec![], Map::new());
    client.handle.send(Command::Call { id: 4, uri, args: vec![], kwargs: Map::new(), timeout: LIMIT });
    client.handle.send(Command::Publish { topic, args, kwargs, acknowledge: Some(5) });
    client.handle.bulk().publish("a.log".to_owned(), vec![], false);
    assert_eq!(client.event(), Event::Answer { id: 4, result: Err(CallError::NotConnected) });
    assert_eq!(client.event(), Event::Published { id: 5, result: Err(CallError::NotConnected) });
    let mut peer = router.join(1);
    client.joined(1, 1);
    client.handle.send(Command::Stop);
    assert_eq!(peer.next()[0], 6, "the bulk entry of before is not sent");
    drop(peer);
    client.stopped();
}

#[test]
fn c1_pongs_go_out_while_nobody_takes_events() {
    let router = Router::new();
    let client = Client::with(router.settings(), bounded(1));
    client.handle.send(Command::Declare { entry: Declaration::Procedure("a.p".to_owned()), phase: Phase::Join });
    let mut peer = router.join(1);
    peer.confirm(1, 200);
    for request in 1..=100 {
        peer.send(json!([68, request, 200, {}]));
    }
    let began = clock::mono();
    peer.web.send(Message::Ping("are you there".into())).unwrap();
    assert_eq!(peer.frame(), Message::Pong("are you there".into()));
    assert!(clock::mono() - began < Duration::from_secs(1));
    client.joined(1, 1);
    for request in 1..=100 {
        assert!(matches!(client.event(), Event::Invocation { request: of, .. } if of == request));
    }
    drop(peer);
    client.stopped();
}

#[test]
fn c1_a_user_who_stops_taking_events_holds_back_reading_and_not_the_pings() {
    const EVENTS: u64 = 6000;
    let router = Router::new();
    let client = Client::with(Settings { ping_interval: MS(150), ..router.settings() }, bounded(1));
    client.handle.send(Command::Declare { entry: Declaration::Subscription("a.t".to_owned()), phase: Phase::Join });
    let mut peer = router.join(1);
    peer.confirm(1, 200);
    let text = "x".repeat(3000); // more than the client takes, in bytes, and more than the kernel's buffers
    let mut writer =
        WebSocket::from_raw_socket(peer.web.get_ref().try_clone().unwrap(), tungstenite::protocol::Role::Server, None);
    let flood = thread::spawn(
        "flood",
        |_| {},
        move || {
            for number in 0..EVENTS {
                writer.send(Message::text(json!([36, 200, number, {}, [number, text]]).to_string())).unwrap();
            }
        },
    )
    .unwrap();
    // Ten pings: far longer than the 300 ms after which silence would be taken for death, if it were listened for. They
    // are read raw, because answering them would wait for the flood.
    let mut pings = [0; 10 * (2 + 4 + "keepalive".len())];
    peer.web.get_mut().read_exact(&mut pings).unwrap();
    assert!(pings.chunks(15).all(|ping| ping[0] == 0x89), "{pings:?}");
    assert!(!flood.is_finished(), "everything was read although nobody takes it");
    client.joined(1, 1);
    for number in 0..EVENTS {
        match client.event() {
            Event::Event { generation: 1, args, .. } => assert_eq!(args[0], number),
            other => panic!("{number}: {other:?}"),
        }
    }
    flood.join().unwrap();
    drop(peer);
    client.stopped();
}

#[test]
fn c4_a_router_that_answers_no_ping_is_left() {
    let router = Router::new();
    let client = Client::new(Settings { ping_interval: MS(150), ..router.settings() });
    let peer = router.join(1); // reads nothing any more, so its pongs do not go out
    client.joined(1, 1);
    let Event::Left { generation: 1, reason } = client.event() else { panic!() };
    assert!(reason.starts_with("nothing heard for 300 ms"), "{reason}");
    drop(peer);
    client.stopped();
}

#[test]
fn c2_control_overtakes_a_flood_of_bulk() {
    let router = Router::new();
    set_socket_recv_buffer_size(&router.listener, 16 * 1024).unwrap();
    let client = Client::new(router.settings());
    let mut peer = router.join(1);
    client.joined(1, 1);
    let bulk = client.handle.bulk();
    let line = Value::from("x".repeat(1000));
    for _ in 0..950 {
        bulk.publish("a.log".to_owned(), vec![line.clone()], true);
    }
    assert_eq!(bulk.dropped(), 0);
    let (topic, args, kwargs) = ("a.state".to_owned(), vec![], Map::new());
    client.handle.send(Command::Publish { topic, args, kwargs, acknowledge: None });
    client.handle.send(Command::Publish {
        topic: "a.end".to_owned(),
        args: vec![],
        kwargs: Map::new(),
        acknowledge: None,
    });
    let mut before = 0;
    while peer.next()[3] != "a.state" {
        before += 1;
    }
    assert!(before < 300, "{before} of 950 bulk entries went ahead of a control message");
    assert_eq!(peer.next()[3], "a.end");
    for _ in before..950 {
        assert_eq!(peer.next()[3], "a.log", "and all of the bulk arrives as soon as the router reads");
    }
    drop(peer);
    client.stopped();
}

#[test]
fn c4_a_router_that_stops_reading_ends_a_stop_all_the_same() {
    let router = Router::new();
    set_socket_recv_buffer_size(&router.listener, 16 * 1024).unwrap();
    let client = Client::new(Settings { response_timeout: MS(100), ..router.settings() });
    let peer = router.join(1);
    client.joined(1, 1);
    // More than the kernel holds: the thread is in a blocking write when it is to stop.
    let (args, kwargs) = (vec![Value::from("x".repeat(15 << 20))], Map::new());
    client.handle.send(Command::Publish { topic: "a.t".to_owned(), args, kwargs, acknowledge: None });
    client.stopped();
    drop(peer);
}

#[test]
fn the_client_ends_when_its_users_are_gone() {
    let router = Router::new();
    let client = Client::new(router.settings());
    let peer = router.join(1);
    client.joined(1, 1);
    let peer = goodbye(peer);
    let Client { handle, events: _events, exit } = client;
    drop(handle);
    peer.join().unwrap();
    assert_eq!(exit.recv_timeout(LIMIT), Ok(Exit::Done));

    let client = Client::new(router.settings());
    let mut peer = router.join(1);
    let Client { handle, events, exit } = client;
    drop(events);
    peer.send(json!([3, {}, "wamp.close.system_shutdown"]));
    assert_eq!(exit.recv_timeout(LIMIT), Ok(Exit::Done));
    drop(handle);
}
