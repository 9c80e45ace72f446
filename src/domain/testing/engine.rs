//! The model engine: containers, images, directories; it performs jobs, fails, loses events, tells what is true.

use crate::domain::compose;
use crate::domain::job::{ComposeCommand, Container, ContainerEvent, Folder, JobSpec, Observation, Outcome, Project};
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
    /// Directories of compose definitions.
    pub definitions: Vec<Folder>,
    /// Projects that have volumes.
    pub volumes: BTreeSet<String>,
    /// Archives of sources.
    pub archives: super::archives::Archives,
    /// Every job that needs it ends as `EngineGone`.
    pub down: bool,
    /// Tags that the registry does not have.
    pub missing: BTreeSet<String>,
    /// Words of [`name`] whose job fails with this text; the count says how often.
    pub fails: BTreeMap<&'static str, (u32, &'static str)>,
    /// There is no compose.
    pub without_compose: bool,
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
        JobSpec::HasImage { .. } => "has image".to_owned(),
        JobSpec::DeleteFiles(_) => "delete files".to_owned(),
        JobSpec::Compose { command, .. } => match command {
            ComposeCommand::Pull { services } => format!("compose pull {}", services.join(" ")).trim_end().to_owned(),
            ComposeCommand::Build => "compose build".to_owned(),
            ComposeCommand::PullRest => "compose pull rest".to_owned(),
            ComposeCommand::Push => "compose push".to_owned(),
            ComposeCommand::Up { .. } => "compose up".to_owned(),
            ComposeCommand::TakeDown => "compose stop".to_owned(),
            ComposeCommand::Down => "compose down".to_owned(),
            ComposeCommand::Remove => "compose remove".to_owned(),
        },
        JobSpec::RemoveProject { .. } => "remove project".to_owned(),
        JobSpec::MissingImages { .. } => "missing images".to_owned(),
        JobSpec::RemoveImageList { images } => format!("remove images {}", images.join(" ")),
        JobSpec::FindCompose => "find compose".to_owned(),
        JobSpec::Build(build) => format!("build {}", build.image),
        JobSpec::Unpack { .. } => "unpack".to_owned(),
        JobSpec::Tag { target, .. } => format!("tag {target}"),
        JobSpec::Push { image, .. } => format!("push {image}"),
        JobSpec::Rehost(rehost) => format!("rehost {} {}", rehost.source, rehost.target),
        JobSpec::Keep { kept, .. } => format!("keep {kept}"),
        JobSpec::PutBack { kept, .. } => format!("put back {kept}"),
        JobSpec::Observe { .. } => "observe".to_owned(),
        JobSpec::Upload(upload) => super::archives::name(upload),
        _ => return None,
    })
}

impl Engine {
    /// Whether a transfer begins.
    pub fn accepts(&self, spec: &JobSpec) -> bool {
        let begins = match spec {
            JobSpec::Pull { image, .. } => !self.missing.contains(image),
            JobSpec::Build(_) | JobSpec::Push { .. } => true,
            _ => false,
        };
        begins && !self.down
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
                definitions: self.definitions.clone(),
            }),
            JobSpec::Look { container } | JobSpec::Prove { container } => {
                Outcome::Looked(self.containers.get(container).cloned().map(Box::new))
            }
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
            JobSpec::HasImage { image } => Outcome::HasImage(self.images.contains(image)),
            JobSpec::DeleteFiles(folder) => {
                self.folders.remove(&folder.name);
                self.definitions.retain(|known| known != folder);
                Outcome::Done
            }
            JobSpec::WriteLiveFiles(files) => {
                self.folders.insert(files.folder.name.clone());
                Outcome::Done
            }
            JobSpec::Statistics { .. } => Outcome::Statistics { stats: json!({"cpu_usage": 1.0}), sample: None },
            JobSpec::Platform => Outcome::Platform { os: "linux".to_owned() },
            JobSpec::Upload(upload) => self.archives.take(upload),
            JobSpec::Query(_) => Outcome::Answer(vec![json!("answer")]),
            JobSpec::RemoveImageList { images } => {
                self.images.retain(|image| !images.contains(image));
                Outcome::Done
            }
            JobSpec::FindCompose => self.with_compose(|_| Outcome::Done),
            JobSpec::Compose { project, command, .. } => self.compose(project, command),
            JobSpec::LookProject { project } => {
                let of_it: Vec<Container> = self.of_project(project).cloned().collect();
                Outcome::Looked(compose::aggregate(&of_it).map(Box::new))
            }
            JobSpec::RemoveProject { project } => {
                self.containers.retain(|_, container| container.project.as_ref() != Some(project));
                Outcome::Done
            }
            JobSpec::MissingImages { images } => {
                let lacks = |image: &str| !self.images.contains(image);
                Outcome::Missing(
                    images.iter().filter(|(_, image)| lacks(image)).map(|(name, _)| name.clone()).collect(),
                )
            }
            JobSpec::Build(build) => {
                self.images.insert(format!("{}:latest", build.image));
                Outcome::Done
            }
            JobSpec::Tag { target, .. } => {
                self.images.insert(target.clone());
                Outcome::Done
            }
            JobSpec::Unpack { .. } | JobSpec::Push { .. } | JobSpec::Rehost(_) => Outcome::Done,
            JobSpec::Keep { container, kept } => {
                if let Some(mut old) = self.containers.remove(container) {
                    (old.name, old.status) = (kept.clone(), "exited".to_owned());
                    self.containers.insert(kept.clone(), old);
                }
                Outcome::Done
            }
            JobSpec::PutBack { container, kept } => {
                let Some(mut old) = self.containers.remove(kept) else {
                    return Outcome::Failed("nothing was kept".to_owned());
                };
                let busy: Vec<Binding> =
                    old.bindings.iter().map(|it| Binding::plain(it.port, it.protocol, it.host_port)).collect();
                if self.clash(&busy, |other| other.name == *container).is_some() {
                    return Outcome::Failed("port is already allocated".to_owned());
                }
                self.runs += 1;
                (old.name, old.status, old.started_at) =
                    (container.clone(), "running".to_owned(), format!("t{}", self.runs));
                self.containers.insert(container.clone(), old);
                Outcome::Done
            }
        }
    }

    fn with_compose(&mut self, does: impl FnOnce(&mut Engine) -> Outcome) -> Outcome {
        if self.without_compose { Outcome::ComposeMissing } else { does(self) }
    }

    fn of_project(&self, project: &str) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(move |container| container.project.as_deref() == Some(project))
    }

    fn compose(&mut self, project: &Project, command: &ComposeCommand) -> Outcome {
        let images = compose::images(&project.definition).unwrap_or_default();
        let takes_away = matches!(command, ComposeCommand::TakeDown | ComposeCommand::Down | ComposeCommand::Remove);
        if !takes_away && !self.without_compose && !self.definitions.contains(&project.folder) {
            self.definitions.push(project.folder.clone());
        }
        match command {
            ComposeCommand::Pull { services } => self.with_compose(|engine| {
                let wanted = images.into_iter().filter(|(name, _)| services.is_empty() || services.contains(name));
                for (_, image) in wanted {
                    if engine.missing.contains(&image) {
                        return Outcome::Failed(format!("{image} not found"));
                    }
                    engine.images.insert(image);
                }
                Outcome::Done
            }),
            ComposeCommand::Build => self.with_compose(|engine| {
                engine.images.extend(images.into_values());
                Outcome::Done
            }),
            ComposeCommand::PullRest | ComposeCommand::Push => self.with_compose(|_| Outcome::Done),
            ComposeCommand::Up { bindings } => self.with_compose(|engine| engine.up(project, bindings, &images)),
            ComposeCommand::TakeDown | ComposeCommand::Down | ComposeCommand::Remove => {
                self.containers.retain(|_, container| container.project.as_ref() != Some(&project.name));
                if *command == ComposeCommand::Remove {
                    self.volumes.remove(&project.name);
                }
                Outcome::Done
            }
        }
    }

    /// A job is cut off in the middle: what it has done by then.
    pub fn half(&mut self, spec: &JobSpec) {
        let JobSpec::Compose { project, command, .. } = spec else { return };
        match command {
            ComposeCommand::Up { .. } => drop(self.compose(project, command)),
            ComposeCommand::TakeDown | ComposeCommand::Down | ComposeCommand::Remove => {}
            _ => return,
        }
        // All but the first service.
        let first = self.of_project(&project.name).map(|container| container.name.clone()).next();
        self.containers
            .retain(|name, other| other.project.as_ref() != Some(&project.name) || first.as_ref() == Some(name));
    }

    fn up(&mut self, project: &Project, bindings: &[Binding], images: &BTreeMap<String, String>) -> Outcome {
        if let Some(image) = images.values().find(|image| !self.images.contains(*image)) {
            return Outcome::Failed(format!("no such image: {image}"));
        }
        if let Some(outcome) = self.clash(bindings, |other| other.project.as_ref() == Some(&project.name)) {
            return outcome;
        }
        self.containers.retain(|_, container| container.project.as_ref() != Some(&project.name));
        self.folders.insert(project.folder.name.clone());
        self.volumes.insert(project.name.clone());
        for service in images.keys() {
            self.runs += 1;
            let name = format!("{}-{service}-1", project.name);
            let container = Container {
                id: format!("id-{}", self.runs),
                name: name.clone(),
                image: images[service].clone(),
                status: "running".to_owned(),
                started_at: format!("t{}", self.runs),
                project: Some(project.name.clone()),
                service: Some(service.clone()),
                bindings: bindings.iter().filter(|binding| binding.service == *service).map(published).collect(),
                ..Container::default()
            };
            self.containers.insert(name.clone(), container);
            let project = Some(project.name.clone());
            self.events.push(ContainerEvent {
                action: "start".to_owned(),
                name: name.clone(),
                project: project.clone(),
            });
            if self.short_lived > 0 {
                self.short_lived -= 1;
                self.exit(&name, 1);
                self.events.push(ContainerEvent { action: "die".to_owned(), name, project });
            }
        }
        Outcome::Done
    }

    /// What becomes of a start with these ports, if it fails for them. `own`: the containers that it replaces.
    fn clash(&self, bindings: &[Binding], own: impl Fn(&Container) -> bool) -> Option<Outcome> {
        let others = self.containers.values().filter(|other| !own(other) && other.status == "running");
        let bound: BTreeSet<u16> = others.flat_map(|other| &other.bindings).map(|port| port.host_port).collect();
        let is_bound = |port| self.bound.contains(&port) || bound.contains(&port);
        let taken: Vec<Binding> = bindings.iter().filter(|binding| is_bound(binding.host_port)).cloned().collect();
        let fresh: Vec<Binding> = taken.iter().filter(|binding| binding.fresh).cloned().collect();
        if !fresh.is_empty() {
            return Some(Outcome::PortsTaken(fresh));
        }
        taken.first().map(|binding| {
            let port = binding.host_port;
            Outcome::PortConflict(format!("Bind for 0.0.0.0:{port} failed: port is already allocated"))
        })
    }

    fn start(&mut self, launch: &crate::domain::job::Launch) -> Outcome {
        let latest = format!("{}:latest", launch.image);
        if !self.images.contains(&launch.image) && !self.images.contains(&latest) {
            return Outcome::ImageMissing;
        }
        if let Some(outcome) = self.clash(&launch.bindings, |other| other.name == launch.container) {
            return outcome;
        }
        self.runs += 1;
        let name = launch.container.clone();
        let bindings = launch.bindings.iter().map(published).collect();
        let container = Container {
            id: format!("id-{}", self.runs),
            name: name.clone(),
            image: launch.image.clone(),
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

fn published(binding: &Binding) -> Published {
    Published {
        service: binding.service.clone(),
        port: binding.port,
        protocol: binding.protocol,
        host_port: binding.host_port,
    }
}
