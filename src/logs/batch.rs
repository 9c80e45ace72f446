//! The backlog of lines between two flushes, and the byte budget that all containers share: pure.
//!
//! **Invariant:** a backlog holds at most 1 MiB, a flush yields at most 256 KiB plus one marker line; whatever did not
//! fit is counted and told. Lines are never reordered; the newest are the ones that are dropped.

use std::time::Duration;

/// Bytes of a backlog (lines + 1 each).
pub const BACKLOG: usize = 1024 * 1024;
/// Bytes of a flush (lines + 1 each), the marker not counted.
pub const FLUSH: usize = 256 * 1024;
/// A flush is published in pieces of at most so much, unless one line is longer: control goes between two of them.
const PIECE: usize = 16 * 1024;
/// From the first line of a backlog to its flush.
pub const INTERVAL: Duration = Duration::from_millis(200);
/// Bytes a second of all containers together, and the most that may be saved up.
pub const BUDGET: usize = 1024 * 1024;

/// See the module.
#[derive(Debug, Default)]
pub struct Batch {
    /// Lines, each with a line feed behind it.
    backlog: String,
    dropped: u64,
}

impl Batch {
    /// Appends a line (without line feed) unless the backlog would pass `cap` bytes.
    pub fn push(&mut self, line: &str, cap: usize) {
        // Once something was dropped the rest is dropped too: a short line must not overtake a long one.
        if self.dropped > 0 || self.backlog.len() + line.len() + 1 > cap {
            self.dropped += 1;
            return;
        }
        self.backlog.push_str(line);
        self.backlog.push('\n');
    }

    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.backlog.len()
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.backlog.is_empty() && self.dropped == 0
    }

    /// The lines that fit into `limit` bytes (lines + 1 each), joined with `\n`, and a marker line if some did not.
    /// `None` if nothing was pushed. Empty afterwards.
    pub fn flush(&mut self, limit: usize) -> Option<String> {
        if self.is_empty() {
            return None;
        }
        let Batch { mut backlog, mut dropped } = std::mem::take(self);
        if backlog.len() > limit {
            let end = backlog.as_bytes()[..limit].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            dropped += backlog.as_bytes()[end..].iter().filter(|&&byte| byte == b'\n').count() as u64;
            backlog.truncate(end);
        }
        if dropped > 0 {
            backlog.push_str(&format!("… {dropped} log line(s) dropped (rate limit)"));
        } else {
            backlog.pop();
        }
        Some(backlog)
    }

    /// Drops all: nobody listens.
    pub fn discard(&mut self) {
        *self = Batch::default();
    }
}

/// The pieces of a flush, cut between lines.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let at_most = PIECE.min(text.len());
        let within = || text.as_bytes()[..=at_most].iter().rposition(|&byte| byte == b'\n');
        let end = if text.len() > PIECE { within().or_else(|| text.find('\n')) } else { None };
        let (piece, further) = end.map_or((text, None), |end| (&text[..end], Some(&text[end + 1..])));
        rest = further;
        Some(piece)
    })
}

/// The shared budget: refilled with [`BUDGET`] bytes a second, never more than one second's worth.
#[derive(Debug)]
pub struct Budget {
    bytes: usize,
    at: Duration,
}

impl Budget {
    /// A full one.
    pub fn new(now: Duration) -> Budget {
        Budget { bytes: BUDGET, at: now }
    }

    /// What may be published at `now`.
    pub fn available(&mut self, now: Duration) -> usize {
        let micros = u64::try_from(now.saturating_sub(self.at).as_micros()).unwrap_or(u64::MAX).min(1_000_000);
        let refill = usize::try_from(micros * BUDGET as u64 / 1_000_000).unwrap_or(BUDGET);
        // A time too short for a byte stays for the next look.
        if refill > 0 {
            self.bytes = (self.bytes + refill).min(BUDGET);
            self.at = now;
        }
        self.bytes
    }

    /// Takes what was published.
    pub fn take(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(lines: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for line in lines {
            batch.push(line, BACKLOG);
        }
        batch
    }

    #[test]
    fn three_lines_give_one_message_and_nothing_gives_none() {
        let mut three = batch(&["a", "b", "c"]);
        assert_eq!(three.flush(FLUSH).as_deref(), Some("a\nb\nc"));
        assert_eq!(three.flush(FLUSH), None);
        assert_eq!(batch(&[""]).flush(FLUSH).as_deref(), Some(""), "an empty line is a line");
    }

    #[test]
    fn four_times_100_kib_give_one_message_with_the_marker() {
        let line = "x".repeat(100 * 1024);
        let message = batch(&[&line, &line, &line, &line]).flush(FLUSH).unwrap();
        assert!(message.len() <= 262_144 + 128, "{}", message.len());
        assert!(message.ends_with("x\n… 2 log line(s) dropped (rate limit)"));
    }

    #[test]
    fn fifteen_times_100_kib_keep_the_backlog_under_its_cap() {
        let line = "x".repeat(100 * 1024);
        let mut batch = Batch::default();
        for _ in 0..15 {
            batch.push(&line, BACKLOG);
            assert!(batch.len() <= BACKLOG);
        }
        assert!(batch.flush(FLUSH).unwrap().ends_with("… 13 log line(s) dropped (rate limit)"));
        assert!(batch.is_empty());
    }

    #[test]
    fn a_line_that_fits_to_the_byte_is_published_and_the_next_is_not() {
        assert_eq!(batch(&["abc", "def"]).flush(8).as_deref(), Some("abc\ndef"));
        assert_eq!(batch(&["abc", "def"]).flush(7).as_deref(), Some("abc\n… 1 log line(s) dropped (rate limit)"));
        assert_eq!(batch(&["abc", "d"]).flush(3).as_deref(), Some("… 2 log line(s) dropped (rate limit)"));
        assert_eq!(batch(&["öö"]).flush(0).as_deref(), Some("… 1 log line(s) dropped (rate limit)"));
    }

    #[test]
    fn after_a_dropped_line_no_shorter_one_slips_in_before_the_flush() {
        let mut batch = Batch::default();
        batch.push("abc", 6);
        batch.push("defgh", 6);
        batch.push("i", 6);
        assert_eq!(batch.flush(FLUSH).as_deref(), Some("abc\n… 2 log line(s) dropped (rate limit)"));
    }

    #[test]
    fn c2_pieces_are_cut_between_lines_and_are_together_the_whole() {
        let long = "y".repeat(PIECE * 2);
        let half = "x".repeat(PIECE / 2);
        let exact = "z".repeat(PIECE);
        for (text, count) in [
            (String::new(), 1),
            ("a\n\nb".to_owned(), 1),
            (format!("{half}\n{half}\n{half}"), 3),
            (format!("a\n{long}\nb\n"), 3),
            (format!("{exact}\n{exact}"), 2),
            (format!("{exact}\n"), 2),
            (long.clone(), 1),
        ] {
            let pieces: Vec<_> = pieces(&text).collect();
            assert_eq!(pieces.join("\n"), text);
            assert_eq!(pieces.len(), count);
            assert!(pieces.iter().all(|piece| piece.len() <= PIECE || !piece.contains('\n')));
        }
    }

    #[test]
    fn the_budget_refills_with_a_mebibyte_a_second_and_no_further() {
        let mut budget = Budget::new(Duration::ZERO);
        budget.take(BUDGET * 2);
        assert_eq!(budget.available(Duration::ZERO), 0);
        assert_eq!(budget.available(Duration::from_millis(250)), BUDGET / 4);
        assert_eq!(budget.available(Duration::from_millis(100)), BUDGET / 4, "time that went back gives nothing");
        assert_eq!(budget.available(Duration::from_secs(3600)), BUDGET);
    }

    #[test]
    fn many_short_looks_refill_no_less_than_one_long_look() {
        let mut budget = Budget::new(Duration::ZERO);
        budget.take(BUDGET);
        for micros in 0..=10_000 {
            budget.available(Duration::from_micros(micros));
        }
        assert!(budget.available(Duration::from_millis(10)) >= BUDGET / 100 * 94 / 100);
    }
}
