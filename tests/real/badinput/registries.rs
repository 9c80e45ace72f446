//! Images that are not there, registries that refuse, break off, or are away.

use super::{Ground, PATIENCE, Row, fails, sleeper};
use crate::cloud::backend::Answer;
use crate::cloud::wanted::WantedApp;
use crate::real::stage::SOON;
use crate::util::wait_until;
use serde_json::json;

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

    // The device boots: nothing runs, the registry is away, the images are there.
    ground.stage.agent.kill9();
    let own =
        ["prod_7720_big", "prod_7721_bigc_compose-web-1", "prod_7601_bystander", "prod_7602_bystanders_compose-web-1"];
    for name in own {
        ground.stage.docker.run(&["kill", name]);
    }
    ground.stage.download.stall_after(0);
    let mark = ground.stage.backend.mark();
    ground.starts.set(2);
    ground.stage.agent.restart();
    for key in [7720, 7721, 7601, 7602] {
        ground.stage.backend.wait_for_state(PATIENCE, mark, key, "RUNNING");
    }
}
