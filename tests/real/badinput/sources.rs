//! Sources that cannot be built: no archive, broken ones, hostile ones, Dockerfiles with faults.

use super::{Ground, Row, fails};
use crate::cloud::wanted::WantedApp;
use crate::real::stage::SOON;
use crate::util::tar::{Tar, compressed};
use crate::util::wait_until;
use serde_json::json;

const DOCKERFILE: &str = "FROM busybox:local\nCMD [\"sleep\", \"1000000\"]\n";

impl Ground {
    fn archive(&self, app: &WantedApp) -> std::path::PathBuf {
        self.stage.agent.apps_dir().join("build").join(format!("{}.tgz", app.name))
    }
}

fn plain(key: u64, name: &str) -> WantedApp {
    WantedApp::new(key, name).dev().target("BUILT").current("REMOVED")
}

fn composed(key: u64, name: &str) -> WantedApp {
    plain(key, name).compose(json!({"services": {"web": {"build": ".", "stop_grace_period": "0s"}}}))
}

fn file(dockerfile: &str) -> Option<Vec<u8>> {
    Some(Tar::default().file("Dockerfile", dockerfile).pack())
}

#[test]
fn sources_that_cannot_be_built_fail_with_the_reason_and_good_ones_are_built() {
    let ground = Ground::start();
    std::fs::create_dir_all(ground.stage.agent.apps_dir().join("build")).expect("a folder");
    let whole = Tar::default().file("Dockerfile", DOCKERFILE).file("data", &"x".repeat(100_000)).pack();
    let bytes = Tar::default().file("Dockerfile", DOCKERFILE).file("data", &"x".repeat(100_000)).bytes();
    let cut = compressed(&bytes[..bytes.len() - 60_000]);
    let bomb = Tar::default().file("Dockerfile", DOCKERFILE).file("zeros", &"\0".repeat(80 << 20)).pack();
    let escape = Tar::default().file("Dockerfile", DOCKERFILE).file("../../escape", "out").pack();
    let link = Tar::default().file("Dockerfile", DOCKERFILE).symlink("x", "/etc").file("x/escape", "out").pack();
    // The exact words about a Dockerfile are those of tests/real/building.rs.
    type Case<'a> = (&'a str, Option<Vec<u8>>, &'a [&'a str]);
    let table: [Case<'_>; 10] = [
        ("no archive", None, &["archive was not found"]),
        ("no Dockerfile", Some(Tar::default().file("other", "x").pack()), &["Dockerfile"]),
        ("an empty Dockerfile", file(""), &["Dockerfile"]),
        (
            "a step that fails",
            file("FROM busybox:local\nRUN echo the step speaks; exit 7\n"),
            &["the step speaks", "code: 7"],
        ),
        ("a base that is not there", file("FROM 127.0.0.1:1/nothing:1\n"), &["127.0.0.1:1"]),
        ("an unknown instruction", file("FROM busybox:local\nFLY away\n"), &["FLY"]),
        ("no gzip", Some(b"this is no archive".to_vec()), &["archive"]),
        ("an empty archive", Some(Vec::new()), &["archive"]),
        ("half of gzip", Some(whole[..whole.len() / 2].to_vec()), &["archive"]),
        ("half of tar", Some(cut), &["archive"]),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (n, (what, archive, says)) in (0..).zip(table) {
        let (one, many) = (plain(7800 + n, &format!("Bad{n}")), composed(7820 + n, &format!("Badc{n}")));
        for app in [&one, &many] {
            if let Some(archive) = &archive {
                std::fs::write(ground.archive(app), archive).expect("written");
            }
        }
        rows.push(fails(what, one, says));
        rows.push(fails(what, many, says));
    }
    for (key, what, archive, says) in [
        (7840, "an entry outside", &escape, "leads elsewhere"),
        (7841, "a file behind a link", &link, "leads outside"),
        (7842, "a bomb", &bomb, "larger than allowed"),
    ] {
        let app = composed(key, &format!("Hostile{key}"));
        std::fs::write(ground.archive(&app), archive).expect("written");
        rows.push(fails(what, app, &[says]));
    }
    ground.all_end(&rows);
    let apps = ground.stage.agent.apps_dir();
    for outside in [apps.join("escape"), apps.join("build/escape"), "/etc/escape".into()] {
        assert!(!outside.exists(), "{}", outside.display());
    }
    // Good sources, then.
    let good = Tar::default().file("Dockerfile", DOCKERFILE).pack();
    let mended: Vec<WantedApp> = rows.iter().step_by(3).map(|row| row.app.clone().current("FAILED")).collect();
    for app in &mended {
        std::fs::write(ground.archive(app), &good).expect("written");
    }
    ground.all_reach(&mended, "BUILT", "BUILT");
    let some: Vec<WantedApp> = mended.iter().take(4).map(|app| app.clone().current("PRESENT")).collect();
    wait_until(SOON, "nothing is left of steps that failed", || {
        ground.stage.docker.run(&["ps", "-aq", "--filter", "status=exited"]).is_empty().then_some(())
    });
    ground.all_reach(&some, "RUNNING", "RUNNING");
    ground.all_go(&rows.iter().map(|row| row.app.clone()).collect::<Vec<_>>());
    let left: Vec<_> = std::fs::read_dir(apps.join("build"))
        .expect("it is there")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
