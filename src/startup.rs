//! Start-up messages: milestones that the service journal shows (`wamp-and-rpc.md` 7.3).

use crate::os::console;
use std::io;

/// Where milestones go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milestones {
    /// Plain lines on standard output: the log goes to a file only.
    Plain,
    /// The log, at info level: with `-prettyLogging` it is on standard output already.
    Logged,
}

impl Milestones {
    /// Those of an agent with or without `-prettyLogging`.
    pub fn with_pretty_logging(pretty: bool) -> Milestones {
        if pretty { Milestones::Logged } else { Milestones::Plain }
    }

    /// Says one line. Never fails and never waits for a reader.
    pub fn say(self, text: &str) {
        match self {
            Milestones::Plain => {
                console::write_if_ready(io::stdout(), format!("{text}\n").as_bytes());
            }
            Milestones::Logged => log::info!("{text}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const CHILD: &str = "REAGENT_TEST_MILESTONES";

    #[test]
    fn a_plain_milestone_is_one_line_on_standard_output_and_a_logged_one_is_none() {
        if std::env::var_os(CHILD).is_some() {
            Milestones::with_pretty_logging(false).say("\nconnected to the router");
            Milestones::with_pretty_logging(true).say("\nhidden, since no log is installed");
            return;
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture"])
            .arg("startup::tests::a_plain_milestone_is_one_line_on_standard_output_and_a_logged_one_is_none")
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.lines().any(|line| line == "connected to the router"), "{text}");
        assert!(!text.contains("hidden"), "{text}");
    }
}
