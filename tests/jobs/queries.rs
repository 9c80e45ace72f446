//! Answers to RPCs, and the jobs that need no Engine.

use super::*;
use crate::util::docker_daemon::Fault;
use reagent::domain::job::{CpuSample, LiveFiles, Query};
use reagent::release::VERSION;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;

#[track_caller]
fn answer(jobs: &Jobs, query: Query) -> Vec<Value> {
    match jobs.perform(JobSpec::Query(query)) {
        Outcome::Answer(args) => args,
        other => panic!("no answer but {other:?}"),
    }
}

/// Serves `body` once to whoever asks; the base URL.
fn published(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://{}", listener.local_addr().expect("its address"));
    let serve = move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        let count = client.read(&mut request).expect("a request");
        assert!(request[..count].starts_with(b"GET /re-agent/availableVersions.json HTTP/1.1\r\n"));
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        client.write_all(format!("{head}{body}").as_bytes()).expect("sent");
    };
    reagent::thread::spawn("published", |_| {}, serve).expect("a thread");
    base
}

#[test]
fn containers_and_images_come_as_the_protocol_has_them() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    assert_eq!(answer(&jobs, Query::Images), Vec::<Value>::new());
    daemon.add_image(IMAGE);
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    let containers = answer(&jobs, Query::Containers);
    assert_eq!(containers.len(), 1, "one list");
    assert_eq!(containers[0][0]["Names"], json!([format!("/{NAME}")]));
    let images = answer(&jobs, Query::Images);
    assert_eq!((images.len(), &images[0]["repoTags"], &images[0]["sharedSize"]), (1, &json!([IMAGE]), &json!(-1)));
    assert!(images[0].get("labels").is_none() && images[0]["id"].is_string(), "{images:?}");
}

#[test]
fn an_engine_that_hangs_delays_the_list_of_images_by_its_own_short_deadline_alone() {
    let daemon = DockerDaemon::start();
    daemon.fault("GET /images/json", Fault::Hang);
    let jobs = Jobs::with(&daemon);
    let outcome = jobs.perform(JobSpec::Query(Query::Images));
    assert!(matches!(outcome, Outcome::EngineGone(_)), "{outcome:?}");
}

#[test]
fn the_metadata_tell_what_is_published_for_the_environment() {
    let daemon = DockerDaemon::start();
    let update_base = published("200 OK", r#"{"production": "1.0.0", "test": "9.9.9", "all": "1.0.0"}"#);
    let jobs = Setup { update_base, ..Setup::of(&daemon) }.spawn();
    let metadata = answer(&jobs, Query::AgentMetadata).remove(0);
    assert_eq!(metadata["latestVersion"], "9.9.9");
    assert_eq!(metadata["latestAgentVersion"], "9.9.9");
    assert_eq!((&metadata["version"], &metadata["hasLatest"]), (&json!(VERSION), &json!(false)));
    assert_eq!((&metadata["serialNumber"], &metadata["canUpdate"]), (&json!("serial"), &json!(true)));
    assert_eq!(metadata["os"], metadata["OSVersion"]);
}

#[test]
fn u2_a_list_that_cannot_be_fetched_leaves_its_keys_out() {
    let daemon = DockerDaemon::start();
    for (status, body) in [("404 Not Found", r#"{"all": "9.9.9"}"#), ("200 OK", "<html>"), ("200 OK", "{}")] {
        let jobs = Setup { update_base: published(status, body), ..Setup::of(&daemon) }.spawn();
        let metadata = answer(&jobs, Query::AgentMetadata).remove(0);
        for key in ["latestVersion", "latestAgentVersion", "latestTunnelVersion", "hasLatest"] {
            assert!(metadata.get(key).is_none(), "{status} {body}: {metadata}");
        }
    }
}

#[test]
fn the_last_lines_of_a_container_follow_what_is_stored_and_no_engine_is_no_error() {
    let daemon = DockerDaemon::start();
    daemon.add_image(IMAGE);
    let jobs = Jobs::with(&daemon);
    assert_eq!(jobs.perform(start(40_001)), Outcome::Done);
    (0..60).for_each(|n| daemon.write_log(NAME, 1, &format!("line {n}")));
    let tail = || Query::Tail { container: NAME.to_owned(), project: None, history: vec!["of the agent".to_owned()] };
    let lines = answer(&jobs, tail()).remove(0);
    let lines = lines.as_array().expect("a list");
    assert_eq!((lines.len(), &lines[0], &lines[1]), (51, &json!("of the agent"), &json!("line 10")));
    daemon.go_down();
    assert_eq!(answer(&jobs, tail()), [json!(["of the agent"])]);
}

#[test]
fn the_last_lines_of_a_project_are_merged_by_time_and_shown_as_compose_shows_them() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    let names = ["web", "side"].map(|service| {
        let name = format!("{NAME}_compose-{service}-1");
        let labels = json!({
            "com.docker.compose.project": format!("{NAME}_compose"), "com.docker.compose.service": service,
            "com.docker.compose.container-number": "1",
        });
        daemon.add_container(&name, &json!({"Image": service, "Labels": labels, "Tty": service == "side"}));
        name
    });
    for n in 0..40 {
        names.iter().for_each(|name| daemon.write_log(name, 1, &format!("line {n}")));
    }
    let project = Some(format!("{NAME}_compose"));
    let tail =
        || Query::Tail { container: NAME.to_owned(), project: project.clone(), history: vec!["said".to_owned()] };
    let lines = answer(&jobs, tail()).remove(0);
    let lines: Vec<&str> = lines.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    assert_eq!(lines[..3], ["said", "web-1   | line 15", "side-1  | line 15"]);
    assert_eq!((lines.len(), lines.last().copied()), (51, Some("side-1  | line 39")));
    daemon.fault("GET /containers/*/logs", Fault::Status(501, "it cannot be read".to_owned()));
    assert_eq!(answer(&jobs, tail()), [json!(["said"])]);
    daemon.go_down();
    assert_eq!(answer(&jobs, tail()), [json!(["said"])]);
}

#[test]
fn addresses_and_statistics_need_no_engine() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    daemon.go_down();
    let all = answer(&jobs, Query::NetworkMetadata);
    assert!(all.contains(&json!({"IP": "127.0.0.1", "Mask": "/wAAAA=="})), "{all:?}");
    let ipv4 = answer(&jobs, Query::Ipv4Addresses);
    let ipv4 = ipv4[0].as_array().expect("one list");
    assert!(ipv4.iter().all(|one| one["interfaceName"].is_string() && one["ip"] != "127.0.0.1"), "{ipv4:?}");
    let Outcome::Platform { os } = jobs.perform(JobSpec::Platform) else { panic!("no platform") };
    assert!(os.starts_with("linux "), "{os}");
    let idle_since_boot = CpuSample { total: 0, busy: 0 };
    let Outcome::Statistics { stats, sample } = jobs.perform(JobSpec::Statistics { previous: Some(idle_since_boot) })
    else {
        panic!("no statistics")
    };
    assert_eq!(stats.as_object().map(|stats| stats.len()), Some(12));
    assert!(stats["cpu_usage"].as_f64() > Some(0.0) && sample.is_some_and(|sample| sample.total > sample.busy));
}

#[test]
fn the_apps_lie_on_the_engines_data_root_which_is_asked_for_once() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    for _ in 0..2 {
        let observed = jobs.perform(JobSpec::Observe { known: BTreeMap::new() });
        assert!(matches!(observed, Outcome::Observed(_)), "{observed:?}");
    }
    let asked = daemon.requests().iter().filter(|request| request.path == "/info").count();
    assert_eq!(asked, 1);
    let Outcome::Statistics { stats, .. } = jobs.perform(JobSpec::Statistics { previous: None }) else {
        panic!("no statistics")
    };
    // The fake Engine's data root is `/`.
    assert_eq!(stats["docker_apps_total"], stats["storage_total"]);
    assert_eq!(stats["docker_apps_mounted"], json!(false));
}

#[test]
fn files_are_written_and_deleted_by_jobs_of_their_own() {
    let daemon = DockerDaemon::start();
    let jobs = Jobs::with(&daemon);
    let folder = || Folder { stage: Stage::Dev, name: "App".to_owned() };
    let remote = vec![("REMOTE_PORT_FOR_22".to_owned(), Some("6000".to_owned()))];
    let files = LiveFiles { folder: folder(), credential: None, only_if_absent: false, remote };
    assert_eq!(jobs.perform(JobSpec::WriteLiveFiles(files)), Outcome::Done);
    let data = jobs.folder.join("apps/dev/app");
    assert_eq!(std::fs::read_to_string(data.join("env/REMOTE_PORT_FOR_22.txt")).expect("the file"), "6000");
    assert_eq!(jobs.perform(JobSpec::DeleteFiles(folder())), Outcome::Done);
    assert!(!data.exists());
    assert_eq!(jobs.perform(JobSpec::DeleteFiles(folder())), Outcome::Done, "there is none");
    let outside = Folder { stage: Stage::Dev, name: "..".to_owned() };
    let outcome = jobs.perform(JobSpec::DeleteFiles(outside));
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert!(jobs.folder.join("apps/dev").exists());
}
