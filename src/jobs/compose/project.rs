//! A project as the Engine shows it: everything that carries its label. Needs no compose and no definition.
//!
//! **Invariant:** what somebody else uses stays, and to find nothing is success.

use crate::clock;
use crate::docker::labels::PROJECT;
use crate::docker::{self, ContainerSummary, Filters, Removal, Which};
use crate::domain::compose::aggregate;
use crate::domain::job::{Container, Outcome};
use crate::jobs::observe::{of_inspection, of_summary};
use crate::jobs::work::{Failure, LOOK, PATIENCE, Work, for_all};
use crate::logs::excerpt::{self, Window};
use crate::sorted::sort_by;
use log::{debug, warn};
use std::time::Duration;

/// How long a service may take to end: compose's own default.
const GRACE: Duration = Duration::from_secs(10);
/// The lines that say why the project does not run.
const TAIL: Window = Window { tail: 100, bytes: 64 * 1024, since: None, until: None, limit: Duration::from_secs(20) };

/// What of a project is taken away; each includes those before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Extent {
    /// Its containers.
    Containers,
    /// Its networks.
    Networks,
    /// Its volumes, and the anonymous ones of its containers.
    Volumes,
}

/// How its containers end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// They are asked first.
    Asked,
    /// They are killed.
    Killed,
}

impl Work<'_> {
    /// Looks at the containers of a project as one.
    pub(in crate::jobs) fn look_project(&self, project: &str) -> Result<Outcome, Failure> {
        let mut containers = Vec::new();
        for summary in self.containers_of(project)? {
            match self.docker.inspect_container(&summary.id) {
                Ok(found) => containers.push(of_inspection(found)),
                // It went in between.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Outcome::Looked(aggregate(&containers).map(Box::new)))
    }

    /// Removes the containers and networks of a project at once; volumes stay.
    pub(in crate::jobs) fn remove_project(&self, project: &str) -> Result<(), Failure> {
        self.remove_by_label(project, Extent::Networks, Ending::Killed)
    }

    /// The containers of a project, by service.
    fn containers_of(&self, project: &str) -> Result<Vec<ContainerSummary>, Failure> {
        let mut found = self.docker.list_containers(Which::All, &of_project(project))?;
        let rank = |container: &ContainerSummary| (service(container), container.name().to_owned());
        sort_by(&mut found, |a, b| rank(a).cmp(&rank(b)));
        Ok(found)
    }

    /// Whether there is anything to take away.
    pub(super) fn is_there(&self, project: &str, extent: Extent) -> Result<bool, Failure> {
        let filters = of_project(project);
        Ok(!self.containers_of(project)?.is_empty()
            || (extent >= Extent::Networks && !self.docker.list_networks(&filters)?.is_empty())
            || (extent >= Extent::Volumes && !self.docker.list_volumes(&filters)?.is_empty()))
    }

    /// Removes what there is of a project.
    pub(super) fn remove_by_label(&self, project: &str, extent: Extent, ending: Ending) -> Result<(), Failure> {
        let containers = self.containers_of(project)?;
        if ending == Ending::Asked {
            let running = containers.iter().filter(|container| container.state == "running");
            for_all(running, |container| match self.docker.stop_container(&container.id, GRACE) {
                Err(error) if error.is_engine_down() || error == docker::Error::Cancelled => Err(error.into()),
                // Removing it kills it.
                _ => Ok(()),
            })?;
        }
        let how = if extent >= Extent::Volumes { Removal::WithVolumes } else { Removal::Force };
        for_all(&containers, |container| {
            debug!("{project}: container {} is removed", container.name());
            self.remove(&container.id, how)
        })?;
        if extent >= Extent::Networks {
            for_all(&self.docker.list_networks(&of_project(project))?, |network| {
                gone("network", &network.name, self.docker.remove_network(&network.id))
            })?;
        }
        if extent >= Extent::Volumes {
            for_all(&self.docker.list_volumes(&of_project(project))?, |volume| {
                gone("volume", &volume.name, self.docker.remove_volume(&volume.name))
            })?;
        }
        Ok(())
    }

    /// Looks until the project runs (`apps.md` 3.7), not before a second has passed: as long as another service runs,
    /// nobody will ever ask again what became of one that ended at once.
    pub(super) fn until_project_runs(&self, project: &str) -> Result<(), Failure> {
        let deadline = clock::mono() + PATIENCE;
        loop {
            self.pause(LOOK)?;
            let containers: Vec<Container> = self.containers_of(project)?.iter().map(of_summary).collect();
            let why = match judge(&containers) {
                Verdict::Runs => return Ok(()),
                Verdict::Failed(why) => return Err(Failure::Text(why)),
                Verdict::Waits(why) => why,
            };
            if clock::mono() >= deadline {
                return Err(Failure::Text(format!("{why} after {} s", PATIENCE.as_secs())));
            }
        }
    }

    /// Shows the last lines of the services on the log of the app, as compose shows them.
    pub(super) fn show_tails(&self, project: &str, log: &str) -> Result<(), Failure> {
        let read = || {
            let members = excerpt::members(&self.docker, project)?;
            let lines = excerpt::read(&self.docker, &members, &TAIL)?;
            Ok(excerpt::shown(&members, lines, excerpt::Line::text))
        };
        match read() {
            Err(docker::Error::Cancelled) => return Err(docker::Error::Cancelled.into()),
            // Without a log there is nothing to show.
            Err(error) => debug!("the logs of {project}: {error}"),
            Ok(lines) => lines.into_iter().for_each(|line| self.settings.feed.line(log, line)),
        }
        Ok(())
    }
}

fn of_project(project: &str) -> Filters {
    Filters::none().with("label", &format!("{PROJECT}={project}"))
}

/// The service that a container belongs to, else its name.
fn service(container: &ContainerSummary) -> String {
    let service = of_summary(container).service;
    service.unwrap_or_else(|| container.name().to_owned())
}

/// What is gone already, or is somebody else's too, is no failure.
fn gone(kind: &str, name: &str, removed: Result<(), docker::Error>) -> Result<(), Failure> {
    match removed {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) if error.is_in_use() => {
            warn!("{kind} {name} stays: {error}");
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Whether a project runs.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Runs,
    /// Not yet: what is missing.
    Waits(String),
    /// It will not.
    Failed(String),
}

fn judge(containers: &[Container]) -> Verdict {
    let name = |container: &Container| container.service.clone().unwrap_or_else(|| container.name.clone());
    if let Some(failed) = containers.iter().find(|container| has_failed(container)) {
        return Verdict::Failed(format!("service {} ended with exit code {}", name(failed), failed.exit_code));
    }
    let mut unsettled =
        containers.iter().filter(|container| !matches!(container.status.as_str(), "running" | "exited"));
    if let Some(other) = unsettled.next() {
        return Verdict::Waits(format!("service {} is {}", name(other), other.status));
    }
    // A service that is done with its work is normal beside one that goes on.
    match containers.first() {
        None => Verdict::Waits("it has no container".to_owned()),
        Some(_) if containers.iter().any(|container| container.status == "running") => Verdict::Runs,
        Some(_) => Verdict::Failed("all of its services have ended".to_owned()),
    }
}

fn has_failed(container: &Container) -> bool {
    container.status == "dead" || (container.status == "exited" && container.exit_code != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(service: &str, status: &str, exit_code: i64) -> Container {
        let (service, status) = (Some(service.to_owned()), status.to_owned());
        Container { service, status, exit_code, ..Container::default() }
    }

    #[test]
    fn a_project_runs_when_all_services_run_or_have_done_their_work() {
        let judged = |containers: &[Container]| judge(containers);
        let waits = |why: &str| Verdict::Waits(why.to_owned());
        let failed = |why: &str| Verdict::Failed(why.to_owned());
        assert_eq!(judged(&[]), waits("it has no container"));
        assert_eq!(judged(&[one("a", "running", 0)]), Verdict::Runs);
        assert_eq!(judged(&[one("init", "exited", 0), one("a", "running", 0)]), Verdict::Runs);
        assert_eq!(judged(&[one("init", "exited", 0)]), failed("all of its services have ended"));
        assert_eq!(judged(&[one("a", "running", 0), one("b", "created", 0)]), waits("service b is created"));
        assert_eq!(judged(&[one("a", "restarting", 1)]), waits("service a is restarting"));
        assert_eq!(
            judged(&[one("a", "running", 0), one("b", "created", 0), one("c", "exited", 3)]),
            failed("service c ended with exit code 3")
        );
        assert_eq!(judged(&[one("a", "running", 0), one("b", "dead", 0)]), failed("service b ended with exit code 0"));
    }
}
