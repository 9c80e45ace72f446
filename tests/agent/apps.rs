//! Apps on the fake engine (`apps.md` 3): which states are reported, in which order, and what is left on the engine.

use super::{Device, LIMIT, app, sent_until};
use crate::util::docker_daemon::{Behaviour, Fault, Pull};
use crate::util::wait_until;
use serde_json::{Value, json};

/// Waits until no report waits any more: the outbox of the database is empty.
#[track_caller]
fn settle(device: &Device) {
    wait_until(LIMIT, "all reports are delivered", || {
        device.rows("SELECT id FROM StateOutbox").is_empty().then_some(())
    });
}

#[test]
fn an_app_is_installed_stopped_started_removed_and_uninstalled_with_the_documented_reports() {
    let device = Device::online();
    let app = app(501, "demo").env("GREETING", "hello");
    let step = |target: &str, expected: &[&str]| {
        let mark = device.cloud.backend.mark();
        device.target(&app, target);
        settle(&device);
        assert_eq!(device.reports_since(mark, 501), expected, "{target}");
    };
    device.install(&app);
    settle(&device);
    // The image was absent: it is fetched in the middle of the start.
    assert_eq!(device.cloud.backend.reports(501), ["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"]);
    let created = device.engine.created_with("prod_501_demo").unwrap();
    assert_eq!(created["Image"], Device::image(&app, "1.0.0"));
    assert!(created["Env"].as_array().unwrap().contains(&json!("GREETING=hello")), "{created}");
    step("RUNNING", &["RUNNING"]);
    step("PRESENT", &["STOPPING", "STOPPING", "PRESENT"]);
    device.engine.wait_for_status("prod_501_demo", "absent");
    step("RUNNING", &["STARTING", "RUNNING"]);
    step("REMOVED", &["DELETING", "REMOVED"]);
    assert!(device.engine.containers().is_empty() && device.engine.images().is_empty());
    wait_until(LIMIT, "the rows go", || device.recorded().is_empty().then_some(()));
    device.cloud.backend.want(app.clone());
    step("PRESENT", &["DOWNLOADING", "PRESENT"]);
    let data = device.agent.apps_dir().join("prod/demo");
    step("RUNNING", &["STARTING", "RUNNING"]);
    assert!(data.is_dir(), "the app's folder is there while it runs");
    let mark = device.cloud.backend.mark();
    device.request(&device.cloud.backend.known(501, "PROD").target("UNINSTALLED"), "UNINSTALLED");
    settle(&device);
    assert_eq!(device.reports_since(mark, 501), ["DELETING", "REMOVED", "UNINSTALLED"]);
    wait_until(LIMIT, "the app's data goes", || (!data.exists()).then_some(()));
    wait_until(LIMIT, "the rows go", || device.recorded().is_empty().then_some(()));
    assert!(device.rows("SELECT app_key FROM RequestedAppStates").is_empty());
}

#[test]
fn a_request_is_answered_before_its_first_report() {
    let device = Device::online();
    let app = app(501, "demo");
    device.offer(&app);
    let traffic = device.cloud.router.tap();
    // The tap begins after HELLO: who sends a YIELD is the agent.
    device.request(&app, "RUNNING");
    let sent: Vec<Value> = traffic
        .try_iter()
        .filter_map(|passed| match passed {
            crate::cloud::router::Traffic::FromPeer(_, message) => Some(message),
            _ => None,
        })
        .collect();
    let place = |is: &dyn Fn(&Value) -> bool| sent.iter().position(is).unwrap_or_else(|| panic!("{sent:#?}"));
    let report = place(&|m| m[0] == 48 && m[3] == "reswarm.containers.update_app_on_device");
    let answer = place(&|m| m[0] == 70 && m.as_array().unwrap().len() == 3);
    assert!(answer < report, "{sent:#?}");
}

#[test]
fn a_report_has_exactly_the_documented_keys() {
    let device = Device::online();
    device.install(&app(501, "demo"));
    let report = device.cloud.backend.wait_for_state(LIMIT, 0, 501, "RUNNING");
    let identity = &device.cloud.backend.identity;
    assert_eq!(
        *report.argument(),
        json!({
            "app_key": 501, "stage": "PROD", "state": "RUNNING", "device_to_app_key": 0, "device_key": 3, "swarm_key": 2,
            "serial_number": identity.serial, "requestor_account_key": 42, "release_key": 100, "request_update": false,
            "release_build": false, "updateStatus": "",
        })
    );
}

#[test]
fn an_update_replaces_container_and_image_and_tells_the_new_version() {
    let device = Device::online();
    let app = app(501, "demo");
    device.install(&app);
    settle(&device);
    let (old, port) = (device.container_id("prod_501_demo"), device.host_port("prod_501_demo"));
    device.engine.offer(&Device::image(&app, "2.0.0"), Pull::Works);
    let mark = device.cloud.backend.mark();
    device.request(&device.cloud.backend.known(501, "PROD").update_to("2.0.0", 101), "RUNNING");
    settle(&device);
    assert_eq!(device.reports_since(mark, 501), ["UPDATING", "PRESENT", "RUNNING"]);
    let confirmed = device.cloud.backend.wait_for_state(LIMIT, mark, 501, "PRESENT");
    assert_eq!(
        (&confirmed.argument()["updateStatus"], &confirmed.argument()["release_key"]),
        (&json!("pending_remote_confirmation"), &json!(101))
    );
    assert_eq!(device.engine.created_with("prod_501_demo").unwrap()["Image"], Device::image(&app, "2.0.0"));
    assert_ne!(device.container_id("prod_501_demo"), old);
    assert_eq!(device.host_port("prod_501_demo"), port, "the host port is kept");
    assert_eq!(device.rows("SELECT version FROM AppStates"), ["2.0.0"]);
    assert_eq!(device.engine.containers().len(), 1);
    // The image goes last, and nobody is told.
    wait_until(LIMIT, "the old image is gone", || {
        (device.engine.images() == [Device::image(&app, "2.0.0")]).then_some(())
    });
}

#[test]
fn a_missing_image_fails_without_downloading_and_a_pull_that_breaks_fails_after_it() {
    let device = Device::online();
    let (absent, broken) = (app(501, "absent"), app(502, "broken"));
    device.engine.offer(&Device::image(&broken, "1.0.0"), Pull::Fails("toomanyrequests: slow down".to_owned()));
    let logs = device.cloud.backend.subscribe_logs("prod_502_broken");
    device.request(&absent, "FAILED");
    assert_eq!(device.cloud.backend.reports(501)[..2], ["STARTING", "FAILED"]);
    device.request(&broken, "FAILED");
    assert_eq!(device.cloud.backend.reports(502)[..3], ["STARTING", "DOWNLOADING", "FAILED"]);
    let said = wait_until(LIMIT, "the registry's words", || {
        logs.recv_timeout(LIMIT).ok().map(|line| line.args[0].to_string()).filter(|line| line.contains("slow down"))
    });
    assert!(said.contains("toomanyrequests"), "{said}");
    // What was wrong is put right: the crash loop finds it.
    let mark = device.cloud.backend.mark();
    device.offer(&broken);
    device.offer(&absent);
    for key in [501, 502] {
        device.cloud.backend.wait_for_state(LIMIT, mark, key, "RUNNING");
    }
}

#[test]
fn s12_an_app_that_exits_at_once_is_failed_and_started_again_by_the_crash_loop() {
    let device = Device::online();
    let app = app(501, "demo");
    let image = Device::image(&app, "1.0.0");
    device
        .engine
        .behave(&image, Behaviour { exits: Some(3), log: vec!["no config".to_owned()], ..Behaviour::default() });
    device.offer(&app);
    let logs = device.cloud.backend.subscribe_logs("prod_501_demo");
    device.request(&app, "FAILED");
    device.engine.behave(&image, Behaviour::default());
    let mark = device.cloud.backend.mark();
    device.cloud.backend.wait_for_state(LIMIT, mark, 501, "RUNNING");
    let said: Vec<String> = logs.try_iter().map(|line| line.args[0].to_string()).collect();
    for words in ["no config", "Crash loop, 1st attempt"] {
        assert!(said.iter().any(|line| line.contains(words)), "{words}: {said:#?}");
    }
}

#[test]
fn an_app_that_ends_after_a_while_is_failed_then_started_again() {
    let device = Device::online();
    device.install(&app(501, "demo"));
    settle(&device);
    let mark = device.cloud.backend.mark();
    device.engine.exit_container("prod_501_demo", 137);
    device.cloud.backend.wait_for_state(LIMIT, mark, 501, "RUNNING");
    assert_eq!(device.reports_since(mark, 501), ["FAILED", "STARTING", "RUNNING"]);
}

#[test]
fn a_stalled_download_is_cancelled_by_a_removal() {
    let device = Device::online();
    let app = app(501, "demo");
    device.engine.offer(&Device::image(&app, "1.0.0"), Pull::Stalls);
    device.request(&app.clone().target("PRESENT"), "DOWNLOADING");
    let mark = device.cloud.backend.mark();
    device.request(&device.cloud.backend.known(501, "PROD").target("REMOVED").cancel(), "REMOVED");
    settle(&device);
    assert_eq!(device.reports_since(mark, 501).last().map(String::as_str), Some("REMOVED"));
    // The transfer is over: the next one does not wait for it.
    device.offer(&app);
    device.request(&app.target("PRESENT"), "PRESENT");
}

#[test]
fn a_stalled_update_is_cancelled_and_the_old_release_runs_on() {
    let device = Device::online();
    let app = app(501, "demo");
    device.install(&app);
    device.engine.offer(&Device::image(&app, "2.0.0"), Pull::Stalls);
    let known = || device.cloud.backend.known(501, "PROD");
    device.request(&known().update_to("2.0.0", 101), "UPDATING");
    device.engine.wait_for_request("POST /images/create", 2);
    let mark = device.cloud.backend.mark();
    let mut cancel = known().target("PRESENT").cancel();
    cancel.request_update = false;
    device.request(&cancel, "PRESENT");
    settle(&device);
    let report = device.cloud.backend.wait_for_state(LIMIT, mark, 501, "PRESENT");
    assert_eq!(
        (&report.argument()["updateStatus"], &report.argument()["release_key"]),
        (&json!("canceled"), &json!(100))
    );
    assert_eq!(device.rows("SELECT version FROM AppStates"), ["1.0.0"]);
    let mark = device.cloud.backend.mark();
    let mut again = known().target("RUNNING");
    again.cancel_transition = false;
    device.request(&again, "RUNNING");
    assert!(!device.reports_since(mark, 501).contains(&"UPDATING".to_owned()));
    assert_eq!(device.engine.created_with("prod_501_demo").unwrap()["Image"], Device::image(&app, "1.0.0"));
}

#[test]
fn s3_the_newest_of_many_requests_in_mid_transition_wins() {
    let device = Device::online();
    let app = app(501, "demo");
    device.offer(&app);
    device.engine.fault("POST /containers/create", Fault::Hang);
    device.request(&app, "STARTING");
    device.engine.wait_for_request("POST /containers/create", 1);
    let mark = device.cloud.backend.mark();
    for target in ["PRESENT", "RUNNING", "PRESENT", "RUNNING", "PRESENT"] {
        device.cloud.backend.request_app_state(&app.clone().current("STARTING").target(target)).unwrap();
    }
    device.engine.heal();
    device.wait_for_last_state(mark, 501, "PRESENT");
    device.engine.wait_for_status("prod_501_demo", "absent");
}

#[test]
fn a_development_app_and_a_compose_app_fail_alone_and_harm_nobody() {
    let device = Device::online();
    let compose = app(502, "composed").compose(json!({"services": {"web": {"image": "nginx"}}}));
    device.request(&compose, "FAILED");
    device.cloud.backend.request_app_state(&app(503, "dev").dev()).unwrap();
    device.install(&app(501, "demo"));
    assert_eq!(device.engine.containers().len(), 1);
}

#[test]
fn a_port_that_somebody_else_holds_is_left_to_them() {
    let device = Device::online();
    let app = app(501, "demo");
    device.install(&app);
    device.target(&app, "PRESENT");
    let port = 49_999;
    device.engine.take_port(port);
    let mut rule = app.ports[0].clone();
    rule["host_port"] = json!(port);
    let mut again = device.cloud.backend.known(501, "PROD").target("RUNNING");
    again.ports = vec![rule];
    device.request(&again, "RUNNING");
    assert_ne!(device.host_port("prod_501_demo"), Some(port.to_string()));
}

#[test]
fn an_app_that_is_wanted_before_the_first_connect_runs_after_it() {
    let mut device = Device::prepare();
    let app = app(501, "demo");
    device.offer(&app);
    device.cloud.backend.want(app);
    let traffic = device.cloud.router.tap();
    device.agent.restart();
    // CONNECTED does not wait for the transitions that it has begun.
    sent_until(&traffic, &device.authid(), |message| message[4][0]["status"] == "CONNECTED");
    device.cloud.backend.wait_for_state(LIMIT, 0, 501, "RUNNING");
}

#[test]
fn x2_environment_values_arrive_escaped_in_one_way_and_names_that_are_none_are_left_out() {
    let device = Device::online();
    let odd = "two\nlines\t# no comment $HOME ${X} \"quoted\" 'single' \\ back ünï";
    let told = "two\\nlines\\t# no comment $HOME ${X} \"quoted\" 'single' \\ back ünï";
    let app = app(501, "demo").env("ODD", odd).env("EMPTY", "").env("A=B", "x").env("", "x").env("NUL\0", "x");
    let app = app.env("DOT/DOT", "x").env("APP_AUTH_SECRET", "not ours");
    device.install(&app);
    let env = device.engine.created_with("prod_501_demo").unwrap()["Env"].clone();
    let env: Vec<String> = serde_json::from_value(env).unwrap();
    assert!(env.contains(&format!("ODD={told}")) && env.contains(&"EMPTY=".to_owned()), "{env:#?}");
    for bad in ["A=B", "=x", "NUL", "APP_AUTH_SECRET=not"] {
        assert!(!env.iter().any(|entry| entry.starts_with(bad)), "{bad}: {env:#?}");
    }
    let names: Vec<&str> = env.iter().filter_map(|entry| Some(entry.split_once('=')?.0)).collect();
    assert!(names.is_sorted(), "{names:?}");
    let file = device.agent.apps_dir().join("prod/demo/env/ODD.txt");
    assert_eq!(std::fs::read_to_string(file).unwrap(), told);
}

#[test]
fn an_app_name_never_leads_out_of_the_apps_folder() {
    let device = Device::online();
    let outside = device.agent.folder.join("outside");
    std::fs::create_dir_all(outside.join("deep")).unwrap();
    for (key, name) in [(601, "../../outside"), (602, ".."), (603, "a/b"), (604, "."), (605, "..\\x"), (606, "a\0b")] {
        let app = app(key, name);
        device.offer(&app);
        // Refused at once, or failed later: both will do.
        if device.cloud.backend.request_app_state(&app).is_ok() {
            device.cloud.backend.wait_for(LIMIT, "an end", |calls| {
                let mut reports = calls.iter().filter(|call| call.argument()["app_key"] == key);
                reports
                    .any(|call| ["FAILED", "RUNNING"].map(Value::from).contains(&call.argument()["state"]))
                    .then_some(())
            });
            device.cloud.backend.request_app_state(&app.target("UNINSTALLED")).unwrap();
        }
    }
    device.install(&app(501, "demo"));
    assert!(outside.join("deep").is_dir(), "nothing outside was deleted");
    let made: Vec<_> =
        std::fs::read_dir(device.agent.folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(made.len() <= 6, "{made:?}");
    let entries = std::fs::read_dir(device.agent.apps_dir().join("prod")).unwrap().flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    assert!(!names.contains(&"a".into()), "{names:?}");
}

#[test]
fn decision_31_two_apps_of_one_name_share_their_folder_and_one_that_leaves_does_not_take_it() {
    let device = Device::online();
    let (one, two) = (app(501, "same"), app(502, "same"));
    device.install(&one);
    device.install(&two);
    let folder = device.agent.apps_dir().join("prod/same");
    std::fs::write(folder.join("data.txt"), "of both").unwrap();
    device.request(&device.cloud.backend.known(501, "PROD").target("UNINSTALLED"), "UNINSTALLED");
    device.engine.wait_for_status("prod_501_same", "absent");
    device.target(&two, "PRESENT");
    assert!(folder.join("data.txt").exists());
    device.request(&device.cloud.backend.known(502, "PROD").target("UNINSTALLED"), "UNINSTALLED");
    wait_until(LIMIT, "the last one takes it", || (!folder.exists()).then_some(()));
}

#[test]
fn s2_twenty_apps_at_once_each_get_one_container_and_a_port_of_their_own() {
    let device = Device::online();
    let apps: Vec<_> = (501..521).map(|key| app(key, "demo").port(53, "udp")).collect();
    apps.iter().for_each(|app| device.offer(app));
    for app in &apps {
        for target in ["RUNNING", "PRESENT", "RUNNING"] {
            device.cloud.backend.request_app_state(&app.clone().target(target)).unwrap();
        }
    }
    apps.iter().for_each(|app| device.wait_for_last_state(0, app.app_key, "RUNNING"));
    let mut ports = Vec::new();
    for app in &apps {
        let created = device.engine.created_with(&app.container()).unwrap();
        let bindings = created["HostConfig"]["PortBindings"].as_object().unwrap().clone();
        assert_eq!(bindings.len(), 2, "{bindings:?}");
        ports.extend(
            bindings.into_iter().map(|(port, hosts)| (port.ends_with("udp"), hosts[0]["HostPort"].to_string())),
        );
    }
    ports.sort();
    ports.dedup();
    assert_eq!(ports.len(), 40, "{ports:?}");
    assert_eq!(device.engine.containers().len(), 20);
}

#[test]
fn reports_that_were_not_taken_survive_a_kill_and_go_out_in_order() {
    use crate::cloud::backend::Answer;
    let mut device = Device::online();
    let app = app(501, "demo");
    device.offer(&app);
    device.cloud.backend.answer("update_app_on_device", Answer::Silence);
    device.cloud.backend.request_app_state(&app).unwrap();
    device.engine.wait_for_status("prod_501_demo", "running");
    wait_until(LIMIT, "all are queued", || (device.rows("SELECT id FROM StateOutbox").len() == 5).then_some(()));
    device.agent.kill9();
    device.cloud.backend.answer("update_app_on_device", Answer::Usual);
    let mark = device.cloud.backend.mark();
    device.connect();
    settle(&device);
    let told = device.reports_since(mark, 501);
    assert_eq!(told[..5], ["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"], "{told:?}");
    assert!(told[5..].iter().all(|state| state == "RUNNING"), "{told:?}");
}

#[test]
fn the_report_that_confirms_an_update_is_told_after_an_outage_before_the_latest_state() {
    let mut device = Device::online();
    let app = app(501, "demo");
    device.install(&app);
    settle(&device);
    let image = Device::image(&app, "2.0.0");
    device.engine.offer(&image, Pull::Works);
    device.engine.fault("POST /images/create", Fault::Hang);
    device.request(&device.cloud.backend.known(501, "PROD").update_to("2.0.0", 101), "UPDATING");
    device.engine.wait_for_request("POST /images/create", 2);
    let mark = device.cloud.backend.mark();
    device.cloud.go_down();
    wait_until(LIMIT, "the loss is noticed", || device.agent.log().contains("session lost").then_some(()));
    device.engine.heal();
    device.engine.wait_for_image("prod_501_demo", &image);
    wait_until(LIMIT, "it is recorded", || (device.recorded() == ["501:RUNNING"]).then_some(()));
    device.cloud.come_back().unwrap();
    device.cloud.backend.wait_for_status(LIMIT, mark, "CONNECTED");
    let calls = device.cloud.backend.calls();
    let told: Vec<(&Value, &Value)> = calls[mark..]
        .iter()
        .filter(|call| call.is("update_app_on_device") && call.argument()["state"].is_string())
        .map(|call| (&call.argument()["state"], &call.argument()["updateStatus"]))
        .collect();
    assert_eq!(told[0], (&json!("PRESENT"), &json!("pending_remote_confirmation")), "{told:?}");
    assert!(told.len() > 1 && told[1..].iter().all(|(state, _)| *state == "RUNNING"), "{told:?}");
    // The backend got the confirmation before it was asked what is wanted.
    let place = |name: &str| calls[mark..].iter().position(|call| call.is(name)).unwrap();
    assert!(place("update_app_on_device") < place("get_requested_app_states"));
    assert_eq!(device.rows("SELECT version FROM AppStates"), ["2.0.0"]);
}

#[test]
fn a_report_is_tried_again_while_the_backend_is_away_and_dropped_when_it_is_refused() {
    use crate::cloud::backend::Answer;
    let device = Device::online();
    let app = app(501, "demo");
    device.offer(&app);
    let error = |uri: &str| Answer::Error(uri.to_owned(), vec![json!("not now")]);
    device.cloud.backend.answer("update_app_on_device", error("wamp.error.no_such_procedure"));
    device.cloud.backend.request_app_state(&app).unwrap();
    device.engine.wait_for_status("prod_501_demo", "running");
    device.cloud.backend.wait_for(LIMIT, "the first report, twice", |calls| {
        (calls.iter().filter(|call| call.argument()["state"] == "STARTING").count() >= 2).then_some(())
    });
    device.cloud.backend.answer("update_app_on_device", Answer::Usual);
    settle(&device);
    let mut told = device.cloud.backend.reports(501);
    told.dedup();
    assert_eq!(told, ["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"]);
    device.cloud.backend.answer("update_app_on_device", error("wamp.error.runtime_error"));
    device.cloud.backend.request_app_state(&device.cloud.backend.known(501, "PROD").target("PRESENT")).unwrap();
    device.engine.wait_for_status("prod_501_demo", "absent");
    device.cloud.backend.wait_for(LIMIT, "the next report follows", |calls| {
        calls.iter().any(|call| call.argument()["state"] == "STOPPING").then_some(())
    });
    device.cloud.backend.answer("update_app_on_device", Answer::Usual);
    settle(&device);
    assert_eq!(device.recorded(), ["501:PRESENT"], "a refused report fails no transition");
}
