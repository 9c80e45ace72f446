//! Taking projects away: with compose, without it, and whatever it thinks of the definition.

use super::*;

const OF_PROJECT: &[(&str, &str)] = &[("com.docker.compose.project", PROJECT)];

/// A project with everything, and a neighbour.
fn inhabited() -> Bench {
    let bench = Bench::new();
    bench.service("web", "web:1", true);
    bench.service("old", "web:1", false);
    let docker = Setup::of(&bench.daemon).docker;
    make(&docker, &bench.daemon, "other-web-1", "other", ("web", "web:1"), true);
    bench.daemon.add_thing("networks", "net", OF_PROJECT, false);
    bench.daemon.add_thing("volumes", "vol", OF_PROJECT, false);
    bench.daemon.add_thing("networks", "foreign", &[("com.docker.compose.project", "other")], false);
    bench
}

#[test]
fn what_is_not_there_is_taken_away_without_compose_or_a_file() {
    let bench = Bench::new();
    for command in [ComposeCommand::TakeDown, ComposeCommand::Down, ComposeCommand::Remove] {
        assert_eq!(bench.command(command), Outcome::Done);
    }
    assert_eq!(bench.calls(), Vec::<String>::new());
    assert!(!bench.definition().exists());
}

#[test]
fn each_way_to_take_away_has_its_commands_and_leaves_what_it_shall_leave() {
    for (command, words, left) in [
        (ComposeCommand::TakeDown, "stop", &["net", "foreign", "vol"][..]),
        (ComposeCommand::Down, "down --remove-orphans", &["foreign", "vol"]),
        (ComposeCommand::Remove, "down -v", &["foreign"]),
    ] {
        let bench = inhabited();
        assert_eq!(bench.command(command.clone()), Outcome::Done);
        assert_eq!(bench.calls(), [format!("docker compose -f F {words}")]);
        assert_eq!(bench.left(), ["other-web-1"], "{command:?}: also a service that compose left");
        assert_eq!(bench.daemon.things(), left, "{command:?}");
        let anonymous = bench.daemon.wait_for_request("DELETE /containers/*", 1).query("v") == "1";
        assert_eq!(anonymous, command == ComposeCommand::Remove);
    }
}

#[test]
fn s13_an_unusable_definition_or_no_compose_at_all_keeps_nothing() {
    let bench = inhabited();
    bench.on("down", "echo 'services.web Additional property x is not allowed' >&2; exit 15");
    assert_eq!(bench.command(ComposeCommand::Remove), Outcome::Done);
    assert_eq!((bench.left(), bench.daemon.things()), (vec!["other-web-1".to_owned()], vec!["foreign".to_owned()]));

    let bench = inhabited();
    let mut odd = project();
    odd.definition = Value::Null;
    odd.folder.name = "../App".to_owned();
    assert_eq!(bench.jobs.perform(with(odd, Vec::new(), ComposeCommand::Remove)), Outcome::Done);
    assert_eq!(bench.left(), ["other-web-1"], "not even a place for the files");

    let bench = inhabited();
    fs::remove_file(bench.programs.join("docker")).unwrap();
    assert_eq!(bench.command(ComposeCommand::Down), Outcome::Done);
    assert_eq!(bench.left(), ["other-web-1"]);
    let asked = bench.daemon.wait_for_request("POST /containers/*/stop", 1);
    assert_eq!(asked.query("t"), "10", "services are asked first");
}

#[test]
fn s6_what_somebody_else_uses_stays_and_is_no_failure() {
    let bench = inhabited();
    bench.daemon.add_thing("networks", "shared-net", OF_PROJECT, true);
    bench.daemon.add_thing("volumes", "shared-vol", OF_PROJECT, true);
    assert_eq!(bench.command(ComposeCommand::Remove), Outcome::Done);
    assert_eq!(bench.daemon.things(), ["foreign", "shared-net", "shared-vol"]);
    assert_eq!(bench.left(), ["other-web-1"]);
}

#[test]
fn an_orphaned_project_goes_at_once_and_keeps_its_volumes() {
    let bench = inhabited();
    assert_eq!(bench.jobs.perform(JobSpec::RemoveProject { project: PROJECT.to_owned() }), Outcome::Done);
    assert_eq!(
        (bench.left(), bench.daemon.things()),
        (vec!["other-web-1".to_owned()], vec!["foreign".to_owned(), "vol".to_owned()])
    );
    assert_eq!(bench.calls(), Vec::<String>::new());
    assert!(!bench.daemon.requests().iter().any(|asked| asked.path.ends_with("/stop")));
    assert_eq!(bench.jobs.perform(JobSpec::RemoveProject { project: PROJECT.to_owned() }), Outcome::Done);
}

#[test]
fn s13_images_are_removed_each_once_and_one_that_is_gone_or_needed_is_success() {
    let bench = Bench::bare();
    bench.service("web", "web:1", true);
    bench.daemon.add_image("two:1");
    let images = ["two:1", "web:1", "two:1", "gone:1"].map(str::to_owned).to_vec();
    assert_eq!(bench.jobs.perform(JobSpec::RemoveImageList { images }), Outcome::Done);
    assert_eq!(bench.daemon.images(), ["web:1"]);
    let asked = bench.daemon.requests().iter().filter(|asked| asked.method == "DELETE").count();
    assert_eq!(asked, 3);
    assert_eq!(bench.jobs.perform(JobSpec::RemoveImageList { images: Vec::new() }), Outcome::Done);
}

#[test]
fn one_image_that_cannot_be_removed_does_not_keep_the_others() {
    let bench = Bench::bare();
    bench.daemon.add_image("a:1");
    bench.daemon.add_image("b:1");
    bench.daemon.fault("DELETE /images/a:1", Fault::Status(500, "layer is busy".to_owned()));
    let images = ["a:1", "b:1"].map(str::to_owned).to_vec();
    assert_eq!(bench.jobs.perform(JobSpec::RemoveImageList { images }), Outcome::Failed("layer is busy".to_owned()));
    assert_eq!(bench.daemon.images(), ["a:1"]);
}

#[test]
fn an_engine_that_goes_while_a_project_is_taken_away_is_gone() {
    let bench = inhabited();
    assert!(matches!(bench.without_engine_from("stop", ComposeCommand::TakeDown), Outcome::EngineGone(_)));
}
