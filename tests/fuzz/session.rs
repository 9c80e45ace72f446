//! A whole session against a router that answers rightly, wrongly, twice, or with anything: it never panics, every call is
//! answered once, nothing follows its end, and what it asks for is bounded.

use super::generator::Random;
use super::wamp::{message, recorded};
use super::{Case, cases};
use reagent::clock::Wall;
use reagent::secret::Secret;
use reagent::wamp::message::{Map, Message, Payload, decode};
use reagent::wamp::session::{MAX_FRAME, Output, Session};
use reagent::wamp::{Command, Declaration, Event, Phase, Settings, Testament};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Most outputs of one input: the declared table applied at once, and a few more.
const MOST_OUTPUTS: usize = 300;

struct Run<'a> {
    session: Session,
    now: Duration,
    /// What the agent has sent and the router has not looked at.
    inbox: Vec<Message>,
    calls: BTreeSet<u64>,
    publications: BTreeSet<u64>,
    joined: bool,
    ended: bool,
    case: &'a mut Case,
}

impl Run<'_> {
    /// Checks what the last input has brought.
    fn settle(&mut self) {
        let outputs = self.session.outputs();
        assert!(
            outputs.len() <= MOST_OUTPUTS + self.calls.len() + self.publications.len(),
            "{} outputs",
            outputs.len()
        );
        for output in outputs {
            let is_refusal = matches!(output, Output::Emit(Event::Answer { .. } | Event::Published { .. }));
            assert!(!self.ended || is_refusal, "after the end: {output:?}");
            match output {
                Output::Send(text) => {
                    assert!(text.len() <= MAX_FRAME);
                    self.inbox.push(decode(&text).unwrap_or_else(|error| panic!("{text}: {error}")));
                }
                Output::Emit(Event::Answer { id, .. }) => {
                    assert!(self.calls.remove(&id), "call {id} is answered twice");
                }
                Output::Emit(Event::Published { id, .. }) => assert!(self.publications.remove(&id), "publication {id}"),
                Output::Emit(Event::Joined { generation: 7, .. }) => {
                    assert!(!self.joined, "joined twice");
                    self.joined = true;
                }
                Output::Emit(Event::Joined { .. } | Event::Left { .. } | Event::AttemptFailed { .. }) => {
                    panic!("not the session's to say: {output:?}")
                }
                Output::End(_) => self.ended = true,
                Output::Emit(_) | Output::Ping | Output::Close | Output::Reached(_) => {}
            }
        }
        self.inbox.truncate(1000);
    }

    /// The right answer of a router to what the agent has sent.
    fn answer(&mut self, random: &mut Random, sent: Message) -> Option<Message> {
        let id = 1 + random.below(40) as u64;
        Some(match sent {
            Message::Hello { .. } if random.once_in(2) => {
                let extra = json!({"challenge": "x", "salt": "s", "iterations": 1, "keylen": 32});
                Message::Challenge { method: "wampcra".to_owned(), extra: object(extra) }
            }
            Message::Hello { .. } | Message::Authenticate { .. } => {
                let details = json!({"roles": {"broker": {}, "dealer": {}}});
                Message::Welcome { session: id, details: object(details) }
            }
            Message::Register { request, .. } => Message::Registered { request, registration: id },
            Message::Subscribe { request, .. } => Message::Subscribed { request, subscription: id },
            Message::Unregister { request, .. } => Message::Unregistered { request },
            Message::Unsubscribe { request, .. } => Message::Unsubscribed { request },
            Message::Call { request, .. } => Message::Result { request, details: Map::new(), payload: Payload::none() },
            Message::Publish { request, .. } => Message::Published { request, publication: id },
            Message::Cancel { request, .. } => Message::Error {
                kind: 48,
                request,
                details: Map::new(),
                uri: "wamp.error.canceled".to_owned(),
                payload: Payload::none(),
            },
            Message::Goodbye { .. } => Message::Goodbye { details: Map::new(), reason: "bye".to_owned() },
            _ => return None,
        })
    }

    fn hear(&mut self, message: Message) {
        self.case.note(&message);
        self.session.on_frame();
        self.session.on_message(self.now, message);
        self.settle();
    }

    fn router(&mut self, random: &mut Random, recorded: &[Vec<u8>]) {
        match random.below(12) {
            0..=6 if !self.inbox.is_empty() => {
                let at = if random.once_in(4) { random.below(self.inbox.len()) } else { 0 };
                let sent = self.inbox.remove(at);
                let Some(answer) = self.answer(random, sent) else { return };
                if random.once_in(10) {
                    self.hear(answer.clone());
                }
                self.hear(answer);
            }
            7 if !self.inbox.is_empty() => {
                let request = random.below(30) as u64;
                let uri = random.pick(&["wamp.error.procedure_already_exists", "a.b", ""]).to_owned();
                let (kind, details, payload) = (random.below(70) as u64, Map::new(), Payload::none());
                self.hear(Message::Error { kind, request, details, uri, payload });
            }
            8 => {
                let (request, registration) = (random.below(50) as u64, random.below(42) as u64);
                let details = Map::from_iter([
                    ("timeout".to_owned(), random.number()),
                    ("caller_authid".to_owned(), random.json(1)),
                ]);
                self.hear(Message::Invocation { request, registration, details, payload: Payload::none() });
            }
            9 => {
                let line = &recorded[random.below(recorded.len())];
                let line = random.mutate(line, recorded);
                if let Ok(message) = decode(&String::from_utf8_lossy(&line)) {
                    self.hear(message);
                }
            }
            10 if random.once_in(4) => {
                let any = message(random);
                self.hear(any);
            }
            _ => {
                let (subscription, publication) = (random.below(42) as u64, 1);
                self.hear(Message::Event { subscription, publication, details: Map::new(), payload: Payload::none() });
            }
        }
    }

    fn user(&mut self, random: &mut Random, number: u64) {
        let uri = format!("a.{}", random.below(30));
        let entry = if random.once_in(2) {
            Declaration::Procedure(uri.clone())
        } else {
            Declaration::Subscription(uri.clone())
        };
        let generation = if random.once_in(8) { 6 } else { 7 };
        let request = random.below(50) as u64;
        let kinds = if random.once_in(30) { 12 } else { 9 };
        let command = match random.below(kinds) {
            0 => Command::Declare { entry, phase: if random.once_in(2) { Phase::Join } else { Phase::Open } },
            1 => Command::Withdraw(entry),
            2 => Command::Open { generation },
            3 | 4 => {
                self.calls.insert(number);
                let timeout = Duration::from_millis(random.next() % 40_000);
                Command::Call { id: number, uri, args: vec![random.json(1)], kwargs: Map::new(), timeout }
            }
            5 => Command::CancelCall { id: random.next() % number.max(1) },
            6 => {
                let acknowledge = random.once_in(2).then_some(number);
                self.publications.extend(acknowledge);
                Command::Publish { topic: uri, args: vec![], kwargs: Map::new(), acknowledge }
            }
            7 => Command::Yield { generation, request, args: vec![Value::Null], kwargs: Map::new() },
            8 => Command::Fail { generation, request, uri, args: vec![] },
            9 => Command::Redial { reason: "moved".to_owned() },
            10 => Command::Abort { generation, reason: "dead".to_owned() },
            _ => Command::Stop,
        };
        self.case.note(&command);
        self.session.on_command(self.now, command);
        self.settle();
    }

    /// Time passes: to the next deadline, or a little.
    fn time(&mut self, random: &mut Random) {
        let deadline = self.session.deadline();
        let step = Duration::from_millis(random.next() % 3000);
        self.now = if random.once_in(3) {
            deadline.min(self.now + Duration::from_secs(60)).max(self.now)
        } else {
            self.now + step
        };
        self.case.note(self.now);
        if random.once_in(10) {
            self.session.on_held_back(self.now);
        }
        for round in 0.. {
            if self.session.deadline() > self.now {
                break;
            }
            assert!(round < 50, "a deadline that is always due: the thread would spin");
            self.session.on_deadline(self.now);
            self.settle();
        }
    }
}

fn object(value: Value) -> Map {
    serde_json::from_value(value).expect("it is written as an object")
}

fn settings(random: &mut Random) -> Settings {
    Settings {
        url: "ws://a.b".to_owned(),
        realm: "realm1".to_owned(),
        authid: "2-3".to_owned(),
        secret: Secret::new("fake"),
        client_certificate: None,
        claim: "a.claim".to_owned(),
        testament: random.once_in(2).then(|| Testament { topic: "a.t".to_owned(), payload: Map::new() }),
        connect_timeout: Duration::ZERO,
        response_timeout: Duration::from_millis(random.next() % 2 * 3000),
        ping_interval: Duration::ZERO,
        time_floor: Wall::default(),
    }
}

#[test]
fn p2_c7_a_session_survives_any_router_and_answers_every_call_once() {
    let recorded = recorded();
    cases(400, |random, case| {
        let declared = (0..random.below(20))
            .map(|number| {
                (Declaration::Procedure(format!("a.{number}")), if number % 3 == 0 { Phase::Join } else { Phase::Open })
            })
            .collect::<BTreeMap<_, _>>();
        let now = Duration::from_secs(100);
        let session = Session::new(7, settings(random), &declared, random.once_in(2), now);
        let (calls, publications) = (BTreeSet::new(), BTreeSet::new());
        let mut run = Run { session, now, inbox: vec![], calls, publications, joined: false, ended: false, case };
        run.settle();
        for number in 1..400 {
            match random.below(8) {
                0..=4 => run.router(random, &recorded),
                5 | 6 => run.user(random, number),
                _ => run.time(random),
            }
        }
        run.session.on_closed("the line is cut".to_owned());
        run.settle();
        assert!(run.ended && run.session.deadline() == Duration::MAX);
        assert!(
            run.calls.is_empty() && run.publications.is_empty(),
            "unanswered: {:?} {:?}",
            run.calls,
            run.publications
        );
    });
}

#[test]
fn most_of_these_sessions_are_joined() {
    // Else the test above would prove little.
    let recorded = recorded();
    let mut joined = 0;
    for seed in 1..=50 {
        let random = &mut Random::new(seed);
        let now = Duration::from_secs(100);
        let session = Session::new(7, settings(random), &BTreeMap::new(), false, now);
        let (calls, publications) = (BTreeSet::new(), BTreeSet::new());
        let case = &mut Case::default();
        let mut run = Run { session, now, inbox: vec![], calls, publications, joined: false, ended: false, case };
        run.settle();
        for _ in 0..60 {
            run.router(random, &recorded);
        }
        joined += u32::from(run.joined);
    }
    assert!(joined > 25, "{joined} of 50");
}
