//! The state sequences of apps chapter 3.0, row by row, as the backend hears them through Crossbar: what is reported, what is
//! on the device then, and what the user reads. One table for each kind and stage of app.

mod cancels;
mod compose;
mod development;
mod plain;
mod updates;
