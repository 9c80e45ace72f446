//! Pings, and the moment at which a silent router is taken for dead (decision 12). Pure.

use std::time::Duration;

const LONGEST_INTERVAL: Duration = Duration::from_secs(30);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(20);
const LONGEST_SILENCE: Duration = Duration::from_secs(15);

/// The one owner of liveness in a connection.
#[derive(Debug)]
pub(super) struct Liveness {
    interval: Duration,
    silence: Duration,
    ping_at: Duration,
    /// Set by a ping, cleared by any inbound frame.
    dead_at: Option<Duration>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Dead,
}

impl Liveness {
    pub(super) fn new(interval: Duration, now: Duration) -> Liveness {
        let interval = if interval.is_zero() { LONGEST_INTERVAL } else { interval };
        let interval = interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL);
        Liveness { interval, silence: LONGEST_SILENCE.min(2 * interval), ping_at: now + interval, dead_at: None }
    }

    /// Any frame came in.
    pub(super) fn heard(&mut self) {
        self.dead_at = None;
    }

    /// The reader holds back on purpose, so silence proves nothing.
    pub(super) fn not_reading(&mut self, now: Duration) {
        if self.dead_at.is_some() {
            self.dead_at = Some(now + self.silence);
        }
    }

    pub(super) fn deadline(&self) -> Duration {
        self.dead_at.map_or(self.ping_at, |dead| dead.min(self.ping_at))
    }

    pub(super) fn due(&mut self, now: Duration) -> Due {
        if self.dead_at.is_some_and(|dead| dead <= now) {
            return Due::Dead;
        }
        if self.ping_at > now {
            return Due::Nothing;
        }
        // From now, not from when it was due: after a suspended machine there is no burst to catch up with.
        self.ping_at = now + self.interval;
        self.dead_at.get_or_insert(now + self.silence);
        Due::Ping
    }

    /// How long the silence lasted when it is reported.
    pub(super) fn silence(&self) -> Duration {
        self.silence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn c4_without_a_configured_interval_a_dead_link_is_found_within_45_seconds() {
        let mut liveness = Liveness::new(Duration::ZERO, S(100));
        let mut now = liveness.deadline();
        assert_eq!((now, liveness.due(now)), (S(130), Due::Ping));
        now = liveness.deadline();
        assert_eq!((now, liveness.due(now)), (S(145), Due::Dead));
    }

    #[test]
    fn a_shorter_interval_allows_twice_its_length_of_silence() {
        let mut liveness = Liveness::new(S(5), S(0));
        for (at, due) in [(5, Due::Ping), (10, Due::Ping), (15, Due::Dead)] {
            assert_eq!(liveness.deadline(), S(at));
            assert_eq!(liveness.due(S(at)), due);
        }
        assert_eq!(Liveness::new(S(600), S(0)).deadline(), S(30), "a longer one is cut to 30 s");
    }

    #[test]
    fn any_inbound_frame_proves_life_and_pings_go_on() {
        let mut liveness = Liveness::new(S(5), S(0));
        for round in 1..100 {
            assert_eq!(liveness.due(S(5 * round)), Due::Ping);
            liveness.heard();
            assert_eq!(liveness.due(S(5 * round + 1)), Due::Nothing);
        }
    }

    #[test]
    fn c1_silence_counts_only_while_the_socket_is_read() {
        let mut liveness = Liveness::new(S(5), S(0));
        assert_eq!(liveness.due(S(5)), Due::Ping);
        liveness.not_reading(S(14));
        assert_eq!(liveness.due(S(15)), Due::Ping);
        assert_eq!(liveness.due(S(23)), Due::Ping);
        assert_eq!(liveness.due(S(24)), Due::Dead);
    }
}
