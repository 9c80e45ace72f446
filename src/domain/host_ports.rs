//! Host ports of apps: who gets which (apps chapter 4.1), what is done about a port that somebody else has (4.3), and what
//! the backend is told (4.4). The registry itself is [`super::ports`].

use super::app::{AppKey, Stage};
use super::compose::{self, PortEntry};
use super::job::Container;
use super::lines;
use super::message::{CallFailure, Level};
use super::plan::{Kind, Step};
use super::ports::{Binding, PortKey, PortRule, Protocol, names_port};
use super::slot::Slot;
use super::{Call, State};
use serde_json::{Value, json};
use std::time::Duration;

/// Starts that may end in a port conflict (3.4).
const CONFLICTS: u32 = 3;
/// Starts that may find a new port taken by somebody else.
const PROBES: u32 = 50;

/// Where a rule leads to on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// A managed host port, given to this key, for this port of the container.
    Managed(PortKey, u16),
    /// The declared port itself: the app has the network of the machine.
    Declared,
    /// Nothing that the app publishes.
    Nowhere,
}

impl State {
    /// Gives each of `wanted` its host port: what it has, else where its container is now, else the one in `wanted`, else
    /// one of the pool; DEV apps are given their declared port before that.
    ///
    /// # Errors
    /// The pool is exhausted.
    pub(super) fn reserve(&mut self, id: AppKey, mut wanted: Vec<Binding>) -> Result<Vec<Binding>, String> {
        for binding in &mut wanted {
            let live = self.live_port(id, &binding.service, binding.protocol, binding.port);
            let preferred = match live.unwrap_or(binding.host_port) {
                0 if id.stage == Stage::Dev => binding.declared,
                known => known,
            };
            let given = self.ports.recover_or_reserve(&binding.key(id), preferred);
            (binding.host_port, binding.fresh) = given.ok_or("no free host port between 40000 and 49999")?;
        }
        Ok(wanted)
    }

    /// The host port that the app's container was made with, as it was seen last.
    fn live_port(&self, id: AppKey, service: &str, protocol: Protocol, port: u16) -> Option<u16> {
        let app = self.apps.get(&id)?;
        // The image of a plain app may have been built by compose, and carry its labels.
        let is_it = |service_seen: &str| app.kind() == Kind::Plain || service_seen == service;
        let seen = app.seen.as_ref()?.bindings.iter();
        let mut seen = seen.filter(|port_seen| (port_seen.port, port_seen.protocol) == (port, protocol));
        seen.find(|seen| is_it(&seen.service)).map(|seen| seen.host_port)
    }

    /// The start that runs has these ports: remembered for a conflict, and told where a DEV app is not on its declared port.
    pub(super) fn take_ports(&mut self, id: AppKey, bindings: &[Binding]) {
        bindings.iter().for_each(|binding| self.ports.begin_use(binding.host_port));
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        let before = std::mem::replace(&mut run.bindings, bindings.to_vec());
        if id.stage == Stage::Prod {
            return;
        }
        let is_known = |binding: &Binding| {
            before.iter().any(|old| (old.key(id), old.host_port) == (binding.key(id), binding.host_port))
        };
        for binding in bindings.iter().filter(|binding| binding.host_port != binding.declared && !is_known(binding)) {
            self.say(id, lines::port_elsewhere(&binding.service, binding.declared, binding.host_port));
        }
    }

    /// New ports turned out to be bound by somebody else: others are taken, and the steps `again` start anew.
    pub(super) fn start_elsewhere(&mut self, id: AppKey, taken: &[Binding], again: &[Step]) {
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        run.probes += 1;
        if run.probes > PROBES || taken.is_empty() {
            return self.fail_step(id, Step::Start, "no host port could be bound");
        }
        self.start_without(id, taken, again);
    }

    /// The engine could not bind a port: the ports that its text names are given up, and the steps `again` start anew (4.3).
    pub(super) fn start_after_conflict(&mut self, id: AppKey, text: &str, again: &[Step]) {
        let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) else { return };
        run.conflicts += 1;
        let named: Vec<Binding> =
            run.bindings.iter().filter(|binding| names_port(text, binding.host_port)).cloned().collect();
        if named.is_empty() || run.conflicts >= CONFLICTS {
            return self.fail_step(id, Step::Start, text);
        }
        self.start_without(id, &named, again);
    }

    fn start_without(&mut self, id: AppKey, taken: &[Binding], again: &[Step]) {
        for binding in taken {
            self.ports.give_up(&binding.key(id), binding.host_port);
        }
        if let Some(Slot::Busy(run)) = self.apps.get_mut(&id).map(|app| &mut app.slot) {
            again.iter().rev().for_each(|step| run.steps.push_front(*step));
        }
        self.advance(id);
    }

    /// What the backend has stored of an app's host ports stays the app's, also while it does not run.
    pub(super) fn claim_ports(&mut self, id: AppKey) {
        let Some(app) = self.apps.get(&id).filter(|app| app.wanted != super::app::AppState::Uninstalled) else {
            return;
        };
        let rules = app.request.as_ref().map(|request| PortRule::readable(&request.ports).0).unwrap_or_default();
        for rule in rules.iter().filter(|rule| rule.is_published()) {
            if let Place::Managed(key, _) = self.place(id, rule) {
                self.ports.claim(&key, rule.stored());
            }
        }
    }

    /// The app's container was seen: its ports are the app's, those of a running one whoever had them.
    pub(super) fn ports_seen(&mut self, id: AppKey, container: &Container) {
        let Some(app) = self.apps.get(&id) else { return };
        let request = app.request.as_ref();
        let is_plain = app.kind() == Kind::Plain;
        // While an update ends, the container may be of either release.
        let definitions = request.into_iter().flat_map(|it| [&it.docker_compose, &it.new_docker_compose]).flatten();
        let entries: Vec<PortEntry> = definitions.flat_map(|it| compose::ports(it).unwrap_or_default()).collect();
        for seen in &container.bindings {
            let is_it = |entry: &&PortEntry| {
                entry.is_managed()
                    && (entry.service.as_str(), entry.protocol, entry.container_port)
                        == (seen.service.as_str(), seen.protocol, seen.port)
            };
            let key = match entries.iter().find(is_it) {
                _ if is_plain => PortKey::plain(id, seen.protocol, seen.port),
                Some(entry) => entry.key(id),
                None => continue,
            };
            if container.status == "running" {
                self.ports.found(&key, seen.host_port);
            } else {
                self.ports.claim(&key, seen.host_port);
            }
        }
    }

    /// Where a rule leads to, by what the app is made of.
    fn place(&self, id: AppKey, rule: &PortRule) -> Place {
        let Some(app) = self.apps.get(&id).filter(|_| rule.port != 0) else { return Place::Nowhere };
        let Some(definition) = app.request.as_ref().and_then(|request| request.docker_compose.as_ref()) else {
            // Made by an old agent.
            let on_host = app.seen.as_ref().is_some_and(|seen| seen.host_network && seen.bindings.is_empty());
            let key = PortKey::plain(id, rule.wire(), rule.port);
            return if on_host { Place::Declared } else { Place::Managed(key, rule.port) };
        };
        let entries = compose::ports(definition).unwrap_or_default();
        match entries.iter().find(|entry| entry.is_meant_by(rule)) {
            Some(entry) if entry.host_networking => Place::Declared,
            Some(entry) => Place::Managed(entry.key(id), entry.container_port),
            None if compose::has_host_networking(definition) => Place::Declared,
            None => Place::Nowhere,
        }
    }

    /// Where a tunnel of a rule dials (4.4 step 3): `None` if that is not known, or not yet. A port that nobody has told of
    /// is never taken for it.
    fn dial_port(&mut self, id: AppKey, rule: &PortRule) -> Option<u16> {
        if !rule.is_published() {
            return Some(rule.port);
        }
        if let Some(held) = self.ports.get_by_port(id, rule.wire(), rule.port) {
            return Some(held);
        }
        match self.place(id, rule) {
            Place::Declared => Some(rule.port),
            Place::Managed(key, port) => {
                let live = self.live_port(id, &key.service, key.protocol, port);
                let preferred = live.unwrap_or_else(|| rule.stored());
                (preferred != 0).then(|| self.ports.recover_or_reserve(&key, preferred))?.map(|(port, _)| port)
            }
            Place::Nowhere => None,
        }
    }

    /// Brings the port rules in line with what is published, and tells the backend if that changed them (4.4).
    pub(super) fn sync_ports(&mut self, id: AppKey) {
        let Some(request) = self.apps.get(&id).and_then(|app| app.request.as_ref()) else { return };
        if id.stage == Stage::Dev || request.ports.is_empty() {
            return;
        }
        let mut rules = match PortRule::list(&request.ports) {
            Ok(rules) => rules,
            Err(error) => return self.note(Level::Warn, format!("{id}: {error}")),
        };
        let received: Vec<Value> = rules.iter().map(PortRule::encode).collect();
        for rule in &mut rules {
            let dial = self.dial_port(id, rule);
            if let (Some(port), true) = (dial, rule.is_published()) {
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
}

/// What a plain app publishes: the rules that point to its container, each port once, with the host ports they bring.
pub(super) fn of_rules(rules: &[PortRule]) -> Vec<Binding> {
    let mut wanted: Vec<Binding> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.is_published() && rule.port != 0) {
        if wanted.iter().all(|known| (known.port, known.protocol) != (rule.port, rule.wire())) {
            wanted.push(Binding::plain(rule.port, rule.wire(), rule.stored()));
        }
    }
    wanted
}
