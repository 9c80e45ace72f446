//! Every procedure with odd arguments, and who may call it (`wamp-and-rpc.md` 3.3, 3.4, 4).

use super::{Device, LIMIT, app, refusal};
use crate::cloud::backend::Answer;
use crate::cloud::peer::{Failure, Login, Payload, Peer};
use crate::cloud::realm::User;
use reagent::rpc::{self, Privilege};
use serde_json::{Map, Value, json};

fn kwargs(value: Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn call(peer: &Peer, device: &Device, name: &str, args: Vec<Value>, named: Value) -> Result<Payload, Failure> {
    peer.call(&device.cloud.backend.identity.uri(name), args, kwargs(named), LIMIT)
}

#[test]
fn p2_every_procedure_answers_odd_arguments_and_the_process_lives() {
    let device = Device::online();
    device.install(&app(501, "demo"));
    let user = device.cloud.user("42").unwrap();
    let huge = json!(9_007_199_254_740_993_u64);
    let odd: Vec<Vec<Value>> = vec![
        vec![],
        vec![Value::Null],
        vec![json!(7)],
        vec![json!(-1.5)],
        vec![json!(1e300)],
        vec![huge.clone()],
        vec![json!("text")],
        vec![json!(true)],
        vec![json!([])],
        vec![json!([[[[]]]])],
        vec![json!({})],
        vec![json!({"containerName": null, "all": null})],
        vec![json!({"containerName": 7, "all": "yes"})],
        vec![json!({"containerName": "", "all": 1})],
        vec![json!({"containerName": "../../etc/passwd", "all": []})],
        vec![json!({"containerName": "prod_99999999999999999999_x"})],
        vec![json!({"containerName": "x".repeat(100_000)})],
        vec![Value::Null, Value::Null, huge],
    ];
    for row in rpc::PROCEDURES {
        for args in &odd {
            for named in [json!({}), json!({"odd": [1e300, null]})] {
                let answers = [
                    device.cloud.backend.call_agent(row.name, args.clone(), kwargs(named.clone())),
                    call(&user, &device, row.name, args.clone(), named),
                ];
                for answer in answers {
                    let context = format!("{} {args:.100?}", row.name);
                    match &answer {
                        Ok(_) => assert_ne!(row.name, "request_app_state", "{context}"),
                        Err(_) => assert!(!refusal(answer).is_empty(), "{context}"),
                    }
                }
            }
        }
        let absent = [(vec![], json!({})), (vec![], json!({"odd": 1})), (vec![Value::Null], json!({}))];
        for (args, named) in absent {
            let answer = device.cloud.backend.call_agent(row.name, args.clone(), kwargs(named));
            // The machine of a test can neither be rebooted nor switched off, and nobody starts its agent again.
            let refused = matches!(row.name, "get_app_log_history" | "request_app_state" | "write_data")
                || row.name.starts_with("system_");
            assert_eq!(answer.is_err(), refused, "{} {args:?}: {answer:?}", row.name);
        }
    }
    assert_eq!(device.recorded(), ["501:RUNNING"], "no app was made of nonsense");
    assert_eq!(device.engine.containers().len(), 1);
    assert!(device.agent.log().lines().all(|line| !line.contains("panicked")));
}

#[test]
fn d6_a_request_names_the_first_key_that_is_wrong() {
    let device = Device::online();
    let valid = app(501, "demo").request();
    let with = |key: &str, value: Value| {
        let mut request = valid.clone();
        request.insert(key.to_owned(), value);
        refusal(device.cloud.backend.call_agent("request_app_state", vec![], request))
    };
    for (key, value, text) in [
        ("app_key", json!("501"), "failed to parse app_key"),
        ("app_key", json!(-1), "failed to parse app_key"),
        ("app_key", json!(0), "missing from payload"),
        ("app_name", json!(""), "appName"),
        ("app_name", json!(5), "appName"),
        ("stage", json!([]), "failed to parse stage"),
        ("stage", json!(""), "missing from payload"),
        ("target_state", json!(1), "requestedState"),
        ("requestor_account_key", json!(true), "requestorAccountKey"),
        ("release_key", json!(1.5), "releaseKeyString"),
        ("new_release_key", json!("x"), "newReleaseKey"),
        ("newest_version", json!({}), "newestVersion"),
        ("request_update", json!("yes"), "requestUpdate"),
        ("cancel_transition", json!(0), "cancelTransition"),
        ("environment", json!([]), "environment"),
        ("ports", json!({}), "ports"),
        ("docker_compose", json!("x"), "docker compose"),
        ("docker_credentials", json!({"r": {"username": 1}}), "docker credentials"),
    ] {
        let told = with(key, value.clone());
        assert!(told.contains(text), "{key} {value}: {told}");
    }
    let nothing = refusal(device.cloud.backend.call_agent("request_app_state", vec![], Map::new()));
    assert!(nothing.contains("app_key"), "{nothing}");
    assert!(device.recorded().is_empty());
    // Whole floats and texts count as the numbers that they are.
    let mut lenient = valid.clone();
    lenient.insert("app_key".to_owned(), json!(501.0));
    lenient.insert("requestor_account_key".to_owned(), json!("42"));
    device.offer(&app(501, "demo"));
    device.cloud.backend.call_agent("request_app_state", vec![], lenient).unwrap();
    device.cloud.backend.wait_for_state(LIMIT, 0, 501, "RUNNING");
}

#[test]
fn a_denied_caller_is_told_so_and_nothing_is_asked_of_the_engine() {
    let device = Device::online();
    let user = device.cloud.user("42").unwrap();
    ["READ", "DEVELOP", "MAINTAIN"].iter().for_each(|privilege| device.cloud.backend.deny(privilege));
    let before = device.asked();
    let argument = json!({"containerName": "prod_501_demo", "all": true});
    for row in rpc::PROCEDURES {
        let mark = device.cloud.backend.mark();
        let answer = call(&user, &device, row.name, vec![argument.clone()], json!({}));
        let checks: Vec<Value> = device.cloud.backend.calls()[mark..]
            .iter()
            .filter(|call| call.is("check_privilege"))
            .map(|call| call.argument().clone())
            .collect();
        let Some(privilege) = row.privilege else {
            assert!(checks.is_empty(), "{}", row.name);
            continue;
        };
        let told = refusal(answer);
        assert!(told.starts_with("insufficient privileges"), "{}: {told}", row.name);
        let expected = json!({"privilege": privilege.text(), "entity": "DEVICE", "entity_key": 3,
            "requestor_account_key": 42, "swarm_key": 2});
        assert_eq!(checks, [expected], "{}", row.name);
    }
    assert_eq!(device.asked(), before, "a denied call has no effect");
    // The backend itself is not asked for.
    assert!(device.call("list_containers", vec![]).is_ok());
}

#[test]
fn the_documented_privileges_are_asked_for() {
    let needs = |name: &str| rpc::find(name).unwrap_or_else(|| panic!("no {name}")).privilege;
    for name in [
        "get_images",
        "list_containers",
        "get_agent_metadata",
        "get_storage_data",
        "get_app_log_history",
        "get_ipv4_addresses",
        "get_network_metadata",
    ] {
        assert_eq!(needs(name), Some(Privilege::Read), "{name}");
    }
    assert_eq!(needs("prune_images"), Some(Privilege::Maintain));
    assert_eq!(needs("write_data"), Some(Privilege::Develop));
    assert_eq!((needs("request_app_state"), needs("device_handshake")), (None, None));
}

#[test]
fn a_privilege_check_that_fails_is_no_denial_and_no_permission() {
    let device = Device::online();
    let user = device.cloud.user("42").unwrap();
    let before = device.asked();
    let fault = Answer::Error("wamp.error.runtime_error".to_owned(), vec![json!("backend is ill")]);
    for answer in [fault, Answer::Args(vec![]), Answer::Args(vec![json!("true")]), Answer::Args(vec![json!(1)])] {
        device.cloud.backend.answer("check_privilege", answer.clone());
        let told = refusal(call(&user, &device, "list_containers", vec![], json!({})));
        assert!(!told.contains("insufficient privileges"), "{answer:?}: {told}");
    }
    assert_eq!(device.asked(), before);
    device.cloud.backend.answer("check_privilege", Answer::Usual);
    assert!(call(&user, &device, "list_containers", vec![], json!({})).is_ok());
    // A caller who is no account.
    device.cloud.router.add_user("someone", User::plain("s", "backend"));
    let someone = Peer::join(&Login::new(&device.cloud.router.url(), "someone", "s")).unwrap();
    let told = refusal(call(&someone, &device, "list_containers", vec![], json!({})));
    assert!(!told.contains("insufficient privileges"), "{told}");
}

#[test]
fn the_backend_may_act_for_a_user_and_nobody_else_may() {
    let device = Device::online();
    let checked = |args: Vec<Value>, named: Value| {
        let mark = device.cloud.backend.mark();
        let answer = device.cloud.backend.call_agent("get_storage_data", args, kwargs(named));
        let calls = device.cloud.backend.calls();
        let check = calls[mark..].iter().find(|call| call.is("check_privilege"));
        (answer, check.map(|call| call.argument()["requestor_account_key"].clone()))
    };
    let asked = |args, named| checked(args, named).1;
    assert_eq!(asked(vec![], json!({"requestor_account_key": "42"})), Some(json!(42)));
    assert_eq!(asked(vec![], json!({"requestor_account_key": 42})), Some(json!(42)));
    assert_eq!(asked(vec![json!({"requestor_account_key": "7"})], json!({})), Some(json!(7)));
    assert_eq!(
        asked(vec![json!({"requestor_account_key": 7})], json!({"requestor_account_key": null})),
        Some(json!(7))
    );
    assert_eq!(asked(vec![json!({})], json!({})), None);
    for odd in [json!("not-a-number"), json!([]), json!(true), json!(1.5)] {
        let (answer, asked) = checked(vec![], json!({"requestor_account_key": odd}));
        assert_eq!(asked, None);
        assert!(refusal(answer).contains("requestor"));
    }
    device.cloud.backend.deny("READ");
    let (answer, _) = checked(vec![], json!({"requestor_account_key": 42}));
    assert!(refusal(answer).starts_with("insufficient privileges"));
    device.cloud.backend.allow("READ");
    let user = device.cloud.user("43").unwrap();
    let mark = device.cloud.backend.mark();
    call(&user, &device, "get_storage_data", vec![], json!({"requestor_account_key": 42})).unwrap();
    let calls = device.cloud.backend.calls();
    let check = calls[mark..].iter().find(|call| call.is("check_privilege")).unwrap();
    assert_eq!(check.argument()["requestor_account_key"], 43);
}

#[test]
fn results_have_the_documented_shapes() {
    let device = Device::online();
    assert!(device.call("get_images", vec![]).unwrap().args.is_empty(), "no image is the empty result");
    assert_eq!(device.call("list_containers", vec![]).unwrap().args, [json!([])]);
    device.install(&app(501, "demo"));
    let images = device.call("get_images", vec![]).unwrap().args;
    assert_eq!(images[0]["repoTags"], json!([Device::image(&app(501, "demo"), "1.0.0")]), "{images:?}");
    assert!(images[0]["id"].is_string() && images[0]["size"].is_u64() && images[0].get("labels").is_none());
    let containers = device.call("list_containers", vec![]).unwrap().args;
    assert_eq!(containers[0][0]["Names"], json!(["/prod_501_demo"]), "{containers:?}");
    let handshake = device.call("device_handshake", vec![]).unwrap();
    assert_eq!((handshake.args.len(), &handshake.kwargs["id"]), (0, &json!(device.cloud.backend.identity.serial)));
    assert!(handshake.kwargs["utp"].as_str().is_some_and(|time| time.len() == 20 && time.ends_with('Z')));
    let storage = device.call("get_storage_data", vec![]).unwrap().args;
    let mut keys: Vec<&String> = storage[0].as_object().unwrap().keys().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "cpu_count",
            "cpu_usage",
            "docker_apps_free",
            "docker_apps_mounted",
            "docker_apps_total",
            "docker_apps_used",
            "memory_available",
            "memory_total",
            "memory_used",
            "storage_free",
            "storage_total",
            "storage_used"
        ]
    );
    assert!(storage[0]["cpu_usage"].is_f64() && storage[0]["docker_apps_mounted"].is_boolean());
    for address in device.call("get_network_metadata", vec![]).unwrap().args {
        assert!(address["IP"].is_string() && address["Mask"].is_string(), "{address}");
    }
    let addresses = device.call("get_ipv4_addresses", vec![]).unwrap().args;
    for address in addresses[0].as_array().unwrap() {
        assert!(address["interfaceName"].is_string() && address["ip"] != "127.0.0.1", "{address}");
    }
    let metadata = device.call("get_agent_metadata", vec![]).unwrap().args;
    let mut keys: Vec<&String> = metadata[0].as_object().unwrap().keys().collect();
    keys.sort();
    // The published version cannot be fetched here: its four keys are absent.
    assert_eq!(keys, ["OSVersion", "arch", "canUpdate", "os", "serialNumber", "tunnelCapable", "variant", "version"]);
    assert_eq!((&metadata[0]["version"], &metadata[0]["canUpdate"]), (&json!(reagent::release::VERSION), &json!(true)));
    assert!(device.call("prune_images", vec![]).unwrap().args.is_empty());
    assert_eq!(device.engine.images().len(), 1, "the image of a running app is in use");
    device.engine.add_image("unused:1");
    let report = device.call("prune_images", vec![json!({"all": true})]).unwrap().args;
    assert!(report.len() == 1 && report[0].is_string(), "{report:?}");
    assert_eq!(device.engine.images(), [Device::image(&app(501, "demo"), "1.0.0")]);
    device.engine.wait_for_status("prod_501_demo", "running");
}
