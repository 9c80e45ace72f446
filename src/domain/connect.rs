//! The sequence after joining (wire chapter 2.2), on the first connect and after every reconnect.
//!
//! ```text
//!  Metadata ▶ CredentialKey ▶ Configuring ▶ Opening ▶ Architecture ▶ Draining ▶ Engine ▶ Fetch ▶ Observing ▶ Connected ▶ Done
//!     │ moved: Redial                         │ procedures,              │ queued       │ daemon ready
//!     ▼                                       ▼ subscriptions            ▼ reports      ▼ no bound
//! ```
//!
//! An error of a step is logged and the sequence goes on. It belongs to one session: what is left of an older one is
//! dropped, so two never run at once (C6). The first write uses the identity that the metadata confirmed (C8).

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
    /// `read_device_metadata`
    Metadata,
    /// `get_app_cred_key`
    CredentialKey,
    /// Status CONFIGURING.
    Configuring,
    /// Registrations and subscriptions.
    Opening,
    /// `update_device_architecture`
    Architecture,
    /// Queued reports go out before the backend's list is asked for.
    Draining,
    /// The container engine must have answered once.
    Engine,
    /// `get_requested_app_states`
    Fetch,
    /// A listing, whose corrections are reported.
    Observing,
    /// Status CONNECTED.
    Connected,
    /// The sequence is over, or there is no session.
    #[default]
    Done,
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
    reports: bool,
}

impl Session {
    /// Whether state reports may go out.
    pub fn may_report(&self) -> bool {
        self.generation.is_some() && self.reports
    }

    /// Whether the sequence waits for a listing.
    pub fn waits_for_observation(&self) -> bool {
        self.generation.is_some() && self.step == Step::Observing
    }
}

impl State {
    pub(super) fn on_joined(&mut self, generation: Generation, session: u64) {
        if let Some(older) = self.generation() {
            self.on_left(older, "another one was joined");
        }
        self.note(Level::Debug, format!("session {session}: connect sequence begins"));
        self.session = Session {
            generation: Some(generation),
            id: session,
            connected: false,
            step: Step::Metadata,
            reports: false,
        };
        self.effect(Effect::KeepFlock);
        self.start_heartbeats();
        let args = vec![json!({"device_key": self.device.device_key})];
        self.call(Call::Connect(Step::Metadata), "reswarm.devices.read_device_metadata", args, CALL);
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

    pub(super) fn on_connect_answer(&mut self, step: Step, result: Result<Vec<Value>, CallFailure>) {
        if step != self.session.step {
            return;
        }
        if let Err(failure) = &result {
            self.note(Level::Warn, format!("{step:?}: {}", failure.text()));
        }
        match step {
            Step::Metadata => {
                if self.take_metadata(result.ok()) {
                    return;
                }
                self.session.step = Step::CredentialKey;
                self.call(Call::Connect(Step::CredentialKey), "reswarm.devices.get_app_cred_key", Vec::new(), CALL);
            }
            Step::CredentialKey => {
                match result.as_ref().map(|args| args.first().and_then(Value::as_str)) {
                    Ok(Some(key)) if !key.is_empty() => self.device.credential_key = Some(Secret::new(key)),
                    Ok(_) => self.note(Level::Warn, "the app credential key is not a text"),
                    // The previous key, if any, stays in use.
                    Err(_) => {}
                }
                self.session.step = Step::Configuring;
                self.send_status(Call::Connect(Step::Configuring), "CONFIGURING");
            }
            Step::Configuring => {
                self.take_base_url(result.ok());
                self.session.step = Step::Opening;
                self.session.reports = true;
                if let Some(generation) = self.generation() {
                    self.effect(Effect::Open { generation });
                }
                self.send_reports();
            }
            Step::Architecture => {
                self.session.step = Step::Draining;
                self.timers.set(Timer::Connect, self.now.mono + DRAIN);
                self.on_drained();
            }
            Step::Fetch => {
                self.take_list(result.ok());
                self.session.step = Step::Observing;
                if self.engine.answers() {
                    self.observe();
                } else {
                    self.go_on_unobserved();
                }
            }
            Step::Connected => {
                self.take_base_url(result.ok());
                self.session.step = Step::Done;
            }
            Step::Opening | Step::Draining | Step::Engine | Step::Observing | Step::Done => {}
        }
    }

    pub(super) fn on_opened(&mut self, generation: Generation, failed: &[String]) {
        if self.generation() != Some(generation) || self.session.step != Step::Opening {
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
        self.session.step = Step::Architecture;
        let (arch, variant) = arch_and_variant(&self.device.arch);
        let args = vec![json!({"swarm_key": self.device.swarm_key, "device_key": self.device.device_key,
            "architecture": self.device.arch, "os": self.status.os, "arch": arch, "variant": variant,
            "agent_version": self.device.version})];
        self.call(Call::Connect(Step::Architecture), "reswarm.devices.update_device_architecture", args, CALL);
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
        self.session.step = Step::Engine;
        self.on_engine_ready();
    }

    /// A listing was judged.
    pub(super) fn on_engine_ready(&mut self) {
        match self.session.step {
            Step::Engine if self.engine.ready => {
                self.session.step = Step::Fetch;
                self.fetch(Call::Connect(Step::Fetch));
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
        self.session.step = Step::Connected;
        self.session.connected = true;
        self.send_status(Call::Connect(Step::Connected), "CONNECTED");
        let apps: Vec<_> = self.apps.values().filter(|app| app.is_backend_driven()).map(|app| app.id).collect();
        apps.into_iter().for_each(|id| self.drive(id, Why::Connected));
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
            self.session.step = Step::Done;
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
