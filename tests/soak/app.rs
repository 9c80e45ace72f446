//! The four apps of a run, and what is asked of them.

use super::script::{KINDS, Kind, Wish};
use crate::cloud::wanted::WantedApp;
use reagent::release::ARCH;
use serde_json::{Value, json};

/// The versions of apps that have releases; the last one is bad.
pub const VERSIONS: [&str; 3] = ["1.0.0", "2.0.0", "3.0.0"];
const NAMES: [&str; 4] = ["alpha", "beta", "gamma", "delta"];

/// One of them.
#[derive(Debug, Clone)]
pub struct App {
    pub kind: Kind,
    pub key: u64,
    pub name: &'static str,
    /// `host:port` of the registry.
    registry: String,
    /// Where the backend has its host ports, 0 for the agent's own choice.
    host_port: u64,
}

impl App {
    /// All of a run; the host ports begin with this one.
    pub fn all(registry: &str, host_port: u64) -> Vec<App> {
        let one = |(n, kind): (usize, &Kind)| App {
            kind: *kind,
            key: 701 + n as u64,
            name: NAMES[n],
            registry: registry.to_owned(),
            host_port: if host_port == 0 { 0 } else { host_port + n as u64 },
        };
        KINDS.iter().enumerate().map(one).collect()
    }

    pub fn stage(&self) -> &'static str {
        if self.kind == Kind::Development { "DEV" } else { "PROD" }
    }

    /// As the platform has it before it is asked for.
    pub fn fresh(&self) -> WantedApp {
        let app = WantedApp::new(self.key, self.name).port(8080, "http");
        let mut app = if self.kind == Kind::Development { app.dev() } else { app };
        if self.host_port > 0 {
            app.ports[0]["host_port"] = json!(self.host_port);
        }
        app
    }

    /// The images of a version that are in the registry: names without registry and tag, and their tags.
    pub fn releases(&self, version: &str) -> Vec<(String, String)> {
        let image = self.fresh().image(ARCH);
        match self.kind {
            Kind::Plain => vec![(image, version.to_owned())],
            Kind::Compose => {
                vec![(format!("{image}_web"), version.to_owned()), (format!("{image}_side"), VERSIONS[0].to_owned())]
            }
            Kind::Development => Vec::new(),
        }
    }

    pub fn reference(&self, image: &str, version: &str) -> String {
        format!("{}/apps/{image}:{version}", self.registry)
    }

    /// The image under which a build is published.
    pub fn release_image(&self) -> String {
        format!("prod_{ARCH}_{}_{}", self.key, self.name)
    }

    /// What an image of it is called on the device, up to the tag or the service.
    pub fn image_prefix(&self) -> String {
        format!("{}/apps/{}", self.registry, self.fresh().image(ARCH))
    }

    fn definition(&self, version: &str) -> Option<Value> {
        let [(web, tag), (side, one)] = &self.releases(version)[..] else { return None };
        let service = |image: &str, tag: &str| json!({"image": self.reference(image, tag), "stop_grace_period": "1s"});
        let mut web = service(web, tag);
        web["ports"] = json!(["8080:8080"]);
        Some(json!({"services": {"web": web, "side": service(side, one)}}))
    }

    /// How many containers run when it does.
    pub fn size(&self) -> usize {
        if self.kind == Kind::Compose { 2 } else { 1 }
    }

    /// Whether a container, or its project, is of this app; kept ones, too.
    pub fn owns(&self, name: &str, project: &str) -> bool {
        let container = self.fresh().container();
        let kept = format!("kept-{}-{}", self.key, self.stage().to_lowercase());
        name == container || name == kept || project == format!("{container}_compose")
    }

    /// Makes a wish the platform's.
    pub fn apply(&self, wish: Wish, number: &str, wanted: &mut WantedApp) {
        let target = match wish {
            Wish::Run | Wish::Update | Wish::UpdateToBad => "RUNNING",
            Wish::Stop | Wish::Cancel { removed: false } => "PRESENT",
            Wish::Remove | Wish::Cancel { removed: true } => "REMOVED",
            Wish::Uninstall => "UNINSTALLED",
            Wish::Build => "BUILT",
            Wish::Publish => "PUBLISHED",
        };
        // The platform has taken a finished build over.
        if wanted.current == "BUILT" {
            "PRESENT".clone_into(&mut wanted.current);
        }
        // Only what is installed can be updated.
        let is_gone =
            [&wanted.target, &wanted.current].iter().any(|state| matches!(state.as_str(), "REMOVED" | "UNINSTALLED"));
        let wish = if is_gone && matches!(wish, Wish::Update | Wish::UpdateToBad) { Wish::Run } else { wish };
        target.clone_into(&mut wanted.target);
        wanted.cancel_transition = matches!(wish, Wish::Cancel { .. });
        wanted.request_update = matches!(wish, Wish::Update | Wish::UpdateToBad);
        let present = wanted.present_version.clone();
        let newest = match wish {
            Wish::UpdateToBad => VERSIONS[2],
            Wish::Update if present == VERSIONS[1] => VERSIONS[0],
            Wish::Update => VERSIONS[1],
            _ => &present,
        };
        newest.clone_into(&mut wanted.newest_version);
        wanted.new_release_key = release_key(newest);
        wanted.release_key = release_key(&present);
        if wish == Wish::Publish {
            number.clone_into(&mut wanted.version);
        }
        wanted.docker_compose = self.definition(&present);
        wanted.new_docker_compose = self.definition(newest).filter(|_| wanted.request_update);
    }
}

fn release_key(version: &str) -> u64 {
    100 + VERSIONS.iter().position(|known| *known == version).unwrap_or(0) as u64
}
