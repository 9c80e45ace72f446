//! Deadlines as data: at most one per [`Timer`], all monotonic.

use super::app::AppKey;
use crate::sorted::sort_by;
use std::collections::BTreeMap;
use std::time::Duration;

/// What becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// The device status is sent again.
    Heartbeat,
    /// The containers are listed again (decision 16).
    Resync,
    /// The backend is asked again for what it wants: a deletion needs a second answer (decision 21).
    SecondFetch,
    /// A step of the connect sequence that failed is tried again.
    Connect,
    /// A crashed app is started again.
    CrashLoop(AppKey),
    /// An app has run long enough to forget its crashes.
    Stable(AppKey),
    /// An app that did not reach its target is driven again.
    Drive(AppKey),
    /// A report that was not taken is sent again.
    Report(AppKey),
    /// The registry token is asked for again.
    Token(AppKey),
    /// A new release is looked at again.
    Prove(AppKey),
    /// Nothing was heard of the transfer of this number for long.
    Transfer(u64),
    /// Its progress is shown again.
    Progress(u64),
    /// Old history rows are trimmed.
    Trim,
    /// A reboot, a power-off or a restart that was asked for.
    Power,
    /// The agent ends, whatever still runs.
    Exit,
}

/// The deadlines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timers(BTreeMap<Timer, Duration>);

impl Timers {
    /// Sets or moves a deadline.
    pub fn set(&mut self, timer: Timer, at: Duration) {
        self.0.insert(timer, at);
    }

    /// Removes a deadline.
    pub fn clear(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    /// Removes every deadline.
    pub fn clear_all(&mut self) {
        self.0.clear();
    }

    /// Whether a deadline is set.
    pub fn is_set(&self, timer: Timer) -> bool {
        self.0.contains_key(&timer)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Duration> {
        self.0.values().min().copied()
    }

    /// Takes everything that is due at `now`, earliest first.
    pub fn due(&mut self, now: Duration) -> Vec<Timer> {
        let mut due: Vec<(Duration, Timer)> =
            self.0.iter().filter(|(_, at)| **at <= now).map(|(timer, at)| (*at, *timer)).collect();
        sort_by(&mut due, Ord::cmp);
        due.into_iter().map(|(_, timer)| timer).inspect(|timer| self.clear(*timer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_once_and_in_order() {
        let second = Duration::from_secs;
        let mut timers = Timers::default();
        timers.set(Timer::Resync, second(3));
        timers.set(Timer::Heartbeat, second(2));
        timers.set(Timer::Trim, second(9));
        timers.set(Timer::Trim, second(4));
        assert_eq!(timers.next(), Some(second(2)));
        assert_eq!(timers.due(second(3)), [Timer::Heartbeat, Timer::Resync]);
        assert_eq!(timers.due(second(3)), []);
        timers.clear(Timer::Trim);
        assert_eq!(timers.next(), None);
    }
}
