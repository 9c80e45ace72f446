//! Updates: the gate, requests while one runs, cancels (apps chapter 2.4, 2.7, 3.12, section 9).

use super::super::app::AppState;
use super::super::job::{Health, JobSpec, Outcome};
use super::super::testing::*;
use serde_json::json;

fn newest(version: &str) -> serde_json::Value {
    json!({"newest_version": version, "request_update": true, "present_version": "1.0.0", "new_release_key": 101})
}

/// App 1 runs 1.0.0; its update to 2.0.0 waits for the pull.
fn updating(target: &str) -> World {
    let mut world = World::running();
    world.holds = |spec| matches!(spec, JobSpec::Pull { .. });
    world.request(1, target, newest("2.0.0"));
    reports(&mut world, &["1 UPDATING"]);
    world
}

#[test]
fn an_update_pulls_first_confirms_once_and_goes_on_to_its_target() {
    let mut world = World::running();
    world.request(1, "RUNNING", newest("2.0.0"));
    world.pass(secs(29));
    assert!(world.engine.containers.contains_key("kept-1-prod") && world.engine.is_running(&container(1)));
    assert_eq!(world.reports(), ["1 UPDATING"], "on trial");
    world.pass(secs(2));
    assert!(!world.engine.containers.contains_key("kept-1-prod"));
    let seen = world.take(&["1 ", "say", "keep", "remove", "pull", "start"]);
    assert_eq!(
        seen,
        [
            "1 UPDATING",
            "say Preparing download of Demo …",
            "pull registry/apps/prod_amd64_1_demo:2.0.0 as registry-token",
            "say Demo installed, version 2.0.0",
            "say Starting the new release of Demo, 2.0.0: the one before is kept until it has proved itself",
            "keep kept-1-prod",
            "start registry/apps/prod_amd64_1_demo:2.0.0",
            "1 PRESENT pending_remote_confirmation",
            "say Demo is running (2.0.0)",
            "remove kept-1-prod",
            "1 RUNNING completed",
            "remove images registry/apps/prod_amd64_1_demo:1.0.0",
        ]
    );
    let row = &world.tables.requests[&prod(1)];
    assert_eq!((row.present_version.as_str(), row.newest_version.as_str(), row.release_key), ("2.0.0", "2.0.0", 101));
    assert_eq!((world.tables.apps[&prod(1)].version.as_str(), world.tables.apps[&prod(1)].release_key), ("2.0.0", 101));
}

#[test]
fn the_update_gate_follows_its_vectors() {
    for (installed, wish, target, expected) in [
        ("1.0.0", json!({"newest_version": "2.0.0", "request_update": false}), "PRESENT", "1 PRESENT"),
        ("2.0.0", json!({"newest_version": "2.0.0", "request_update": true}), "PRESENT", "1 PRESENT"),
        ("1.0.0", json!({"newest_version": "", "request_update": true}), "PRESENT", "1 PRESENT"),
        ("1.0.0", json!({"newest_version": "2.0.0", "request_update": true}), "PRESENT", "1 UPDATING"),
        ("1.0.0", json!({"newest_version": "2.0.0", "request_update": true}), "UNINSTALLED", "1 DELETING"),
        ("1.0.0", json!({"newest_version": "2.0.0", "request_update": true}), "REMOVED", "1 DELETING"),
    ] {
        let mut world = World::connected();
        world.request(1, "PRESENT", json!({"newest_version": installed}));
        world.settle();
        world.trace.clear();
        world.request(1, target, wish.clone());
        world.settle();
        assert_eq!(world.reports().first().map(String::as_str), Some(expected), "{installed} {wish} {target}");
    }
}

#[test]
fn requests_while_updating_wait_unless_they_do_not_want_it() {
    let mut world = updating("RUNNING");
    world.request(1, "RUNNING", json!({}));
    world.request(1, "BUILT", json!({}));
    reports(&mut world, &[]);
    for (target, expected) in [
        ("PRESENT", vec!["1 PRESENT canceled"]),
        ("REMOVED", vec!["1 DELETING canceled", "1 REMOVED canceled"]),
        ("UNINSTALLED", vec!["1 DELETING canceled", "1 REMOVED canceled", "1 UNINSTALLED canceled"]),
    ] {
        let mut world = updating("RUNNING");
        world.request(1, target, json!({"request_update": false}));
        reports(&mut world, &expected);
        assert!(!world.engine.is_running(&container(1)), "{target}");
        world.pass(secs(3600));
        reports(&mut world, &[]);
    }
}

#[test]
fn a_cancelled_update_does_not_come_back_by_itself() {
    let mut world = updating("PRESENT");
    world.request(1, "PRESENT", json!({})); // the flag still set, as a careless backend sends it
    reports(&mut world, &["1 PRESENT canceled"]);
    assert!(!world.tables.requests[&prod(1)].request_update);
    world.crash();
    world.settle();
    assert!(!world.trace.iter().any(|line| line.starts_with("pull")), "{:?}", world.trace);
}

#[test]
fn a_target_that_is_toggled_during_an_update_ends_as_toggled_last() {
    let mut world = updating("RUNNING");
    world.request(1, "PRESENT", json!({}));
    world.request(1, "RUNNING", json!({}));
    world.settle();
    world.holds = |_| false;
    world.pass(secs(40));
    assert_eq!(world.tables.requests[&prod(1)].requested_state, AppState::Running);
    assert!(world.engine.is_running(&container(1)));
    assert!(world.reports().last().is_some_and(|line| line.starts_with("1 RUNNING")), "{:?}", world.reports());
}

#[test]
fn what_was_pulled_is_what_is_installed_also_if_a_newer_one_is_asked_for_meanwhile() {
    let mut world = updating("RUNNING");
    world.request(1, "RUNNING", json!({"newest_version": "3.0.0", "new_release_key": 102}));
    world.settle();
    world.holds = |_| false;
    world.pass(secs(70));
    let starts = world.take(&["start", "1 PRESENT"]);
    assert_eq!(
        starts,
        [
            "start registry/apps/prod_amd64_1_demo:2.0.0",
            "1 PRESENT pending_remote_confirmation",
            "start registry/apps/prod_amd64_1_demo:3.0.0",
            "1 PRESENT pending_remote_confirmation",
        ]
    );
    assert_eq!(world.tables.apps[&prod(1)].release_key, 102);
}

#[test]
fn an_update_that_fails_leaves_the_old_release_running_and_waits_for_its_next_try() {
    let mut world = World::running();
    world.engine.fails.insert("pull", (2, "no route"));
    world.request(1, "RUNNING", newest("2.0.0"));
    reports(&mut world, &["1 UPDATING", "1 FAILED", "1 RUNNING"]);
    world.pass(secs(3));
    reports(&mut world, &[]);
    world.pass(secs(4));
    reports(&mut world, &["1 UPDATING", "1 FAILED", "1 RUNNING"]);
    world.pass(secs(10));
    reports(&mut world, &[]);
    world.pass(secs(50));
    reports(&mut world, &["1 UPDATING", "1 PRESENT pending_remote_confirmation", "1 RUNNING completed"]);
}

#[test]
fn c5_a_reconnect_neither_cancels_nor_repeats_an_update() {
    for target in ["PRESENT", "RUNNING"] {
        let mut world = updating(target);
        world.join();
        world.settle();
        assert!(world.jobs.values().any(|spec| matches!(spec, JobSpec::Pull { .. })), "{target}: it goes on");
        world.trace.clear();
        world.backend.wanted.get_mut(&prod(1)).unwrap().insert("present_version".to_owned(), json!("1.0.0"));
        world.holds = |_| false;
        world.pass(secs(40));
        let seen = world.reports();
        assert_eq!(seen.first().map(String::as_str), Some("1 PRESENT pending_remote_confirmation"), "{seen:?}");
        assert!(!seen.iter().any(|line| line.contains("UPDATING")), "{seen:?}");
    }
}

#[test]
fn a_list_from_before_the_confirmation_does_not_bring_the_old_version_back() {
    let mut world = updating("RUNNING");
    world.leave();
    world.holds = |_| false;
    world.pass(secs(40));
    assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0");
    world.trace.clear();
    // The backend answers nothing to reports, so that the drain gives up and the list still says 1.0.0.
    world.backend.answers.insert("report", None);
    world.join();
    world.pass(secs(20));
    assert!(world.trace.contains(&"call status CONNECTED".to_owned()), "{:?}", world.trace);
    assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0");
    assert!(!world.trace.iter().any(|line| line.starts_with("pull")), "{:?}", world.trace);
}

#[test]
fn a_list_from_before_the_confirmation_is_no_wish_for_the_same_update_again() {
    let mut world = updating("RUNNING");
    world.backend.answers.insert("report", Some(transport()));
    world.holds = |_| false;
    world.pass(secs(40));
    // The list is taken while the report of the update waits, and the backend learns of the update after that.
    world.join();
    world.pass(secs(20));
    assert!(world.trace.contains(&"call status CONNECTED".to_owned()), "{:?}", world.trace);
    world.backend.answers.remove("report");
    world.trace.clear();
    world.pass(secs(200));
    assert!(world.reports().contains(&"1 RUNNING completed".to_owned()), "{:?}", world.trace);
    assert!(!world.trace.iter().any(|line| line.starts_with("pull") || line.contains("UPDATING")), "{:?}", world.trace);
    assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0");
}

/// The new release is started; it ends at once, or after some seconds, or is never healthy.
#[test]
fn a_release_that_does_not_prove_itself_goes_and_the_one_before_comes_back_without_network() {
    type Fault = fn(&mut World);
    let faults: [(&str, Fault); 4] = [
        ("ended with exit code 1", |world| {
            world.engine.short_lived = 1;
            world.settle();
        }),
        ("ended with exit code 137", |world| {
            world.pass(secs(20));
            world.exits(1, 137);
        }),
        ("ended with exit code 3", |world| {
            // Nobody hears of it: the end of the probation finds out.
            world.pass(secs(20));
            world.engine.exit(&container(1), 3);
        }),
        ("not healthy within 2m", |world| {
            world.settle();
            world.engine.containers.get_mut(&container(1)).unwrap().health = Some(Health::Starting);
        }),
    ];
    for (reason, fault) in faults {
        let mut world = updating("RUNNING");
        world.leave();
        world.holds = |_| false;
        fault(&mut world);
        world.pass(secs(140));
        assert!(world.noted(reason), "{reason}: {:?}", world.notes);
        let kept = &world.engine.containers[&container(1)];
        assert_eq!((kept.id.as_str(), kept.status.as_str()), ("id-1", "running"), "{reason}");
        assert!(!world.engine.containers.contains_key("kept-1-prod"));
        assert_eq!(world.tables.apps[&prod(1)].version, "1.0.0");
        assert_eq!(world.state.apps[&prod(1)].state, AppState::Running);
        let row = &world.tables.requests[&prod(1)];
        assert_eq!((row.present_version.as_str(), row.release_key), ("1.0.0", 100));
        assert!(!world.engine.images.contains("never"), "{reason}");
    }
}

#[test]
fn a_release_whose_port_cannot_be_bound_goes_and_the_one_before_comes_back() {
    let mut world = updating("RUNNING");
    world.holds = |spec| matches!(spec, JobSpec::Start(_));
    world.settle();
    let job = world.job(|spec| matches!(spec, JobSpec::Start(_)));
    let text = "Bind for 0.0.0.0:4000 failed: port is already allocated".to_owned();
    world.ended(job, Outcome::PortConflict(text));
    reports(&mut world, &["1 PRESENT canceled", "1 RUNNING canceled"]);
    assert!(world.engine.is_running(&container(1)) && world.noted("port is already allocated"));
    world.pass(secs(3600));
    reports(&mut world, &[]);
}

/// App 1 runs 1.0.0 again after 2.0.0 has failed.
fn rolled_back() -> World {
    let mut world = World::running();
    world.engine.short_lived = 1;
    world.request(1, "RUNNING", newest("2.0.0"));
    reports(&mut world, &["1 UPDATING", "1 PRESENT canceled", "1 RUNNING canceled"]);
    world
}

#[test]
fn a_version_that_failed_is_tried_again_only_when_somebody_asks_or_another_one_comes() {
    let mut world = rolled_back();
    world.pass(secs(3600));
    world.join();
    world.pass(secs(60));
    world.crash();
    world.join();
    world.pass(secs(60));
    assert!(!world.trace.iter().any(|line| line.contains("UPDATING")), "{:?}", world.trace);
    world.trace.clear();
    world.exits(1, 1);
    world.pass(secs(10));
    reports(&mut world, &["1 FAILED", "1 STARTING", "1 RUNNING"]);
    world.request(1, "RUNNING", json!({"request_update": false}));
    world.pass(secs(40));
    reports(&mut world, &["1 RUNNING"]);
    world.request(1, "RUNNING", newest("2.0.0"));
    world.pass(secs(40));
    reports(&mut world, &["1 UPDATING", "1 PRESENT pending_remote_confirmation", "1 RUNNING completed"]);

    let mut world = rolled_back();
    world.backend.wanted.get_mut(&prod(1)).unwrap().insert("newest_version".to_owned(), json!("2.0.1"));
    world.join();
    world.pass(secs(60));
    assert!(world.reports().contains(&"1 PRESENT pending_remote_confirmation".to_owned()), "{:?}", world.reports());
    assert_eq!(world.tables.apps[&prod(1)].version, "2.0.1");
}

#[test]
fn s7_whatever_ends_the_agent_during_a_trial_puts_the_release_before_back_and_tries_again() {
    for engine_too in [false, true] {
        let mut world = updating("RUNNING");
        world.holds = |_| false;
        world.pass(secs(10));
        assert!(world.engine.containers.contains_key("kept-1-prod"));
        world.trace.clear();
        if engine_too {
            world.engine_down();
            world.settle();
        }
        world.crash();
        world.engine_up();
        world.settle();
        assert!(world.trace.contains(&"put back kept-1-prod".to_owned()), "{:?}", world.trace);
        world.join();
        world.pass(secs(60));
        assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0");
        assert!(!world.engine.containers.contains_key("kept-1-prod"));
        assert!(world.engine.is_running(&container(1)));
    }
}

#[test]
fn s7_a_release_on_trial_that_is_all_there_is_is_never_kept_for_the_release_before() {
    let back = json!({"newest_version": "1.0.0", "request_update": false, "present_version": "1.0.0"});
    for kills in 1..=4 {
        let mut world = World::connected();
        world.request(1, "PRESENT", json!({}));
        world.settle();
        world.request(1, "RUNNING", newest("2.0.0"));
        for kill in 0..kills {
            world.pass(secs(10));
            let on_trial = &world.engine.containers[&container(1)];
            assert!(on_trial.image.ends_with(":2.0.0"), "kill {kill}: {on_trial:?}");
            world.engine_down();
            world.crash();
            world.join();
            world.settle();
            if kill == kills - 1 {
                world.request(1, "RUNNING", back.clone());
                world.settle();
            }
            world.engine_up();
        }
        world.pass(secs(100));
        let runs = &world.engine.containers[&container(1)];
        assert!(runs.status == "running" && runs.image.ends_with(":1.0.0"), "{kills}: {runs:?}");
        assert_eq!((world.engine.containers.len(), world.tables.apps[&prod(1)].version.as_str()), (1, "1.0.0"));
    }
}

#[test]
fn s7_an_update_that_still_pulls_does_not_touch_the_container_when_the_agent_comes_back() {
    let mut world = updating("RUNNING");
    let before = world.engine.containers[&container(1)].id.clone();
    world.crash();
    world.engine_up();
    world.settle();
    assert_eq!(world.engine.containers[&container(1)].id, before);
    assert!(world.engine.is_running(&container(1)));
}

#[test]
fn s7_an_engine_that_takes_the_release_on_trial_along_is_no_failure_of_that_release() {
    let mut world = updating("RUNNING");
    world.holds = |_| false;
    world.pass(secs(10));
    assert!(world.engine.containers.contains_key("kept-1-prod"));
    world.trace.clear();
    world.engine_down();
    // With the engine's own end nobody hears of the container's.
    world.engine.exit(&container(1), 0);
    world.engine_up();
    world.pass(secs(5));
    assert!(world.trace.contains(&"put back kept-1-prod".to_owned()), "{:?}", world.trace);
    world.pass(secs(60));
    assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0");
    assert!(world.engine.is_running(&container(1)) && !world.noted("did not prove itself"), "{:?}", world.notes);
    // An engine that was away is no excuse for ever.
    let mut world = updating("RUNNING");
    world.holds = |_| false;
    world.engine.short_lived = 2;
    world.engine_down();
    world.engine_up();
    world.pass(secs(200));
    assert_eq!(world.tables.apps[&prod(1)].version, "1.0.0");
    assert!(world.engine.is_running(&container(1)) && world.noted("did not prove itself"), "{:?}", world.notes);
}

#[test]
fn why_a_release_did_not_prove_itself_has_the_last_line_that_it_wrote() {
    let mut world = updating("RUNNING");
    world.holds = |_| false;
    world.pass(secs(10));
    world.engine.containers.get_mut(&container(1)).unwrap().last_line = "out of coffee".to_owned();
    world.exits(1, 7);
    world.settle();
    assert!(world.noted("did not prove itself: it ended with exit code 7: out of coffee"), "{:?}", world.notes);
}

#[test]
fn a_kept_container_without_an_update_is_removed() {
    let mut world = World::running();
    let mut left = world.engine.containers[&container(1)].clone();
    (left.name, left.status) = ("kept-1-prod".to_owned(), "exited".to_owned());
    world.engine.containers.insert(left.name.clone(), left);
    world.pass(secs(61));
    assert!(!world.engine.containers.contains_key("kept-1-prod") && world.engine.is_running(&container(1)));
}

#[test]
fn a_trial_is_cancelled_like_the_download_before_it() {
    for (target, last) in [("PRESENT", "1 PRESENT canceled"), ("UNINSTALLED", "1 UNINSTALLED canceled")] {
        let mut world = updating("RUNNING");
        world.holds = |_| false;
        world.pass(secs(10));
        world.request(1, target, json!({"request_update": false}));
        world.settle();
        assert_eq!(world.reports().last().map(String::as_str), Some(last));
        assert!(world.engine.containers.is_empty(), "{target}: {:?}", world.engine.containers);
    }
}

#[test]
fn with_a_health_check_the_new_release_is_kept_as_soon_as_it_is_well() {
    let mut world = updating("RUNNING");
    world.holds = |_| false;
    world.settle();
    world.engine.containers.get_mut(&container(1)).unwrap().health = Some(Health::Starting);
    world.pass(secs(60));
    reports(&mut world, &[]);
    world.engine.containers.get_mut(&container(1)).unwrap().health = Some(Health::Healthy);
    world.container_event(1, "health_status: healthy");
    reports(&mut world, &["1 PRESENT pending_remote_confirmation", "1 RUNNING completed"]);
}

#[test]
fn the_images_of_the_release_before_and_of_the_refused_one_go_with_an_update_and_what_is_used_stays() {
    let image = |version: &str| format!("registry/apps/prod_amd64_1_demo:{version}");
    let mut world = rolled_back();
    assert!(world.engine.images.contains(&image("2.0.0")), "somebody may ask for it again");
    // Another app, stopped, is made of what the first one was.
    let other = json!({"services": {"web": {"image": image("1.0.0")}}});
    world.request(2, "PRESENT", json!({"docker_compose": other}));
    world.settle();
    world.request(1, "RUNNING", newest("3.0.0"));
    world.pass(secs(60));
    let images: Vec<_> = world.engine.images.iter().filter(|it| it.contains("_1_")).cloned().collect();
    assert_eq!(images, [image("1.0.0"), image("3.0.0")]);
    // Without any update: another version is the newest now.
    let mut world = rolled_back();
    world.request(1, "RUNNING", json!({"newest_version": "3.0.0", "request_update": false}));
    world.pass(secs(61));
    assert!(!world.engine.images.contains(&image("2.0.0")) && world.engine.is_running(&container(1)));
}

#[test]
fn an_old_image_that_is_wanted_again_after_a_kill_is_not_removed() {
    let mut world = updating("RUNNING");
    world.holds = |spec| matches!(spec, JobSpec::RemoveImageList { .. });
    world.pass(secs(60));
    assert_eq!(world.tables.superseded[&prod(1)], ["1.0.0"]);
    world.crash();
    world.engine_down();
    world.settle();
    // Back to what was there before: no list of the backend's says otherwise.
    let back =
        json!({"newest_version": "1.0.0", "request_update": true, "present_version": "2.0.0", "new_release_key": 100});
    world.join();
    world.settle();
    world.request(1, "RUNNING", back);
    world.settle();
    world.holds = |_| false;
    world.engine_up();
    world.pass(secs(120));
    let images: Vec<_> = world.engine.images.iter().cloned().collect();
    assert_eq!(images, ["registry/apps/prod_amd64_1_demo:1.0.0"]);
    assert_eq!((world.tables.apps[&prod(1)].version.as_str(), world.tables.superseded.len()), ("1.0.0", 0));
}

#[test]
fn an_app_is_present_with_the_image_of_its_own_version_only() {
    let mut world = World::running();
    world.exits(1, 1);
    world.settle();
    world.engine.images.clear();
    world.engine.images.insert("registry/apps/prod_amd64_1_demo:3.0.0".to_owned());
    world.trace.clear();
    world.request(1, "PRESENT", json!({}));
    world.pass(secs(1));
    assert!(world.trace.iter().any(|line| line.starts_with("pull") && line.contains(":1.0.0 ")), "{:?}", world.trace);
    assert_eq!(world.reports().last().map(String::as_str), Some("1 PRESENT"));
}
