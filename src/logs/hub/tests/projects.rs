//! Logs that are not those of one container: of compose projects, and of release builds, which have none.

use super::*;
use crate::logs::listing::{Found, Listing};

#[test]
fn a_project_is_one_log_and_what_its_listing_brings_takes_the_place_of_restored_history() {
    let mut desk = Desk::watched();
    desk.command(LogCommand::Restore { container: APP.to_owned(), lines: vec!["web-1  | old".to_owned()] });
    desk.say("starting");
    desk.command(LogCommand::Follow { container: APP.to_owned(), project: Some("shop".to_owned()) });
    let list = desk.attached();
    let found = |label: &str| Found { container: label.to_owned(), label: label.to_owned(), ..Found::default() };
    let members = vec![Found { running: true, ..found("web-1") }, found("init-1")];
    let lines = vec![
        ("web-1".to_owned(), "2026-08-04T09:05:00Z old".to_owned()),
        ("init-1".to_owned(), "2026-08-04T09:05:01Z new".to_owned()),
    ];
    let listing = Listing { project: "shop".to_owned(), members, lines, left_out: 0 };
    desk.end(&list, End::Listed(listing));
    let web = desk.attached();
    desk.hear(&web, &["2026-08-04T09:05:00Z old", "2026-08-04T09:05:02Z live"]);
    desk.end(&web, End::Exited { code: Some(1), run: "r".to_owned() });
    desk.pass(flush());
    assert_eq!(desk.published(), [json!("web-1   | old\ninit-1  | new\nweb-1   | live\nweb-1 exited with code 1")]);
    let (lines, only_agent) = desk.history(APP);
    assert_eq!(lines[..2], ["starting", "web-1   | old"]);
    assert_eq!((lines.len(), only_agent), (5, false));
}

#[test]
fn a_container_that_ends_without_a_word_leaves_restored_history_alone() {
    let mut desk = Desk::new();
    desk.command(LogCommand::Restore { container: APP.to_owned(), lines: vec!["web-1  | old".to_owned()] });
    desk.command(LogCommand::Follow { container: APP.to_owned(), project: Some("shop".to_owned()) });
    let list = desk.attached();
    let web = Found { container: "w".to_owned(), label: "web-1".to_owned(), running: true, ..Found::default() };
    desk.end(&list, End::Listed(Listing { project: "shop".to_owned(), members: vec![web], ..Listing::default() }));
    let web = desk.attached();
    desk.end(&web, End::Exited { code: Some(0), run: "r".to_owned() });
    assert_eq!(desk.history(APP).0, ["web-1  | old", "web-1 exited with code 0"]);
}

#[test]
fn a_forgotten_project_waits_for_the_ends_of_all_its_streams() {
    let mut desk = Desk::watched();
    desk.command(LogCommand::Follow { container: APP.to_owned(), project: Some("shop".to_owned()) });
    let list = desk.attached();
    let found = |name: &str| Found { container: name.to_owned(), running: true, ..Found::default() };
    let members = vec![found("a"), found("b")];
    desk.end(&list, End::Listed(Listing { project: "shop".to_owned(), members, ..Listing::default() }));
    let streams: Vec<Stream> = desk
        .take()
        .into_iter()
        .filter_map(|output| if let Output::Attach(stream, _) = output { Some(stream) } else { None })
        .collect();
    desk.command(LogCommand::Forget { container: APP.to_owned() });
    assert_eq!(desk.take(), streams.iter().cloned().map(Output::Detach).collect::<Vec<_>>());
    desk.end(&streams[1], End::Broken("cancelled".to_owned()));
    assert_eq!(desk.hub.containers.len(), 1);
    desk.end(&streams[0], End::Exited { code: Some(137), run: "r".to_owned() });
    assert!(desk.hub.containers.is_empty());
    assert_eq!(desk.take(), []);
}

#[test]
fn the_log_of_a_release_build_needs_no_container() {
    const RELEASE: &str = "pub_6_app";
    let say = |text: &str| LogCommand::Say { container: RELEASE.to_owned(), text: text.to_owned() };
    let mut desk = Desk::new();
    desk.command(LogCommand::Session { up: true });
    desk.command(say("build"));
    let topic = "reswarm.logs.serial.pub_6_app".to_owned();
    let asked = Output::Emit(Event::Lookup { container: RELEASE.to_owned(), topic: topic.clone() });
    let payload = agent("build");
    let said = Output::Publish(Publication { topic: topic.clone(), payload, droppable: false });
    assert_eq!(desk.take(), [asked, said]);
    desk.command(LogCommand::Matched { container: RELEASE.to_owned(), answer: Ok(vec![json!([5])]) });
    let record = r#"{"stream":"Step 1/3 : FROM busybox\n"}"#;
    desk.line(RELEASE, record);
    desk.command(say("built"));
    assert_eq!(desk.published(), [json!(record), agent("built")]);
    assert_eq!(desk.history(RELEASE), (vec!["build".to_owned(), record.to_owned(), "built".to_owned()], false));
    desk.unsubscribe(5);
    desk.line(RELEASE, "nobody listens");
    desk.pass(flush());
    assert_eq!(desk.published(), Vec::<Value>::new());
    desk.subscribe(6, RELEASE);
    assert_eq!(
        desk.take(),
        [Output::Emit(Event::Wanted { container: RELEASE.to_owned() })],
        "the core knows no such app"
    );
    desk.command(LogCommand::ClearHistory { container: RELEASE.to_owned() });
    assert_eq!(desk.history(RELEASE), (vec![], true));
    desk.command(say("again"));
    desk.command(LogCommand::Forget { container: RELEASE.to_owned() });
    desk.take();
    assert!(desk.hub.containers.is_empty());
    desk.pass(SAVE * 2);
    assert_eq!(desk.take(), []);
}
