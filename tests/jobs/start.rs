//! Starting an app.

use super::*;
use crate::util::docker_daemon::{Behaviour, Fault};
use reagent::os::files;
use serde_json::{Value, json};
use std::net::TcpListener;

fn with_image() -> DockerDaemon {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    daemon
}

/// Bodies of the create calls so far.
fn created(daemon: &DockerDaemon) -> Vec<Value> {
    let calls = daemon.requests().into_iter().filter(|asked| asked.path == "/containers/create");
    calls.map(|asked| serde_json::from_slice(&asked.body).expect("JSON")).collect()
}

#[test]
fn a_start_ends_with_a_running_container_and_its_files() {
    let daemon = with_image();
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    assert_eq!(daemon.containers()[NAME], "running");
    let spec = daemon.created_with(NAME).expect("the container");
    let data = jobs.folder.join("apps/prod/app");
    let shared = jobs.folder.join("apps/shared");
    assert_eq!(spec["HostConfig"]["Mounts"][0]["Source"], json!(shared));
    assert_eq!(spec["HostConfig"]["Mounts"][1]["Source"], json!(data));
    assert_eq!(spec["HostConfig"]["PortBindings"]["80/tcp"][0]["HostPort"], "40001");
    let file = data.join("env/GREETING.txt");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "hello");
    assert_eq!([&data, &data.join("env"), &file].map(|path| files::mode(path).unwrap()), [0o755, 0o700, 0o600]);
    let lan: Vec<&str> = spec["Env"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert!(lan.contains(&"GREETING=hello"), "{lan:?}");
    assert_eq!(
        lan.iter().any(|entry| entry.starts_with("DEVICE_LAN_IP=")),
        data.join("env/DEVICE_LAN_IP.txt").exists(),
        "both or none"
    );
}

#[test]
fn a_start_makes_a_container_anew_so_that_it_gets_its_new_environment() {
    let daemon = with_image();
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    let mut again = launch(40_001);
    again.environment = BTreeMap::from([("OTHER".to_owned(), "1".to_owned())]);
    assert_eq!(jobs.perform(JobSpec::Start(Box::new(again))), Outcome::Done);
    let spec = daemon.created_with(NAME).expect("the container");
    assert!(spec["Env"].as_array().expect("a list").contains(&json!("OTHER=1")), "{spec}");
    let env = jobs.folder.join("apps/prod/app/env");
    assert!(env.join("OTHER.txt").exists() && !env.join("GREETING.txt").exists());
}

#[test]
fn without_its_image_nothing_is_created() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(start(40_001)), Outcome::ImageMissing);
    assert!(daemon.containers().is_empty() && !jobs.folder.join("apps").exists());
}

#[test]
fn a_new_port_that_a_program_listens_on_is_told_before_anything_is_created() {
    let daemon = with_image();
    let jobs = Jobs::with(&daemon);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let mut launch = launch(port);
    launch.bindings[0].fresh = true;
    let free = Binding { fresh: true, ..Binding::plain(81, Protocol::Udp, port) };
    launch.bindings.push(free);
    let taken = launch.bindings[0].clone();
    assert_eq!(jobs.perform(JobSpec::Start(Box::new(launch))), Outcome::PortsTaken(vec![taken]));
    assert!(daemon.containers().is_empty());
    assert_eq!(jobs.perform(start(port)), Outcome::Done, "a port that was ours before is not probed");
}

#[test]
fn a_port_conflict_is_told_in_the_words_of_the_engine_and_leaves_no_container() {
    let daemon = with_image();
    daemon.take_port(40_001);
    let jobs = Jobs::with(&daemon);
    let outcome = jobs.perform(start(40_001));
    assert!(matches!(&outcome, Outcome::PortConflict(text) if text.contains("0.0.0.0:40001")), "{outcome:?}");
    assert!(daemon.containers().is_empty());
}

#[test]
fn a_gpu_runtime_that_fails_is_left_out_at_the_second_try() {
    let daemon = with_image();
    let text = "nvidia-container-cli: initialization error: driver not loaded";
    daemon.behave(IMAGE, Behaviour { start_error: Some(text.to_owned()), ..Behaviour::default() });
    let jobs = Setup { has_gpu: || true, ..Setup::of(&daemon) }.spawn();
    assert_eq!(jobs.perform(start(40_001)), Outcome::Failed(text.to_owned()));
    let runtimes: Vec<Value> = created(&daemon).iter().map(|body| body["HostConfig"]["Runtime"].clone()).collect();
    assert_eq!(runtimes, [json!("nvidia"), Value::Null]);
}

#[test]
fn an_app_that_only_has_nvidia_in_its_name_is_not_started_twice() {
    let daemon = with_image();
    let text = "exec: \"nvidia-app\": not found";
    daemon.behave(IMAGE, Behaviour { start_error: Some(text.to_owned()), ..Behaviour::default() });
    let jobs = Setup { has_gpu: || true, ..Setup::of(&daemon) }.spawn();
    assert_eq!(jobs.perform(start(40_001)), Outcome::Failed(text.to_owned()));
    assert_eq!(created(&daemon).len(), 1);
}

#[test]
fn an_app_that_ends_at_once_has_failed_with_its_exit_code() {
    let daemon = with_image();
    daemon.behave(IMAGE, Behaviour { exits: Some(3), ..Behaviour::default() });
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(start(40_001)), Outcome::Failed("it ended at once with exit code 3".to_owned()));
}

#[test]
fn on_trial_the_reason_has_the_last_line_that_was_written_if_there_is_one() {
    let daemon = with_image();
    let jobs = Jobs::with(&daemon);
    let on_trial = || JobSpec::Start(Box::new(Launch { on_trial: true, ..launch(40_001) }));
    let long = "x".repeat(300);
    for (lines, why) in [
        (vec![], "it ended at once with exit code 3".to_owned()),
        (vec!["one", "no such file"], "it ended at once with exit code 3: no such file".to_owned()),
        (vec![long.as_str()], format!("it ended at once with exit code 3: {}", &long[..200])),
    ] {
        let log = lines.into_iter().map(str::to_owned).collect();
        daemon.behave(IMAGE, Behaviour { exits: Some(3), log, ..Behaviour::default() });
        assert_eq!(jobs.perform(on_trial()), Outcome::Failed(why));
    }
}

#[test]
fn a_look_at_a_release_on_trial_tells_its_last_line_once_it_has_ended() {
    let daemon = with_image();
    let jobs = Jobs::with(&daemon);
    let prove = |name: &str| match jobs.perform(JobSpec::Prove { container: name.to_owned() }) {
        Outcome::Looked(seen) => seen,
        other => panic!("not seen but {other:?}"),
    };
    assert_eq!(prove(NAME), None);
    daemon.behave(IMAGE, Behaviour { log: vec!["one".to_owned(), "out of coffee".to_owned()], ..Behaviour::default() });
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    assert_eq!(prove(NAME).unwrap().last_line, "", "it runs");
    daemon.exit_container(NAME, 7);
    let ended = prove(NAME).unwrap();
    assert_eq!((ended.exit_code, ended.last_line.as_str()), (7, "out of coffee"));
    let looked = jobs.perform(JobSpec::Look { container: NAME.to_owned() });
    let Outcome::Looked(Some(looked)) = looked else { panic!("not seen but {looked:?}") };
    assert_eq!(looked.last_line, "", "nobody asked");
}

#[test]
fn d1_an_engine_that_hangs_is_gone_within_its_deadline() {
    let daemon = with_image();
    let short = Setup::of(&daemon).docker.within(Duration::from_millis(300));
    let jobs = Setup { docker: short, ..Setup::of(&daemon) }.spawn();
    for route in ["GET /images/*/*/*/json", "POST /containers/create", "POST /containers/*/start"] {
        daemon.fault(route, Fault::Hang);
        let outcome = jobs.perform(start(40_001));
        assert!(matches!(outcome, Outcome::EngineGone(_)), "{route}: {outcome:?}");
        daemon.heal();
    }
    daemon.go_down();
    assert!(matches!(jobs.perform(start(40_001)), Outcome::EngineGone(_)));
}

#[test]
fn a_start_that_waits_for_its_container_is_cancelled_at_once() {
    let daemon = with_image();
    let jobs = Jobs::with(&daemon);
    daemon.fault("POST /containers/*/start", Fault::Status(304, String::new()));
    jobs.handle.start(1, start(40_001));
    daemon.wait_for_request("GET /containers/*/json", 2);
    jobs.handle.cancel(1);
    assert_eq!(jobs.wait_for_end(1), Outcome::Cancelled);
}
