//! The transition table (apps chapter 2.3): from the state an app is in and the state that is wanted to an [`Action`], and
//! from an action by [`super::plan`] to the list of steps that [`super::reconcile`] walks.
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
//!   DEV: REMOVED, BUILDING, BUILT, then PRESENT; a release goes on with PUBLISHING, PUBLISHED
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
    /// A new release did not prove itself: the one before comes back (decision 30).
    RollBack,
    /// The agent or the engine went away while a new release was on trial: likewise, but it may be tried again.
    Restore,
    /// Images are left of versions that nobody wants any more: the agent or the engine went away before they were removed,
    /// or they are of a release that was refused.
    CleanUp,
    /// A container is left of a start that was called off: the engine made it when nobody waited for it any more.
    Disband,
    /// It is uninstalled already, but for files that an action may have left that was cut off.
    Leave,
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

pub(super) type Row = (AppState, [Option<Action>; 7]);

pub(super) const TABLE: &[Row] = {
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

    /// Whether it does nothing but stop and remove, or interrupts something: that is not interrupted itself.
    pub fn takes_away(self) -> bool {
        use Action::*;
        self.is_cancel() || matches!(self, Stop | Remove | Uninstall | CleanUp | Disband | Leave | Discard)
    }

    /// Whether it is an update, and how it ends.
    pub fn is_update(self) -> bool {
        matches!(self, Action::Update | Action::RollBack | Action::Restore)
    }

    /// Whether it cancels an update.
    pub fn ends_update(self) -> bool {
        matches!(self, Action::CancelUpdate | Action::CancelUpdateAndRemove | Action::CancelUpdateAndUninstall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
