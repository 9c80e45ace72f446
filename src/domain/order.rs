//! The job of each step of a plan: what the workers are told.

use super::State;
use super::app::{AppKey, Stage};
use super::compose;
use super::job::{Build, ComposeCommand, Folder, JobSpec, Login, Project, Rehost};
use super::launch::Release;
use super::message::Level;
use super::names::{self, Names};
use super::plan::{Kind, Step, Version};
use super::slot::{App, Run, Slot, Stray};
use crate::secret::Secret;
use serde_json::Value;
use std::collections::BTreeMap;

impl State {
    /// The names of an app.
    pub(super) fn names(&self, id: AppKey, name: &str) -> Names {
        Names::new(id, name, &self.device.arch, &self.device.registry, &self.device.repository)
    }

    /// The job of a step; `None` if there is nothing to do.
    ///
    /// # Errors
    /// Why there can be none: it fails the action.
    pub(super) fn job_of(&mut self, id: AppKey, step: Step) -> Result<Option<JobSpec>, String> {
        let app = self.apps.get(&id).ok_or("the app is unknown")?;
        let (kind, folder) = (app.kind(), folder(app));
        match step {
            Step::DeleteFiles if !self.owns_files(id) => Ok(None),
            Step::DeleteFiles => Ok(Some(JobSpec::DeleteFiles(folder))),
            Step::RemoveStray => Ok(self.first_stray(id).as_ref().map(Stray::removal)),
            Step::NeedCompose => Ok(Some(JobSpec::FindCompose)),
            Step::RemoveOldImage => Ok(self.replaced_images(id)),
            // Another app was given one of them meanwhile.
            Step::PutBack if !self.takes_ports_back(id) => Ok(None),
            Step::RemoveKept => Ok(Some(JobSpec::RemoveContainer { container: names::kept(id) })),
            _ if kind == Kind::Compose => self.job_of_project(id, step),
            _ => self.job_of_container(id, step),
        }
    }

    fn first_stray(&mut self, id: AppKey) -> Option<Stray> {
        let app = self.apps.get_mut(&id)?;
        let Slot::Busy(run) = &mut app.slot else { return None };
        run.stray = app.strays.first().cloned();
        run.stray.clone()
    }

    fn job_of_container(&mut self, id: AppKey, step: Step) -> Result<Option<JobSpec>, String> {
        let (app, run) = self.running(id)?;
        let names = self.names(id, &app.name);
        let container = app.container.clone();
        Ok(Some(match step {
            Step::Pull { version, .. } => {
                let version = match version {
                    Version::Newest => run.newest.clone(),
                    Version::Runs => app.version_that_runs(),
                };
                if version.is_empty() {
                    return Err("the backend named no version to install".to_owned());
                }
                let Login { username, password, .. } = self.own_login(run);
                JobSpec::Pull { image: names.tagged(&version), username, password, container }
            }
            Step::Start if run.is_back => return Ok(None),
            Step::Start => return self.launch(id, &names).map(|launch| Some(JobSpec::Start(Box::new(launch)))),
            Step::Prove => JobSpec::Prove { container },
            Step::Stop => JobSpec::Stop { container },
            Step::RemoveContainer | Step::Disband | Step::Down => JobSpec::RemoveContainer { container },
            Step::Keep => JobSpec::Keep { container, kept: names::kept(id) },
            Step::PutBack => JobSpec::PutBack { container, kept: names::kept(id) },
            Step::RemoveImages => JobSpec::RemoveImages { repository: names.image },
            Step::NeedImage => JobSpec::HasImage { image: names.tagged(&app.version_that_runs()) },
            Step::Build => JobSpec::Build(Box::new(Build {
                app_name: app.name.clone(),
                image: names.image,
                id: format!("build_{}_{}", id.key, app.name),
                arch: self.device.arch.clone(),
                logins: self.logins(app, run),
                container: log_of(app),
            })),
            Step::Tag => JobSpec::Tag { source: names.image, target: self.release_image(app)? },
            Step::Push => {
                JobSpec::Push { image: self.release_image(app)?, login: self.own_login(run), container: log_of(app) }
            }
            _ => return Err(format!("{step:?} is not for an app of one container")),
        }))
    }

    fn job_of_project(&mut self, id: AppKey, step: Step) -> Result<Option<JobSpec>, String> {
        let (app, run) = self.running(id)?;
        let project = app.project.clone();
        let definition = app.definition(if run.trial { Release::Newest } else { Release::Installed });
        match step {
            Step::Prove => return Ok(Some(JobSpec::LookProject { project })),
            Step::Disband => return Ok(Some(JobSpec::RemoveProject { project })),
            Step::NeedImages { .. } => {
                let mut images = compose::images(definition)?;
                if id.stage == Stage::Dev {
                    let built = compose::built(definition)?;
                    images.retain(|service, _| !built.contains(service));
                }
                return Ok(Some(JobSpec::MissingImages { images }));
            }
            Step::RemoveImages => {
                let all = [Release::Installed, Release::Newest].map(|release| app.definition(release));
                let images = self.unused(id, all.into_iter().flat_map(images_of));
                return Ok(Some(JobSpec::RemoveImageList { images }));
            }
            Step::Unpack => return Ok(Some(JobSpec::Unpack { app_name: app.name.clone() })),
            Step::Rehost(n) => return self.rehost(id, n),
            _ => {}
        }
        let logins = self.logins(app, run);
        let (command, release, logins) = match step {
            Step::Pull { version: Version::Newest, .. } => {
                (ComposeCommand::Pull { services: Vec::new() }, Release::Newest, logins)
            }
            Step::Pull { version: Version::Runs, .. } => {
                (ComposeCommand::Pull { services: Vec::new() }, Release::Installed, logins)
            }
            Step::PullMissing => (ComposeCommand::Pull { services: run.missing.clone() }, Release::Installed, logins),
            Step::Build => (ComposeCommand::Build, Release::Installed, logins),
            Step::PullRest => (ComposeCommand::PullRest, Release::Installed, logins),
            Step::Push => (ComposeCommand::Push, Release::Installed, logins),
            Step::Start => {
                let release = if run.trial { Release::Newest } else { Release::Installed };
                let (project, command) = self.up(id, release)?;
                return Ok(Some(JobSpec::Compose { project: Box::new(project), logins: Vec::new(), command }));
            }
            Step::Stop => (ComposeCommand::TakeDown, Release::Installed, Vec::new()),
            Step::Down | Step::Keep => (ComposeCommand::Down, Release::Installed, Vec::new()),
            Step::RemoveContainer => (ComposeCommand::Remove, Release::Installed, Vec::new()),
            _ => return Err(format!("{step:?} is not for a compose app")),
        };
        let takes_away = matches!(command, ComposeCommand::TakeDown | ComposeCommand::Down | ComposeCommand::Remove);
        let project = match self.project(id, release) {
            Ok((project, _)) => project,
            // What cannot be read can still be taken away, by label.
            Err(error) if takes_away => {
                self.note(Level::Warn, format!("{id}: {error}"));
                self.without_definition(id)?
            }
            Err(error) => return Err(error),
        };
        Ok(Some(JobSpec::Compose { project: Box::new(project), logins, command }))
    }

    /// The images of releases that the app does not need any more, and no other app either.
    fn replaced_images(&mut self, id: AppKey) -> Option<JobSpec> {
        let app = self.apps.get(&id)?;
        let names = self.names(id, &app.name);
        let images = self.unused(id, app.unneeded().map(|version| names.tagged(version)));
        if images.is_empty() {
            self.forget_superseded(id);
            return None;
        }
        self.note(Level::Info, format!("{id}: nobody needs these images any more, they are removed: {images:?}"));
        Some(JobSpec::RemoveImageList { images })
    }

    /// Those of `images` that no other app is made of, each once.
    fn unused(&self, id: AppKey, images: impl Iterator<Item = String>) -> Vec<String> {
        let others = self.apps.values().filter(|other| other.id != id && !other.wanted.is_gone());
        let used: Vec<String> = others.flat_map(|other| self.made_of(other)).collect();
        let mut unused: Vec<String> = Vec::new();
        for image in images {
            if !used.iter().chain(&unused).any(|known| compose::same_image(known, &image)) {
                unused.push(image);
            }
        }
        unused
    }

    /// The images that an app needs, in its installed version and in the newest one.
    fn made_of(&self, app: &App) -> Vec<String> {
        let image = self.names(app.id, &app.name).image;
        match (app.kind(), app.id.stage, &app.request) {
            (Kind::Compose, _, Some(request)) => [&request.docker_compose, &request.new_docker_compose]
                .into_iter()
                .flatten()
                .flat_map(images_of)
                .collect(),
            (_, Stage::Dev, _) => vec![image],
            _ => vec![format!("{image}:{}", app.version_that_runs())],
        }
    }

    fn without_definition(&self, id: AppKey) -> Result<Project, String> {
        let app = self.apps.get(&id).ok_or("the app is unknown")?;
        Ok(Project {
            name: app.project.clone(),
            container: log_of(app),
            folder: folder(app),
            definition: Value::Null,
            environment: BTreeMap::new(),
        })
    }

    /// The n-th image that a release copies to its own registry; the next one follows.
    fn rehost(&mut self, id: AppKey, n: usize) -> Result<Option<JobSpec>, String> {
        let (app, run) = self.running(id)?;
        let sources = compose::sources(app.definition(Release::Installed))?;
        let Some(found) = sources.get(n) else { return Ok(None) };
        let host = names::registry(&found.source);
        let credentials = app.request.as_ref().map(|request| &request.docker_credentials);
        let from = credentials.and_then(|known| {
            [host.to_owned(), format!("{host}/")].iter().find_map(|host| {
                known.get(host).map(|login| Login {
                    registry: host.clone(),
                    username: Secret::new(login.username.clone()),
                    password: login.password.clone(),
                })
            })
        });
        let rehost = Rehost {
            source: found.source.clone(),
            target: found.target.clone(),
            from,
            to: self.own_login(run),
            container: log_of(app),
        };
        let text = super::lines::rehost(&found.source, &found.service, &found.target);
        self.say(id, text);
        if let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) {
            run.steps.push_front(Step::Rehost(n + 1));
        }
        Ok(Some(JobSpec::Rehost(Box::new(rehost))))
    }

    pub(super) fn running(&self, id: AppKey) -> Result<(&App, &Run), String> {
        let app = self.apps.get(&id).ok_or("the app is unknown")?;
        match &app.slot {
            Slot::Busy(run) => Ok((app, run)),
            Slot::Idle => Err("nothing is being done with the app".to_owned()),
        }
    }

    /// The login at the platform's registry.
    fn own_login(&self, run: &Run) -> Login {
        Login {
            registry: self.device.registry.clone(),
            username: Secret::new(run.token.clone().unwrap_or_default()),
            password: self.device.secret.clone(),
        }
    }

    /// The login at the platform's registry, then those that came with the request (4.6).
    fn logins(&self, app: &App, run: &Run) -> Vec<Login> {
        let further = app.request.iter().flat_map(|request| &request.docker_credentials);
        let further = further
            .filter(|(registry, _)| registry.trim_end_matches('/') != self.device.registry.trim_end_matches('/'));
        std::iter::once(self.own_login(run))
            .chain(further.map(|(registry, login)| Login {
                registry: registry.clone(),
                username: Secret::new(login.username.clone()),
                password: login.password.clone(),
            }))
            .collect()
    }

    /// The image under which a build is published.
    fn release_image(&self, app: &App) -> Result<String, String> {
        let version = app.request.as_ref().map(|request| request.version.as_str()).unwrap_or_default();
        if version.is_empty() {
            return Err("the backend named no version to publish".to_owned());
        }
        let released = AppKey { key: app.id.key, stage: Stage::Prod };
        Ok(self.names(released, &app.name).tagged(version))
    }
}

impl App {
    /// The compose definition of a release; while something is done with the app, the newest one is that of its begin.
    pub(super) fn definition(&self, release: Release) -> &Value {
        let Some(request) = &self.request else { return &Value::Null };
        let newest = match &self.slot {
            Slot::Busy(run) => &run.definition,
            Slot::Idle => &request.new_docker_compose,
        };
        newest
            .as_ref()
            .filter(|_| release == Release::Newest)
            .or(request.docker_compose.as_ref())
            .unwrap_or(&Value::Null)
    }
}

/// The images of a definition; what cannot be read names none.
fn images_of(definition: &Value) -> impl Iterator<Item = String> + use<> {
    compose::images(definition).unwrap_or_default().into_values()
}

/// Directory of an app.
fn folder(app: &App) -> Folder {
    Folder { stage: app.id.stage, name: app.name.clone() }
}

/// Where the lines of an app's action go.
pub(super) fn log_of(app: &App) -> String {
    match &app.slot {
        Slot::Busy(run) if run.publishes => names::publish_log(app.id, &app.name),
        _ => app.container.clone(),
    }
}
