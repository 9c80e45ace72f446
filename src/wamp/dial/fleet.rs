//! A simulated fleet over the real dial policy: how much of it comes in the busiest second after an outage (C9, decision 10).
//!
//! All devices lose their stable sessions in the same moment, and seconds are counted from the moment at which the router
//! is back: the worst case of both. A hundred thousand devices leave a part in a thousand to chance, and the seed is fixed.

use super::*;

const S: fn(u64) -> Duration = Duration::from_secs;
const MS: fn(u64) -> Duration = Duration::from_millis;
const DEVICES: u32 = 100_000;

/// What becomes of a dial while the router is away.
#[derive(Debug, Clone, Copy)]
enum Dial {
    /// Its machine is there and refuses; the refusal takes this long, there and back.
    Refused(Duration),
    /// Nobody answers. The kernel knocks again after 1 s, 3 s, 7 s and 15 s, until the bound of the dial.
    Unanswered,
}

impl Dial {
    /// When a dial that begins now is taken, or that it fails, how and when.
    fn outcome(self, now: Duration, back: Duration, bound: Duration) -> Result<Duration, (Failure, Duration)> {
        match self {
            Dial::Refused(way) if now + way / 2 < back => Err((Failure::Other, now + way)),
            Dial::Refused(way) => Ok(now + way / 2),
            Dial::Unanswered => {
                let knocks = [0, 1, 3, 7, 15].map(|after| now + S(after));
                let heard = knocks.into_iter().find(|at| *at >= back && *at < now + bound);
                heard.ok_or((Failure::ConnectTimeout, now + bound))
            }
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// How long after the router's return the device is taken.
fn returned(random: &mut Random, outage: Duration, dial: Dial) -> Duration {
    let mut dialer = Dialer::new();
    dialer.joined(Duration::ZERO);
    let lost = STABLE;
    let mut now = lost + dialer.lost(lost, random.next());
    loop {
        dialer.begin();
        match dial.outcome(now, lost + outage, dialer.bound(MS(1250))) {
            Ok(at) => return at - lost - outage,
            Err((failure, at)) => match dialer.failed(failure, random.next()) {
                Next::Dial(delay) => now = at + delay,
                Next::GiveUp(refusal) => panic!("{refusal:?}"),
            },
        }
    }
}

/// The part of the fleet that comes in the busiest second.
fn busiest(outage: Duration, dial: Dial) -> f64 {
    let mut random = Random(7);
    let mut seconds = [0_u32; 64];
    for _ in 0..DEVICES {
        seconds[returned(&mut random, outage, dial).as_secs() as usize] += 1;
    }
    f64::from(seconds.into_iter().max().unwrap_or_default()) / f64::from(DEVICES)
}

fn check(dial: Dial, outage: Duration, most: f64) {
    let seen = busiest(outage, dial);
    eprintln!("{dial:?}, {outage:?}: {:.1} %", 100.0 * seen);
    assert!(seen <= most, "{dial:?}, {outage:?}: {seen}");
}

#[test]
fn c9_the_busiest_second_brings_a_quarter_of_the_fleet_after_5_s_and_a_tenth_after_30_s() {
    for way in [0, 20] {
        check(Dial::Refused(MS(way)), S(5), 0.25);
        check(Dial::Refused(MS(way)), S(30), 0.10);
    }
}

/// What a dial takes is missing from the schedule: after a short outage fewer have reached the longer waits, and those whose
/// dial is under way come together.
#[test]
fn c9_dials_that_take_their_time_bring_more_of_it_together_but_never_all() {
    for way in [100, 200] {
        check(Dial::Refused(MS(way)), S(5), 0.30);
        check(Dial::Refused(MS(way)), S(30), 0.10);
    }
    check(Dial::Unanswered, S(5), 0.46);
    check(Dial::Unanswered, S(30), 0.19);
}
