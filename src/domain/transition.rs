//! The transition table (apps chapter 2.3): from the state an app is in and the state that is wanted to an [`Action`], and
//! from an action to its [`Plan`], the list of steps that [`super::reconcile`] walks.
//!
//! ```text
//!                    pull                       run
//!   REMOVED ──────────────────▶ PRESENT ─────────────────▶ RUNNING
//!      ▲   DOWNLOADING             ▲ ▲     STARTING           │ │
//!      │                           │ └──────── stop ──────────┘ │ its container ends, a step fails
//!      │ remove: DELETING          │ recover                    ▼
//!      └──── any state             └───────────────────────  FAILED ── recover ──▶ RUNNING
//!   UNINSTALLED ◀── uninstall: DELETING, REMOVED
//!   update: from any state UPDATING, PRESENT, then on to what is wanted
//! ```

use super::app::{AppState, Stage};

/// What can be done with an app (apps chapter 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Nothing: the current state is reported again.
    Noop,
    /// Fetch the image of the newest version.
    Pull,
    /// Create and start the container.
    Run,
    /// Stop and remove the container.
    Stop,
    /// Remove container and images.
    Remove,
    /// The same, then the app's directories.
    Uninstall,
    /// After a failure: be present.
    RecoverToPresent,
    /// After a failure: run.
    RecoverToRunning,
    /// Replace the installed version by the newest one.
    Update,
    /// Build a DEV image.
    Build,
    /// Build and push a release.
    Publish,
    /// Remove, then publish.
    RemoveThenPublish,
    /// Cancel the arriving sources.
    CancelTransfer,
    /// Cancel a build.
    CancelBuild,
    /// Cancel a push.
    CancelPush,
    /// Cancel a pull.
    CancelPull,
    /// Cancel an update.
    CancelUpdate,
    /// Cancel an update, then remove.
    CancelUpdateAndRemove,
    /// Cancel an update, then uninstall.
    CancelUpdateAndUninstall,
    /// The backend does not know the app: its container goes, its data stays (5.5 a).
    Discard,
}

/// The columns of the table, in its order.
pub const COLUMNS: [AppState; 7] = [
    AppState::Present,
    AppState::Running,
    AppState::Built,
    AppState::Published,
    AppState::Removed,
    AppState::Uninstalled,
    AppState::Stopped,
];

type Row = (AppState, [Option<Action>; 7]);

const TABLE: &[Row] = {
    use Action::*;
    use AppState as S;
    const NONE: Option<Action> = None;
    &[
        (S::Removed, [Some(Pull), Some(Run), Some(Build), Some(Publish), Some(Noop), Some(Uninstall), NONE]),
        (S::Uninstalled, [Some(Pull), Some(Run), Some(Build), Some(Publish), NONE, Some(Noop), NONE]),
        (S::Present, [Some(Noop), Some(Run), Some(Build), Some(Publish), Some(Remove), Some(Uninstall), NONE]),
        (S::Stopped, [NONE, Some(Run), Some(Build), Some(Publish), Some(Remove), Some(Uninstall), Some(Noop)]),
        (
            S::Running,
            [Some(Stop), Some(Noop), Some(Stop), Some(RemoveThenPublish), Some(Remove), Some(Uninstall), NONE],
        ),
        (
            S::Failed,
            [
                Some(RecoverToPresent),
                Some(RecoverToRunning),
                Some(Build),
                Some(Publish),
                Some(Remove),
                Some(Uninstall),
                NONE,
            ],
        ),
        (S::Built, [Some(Noop), Some(Run), Some(Build), Some(Publish), Some(Remove), Some(Uninstall), NONE]),
        (S::Published, [Some(Noop), Some(Run), Some(Build), Some(Publish), Some(Remove), Some(Uninstall), NONE]),
        (S::Transfered, [Some(Pull), NONE, NONE, NONE, Some(Remove), Some(Uninstall), NONE]),
        (S::Transfering, [Some(CancelTransfer), NONE, NONE, NONE, Some(CancelTransfer), Some(CancelTransfer), NONE]),
        (S::Building, [NONE, NONE, NONE, NONE, Some(CancelBuild), NONE, NONE]),
        (S::Publishing, [NONE, NONE, NONE, NONE, Some(CancelPush), NONE, NONE]),
        (S::Downloading, [Some(Pull), NONE, NONE, NONE, Some(CancelPull), Some(CancelPull), NONE]),
        (S::Starting, [Some(Stop), Some(Run), NONE, NONE, Some(Remove), Some(Uninstall), NONE]),
        (S::Stopping, [Some(Stop), Some(Run), NONE, NONE, Some(Remove), Some(Uninstall), NONE]),
        (
            S::Updating,
            [Some(CancelUpdate), NONE, NONE, NONE, Some(CancelUpdateAndRemove), Some(CancelUpdateAndUninstall), NONE],
        ),
        (S::Deleting, [NONE, NONE, NONE, NONE, Some(Remove), Some(Uninstall), NONE]),
    ]
};

/// The cell of the table. `None`: nothing happens and nothing is reported.
pub fn action(from: AppState, requested: AppState, stage: Stage) -> Option<Action> {
    let column = COLUMNS.iter().position(|&column| column == requested)?;
    let cell = TABLE.iter().find(|(state, _)| *state == from)?.1[column]?;
    Some(match (cell, stage) {
        // A removed DEV app has nothing to pull.
        (Action::Pull, Stage::Dev) if from == AppState::Removed => Action::Noop,
        // PROD apps are never built here; as an error the wish would be tried for ever.
        (Action::Build | Action::Publish | Action::RemoveThenPublish, Stage::Prod) => Action::Noop,
        (cell, _) => cell,
    })
}

impl Action {
    /// Whether it interrupts a running action instead of waiting for it.
    pub fn is_cancel(self) -> bool {
        use Action::*;
        matches!(
            self,
            CancelTransfer
                | CancelBuild
                | CancelPush
                | CancelPull
                | CancelUpdate
                | CancelUpdateAndRemove
                | CancelUpdateAndUninstall
        )
    }

    /// Whether it cancels an update.
    pub fn ends_update(self) -> bool {
        matches!(self, Action::CancelUpdate | Action::CancelUpdateAndRemove | Action::CancelUpdateAndUninstall)
    }
}

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
    /// Ask the backend for a registry token.
    Token,
    /// Job: pull the image of a version; once the engine has accepted it, report DOWNLOADING if `announce`.
    Pull {
        /// Which version.
        version: Version,
        /// Whether DOWNLOADING is reported.
        announce: bool,
    },
    /// Job: create and start the container and wait until it runs. A missing image inserts [`FETCH`] and starts again.
    Start,
    /// Follow the container's log.
    Follow,
    /// Job: stop the container, then remove it.
    Stop,
    /// Job: remove the container by force.
    RemoveContainer,
    /// Job: remove all images of the app.
    RemoveImages,
    /// Job: look for an image of the app; if there is none, pull it.
    NeedImage,
    /// Take over the newest version as the installed one.
    Adopt,
    /// Job: remove the image that was installed before the update; its failure is no failure.
    RemoveOldImage,
    /// Mark the update as canceled.
    CancelUpdate,
    /// Give the app's host ports back.
    ReleasePorts,
    /// Job: delete the app's directories.
    DeleteFiles,
    /// If the app is still not wanted, forget it: rows, log, memory.
    Forget,
    /// End as FAILED, without crash loop: this version cannot do it.
    Refuse,
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
    /// M-DL-OK
    Installed,
    /// M-STOP
    StopRequested,
    /// M-STOPPED
    Stopped,
    /// M-DEL
    Removing,
    /// M-DELETED
    Removed,
}

/// The steps of an action.
pub type Plan = Vec<Step>;

const REMOVE: &[Step] = &[
    Step::ClearHistory,
    Step::Say(Line::Removing),
    Step::Report(AppState::Deleting),
    Step::RemoveContainer,
    Step::RemoveImages,
    Step::Report(AppState::Removed),
    Step::Say(Line::Removed),
];

// The report comes last: until it is stored, an agent that dies here does it all again.
const LEAVE: &[Step] = &[Step::ReleasePorts, Step::DeleteFiles, Step::Report(AppState::Uninstalled)];

const RUN: &[Step] = &[
    Step::ClearHistory,
    Step::Say(Line::Starting),
    Step::Report(AppState::Starting),
    Step::Start,
    Step::Report(AppState::Running),
    Step::Say(Line::Running),
    Step::Follow,
];

/// What a pull does, and what recovering without an image inserts.
pub const PULL: &[Step] = &[
    Step::ClearRemote,
    Step::Say(Line::Preparing),
    Step::ClearHistory,
    Step::Token,
    Step::Pull { version: Version::Newest, announce: true },
    Step::Say(Line::Installed),
];

/// What a start without image inserts before it starts again.
pub const FETCH: &[Step] = &[
    Step::ClearRemote,
    Step::Say(Line::Preparing),
    Step::ClearHistory,
    Step::Token,
    Step::Pull { version: Version::Runs, announce: true },
    Step::Say(Line::Installed),
    Step::Report(AppState::Present),
    Step::Report(AppState::Starting),
    Step::Start,
];

/// The steps of `action` for a plain app. `target` decides how a cancelled download ends.
pub fn plan(action: Action, target: AppState) -> Plan {
    let join = |parts: &[&[Step]]| parts.concat();
    match action {
        Action::Noop => Vec::new(),
        Action::Pull => join(&[PULL, &[Step::Report(AppState::Present)]]),
        Action::Run => join(&[RUN]),
        // Twice STOPPING, as all agents report it for PROD apps.
        Action::Stop => join(&[&[
            Step::Report(AppState::Stopping),
            Step::Say(Line::StopRequested),
            Step::Report(AppState::Stopping),
            Step::Stop,
            Step::Report(AppState::Present),
            Step::Say(Line::Stopped),
        ]]),
        Action::Remove => join(&[REMOVE, &[Step::Forget]]),
        Action::Uninstall => join(&[REMOVE, LEAVE, &[Step::Forget]]),
        Action::RecoverToPresent => join(&[&[Step::RemoveContainer, Step::NeedImage, Step::Report(AppState::Present)]]),
        Action::RecoverToRunning => join(&[&[Step::RemoveContainer], RUN]),
        // Pulled before the old release goes: a failed download leaves the app runnable.
        Action::Update => join(&[&[
            Step::Report(AppState::Updating),
            Step::Say(Line::Preparing),
            Step::ClearHistory,
            Step::Token,
            Step::Pull { version: Version::Newest, announce: false },
            Step::Say(Line::Installed),
            Step::RemoveContainer,
            Step::Adopt,
            Step::Report(AppState::Present),
            Step::RemoveOldImage,
        ]]),
        Action::CancelPull if target == AppState::Uninstalled => {
            join(&[&[Step::Report(AppState::Removed)], LEAVE, &[Step::Forget]])
        }
        Action::CancelPull => join(&[&[Step::Report(AppState::Removed), Step::Forget]]),
        // The old release still runs while the new one is pulled.
        Action::CancelUpdate => join(&[&[Step::CancelUpdate, Step::RemoveContainer, Step::Report(AppState::Present)]]),
        Action::CancelUpdateAndRemove => join(&[&[Step::CancelUpdate], REMOVE, &[Step::Forget]]),
        Action::CancelUpdateAndUninstall => join(&[&[Step::CancelUpdate], REMOVE, LEAVE, &[Step::Forget]]),
        Action::Discard => join(&[&[Step::RemoveContainer, Step::ReleasePorts, Step::Forget]]),
        Action::Build
        | Action::Publish
        | Action::RemoveThenPublish
        | Action::CancelTransfer
        | Action::CancelBuild
        | Action::CancelPush => vec![Step::Refuse],
    }
}

#[cfg(test)]
mod tests {
    use super::action as cell;
    use super::*;
    use std::fmt::Write as _;

    fn dump() -> String {
        let mut text = String::from(
            "# (from, requested) for PROD, then the plan of each action. Regenerate: UPDATE_GOLDEN=1 cargo test transition\n",
        );
        for (from, _) in TABLE {
            for &requested in AppState::ALL {
                if let Some(action) = cell(*from, requested, Stage::Prod) {
                    writeln!(text, "{from} -> {requested}: {action:?}").unwrap();
                }
                let dev = cell(*from, requested, Stage::Dev);
                if dev != cell(*from, requested, Stage::Prod) {
                    writeln!(
                        text,
                        "{from} -> {requested}: {} (DEV)",
                        dev.map_or("-".to_owned(), |dev| format!("{dev:?}"))
                    )
                    .unwrap();
                }
            }
        }
        use Action::*;
        for action in [
            Noop,
            Pull,
            Run,
            Stop,
            Remove,
            Uninstall,
            RecoverToPresent,
            RecoverToRunning,
            Update,
            CancelPull,
            CancelUpdate,
            CancelUpdateAndRemove,
            CancelUpdateAndUninstall,
            Discard,
            Build,
        ] {
            for target in [AppState::Removed, AppState::Uninstalled] {
                if target == AppState::Removed || plan(action, AppState::Removed) != plan(action, target) {
                    writeln!(text, "\n{action:?} ({target} wanted)").unwrap();
                    plan(action, target).iter().for_each(|step| writeln!(text, "  {step:?}").unwrap());
                }
            }
        }
        text
    }

    #[test]
    fn the_table_and_its_plans_are_the_golden_file() {
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

    #[test]
    fn every_settled_target_is_reached_from_every_state_or_the_table_says_nothing() {
        for (from, cells) in TABLE {
            for (column, cell) in COLUMNS.iter().zip(cells) {
                assert_eq!(action(*from, *column, Stage::Dev).is_some(), cell.is_some());
            }
        }
        assert_eq!(TABLE.len(), 17);
        for &requested in AppState::ALL {
            assert_eq!(action(AppState::Inherit, requested, Stage::Prod), None);
        }
    }
}
