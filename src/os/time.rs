//! Wall-clock times in 64 bits.
//!
//! The standard library reads them in the libc's `time_t`, which on 32-bit ARM with musl ends in January 2038: later than
//! that the clock is a panic, and a board whose clock chip shows nonsense would end at each start; a file's time is one of
//! 136 years before.

use std::io;
use std::path::Path;
#[cfg(not(target_pointer_width = "32"))]
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z, may be negative, and nanoseconds of the second.
pub type Time = (i64, u32);

/// The wall clock.
#[cfg(target_pointer_width = "32")]
pub fn now() -> Time {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    (time.tv_sec, nanos(time.tv_nsec))
}

/// The wall clock, by the libc: whoever moves a process's clock from outside (a fault test, libfaketime) moves this one too.
#[cfg(not(target_pointer_width = "32"))]
#[expect(clippy::disallowed_methods, reason = "clock.rs reads the wall clock here")]
pub fn now() -> Time {
    let second = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => (second(after), after.subsec_nanos()),
        Err(before) => (-second(before.duration()), 0),
    }
}

/// When a file was last written to.
///
/// # Errors
/// The system's.
pub fn modified(path: &Path) -> io::Result<Time> {
    let found = rustix::fs::stat(path)?;
    Ok((found.st_mtime, nanos(found.st_mtime_nsec)))
}

/// The width of the system's value differs between CPUs; it is below a second on all of them.
fn nanos(of_system: impl TryInto<u32>) -> u32 {
    of_system.try_into().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Scratch;
    use rustix::fs::{Timespec, Timestamps, futimens};
    use std::fs::File;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    fn at(time: super::Time) -> SystemTime {
        UNIX_EPOCH + Duration::new(u64::try_from(time.0).unwrap(), time.1)
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "compared with the standard library's")]
    fn the_wall_clock_is_that_of_the_standard_library() {
        let before = SystemTime::now();
        let (read, slack) = (at(super::now()), Duration::from_secs(60));
        assert!(read + slack > before && read < before + slack, "{read:?} is not {before:?}");
    }

    #[test]
    fn a_files_time_may_be_before_1970_and_after_2038() {
        let folder = Scratch::new();
        let path = folder.file("a", "");
        for seconds in [-86_400, 0, 1_785_834_300, 4_102_444_800] {
            // Not by the standard library, which is one of 32 bits on some boards.
            let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            futimens(File::options().write(true).open(&path).unwrap(), &times).unwrap();
            assert_eq!(super::modified(&path).unwrap(), (seconds, 0));
        }
        assert!(super::modified(&folder.join("none")).is_err());
    }
}
