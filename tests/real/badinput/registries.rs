//! Images that are not there, registries that refuse, break off, or are away.

use super::{Ground, PATIENCE, Row, fails, sleeper};
use crate::cloud::backend::Answer;
use crate::cloud::wanted::WantedApp;
use crate::network::clock::Clock;
use crate::real::relay::Relay;
use crate::real::stage::SOON;
use crate::util::wait_until;
use reagent::clock;
use serde_json::json;
use std::time::Duration;

/// A compose app of one service that runs an image of the registry.
fn composed(ground: &Ground, key: u64, name: &str, image: &str, version: &str) -> WantedApp {
    let mut service = sleeper();
    service["image"] = json!(ground.reference(image, version));
    WantedApp::new(key, name).compose(super::project(&service))
}

#[test]
fn an_image_that_cannot_be_had_fails_with_the_reason_and_comes_once_it_can() {
    let ground = Ground::start();
    let backend = &ground.stage.backend;
    let plain = |key, name: &str| WantedApp::new(key, name);
    let rows = [
        fails("an image that does not exist", plain(7700, "absent"), &["could not be pulled", "not found"]),
        fails(
            "a tag that does not exist",
            plain(7701, "tagless").version("9.9.9"),
            &["could not be pulled", "not found"],
        ),
        fails("a tag that can be none", plain(7702, "odd").version("1 0/0"), &["invalid reference format"]),
        fails(
            "a tag of two lines",
            plain(7706, "lines").version("1.0\n0"),
            &["could not be pulled", "invalid tag format"],
        ),
        fails("a tag that leads up", plain(7707, "up").version("../../up"), &["could not be pulled", "invalid"]),
        fails("a tag that is too long", plain(7708, "long").version(&"9".repeat(200)), &["invalid reference format"]),
        fails("no version at all", plain(7703, "none").version(""), &["no version"]),
        fails(
            "a project's image that does not exist",
            composed(&ground, 7704, "absentc", "prod_amd64_7704_absentc", "1.0.0"),
            &["not found"],
        ),
        fails(
            "a project's image that can be none",
            composed(&ground, 7705, "oddc", "UPPER CASE", "1"),
            &["invalid reference format"],
        ),
    ];
    ground.publish(&rows[1].app, "1.0.0");
    ground.all_end(&rows);

    // The same with tokens that are wrong, empty, no text, or not to be had.
    let (first, second) =
        (plain(7710, "denied"), composed(&ground, 7711, "deniedc", "prod_amd64_7711_deniedc", "1.0.0"));
    ground.publish(&first, "1.0.0");
    ground.publish(&second, "1.0.0");
    let denied = |says: &[&str], of_project: &[&str]| -> [Row; 2] {
        [fails("plain, denied", first.clone(), says), fails("compose, denied", second.clone(), of_project)]
    };
    for token in [
        Answer::Args(vec![json!("wrong")]),
        Answer::Args(vec![json!(5)]),
        Answer::Error("reswarm.error.denied".to_owned(), vec![json!("no token for you")]),
    ] {
        backend.answer("get_registry_token", token);
        // The registry's own words.
        ground.all_end(&denied(&["auth"], &["auth"]));
    }
    backend.answer("get_registry_token", Answer::Usual);
    for row in &rows {
        ground.publish(&row.app, "1.0.0");
    }
    let denied = denied(&[], &[]);
    let all: Vec<&Row> = rows.iter().chain(&denied).collect();
    let mended: Vec<WantedApp> = all
        .iter()
        .map(|row| match row.app.app_key {
            7705 => composed(&ground, 7705, "oddc", "prod_amd64_7705_oddc", "1.0.0"),
            _ => row.app.clone().version("1.0.0"),
        })
        .collect();
    ground.all_reach(&mended, "RUNNING", "RUNNING");
    ground.all_go(&mended);
}

#[test]
fn a_download_that_is_cut_off_goes_on_or_fails_and_an_absent_registry_stops_no_app_that_is_there() {
    let mut ground = Ground::start();
    let big = WantedApp::new(7720, "big");
    let other = WantedApp::new(7721, "bigc");
    ground.stage.push(&big, "1.0.0", "big");
    ground.stage.push(&other, "1.0.0", "big");
    let bigc = composed(&ground, 7721, "bigc", &other.image(reagent::release::ARCH), "1.0.0");
    for app in [&big, &bigc] {
        let heard = ground.hear(app);
        let mark = ground.stage.backend.mark();
        ground.stage.download.stall_after(1_000_000);
        ground.stage.backend.request_app_state(app).expect("the agent takes the request");
        ground.stage.backend.wait_for_state(SOON, mark, app.app_key, "DOWNLOADING");
        // The engine tries a layer again by itself some times; then the app fails and is tried again.
        wait_until(SOON, "the download is in the middle", || heard.text().contains("ownload").then_some(()));
        for _ in 0..3 {
            ground.stage.download.cut();
        }
        ground.stage.download.release();
        ground.stage.backend.wait_for_state(PATIENCE, mark, app.app_key, "RUNNING");
    }
    ground.others_are_untouched();

    // The device boots: nothing runs, the registry answers nothing or nobody, the images are there, but for one.
    ground.stage.download.go_away();
    let absent = WantedApp::new(7722, "absent");
    ground.publish(&absent, "1.0.0");
    ground.all_end(&[fails("a registry that takes no connection", absent.clone(), &["could not be pulled"])]);
    ground.stage.download.come_back();
    let ways: [fn(&Relay); 2] = [|relay| relay.stall_after(0), Relay::go_away];
    for away in ways {
        ground.stage.agent.kill9();
        let own = [
            "prod_7720_big",
            "prod_7721_bigc_compose-web-1",
            "prod_7601_bystander",
            "prod_7602_bystanders_compose-web-1",
        ];
        for name in own {
            ground.stage.docker.run(&["kill", name]);
        }
        ground.stage.download.release();
        away(&ground.stage.download);
        let mark = ground.stage.backend.mark();
        ground.stage.agent.restart();
        for key in [7720, 7721, 7601, 7602] {
            ground.stage.backend.wait_for_state(PATIENCE, mark, key, "RUNNING");
        }
    }
    // The one that is missing says why, each time that it is tried again, and comes with the registry.
    let mark = ground.stage.backend.mark();
    let heard = ground.hear(&absent);
    ground.stage.backend.wait_for_state(PATIENCE, mark, 7722, "FAILED");
    wait_until(SOON, "the reason and the next try are told", || {
        let text = heard.text();
        (text.contains("could not be pulled") && text.contains("next try in")).then_some(())
    });
    ground.stage.download.come_back();
    ground.stage.backend.wait_for_state(PATIENCE, mark, 7722, "RUNNING");
}

#[test]
fn c7_a_registry_that_stalls_in_the_middle_of_a_layer_fails_the_download_and_the_next_one_works() {
    let mut ground = Ground::start();
    let mut skipped = Clock::new();
    ground.stage.agent.kill9();
    ground.stage.agent.options.env.extend(skipped.env());
    let mark = ground.stage.backend.mark();
    ground.stage.agent.restart();
    ground.stage.online(mark);
    let app = WantedApp::new(7725, "stalled");
    ground.stage.push(&app, "1.0.0", "big");
    let heard = ground.hear(&app);
    let mark = ground.stage.backend.mark();
    ground.stage.download.stall_after(1_000_000);
    ground.stage.backend.request_app_state(&app).expect("the agent takes the request");
    ground.stage.backend.wait_for_state(SOON, mark, 7725, "DOWNLOADING");
    wait_until(SOON, "the layer has stalled", || ground.stage.download.is_stalled().then_some(()));
    // From the last record on it has ten minutes.
    let mut last = (0, clock::mono());
    wait_until(SOON, "the download is in the middle, and nothing more comes", || {
        let text = heard.text();
        if text.len() != last.0 {
            last = (text.len(), clock::mono());
        }
        (text.contains("Downloading") && last.1 + Duration::from_secs(2) < clock::mono()).then_some(())
    });
    skipped.skip(Duration::from_secs(590));
    assert!(!ground.stage.backend.reports(7725).contains(&"FAILED".to_owned()), "it has ten minutes");
    skipped.skip(Duration::from_secs(600));
    ground.stage.backend.wait_for_state(SOON, mark, 7725, "FAILED");
    wait_until(SOON, "the reason is told", || heard.text().contains("made no progress for 10 minutes").then_some(()));
    ground.stage.download.release();
    ground.stage.backend.wait_for_state(PATIENCE, mark, 7725, "RUNNING");
    // A clock that jumps between a ping and its answer costs a session.
    let joined = ground.stage.backend.statuses().into_iter().filter(|status| status == "CONFIGURING").count();
    ground.starts.set(joined);
    ground.all_go(&[app]);
}
