//! Soaks on the fake engine: bounded, in the ordinary tests; as long as wanted by `make soak-... ENGINE=fake`.

use super::machine::{Entry, Machine, Seen, parse};
use super::random::{self, Soak};
use super::script::Pace;
use super::setting;
use crate::util::docker_daemon::model_time;
use crate::util::docker_daemon::{Behaviour, DockerDaemon, Fault, Pull};
use crate::util::{Options, TempDir};
use reagent::clock;
use std::path::PathBuf;
use std::time::Duration;

const REGISTRY: &str = "127.0.0.1:5000";

pub struct Fake {
    engine: DockerDaemon,
    bin: TempDir,
    taken: Vec<u16>,
}

impl Fake {
    pub fn new() -> Fake {
        let (engine, bin) = (DockerDaemon::start(), TempDir::new("cli"));
        engine.put_cli(bin.path());
        Fake { engine, bin, taken: Vec::new() }
    }

    /// Where the engine listens.
    pub fn socket(&self) -> PathBuf {
        self.engine.socket().to_owned()
    }

    /// A container writes a line.
    pub fn speak(&self, container: &str) {
        self.engine.write_log(container, 1, "a line of it");
    }
}

fn reference(image: &str, version: &str) -> String {
    format!("{REGISTRY}/apps/{image}:{version}")
}

impl Machine for Fake {
    fn registry(&self) -> String {
        REGISTRY.to_owned()
    }

    fn equip(&self, options: &mut Options) {
        options.env.push(("DOCKER_HOST".to_owned(), self.engine.host()));
        options.env.push(("PATH".to_owned(), self.bin.path().to_string_lossy().into_owned()));
    }

    fn offer(&mut self, image: &str, version: &str, is_bad: bool) {
        let reference = reference(image, version);
        if is_bad {
            self.engine.behave(&reference, Behaviour { exits: Some(3), ..Behaviour::default() });
        }
        self.engine.offer(&reference, Pull::Works);
    }

    fn has_release(&self, image: &str, version: &str) -> bool {
        self.engine.is_offered(&reference(image, version))
    }

    fn containers(&self) -> Option<Vec<Seen>> {
        let seen = |(name, project, image, runs)| Seen { name, project, image, runs };
        Some(self.engine.with_projects().into_iter().map(seen).collect())
    }

    fn images(&self) -> Option<Vec<String>> {
        Some(self.engine.images())
    }

    fn exit(&mut self, container: &str, code: i64) {
        self.engine.try_exit(container, code);
    }

    fn freeze(&mut self) {
        self.engine.fault("*", Fault::Hang);
    }

    fn thaw(&mut self) {
        self.engine.heal();
    }

    fn restart(&mut self) {
        self.thaw();
        self.engine.go_down();
        for container in self.containers().unwrap_or_default() {
            self.engine.try_exit(&container.name, 137);
        }
        self.engine.come_up();
    }

    fn registry_fails(&mut self, fails: bool) {
        let error = "Get \"http://127.0.0.1:5000/v2/\": dial tcp 127.0.0.1:5000: connect: connection refused";
        self.engine.registry_fails(fails.then_some(error));
    }

    fn take_port(&mut self, port: u16) {
        self.taken.push(port);
        self.engine.take_port(port);
    }

    fn free_ports(&mut self) {
        self.taken.drain(..).for_each(|port| self.engine.free_port(port));
    }

    fn history(&self) -> Vec<Entry> {
        let (mono, wall) = (clock::mono(), model_time(clock::wall()));
        let on_mono = |nanos: i64| mono.saturating_sub(Duration::from_nanos(u64::try_from(wall - nanos).unwrap_or(0)));
        let events = self.engine.events();
        events.iter().filter_map(parse).map(|(nanos, entry)| Entry { at: on_mono(nanos), ..entry }).collect()
    }

    fn clear(&mut self) {
        *self = Fake::new();
    }
}

#[test]
fn s3_s7_s12_runs_of_random_requests_and_faults_end_where_they_were_asked_to_and_tell_no_untruth() {
    let soak = Soak {
        first: setting("FROM", 1),
        runs: setting("RUNS", 2),
        worlds: setting("WORLDS", 2),
        pace: Pace { gap: 400, restarts: 2 },
        limit: Duration::from_secs(180),
        host_port: 0,
        name: "fake",
    };
    random::soak(soak, Fake::new);
}
