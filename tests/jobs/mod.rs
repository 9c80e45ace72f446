//! The job workers against the fake Docker daemon: what each job does, and how it ends when the Engine misbehaves.

mod archives;
mod build;
mod compose;
mod containers;
mod keep;
mod queries;
mod registry;
mod start;

use crate::util::TempDir;
use crate::util::docker_daemon::{DockerDaemon, Request};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use crossbeam_channel::{Receiver, unbounded};
use reagent::clock::Wall;
use reagent::docker::{Address, Docker};
use reagent::domain::app::Stage;
use reagent::domain::job::{Folder, JobId, JobSpec, Launch, Outcome};
use reagent::domain::message::LogCommand;
use reagent::domain::ports::{Binding, Protocol};
use reagent::jobs::{self, Event, Handle, Programs, Settings};
use reagent::logs;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a test waits for anything.
const LIMIT: Duration = Duration::from_secs(20);
const IMAGE: &str = "registry.test/apps/prod_amd64_900001_app:1.0.0";
const NAME: &str = "prod_900001_app";

/// Workers with an Engine, an apps directory, and a log hub of their own.
pub struct Jobs {
    pub handle: Handle,
    pub events: Receiver<Event>,
    log: Receiver<logs::Event>,
    hub: logs::Handle,
    pub folder: TempDir,
}

/// What differs from test to test.
pub struct Setup {
    docker: Docker,
    has_gpu: fn() -> bool,
    update_base: String,
    pub programs: Programs,
}

impl Setup {
    fn of(daemon: &DockerDaemon) -> Setup {
        Setup::at(&daemon.host())
    }

    /// With the Engine at this `DOCKER_HOST`.
    pub fn at(host: &str) -> Setup {
        let docker = Docker::at(Address::from_setting(host, "").expect("it is an address"));
        let programs = Programs::with([]);
        Setup { docker, has_gpu: || false, update_base: "http://127.0.0.1:1".to_owned(), programs }
    }

    pub fn spawn(self) -> Jobs {
        let folder = TempDir::new("jobs");
        let (logged, log) = unbounded();
        let source = logs::source::of_engine(self.docker.clone());
        let publish = |_| logs::Outflow::FREE;
        let hub = logs::spawn("serial", source, publish, logged, |event| event, |_| {}).expect("a thread");
        let settings = Settings {
            docker: self.docker,
            apps_dir: folder.join("apps"),
            archive_extension: "tgz".to_owned(),
            agent_dir: folder.join("agent"),
            device_env: "test".to_owned(),
            update_base: self.update_base,
            serial: "serial".to_owned(),
            feed: hub.feed(),
            time_floor: Wall::default(),
            programs: self.programs,
        };
        let (sink, events) = unbounded();
        let handle = jobs::spawn_with(settings, self.has_gpu, sink, |event| event, |_| {}).expect("threads");
        Jobs { handle, events, log, hub, folder }
    }
}

impl Jobs {
    fn with(daemon: &DockerDaemon) -> Jobs {
        Setup::of(daemon).spawn()
    }

    /// Does one job to its end.
    #[track_caller]
    pub fn perform(&self, spec: JobSpec) -> Outcome {
        self.handle.start(1, spec);
        self.wait_for_end(1)
    }

    /// The lines that the log of a container has.
    #[track_caller]
    pub fn log_of(&self, container: &str) -> Vec<String> {
        self.hub.send(LogCommand::History { container: container.to_owned(), token: 1 });
        loop {
            if let logs::Event::History { lines, .. } = self.log.recv_timeout(LIMIT).expect("the history") {
                return lines;
            }
        }
    }

    /// Starts a job that the Engine accepts; how it ends.
    #[track_caller]
    pub fn perform_accepted(&self, spec: JobSpec) -> Outcome {
        self.handle.start(1, spec);
        assert_eq!(self.next(), Event::Accepted(1));
        self.wait_for_end(1)
    }

    /// Cancels a job: it ends within a second, and no connection to the Engine is left.
    #[track_caller]
    fn cancel_at_once(&self, job: JobId, daemon: &DockerDaemon) {
        self.handle.cancel(job);
        let end = self.events.recv_timeout(Duration::from_secs(1));
        assert_eq!(end, Ok(Event::Ended { job, outcome: Outcome::Cancelled }));
        crate::util::wait_until(LIMIT, "no connection is left", || (daemon.connections() == 0).then_some(()));
    }

    #[track_caller]
    pub fn next(&self) -> Event {
        self.events.recv_timeout(LIMIT).expect("an event of the workers")
    }

    /// The next event, which is the end of this job.
    #[track_caller]
    pub fn wait_for_end(&self, job: JobId) -> Outcome {
        match self.next() {
            Event::Ended { job: ended, outcome } if ended == job => outcome,
            other => panic!("not the end of job {job} but {other:?}"),
        }
    }
}

/// What starts [`NAME`], with one published port.
fn launch(host_port: u16) -> Launch {
    Launch {
        container: NAME.to_owned(),
        image: IMAGE.to_owned(),
        folder: Folder { stage: Stage::Prod, name: "App".to_owned() },
        environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
        bindings: vec![Binding::plain(80, Protocol::Tcp, host_port)],
        on_trial: false,
    }
}

fn start(host_port: u16) -> JobSpec {
    JobSpec::Start(Box::new(launch(host_port)))
}

/// The user and password that a header of a request carries.
#[track_caller]
fn login_in(request: &Request, header: &str) -> String {
    let bytes = URL_SAFE.decode(request.headers.get(header).map_or("", String::as_str)).expect("base64");
    String::from_utf8(bytes).expect("JSON")
}

fn stop() -> JobSpec {
    JobSpec::Stop { container: NAME.to_owned() }
}
