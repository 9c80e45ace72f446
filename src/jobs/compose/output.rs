//! What a command says (`apps.md` 7.4, runner rules 1 and 2): cut into lines, shown on the app's log as far as that takes
//! them, and its end kept for the case that it fails. Knows nothing of processes.
//!
//! **Invariant:** taking in output never waits for whoever reads the log (S5), and what is kept is bounded.

use crate::docker::stream::LineSplitter;
use crate::os::child::Stream;
use std::collections::VecDeque;

/// Lines that say why a command failed.
const TAIL: usize = 25;
/// Bytes of such a line.
const TAIL_LINE: usize = 2000;
/// Lines that wait for the log.
const WAITING: usize = 4096;
/// Bytes of them; one line may be longer.
const WAITING_BYTES: usize = 1024 * 1024;
/// Bytes that the log takes at once; one line may be longer.
const PORTION: usize = 32 * 1024;
/// Compose deletes the line of a terminal, also where there is none.
const ERASE: &str = "\u{1b}[2K";

/// Where the lines go.
pub(super) trait Sink {
    /// Takes what `portion` gives, lines with LF between them; `false`, without asking for it, if that means to wait.
    fn offer(&mut self, portion: &mut dyn FnMut() -> String) -> bool;
    /// Takes it, whatever that takes.
    fn insist(&mut self, portion: String);
}

/// See the module.
pub(super) struct Output<S> {
    sink: S,
    /// The two streams are cut on their own, so that half a line of one never ends up in one of the other.
    out: LineSplitter,
    err: LineSplitter,
    lines: Lines,
}

/// What was said, and what of it waits.
#[derive(Debug, Default)]
struct Lines {
    waiting: VecDeque<String>,
    bytes: usize,
    tail: VecDeque<String>,
    dropped: usize,
}

impl<S: Sink> Output<S> {
    pub(super) fn new(sink: S) -> Output<S> {
        Output { sink, out: LineSplitter::default(), err: LineSplitter::default(), lines: Lines::default() }
    }

    /// Takes a piece of output.
    pub(super) fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let splitter = match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        };
        splitter.feed(bytes, |line| self.lines.push(line));
        while !self.lines.waiting.is_empty() && self.sink.offer(&mut || self.lines.portion()) {}
    }

    /// The command has ended: shows the rest, and returns the end of the output, as an error text has it.
    pub(super) fn finish(mut self) -> String {
        self.out.finish(|line| self.lines.push(line));
        self.err.finish(|line| self.lines.push(line));
        while !self.lines.waiting.is_empty() {
            self.sink.insist(self.lines.portion());
        }
        let dropped = (self.lines.dropped > 0).then(|| format!("({} output line(s) dropped)", self.lines.dropped));
        dropped.iter().for_each(|line| self.sink.insist(line.clone()));
        let tail = self.lines.tail.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
        dropped.iter().map(String::as_str).chain(tail).collect::<Vec<_>>().join("; ")
    }
}

impl Lines {
    fn push(&mut self, mut line: String) {
        while line.starts_with(ERASE) {
            line.drain(..ERASE.len());
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line[..line.floor_char_boundary(TAIL_LINE)].to_owned());
        if self.waiting.len() >= WAITING || (!self.waiting.is_empty() && self.bytes + line.len() > WAITING_BYTES) {
            self.dropped += 1;
        } else {
            self.bytes += line.len();
            self.waiting.push_back(line);
        }
    }

    /// What goes to the log next.
    fn portion(&mut self) -> String {
        let mut portion = self.waiting.pop_front().unwrap_or_default();
        self.bytes -= portion.len();
        while let Some(next) = self.waiting.pop_front_if(|next| portion.len() + next.len() < PORTION) {
            self.bytes -= next.len();
            portion.push('\n');
            portion.push_str(&next);
        }
        portion
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Takes portions while it has room; what it took.
    struct Log<'a> {
        room: usize,
        taken: &'a RefCell<Vec<String>>,
    }

    impl Sink for Log<'_> {
        fn offer(&mut self, portion: &mut dyn FnMut() -> String) -> bool {
            let takes = self.room > 0;
            if takes {
                self.room -= 1;
                self.insist(portion());
            }
            takes
        }

        fn insist(&mut self, portion: String) {
            self.taken.borrow_mut().push(portion);
        }
    }

    /// Lines on the log, and the end of the output.
    fn told(room: usize, pieces: &[(Stream, &[u8])]) -> (Vec<String>, String) {
        let taken = RefCell::default();
        let mut output = Output::new(Log { room, taken: &taken });
        pieces.iter().for_each(|(stream, bytes)| output.take(*stream, bytes));
        let tail = output.finish();
        (taken.take().iter().flat_map(|portion| portion.split('\n')).map(str::to_owned).collect(), tail)
    }

    #[test]
    fn both_streams_are_one_log_and_no_line_is_torn() {
        let pieces: [(Stream, &[u8]); 5] = [
            (Stream::Out, b"one\ntw"),
            (Stream::Err, b" Pulling web\r\nhalf"),
            (Stream::Out, b"o\n\n"),
            (Stream::Err, b" a line"),
            (Stream::Out, b"last"),
        ];
        let (log, tail) = told(100, &pieces);
        assert_eq!(log, ["one", " Pulling web", "two", "", "last", "half a line"]);
        assert_eq!(tail, "one; Pulling web; two; last; half a line");
    }

    #[test]
    fn the_deletion_of_a_terminals_line_is_not_shown() {
        let (log, _) = told(1, &[(Stream::Out, b"\x1b[2K\x1b[2Kweb  | hello \x1b[2K\n")]);
        assert_eq!(log, ["web  | hello \u{1b}[2K"], "elsewhere it is the app's own");
    }

    #[test]
    fn an_error_text_has_the_last_lines_and_each_of_them_is_cut() {
        let lines: String = (1..=30).map(|n| format!("line {n}\n")).collect();
        let (_, tail) = told(1, &[(Stream::Out, lines.as_bytes()), (Stream::Err, "ü".repeat(5000).as_bytes())]);
        assert!(tail.starts_with("line 7; line 8; "), "{tail}");
        assert!(tail.ends_with(&format!("; line 30; {}", "ü".repeat(1000))));
        assert_eq!(told(1, &[]).1, "");
    }

    #[test]
    fn s5_a_log_that_takes_nothing_holds_nothing_up_and_the_rest_is_counted() {
        let lines: String = (0..10_000).map(|n| format!("line {n}\n")).collect();
        let (log, tail) = told(0, &[(Stream::Out, lines.as_bytes())]);
        assert_eq!((log.len(), log[4095].as_str()), (4097, "line 4095"));
        assert_eq!(log[4096], "(5904 output line(s) dropped)");
        assert!(tail.starts_with("(5904 output line(s) dropped); line 9975; "), "{tail}");
    }

    #[test]
    fn s5_what_waits_is_bounded_in_bytes_too() {
        let flood = vec![b'x'; 10 * 1024 * 1024];
        let (log, tail) = told(0, &[(Stream::Out, &flood)]);
        assert!(log[..log.len() - 1].iter().map(String::len).sum::<usize>() <= 2 * 1024 * 1024);
        assert!(tail.starts_with("(9 output line(s) dropped); xxx"), "{}", &tail[..40]);
        let pieces: Vec<(Stream, &[u8])> = flood.chunks(16 * 1024).map(|piece| (Stream::Out, piece)).collect();
        let (log, _) = told(100, &pieces);
        assert_eq!(log.iter().map(String::len).sum::<usize>(), flood.len(), "a log that takes it gets all of it");
    }
}
