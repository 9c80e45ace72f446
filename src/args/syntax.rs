//! The syntax of flags: what was given, before anything is made of it. Pure.

use super::{FLAGS, Flag, Kind};
use std::collections::BTreeMap;
use std::fmt;

/// A value as the user gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a [`Kind::Text`] flag.
    Text(String),
    /// Of a [`Kind::Number`] flag.
    Number(u64),
    /// Of a [`Kind::Switch`] flag.
    Switch(bool),
}

/// The flags on the command line. A flag that is not there has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Given {
    values: BTreeMap<&'static str, Value>,
    /// What came after the flags and means nothing.
    pub ignored: Vec<String>,
}

impl Given {
    /// The names of the flags that were given.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.values.keys().copied()
    }

    /// Value of a text flag.
    pub fn text(&self, name: &str) -> String {
        match self.value(name) {
            Value::Text(text) => text,
            other => panic!("-{name} is no text but {other:?}"),
        }
    }

    /// Value of a number flag.
    pub fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Number(number) => number,
            other => panic!("-{name} is no number but {other:?}"),
        }
    }

    /// Value of a switch.
    pub fn switch(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Switch(on) => on,
            other => panic!("-{name} is no switch but {other:?}"),
        }
    }

    fn value(&self, name: &str) -> Value {
        self.values.get(name).cloned().unwrap_or_else(|| {
            let flag = find(name).expect("only flags of the table are asked for");
            read(flag.kind, flag.default).expect("the defaults of the table are valid")
        })
    }
}

/// Why a command line cannot be read. Displays as the first line on standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxError {
    /// `-h` or `-help`: not an error for the user, but the end of parsing.
    HelpAsked,
    /// Dashes with nothing, a third dash or `=` after them.
    BadSyntax(String),
    /// A name that is not in the table.
    NotDefined(String),
    /// The last argument is a flag that takes a value.
    NeedsArgument(&'static str),
    /// A value that its flag cannot take.
    Invalid {
        /// The flag.
        flag: &'static str,
        /// Its kind decides the wording.
        kind: Kind,
        /// The refused value.
        value: String,
        /// What is wrong with it.
        reason: Refusal,
    },
}

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is not of this kind at all.
    Syntax,
    /// It has more than 64 bits.
    Range,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyntaxError::HelpAsked => f.write_str("help was asked for"),
            SyntaxError::BadSyntax(argument) => write!(f, "bad flag syntax: {argument}"),
            SyntaxError::NotDefined(name) => write!(f, "flag provided but not defined: -{name}"),
            SyntaxError::NeedsArgument(flag) => write!(f, "flag needs an argument: -{flag}"),
            SyntaxError::Invalid { flag, kind, value, reason } => {
                let reason = match reason {
                    Refusal::Syntax => "parse error",
                    Refusal::Range => "value out of range",
                };
                match kind {
                    Kind::Switch => write!(f, "invalid boolean value {value:?} for -{flag}: {reason}"),
                    _ => write!(f, "invalid value {value:?} for flag -{flag}: {reason}"),
                }
            }
        }
    }
}

impl std::error::Error for SyntaxError {}

/// Reads the arguments after `argv[0]` up to the first that is no flag.
///
/// # Errors
/// The first fault, by 7.1.
pub fn parse_flags(args: &[String]) -> Result<Given, SyntaxError> {
    let mut given = Given::default();
    let mut rest = args.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            break;
        }
        let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
            given.ignored.push(argument.clone());
            break;
        };
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.starts_with(['-', '=']) {
            return Err(SyntaxError::BadSyntax(argument.clone()));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = find(name) else {
            return Err(match name {
                "h" | "help" => SyntaxError::HelpAsked,
                _ => SyntaxError::NotDefined(name.to_owned()),
            });
        };
        let value = match (flag.kind, value) {
            (_, Some(value)) => value,
            (Kind::Switch, None) => "true",
            (_, None) => rest.next().ok_or(SyntaxError::NeedsArgument(flag.name))?,
        };
        let read = read(flag.kind, value).map_err(|reason| SyntaxError::Invalid {
            flag: flag.name,
            kind: flag.kind,
            value: value.to_owned(),
            reason,
        })?;
        given.values.insert(flag.name, read);
    }
    given.ignored.extend(rest.cloned());
    Ok(given)
}

fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

fn read(kind: Kind, text: &str) -> Result<Value, Refusal> {
    match kind {
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Number => read_number(text).map(Value::Number),
        Kind::Switch => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Switch(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Switch(false)),
            _ => Err(Refusal::Syntax),
        },
    }
}

/// Decimal, `0x`, `0o`, `0b`, or octal after a leading `0`; a `_` may stand between digits and after the prefix.
fn read_number(text: &str) -> Result<u64, Refusal> {
    let lower = text.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    // After a prefix the first `_` is allowed: the prefix counts as a digit.
    let digits = if radix == 10 { digits } else { digits.strip_prefix('_').unwrap_or(digits) };
    let mut number = Some(0u64);
    for group in digits.split('_') {
        if group.is_empty() {
            return Err(Refusal::Syntax);
        }
        for digit in group.chars() {
            let digit = digit.to_digit(radix).ok_or(Refusal::Syntax)?;
            number =
                number.and_then(|number| number.checked_mul(radix.into())).and_then(|n| n.checked_add(digit.into()));
        }
    }
    number.ok_or(Refusal::Range)
}
