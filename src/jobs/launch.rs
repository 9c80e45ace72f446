//! The body of a container (`apps.md` 3.4): what an app is created with. Pure but for the mounts, which depend on what
//! this machine has.

use super::folders::Folders;
use crate::docker::{ContainerSpec, Device, Env, HostConfig, Mount};
use crate::domain::app::Stage;
use crate::domain::environment::MAX_ENTRY;
use crate::domain::job::Launch;
use crate::sorted::IntoSorted;
use std::collections::BTreeMap;
use std::path::Path;

/// Folders of the host that an app sees under the same path, where they exist.
const HOST_FOLDERS: [&str; 2] = ["/sys/bus/w1/devices", "/usr/local/cuda"];

/// What is mounted into the app's container.
pub(super) fn mounts(folders: &Folders) -> Vec<Mount> {
    let of_app = [(&folders.shared, "/shared"), (&folders.data, "/data")];
    let of_app = of_app.map(|(source, target)| Mount::bind(source.to_string_lossy(), target));
    let of_host = HOST_FOLDERS.into_iter().filter(|path| Path::new(path).exists()).map(|path| Mount::bind(path, path));
    of_app.into_iter().chain(of_host).collect()
}

/// The body of the create call. `runtime` is empty for the Engine's own.
pub(super) fn body(
    launch: &Launch,
    variables: &BTreeMap<String, String>,
    mounts: Vec<Mount>,
    runtime: &str,
) -> ContainerSpec {
    let entries = variables.iter().map(|(name, value)| format!("{name}={value}"));
    let mut spec = ContainerSpec {
        image: launch.image.clone(),
        env: Env(entries.filter(|entry| entry.len() <= MAX_ENTRY).collect()),
        labels: std::iter::once(("real".to_owned(), "True".to_owned())).into_map(),
        tty: true,
        host_config: HostConfig {
            privileged: true,
            cap_add: vec!["ALL".to_owned()],
            devices: vec![Device { path_on_host: "/dev".to_owned(), path_in_container: "/dev".to_owned() }],
            network_mode: "bridge".to_owned(),
            extra_hosts: vec!["host.docker.internal:host-gateway".to_owned()],
            runtime: runtime.to_owned(),
            mounts,
            ..HostConfig::default()
        },
        ..ContainerSpec::default()
    };
    for binding in &launch.bindings {
        spec.publish(binding.port, binding.protocol.text(), binding.host_port);
    }
    match launch.folder.stage {
        Stage::Dev => ContainerSpec { volumes: Some(BTreeMap::new()), ..spec.interactive() },
        Stage::Prod => spec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::Folder;
    use crate::domain::ports::{Binding, Protocol};
    use serde_json::{Value, json};

    fn made(stage: Stage, variables: &[(&str, &str)], runtime: &str) -> Value {
        let launch = Launch {
            container: "prod_6_app".to_owned(),
            image: "registry/apps/prod_amd64_6_app:1.0.0".to_owned(),
            folder: Folder { stage, name: "App".to_owned() },
            environment: BTreeMap::new(),
            bindings: vec![Binding::plain(53, Protocol::Udp, 40_001)],
            on_trial: false,
        };
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        serde_json::to_value(body(&launch, &variables, vec![Mount::bind("/apps/shared", "/shared")], runtime)).unwrap()
    }

    #[test]
    fn a_prod_container_is_what_the_table_says() {
        let expected = json!({
            "Image": "registry/apps/prod_amd64_6_app:1.0.0", "Env": ["A=1", "B=2"], "Labels": {"real": "True"}, "Tty": true,
            "ExposedPorts": {"53/udp": {}}, "NetworkingConfig": {},
            "HostConfig": {
                "RestartPolicy": {"Name": "no"}, "Privileged": true, "CapAdd": ["ALL"],
                "Devices": [{"PathOnHost": "/dev", "PathInContainer": "/dev"}], "NetworkMode": "bridge",
                "PortBindings": {"53/udp": [{"HostIp": "0.0.0.0", "HostPort": "40001"}]},
                "ExtraHosts": ["host.docker.internal:host-gateway"],
                "Mounts": [{"Type": "bind", "Source": "/apps/shared", "Target": "/shared"}],
            },
        });
        assert_eq!(made(Stage::Prod, &[("B", "2"), ("A", "1")], ""), expected);
    }

    #[test]
    fn a_dev_container_keeps_its_input_open_and_a_gpu_names_the_runtime() {
        let spec = made(Stage::Dev, &[], "nvidia");
        for flag in ["AttachStdin", "AttachStdout", "AttachStderr", "OpenStdin"] {
            assert_eq!(spec[flag], true, "{flag}");
        }
        assert_eq!((&spec["Volumes"], &spec["HostConfig"]["Runtime"]), (&json!({}), &json!("nvidia")));
    }

    #[test]
    fn an_entry_that_is_too_long_for_the_configuration_is_left_out() {
        let fits = "x".repeat(MAX_ENTRY - 2);
        let spec = made(Stage::Prod, &[("A", &fits), ("B", &format!("{fits}x"))], "");
        assert_eq!(spec["Env"], json!([format!("A={fits}")]));
    }

    #[test]
    fn an_app_gets_its_data_what_is_shared_and_what_the_host_has() {
        let folder = Folder { stage: Stage::Prod, name: "App".to_owned() };
        let folders = Folders::new(Path::new("/apps"), &folder).unwrap();
        let all: Vec<(String, String)> =
            mounts(&folders).into_iter().map(|mount| (mount.source, mount.target)).collect();
        let of = |source: &str, target: &str| (source.to_owned(), target.to_owned());
        assert_eq!(all[..2], [of("/apps/shared", "/shared"), of("/apps/prod/app", "/data")]);
        assert!(all[2..].iter().all(|(source, target)| source == target && Path::new(source).exists()), "{all:?}");
    }
}
