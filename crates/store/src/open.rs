//! Opening a database: the connection settings that keep it safe, and the migrations.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    error::OpenError,
    indexes,
    mark::Mark,
    patience::{Patience, PgNode},
    seal::{MasterKeys, Purpose},
    tx::{Pools, Store},
    writer::Writer,
};
use tokio::sync::Semaphore;

pub(crate) static SQLITE: Migrator = sqlx::migrate!("migrations/sqlite");
pub(crate) static POSTGRES: Migrator = sqlx::migrate!("migrations/postgres");

/// The `application_id` in the header of an SQLite file of ours, as the first migration sets it.
const APPLICATION_ID: i32 = 1_346_587_731;
/// The oldest SQLite without the WAL reset race: 3.51.3.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

/// Which database.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file, made if it is not there.
    Sqlite(PathBuf),
    /// A PostgreSQL server, by URL.
    Postgres(String),
}

/// How to use it.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Connections to PostgreSQL, or readers of SQLite.
    pub connections: u32,
    /// How long a request waits for a connection, a lock or a statement before it is told that the
    /// database is not available.
    pub patience: Duration,
    /// Only open what is there: neither make a database nor change its schema.
    pub only_look: bool,
    /// Where it is noted what was acknowledged on a PostgreSQL database (H-4); for an SQLite file that
    /// is beside it.
    pub mark: Option<PathBuf>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self { connections: 8, patience: Duration::from_secs(5), only_look: false, mark: None }
    }
}

impl Store {
    /// Opens a database and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`], whose text says what to do. Nothing is changed then.
    pub async fn open(
        database: &Database,
        keys: Arc<MasterKeys>,
        options: &OpenOptions,
    ) -> Result<Self, OpenError> {
        let (pools, mark, used) = match database {
            Database::Sqlite(file) => {
                let (pools, used) = open_sqlite(file, &keys, options).await?;
                (pools, Some(mark_of(file)), Some(Arc::new(used)))
            }
            Database::Postgres(url) => (open_postgres(url, &keys, options).await?, options.mark.clone(), None),
        };
        let mark = Arc::new(Mark::new(mark));
        let chain_key = keys.digest_key(Purpose::AuditChain);
        let (acts, patience) = (Arc::new(Semaphore::new(1)), options.patience);
        Ok(Self { pools, keys, chain_key, acts, patience, mark, _use: used })
    }

    /// Makes the installation's row, or sees that it was made under a key of this ring: of several
    /// nodes that start at once on an empty database, each with a key of its own, one wins and the
    /// others are told.
    ///
    /// # Errors
    /// [`OpenError::WrongMasterKey`].
    pub async fn claim(&self, name: [u8; 16], now: jiff::Timestamp) -> Result<(), OpenError> {
        let mut tx = self.write().await?;
        if tx.name_installation(name, self.keys.current_id(), now).await? {
            tx.seal_new_audit(&self.chain_key).await?;
        }
        let installation = tx.installation().await?;
        tx.commit().await?;
        check_key(&self.keys, installation.map(|i| i.master_key_id))
    }
}

pub(crate) fn check_key(keys: &MasterKeys, made_with: Option<String>) -> Result<(), OpenError> {
    match made_with {
        Some(id) if !keys.has(&id) => Err(OpenError::WrongMasterKey(id, keys.ids())),
        _ => Ok(()),
    }
}

/// The key that a database was made with, asked before anything in it is changed. A database
/// without that table has not been used.
pub(crate) const MADE_WITH: &str = "SELECT master_key_id FROM installation";

pub(crate) fn made_with(answer: Result<Option<String>, sqlx::Error>) -> Result<Option<String>, OpenError> {
    match answer {
        // PostgreSQL's code for it, and SQLite's words.
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("42P01") => Ok(None),
        Err(sqlx::Error::Database(e)) if e.message().starts_with("no such table") => Ok(None),
        other => Ok(other?),
    }
}

pub(crate) fn sqlite_options(file: &Path, options: &OpenOptions) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(options.patience)
        .statement_cache_capacity(256)
        .disable_statement_logging()
}

/// Where SQLite keeps what is not yet in the file itself.
fn log_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Where it is noted what was acknowledged on a file.
fn mark_of(file: &Path) -> PathBuf {
    folder(file).join("portcullis.mark")
}

/// A lock file beside a database.
fn lock_file(file: &Path, name: &str) -> Result<(std::fs::File, PathBuf), OpenError> {
    let path = folder(file).join(name);
    let mut private = std::fs::File::options();
    private.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut private, 0o600);
    let lock = private.open(&path).map_err(|e| OpenError::Io(path.clone(), e))?;
    Ok((lock, path))
}

/// Who uses a file; shared by all, but for who replaces it. It goes with the file handle.
pub(crate) fn use_of(file: &Path, alone: bool) -> Result<std::fs::File, OpenError> {
    let (lock, path) = lock_file(file, "portcullis.use.lock")?;
    let taken = if alone { lock.try_lock() } else { lock.try_lock_shared() };
    match taken {
        Ok(()) => Ok(lock),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::InUse(file.to_owned())),
        Err(std::fs::TryLockError::Error(e)) => Err(OpenError::Io(path, e)),
    }
}

/// The folder of a file; a bare name is in the working directory.
pub(crate) fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

async fn open_sqlite(
    file: &Path,
    keys: &MasterKeys,
    options: &OpenOptions,
) -> Result<(Pools, std::fs::File), OpenError> {
    assert_sqlite_version().await?;
    let there = is_there(file)?;
    if options.only_look && !there {
        return Err(OpenError::Absent(file.display().to_string()));
    }
    let used = use_of(file, false)?;
    // Held while the schema changes, so that a server and a command that start together do not
    // both make the tables. The lock goes with the file handle.
    let (lock, path) = lock_file(file, "portcullis.lock")?;
    let io = |e| OpenError::Io(path, e);
    let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock))
        .await
        .map_err(|e| OpenError::Migration(e.to_string()))?
        .map_err(io)?;
    // Asked again under the lock: a program that started together may have made it meanwhile.
    if is_there(file)? {
        check_sqlite_file(file, options).await?;
    } else if let Some(left) = [log_of(file), mark_of(file)].into_iter().find(|left| left.exists()) {
        return Err(OpenError::Lost(file.to_owned(), left));
    } else {
        make_sqlite_file(file, options).await?;
    }
    let connect = sqlite_options(file, options);
    let looking = SqlitePoolOptions::new().max_connections(1).connect_with(connect.clone()).await?;
    check_key(keys, made_with(sqlx::query_scalar(MADE_WITH).fetch_optional(&looking).await)?)?;
    if !options.only_look {
        migrate(SQLITE.run(&looking).await, &SQLITE)?;
    }
    let version = sqlx::query_scalar(SCHEMA_VERSION).fetch_one(&looking).await?;
    works_beside(version, &SQLITE, sqlx::query_scalar(WORKS_WITH).fetch_optional(&looking).await)?;
    drop(lock);
    let writer = connect.connect().await?;
    // After the writer, so that SQLite does not work off the log in between.
    looking.close().await;
    // A connection to a file is not lost, so it is not asked whether it is there before each use.
    let readers = SqlitePoolOptions::new().max_connections(options.connections).min_connections(1);
    let readers = readers.acquire_timeout(options.patience).test_before_acquire(false);
    let readers = readers.connect_with(connect.clone().pragma("query_only", "ON")).await?;
    Ok((Pools::Sqlite { writer: Writer::new(writer, connect), readers }, used))
}

/// Whether something has that name, a link that leads nowhere included: only where nothing is may a
/// database be made.
fn is_there(file: &Path) -> Result<bool, OpenError> {
    match file.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(OpenError::Io(file.to_owned(), e)),
    }
}

/// Up to this size the whole file is looked through at the start, which takes some hundredths of a second;
/// of a larger one only what nothing works without.
const LOOKED_THROUGH: u64 = 16 * 1024 * 1024;

/// Refuses a file that is not ours. An empty one is refused too: making a database over it would
/// hide that one was lost.
pub(crate) async fn check_sqlite_file(file: &Path, options: &OpenOptions) -> Result<(), OpenError> {
    let length = file.metadata().map_err(|e| OpenError::Io(file.to_owned(), e))?.len();
    if length == 0 {
        return Err(OpenError::Empty(file.to_owned()));
    }
    let foreign = |why: String| OpenError::Foreign(file.to_owned(), why);
    // Looked at without SQLite, which would work off the log of a file that is not ours.
    let mut header = [0; 72];
    std::fs::File::open(file).and_then(|mut f| f.read_exact(&mut header)).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => foreign("it is too short".to_owned()),
        _ => OpenError::Io(file.to_owned(), e),
    })?;
    let (text, id) = (&header[..16], &header[68..]);
    if text != b"SQLite format 3\0" || id != APPLICATION_ID.to_be_bytes() {
        return Err(foreign("its header is another one".to_owned()));
    }
    // This finds out whether it is whole. The journal mode is left alone until then.
    let plain =
        SqliteConnectOptions::new().filename(file).busy_timeout(options.patience).disable_statement_logging();
    let look = async {
        let mut connection = plain.connect().await?;
        let read = look_through(&mut connection, length).await;
        // In order, also after an error: no empty log is left behind.
        sqlx::Connection::close(connection).await?;
        read
    };
    match look.await {
        Ok(None) => Ok(()),
        Ok(Some(wrong)) => Err(foreign(wrong)),
        Err(e) => Err(foreign(e.to_string())),
    }
}

/// The first thing that is wrong inside a file, if anything is.
async fn look_through(connection: &mut SqliteConnection, length: u64) -> Result<Option<String>, sqlx::Error> {
    let checks: &[&str] = if length <= LOOKED_THROUGH {
        &["PRAGMA quick_check(1)"]
    } else {
        &["PRAGMA quick_check(installation)", "PRAGMA quick_check(signing_keys)", "PRAGMA quick_check(audit_head)"]
    };
    sqlx::query("SELECT COUNT(*) FROM sqlite_schema").execute(&mut *connection).await?;
    for check in checks {
        let said: String = sqlx::query_scalar(*check).fetch_one(&mut *connection).await?;
        if said != "ok" {
            return Ok(Some(said));
        }
    }
    Ok(None)
}

/// Makes a new database beside its place and moves it there whole, so that a crash half-way
/// leaves nothing that looks like a database.
async fn make_sqlite_file(file: &Path, options: &OpenOptions) -> Result<(), OpenError> {
    let fresh = file.with_extension("new");
    let io = |e| OpenError::Io(fresh.clone(), e);
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io(e)),
        _ => {}
    }
    private_file(&fresh).map_err(io)?;
    let connect = sqlite_options(&fresh, options).journal_mode(SqliteJournalMode::Delete);
    let pool = SqlitePool::connect_with(connect).await?;
    migrate(SQLITE.run(&pool).await, &SQLITE)?;
    pool.close().await;
    std::fs::rename(&fresh, file).map_err(io)?;
    std::fs::File::open(folder(file)).and_then(|dir| dir.sync_all()).map_err(io)
}

/// An empty file that only its owner can read; SQLite gives its journals the same mode.
pub(crate) fn private_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::File::options();
    options.create_new(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

async fn assert_sqlite_version() -> Result<(), OpenError> {
    let mut memory = SqliteConnectOptions::new().in_memory(true).connect().await?;
    let version: String = sqlx::query_scalar("SELECT sqlite_version()").fetch_one(&mut memory).await?;
    let parts: Vec<u32> = version.split('.').filter_map(|p| p.parse().ok()).collect();
    if parts.as_slice() < OLDEST_SQLITE.as_slice() { Err(OpenError::OldSqlite(version)) } else { Ok(()) }
}

async fn open_postgres(url: &str, keys: &MasterKeys, options: &OpenOptions) -> Result<Pools, OpenError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(OpenError::Url);
    }
    let patience = Patience(options.patience);
    let limit = patience.of_server().as_millis().to_string();
    let connect: PgConnectOptions = url.parse().map_err(|_| OpenError::Url)?;
    let connect = connect.application_name("portcullis").statement_cache_capacity(256).disable_statement_logging();
    // A migration may take longer than a request may wait, and so may the nodes that wait for it.
    let migrating = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(patience.whole())
        .connect_with(connect.clone())
        .await?;
    let made = made_with(sqlx::query_scalar(MADE_WITH).fetch_optional(&migrating).await)?;
    if options.only_look && made.is_none() {
        return Err(OpenError::Absent("this URL".to_owned()));
    }
    check_key(keys, made)?;
    if !options.only_look {
        migrate(POSTGRES.run(&migrating).await, &POSTGRES)?;
        indexes::make_short(&mut *migrating.acquire().await?).await?;
    }
    let version = sqlx::query_scalar(SCHEMA_VERSION).fetch_one(&migrating).await?;
    works_beside(version, &POSTGRES, sqlx::query_scalar(WORKS_WITH).fetch_optional(&migrating).await)?;
    migrating.close().await;
    let connect = connect.options([
        ("lock_timeout", limit.as_str()),
        ("statement_timeout", limit.as_str()),
        // What the locks are for holds only if a statement sees what was committed before it.
        ("default_transaction_isolation", "read committed"),
        // A node that stops half-way must not keep the lock of the acts.
        ("idle_in_transaction_session_timeout", limit.as_str()),
    ]);
    Ok(Pools::Postgres(PgNode::connect(connect, options.connections, patience).await?))
}

/// The newest version that a database's schema was brought to.
pub(crate) const SCHEMA_VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations";

pub(crate) fn newest(ours: &Migrator) -> i64 {
    ours.iter().map(|m| m.version).max().unwrap_or(0)
}

/// The oldest schema whose program can work beside the present one, as the migrations say it.
pub(crate) const WORKS_WITH: &str = "SELECT oldest FROM schema_works_with";

/// Refuses a schema of a later program, also only to look at, unless that says that this one can work
/// beside it.
pub(crate) fn works_beside(
    version: i64,
    ours: &Migrator,
    oldest: Result<Option<i64>, sqlx::Error>,
) -> Result<(), OpenError> {
    let newest = newest(ours);
    if version <= newest {
        return Ok(());
    }
    match oldest {
        Ok(Some(oldest)) if oldest <= newest => Ok(()),
        Ok(_) => Err(OpenError::Newer(version, newest)),
        Err(sqlx::Error::Database(_)) => Err(OpenError::Newer(version, newest)),
        Err(other) => Err(other.into()),
    }
}

/// What came of the migrations. A later one than this program knows is judged by [`works_beside`]: it is
/// found before any is run, and all that this program knows have been run before it.
pub(crate) fn migrate(outcome: Result<(), MigrateError>, ours: &Migrator) -> Result<(), OpenError> {
    match outcome {
        Err(MigrateError::VersionMissing(version)) if version > newest(ours) => Ok(()),
        other => other.map_err(|error| OpenError::Migration(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_file_name_is_in_the_working_directory() {
        assert_eq!(folder(Path::new("portcullis.db")), Path::new("."));
        assert_eq!(folder(Path::new("data/portcullis.db")), Path::new("data"));
        assert_eq!(log_of(Path::new("data/portcullis.db")), Path::new("data/portcullis.db-wal"));
    }
}
