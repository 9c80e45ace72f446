//! The store: one SQLite file, one connection, owned by the state thread. All SQL of the agent is here and below.
//!
//! It never waits for anything but the disk, never interprets what it keeps, and never keeps the agent from running: a
//! file that cannot be used is left as it is, and the store works in memory.
//!
//! **Invariant:** what one turn writes is one transaction ("commit, then act"). After a crash the state of an app, its
//! request and its queued reports are of the same turn.

mod load;
mod migrate;
mod open;
mod row;
mod write;

#[cfg(test)]
mod tests;

pub use row::{AppStateRow, Committed, Loaded, OutboxRow, Refused, RequestedRow, Write};

use crate::clock::Wall;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use std::fmt;
use std::io;
use std::path::Path;
use write::Fault;

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
        match open::open(path, at, free_bytes) {
            Ok(conn) => (Store { conn }, None),
            Err(error) => (Store::memory(), Some(error)),
        }
    }

    /// An empty store in memory.
    pub fn memory() -> Store {
        let mut conn = Connection::open_in_memory().expect("a database in memory needs nothing but memory");
        migrate::migrate(&mut conn, Wall::default()).expect("an empty database takes the present schema");
        conn.set_prepared_statement_cache_capacity(open::STATEMENTS);
        Store { conn }
    }

    /// Reads everything the agent needs at start. Rows that cannot be decoded are left out and named.
    ///
    /// # Errors
    /// [`Error::Statement`] if a table cannot be read at all.
    pub fn load(&mut self) -> Result<Loaded, Error> {
        Ok(load::all(&self.conn)?)
    }

    /// Applies all writes of one turn in one transaction; they are on disk when it returns `Ok`. A write that the
    /// schema does not accept is left out and returned in [`Committed::refused`].
    ///
    /// # Errors
    /// [`Error::Statement`], and nothing of the batch is applied.
    pub fn commit(&mut self, writes: &[Write]) -> Result<Committed, Error> {
        let mut committed = Committed::default();
        if writes.is_empty() {
            return Ok(committed);
        }
        let mut tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (index, write) in writes.iter().enumerate() {
            let savepoint = tx.savepoint()?;
            match write::apply(&savepoint, write) {
                Ok(()) => savepoint.commit()?,
                Err(Fault::Failed(error)) => return Err(error.into()),
                Err(Fault::Refused(reason)) => {
                    savepoint.finish()?; // rolls back what the write had done
                    committed.refused.push(Refused { index, reason: format!("{}: {reason}", write.subject()) });
                }
            }
        }
        tx.commit()?;
        Ok(committed)
    }

    /// The stored log lines of an app, oldest first; `None` if there are none that can be read.
    ///
    /// # Errors
    /// [`Error::Statement`].
    pub fn log_history(&mut self, app_key: u64, stage: &str) -> Result<Option<Vec<String>>, Error> {
        Ok(load::log_history(&self.conn, app_key, stage)?)
    }

    /// One batch of the retention (storage-and-logs 1.6): deletes at most 1000 rows of the state history and says how
    /// many. To be repeated until it returns 0.
    ///
    /// # Errors
    /// [`Error::Statement`].
    pub fn trim_history(&mut self) -> Result<usize, Error> {
        Ok(write::trim_history(&self.conn)?)
    }

    /// Writes the log of SQLite back into the file and closes it.
    pub fn close(self) {
        let checkpoint = self.conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, bool>(0));
        if !matches!(checkpoint, Ok(false)) {
            log::warn!("the log of the database was not written back: {checkpoint:?}");
        }
        if let Err((_, error)) = self.conn.close() {
            log::warn!("the database was not closed: {error}");
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Open(error) => write!(f, "the database cannot be opened: {error}"),
            Error::Damaged(finding) => write!(f, "the database is damaged: {finding}"),
            Error::Migrate(error) => write!(f, "the database cannot be migrated: {error}"),
            Error::Statement(error) => write!(f, "the database failed: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Error {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => Error::Damaged(error.to_string()),
            _ => Error::Statement(error),
        }
    }
}
