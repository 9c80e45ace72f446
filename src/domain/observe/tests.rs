//! The tables of observation: correction, offline rule, orphans.

use super::*;

#[test]
fn s7_what_was_found_at_boot_decides_the_state() {
    use AppState::*;
    for state in [Downloading, Transfering, Publishing, Building, Updating] {
        assert_eq!(corrected(state, None, true), Present);
        assert_eq!(corrected(state, None, false), Removed);
    }
    assert_eq!(corrected(Uninstalled, None, false), Uninstalled);
    assert_eq!(corrected(Running, None, true), Present);
    assert_eq!(corrected(Running, None, false), Removed);
    assert_eq!(corrected(Downloading, Some("running"), true), Removed);
    assert_eq!(corrected(Updating, Some("running"), true), Present);
    for (status, state) in [("running", Running), ("created", Present), ("exited", Failed), ("removing", Present)] {
        for recorded in [Running, Starting, Stopping, Deleting, Failed, Present] {
            assert_eq!(corrected(recorded, Some(status), true), state, "{recorded} {status}");
        }
    }
    assert_eq!(corrected(Running, Some("paused"), true), Running);
}

#[test]
fn what_needs_the_cloud_is_not_driven_offline() {
    use AppState::*;
    assert!(forbidden_offline(Present, Built, false, Stage::Dev));
    assert!(forbidden_offline(Removed, Running, false, Stage::Prod));
    assert!(!forbidden_offline(Removed, Removed, false, Stage::Prod));
    assert!(forbidden_offline(Running, Published, false, Stage::Dev));
    assert!(forbidden_offline(Running, Present, true, Stage::Prod));
    assert!(!forbidden_offline(Running, Present, false, Stage::Dev));
}

#[test]
fn s6_only_containers_of_the_agent_without_an_app_are_orphans() {
    let container = |name: &str, ours, project: Option<&str>| Container {
        name: name.to_owned(),
        ours,
        project: project.map(str::to_owned),
        ..Container::default()
    };
    let observation = Observation {
        containers: vec![
            container("prod_99_ghost", true, None),
            container("prod_98_foreign", false, None),
            container("prod_6_app", true, None),
            container("some-random-thing", true, None),
            container("weird_1_y", true, None),
            container("kept-6-prod", true, None),
            container("kept-7-prod", true, None),
            container("kept-8-prod", false, None),
            container("prod_6_app_compose-nginx-1", true, Some("prod_6_app_compose")),
            container("x-1", false, Some("prod_42_ghost_compose")),
            container("y-1", false, Some("ironflock")),
            container("z-1", false, Some("x")),
        ],
        images: Vec::new(),
        definitions: Vec::new(),
    };
    let known = BTreeSet::from(["prod_6_app", "prod_6_app_compose", "kept-6-prod"].map(str::to_owned));
    let found: Vec<String> = orphans(&observation, &known).into_iter().map(|container| container.name).collect();
    assert_eq!(found, ["prod_99_ghost", "kept-7-prod", "x-1"]);
}
