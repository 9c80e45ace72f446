//! When to dial, how long a dial may take, and when to give up (spec 1.7, 1.8; decisions 9 and 10). Pure.
//!
//! Randomness comes in as a number, so that a whole fleet does not come back in the same second and a test still knows
//! what to expect.

use crate::wamp::Refusal;
use std::time::Duration;

const FIRST_BOUND: Duration = Duration::from_secs(1);
const LAST_BOUND: Duration = Duration::from_secs(30);
/// A session of this length proves that the router is well: the back-off starts from the beginning.
const STABLE: Duration = Duration::from_secs(60);
/// Pause after a refusal of the presence procedure: the router needs this to notice that our old session is gone.
const PRESENCE_PAUSE: Duration = Duration::from_secs(1);
const PRESENCE_REFUSALS: u32 = 8;
const SECRET_REFUSALS: u32 = 3;
/// From this many connect timeouts in a row on, the bound is taken for too tight for the link.
const TIGHT: u32 = 3;
const WIDEST: Duration = Duration::from_secs(30);
/// The bound where none is configured: nothing waits for ever.
const UNBOUNDED: Duration = Duration::from_secs(120);

/// A random delay between zero and the bound of the `failures`-th failure in a row (1 s, doubling to 30 s).
/// Saturates: every number of failures has a bound.
pub fn backoff(failures: u32, random: u64) -> Duration {
    let bound = FIRST_BOUND.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
    let nanos = u128::min(bound.as_nanos(), LAST_BOUND.as_nanos());
    Duration::from_nanos(u64::try_from((nanos * u128::from(random)) >> 64).unwrap_or(u64::MAX))
}

/// How a dial failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// TCP, TLS and the WebSocket handshake took longer than the bound.
    ConnectTimeout,
    /// The router refused the secret or the presence procedure.
    Refused(Refusal),
    /// Anything else.
    Other,
}

/// What follows a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another dial after this time.
    Dial(Duration),
    /// None (decision 9).
    GiveUp(Refusal),
}

/// The memory of the dial loop, over all sessions of the process.
#[derive(Debug, Default)]
pub struct Dialer {
    attempt: u64,
    failures: u32,
    timeouts: u32,
    presence: u32,
    secret: u32,
    claimed: bool,
    joined_at: Option<Duration>,
}

impl Dialer {
    /// Nothing tried yet.
    pub fn new() -> Dialer {
        Dialer::default()
    }

    /// Begins a dial; its number within the series, from 1.
    pub fn begin(&mut self) -> u64 {
        self.attempt += 1;
        self.attempt
    }

    /// The number of the dial in progress.
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// How long the dial may take until the WebSocket is open.
    pub fn bound(&self, configured: Duration) -> Duration {
        if configured.is_zero() {
            return UNBOUNDED;
        }
        let doublings = self.timeouts.saturating_sub(TIGHT - 1);
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        configured.saturating_mul(factor).min(WIDEST.max(configured))
    }

    /// The WebSocket is open.
    pub fn connected(&mut self) {
        self.timeouts = 0;
    }

    /// The router took the secret.
    pub fn welcomed(&mut self) {
        self.secret = 0;
    }

    /// The registration of the presence procedure ended, in any way but with "already exists".
    pub fn presence_answered(&mut self, registered: bool) {
        self.presence = 0;
        self.claimed |= registered;
    }

    /// The session is up.
    pub fn joined(&mut self, now: Duration) {
        self.attempt = 0;
        self.joined_at = Some(now);
    }

    /// A joined session ended: the delay before the next dial.
    pub fn lost(&mut self, now: Duration, random: u64) -> Duration {
        if self.joined_at.take().is_some_and(|joined| now.saturating_sub(joined) >= STABLE) {
            self.failures = 0;
        }
        self.back_off(random)
    }

    /// A dial failed: what follows.
    pub fn failed(&mut self, failure: Failure, random: u64) -> Next {
        match failure {
            Failure::ConnectTimeout => self.timeouts = self.timeouts.saturating_add(1),
            Failure::Refused(Refusal::Secret) => {
                self.secret = self.secret.saturating_add(1);
                if self.secret >= SECRET_REFUSALS && !self.claimed {
                    return Next::GiveUp(Refusal::Secret);
                }
            }
            Failure::Refused(Refusal::Presence) => {
                self.presence = self.presence.saturating_add(1);
                if self.presence >= PRESENCE_REFUSALS && !self.claimed {
                    return Next::GiveUp(Refusal::Presence);
                }
                if self.presence <= PRESENCE_REFUSALS {
                    return Next::Dial(PRESENCE_PAUSE);
                }
            }
            Failure::Other => {}
        }
        Next::Dial(self.back_off(random))
    }

    fn back_off(&mut self, random: u64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        backoff(self.failures, random)
    }
}

#[cfg(test)]
mod fleet;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;
    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn s9_the_back_off_is_bounded_over_its_whole_range() {
        let mut last = Duration::ZERO;
        for failures in (0..200).chain([u32::MAX - 1, u32::MAX]) {
            let longest = backoff(failures, u64::MAX);
            assert!(longest >= last && longest <= S(30), "{failures}: {longest:?}");
            assert_eq!(backoff(failures, 0), Duration::ZERO);
            last = longest;
        }
        let bounds: Vec<u64> = (1..8).map(|failures| backoff(failures, u64::MAX).as_millis() as u64 + 1).collect();
        assert_eq!(bounds, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }

    #[test]
    fn s9_a_dialer_that_fails_for_years_still_answers() {
        let mut dialer =
            Dialer { failures: u32::MAX - 1, timeouts: u32::MAX - 1, presence: u32::MAX - 1, ..Dialer::new() };
        dialer.claimed = true;
        for failure in [Failure::ConnectTimeout, Failure::Refused(Refusal::Presence), Failure::Other] {
            for _ in 0..3 {
                assert!(dialer.bound(MS(1250)) <= S(30));
                assert!(matches!(dialer.failed(failure, u64::MAX), Next::Dial(delay) if delay <= S(30)));
            }
        }
    }

    #[test]
    fn c9_a_fleet_that_lost_its_router_comes_back_spread_over_the_bound() {
        let mut seed = 7_u64;
        let mut slots = [0; 10];
        for _ in 0..10_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let delay = backoff(3, seed);
            slots[(delay.as_millis() / 400) as usize] += 1;
        }
        assert!(slots.iter().all(|&count| (800..1200).contains(&count)), "{slots:?}");
    }

    #[test]
    fn a_stable_session_resets_the_back_off_and_a_flapping_one_does_not() {
        let mut dialer = Dialer::new();
        for _ in 0..4 {
            dialer.failed(Failure::Other, 0);
        }
        dialer.joined(S(100));
        assert!(dialer.lost(S(110), u64::MAX) > S(8), "ten seconds are not stable");
        dialer.joined(S(200));
        let delay = dialer.lost(S(260), u64::MAX);
        assert!(delay <= S(1), "a minute is: {delay:?}");
    }

    #[test]
    fn attempts_count_from_one_in_each_series() {
        let mut dialer = Dialer::new();
        assert_eq!((dialer.begin(), dialer.begin()), (1, 2));
        dialer.joined(S(1));
        assert_eq!(dialer.begin(), 1);
    }

    #[test]
    fn the_connect_bound_widens_after_three_timeouts_and_narrows_after_a_connect() {
        let mut dialer = Dialer::new();
        let mut bounds = Vec::new();
        for _ in 0..9 {
            bounds.push(dialer.bound(MS(1250)).as_millis());
            dialer.failed(Failure::ConnectTimeout, 0);
        }
        assert_eq!(bounds, [1250, 1250, 1250, 2500, 5000, 10_000, 20_000, 30_000, 30_000]);
        assert_eq!(dialer.bound(S(40)), S(40), "a configured bound is never cut");
        assert_eq!(dialer.bound(Duration::ZERO), UNBOUNDED);
        dialer.connected();
        assert_eq!(dialer.bound(MS(1250)), MS(1250));
    }

    #[test]
    fn a_secret_refused_three_times_ends_it_only_if_never_joined() {
        let refused = Failure::Refused(Refusal::Secret);
        let mut dialer = Dialer::new();
        assert_eq!(dialer.failed(refused, 0), Next::Dial(Duration::ZERO));
        assert_eq!(dialer.failed(refused, 0), Next::Dial(Duration::ZERO));
        dialer.failed(Failure::Other, 0); // says nothing about the secret
        assert_eq!(dialer.failed(refused, 0), Next::GiveUp(Refusal::Secret));

        let mut dialer = Dialer::new();
        dialer.failed(refused, 0);
        dialer.failed(refused, 0);
        dialer.welcomed();
        assert!(matches!(dialer.failed(refused, 0), Next::Dial(_)), "not in a row");
        dialer.presence_answered(true);
        for _ in 0..20 {
            assert!(matches!(dialer.failed(refused, 0), Next::Dial(_)));
        }
    }

    #[test]
    fn presence_refused_seven_times_goes_on_and_the_eighth_ends_it() {
        let refused = Failure::Refused(Refusal::Presence);
        let mut dialer = Dialer::new();
        for _ in 0..7 {
            assert_eq!(dialer.failed(refused, u64::MAX), Next::Dial(S(1)));
            dialer.failed(Failure::Other, 0); // failed dials between do not reset the count
        }
        assert_eq!(dialer.failed(refused, u64::MAX), Next::GiveUp(Refusal::Presence));

        let mut dialer = Dialer::new();
        for _ in 0..7 {
            dialer.failed(refused, 0);
        }
        dialer.presence_answered(false);
        assert_eq!(dialer.failed(refused, u64::MAX), Next::Dial(S(1)), "counted anew after another answer");
    }

    #[test]
    fn c3_once_joined_its_own_half_open_session_never_ends_the_process() {
        let refused = Failure::Refused(Refusal::Presence);
        let mut dialer = Dialer::new();
        dialer.presence_answered(true);
        for _ in 0..8 {
            assert_eq!(dialer.failed(refused, u64::MAX), Next::Dial(S(1)));
        }
        let Next::Dial(ninth) = dialer.failed(refused, u64::MAX) else { panic!() };
        assert!(ninth < S(1), "from now on with the back-off: {ninth:?}");
        for _ in 0..100 {
            assert!(matches!(dialer.failed(refused, u64::MAX), Next::Dial(_)));
        }
    }
}
