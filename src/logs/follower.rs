//! The threads `log-<name>` and `log-list`: one blocks on a container's log stream and hands its lines to the hub, the other
//! lists a project's containers for it.
//!
//! They are dumb: one opens once, reads to the end and tells how it ended; whether another stream follows is decided in
//! `follow`. It waits for the Engine (ended by its [`Cancel`]) and for a credit of the hub (ended by the same stop).

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select};

use super::actor::Message;
use super::follow::End;
use super::source::{Heard, Source};
use super::streams::{Stream, Task};
use crate::cancel::Cancel;
use crate::thread::{self, Exit};

/// Bytes of lines that are handed over in one message; one line may be longer.
const TOGETHER: usize = 32 * 1024;
/// Of its stack. There may be many followers, and one was seen to use 28 KiB of it (40 without optimisation).
const STACK: usize = 128 * 1024;

/// A running follower. Stopping does not wait; the thread tells its end with [`Message::Ended`].
#[derive(Debug)]
pub struct Follower {
    cancel: Cancel,
    /// Dropped to end a wait for a credit.
    go: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    /// Also when the hub panics: what is started in its place must find no second stream.
    fn drop(&mut self) {
        self.stop();
    }
}

/// What the hub gives a follower to talk back.
#[derive(Debug, Clone)]
pub struct ToHub {
    /// The hub's queue.
    pub inbox: Sender<Message>,
    /// A credit per message of lines.
    pub credits: Sender<()>,
}

impl Follower {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system's, when no thread can be created.
    pub fn start(source: Source, stream: Stream, task: Task, hub: ToHub) -> io::Result<Follower> {
        let cancel = Cancel::new();
        let (go, stopped) = crossbeam_channel::bounded(0);
        let (result, outcome) = crossbeam_channel::bounded(1);
        let name = match &task {
            Task::Follow { container, .. } => format!("log-{container}"),
            Task::List { .. } => "log-list".to_owned(),
        };
        let (of_exit, inbox) = (stream.clone(), hub.inbox.clone());
        let of_body = cancel.clone();
        let thread = thread::spawn_with_stack(
            &name,
            STACK,
            move |exit| {
                let end = match exit {
                    Exit::Done => outcome.try_recv().unwrap_or(End::Eof),
                    Exit::Panicked(text) => End::Broken(format!("the follower panicked: {text}")),
                };
                drop(inbox.send(Message::Ended(of_exit, end)));
            },
            move || drop(result.send(run(&source, &stream, &task, &of_body, &hub, &stopped))),
        )?;
        Ok(Follower { cancel, go: Some(go), thread: Some(thread) })
    }

    /// Ends the stream, soon.
    pub fn stop(&mut self) {
        self.go = None;
        self.cancel.cancel();
    }

    /// After [`Message::Ended`]: the thread has nothing left to do but to vanish.
    pub fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            // Its panic was caught and told as its end.
            thread.join().unwrap_or_default();
        }
    }
}

fn run(source: &Source, stream: &Stream, task: &Task, cancel: &Cancel, hub: &ToHub, stopped: &Receiver<()>) -> End {
    let (container, from) = match task {
        Task::Follow { container, from } => (container, from),
        Task::List { project, known } => {
            return (source.list)(project, known, cancel).map_or_else(End::Refused, End::Listed);
        }
    };
    let mut next = match (source.open)(container, from.start, cancel) {
        Ok(next) => next,
        Err(error) => return End::Refused(error),
    };
    loop {
        let (mut lines, mut bytes, mut wait) = (Vec::new(), 0, from.quiet);
        // What came together is handed over together.
        let end = loop {
            match next(wait) {
                Heard::Line(line) => {
                    bytes += line.len();
                    lines.push(line);
                    wait = Duration::ZERO;
                    if bytes >= TOGETHER {
                        break None;
                    }
                }
                Heard::Nothing => break lines.is_empty().then_some(End::Quiet),
                Heard::End => break Some(End::Eof),
                Heard::Exited { code, run } => break Some(End::Exited { code, run }),
                Heard::Broken(reason) => break Some(End::Broken(reason)),
            }
        };
        if !hand_over(stream, lines, hub, stopped) {
            return End::Eof;
        }
        if let Some(end) = end {
            return end;
        }
    }
}

/// `false` if the follower is to stop.
fn hand_over(stream: &Stream, lines: Vec<String>, hub: &ToHub, stopped: &Receiver<()>) -> bool {
    if lines.is_empty() {
        return true;
    }
    select! {
        send(hub.credits, ()) -> sent => {
            sent.is_ok() && hub.inbox.send(Message::Lines(stream.clone(), lines)).is_ok()
        }
        recv(stopped) -> _ => false,
    }
}
