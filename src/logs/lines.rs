//! Bytes of a log stream, cut anywhere, become lines with their time stamps: pure.
//!
//! The Engine puts a stamp and a blank before each of its records. A line over 16 KiB is several records to it, so that
//! further stamps stand in the middle of such a line, after each 16 KiB; they are taken out.
//!
//! **Invariant:** no line ends the stream: a line over 1 MiB is split, invalid UTF-8 becomes U+FFFD.

use crate::clock::Wall;

/// The longest line in bytes; the rest of a longer one is a line of its own.
pub const LONGEST: usize = 1024 * 1024;
/// The longest record of the Engine.
const RECORD: usize = 16 * 1024;
/// The longest stamp is `2006-01-02T15:04:05.000000000+07:00`, and a blank.
const STAMP: usize = 36;

/// A line without its end and without a trailing carriage return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When the Engine got its first record; `None` if that part was no stamp.
    pub stamp: Option<Wall>,
    /// The container's text.
    pub text: String,
}

/// Splits one pipe of one stream.
#[derive(Debug, Default)]
pub struct Lines {
    /// The text of the line that is not complete.
    text: Vec<u8>,
    stamp: Option<Wall>,
    /// Bytes that may be a stamp, not decided yet.
    prefix: Vec<u8>,
    /// Text bytes of the current record of the Engine; `None` before its stamp.
    record: Option<usize>,
}

impl Lines {
    /// Takes bytes in, and appends the lines that they complete to `out`.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<Line>) {
        while !bytes.is_empty() {
            bytes = match self.record {
                None => self.stamp(bytes),
                Some(done) => self.content(done, bytes, out),
            };
        }
    }

    /// The end of the stream: what is left is a line.
    pub fn end(&mut self, out: &mut Vec<Line>) {
        if self.record.is_none() {
            self.settle();
        }
        if !self.text.is_empty() {
            self.emit(out);
        }
        *self = Lines::default();
    }

    /// Collects bytes up to the blank behind a stamp, or until they cannot be one.
    fn stamp<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut used = 0;
        for &byte in bytes {
            if byte == b'\n' {
                // Nothing of this line may be taken for a stamp of the next.
                self.settle();
                return &bytes[used..];
            }
            used += 1;
            self.prefix.push(byte);
            if byte == b' ' || self.prefix.len() >= STAMP || !could_be_stamp(byte) {
                self.settle();
                break;
            }
        }
        &bytes[used..]
    }

    /// Decides what the collected bytes are.
    fn settle(&mut self) {
        let prefix = std::mem::take(&mut self.prefix);
        let stamp = std::str::from_utf8(&prefix).ok().and_then(|text| Wall::parse(text.trim_end_matches(' ')));
        let is_first = self.text.is_empty();
        if stamp.is_none() {
            self.text.extend_from_slice(&prefix);
        } else if is_first {
            self.stamp = stamp;
        }
        self.record = Some(if stamp.is_none() { prefix.len() } else { 0 });
    }

    fn content<'a>(&mut self, done: usize, bytes: &'a [u8], out: &mut Vec<Line>) -> &'a [u8] {
        let take = bytes.len().min(RECORD.saturating_sub(done).max(1)).min(LONGEST.saturating_sub(self.text.len()));
        if let Some(end) = bytes[..take].iter().position(|&byte| byte == b'\n') {
            self.text.extend_from_slice(&bytes[..end]);
            self.emit(out);
            self.record = None;
            return &bytes[end + 1..];
        }
        self.text.extend_from_slice(&bytes[..take]);
        self.record = if done + take >= RECORD { None } else { Some(done + take) };
        if self.text.len() >= LONGEST {
            let stamp = self.stamp;
            self.emit(out);
            self.stamp = stamp;
        }
        &bytes[take..]
    }

    fn emit(&mut self, out: &mut Vec<Line>) {
        out.push(Line { stamp: self.stamp.take(), text: text(&self.text) });
        self.text.clear();
        // A long line's memory is not kept for the short ones behind it.
        self.text.shrink_to(RECORD);
    }
}

/// One line's bytes as text: one trailing carriage return goes, invalid UTF-8 becomes U+FFFD, all else stays.
pub fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

fn could_be_stamp(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'.' | b'+' | b'T' | b'Z' | b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    const S1: &str = "2026-08-04T09:05:00.000000001Z";
    const S2: &str = "2026-08-04T09:05:01.500000000Z";

    fn split(bytes: &[u8], at: usize) -> Vec<Line> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        lines.push(&bytes[..at], &mut out);
        lines.push(&bytes[at..], &mut out);
        lines.end(&mut out);
        out
    }

    fn line(stamp: &str, text: &str) -> Line {
        Line { stamp: Wall::parse(stamp), text: text.to_owned() }
    }

    #[test]
    fn every_split_of_a_stream_gives_the_same_lines() {
        let bytes = format!("{S1} one\r\n{S2} \n{S1}  two\r three\r\r\n2026 no stamp\n\n{S2} äöü\u{1b}[2K\nrest");
        let expected = [
            line(S1, "one"),
            line(S2, ""),
            line(S1, " two\r three\r"),
            line("", "2026 no stamp"),
            line("", ""),
            line(S2, "äöü\u{1b}[2K"),
            line("", "rest"),
        ];
        for at in 0..=bytes.len() {
            assert_eq!(split(bytes.as_bytes(), at), expected, "split at {at}");
        }
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        bytes.bytes().for_each(|byte| lines.push(&[byte], &mut out));
        lines.end(&mut out);
        assert_eq!(out, expected);
    }

    #[test]
    fn invalid_utf_8_is_replaced() {
        assert_eq!(split(b"2026-08-04T09:05:00Z a\xff\xc3b\n\xfe", 3)[0].text, "a\u{fffd}\u{fffd}b");
        assert_eq!(split(b"\xfe", 0)[0].text, "\u{fffd}");
    }

    #[test]
    fn s5_a_line_over_a_mebibyte_is_split_and_the_stream_goes_on() {
        let bytes = [vec![b'x'; LONGEST * 2 + 5], b"\nnext\n".to_vec()].concat();
        for at in [0, 1, RECORD, LONGEST - 1, LONGEST, LONGEST + 1, bytes.len() - 3] {
            let lengths: Vec<usize> = split(&bytes, at).iter().map(|line| line.text.len()).collect();
            assert_eq!(lengths, [LONGEST, LONGEST, 5, 4], "split at {at}");
        }
    }

    #[test]
    fn stamps_of_the_further_records_of_a_long_line_are_taken_out() {
        let (a, b) = ("a".repeat(RECORD), "b".repeat(RECORD));
        let bytes = format!("{S1} {a}{S2} {b}{S2} ccc\n{S2} next\n{S1} {a}{S2} \n");
        let expected = [line(S1, &format!("{a}{b}ccc")), line(S2, "next"), line(S1, &a)];
        for at in (0..bytes.len()).step_by(1009) {
            assert_eq!(split(bytes.as_bytes(), at), expected, "split at {at}");
        }
    }

    #[test]
    fn a_stamp_inside_a_short_line_is_text() {
        let text = format!("hello {S2} world");
        assert_eq!(split(format!("{S1} {text}\n").as_bytes(), 10), [line(S1, &text)]);
    }

    #[test]
    fn the_end_in_the_middle_of_anything_loses_no_text() {
        let bytes = format!("{S1} text");
        for end in 0..=bytes.len() {
            let texts: Vec<String> = split(&bytes.as_bytes()[..end], 0).into_iter().map(|line| line.text).collect();
            let expected: &[&str] = match end {
                0 | 30 | 31 => &[],
                1..20 | 21..30 => &[&bytes[..end]],
                20 => &[&bytes[..end]],
                _ => &[&bytes[31..end]],
            };
            assert_eq!(texts, expected, "{end} bytes");
        }
    }
}
