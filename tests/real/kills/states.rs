//! The table of states: how each is reached and held, and where the app ends after each [`Blow`].

use super::super::stage::SOON;
use super::End;
use super::scene::Blow::{
    self, Agent, Cancel, Engine, EngineKilled, Outage, PowerAgentFirst, PowerEngineFirst, Session,
};
use super::scene::Scene;
use crate::cloud::wanted::WantedApp;
use crate::util::wait_until;
use serde_json::json;

/// A state of an action.
pub struct State {
    /// Action, state, and what is under way.
    pub name: &'static str,
    /// Whose.
    pub app: fn() -> WantedApp,
    /// Brings the app there.
    pub reach: fn(&mut Scene),
    /// Where it ends; `None`: the blow means nothing to it.
    pub end: fn(Blow) -> Option<End>,
    /// What is asked for with a cancel.
    pub cancel: Option<&'static str>,
    /// The blows of the short form.
    pub short: &'static [Blow],
}

/// Bytes of a registry's answers that pass before a download stalls.
const PART: usize = 1 << 20;
/// For images without ballast.
const SMALL_PART: usize = 300_000;

fn plain() -> WantedApp {
    WantedApp::new(504, "Solo").port(8080, "http")
}

fn project() -> WantedApp {
    // What is in it follows from the ports of the scene.
    WantedApp::new(505, "Duo").port(8080, "http").compose(json!({}))
}

fn dev() -> WantedApp {
    WantedApp::new(506, "Maker").dev().port(8080, "http")
}

fn dev_project() -> WantedApp {
    WantedApp::new(507, "Kit").dev().port(8080, "http").compose(json!({}))
}

/// What dies comes back, and the app ends like this.
fn after_deaths(blow: Blow, end: End) -> Option<End> {
    matches!(blow, Agent | Engine | EngineKilled | PowerAgentFirst | PowerEngineFirst).then_some(end)
}

/// The same for a transfer, which a lost session does not end, and which can be cancelled.
fn after_all(blow: Blow, end: End, cancelled: End) -> Option<End> {
    match blow {
        Cancel => Some(cancelled),
        _ => Some(end),
    }
}

/// The same for a build, which nobody repeats.
fn after_build(blow: Blow, cut_off: End) -> Option<End> {
    match blow {
        Session | Outage => Some(End::Rests("PRESENT")),
        _ => after_all(blow, cut_off, End::Removed),
    }
}

/// The same for a release. A connect after it finds its image, which is no news.
fn after_release(blow: Blow, cut_off: End) -> Option<End> {
    match blow {
        Session => Some(End::Rests("PUBLISHED")),
        Outage => Some(End::Rests("PRESENT")),
        _ => after_all(blow, cut_off, End::Removed),
    }
}

/// The same for a release on trial.
fn after_trial(blow: Blow) -> Option<End> {
    match blow {
        Cancel => Some(End::Uninstalled),
        Session => Some(End::Running("2.0.0")),
        _ => after_deaths(blow, End::Running("2.0.0")),
    }
}

/// Updates the app to 2.0.0, until that runs on trial.
fn is_on_trial(scene: &mut Scene) {
    scene.updates("2.0.0", "demo");
    let new = scene.stage.reference(&scene.app, "2.0.0");
    wait_until(SOON, "the new release is on trial", || {
        let found = scene.stage.docker.inspect(&scene.app.container())?;
        (found["Config"]["Image"] == new.as_str() && found["State"]["Running"] == true).then_some(())
    });
}

pub const ALL: &[State] = &[
    State {
        name: "pull DOWNLOADING",
        app: plain,
        reach: |scene| {
            scene.app = scene.app.clone().version("1.5.0");
            scene.offers("1.5.0", "bulky");
            scene.stage.download.stall_after(PART);
            scene.asks("PRESENT");
            scene.becomes("DOWNLOADING");
            scene.is_stalled();
        },
        end: |blow| after_all(blow, End::Present, End::Removed),
        cancel: Some("REMOVED"),
        short: &[Cancel, Session],
    },
    State {
        name: "run DOWNLOADING",
        app: plain,
        reach: |scene| {
            scene.app = scene.app.clone().version("1.5.0");
            scene.offers("1.5.0", "bulky");
            scene.stage.download.stall_after(PART);
            scene.asks("RUNNING");
            scene.becomes("DOWNLOADING");
            scene.is_stalled();
        },
        end: |blow| after_all(blow, End::Running("1.5.0"), End::Uninstalled),
        cancel: Some("UNINSTALLED"),
        short: &[Agent],
    },
    State {
        name: "run STARTING before the container is made",
        app: plain,
        reach: |scene| {
            scene.is_present();
            scene.holds("/containers/create", 0);
            scene.asks("RUNNING");
            scene.becomes("STARTING");
            scene.is_held("the container is to be made");
        },
        end: |blow| match blow {
            Cancel => Some(End::Removed),
            _ => after_deaths(blow, End::Running("1.0.0")),
        },
        cancel: Some("REMOVED"),
        short: &[PowerAgentFirst],
    },
    State {
        name: "run STARTING when the container has started",
        app: plain,
        reach: |scene| {
            scene.is_present();
            scene.holds_the_answer_to("/start HTTP");
            scene.asks("RUNNING");
            scene.becomes("STARTING");
            scene.is_held("the container has started");
        },
        end: |blow| after_deaths(blow, End::Running("1.0.0")),
        cancel: None,
        short: &[Engine],
    },
    State {
        name: "RUNNING",
        app: plain,
        reach: Scene::runs,
        end: |blow| after_deaths(blow, End::Running("1.0.0")),
        cancel: None,
        short: &[EngineKilled],
    },
    State {
        name: "stop STOPPING",
        app: plain,
        reach: |scene| {
            scene.runs();
            scene.holds_the_answer_to("/stop?");
            scene.asks("PRESENT");
            scene.becomes("STOPPING");
            scene.is_held("the container has stopped");
        },
        end: |blow| after_deaths(blow, End::Present),
        cancel: None,
        short: &[Agent],
    },
    State {
        name: "remove DELETING",
        app: plain,
        reach: |scene| {
            scene.runs();
            scene.holds("DELETE ", 0);
            scene.asks("REMOVED");
            scene.becomes("DELETING");
            scene.is_held("the container is to go");
        },
        end: |blow| after_deaths(blow, End::Removed),
        cancel: None,
        short: &[EngineKilled],
    },
    State {
        name: "uninstall DELETING, the container is gone",
        app: plain,
        reach: |scene| {
            scene.runs();
            scene.holds("/images/", 0);
            scene.asks("UNINSTALLED");
            scene.becomes("DELETING");
            scene.is_held("the images are to go");
        },
        end: |blow| after_deaths(blow, End::Uninstalled),
        cancel: None,
        short: &[PowerEngineFirst],
    },
    State {
        name: "update UPDATING, the image is pulled",
        app: plain,
        reach: |scene| {
            scene.runs();
            scene.stage.download.stall_after(PART);
            scene.updates("2.5.0", "bulky");
            scene.is_stalled();
        },
        end: |blow| after_all(blow, End::Running("2.5.0"), End::Present),
        cancel: Some("PRESENT"),
        short: &[Cancel, Agent],
    },
    State {
        name: "update UPDATING, the old container has stopped",
        app: plain,
        reach: |scene| {
            scene.runs();
            scene.holds("/rename?", 0);
            scene.updates("2.0.0", "demo");
            scene.is_held("the container is to be kept");
        },
        end: |blow| after_deaths(blow, End::Running("2.0.0")),
        cancel: None,
        short: &[Engine],
    },
    State {
        name: "update UPDATING, between keep and start",
        app: plain,
        reach: |scene| {
            scene.runs();
            scene.holds("/containers/create", 0);
            scene.updates("2.0.0", "demo");
            scene.is_held("the new container is to be made");
        },
        end: |blow| after_deaths(blow, End::Running("2.0.0")),
        cancel: None,
        short: &[PowerAgentFirst],
    },
    State {
        name: "update UPDATING, on trial",
        app: plain,
        reach: |scene| {
            scene.runs();
            is_on_trial(scene);
        },
        end: after_trial,
        cancel: Some("UNINSTALLED"),
        short: &[Cancel, EngineKilled],
    },
    State {
        name: "update UPDATING, on trial, and nothing ran before",
        app: plain,
        reach: |scene| {
            scene.is_present();
            is_on_trial(scene);
        },
        end: after_trial,
        cancel: Some("UNINSTALLED"),
        short: &[Agent],
    },
    State {
        name: "update, between adopt and the removal of the kept container",
        app: plain,
        reach: |scene| {
            scene.runs();
            // What was kept of an earlier update is looked for first.
            scene.holds("/containers/kept-504-prod/json", 1);
            scene.updates("2.0.0", "demo");
            scene.becomes("RUNNING");
            scene.is_held("the kept container is to go");
        },
        end: |blow| after_deaths(blow, End::Running("2.0.0")),
        cancel: None,
        short: &[PowerEngineFirst],
    },
    State {
        name: "update UPDATING, the old release is put back",
        app: plain,
        reach: |scene| {
            scene.runs();
            scene.holds("/rename?", 1);
            scene.updates("3.0.0", "fails");
            scene.is_held("the old container is to have its name again");
        },
        end: |blow| after_deaths(blow, End::Running("1.0.0")),
        cancel: None,
        short: &[Agent],
    },
    State {
        name: "upload TRANSFERING",
        app: dev,
        reach: |scene| {
            scene.stage.backend.want(scene.app.clone().current("TRANSFERING"));
            scene.asks("BUILT");
            scene.sends("BEGIN", 4);
            scene.sends("0001", 4);
        },
        end: |blow| match blow {
            // They live in the agent, and the agent lives.
            Engine | EngineKilled | Session | Outage => Some(End::Arrives),
            _ => after_all(blow, End::Rests("REMOVED"), End::Removed),
        },
        cancel: Some("REMOVED"),
        short: &[Cancel, Agent, Engine, Session],
    },
    State {
        name: "build BUILDING",
        app: dev,
        reach: |scene| {
            scene.stage.engine.has_base();
            let seconds = if matches!(scene.blow, Session | Outage) { 4 } else { 1000 };
            scene.sources(&format!("FROM busybox:local\nRUN sleep {seconds}\n"));
            scene.asks("BUILT");
            scene.becomes("BUILDING");
            wait_until(SOON, "the step runs", || (!scene.stage.docker.run(&["ps", "-q"]).is_empty()).then_some(()));
        },
        end: |blow| after_build(blow, End::Rests("REMOVED")),
        cancel: Some("REMOVED"),
        short: &[Cancel, Engine, Outage],
    },
    State {
        name: "publish PUBLISHING, the image is pushed",
        app: dev,
        reach: |scene| {
            scene.stage.engine.has_base();
            scene.sources("FROM busybox:local\nCOPY ballast /ballast\n");
            scene.stage.download.stall_clients_after(PART);
            scene.asks("PUBLISHED");
            scene.becomes("PUBLISHING");
            scene.is_stalled();
        },
        end: |blow| after_release(blow, End::Rests("PRESENT")),
        cancel: Some("REMOVED"),
        short: &[Cancel, PowerAgentFirst, Outage],
    },
    State {
        name: "run STARTING in development",
        app: dev,
        reach: |scene| {
            scene.stage.engine.has_base();
            scene.sources("FROM busybox:local\nCMD [\"sleep\", \"100000\"]\n");
            scene.asks("BUILT");
            scene.becomes("PRESENT");
            scene.holds("/containers/create", 0);
            scene.asks("RUNNING");
            scene.becomes("STARTING");
            scene.is_held("the container is to be made");
        },
        end: |blow| after_deaths(blow, End::Running("")),
        cancel: None,
        short: &[EngineKilled],
    },
    State {
        name: "pull DOWNLOADING of a project",
        app: project,
        reach: |scene| {
            scene.offers("1.0.0", "demo");
            scene.app.docker_compose = Some(scene.duo("1.0.0"));
            scene.stage.download.stall_after(SMALL_PART);
            scene.asks("PRESENT");
            scene.becomes("DOWNLOADING");
            scene.is_stalled();
        },
        end: |blow| after_all(blow, End::Present, End::Uninstalled),
        cancel: Some("UNINSTALLED"),
        short: &[Cancel, Engine],
    },
    State {
        name: "run DOWNLOADING of a project that hangs",
        app: project,
        reach: |scene| {
            scene.offers("1.0.0", "demo");
            scene.app.docker_compose = Some(scene.duo("1.0.0"));
            scene.hangs("pull");
            scene.asks("RUNNING");
            scene.becomes("DOWNLOADING");
            scene.is_hung("pull");
        },
        end: |blow| after_all(blow, End::Running("1.0.0"), End::Removed),
        cancel: Some("REMOVED"),
        short: &[Cancel, Agent],
    },
    State {
        name: "run STARTING of a project, one service is up",
        app: project,
        reach: |scene| {
            scene.offers("1.0.0", "demo");
            scene.app.docker_compose = Some(scene.waiting_duo("1.0.0"));
            scene.goes("PRESENT");
            scene.closes_the_door();
            scene.asks("RUNNING");
            scene.becomes("STARTING");
            scene.sees("web", "running");
            scene.sees("db", "created");
        },
        end: |blow| match blow {
            Cancel => Some(End::Uninstalled),
            _ => after_all(blow, End::Running("1.0.0"), End::Uninstalled),
        },
        cancel: Some("UNINSTALLED"),
        short: &[Agent, PowerEngineFirst],
    },
    State {
        name: "stop STOPPING of a project, one service is down",
        app: project,
        reach: |scene| {
            scene.app.docker_compose = Some(scene.duo("1.0.0"));
            scene.runs();
            scene.asks("PRESENT");
            scene.becomes("STOPPING");
            scene.sees("db", "exited");
        },
        end: |blow| after_deaths(blow, End::Present),
        cancel: None,
        short: &[PowerAgentFirst],
    },
    State {
        name: "remove DELETING of a project, one service is down",
        app: project,
        reach: |scene| {
            scene.app.docker_compose = Some(scene.duo("1.0.0"));
            scene.runs();
            scene.asks("REMOVED");
            scene.becomes("DELETING");
            scene.sees("db", "absent");
        },
        end: |blow| after_deaths(blow, End::Removed),
        cancel: None,
        short: &[EngineKilled],
    },
    State {
        name: "uninstall DELETING of a project, the containers are gone",
        app: project,
        reach: |scene| {
            scene.app.docker_compose = Some(scene.duo("1.0.0"));
            scene.runs();
            scene.holds("DELETE ", 0);
            scene.asks("UNINSTALLED");
            scene.becomes("DELETING");
            scene.is_held("what compose left is to go");
        },
        end: |blow| after_deaths(blow, End::Uninstalled),
        cancel: None,
        short: &[Agent],
    },
    State {
        name: "update UPDATING of a project, the images are pulled",
        app: project,
        reach: |scene| {
            scene.app.docker_compose = Some(scene.duo("1.0.0"));
            scene.runs();
            scene.stage.download.stall_after(PART);
            scene.updates("2.5.0", "bulky");
            scene.is_stalled();
        },
        end: |blow| after_all(blow, End::Running("2.5.0"), End::Removed),
        cancel: Some("REMOVED"),
        short: &[Cancel, PowerAgentFirst],
    },
    State {
        name: "update UPDATING of a project, between down and up",
        app: project,
        reach: |scene| {
            scene.app.docker_compose = Some(scene.duo("1.0.0"));
            scene.runs();
            scene.hangs("up");
            scene.updates("2.0.0", "demo");
            scene.is_hung("up");
        },
        end: |blow| after_all(blow, End::Running("2.0.0"), End::Present),
        cancel: Some("PRESENT"),
        short: &[Engine, Cancel],
    },
    State {
        name: "update UPDATING of a project on trial",
        app: project,
        reach: |scene| {
            scene.app.docker_compose = Some(scene.duo("1.0.0"));
            scene.runs();
            scene.updates("2.0.0", "demo");
            let new = scene.service("db", "2.0.0");
            wait_until(SOON, "the new release is on trial", || {
                let found = scene.stage.docker.inspect(&scene.name_of("db"))?;
                (found["Config"]["Image"] == new.as_str() && found["State"]["Running"] == true).then_some(())
            });
        },
        end: after_trial,
        cancel: Some("UNINSTALLED"),
        short: &[EngineKilled],
    },
    State {
        name: "build BUILDING of a project",
        app: dev_project,
        reach: |scene| {
            scene.stage.engine.has_base();
            let seconds = if matches!(scene.blow, Session | Outage) { 4 } else { 1000 };
            scene.sources(&format!("FROM busybox:local\nRUN echo step; sleep {seconds}\n"));
            let kit = scene.kit(None);
            scene.app.docker_compose = Some(kit);
            scene.asks("BUILT");
            scene.becomes("BUILDING");
            scene.says("step");
        },
        end: |blow| after_build(blow, End::Rests("UNINSTALLED")),
        cancel: Some("REMOVED"),
        short: &[Cancel, EngineKilled],
    },
    State {
        name: "build BUILDING of a project that hangs",
        app: dev_project,
        reach: |scene| {
            scene.stage.engine.has_base();
            scene.sources("FROM busybox:local\n");
            let kit = scene.kit(None);
            scene.app.docker_compose = Some(kit);
            scene.hangs("build");
            scene.asks("BUILT");
            scene.is_hung("build");
        },
        end: |blow| match blow {
            // It goes on when the engine is back.
            Engine | EngineKilled => None,
            _ => after_build(blow, End::Rests("UNINSTALLED")),
        },
        cancel: Some("REMOVED"),
        short: &[Agent],
    },
    State {
        name: "publish PUBLISHING of a project, an image is copied",
        app: dev_project,
        reach: |scene| {
            scene.stage.engine.has_base();
            scene.offers_foreign();
            scene.sources("FROM busybox:local\nCOPY ballast /ballast\n");
            let kit = scene.kit(Some("1.0.0"));
            scene.app.docker_compose = Some(kit);
            scene.stage.download.stall_after(PART);
            scene.asks("PUBLISHED");
            scene.becomes("PUBLISHING");
            scene.is_stalled();
        },
        end: |blow| after_release(blow, End::Rests("UNINSTALLED")),
        cancel: Some("REMOVED"),
        short: &[Cancel, PowerEngineFirst],
    },
    State {
        name: "publish PUBLISHING of a project, the images are pushed",
        app: dev_project,
        reach: |scene| {
            scene.stage.engine.has_base();
            scene.sources("FROM busybox:local\nCOPY ballast /ballast\n");
            let kit = scene.kit(None);
            scene.app.docker_compose = Some(kit);
            scene.stage.download.stall_clients_after(PART);
            scene.asks("PUBLISHED");
            scene.becomes("PUBLISHING");
            scene.is_stalled();
        },
        end: |blow| after_release(blow, End::Rests("PRESENT")),
        cancel: Some("REMOVED"),
        short: &[Cancel, Agent],
    },
];
