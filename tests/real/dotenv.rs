//! What both generations of compose make of the files that the agent writes: `config` shows it, without an engine.

use super::script;
use crate::util::TempDir;
use reagent::domain::compose::{self, Dialect};
use reagent::domain::ports::{Binding, Protocol};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

const BOTH: [Dialect; 2] = [Dialect::V2, Dialect::V1];

/// What `config` says of a definition and the variables of its environment file.
#[track_caller]
fn config(dialect: Dialect, mut definition: Value, environment: &str) -> Value {
    let folder = TempDir::new("compose");
    std::fs::write(folder.join(".env-compose"), environment).unwrap();
    if dialect == Dialect::V1 {
        compose::for_version_1(&mut definition);
    }
    let file = folder.join("docker-compose.json");
    std::fs::write(&file, definition.to_string()).unwrap();
    let (program, before, after) = match dialect {
        Dialect::V2 => (script("compose.sh", &["v2"], &[]), &[][..], &["config", "--format", "json"][..]),
        Dialect::V1 => (script("compose.sh", &["v1"], &[]), &["-p", "prod_1_demo_compose"][..], &["config"][..]),
    };
    let output =
        Command::new(&program).args(before).arg("-f").arg(&file).args(after).current_dir(folder.path()).output();
    let output = output.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{dialect:?} refuses it: {errors}\n{definition:#}");
    assert!(!errors.contains("could not parse"), "{dialect:?}: {errors}");
    match dialect {
        Dialect::V2 => serde_json::from_slice(&output.stdout).unwrap(),
        Dialect::V1 => from_yaml(Path::new(&program), &output.stdout),
    }
}

/// Reads YAML with the library that compose 1.29 came with; every scalar is a text.
fn from_yaml(program: &Path, yaml: &[u8]) -> Value {
    let modules = program.ancestors().nth(2).unwrap().join("root/usr/lib/python3/dist-packages");
    let read = "import json, sys, yaml; json.dump(yaml.load(sys.stdin.buffer, yaml.BaseLoader), sys.stdout)";
    let mut python = Command::new("/usr/bin/python3");
    let python = python.args(["-c", read]).env("PYTHONPATH", modules).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().unwrap();
    child.stdin.take().unwrap().write_all(yaml).unwrap();
    serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
}

/// What a container would get of these variables.
#[track_caller]
fn arrived(dialect: Dialect, variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let (text, _) = compose::dotenv(variables, dialect);
    let authored = json!({"services": {"web": {"image": "web:1"}}});
    let definition = compose::generate(&authored, "prod_1_demo_compose", &[]).unwrap().definition;
    let shown = config(dialect, definition, &text);
    let environment = shown["services"]["web"]["environment"].as_object().unwrap().clone();
    // `config` writes a definition: a dollar in it is two.
    environment.into_iter().map(|(name, value)| (name, value.as_str().unwrap().replace("$$", "$"))).collect()
}

/// Each of the variables arrives as it is, with both.
#[track_caller]
fn assert_arrive(variables: &BTreeMap<String, String>) {
    for dialect in BOTH {
        let got = arrived(dialect, variables);
        let differs = variables.iter().filter(|(name, value)| got.get(*name) != Some(value));
        let differs: Vec<_> = differs.map(|(name, value)| (value, got.get(name))).collect();
        assert!(differs.is_empty() && got.len() == variables.len(), "{dialect:?} changes values: {differs:?}");
    }
}

fn numbered(values: impl IntoIterator<Item = String>) -> BTreeMap<String, String> {
    values.into_iter().enumerate().map(|(n, value)| (format!("K{n}"), value)).collect()
}

#[test]
fn x2_values_reach_a_compose_app_as_they_are() {
    let long = "x".repeat(30_000);
    let odd = [
        "",
        "plain",
        "a b",
        " lead",
        "trail ",
        "a # b",
        "#x",
        "a#b",
        "$HOME",
        "${HOME}",
        "a ${HOME} b",
        "${X:-d}",
        "$$",
        "a$",
        "$(x)",
        "it's",
        "say \"hi\"",
        "\"q\"",
        "'q'",
        "\"",
        "'",
        "a\\",
        "a\\\\",
        "\\",
        "'\\",
        "\"\\",
        "a b\\",
        "#\\",
        "${X}\\",
        "\\n",
        "c:\\new\\table",
        "\\$X",
        "\\'",
        "\\\"",
        "a=b",
        "=",
        "ünïcode ☃ 日本",
        "a\u{a0}b",
        "\u{2028}",
        "`x`",
        "!x",
        "%s",
        "a: b",
        "{}",
        "[1]",
        "null",
        "true",
        "1e6",
        "<nil>",
        "~",
        "-",
        "export A=1",
        &long,
    ];
    let variables = numbered(odd.map(str::to_owned));
    assert_arrive(&variables);
}

#[test]
fn x2_every_row_of_three_odd_characters_reaches_a_compose_app() {
    let odd = &["", " ", "#", "$", "{", "}", "'", "\"", "\\", "a"];
    let rows = odd.iter().flat_map(|a| odd.iter().flat_map(move |b| odd.iter().map(move |c| format!("{a}{b}{c}"))));
    let variables = numbered(rows);
    assert_arrive(&variables);
}

#[test]
fn x2_no_name_of_a_variable_makes_compose_refuse_the_file() {
    let odd = [
        "A", "a.B", "A-B", "A[0]", "1A", "_", "export", "A B", "#A", "", "A/B", "A:B", "A'B", "'A'", "\"A\"", "A\\B",
        "$A", "~A", "A,B", "Ä", "A\u{a0}B", "\tA\t", "A\nB", "A\rB", "☃", "²", "A;B", "A`B",
    ];
    let variables: BTreeMap<String, String> = odd.iter().map(|name| ((*name).to_owned(), "v".to_owned())).collect();
    for dialect in BOTH {
        let names: Vec<String> = arrived(dialect, &variables).into_keys().collect();
        assert_eq!(names, ["1A", "A", "A-B", "A[0]", "_", "a.B", "export"], "{dialect:?}");
    }
}

#[test]
fn a_generated_definition_is_taken_by_both() {
    let authored = json!({"services": {
        "web": {
            "image": "web:1", "ports": ["8080:80", 81, {"target": 82, "published": 8082, "protocol": "udp"}], "x-source-image": "base:1",
            "volumes": ["data:/keep"], "extra_hosts": {"db": "10.0.0.1"},
        },
        "side": {"image": "web:1", "network_mode": "service:web"},
        "host": {"image": "web:1", "network_mode": "host", "ports": ["9000:9000"]},
    }, "volumes": {"data": {}}});
    let binding = |declared, port, protocol, host_port| Binding {
        service: "web".to_owned(),
        declared,
        ..Binding::plain(port, protocol, host_port)
    };
    let bindings = [binding(8080, 80, Protocol::Tcp, 40_000), binding(8082, 82, Protocol::Udp, 40_001)];
    let mut definition = compose::generate(&authored, "prod_1_demo_compose", &bindings).unwrap().definition;
    compose::mount_environment(&mut definition, "/srv/a$b/env");
    let [two, one] = BOTH.map(|dialect| config(dialect, definition.clone(), "A=1\n"));
    assert_eq!(two["name"], "prod_1_demo_compose");
    let published: Vec<String> = two["services"]["web"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| format!("{} {} {} {}", port["host_ip"], port["published"], port["target"], port["protocol"]))
        .collect();
    let quoted = ["\"0.0.0.0\" \"40000\" 80 \"tcp\"", "null null 81 \"tcp\"", "\"0.0.0.0\" \"40001\" 82 \"udp\""];
    assert_eq!(published, quoted);
    let short: Vec<&str> =
        one["services"]["web"]["ports"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(short, ["0.0.0.0:40000:80/tcp", "0.0.0.0:40001:82/udp"], "{one:#}");
    for shown in [&two, &one] {
        let web = &shown["services"]["web"];
        assert_eq!(web["environment"]["A"], "1");
        assert!(web["volumes"].to_string().contains("/srv/a$"), "{web:#}");
        assert!(web["extra_hosts"].to_string().contains("host-gateway"), "{web:#}");
        assert_eq!(shown["services"]["side"].get("extra_hosts"), None);
    }
}
