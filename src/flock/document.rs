//! The file as a JSON document: keeps order, number texts and unknown members, and writes the format of 8.3. Pure.

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;

/// Deepest nesting that is read; the files in the field have 4.
const MAX_DEPTH: usize = 128;

/// What a known member is written as when the file lacks it.
#[derive(Clone, Copy)]
enum Shape {
    /// `""`.
    Text,
    /// Left out, also when it is empty or null.
    TextIfAny,
    /// `0`.
    Number,
    /// `false`.
    Switch,
    /// `null`.
    Any,
    /// An object with these members.
    Object(&'static [(&'static str, Shape)]),
}

/// The known members in the order in which they are written (8.1, 8.4).
const MEMBERS: &[(&str, Shape)] = &[
    ("name", Shape::Text),
    ("secret", Shape::Text),
    ("board", Shape::Object(BOARD)),
    ("status", Shape::Text),
    ("password", Shape::Text),
    ("wlanssid", Shape::Text),
    ("swarm_key", Shape::Number),
    ("device_key", Shape::Number),
    ("swarm_name", Shape::Text),
    ("description", Shape::Any),
    ("architecture", Shape::Text),
    ("serial_number", Shape::Text),
    ("authentication", Shape::Object(AUTHENTICATION)),
    ("swarm_owner_name", Shape::Text),
    ("config_passphrase", Shape::Text),
    ("device_endpoint_url", Shape::Text),
    ("environment", Shape::TextIfAny),
    ("docker_registry_url", Shape::Text),
    ("insecure-registries", Shape::TextIfAny),
    ("docker_main_repository", Shape::Text),
    ("appliance_domain", Shape::TextIfAny),
    ("update_url", Shape::TextIfAny),
];

const BOARD: &[(&str, Shape)] = &[
    ("cpu", Shape::Text),
    ("docs", Shape::Any),
    ("board", Shape::Text),
    ("model", Shape::Text),
    ("boardname", Shape::Text),
    ("modelname", Shape::Text),
    ("reflasher", Shape::Switch),
    ("architecture", Shape::Text),
];

const AUTHENTICATION: &[(&str, Shape)] = &[("key", Shape::Text), ("certificate", Shape::Text)];

/// Why bytes are no document. Holds nothing of the content, which is secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unusable {
    /// There are none, or only white space and zeros.
    Empty,
    /// Something else than an object, or broken at this line and column.
    NoObject {
        /// Line, from 1.
        line: usize,
        /// Column, from 1; 0 before the first.
        column: usize,
    },
    /// Nested too deeply to be one of our files.
    TooDeep,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::Empty => f.write_str("it is empty"),
            Unusable::NoObject { line, column } => write!(f, "broken at line {line}, column {column}"),
            Unusable::TooDeep => write!(f, "nested more than {MAX_DEPTH} levels deep"),
        }
    }
}

/// One JSON object; of members with one name the last counts. `Debug` shows the names alone.
#[derive(Clone, Default)]
pub struct Document {
    members: Vec<(String, Box<RawValue>)>,
}

impl Document {
    /// Reads `bytes`.
    ///
    /// # Errors
    /// Everything that is not exactly one JSON object in UTF-8.
    pub fn parse(bytes: &[u8]) -> Result<Document, Unusable> {
        if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) {
            return Err(Unusable::Empty);
        }
        if depth(bytes) > MAX_DEPTH {
            return Err(Unusable::TooDeep);
        }
        let mut json = serde_json::Deserializer::from_slice(bytes);
        json.deserialize_map(Members)
            .and_then(|document| json.end().map(|()| document))
            .map_err(|error| Unusable::NoObject { line: error.line(), column: error.column() })
    }

    /// The member `name`.
    pub fn get(&self, name: &str) -> Option<&RawValue> {
        self.members.iter().find(|(key, _)| key == name).map(|(_, raw)| &**raw)
    }

    /// The member `name` as a document of its own; an empty one when there is none.
    ///
    /// # Errors
    /// The member is something else than an object or null.
    pub fn object(&self, name: &str) -> Result<Document, Unusable> {
        match self.get(name).map(RawValue::get) {
            None | Some("null") => Ok(Document::default()),
            Some(text) => Document::parse(text.as_bytes()),
        }
    }

    /// Sets the member `name` to a text or a number.
    pub fn set(&mut self, name: &str, value: &impl serde::Serialize) {
        let raw = serde_json::value::to_raw_value(value).expect("texts and numbers are JSON");
        match self.members.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = raw,
            None => self.members.push((name.to_owned(), raw)),
        }
    }

    /// The bytes of the file: known members in their order, then the others in the order they came.
    pub fn render(&self) -> Vec<u8> {
        let mut out = String::new();
        self.write(&mut out, MEMBERS, 1);
        out.into_bytes()
    }

    fn write(&self, out: &mut String, known: &[(&str, Shape)], depth: usize) {
        out.push('{');
        let mut first = true;
        let mut name = |out: &mut String, name: &str| {
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            new_line(out, depth);
            write_text(out, name);
            out.push_str(": ");
        };
        for &(key, shape) in known {
            let raw = self.get(key).map(RawValue::get);
            match (shape, raw) {
                (Shape::TextIfAny, None | Some("\"\"" | "null")) => {}
                (Shape::Object(inner), _) if self.object(key).is_ok() => {
                    name(out, key);
                    self.object(key).unwrap_or_default().write(out, inner, depth + 1);
                }
                (_, Some(raw)) => {
                    name(out, key);
                    write_value(out, raw, depth);
                }
                (shape, None) => {
                    name(out, key);
                    out.push_str(match shape {
                        Shape::Text | Shape::TextIfAny => "\"\"",
                        Shape::Number => "0",
                        Shape::Switch => "false",
                        Shape::Any | Shape::Object(_) => "null",
                    });
                }
            }
        }
        for (key, raw) in &self.members {
            if known.iter().all(|(known, _)| known != key) {
                name(out, key);
                write_value(out, raw.get(), depth);
            }
        }
        if !first {
            new_line(out, depth - 1);
        }
        out.push('}');
    }
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.members.iter().map(|(key, _)| key)).finish()
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        let mut places = HashMap::new();
        let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
        while let Some((key, raw)) = map.next_entry::<String, Box<RawValue>>()? {
            match places.get(&key) {
                Some(&place) => members[place] = (key, raw),
                None => {
                    places.insert(key.clone(), members.len());
                    members.push((key, raw));
                }
            }
        }
        Ok(Document { members })
    }
}

/// Deepest nesting of brackets outside of texts.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => depth += 1,
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n(' ', depth));
}

/// Writes a valid JSON value anew with our indentation. Numbers keep their text.
fn write_value(out: &mut String, json: &str, mut depth: usize) {
    let mut rest = json;
    while let Some(byte) = rest.bytes().next() {
        let mut taken = 1;
        match byte {
            b'{' | b'[' => {
                out.push(char::from(byte));
                let inside = rest[1..].trim_start();
                if inside.starts_with(['}', ']']) {
                    out.push_str(&inside[..1]);
                    taken = rest.len() - inside.len() + 1;
                } else {
                    depth += 1;
                    new_line(out, depth);
                }
            }
            b'}' | b']' => {
                depth -= 1;
                new_line(out, depth);
                out.push(char::from(byte));
            }
            b',' => {
                out.push(',');
                new_line(out, depth);
            }
            b':' => out.push_str(": "),
            b'"' => {
                taken = text_length(rest);
                match serde_json::from_str::<String>(&rest[..taken]) {
                    Ok(text) => write_text(out, &text),
                    // Half of a surrogate pair: valid JSON, but no text of ours.
                    Err(_) => out.push_str(&rest[..taken]),
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => {
                taken = rest.find([',', '}', ']', ' ', '\t', '\n', '\r']).unwrap_or(rest.len());
                out.push_str(&rest[..taken]);
            }
        }
        rest = &rest[taken..];
    }
}

/// Length of the quoted text at the start of `json`, quotes included.
fn text_length(json: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in json.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    json.len()
}

/// Writes a quoted text with the escapes of 8.3.
fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
