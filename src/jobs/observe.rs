//! Seeing what the Engine has: all containers and images, or one container.

use super::work::{Failure, LOOK, Work};
use crate::docker::endpoints::build::MARK;
use crate::docker::endpoints::containers::Port;
use crate::docker::labels::{PROJECT, SERVICE};
use crate::docker::{self, ContainerSummary, Filters, LogOptions, PortBinding, Which};
use crate::domain::compose::aggregate;
use crate::domain::job::{Container, Health, Observation, Outcome};
use crate::domain::names;
use crate::domain::ports::{Protocol, Published};
use crate::sorted::IntoSorted;
use std::collections::{BTreeMap, BTreeSet};

/// Characters of a container's last line.
const LAST_LINE: usize = 200;

impl Work<'_> {
    /// Lists everything, and inspects those of the agent's containers that are not as in `known` (name to id and status; of
    /// a project its name, and both of all its containers as one).
    pub(super) fn observe(&self, known: &BTreeMap<String, (String, String)>) -> Result<Outcome, Failure> {
        let listed = self.docker.list_containers(Which::All, &Filters::none())?;
        let images = self.docker.list_images(&Filters::none())?;
        self.learn_data_root();
        let projects = projects_as_known(&listed, known);
        let mut containers = Vec::with_capacity(listed.len());
        for summary in &listed {
            let as_known = match summary.labels.get(PROJECT) {
                Some(project) => projects.contains(project.as_str()),
                None => is_as_known(known, summary.name(), &summary.id, &summary.state),
            };
            if as_known || !(is_the_agents(summary) || may_be_of_a_build(summary)) {
                containers.push(of_summary(summary));
                continue;
            }
            match self.docker.inspect_container(&summary.id) {
                Ok(inspected) => containers.push(of_inspection(inspected)),
                // It went in between.
                Err(error) if error.is_not_found() => {}
                // One container that the Engine cannot show does not hide all others.
                Err(docker::Error::Status { .. }) => containers.push(of_summary(summary)),
                Err(error) => return Err(error.into()),
            }
        }
        let tags = images.into_iter().flat_map(|image| image.repo_tags);
        let images = tags.filter(|tag| !tag.contains("<none>")).collect();
        Ok(Outcome::Observed(Observation { containers, images, definitions: self.definitions() }))
    }

    /// Inspects the container of exactly this name.
    pub(super) fn look(&self, container: &str) -> Result<Outcome, Failure> {
        Ok(Outcome::Looked(self.docker.find_container(container)?.map(|found| Box::new(of_inspection(found)))))
    }

    /// Looks at the container of a release on trial, and at its last line if it has ended.
    pub(super) fn prove(&self, container: &str) -> Result<Outcome, Failure> {
        let mut outcome = self.look(container)?;
        if let Outcome::Looked(Some(found)) = &mut outcome
            && found.status != "running"
        {
            found.last_line = self.last_line(&found.id);
        }
        Ok(outcome)
    }

    /// The last line that a container wrote, cut; empty if there is none.
    pub(super) fn last_line(&self, id: &str) -> String {
        let options = LogOptions { tty: true, tail: Some(1), ..LogOptions::default() };
        match self.docker.container_logs(id, &options).and_then(|mut logs| logs.next_line(LOOK)) {
            Ok(Some(line)) => line.text.chars().take(LAST_LINE).collect(),
            _ => String::new(),
        }
    }
}

fn is_as_known(known: &BTreeMap<String, (String, String)>, name: &str, id: &str, status: &str) -> bool {
    known.get(name).is_some_and(|seen| (seen.0.as_str(), seen.1.as_str()) == (id, status))
}

/// Labels of the projects that are as known, and of which everything runs: what else there is does not show in the status
/// of a whole project.
fn projects_as_known<'l>(
    listed: &'l [ContainerSummary],
    known: &BTreeMap<String, (String, String)>,
) -> BTreeSet<&'l str> {
    let mut projects: BTreeMap<&str, Vec<Container>> = BTreeMap::new();
    for summary in listed {
        if let Some(project) = summary.labels.get(PROJECT) {
            projects.entry(project).or_default().push(of_summary(summary));
        }
    }
    let is_known = |containers: &[Container]| {
        containers.iter().all(|container| container.status == "running")
            && aggregate(containers).is_some_and(|whole| is_as_known(known, &whole.name, &whole.id, &whole.status))
    };
    projects.into_iter().filter(|(_, containers)| is_known(containers)).map(|(project, _)| project).into_set()
}

fn is_ours(labels: &BTreeMap<String, String>) -> bool {
    labels.get("real").is_some_and(|value| value == "True")
}

fn is_the_agents(summary: &ContainerSummary) -> bool {
    is_ours(&summary.labels) || names::parse_container(summary.name()).is_some_and(|parsed| parsed.stage.is_some())
}

/// Whether it has ended and was made from an image without a name, as the steps of builds are.
fn may_be_of_a_build(summary: &ContainerSummary) -> bool {
    let image = summary.image.strip_prefix("sha256:").unwrap_or(&summary.image);
    let is_id = image.len() >= 12 && image.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id && summary.state != "running" && !summary.labels.contains_key(PROJECT)
}

/// What a listing tells. `started_at` stays empty: the core keeps what it has. Ports are those of compose's containers.
pub(super) fn of_summary(summary: &ContainerSummary) -> Container {
    let project = summary.labels.get(PROJECT).cloned();
    let bindings = if project.is_some() { published(summary) } else { Vec::new() };
    Container {
        id: summary.id.clone(),
        name: summary.name().to_owned(),
        image: summary.image.clone(),
        status: summary.state.clone(),
        exit_code: names::exit_code(&summary.status).unwrap_or_default(),
        ours: is_ours(&summary.labels),
        project,
        service: summary.labels.get(SERVICE).cloned(),
        bindings,
        health: listed_health(&summary.status),
        ..Container::default()
    }
}

/// What an inspection tells.
pub(super) fn of_inspection(inspected: docker::Container) -> Container {
    let bindings = inspected.host_config.port_bindings.iter();
    let service = inspected.config.labels.get(SERVICE).cloned();
    let published = |(port, protocol, host_port)| {
        let service = service.clone().unwrap_or_default();
        Published { service, port, protocol, host_port }
    };
    Container {
        name: inspected.name().to_owned(),
        status: inspected.state.status,
        exit_code: inspected.state.exit_code,
        out_of_memory: inspected.state.oom_killed,
        error: inspected.state.error,
        started_at: inspected.state.started_at,
        bindings: bindings.filter_map(|(port, hosts)| binding(port, hosts)).map(published).collect(),
        host_network: inspected.host_config.network_mode == "host",
        ours: is_ours(&inspected.config.labels),
        image: inspected.config.image,
        of_build: inspected.host_config.extra_hosts.iter().any(|host| host == MARK),
        project: inspected.config.labels.get(PROJECT).cloned(),
        service,
        health: inspected.state.health.and_then(|health| of_health(&health.status)),
        id: inspected.id,
        last_line: String::new(),
    }
}

/// `none` is written where a HEALTHCHECK of the image was switched off.
fn of_health(text: &str) -> Option<Health> {
    match text {
        "starting" => Some(Health::Starting),
        "healthy" => Some(Health::Healthy),
        "unhealthy" => Some(Health::Unhealthy),
        _ => None,
    }
}

/// A list has it in its text for people: `Up 2 minutes (healthy)`, `Up 1 second (health: starting)`.
fn listed_health(status: &str) -> Option<Health> {
    let (_, text) = status.strip_suffix(')')?.rsplit_once('(')?;
    of_health(text.strip_prefix("health: ").unwrap_or(text))
}

/// The published ports of a list, each once: a port is bound for IPv4 and for IPv6.
fn published(summary: &ContainerSummary) -> Vec<Published> {
    let service = summary.labels.get(SERVICE).cloned().unwrap_or_default();
    let one = |port: &Port| {
        let bound = PortBinding { host_ip: port.ip.clone(), host_port: port.public_port.to_string() };
        let (port, protocol, host_port) = binding(&format!("{}/{}", port.private_port, port.protocol), &[bound])?;
        Some(Published { service: service.clone(), port, protocol, host_port })
    };
    summary.ports.iter().filter_map(one).into_set().into_iter().collect()
}

/// `80/tcp` and its host sides. Of several addresses the one that means all of the host's counts.
fn binding(port: &str, hosts: &[PortBinding]) -> Option<(u16, Protocol, u16)> {
    let (port, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let protocol = match protocol {
        "tcp" | "" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let usable =
        || hosts.iter().filter_map(|host| Some((host, host.host_port.parse().ok().filter(|port| *port != 0)?)));
    let everywhere = usable().find(|(host, _)| matches!(host.host_ip.as_str(), "" | "0.0.0.0"));
    let (_, host_port) = everywhere.or_else(|| usable().next())?;
    Some((port.parse().ok()?, protocol, host_port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(ip: &str, port: &str) -> PortBinding {
        PortBinding { host_ip: ip.to_owned(), host_port: port.to_owned() }
    }

    #[test]
    fn the_ports_of_a_list_are_each_told_once() {
        let port = |private_port, public_port, protocol: &str, ip: &str| Port {
            private_port,
            public_port,
            protocol: protocol.to_owned(),
            ip: ip.to_owned(),
        };
        let ports = [
            port(80, 40_001, "tcp", "0.0.0.0"),
            port(80, 40_001, "tcp", "::"),
            port(53, 40_002, "udp", "0.0.0.0"),
            port(90, 0, "tcp", ""),
            port(22, 40_003, "", "0.0.0.0"),
            port(9, 40_004, "sctp", "0.0.0.0"),
        ];
        let summary = ContainerSummary { ports: ports.to_vec(), ..ContainerSummary::default() };
        let found: Vec<_> = published(&summary).into_iter().map(|it| (it.port, it.protocol, it.host_port)).collect();
        assert_eq!(found, [(22, Protocol::Tcp, 40_003), (53, Protocol::Udp, 40_002), (80, Protocol::Tcp, 40_001)]);
    }

    #[test]
    fn a_list_tells_what_a_healthcheck_says() {
        for (status, health) in [
            ("Up 2 minutes (healthy)", Some(Health::Healthy)),
            ("Up 1 second (health: starting)", Some(Health::Starting)),
            ("Up 3 hours (unhealthy)", Some(Health::Unhealthy)),
            ("Up 3 hours", None),
            ("Up 3 hours (Paused)", None),
            ("Exited (0) 2 minutes ago", None),
            ("", None),
        ] {
            assert_eq!(listed_health(status), health, "{status}");
        }
    }

    #[test]
    fn the_binding_on_all_addresses_is_preferred_and_port_0_is_none() {
        let hosts = [host("127.0.0.1", "1"), host("0.0.0.0", "0"), host("0.0.0.0", "40001"), host("", "40002")];
        assert_eq!(binding("80/tcp", &hosts), Some((80, Protocol::Tcp, 40_001)));
        assert_eq!(binding("53/udp", &hosts[..1]), Some((53, Protocol::Udp, 1)));
        assert_eq!(binding("53/udp", &hosts[1..2]), None);
        assert_eq!(binding("53/sctp", &hosts), None);
        assert_eq!(binding("x/tcp", &hosts), None);
        assert_eq!(binding("80/tcp", &[]), None);
    }
}
