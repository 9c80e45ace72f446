//! The declared table within one session: claim, registrations, subscriptions (spec 1.5, 1.8; field lesson C6).
//!
//! Each entry is idle, asked for, held or failed; a failed one is asked for again with a growing pause while the session
//! lives. Withdrawing removes the handler first and then asks the router.

use super::{ALREADY_EXISTS, End, Milestone, Output, Reply, Session, Stage, What, text};
use crate::sorted::IntoSorted;
use crate::wamp::message::{Map, Message, Payload, option};
use crate::wamp::{Declaration, Event, Phase, Refusal};
use log::{debug, warn};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is declared, and what the router has confirmed of it.
#[derive(Debug)]
pub(super) struct Table {
    /// The router's id of the session; 0 before WELCOME.
    pub(super) session: u64,
    claim: Entry,
    entries: BTreeMap<Declaration, Entry>,
    procedures: BTreeMap<u64, String>,
    topics: BTreeMap<u64, String>,
    opening: Option<Opening>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    phase: Phase,
    state: State,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Asked(u64),
    Held(u64),
    Failed { retry_at: Duration },
}

/// The Open phase: what has not been answered for the first time yet.
#[derive(Debug)]
struct Opening {
    waiting: BTreeSet<Declaration>,
    failed: Vec<String>,
    announced: bool,
}

impl Entry {
    fn new(phase: Phase) -> Entry {
        Entry { phase, state: State::Idle, failures: 0 }
    }

    fn fail(&mut self, now: Duration) {
        let pause = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1);
        self.state = State::Failed { retry_at: now + pause.min(LONGEST_PAUSE) };
    }

    fn is_due(&self, now: Duration) -> bool {
        matches!(self.state, State::Failed { retry_at } if retry_at <= now)
    }
}

impl Table {
    pub(super) fn new(declared: &BTreeMap<Declaration, Phase>) -> Table {
        Table {
            session: 0,
            claim: Entry::new(Phase::Join),
            entries: declared.iter().map(|(entry, phase)| (entry.clone(), Entry::new(*phase))).into_map(),
            procedures: BTreeMap::new(),
            topics: BTreeMap::new(),
            opening: None,
        }
    }

    pub(super) fn next_retry(&self) -> Option<Duration> {
        let entries = self.entries.values().chain([&self.claim]);
        entries
            .filter_map(|entry| if let State::Failed { retry_at } = entry.state { Some(retry_at) } else { None })
            .min()
    }

    pub(super) fn is_claim(&self, registration: u64) -> bool {
        self.claim.state == State::Held(registration)
    }

    pub(super) fn procedure(&self, registration: u64) -> Option<&str> {
        self.procedures.get(&registration).map(String::as_str)
    }
}

impl Session {
    pub(super) fn claim(&mut self, now: Duration) {
        let request = self.wait(What::Claim, now + self.reply_bound());
        self.table.claim.state = State::Asked(request);
        let procedure = self.settings.claim.clone();
        self.send(Message::Register { request, options: Map::new(), procedure });
    }

    pub(super) fn on_claim(&mut self, now: Duration, reply: Result<Reply, (String, Payload)>) {
        match reply {
            Ok(Reply::Held(id)) => {
                self.table.claim.state = State::Held(id);
                self.outputs.push(Output::Reached(Milestone::Claimed));
                if self.stage == Stage::Claim {
                    self.join(now);
                }
            }
            Err((uri, payload)) if uri == ALREADY_EXISTS && self.stage == Stage::Claim => {
                self.leave(now, End::Refused(Refusal::Presence, text(&uri, &payload)));
            }
            Err((uri, payload)) => self.on_claim_failed(now, &text(&uri, &payload)),
            Ok(_) => self.on_claim_failed(now, "a reply of another kind"),
        }
    }

    /// The session is kept (spec 1.7), and the claim tried again.
    pub(super) fn on_claim_failed(&mut self, now: Duration, reason: &str) {
        warn!("{} was not registered: {reason}", self.settings.claim);
        self.table.claim.fail(now);
        self.outputs.push(Output::Reached(Milestone::NotClaimed));
        if self.stage == Stage::Claim {
            self.join(now);
        }
    }

    pub(super) fn declare(&mut self, now: Duration, declaration: Declaration, phase: Phase) {
        let entry = self.table.entries.entry(declaration.clone()).or_insert(Entry::new(phase));
        entry.phase = phase;
        let applies = phase == Phase::Join || self.table.opening.is_some();
        if self.is_open() && applies {
            self.apply(now, &declaration);
        }
    }

    pub(super) fn withdraw(&mut self, now: Duration, declaration: &Declaration) {
        let Some(entry) = self.table.entries.remove(declaration) else {
            return warn!("{} cannot be withdrawn: not registered", declaration.uri());
        };
        match entry.state {
            State::Held(id) => {
                self.table.procedures.remove(&id);
                self.table.topics.remove(&id);
                self.release(now, declaration.clone(), id);
            }
            State::Asked(request) => {
                if let Some(pending) = self.pending.get_mut(&request) {
                    pending.what = What::GiveBack(declaration.clone());
                }
            }
            State::Idle | State::Failed { .. } => {}
        }
        self.first_answer(declaration, None);
    }

    pub(super) fn open(&mut self, now: Duration) {
        if !self.is_open() {
            return;
        }
        let waiting = |entry: &Entry| entry.phase == Phase::Open && !matches!(entry.state, State::Held(_));
        let waiting =
            self.table.entries.iter().filter(|(_, entry)| waiting(entry)).map(|(name, _)| name.clone()).into_set();
        self.table.opening = Some(Opening { waiting, failed: Vec::new(), announced: false });
        self.announce_opened();
        self.apply_phase(now, Phase::Open);
    }

    pub(super) fn apply_phase(&mut self, now: Duration, phase: Phase) {
        let entries = self.table.entries.iter().filter(|(_, entry)| entry.phase == phase);
        let entries: Vec<Declaration> = entries.map(|(declaration, _)| declaration.clone()).collect();
        for declaration in entries {
            self.apply(now, &declaration);
        }
    }

    /// Asks for what failed before and is due again.
    pub(super) fn retry(&mut self, now: Duration) {
        if !self.is_open() {
            return;
        }
        if self.table.claim.is_due(now) {
            self.claim(now);
        }
        let due = self.table.entries.iter().filter(|(_, entry)| entry.is_due(now));
        let due: Vec<Declaration> = due.map(|(declaration, _)| declaration.clone()).collect();
        for declaration in due {
            self.apply(now, &declaration);
        }
    }

    fn apply(&mut self, now: Duration, declaration: &Declaration) {
        let until = now + self.reply_bound();
        match self.table.entries.get(declaration).map(|entry| entry.state) {
            Some(State::Idle | State::Failed { .. }) => {}
            _ => return,
        }
        let request = self.wait(What::Apply(declaration.clone()), until);
        if let Some(entry) = self.table.entries.get_mut(declaration) {
            entry.state = State::Asked(request);
        }
        self.send(match declaration.clone() {
            Declaration::Procedure(procedure) => {
                let options = option("force_reregister", true);
                Message::Register { request, options, procedure }
            }
            Declaration::Subscription(topic) => Message::Subscribe { request, options: Map::new(), topic },
        });
    }

    pub(super) fn on_applied(&mut self, now: Duration, declaration: Declaration, reply: Result<u64, String>) {
        let Some(entry) = self.table.entries.get_mut(&declaration) else { return };
        match &reply {
            Ok(id) => {
                entry.state = State::Held(*id);
                entry.failures = 0;
                match &declaration {
                    Declaration::Procedure(uri) => self.table.procedures.insert(*id, uri.clone()),
                    Declaration::Subscription(topic) => self.table.topics.insert(*id, topic.clone()),
                };
            }
            Err(reason) => {
                warn!("{} is not set up yet: {reason}", declaration.uri());
                entry.fail(now);
            }
        }
        self.first_answer(&declaration, reply.err());
    }

    /// Asks the router to forget a registration or subscription.
    pub(super) fn release(&mut self, now: Duration, declaration: Declaration, id: u64) {
        if !self.is_open() {
            return;
        }
        let request = self.wait(What::Release(declaration.clone()), now + self.reply_bound());
        self.send(match declaration {
            Declaration::Procedure(_) => Message::Unregister { request, registration: id },
            Declaration::Subscription(_) => Message::Unsubscribe { request, subscription: id },
        });
    }

    pub(super) fn on_event(&mut self, subscription: u64, payload: Payload) {
        let Some(topic) = self.table.topics.get(&subscription).cloned() else {
            return debug!("event of the unknown subscription {subscription}");
        };
        let (args, kwargs) = (payload.args.unwrap_or_default(), payload.kwargs.unwrap_or_default());
        self.emit(Event::Event { generation: self.generation, topic, args, kwargs });
    }

    fn first_answer(&mut self, declaration: &Declaration, failure: Option<String>) {
        if let Some(opening) = &mut self.table.opening
            && opening.waiting.remove(declaration)
            && failure.is_some()
        {
            opening.failed.push(declaration.uri().to_owned());
        }
        self.announce_opened();
    }

    fn announce_opened(&mut self) {
        if let Some(opening) = &mut self.table.opening
            && opening.waiting.is_empty()
            && !opening.announced
        {
            opening.announced = true;
            let failed = std::mem::take(&mut opening.failed);
            self.outputs.push(Output::Emit(Event::Opened { generation: self.generation, failed }));
        }
    }
}
