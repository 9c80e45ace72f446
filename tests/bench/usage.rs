//! What a process uses: a look at `/proc/<pid>` and at its files.
//!
//! An emulated agent's memory is looked at in its own address space, which the emulator keeps in one place of its own. What
//! the emulator takes for itself (translated code, above all) is not in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// One look. Counters count from the start of the process.
#[derive(Debug, Clone, Default)]
pub struct Usage {
    /// Resident, in KiB.
    pub rss: u64,
    /// Of it what is in no shared library of the system, in KiB: the builds for boards are static and have none.
    pub own: u64,
    /// Proportional, in KiB: a page that is in several processes counts in parts.
    pub pss: u64,
    /// Of the resident memory what is in no file: heap, stacks, written data; in KiB.
    pub anonymous: u64,
    pub threads: u64,
    pub descriptors: u64,
    /// Voluntary context switches of all threads that live: wake-ups, in short.
    pub wakeups: u64,
    /// Context switches that were not voluntary, of all threads that live.
    pub preemptions: u64,
    /// Processor time of the process and of those it has started and seen end, in ms (in steps of 10).
    pub cpu_ms: u64,
    /// Processor time of all threads that live, in µs: finer, and without those that have ended.
    pub busy_us: u64,
    /// Bytes that it had written to a disk; counted when they are written to the page cache.
    pub written: u64,
}

/// Where an emulator keeps the 32-bit address space of its guest (`-B`).
pub const GUEST: u64 = 0x1000_0000_0000;
const GUEST_SIZE: u64 = 1 << 32;

impl Usage {
    /// Fails if the process has ended.
    pub fn of(pid: u32, emulated: bool) -> Result<Usage, String> {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        let gone = |_| format!("the agent, process {pid}, has ended");
        let paths = std::fs::read_dir(format!("/proc/{pid}/task")).map_err(gone)?.flatten();
        let paths: Vec<PathBuf> = paths.map(|task| task.path()).collect();
        let tasks: Vec<String> =
            paths.iter().filter_map(|task| std::fs::read_to_string(task.join("status")).ok()).collect();
        let busy = |task: &PathBuf| {
            std::fs::read_to_string(task.join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok()
        };
        let busy_ns: u64 = paths.iter().filter_map(busy).sum();
        let of_tasks = |name: &str| tasks.iter().filter_map(|status| field(status, name)).sum();
        // utime, stime, cutime and cstime, in ticks of 10 ms (USER_HZ), after the name, which may contain spaces.
        let stat = read("stat").map_err(gone)?;
        let numbers = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = numbers.skip(11).take(4).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let mut usage = Usage {
            threads: tasks.len() as u64,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count) as u64,
            wakeups: of_tasks("voluntary_ctxt_switches:"),
            preemptions: of_tasks("nonvoluntary_ctxt_switches:"),
            cpu_ms: ticks * 10,
            busy_us: busy_ns / 1000,
            written: field(&read("io").map_err(gone)?, "write_bytes:").unwrap_or_default(),
            ..Usage::default()
        };
        usage.count_memory(&read("smaps").map_err(gone)?, emulated);
        Ok(usage)
    }

    /// Adds the mappings up; of an emulator those in the guest's address space.
    fn count_memory(&mut self, smaps: &str, emulated: bool) {
        let (mut counts, mut library) = (false, false);
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            let first = words.next().unwrap_or_default();
            if let Some((start, _)) = first.split_once('-') {
                let inside = |start| (GUEST..GUEST + GUEST_SIZE).contains(&start);
                counts = !emulated || u64::from_str_radix(start, 16).is_ok_and(inside);
                library = words.nth(4).is_some_and(|path| path.contains(".so"));
            } else if counts {
                let kib: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
                match first {
                    "Rss:" => {
                        self.rss += kib;
                        self.own += if library { 0 } else { kib };
                    }
                    "Pss:" => self.pss += kib,
                    "Anonymous:" => self.anonymous += kib,
                    _ => {}
                }
            }
        }
    }
}

/// The number after a name at the begin of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Size and time of change of every file below a folder.
pub type Files = BTreeMap<PathBuf, (u64, SystemTime)>;

/// The files below a folder, whatever they are for.
pub fn files(folder: &Path) -> Files {
    let mut found = Files::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => folders.push(entry.path()),
                Ok(data) => {
                    let changed = data.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                    found.insert(entry.path(), (data.len(), changed));
                }
                Err(_) => {}
            }
        }
    }
    found
}

/// Names of the files that are new, gone or changed.
pub fn changed(before: &Files, after: &Files) -> Vec<String> {
    let differs = |path: &&PathBuf| before.get(*path) != after.get(*path);
    let paths = before.keys().chain(after.keys().filter(|path| !before.contains_key(*path)));
    paths.filter(differs).map(|path| path.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect()
}
