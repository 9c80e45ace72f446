//! Reboot, power-off and restart of the agent by request (`network-system-update.md` D.1).
//!
//! The caller is answered at once; 2 s later the agent ends as for a signal, session and database closed, and only then is
//! done what was asked for. What the machine cannot do is refused before the answer.

use super::State;
use super::message::{Effect, Level};
use super::timers::Timer;
use std::fmt;
use std::time::Duration;

/// From the answer to the end: long enough for the answer to reach its caller.
const DELAY: Duration = Duration::from_secs(2);

/// What the machine can do, as it was found at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Means {
    /// There is a program `reboot`.
    pub reboot: bool,
    /// There is a program `poweroff`.
    pub poweroff: bool,
    /// Who starts the agent again; `None`: nobody.
    pub supervisor: Option<Supervisor>,
}

/// Who starts the agent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supervisor {
    /// Whoever watches the process (launcher, manager script, respawn entry): its end is enough.
    Parent,
    /// systemd, by order: an end alone would be taken for what somebody wants.
    Systemd,
}

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// The machine starts anew.
    Reboot,
    /// The machine goes off.
    Off,
    /// The agent starts anew.
    Restart(Supervisor),
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Power::Reboot => "a reboot",
            Power::Off => "a power-off",
            Power::Restart(_) => "a restart of the agent",
        })
    }
}

impl State {
    /// `system_reboot`.
    ///
    /// # Errors
    /// The text for the caller: the machine has no means, or something else is about to happen.
    pub fn reboot(&mut self) -> Result<(), String> {
        if !self.device.means.reboot {
            return Err(missing("reboot"));
        }
        self.plan(Power::Reboot)
    }

    /// `system_shutdown`.
    ///
    /// # Errors
    /// As [`State::reboot`].
    pub fn power_off(&mut self) -> Result<(), String> {
        if !self.device.means.poweroff {
            return Err(missing("poweroff"));
        }
        self.plan(Power::Off)
    }

    /// `system_restart_agent`.
    ///
    /// # Errors
    /// As [`State::reboot`].
    pub fn restart_agent(&mut self) -> Result<(), String> {
        match self.device.means.supervisor {
            Some(supervisor) => self.plan(Power::Restart(supervisor)),
            None => Err("no supervisor: nothing would start the agent again".to_owned()),
        }
    }

    /// Asked for again it is the same request; asked for something else, the first one stands.
    fn plan(&mut self, power: Power) -> Result<(), String> {
        match self.power {
            Some(planned) if planned == power => Ok(()),
            Some(planned) => Err(format!("{planned} is about to happen already")),
            None => {
                self.note(Level::Info, format!("{power} was asked for"));
                self.power = Some(power);
                self.timers.set(Timer::Power, self.now.mono + DELAY);
                Ok(())
            }
        }
    }

    /// The agent was told to end by a signal: whoever sent that wants nothing else to happen.
    pub(super) fn call_off(&mut self) {
        if let Some(power) = self.power.take() {
            self.note(Level::Warn, format!("{power} is called off by the signal"));
        }
    }

    /// Ends the process, with what was planned.
    pub(super) fn exit(&mut self) {
        let (code, then) = match self.power {
            None => (0, None),
            Some(Power::Restart(Supervisor::Parent)) => (1, None),
            Some(power) => (0, Some(power)),
        };
        self.effect(Effect::Exit { code, line: None, then });
    }
}

fn missing(program: &str) -> String {
    format!("{program}: this device has no such program")
}
