//! Soaks on a real engine with compose and a real registry: a short form in the ordinary tests, the long one by
//! `make soak-...`.

use super::machine::{Entry, Machine, Seen};
use super::observer::{Api, Observer};
use super::random::{self, Soak};
use super::script::Pace;
use super::setting;
use super::truth::Told;
use crate::real::engine::Engine;
use crate::real::relay::Relay;
use crate::real::stage::registry;
use crate::util::{Options, wait_until};
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

const BASE: &str = "busybox:local";

pub struct Real {
    observer: Observer,
    api: Api,
    /// Between the engine and the registry; the registry's name for the agent.
    download: Relay,
    taken: Vec<TcpListener>,
    /// The kind of image that a good release is.
    kind: &'static str,
    engine: Engine,
}

impl Real {
    pub fn new() -> Real {
        let engine = Engine::start();
        engine.has_base();
        Real {
            observer: Observer::start(&engine.socket()),
            api: Api(engine.socket()),
            download: Relay::tcp(registry().port(), false),
            taken: Vec::new(),
            kind: "silent",
            engine,
        }
    }

    /// One whose apps write a line a second.
    pub fn speaking() -> Real {
        Real { kind: "demo", ..Real::new() }
    }

    /// Where the engine listens.
    pub fn socket(&self) -> PathBuf {
        self.engine.socket()
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Machine for Real {
    fn registry(&self) -> String {
        format!("127.0.0.1:{}", self.download.port())
    }

    fn equip(&self, options: &mut Options) {
        let plugin = crate::real::script("compose.sh", &["v2"], &[]);
        let config = Path::new(&plugin).ancestors().nth(2).expect("it is in cli-plugins");
        options.env.push(("DOCKER_HOST".to_owned(), self.engine.host()));
        options.env.push(("DOCKER_CONFIG".to_owned(), config.to_string_lossy().into_owned()));
    }

    fn offer(&mut self, image: &str, version: &str, is_bad: bool) {
        if !self.has_release(image, version) {
            registry().push(&self.engine.docker(), image, version, if is_bad { "exits" } else { self.kind });
        }
    }

    fn has_release(&self, image: &str, version: &str) -> bool {
        registry().has(&format!("apps/{image}"), version)
    }

    fn containers(&self) -> Option<Vec<Seen>> {
        let list = self.api.list("/containers/json?all=1")?;
        let seen = |container: Value| Seen {
            name: text(&container["Names"][0]).trim_start_matches('/').to_owned(),
            project: text(&container["Labels"]["com.docker.compose.project"]),
            image: text(&container["Image"]),
            runs: container["State"] == "running",
        };
        let mut all: Vec<Seen> = list.into_iter().map(seen).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Some(all)
    }

    fn images(&self) -> Option<Vec<String>> {
        let list = self.api.list("/images/json")?;
        let tags = |image: &Value| image["RepoTags"].as_array().cloned().unwrap_or_default();
        let mut all: Vec<String> = list.iter().flat_map(tags).map(|tag| text(&tag)).filter(|tag| tag != BASE).collect();
        // Those of one second come in any order.
        all.sort();
        Some(all)
    }

    fn exit(&mut self, container: &str, code: i64) {
        // The program ends with 0 on TERM.
        let signal = if code == 0 { "TERM" } else { "KILL" };
        self.api.call("POST", &format!("/containers/{container}/kill?signal={signal}"));
    }

    fn freeze(&mut self) {
        self.engine.freeze();
    }

    fn thaw(&mut self) {
        self.engine.thaw();
    }

    fn restart(&mut self) {
        self.thaw();
        self.engine.terminate();
        self.engine.launch();
    }

    fn registry_fails(&mut self, fails: bool) {
        if fails { self.download.go_away() } else { self.download.come_back() }
    }

    fn take_port(&mut self, port: u16) {
        self.taken.extend(TcpListener::bind(("0.0.0.0", port)));
    }

    fn free_ports(&mut self) {
        self.taken.clear();
    }

    fn history(&self) -> Vec<Entry> {
        // A name that nobody else gives: when it is heard of, everything before it was.
        let mark = format!("soak-mark:{}", reagent::clock::mono().as_nanos());
        let (name, tag) = mark.split_once(':').expect("there is a colon");
        wait_until(Duration::from_secs(30), "the engine takes a mark", || {
            self.api
                .call("POST", &format!("/images/{BASE}/tag?repo={name}&tag={tag}"))
                .filter(|(status, _)| *status == 201)
        });
        let is_mark = |entry: &Entry| entry.told == Told::Named && entry.id == mark;
        wait_until(Duration::from_secs(30), "the observer hears of the mark", || {
            self.observer.entries().iter().any(is_mark).then_some(())
        });
        self.api.call("DELETE", &format!("/images/{mark}"));
        self.observer.entries()
    }

    fn clear(&mut self) {
        for container in self.containers().unwrap_or_default() {
            self.api.call("DELETE", &format!("/containers/{}?force=1&v=1", container.name));
        }
        self.api.call("POST", "/networks/prune");
        for image in self.images().unwrap_or_default() {
            self.api.call("DELETE", &format!("/images/{image}?force=1"));
        }
        assert!(self.containers().is_some_and(|left| left.is_empty()), "containers are left: {:?}", self.containers());
        // Connections that are over are forgotten with this.
        self.download.cut();
        self.history();
        self.observer.forget();
    }
}

#[test]
fn s3_s7_s12_runs_of_random_requests_and_faults_end_where_they_were_asked_to_and_tell_no_untruth() {
    let soak = Soak {
        first: setting("FROM", 1),
        runs: setting("RUNS", 1),
        worlds: setting("WORLDS", 1),
        pace: Pace { gap: 800, restarts: 3 },
        limit: Duration::from_secs(300),
        host_port: 46_000,
        name: "real",
    };
    random::soak(soak, Real::new);
}
