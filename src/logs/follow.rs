//! When a container's log stream is opened, from where, and when it is given up: pure. Field lessons D4 and D5.
//!
//! ```text
//!            follow                    ended              2nd empty end, 5th failure,
//!  Idle -------------------> Open -------------> Waiting    no such container
//!   ^                         |  ^                |  |   (Open ------------------> Idle)
//!   |        unfollow/silence |  '-- due, follow -'  | unfollow
//!   |                         v                      v
//!   +------- ended ------- Closing                  Idle
//!                             '-- ended, still wanted --> Open
//! ```
//!
//! The first stream starts 100 lines back, every later one at the stamp of the last line, whose copies are skipped.
//! A stream that is silent for long is opened anew: if it had stalled, what it missed comes then.
//!
//! **Invariant:** `Attach` is ordered in `Idle`, `Waiting` or after `ended` only: there are never two streams.

use std::time::Duration;

use super::{OpenError, Start};
use crate::clock::{Now, Wall};

/// Lines of the first stream.
pub const TAIL: u32 = 100;
/// Silence after which a stream is opened anew; doubles up to [`QUIET_MOST`] while that brings nothing.
const QUIET: Duration = Duration::from_secs(60);
const QUIET_MOST: Duration = Duration::from_secs(16 * 60);
/// Wait before a stream that ended is opened again; doubles with each failure in a row.
const RETRY: Duration = Duration::from_secs(1);
/// A stream that lived this long has not failed.
const STABLE: Duration = Duration::from_secs(10);
/// Ends in a row without a line after which the container has stopped.
const ENDS: u32 = 2;
/// Failures in a row after which the Engine is left alone until the container is wanted again.
const FAILURES: u32 = 5;

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It could not be opened.
    Refused(OpenError),
    /// The Engine closed it: the container stopped, or its log was rotated.
    Eof,
    /// It broke, or its thread did.
    Broken(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Open a stream.
    Attach(Start),
    /// Cancel the stream; [`Follow::ended`] will tell.
    Detach,
    /// Nothing more comes, for this reason.
    GiveUp(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Idle,
    Open {
        since: Duration,
        heard: Duration,
    },
    Waiting {
        until: Duration,
    },
    Closing,
}

/// See the module.
#[derive(Debug)]
pub struct Follow {
    wanted: bool,
    stage: Stage,
    /// The stamp of the last line, and how many lines had it.
    last: Option<(Wall, u32)>,
    /// Lines that are skipped after an attach: those before this stamp, and so many with it.
    skip: Option<(Wall, u32)>,
    /// Ends or failures in a row.
    ends: u32,
    quiet: Duration,
}

impl Default for Follow {
    fn default() -> Follow {
        Follow { wanted: false, stage: Stage::Idle, last: None, skip: None, ends: 0, quiet: QUIET }
    }
}

impl Follow {
    /// Whether nobody follows the container or is about to.
    pub fn is_idle(&self) -> bool {
        !self.wanted
    }

    /// Whether a stream is open or closing.
    pub fn has_stream(&self) -> bool {
        matches!(self.stage, Stage::Open { .. } | Stage::Closing)
    }

    /// The container runs.
    pub fn follow(&mut self, now: Now) -> Option<Order> {
        self.wanted = true;
        match self.stage {
            Stage::Idle | Stage::Waiting { .. } => {
                self.ends = 0;
                Some(self.attach(now))
            }
            Stage::Open { .. } | Stage::Closing => None,
        }
    }

    /// The container is gone.
    pub fn unfollow(&mut self) -> Option<Order> {
        self.wanted = false;
        match self.stage {
            Stage::Open { .. } => {
                self.stage = Stage::Closing;
                Some(Order::Detach)
            }
            Stage::Closing => None,
            Stage::Idle | Stage::Waiting { .. } => {
                self.stage = Stage::Idle;
                None
            }
        }
    }

    /// A line came: whether it is a new one.
    pub fn line(&mut self, now: Now, stamp: Option<Wall>) -> bool {
        if let (Some(stamp), Some((last, copies))) = (stamp, &mut self.skip) {
            if stamp < *last {
                return false;
            }
            if stamp == *last && *copies > 0 {
                *copies -= 1;
                return false;
            }
            self.skip = None;
        }
        if let Some(stamp) = stamp {
            self.last = match self.last {
                Some((last, copies)) if last == stamp => Some((stamp, copies.saturating_add(1))),
                _ => Some((stamp, 1)),
            };
        }
        self.ends = 0;
        self.quiet = QUIET;
        if let Stage::Open { heard, .. } = &mut self.stage {
            *heard = now.mono;
        }
        true
    }

    /// The stream ended.
    pub fn ended(&mut self, now: Now, end: End) -> Option<Order> {
        let stage = std::mem::take(&mut self.stage);
        if !self.wanted {
            return None;
        }
        let since = match stage {
            Stage::Open { since, .. } => since,
            // The end was ours, its way does not matter.
            Stage::Closing => return Some(self.attach(now)),
            Stage::Idle | Stage::Waiting { .. } => {
                self.stage = stage;
                return None;
            }
        };
        if now.mono.saturating_sub(since) >= STABLE {
            self.ends = 0;
        }
        self.ends += 1;
        let (most, reason) = match end {
            End::Refused(error @ OpenError::NotFound) => (1, error.to_string()),
            End::Eof => (ENDS, "the log ended".to_owned()),
            End::Refused(error @ OpenError::Failed(_)) => (FAILURES, error.to_string()),
            End::Broken(reason) => (FAILURES, reason),
        };
        if self.ends >= most {
            self.wanted = false;
            return Some(Order::GiveUp(reason));
        }
        self.stage = Stage::Waiting { until: now.mono + RETRY * 2_u32.pow(self.ends - 1) };
        None
    }

    /// When [`Follow::due`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::Open { heard, .. } => Some(heard + self.quiet),
            Stage::Waiting { until } => Some(until),
            Stage::Idle | Stage::Closing => None,
        }
    }

    /// Does what its deadline was for, if that has come.
    pub fn due(&mut self, now: Now) -> Option<Order> {
        if self.deadline().is_none_or(|deadline| deadline > now.mono) {
            return None;
        }
        if let Stage::Open { .. } = self.stage {
            self.quiet = (self.quiet * 2).min(QUIET_MOST);
            self.stage = Stage::Closing;
            return Some(Order::Detach);
        }
        Some(self.attach(now))
    }

    fn attach(&mut self, now: Now) -> Order {
        self.stage = Stage::Open { since: now.mono, heard: now.mono };
        // After a clock that went back, the old stamp would hide everything until it is reached again.
        self.last = self.last.filter(|(last, _)| *last <= now.wall);
        self.skip = self.last;
        Order::Attach(self.last.map_or(Start::Tail(TAIL), |(last, _)| Start::Since(last)))
    }
}
