//! The one integration test binary: one line per module that says what belongs there.

/// What several modules need: the fake Docker daemon.
mod util;
