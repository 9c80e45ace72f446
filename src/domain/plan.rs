//! What an [`Action`] does: the list of steps, for plain and compose apps, in development and production (apps chapter 3).

use super::app::{AppState, Stage};
use super::transition::Action;

/// One thing to do. Steps that name a job wait for it; the rest happens at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Set, store and report a state.
    Report(AppState),
    /// Write a line to the app's log.
    Say(Line),
    /// Clear the view of whoever watches the log.
    ClearRemote,
    /// Forget the stored log.
    ClearHistory,
    /// From here on the log is that of a release build.
    UsePublishLog,
    /// Reports say from here on what the build is for (2.6).
    BuildFor(Purpose),
    /// Ask the backend for a registry token.
    Token,
    /// Job: there has to be a compose on the device.
    NeedCompose,
    /// Job: pull the image of a version, or the images of a definition; once the engine has accepted it, report DOWNLOADING
    /// if `announce`.
    Pull {
        /// Which version.
        version: Version,
        /// Whether DOWNLOADING is reported.
        announce: bool,
    },
    /// Job: look which services lack their image; for those [`fetch_missing`] is inserted.
    NeedImages {
        /// Whether DOWNLOADING is reported.
        announce: bool,
    },
    /// Job: pull the images that were found missing.
    PullMissing,
    /// Job: create and start the container, or bring the project up, and wait until it runs. A missing image inserts
    /// [`FETCH`] and starts again.
    Start,
    /// Follow the app's log.
    Follow,
    /// Job: stop the container, then remove it; a project is taken down. Volumes stay.
    Stop,
    /// Job: remove what the app was before it was given another name, or made of something else; the next one follows.
    RemoveStray,
    /// Job: remove the container by force; a project with its volumes.
    RemoveContainer,
    /// Job: remove all containers of a project, also of services that the definition does not have; volumes stay.
    Down,
    /// Job: remove what is left of the app, by name or label alone; volumes stay.
    Disband,
    /// Job: remove all images of the app.
    RemoveImages,
    /// Job: look for an image of the app; if there is none, pull it.
    NeedImage,
    /// Job: unpack the sources.
    Unpack,
    /// Job: build the image, or the images of a project.
    Build,
    /// Job: pull what is not built.
    PullRest,
    /// Job: give the image that was built the name of its release.
    Tag,
    /// Job: push the image, or the images of a project.
    Push,
    /// Job: copy the n-th image of a project to its own registry (3.13); the next one follows.
    Rehost(usize),
    /// Job: stop the container and keep it aside; what is started from here on is the new release, on trial.
    Keep,
    /// Job: look whether the new release runs and is well; again until its probation is over.
    Prove,
    /// The trial is over: what is started from here on is the installed release.
    EndTrial,
    /// Job: put the kept container back and start it, if its ports are free still: then the next [`Step::Start`] has nothing
    /// to do.
    PutBack,
    /// Job: remove the kept container.
    RemoveKept,
    /// The newest version did not prove itself: it is not tried again by itself.
    Refuse,
    /// Take over the newest version as the installed one.
    Adopt,
    /// Job: remove the images of versions that were replaced or refused; its failure is no failure.
    RemoveOldImage,
    /// Mark the update as canceled.
    CancelUpdate,
    /// Cancel the arriving sources.
    CancelTransfer,
    /// Give the app's host ports back.
    ReleasePorts,
    /// Job: delete the app's directories.
    DeleteFiles,
    /// If the app is where it is wanted, and gone, forget it: rows, log, memory.
    Forget,
    /// End as FAILED, without crash loop: this cannot be done with an app of this stage.
    CannotBe,
}

/// What a build is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be run here.
    Use,
    /// To be pushed.
    Release,
}

/// Which version a pull fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The newest one.
    Newest,
    /// The one that will run: the installed one, the newest only if none is installed.
    Runs,
}

/// Lines that an action writes to the app's log; their text is [`super::lines`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// M-START
    Starting,
    /// M-RUN
    Running,
    /// M-DL-INIT
    Preparing,
    /// M-DL-IMG
    Downloading,
    /// M-DL-OK
    Installed,
    /// M-CMP-OK
    ImagesInstalled,
    /// M-STOP
    StopRequested,
    /// M-STOPPED
    Stopped,
    /// M-DEL
    Removing,
    /// M-DELETED
    Removed,
    /// M-BUILD
    Building,
    /// M-BUILT
    Built,
    /// M-CMP-BUILT
    ImagesBuilt,
    /// M-PUB-INIT
    Publishing,
    /// M-PUB-PUSH
    Pushing,
    /// The new release is started and watched.
    Trial,
    /// The release before is back.
    RolledBack,
}

/// What an app consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One container.
    Plain,
    /// A compose project.
    Compose,
}

/// What of an app its plan depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// Its stage.
    pub stage: Stage,
    /// Its kind.
    pub kind: Kind,
    /// What is wanted.
    pub target: AppState,
    /// Nothing of it was on the device before.
    pub is_fresh: bool,
    /// It has ended where it should not: its container is still there.
    pub has_failed: bool,
    /// It was being started: its images may not have been looked for yet.
    pub is_starting: bool,
}

/// The steps of an action.
pub type Plan = Vec<Step>;

const fn report(state: AppState) -> Step {
    Step::Report(state)
}

const fn say(line: Line) -> Step {
    Step::Say(line)
}

const REMOVE: &[Step] = &[
    Step::ClearHistory,
    say(Line::Removing),
    report(AppState::Deleting),
    Step::RemoveContainer,
    Step::RemoveImages,
    report(AppState::Removed),
    say(Line::Removed),
];

const CLEAR: &[Step] = &[Step::RemoveContainer, Step::RemoveImages];

// The report comes last: until it is stored, an agent that dies here does it all again.
const LEAVE: &[Step] = &[Step::ReleasePorts, Step::DeleteFiles, report(AppState::Uninstalled)];

const UP: &[Step] = &[Step::Start, report(AppState::Running), say(Line::Running), Step::Follow];

/// What a pull does.
const PULL: &[Step] = &[
    Step::ClearRemote,
    say(Line::Preparing),
    Step::ClearHistory,
    Step::Token,
    Step::Pull { version: Version::Newest, announce: true },
    say(Line::Installed),
];

/// What is inserted where the image of the installed release is missing.
pub const FETCH: &[Step] = &[
    Step::ClearRemote,
    say(Line::Preparing),
    Step::ClearHistory,
    Step::Token,
    Step::Pull { version: Version::Runs, announce: true },
    say(Line::Installed),
];

/// What a start without image inserts after [`FETCH`].
pub const START_AGAIN: &[Step] = &[report(AppState::Present), report(AppState::Starting), Step::Start];

/// What a project that lacks images inserts. Only a first installation may show DOWNLOADING: who cancels that uninstalls.
pub fn fetch_missing(announce: bool) -> Plan {
    let shown: &[Step] = if announce { &[report(AppState::Downloading)] } else { &[] };
    [shown, &[Step::Token, say(Line::Downloading), Step::PullMissing]].concat()
}

/// The steps of `action`.
pub fn plan(action: Action, case: Case) -> Plan {
    let join = |parts: &[&[Step]]| parts.concat();
    let (plain, prod) = (case.kind == Kind::Plain, case.stage == Stage::Prod);
    match action {
        Action::Noop => Vec::new(),
        Action::Pull | Action::Update | Action::CancelPull if !prod => vec![Step::CannotBe],
        Action::CancelTransfer | Action::CancelBuild if prod => vec![Step::CannotBe],
        Action::Pull => pull(case),
        Action::Run => run(case),
        Action::Stop => stop(case),
        Action::Remove => join(&[REMOVE, &[Step::Forget]]),
        Action::Uninstall => join(&[REMOVE, LEAVE, &[Step::Forget]]),
        Action::RecoverToPresent if !prod => join(&[&[Step::Disband], &build(case, Purpose::Use)]),
        Action::RecoverToPresent if plain => {
            join(&[&[Step::RemoveContainer, Step::NeedImage, report(AppState::Present)]])
        }
        Action::RecoverToPresent => pull(case),
        Action::RecoverToRunning if plain => join(&[&[Step::RemoveContainer], &run(case)]),
        Action::RecoverToRunning => run(case),
        Action::Update => update(case),
        Action::RollBack => {
            let back = roll_back(case, &[Step::Refuse, Step::CancelUpdate], &[say(Line::RolledBack)]);
            // Of a version that was refused before.
            join(&[&back, if plain { &[Step::RemoveOldImage] } else { &[] }])
        }
        Action::Restore => roll_back(case, &[], &[]),
        Action::CleanUp => vec![Step::RemoveOldImage],
        Action::Disband => vec![Step::Disband],
        Action::Leave => vec![Step::DeleteFiles, Step::Forget],
        // The pull may just have ended, and before a start there may be an old container.
        Action::CancelPull if plain && case.target == AppState::Uninstalled => {
            join(&[CLEAR, &[report(AppState::Removed)], LEAVE, &[Step::Forget]])
        }
        Action::CancelPull if plain => join(&[CLEAR, &[report(AppState::Removed), Step::Forget]]),
        // Files and some of the images may be there already.
        Action::CancelPull if case.target == AppState::Uninstalled => join(&[REMOVE, LEAVE, &[Step::Forget]]),
        Action::CancelPull => join(&[REMOVE, &[Step::Forget]]),
        // The old release may still run while the new one is pulled.
        Action::CancelUpdate => {
            join(&[&[Step::CancelUpdate, Step::Disband, Step::RemoveKept, report(AppState::Present)]])
        }
        Action::CancelUpdateAndRemove => join(&[&[Step::CancelUpdate, Step::RemoveKept], REMOVE, &[Step::Forget]]),
        Action::CancelUpdateAndUninstall => {
            join(&[&[Step::CancelUpdate, Step::RemoveKept], REMOVE, LEAVE, &[Step::Forget]])
        }
        Action::Discard if prod => join(&[&[Step::Disband, Step::ReleasePorts, Step::Forget]]),
        Action::Discard => join(&[&[Step::Disband, Step::RemoveImages, Step::ReleasePorts, Step::Forget]]),
        // Its container would be taken for one of what is built.
        Action::Build | Action::Publish if case.has_failed => {
            join(&[&[Step::Disband], &plan(action, Case { has_failed: false, ..case })])
        }
        Action::Build => build(case, Purpose::Use),
        Action::Publish => publish(case),
        Action::RemoveThenPublish if plain => join(&[REMOVE, &publish(case)]),
        Action::RemoveThenPublish => join(&[
            &[say(Line::Removing), report(AppState::Deleting), Step::Down, report(AppState::Removed)],
            &publish(case),
        ]),
        Action::CancelBuild | Action::CancelPush => vec![report(AppState::Removed), Step::Forget],
        Action::CancelTransfer => vec![Step::CancelTransfer, report(AppState::Removed), Step::Forget],
    }
}

fn pull(case: Case) -> Plan {
    match case.kind {
        Kind::Plain => [PULL, &[report(AppState::Present)]].concat(),
        Kind::Compose => vec![
            Step::ClearHistory,
            report(AppState::Downloading),
            Step::NeedCompose,
            Step::Token,
            Step::Pull { version: Version::Runs, announce: false },
            Step::Stop,
            say(Line::ImagesInstalled),
            report(AppState::Present),
        ],
    }
}

fn run(case: Case) -> Plan {
    let begin: &[Step] = match (case.kind, case.stage) {
        (Kind::Plain, Stage::Prod) => &[Step::ClearHistory, say(Line::Starting), report(AppState::Starting)],
        (Kind::Plain, Stage::Dev) => {
            &[Step::RemoveContainer, Step::ClearHistory, say(Line::Starting), report(AppState::Starting)]
        }
        // Whether DOWNLOADING or STARTING is reported first turns out when the images are looked for.
        (Kind::Compose, Stage::Prod) if case.is_fresh => &[
            Step::ClearHistory,
            Step::NeedCompose,
            Step::NeedImages { announce: true },
            Step::Stop,
            say(Line::Starting),
            report(AppState::Starting),
        ],
        (Kind::Compose, _) => &[
            Step::ClearHistory,
            Step::NeedCompose,
            report(AppState::Starting),
            Step::NeedImages { announce: false },
            Step::Stop,
            say(Line::Starting),
        ],
    };
    [begin, UP].concat()
}

fn stop(case: Case) -> Plan {
    // PROD apps of one container report it twice, as all agents do.
    let once_more: &[Step] =
        if (case.kind, case.stage) == (Kind::Plain, Stage::Prod) { &[report(AppState::Stopping)] } else { &[] };
    let images: &[Step] = match (case.kind, case.stage) {
        (Kind::Plain, Stage::Prod) if case.is_starting => &[Step::NeedImage],
        (Kind::Compose, Stage::Prod) if case.is_starting => &[Step::NeedImages { announce: true }],
        _ => &[],
    };
    [
        once_more,
        &[say(Line::StopRequested), report(AppState::Stopping), Step::Stop],
        images,
        &[report(AppState::Present), say(Line::Stopped)],
    ]
    .concat()
}

fn build(case: Case, purpose: Purpose) -> Plan {
    let sources: &[Step] = if case.kind == Kind::Compose { &[Step::Unpack] } else { &[] };
    let built: &[Step] = match (case.kind, purpose) {
        (Kind::Plain, _) => &[say(Line::Built)],
        (Kind::Compose, Purpose::Use) => &[Step::PullRest, say(Line::ImagesBuilt)],
        (Kind::Compose, Purpose::Release) => &[say(Line::ImagesBuilt)],
    };
    let compose: &[Step] = if case.kind == Kind::Compose { &[Step::NeedCompose] } else { &[] };
    [
        &[Step::ClearHistory, report(AppState::Removed)],
        sources,
        &[Step::BuildFor(purpose), say(Line::Building), report(AppState::Building)],
        compose,
        &[Step::Token, Step::Build],
        built,
        &[report(AppState::Built)],
    ]
    .concat()
}

fn publish(case: Case) -> Plan {
    let push: &[Step] = match case.kind {
        Kind::Plain => &[Step::Tag, report(AppState::Publishing), Step::Push],
        Kind::Compose => &[report(AppState::Publishing), Step::Rehost(0), Step::Push],
    };
    [
        &[Step::ClearHistory, Step::UsePublishLog, say(Line::Publishing)],
        &build(case, Purpose::Release)[1..],
        &[say(Line::Pushing)],
        push,
        &[report(AppState::Published), Step::ClearHistory],
    ]
    .concat()
}

/// Pulled before the old release goes: a failed download leaves the app runnable. Where the app is to run, the new release
/// has to prove itself first (decision 30).
fn update(case: Case) -> Plan {
    let plain = case.kind == Kind::Plain;
    let compose: &[Step] = if plain { &[] } else { &[Step::NeedCompose] };
    // The old images of a project stay (3.12).
    let clean: &[Step] = if plain { &[Step::RemoveKept, Step::RemoveOldImage] } else { &[] };
    let change: &[Step] = match case.target {
        AppState::Running => &[
            say(Line::Trial),
            Step::Keep,
            Step::Start,
            Step::Follow,
            Step::Prove,
            Step::EndTrial,
            Step::Adopt,
            report(AppState::Present),
            report(AppState::Running),
            say(Line::Running),
        ],
        _ => &[Step::Disband, Step::Adopt, report(AppState::Present)],
    };
    [
        &[report(AppState::Updating)],
        compose,
        &[
            say(Line::Preparing),
            Step::ClearHistory,
            Step::Token,
            Step::Pull { version: Version::Newest, announce: false },
            say(Line::Installed),
        ],
        change,
        clean,
    ]
    .concat()
}

fn roll_back(case: Case, before: &[Step], after: &[Step]) -> Plan {
    let back: &[Step] = match case.kind {
        Kind::Plain => &[Step::RemoveContainer, Step::PutBack, Step::RemoveKept, Step::Start],
        Kind::Compose => &[Step::Down, Step::Start],
    };
    let runs: &[Step] = if case.target == AppState::Running { &[report(AppState::Running), Step::Follow] } else { &[] };
    // Until the release before is back nobody knows how it went: an agent that dies here tries again.
    [&[Step::EndTrial], back, before, &[report(AppState::Present)], after, runs].concat()
}

#[cfg(test)]
mod tests {
    use super::super::transition::{TABLE, action};
    use super::*;
    use std::fmt::Write as _;

    /// The whole table as text, for the golden file.
    fn dump_table() -> String {
        let mut text = String::new();
        for (from, _) in TABLE {
            for &requested in AppState::ALL {
                if let Some(action) = action(*from, requested, Stage::Prod) {
                    writeln!(text, "{from} -> {requested}: {action:?}").unwrap();
                }
                let dev = action(*from, requested, Stage::Dev);
                if dev != action(*from, requested, Stage::Prod) {
                    let dev = dev.map_or("-".to_owned(), |dev| format!("{dev:?}"));
                    writeln!(text, "{from} -> {requested}: {dev} (DEV)").unwrap();
                }
            }
        }
        text
    }

    fn dump() -> String {
        use Action::*;
        let mut text = String::from(
            "# (from, requested), then the plan of each action. Regenerate: UPDATE_GOLDEN=1 cargo test transitions\n",
        );
        text += &dump_table();
        let actions = [
            Noop,
            Pull,
            Run,
            Stop,
            Remove,
            Uninstall,
            RecoverToPresent,
            RecoverToRunning,
            Update,
            RollBack,
            Restore,
            CleanUp,
            Disband,
            Leave,
            Build,
            Publish,
            RemoveThenPublish,
            CancelTransfer,
            CancelBuild,
            CancelPush,
            CancelPull,
            CancelUpdate,
            CancelUpdateAndRemove,
            CancelUpdateAndUninstall,
            Discard,
        ];
        let targets = [AppState::Running, AppState::Present, AppState::Removed, AppState::Uninstalled];
        for action in actions {
            let mut shown: Vec<(Plan, String)> = Vec::new();
            for kind in [Kind::Plain, Kind::Compose] {
                for stage in [Stage::Prod, Stage::Dev] {
                    for target in targets {
                        let usual =
                            Case { stage, kind, target, is_fresh: false, has_failed: false, is_starting: false };
                        let fresh = Case { is_fresh: true, ..usual };
                        let starting = Case { is_starting: true, ..usual };
                        let differs = plan(action, starting) != plan(action, usual);
                        let cases = [(usual, ""), (fresh, ", fresh"), (starting, ", starting")];
                        for (case, word) in cases.into_iter().filter(|(case, _)| differs || !case.is_starting) {
                            let steps = plan(action, case);
                            let case = format!("{kind:?} {stage}, {target} wanted{word}");
                            match shown.iter_mut().find(|(known, _)| *known == steps) {
                                Some((_, cases)) => {
                                    cases.push_str("; ");
                                    cases.push_str(&case);
                                }
                                None => shown.push((steps, case)),
                            }
                        }
                    }
                }
            }
            for (n, (steps, cases)) in shown.iter().enumerate() {
                // The first one is the usual one.
                let cases = if n == 0 { "" } else { cases.as_str() };
                writeln!(text, "\n{action:?} {cases}").unwrap();
                steps.iter().for_each(|step| writeln!(text, "  {step:?}").unwrap());
            }
        }
        text
    }

    #[test]
    fn transitions_and_their_plans_are_the_golden_file() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/transitions.txt");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(path, dump()).unwrap();
        }
        let golden = std::fs::read_to_string(path).unwrap();
        for (n, (is, was)) in dump().lines().zip(golden.lines()).enumerate() {
            assert_eq!(is, was, "line {}", n + 1);
        }
        assert_eq!(dump().lines().count(), golden.lines().count());
    }
}
