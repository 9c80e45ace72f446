//! How fast the link takes bulk, and what may therefore be handed over and be under way (field lesson C2): pure.
//!
//! It counts what leaves the socket's backlog over half a second. If bulk had to wait for it, this is what the link can
//! do; otherwise the link can do at least that.

use std::time::Duration;

/// What a bulk producer may hand over at once.
pub(super) const MOST: usize = 256 * 1024;
const LEAST: usize = 2 * 1024;
/// What may be under way: control waits behind it. The least keeps a link with a long round trip going.
const MOST_UNDER_WAY: usize = 32 * 1024;
const LEAST_UNDER_WAY: usize = 8 * 1024;
/// How long is counted, and how much time the rate of before stands for.
const SPAN: Duration = Duration::from_millis(500);

/// See the module.
#[derive(Debug)]
pub(super) struct Pace {
    /// In bytes per [`SPAN`], at most [`MOST`].
    rate: usize,
    count: Option<Count>,
}

#[derive(Debug)]
struct Count {
    began: Duration,
    /// Under way at the beginning, and written since.
    bytes: usize,
    /// There was bulk that could not go yet.
    waited: bool,
}

impl Pace {
    /// Of a fresh session: nothing is known against the link.
    pub(super) fn new() -> Pace {
        Pace { rate: MOST, count: None }
    }

    /// Whether bulk waits or is under way: look again soon.
    pub(super) fn is_counting(&self) -> bool {
        self.count.is_some()
    }

    /// Bytes were written.
    pub(super) fn wrote(&mut self, bytes: usize) {
        if let Some(count) = &mut self.count {
            count.bytes = count.bytes.saturating_add(bytes);
        }
    }

    /// `under_way` is written and not acknowledged; there is `more` bulk behind it, or not.
    pub(super) fn look(&mut self, now: Duration, under_way: usize, more: bool) {
        // Some room was made by what has just left.
        let waits = more && under_way >= self.window() / 2;
        if let Some(count) = &mut self.count {
            count.waited |= waits;
            let time = now.saturating_sub(count.began);
            if under_way > 0 && time < SPAN {
                return;
            }
            let gone = count.bytes.saturating_sub(under_way);
            let rate = after(self.rate, gone, time);
            let saturated = count.waited && under_way > 0;
            self.rate = if saturated { rate } else { self.rate.max(rate) };
        }
        let goes_on = under_way > 0 || more;
        self.count = goes_on.then_some(Count { began: now, bytes: under_way, waited: waits });
    }

    /// How much may be handed over at once: half a second's worth.
    pub(super) fn room(&self) -> usize {
        self.rate.max(LEAST)
    }

    /// How much may be under way: half a second's worth, too.
    pub(super) fn window(&self) -> usize {
        self.rate.clamp(LEAST_UNDER_WAY, MOST_UNDER_WAY)
    }
}

/// The rate, after `gone` bytes left within `time`.
fn after(rate: usize, gone: usize, time: Duration) -> usize {
    let (span, time) = (SPAN.as_micros(), time.as_micros());
    let bytes = (rate as u128 + gone as u128) * span / (span + time);
    usize::try_from(bytes).unwrap_or(MOST).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(20);

    /// A link of `rate` bytes a second, and a lane that always has more, for `time`.
    fn flood(pace: &mut Pace, now: &mut Duration, under_way: &mut usize, rate: usize, time: Duration) {
        let until = *now + time;
        while *now < until {
            *under_way = under_way.saturating_sub(rate * 20 / 1000);
            pace.look(*now, *under_way, true);
            let more = pace.window().saturating_sub(*under_way);
            pace.wrote(more);
            *under_way += more;
            *now += LOOK;
        }
    }

    #[test]
    fn c2_room_and_window_are_half_a_second_of_what_the_link_takes() {
        let mut pace = Pace::new();
        assert_eq!((pace.room(), pace.window()), (MOST, MOST_UNDER_WAY), "a fresh session");
        let (mut now, mut under_way) = (Duration::from_secs(50), 0);
        // What the link does from then on, bytes a second; for how long; and the room in the end, from and to.
        let table = [
            ("fast", 10_000_000, 3, MOST, MOST),
            ("slow: 64 kbit/s", 8_000, 8, 3_600, 4_800),
            ("stalled", 0, 10, LEAST, LEAST),
            ("recovering, slow", 8_000, 5, 3_000, 4_800),
            ("recovering, middling", 100_000, 5, 40_000, 55_000),
            ("recovering, fast", 10_000_000, 3, MOST, MOST),
        ];
        for (what, rate, seconds, least, most) in table {
            flood(&mut pace, &mut now, &mut under_way, rate, Duration::from_secs(seconds));
            let room = pace.room();
            assert!((least..=most).contains(&room), "{what}: {room}");
            assert_eq!(pace.window(), room.clamp(LEAST_UNDER_WAY, MOST_UNDER_WAY), "{what}");
        }
    }

    #[test]
    fn little_to_send_is_no_sign_of_a_slow_link() {
        let mut pace = Pace::new();
        // A flush of 1000 bytes each 200 ms over a round trip of 700 ms: something is under way all the time.
        for tick in 0..500 {
            let now = 10 * LOOK * tick;
            let under_way = 1000 * usize::try_from(tick.min(3)).unwrap();
            pace.look(now, under_way, true);
            pace.wrote(1000);
            pace.look(now + LOOK, under_way + 1000, false);
            assert!(pace.is_counting());
        }
        pace.look(1000 * LOOK * 10, 0, false);
        assert!(!pace.is_counting(), "nothing to look at any more");
        assert_eq!(pace.room(), MOST);
    }

    #[test]
    fn c2_a_link_that_became_fast_is_noticed_also_by_small_flushes() {
        let mut pace = Pace { rate: 0, count: None };
        let mut now = Duration::ZERO;
        let mut flushes = 0;
        while pace.room() < MOST {
            pace.look(now, 0, true);
            pace.wrote(pace.room());
            pace.look(now + LOOK, 0, false);
            now += 10 * LOOK;
            flushes += 1;
            assert!(flushes < 50, "{pace:?}");
        }
        eprintln!("{flushes} flushes");
    }
}
