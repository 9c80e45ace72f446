//! The options the agent runs with, made of the flags as given. Pure.

use super::Given;
use crate::sorted::IntoSorted;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Reply bound that `-respTimeout 0` stands for.
const DEFAULT_REPLY: Duration = Duration::from_millis(5000);

/// Port that `-profilingPort 0` stands for.
const DEFAULT_PROFILING_PORT: u16 = 80;

/// Typed options, defaults applied (`wamp-and-rpc.md` 7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `-agentDir`.
    pub agent_dir: PathBuf,
    /// `-appsDir`.
    pub apps_dir: PathBuf,
    /// `-compressedBuildExtension`, without a dot.
    pub compressed_build_extension: String,
    /// `-config`: the `.flock` file, never empty in [`super::Outcome::Run`].
    pub config: PathBuf,
    /// `-connTimeout`; `None` for no limit.
    pub connect_timeout: Option<Duration>,
    /// `-dbFileName`, resolved: a name without a separator lies in the agent's directory (decision 14).
    pub database: PathBuf,
    /// `-debug`.
    pub debug: bool,
    /// `-debugMessaging`.
    pub debug_messaging: bool,
    /// `-env` as given; `None` when it was not given, since only an explicit one counts.
    pub env: Option<String>,
    /// `-logFile`.
    pub log_file: PathBuf,
    /// `-nmw`: whether NetworkManager is used.
    pub network_manager: bool,
    /// `-offline`.
    pub offline: bool,
    /// `-ppTimeout`; `None` when off (decision 12 has what is sent then).
    pub ping_interval: Option<Duration>,
    /// `-prettyLogging`.
    pub pretty_logging: bool,
    /// `-profiling`: the port of the diagnostics server, `None` when it is not wanted.
    pub profiling: Option<u16>,
    /// `-remoteUpdateURL`; `update_url` of the `.flock` file wins.
    pub remote_update_url: String,
    /// `-respTimeout`, never zero.
    pub reply_timeout: Duration,
    /// `-update`: whether to look for a newer agent at start.
    pub update: bool,
    /// The names of the flags that were given.
    pub given: BTreeSet<&'static str>,
    /// What to tell the user on standard error: arguments and values that are ignored.
    pub warnings: Vec<String>,
}

impl Options {
    /// Applies defaults and the rules between flags. An empty path stands for its default, except `-config`.
    pub fn from_given(given: &Given) -> Options {
        let mut warnings = Vec::new();
        if !given.ignored.is_empty() {
            warnings.push(format!("warning: ignored arguments: {}", given.ignored.join(" ")));
        }
        let path = |name: &str| PathBuf::from(given.text(name));
        let or_default = |name: &str| match given.text(name) {
            text if text.is_empty() => PathBuf::from(Given::default().text(name)),
            text => PathBuf::from(text),
        };
        let milliseconds = |name: &str| Some(given.number(name)).filter(|&ms| ms > 0).map(Duration::from_millis);
        let agent_dir = or_default("agentDir");
        let port = match u16::try_from(given.number("profilingPort")) {
            Ok(0) => DEFAULT_PROFILING_PORT,
            Ok(port) => port,
            Err(_) => {
                warnings.push(format!("warning: -profilingPort is no port, {DEFAULT_PROFILING_PORT} is used"));
                DEFAULT_PROFILING_PORT
            }
        };
        let names = given.names().into_set();
        Options {
            database: database(&agent_dir, or_default("dbFileName")),
            agent_dir,
            apps_dir: or_default("appsDir"),
            compressed_build_extension: given.text("compressedBuildExtension"),
            config: path("config"),
            connect_timeout: milliseconds("connTimeout"),
            debug: given.switch("debug"),
            debug_messaging: given.switch("debugMessaging"),
            env: names.contains("env").then(|| given.text("env")).filter(|env| !env.is_empty()),
            log_file: or_default("logFile"),
            network_manager: given.switch("nmw"),
            offline: given.switch("offline"),
            ping_interval: milliseconds("ppTimeout"),
            pretty_logging: given.switch("prettyLogging"),
            profiling: given.switch("profiling").then_some(port),
            remote_update_url: given.text("remoteUpdateURL"),
            reply_timeout: milliseconds("respTimeout").unwrap_or(DEFAULT_REPLY),
            update: given.switch("update"),
            given: names,
            warnings,
        }
    }
}

/// Decision 14. Deployed agents put `./` before a bare name and cannot open it.
fn database(agent_dir: &Path, given: PathBuf) -> PathBuf {
    let has_separator = given.as_os_str().as_encoded_bytes().iter().any(|&byte| std::path::is_separator(byte.into()));
    if has_separator { given } else { agent_dir.join(given) }
}
