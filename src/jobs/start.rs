//! Starting an app: files, container, and that it really runs (`apps.md` 3.3, 3.4).
//!
//! A container of that name is always made anew: the old one may carry an old environment.

use super::work::{Failure, LOOK, PATIENCE, Work};
use super::{env_files, launch};
use crate::clock;
use crate::docker::{self, ContainerSpec};
use crate::domain::job::{Launch, Outcome};
use crate::domain::lines;
use crate::domain::ports::{Binding, Protocol};
use crate::os::addresses;
use crate::os::ports::{self, Transport};
use log::{debug, warn};
use std::collections::BTreeMap;

const NVIDIA: &str = "nvidia";

impl Work<'_> {
    /// Creates and starts the container of an app and waits until it runs.
    pub(super) fn start(&self, launch: &Launch) -> Result<Outcome, Failure> {
        match self.docker.inspect_image(&launch.image) {
            Err(error) if error.is_not_found() => return Ok(Outcome::ImageMissing),
            other => other?,
        };
        let taken: Vec<Binding> = launch.bindings.iter().filter(|binding| !is_free(binding)).cloned().collect();
        if !taken.is_empty() {
            return Ok(Outcome::PortsTaken(taken));
        }
        let variables = with_lan_ip(&launch.environment);
        let folders = self.folders(&launch.folder)?;
        folders.create()?;
        env_files::write(&folders, &variables)?;
        let mut spec = launch::body(launch, &variables, launch::mounts(&folders), self.gpu_runtime()?);
        let mut started = self.run(&launch.container, &spec);
        if let Err(Failure::Engine(error)) = &started
            && !spec.host_config.runtime.is_empty()
            && error.is_nvidia_runtime()
        {
            warn!("{}: without the GPU: {error}", launch.container);
            spec.host_config.runtime.clear();
            started = self.run(&launch.container, &spec);
        }
        match started {
            Ok(id) => match self.until_running(&id) {
                Err(Failure::Text(why)) if launch.on_trial => {
                    Err(Failure::Text(lines::and_last_line(why, &self.last_line(&id))))
                }
                other => other,
            },
            Err(Failure::Engine(error)) if error.is_port_conflict() => {
                self.remove_container(&launch.container)?;
                Ok(Outcome::PortConflict(error.message().to_owned()))
            }
            // It went between the look and the call.
            Err(Failure::Engine(error)) if error.is_image_not_found() => Ok(Outcome::ImageMissing),
            Err(failure) => Err(failure),
        }
    }

    /// A new container under `name`, started: its id.
    fn run(&self, name: &str, spec: &ContainerSpec) -> Result<String, Failure> {
        self.remove_container(name)?;
        let id = match self.docker.create_container(name, spec) {
            // Somebody made one in between, or the Engine still held the name.
            Err(error) if error.is_name_in_use() => {
                self.remove_container(name)?;
                self.docker.create_container(name, spec)?
            }
            other => other?,
        };
        self.docker.start_container(&id)?;
        Ok(id)
    }

    /// Looks until the container runs.
    pub(super) fn until_running(&self, id: &str) -> Result<Outcome, Failure> {
        let deadline = clock::mono() + PATIENCE;
        loop {
            let state = match self.docker.inspect_container(id) {
                Err(error) if error.is_not_found() => return Err(Failure::Text("its container is gone".to_owned())),
                other => other?.state,
            };
            if state.running {
                return Ok(Outcome::Done);
            }
            if !state.error.is_empty() {
                return Err(Failure::Text(state.error));
            }
            if matches!(state.status.as_str(), "exited" | "dead") {
                return Err(Failure::Text(ended(&state)));
            }
            if clock::mono() >= deadline {
                return Err(Failure::Text(format!("it is {} after {} s", state.status, PATIENCE.as_secs())));
            }
            self.pause(LOOK)?;
        }
    }

    /// `nvidia` on a machine with a GPU whose Engine knows that runtime, else nothing.
    fn gpu_runtime(&self) -> Result<&'static str, Failure> {
        if !(self.has_gpu)() {
            return Ok("");
        }
        let known = self.docker.info()?.runtimes.contains_key(NVIDIA);
        debug!("this machine has a GPU, and the Engine the runtime for it: {known}");
        Ok(if known { NVIDIA } else { "" })
    }
}

fn ended(state: &docker::endpoints::containers::State) -> String {
    let memory = if state.oom_killed { ", for lack of memory" } else { "" };
    format!("it ended at once with exit code {}{memory}", state.exit_code)
}

/// Ports that were given out before are ours, and need no probe.
pub(super) fn is_free(binding: &Binding) -> bool {
    let transport = match binding.protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    };
    !binding.fresh || ports::is_free(transport, binding.host_port)
}

/// Only the machine knows its address in its network.
pub(super) fn with_lan_ip(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut variables = environment.clone();
    if let Some(address) = addresses::primary_ipv4() {
        variables.entry("DEVICE_LAN_IP".to_owned()).or_insert_with(|| address.to_string());
    }
    variables
}
