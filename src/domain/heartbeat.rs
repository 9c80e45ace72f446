//! The device status: after joining, at the end of the connect sequence, and every 30 s (wire chapter 1.11).

use super::connect::Part;
use super::job::{CpuSample, JobSpec, Outcome};
use super::message::{CallFailure, Effect, Level};
use super::timers::Timer;
use super::{Call, Job, State};
use serde_json::{Value, json};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_secs(30);
/// Heartbeats in a row that must fail in transport before the session is given up.
const FAILURES: u32 = 2;

/// What the status reports need.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Long text of the operating system.
    pub os: String,
    /// Last registry token: serves a pull while the backend is away.
    pub token: Option<String>,
    /// Processor load of the last full window, percent.
    pub cpu_usage: f64,
    sample: Option<CpuSample>,
    /// The status that waits for its statistics.
    waiting: Option<(Call, String)>,
    failures: u32,
}

impl State {
    pub(super) fn start_heartbeats(&mut self) {
        self.status.failures = 0;
        self.timers.set(Timer::Heartbeat, self.now.mono + INTERVAL);
    }

    pub(super) fn stop_heartbeats(&mut self) {
        self.status.waiting = None;
    }

    /// Sends a status as soon as the statistics are read.
    pub(super) fn send_status(&mut self, purpose: Call, status: &str) {
        let reading = self.status.waiting.is_some();
        self.status.waiting = Some((purpose, status.to_owned()));
        if !reading {
            let previous = self.status.sample;
            self.start_job(Job::Statistics, JobSpec::Statistics { previous });
        }
    }

    pub(super) fn on_statistics(&mut self, outcome: Outcome) {
        let stats = match outcome {
            Outcome::Statistics { stats, sample } => {
                self.status.sample = sample;
                self.status.cpu_usage = stats.get("cpu_usage").and_then(Value::as_f64).unwrap_or(0.0);
                stats
            }
            _ => json!({}),
        };
        let Some((purpose, status)) = self.status.waiting.take() else { return };
        let announces = purpose == Call::Connect(Part::Configuring);
        let args = vec![json!({
            "swarm_key": self.device.swarm_key,
            "device_key": self.device.device_key,
            "status": status,
            "wamp_session_id": self.session.id,
            "stats": stats,
            // There is no tunnel client in this agent yet.
            "tunnel_capable": false,
        })];
        self.call(purpose, "reswarm.devices.update_device_status", args, Duration::from_secs(10));
        if announces {
            self.announce_the_rest();
        }
    }

    pub(super) fn on_heartbeat(&mut self) {
        if self.generation().is_none() {
            return;
        }
        self.timers.set(Timer::Heartbeat, self.now.mono + INTERVAL);
        if self.status.waiting.is_none() && self.session.may_announce() {
            let status = if self.session.connected { "CONNECTED" } else { "CONFIGURING" };
            self.send_status(Call::Heartbeat, status);
        }
    }

    pub(super) fn on_heartbeat_answer(&mut self, result: Result<Vec<Value>, CallFailure>) {
        match result {
            Ok(args) => {
                self.status.failures = 0;
                self.take_base_url(Some(args));
            }
            // A new session cannot cure what the backend answers.
            Err(CallFailure::Error { text, .. }) => {
                self.status.failures = 0;
                self.note(Level::Warn, format!("heartbeat: {text}"));
            }
            Err(CallFailure::Transport(text)) => {
                self.status.failures += 1;
                self.note(Level::Warn, format!("heartbeat: {text}"));
                if let (true, Some(generation)) = (self.status.failures >= FAILURES, self.generation()) {
                    self.effect(Effect::Abort { generation, reason: "two heartbeats were not answered".to_owned() });
                }
            }
        }
    }

    /// The studio's base URL in the answer to a status; what is missing changes nothing.
    pub(super) fn take_base_url(&mut self, args: Option<Vec<Value>>) {
        let base = args.as_ref().and_then(|args| args.first()?.get("reswarmBaseURL")?.as_str());
        if let Some(base) = base.filter(|base| !base.is_empty()) {
            self.device.base_url = Some(base.to_owned());
        }
    }
}
