//! The model engine: containers, images, directories; it performs jobs, fails, loses events, tells what is true.

use crate::domain::job::{Container, ContainerEvent, JobSpec, Observation, Outcome};
use crate::domain::ports::{Binding, Published};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// The engine.
#[derive(Debug, Default)]
pub(in crate::domain) struct Engine {
    pub containers: BTreeMap<String, Container>,
    pub images: BTreeSet<String>,
    /// App names that have a directory.
    pub folders: BTreeSet<String>,
    /// Every job that needs it ends as `EngineGone`.
    pub down: bool,
    /// Tags that the registry does not have.
    pub missing: BTreeSet<String>,
    /// Words of [`name`] whose job fails with this text; the count says how often.
    pub fails: BTreeMap<&'static str, (u32, &'static str)>,
    /// The next starts end at once, before their end is heard of.
    pub short_lived: u32,
    /// Ports that something else is bound to.
    pub bound: BTreeSet<u16>,
    /// Events do not arrive.
    pub mute: bool,
    events: Vec<ContainerEvent>,
    runs: u64,
}

/// The job in a word, if it is one of an engine's.
pub(in crate::domain) fn name(spec: &JobSpec) -> Option<String> {
    Some(match spec {
        JobSpec::Pull { image, username, .. } => format!("pull {image} as {}", username.reveal()),
        JobSpec::Start(launch) => format!("start {}", launch.image),
        JobSpec::Stop { .. } => "stop".to_owned(),
        JobSpec::RemoveContainer { container } => format!("remove {container}"),
        JobSpec::RemoveImages { .. } => "remove images".to_owned(),
        JobSpec::RemoveImage { image } => format!("remove image {image}"),
        JobSpec::HasImage { .. } => "has image".to_owned(),
        JobSpec::DeleteFiles(_) => "delete files".to_owned(),
        JobSpec::Observe { .. } => "observe".to_owned(),
        _ => return None,
    })
}

impl Engine {
    /// Whether the registry lets a pull begin.
    pub fn accepts(&self, spec: &JobSpec) -> bool {
        matches!(spec, JobSpec::Pull { image, .. } if !self.down && !self.missing.contains(image))
    }

    /// A container ends.
    pub fn exit(&mut self, name: &str, code: i64) {
        if let Some(container) = self.containers.get_mut(name).filter(|container| container.status == "running") {
            container.status = "exited".to_owned();
            container.exit_code = code;
        }
    }

    pub fn is_running(&self, name: &str) -> bool {
        self.containers.get(name).is_some_and(|container| container.status == "running")
    }

    pub fn take_events(&mut self) -> Vec<ContainerEvent> {
        let events = std::mem::take(&mut self.events);
        if self.mute { Vec::new() } else { events }
    }

    /// Does what a job is for.
    pub fn perform(&mut self, spec: &JobSpec) -> Outcome {
        if self.down && spec.needs_engine() {
            return Outcome::EngineGone("connection refused".to_owned());
        }
        let word = name(spec).unwrap_or_default();
        match self.fails.get_mut(word.split(' ').next().unwrap_or_default()) {
            Some((times, text)) if *times > 0 => {
                *times -= 1;
                return Outcome::Failed((*text).to_owned());
            }
            _ => {}
        }
        match spec {
            JobSpec::Observe { .. } => Outcome::Observed(Observation {
                containers: self.containers.values().cloned().collect(),
                images: self.images.iter().cloned().collect(),
                definitions: Vec::new(),
            }),
            JobSpec::Look { container } => Outcome::Looked(self.containers.get(container).cloned().map(Box::new)),
            JobSpec::Pull { image, .. } if self.missing.contains(image) => Outcome::Failed("not found".to_owned()),
            JobSpec::Pull { image, .. } => {
                self.images.insert(image.clone());
                Outcome::Done
            }
            JobSpec::Start(launch) => self.start(launch),
            JobSpec::Stop { container } | JobSpec::RemoveContainer { container } => {
                self.containers.retain(|name, known| name != container && known.id != *container);
                Outcome::Done
            }
            JobSpec::RemoveImages { repository } => {
                self.images.retain(|image| !image.starts_with(&format!("{repository}:")));
                Outcome::Done
            }
            JobSpec::RemoveImage { image } => {
                self.images.remove(image);
                Outcome::Done
            }
            JobSpec::HasImage { repository } => {
                Outcome::HasImage(self.images.iter().any(|image| image.starts_with(&format!("{repository}:"))))
            }
            JobSpec::DeleteFiles(folder) => {
                self.folders.remove(&folder.name);
                Outcome::Done
            }
            JobSpec::WriteLiveFiles(files) => {
                self.folders.insert(files.folder.name.clone());
                Outcome::Done
            }
            JobSpec::Statistics { .. } => Outcome::Statistics { stats: json!({"cpu_usage": 1.0}), sample: None },
            JobSpec::Platform => Outcome::Platform { os: "linux".to_owned() },
            JobSpec::Query(_) => Outcome::Answer(vec![json!("answer")]),
            other => panic!("the model engine cannot do {other:?}"),
        }
    }

    fn start(&mut self, launch: &crate::domain::job::Launch) -> Outcome {
        if !self.images.contains(&launch.image) {
            return Outcome::ImageMissing;
        }
        let others =
            self.containers.values().filter(|other| other.name != launch.container && other.status == "running");
        let bound: BTreeSet<u16> = others.flat_map(|other| &other.bindings).map(|port| port.host_port).collect();
        let is_bound = |port| self.bound.contains(&port) || bound.contains(&port);
        let taken: Vec<_> = launch.bindings.iter().filter(|binding| is_bound(binding.host_port)).cloned().collect();
        if taken.iter().any(|binding| binding.fresh) {
            return Outcome::PortsTaken(taken.into_iter().filter(|binding| binding.fresh).collect());
        }
        if let Some(binding) = taken.first() {
            return Outcome::PortConflict(format!(
                "Bind for 0.0.0.0:{} failed: port is already allocated",
                binding.host_port
            ));
        }
        self.runs += 1;
        let name = launch.container.clone();
        let published = |binding: &Binding| Published {
            service: binding.service.clone(),
            port: binding.port,
            protocol: binding.protocol,
            host_port: binding.host_port,
        };
        let bindings = launch.bindings.iter().map(published).collect();
        let container = Container {
            id: format!("id-{}", self.runs),
            name: name.clone(),
            status: "running".to_owned(),
            started_at: format!("t{}", self.runs),
            bindings,
            ours: true,
            ..Container::default()
        };
        self.containers.insert(name.clone(), container);
        self.folders.insert(launch.folder.name.clone());
        self.events.push(ContainerEvent { action: "start".to_owned(), name: name.clone(), project: None });
        if self.short_lived > 0 {
            self.short_lived -= 1;
            self.exit(&name, 1);
            self.events.push(ContainerEvent { action: "die".to_owned(), name, project: None });
        }
        Outcome::Done
    }
}
