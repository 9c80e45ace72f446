//! The crash loop (apps chapter 5.8), and exits that nobody may miss (S12).

use super::super::job::JobSpec;
use super::super::testing::*;
use serde_json::json;

#[test]
fn a_container_that_ends_is_started_again_later_each_time() {
    let mut world = World::running();
    for (attempt, low, high) in [("1st", 4, 6), ("2nd", 16, 24), ("3rd", 36, 54), ("4th", 64, 96)] {
        world.exits(1, 137);
        world.settle();
        let said = world.take(&["1 ", "say"]);
        assert_eq!(said[..2], ["1 FAILED", "say Demo (PROD) exited with code 137"]);
        assert!(said[2].starts_with(&format!("say Crash loop, {attempt} attempt, next try in ")), "{said:?}");
        world.pass(secs(low) - secs(1));
        reports(&mut world, &[]);
        world.pass(secs(high - low) + secs(1));
        reports(&mut world, &["1 STARTING", "1 RUNNING"]);
    }
}

#[test]
fn running_for_ten_minutes_or_a_request_ends_the_crash_loop() {
    let first = |world: &mut World| {
        world.exits(1, 1);
        world.settle();
        world.take(&["say Crash"]).iter().any(|line| line.contains("1st"))
    };
    let mut world = World::running();
    assert!(first(&mut world));
    world.pass(secs(10));
    assert!(!first(&mut world), "still counted");
    world.pass(secs(30 + 600));
    assert!(first(&mut world), "stable for ten minutes");
    world.request(1, "RUNNING", json!({}));
    reports(&mut world, &["1 STARTING", "1 RUNNING"]);
    assert!(first(&mut world), "somebody asked");
}

#[test]
fn a_stop_while_the_crash_loop_waits_ends_it() {
    let mut world = World::running();
    world.exits(1, 1);
    reports(&mut world, &["1 FAILED"]);
    world.request(1, "PRESENT", json!({}));
    reports(&mut world, &["1 PRESENT"]);
    world.pass(secs(7200));
    reports(&mut world, &[]);
}

#[test]
fn a_removal_that_fails_says_why_and_is_tried_again() {
    let mut world = World::running();
    world.engine.fails.insert("remove", (1, "device busy"));
    world.request(1, "REMOVED", json!({}));
    world.settle();
    let said = world.take(&["say"]);
    assert_eq!(said[..2], ["say Removing Demo …", "say device busy"]);
    assert!(said[2].starts_with("say Crash loop, 1st"));
    world.pass(secs(7));
    reports(&mut world, &["1 DELETING", "1 REMOVED"]);
}

#[test]
fn an_app_that_crashes_while_the_router_is_away_is_restarted_and_the_last_state_told() {
    let mut world = World::running();
    world.leave();
    world.exits(1, 1);
    world.pass(secs(10));
    assert!(world.engine.is_running(&container(1)));
    assert_eq!(world.tables.outbox.len(), 1, "only the last state waits");
    world.trace.clear();
    world.join();
    world.settle();
    assert_eq!(world.reports().first().map(String::as_str), Some("1 RUNNING"));
    assert!(world.tables.outbox.is_empty());
}

#[test]
fn s12_an_exit_in_the_moment_the_start_ends_is_never_missed() {
    for mute in [false, true] {
        let mut world = World::connected();
        world.engine.mute = mute;
        world.engine.short_lived = 50;
        world.request(1, "RUNNING", json!({}));
        world.settle();
        for round in 1..=50 {
            let seen = world.reports();
            assert_eq!(seen[seen.len() - 2..], ["1 RUNNING", "1 FAILED"], "round {round}, events lost: {mute}");
            assert!(world.trace.iter().any(|line| line.starts_with("say Demo (PROD) exited with code 1")));
            world.trace.clear();
            while world.reports().is_empty() {
                world.tick();
            }
        }
        assert!(world.engine.is_running(&container(1)));
    }
}

#[test]
fn s12_an_exit_before_the_end_of_the_job_is_heard_of_counts() {
    let mut world = World::connected();
    world.holds = |spec| matches!(spec, JobSpec::Look { .. });
    world.request(1, "RUNNING", json!({}));
    world.settle();
    world.exits(1, 3);
    world.settle();
    world.holds = |_| false;
    world.settle();
    assert_eq!(world.reports().last().map(String::as_str), Some("1 FAILED"));
}

#[test]
fn a_lost_event_is_made_up_for_by_the_next_listing() {
    let mut world = World::running();
    world.engine.exit(&container(1), 1);
    world.pass(secs(61));
    assert_eq!(world.reports().first().map(String::as_str), Some("1 FAILED"));
}

#[test]
fn a_container_that_was_taken_away_is_made_anew_but_not_for_ever_at_once() {
    let mut world = World::running();
    let mut starts = 0;
    for _ in 0..20 {
        world.engine.containers.clear();
        world.container_event(1, "destroy");
        world.settle();
        starts += world.take(&["start"]).len();
    }
    assert!((3..=5).contains(&starts), "{starts}");
    world.pass(secs(3600));
    assert!(world.engine.is_running(&container(1)));
}

#[test]
fn s1_a_storm_of_events_makes_one_look_at_a_time() {
    let mut world = World::running();
    world.holds = |spec| matches!(spec, JobSpec::Look { .. });
    for _ in 0..1000 {
        world.container_event(1, "health_status");
    }
    world.settle();
    assert_eq!(world.jobs.len(), 1);
    world.engine.exit(&container(1), 1);
    world.holds = |_| false;
    reports(&mut world, &["1 FAILED"]);
}

#[test]
fn a_thousand_starts_and_stops_leave_nothing_behind() {
    let mut world = World::running();
    let size =
        |world: &World| (world.jobs.len(), world.tables.outbox.len(), world.state.calls.len(), world.state.jobs.len());
    let before = size(&world);
    for _ in 0..1000 {
        world.request(1, "PRESENT", json!({}));
        world.settle();
        world.request(1, "RUNNING", json!({}));
        world.settle();
        world.trace.clear();
    }
    assert_eq!(size(&world), before);
}
