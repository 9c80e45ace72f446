//! Who listens to which container's log topic: pure. Field lessons C6 and D4.
//!
//! Per container the set of subscription ids that match its topic. It is filled by `wamp.subscription.match` once per
//! session and container, kept by the meta events, and empty without a session. What events say while an answer is
//! under way wins over the answer, so that their order does not matter.
//!
//! **Invariant:** ids of a lost session are never counted.

use crate::sorted::IntoSorted;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Subscriptions that are remembered for containers that are not known yet, and ids per container. Far more than the
/// viewers of a device; a bound because they come from the wire.
const MOST: usize = 1024;
/// The longest topic pattern that is looked at.
const LONGEST_URI: usize = 1024;
const PREFIX: &str = "reswarm.logs.";

/// What is known about the listeners of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listeners {
    /// Nobody, or no session.
    None,
    /// Asked, not answered.
    Unknown,
    /// At least one.
    Some,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Wildcard(String),
}

impl Pattern {
    fn matches(&self, topic: &str) -> bool {
        match self {
            Pattern::Exact(uri) => uri == topic,
            Pattern::Prefix(uri) => topic.starts_with(uri.as_str()),
            Pattern::Wildcard(uri) => {
                uri.split('.').count() == topic.split('.').count()
                    && uri.split('.').zip(topic.split('.')).all(|(of, part)| of.is_empty() || of == part)
            }
        }
    }

    /// Whether it could match a topic below `root` (which ends with a dot).
    fn reaches(&self, root: &str) -> bool {
        match self {
            Pattern::Exact(uri) => uri.len() > root.len() && uri.starts_with(root),
            Pattern::Prefix(uri) => root.starts_with(uri.as_str()) || uri.starts_with(root),
            Pattern::Wildcard(uri) => {
                let root = root.trim_end_matches('.');
                uri.split('.').count() > root.split('.').count()
                    && uri.split('.').zip(root.split('.')).all(|(of, part)| of.is_empty() || of == part)
            }
        }
    }
}

#[derive(Debug, Default)]
struct Seen {
    ids: BTreeSet<u64>,
    /// Events since the question that is not answered yet.
    asked: Option<Changes>,
}

#[derive(Debug, Default)]
struct Changes {
    created: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
}

/// See the module.
#[derive(Debug)]
pub struct Gate {
    /// `reswarm.logs.<serial>.`
    root: String,
    up: bool,
    /// Live subscriptions of this session that could match a container of ours.
    patterns: BTreeMap<u64, Pattern>,
    containers: BTreeMap<String, Seen>,
}

impl Gate {
    /// For the device `serial` (which may contain dots); no session yet.
    pub fn new(serial: &str) -> Gate {
        Gate { root: format!("{PREFIX}{serial}."), up: false, patterns: BTreeMap::new(), containers: BTreeMap::new() }
    }

    /// The log topic of a container.
    pub fn topic(&self, container: &str) -> String {
        format!("{}{container}", self.root)
    }

    /// Whether the topic of a container may be said on the wire. App names hold anything, and a router ends the session of
    /// whoever publishes to what is no URI (WAMP 5.1.1, loose).
    pub fn has_topic(&self, container: &str) -> bool {
        container.split('.').all(|part| !part.is_empty() && !part.contains(|c: char| c == '#' || c.is_whitespace()))
    }

    /// A session was joined or lost: all that was known is void.
    pub fn session(&mut self, up: bool) {
        self.up = up;
        self.patterns.clear();
        for seen in self.containers.values_mut() {
            *seen = Seen::default();
        }
    }

    /// Makes a container known; `true` if it was not.
    pub fn add(&mut self, container: &str) -> bool {
        if self.containers.contains_key(container) {
            return false;
        }
        let topic = self.topic(container);
        let ids = self.patterns.iter().filter(|(_, of)| of.matches(&topic)).map(|(id, _)| *id).into_set();
        self.containers.insert(container.to_owned(), Seen { ids, asked: None });
        true
    }

    /// Forgets a container.
    pub fn remove(&mut self, container: &str) {
        self.containers.remove(container);
    }

    /// The question is being asked for this container; `false` if there is no use in it (no session, already asked).
    pub fn ask(&mut self, container: &str) -> bool {
        let open = self.up && self.has_topic(container);
        let Some(seen) = self.containers.get_mut(container).filter(|seen| open && seen.asked.is_none()) else {
            return false;
        };
        seen.asked = Some(Changes::default());
        true
    }

    /// The answer came. An error counts as nobody but for what events told. Ignored if nobody asked (in this session).
    pub fn answer(&mut self, container: &str, answer: Result<&[Value], &str>) {
        let Some(seen) = self.containers.get_mut(container) else { return };
        let Some(changes) = seen.asked.take() else { return };
        if let Ok(args) = answer {
            let told = ids(args).into_iter().chain(changes.created);
            seen.ids = told.filter(|id| !changes.deleted.contains(id)).take(MOST).into_set();
        }
    }

    /// `wamp.subscription.on_create`: the containers that are listened to by it (for an exact one also if not known).
    pub fn created(&mut self, args: &[Value]) -> Vec<String> {
        let Some((id, pattern)) = subscription(args).filter(|(_, pattern)| self.up && pattern.reaches(&self.root))
        else {
            return Vec::new();
        };
        let mut reached = Vec::new();
        for (container, seen) in &mut self.containers {
            if !pattern.matches(&format!("{}{container}", self.root)) {
                continue;
            }
            if seen.ids.len() < MOST {
                seen.ids.insert(id);
            }
            if let Some(changes) = seen.asked.as_mut().filter(|changes| changes.created.len() < MOST) {
                changes.created.insert(id);
                changes.deleted.remove(&id);
            }
            reached.push(container.clone());
        }
        if let Pattern::Exact(uri) = &pattern
            && reached.is_empty()
        {
            reached.push(uri[self.root.len()..].to_owned());
        }
        // One too many counts for the containers that are known now, alone.
        if self.patterns.len() < MOST || self.patterns.contains_key(&id) {
            self.patterns.insert(id, pattern);
        }
        reached
    }

    /// `wamp.subscription.on_delete`.
    pub fn deleted(&mut self, args: &[Value]) {
        let Some(id) = args.get(1).and_then(id) else { return };
        self.patterns.remove(&id);
        for seen in self.containers.values_mut() {
            seen.ids.remove(&id);
            if let Some(changes) = &mut seen.asked {
                changes.created.remove(&id);
                // Foreign ids come here too: all clients of the realm leave their topics.
                if changes.deleted.len() < MOST {
                    changes.deleted.insert(id);
                }
            }
        }
    }

    /// What is known about the listeners of a container.
    pub fn listeners(&self, container: &str) -> Listeners {
        match self.containers.get(container) {
            _ if !self.has_topic(container) => Listeners::None,
            Some(seen) if !seen.ids.is_empty() => Listeners::Some,
            Some(Seen { asked: Some(_), .. }) => Listeners::Unknown,
            _ => Listeners::None,
        }
    }

    /// The known containers.
    pub fn containers(&self) -> impl Iterator<Item = &str> {
        self.containers.keys().map(String::as_str)
    }
}

/// Id and pattern of an `on_create` event.
fn subscription(args: &[Value]) -> Option<(u64, Pattern)> {
    let details = args.get(1)?.as_object()?;
    let uri = details.get("uri")?.as_str().filter(|uri| uri.len() <= LONGEST_URI)?.to_owned();
    let pattern = match details.get("match").and_then(Value::as_str) {
        Some("prefix") => Pattern::Prefix(uri),
        Some("wildcard") => Pattern::Wildcard(uri),
        _ => Pattern::Exact(uri),
    };
    Some((id(details.get("id")?)?, pattern))
}

/// The ids of an answer of `wamp.subscription.match`: a list of ids, null, nothing, or (tolerated) a bare id.
fn ids(args: &[Value]) -> Vec<u64> {
    match args.first() {
        Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
        Some(value) => id(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// A WAMP id: 1 to 2^53, also as a float without fraction or as text (D6).
fn id(value: &Value) -> Option<u64> {
    const LAST: u64 = 1 << 53;
    let id = match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && (1.0..=LAST as f64).contains(float))?;
            Some(float as u64)
        }),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    };
    id.filter(|id| (1..=LAST).contains(id))
}

#[cfg(test)]
mod tests;
