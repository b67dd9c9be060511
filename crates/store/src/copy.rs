//! Copies of an SQLite database: made while a server works on it, opened on their own, and put into the
//! place of another. PostgreSQL has tools of its own.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tokio::sync::Semaphore;

use crate::{
    error::{OpenError, StoreError},
    mark::Mark,
    open::{
        MADE_WITH, OpenOptions, SCHEMA_VERSION, SQLITE, WORKS_WITH, check_key, check_sqlite_file, folder,
        made_with, migrate, sqlite_options, use_of, works_beside,
    },
    seal::{MasterKeys, Purpose},
    tx::{Pools, Store},
    writer::{Turn, Writer},
};

/// Why a copy was not made, or not put into its place. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database is not a file.
    #[error("this is not an SQLite database: PostgreSQL has tools of its own")]
    NotAFile,
    /// The copy is not whole, or its audit log is not.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The file system.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] io::Error),
    /// The copy, as a database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// The right to replace a database file: nobody has it open, and nobody can open it meanwhile.
#[derive(Debug)]
pub struct Alone {
    file: PathBuf,
    _lock: std::fs::File,
}

impl Alone {
    /// Takes it.
    ///
    /// # Errors
    /// [`OpenError::InUse`].
    pub fn with(file: &Path) -> Result<Self, OpenError> {
        Ok(Self { file: file.to_owned(), _lock: use_of(file, true)? })
    }
}

/// A file name with something behind it.
fn with_end(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}

impl Store {
    /// Copies the database into a file that is empty. It is one moment of the database: all that was
    /// acknowledged before this was called is in it. Writers go on meanwhile; their log grows until the
    /// copy is done. Not synced.
    ///
    /// # Errors
    /// [`CopyError::NotAFile`], or the database's: of a full disk, too.
    pub async fn copy_into(&self, file: &Path) -> Result<(), CopyError> {
        let Pools::Sqlite { writer, .. } = &self.pools else { return Err(CopyError::NotAFile) };
        let name = file.to_str().ok_or_else(|| {
            CopyError::Io(file.to_owned(), io::Error::new(io::ErrorKind::InvalidInput, "the name is not UTF-8"))
        })?;
        let mut turn = Turn::wait(Arc::clone(writer)).await?;
        sqlx::query("VACUUM INTO $1").bind(name).execute(turn.connection()).await?;
        Ok(())
    }

    /// Opens a copy that nobody else has open, and brings its schema up to date. Everything is in the
    /// one file when it was closed; nothing is made beside it for good.
    ///
    /// # Errors
    /// [`OpenError`]: it is not ours, damaged, of a later program, or of another master key.
    pub async fn open_copy(file: &Path, keys: Arc<MasterKeys>) -> Result<Self, OpenError> {
        let options = OpenOptions { connections: 1, ..OpenOptions::default() };
        check_sqlite_file(file, &options).await?;
        let connect = sqlite_options(file, &options).journal_mode(SqliteJournalMode::Delete);
        let pool = || SqlitePoolOptions::new().max_connections(1).acquire_timeout(options.patience);
        let looking = pool().connect_with(connect.clone()).await?;
        check_key(&keys, made_with(sqlx::query_scalar(MADE_WITH).fetch_optional(&looking).await)?)?;
        migrate(SQLITE.run(&looking).await, &SQLITE)?;
        let version = sqlx::query_scalar(SCHEMA_VERSION).fetch_one(&looking).await?;
        works_beside(version, &SQLITE, sqlx::query_scalar(WORKS_WITH).fetch_optional(&looking).await)?;
        looking.close().await;
        let writer = Writer::new(connect.connect().await?, connect.clone());
        let readers = pool().connect_with(connect.pragma("query_only", "ON")).await?;
        let chain_key = keys.digest_key(Purpose::AuditChain);
        Ok(Self {
            pools: Pools::Sqlite { writer, readers },
            keys,
            chain_key,
            acts: Arc::new(Semaphore::new(1)),
            patience: options.patience,
            mark: Arc::new(Mark::new(None)),
            _use: None,
        })
    }

    /// Looks through the whole file, indexes too: the first thing that is wrong, if anything is.
    ///
    /// # Errors
    /// [`CopyError::NotAFile`], or the database's.
    pub async fn look_through(&self) -> Result<Option<String>, CopyError> {
        let Pools::Sqlite { readers, .. } = &self.pools else { return Err(CopyError::NotAFile) };
        let said: String = sqlx::query_scalar("PRAGMA integrity_check(1)").fetch_one(readers).await?;
        Ok((said != "ok").then_some(said))
    }
}

/// Writes what the old database still has in its log into its file. A damaged one does not let that
/// happen; then the log is moved with it.
async fn close_old(file: &Path) -> Result<(), sqlx::Error> {
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(5));
    let mut connection = options.disable_statement_logging().connect().await?;
    let done = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
    connection.close().await?;
    done.map(drop)
}

/// Puts a file, which lies in the same folder, into the place of a database. The old one, if there is
/// one, keeps another name, `kept`. Killed at any moment it leaves the old one or the new one.
///
/// # Errors
/// The file system's; the old database is in its place then.
pub async fn put_in_place(alone: &Alone, fresh: &Path, kept: &Path) -> Result<(), CopyError> {
    let file = alone.file.as_path();
    let io = |path: &Path, e| CopyError::Io(path.to_owned(), e);
    std::fs::File::open(fresh).and_then(|f| f.sync_all()).map_err(|e| io(fresh, e))?;
    if file.exists()
        && let Err(error) = close_old(file).await
    {
        tracing::debug!(%error, "the log of the old database is moved with it");
    }
    for end in ["-wal", "-shm"] {
        let log = with_end(file, end);
        if log.exists() {
            std::fs::rename(&log, with_end(kept, end)).map_err(|e| io(&log, e))?;
        }
    }
    if file.exists() {
        std::fs::hard_link(file, kept).map_err(|e| io(kept, e))?;
    }
    std::fs::rename(fresh, file).map_err(|e| io(file, e))?;
    let folder = folder(file);
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io(folder, e))
}
