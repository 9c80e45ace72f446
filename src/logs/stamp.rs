//! The time stamps that the Engine puts before each of its records (`timestamps=1`): pure.
//!
//! A line over 16 KiB is several records to the Engine, so that further stamps stand in the middle of such a line, after
//! each 16 KiB of it. They are taken out; what looks like a stamp elsewhere is the container's text.

use crate::clock::Wall;

/// The longest record of the Engine, in bytes.
const RECORD: usize = 16 * 1024;
/// The longest stamp is `2006-01-02T15:04:05.000000000+07:00`.
const LONGEST: usize = 35;

/// A line as the container wrote it, and when the Engine got its first record. `None` for the rest of a line that was
/// split for its length.
pub fn take(mut line: String) -> (Option<Wall>, String) {
    let Some((stamp, length)) = leading(&line) else { return (None, line) };
    line.drain(..length);
    let mut at = RECORD;
    while let Some((_, length)) = line.get(at..).and_then(leading) {
        line.drain(at..at + length);
        at += RECORD;
    }
    (Some(stamp), line)
}

/// When the Engine got a line.
pub fn of(line: &str) -> Option<Wall> {
    leading(line).map(|(stamp, _)| stamp)
}

/// The stamp at the beginning of `text`, and its length with the blank behind it.
fn leading(text: &str) -> Option<(Wall, usize)> {
    let end = text.bytes().take(LONGEST + 1).position(|byte| byte == b' ')?;
    Some((Wall::parse(&text[..end])?, end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const S1: &str = "2026-08-04T09:05:00.000000001Z";
    const S2: &str = "2026-08-04T09:05:01.5+07:00";

    fn check(line: &str, stamp: &str, text: &str) {
        assert_eq!(take(line.to_owned()), (Wall::parse(stamp), text.to_owned()));
    }

    #[test]
    fn the_stamp_is_taken_off_and_all_else_stays() {
        check(&format!("{S1} one"), S1, "one");
        check(&format!("{S2}  two {S1} x"), S2, &format!(" two {S1} x"));
        check(&format!("{S1} "), S1, "");
        check(&format!("{S1} ä\r\u{1b}[2K"), S1, "ä\r\u{1b}[2K");
    }

    #[test]
    fn what_has_no_stamp_stays_whole() {
        for text in ["", " ", S1, "2026 x", "yesterday it was", " 2026-08-04T09:05:00Z x", "ääääääääääääääääääääää x"]
        {
            check(text, "", text);
        }
    }

    #[test]
    fn stamps_of_the_further_records_of_a_long_line_are_taken_out() {
        let (a, b) = ("a".repeat(RECORD), "b".repeat(RECORD));
        check(&format!("{S1} {a}{S2} {b}{S2} ccc"), S1, &format!("{a}{b}ccc"));
        check(&format!("{S1} {a}{S2} "), S1, &a);
        check(&format!("{S1} {a}"), S1, &a);
        check(&format!("{S1} {a}x{S2} b"), S1, &format!("{a}x{S2} b"));
        let umlauts = "ä".repeat(RECORD);
        check(&format!("{S1} x{umlauts}"), S1, &format!("x{umlauts}"));
    }
}
