//! Where the copy of the file is kept (decision 35).

use std::path::{Path, PathBuf};

/// The copy in the agent's directory. Boot scripts pick files by `.flock` and `.reswarm`, the service manager by
/// `reagent-`: the name has none of these.
pub(super) fn path(agent_dir: &Path) -> PathBuf {
    agent_dir.join("device-config.copy")
}
