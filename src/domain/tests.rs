//! The core against the world of [`super::testing`], by topic.

mod actions;
