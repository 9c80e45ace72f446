//! What becomes of a thread that panicked: started again after a wait, until there were too many (architecture: five in ten
//! minutes end the process, and the supervisor outside starts it anew).

use crate::domain::backoff;
use std::collections::VecDeque;
use std::time::Duration;

const WINDOW: Duration = Duration::from_secs(600);
const MOST: usize = 5;

/// The panics of the last ten minutes, of all threads together.
#[derive(Debug, Default)]
pub struct Panics(VecDeque<Duration>);

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start the thread again at this time.
    RestartAt(Duration),
    /// End the process.
    GiveUp,
}

impl Panics {
    /// Counts a panic at `now`.
    pub fn count(&mut self, now: Duration) -> Verdict {
        self.0.retain(|at| *at + WINDOW > now);
        self.0.push_back(now);
        if self.0.len() >= MOST {
            return Verdict::GiveUp;
        }
        let tries = u32::try_from(self.0.len() - 1).unwrap_or(0);
        Verdict::RestartAt(now + backoff::doubling(Duration::from_secs(1), tries, Duration::from_secs(60)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_panic_within_ten_minutes_ends_the_process() {
        let second = Duration::from_secs;
        let mut panics = Panics::default();
        assert_eq!(panics.count(second(0)), Verdict::RestartAt(second(1)));
        assert_eq!(panics.count(second(10)), Verdict::RestartAt(second(12)));
        assert_eq!(panics.count(second(20)), Verdict::RestartAt(second(24)));
        assert_eq!(panics.count(second(30)), Verdict::RestartAt(second(38)));
        assert_eq!(panics.count(second(40)), Verdict::GiveUp);
        let mut rare = Panics::default();
        assert!((0..50).all(|n| matches!(rare.count(second(n * 300)), Verdict::RestartAt(_))));
    }
}
