//! Stand-in until the definitions of compose projects are built.

use super::job::Container;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Who reads a file of variables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Compose 2.
    V2,
    /// Compose 1.29.
    V1,
}

/// The text of the file, and the names that have no place in it.
pub fn dotenv(variables: &BTreeMap<String, String>, _dialect: Dialect) -> (String, Vec<String>) {
    let (good, bad): (Vec<_>, Vec<_>) = variables.iter().partition(|(name, _)| !name.contains(' '));
    (
        good.iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
        bad.into_iter().map(|(name, _)| name.clone()).collect(),
    )
}

/// The services by name.
///
/// # Errors
/// There are none.
pub fn services(definition: &Value) -> Result<&Map<String, Value>, String> {
    definition.get("services").and_then(Value::as_object).ok_or_else(|| "no services".to_owned())
}

/// The image of each service that names one.
///
/// # Errors
/// As [`services`].
pub fn images(definition: &Value) -> Result<BTreeMap<String, String>, String> {
    let image = |service: &Value| service.get("image")?.as_str().map(str::to_owned);
    Ok(services(definition)?.iter().filter_map(|(name, service)| Some((name.clone(), image(service)?))).collect())
}

/// The services that are built.
///
/// # Errors
/// As [`services`].
pub fn built(definition: &Value) -> Result<Vec<String>, String> {
    Ok(services(definition)?
        .iter()
        .filter(|(_, service)| service.get("build").is_some())
        .map(|(name, _)| name.clone())
        .collect())
}

/// The services whose image is not among the tags.
pub fn missing(images: &BTreeMap<String, String>, local: &[String]) -> Vec<String> {
    images.iter().filter(|(_, image)| !local.contains(image)).map(|(service, _)| service.clone()).collect()
}

/// Mounts the directory of the variables.
pub fn mount_environment(definition: &mut Value, env_dir: &str) {
    let services = definition.get_mut("services").and_then(Value::as_object_mut);
    for service in services.into_iter().flat_map(Map::values_mut) {
        service["volumes"] = json!([format!("{env_dir}:/data/env:ro")]);
    }
}

/// The containers of one project as one.
pub fn aggregate(containers: &[Container]) -> Option<Container> {
    let running = containers.iter().find(|container| container.status == "running");
    running.or(containers.first()).cloned()
}
