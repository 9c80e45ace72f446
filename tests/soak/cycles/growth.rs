//! Whether memory grows: a straight line through what was seen. Pure.

/// What a heap that nothing leaks from may differ by, in KiB: pages that are given back later, or hold little.
const NOISE: f64 = 64.0;
/// What a cycle may leave, in bytes; nothing that is kept for an app, a job, a stream or a call is smaller.
const OF_A_CYCLE: f64 = 128.0;

/// How memory went over the second half.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Growth {
    /// Cycles of that half.
    cycles: f64,
    /// By the line, in KiB.
    kib: f64,
}

/// Of (cycles so far, KiB), in order of time.
pub fn over(seen: &[(f64, f64)]) -> Growth {
    let half = &seen[seen.len() / 2..];
    let mean = |of: fn(&(f64, f64)) -> f64| half.iter().map(of).sum::<f64>() / half.len() as f64;
    let (x, y) = (mean(|at| at.0), mean(|at| at.1));
    let (rise, run) =
        half.iter().fold((0.0, 0.0), |(rise, run), at| (rise + (at.0 - x) * (at.1 - y), run + (at.0 - x) * (at.0 - x)));
    let cycles = half.last().map_or(0.0, |at| at.0) - half.first().map_or(0.0, |at| at.0);
    Growth { cycles, kib: if run > 0.0 { rise / run * cycles } else { 0.0 } }
}

impl Growth {
    fn most(self) -> f64 {
        NOISE + self.cycles * OF_A_CYCLE / 1024.0
    }

    pub fn is_too_much(self) -> bool {
        self.kib > self.most()
    }

    pub fn shown(self) -> String {
        format!("{:+.0} KiB in the last {:.0} cycles, at most {:.0}", self.kib, self.cycles, self.most())
    }
}

#[test]
fn a_kilobyte_that_a_cycle_leaves_is_seen_and_what_goes_up_and_down_is_not() {
    let seen = |of_a_cycle: f64| -> Vec<(f64, f64)> {
        let one = |n: i32| (f64::from(n * 10), 8_000.0 + f64::from(n * 10) * of_a_cycle + f64::from(n % 7) * 8.0);
        (20..=100).map(one).collect()
    };
    assert!(!over(&seen(0.0)).is_too_much(), "{}", over(&seen(0.0)).shown());
    assert!(over(&seen(1.0)).is_too_much(), "{}", over(&seen(1.0)).shown());
    assert!(!over(&[(10.0, 8_000.0)]).is_too_much());
    let step: Vec<_> = seen(0.0).into_iter().map(|(n, kib)| (n, if n < 500.0 { kib } else { kib + 900.0 })).collect();
    assert!(!over(&step).is_too_much(), "what has come once, in the first half, is no growth");
}
