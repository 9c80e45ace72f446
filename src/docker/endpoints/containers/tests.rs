//! Each call against the recorded answer of a real Engine: what it asks, and what it reads.

use super::*;
use crate::docker::scripted::{Answer, LIMIT, Scripted, golden, json};
use crate::docker::stream::{LogLine, Source};
use crate::docker::{ApiVersion, MAX_VERSION, Reference, RegistryAuth};
use crate::secret::Secret;

fn engine(name: &str, answers: &[&str]) -> Scripted {
    Scripted::new(name, answers.iter().map(|answer| Answer::Close(golden(answer))).collect())
}

/// The first line of the next request, without the HTTP version.
fn asked(engine: &Scripted) -> String {
    engine.request().lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned()
}

#[test]
fn a_list_has_names_states_labels_and_ports() {
    let engine = engine("list", &["list", "list"]);
    let all = engine.docker.list_containers(Which::All, &Filters::none().with("label", "real=True")).unwrap();
    assert_eq!(asked(&engine), "GET /v1.41/containers/json?all=1&filters=%7B%22label%22%3A%5B%22real%3DTrue%22%5D%7D");
    let names: Vec<_> = all.iter().map(ContainerSummary::name).collect();
    assert_eq!(names, ["g_port", "g_plain", "g_tty"]);
    assert_eq!((all[0].state.as_str(), all[1].state.as_str()), ("running", "exited"));
    assert!(all[1].status.starts_with("Exited (3)"), "{}", all[1].status);
    assert_eq!((all[0].ports[0].private_port, all[0].ports[0].public_port), (80, 18080));
    assert_eq!(all[0].host_config.network_mode, "bridge");
    assert_eq!(all[0].labels["real"], "True");
    let raw = engine.docker.list_containers_raw(Which::Running, &Filters::none()).unwrap();
    assert_eq!(asked(&engine), "GET /v1.41/containers/json");
    assert_eq!(raw[0]["Names"][0], "/g_port");
    assert!(raw[0]["NetworkSettings"].is_object(), "fields that nobody reads are passed through");
}

#[test]
fn inspection_shows_state_configuration_and_bindings() {
    let engine = engine("inspect", &["inspect-running", "inspect-exited"]);
    let running = engine.docker.inspect_container("g_port").unwrap();
    assert_eq!(asked(&engine), "GET /v1.41/containers/g_port/json");
    assert_eq!((running.name(), running.state.status.as_str(), running.state.running), ("g_port", "running", true));
    assert!(running.config.tty && running.state.health.is_none());
    let binding = PortBinding { host_ip: "0.0.0.0".into(), host_port: "18080".into() };
    assert_eq!(running.host_config.port_bindings["80/tcp"], [binding]);
    assert!(running.config.env.0.contains(&"A=1".to_owned()));
    let exited = engine.docker.inspect_container("g_plain").unwrap();
    assert_eq!((exited.state.exit_code, exited.state.oom_killed, exited.config.tty), (3, false, false));
    assert!(crate::clock::Wall::parse(&exited.state.finished_at).is_some(), "{}", exited.state.finished_at);
    assert!(exited.host_config.port_bindings.is_empty());
}

#[test]
fn null_lists_and_maps_are_empty() {
    let body = r#"{"Id":"1","Name":"/x","Image":null,"Created":null,"Config":{"Env":null,"Labels":null,"Image":"i"},
        "State":{"Status":"dead","Error":null,"Health":null},"HostConfig":{"PortBindings":{"80/tcp":null},"Binds":null}}"#;
    let engine = Scripted::new("null", vec![Answer::Close(json(body))]);
    let container = engine.docker.inspect_container("x").unwrap();
    assert!(container.config.env.0.is_empty() && container.config.labels.is_empty());
    assert_eq!(container.host_config.port_bindings["80/tcp"], []);
}

#[test]
fn a_container_is_found_by_its_exact_name_and_not_by_the_start_of_an_id() {
    let engine = engine("find", &["inspect-running", "inspect-running", "inspect-404", "create-name-in-use"]);
    assert_eq!(engine.docker.find_container("g_port").unwrap().unwrap().name(), "g_port");
    assert_eq!(engine.docker.find_container("abc"), Ok(None), "the Engine took abc for the start of an id");
    assert_eq!(engine.docker.find_container("absent"), Ok(None));
    assert_eq!(engine.docker.find_container("x").unwrap_err().status(), Some(409));
    assert_eq!(engine.docker.find_container(""), Ok(None));
}

#[test]
fn creating_names_the_container_and_its_refusals_are_told_apart() {
    let engine = engine("create", &["create", "create-name-in-use", "create-no-image"]);
    let spec = ContainerSpec { image: "busybox:local".into(), ..ContainerSpec::default() };
    let id = engine.docker.create_container("g tty", &spec).unwrap();
    assert_eq!(id.len(), 64);
    let request = engine.request();
    assert!(request.starts_with("POST /v1.41/containers/create?name=g%20tty HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(&serde_json::to_string(&spec).unwrap()), "{request}");
    let in_use = engine.docker.create_container("g_tty", &spec).unwrap_err();
    assert!(in_use.is_name_in_use() && !in_use.is_not_found() && !in_use.is_removal_in_progress());
    let no_image = engine.docker.create_container("x", &spec).unwrap_err();
    assert!(no_image.is_image_not_found() && no_image.is_not_found());
    assert_eq!(no_image.to_string(), "No such image: absent:1");
}

#[test]
fn starting_and_stopping_what_is_already_there_is_a_success() {
    let engine = engine("start", &["start", "start-already", "stop", "stop-again"]);
    assert_eq!(engine.docker.start_container("a"), Ok(Started::Now));
    assert_eq!(engine.docker.start_container("a"), Ok(Started::Already));
    assert_eq!(asked(&engine), "POST /v1.41/containers/a/start");
    asked(&engine);
    let grace = Duration::from_secs(1);
    assert_eq!(engine.docker.stop_container("a", grace), Ok(()));
    assert_eq!(engine.docker.stop_container("a", grace), Ok(()));
    assert_eq!(asked(&engine), "POST /v1.41/containers/a/stop?t=1");
}

#[test]
fn waiting_and_removing() {
    let engine =
        engine("wait", &["wait", "inspect-404", "remove", "remove", "remove-running-409", "inspect-empty-name"]);
    assert_eq!(engine.docker.wait_container("a", Condition::NotRunning), Ok(0));
    assert_eq!(asked(&engine), "POST /v1.41/containers/a/wait?condition=not-running");
    assert!(engine.docker.wait_container("a", Condition::Removed).unwrap_err().is_not_found());
    assert_eq!(asked(&engine), "POST /v1.41/containers/a/wait?condition=removed");
    assert_eq!(engine.docker.remove_container("a", Removal::Force), Ok(()));
    assert_eq!(asked(&engine), "DELETE /v1.41/containers/a?force=1");
    assert_eq!(engine.docker.remove_container("a", Removal::WithVolumes), Ok(()));
    assert_eq!(asked(&engine), "DELETE /v1.41/containers/a?force=1&v=1");
    assert_eq!(engine.docker.remove_container("a", Removal::Gentle).unwrap_err().status(), Some(409));
    assert_eq!(asked(&engine), "DELETE /v1.41/containers/a");
    assert!(engine.docker.remove_container("", Removal::Force).unwrap_err().is_not_found());
    assert!(engine.docker.inspect_container("").unwrap_err().is_not_found(), "a redirect is not followed");
}

#[test]
fn a_log_is_read_as_lines_with_and_without_a_terminal() {
    let engine = engine("logs", &["logs-tty", "logs-framed", "logs-tty"]);
    let read = |options: &LogOptions| {
        let mut logs = engine.docker.container_logs("a", options).unwrap();
        let lines: Vec<LogLine> = std::iter::from_fn(|| logs.next_line(LIMIT).unwrap()).collect();
        assert_eq!(logs.next_line(LIMIT), Ok(None), "the end stays the end");
        lines
    };
    let line = |source, text: &str| LogLine { source, text: text.to_owned() };
    let tty = read(&LogOptions { tty: true, ..LogOptions::default() });
    assert_eq!(tty, ["one", "two", "ä three"].map(|text| line(Source::Stdout, text)));
    assert_eq!(asked(&engine), "GET /v1.41/containers/a/logs?stdout=1&stderr=1&tail=all");
    let framed = read(&LogOptions::default());
    assert_eq!(framed.len(), 42);
    assert!(framed.contains(&line(Source::Stderr, "two")) && framed.contains(&line(Source::Stdout, "40")));
    asked(&engine);
    let wall = crate::clock::Wall { seconds: 12, nanos: 5 };
    read(&LogOptions {
        tty: true,
        follow: true,
        tail: Some(0),
        since: Some(wall),
        until: Some(wall),
        timestamps: true,
    });
    let times = "since=12.000000005&until=12.000000005";
    assert_eq!(
        asked(&engine),
        format!("GET /v1.41/containers/a/logs?stdout=1&stderr=1&tail=0&follow=1&timestamps=1&{times}")
    );
}

#[test]
fn d5_silence_in_a_followed_log_is_a_timeout_that_can_be_read_on() {
    let (feed, bytes) = crossbeam_channel::unbounded();
    let engine = Scripted::new("silent", vec![Answer::Feed(b"HTTP/1.1 200 OK\r\n\r\nwhole\npart".to_vec(), bytes)]);
    let mut logs = engine.docker.container_logs("a", &LogOptions { tty: true, ..LogOptions::default() }).unwrap();
    let mut next = |silence| logs.next_line(silence).map(|line| line.map(|line| line.text));
    assert_eq!(next(LIMIT), Ok(Some("whole".into())));
    assert_eq!(next(Duration::from_millis(1)), Err(Error::Timeout));
    feed.send(b"ial\n".to_vec()).unwrap();
    assert_eq!(next(LIMIT), Ok(Some("partial".into())));
    drop(feed);
    assert_eq!(next(LIMIT), Ok(None));
}

#[test]
fn a_log_stream_that_breaks_gives_its_last_lines_and_then_the_error() {
    let whole = golden("logs-tty");
    let engine = Scripted::new("broken", vec![Answer::Close(whole[..whole.len() - 5].to_vec())]);
    let mut logs = engine.docker.container_logs("a", &LogOptions { tty: true, ..LogOptions::default() }).unwrap();
    let texts: Vec<_> = (0..3).map(|_| logs.next_line(LIMIT).unwrap().unwrap().text).collect();
    assert_eq!(texts, ["one", "two", "ä three"]);
    for _ in 0..2 {
        assert_eq!(logs.next_line(LIMIT), Err(Error::Http(crate::docker::http1::Fault::Truncated)));
    }
}

#[test]
fn a_pull_gives_its_records_and_fails_if_one_of_them_is_an_error() {
    let engine = engine("pull", &["pull", "pull-error", "pull-unknown"]);
    let reference = Reference::parse("127.0.0.1:5000/apps/good:1");
    let pull = || engine.docker.pull_image(&reference, &RegistryAuth::default());
    assert_eq!(pull().unwrap().finish(), Ok(()));
    let request = engine.request();
    assert!(request.starts_with("POST /v1.41/images/create?fromImage=127.0.0.1%3A5000%2Fapps%2Fgood&tag=1 HTTP/1.1"));
    assert!(request.contains("\r\nX-Registry-Auth: eyJ1c2VybmFtZSI6IiIsInBhc3N3b3JkIjoiIn0=\r\n"), "{request}");
    let mut failing = pull().unwrap();
    let mut records = Vec::new();
    let end = loop {
        match failing.next_record() {
            Ok(Some(record)) => records.push(record),
            end => break end,
        }
    };
    assert_eq!(end, Err(Error::Transfer("unknown blob".into())));
    assert_eq!(records.last().unwrap(), r#"{"errorDetail":{"message":"unknown blob"},"error":"unknown blob"}"#);
    assert!(pull().unwrap_err().is_image_not_found());
}

#[test]
fn a_pull_that_breaks_off_or_is_cancelled_is_no_success() {
    let whole = golden("pull");
    let answers =
        vec![Answer::Close(whole[..whole.len() - 5].to_vec()), Answer::Hold(whole[..whole.len() - 5].to_vec())];
    let engine = Scripted::new("pullbreak", answers);
    let reference = Reference::parse("good");
    let broken = engine.docker.pull_image(&reference, &RegistryAuth::default()).unwrap().finish();
    assert_eq!(broken, Err(Error::Http(crate::docker::http1::Fault::Truncated)));
    let cancel = crate::cancel::Cancel::new();
    let mut pull = engine.docker.cancelled_by(&cancel).pull_image(&reference, &RegistryAuth::default()).unwrap();
    assert!(pull.next_record().unwrap().is_some());
    cancel.cancel();
    assert_eq!(pull.finish(), Err(Error::Cancelled));
}

#[test]
fn images_are_listed_inspected_and_removed() {
    let engine = engine("images", &["images", "image", "remove-image"]);
    let images = engine.docker.list_images(&Filters::none().with("reference", "busybox")).unwrap();
    assert!(images.iter().any(|image| image.repo_tags == ["busybox:local"] && image.size > 0));
    assert_eq!(asked(&engine), "GET /v1.41/images/json?filters=%7B%22reference%22%3A%5B%22busybox%22%5D%7D");
    assert_eq!(engine.docker.inspect_image("h:5/a b:1").unwrap().repo_tags, ["busybox:local"]);
    assert_eq!(asked(&engine), "GET /v1.41/images/h:5/a%20b:1/json");
    assert_eq!(engine.docker.remove_image("a:1", Removal::Force), Ok(()));
    assert_eq!(asked(&engine), "DELETE /v1.41/images/a:1?force=1&noprune=1");
}

#[test]
fn a_push_and_a_tag_name_the_repository_and_the_tag() {
    let engine = engine("push", &["push", "push-denied", "tag", "tag-unknown"]);
    let reference = Reference::parse("127.0.0.1:5000/apps/good:1.0");
    let push = |username| {
        let auth = RegistryAuth { username: Secret::new(username), password: Secret::new("hush") };
        engine.docker.push_image(&reference, &auth).unwrap().finish()
    };
    assert_eq!(push("token"), Ok(()));
    let request = engine.request();
    assert!(request.starts_with("POST /v1.41/images/127.0.0.1:5000/apps/good/push?tag=1.0 HTTP/1.1\r\n"), "{request}");
    let auth = "eyJ1c2VybmFtZSI6InRva2VuIiwicGFzc3dvcmQiOiJodXNoIn0=";
    assert!(request.contains(&format!("\r\nX-Registry-Auth: {auth}\r\n")), "{request}");
    assert_eq!(push("other"), Err(Error::Transfer("unauthorized: authentication required".into())));
    asked(&engine);
    assert_eq!(engine.docker.tag_image("source:2", &reference), Ok(()));
    assert_eq!(asked(&engine), "POST /v1.41/images/source:2/tag?repo=127.0.0.1%3A5000%2Fapps%2Fgood&tag=1.0");
    assert!(engine.docker.tag_image("absent:1", &reference).unwrap_err().is_not_found());
}

#[test]
fn a_container_is_renamed_unless_another_one_has_the_name() {
    let engine = engine("rename", &["rename", "rename-in-use", "inspect-404"]);
    assert_eq!(engine.docker.rename_container("a", "kept 1"), Ok(()));
    assert_eq!(asked(&engine), "POST /v1.41/containers/a/rename?name=kept%201");
    assert!(engine.docker.rename_container("a", "b").unwrap_err().is_name_in_use());
    assert!(engine.docker.rename_container("absent", "b").unwrap_err().is_not_found());
}

#[test]
fn inspection_shows_what_a_healthcheck_found() {
    let engine = engine("health", &["inspect-healthy"]);
    let health = engine.docker.inspect_container("g_kept").unwrap().state.health;
    assert_eq!(health, Some(Health { status: "healthy".into(), failing_streak: 0 }));
}

#[test]
fn one_token_ends_a_stream_also_after_another_call_used_it() {
    let answers = vec![Answer::Hold(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
    let stream = Scripted::new("held", answers);
    let other = engine("between", &["info"]);
    let cancel = crate::cancel::Cancel::new();
    let follow = LogOptions { tty: true, follow: true, ..LogOptions::default() };
    let mut logs = stream.docker.cancelled_by(&cancel).container_logs("a", &follow).unwrap();
    assert!(other.docker.cancelled_by(&cancel).info().is_ok());
    let (ends, end) = crossbeam_channel::bounded(1);
    crate::thread::spawn("follow", |_| {}, move || ends.send(logs.next_line(Duration::from_secs(3600))).unwrap())
        .unwrap();
    stream.request();
    cancel.cancel();
    assert_eq!(end.recv_timeout(LIMIT), Ok(Err(Error::Cancelled)));
}

#[test]
fn the_version_is_negotiated_once_and_only_by_an_answer() {
    let old = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK".to_vec();
    let new = b"HTTP/1.1 200 OK\r\nApi-Version: 1.99\r\n\r\n".to_vec();
    let refusal = b"HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n".to_vec();
    let answers = [Vec::new(), golden("ping-head"), golden("info"), golden("info"), refusal, old, new];
    let engine = Scripted::new("version", answers.into_iter().map(Answer::Close).collect());
    let docker = Docker::at(engine.docker.address().clone());
    assert!(docker.info().unwrap_err().is_engine_down());
    assert_eq!(docker.api_version(), None, "a failed ping leaves it open");
    assert_eq!(docker.clone().info().unwrap().docker_root_dir, "/var/lib/docker");
    assert!(docker.info().unwrap().runtimes.contains_key("runc"));
    assert_eq!(docker.api_version(), Some(ApiVersion { major: 1, minor: 41 }), "clones share it");
    assert_eq!(docker.negotiate(), Ok(ApiVersion { major: 1, minor: 24 }), "an Engine without a version, by GET");
    assert_eq!(docker.negotiate(), Ok(MAX_VERSION));
    let asked: Vec<_> = (0..7).map(|_| asked(&engine)).collect();
    let head = "HEAD /_ping";
    assert_eq!(asked, [head, head, "GET /v1.41/info", "GET /v1.41/info", head, "GET /_ping", head]);
}

#[test]
fn versions_compare_as_numbers() {
    assert!(ApiVersion::parse("1.9") < ApiVersion::parse("v1.24"));
    for text in ["", "1", "1.x", "-1.2", "1.2.3"] {
        assert_eq!(ApiVersion::parse(text), None, "{text}");
    }
    assert_eq!(MAX_VERSION.to_string(), "1.52");
}

#[test]
fn refusals_are_classified_by_status_and_then_by_text() {
    let refusal = |status, message: &str| Error::Status { status, message: message.into() };
    assert!(refusal(409, "removal of container x is already in progress").is_removal_in_progress());
    assert!(refusal(409, "can not get logs from container which is dead or marked for removal").is_not_found());
    assert!(refusal(500, "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated").is_port_conflict());
    assert!(refusal(500, "listen tcp4 0.0.0.0:80: bind: address already in use").is_port_conflict());
    assert!(refusal(403, "error while removing network: network p id 1 has active endpoints").is_in_use());
    assert!(refusal(409, "remove p_data: volume is in use - [1]").is_in_use());
    assert!(!refusal(403, "bridge is a pre-defined network and cannot be removed").is_in_use());
    assert!(refusal(400, "Unknown runtime specified nvidia").is_nvidia_runtime());
    assert!(!refusal(404, "No such image: nvidia-demo:1").is_nvidia_runtime());
    assert!(!refusal(500, "No such image: x").is_image_not_found());
    assert!(refusal(502, "").to_string().contains("502"));
    let engine = engine("toonew", &["too-new"]);
    let error = engine.docker.info().unwrap_err();
    assert_eq!(error.to_string(), "client version 1.99 is too new. Maximum supported API version is 1.41");
}
