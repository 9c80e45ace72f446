//! Who a project's commands are at a registry (`apps.md` 4.6), and where that is kept: in a directory of this one job,
//! `<agentDir>/.compose-login/<n>` (0700, its file 0600), that the commands get as `DOCKER_CONFIG` and that goes with the job.
//!
//! Root's own `~/.docker`, where earlier agents put them, would keep the device's secret for whoever reads that file, would
//! lose a credential when two jobs log in at once, and would lend one app's to another. What the machine's owner set up
//! there still counts: the file is copied, with its logins, proxies and stores, and the folder of plugins (`docker compose`
//! may be one of them) is linked. Its choice of a context is not copied, since that could name another Engine than the agent's.

use super::cli::{Cli, exit_text};
use crate::docker;
use crate::domain::job::Login;
use crate::jobs::work::Failure;
use crate::os::child::{self, End, Limits, Stream};
use crate::os::{files, strays};
use log::warn;
use serde_json::{Map, Value};
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For one login (`apps.md` 7.5).
const DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of what a login says.
const SAID: usize = 16 * 1024;
const FOLDER: &str = ".compose-login";
/// The variable that names it to the programs of a job.
pub(super) const CONFIG: &str = "DOCKER_CONFIG";

/// The directory; removed when dropped.
pub(super) struct Credentials(PathBuf);

impl Credentials {
    /// For one job of a project, which has no other at the same time. `base` is the machine's own.
    pub(super) fn create(agent_dir: &Path, project: &str, base: Option<&Path>) -> io::Result<Credentials> {
        // Only the number: an app's name may hold words that those who look for agents look for (decision 19).
        let mut hasher = DefaultHasher::new();
        project.hash(&mut hasher);
        let path = std::path::absolute(agent_dir)?.join(FOLDER).join(format!("{:016x}", hasher.finish()));
        // Left by an agent that was killed.
        remove(&path)?;
        files::create_directory(&path, 0o700)?;
        let credentials = Credentials(path);
        if let Some(base) = base {
            credentials.take_over(&std::path::absolute(base)?)?;
        }
        Ok(credentials)
    }

    fn take_over(&self, base: &Path) -> io::Result<()> {
        let plugins = base.join("cli-plugins");
        if plugins.is_dir() {
            files::link(&plugins, &self.0.join("cli-plugins"))?;
        }
        // A file that is no JSON object is one that the docker command could not use either.
        let text = fs::read(base.join("config.json")).unwrap_or_default();
        if let Ok(mut config) = serde_json::from_slice::<Map<String, Value>>(&text) {
            config.remove("currentContext");
            files::write_atomic(&self.0.join("config.json"), Value::from(config).to_string().as_bytes(), 0o600)?;
        }
        Ok(())
    }

    /// For `DOCKER_CONFIG`.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Credentials {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            warn!("{}: {error}", self.0.display());
        }
    }
}

/// Removes what jobs left that did not end, since their agent was killed: programs that still run, then their directories.
pub(in crate::jobs) fn forget_all(agent_dir: &Path) {
    let path = std::path::absolute(agent_dir).unwrap_or_else(|_| agent_dir.to_owned()).join(FOLDER);
    let left = strays::kill_by_variable(&format!("{CONFIG}={}/", path.display()));
    if !left.is_empty() {
        warn!("killed what an agent before has left running: processes {left:?}");
    }
    if let Err(error) = remove(&path) {
        warn!("{}: {error}", path.display());
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

impl Cli<'_> {
    /// Logs in at each registry in turn; the first failure ends it.
    pub(super) fn log_in(&self, logins: &[Login]) -> Result<(), Failure> {
        logins.iter().filter(|login| !login.username.is_empty()).try_for_each(|login| self.log_in_at(login, DEADLINE))
    }

    fn log_in_at(&self, login: &Login, deadline: Duration) -> Result<(), Failure> {
        let host = host(&login.registry);
        let mut command = self.command("docker");
        command.args(["login", "-u", login.username.reveal(), "--password-stdin", "--", host]);
        let (mut said, limits) = (Vec::new(), Limits { total: Some(deadline), quiet: None });
        let take = |_: Stream, bytes: &[u8]| said.extend_from_slice(&bytes[..bytes.len().min(SAID - said.len())]);
        let end = child::run(command, login.password.reveal().as_bytes(), limits, self.cancel, take);
        let why = match end.map_err(|error| Failure::of(format_args!("docker login {host}"), error))? {
            End::Exited(status) if status.success() => return Ok(()),
            End::Cancelled => return Err(docker::Error::Cancelled.into()),
            End::Exited(status) => {
                let said = String::from_utf8_lossy(&said);
                let line = said.lines().find(|line| line.contains("Error")).map(|line| line.trim().to_owned());
                line.unwrap_or_else(|| exit_text(status))
            }
            End::TimedOut | End::Quiet => format!(
                "no answer within {} s. If this device reaches the internet by a proxy, the registry may have to be one \
                 of its exceptions (NO_PROXY, for the Docker Engine too)",
                deadline.as_secs()
            ),
        };
        let hidden = match login.password.reveal() {
            "" => why,
            password => why.replace(password, "***"),
        };
        Err(Failure::Text(format!("docker login {host} failed: {hidden}")))
    }
}

/// The host of a registry: the backend may put a slash behind it. An address with more to it is left as it is.
fn host(registry: &str) -> &str {
    let host = registry.trim_end_matches('/');
    if host.contains('/') { registry } else { host }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::Cancel;
    use crate::jobs::programs::Programs;
    use crate::os::scratch::Scratch;
    use crate::secret::Secret;
    use serde_json::json;

    #[test]
    fn x1_credentials_are_for_the_owner_alone_and_go_with_the_job() {
        let dir = Scratch::new();
        let credentials = Credentials::create(dir.path(), "prod_6_reagent-x_compose", None).unwrap();
        assert_eq!(files::mode(credentials.path()).unwrap(), 0o700);
        assert_eq!(files::mode(&dir.join(FOLDER)).unwrap(), 0o700);
        assert!(!credentials.path().to_string_lossy().contains("reagent-x"));
        fs::write(credentials.path().join("config.json"), "{}").unwrap();
        let path = credentials.path().to_owned();
        drop(credentials);
        assert!(!path.exists());
        // An agent that was killed leaves them.
        std::mem::forget(Credentials::create(dir.path(), "a", None).unwrap());
        std::mem::forget(Credentials::create(dir.path(), "b", None).unwrap());
        drop(Credentials::create(dir.path(), "a", None).unwrap());
        forget_all(dir.path());
        assert_eq!(dir.names(), Vec::<String>::new());
        forget_all(dir.path());
    }

    #[test]
    fn what_the_machines_owner_set_up_still_counts_but_for_the_context() {
        let (dir, base) = (Scratch::new(), Scratch::new());
        let auths = json!({"own.registry": {"auth": "eDp5"}});
        let config = json!({"auths": auths, "currentContext": "elsewhere", "proxies": {"default": {}}});
        base.file("config.json", config.to_string());
        fs::create_dir(base.join("cli-plugins")).unwrap();
        fs::write(base.join("cli-plugins/docker-compose"), "plugin").unwrap();
        let credentials = Credentials::create(dir.path(), "a", Some(base.path())).unwrap();
        let copy = credentials.path().join("config.json");
        let read: Value = serde_json::from_slice(&fs::read(&copy).unwrap()).unwrap();
        assert_eq!(read, json!({"auths": auths, "proxies": {"default": {}}}));
        assert_eq!(files::mode(&copy).unwrap(), 0o600);
        assert!(credentials.path().join("cli-plugins/docker-compose").exists());
        drop(credentials);
        assert!(base.join("cli-plugins/docker-compose").exists(), "links are removed, not followed");
        base.file("config.json", "no json");
        drop(Credentials::create(dir.path(), "a", Some(base.path())).unwrap());
        drop(Credentials::create(dir.path(), "a", Some(&base.join("none"))).unwrap());
    }

    #[test]
    fn s4_a_registry_that_does_not_answer_is_named_with_what_helps() {
        let dir = Scratch::new();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/jobs/program.sh");
        files::link(&script, &dir.join("docker")).unwrap();
        dir.file("do-login", "read -r word; echo $word; while :; do /bin/sleep 1; done");
        let programs = Programs::with([("PATH".into(), dir.path().into())]);
        let cli = Cli {
            programs: &programs,
            cancel: &Cancel::new(),
            host: String::new(),
            credentials: Credentials::create(dir.path(), "a", None).unwrap(),
        };
        let login = Login {
            registry: "registry.test/".to_owned(),
            username: Secret::new("token"),
            password: Secret::new("hush"),
        };
        let Err(Failure::Text(text)) = cli.log_in_at(&login, Duration::from_millis(200)) else { panic!("logged in") };
        assert!(text.starts_with("docker login registry.test failed: no answer within 0 s."), "{text}");
        assert!(text.contains("proxy") && !text.contains("hush"), "{text}");
        fs::remove_file(dir.join("docker")).unwrap();
        let absent = cli.log_in_at(&login, DEADLINE);
        assert!(matches!(absent, Err(Failure::Text(text)) if text.starts_with("docker login registry.test: ")));
    }

    #[test]
    fn a_registry_is_asked_by_its_host() {
        for (registry, expected) in [
            ("registry.test/", "registry.test"),
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            ("https://index.docker.io/v1/", "https://index.docker.io/v1/"),
        ] {
            assert_eq!(host(registry), expected);
        }
    }
}
