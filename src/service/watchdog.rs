//! The thread `watchdog`: it gives the manager its signs of life, as long as every thread of the agent gives one itself.
//!
//! At half of the manager's period it asks the state thread, which passes the question on (see [`crate::probe`]); when all
//! have answered, the manager is told. A thread that is stuck gives no answer, so the manager hears nothing, ends the
//! process and starts it again. There is no such thread where nobody expects a sign of life.
//!
//! **Invariant:** only what the agent does itself counts. A router, an engine or a job that takes long is no reason to end
//! the process: whoever waits for one of them answers, or has its answer given for it.

use super::Service;
use crate::clock;
use crate::probe::{Probe, Round};
use crate::thread::{self, Exit};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use std::io;
use std::time::Duration;

/// Holds the thread, which ends when this is dropped; it is not waited for.
#[derive(Debug)]
pub struct Handle(#[expect(dead_code, reason = "its end is the message")] Sender<()>);

/// Starts the thread for a manager that expects signs of life; `None` for any other. Questions are put to `inbox`, wrapped
/// by `wrap`.
///
/// # Errors
/// The system's, when no thread can be created.
pub fn spawn<T: Send + 'static>(
    service: &Service,
    inbox: Sender<T>,
    wrap: fn(Probe) -> T,
    on_exit: impl FnOnce(Exit) + Send + 'static,
) -> io::Result<Option<Handle>> {
    let Some(period) = service.watchdog() else { return Ok(None) };
    let (handle, stopped) = bounded(0);
    let watchdog = Watchdog { service: service.clone(), half: period / 2, inbox, wrap, stopped };
    thread::spawn("watchdog", on_exit, move || watchdog.run())?;
    Ok(Some(Handle(handle)))
}

struct Watchdog<T> {
    service: Service,
    half: Duration,
    inbox: Sender<T>,
    wrap: fn(Probe) -> T,
    /// Disconnects when the thread has to end; nothing is ever sent.
    stopped: Receiver<()>,
}

impl<T> Watchdog<T> {
    fn run(self) {
        while self.stopped.recv_timeout(self.half) == Err(RecvTimeoutError::Timeout) {
            let asked = clock::mono();
            if self.ask().is_none() {
                return;
            }
            self.service.alive();
            let took = clock::mono().saturating_sub(asked);
            if took >= self.half {
                log::warn!("every thread has answered, after {} ms; the service manager is told", took.as_millis());
            }
        }
    }

    /// Comes back when every thread has answered; `None` when nobody is left to be asked.
    fn ask(&self) -> Option<()> {
        let (probe, mut round) = Round::begin("state");
        let mut question = (self.wrap)(probe);
        loop {
            match self.inbox.send_timeout(question, self.half) {
                Ok(()) => break,
                Err(SendTimeoutError::Disconnected(_)) => return None,
                Err(SendTimeoutError::Timeout(again)) => {
                    self.complain("state, whose inbox is full");
                    question = again;
                }
            }
        }
        while !round.is_answered_within(self.half) {
            self.complain(&round.silent().collect::<Vec<_>>().join(", "));
        }
        Some(())
    }

    fn complain(&self, silent: &str) {
        log::error!(
            "no answer within {} ms from: {silent}. The service manager is not told that the agent works, and will start \
             it again",
            self.half.as_millis()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::notify::{SOCKET, WATCHDOG_PERIOD};
    use crate::os::scratch::Scratch;
    use std::os::unix::net::UnixDatagram;

    const LIMIT: Duration = Duration::from_secs(20);

    struct Bench {
        manager: UnixDatagram,
        questions: Receiver<Probe>,
        exit: Receiver<Exit>,
        handle: Option<Handle>,
        _scratch: Scratch,
    }

    /// A watchdog whose manager expects a sign of life within 20 ms. The inbox takes one question.
    fn bench() -> Bench {
        let scratch = Scratch::new();
        let path = scratch.join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(LIMIT)).unwrap();
        let variables = vec![(SOCKET, path.into_os_string()), (WATCHDOG_PERIOD, "20000".into())];
        let (service, _) = Service::new(variables, 1);
        let (inbox, questions) = bounded(1);
        let (ends, exit) = bounded(1);
        let handle = spawn(&service, inbox, |probe| probe, move |exit| drop(ends.send(exit))).unwrap();
        Bench { manager, questions, exit, handle, _scratch: scratch }
    }

    impl Bench {
        fn question(&self) -> Probe {
            self.questions.recv_timeout(LIMIT).unwrap()
        }

        /// A sign of life; waits for it.
        fn sign(&self) -> bool {
            let mut message = [0; 64];
            let length = self.manager.recv(&mut message).unwrap();
            message[..length] == *b"WATCHDOG=1"
        }

        /// Whether no sign comes for several periods: while a question is open there is no event to wait for.
        fn is_silent(&self) -> bool {
            self.manager.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            let silent = self.manager.recv(&mut [0; 64]).is_err();
            self.manager.set_read_timeout(Some(LIMIT)).unwrap();
            silent
        }
    }

    #[test]
    fn every_answered_round_is_one_sign_of_life() {
        let bench = bench();
        for _ in 0..3 {
            let probe = bench.question();
            let (wamp, logs) = (probe.to("wamp"), probe.to("logs"));
            drop((probe, wamp, logs));
            assert!(bench.sign());
        }
    }

    #[test]
    fn one_thread_that_does_not_answer_stops_the_signs_and_its_answer_brings_them_back() {
        for stuck in ["state", "wamp"] {
            let bench = bench();
            drop(bench.question());
            assert!(bench.sign());
            let probe = bench.question();
            // The state thread itself, or one to which it has passed the question on.
            let kept = if stuck == "state" { probe.clone() } else { probe.to(stuck) };
            drop(probe);
            assert!(bench.is_silent(), "{stuck}");
            assert!(bench.questions.is_empty(), "there is one question at a time");
            drop(kept);
            assert!(bench.sign(), "{stuck}");
        }
    }

    #[test]
    fn an_inbox_that_stays_full_stops_the_signs() {
        let bench = bench();
        // The question waits in the inbox; nobody takes it out.
        assert!(bench.is_silent());
        drop(bench.question());
        assert!(bench.sign());
    }

    #[test]
    fn it_ends_with_its_handle_and_with_the_state_thread() {
        let mut dropped = bench();
        dropped.handle = None;
        assert_eq!(dropped.exit.recv_timeout(LIMIT), Ok(Exit::Done));
        let Bench { questions, exit, handle: _handle, .. } = bench();
        drop(questions);
        assert_eq!(exit.recv_timeout(LIMIT), Ok(Exit::Done));
    }

    #[test]
    fn nobody_is_asked_where_nobody_expects_a_sign() {
        let (inbox, _questions) = bounded::<Probe>(1);
        let handle = spawn(&Service::default(), inbox, |probe| probe, |_| panic!("there was a thread")).unwrap();
        assert!(handle.is_none());
    }
}
