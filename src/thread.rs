//! The only place where a thread is created.
//!
//! Every thread has a name that says its role (at most 15 bytes, what the kernel shows), an explicit stack and an exit
//! hook that runs on the thread itself, whether its body returned or panicked. Owners learn of the end as a message.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{Builder, JoinHandle};

/// Stack of a thread that does not argue for another size.
pub const STACK: usize = 256 * 1024;

/// How a thread ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// Its body returned.
    Done,
    /// Its body panicked, with this message.
    Panicked(String),
}

/// Starts a thread called `name` (cut to 15 bytes) with a [`STACK`] of 256 KiB. `on_exit` is called on the new thread
/// when `body` has returned or panicked.
///
/// # Errors
/// The system's error when no thread can be created (out of memory, thread limit).
pub fn spawn(
    name: &str,
    on_exit: impl FnOnce(Exit) + Send + 'static,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    spawn_with_stack(name, STACK, on_exit, body)
}

/// [`spawn`] with a stack of `stack` bytes.
///
/// # Errors
/// As [`spawn`].
pub fn spawn_with_stack(
    name: &str,
    stack: usize,
    on_exit: impl FnOnce(Exit) + Send + 'static,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // Names of apps come from outside, and the system's end at a NUL.
    let name = name.replace('\0', "");
    let end = (0..=name.len().min(15)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or(0);
    Builder::new().name(name[..end].to_owned()).stack_size(stack).spawn(move || {
        let exit = match catch_unwind(AssertUnwindSafe(body)) {
            Ok(()) => Exit::Done,
            Err(payload) => Exit::Panicked(panic_text(&*payload)),
        };
        on_exit(exit);
    })
}

/// The message of a caught panic.
pub fn panic_text(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_reports_how_it_ended() {
        let (ends, ended) = crossbeam_channel::bounded(2);
        let of_done = ends.clone();
        spawn("worker", move |exit| of_done.send(exit).unwrap(), || {}).unwrap().join().unwrap();
        assert_eq!(ended.recv().unwrap(), Exit::Done);
        spawn("worker", move |exit| ends.send(exit).unwrap(), || panic!("no {}", "luck")).unwrap().join().unwrap();
        assert_eq!(ended.recv().unwrap(), Exit::Panicked("no luck".to_owned()));
    }

    #[test]
    fn a_name_that_the_system_would_not_take_is_made_one() {
        let (told, name) = crossbeam_channel::bounded(1);
        let tell = move || told.send(std::thread::current().name().map(str::to_owned)).unwrap();
        spawn("log-prod_1_a\0b", |_| {}, tell).unwrap().join().unwrap();
        assert_eq!(name.recv().unwrap().as_deref(), Some("log-prod_1_ab"));
    }

    #[test]
    fn a_long_name_is_cut_at_a_character() {
        let (names, name) = crossbeam_channel::bounded(1);
        spawn("log-äöüäöüäöü", |_| {}, move || names.send(std::thread::current().name().unwrap().to_owned()).unwrap())
            .unwrap();
        assert_eq!(name.recv().unwrap(), "log-äöüäö");
    }
}
