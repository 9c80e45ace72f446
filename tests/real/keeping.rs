//! The container of the release before is kept and put back by a real Engine.

use super::building::Workshop;
use super::stage::progress;
use crate::util::wait_until;
use reagent::clock;
use reagent::domain::job::{Container, Health, JobSpec, Outcome};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const NAME: &str = "prod_7403_app";
const KEPT: &str = "kept-7403-prod";

fn keep() -> JobSpec {
    JobSpec::Keep { container: NAME.to_owned(), kept: KEPT.to_owned() }
}

fn put_back() -> JobSpec {
    JobSpec::PutBack { container: NAME.to_owned(), kept: KEPT.to_owned() }
}

impl Workshop {
    /// A container whose HEALTHCHECK looks every second whether `/healthy` is there.
    fn run_app(&self, script: &str) -> String {
        let check = ["--health-cmd", "ls /healthy", "--health-interval", "1s", "--health-retries", "1"];
        let app = ["busybox:local", "sh", "-c", script];
        self.docker.run(&[&["run", "-d", "--name", NAME, "--label", "real=True"], &check[..], &app].concat())
    }

    fn look(&self, name: &str) -> Option<Box<Container>> {
        match self.jobs.perform(JobSpec::Look { container: name.to_owned() }) {
            Outcome::Looked(seen) => seen,
            other => panic!("no look but {other:?}"),
        }
    }

    fn becomes(&self, health: Health) {
        wait_until(SOON, &format!("{health:?}"), || {
            self.look(NAME).filter(|seen| seen.health == Some(health)).map(drop)
        });
    }

    fn state(&self, name: &str) -> Value {
        self.docker.inspect(name).unwrap_or_else(|| panic!("there is no {name}"))["State"]["Status"].clone()
    }
}

#[test]
fn s7_a_healthy_release_is_kept_over_a_power_cut_and_put_back_in_place_of_a_sick_one() {
    let shop = Workshop::open();
    let old = shop.run_app("touch /healthy /mark; sleep 1000");
    assert_eq!(shop.look(NAME).expect("it runs").health, Some(Health::Starting));
    shop.becomes(Health::Healthy);
    let began = clock::mono();
    assert_eq!(shop.jobs.perform(keep()), Outcome::Done);
    progress(&format!("kept within {:.2?}", clock::mono() - began));
    assert_eq!((shop.look(NAME), shop.state(KEPT)), (None, "exited".into()));
    assert_eq!(shop.jobs.perform(keep()), Outcome::Done, "there is none to keep, and what is kept stays");
    assert_eq!(shop.look(KEPT).expect("it is kept").id, old);
    // The new release is no good.
    let new = shop.run_app("sleep 1000");
    shop.becomes(Health::Unhealthy);
    assert_ne!(new, old);
    shop.engine.kill9();
    assert!(matches!(shop.jobs.perform(put_back()), Outcome::EngineGone(_)));
    shop.engine.launch();
    assert_eq!(shop.state(KEPT), "exited", "nobody starts it");
    let began = clock::mono();
    assert_eq!(shop.jobs.perform(put_back()), Outcome::Done);
    progress(&format!("put back within {:.2?}", clock::mono() - began));
    let back = shop.look(NAME).expect("it is back");
    assert_eq!((back.id, back.status.as_str()), (old, "running"));
    shop.becomes(Health::Healthy);
    shop.docker.run(&["exec", NAME, "ls", "/mark"]);
    assert_eq!(shop.docker.names(""), [NAME]);
    assert_eq!(shop.jobs.perform(put_back()), Outcome::Done, "it is back already");
    shop.docker.run(&["rm", "-f", NAME]);
    let gone = Outcome::Failed("the container of the release before is gone".to_owned());
    assert_eq!(shop.jobs.perform(put_back()), gone);
}
