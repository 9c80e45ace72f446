//! The one integration test binary: one line per module that says what belongs there.
