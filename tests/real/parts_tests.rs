//! The real parts themselves: they start, they work together, and nothing of them stays.

use super::{Crossbar, Docker, Registry};
use crate::cloud::Cloud;
use crate::cloud::backend::Backend;
use crate::cloud::flock::Identity;
use crate::cloud::peer::{Login, Peer};
use crate::util::wait_until;
use serde_json::{Map, json};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn an_image_is_pushed_pulled_run_and_cleaned_up() {
    let mut docker = Docker::shared();
    let registry = Registry::start();
    docker.own_containers("parts_9001_");
    docker.own_images(&registry.address());
    let reference = registry.push(&docker, "prod_amd64_9001_demo", "1.0.0", "demo");
    assert_eq!(docker.run(&["images", "-q", &reference]), "", "a pushed image does not stay");
    docker.run(&["run", "-d", "--privileged", "--name", "parts_9001_demo", &reference]);
    wait_until(SOON, "a line of the demo app", || {
        docker.run(&["logs", "parts_9001_demo"]).contains("demo 1.0.0 line 1").then_some(())
    });
    let state = docker.inspect("parts_9001_demo").unwrap()["State"]["Status"].clone();
    assert_eq!(state, "running");
    let address = registry.address();
    drop(docker);
    let docker = Docker::shared();
    assert_eq!(docker.names("parts_9001_"), Vec::<String>::new());
    assert_eq!(docker.inspect("parts_9001_demo"), None);
    assert!(!docker.run(&["images", "--format", "{{.Repository}}"]).contains(&address));
    drop(registry);
    assert!(std::net::TcpStream::connect(&address).is_err(), "the registry ends with its handle");
}

#[test]
fn a_registry_with_a_login_refuses_a_pull_without_it() {
    let mut docker = Docker::shared();
    let registry = Registry::start_with_login("registry-token", "fake-device-secret");
    docker.own_images(&registry.address());
    let reference = registry.push(&docker, "prod_amd64_9002_demo", "1.0.0", "exits");
    let pull = docker.try_run(&["pull", &reference]);
    let error = String::from_utf8_lossy(&pull.stderr).into_owned();
    assert!(!pull.status.success() && error.contains("no basic auth credentials"), "{error}");
}

#[test]
fn the_backend_works_on_crossbar_as_on_our_router() {
    let crossbar = Crossbar::start();
    let ours = Cloud::start(0, "127.0.0.1:5000").unwrap();
    let identity = Identity::generated();
    let on_crossbar = Backend::start(&crossbar.url(), identity.clone()).unwrap();
    for (url, identity, backend) in
        [(crossbar.url(), &identity, &on_crossbar), (ours.router.url(), &ours.backend.identity, &ours.backend)]
    {
        let device = Peer::join(&Login::new(&url, &identity.authid(), &identity.secret)).unwrap();
        let status = json!({"status": "CONNECTED", "wamp_session_id": device.session()});
        device.call("reswarm.devices.update_device_status", vec![status], Map::new(), SOON).unwrap();
        assert_eq!(backend.statuses(), ["CONNECTED"]);
    }
}
