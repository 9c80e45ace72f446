//! The sequence after joining (wire chapter 2.2), on the first connect and after every reconnect.
//!
//! ```text
//!  round trip  step         what is sent, in this order, before anything of it is answered
//!  ----------  -----------  ------------------------------------------------------------------------------------
//!      1 - 3                upgrade; HELLO; AUTHENTICATE    (the `wamp` thread; TCP and TLS have theirs before)
//!      4                    the claim, alone: a second device is refused before it has said anything      (〃)
//!      5       Identifying  testament (〃), metadata, credential key       ── moved to another project: Redial
//!      6       Announcing   CONFIGURING, registrations and subscriptions, architecture
//!     (+n)     Draining     reports that were queued, one per app at a time, for a while
//!              Engine       nothing: the container engine must have answered once, no bound
//!      7       Fetching     the backend's list
//!              Observing    nothing: a listing of the engine, whose corrections are reported
//!      7 1/2   Connected    CONNECTED
//! ```
//!
//! On a long way only the number of round trips counts, so each step sends all that depends on no answer of the same step.
//! The next step begins when all `parts` of a step are settled, answered or failed: an error is logged and the sequence goes
//! on. Why each boundary is there:
//!
//! - The first write of the device is CONFIGURING. It, and everything after it, waits for the metadata, so that it is the
//!   identity of now that writes (C8), and for the testament, so that the router can take it back.
//! - The list is asked for when the table is settled: a wish that is too late for the list finds its procedure there. It
//!   also comes after the queued reports, which it has to take into account.
//! - It belongs to one session: what is left of an older one is dropped, so two never run at once (C6).

use super::message::{CallFailure, Effect, Generation, Level, LogCommand, Metadata};
use super::slot::Why;
use super::timers::Timer;
use super::{Call, State, number};
use crate::secret::Secret;
use serde_json::{Value, json};
use std::time::Duration;

/// Deadline of a call that has none of its own.
const CALL: Duration = Duration::from_secs(30);
/// How long queued reports may hold up the sequence.
const DRAIN: Duration = Duration::from_secs(10);

/// Where the sequence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Step {
    /// Who the device is; only questions.
    Identifying,
    /// The device says that it is there, and what can be called.
    Announcing,
    /// Queued reports go out before the backend's list is asked for.
    Draining,
    /// The container engine must have answered once.
    Engine,
    /// `get_requested_app_states`
    Fetching,
    /// A listing, whose corrections are reported.
    Observing,
    /// Status CONNECTED.
    Connected,
    /// The sequence is over, or there is no session.
    #[default]
    Done,
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The router's answer to the testament, which the session has sent by itself.
    Testament,
    /// `read_device_metadata`
    Metadata,
    /// `get_app_cred_key`
    CredentialKey,
    /// Status CONFIGURING.
    Configuring,
    /// Registrations and subscriptions.
    Table,
    /// `update_device_architecture`
    Architecture,
    /// `get_requested_app_states`
    List,
    /// Status CONNECTED.
    Connected,
}

/// What goes out together. Steps without parts wait for something else than an answer.
const fn parts(step: Step) -> &'static [Part] {
    match step {
        Step::Identifying => &[Part::Testament, Part::Metadata, Part::CredentialKey],
        Step::Announcing => &[Part::Configuring, Part::Table, Part::Architecture],
        Step::Fetching => &[Part::List],
        Step::Connected => &[Part::Connected],
        Step::Draining | Step::Engine | Step::Observing | Step::Done => &[],
    }
}

/// The session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Session {
    /// Its generation while it lives.
    pub generation: Option<Generation>,
    /// Its id on the router, 0 without a session.
    pub id: u64,
    /// Whether the sequence has been completed on it.
    pub connected: bool,
    step: Step,
    /// Parts of the step that are not settled.
    open: Vec<Part>,
    /// The credential key, until it is known whether this is the identity that it is for.
    key: Option<Secret>,
    reports: bool,
}

impl Session {
    /// Whether state reports may go out.
    pub fn may_report(&self) -> bool {
        self.generation.is_some() && self.reports
    }

    /// Whether the device may say that it is there: not before its identity is confirmed (C8).
    pub fn may_announce(&self) -> bool {
        self.generation.is_some() && self.step >= Step::Announcing
    }

    /// Whether the sequence waits for a listing.
    pub fn waits_for_observation(&self) -> bool {
        self.generation.is_some() && self.step == Step::Observing
    }

    fn begin(&mut self, step: Step) {
        self.step = step;
        self.open = parts(step).to_vec();
    }
}

impl State {
    /// The claim is held, and the testament on its way.
    pub(super) fn on_joined(&mut self, generation: Generation, session: u64) {
        if let Some(older) = self.generation() {
            self.on_left(older, "another one was joined");
        }
        self.note(Level::Debug, format!("session {session}: connect sequence begins"));
        self.session = Session { generation: Some(generation), id: session, ..Session::default() };
        self.effect(Effect::KeepFlock);
        self.start_heartbeats();
        self.session.begin(Step::Identifying);
        let args = vec![json!({"device_key": self.device.device_key})];
        self.call(Call::Connect(Part::Metadata), "reswarm.devices.read_device_metadata", args, CALL);
        self.call(Call::Connect(Part::CredentialKey), "reswarm.devices.get_app_cred_key", Vec::new(), CALL);
    }

    /// The router has the testament, or the session goes on without.
    pub(super) fn on_testament(&mut self, generation: Generation) {
        if self.generation() == Some(generation) {
            self.settle(Part::Testament);
        }
    }

    pub(super) fn on_left(&mut self, generation: Generation, reason: &str) {
        if self.generation() != Some(generation) {
            return;
        }
        self.note(Level::Warn, format!("session lost: {reason}"));
        self.session = Session::default();
        self.timers.clear(Timer::Heartbeat);
        self.timers.clear(Timer::Connect);
        self.timers.clear(Timer::SecondFetch);
        self.stop_heartbeats();
        self.reports_interrupted();
        self.logs(LogCommand::Session { up: false });
        self.forget_invocations(|invocation| invocation.generation == generation);
        for purpose in std::mem::take(&mut self.calls).into_values() {
            if let Call::Token(app) = purpose {
                self.on_token(app, Err(CallFailure::Transport("the session was lost".to_owned())));
            }
        }
    }

    pub(super) fn on_connect_answer(&mut self, part: Part, result: Result<Vec<Value>, CallFailure>) {
        if !self.session.open.contains(&part) {
            return;
        }
        if let Err(failure) = &result {
            self.note(Level::Warn, format!("{part:?}: {}", failure.text()));
        }
        match part {
            Part::Metadata => {
                if self.take_metadata(result.ok()) {
                    return;
                }
            }
            Part::CredentialKey => self.take_key(result.ok()),
            Part::Configuring => {
                self.take_base_url(result.ok());
                self.session.reports = true;
                self.send_reports();
            }
            Part::List => self.take_list(result.ok()),
            Part::Connected => self.take_base_url(result.ok()),
            Part::Testament | Part::Table | Part::Architecture => {}
        }
        self.settle(part);
    }

    /// A part is answered or has failed; the last one ends the step.
    fn settle(&mut self, part: Part) {
        let Some(at) = self.session.open.iter().position(|open| *open == part) else { return };
        self.session.open.swap_remove(at);
        if !self.session.open.is_empty() {
            return;
        }
        match self.session.step {
            Step::Identifying => {
                // Without an answer the previous key, if any, stays in use.
                if let Some(key) = self.session.key.take() {
                    self.device.credential_key = Some(key);
                }
                self.session.begin(Step::Announcing);
                self.send_status(Call::Connect(Part::Configuring), "CONFIGURING");
            }
            Step::Announcing => {
                self.session.begin(Step::Draining);
                self.timers.set(Timer::Connect, self.now.mono + DRAIN);
                self.on_drained();
            }
            Step::Fetching => {
                self.session.begin(Step::Observing);
                if self.engine.answers() {
                    self.observe();
                } else {
                    self.go_on_unobserved();
                }
            }
            Step::Connected => self.session.begin(Step::Done),
            Step::Draining | Step::Engine | Step::Observing | Step::Done => {}
        }
    }

    /// CONFIGURING is on its way; the other parts of its step follow at its heels.
    pub(super) fn announce_the_rest(&mut self) {
        let Some(generation) = self.generation() else { return };
        self.effect(Effect::Open { generation });
        let (arch, variant) = arch_and_variant(&self.device.arch);
        let args = vec![json!({"swarm_key": self.device.swarm_key, "device_key": self.device.device_key,
            "architecture": self.device.arch, "os": self.status.os, "arch": arch, "variant": variant,
            "agent_version": self.device.version})];
        self.call(Call::Connect(Part::Architecture), "reswarm.devices.update_device_architecture", args, CALL);
    }

    pub(super) fn on_opened(&mut self, generation: Generation, failed: &[String]) {
        if self.generation() != Some(generation) || !self.session.open.contains(&Part::Table) {
            return;
        }
        if !failed.is_empty() {
            self.note(Level::Warn, format!("not registered, tried again: {}", failed.join(", ")));
        }
        // The meta topics are subscribed: from here on the log hub hears who listens, or has to ask.
        self.logs(LogCommand::Session { up: true });
        if failed.iter().any(|uri| uri.starts_with("wamp.subscription.")) {
            self.logs(LogCommand::MetaRefused);
        }
        self.settle(Part::Table);
    }

    /// Reports were delivered: goes on as soon as none waits.
    pub(super) fn on_drained(&mut self) {
        if self.session.step == Step::Draining && self.reports.is_empty() {
            self.after_draining();
        }
    }

    pub(super) fn on_connect_timer(&mut self) {
        if self.session.step == Step::Draining {
            self.after_draining();
        }
    }

    fn after_draining(&mut self) {
        self.timers.clear(Timer::Connect);
        self.session.begin(Step::Engine);
        self.on_engine_ready();
    }

    /// A listing was judged.
    pub(super) fn on_engine_ready(&mut self) {
        match self.session.step {
            Step::Engine if self.engine.ready => {
                self.session.begin(Step::Fetching);
                self.fetch(Call::Connect(Part::List));
            }
            Step::Observing if self.generation().is_some() => self.ensure_wanted(),
            _ => {}
        }
    }

    /// The engine is away: what is recorded is reported, and what is wanted is done when it is back.
    pub(super) fn go_on_unobserved(&mut self) {
        if self.session.waits_for_observation() {
            let apps: Vec<_> = self.apps.keys().copied().collect();
            apps.into_iter().for_each(|app| self.report_again(app));
            self.ensure_wanted();
        }
    }

    /// Drives every app that the backend drives, then CONNECTED (steps 17 to 19).
    fn ensure_wanted(&mut self) {
        self.session.begin(Step::Connected);
        self.session.connected = true;
        self.send_status(Call::Connect(Part::Connected), "CONNECTED");
        let apps: Vec<_> = self.apps.values().filter(|app| app.is_backend_driven()).map(|app| app.id).collect();
        apps.into_iter().for_each(|id| self.drive(id, Why::Connected));
    }

    fn take_key(&mut self, args: Option<Vec<Value>>) {
        let Some(args) = args else { return };
        match args.first().and_then(Value::as_str) {
            Some(key) if !key.is_empty() => self.session.key = Some(Secret::new(key)),
            _ => self.note(Level::Warn, "the app credential key is not a text"),
        }
    }

    /// True if the device was moved to another project: the session is ended and the sequence with it (1.12).
    fn take_metadata(&mut self, args: Option<Vec<Value>>) -> bool {
        let Some(args) = args else { return false };
        let Some(answer) = args.first().and_then(Value::as_object) else {
            self.note(Level::Warn, "device metadata: the answer is not a dict");
            return false;
        };
        let Some(swarm_key) = answer.get("swarm_key").and_then(number::lenient).filter(|key| *key != 0) else {
            self.note(Level::Warn, "device metadata: swarm_key is not a number, nothing is taken over");
            return false;
        };
        let text = |key: &str| answer.get(key).and_then(Value::as_str).map(str::to_owned);
        let metadata =
            Metadata { name: text("device_name"), swarm_name: text("swarm_name"), owner: text("ownername"), swarm_key };
        let before = self.device.clone();
        let device = &mut self.device;
        let take = |to: &mut String, from: &Option<String>| {
            if let Some(from) = from {
                to.clone_from(from);
            }
        };
        take(&mut device.name, &metadata.name);
        take(&mut device.swarm_name, &metadata.swarm_name);
        take(&mut device.swarm_owner_name, &metadata.owner);
        device.swarm_key = swarm_key;
        let moved = before.swarm_key != swarm_key;
        if before != self.device {
            self.effect(Effect::Metadata(metadata));
        }
        if moved {
            let reason = format!("the device was moved to project {swarm_key}");
            self.note(Level::Info, reason.clone());
            // Nothing is waited for any more: the step has no end.
            self.session.open.clear();
            self.effect(Effect::Redial { reason });
        }
        moved
    }

    pub(super) fn look_up_listeners(&mut self, container: String) {
        if self.generation().is_some() {
            let topic = self.device.log_topic(&container);
            self.call(Call::Match(container), "wamp.subscription.match", vec![json!(topic)], Duration::from_secs(10));
        }
    }

    pub(super) fn on_topic(&mut self, generation: Generation, topic: &str, args: Vec<Value>) {
        if self.generation() != Some(generation) {
            return;
        }
        match topic {
            "wamp.subscription.on_create" => self.logs(LogCommand::SubscriptionCreated { args }),
            "wamp.subscription.on_delete" => self.logs(LogCommand::SubscriptionDeleted { args }),
            _ => self.note(Level::Debug, format!("event of {topic} ignored")),
        }
    }

    /// Receivers take it as a sign to read the tunnels again (6.4); no tunnel, no arguments.
    pub(super) fn push_tunnel_state(&mut self) {
        if self.session.may_report() {
            let topic = self.device.uri("tunnel_state_update/onreload");
            self.effect(Effect::Publish { topic, args: Vec::new() });
        }
    }
}

/// `armv7` as `("arm", "v7")`, everything else with an empty variant.
pub fn arch_and_variant(tag: &str) -> (&str, &str) {
    match tag.strip_prefix("arm") {
        Some(variant) if variant.starts_with('v') => ("arm", variant),
        _ => (tag, ""),
    }
}
