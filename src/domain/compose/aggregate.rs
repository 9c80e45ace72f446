//! The containers of a compose project as one container (apps chapter 2.2): what the rules judge.

use super::super::job::{Container, Health};
use super::super::names::normalise_project;
use crate::sorted::{IntoSorted, sort_by};

/// The containers of one project as one; `None` if there are none. It has the project's name, `running` if any of them
/// runs, else `exited` with the code of the first one that failed, else `created`. `error` says what is wrong with which
/// service. Equal to an earlier one: nothing has changed.
pub fn aggregate(containers: &[Container]) -> Option<Container> {
    let mut sorted: Vec<&Container> = containers.iter().collect();
    sort_by(&mut sorted, |a, b| a.name.cmp(&b.name));
    let project = normalise_project(sorted.first()?.project.as_deref()?);
    let failed = sorted.iter().find(|container| has_failed(container));
    let status = match failed {
        _ if sorted.iter().any(|container| container.status == "running") => "running",
        Some(_) => "exited",
        None => "created",
    };
    let joined = |part: fn(&Container) -> &str| {
        let mut parts: Vec<&str> =
            sorted.iter().map(|container| part(container)).filter(|part| !part.is_empty()).collect();
        sort_by(&mut parts, Ord::cmp);
        parts.join(",")
    };
    let health = |health| sorted.iter().any(|container| container.health == Some(health)).then_some(health);
    let bindings = sorted.iter().flat_map(|container| &container.bindings).cloned().into_set();
    Some(Container {
        id: joined(|container| &container.id),
        name: project.clone(),
        image: joined(|container| &container.image),
        status: status.to_owned(),
        exit_code: failed.map_or(0, |container| container.exit_code),
        out_of_memory: sorted.iter().any(|container| container.out_of_memory),
        error: sorted.iter().filter_map(|container| trouble(container)).collect::<Vec<_>>().join("; "),
        started_at: joined(|container| &container.started_at),
        bindings: bindings.into_iter().collect(),
        ours: true,
        project: Some(project),
        service: None,
        health: health(Health::Unhealthy).or(health(Health::Starting)).or(health(Health::Healthy)),
        ..Container::default()
    })
}

fn has_failed(container: &Container) -> bool {
    matches!(container.status.as_str(), "exited" | "dead") && container.exit_code > 0
}

fn trouble(container: &Container) -> Option<String> {
    let service = container.service.as_deref().unwrap_or(&container.name);
    if !container.error.is_empty() {
        return Some(format!("service {service}: {}", container.error));
    }
    let memory = if container.out_of_memory { ", it ran out of memory" } else { "" };
    has_failed(container).then(|| format!("service {service} exited with code {}{memory}", container.exit_code))
}

#[cfg(test)]
mod tests {
    use super::super::super::ports::{Protocol, Published};
    use super::*;

    fn one(service: &str, status: &str, exit_code: i64) -> Container {
        Container {
            id: format!("id-{service}"),
            name: format!("prod_6_app_compose-{service}-1"),
            status: status.to_owned(),
            exit_code,
            started_at: format!("t-{service}"),
            project: Some("prod_6_app_compose".to_owned()),
            service: Some(service.to_owned()),
            ..Container::default()
        }
    }

    #[test]
    fn a_project_runs_while_any_of_it_runs_and_has_failed_if_something_of_it_did() {
        for (states, status, code) in [
            (vec![("running", 0), ("exited", 3)], "running", 0),
            (vec![("exited", 0), ("exited", 3)], "exited", 3),
            (vec![("exited", 0), ("dead", 4)], "exited", 4),
            (vec![("exited", 5), ("exited", 3)], "exited", 5),
            (vec![("exited", 0), ("created", 0)], "created", 0),
            (vec![("restarting", 1)], "created", 0),
        ] {
            let parts: Vec<Container> =
                states.iter().enumerate().map(|(n, (status, code))| one(&format!("s{n}"), status, *code)).collect();
            let whole = aggregate(&parts).unwrap();
            assert_eq!(whole.status, status, "{states:?}");
            if status != "running" {
                assert_eq!(whole.exit_code, code, "{states:?}");
            }
        }
        assert_eq!(aggregate(&[]), None);
    }

    #[test]
    fn a_project_is_equal_to_itself_in_any_order_and_to_nothing_else() {
        let parts = [one("a", "running", 0), one("b", "running", 0)];
        let whole = aggregate(&parts).unwrap();
        assert_eq!(aggregate(&[parts[1].clone(), parts[0].clone()]).as_ref(), Some(&whole));
        let restarted = Container { started_at: "t9".to_owned(), ..parts[0].clone() };
        assert_ne!(aggregate(&[restarted, parts[1].clone()]).as_ref(), Some(&whole));
        assert_ne!(aggregate(&parts[..1]).as_ref(), Some(&whole));
        assert_eq!((whole.name.as_str(), whole.ours), ("prod_6_app_compose", true));
        assert_eq!(whole.project.as_deref(), Some("prod_6_app_compose"));
    }

    #[test]
    fn the_worst_health_and_all_ports_and_the_service_in_trouble_are_told() {
        let port = |service: &str, host_port| Published {
            service: service.to_owned(),
            port: 80,
            protocol: Protocol::Tcp,
            host_port,
        };
        let with = |service: &str, health, host_port| Container {
            health,
            bindings: vec![port(service, host_port)],
            ..one(service, "running", 0)
        };
        let healthy = with("b", Some(Health::Healthy), 40_000);
        let starting = with("a", Some(Health::Starting), 40_001);
        let ill = with("c", Some(Health::Unhealthy), 40_002);
        let health =
            |parts: &[&Container]| aggregate(&parts.iter().copied().cloned().collect::<Vec<_>>()).unwrap().health;
        assert_eq!(health(&[&healthy, &one("x", "running", 0)]), Some(Health::Healthy));
        assert_eq!(health(&[&healthy, &starting]), Some(Health::Starting));
        assert_eq!(health(&[&healthy, &starting, &ill]), Some(Health::Unhealthy));
        assert_eq!(health(&[&one("x", "running", 0)]), None);
        let dead = Container { out_of_memory: true, ..one("db", "exited", 137) };
        let whole = aggregate(&[healthy, starting, dead]).unwrap();
        assert_eq!(whole.bindings, [port("a", 40_001), port("b", 40_000)]);
        assert!(whole.out_of_memory);
        assert_eq!(whole.error, "service db exited with code 137, it ran out of memory");
    }
}
