//! What an app leaves behind when it is where it was wanted: exactly what belongs to that state.

use super::super::engine::children;
use super::End;
use super::scene::Scene;
use crate::util::wait_until;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What goes after the last report may take a moment.
const MOMENT: Duration = Duration::from_secs(20);

impl Scene {
    /// Whether the app's containers are those of this end.
    pub fn engine_has(&self, end: End) -> bool {
        let docker = &self.stage.docker;
        let runs = |service: &str, image: &str| {
            docker
                .inspect(&self.name_of(service))
                .is_some_and(|found| found["State"]["Running"] == true && found["Config"]["Image"] == image)
        };
        match end {
            End::Running(version) if self.is_compose() => {
                ["web", "db"].iter().all(|service| runs(service, &self.service(service, version)))
            }
            End::Running(_) if self.app.stage == "DEV" => {
                let image = self.stage.reference(&self.app, "");
                runs("", image.trim_end_matches(':'))
            }
            End::Running(version) => runs("", &self.stage.reference(&self.app, version)),
            _ => docker.names(&self.app.container()).is_empty(),
        }
    }

    /// Nothing is there that does not belong to the end.
    #[track_caller]
    pub fn leaves_nothing_else(&self, end: End) {
        let mut found = Vec::new();
        let clean = || {
            let now = self.leftovers(end);
            let is_clean = now.is_empty();
            found = now;
            is_clean.then_some(())
        };
        let clean =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_until(MOMENT, "nothing is left", clean)));
        assert!(clean.is_ok(), "this is left: {found:?}");
    }

    fn leftovers(&self, end: End) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, is: BTreeSet<String>, needed: &BTreeSet<String>, allowed: &BTreeSet<String>| {
            found.extend(is.difference(allowed).map(|one| format!("{what} {one}")));
            found.extend(needed.difference(&is).map(|one| format!("no {what} {one}")));
        };
        let docker = &self.stage.docker;
        let list = |args: &[&str]| -> BTreeSet<String> { docker.run(args).lines().map(str::to_owned).collect() };
        let none = BTreeSet::new();
        let runs = matches!(end, End::Running(_));
        let services: &[&str] = if self.is_compose() { &["web", "db"] } else { &[""] };
        let names = services.iter().map(|service| self.name_of(service)).collect();
        let names = if runs { &names } else { &none };
        compare("container", docker.names("").into_iter().collect(), names, names);

        let project = format!("{}_compose", self.app.container());
        let own = BTreeSet::from(["bridge", "host", "none"].map(str::to_owned));
        let networks = list(&["network", "ls", "--format", "{{.Name}}"]);
        let networks = networks.difference(&own).cloned().collect();
        for (what, is, name) in [("network", networks, "default"), ("volume", list(&["volume", "ls", "-q"]), "data")] {
            let of_project = BTreeSet::from([format!("{project}_{name}")]);
            let needed = if runs && self.is_compose() { &of_project } else { &none };
            // A stop leaves them, a removal does not.
            let allowed = if end == End::Present && self.is_compose() { &of_project } else { needed };
            compare(what, is, needed, allowed);
        }
        let published = self.stage.engine.published().iter().map(u16::to_string).collect();
        let rules = self.known().ports;
        let ports = rules.iter().filter_map(|rule| rule.get("host_port").map(ToString::to_string)).collect();
        let ports = if runs { &ports } else { &none };
        compare("port", published, ports, ports);

        compare("file", self.debris(end), &none, &none);
        compare("process", self.strays(), &none, &none);
        compare("connection", self.connections(services.len()), &none, &none);
        found
    }

    /// Files that nothing needs.
    fn debris(&self, end: End) -> BTreeSet<String> {
        let apps = self.stage.agent.apps_dir();
        let logins = self.stage.agent.agent_dir().join(".compose-login");
        let name = self.app.name.as_str();
        let of_app = [
            format!("compose/{name}"),
            format!("prod/{}", name.to_lowercase()),
            format!("dev/{}", name.to_lowercase()),
            format!("build/{name}"),
        ];
        let is_debris = |path: &Path| {
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            let relative = path.strip_prefix(&apps).unwrap_or(path).to_string_lossy();
            let unfinished = file.contains(".part-")
                || file.starts_with(".new-")
                || (file.starts_with('.') && (file.ends_with(".new") || file.ends_with(".old")));
            unfinished || (end == End::Uninstalled && of_app.iter().any(|own| relative.starts_with(own)))
        };
        let below = [below(&apps), below(&logins)].concat();
        below
            .into_iter()
            .filter(|path| path.starts_with(&logins) || is_debris(path))
            .map(|path| path.display().to_string())
            .collect()
    }

    /// Processes that the agent or one before it has started.
    fn strays(&self) -> BTreeSet<String> {
        let marked = format!("DOCKER_CONFIG={}", self.stage.agent.agent_dir().join(".compose-login").display());
        let own = i32::try_from(self.stage.agent.pid()).expect("a process id");
        let all = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_marked = |id: &i32| {
            fs::read(format!("/proc/{id}/environ"))
                .is_ok_and(|text| text.split(|byte| *byte == 0).any(|variable| variable.starts_with(marked.as_bytes())))
        };
        let strays = ids.filter(is_marked).chain(children(own));
        strays
            .map(|id| {
                let command = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
                format!("{id} {}", String::from_utf8_lossy(&command).replace('\0', " "))
            })
            .collect()
    }

    /// Connections to the engine: the events, and one log for each container that runs.
    fn connections(&self, containers: usize) -> BTreeSet<String> {
        let mut open = self.stage.requests.open();
        let mut take = |text: &str, most: usize| {
            for _ in 0..most {
                if let Some(at) = open.iter().position(|line| line.contains(text)) {
                    open.remove(at);
                }
            }
        };
        take("/events", 1);
        if self.reported() == "RUNNING" {
            take("/logs", containers);
        }
        open.into_iter().collect()
    }
}

fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().map_while(Result::ok).map(|entry| entry.path());
    entries
        .flat_map(|path| {
            let deeper = if path.is_dir() && !path.is_symlink() { below(&path) } else { Vec::new() };
            std::iter::once(path).chain(deeper)
        })
        .collect()
}
