//! What a caller can do to the agent with arguments alone: whatever is sent, by whomever, there is an answer of its kind,
//! no side effect, and the agent is there afterwards (P2; `wamp-and-rpc.md` 3.3, 3.4, 4).

use super::{Device, LIMIT, app, refusal};
use crate::cloud::backend::{Answer, Call};
use crate::cloud::peer::{Failure, Login, Payload, Peer, Pending};
use crate::cloud::realm::User;
use reagent::domain::names;
use reagent::rpc::{self, Procedure};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// As many as wait for their privilege check at once.
const WAITING: usize = 256;

/// A device with a running app, and what it is afterwards compared with.
struct Target {
    device: Device,
    recorded: Vec<String>,
    containers: Vec<(String, String)>,
}

impl Target {
    fn new() -> Target {
        let device = Device::online();
        device.install(&app(501, "demo"));
        // The last thing that the agent does for a new app.
        device.engine.wait_for_request("GET /containers/*/logs", 1);
        let mut target = Target { device, recorded: Vec::new(), containers: Vec::new() };
        (target.recorded, target.containers) = target.look();
        target
    }

    fn look(&self) -> (Vec<String>, Vec<(String, String)>) {
        let mut rows = self.device.recorded();
        rows.extend(
            self.device.rows("SELECT app_key || ' wanted ' || manually_requested_state FROM RequestedAppStates"),
        );
        (rows, self.device.engine.containers().into_iter().collect())
    }

    fn peer(&self, authid: &str, secret: &str) -> Peer {
        Peer::join(&Login::new(&self.device.cloud.router.url(), authid, secret)).unwrap()
    }

    fn start(&self, peer: &Peer, name: &str, args: Vec<Value>, kwargs: Map<String, Value>) -> Pending {
        peer.start_call(&self.device.cloud.backend.identity.uri(name), json!({}), args, kwargs)
    }

    /// Requests that change something in the engine.
    fn changes(&self) -> Vec<String> {
        let requests = self.device.engine.requests();
        let changes = requests.iter().filter(|request| !matches!(request.method.as_str(), "GET" | "HEAD"));
        changes.map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    #[track_caller]
    fn is_as_before(&self) {
        assert_eq!(self.look(), (self.recorded.clone(), self.containers.clone()));
        let log = self.device.agent.log();
        assert!(!log.contains("panicked"), "{log:.2000}");
        assert!(self.device.call("device_handshake", vec![]).is_ok());
    }

    /// Resident memory of the agent in MiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.device.agent.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

fn nested(depth: usize) -> Value {
    (0..depth).fold(json!(1), |inner, _| json!([inner]))
}

fn payloads() -> Vec<(Vec<Value>, Map<String, Value>)> {
    let long = "x".repeat(1 << 20);
    let args = [
        json!([]),
        json!([null]),
        json!([true]),
        json!([7]),
        json!(["text"]),
        json!([[]]),
        json!([u64::MAX, i64::MIN]),
        json!([-1.5, 1e300, 1e-300]),
        json!([long]),
        json!([{"containerName": long, "all": long}]),
        json!([{"containerName": format!("prod_501_{long}")}]),
        json!([{"containerName": 9.5, "all": u64::MAX}]),
        json!([{"containerName": nested(90), "all": nested(90)}]),
        json!([nested(100)]),
        json!([{"containerName": "prod_501_demo\u{0}/../../x", "all": "yes"}]),
    ];
    let kwargs = [
        json!({"": null, "all": {"all": []}, "containerName": [], "app_key": nested(90)}),
        json!({"app_key": u64::MAX, "app_name": long, "stage": "PROD", "target_state": 1e300}),
        json!({"app_key": -1, "app_name": {}, "stage": [], "target_state": null, "ports": "80"}),
        json!({"app_key": 501, "app_name": "demo", "stage": "PROD", "target_state": "REMOVED", "environment": [nested(80)]}),
    ];
    let object = |value: Value| value.as_object().cloned().unwrap_or_default();
    let args = args.into_iter().map(|args| (args.as_array().cloned().unwrap_or_default(), Map::new()));
    args.chain(kwargs.into_iter().map(|kwargs| (vec![], object(kwargs)))).collect()
}

/// Whether the row answers these arguments with a result, by the wire chapter. A container that does not exist has no
/// lines, which is an answer.
fn is_valid(row: &Procedure, args: &[Value]) -> bool {
    match row.name {
        "request_app_state" | "write_data" => false,
        "get_app_log_history" => args.first().and_then(|map| map["containerName"].as_str()).is_some_and(is_container),
        "prune_images" => args.first().is_none_or(|map| map.is_null() || (map.is_object() && map["all"].is_null())),
        name => !name.starts_with("system_"),
    }
}

fn is_container(name: &str) -> bool {
    names::parse_container(name).is_some()
}

/// The answer is the documented one of its kind.
#[track_caller]
fn judge(row: &Procedure, args: &[Value], known: bool, answer: Result<Payload, Failure>) {
    let context = format!("{} {:.100}", row.name, format!("{args:?}"));
    if !known && row.privilege.is_some() {
        let told = refusal(answer);
        assert!(told.starts_with("privilege check: the caller"), "{context}: {told}");
    } else if is_valid(row, args) {
        assert!(answer.is_ok(), "{context}: {answer:?}");
    } else {
        let told = refusal(answer);
        assert!(!told.is_empty() && told.len() <= 4096, "{context}: {} bytes", told.len());
        assert!(!told.starts_with("privilege check") && !told.starts_with("insufficient"), "{context}: {told:.300}");
    }
}

#[test]
fn p2_every_procedure_gives_every_caller_a_documented_answer_and_nothing_changes() {
    let target = Target::new();
    let device = &target.device;
    device.cloud.router.add_user("someone", User::plain("s", "backend"));
    let user = device.cloud.user("42").unwrap();
    let unknown = target.peer("someone", "s");
    for row in rpc::PROCEDURES {
        let before = target.changes();
        for (args, kwargs) in payloads() {
            judge(row, &args, true, device.cloud.backend.call_agent(row.name, args.clone(), kwargs.clone()));
            judge(row, &args, true, target.start(&user, row.name, args.clone(), kwargs.clone()).wait(LIMIT));
            judge(row, &args, false, target.start(&unknown, row.name, args.clone(), kwargs).wait(LIMIT));
        }
        if row.name != "prune_images" {
            assert_eq!(target.changes(), before, "{}", row.name);
        }
    }
    target.is_as_before();
    assert!(device.agent.log().lines().all(|line| line.len() < 16 * 1024), "no payload is in the log");
}

#[test]
fn p2_a_payload_as_large_as_the_router_lets_through_is_answered_and_forgotten() {
    let target = Target::new();
    let user = target.device.cloud.user("42").unwrap();
    let most = json!("x".repeat((16 << 20) - 4096));
    for round in 1..=3 {
        let mut kwargs = Map::new();
        kwargs.insert("app_name".to_owned(), most.clone());
        let told = refusal(target.start(&user, "request_app_state", vec![], kwargs).wait(LIMIT));
        assert!(told.len() < 4096, "round {round}: {} bytes", told.len());
        assert!(target.start(&user, "get_images", vec![most.clone()], Map::new()).wait(LIMIT).is_ok(), "round {round}");
        for at in 0..5 {
            let mut args = vec![json!("00"), json!("demo.tgz"), json!("dev_501_demo"), json!(1), json!("id")];
            args[at] = most.clone();
            let told = refusal(target.start(&user, "write_data", args, Map::new()).wait(LIMIT));
            assert!(told.len() < 4096, "round {round}: {} bytes", told.len());
        }
    }
    target.is_as_before();
    assert!(target.memory() < 160, "{} MiB", target.memory());
}

#[test]
fn p2_no_upload_leaves_the_build_folder() {
    let target = Target::new();
    let user = target.device.cloud.user("42").unwrap();
    let apps = target.device.agent.apps_dir();
    let folder = apps.parent().unwrap().to_owned();
    fs::write(apps.join("build/kept.tgz"), "kept").unwrap();
    fs::write(apps.join("marked"), "as it was").unwrap();
    let outside = apps.join("marked");
    let before = [files(&apps), files(&target.device.agent.agent_dir().join("downloads")), names_in(&folder)];
    let long = "x".repeat(200);
    let names = [
        "",
        ".",
        "..",
        "../marked",
        "../../device.flock",
        "build/../../marked",
        "a/b",
        "/",
        "/tmp/x",
        ".hidden",
        "a\\b",
        "a\0b",
        "kept.tgz\0.part-1",
        "kept.tgz.part-1",
        &long,
        outside.to_str().unwrap(),
    ];
    let containers = [
        "",
        "x",
        "dev_501",
        "dev_x_demo",
        "prod_501_demo",
        "dev_501_../../x",
        "dev_501_a/b",
        "/dev_501_demo",
        "dev_501_a#b",
        "dev_501_a b",
    ];
    let good = ("demo.tgz", "dev_501_demo");
    let tries = names.iter().map(|name| (*name, good.1)).chain(containers.iter().map(|name| (good.0, *name)));
    for (file, container) in tries {
        for word in ["BEGIN", "00", "END"] {
            let args = vec![json!(word), json!(file), json!(container), json!(1), json!("id")];
            let told = refusal(target.start(&user, "write_data", args, Map::new()).wait(LIMIT));
            assert!(told.starts_with("failed to parse"), "{file:?} {container:?} {word}: {told}");
        }
    }
    // A good transfer in between is not disturbed by what is refused.
    for word in ["BEGIN", "00", "END"] {
        let args = |file: &str| vec![json!(word), json!(file), json!(good.1), json!(1), json!("id")];
        refusal(target.start(&user, "write_data", args("../marked"), Map::new()).wait(LIMIT));
        assert!(target.start(&user, "write_data", args(good.0), Map::new()).wait(LIMIT).is_ok(), "{word}");
    }
    assert_eq!(fs::read(apps.join("build/demo.tgz")).unwrap(), [0]);
    fs::remove_file(apps.join("build/demo.tgz")).unwrap();
    let after = [files(&apps), files(&target.device.agent.agent_dir().join("downloads")), names_in(&folder)];
    assert_eq!(after, before);
    target.is_as_before();
}

/// All files below a folder with their contents, but for those of the app that runs.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in names_in(folder).into_iter().filter(|name| name != "prod") {
        let path = folder.join(&name);
        found.push(match fs::read(&path) {
            Ok(bytes) => format!("{name}: {}", bytes.escape_ascii()),
            Err(_) => format!("{name}: {:?}", files(&path)),
        });
    }
    found
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn p2_a_frame_that_no_parser_takes_is_skipped() {
    let target = Target::new();
    let device = &target.device;
    let message = json!([68, 4_000_000, 1, {}, [nested(200)]]);
    assert_eq!(device.cloud.router.inject(&device.authid(), message), 1);
    let sessions = device.cloud.router.sessions(&device.authid());
    target.is_as_before();
    assert_eq!(device.cloud.router.sessions(&device.authid()), sessions, "the session lives on");
}

#[test]
fn a_privilege_check_without_a_verdict_is_told_apart_from_a_denial_and_nothing_is_done() {
    let target = Target::new();
    let device = &target.device;
    let user = device.cloud.user("42").unwrap();
    let rows = || rpc::PROCEDURES.iter().filter(|row| row.privilege.is_some());
    let argument = json!({"containerName": "prod_501_demo", "all": true});
    let before = device.asked();
    let fault = Answer::Error("wamp.error.runtime_error".to_owned(), vec![json!("ill"), json!({"x": 1})]);
    let wrong = [json!([]), json!([null]), json!([1]), json!(["true"]), json!([[true]]), json!([{"allowed": true}])];
    let wrong = wrong.into_iter().map(|args| Answer::Args(args.as_array().cloned().unwrap_or_default()));
    // The silence ends with the agent's deadline of 10 s.
    for answer in [fault, Answer::Silence].into_iter().chain(wrong) {
        device.cloud.backend.answer("check_privilege", answer.clone());
        let calls: Vec<_> =
            rows().map(|row| (row, target.start(&user, row.name, vec![argument.clone()], Map::new()))).collect();
        for (row, call) in calls {
            let told = refusal(call.wait(LIMIT));
            assert!(told.starts_with("privilege check: "), "{} {answer:?}: {told}", row.name);
        }
    }
    assert_eq!(device.asked(), before, "nothing is asked of the engine");
    device.cloud.backend.answer("check_privilege", Answer::Usual);
    assert!(target.start(&user, "list_containers", vec![], Map::new()).wait(LIMIT).is_ok());
    target.is_as_before();
}

#[test]
fn a_flood_of_calls_is_bounded_and_every_call_is_answered() {
    let target = Target::new();
    let device = &target.device;
    let user = device.cloud.user("42").unwrap();
    device.cloud.backend.answer("check_privilege", Answer::Silence);
    let mark = device.cloud.backend.mark();
    let before = target.memory();
    let ballast = json!("x".repeat(64 * 1024));
    let calls: Vec<Pending> =
        (0..300).map(|_| target.start(&user, "get_network_metadata", vec![ballast.clone()], Map::new())).collect();
    for call in &calls[WAITING..] {
        let told = refusal(call.wait(LIMIT));
        assert!(told.contains("256 calls are waiting already"), "{told}");
    }
    let checks = |calls: &[Call]| calls[mark..].iter().filter(|call| call.is("check_privilege")).count();
    device
        .cloud
        .backend
        .wait_for(LIMIT, "the checks of those who wait", |calls| (checks(calls) >= WAITING).then_some(()));
    // The platform itself is not kept out.
    device.request(&device.cloud.backend.known(501, "PROD").target("PRESENT"), "PRESENT");
    let grown = target.memory().saturating_sub(before);
    assert!(grown < 96, "{grown} MiB more for {WAITING} calls of 64 KiB");
    device.cloud.backend.answer("check_privilege", Answer::Usual);
    assert_eq!(device.cloud.backend.release("check_privilege"), WAITING);
    for call in &calls[..WAITING] {
        assert!(call.wait(LIMIT).is_ok());
    }
    assert_eq!(checks(&device.cloud.backend.calls()), WAITING, "a refused call is not even checked");
}

#[test]
fn a_flood_that_nobody_judges_ends_with_the_deadline() {
    let target = Target::new();
    let user = target.device.cloud.user("42").unwrap();
    target.device.cloud.backend.answer("check_privilege", Answer::Silence);
    let calls: Vec<Pending> = (0..300).map(|_| target.start(&user, "list_containers", vec![], Map::new())).collect();
    let answers: Vec<String> = calls.iter().map(|call| refusal(call.wait(Duration::from_secs(60)))).collect();
    let refused = answers.iter().filter(|told| told.contains("waiting already")).count();
    let unjudged = answers.iter().filter(|told| told.starts_with("privilege check: ")).count();
    assert_eq!((refused, unjudged), (300 - WAITING, WAITING));
    target.device.cloud.backend.answer("check_privilege", Answer::Usual);
    assert!(target.start(&user, "list_containers", vec![], Map::new()).wait(LIMIT).is_ok(), "there is room again");
    target.is_as_before();
}
