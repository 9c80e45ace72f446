//! A question whether threads still work: it goes through a thread's own queue and is answered by whoever takes it out.
//!
//! A thread that is stuck leaves its question in the queue; one that waits for something to do takes it at once, and one
//! that has ended has dropped its queue and the question with it. Nothing runs for it while nobody asks.

use crate::clock;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A question to one thread. Dropping it is the answer; of clones, the last one.
#[derive(Clone)]
pub struct Probe(Arc<Question>);

struct Question {
    thread: &'static str,
    said: Sender<Said>,
}

#[derive(Debug)]
enum Said {
    Asked(&'static str),
    Answered(&'static str),
}

impl Probe {
    /// Answers it, as dropping it does.
    pub fn answer(self) {}

    /// The same question to another thread.
    pub fn to(&self, thread: &'static str) -> Probe {
        // Without a receiver nobody waits for the answers.
        let _ = self.0.said.send(Said::Asked(thread));
        Probe(Arc::new(Question { thread, said: self.0.said.clone() }))
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        let _ = self.said.send(Said::Answered(self.thread));
    }
}

impl PartialEq for Probe {
    fn eq(&self, other: &Probe) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Probe").field(&self.0.thread).finish()
    }
}

/// The answers to a question and to all that were made of it.
#[derive(Debug)]
pub struct Round {
    said: Receiver<Said>,
    silent: BTreeSet<&'static str>,
}

impl Round {
    /// A question to the first thread, which may pass it on.
    pub fn begin(thread: &'static str) -> (Probe, Round) {
        let (sender, said) = unbounded();
        let silent = BTreeSet::from([thread]);
        (Probe(Arc::new(Question { thread, said: sender })), Round { said, silent })
    }

    /// Waits until everybody has answered, at most for `limit`; whether that is so.
    pub fn is_answered_within(&mut self, limit: Duration) -> bool {
        let until = clock::mono().saturating_add(limit);
        loop {
            match self.said.recv_timeout(until.saturating_sub(clock::mono())) {
                Ok(Said::Asked(thread)) => drop(self.silent.insert(thread)),
                Ok(Said::Answered(thread)) => drop(self.silent.remove(thread)),
                // Every question holds a sender: there is none left.
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }

    /// Who has not answered.
    pub fn silent(&self) -> impl Iterator<Item = &'static str> {
        self.silent.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_round_is_answered_when_everybody_who_was_asked_has_let_go_of_the_question() {
        let (probe, mut round) = Round::begin("state");
        let (queue, stuck) = unbounded();
        queue.send(probe.to("wamp")).unwrap();
        queue.send(probe.to("logs")).unwrap();
        drop(probe);
        assert!(!round.is_answered_within(Duration::ZERO));
        assert_eq!(round.silent().collect::<Vec<_>>(), ["logs", "wamp"]);
        drop(stuck.recv().unwrap());
        assert!(!round.is_answered_within(Duration::ZERO));
        assert_eq!(round.silent().collect::<Vec<_>>(), ["logs"]);
        // A thread that ends drops its queue.
        drop(stuck);
        assert!(round.is_answered_within(LIMIT));
        assert_eq!(round.silent().count(), 0);
    }

    #[test]
    fn a_question_to_a_thread_that_has_ended_is_answered_at_once() {
        let (probe, mut round) = Round::begin("state");
        let (queue, ended) = unbounded();
        drop(ended);
        drop(queue.send(probe.to("wamp")));
        drop(probe);
        assert!(round.is_answered_within(LIMIT));
    }

    #[test]
    fn a_copy_is_the_same_question() {
        let (probe, mut round) = Round::begin("state");
        let copy = probe.clone();
        assert!(copy == probe && copy != probe.to("state"));
        drop(probe);
        assert!(!round.is_answered_within(Duration::ZERO));
        drop(copy);
        assert!(round.is_answered_within(LIMIT));
    }
}
