//! Archives of sources: how they arrive and how they are unpacked (storage chapter 7.3, 7.4).

use super::work::{Failure, Work};
use crate::domain::job::Upload;

#[expect(clippy::unused_self, unused_variables, reason = "to be written")]
impl Work<'_> {
    /// Takes a message of an arriving archive.
    pub(super) fn upload(&self, upload: &Upload) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }

    /// Unpacks the archive of an app.
    pub(super) fn unpack(&self, app_name: &str) -> Result<(), Failure> {
        Err(Failure::Text("not built yet".to_owned()))
    }
}
