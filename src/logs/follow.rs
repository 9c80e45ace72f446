//! When a container's log stream is opened, from where, and when it is given up: pure. Field lessons D4 and D5.
//!
//! ```text
//!          follow                  ended
//!  Idle --------------> Open ---------------> Waiting --unfollow--> Idle
//!   ^                  |  | ^                   |
//!   |                  |  | '--- due, follow ---'
//!   |   2nd empty end, |  |
//!   |<- 5th failure, --'  | unfollow
//!   |   no such container v
//!   '---- ended ------ Closing --ended, wanted again--> Open
//! ```
//!
//! The first stream starts 100 lines back, every later one where the log was heard to, and what comes again is skipped.
//! A stream ends itself after a long silence and is opened anew at once: if it had stalled, what it missed comes then.
//!
//! **Invariant:** `Attach` is ordered in `Idle`, `Waiting` or after `ended` only: there are never two streams.

use std::time::Duration;

use super::listing::Listing;
use super::position::Position;
use super::source::{OpenError, Start};
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

/// How a stream is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct From {
    /// Its first line.
    pub start: Start,
    /// It ends after this much silence.
    pub quiet: Duration,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// It could not be opened.
    Refused(OpenError),
    /// The Engine closed it: the container stopped, or its log was rotated.
    Eof,
    /// The Engine closed it, since the container has ended.
    Exited {
        /// Its exit code, if it could still be seen.
        code: Option<i64>,
        /// Names the run that has ended.
        run: String,
    },
    /// It was no stream but a listing, and this is it.
    Listed(Listing),
    /// It was silent for long.
    Quiet,
    /// It broke, or its thread did.
    Broken(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Open a stream.
    Attach(From),
    /// Cancel the stream; [`Follow::ended`] will tell.
    Detach,
    /// Nothing more comes, for this reason.
    GiveUp(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stage {
    #[default]
    Idle,
    /// Since when.
    Open(Duration),
    /// Until when.
    Waiting(Duration),
    Closing,
}

/// See the module.
#[derive(Debug)]
pub struct Follow {
    wanted: bool,
    stage: Stage,
    position: Position,
    /// Ends or failures in a row.
    ends: u32,
    quiet: Duration,
}

impl Default for Follow {
    fn default() -> Follow {
        Follow { wanted: false, stage: Stage::Idle, position: Position::default(), ends: 0, quiet: QUIET }
    }
}

impl Follow {
    /// Whether nobody follows the container or is about to.
    pub fn is_idle(&self) -> bool {
        !self.wanted
    }

    /// Whether a stream is open or closing.
    pub fn has_stream(&self) -> bool {
        matches!(self.stage, Stage::Open(_) | Stage::Closing)
    }

    /// The container runs.
    pub fn follow(&mut self, now: Now) -> Option<Order> {
        self.wanted = true;
        match self.stage {
            Stage::Idle | Stage::Waiting(_) => {
                self.ends = 0;
                Some(self.attach(now))
            }
            Stage::Open(_) | Stage::Closing => None,
        }
    }

    /// The container is gone.
    pub fn unfollow(&mut self) -> Option<Order> {
        self.wanted = false;
        match self.stage {
            Stage::Open(_) => {
                self.stage = Stage::Closing;
                Some(Order::Detach)
            }
            Stage::Closing => None,
            Stage::Idle | Stage::Waiting(_) => {
                self.stage = Stage::Idle;
                None
            }
        }
    }

    /// A line came: whether it is a new one.
    pub fn line(&mut self, stamp: Option<Wall>, text: &str) -> bool {
        let is_new = self.position.line(stamp, text);
        if is_new {
            self.ends = 0;
            self.quiet = QUIET;
        }
        is_new
    }

    /// The stream ended.
    pub fn ended(&mut self, now: Now, end: End) -> Option<Order> {
        let stage = std::mem::take(&mut self.stage);
        if !self.wanted {
            return None;
        }
        let since = match stage {
            Stage::Open(since) => since,
            // The end was ours, its way does not matter.
            Stage::Closing => return Some(self.attach(now)),
            Stage::Idle | Stage::Waiting(_) => {
                self.stage = stage;
                return None;
            }
        };
        if end == End::Quiet {
            self.ends = 0;
            self.quiet = (self.quiet * 2).min(QUIET_MOST);
            return Some(self.attach(now));
        }
        if now.mono.saturating_sub(since) >= STABLE {
            self.ends = 0;
        }
        self.ends += 1;
        let (most, reason) = match end {
            End::Listed(_) => {
                self.ends = 0;
                self.wanted = false;
                return None;
            }
            End::Refused(error @ OpenError::NotFound) => (1, error.to_string()),
            // Also of a container that has ended: it may be running again by now.
            End::Eof | End::Exited { .. } | End::Quiet => (ENDS, "the log ended".to_owned()),
            End::Refused(error @ OpenError::Failed(_)) => (FAILURES, error.to_string()),
            End::Broken(reason) => (FAILURES, reason),
        };
        if self.ends >= most {
            self.wanted = false;
            return Some(Order::GiveUp(reason));
        }
        self.stage = Stage::Waiting(now.mono + RETRY * 2_u32.pow(self.ends - 1));
        None
    }

    /// When [`Follow::due`] wants to be called.
    pub fn deadline(&self) -> Option<Duration> {
        match self.stage {
            Stage::Waiting(until) => Some(until),
            Stage::Idle | Stage::Open(_) | Stage::Closing => None,
        }
    }

    /// Opens the stream again if its wait is over.
    pub fn due(&mut self, now: Now) -> Option<Order> {
        self.deadline().filter(|at| *at <= now.mono).map(|_| self.attach(now))
    }

    /// How far it has been heard.
    pub fn position(&mut self) -> &mut Position {
        &mut self.position
    }

    fn attach(&mut self, now: Now) -> Order {
        self.stage = Stage::Open(now.mono);
        let since = self.position.since(now);
        self.position.rewind(since);
        Order::Attach(From { start: since.map_or(Start::Tail(TAIL), Start::Since), quiet: self.quiet })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Now {
        Now { mono: Duration::from_secs(seconds), wall: stamp(seconds) }
    }

    fn stamp(seconds: u64) -> Wall {
        Wall::from_unix(1_000_000 + i64::try_from(seconds).unwrap())
    }

    /// Where a stream begins when this was the newest stamp.
    fn before(seconds: u64) -> Wall {
        Wall::from_unix(stamp(seconds).seconds - 1)
    }

    fn tail() -> Option<Order> {
        Some(Order::Attach(From { start: Start::Tail(100), quiet: QUIET }))
    }

    fn since(seconds: u64) -> Option<Order> {
        Some(Order::Attach(From { start: Start::Since(before(seconds)), quiet: QUIET }))
    }

    /// Lets a waiting follow's deadline come.
    fn next(follow: &mut Follow, expected_wait: u64, from: u64) -> Option<Order> {
        let wait = Duration::from_secs(expected_wait);
        assert_eq!(follow.deadline(), Some(at(from).mono + wait));
        let due = at(from + expected_wait);
        assert_eq!(follow.due(Now { mono: due.mono - Duration::from_nanos(1), ..due }), None);
        follow.due(due)
    }

    #[test]
    fn d4_the_first_stream_starts_100_lines_back_and_is_the_only_one() {
        let mut follow = Follow::default();
        assert!(follow.is_idle());
        assert_eq!(follow.follow(at(0)), tail());
        assert_eq!(follow.follow(at(1)), None, "an active stream is kept");
        assert_eq!(follow.unfollow(), Some(Order::Detach));
        assert_eq!(follow.unfollow(), None);
        assert_eq!(follow.follow(at(2)), None, "not before the old one has ended");
        assert_eq!(follow.ended(at(3), End::Eof), tail());
        assert_eq!(follow.unfollow(), Some(Order::Detach));
        assert_eq!(follow.ended(at(4), End::Eof), None);
        assert!(!follow.has_stream());
        assert_eq!(follow.deadline(), None);
    }

    #[test]
    fn d5_after_an_end_the_stream_is_opened_again_at_the_last_line_and_copies_are_skipped() {
        let mut follow = Follow::default();
        follow.follow(at(0));
        assert!(follow.line(Some(stamp(3)), "x"));
        assert!(follow.line(Some(stamp(4)), "x"));
        assert!(follow.line(Some(stamp(4)), "y"), "two lines of one moment");
        assert_eq!(follow.ended(at(5), End::Eof), None);
        assert_eq!(next(&mut follow, 1, 5), since(4));
        assert!(!follow.line(Some(stamp(3)), "x"), "an Engine that counts in whole seconds shows more");
        assert!(!follow.line(Some(stamp(4)), "x"));
        assert!(!follow.line(Some(stamp(4)), "x"));
        assert!(follow.line(Some(stamp(4)), "x"), "the third of that moment is new");
        assert!(follow.line(Some(stamp(5)), "x"));
        assert!(follow.line(Some(stamp(1)), "x"), "behind what was skipped, order is the container's business");
    }

    #[test]
    fn d5_lines_that_the_engine_repeats_when_it_rotates_the_log_are_skipped() {
        let mut follow = Follow::default();
        follow.follow(at(0));
        assert!((0..270).all(|n| follow.line(Some(stamp(n)), "x")));
        assert!((244..270).all(|n| !follow.line(Some(stamp(n)), "x")));
        assert!((270..300).all(|n| follow.line(Some(stamp(n)), "x")));
        assert!(follow.line(Some(Wall::from_unix(5)), "x"), "a clock that went back repeats nothing");
        assert!(follow.line(Some(Wall::from_unix(6)), "x"));
    }

    #[test]
    fn d5_a_silent_stream_is_opened_again_ever_more_rarely() {
        let mut follow = Follow::default();
        follow.follow(at(0));
        follow.line(Some(stamp(0)), "x");
        for minutes in [2, 4, 8, 16, 16] {
            let again = From { start: Start::Since(before(0)), quiet: Duration::from_secs(minutes * 60) };
            assert_eq!(follow.ended(at(minutes), End::Quiet), Some(Order::Attach(again)));
            assert!(!follow.line(Some(stamp(0)), "x"));
        }
        assert!(follow.line(Some(stamp(1)), "x"), "it had stalled");
        let again = From { start: Start::Since(before(1)), quiet: Duration::from_secs(120) };
        assert_eq!(follow.ended(at(900), End::Quiet), Some(Order::Attach(again)));
    }

    #[test]
    fn a_container_that_stopped_is_given_up_after_a_second_empty_end() {
        let mut follow = Follow::default();
        follow.follow(at(0));
        follow.line(Some(stamp(0)), "x");
        assert_eq!(follow.ended(at(1), End::Eof), None);
        assert_eq!(next(&mut follow, 1, 1), since(0));
        assert!(!follow.line(Some(stamp(0)), "x"));
        assert_eq!(follow.ended(at(2), End::Eof), Some(Order::GiveUp("the log ended".to_owned())));
        assert!(follow.is_idle());
        assert_eq!(follow.follow(at(9)), since(0), "until it runs again");
    }

    #[test]
    fn a_start_during_the_wait_opens_at_once() {
        let mut follow = Follow::default();
        follow.follow(at(0));
        follow.line(Some(stamp(0)), "x");
        assert_eq!(follow.ended(at(1), End::Eof), None);
        assert_eq!(follow.follow(at(1)), since(0));
        assert_eq!(follow.ended(at(1), End::Eof), None);
        assert_eq!(follow.unfollow(), None, "a wait needs no cancel");
        assert_eq!(follow.deadline(), None);
    }

    #[test]
    fn an_absent_engine_is_tried_five_times_and_a_missing_container_once() {
        let failed = || End::Refused(OpenError::Failed("no engine".to_owned()));
        let mut follow = Follow::default();
        follow.follow(at(0));
        let mut now = 0;
        for wait in [1, 2, 4, 8] {
            assert_eq!(follow.ended(at(now), failed()), None);
            assert_eq!(next(&mut follow, wait, now), tail());
            now += wait;
        }
        assert_eq!(follow.ended(at(now), failed()), Some(Order::GiveUp("no engine".to_owned())));
        follow.follow(at(now));
        let missing = End::Refused(OpenError::NotFound);
        assert_eq!(follow.ended(at(now), missing), Some(Order::GiveUp("no such container".to_owned())));
    }

    #[test]
    fn a_stream_that_lived_for_long_has_not_failed_in_a_row() {
        let mut follow = Follow::default();
        follow.follow(at(0));
        for n in 0..20 {
            assert_eq!(follow.ended(at(n * 11 + 10), End::Eof), None);
            assert_eq!(next(&mut follow, 1, n * 11 + 10), tail());
        }
    }

    #[test]
    fn x4_after_a_clock_that_went_back_the_old_stamp_hides_nothing() {
        let mut follow = Follow::default();
        follow.follow(at(0));
        follow.line(Some(stamp(500)), "x");
        follow.ended(at(501), End::Eof);
        let now = Now { wall: Wall::from_unix(7), ..at(502) };
        assert_eq!(follow.due(now), tail());
        assert!(follow.line(Some(Wall::from_unix(6)), "x"));
    }

    #[test]
    fn s8_whatever_happens_there_is_one_stream_or_a_deadline_or_nothing_wanted() {
        let mut seed = 42_u32;
        let mut random = |most: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 16) % most
        };
        let (mut follow, mut open, mut now) = (Follow::default(), 0, 0);
        for _ in 0..100_000 {
            now += u64::from(random(90));
            let order = match random(6) {
                0 => follow.follow(at(now)),
                1 => follow.unfollow(),
                2 if open > 0 => {
                    open -= 1;
                    let broken = End::Broken(String::new());
                    let ends = [End::Eof, broken, End::Refused(OpenError::NotFound), End::Quiet];
                    follow.ended(at(now), ends[random(4) as usize].clone())
                }
                3 if open > 0 => {
                    follow.line(Some(stamp(now)), "x");
                    None
                }
                _ => follow.due(at(now)),
            };
            open += u32::from(matches!(order, Some(Order::Attach(_))));
            assert!(open <= 1, "two streams");
            assert_eq!(open == 1, follow.has_stream());
            assert!(follow.is_idle() || open == 1 || follow.deadline().is_some(), "{follow:?} waits for nothing");
        }
    }
}
