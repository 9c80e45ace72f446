//! Compose files that say what they should not, and apps whose names are odd.

use super::{Ground, Row, fails, project, runs, sleeper};
use crate::cloud::wanted::WantedApp;
use serde_json::{Value, json};

fn with(key: &str, value: Value) -> Value {
    let mut service = sleeper();
    service[key] = value;
    service
}

/// Apps from this key on, one for each definition.
fn bad(key: u64, rows: Vec<(&'static str, Value, &'static [&'static str])>) -> Vec<Row> {
    let row = |(n, (what, definition, says)): (usize, (&'static str, Value, &'static [&'static str]))| {
        let app = WantedApp::new(key + n as u64, &format!("bad{n}")).compose(definition);
        fails(what, app, says)
    };
    rows.into_iter().enumerate().map(row).collect()
}

#[test]
fn a_definition_that_cannot_be_used_fails_with_its_reason_and_a_good_one_mends_it() {
    let ground = Ground::start();
    let without = |key: &str| {
        let mut service = sleeper();
        service.as_object_mut().expect("an object").remove(key);
        service
    };
    let rows = bad(
        7610,
        vec![
            ("no services", json!({}), &["services"]),
            ("services are a list", json!({"services": []}), &["services"]),
            ("a service is a text", json!({"services": {"web": "busybox"}}), &["web"]),
            ("neither image nor build", project(&without("image")), &["image", "build"]),
            ("an unknown key", project(&with("imagine", json!(1))), &["imagine"]),
            ("a bad port", project(&with("ports", json!(["eighty"]))), &["port"]),
            ("a port over 65535", project(&with("ports", json!(["70000:80"]))), &["port"]),
            (
                "it exits at once",
                project(&with("command", json!(["sh", "-c", "echo the last words; exit 7"]))),
                &["the last words", "web", "code 7"],
            ),
            (
                "services wait for each other",
                json!({"services": {"a": with("depends_on", json!(["b"])), "b": with("depends_on", json!(["a"]))}}),
                &["cycle"],
            ),
            (
                "an unknown network driver",
                json!({"services": {"web": sleeper()}, "networks": {"default": {"driver": "carrier-pigeon"}}}),
                &["carrier-pigeon"],
            ),
            ("a source without image", project(&json!({"x-source-image": "busybox:local"})), &["image", "build"]),
            ("a build without sources", project(&json!({"build": "."})), &["web"]),
            ("an unknown volume", project(&with("volumes", json!(["nowhere:/data/x"]))), &["nowhere"]),
            ("a command that is not there", project(&with("command", json!(["/bin/nothing"]))), &["/bin/nothing"]),
        ],
    );
    ground.all_end(&rows);
    ground.mended_all_run(&rows, |app| app.clone().compose(project(&sleeper())));
}

#[test]
fn two_services_that_declare_one_host_port_both_run() {
    let ground = Ground::start();
    let service = with("ports", json!(["8080:80"]));
    let twice = with("ports", json!(["8081:80", "8081:81"]));
    let rows = [
        runs(
            "one host port of two services",
            WantedApp::new(7630, "ports").compose(json!({"services": {"a": service, "b": service}})),
            &[],
        ),
        runs("one host port twice in a service", WantedApp::new(7631, "twice").compose(project(&twice)), &[]),
    ];
    ground.all_end(&rows);
    assert_eq!(ground.containers_of(&rows[0].app).len(), 2);
    ground.all_go(&rows.map(|row| row.app));
}

#[test]
fn odd_names_run_as_projects_or_are_refused_with_the_reason() {
    let ground = Ground::start();
    let long = "n".repeat(128);
    let names = [
        "my.app",
        "two words",
        "UPPER",
        "has#hash",
        "two..dots",
        "übergröße",
        "日本",
        &long,
        "-dash",
        "under_score",
        "quo\"te'$x",
        "a%b",
    ];
    let rows: Vec<Row> = (7640..)
        .zip(names)
        .map(|(key, name)| runs("a project", WantedApp::new(key, name).compose(project(&sleeper())), &[]))
        .collect();
    ground.all_end(&rows);
    ground.all_go(&rows.into_iter().map(|row| row.app).collect::<Vec<_>>());
    let refused: Vec<Row> = (7660..)
        .zip([".hidden", "a/b", "../../escape", &"n".repeat(129), ".", "..", "two\nlines", "a\tb", "\x1b[31mred"])
        .map(|(key, name)| {
            fails(
                "no directory",
                WantedApp::new(key, name).compose(project(&sleeper())),
                &["cannot be the name of a directory"],
            )
        })
        .collect();
    ground.all_end(&refused);
    let agent = &ground.stage.agent;
    for folder in [agent.folder.path().to_owned(), agent.apps_dir(), agent.apps_dir().join("compose")] {
        let entries = std::fs::read_dir(&folder).expect("it is there");
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let odd: Vec<String> =
            names.filter(|name| name.contains("escape") || name.contains(char::is_control)).collect();
        assert!(odd.is_empty(), "{}: {odd:?}", folder.display());
    }
    let broken = agent.log().lines().find(|line| serde_json::from_str::<Value>(line).is_err()).map(str::to_owned);
    assert_eq!(broken, None, "a name breaks no line of the agent's log");
    let plain: Vec<Row> = (7670..)
        .zip(["two words", "übergröße", "-dash"])
        .map(|(key, name)| fails("no image name", WantedApp::new(key, name), &["invalid reference format"]))
        .collect();
    ground.all_end(&plain);
    ground.all_go(&refused.into_iter().chain(plain).map(|row| row.app).collect::<Vec<_>>());
}

#[test]
fn an_app_that_ends_says_its_last_words_its_exit_code_and_whether_it_lacked_memory() {
    let ground = Ground::start();
    let (at_once, later) = (WantedApp::new(7680, "atonce"), WantedApp::new(7681, "later"));
    ground.stage.push(&at_once, "1.0.0", "exits");
    ground.stage.push(&later, "1.0.0", "fails");
    let mut greedy = with("command", json!(["sh", "-c", "sleep 2; echo the last words; tail /dev/zero"]));
    greedy["mem_limit"] = json!("8m");
    let rows = [
        fails("it ends at once", at_once, &["ends at once", "code 3"]),
        fails("it ends after two seconds", later, &["about to fail", "code 3"]),
        fails(
            "it wants more memory than there is",
            WantedApp::new(7682, "greedy").compose(project(&greedy)),
            &["the last words", "code 137", "memory"],
        ),
    ];
    ground.all_end(&rows);
    ground.all_go(&rows.map(|row| row.app));
}
