//! Compose definitions (apps chapter 4.2, 4.9): what an authored one says, and the one that is made of it. Pure; a worker
//! writes the files and runs the commands.
//!
//! **Invariant:** the authored definition is never changed: host ports that were written into it once would be taken for
//! authored ones the next time.

use super::environment::RESERVED;
use super::names::split_tag;
use super::ports::Binding;
use crate::sorted::{IntoSorted, sort_by};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub mod aggregate;
pub mod dotenv;
pub mod entry;

pub use aggregate::aggregate;
pub use dotenv::{Dialect, dotenv};
pub use entry::PortEntry;

/// The environment file of every service, beside the definition.
pub const ENV_FILE: &str = ".env-compose";

/// Where the directory of the variables is inside the containers.
const ENV_FOLDER: &str = "/data/env";

/// By this name an app reaches the machine it runs on.
const HOST: &str = "host.docker.internal";

/// A definition that compose can be given.
#[derive(Debug, Clone, PartialEq)]
pub struct Generated {
    /// The definition; [`mount_environment`] completes it.
    pub definition: Value,
    /// What of the authored one was not taken as it is, or could not be managed, for the app's log.
    pub warnings: Vec<String>,
}

/// An image that is copied before a release is pushed (3.13).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its service.
    pub service: String,
    /// Where it comes from: `x-source-image`.
    pub source: String,
    /// The image of the service.
    pub target: String,
}

/// The services by name.
///
/// # Errors
/// A text for the user: there are none, or one is no object.
pub fn services(definition: &Value) -> Result<&Map<String, Value>, String> {
    let services = definition.get("services").and_then(Value::as_object);
    let services = services.ok_or("the compose definition has no services")?;
    match services.iter().find(|(_, service)| !service.is_object()) {
        Some((name, _)) => Err(format!("service {name} of the compose definition is no object")),
        None => Ok(services),
    }
}

/// All port entries, sorted by service and place.
///
/// # Errors
/// As [`services`].
pub fn ports(definition: &Value) -> Result<Vec<PortEntry>, String> {
    let mut entries: Vec<PortEntry> = Vec::new();
    for (name, service) in services(definition)? {
        for (index, value) in service.get("ports").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let mut entry = PortEntry::read(name, index, value, uses_host_network(service));
            let same = |other: &&PortEntry| {
                (&other.service, other.declared(), other.protocol) == (name, entry.declared(), entry.protocol)
            };
            entry.rewritable &= !entries.iter().filter(|other| other.rewritable).any(|other| same(&other));
            entries.push(entry);
        }
    }
    sort_by(&mut entries, |a, b| (&a.service, a.index).cmp(&(&b.service, b.index)));
    Ok(entries)
}

/// Whether a service has the network of the machine.
fn uses_host_network(service: &Value) -> bool {
    service.get("network_mode").and_then(Value::as_str) == Some("host")
}

/// Whether any service has the network of the machine: what it listens on is a port of the host.
pub fn has_host_networking(definition: &Value) -> bool {
    services(definition).is_ok_and(|services| services.values().any(uses_host_network))
}

/// The image of each service that names one.
///
/// # Errors
/// As [`services`].
pub fn images(definition: &Value) -> Result<BTreeMap<String, String>, String> {
    let image = |service: &Value| service.get("image")?.as_str().filter(|image| !image.is_empty()).map(str::to_owned);
    Ok(services(definition)?.iter().filter_map(|(name, service)| Some((name.clone(), image(service)?))).into_map())
}

/// The services that are built.
///
/// # Errors
/// As [`services`].
pub fn built(definition: &Value) -> Result<Vec<String>, String> {
    let is_built = |service: &Value| service.get("build").is_some_and(|build| !build.is_null());
    Ok(services(definition)?.iter().filter(|(_, service)| is_built(service)).map(|(name, _)| name.clone()).collect())
}

/// The services whose image is not among the `local` repository tags, sorted. An image without a tag is there in any
/// version: compose fetches what it still wants by itself.
pub fn missing(images: &BTreeMap<String, String>, local: &[String]) -> Vec<String> {
    let local: Vec<_> = local.iter().map(|tag| short(tag)).collect();
    let is_there = |image: &str| {
        let (name, tag) = short(image);
        local.iter().any(|(known, version)| *known == name && (tag.is_none() || *version == tag))
    };
    images.iter().filter(|(_, image)| !is_there(image)).map(|(service, _)| service.clone()).collect()
}

/// Whether two references name one image: of Docker Hub also by its long name, without a tag the `latest`.
pub fn same_image(one: &str, other: &str) -> bool {
    let (one, other) = (short(one), short(other));
    one.0 == other.0 && one.1.unwrap_or("latest") == other.1.unwrap_or("latest")
}

/// Name and tag of an image.
fn short(reference: &str) -> (&str, Option<&str>) {
    let (name, tag) = split_tag(reference);
    (name.strip_prefix("docker.io/").map_or(name, |rest| rest.strip_prefix("library/").unwrap_or(rest)), tag)
}

/// The images that are copied before a release is pushed, sorted by service.
///
/// # Errors
/// As [`services`]; a service that has a source and no image to copy it to.
pub fn sources(definition: &Value) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    for (name, service) in services(definition)? {
        let text = |key| service.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let Some(source) = text("x-source-image") else { continue };
        let target = text("image").ok_or_else(|| {
            format!("service {name} has an x-source-image and no image: name where it is to be copied")
        })?;
        sources.push(Source { service: name.clone(), source, target });
    }
    Ok(sources)
}

/// Makes the definition that compose is given: project name, environment file, the name of the host, host ports. Ports
/// without a binding stay as they are, and so do those of services in the network of the machine.
///
/// # Errors
/// As [`services`].
pub fn generate(authored: &Value, project: &str, bindings: &[Binding]) -> Result<Generated, String> {
    let entries = ports(authored)?;
    let mut warnings = Vec::new();
    let mut definition = authored.clone();
    definition["name"] = json!(project);
    for (name, service) in definition["services"].as_object_mut().into_iter().flatten() {
        let Some(service) = service.as_object_mut() else { continue };
        service.insert("env_file".to_owned(), json!(ENV_FILE));
        for variable in drop_reserved(service) {
            warnings.push(format!("service {name}: the variable {variable} is set by the agent, it is left out"));
        }
        add_host(service);
        let Some(ports) = service.get_mut("ports").and_then(Value::as_array_mut) else { continue };
        for entry in entries.iter().filter(|entry| entry.service == *name && !entry.host_networking) {
            let Some(port) = ports.get_mut(entry.index) else { continue };
            let is_its = |binding: &&Binding| {
                (binding.service.as_str(), binding.declared, binding.protocol)
                    == (entry.service.as_str(), entry.declared(), entry.protocol)
            };
            match bindings.iter().find(is_its) {
                _ if !entry.rewritable => {
                    warnings.push(format!(
                        "service {name}: port {port} stays as it is written and gets no host port of the agent"
                    ));
                }
                Some(binding) => *port = entry.rewritten(port, binding.host_port),
                None => {}
            }
        }
    }
    Ok(Generated { definition, warnings })
}

/// Removes the variables that would hide the agent's; their names.
fn drop_reserved(service: &mut Map<String, Value>) -> Vec<&'static str> {
    let name = |entry: &Value| entry.as_str().map(|entry| entry.split('=').next().unwrap_or_default().to_owned());
    let is_set = |environment: &mut Value, reserved: &str| match environment {
        Value::Object(map) => map.remove(reserved).is_some(),
        Value::Array(list) => {
            let before = list.len();
            list.retain(|entry| name(entry).as_deref() != Some(reserved));
            list.len() < before
        }
        _ => false,
    };
    let Some(environment) = service.get_mut("environment") else { return Vec::new() };
    RESERVED.into_iter().filter(|reserved| is_set(environment, reserved)).collect()
}

/// Gives a service the name of the host, unless it has one. A service in the network of another one has that one's names,
/// and the Engine refuses it any of its own.
fn add_host(service: &mut Map<String, Value>) {
    let mode = service.get("network_mode").and_then(Value::as_str).unwrap_or_default();
    if mode.starts_with("service:") || mode.starts_with("container:") {
        return;
    }
    let host = json!(format!("{HOST}:host-gateway"));
    let is_there = |entry: &Value| entry.as_str().is_some_and(|entry| entry.starts_with(HOST));
    match service.entry("extra_hosts").or_insert(Value::Null) {
        Value::Array(list) if !list.iter().any(is_there) => list.push(host),
        Value::Object(map) => {
            map.entry(HOST).or_insert(json!("host-gateway"));
        }
        other if other.is_null() => *other = json!([host]),
        _ => {}
    }
}

/// Mounts the directory of the variables (`env_dir`, absolute) into every service, read-only, unless something is mounted
/// there.
pub fn mount_environment(definition: &mut Value, env_dir: &str) {
    // Compose replaces variables in every text, and splits a short entry at colons.
    let source = env_dir.replace('$', "$$");
    let mount = if source.contains(':') {
        json!({"type": "bind", "source": source, "target": ENV_FOLDER, "read_only": true})
    } else {
        json!(format!("{source}:{ENV_FOLDER}:ro"))
    };
    let is_there = |entry: &Value| match entry {
        Value::String(text) => text.contains(&format!(":{ENV_FOLDER}")),
        entry => entry.get("target").and_then(Value::as_str).is_some_and(|target| target.starts_with(ENV_FOLDER)),
    };
    let services = definition.get_mut("services").and_then(Value::as_object_mut);
    for service in services.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut) {
        match service.entry("volumes").or_insert(Value::Null) {
            Value::Array(list) if !list.iter().any(is_there) => list.push(mount.clone()),
            other if other.is_null() => *other = json!([mount]),
            _ => {}
        }
    }
}

/// Makes a definition one that compose 1.29 takes. It knows no project name (that is an argument there) and not every long
/// port entry, and where compose 2 ignores `ports`, in the network of the machine, it fails.
pub fn for_version_1(definition: &mut Value) {
    let Some(definition) = definition.as_object_mut() else { return };
    definition.remove("name");
    let services = definition.get_mut("services").and_then(Value::as_object_mut);
    for service in services.into_iter().flat_map(Map::values_mut) {
        let on_host = uses_host_network(service);
        let Some(ports) = service.get_mut("ports").and_then(Value::as_array_mut) else { continue };
        if on_host {
            ports.clear();
        }
        for port in ports {
            if let Some(short) = PortEntry::shortened(port) {
                *port = short;
            }
        }
    }
}

#[cfg(test)]
#[path = "compose/tests.rs"]
mod tests;
