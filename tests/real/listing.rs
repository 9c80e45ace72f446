//! What callers are told of a real Engine's containers and images, those of compose included, and what pruning takes away.

use super::building::Workshop;
use super::{Docker, script};
use crate::jobs::Jobs;
use reagent::domain::job::{JobSpec, Outcome, Query};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

const PROJECT: &str = "prod_7404_comp_compose";

/// A compose project of two services on the engine of a workshop.
struct Project<'a> {
    shop: &'a Workshop,
    file: PathBuf,
    config: PathBuf,
}

impl Project<'_> {
    fn new(shop: &Workshop) -> Project<'_> {
        let plugin = script("compose.sh", &["v2"], &[]);
        let config = Path::new(&plugin).ancestors().nth(2).expect("it is in cli-plugins").to_owned();
        let sleeper = json!({"image": "app:1", "command": ["sleep", "1000"], "stop_grace_period": "0s"});
        let mut web = sleeper.clone();
        web["ports"] = json!(["127.0.0.1:0:80"]);
        web["volumes"] = json!(["kept:/keep"]);
        let services = json!({"web": web, "side": sleeper});
        let file = shop.jobs.folder.join("docker-compose.json");
        let text = json!({"name": PROJECT, "services": services, "volumes": {"kept": {}}}).to_string();
        std::fs::write(&file, text).expect("written");
        Project { shop, file, config }
    }

    #[track_caller]
    fn run(&self, args: &[&str]) {
        let mut command = Command::new("docker");
        command.args(["compose", "-f"]).arg(&self.file).args(args).env("DOCKER_CONFIG", &self.config);
        let output = command.env("DOCKER_HOST", self.shop.engine.host()).output().expect("the docker CLI starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What the engine answers, as it is: without a client of anybody's.
fn asked(socket: &Path, path: &str) -> Value {
    let mut stream = UnixStream::connect(socket).expect("the engine listens");
    write!(stream, "GET /v1.41{path} HTTP/1.0\r\n\r\n").expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

#[track_caller]
fn answer(jobs: &Jobs, query: Query) -> Vec<Value> {
    match jobs.perform(JobSpec::Query(query)) {
        Outcome::Answer(args) => args,
        other => panic!("no answer but {other:?}"),
    }
}

/// An image without a name, and one with it: two contents under one name, one after the other.
fn make_images(docker: &Docker, name: &str) {
    for label in ["older", "newer"] {
        let container = docker.run(&["create", "busybox:local", "true"]);
        docker.run(&["commit", "--change", &format!("LABEL which={label}"), &container, name]);
        docker.run(&["rm", &container]);
    }
}

#[test]
fn all_containers_are_listed_as_the_engine_has_them_those_of_compose_and_those_that_ended_too() {
    let shop = Workshop::open();
    make_images(&shop.docker, "app:1");
    shop.docker.run(&["run", "-d", "--name", "foreign", "busybox:local", "sleep", "1000"]);
    let project = Project::new(&shop);
    project.run(&["up", "-d"]);
    project.run(&["stop", "side"]);
    let listed = answer(&shop.jobs, Query::Containers);
    let mut expected = asked(&shop.engine.socket(), "/containers/json?all=1");
    let [Value::Array(listed)] = &listed[..] else { panic!("not one list: {listed:?}") };
    let mut ours = Value::Array(listed.clone());
    for list in [&mut ours, &mut expected] {
        // "Up 3 seconds"
        list.as_array_mut().expect("a list").iter_mut().for_each(|one| one["Status"] = Value::Null);
    }
    assert_eq!(ours, expected);
    let names: BTreeSet<&str> = listed.iter().filter_map(|one| one["Names"][0].as_str()).collect();
    let side = format!("/{PROJECT}-side-1");
    let web = format!("/{PROJECT}-web-1");
    assert_eq!(names, BTreeSet::from(["/foreign", &side, &web]));
    assert_eq!(listed[2]["Names"][0], "/foreign", "the newest come first");
    let of = |name: &str| listed.iter().find(|one| one["Names"][0] == name).expect("it is listed");
    assert_eq!((&of(&side)["State"], &of(&web)["State"]), (&json!("exited"), &json!("running")));
    let web = of(&web);
    assert_eq!(web["Labels"]["com.docker.compose.project"], PROJECT);
    assert_eq!(web["Labels"]["com.docker.compose.service"], "web");
    assert_eq!(web["HostConfig"]["NetworkMode"], format!("{PROJECT}_default"));
    assert_eq!((&web["Ports"][0]["PrivatePort"], &web["Ports"][0]["Type"]), (&json!(80), &json!("tcp")));
    assert_eq!(web["Mounts"][0]["Name"], format!("{PROJECT}_kept"));
    for key in ["Id", "Image", "ImageID", "Command", "Created", "Status"] {
        assert!(!web[key].is_null(), "{key} is missing");
    }
}

#[test]
fn all_images_are_listed_also_those_without_a_name() {
    let shop = Workshop::open();
    make_images(&shop.docker, "app:1");
    shop.docker.run(&["tag", "app:1", "app:2"]);
    let images = answer(&shop.jobs, Query::Images);
    let list = shop.docker.run(&["images", "-q", "--no-trunc"]);
    let ids: BTreeSet<&str> = list.lines().collect();
    assert_eq!((ids.len(), images.iter().filter_map(|image| image["id"].as_str()).collect()), (3, ids));
    for image in &images {
        let inspected = shop.docker.run(&["image", "inspect", image["id"].as_str().expect("text")]);
        let inspected: Value = serde_json::from_str(&inspected).expect("JSON");
        assert_eq!((&image["size"], &image["labels"]), (&inspected[0]["Size"], &inspected[0]["Config"]["Labels"]));
        assert_eq!((&image["containers"], &image["sharedSize"]), (&json!(-1), &json!(-1)));
        assert!(image["created"].as_i64().is_some_and(|created| created > 0), "{image}");
    }
    let tags = |label: &str| {
        let image = images.iter().find(|image| image["labels"]["which"] == label).expect("it is listed");
        serde_json::from_value::<BTreeSet<String>>(image["repoTags"].clone()).expect("a list")
    };
    assert_eq!(tags("newer"), ["app:1", "app:2"].map(str::to_owned).into());
    assert_eq!(tags("older"), ["<none>:<none>"].map(str::to_owned).into());
}

/// The lines of a report, sorted within their sections, with all ids alike.
fn comparable(report: &str) -> Vec<Vec<String>> {
    let is_id = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let line = |line: &str| {
        let word = line.rsplit([' ', ':']).next().unwrap_or_default();
        if is_id(word) { line.replace(word, "ID") } else { line.to_owned() }
    };
    let section = |section: &str| {
        let mut lines: Vec<String> = section.lines().map(line).collect();
        lines.sort();
        lines
    };
    report.split("\n\n").map(section).collect()
}

#[test]
fn pruning_takes_what_the_cli_would_take_and_tells_it_in_the_same_words() {
    let shop = Workshop::open();
    let docker = &shop.docker;
    docker.run(&["run", "-d", "--name", "runs", "busybox:local", "sleep", "1000"]);
    let fill = || {
        make_images(docker, "app:1");
        make_images(docker, "unused:1");
        let project = Project::new(&shop);
        project.run(&["up", "-d"]);
        // Stopped, as an app that is PRESENT.
        project.run(&["stop"]);
        docker.run(&["network", "create", "nobodys"]);
        docker.run(&["volume", "create", "nobodys"]);
        docker.run(&["run", "--name", "ended", "busybox:local", "sh", "-c", "yes 0123456789 | head -c 100000 >/file"]);
    };
    let dangling = || docker.run(&["images", "-q", "--filter", "dangling=true"]).lines().count();
    fill();
    assert_eq!(dangling(), 2);
    assert_eq!(answer(&shop.jobs, Query::Prune { all: false }), Vec::<Value>::new());
    assert_eq!(dangling(), 0);
    assert_eq!((docker.names("").len(), docker.run(&["images", "-q"]).lines().count()), (4, 3), "the rest stays");
    let empty = || {
        assert_eq!(docker.names(""), ["runs"]);
        assert_eq!(docker.run(&["images", "--format", "{{.Repository}}"]), "busybox");
        assert_eq!(docker.run(&["volume", "ls", "-q"]), "");
        assert_eq!(docker.run(&["network", "ls", "-q", "--filter", "type=custom"]), "");
    };
    docker.run(&["system", "prune", "-af", "--volumes"]);
    empty();
    fill();
    let report = answer(&shop.jobs, Query::Prune { all: true });
    empty();
    fill();
    let theirs = docker.run(&["system", "prune", "-af", "--volumes"]);
    let [Value::String(ours)] = &report[..] else { panic!("not one text: {report:?}") };
    assert_eq!(comparable(ours.trim()), comparable(&theirs), "{ours}\n{theirs}");
    assert!(ours.contains("Deleted Networks:\n") && ours.contains("\n\nTotal reclaimed space: 1"), "{ours}");
}
