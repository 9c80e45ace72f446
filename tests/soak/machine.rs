//! What the apps of a run are on: an engine with its registries, the fake one or the real one.

use super::truth::Told;
use crate::util::Options;
use serde_json::Value;
use std::time::Duration;

/// A container as the engine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    /// Of compose.
    pub project: String,
    pub image: String,
    pub runs: bool,
}

/// Something that the engine told, or that was found when it was back.
#[derive(Debug, Clone)]
pub struct Entry {
    pub at: Duration,
    /// Id of the container, or name of the image.
    pub id: String,
    /// Name and project of the container, as far as they are told.
    pub name: String,
    pub project: String,
    pub told: Told,
}

/// An engine with its registries. What it is told to do it does before the call returns.
pub trait Machine: Send {
    /// `host:port` of the registry, as the agent has it.
    fn registry(&self) -> String;
    /// What the agent needs to find the engine and its commands.
    fn equip(&self, options: &mut Options);
    /// Has an image in the registry, under the name that the agent uses; a bad one ends at once.
    fn offer(&mut self, image: &str, version: &str, is_bad: bool);
    /// Whether the registry has an image in a version.
    fn has_release(&self, image: &str, version: &str) -> bool;
    /// Containers, running or not, in a fixed order; `None` while it does not answer.
    fn containers(&self) -> Option<Vec<Seen>>;
    /// Names of images.
    fn images(&self) -> Option<Vec<String>>;
    /// The process of a container ends.
    fn exit(&mut self, container: &str, code: i64);
    /// The engine answers nothing, until [`Machine::thaw`].
    fn freeze(&mut self);
    fn thaw(&mut self);
    /// It goes, and its containers end, and it comes back.
    fn restart(&mut self);
    fn registry_fails(&mut self, fails: bool);
    /// Something else has this host port, if it can be had.
    fn take_port(&mut self, port: u16);
    fn free_ports(&mut self);
    /// What the engine has told since the last [`Machine::clear`]. Returns once it has told everything so far.
    fn history(&self) -> Vec<Entry>;
    /// Nothing of the run is left; the next one begins.
    fn clear(&mut self);
}

/// Reads an event in the engine's form; the time is nanoseconds since 1970.
pub fn parse(event: &Value) -> Option<(i64, Entry)> {
    let actor = &event["Actor"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let attribute = |name: &str| text(&actor["Attributes"][name]);
    let told = match (event["Type"].as_str()?, event["Action"].as_str()?) {
        ("container", "create") => Told::Created,
        ("container", "start") => Told::Started,
        ("container", "die") => Told::Ended,
        ("container", "destroy") => Told::Destroyed,
        ("image", "tag") => Told::Named,
        _ => return None,
    };
    let project = attribute("com.docker.compose.project");
    let id = if told == Told::Named { attribute("name") } else { text(&actor["ID"]) };
    let entry = Entry { at: Duration::ZERO, id, name: attribute("name"), project, told };
    Some((event["timeNano"].as_i64()?, entry))
}
