//! How long to wait before the next try: pure saturating functions over their whole range (S9).

use std::time::Duration;

/// Wait of the crash loop before attempt `n` (apps chapter 5.8): `min(5 s * m^2, 1 h) * r` with `m` = n in 1..=100 and `r`
/// in [0.8, 1.2) made from `jitter`, a random number.
pub fn crash_loop(n: u64, jitter: u64) -> Duration {
    let m = n.clamp(1, 100);
    let millis = (5_000 * m * m).min(3_600_000);
    Duration::from_millis(millis * (800 + jitter % 400) / 1000)
}

/// `first`, doubled `n` times, at most `most`.
pub fn doubling(first: Duration, n: u32, most: Duration) -> Duration {
    first.checked_mul(2_u32.saturating_pow(n.min(31))).unwrap_or(most).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_the_crash_loop_waits_within_its_windows_for_every_number() {
        let within = |n, low, high| {
            for jitter in [0, 1, 399, 400, 12_345, u64::MAX] {
                let wait = crash_loop(n, jitter);
                assert!((Duration::from_secs(low)..Duration::from_secs(high)).contains(&wait), "{n}: {wait:?}");
            }
        };
        within(0, 4, 6);
        within(1, 4, 6);
        within(2, 16, 24);
        within(3, 36, 54);
        for n in [27, 28, 100, 101, u64::MAX] {
            within(n, 48 * 60, 72 * 60);
        }
    }

    #[test]
    fn s9_doubling_saturates() {
        let most = Duration::from_secs(60);
        let waits: Vec<u64> = (0..8).map(|n| doubling(Duration::from_secs(1), n, most).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(doubling(Duration::MAX, u32::MAX, most), most);
    }
}
