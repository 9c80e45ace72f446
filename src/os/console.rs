//! Standard output and error as something that may be stuck: a pipe that nobody reads must not stop the agent.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};

/// What a pipe takes at once when it says that it is writable.
const AT_ONCE: usize = 4096;

/// Writes `text` if that does not wait; else, or on any error, the rest is lost. Says whether all of it was written.
pub fn write_if_ready(to: impl AsFd, text: &[u8]) -> bool {
    let to = to.as_fd();
    let mut rest = text;
    while !rest.is_empty() {
        if !is_writable(to) {
            return false;
        }
        match rustix::io::write(to, &rest[..rest.len().min(AT_ONCE)]) {
            Ok(written @ 1..) => rest = &rest[written..],
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) | Err(_) => return false,
        }
    }
    true
}

fn is_writable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::OUT)];
    poll(&mut fds, Some(&Timespec::default())).is_ok_and(|ready| ready > 0) && fds[0].revents().contains(PollFlags::OUT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn a_pipe_that_nobody_reads_takes_its_capacity_and_then_loses() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let line = [b'x'; 5000];
        let written = (0..100).take_while(|_| write_if_ready(&writer, &line)).count();
        assert!((1..100).contains(&written), "{written} lines were taken");
        drop(writer);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        assert!(text.len() >= written * line.len());
    }

    #[test]
    fn a_pipe_whose_reader_is_gone_is_no_error() {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert!(!write_if_ready(&writer, b"text"));
    }
}
