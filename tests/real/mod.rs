//! The real parts, started by the scripts of `tests/env`: Docker Engine, registry, Crossbar, compose.
//!
//! The engine is shared with whoever uses the machine: a [`Docker`] removes on drop what carries its own label or name,
//! and nothing else. Registries and routers belong to the test process: they end when their handle is dropped, and also
//! when the process dies, since each has a guard that watches for that. A part that cannot be had is a panic with the
//! script's message, which names the command that installs it.

#![allow(dead_code, reason = "the scenarios use these as they come")]

pub mod engine;
pub mod flavour;
#[cfg(test)]
mod machine;
pub mod relay;
pub mod stage;
pub mod tap;

#[cfg(test)]
mod badinput;
#[cfg(test)]
mod building;
#[cfg(test)]
mod compose;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod dotenv;
#[cfg(test)]
mod host_ports;
#[cfg(test)]
mod inits;
mod keeping;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod large_tests;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod listing;
#[cfg(test)]
mod ordinary;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod parts_tests;
#[cfg(test)]
mod projects;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod threads;
#[cfg(test)]
mod variables;
#[cfg(test)]
mod walk;

use crate::util::{TempDir, wait_until};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

/// Runs a script of `tests/env`; its standard output.
#[track_caller]
pub fn script(name: &str, args: &[&str], env: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/env").join(name);
    let owner = std::process::id().to_string();
    let output = Command::new(&path).args(args).env("OWNER_PID", owner).envs(env.iter().copied()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {}: {error}", path.display()));
    assert!(
        output.status.success(),
        "tests/env/{name} {} failed:\n{}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A part with a folder in which its script leaves `pid` and `port`.
struct Part {
    script: &'static str,
    folder: TempDir,
    port: u16,
}

impl Part {
    #[track_caller]
    fn start(script_name: &'static str, label: &str, args: &[&str]) -> Part {
        let folder = TempDir::new(label);
        let dir = folder.path().to_str().expect("the temporary folder has a plain name").to_owned();
        let mut all = vec!["start", &dir];
        all.extend(args);
        script(script_name, &all, &[]);
        let port = std::fs::read_to_string(folder.join("port")).expect("the script leaves the port");
        Part { script: script_name, port: port.trim().parse().expect("the port is a number"), folder }
    }
}

impl Part {
    #[track_caller]
    fn script(&self, verb: &str) {
        script(self.script, &[verb, &self.folder.path().to_string_lossy()], &[]);
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // A drop while a test is failing must not panic again.
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.script("stop"))).is_err() {
            eprintln!("could not stop the part in {}", self.folder.path().display());
        }
    }
}

/// A Crossbar router: users as in [`crate::cloud::flock::Identity::users`], and 2-4 with a salt.
pub struct Crossbar(Part);

impl Crossbar {
    /// One that belongs to the caller (about four seconds).
    #[track_caller]
    pub fn start() -> Crossbar {
        Crossbar(Part::start("crossbar.sh", "crossbar", &[]))
    }

    /// The URL for a `.flock`.
    pub fn url(&self) -> String {
        format!("ws://localhost:{}/ws-re-dev", self.0.port)
    }

    /// Its loopback port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Ends the process; the port stays its own.
    #[track_caller]
    pub fn go_down(&self) {
        self.0.script("stop");
    }

    /// Starts it again, on its port; returns once it answers.
    #[track_caller]
    pub fn come_back(&self) {
        self.0.script("start");
    }
}

/// The Crossbar that all tests share whose procedures and topics are their own.
#[track_caller]
pub fn crossbar() -> &'static Crossbar {
    static SHARED: OnceLock<Crossbar> = OnceLock::new();
    SHARED.get_or_init(Crossbar::start)
}

/// A registry with nothing in it.
pub struct Registry {
    part: Part,
    login: Option<(String, String)>,
}

impl Registry {
    /// One that asks for no password.
    #[track_caller]
    pub fn start() -> Registry {
        Registry { part: Part::start("registry.sh", "registry", &[]), login: None }
    }

    /// One that lets in this user only; the agent's is the registry token, with the device's secret.
    #[track_caller]
    pub fn start_with_login(user: &str, password: &str) -> Registry {
        let part = Part::start("registry.sh", "registry", &[user, password]);
        Registry { part, login: Some((user.to_owned(), password.to_owned())) }
    }

    /// Its loopback port.
    pub fn port(&self) -> u16 {
        self.part.port
    }

    /// `host:port`, for the `.flock`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.part.port)
    }

    /// The full reference of an image `<stage>_<arch>_<app key>_<name>` in a version.
    pub fn reference(&self, image: &str, version: &str) -> String {
        format!("{}/apps/{image}:{version}", self.address())
    }

    /// Makes an image of a kind (see `tests/env/images.sh`) and pushes it; it does not stay on the engine.
    #[track_caller]
    pub fn push(&self, docker: &Docker, image: &str, version: &str, kind: &str) -> String {
        let reference = self.reference(image, version);
        let config = TempDir::new("docker-config");
        if let Some((user, password)) = &self.login {
            let auth = STANDARD.encode(format!("{user}:{password}"));
            let auths = json!({"auths": {self.address(): {"auth": auth}}});
            std::fs::write(config.join("config.json"), auths.to_string()).expect("a fresh folder takes a file");
        }
        let folder = config.path().to_string_lossy().into_owned();
        let mut env = docker.env();
        env.push(("DOCKER_CONFIG", &folder));
        script("images.sh", &["push", &reference, kind, version], &env);
        reference
    }

    /// Whether it has `name` (`apps/app`) in a version.
    pub fn has(&self, name: &str, version: &str) -> bool {
        let tag = format!("docker/registry/v2/repositories/{name}/_manifests/tags/{version}/current/link");
        self.storage().join(tag).exists()
    }

    /// Where the storage is, for tests that fill or damage it.
    pub fn storage(&self) -> PathBuf {
        self.part.folder.join("storage")
    }
}

/// The machine's engine, as one test uses it.
pub struct Docker {
    host: Option<String>,
    /// Name prefixes and exact references of what the test made.
    containers: Vec<String>,
    images: Vec<String>,
    /// Given back after the clean-up.
    turn: Option<File>,
}

impl Docker {
    /// The engine that answers on `DOCKER_HOST` or the usual socket; started if there is none.
    #[track_caller]
    pub fn shared() -> Docker {
        static READY: OnceLock<()> = OnceLock::new();
        READY.get_or_init(|| {
            script("docker.sh", &[], &[]);
            script("images.sh", &["base"], &[]);
        });
        Docker { host: None, containers: Vec::new(), images: Vec::new(), turn: None }
    }

    /// [`Docker::shared`] for a test that runs an agent on it, one at a time: an agent removes the containers of every
    /// other agent on its engine, since they have one label in common. Waits for its turn, behind other processes too.
    #[track_caller]
    pub fn for_agent() -> Docker {
        let mut docker = Docker::shared();
        let path = std::env::temp_dir().join("reagent-test-engine.lock");
        let file = File::create(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        wait_until(Duration::from_secs(900), "a turn at the engine", || file.try_lock().ok());
        docker.turn = Some(file);
        docker
    }

    /// Another engine, by its `DOCKER_HOST` value.
    pub fn at(host: &str) -> Docker {
        Docker { host: Some(host.to_owned()), containers: Vec::new(), images: Vec::new(), turn: None }
    }

    fn env(&self) -> Vec<(&str, &str)> {
        self.host.iter().map(|host| ("DOCKER_HOST", host.as_str())).collect()
    }

    /// Containers whose name begins like this are this test's: they, and the volumes and networks of compose projects
    /// with that name, go when it ends. Use an app key that no other test uses: `prod_7301_`.
    pub fn own_containers(&mut self, prefix: &str) {
        assert!(prefix.len() > 4, "{prefix:?} could be the name of somebody else's container");
        self.containers.push(prefix.to_owned());
    }

    /// Images whose reference begins like this (a registry of the test's own) go when the test ends.
    pub fn own_images(&mut self, prefix: &str) {
        assert!(prefix.len() > 4, "{prefix:?} could be the name of somebody else's image");
        self.images.push(prefix.to_owned());
    }

    /// Runs the CLI.
    pub fn try_run(&self, args: &[&str]) -> Output {
        Command::new("docker").args(args).envs(self.env()).output().expect("the docker CLI starts")
    }

    /// Runs the CLI; its standard output. A failure fails the test.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        let output = self.try_run(args);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {} failed: {error}", args.join(" "));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What `docker inspect` shows of a container, `None` if there is none.
    pub fn inspect(&self, container: &str) -> Option<Value> {
        let output = self.try_run(&["container", "inspect", container]);
        let list: Value = serde_json::from_slice(&output.stdout).ok()?;
        list.get(0).cloned()
    }

    /// Names of all containers, running or not, that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let output = self.try_run(&["ps", "-a", "--format", "{{.Names}}"]);
        let names = String::from_utf8_lossy(&output.stdout).into_owned();
        names.lines().filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
    }

    fn listed(&self, args: &[&str], prefix: &str) -> Vec<String> {
        let output = self.try_run(args);
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        lines.lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        for prefix in &self.containers {
            for name in self.names(prefix) {
                self.try_run(&["rm", "-f", "-v", &name]);
            }
            for kind in ["network", "volume"] {
                for name in self.listed(&[kind, "ls", "--format", "{{.Name}}"], prefix) {
                    self.try_run(&[kind, "rm", &name]);
                }
            }
        }
        for prefix in &self.images {
            for image in self.listed(&["images", "--format", "{{.Repository}}:{{.Tag}}"], prefix) {
                self.try_run(&["image", "rm", "-f", &image]);
            }
        }
    }
}
