//! The one table of everything callable (wire chapter 4). Registration, privilege check, argument decoding, error answers and
//! the README's list all come from [`PROCEDURES`].
//!
//! A handler never blocks: it changes the core's state, or names the query that a worker answers.

use crate::domain::State;
use crate::domain::app::AppKey;
use crate::domain::job::Query;
use crate::domain::message::Invocation;
use crate::domain::names;
use crate::domain::request::Request;
use serde_json::{Map, Value, json};

pub mod write_data;

/// What a caller must be allowed to do on the device (3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Look.
    Read,
    /// Bring sources, open terminals.
    Develop,
    /// Change what all apps share.
    Maintain,
}

impl Privilege {
    /// The word of the wire.
    pub fn text(self) -> &'static str {
        match self {
            Privilege::Read => "READ",
            Privilege::Develop => "DEVELOP",
            Privilege::Maintain => "MAINTAIN",
        }
    }
}

/// A result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    /// Positional.
    pub args: Vec<Value>,
    /// Named.
    pub kwargs: Map<String, Value>,
    /// The app to be driven once the answer is out.
    pub drive: Option<AppKey>,
}

impl Reply {
    /// One positional value.
    pub fn of(value: Value) -> Reply {
        Reply { args: vec![value], ..Reply::default() }
    }
}

/// Where a procedure runs.
#[derive(Debug, Clone, Copy)]
pub enum Handler {
    /// In the core, at once.
    State(fn(&mut State, &Invocation) -> Result<Reply, String>),
    /// On a worker.
    Query(fn(&Invocation) -> Result<Query, String>),
    /// On a worker: the machine's statistics.
    Statistics,
    /// In the log hub, then on a worker.
    History,
    /// On a worker, one message of an archive after the other.
    Transfer,
}

/// One row.
#[derive(Debug)]
pub struct Procedure {
    /// Last part of the URI `re.mgmt.<serial>.<name>`.
    pub name: &'static str,
    /// What the caller needs; `None`: anybody whom the router lets through.
    pub privilege: Option<Privilege>,
    /// Its code.
    pub handler: Handler,
    /// For the README.
    pub about: &'static str,
}

macro_rules! procedures {
    ($($name:literal $privilege:expr, $handler:expr, $about:literal;)*) => {
        /// Everything callable but the presence procedure, which belongs to the session; sorted by name.
        pub const PROCEDURES: &[Procedure] =
            &[$(Procedure { name: $name, privilege: $privilege, handler: $handler, about: $about },)*];
    };
}

const READ: Option<Privilege> = Some(Privilege::Read);
const DEVELOP: Option<Privilege> = Some(Privilege::Develop);
const MAINTAIN: Option<Privilege> = Some(Privilege::Maintain);

procedures! {
    // name                   privilege                  where it runs and what it does
    "device_handshake"        None,                      Handler::State(device_handshake),      "device time and serial number";
    "get_agent_metadata"      READ,                      Handler::Query(agent_metadata),        "operating system, architecture, versions";
    "get_app_log_history"     READ,                      Handler::History,                      "last lines of an app's log";
    "get_images"              READ,                      Handler::Query(images),                "images on the device";
    "get_ipv4_addresses"      READ,                      Handler::Query(ipv4_addresses),        "IPv4 addresses by interface";
    "get_network_metadata"    READ,                      Handler::Query(network_metadata),      "all addresses with their masks";
    "get_storage_data"        READ,                      Handler::Statistics,                   "processor, memory and disk figures";
    "list_containers"         READ,                      Handler::Query(containers),            "all containers of the device";
    "prune_images"            MAINTAIN,                  Handler::Query(prune),                 "remove dangling images, or everything unused";
    "request_app_state"       None,                      Handler::State(request_app_state),     "the state an app is wanted in";
    "system_reboot"           MAINTAIN,                  Handler::State(system_reboot),         "start the device anew";
    "system_restart_agent"    MAINTAIN,                  Handler::State(system_restart_agent),  "start the agent anew, if something does that";
    "system_shutdown"         MAINTAIN,                  Handler::State(system_shutdown),       "switch the device off";
    "write_data"              DEVELOP,                   Handler::Transfer,                     "an archive of sources, piece by piece";
}

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Procedure> {
    PROCEDURES.binary_search_by(|row| row.name.cmp(name)).ok().map(|at| &PROCEDURES[at])
}

fn device_handshake(state: &mut State, _: &Invocation) -> Result<Reply, String> {
    let kwargs = json!({"utp": state.wall().to_string(), "id": state.device.serial});
    Ok(Reply { kwargs: kwargs.as_object().cloned().unwrap_or_default(), ..Reply::default() })
}

fn request_app_state(state: &mut State, invocation: &Invocation) -> Result<Reply, String> {
    let request = Request::from_kwargs(&invocation.kwargs)?;
    let drive = Some(request.id());
    state.accept_call(request);
    Ok(Reply { drive, ..Reply::default() })
}

fn system_reboot(state: &mut State, _: &Invocation) -> Result<Reply, String> {
    state.reboot().map(|()| Reply::default())
}

fn system_restart_agent(state: &mut State, _: &Invocation) -> Result<Reply, String> {
    state.restart_agent().map(|()| Reply::default())
}

fn system_shutdown(state: &mut State, _: &Invocation) -> Result<Reply, String> {
    state.power_off().map(|()| Reply::default())
}

fn agent_metadata(_: &Invocation) -> Result<Query, String> {
    Ok(Query::AgentMetadata)
}

fn images(_: &Invocation) -> Result<Query, String> {
    Ok(Query::Images)
}

fn containers(_: &Invocation) -> Result<Query, String> {
    Ok(Query::Containers)
}

fn ipv4_addresses(_: &Invocation) -> Result<Query, String> {
    Ok(Query::Ipv4Addresses)
}

fn network_metadata(_: &Invocation) -> Result<Query, String> {
    Ok(Query::NetworkMetadata)
}

fn prune(invocation: &Invocation) -> Result<Query, String> {
    let all = match first(invocation) {
        None => false,
        Some(Value::Object(map)) => match map.get("all") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(all)) => *all,
            Some(_) => return Err("failed to parse all: not a boolean".to_owned()),
        },
        Some(_) => return Err("failed to parse arguments: the first one is not a dict".to_owned()),
    };
    Ok(Query::Prune { all })
}

/// The `containerName` of `args[0]`.
///
/// # Errors
/// The text for the caller.
pub fn container_name(invocation: &Invocation) -> Result<String, String> {
    let Some(Value::Object(map)) = first(invocation) else {
        return Err("failed to parse arguments: the first one must be a dict".to_owned());
    };
    let name = match map.get("containerName") {
        Some(Value::String(name)) => name,
        _ => return Err("failed to parse containerName".to_owned()),
    };
    names::parse_container(name).ok_or_else(|| format!("{name:?} is no container name"))?;
    Ok(name.strip_prefix('/').unwrap_or(name).to_owned())
}

/// The first argument; null counts as absent.
fn first(invocation: &Invocation) -> Option<&Value> {
    invocation.args.first().filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_unique() {
        assert!(PROCEDURES.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(PROCEDURES.iter().all(|row| find(row.name).is_some_and(|found| found.name == row.name)));
        assert!(find("perform_os_update").is_none() && find("").is_none());
    }

    #[test]
    fn p2_arguments_that_are_missing_or_odd_are_named_never_indexed() {
        let with =
            |args: Value| Invocation { args: args.as_array().cloned().unwrap_or_default(), ..Invocation::default() };
        for args in [
            json!([]),
            json!([null]),
            json!([1]),
            json!(["x"]),
            json!([{}]),
            json!([{"containerName": 5}]),
            json!([{"containerName": "x"}]),
        ] {
            assert!(container_name(&with(args.clone())).is_err(), "{args}");
        }
        assert_eq!(container_name(&with(json!([{"containerName": "/prod_1_x"}]))).unwrap(), "prod_1_x");
        for (args, all) in [
            (json!([]), Some(false)),
            (json!([null]), Some(false)),
            (json!([{"all": true}]), Some(true)),
            (json!([{"all": 1}]), None),
            (json!([[]]), None),
        ] {
            assert_eq!(prune(&with(args.clone())).ok(), all.map(|all| Query::Prune { all }), "{args}");
        }
    }
}
