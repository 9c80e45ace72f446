//! A copy of what publishing needs of the project, with small files for the agents.

use super::store::Store;
use crate::util::TempDir;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The lines of `targets` that have an agent, and the architecture of each.
pub const LINES: [(&str, &str); 5] = [
    ("linux/amd64", "amd64"),
    ("linux/arm64", "arm64"),
    ("linux/arm/7", "armv7"),
    ("linux/arm/6", "armv6"),
    ("linux/arm/5", "armv5"),
];

/// What a line of a signature file begins with.
pub const ROLE: &str = "ed25519";

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The version of the tunnel client.
pub fn frpc_pin() -> String {
    let pin = fs::read_to_string(project("src/release/frpc.txt")).unwrap();
    pin.lines().next().unwrap().to_owned()
}

/// How a command went.
pub struct Outcome(Output, String);

impl Outcome {
    fn said(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned() + &String::from_utf8_lossy(&self.0.stdout)
    }

    /// What was said by a command that has to have worked.
    #[track_caller]
    pub fn ok(&self) -> String {
        assert!(self.0.status.success(), "{} failed:\n{}", self.1, self.said());
        self.said()
    }

    /// What was said by a command that has to have failed.
    #[track_caller]
    pub fn error(&self) -> String {
        assert!(!self.0.status.success(), "{} did not fail:\n{}", self.1, self.said());
        self.said()
    }
}

/// The copy; it goes on drop. Publishes to a folder in it unless told otherwise.
pub struct Desk {
    folder: TempDir,
    env: Vec<(String, String)>,
}

impl Desk {
    /// With agents of this version and tunnel clients for all of [`LINES`].
    pub fn new() -> Desk {
        let desk = Desk { folder: TempDir::new("release"), env: Vec::new() };
        for file in ["Makefile", "targets", "availableVersions.json", "src/release/version.txt", "src/release/frpc.txt"]
        {
            desk.take(file);
        }
        for file in ["Dockerfile", "build", "docker", "frpc", "lib.sh", "publish", "targets.txt"] {
            desk.take(&format!("cross/{file}"));
        }
        desk.take("tests/env/lib.sh");
        for (line, arch) in LINES {
            let agent = format!("an agent, \0 reagent {} ({arch}) \0 and more\n", reagent::release::VERSION);
            desk.write(&format!("build/reagent-linux-{arch}"), &agent);
            desk.write(&format!(".cache/frp/{}/{line}/frpc", frpc_pin()), &format!("a tunnel client for {line}"));
        }
        let to = desk.path("published").display().to_string();
        desk.with("PUBLISH_TO", &to)
    }

    fn take(&self, file: &str) {
        self.write(file, "");
        fs::copy(project(file), self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    fn write(&self, file: &str, text: &str) {
        fs::create_dir_all(self.path(file).parent().unwrap()).unwrap();
        fs::write(self.path(file), text).unwrap();
    }

    /// A program of this name that comes before the machine's.
    pub fn program(&self, name: &str, script: &str) {
        let file = format!("bin/{name}");
        self.write(&file, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(self.path(&file), fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// With an environment variable.
    pub fn with(mut self, name: &str, value: &str) -> Desk {
        self.env.retain(|(set, _)| set != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Publishing to a server.
    pub fn at(self, store: &Store) -> Desk {
        let url = store.url();
        self.with("PUBLISH_TO", &url)
    }

    fn command(&self, program: &str, args: &[&str]) -> Outcome {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new(program)
            .args(args)
            .current_dir(self.folder.path())
            // Nothing of who runs the tests: their credentials, their settings.
            .env_clear()
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("HOME", self.folder.path())
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        Outcome(output, format!("{program} {}", args.join(" ")))
    }

    pub fn make(&self, target: &str) -> Outcome {
        self.command("make", &[target])
    }

    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> Vec<u8> {
        let outcome = self.command(program, args);
        outcome.ok();
        outcome.0.stdout
    }

    #[track_caller]
    pub fn run_for_error(&self, program: &str, args: &[&str]) -> String {
        self.command(&self.path(program).to_string_lossy(), args).error()
    }

    #[track_caller]
    pub fn openssl(&self, args: &[&str]) -> Vec<u8> {
        self.run("openssl", args)
    }

    /// The files that were published to the folder.
    pub fn published(&self) -> BTreeSet<String> {
        fn walk(folder: &Path, root: &Path, found: &mut BTreeSet<String>) {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, found);
                } else {
                    found.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
                }
            }
        }
        let mut found = BTreeSet::new();
        let root = self.path("published");
        walk(&root, &root, &mut found);
        found
    }

    #[track_caller]
    pub fn read(&self, object: &str) -> Vec<u8> {
        fs::read(self.path("published").join(object)).unwrap_or_else(|error| panic!("{object}: {error}"))
    }
}
