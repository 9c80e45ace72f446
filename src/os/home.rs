//! Where the agent lives on this platform: the defaults of the command line (`wamp-and-rpc.md` 7.2).

/// Default of `-agentDir`.
pub const AGENT_DIR: &str = "/opt/reagent";

/// Default of `-appsDir`. It does not follow `-agentDir`.
pub const APPS_DIR: &str = "/opt/reagent/apps";

/// Default of `-logFile`.
pub const LOG_FILE: &str = "/var/log/reagent.log";
