//! What an agent holds at one moment: counted where it would be left behind, in its process, at the engine, on the disk.

use crate::util::Agent;
use rusqlite::{Connection, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::usage::{Usage, files};

/// Most workers, of all lanes: they come with the work and stay.
const WORKERS: usize = 9;
/// Grows with every report: it is trimmed 10 min after the start and once a day (storage chapter 2.3).
const HISTORY: &str = "AppStateHistory";
/// One for each app, from when its log is saved for the first time: after 30 s.
const LOGS: &str = "LogHistory";
/// Have a row more once the backend's second list was taken, and with the first row of each table.
const ONCE: [&str; 2] = ["Meta", "sqlite_sequence"];

/// Reports that have not arrived.
const OUTBOX: &str = "StateOutbox";

/// See the module.
#[derive(Debug, Clone)]
pub struct Sample {
    /// A line for each thing and its number, which have to be the same each time nothing is done.
    pub held: BTreeSet<String>,
    pub threads: usize,
    /// Followers of logs.
    pub streams: usize,
    pub descriptors: usize,
    /// Connections that the engine has open.
    pub connections: usize,
    /// Resident memory that is in no file, in KiB.
    pub anonymous: u64,
    /// Rows of the history of states.
    pub history: i64,
    /// Logs that are kept.
    pub logs: i64,
    outbox: i64,
    /// Bytes of the database, with its log.
    pub database: u64,
    pub files: usize,
}

impl Sample {
    /// Looks.
    #[track_caller]
    pub fn of(agent: &Agent, engine: &Socket) -> Sample {
        let usage = Usage::of(agent.pid(), false).expect("the agent runs");
        let mut held = BTreeSet::new();
        let threads = threads(agent.pid());
        let number = |kind: &str| threads.get(kind).copied().unwrap_or_default();
        assert!(number("job") <= WORKERS, "{threads:?}");
        for (kind, count) in threads.iter().filter(|(kind, _)| *kind != "job") {
            held.insert(format!("{count} threads {kind}"));
        }
        let of_kinds = descriptors(agent.pid());
        for (kind, count) in &of_kinds {
            held.insert(format!("{count} descriptors {kind}"));
        }
        let connections = engine.connections();
        held.insert(format!("{connections} connections to the engine"));
        let mut rows = rows(&agent.agent_dir().join("reagent.db"));
        let history = rows.remove(HISTORY).unwrap_or_default();
        let logs = rows.remove(LOGS).unwrap_or_default();
        rows.retain(|table, _| !ONCE.contains(&table.as_str()));
        let outbox = rows.get(OUTBOX).copied().unwrap_or_default();
        held.extend(rows.into_iter().map(|(table, count)| format!("{count} rows {table}")));
        let (mut database, mut paths) = (0, 0);
        for (path, (bytes, _)) in files(agent.folder.path()) {
            let path = path.strip_prefix(agent.folder.path()).expect("it is below").to_string_lossy().into_owned();
            if path.starts_with("agent/reagent.db") {
                database += bytes;
            }
            // The log is rotated: a first one and two old ones.
            if !path.starts_with("reagent.log") {
                held.insert(format!("file {path}"));
            }
            paths += 1;
        }
        Sample {
            held,
            threads: threads.values().sum(),
            streams: number("log"),
            descriptors: of_kinds.values().sum(),
            connections,
            anonymous: usage.anonymous,
            history,
            logs,
            outbox,
            database,
            files: paths,
        }
    }

    /// Whether nothing seems to be under way.
    pub fn is_quiet(&self) -> bool {
        (self.streams, self.connections, self.outbox) == (0, 1, 0)
    }

    /// A row of the table, for a moment at rest after so many cycles.
    pub fn row(&self, cycles: usize, at: Duration) -> String {
        let Sample { threads, streams, descriptors, connections, anonymous, history, database, files, .. } = self;
        format!(
            "{cycles:>6} {:>7.0} {threads:>8} {streams:>8} {descriptors:>12} {connections:>12} {anonymous:>12} {history:>13} \
             {database:>15} {files:>6}",
            at.as_secs_f64()
        )
    }

    /// The head of the table.
    pub const HEAD: &str = "cycles       s  threads  streams  descriptors  connections  memory, KiB  history rows  \
                            database, bytes  files";
}

/// What one has and the other has not.
pub fn difference(before: &BTreeSet<String>, now: &BTreeSet<String>) -> Vec<String> {
    let lost = before.difference(now).map(|thing| format!("- {thing}"));
    lost.chain(now.difference(before).map(|thing| format!("+ {thing}"))).collect()
}

/// Threads by what they are: `log-<name>` counts as `log`.
fn threads(pid: u32) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let Ok(name) = fs::read_to_string(task.path().join("comm")) else { continue };
        let kind = ["log-", "job-"].iter().find(|kind| name.starts_with(**kind));
        *found.entry(kind.map_or(name.trim(), |kind| kind.trim_end_matches('-')).to_owned()).or_default() += 1;
    }
    found
}

/// Descriptors by what they lead to: files by name, all else by kind.
fn descriptors(pid: u32) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.to_string_lossy().into_owned();
        let kind = target.split_once(":[").map_or(target.as_str(), |(kind, _)| kind);
        // A log that was rotated meanwhile has another name.
        let kind = if kind.contains("reagent.log") { "reagent.log" } else { kind };
        *found.entry(kind.to_owned()).or_default() += 1;
    }
    found
}

/// The socket of the engine.
pub struct Socket {
    path: String,
    /// Connections of the test itself.
    others: usize,
}

impl Socket {
    /// Before the agent is started: who is connected now is somebody else.
    pub fn of(path: &Path) -> Socket {
        let path = path.to_string_lossy().into_owned();
        let others = accepted(&path);
        Socket { path, others }
    }

    fn connections(&self) -> usize {
        accepted(&self.path).saturating_sub(self.others)
    }
}

/// Accepted connections of a listener: they carry its path (proc(5), `/proc/net/unix`).
fn accepted(path: &str) -> usize {
    let table = fs::read_to_string("/proc/net/unix").expect("Linux has this table");
    let is_one = |words: &[&str]| matches!(words, [_, _, _, _, _, "03", _, of] if *of == path);
    table.lines().filter(|line| is_one(&line.split_whitespace().collect::<Vec<_>>())).count()
}

/// Rows by table.
#[track_caller]
fn rows(database: &Path) -> BTreeMap<String, i64> {
    let conn = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database is there");
    conn.busy_timeout(Duration::from_secs(10)).expect("a timeout can be set");
    let mut names = conn.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").expect("the query is right");
    let names: Vec<String> = names.query_map([], |row| row.get(0)).expect("the query runs").flatten().collect();
    let count = |table: &String| conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
    names.into_iter().map(|table| (table.clone(), count(&table).expect("a table is counted"))).collect()
}
