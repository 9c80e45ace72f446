//! The `stats` of a device (`wamp-and-rpc.md` 1.11): CPU, memory, storage. Pure parsers over the texts of `/proc`, and
//! thin readers. What cannot be read is 0 or false; nothing here fails.

use super::disk::{self, Space};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// Where apps live on boards with a partition of their own.
const DOCKER_APPS: &str = "/opt/reagent/docker-apps";

/// The 12 values, serialized under their names in the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Statistics {
    /// Logical CPUs.
    pub cpu_count: u64,
    /// Percent over all CPUs since the caller's previous sample.
    pub cpu_usage: f64,
    /// Bytes.
    pub memory_total: u64,
    /// Bytes: total less available.
    pub memory_used: u64,
    /// Bytes.
    pub memory_available: u64,
    /// Bytes of the file system of `/`.
    pub storage_total: u64,
    /// Bytes in use.
    pub storage_used: u64,
    /// Bytes that everybody may use.
    pub storage_free: u64,
    /// Bytes of the file system of the apps, 0 if there is none.
    pub docker_apps_total: u64,
    /// Bytes in use.
    pub docker_apps_used: u64,
    /// Bytes that everybody may use.
    pub docker_apps_free: u64,
    /// Whether the apps have a file system of their own.
    pub docker_apps_mounted: bool,
}

/// Time the CPUs have spent since the system started, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuSample {
    /// All of it.
    pub total: u64,
    /// What was not idle or waiting for a device.
    pub busy: u64,
}

impl CpuSample {
    /// The counters of this moment; `None` if they cannot be read.
    pub fn read() -> Option<CpuSample> {
        CpuSample::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Reads the text of `/proc/stat`. Guest times are parts of user and nice already.
    pub fn parse(stat: &str) -> Option<CpuSample> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let times: Option<Vec<u64>> = line.split_ascii_whitespace().take(8).map(|time| time.parse().ok()).collect();
        let times = times.filter(|times| times.len() >= 4)?;
        let time = |at: usize| times.get(at).copied().unwrap_or(0);
        let total = times.iter().fold(0u64, |sum, time| sum.saturating_add(*time));
        Some(CpuSample { total, busy: total.saturating_sub(time(3)).saturating_sub(time(4)) })
    }

    /// Percent of the CPUs in use between `before` and `self`, from 0 to 100.
    #[expect(clippy::cast_precision_loss, reason = "a share in percent needs no 64 bits")]
    pub fn usage_since(self, before: CpuSample) -> f64 {
        if self.busy <= before.busy {
            0.0
        } else if self.total <= before.total {
            100.0
        } else {
            let share = (self.busy - before.busy) as f64 / (self.total - before.total) as f64;
            (share * 100.0).clamp(0.0, 100.0)
        }
    }
}

/// Reads all values. `previous` is the caller's own last sample and becomes this one: callers do not shorten each
/// other's window. `data_root` is Docker's, used for the apps where their fixed path does not exist.
pub fn read(previous: &mut CpuSample, data_root: Option<&Path>) -> Statistics {
    let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let sample = CpuSample::read();
    let cpu_usage = sample.map_or(0.0, |sample| sample.usage_since(*previous));
    if let Some(sample) = sample {
        *previous = sample;
    }
    let memory = Memory::parse(&text("/proc/meminfo"));
    let apps = disk::space(Path::new(DOCKER_APPS)).ok().or_else(|| disk::space(data_root?).ok());
    Statistics {
        cpu_count: cpu_count(&text("/proc/cpuinfo"), &text("/proc/stat")),
        cpu_usage,
        memory_total: memory.total,
        memory_used: memory.total.saturating_sub(memory.available),
        memory_available: memory.available,
        ..storage(disk::space(Path::new("/")).ok(), apps)
    }
}

/// The storage part. Device numbers decide what is mounted: two file systems may have one size.
fn storage(root: Option<Space>, apps: Option<Space>) -> Statistics {
    let of = |space: Option<Space>| space.map_or((0, 0, 0), |space| (space.total, space.used(), space.available));
    let (storage_total, storage_used, storage_free) = of(root);
    let (docker_apps_total, docker_apps_used, docker_apps_free) = of(apps);
    Statistics {
        storage_total,
        storage_used,
        storage_free,
        docker_apps_total,
        docker_apps_used,
        docker_apps_free,
        docker_apps_mounted: apps.is_some_and(|apps| root.is_some_and(|root| root.device != apps.device)),
        ..Statistics::default()
    }
}

/// `processor` lines with a number; on CPUs that print none, the `cpuN` lines of `/proc/stat`.
fn cpu_count(cpuinfo: &str, stat: &str) -> u64 {
    let processors = cpuinfo.lines().filter(|line| {
        line.split_once(':')
            .is_some_and(|(key, value)| key.trim_end() == "processor" && value.trim().parse::<u32>().is_ok())
    });
    let cpus = stat.lines().filter(|line| {
        line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    });
    let count = match processors.count() {
        0 => cpus.count(),
        count => count,
    };
    count as u64
}

struct Memory {
    total: u64,
    available: u64,
}

impl Memory {
    /// Reads the text of `/proc/meminfo`; kernels before 3.14 have no `MemAvailable`.
    fn parse(meminfo: &str) -> Memory {
        let bytes = |name: &str| {
            let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        let estimate = || ["MemFree", "Buffers", "Cached"].iter().filter_map(|name| bytes(name)).sum();
        Memory { total: bytes("MemTotal").unwrap_or(0), available: bytes("MemAvailable").unwrap_or_else(estimate) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  100 20 30 400 50 6 7 8 90 10\ncpu0 50 10 15 200 25 3 3 4 45 5\ncpu1 50 10 15 200 25 3 4 4 45 5\nintr 1 2\n";

    #[test]
    fn guest_times_count_once_and_waiting_for_disks_is_idle() {
        assert_eq!(CpuSample::parse(STAT), Some(CpuSample { total: 621, busy: 171 }));
        assert_eq!(CpuSample::parse("cpu  1 2 3 4\n"), Some(CpuSample { total: 10, busy: 6 }), "old kernels");
        for text in ["", "cpu\n", "cpu  1 2 x 4\n", "cpu0 1 2 3 4\n", "cpu  1 2\n"] {
            assert_eq!(CpuSample::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn usage_is_a_share_of_the_window_and_survives_counters_that_go_back() {
        let of = |total, busy| CpuSample { total, busy };
        for (before, after, usage) in [
            (of(0, 0), of(200, 50), 25.0),
            (of(100, 50), of(200, 50), 0.0),
            (of(100, 50), of(200, 40), 0.0),
            (of(100, 50), of(100, 60), 100.0),
            (of(100, 50), of(90, 60), 100.0),
            (of(100, 50), of(110, 90), 100.0),
            (of(0, 0), of(u64::MAX, u64::MAX), 100.0),
        ] {
            assert!((after.usage_since(before) - usage).abs() < 1e-9, "{before:?} {after:?}");
        }
    }

    #[test]
    fn cpus_are_counted_in_cpuinfo_or_else_in_stat() {
        let x86 = "processor\t: 0\nmodel name\t: x\n\nprocessor\t: 1\n";
        assert_eq!(cpu_count(x86, ""), 2);
        let old_arm = "Processor\t: ARMv7 Processor rev 4 (v7l)\nprocessor\t: ARM\n";
        assert_eq!(cpu_count(old_arm, STAT), 2);
        assert_eq!(cpu_count("", ""), 0);
    }

    #[test]
    fn memory_is_read_with_and_without_an_available_line() {
        let new = Memory::parse("MemTotal:        1000 kB\nMemFree:  100 kB\nMemAvailable:     400 kB\nCached: 9 kB\n");
        assert_eq!((new.total, new.available), (1_024_000, 409_600));
        let old =
            Memory::parse("MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 80 kB\nSwapCached: 7 kB\n");
        assert_eq!(old.available, 204_800);
        assert_eq!(Memory::parse("MemTotal: x kB\n").total, 0);
    }

    #[test]
    fn an_equal_sized_file_system_of_its_own_is_seen_as_mounted() {
        let root = Space {
            total: 1000,
            free: 300,
            available: 200,
            inodes: 0,
            inodes_available: 0,
            read_only: false,
            device: 1,
        };
        let found = storage(Some(root), Some(Space { device: 2, ..root }));
        assert_eq!((found.storage_used, found.storage_free, found.docker_apps_total), (700, 200, 1000));
        assert!(found.docker_apps_mounted);
        assert!(!storage(Some(root), Some(root)).docker_apps_mounted);
        assert_eq!(storage(None, None), Statistics::default());
    }

    #[test]
    fn this_machine_yields_the_twelve_values() {
        let mut sample = CpuSample::default();
        let read = read(&mut sample, None);
        assert!(read.cpu_count > 0 && read.memory_total > 0 && read.storage_total > 0, "{read:?}");
        assert_ne!(sample, CpuSample::default(), "the caller's sample moves on");
        let json = serde_json::to_value(Statistics::default()).unwrap();
        assert_eq!(json.as_object().unwrap().len(), 12);
        assert_eq!(json["cpu_usage"].to_string(), "0.0", "a fraction part even when whole");
    }
}
