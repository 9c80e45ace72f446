//! The short history of one container: pure.
//!
//! **Invariant:** never more than 100 entries, 256 KiB of text and 8 KiB per entry, whatever is pushed.

use std::collections::VecDeque;

/// Entries kept.
pub const ENTRIES: usize = 100;
/// Bytes of text kept.
pub const BYTES: usize = 256 * 1024;
/// Bytes of one entry, with the mark of a cut.
pub const LINE: usize = 8 * 1024;
/// Stands at the end of an entry that was cut.
const CUT: &str = " … (cut)";

/// Who wrote a line. Never leaves the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// From a stream, or read back from the database.
    Container,
    /// Written by the agent.
    Agent,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ring {
    entries: VecDeque<(Kind, String)>,
    bytes: usize,
    /// How many of the first entries came from the database.
    restored: usize,
    /// The database has nothing to add any more.
    settled: bool,
}

impl Ring {
    /// Appends a line and lets the oldest go.
    pub fn push(&mut self, kind: Kind, text: &str) {
        self.settled |= kind == Kind::Container;
        let text = cut(text, LINE);
        self.bytes += text.len();
        self.entries.push_back((kind, text));
        while self.entries.len() > ENTRIES || self.bytes > BYTES {
            self.pop();
        }
    }

    /// Puts the stored history before the agent lines that came earlier. Ignored once there were container lines, a
    /// clear, or an earlier restore. Restored lines count as the container's: their kind is not stored.
    pub fn restore(&mut self, lines: &[String]) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let later = std::mem::take(&mut self.entries);
        self.bytes = 0;
        for line in lines {
            self.push(Kind::Container, line);
        }
        self.restored = self.entries.len();
        for (kind, text) in later {
            self.push(kind, &text);
        }
    }

    /// Drops the restored lines: the Engine is about to replay its own, which would double them.
    pub fn drop_restored(&mut self) {
        for _ in 0..self.restored {
            self.pop();
        }
    }

    /// Empties it for good: a later restore is ignored.
    pub fn clear(&mut self) {
        *self = Ring { settled: true, ..Ring::default() };
    }

    /// The lines, oldest first.
    pub fn lines(&self) -> Vec<String> {
        self.entries.iter().map(|(_, text)| text.clone()).collect()
    }

    /// Whether there is no line of the container.
    pub fn only_agent(&self) -> bool {
        self.entries.iter().all(|(kind, _)| *kind == Kind::Agent)
    }

    fn pop(&mut self) {
        if let Some((_, text)) = self.entries.pop_front() {
            self.bytes -= text.len();
            self.restored = self.restored.saturating_sub(1);
        }
    }
}

/// `text` in at most `limit` bytes, a cut being marked.
pub fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(CUT.len()));
    format!("{}{CUT}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(of: &[&str]) -> Vec<String> {
        of.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn ten_thousand_agent_lines_leave_a_hundred_entries() {
        let mut ring = Ring::default();
        for n in 0..10_000 {
            ring.push(Kind::Agent, &n.to_string());
        }
        assert_eq!(ring.lines().len(), 100);
        assert_eq!(ring.lines()[0], "9900");
        assert!(ring.only_agent());
    }

    #[test]
    fn entries_of_both_kinds_count_against_the_same_hundred() {
        let mut ring = Ring::default();
        for n in 0..1000 {
            ring.push(if n % 3 == 0 { Kind::Agent } else { Kind::Container }, &n.to_string());
            assert!(ring.entries.len() <= ENTRIES);
        }
        assert!(!ring.only_agent());
    }

    #[test]
    fn long_lines_are_cut_at_a_character_and_the_bytes_are_bounded() {
        let mut ring = Ring::default();
        for _ in 0..200 {
            ring.push(Kind::Container, &"ö".repeat(10_000));
        }
        let lines = ring.lines();
        assert!(lines.iter().all(|line| line.len() <= LINE && line.ends_with("ö … (cut)")));
        assert!(lines.iter().map(String::len).sum::<usize>() <= BYTES);
        assert_eq!(lines.len(), BYTES / lines[0].len());
        assert_eq!(ring.bytes, lines.iter().map(String::len).sum::<usize>());
        ring.push(Kind::Container, &"x".repeat(LINE));
        assert_eq!(ring.lines().last().unwrap().len(), LINE, "exactly the limit is whole");
    }

    #[test]
    fn stored_history_comes_before_agent_lines_and_only_once() {
        let mut ring = Ring::default();
        ring.push(Kind::Agent, "starting");
        ring.restore(&texts(&["a", "b"]));
        ring.restore(&texts(&["z"]));
        assert_eq!(ring.lines(), ["a", "b", "starting"]);
        assert!(!ring.only_agent(), "what is read back counts as the container's");
    }

    #[test]
    fn stored_history_does_not_come_after_container_lines_or_a_clear() {
        let mut ring = Ring::default();
        ring.push(Kind::Container, "live");
        ring.restore(&texts(&["a"]));
        assert_eq!(ring.lines(), ["live"]);
        ring.clear();
        ring.restore(&texts(&["a"]));
        assert_eq!(ring.lines(), Vec::<String>::new());
        assert!(ring.only_agent());
    }

    #[test]
    fn a_replay_takes_the_place_of_restored_lines_alone() {
        let mut ring = Ring::default();
        ring.restore(&texts(&["a", "b"]));
        ring.push(Kind::Agent, "starting");
        ring.drop_restored();
        assert_eq!(ring.lines(), ["starting"]);
        ring.drop_restored();
        assert_eq!(ring.lines(), ["starting"]);
    }

    #[test]
    fn restored_lines_that_were_pushed_out_are_not_dropped_twice() {
        let mut ring = Ring::default();
        ring.restore(&texts(&["a", "b"]));
        for n in 0..99 {
            ring.push(Kind::Agent, &n.to_string());
        }
        ring.drop_restored();
        assert_eq!(ring.lines().len(), 99);
        assert_eq!(ring.lines()[0], "0");
    }
}
