//! The recorded scenes as they are in `tests/golden/recorded`.

use serde_json::{Map, Value};
use std::path::Path;

/// A call in a scene, and what the older agent said until the next one.
#[derive(Default)]
pub struct Part {
    pub args: Vec<Value>,
    pub kwargs: Map<String, Value>,
    pub said: Vec<Value>,
}

/// A scene, cut before each call; the first part is what came before them.
pub fn parts(scene: &str) -> Vec<Part> {
    let mut parts = vec![Part::default()];
    for line in lines(scene) {
        let call = line.get("router").filter(|message| message[0] == 68);
        if let Some(call) = call {
            let (args, kwargs) = (call[4].as_array(), call[5].as_object());
            let (args, kwargs) = (args.cloned().unwrap_or_default(), kwargs.cloned().unwrap_or_default());
            parts.push(Part { args, kwargs, said: Vec::new() });
        }
        let part = parts.last_mut().expect("there is one from the beginning");
        part.said.extend(line.get("agent").cloned());
    }
    parts
}

/// What the older agent said in a scene.
pub fn said(scene: &str) -> Vec<Value> {
    parts(scene).into_iter().flat_map(|part| part.said).collect()
}

/// The value under a key of a `machine` line.
pub fn machine(scene: &str, key: &str) -> Value {
    let mut found = lines(scene).into_iter().filter_map(|line| line["machine"].get(key).cloned());
    found.next().unwrap_or_else(|| panic!("scene {scene} has no machine line for {key}"))
}

fn lines(scene: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recorded").join(format!("{scene}.jsonl"));
    let text = std::fs::read_to_string(path).expect("a recorded scene");
    text.lines().map(|line| serde_json::from_str(line).expect("a recorded line is JSON")).collect()
}
