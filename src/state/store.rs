//! The store: one SQLite file, one connection, owned by the state thread. All SQL of the agent is here and below.
//!
//! It never waits for anything but the disk, never interprets what it keeps, and never keeps the agent from running: a
//! file that cannot be used is left as it is, and the store works in memory.
//!
//! **Invariant:** what one turn writes is one transaction ("commit, then act"). After a crash the state of an app, its
//! request and its queued reports are of the same turn.

mod row;

pub use row::{AppStateRow, Committed, Loaded, OutboxRow, Refused, RequestedRow, Write};

use crate::clock::Wall;
use rusqlite::Connection;
use std::fmt;
use std::io;
use std::path::Path;

/// The database of the agent (storage-and-logs 1).
#[derive(Debug)]
pub struct Store {
    conn: Connection,
}

/// Why a file is not used, or why nothing of a batch was applied.
#[derive(Debug)]
pub enum Error {
    /// The file cannot be created, opened or written.
    Open(io::Error),
    /// It is open, but for reading only.
    ReadOnly,
    /// It is not a database, or `quick_check` found this.
    Damaged(String),
    /// It could not be brought to the present schema; it is unchanged.
    Migrate(rusqlite::Error),
    /// A statement failed: disk full, I/O error, damage found later.
    Statement(rusqlite::Error),
}

impl Store {
    /// Opens the database at `path`, created with mode 0600 if missing, and migrates it to the present schema.
    /// `free_bytes` is the free space of its file system, if known: with three times the size of the file a copy
    /// `<path>.pre-v<N>` is made before a migration.
    ///
    /// Always returns a store that works. With an error it is an empty one in memory, and the file is left as it was.
    pub fn open(path: &Path, at: Wall, free_bytes: Option<u64>) -> (Store, Option<Error>) {
        todo!()
    }

    /// An empty store in memory.
    pub fn memory() -> Store {
        todo!()
    }

    /// Reads everything the agent needs at start. Rows that cannot be decoded are left out and named.
    ///
    /// # Errors
    /// [`Error::Statement`] if a table cannot be read at all.
    pub fn load(&mut self) -> Result<Loaded, Error> {
        todo!()
    }

    /// Applies all writes of one turn in one transaction; they are on disk when it returns `Ok`. A write that the
    /// schema does not accept is left out and returned in [`Committed::refused`].
    ///
    /// # Errors
    /// [`Error::Statement`], and nothing of the batch is applied.
    pub fn commit(&mut self, writes: &[Write]) -> Result<Committed, Error> {
        todo!()
    }

    /// The stored log lines of an app, oldest first; `None` if there are none that can be read.
    ///
    /// # Errors
    /// [`Error::Statement`].
    pub fn log_history(&mut self, app_key: u64, stage: &str) -> Result<Option<Vec<String>>, Error> {
        todo!()
    }

    /// One batch of the retention (storage-and-logs 1.6): deletes at most 1000 rows of the state history and says how
    /// many. To be repeated until it returns 0.
    ///
    /// # Errors
    /// [`Error::Statement`].
    pub fn trim_history(&mut self) -> Result<usize, Error> {
        todo!()
    }

    /// Writes the log of SQLite back into the file and closes it.
    pub fn close(self) {
        todo!()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Open(error) => write!(f, "the database cannot be opened: {error}"),
            Error::ReadOnly => f.write_str("the database is read-only"),
            Error::Damaged(finding) => write!(f, "the database is damaged: {finding}"),
            Error::Migrate(error) => write!(f, "the database cannot be migrated: {error}"),
            Error::Statement(error) => write!(f, "the database failed: {error}"),
        }
    }
}

impl std::error::Error for Error {}
