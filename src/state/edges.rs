//! The threads around the state thread: how they are started, and started again after a panic.

use super::inbox::{Edge, Message};
use crate::args::Options;
use crate::clock::{self, Wall};
use crate::docker::{self, Docker};
use crate::domain::config::Device;
use crate::domain::power::{Means, Supervisor};
use crate::flock::Flock;
use crate::logs::{self, Outflow};
use crate::probe::Probe;
use crate::secret::Secret;
use crate::service::{Service, watchdog};
use crate::wamp::{self, ClientCertificate, Declaration, Phase, Testament};
use crate::{jobs, os, rpc, signals};
use crossbeam_channel::Sender;
use serde_json::json;
use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

/// What the edges are started with.
#[derive(Debug, Clone)]
pub struct Context {
    /// The command line.
    pub options: Options,
    /// The container engine.
    pub docker: Docker,
    /// No certificate is checked at an earlier time.
    pub time_floor: Wall,
    /// The environment in force.
    pub environment: String,
    /// Who is told how the agent is doing.
    pub service: Service,
}

/// The handles. One that is `None` could not be started, or is about to be started again.
#[derive(Debug)]
pub struct Edges {
    context: Context,
    inbox: Sender<Box<Message>>,
    /// The session.
    pub wamp: Option<wamp::Handle>,
    /// The engine's events.
    pub events: Option<docker::events::Handle>,
    /// The log hub.
    pub logs: Option<logs::Handle>,
    /// The workers.
    pub jobs: Option<jobs::Handle>,
    /// The signs of life, if somebody expects them.
    pub watchdog: Option<watchdog::Handle>,
    signals: Option<signals::Watch>,
    /// Takes the bulk lane of each new session thread to the log hub.
    lane: Option<Sender<wamp::Bulk>>,
    restarts: BTreeMap<u8, Duration>,
}

/// The order in which edges are started: the log hub before the workers, which feed it.
const ORDER: [Edge; 6] = [Edge::Signals, Edge::Logs, Edge::Jobs, Edge::Docker, Edge::Wamp, Edge::Watchdog];

impl Edges {
    /// Starts everything that the options ask for. What cannot be started is logged and tried again.
    pub fn start(context: Context, inbox: Sender<Box<Message>>, flock: &Flock) -> Edges {
        let mut edges = Edges {
            context,
            inbox,
            wamp: None,
            events: None,
            logs: None,
            jobs: None,
            watchdog: None,
            signals: None,
            lane: None,
            restarts: BTreeMap::new(),
        };
        for edge in ORDER {
            edges.start_one(edge, flock);
        }
        edges
    }

    /// Plans to start an edge again.
    pub fn restart_at(&mut self, edge: Edge, at: Duration) {
        self.restarts.insert(edge as u8, at);
    }

    /// When the next edge is to be started again.
    pub fn deadline(&self) -> Option<Duration> {
        self.restarts.values().min().copied()
    }

    /// Starts the edges that are due again; says which.
    pub fn restart_due(&mut self, now: Duration, flock: &Flock) -> Vec<Edge> {
        let due: Vec<Edge> =
            ORDER.into_iter().filter(|edge| self.restarts.get(&(*edge as u8)).is_some_and(|at| *at <= now)).collect();
        for edge in &due {
            self.restarts.remove(&(*edge as u8));
            self.start_one(*edge, flock);
        }
        due
    }

    fn start_one(&mut self, edge: Edge, flock: &Flock) {
        let result = match edge {
            Edge::Signals => self.start_signals(),
            Edge::Logs => self.start_logs(flock),
            Edge::Jobs => self.start_jobs(flock),
            Edge::Docker => self.start_events(),
            Edge::Wamp if self.context.options.offline => Ok(()),
            Edge::Wamp => self.start_wamp(flock),
            Edge::Watchdog => self.start_watchdog(),
        };
        if let Err(error) = result {
            log::error!("{edge:?} cannot be started: {error}");
            self.restart_at(edge, clock::mono() + Duration::from_secs(10));
        }
    }

    fn on_exit(&self, edge: Edge) -> impl Fn(crate::thread::Exit) + Send + Sync + 'static {
        let inbox = self.inbox.clone();
        move |exit| {
            // Without a receiver the process is ending.
            drop(inbox.send(Box::new(Message::Ended(edge, exit))));
        }
    }

    fn start_signals(&mut self) -> io::Result<()> {
        let inbox = self.inbox.clone();
        let on_signal = move |signal: signals::Signal| {
            if inbox.send(Box::new(Message::Signal(signal.number))).is_err() {
                // Everything is closed, and the process only waits for the machine to go down: this is that.
                signals::exit(0);
            }
        };
        self.signals = Some(signals::watch(on_signal, self.on_exit(Edge::Signals))?);
        Ok(())
    }

    fn start_wamp(&mut self, flock: &Flock) -> io::Result<()> {
        let settings = settings(&self.context, flock);
        let handle = wamp::spawn(
            settings,
            self.inbox.clone(),
            |event| Box::new(Message::Wamp(event)),
            self.on_exit(Edge::Wamp),
        )?;
        for (entry, phase) in declarations(&flock.serial_number) {
            handle.send(wamp::Command::Declare { entry, phase });
        }
        self.wamp = Some(handle);
        self.hand_over_lane();
        Ok(())
    }

    fn start_events(&mut self) -> io::Result<()> {
        self.events = Some(docker::events::spawn(
            &self.context.docker,
            self.inbox.clone(),
            |event| Box::new(Message::Docker(event)),
            self.on_exit(Edge::Docker),
        )?);
        Ok(())
    }

    fn start_logs(&mut self, flock: &Flock) -> io::Result<()> {
        // The hub is started before the session; it gets the lane as soon as there is one, and until then nobody listens.
        let (lanes, lane) = crossbeam_channel::bounded::<wamp::Bulk>(4);
        self.lane = Some(lanes);
        let mut bulk: Option<wamp::Bulk> = None;
        let publish = move |publication: Option<logs::Publication>| {
            if let Some(newer) = lane.try_iter().last() {
                bulk = Some(newer);
            }
            let Some(bulk) = &bulk else { return Outflow::FREE };
            if let Some(logs::Publication { topic, payload, droppable }) = publication {
                bulk.publish(topic, vec![payload], droppable);
            }
            Outflow { room: bulk.room() }
        };
        let source = logs::source::of_engine(self.context.docker.clone());
        let serial = &flock.serial_number;
        self.logs = Some(logs::spawn(
            serial,
            source,
            publish,
            self.inbox.clone(),
            |event| Box::new(Message::Logs(event)),
            self.on_exit(Edge::Logs),
        )?);
        self.hand_over_lane();
        Ok(())
    }

    fn hand_over_lane(&self) {
        if let (Some(wamp), Some(lane)) = (&self.wamp, &self.lane) {
            // Four lanes fit; the hub takes the newest with its next publication.
            drop(lane.try_send(wamp.bulk()));
        }
    }

    fn start_jobs(&mut self, flock: &Flock) -> io::Result<()> {
        let Some(logs) = &self.logs else { return Err(io::Error::other("the log hub is not there yet")) };
        let options = &self.context.options;
        let update_base = if flock.update_url.is_empty() { &options.remote_update_url } else { &flock.update_url };
        let settings = jobs::Settings {
            docker: self.context.docker.clone(),
            apps_dir: options.apps_dir.clone(),
            archive_extension: options.compressed_build_extension.clone(),
            agent_dir: options.agent_dir.clone(),
            device_env: self.context.environment.clone(),
            update_base: update_base.clone(),
            serial: flock.serial_number.clone(),
            feed: logs.feed(),
            time_floor: self.context.time_floor,
            programs: jobs::Programs::of_agent(),
        };
        self.jobs = Some(jobs::spawn(
            settings,
            self.inbox.clone(),
            |event| Box::new(Message::Jobs(event)),
            self.on_exit(Edge::Jobs),
        )?);
        Ok(())
    }

    fn start_watchdog(&mut self) -> io::Result<()> {
        let (service, inbox) = (&self.context.service, self.inbox.clone());
        self.watchdog =
            watchdog::spawn(service, inbox, |probe| Box::new(Message::Probe(probe)), self.on_exit(Edge::Watchdog))?;
        Ok(())
    }

    /// Asks every thread that others depend on whether it works. One that is about to be started again is not asked; those
    /// that only read for another (`wamp-pump`, `log-<name>`) are that one's concern.
    pub fn probe(&self, probe: &Probe) {
        if let Some(wamp) = &self.wamp {
            wamp.send(wamp::Command::Probe(probe.to("wamp")));
        }
        if let Some(events) = &self.events {
            events.probe(probe.to("docker-events"));
        }
        if let Some(logs) = &self.logs {
            logs.probe(probe.to("logs"));
        }
        if let Some(jobs) = &self.jobs {
            jobs.probe(probe.to("jobs"));
        }
    }

    /// The identity has changed: the next dial uses the new one.
    pub fn reconfigure(&self, flock: &Flock) {
        if let Some(wamp) = &self.wamp {
            wamp.send(wamp::Command::Configure(settings(&self.context, flock)));
        }
    }
}

/// What is registered and subscribed on every session (wire chapter 3.2, 6.2).
fn declarations(serial: &str) -> Vec<(Declaration, Phase)> {
    let procedure = |row: &rpc::Procedure| Declaration::Procedure(format!("re.mgmt.{serial}.{}", row.name));
    let topics = ["wamp.subscription.on_create", "wamp.subscription.on_delete"];
    let subscriptions = topics.into_iter().map(|topic| Declaration::Subscription(topic.to_owned()));
    rpc::PROCEDURES.iter().map(procedure).chain(subscriptions).map(|entry| (entry, Phase::Open)).collect()
}

/// Who the session is and how it connects.
fn settings(context: &Context, flock: &Flock) -> wamp::Settings {
    let payload =
        json!({"swarm_key": flock.swarm_key, "device_key": flock.device_key, "serial_number": flock.serial_number});
    let options = &context.options;
    wamp::Settings {
        url: flock.device_endpoint_url.clone(),
        realm: "realm1".to_owned(),
        authid: flock.authid(),
        secret: flock.secret.clone(),
        client_certificate: (!flock.authentication_certificate.is_empty()).then(|| ClientCertificate {
            certificate: flock.authentication_certificate.reveal().to_owned(),
            key: flock.authentication_key.clone(),
        }),
        claim: format!("re.mgmt.{}.wamp_connection_established", flock.serial_number),
        testament: Some(Testament {
            topic: "reswarm.api.testament_device".to_owned(),
            payload: payload.as_object().cloned().unwrap_or_default(),
        }),
        connect_timeout: options.connect_timeout.unwrap_or_default(),
        response_timeout: options.reply_timeout,
        ping_interval: options.ping_interval.unwrap_or_default(),
        time_floor: context.time_floor,
    }
}

/// The core's view of the device.
pub fn device(context: &Context, flock: &Flock) -> Device {
    Device {
        name: flock.name.clone(),
        secret: Secret::new(flock.secret.reveal()),
        swarm_key: flock.swarm_key,
        device_key: flock.device_key,
        swarm_name: flock.swarm_name.clone(),
        swarm_owner_name: flock.swarm_owner_name.clone(),
        serial: flock.serial_number.clone(),
        endpoint: flock.device_endpoint_url.clone(),
        environment: context.environment.clone(),
        registry: flock.docker_registry_url.clone(),
        repository: flock.docker_main_repository.clone(),
        appliance_domain: flock.appliance_domain.clone(),
        arch: crate::release::ARCH.to_owned(),
        version: crate::release::VERSION.to_owned(),
        archive_extension: context.options.compressed_build_extension.clone(),
        means: means(),
        probation: probation(),
        base_url: None,
        credential_key: None,
    }
}

/// Seconds that replace the usual probation: for devices whose apps take longer to fail, and for tests that wait for less.
const PROBATION_VARIABLE: &str = "REAGENT_PROBATION";

fn probation() -> Duration {
    let seconds = std::env::var(PROBATION_VARIABLE).ok().and_then(|text| text.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or(30).min(3600))
}

/// What can be done with the machine, as it is now: at the start the parent is still who has started the agent.
fn means() -> Means {
    let supervisor = os::power::supervisor().map(|supervisor| match supervisor {
        os::power::Supervisor::Parent => Supervisor::Parent,
        os::power::Supervisor::Systemd => Supervisor::Systemd,
    });
    let has = |program| os::power::find(program).is_some();
    Means { reboot: has("reboot"), poweroff: has("poweroff"), supervisor }
}
