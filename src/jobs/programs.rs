//! What other programs (`docker`, `docker-compose`) are run with: of the agent's own environment what they need to find
//! each other, the Engine and a proxy, and nothing else. Variables such as `COMPOSE_FILE` would change what they do.

use crate::sorted::IntoSorted;
use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where programs are looked for in addition to `PATH`: what starts an agent at boot often has a short one, or none.
const USUAL: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Variables that are handed on; of the proxies in upper and in lower case, of `DOCKER_` all but [`NOT`].
const KEPT: [&str; 6] = ["HOME", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"];
/// Each command has a configuration of its own, and the Engine is the one that the agent talks to.
const NOT: [&str; 3] = ["DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_HOST"];

/// See the module. `Debug` shows names alone: a proxy may have a password.
#[derive(Clone)]
pub struct Programs {
    environment: BTreeMap<OsString, OsString>,
    /// Where the Docker CLI of this machine has its configuration, if anywhere.
    docker_config: Option<PathBuf>,
}

impl Programs {
    /// With the environment of this process.
    pub fn of_agent() -> Programs {
        let mut programs = Programs::with(env::vars_os());
        let path = programs.environment.remove(OsStr::new("PATH")).unwrap_or_default();
        let own: Vec<PathBuf> = env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
        let usual = USUAL.into_iter().map(PathBuf::from).filter(|folder| !own.contains(folder));
        let all = env::join_paths(own.iter().cloned().chain(usual)).unwrap_or(path);
        programs.environment.insert("PATH".into(), all);
        programs
    }

    /// With these variables, as far as they are handed on. Programs are looked for in their `PATH` alone.
    pub fn with(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Programs {
        let all = variables.into_iter().into_map();
        let set = |name: &str| all.get(OsStr::new(name)).filter(|value| !value.is_empty()).map(PathBuf::from);
        let docker_config = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")));
        let environment = all.into_iter().filter(|(name, _)| name.to_str().is_some_and(is_kept)).into_map();
        Programs { environment, docker_config }
    }

    /// A command in this environment.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(&self.environment);
        command
    }

    /// Where the Docker CLI of this machine has its configuration, if anywhere; the folder need not exist.
    pub(super) fn docker_config(&self) -> Option<&Path> {
        self.docker_config.as_deref()
    }
}

fn is_kept(name: &str) -> bool {
    let of_docker = name.starts_with("DOCKER_") && !NOT.contains(&name);
    name == "PATH" || of_docker || KEPT.contains(&name) || KEPT[2..].contains(&name.to_ascii_uppercase().as_str())
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs").field("environment", &self.environment.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&str, &str)]) -> Programs {
        Programs::with(variables.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn programs_get_what_they_need_and_nothing_that_changes_what_they_do() {
        let programs = with(&[
            ("PATH", "/bin"),
            ("HOME", "/root"),
            ("https_proxy", "http://u:p@proxy"),
            ("NO_PROXY", "local"),
            ("DOCKER_BUILDKIT", "0"),
            ("DOCKER_HOST", "unix:///other"),
            ("DOCKER_CONTEXT", "other"),
            ("DOCKER_CONFIG", "/etc/docker-cli"),
            ("COMPOSE_FILE", "other.yml"),
            ("COMPOSE_PROJECT_NAME", "other"),
            ("LD_PRELOAD", "x.so"),
        ]);
        let command = programs.command("docker");
        let given: Vec<&str> = command.get_envs().filter_map(|(name, _)| name.to_str()).collect();
        assert_eq!(given, ["DOCKER_BUILDKIT", "HOME", "NO_PROXY", "PATH", "https_proxy"]);
        assert_eq!(programs.docker_config(), Some(Path::new("/etc/docker-cli")));
        assert!(!format!("{programs:?}").contains("u:p"));
    }

    #[test]
    fn the_docker_cli_keeps_its_configuration_below_the_home_directory_if_there_is_one() {
        assert_eq!(with(&[("HOME", "/root")]).docker_config(), Some(Path::new("/root/.docker")));
        assert_eq!(with(&[("HOME", ""), ("DOCKER_CONFIG", "")]).docker_config(), None);
    }

    #[test]
    fn a_short_path_is_completed() {
        let programs = Programs::of_agent();
        let path = programs.environment[OsStr::new("PATH")].clone();
        let folders: Vec<PathBuf> = env::split_paths(&path).collect();
        for folder in USUAL {
            assert!(folders.contains(&PathBuf::from(folder)), "{folder}");
        }
    }
}
