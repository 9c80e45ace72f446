//! The arguments of `write_data` (wire chapter 4.2, storage chapter 7.3): types, and names that lead nowhere else.

use crate::domain::names;
use crate::domain::number;
use crate::domain::transfer::{Message, Word};
use serde_json::Value;

/// The longest id of a transfer, in bytes; senders use UUIDs.
const ID: usize = 256;
/// The longest container name, in bytes: stage, key, and the longest name of an app.
const CONTAINER: usize = 160;

/// Takes the five positional arguments; further ones are ignored.
///
/// # Errors
/// The text for the caller.
pub fn message(mut args: Vec<Value>) -> Result<Message, String> {
    if matches!(args.as_slice(), [] | [Value::Null]) {
        return Err("missing arguments: chunk, file name, container name, total, transfer id".to_owned());
    }
    args.truncate(5);
    let [chunk, file, container, total, id] = <[Value; 5]>::try_from(args).map_err(|args| {
        format!("{} arguments of 5: chunk, file name, container name, total, transfer id", args.len())
    })?;
    let file = text(file, "file name")?;
    let chunk = text(chunk, "chunk")?;
    let container = text(container, "container name")?;
    let total = number::uint(&total).ok_or("failed to parse total: not an unsigned integer")?;
    let id = text(id, "transfer id")?;
    if !names::is_path_part(&file) || names::whole_of_part(&file).is_some() {
        return Err(format!("failed to parse file name: {:?} is not the plain name of an archive", shortened(&file)));
    }
    let Some(container) = normalised(&container) else {
        let name = shortened(&container);
        return Err(format!("failed to parse container name: {name:?} is not of the form dev_<key>_<name>"));
    };
    if id.len() > ID {
        return Err(format!("failed to parse transfer id: longer than {ID} bytes"));
    }
    let word = match chunk.as_str() {
        "BEGIN" => Word::Begin,
        "END" => Word::End,
        _ => Word::Data(chunk),
    };
    Ok(Message { word, file, container, total, id })
}

/// The container of a call, if it has one of those that [`message`] takes.
pub fn container(args: &[Value]) -> Option<String> {
    args.get(2).and_then(Value::as_str).and_then(normalised)
}

fn text(value: Value, what: &str) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(format!("failed to parse {what}: not a string")),
    }
}

/// In lower case, as all names of containers and topics are.
fn normalised(name: &str) -> Option<String> {
    let name = Some(name).filter(|name| name.len() <= CONTAINER)?.to_lowercase();
    let is_of_sources = name.starts_with("dev_") || name.starts_with("pub_");
    let app = names::parse_container(&name).filter(|_| is_of_sources)?.name;
    // It becomes a part of a topic: what no router takes in a URI would cost the session.
    let is_uri = name.split('.').all(|part| !part.is_empty())
        && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#');
    (is_uri && names::is_path_part(&app)).then_some(name)
}

fn shortened(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn decoded(args: Value) -> Result<Message, String> {
        message(args.as_array().cloned().unwrap_or_default())
    }

    #[test]
    fn five_arguments_are_a_message() {
        let of = |word, total| Message {
            word,
            file: "Demo.tgz".to_owned(),
            container: "dev_7_demo".to_owned(),
            total,
            id: "t".to_owned(),
        };
        for (chunk, total, expected) in [
            ("BEGIN", json!(5), of(Word::Begin, 5)),
            ("00ff", json!(5.0), of(Word::Data("00ff".to_owned()), 5)),
            ("begin", json!(0), of(Word::Data("begin".to_owned()), 0)),
            ("END", json!(u64::MAX), of(Word::End, u64::MAX)),
        ] {
            let args = json!([chunk, "Demo.tgz", "dev_7_Demo", total, "t", "more"]);
            assert_eq!(container(args.as_array().unwrap()).as_deref(), Some("dev_7_demo"));
            assert_eq!(decoded(args), Ok(expected));
        }
    }

    #[test]
    fn p2_fewer_arguments_and_other_types_are_named() {
        let good = json!(["BEGIN", "demo.tgz", "dev_7_demo", 5, "t"]);
        for count in 0..5 {
            let told = message(good.as_array().unwrap()[..count].to_vec()).unwrap_err();
            assert!(told.contains("chunk, file name, container name, total, transfer id"), "{told}");
        }
        assert!(decoded(json!([null])).unwrap_err().starts_with("missing arguments"));
        for (at, what) in [(0, "chunk"), (1, "file name"), (2, "container name"), (3, "total"), (4, "transfer id")] {
            for wrong in [json!(null), json!(true), json!(-1), json!([]), json!({"a": 1}), json!(1.5)] {
                let mut args = good.clone();
                args[at] = wrong.clone();
                let told = decoded(args).unwrap_err();
                assert!(told.starts_with(&format!("failed to parse {what}")), "{wrong}: {told}");
            }
        }
        let told = decoded(json!([1, 2, 3, "4", 5])).unwrap_err();
        assert!(told.starts_with("failed to parse file name"), "the name comes first: {told}");
    }

    #[test]
    fn d6_a_total_that_is_text_is_no_total() {
        assert!(decoded(json!(["BEGIN", "demo.tgz", "dev_7_demo", "5", "t"])).is_err());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let long = "x".repeat(129);
        let files = [
            "",
            ".",
            "..",
            "../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "a\0b",
            "a\nb.tgz",
            "a\rb.tgz",
            "\x1b[2Ja.tgz",
            ".hidden",
            &long,
            "demo.tgz.part-7",
        ];
        for file in files {
            let told = decoded(json!(["BEGIN", file, "dev_7_demo", 5, "t"])).unwrap_err();
            assert!(told.starts_with("failed to parse file name"), "{file:?}: {told}");
        }
        let containers = [
            "",
            "dev_7",
            "dev_x_demo",
            "prod_7_demo",
            "x_7_demo",
            "/dev_7_demo",
            "dev_7_",
            "dev_7_../x",
            "dev_7_a/b",
            "dev_7_a..b",
            "dev_7_a.",
            "dev_7_a b",
            "dev_7_a#b",
            "dev_7_a\nb",
            "dev_7_a\0b",
            "dev_7_a\x1bb",
            "dev_7_a\u{7f}b",
            &format!("dev_7_{long}"),
        ];
        for name in containers {
            let told = decoded(json!(["BEGIN", "demo.tgz", name, 5, "t"])).unwrap_err();
            assert!(told.starts_with("failed to parse container name"), "{name:?}: {told}");
            assert_eq!(container(&[json!("BEGIN"), json!("demo.tgz"), json!(name)]), None);
        }
        assert!(decoded(json!(["BEGIN", "demo.tgz", "pub_7_my.net_data-1", 5, "t"])).is_ok());
        assert!(decoded(json!(["BEGIN", "demo.tgz", "dev_7_demo", 5, "t".repeat(257)])).is_err());
    }
}
