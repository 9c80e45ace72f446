//! Reboot, power-off and restart by request: when they are answered, when they happen, and when they do not.

use super::super::job::JobSpec;
use super::super::message::Event;
use super::super::power::{Means, Power, Supervisor};
use super::super::testing::*;
use serde_json::{Map, json};
use std::time::Duration;

const ALL: [(&str, Power); 3] = [
    ("system_reboot", Power::Reboot),
    ("system_shutdown", Power::Off),
    ("system_restart_agent", Power::Restart(Supervisor::Systemd)),
];

/// A connected agent on a machine that can do everything.
fn able(supervisor: Supervisor) -> World {
    let mut world = World::connected();
    world.state.device.means = Means { reboot: true, poweroff: true, supervisor: Some(supervisor) };
    world
}

fn call(world: &mut World, name: &str, caller: &str) -> Answer {
    let number = world.invoke(name, Some(caller), vec![json!([{"odd": 1}])], Map::new());
    world.settle();
    world.answer_to(number).cloned().unwrap_or_else(|| panic!("{name} has no answer"))
}

#[test]
fn the_empty_answer_comes_at_once_and_the_end_two_seconds_later() {
    for (name, power) in ALL {
        let mut world = able(Supervisor::Systemd);
        assert_eq!(call(&mut world, name, "system"), Ok((vec![], Map::new())), "{name}");
        world.pass(Duration::from_millis(1999));
        assert_eq!((world.exit, world.then), (None, None), "{name}");
        world.pass(Duration::from_millis(1));
        assert_eq!((world.exit, world.then), (Some(0), Some(power)), "{name}");
    }
}

#[test]
fn a_restart_by_whoever_watches_the_process_is_an_exit_with_1() {
    let mut world = able(Supervisor::Parent);
    assert!(call(&mut world, "system_restart_agent", "system").is_ok());
    world.pass(secs(2));
    assert_eq!((world.exit, world.then), (Some(1), None));
}

#[test]
fn what_the_machine_cannot_do_is_refused_before_it_is_answered() {
    for (name, text) in [
        ("system_reboot", "reboot: this device has no such program"),
        ("system_shutdown", "poweroff: this device has no such program"),
        ("system_restart_agent", "no supervisor"),
    ] {
        let mut world = World::connected();
        let told = call(&mut world, name, "system").unwrap_err();
        assert!(told.starts_with(text), "{told}");
        world.pass(secs(10));
        assert_eq!(world.exit, None, "{name}");
    }
}

#[test]
fn a_caller_without_the_privilege_changes_nothing() {
    for (name, _) in ALL {
        let mut world = able(Supervisor::Parent);
        world.backend.answers.insert("privilege", Some(Ok(vec![json!(false)])));
        let told = call(&mut world, name, "77").unwrap_err();
        assert!(told.starts_with("insufficient privileges"), "{told}");
        assert_eq!(world.take(&["call privilege"]), ["call privilege MAINTAIN 77"]);
        world.pass(secs(10));
        assert_eq!(world.exit, None, "{name}");
    }
}

#[test]
fn the_same_request_again_is_one_and_another_one_is_refused() {
    for (first, power) in ALL {
        let mut world = able(Supervisor::Systemd);
        assert!(call(&mut world, first, "system").is_ok());
        world.pass(secs(1));
        for (second, other) in ALL {
            let answer = call(&mut world, second, "system");
            assert_eq!(answer.is_ok(), power == other, "{first}, then {second}: {answer:?}");
            assert!(answer.err().is_none_or(|told| told.contains("is about to happen already")));
        }
        world.pass(secs(1));
        assert_eq!((world.exit, world.then), (Some(0), Some(power)), "{first}: it does not wait longer");
    }
}

#[test]
fn a_lost_session_does_not_take_the_request_back() {
    let mut world = able(Supervisor::Systemd);
    assert!(call(&mut world, "system_reboot", "system").is_ok());
    world.leave();
    world.pass(secs(2));
    assert_eq!(world.then, Some(Power::Reboot));
}

#[test]
fn a_signal_calls_it_off() {
    let mut world = able(Supervisor::Systemd);
    assert!(call(&mut world, "system_reboot", "system").is_ok());
    world.step(Event::Shutdown);
    assert_eq!((world.exit, world.then), (Some(0), None));
    assert!(world.noted("a reboot is called off"), "{:?}", world.notes);
}

#[test]
fn jobs_are_ended_first_and_a_signal_meanwhile_calls_it_off_too() {
    let busy = || {
        let mut world = able(Supervisor::Parent);
        world.holds = |spec| matches!(spec, JobSpec::Pull { .. });
        world.request(1, "RUNNING", json!({}));
        world.settle();
        assert!(call(&mut world, "system_restart_agent", "system").is_ok());
        world.tick();
        world
    };
    let mut world = busy();
    world.settle();
    assert_eq!((world.exit, world.jobs.len()), (Some(1), 0), "the cancelled pull has ended");
    let mut world = able(Supervisor::Parent);
    world.holds = |_| true;
    world.request(1, "RUNNING", json!({}));
    world.settle();
    assert!(call(&mut world, "system_restart_agent", "system").is_ok());
    world.now += secs(2);
    world.step(Event::Tick);
    assert_eq!(world.exit, None, "jobs are being ended");
    world.step(Event::Shutdown);
    assert_eq!((world.exit, world.then), (Some(0), None));
}
