//! Running programs for a project: `docker`, and compose in its flavours (`apps.md` 7.4, runner rules 1 to 6). Each run is a
//! process group of its own ([`child`]), ends by its limits or the job's token, and is drained whatever the log takes.
//!
//! The Engine is always the one that the agent itself talks to, whatever a context or a file of the machine says.

use super::files::Written;
use super::flavour::Compose;
use super::login::{CONFIG, Credentials};
use super::output::{Output, Sink};
use crate::cancel::Cancel;
use crate::docker;
use crate::domain::job::Project;
use crate::jobs::programs::Programs;
use crate::jobs::work::{Failure, Work};
use crate::logs::Feed;
use crate::os::child::{self, End, Limits};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// What moves images: as long as it says something it goes on (decision 29).
pub(super) const TRANSFER: Limits = Limits { total: None, quiet: Some(Duration::from_secs(2 * 60 * 60)) };
/// What takes away (decision 29).
pub(super) const TEARDOWN: Limits = Limits { total: Some(Duration::from_secs(10 * 60)), quiet: None };

/// Where the commands of a project are run, for one job.
pub(super) struct Cli<'a> {
    pub(super) programs: &'a Programs,
    pub(super) cancel: &'a Cancel,
    /// `DOCKER_HOST`
    pub(super) host: String,
    pub(super) credentials: Credentials,
}

impl<'a> Cli<'a> {
    /// For the commands of the project of this name.
    pub(super) fn of(work: &'a Work<'_>, project: &str) -> Result<Cli<'a>, Failure> {
        let (programs, agent_dir) = (&work.settings.programs, &work.settings.agent_dir);
        let credentials = Credentials::create(agent_dir, project, programs.docker_config())
            .map_err(|error| Failure::of(agent_dir.display(), error))?;
        Ok(Cli { programs, cancel: work.cancel, host: work.docker.address().to_string(), credentials })
    }

    /// A command that finds the Engine, and the credentials of this job.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = self.programs.command(program);
        command.env("DOCKER_HOST", &self.host).env(CONFIG, self.credentials.path());
        command
    }
}

/// A project whose commands can be run.
pub(super) struct Runner<'a> {
    pub(super) cli: Cli<'a>,
    pub(super) compose: Compose,
    pub(super) project: &'a Project,
    pub(super) files: Written,
    feed: &'a Feed,
}

impl<'a> Runner<'a> {
    /// `None` if there is no compose on the device. Writes the files of the project.
    pub(super) fn of(work: &'a Work<'_>, project: &'a Project) -> Result<Option<Runner<'a>>, Failure> {
        let cli = Cli::of(work, &project.name)?;
        let Some(compose) = work.compose_flavour(&cli)? else { return Ok(None) };
        let files = work.write_definition(project, compose)?;
        Ok(Some(Runner { cli, compose, project, files, feed: &work.settings.feed }))
    }

    /// Runs a subcommand with its arguments; what it says is on the app's log.
    ///
    /// # Errors
    /// The text of rule 2, or [`docker::Error::Cancelled`].
    pub(super) fn run(&self, arguments: &[&str], limits: Limits) -> Result<(), Failure> {
        let mut command = self.compose.command(&self.cli, &self.project.name);
        command.arg("-f").arg(&self.files.definition).args(arguments);
        let what = format!("docker compose {}", arguments.first().unwrap_or(&""));
        let log = OnLog { feed: self.feed, container: &self.project.container };
        watch(command, &what, limits, self.cli.cancel, log)
    }
}

/// Runs `command`, called `what` in errors, and shows what it says.
fn watch(command: Command, what: &str, limits: Limits, cancel: &Cancel, log: impl Sink) -> Result<(), Failure> {
    let mut output = Output::new(log);
    let end = child::run(command, b"", limits, cancel, |stream, bytes| output.take(stream, bytes));
    let tail = output.finish();
    let why = match end.map_err(|error| Failure::of(what, error))? {
        End::Exited(status) if status.success() => return Ok(()),
        End::Cancelled => return Err(docker::Error::Cancelled.into()),
        End::Exited(status) => exit_text(status),
        End::TimedOut => format!("it was not done after {}", minutes(limits.total)),
        End::Quiet => format!("it said nothing for {}", minutes(limits.quiet)),
    };
    let tail = if tail.is_empty() { tail } else { format!(": {tail}") };
    Err(Failure::Text(format!("{what} failed: {why}{tail}")))
}

pub(super) fn exit_text(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"))
}

fn minutes(limit: Option<Duration>) -> String {
    format!("{} minutes", limit.unwrap_or_default().as_secs() / 60)
}

/// The log of an app.
struct OnLog<'a> {
    feed: &'a Feed,
    container: &'a str,
}

impl Sink for OnLog<'_> {
    fn offer(&mut self, portion: &mut dyn FnMut() -> String) -> bool {
        self.feed.offer(self.container, portion)
    }

    fn insist(&mut self, portion: String) {
        self.feed.line(self.container, portion);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// Takes everything, and may cancel when it takes something.
    #[derive(Default, Clone)]
    struct Log(Rc<RefCell<Vec<String>>>, Cancel);

    impl Sink for Log {
        fn offer(&mut self, portion: &mut dyn FnMut() -> String) -> bool {
            self.insist(portion());
            true
        }

        fn insist(&mut self, portion: String) {
            self.0.borrow_mut().push(portion);
            self.1.cancel();
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn run(script: &str, limits: Limits) -> (Result<(), Failure>, Vec<String>) {
        let log = Log::default();
        let end = watch(shell(script), "docker compose up", limits, &Cancel::new(), log.clone());
        (end, log.0.take())
    }

    fn failed(text: &str) -> Result<(), Failure> {
        Err(Failure::Text(text.to_owned()))
    }

    #[test]
    fn a_command_that_succeeds_is_shown_and_one_that_fails_says_how_it_ended() {
        assert_eq!(run("echo ' web Pulling'; echo out >&2", TRANSFER).0, Ok(()));
        let (end, log) = run("echo ' one '; echo; echo 'Error: two' >&2; exit 3", TRANSFER);
        assert_eq!(log.join("\n").lines().count(), 3, "{log:?}");
        let Err(Failure::Text(text)) = end else { panic!("{end:?}") };
        assert!(text.starts_with("docker compose up failed: exit status 3: "), "{text}");
        assert!(text.contains("one") && text.contains("Error: two") && !text.contains(";;"), "{text}");
        assert_eq!(run("exit 1", TRANSFER).0, failed("docker compose up failed: exit status 1"));
        let (end, _) = run("kill -9 $$", TRANSFER);
        assert_eq!(end, failed("docker compose up failed: signal: 9 (SIGKILL)"));
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let end = watch(Command::new("/none"), "docker compose up", TRANSFER, &Cancel::new(), Log::default());
        assert!(matches!(&end, Err(Failure::Text(text)) if text.starts_with("docker compose up: ")), "{end:?}");
    }

    #[test]
    fn s4_a_command_that_hangs_and_ignores_term_is_cancelled_within_five_seconds() {
        let log = Log::default();
        let started = clock::mono();
        // A child holds the pipe, too, as the plugin of the docker command does.
        let script = "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo hangs; while :; do sleep 1; done";
        let end = watch(shell(script), "docker compose pull", TRANSFER, &log.1, log.clone());
        assert_eq!(end, Err(docker::Error::Cancelled.into()));
        let took = clock::mono().saturating_sub(started);
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn s4_a_command_that_says_nothing_for_too_long_has_failed() {
        let quiet = Limits { total: None, quiet: Some(Duration::from_millis(300)) };
        let (end, _) = run("echo before; sleep 100", quiet);
        assert_eq!(end, failed("docker compose up failed: it said nothing for 0 minutes: before"));
        let total = Limits { total: Some(Duration::from_millis(300)), quiet: None };
        let (end, _) = run("while :; do echo; sleep 0.05; done", total);
        assert_eq!(end, failed("docker compose up failed: it was not done after 0 minutes"));
        assert_eq!((TRANSFER.quiet, TEARDOWN.total), (Some(Duration::from_secs(7200)), Some(Duration::from_secs(600))));
    }

    #[test]
    fn s5_a_flood_without_line_ends_is_drained_to_the_end() {
        let (end, log) =
            run("head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo; echo done; exit 2", TRANSFER);
        let zeros = log.iter().flat_map(|portion| portion.bytes()).filter(|byte| *byte == 0).count();
        assert_eq!(zeros, 8_000_000, "both streams, and nothing is lost");
        assert!(matches!(end, Err(Failure::Text(text)) if text.contains("; done") && text.len() < 60_000));
    }
}
