//! What an app is to the agent: its identity, its state and the sets of states that rules speak of (apps chapter 1, 2.1).

use std::fmt;
use std::str::FromStr;

/// Development or production. Upper case on the wire and in the database, lower case inside names and paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Driven interactively from the studio.
    Dev,
    /// Driven by the backend.
    Prod,
}

impl Stage {
    /// `DEV` or `PROD`.
    pub fn text(self) -> &'static str {
        match self {
            Stage::Dev => "DEV",
            Stage::Prod => "PROD",
        }
    }

    /// `dev` or `prod`.
    pub fn lower(self) -> &'static str {
        match self {
            Stage::Dev => "dev",
            Stage::Prod => "prod",
        }
    }
}

impl FromStr for Stage {
    type Err = ();
    fn from_str(text: &str) -> Result<Stage, ()> {
        match text {
            "DEV" => Ok(Stage::Dev),
            "PROD" => Ok(Stage::Prod),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The identity of an app on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AppKey {
    /// Number given by the backend, never 0.
    pub key: u64,
    /// Its stage: the same app may be there in both.
    pub stage: Stage,
}

impl fmt::Display for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "app {} ({})", self.key, self.stage)
    }
}

macro_rules! app_states {
    ($($(#[$doc:meta])* $variant:ident $text:literal,)*) => {
        /// State of an app. The texts are those of wire and database, with their single R and T.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum AppState { $($(#[$doc])* $variant,)* }

        impl AppState {
            /// Every state, in the order of apps chapter 2.1.
            pub const ALL: &[AppState] = &[$(AppState::$variant,)*];

            /// The wire text.
            pub fn text(self) -> &'static str {
                match self { $(AppState::$variant => $text,)* }
            }
        }
    };
}

app_states! {
    /// On the device, not running.
    Present "PRESENT",
    /// Not on the device; its data stays.
    Removed "REMOVED",
    /// Not on the device, data gone.
    Uninstalled "UNINSTALLED",
    /// The last transition failed, or its container ended.
    Failed "FAILED",
    /// Its container runs.
    Running "RUNNING",
    /// Never produced by the agent; stored as PRESENT.
    Stopped "STOPPED",
    /// A DEV image was built.
    Built "BUILT",
    /// A DEV image is being built.
    Building "BUILDING",
    /// Sources have arrived.
    Transfered "TRANSFERED",
    /// Sources are arriving.
    Transfering "TRANSFERING",
    /// A release is being pushed.
    Publishing "PUBLISHING",
    /// A release was pushed.
    Published "PUBLISHED",
    /// An image is being pulled.
    Downloading "DOWNLOADING",
    /// A newer release is being installed.
    Updating "UPDATING",
    /// Its container is being created and started.
    Starting "STARTING",
    /// Its container is being stopped.
    Stopping "STOPPING",
    /// Container and image are being deleted.
    Deleting "DELETING",
    /// May occur as a requested state; has no transitions.
    Inherit "INHERIT",
}

impl AppState {
    /// A state between two settled ones.
    pub fn is_transient(self) -> bool {
        use AppState::*;
        matches!(
            self,
            Built
                | Building
                | Transfered
                | Transfering
                | Publishing
                | Published
                | Downloading
                | Updating
                | Starting
                | Stopping
                | Deleting
        )
    }

    /// The agent is doing something with the app: of one that nothing is done with it cannot be true.
    pub fn is_work(self) -> bool {
        use AppState::*;
        matches!(self, Building | Publishing | Downloading | Updating | Starting | Stopping | Deleting)
    }

    /// A target that needs disk space: refused in a disk emergency (2.4).
    pub fn grows_disk(self) -> bool {
        use AppState::*;
        matches!(self, Present | Running | Built | Building | Publishing | Published | Downloading | Updating)
    }

    /// What the state means when it is requested (column "As a requested state it means").
    pub fn as_request(self) -> AppState {
        use AppState::*;
        match self {
            Building | Transfered | Transfering | Publishing | Downloading | Updating | Stopping | Stopped => Present,
            Starting => Running,
            Deleting => Removed,
            settled => settled,
        }
    }

    /// REMOVED or UNINSTALLED: the app is to leave the device.
    pub fn is_gone(self) -> bool {
        matches!(self, AppState::Removed | AppState::Uninstalled)
    }
}

impl FromStr for AppState {
    type Err = ();
    fn from_str(text: &str) -> Result<AppState, ()> {
        AppState::ALL.iter().copied().find(|state| state.text() == text).ok_or(())
    }
}

impl fmt::Display for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// The key `updateStatus` of a report (2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpdateStatus {
    /// `""`: no update since the agent started.
    #[default]
    None,
    /// An update has finished and the backend has not been told.
    PendingRemoteConfirmation,
    /// It has been told.
    Completed,
    /// The last update was canceled.
    Canceled,
}

impl UpdateStatus {
    /// The wire text.
    pub fn text(self) -> &'static str {
        match self {
            UpdateStatus::None => "",
            UpdateStatus::PendingRemoteConfirmation => "pending_remote_confirmation",
            UpdateStatus::Completed => "completed",
            UpdateStatus::Canceled => "canceled",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_is_read_back_from_its_text() {
        for &state in AppState::ALL {
            assert_eq!(state.text().parse(), Ok(state));
        }
        assert_eq!("running".parse::<AppState>(), Err(()));
        assert_eq!("".parse::<AppState>(), Err(()));
    }

    #[test]
    fn a_requested_state_is_always_a_settled_one() {
        for &state in AppState::ALL {
            let wanted = state.as_request();
            assert_eq!(wanted.as_request(), wanted);
            assert!(
                !wanted.is_transient() || matches!(wanted, AppState::Built | AppState::Published),
                "{state} -> {wanted}"
            );
        }
    }
}
