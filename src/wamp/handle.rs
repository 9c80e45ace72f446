//! What others hold of the client: the way in for commands, the bulk lane, and the way to end it.

use crate::cancel::Cancel;
use crate::net::proxy::Variables;
use crate::thread::{self, Exit};
use crate::wamp::lane::{BUDGET, Bulk, Outlet};
use crate::wamp::run::Runner;
use crate::wamp::{Command, Event, Settings};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::io;
use std::time::Duration;

/// TLS handshakes and JSON of large messages run on it.
const STACK: usize = 512 * 1024;
/// GOODBYE and the wait for its answer fit into this, unless the socket hangs.
const GOODBYE: Duration = Duration::from_millis(5500);
/// After the socket was shut down from outside.
const FORCED: Duration = Duration::from_secs(2);

/// See the module. Clones lead to the same client; it ends with [`Handle::stop`] or with the last clone.
#[derive(Debug, Clone)]
pub struct Handle {
    commands: Sender<Command>,
    bulk: Bulk,
    cancel: Cancel,
    done: Receiver<()>,
}

/// Starts the client; it dials at once, through the proxy that this process's environment names for the endpoint. Events
/// are sent to `events` as `wrap` makes them; the client does not wait for room there. `on_exit` runs on the `wamp` thread
/// when it ends.
///
/// # Errors
/// The system's error when no thread can be created.
pub fn spawn<T: Send + 'static>(
    settings: Settings,
    events: Sender<T>,
    wrap: fn(Event) -> T,
    on_exit: impl FnOnce(Exit) + Send + 'static,
) -> io::Result<Handle> {
    // Nothing changes the environment of a running process.
    let variables = Variables::read(|name| std::env::var(name).ok());
    spawn_with(settings, variables, events, wrap, on_exit)
}

/// [`spawn`] with the proxies of another environment.
pub(super) fn spawn_with<T: Send + 'static>(
    settings: Settings,
    variables: Variables,
    events: Sender<T>,
    wrap: fn(Event) -> T,
    on_exit: impl FnOnce(Exit) + Send + 'static,
) -> io::Result<Handle> {
    let (commands, inbox) = unbounded();
    let (ending, done) = bounded(0);
    let handle = Handle { commands, bulk: Bulk::new(BUDGET), cancel: Cancel::new(), done };
    let (bulk, cancel) = (Outlet::new(handle.bulk.clone()), handle.cancel.clone());
    let on_exit = move |exit| {
        on_exit(exit);
        drop(ending);
    };
    let body = move || Runner::new(settings, inbox, bulk, events, wrap, cancel, variables).run();
    thread::spawn_with_stack("wamp", STACK, on_exit, body)?;
    Ok(handle)
}

impl Handle {
    /// Sends a command. Never blocks; after the end of the thread it does nothing.
    pub fn send(&self, command: Command) {
        let _ = self.commands.send(command);
    }

    /// The lane for logs and terminal output.
    pub fn bulk(&self) -> Bulk {
        self.bulk.clone()
    }

    /// Takes leave of the router and ends the thread, within 8 s whatever the network does; usually at once. Returns
    /// whether the thread has ended.
    pub fn stop(self) -> bool {
        self.send(Command::Stop);
        let ended = |limit| self.done.recv_timeout(limit) == Err(RecvTimeoutError::Disconnected);
        ended(GOODBYE) || {
            self.cancel.cancel();
            ended(FORCED)
        }
    }
}
