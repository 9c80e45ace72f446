//! What an action needs from the app's request: its container or its compose project, the registry token, and the files that
//! change while an app runs.

use super::app::{AppKey, Stage};
use super::compose::{self, PortEntry};
use super::credential;
use super::environment::{self, Environment};
use super::host_ports::of_rules;
use super::job::{ComposeCommand, Folder, JobSpec, Launch, LiveFiles, Project};
use super::message::{CallFailure, Level};
use super::names::{self, Names};
use super::ports::{Binding, PortRule};
use super::request::Request;
use super::slot::{Slot, Wait};
use super::timers::Timer;
use super::{Call, State, backoff};
use serde_json::{Value, json};
use std::time::Duration;

/// Tries for a registry token.
const TOKEN_TRIES: u32 = 3;

/// Which definition of a compose app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// That of the installed version.
    Installed,
    /// That of the newest version; if it brings none, the installed one.
    Newest,
}

/// A project, its ports, and what the app's log is to hear of both.
struct Prepared {
    project: Project,
    bindings: Vec<Binding>,
    remarks: Vec<String>,
}

impl State {
    /// The container of a plain app, for a start.
    ///
    /// # Errors
    /// Why there can be none.
    pub(super) fn launch(&mut self, id: AppKey, names: &Names) -> Result<Launch, String> {
        let request = self.request_to_run(id)?;
        let (rules, faults) = PortRule::readable(&request.ports);
        let bindings = self.reserve(id, of_rules(&rules))?;
        let version = self.version_to_start(id);
        let image = match id.stage {
            Stage::Dev => names.image.clone(),
            Stage::Prod if version.is_empty() => return Err("the backend named no version to run".to_owned()),
            Stage::Prod => names.tagged(&version),
        };
        let environment = self.environment(id, &request, &bindings);
        self.remark(id, faults.into_iter().chain(left_out(&environment)));
        self.take_ports(id, &bindings);
        Ok(Launch {
            container: names.container.clone(),
            image,
            folder: Folder { stage: id.stage, name: request.app_name },
            environment: environment.variables,
            bindings,
            on_trial: self.running(id).is_ok_and(|(_, run)| run.trial),
        })
    }

    /// The project of a compose app, with host ports for everything that it publishes; these are the second value.
    ///
    /// # Errors
    /// A text for the user: there is no definition, or it cannot be used.
    pub(super) fn project(&mut self, id: AppKey, release: Release) -> Result<(Project, Vec<Binding>), String> {
        self.prepare(id, release).map(|prepared| (prepared.project, prepared.bindings))
    }

    /// The same for a start: what is odd about its ports and variables goes to the app's log.
    ///
    /// # Errors
    /// As [`State::project`].
    pub(super) fn up(&mut self, id: AppKey, release: Release) -> Result<(Project, ComposeCommand), String> {
        let Prepared { project, bindings, remarks } = self.prepare(id, release)?;
        self.version_to_start(id);
        self.remark(id, remarks);
        self.take_ports(id, &bindings);
        Ok((project, ComposeCommand::Up { bindings }))
    }

    fn prepare(&mut self, id: AppKey, release: Release) -> Result<Prepared, String> {
        let request = self.request_to_run(id)?;
        let authored = self.apps.get(&id).map(|app| app.definition(release)).filter(|known| !known.is_null());
        let authored = &authored.ok_or("the app has no compose definition")?.clone();
        let (rules, faults) = PortRule::readable(&request.ports);
        let entries = compose::ports(authored)?;
        let published = entries.iter().filter(|entry| entry.is_published(&rules));
        let (managed, on_host): (Vec<&PortEntry>, Vec<&PortEntry>) = published.partition(|entry| entry.is_managed());
        let stored = |entry: &PortEntry| entry.rule(&rules).map_or(0, PortRule::stored);
        let wanted: Vec<Binding> = managed.iter().map(|entry| entry.binding(stored(entry), false)).collect();
        self.ports.keep(id, &wanted.iter().map(|binding| binding.key(id)).collect::<Vec<_>>());
        let bindings = self.reserve(id, wanted)?;
        let names = self.names(id, &request.app_name);
        let made = compose::generate(authored, &names.project, &bindings)?;
        let on_host = on_host.iter().map(|entry| entry.binding(entry.declared(), false));
        let announced: Vec<Binding> = bindings.iter().cloned().chain(on_host).collect();
        let environment = self.environment(id, &request, &announced);
        let remarks = faults.into_iter().chain(made.warnings).chain(left_out(&environment)).collect();
        let project = Project {
            name: names.project,
            container: names.container,
            folder: Folder { stage: id.stage, name: request.app_name },
            definition: made.definition,
            environment: environment.variables,
        };
        Ok(Prepared { project, bindings, remarks })
    }

    fn request_to_run(&self, id: AppKey) -> Result<Request, String> {
        let app = self.apps.get(&id).ok_or("the app is unknown")?;
        let request = app.request.clone().ok_or("nothing is wanted of the app")?;
        if !names::is_path_part(&request.app_name) {
            return Err(format!("the app name {:?} cannot be the name of a directory", request.app_name));
        }
        Ok(request)
    }

    /// The newest version while it is on trial, else the installed one; the newest one becomes that if there is none.
    fn version_to_start(&mut self, id: AppKey) -> String {
        let Some(app) = self.apps.get_mut(&id) else { return String::new() };
        if let Slot::Busy(run) = &app.slot
            && run.trial
        {
            return run.newest.clone();
        }
        app.version = app.version_that_runs();
        app.version.clone()
    }

    fn environment(&self, id: AppKey, request: &Request, published: &[Binding]) -> Environment {
        environment::assemble(&self.device, id, request, self.credential(id).as_ref(), published)
    }

    /// Tells what is true of every attempt of a start, at the first one.
    fn remark(&mut self, id: AppKey, remarks: impl IntoIterator<Item = String>) {
        let Some(Slot::Busy(run)) = self.apps.get(&id).map(|app| &app.slot) else { return };
        if run.conflicts + run.probes + run.fetches > 0 {
            return;
        }
        remarks.into_iter().for_each(|remark| self.say(id, remark));
        if !self.owns_files(id) {
            self.note(Level::Warn, format!("{id}: another app of this name shares its directories"));
        }
    }

    fn credential(&self, id: AppKey) -> Option<credential::Credential> {
        let epoch = self.apps.get(&id)?.request.as_ref()?.app_cred_epoch;
        credential::derive(self.device.credential_key.as_ref(), &self.device.serial, id, epoch)
    }

    /// Credential and remote-port files (4.8): not for apps that are to go, whose directory they would make anew.
    pub(super) fn refresh_files(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id) else { return };
        if app.wanted.is_gone() || !names::is_path_part(&app.name) {
            return;
        }
        let Some(request) = &app.request else { return };
        let remote = environment::remote_ports(&PortRule::readable(&request.ports).0);
        let credential = self.credential(id);
        if credential.is_none() && remote.iter().all(|(_, value)| value.is_none()) {
            return;
        }
        let folder = Folder { stage: id.stage, name: app.name.clone() };
        let only_if_absent = !app.epoch_known;
        self.detach(id, JobSpec::WriteLiveFiles(LiveFiles { folder, credential, only_if_absent, remote }));
    }

    /// Asks for the registry token of the running action; without a session the pull goes without.
    pub(super) fn ask_for_token(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id) else { return };
        let (Slot::Busy(run), Some(request)) = (&app.slot, &app.request) else { return };
        if !matches!(run.waits, Some(Wait::Token(_))) {
            return;
        }
        let account = request.token_account();
        if self.generation().is_none() {
            return self.take_token(id, None);
        }
        let args = vec![json!({"callerID": account})];
        self.call(Call::Token(id), "reswarm.containers.get_registry_token", args, Duration::from_secs(30));
    }

    pub(super) fn on_token(&mut self, id: AppKey, result: Result<Vec<Value>, CallFailure>) {
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        let Some(Wait::Token(tries)) = &mut run.waits else { return };
        let error = match result {
            Ok(args) => match args.first() {
                None => return self.take_token(id, Some(String::new())),
                Some(Value::String(token)) => {
                    let token = token.clone();
                    return self.take_token(id, Some(token));
                }
                Some(_) => "the answer is not a text".to_owned(),
            },
            Err(failure) => failure.text().to_owned(),
        };
        *tries += 1;
        let tries = *tries;
        if tries >= TOKEN_TRIES {
            self.note(Level::Warn, format!("{id}: no registry token: {error}"));
            return self.take_token(id, None);
        }
        let wait = backoff::doubling(Duration::from_secs(1), tries - 1, Duration::from_secs(10));
        self.timers.set(Timer::Token(id), self.now.mono + wait);
    }

    /// Goes on with the token; without one the last one serves, and the registry decides.
    fn take_token(&mut self, id: AppKey, token: Option<String>) {
        let last = self.status.token.clone();
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        run.waits = None;
        run.token = token.clone().or(last);
        if token.is_some() {
            self.status.token = token;
        }
        self.advance(id);
    }
}

fn left_out(environment: &Environment) -> Option<String> {
    let dropped = &environment.dropped;
    (!dropped.is_empty()).then(|| format!("Variables left out: {}", dropped.join("; ")))
}
