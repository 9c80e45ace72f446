//! What an action needs from the app's request: the jobs of its steps, host ports, port reports, the registry token, and
//! the files that change while an app runs.

use super::app::AppKey;
use super::credential;
use super::environment;
use super::job::{Folder, JobSpec, Launch, LiveFiles};
use super::message::{CallFailure, Level};
use super::names::{self, Names};
use super::ports::{Binding, PortKey, PortRule, names_port};
use super::reconcile::Retry;
use super::slot::{Slot, Wait};
use super::timers::Timer;
use super::transition::{Step, Version};
use super::{Call, State, backoff};
use crate::secret::Secret;
use serde_json::{Value, json};
use std::time::Duration;

/// Starts that may end in a port conflict (3.4).
const CONFLICTS: u32 = 3;
/// Starts that may find a new port taken by somebody else.
const PROBES: u32 = 50;
/// Tries for a registry token.
const TOKEN_TRIES: u32 = 3;

impl State {
    /// The names of an app.
    pub(super) fn names(&self, id: AppKey, name: &str) -> Names {
        Names::new(id, name, &self.device.arch, &self.device.registry, &self.device.repository)
    }

    /// The job of a step.
    ///
    /// # Errors
    /// Why there can be none: it fails the action.
    pub(super) fn job_of(&mut self, id: AppKey, step: Step) -> Result<JobSpec, String> {
        let app = self.apps.get(&id).ok_or("the app is unknown")?;
        let names = self.names(id, &app.name);
        let container = app.container.clone();
        let folder = Folder { stage: id.stage, name: app.name.clone() };
        Ok(match step {
            Step::Pull { version, .. } => {
                let Slot::Busy(run) = &app.slot else { return Err("nothing runs".to_owned()) };
                let version = match version {
                    Version::Newest => run.newest.clone(),
                    Version::Runs => app.version_that_runs(),
                };
                if version.is_empty() {
                    return Err("the backend named no version to install".to_owned());
                }
                JobSpec::Pull {
                    image: names.tagged(&version),
                    username: Secret::new(run.token.clone().unwrap_or_default()),
                    password: self.device.secret.clone(),
                    container,
                }
            }
            Step::Start => return self.launch(id, &names).map(|launch| JobSpec::Start(Box::new(launch))),
            Step::Stop => JobSpec::Stop { container },
            Step::RemoveContainer => JobSpec::RemoveContainer { container },
            Step::RemoveImages => JobSpec::RemoveImages { repository: names.image },
            Step::NeedImage => JobSpec::HasImage { repository: names.image },
            Step::RemoveOldImage => {
                let Slot::Busy(run) = &app.slot else { return Err("nothing runs".to_owned()) };
                JobSpec::RemoveImage { image: names.tagged(&run.old_version) }
            }
            Step::DeleteFiles => JobSpec::DeleteFiles(folder),
            _ => return Err(format!("{step:?} is no job")),
        })
    }

    fn launch(&mut self, id: AppKey, names: &Names) -> Result<Launch, String> {
        let bindings = self.reserve(id)?;
        let credential = self.credential(id);
        let app = self.apps.get_mut(&id).ok_or("the app is unknown")?;
        let request = app.request.clone().ok_or("nothing is wanted of the app")?;
        if app.version.is_empty() {
            app.version.clone_from(&request.newest_version);
        }
        if app.version.is_empty() {
            return Err("the backend named no version to run".to_owned());
        }
        if !names::is_path_part(&app.name) {
            return Err(format!("the app name {:?} cannot be the name of a directory", app.name));
        }
        let image = names.tagged(&app.version);
        if let Slot::Busy(run) = &mut app.slot {
            run.bindings.clone_from(&bindings);
        }
        let environment = environment::compose(&self.device, id, &request, credential.as_ref(), &bindings);
        if !environment.dropped.is_empty() {
            self.say(id, format!("Variables left out: {}", environment.dropped.join("; ")));
        }
        Ok(Launch {
            container: names.container.clone(),
            image,
            folder: Folder { stage: id.stage, name: request.app_name },
            environment: environment.variables,
            bindings,
        })
    }

    fn credential(&self, id: AppKey) -> Option<credential::Credential> {
        let epoch = self.apps.get(&id)?.request.as_ref()?.app_cred_epoch;
        credential::derive(self.device.credential_key.as_ref(), &self.device.serial, id, epoch)
    }

    /// Host ports for all published rules: live binding first, then what the backend stored, then the pool (4.1).
    fn reserve(&mut self, id: AppKey) -> Result<Vec<Binding>, String> {
        let mut bindings = Vec::new();
        for rule in self.published_rules(id)? {
            let key = PortKey { app: id, protocol: rule.wire(), port: rule.port };
            let preferred = self.live_port(key).unwrap_or_else(|| u16::try_from(rule.host_port).unwrap_or(0));
            let (host_port, fresh) =
                self.ports.recover_or_reserve(key, preferred).ok_or("no free host port between 40000 and 49999")?;
            if !bindings.iter().any(|known: &Binding| (known.port, known.protocol) == (rule.port, rule.wire())) {
                bindings.push(Binding { port: rule.port, protocol: rule.wire(), host_port, fresh });
            }
        }
        Ok(bindings)
    }

    fn published_rules(&self, id: AppKey) -> Result<Vec<PortRule>, String> {
        let Some(request) = self.apps.get(&id).and_then(|app| app.request.as_ref()) else { return Ok(Vec::new()) };
        let rules = PortRule::list(&request.ports)?;
        Ok(rules.into_iter().filter(|rule| rule.is_published() && rule.port != 0).collect())
    }

    fn live_port(&self, key: PortKey) -> Option<u16> {
        let container = self.apps.get(&key.app)?.seen.as_ref()?;
        container
            .bindings
            .iter()
            .find(|(port, protocol, _)| (*port, *protocol) == (key.port, key.protocol))
            .map(|(_, _, host)| *host)
    }

    /// New ports turned out to be bound by somebody else: others are taken and the start begins anew.
    pub(super) fn start_elsewhere(&mut self, id: AppKey, taken: &[Binding]) {
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        run.probes += 1;
        if run.probes > PROBES || taken.is_empty() {
            return self.fail(id, "no host port could be bound", Retry::Later);
        }
        self.start_without(id, taken);
    }

    /// The engine could not bind a port: the ports that its text names are given up and the start begins anew (4.3).
    pub(super) fn start_after_conflict(&mut self, id: AppKey, text: &str) {
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        run.conflicts += 1;
        let named: Vec<Binding> =
            run.bindings.iter().copied().filter(|binding| names_port(text, binding.host_port)).collect();
        if named.is_empty() || run.conflicts >= CONFLICTS {
            return self.fail(id, text, Retry::Later);
        }
        self.start_without(id, &named);
    }

    fn start_without(&mut self, id: AppKey, taken: &[Binding]) {
        for binding in taken {
            let key = PortKey { app: id, protocol: binding.protocol, port: binding.port };
            self.ports.give_up(key, binding.host_port);
        }
        if let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) {
            run.steps.push_front(Step::Start);
        }
        self.advance(id);
    }

    /// Brings the port rules in line with what is published, and tells the backend if that changed them (4.4).
    pub(super) fn sync_ports(&mut self, id: AppKey) {
        let Some(request) = self.apps.get(&id).and_then(|app| app.request.as_ref()) else { return };
        if id.stage == super::app::Stage::Dev || request.ports.is_empty() {
            return;
        }
        let mut rules = match PortRule::list(&request.ports) {
            Ok(rules) => rules,
            Err(error) => return self.note(Level::Warn, format!("{id}: {error}")),
        };
        let received: Vec<Value> = rules.iter().map(PortRule::encode).collect();
        for rule in rules.iter_mut().filter(|rule| rule.is_published() && rule.port != 0) {
            let key = PortKey { app: id, protocol: rule.wire(), port: rule.port };
            let known = self
                .ports
                .get(key)
                .or_else(|| self.live_port(key))
                .or_else(|| u16::try_from(rule.host_port).ok().filter(|p| *p != 0));
            let Some(preferred) = known else { continue };
            if let Some((port, _)) = self.ports.recover_or_reserve(key, preferred) {
                rule.host_port = u64::from(port);
            }
        }
        let ports: Vec<Value> = rules.iter().map(PortRule::encode).collect();
        let is_told =
            self.calls.values().any(|call| matches!(call, Call::Ports(app, sent) if *app == id && *sent == ports));
        if ports == received || is_told || !self.session.may_report() {
            return;
        }
        let payload = json!({"app_key": id.key, "device_key": self.device.device_key, "swarm_key": self.device.swarm_key,
            "stage": id.stage.text(), "ports": ports});
        self.call(
            Call::Ports(id, ports),
            "reswarm.containers.update_app_on_device",
            vec![payload],
            Duration::from_secs(5),
        );
    }

    pub(super) fn on_ports_answer(&mut self, id: AppKey, sent: Vec<Value>, result: Result<Vec<Value>, CallFailure>) {
        if let Err(failure) = result {
            return self.note(Level::Debug, format!("{id}: ports not reported: {}", failure.text()));
        }
        // What the backend now has is what the next list is compared with, also after a restart.
        if let Some(request) = self.apps.get_mut(&id).and_then(|app| app.request.as_mut()) {
            request.ports = sent;
            self.persist_request(id);
        }
    }

    /// Credential and remote-port files (4.8): not for apps that are to go, whose directory they would make anew.
    pub(super) fn refresh_files(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id) else { return };
        if app.wanted.is_gone() || !names::is_path_part(&app.name) {
            return;
        }
        let Some(request) = &app.request else { return };
        let remote = environment::remote_ports(&PortRule::list(&request.ports).unwrap_or_default());
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
