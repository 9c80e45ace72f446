//! One app from its installation to its end, against Crossbar, Docker and the registry.

use super::stage::{SOON, Stage, page_says, with_ports};
use super::tap::{Frame, transcript};
use crate::cloud::flock::Identity;
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;

/// The app that the tests of this module install.
pub fn demo() -> WantedApp {
    with_ports(recorded_demo())
}

/// The same as in the recordings, where the agent chooses the host ports.
pub fn recorded_demo() -> WantedApp {
    WantedApp::new(501, "demo").env("GREETING", "hello").env("MULTI", "a\nb").port(8080, "http").port(53, "udp")
}

/// The states of an app in the reports after `mark`, in order.
pub fn reports_after(stage: &Stage, mark: usize, app: &WantedApp) -> Vec<String> {
    let calls = stage.backend.calls();
    let of = calls[mark..].iter().filter(|call| call.argument()["app_key"] == app.app_key);
    of.filter_map(|call| call.argument()["state"].as_str().map(str::to_owned)).collect()
}

#[test]
fn an_app_is_installed_stopped_started_updated_removed_and_uninstalled_with_its_reports_in_order() {
    let mut stage = Stage::prepare(Identity::generated());
    let app = demo();
    stage.push(&app, "1.0.0", "demo");
    stage.push(&app, "2.0.0", "demo");
    let lines = stage.backend.subscribe_logs(&app.container());
    stage.agent.restart();
    stage.online(0);
    assert_eq!(stage.backend.statuses(), ["CONFIGURING", "CONNECTED"]);

    let goes = |app: &WantedApp, end: &str, expected: &[&str]| {
        let mark = stage.backend.mark();
        stage.backend.request_app_state(app).expect("the agent takes the request");
        stage.backend.wait_for(SOON, &format!("{expected:?}"), |calls| {
            let of = calls[mark..].iter().filter(|call| call.argument()["app_key"] == app.app_key);
            let states: Vec<&str> = of.filter_map(|call| call.argument()["state"].as_str()).collect();
            (states.len() >= expected.len() && states.last() == Some(&end)).then_some(())
        });
        assert_eq!(reports_after(&stage, mark, app), expected);
    };
    goes(&app, "RUNNING", &["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"]);
    let port = stage.host_port(&app, 8080);
    page_says(port, "/", "demo 1.0.0");
    page_says(port, "/env", "GREETING=hello");
    hears(&lines, "demo 1.0.0 line 2");
    let first = stage.container(&app)["Id"].clone();

    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().target("PRESENT"), "PRESENT", &["STOPPING", "STOPPING", "PRESENT"]);
    assert_eq!(stage.docker.names(&app.container()), Vec::<String>::new());
    goes(&app.clone().target("RUNNING").current("PRESENT"), "RUNNING", &["STARTING", "RUNNING"]);
    assert_ne!(stage.container(&app)["Id"], first, "a stop removes the container");
    assert_eq!(stage.host_port(&app, 8080), port, "the app keeps its port over a stop");
    page_says(port, "/", "demo 1.0.0");

    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().update_to("2.0.0", 101), "RUNNING", &["UPDATING", "PRESENT", "RUNNING"]);
    page_says(port, "/", "demo 2.0.0");
    let image = stage.container(&app)["Config"]["Image"].clone();
    assert_eq!(image, stage.reference(&app, "2.0.0"));
    wait_until(SOON, "the old image goes", || {
        stage.docker.run(&["images", "-q", &stage.reference(&app, "1.0.0")]).is_empty().then_some(())
    });
    assert_eq!(stage.backend.known(501, "PROD").present_version, "2.0.0");
    hears(&lines, "demo 2.0.0 line 2");

    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().target("REMOVED"), "REMOVED", &["DELETING", "REMOVED"]);
    assert_eq!(stage.docker.run(&["images", "-q"]), "", "a removal takes the image along");
    let data = stage.agent.apps_dir().join("prod/demo");
    assert!(data.is_dir(), "a removal leaves the data");
    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().target("RUNNING"), "RUNNING", &["STARTING", "DOWNLOADING", "PRESENT", "STARTING", "RUNNING"]);
    let app = stage.backend.known(501, "PROD");
    goes(&app.clone().target("UNINSTALLED"), "UNINSTALLED", &["DELETING", "REMOVED", "UNINSTALLED"]);
    wait_until(SOON, "the data goes", || (!data.exists()).then_some(()));
    assert_eq!(stage.docker.names(""), Vec::<String>::new());
    assert_eq!(stage.docker.run(&["images", "-q"]), "");
    stage.tap.wait_for(SOON, 0, "a request was answered", |frame: &Frame| {
        frame.is(super::relay::Side::Client, 70).then_some(())
    });
    assert!(!transcript(&stage.tap.frames()).contains("fake-device-secret"));
}

fn hears(lines: &crossbeam_channel::Receiver<crate::cloud::peer::Payload>, wanted: &str) {
    wait_until(SOON, &format!("a subscriber hears {wanted:?}"), || {
        lines.try_iter().any(|event| event.args.iter().any(|arg| arg.to_string().contains(wanted))).then_some(())
    });
}
