//! Which compose there is (decision 18), and what each kind is called with.
//!
//! ```text
//! docker compose (2)  ->  docker-compose 2  ->  docker-compose 1.29, with -p and without the key `name`  ->  none
//! ```

use super::cli::Cli;
use crate::docker;
use crate::domain::compose::Dialect;
use crate::jobs::work::{Failure, Work};
use crate::os::child::{self, Collected, End, Limits};
use log::info;
use std::process::Command;
use std::time::Duration;

/// For a question about the version: 1.29 takes its time on a small board.
const ANSWER: Limits = Limits { total: Some(Duration::from_secs(30)), quiet: None };

/// A compose that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::jobs) struct Compose {
    /// A subcommand of `docker`.
    plugin: bool,
    major: u32,
    minor: u32,
}

impl Compose {
    /// A command, up to what the flavours have in common.
    pub(super) fn command(self, cli: &Cli<'_>, project: &str) -> Command {
        let mut command = cli.command(self.program());
        if self.plugin {
            command.arg("compose");
        }
        if self.dialect() == Dialect::V1 {
            command.arg("-p").arg(project);
        }
        command
    }

    fn program(self) -> &'static str {
        if self.plugin { "docker" } else { "docker-compose" }
    }

    /// Whether `pull --ignore-buildable` is understood.
    pub(super) fn ignores_buildable(self) -> bool {
        (self.major, self.minor) >= (2, 17)
    }

    /// How it builds: 1.29 leaves the container of a step that failed behind, unless it is told not to.
    pub(super) fn build(self) -> &'static [&'static str] {
        if self.major >= 2 { &["build"] } else { &["build", "--force-rm"] }
    }

    /// How it reads its files.
    pub(super) fn dialect(self) -> Dialect {
        if self.major >= 2 { Dialect::V2 } else { Dialect::V1 }
    }
}

impl Work<'_> {
    /// The compose of this device; looked for again each time while there is none.
    pub(super) fn compose_flavour(&self, cli: &Cli<'_>) -> Result<Option<Compose>, Failure> {
        if let Some(known) = self.compose.get() {
            return Ok(Some(*known));
        }
        for plugin in [true, false] {
            let mut command = cli.command(if plugin { "docker" } else { "docker-compose" });
            command.args(plugin.then_some("compose")).arg("version");
            if let Some((major, minor)) = version(command, cli)?
                && (major >= 2 || !plugin)
            {
                let found = Compose { plugin, major, minor };
                let kind = if plugin { "the compose plugin" } else { "docker-compose" };
                info!("compose apps run by {kind} {major}.{minor}");
                return Ok(Some(*self.compose.get_or_init(|| found)));
            }
        }
        Ok(None)
    }
}

/// What a command answers that is asked for its version; `None` if it is not there or does not answer.
fn version(command: Command, cli: &Cli<'_>) -> Result<Option<(u32, u32)>, Failure> {
    let mut said = Collected::new(4096);
    match child::run(command, b"", ANSWER, cli.cancel, |stream, bytes| said.take(stream, bytes)) {
        Ok(End::Cancelled) => Err(docker::Error::Cancelled.into()),
        Ok(End::Exited(status)) if status.success() => Ok(parse(&String::from_utf8_lossy(&said.stdout))),
        _ => Ok(None),
    }
}

/// The first number of version in a text such as `Docker Compose version v2.26.1-4`.
fn parse(text: &str) -> Option<(u32, u32)> {
    text.split([' ', ',', '\n', '\r']).find_map(|word| {
        let (major, rest) = word.strip_prefix('v').unwrap_or(word).split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_each_kind_answers() {
        assert_eq!(parse("Docker Compose version v2.26.1-4\n"), Some((2, 26)));
        assert_eq!(parse("Docker Compose version 5.0.1"), Some((5, 0)));
        let old = "docker-compose version 1.29.2, build unknown\ndocker-py version: 5.0.3\nCPython version: 3.11.2\n";
        assert_eq!(parse(old), Some((1, 29)));
        for none in ["", "Docker Compose version dev", "Usage: docker [OPTIONS]", "v2"] {
            assert_eq!(parse(none), None, "{none}");
        }
    }

    #[test]
    fn buildable_services_are_left_out_by_compose_itself_from_2_17_on() {
        let of = |major, minor| Compose { plugin: true, major, minor }.ignores_buildable();
        assert_eq!([of(1, 29), of(2, 16), of(2, 17), of(5, 0)], [false, false, true, true]);
    }
}
