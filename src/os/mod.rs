//! To be filled by its own commits.
pub mod socket;
