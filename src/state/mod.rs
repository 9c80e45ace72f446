//! The centre of the shell: the thread that owns the core and the database.
//!
//! [`inbox`] turns what other threads send into events of the core, [`main_loop`] steps the core and commits what it wants
//! stored, [`perform`] hands its other effects to the threads that act, [`edges`] starts those threads and starts them
//! again when they panic. [`rows`] converts between the core's records and the rows of the [`store`].

pub mod edges;
pub mod inbox;
pub mod main_loop;
pub mod perform;
pub mod rows;
pub mod store;
pub mod supervise;
