//! A token with which one thread ends the blocking work of another.
//!
//! The worker registers what unblocks it (shutting its socket down, signalling its process group) as a closer; `cancel`
//! runs it, now or as soon as it is registered. Whoever holds a clone may cancel, any number of times.

#![expect(
    clippy::disallowed_types,
    reason = "the one lock outside os/: a closer is registered and run by different threads"
)]

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Closer = Box<dyn FnMut() + Send>;

/// See the module. Clones are the same token.
#[derive(Clone, Default)]
pub struct Cancel(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cancelled: AtomicBool,
    closer: Mutex<Option<Closer>>,
}

impl Cancel {
    /// A token that nobody has cancelled.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Marks the token and runs the closer of the moment. Never blocks for long: closers only signal.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        if let Some(closer) = self.closer().as_mut() {
            closer();
        }
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::SeqCst)
    }

    /// Registers what unblocks the current work, in place of any other closer; runs it at once if the token is
    /// cancelled already. The closer goes with the guard.
    #[must_use = "the closer is removed when the guard is dropped"]
    pub fn on_cancel(&self, closer: impl FnMut() + Send + 'static) -> Guard {
        let mut slot = self.closer();
        let closer = slot.insert(Box::new(closer));
        if self.is_cancelled() {
            closer();
        }
        drop(slot);
        Guard(self.clone())
    }

    fn closer(&self) -> std::sync::MutexGuard<'_, Option<Closer>> {
        self.0.closer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

/// Keeps a closer registered.
#[derive(Debug)]
pub struct Guard(Cancel);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.closer() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_closer_runs_on_cancel_or_at_once_and_not_after_its_guard() {
        let runs = Arc::new(AtomicUsize::new(0));
        let count = || {
            let runs = runs.clone();
            move || {
                runs.fetch_add(1, Ordering::SeqCst);
            }
        };
        let token = Cancel::new();
        drop(token.on_cancel(count()));
        let guard = token.on_cancel(count());
        assert!(!token.is_cancelled());
        token.clone().cancel();
        assert!(token.is_cancelled());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        drop(guard);
        let _late = token.on_cancel(count());
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
}
