//! What the service manager is told (systemd's protocol, sd_notify(3)): that the agent runs, how it is doing, that its
//! threads still work, that it ends.
//!
//! Started by something else the agent has no manager, and all of this is nothing: no socket, no thread, no wake-up.

pub mod status;
pub mod watchdog;

use crate::os::notify::{self, Notifier, SOCKET, Variable, WATCHDOG_PERIOD, WATCHDOG_PROCESS};
use std::sync::Arc;
use std::time::Duration;

pub use status::Status;

/// Longest text of a status, in bytes: it is shown in one line.
const TEXT: usize = 200;

/// The manager, if there is one. Clones lead to the same.
#[derive(Debug, Clone, Default)]
pub struct Service(Option<Arc<Manager>>);

#[derive(Debug)]
struct Manager {
    notifier: Notifier,
    watchdog: Option<Duration>,
    variables: Vec<Variable>,
}

impl Service {
    /// What the environment says, which forgets it. To be called before there is a second thread. The text is a warning for
    /// the log: the manager is not told anything then.
    pub fn take() -> (Service, Option<String>) {
        Service::new(notify::take_variables(), std::process::id())
    }

    fn new(variables: Vec<Variable>, process: u32) -> (Service, Option<String>) {
        let value = |name| variables.iter().find(|(named, _)| *named == name).map(|(_, value)| value);
        let Some(address) = value(SOCKET) else { return (Service::default(), None) };
        let notifier = match Notifier::open(address) {
            Ok(notifier) => notifier,
            Err(error) => {
                return (Service::default(), Some(format!("{SOCKET}={}: {error}", address.display())));
            }
        };
        let number = |name| value(name).map(|value| value.to_str().and_then(|text| text.parse::<u64>().ok()));
        // A period that was meant for another process: for the shell that has started this one.
        let is_ours = number(WATCHDOG_PROCESS).is_none_or(|pid| pid == Some(u64::from(process)));
        let (watchdog, warning) = match number(WATCHDOG_PERIOD) {
            Some(Some(period @ 1..)) if is_ours => (Some(Duration::from_micros(period)), None),
            None | Some(Some(1..)) => (None, None),
            _ => (None, Some(format!("{WATCHDOG_PERIOD} is no number of microseconds: there is no watchdog"))),
        };
        (Service(Some(Arc::new(Manager { notifier, watchdog, variables }))), warning)
    }

    /// Whether there is a manager.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// What the manager expects a sign of life within.
    pub fn watchdog(&self) -> Option<Duration> {
        self.0.as_ref().and_then(|manager| manager.watchdog)
    }

    /// What was taken out of the environment, for the same program in the same process.
    pub fn variables(&self) -> &[Variable] {
        self.0.as_ref().map_or(&[], |manager| &manager.variables)
    }

    /// The agent's threads run (S10: neither the network nor the engine is waited for). May take seconds.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// The agent ends, and why. May take seconds.
    pub fn stopping(&self, text: &str) {
        self.send(&format!("STOPPING=1\nSTATUS={}", line(text)));
    }

    /// A sign of life, for a manager that expects one. May take seconds.
    pub fn alive(&self) {
        if self.watchdog().is_some() {
            self.send("WATCHDOG=1");
        }
    }

    /// How the agent is doing. Never waits: `false` if the manager has no room for it.
    fn try_status(&self, text: &str) -> bool {
        let Some(manager) = &self.0 else { return true };
        manager.notifier.try_send(&format!("STATUS={}", line(text))).is_ok()
    }

    fn send(&self, message: &str) {
        if let Some(manager) = &self.0
            && let Err(error) = manager.notifier.send(message)
        {
            log::warn!("the service manager does not take {:?}: {error}", message.lines().next().unwrap_or_default());
        }
    }
}

/// One line of bounded length: a further one would be another message.
fn line(text: &str) -> String {
    let end = (0..=text.len().min(TEXT)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].replace(|letter: char| letter.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(variables: &[(&'static str, &str)]) -> (Service, Option<String>) {
        Service::new(variables.iter().map(|(name, value)| (*name, (*value).into())).collect(), 42)
    }

    #[test]
    fn without_a_socket_there_is_no_manager_and_every_message_is_nothing() {
        for variables in [&[][..], &[(WATCHDOG_PERIOD, "1000")]] {
            let (service, warning) = made(variables);
            assert!(!service.is_there() && service.watchdog().is_none() && warning.is_none());
            service.ready();
            service.alive();
            service.stopping("ends");
            assert!(service.try_status("fine"));
        }
        let (service, warning) = made(&[(SOCKET, "vsock:2:1")]);
        assert!(!service.is_there());
        assert!(warning.unwrap().contains("vsock:2:1"));
    }

    #[test]
    fn a_watchdog_is_meant_for_the_process_that_it_names_or_for_whoever_is_told_of_it() {
        let watchdog = |variables: &[(&'static str, &str)]| {
            let (service, warning) = made(&[&[(SOCKET, "@none")], variables].concat());
            assert!(service.is_there());
            (service.watchdog(), warning.is_some())
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(&[]), (None, false));
        assert_eq!(watchdog(&[(WATCHDOG_PERIOD, "1000000")]), (second, false));
        assert_eq!(watchdog(&[(WATCHDOG_PERIOD, "1000000"), (WATCHDOG_PROCESS, "42")]), (second, false));
        assert_eq!(watchdog(&[(WATCHDOG_PERIOD, "1000000"), (WATCHDOG_PROCESS, "41")]), (None, false));
        assert_eq!(watchdog(&[(WATCHDOG_PERIOD, "1000000"), (WATCHDOG_PROCESS, "x")]), (None, false));
        for odd in ["0", "-1", "1s", ""] {
            assert_eq!(watchdog(&[(WATCHDOG_PERIOD, odd)]), (None, true), "{odd}");
        }
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(line("lost: eof\nREADY=1\t\u{1b}"), "lost: eof READY=1  ");
        assert_eq!(line(&"ä".repeat(200)), "ä".repeat(100));
        assert_eq!(line(&format!("x{}", "ä".repeat(200))).len(), 199);
    }
}
