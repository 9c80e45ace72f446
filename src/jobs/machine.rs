//! What the machine is and how it is doing.

use super::work::Work;
use crate::domain::job::{CpuSample, Outcome};
use crate::os::release::Sources;
use crate::os::statistics;
use std::path::PathBuf;

impl Work<'_> {
    /// The 12 values of the status report. Without a reading before, the load counts since the agent started.
    pub(super) fn statistics(&self, previous: Option<CpuSample>) -> Outcome {
        let mut sample = previous.map_or(self.born, |CpuSample { total, busy }| statistics::CpuSample { total, busy });
        let found = statistics::read(&mut sample, self.data_root.get().map(PathBuf::as_path));
        let stats = serde_json::to_value(found).expect("numbers and flags are JSON");
        Outcome::Statistics { stats, sample: Some(CpuSample { total: sample.total, busy: sample.busy }) }
    }

    /// Asks the Engine where its data lies, once; without an answer the next listing asks again.
    pub(super) fn learn_data_root(&self) {
        if self.data_root.get().is_none()
            && let Ok(info) = self.docker.info()
        {
            self.data_root.get_or_init(|| PathBuf::from(info.docker_root_dir));
        }
    }

    /// The long text of the operating system.
    pub(super) fn os(&self) -> String {
        Sources::read().describe()
    }
}
