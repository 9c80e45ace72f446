//! How far a container's log has been heard, and which lines come a second time: pure. Field lesson D5.
//!
//! The stamps of lines are not quite in order: the Engine reads the two pipes of a container without a TTY side by side and
//! stamps a line before it is its turn to be written. So a stream is opened a little before the newest stamp, and what comes
//! again is known by its own stamp, not by the newest one.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::clock::{Now, Wall};

/// Lines among which one that comes again is recognised; the Engine repeats a read buffer, some 30 lines, when it rotates a
/// log (seen with 20.10).
const RECENT: usize = 128;
/// Seconds between the newest stamp and the beginning of the next stream.
const SLACK: i64 = 1;

/// See the module.
#[derive(Debug, Default)]
pub struct Position {
    newest: Option<Wall>,
    /// The stamps of the last lines, the last one first.
    recent: VecDeque<Wall>,
    /// The text of the last one, as a hash.
    text: u64,
    /// Lines are coming again.
    replay: Option<Replay>,
    /// The last line was dropped, and so is the rest of it.
    drops: bool,
}

#[derive(Debug)]
struct Replay {
    /// What is older than anything that is remembered was heard, or left out.
    floor: Wall,
    /// Those that are still to come again.
    pending: Vec<Wall>,
}

const NEVER: Wall = Wall { seconds: i64::MIN, nanos: 0 };

impl Position {
    /// Where the next stream is to begin; `None` if nothing was heard.
    pub fn since(&mut self, now: Now) -> Option<Wall> {
        // After a clock that went back, the old stamp would hide everything until it is reached again.
        self.newest = self.newest.filter(|newest| *newest <= now.wall);
        self.newest.map(|newest| Wall { seconds: newest.seconds - SLACK, ..newest })
    }

    /// Lines from that moment on come again, or, without one, an unknown part of the last ones.
    pub fn rewind(&mut self, since: Option<Wall>) {
        let from = since.unwrap_or(NEVER);
        let pending: Vec<Wall> = self.recent.iter().copied().filter(|stamp| *stamp >= from).collect();
        let oldest = since.and_then(|_| self.recent.iter().min().copied());
        self.replay = (!pending.is_empty()).then_some(Replay { floor: oldest.unwrap_or(NEVER), pending });
    }

    /// Lines up to this stamp, so many of them with it, are not to come any more.
    pub fn pass(&mut self, stamp: Wall, copies: usize) {
        if self.newest < Some(stamp) {
            self.newest = Some(stamp);
            self.recent = VecDeque::from(vec![stamp; copies.min(RECENT)]);
        }
    }

    /// A line came: whether it is a new one. Without a stamp it is the rest of a long line.
    pub fn line(&mut self, stamp: Option<Wall>, text: &str) -> bool {
        let Some(stamp) = stamp else { return !self.drops };
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = hasher.finish();
        self.drops = !self.is_new(stamp, hash);
        if !self.drops {
            self.text = hash;
            self.recent.truncate(RECENT - 1);
            self.recent.push_front(stamp);
            self.newest = self.newest.max(Some(stamp));
        }
        !self.drops
    }

    fn is_new(&mut self, stamp: Wall, text: u64) -> bool {
        if self.newest.is_some_and(|newest| newest < stamp) {
            self.replay = None;
            return true;
        }
        // Two lines of one moment stand together and are not alike. Any other that is known comes again, and then more do.
        let repeats = match self.recent.front() {
            Some(last) if *last == stamp => self.text == text,
            _ => self.recent.contains(&stamp),
        };
        if self.replay.is_none() && repeats {
            self.rewind(None);
        }
        let Some(Replay { floor, pending }) = &mut self.replay else { return true };
        let Some(at) = pending.iter().position(|known| *known == stamp) else { return stamp >= *floor };
        pending.swap_remove(at);
        if pending.is_empty() {
            self.replay = None;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn stamp(millis: i64) -> Wall {
        Wall { seconds: 1000 + millis.div_euclid(1000), nanos: millis.rem_euclid(1000) as u32 * 1_000_000 }
    }

    fn now(millis: i64) -> Now {
        Now { mono: Duration::ZERO, wall: stamp(millis) }
    }

    /// Which of these stamps are new.
    fn new(position: &mut Position, stamps: &[i64]) -> Vec<i64> {
        let is_new = |&millis: &i64| position.line(Some(stamp(millis)), &millis.to_string());
        stamps.iter().copied().filter(is_new).collect()
    }

    /// Opens the next stream; where it begins.
    fn open(position: &mut Position) -> Option<Wall> {
        let since = position.since(now(100_000));
        position.rewind(since);
        since
    }

    #[test]
    fn d5_lines_of_two_pipes_are_known_again_although_their_stamps_are_not_in_order() {
        let mut position = Position::default();
        assert_eq!(open(&mut position), None);
        let written = [5, 9, 7, 8, 12, 11];
        assert_eq!(new(&mut position, &written), written);
        assert_eq!(new(&mut position, &[8, 12, 11, 14, 13]), [14, 13], "the engine rotates the log");
        assert_eq!(open(&mut position), Some(stamp(-986)));
        assert_eq!(new(&mut position, &[7, 8, 12, 11, 14, 10, 13, 15]), [10, 15], "one was on its way at the end");
        assert!(new(&mut position, &[15]).is_empty(), "the last line alone");
        assert!(position.line(Some(stamp(15)), "another one of that moment"));
        open(&mut position);
        assert_eq!(new(&mut position, &[15, 15, 15]), [15], "two were heard");
    }

    #[test]
    fn d5_what_is_older_than_all_that_is_remembered_does_not_come_again() {
        let mut position = Position::default();
        let all: Vec<i64> = (0..1000).collect();
        assert_eq!(new(&mut position, &all), all);
        open(&mut position);
        let again: Vec<i64> = (-1..1002).collect();
        assert_eq!(new(&mut position, &again), [1000, 1001], "more came in the last second than are remembered");
        assert!(position.recent.len() <= RECENT && position.replay.is_none());
        let mut position = Position::default();
        position.pass(stamp(500), 2);
        assert_eq!(open(&mut position), Some(stamp(-500)));
        assert_eq!(new(&mut position, &[400, 499, 500, 500, 501]), [501]);
        position.pass(stamp(300), 1);
        assert_eq!(position.newest, Some(stamp(501)), "it does not go back");
    }

    #[test]
    fn the_rest_of_a_long_line_goes_as_the_line_went() {
        let mut position = Position::default();
        assert!(position.line(None, "x") && position.line(Some(stamp(1)), "x") && position.line(None, "x"));
        open(&mut position);
        assert!(!position.line(Some(stamp(1)), "x") && !position.line(None, "x"));
        assert!(position.line(Some(stamp(2)), "x") && position.line(None, "x"));
    }

    #[test]
    fn x4_a_clock_that_goes_back_hides_nothing_and_doubles_nothing() {
        let mut position = Position::default();
        new(&mut position, &[50_000, 50_001]);
        assert_eq!(new(&mut position, &[7, 8]), [7, 8], "in the middle of a stream");
        let since = position.since(now(10));
        assert_eq!(since, None, "the stamp lies in the future");
        position.rewind(since);
        assert_eq!(new(&mut position, &[50_000, 50_001, 7, 8, 9]), [9]);
    }
}
