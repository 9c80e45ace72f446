//! Variables of every kind: what is inside the container is what was sent, with the escapes of `apps.md` 1.8.

use super::{Ground, project, sleeper};
use crate::cloud::wanted::WantedApp;
use crate::real::stage::SOON;
use crate::util::wait_until;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Name, value as sent, and as it has to be inside; `None`: not there.
fn odd() -> Vec<(String, Value, Option<String>)> {
    let same = |name: &str, value: &str| (name.to_owned(), json!(value), Some(value.to_owned()));
    let mut all = vec![
        same("EMPTY", ""),
        same("SPACES", "  a b  "),
        same("HASH", "a #b # c"),
        same("DOLLAR", "$HOME ${HOME} $$ $(id) ${X:-y}"),
        same("SINGLE", "it's 'quoted'"),
        same("DOUBLE", "say \"hi\""),
        same("BACKSLASH", "C:\\new\\table \\n \\\\"),
        same("ENDS_BACKSLASH", "a\\"),
        same("BOTH", "'\"$\\'\""),
        same("EQUALS", "=a=b="),
        same("UNICODE", "grüße 日本 🙂"),
        same("BACKTICK", "`id` !history ~"),
        same("JSON", "{\"a\": [1, \"b c\", null]}"),
        same("BIG", &"x".repeat(20_000)),
        same("lower.dot-dash", "odd but readable"),
    ];
    all.push(("LINES".to_owned(), json!("a\nb\tc\rd"), Some("a\\nb\\tc\\rd".to_owned())));
    all.push(("NUMBER".to_owned(), json!(1_000_000), Some("1000000".to_owned())));
    all.push(("YES".to_owned(), json!(true), Some("true".to_owned())));
    all.push(("OBJECT".to_owned(), json!({"a": 1}), Some("{\"a\":1}".to_owned())));
    all.push(("NOTHING".to_owned(), Value::Null, Some("<nil>".to_owned())));
    all.extend((0..300).map(|n| same(&format!("MANY_{n}"), &format!("value {n}"))));
    all
}

/// The variables of the first process of a container.
fn inside(ground: &Ground, container: &str) -> BTreeMap<String, String> {
    let output = ground.stage.docker.try_run(&["exec", container, "cat", "/proc/1/environ"]);
    assert!(output.status.success(), "{output:?}");
    let pairs = output.stdout.split(|byte| *byte == 0).map(|pair| String::from_utf8_lossy(pair).into_owned());
    pairs.filter_map(|pair| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))).collect()
}

#[test]
fn x2_variables_of_every_kind_arrive_as_they_were_sent_and_odd_ones_block_no_app() {
    let ground = Ground::start();
    let plain = WantedApp::new(7740, "variables");
    let composed = WantedApp::new(7741, "variablesc").compose(project(&sleeper()));
    ground.publish(&plain, "1.0.0");
    let mut apps = [plain, composed];
    for app in &mut apps {
        for (name, value, _) in odd() {
            app.environment.insert(name, json!({"value": value}));
        }
        // What cannot be: reserved names, what is no name, no entry, more than a list of variables may have.
        for name in ["APP_AUTH_ID", "APP_AUTH_SECRET"] {
            app.environment.insert(name.to_owned(), json!({"value": "forged"}));
        }
        for name in ["two words", "#COMMENT", "", "TAB\tTAB", "a=b", "../../escape", "LINE\nFEED"] {
            app.environment.insert(name.to_owned(), json!({"value": "odd"}));
        }
        app.environment.insert("NO_ENTRY".to_owned(), json!("text"));
        app.environment.insert("HUGE".to_owned(), json!({"value": "y".repeat(21_000)}));
    }
    ground.all_reach(&apps, "RUNNING", "RUNNING");
    for (app, container) in apps.iter().zip(["prod_7740_variables", "prod_7741_variablesc_compose-web-1"]) {
        let seen = inside(&ground, container);
        for (name, _, expected) in odd() {
            assert_eq!(seen.get(&name), expected.as_ref(), "{name} of {container}");
        }
        assert_eq!(
            seen["APP_AUTH_ID"],
            format!("app-{}-prod-e1@{}", app.app_key, ground.stage.backend.identity.serial)
        );
        assert!(seen["APP_AUTH_SECRET"] != "forged");
        assert_eq!(seen.get("NO_ENTRY"), None);
        let data = ground.stage.agent.apps_dir().join("prod").join(app.name.to_lowercase());
        let huge = std::fs::read_to_string(data.join("env/HUGE.txt")).expect("the file has what the list has not");
        assert_eq!(huge.len(), 21_000);
        assert_eq!(std::fs::read_to_string(data.join("env/BACKSLASH.txt")).expect("a file"), "C:\\new\\table \\n \\\\");
        assert!(!data.join("escape.txt").exists() && !ground.stage.agent.apps_dir().join("escape.txt").exists());
    }
    // The next request has other ones.
    for app in &mut apps {
        app.environment.clear();
        app.environment.insert("ONLY".to_owned(), json!({"value": "one"}));
    }
    ground.all_reach(&apps, "PRESENT", "PRESENT");
    ground.all_reach(&apps, "RUNNING", "RUNNING");
    for container in ["prod_7740_variables", "prod_7741_variablesc_compose-web-1"] {
        let seen = inside(&ground, container);
        assert_eq!(seen.get("ONLY").map(String::as_str), Some("one"));
        assert!(!seen.contains_key("MANY_0"));
    }
    let env = ground.stage.agent.apps_dir().join("prod/variables/env");
    wait_until(SOON, "files of variables that are no more go", || (!env.join("MANY_0.txt").exists()).then_some(()));
    ground.all_go(&apps);
}
