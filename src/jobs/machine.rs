//! What the machine is and how it is doing.

use super::work::Work;
use crate::domain::job::{CpuSample, Outcome};
use crate::os::release::Sources;
use crate::os::statistics;

impl Work<'_> {
    /// The 12 values of the status report. Without a reading before, the load counts since the agent started.
    pub(super) fn statistics(&self, previous: Option<CpuSample>) -> Outcome {
        let mut sample = previous.map_or(self.born, |CpuSample { total, busy }| statistics::CpuSample { total, busy });
        let found = statistics::read(&mut sample, self.settings.data_root.as_deref());
        let stats = serde_json::to_value(found).expect("numbers and flags are JSON");
        Outcome::Statistics { stats, sample: Some(CpuSample { total: sample.total, busy: sample.busy }) }
    }

    /// The long text of the operating system.
    pub(super) fn os(&self) -> String {
        Sources::read().describe()
    }
}
