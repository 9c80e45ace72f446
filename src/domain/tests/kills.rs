//! kill -9 at every turn (S7): whatever was under way, the next start ends in the state that was asked for last.

use super::super::app::AppState;
use super::super::job::JobSpec;
use super::super::testing::*;
use serde_json::json;

/// Runs `act` on a world of `start` with a kill after each number of turns, before and after the commit.
pub(super) fn killed_everywhere(start: fn() -> World, act: fn(&mut World), check: fn(&World)) {
    let mut turns = 0;
    for kill in [Kill::BeforeCommit, Kill::AfterCommit] {
        for at in 0..1000 {
            let mut world = start();
            world.kill = Some((at, kill));
            act(&mut world);
            world.settle();
            if world.kill.is_some() {
                turns = at;
                break;
            }
            // The backend knows what was asked for and says so again.
            world.join();
            world.pass(secs(120));
            assert!(world.untrue.is_empty(), "kill {at} {kill:?}: {:?}", world.untrue);
            assert!(world.tables.outbox.is_empty(), "kill {at} {kill:?}: {:?}", world.tables.outbox);
            println!("kill {at} {kill:?}");
            check(&world);
        }
    }
    assert!(turns > 3, "nothing happened");
}

#[test]
fn s7_a_first_start_is_finished() {
    killed_everywhere(
        World::connected,
        |world| {
            world.request(1, "RUNNING", json!({"ports": [{"port": 80}]}));
        },
        |world| {
            assert!(world.engine.is_running(&container(1)));
            assert_eq!(world.tables.apps[&prod(1)].state, AppState::Running);
        },
    );
}

#[test]
fn s7_a_stop_is_finished() {
    killed_everywhere(
        World::running,
        |world| {
            world.request(1, "PRESENT", json!({}));
        },
        |world| {
            assert!(world.engine.containers.is_empty());
            assert_eq!(world.tables.apps[&prod(1)].state, AppState::Present);
        },
    );
}

/// A compose app that runs.
fn running_project() -> World {
    let mut world = World::connected();
    let definition = json!({"services": {"web": {"image": "web:1"}, "db": {"image": "db:1"}}});
    world.request(1, "RUNNING", json!({"docker_compose": definition}));
    world.settle();
    assert_eq!(world.tables.apps[&prod(1)].state, AppState::Running);
    world
}

#[test]
fn s7_an_uninstall_of_a_project_is_finished_with_its_directories() {
    killed_everywhere(
        running_project,
        |world| {
            world.request(1, "UNINSTALLED", json!({"docker_compose": {"services": {"web": {"image": "web:1"}}}}));
        },
        |world| {
            assert!(world.engine.containers.is_empty() && world.state.apps.is_empty());
            assert!(world.engine.folders.is_empty() && world.engine.definitions.is_empty());
        },
    );
}

#[test]
fn s7_a_removal_and_an_uninstall_are_finished() {
    killed_everywhere(
        World::running,
        |world| {
            world.request(1, "REMOVED", json!({}));
        },
        |world| {
            assert!(world.engine.containers.is_empty() && world.engine.images.is_empty());
            assert!(world.tables.apps.is_empty() && world.tables.requests.is_empty() && world.state.apps.is_empty());
        },
    );
    killed_everywhere(
        World::running,
        |world| {
            world.request(1, "UNINSTALLED", json!({}));
        },
        |world| {
            assert!(
                world.engine.containers.is_empty() && world.engine.images.is_empty() && world.engine.folders.is_empty()
            );
            assert!(world.tables.apps.is_empty() && world.tables.requests.is_empty() && world.state.apps.is_empty());
        },
    );
}

/// The update of app 1 to 2.0.0.
fn update(world: &mut World, target: &str) {
    let wish = json!({"newest_version": "2.0.0", "request_update": true, "present_version": "1.0.0"});
    world.request(1, target, wish);
    // The backend is told what runs by the confirmation, not by the wish.
    world.backend.wanted.get_mut(&prod(1)).unwrap().insert("present_version".to_owned(), json!(""));
}

#[test]
fn s7_the_image_before_an_update_goes_whenever_the_agent_is_killed() {
    for target in ["RUNNING", "PRESENT"] {
        let act: fn(&mut World) =
            if target == "RUNNING" { |it| update(it, "RUNNING") } else { |it| update(it, "PRESENT") };
        killed_everywhere(World::running, act, |world| {
            assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0");
            let images: Vec<_> = world.engine.images.iter().collect();
            assert_eq!(images, ["registry/apps/prod_amd64_1_demo:2.0.0"], "{:?}", world.trace);
            assert!(world.tables.superseded.is_empty());
        });
    }
}

#[test]
fn s7_an_update_is_finished_and_confirmed() {
    killed_everywhere(
        World::running,
        |world| update(world, "RUNNING"),
        |world| {
            assert!(world.engine.is_running(&container(1)));
            assert_eq!(world.tables.apps[&prod(1)].version, "2.0.0");
            let confirmations = world.trace.iter().filter(|line| line.contains("pending_remote_confirmation")).count();
            assert!((1..=2).contains(&confirmations), "{confirmations}");
        },
    );
}

#[test]
fn s7_every_transient_state_is_corrected_at_a_start_without_any_connection() {
    for (state, runs, wanted, end) in [
        (AppState::Downloading, false, AppState::Present, AppState::Present),
        (AppState::Starting, true, AppState::Running, AppState::Running),
        (AppState::Starting, false, AppState::Running, AppState::Running),
        (AppState::Stopping, true, AppState::Present, AppState::Present),
        (AppState::Stopping, false, AppState::Present, AppState::Present),
        (AppState::Updating, true, AppState::Running, AppState::Running),
        (AppState::Updating, false, AppState::Running, AppState::Running),
        (AppState::Failed, false, AppState::Running, AppState::Running),
        (AppState::Running, false, AppState::Running, AppState::Running),
        (AppState::Running, true, AppState::Present, AppState::Present),
        (AppState::Downloading, true, AppState::Present, AppState::Present),
    ] {
        let mut world = World::running();
        world.tables.apps.get_mut(&prod(1)).unwrap().state = state;
        world.tables.requests.get_mut(&prod(1)).unwrap().requested_state = wanted;
        if !runs {
            world.engine.containers.clear();
        }
        world.crash();
        world.settle();
        let seen = world.tables.apps[&prod(1)].state;
        // An app that is off the device needs the backend to come back (offline rule, 5.4).
        assert!(seen == end || seen == AppState::Removed, "{state} runs {runs} wanted {wanted}: {seen}");
        world.join();
        world.settle();
        assert_eq!(world.tables.apps[&prod(1)].state, AppState::Running, "the backend wants it to run");
    }
}

#[test]
fn s7_a_removal_that_was_interrupted_is_finished_without_a_connection() {
    for wanted in [AppState::Removed, AppState::Uninstalled] {
        let mut world = World::running();
        world.tables.apps.get_mut(&prod(1)).unwrap().state = AppState::Deleting;
        world.tables.requests.get_mut(&prod(1)).unwrap().requested_state = wanted;
        world.crash();
        world.settle();
        assert!(world.tables.apps.is_empty() && world.engine.containers.is_empty() && world.engine.images.is_empty());
        assert_eq!(world.engine.folders.is_empty(), wanted == AppState::Uninstalled);
    }
}

#[test]
fn rows_of_which_one_is_missing_are_used_as_far_as_they_go() {
    let mut world = World::running();
    world.tables.requests.clear();
    world.crash();
    world.settle();
    assert!(world.engine.is_running(&container(1)), "only watched");
    world.exits(1, 1);
    world.pass(secs(60));
    world.join();
    world.settle();
    assert!(world.engine.is_running(&container(1)), "the backend's list brings the request back");

    world.tables.apps.clear();
    world.crash();
    world.settle();
    assert!(world.engine.is_running(&container(1)));
    assert_eq!(world.tables.apps[&prod(1)].state, AppState::Running);
}

#[test]
fn the_end_of_the_agent_waits_for_its_jobs_and_no_longer_than_ten_seconds() {
    use super::super::job::JobSpec;
    use super::super::message::Event;
    let mut world = World::running();
    world.inbox.push_back(Event::Shutdown);
    world.settle();
    assert_eq!(world.exit, Some(0));

    let mut world = World::running();
    world.holds = |spec| matches!(spec, JobSpec::Stop { .. });
    world.request(1, "PRESENT", json!({}));
    world.settle();
    world.step(Event::Shutdown);
    assert_eq!(world.exit, None);
    world.settle();
    assert_eq!(world.exit, Some(0), "the cancelled job has ended");
    assert_eq!(world.tables.apps[&prod(1)].state, AppState::Stopping, "the next start finishes it");

    let mut world = World::running();
    world.holds = |_| true;
    world.request(1, "PRESENT", json!({}));
    world.settle();
    let job = world.job(|spec| matches!(spec, JobSpec::Stop { .. }));
    world.jobs.remove(&job); // never ends
    world.step(Event::Shutdown);
    world.settle();
    assert_eq!(world.exit, None);
    world.pass(secs(10));
    assert_eq!(world.exit, Some(0));
}

#[test]
fn s7_a_container_that_the_engine_made_after_its_start_was_called_off_goes() {
    for status in ["created", "exited"] {
        let mut world = World::running();
        world.request(1, "PRESENT", json!({}));
        world.settle();
        let mut late = World::running().engine.containers[&container(1)].clone();
        late.status = status.to_owned();
        world.engine.containers.insert(container(1), late);
        world.trace.clear();
        world.pass(secs(61));
        assert!(!world.engine.containers.contains_key(&container(1)), "{status}: {:?}", world.tail());
        assert_eq!(world.reports(), Vec::<String>::new(), "{status}");
        // Where it is to run, what has ended is its own matter.
        world.request(1, "RUNNING", json!({}));
        world.settle();
        assert!(world.engine.is_running(&container(1)));
    }
}

#[test]
fn s7_an_app_that_was_cut_off_before_it_ever_ran_leaves_no_files_when_it_is_uninstalled() {
    let mut world = World::connected();
    world.holds = |spec| !matches!(spec, JobSpec::WriteLiveFiles { .. });
    world.request(1, "RUNNING", json!({"current_state": "UNINSTALLED"}));
    world.settle();
    assert!(world.engine.folders.contains("Demo"), "its files are written before its image is looked for");
    world.crash();
    world.holds = |_| false;
    let wanted = world.backend.wanted.get_mut(&prod(1)).expect("it is wanted");
    wanted.insert("target_state".to_owned(), json!("UNINSTALLED"));
    wanted.insert("requested_state".to_owned(), json!("UNINSTALLED"));
    world.join();
    world.pass(secs(61));
    assert!(!world.state.apps.contains_key(&prod(1)) && world.engine.folders.is_empty(), "{:?}", world.tail());
}
