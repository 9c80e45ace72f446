//! Reading the file: what it must hold, what is forgiven, and the addresses that have moved (8.2). Never writes.

use super::document::Unusable;
use super::{Document, File, Flock, Notice, copy};
use crate::secret::Secret;
use log::Level;
use serde_json::Value;
use serde_json::value::RawValue;
use std::fmt;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Largest file that is read; real ones have 2 KiB, with a list of images some dozens.
const MAX_BYTES: u64 = 1024 * 1024;

/// Members whose value has moved to another address: exact matches only.
const MOVED: &[(&str, &str, &str)] = &[
    ("docker_registry_url", "registry.reswarm.io/", "registry.ironflock.com/"),
    ("device_endpoint_url", "wss://cbw.record-evolution.com/ws-re-dev", "wss://cbw.ironflock.com/ws-re-dev"),
];

/// What [`load`] yields.
#[derive(Debug)]
pub struct Loaded {
    /// The live configuration.
    pub flock: Flock,
    /// What writes it back.
    pub file: File,
    /// What to log about it.
    pub notices: Vec<Notice>,
}

/// Why the agent cannot start with the given file (decision 23). Displays path and member; the file is as it was.
#[derive(Debug)]
pub struct Error {
    /// The file as given.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a `.flock` file.
#[derive(Debug)]
pub enum Problem {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is a directory, a pipe or the like.
    NoFile,
    /// It has more than 1 MiB.
    TooLarge,
    /// It is no JSON object, and there is no copy of it (decision 35).
    Unusable(Unusable),
    /// A required member is missing, empty or 0.
    Missing(&'static str),
    /// A required member has another type.
    WrongType(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.problem {
            Problem::Unreadable(error) => write!(f, "cannot read the config file {path}: {error}"),
            Problem::NoFile => write!(f, "the config {path} is no file"),
            Problem::TooLarge => write!(f, "the config file {path} has more than {MAX_BYTES} bytes"),
            Problem::Unusable(reason) => {
                write!(f, "the config file {path} is no JSON object ({reason}); it was left as it is")
            }
            Problem::Missing(name) => write!(f, "the config file {path} lacks '{name}'; it was left as it is"),
            Problem::WrongType(name) => {
                write!(f, "in the config file {path} '{name}' has the wrong type; it was left as it is")
            }
        }
    }
}

impl std::error::Error for Error {}

/// Reads the device's configuration from `path`; from the copy in `agent_dir` if that file is empty or no JSON object
/// at all (decision 35). Legacy addresses are already the new ones; [`File::save`] writes them.
///
/// # Errors
/// The file cannot be read, or it is valid JSON and lacks what the agent cannot do without.
pub fn load(path: &Path, agent_dir: &Path) -> Result<Loaded, Error> {
    let fail = |problem| Error { path: path.to_owned(), problem };
    let bytes = read(path).map_err(fail)?;
    let unusable = match Document::parse(&bytes) {
        Ok(document) => {
            let (flock, notices) = interpret(&document).map_err(fail)?;
            return Ok(Loaded { flock, file: File::new(path, document, false), notices });
        }
        Err(unusable) => unusable,
    };
    let copied = copy::path(agent_dir);
    let usable = read(&copied).ok().and_then(|bytes| Document::parse(&bytes).ok());
    let Some((document, Ok((flock, mut notices)))) = usable.map(|document| (document.clone(), interpret(&document)))
    else {
        return Err(fail(Problem::Unusable(unusable)));
    };
    let text = format!(
        "the config file {} is no JSON object ({unusable}): started with the copy {} instead; restore the file",
        path.display(),
        copied.display()
    );
    notices.insert(0, Notice::new(Level::Error, text));
    Ok(Loaded { flock, file: File::new(path, document, true), notices })
}

/// The content of `path`.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    // Asked before opening: to open a named pipe would wait for a writer.
    if !std::fs::metadata(path).map_err(Problem::Unreadable)?.is_file() {
        return Err(Problem::NoFile);
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(Problem::Unreadable)?;
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
    if bytes.len() as u64 > MAX_BYTES { Err(Problem::TooLarge) } else { Ok(bytes) }
}

/// Makes the live configuration of a document.
fn interpret(document: &Document) -> Result<(Flock, Vec<Notice>), Problem> {
    let mut notices = Vec::new();
    let board = object(document, "board", &mut notices);
    let authentication = object(document, "authentication", &mut notices);
    let mut optional = |document: &Document, name: &'static str| optional_text(document, name, &mut notices);
    let flock = Flock {
        name: optional(document, "name"),
        secret: Secret::new(required_text(document, "secret")?),
        board_model: optional(&board, "model"),
        swarm_key: required_key(document, "swarm_key")?,
        device_key: required_key(document, "device_key")?,
        swarm_name: optional(document, "swarm_name"),
        serial_number: required_text(document, "serial_number")?,
        authentication_key: Secret::new(optional(&authentication, "key")),
        authentication_certificate: Secret::new(optional(&authentication, "certificate")),
        swarm_owner_name: optional(document, "swarm_owner_name"),
        device_endpoint_url: moved("device_endpoint_url", required_text(document, "device_endpoint_url")?),
        environment: optional(document, "environment"),
        docker_registry_url: moved("docker_registry_url", optional(document, "docker_registry_url")),
        docker_main_repository: optional(document, "docker_main_repository"),
        appliance_domain: optional(document, "appliance_domain"),
        update_url: optional(document, "update_url"),
    };
    for (name, text) in
        [("docker_registry_url", &flock.docker_registry_url), ("docker_main_repository", &flock.docker_main_repository)]
    {
        if text.is_empty() {
            notices.push(Notice::new(Level::Warn, format!("the config lacks '{name}': no app image can be pulled")));
        }
    }
    Ok((flock, notices))
}

fn moved(name: &str, text: String) -> String {
    match MOVED.iter().find(|(key, old, _)| *key == name && *old == text) {
        Some((_, _, new)) => (*new).to_owned(),
        None => text,
    }
}

fn object(document: &Document, name: &'static str, notices: &mut Vec<Notice>) -> Document {
    document.object(name).unwrap_or_else(|_| {
        notices.push(wrong_type(name));
        Document::default()
    })
}

/// A text that may be missing or null.
fn optional_text(document: &Document, name: &'static str, notices: &mut Vec<Notice>) -> String {
    text(document.get(name)).unwrap_or_else(|| {
        notices.push(wrong_type(name));
        String::new()
    })
}

fn wrong_type(name: &str) -> Notice {
    Notice::new(Level::Warn, format!("in the config '{name}' has the wrong type and is not used"))
}

/// `None` for another type; the empty text for a missing member.
pub(super) fn text(raw: Option<&RawValue>) -> Option<String> {
    match raw {
        None => Some(String::new()),
        Some(raw) => serde_json::from_str::<Option<String>>(raw.get()).ok().map(Option::unwrap_or_default),
    }
}

fn required_text(document: &Document, name: &'static str) -> Result<String, Problem> {
    match text(document.get(name)) {
        Some(text) if text.is_empty() => Err(Problem::Missing(name)),
        Some(text) => Ok(text),
        None => Err(Problem::WrongType(name)),
    }
}

fn required_key(document: &Document, name: &'static str) -> Result<u64, Problem> {
    match document.get(name).map(|raw| (key(raw), raw.get())) {
        None | Some((_, "null" | "\"\"") | (Some(0), _)) => Err(Problem::Missing(name)),
        Some((Some(key), _)) => Ok(key),
        Some((None, _)) => Err(Problem::WrongType(name)),
    }
}

/// An integer, an integral float or a decimal text; `None` for anything else.
pub(super) fn key(raw: &RawValue) -> Option<u64> {
    // Above this a float no longer tells neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match serde_json::from_str(raw.get()).ok()? {
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..=EXACT).contains(float))?;
            format!("{float:.0}").parse().ok()
        }),
        Value::String(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
        _ => None,
    }
}
