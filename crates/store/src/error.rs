//! What can go wrong with a database, sorted by what the caller can do about it.

/// Why a statement or a commit failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not do it: not reachable, too busy, disk full. Nothing was changed; the
    /// request may be repeated.
    #[error("the database is not available: {0}")]
    Unavailable(#[source] sqlx::Error),
    /// The connection was lost during COMMIT: it may or may not have happened.
    #[error("the database did not answer the commit, so its outcome is unknown: {0}")]
    Unknown(#[source] sqlx::Error),
    /// A constraint refused it: somebody else was first. Nothing was changed.
    #[error("a constraint of the database refused the change: {0}")]
    Conflict(#[source] sqlx::Error),
    /// The database is on hold (H-1). Nothing was changed, and nothing is told.
    #[error("the database is on hold: see `portcullis hold show`")]
    OnHold,
    /// What was read makes no sense, so nothing is decided on it.
    #[error("the database holds a value that cannot be: {0}")]
    Corrupt(String),
}

impl StoreError {
    /// The database did not answer in time.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::Unavailable(sqlx::Error::PoolTimedOut)
    }

    /// The database answers, and takes nothing.
    pub(crate) fn read_only() -> Self {
        let why = "it can only be read: is it a standby, or default_transaction_read_only on?";
        Self::Unavailable(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::ReadOnlyFilesystem, why)))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(e)
                if e.is_unique_violation() || e.is_check_violation() || e.is_foreign_key_violation() =>
            {
                Self::Conflict(error)
            }
            sqlx::Error::Database(e) if is_damage(e.as_ref()) => Self::Corrupt(error.to_string()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Unavailable(error),
        }
    }
}

/// SQLITE_CORRUPT (11) or SQLITE_NOTADB (26), extended or not, or PostgreSQL's data_corrupted (XX001) or
/// index_corrupted (XX002): what is stored is broken.
fn is_damage(error: &dyn sqlx::error::DatabaseError) -> bool {
    match sqlite_code(error) {
        Some(code) => matches!(code & 0xff, 11 | 26),
        None => error.code().is_some_and(|code| matches!(&*code, "XX001" | "XX002")),
    }
}

/// Whether an error that came as the answer to COMMIT leaves open whether it happened: a connection
/// that a pooler lost on the way (SQLSTATE 08…), a server that went away (57P…), or a disk that
/// failed under SQLite (SQLITE_IOERR, 10) with the commit in its log, perhaps.
pub(crate) fn is_unknown_commit(error: &dyn sqlx::error::DatabaseError) -> bool {
    match sqlite_code(error) {
        Some(code) => code & 0xff == 10,
        None => error.code().is_some_and(|c| c.starts_with("08") || c.starts_with("57P")),
    }
}

/// The result code, if it is SQLite's.
fn sqlite_code(error: &dyn sqlx::error::DatabaseError) -> Option<i32> {
    error.try_downcast_ref::<sqlx::sqlite::SqliteError>()?;
    error.code()?.parse().ok()
}

/// A stored word or number that no version of this program writes.
pub(crate) fn corrupt(what: &str, value: impl std::fmt::Debug) -> StoreError {
    StoreError::Corrupt(format!("{what}: {value:?}"))
}

/// Why a database could not be opened. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not a URL of a database this program knows.
    #[error("the database URL must begin with postgres:// or postgresql://")]
    Url,
    /// There is nothing to look at.
    #[error("there is no Portcullis database at {0}")]
    Absent(String),
    /// The file is there but holds nothing.
    #[error(
        "{0} is empty. A database was lost or truncated here: restore it from a backup, \
         or remove the empty file to begin with a new database"
    )]
    Empty(std::path::PathBuf),
    /// The file is gone, but not its write-ahead log or its mark.
    #[error(
        "{0} is gone, but {1} is still there: a database was lost here. Restore it from a backup \
         (portcullis restore), or remove {1} to begin with a new database"
    )]
    Lost(std::path::PathBuf, std::path::PathBuf),
    /// The file is a database of something else, or damaged.
    #[error(
        "{0} is not a Portcullis database (or is damaged): {1}. It was left as it is: restore it from a backup, \
         or name another folder in data_dir to begin with a new database"
    )]
    Foreign(std::path::PathBuf, String),
    /// The schema was written by a later version, and this one cannot work beside it.
    #[error(
        "the database is at schema version {0}, and this program, which knows version {1}, cannot work beside it. \
         Run the newer program; nothing was changed"
    )]
    Newer(i64, i64),
    /// A migration could not be run.
    #[error("the schema could not be brought up to date: {0}")]
    Migration(String),
    /// The database was made under another master key.
    #[error(
        "this database was made with master key {0}, which is not among the keys given ({1}). \
         Give the right key file or PORTCULLIS_MASTER_KEY; nothing was changed"
    )]
    WrongMasterKey(String, String),
    /// The linked SQLite is one that can corrupt.
    #[error("SQLite {0} is linked, but 3.51.3 or newer is needed (older ones can corrupt in a WAL reset race)")]
    OldSqlite(String),
    /// Another process uses the database, or is about to replace it.
    #[error(
        "{0} is in use by a server or another command. Stop it (or wait until it has ended) and run this again; \
         nothing was changed"
    )]
    InUse(std::path::PathBuf),
    /// The mark beside the database.
    #[error("the mark of the database (portcullis.mark in the data folder) cannot be used: {0}")]
    Mark(String),
    /// The data directory.
    #[error("{0}: {1}")]
    Io(std::path::PathBuf, #[source] std::io::Error),
    /// Anything else the database said.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for OpenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
