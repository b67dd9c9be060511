//! What `portcullis doctor` asks a database about itself. It changes nothing, and it opens the database in
//! its own way, since one that a server would refuse is the one to look at.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use portcullis_domain::hold::Hold;
use sqlx::{
    ConnectOptions, Connection, PgConnection, Row, SqliteConnection,
    postgres::{PgConnectOptions, PgRow, PgSslMode},
    sqlite::SqliteConnectOptions,
};
use tokio::time::timeout;

use crate::{
    error::{OpenError, StoreError},
    hold::{HELD, HeldRow, hold_of},
    installation::instant,
    open::{Database, POSTGRES, SQLITE, newest},
};

/// What every database says of itself.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The schema.
    pub schema: SchemaFacts,
    /// The instant of the last audit record (UTC), if there is one.
    pub last_record_at: Option<Timestamp>,
    /// That it is on hold, if it is.
    pub hold: Option<Hold>,
    /// What only the one or the other has.
    pub server: ServerFacts,
}

/// How the schema stands to this program.
#[derive(Debug, Clone, Copy)]
pub struct SchemaFacts {
    /// Its version; 0 when the database is not Portcullis's yet.
    pub version: i64,
    /// The version that this program knows.
    pub known: i64,
    /// The oldest version whose program can work beside it, if it says so.
    pub works_with: Option<i64>,
}

/// What only one kind of database has.
#[derive(Debug, Clone)]
pub enum ServerFacts {
    /// SQLite.
    Sqlite(SqliteFacts),
    /// PostgreSQL.
    Postgres(Box<PostgresFacts>),
}

/// What an SQLite file says of itself.
#[derive(Debug, Clone)]
pub struct SqliteFacts {
    /// What `PRAGMA quick_check` found, the first ten; empty when the file is whole.
    pub damage: Vec<String>,
    /// The size of the write-ahead log beside it, in bytes.
    pub log_bytes: u64,
    /// The size of the file, in bytes.
    pub bytes: u64,
}

/// What a PostgreSQL server says of itself.
#[derive(Debug, Clone)]
pub struct PostgresFacts {
    /// Its version, in its own words.
    pub version: String,
    /// What its clock said (UTC), between the two instants at which it was asked and had answered.
    pub clock: Timestamp,
    /// Whether this connection goes through TLS.
    pub is_encrypted: bool,
    /// Whether this connection never leaves the machine: a socket, or loopback.
    pub is_local: bool,
    /// Whether the server is asked to prove itself by its certificate (`sslmode=verify-full`).
    pub is_verified: bool,
    /// Whether it is a standby, which cannot be written to.
    pub is_standby: bool,
    /// Settings by name, in its own words.
    pub settings: Vec<(String, String)>,
    /// The standbys that stream from it, as name and `sync_state`; `None` when this user may not see it.
    pub standbys: Option<Vec<(String, String)>>,
    /// Connections that may be used, after those kept for superusers, over all databases.
    pub connections: i64,
}

impl PostgresFacts {
    /// A setting.
    #[must_use]
    pub fn setting(&self, name: &str) -> &str {
        self.settings.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// The settings that are looked at.
const SETTINGS: &str = "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes', \
                        'synchronous_commit', 'synchronous_standby_names', 'wal_level', 'data_checksums')";

const VERSION: &str = "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success";
const WORKS_WITH: &str = "SELECT oldest FROM schema_works_with";
const LAST_RECORD: &str = "SELECT MAX(at) FROM audit_records";

/// Asks a database about itself.
///
/// # Errors
/// [`OpenError`] when it cannot be reached, or is none.
pub async fn examine(database: &Database, patience: Duration) -> Result<Examined, OpenError> {
    let asking = async {
        match database {
            Database::Sqlite(file) => examine_sqlite(file, patience).await,
            Database::Postgres(url) => examine_postgres(url).await,
        }
    };
    // A check of a large file takes longer than a request may.
    let limit = if matches!(database, Database::Sqlite(_)) { Duration::from_secs(3600) } else { patience };
    timeout(limit, asking).await.unwrap_or_else(|_| Err(StoreError::timed_out().into()))
}

/// What is there is read; a table or column that is not there is an older schema's, or nobody's.
fn if_there<T>(answer: Result<Option<T>, sqlx::Error>) -> Result<Option<T>, sqlx::Error> {
    match answer {
        Err(sqlx::Error::Database(e))
            if matches!(e.code().as_deref(), Some("42P01" | "42703"))
                || ["no such table", "no such column"].iter().any(|words| e.message().starts_with(words)) =>
        {
            Ok(None)
        }
        other => other,
    }
}

async fn examine_sqlite(file: &Path, patience: Duration) -> Result<Examined, OpenError> {
    let size = |path: &Path| path.metadata().map(|m| m.len());
    let bytes = match size(file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(OpenError::Absent(file.display().to_string()));
        }
        Err(e) => return Err(OpenError::Io(file.to_owned(), e)),
    };
    if bytes == 0 {
        return Err(OpenError::Empty(file.to_owned()));
    }
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let log_bytes = size(Path::new(&log)).unwrap_or(0);
    let options = SqliteConnectOptions::new()
        .filename(file)
        .read_only(true)
        .busy_timeout(patience)
        .disable_statement_logging();
    let foreign = |e: sqlx::Error| OpenError::Foreign(file.to_owned(), e.to_string());
    let mut c: SqliteConnection = options.connect().await.map_err(foreign)?;
    let found: Vec<String> =
        sqlx::query_scalar("PRAGMA quick_check(10)").fetch_all(&mut c).await.map_err(foreign)?;
    let damage = found.into_iter().filter(|line| line != "ok").collect();
    let version = if_there(sqlx::query_scalar(VERSION).fetch_optional(&mut c).await)?;
    let works_with = if_there(sqlx::query_scalar(WORKS_WITH).fetch_optional(&mut c).await)?;
    let last: Option<Option<i64>> = if_there(sqlx::query_scalar(LAST_RECORD).fetch_optional(&mut c).await)?;
    let held: Option<HeldRow> = if_there(sqlx::query_as(HELD).fetch_optional(&mut c).await)?;
    c.close().await?;
    Ok(Examined {
        schema: SchemaFacts { version: version.unwrap_or(0), known: newest(&SQLITE), works_with },
        last_record_at: last.flatten().map(instant).transpose()?,
        hold: held.map(hold_of).transpose()?,
        server: ServerFacts::Sqlite(SqliteFacts { damage, log_bytes, bytes }),
    })
}

async fn examine_postgres(url: &str) -> Result<Examined, OpenError> {
    let options: PgConnectOptions = url.parse().map_err(|_| OpenError::Url)?;
    let options = options.application_name("portcullis doctor").disable_statement_logging();
    let is_verified = matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
    let mut c: PgConnection = options.connect().await?;
    // Whatever is said by mistake below, nothing is changed.
    sqlx::query("SET default_transaction_read_only = on").execute(&mut c).await?;
    let version = if_there(sqlx::query_scalar(VERSION).fetch_optional(&mut c).await)?;
    let works_with = if_there(sqlx::query_scalar(WORKS_WITH).fetch_optional(&mut c).await)?;
    let last: Option<Option<i64>> = if_there(sqlx::query_scalar(LAST_RECORD).fetch_optional(&mut c).await)?;
    let held: Option<HeldRow> = if_there(sqlx::query_as(HELD).fetch_optional(&mut c).await)?;
    let facts = postgres_facts(&mut c, is_verified).await?;
    c.close().await?;
    Ok(Examined {
        schema: SchemaFacts { version: version.unwrap_or(0), known: newest(&POSTGRES), works_with },
        last_record_at: last.flatten().map(instant).transpose()?,
        hold: held.map(hold_of).transpose()?,
        server: ServerFacts::Postgres(Box::new(facts)),
    })
}

async fn postgres_facts(c: &mut PgConnection, is_verified: bool) -> Result<PostgresFacts, OpenError> {
    let settings: Vec<PgRow> = sqlx::query(SETTINGS).fetch_all(&mut *c).await?;
    let settings =
        settings.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    let sql = "SELECT version(), pg_is_in_recovery(), \
               COALESCE((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), FALSE), \
               COALESCE(inet_server_addr() <<= '127.0.0.0/8' OR inet_server_addr() = '::1', TRUE), \
               current_setting('max_connections')::BIGINT - current_setting('superuser_reserved_connections')::BIGINT, \
               (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::BIGINT";
    let row: (String, bool, bool, bool, i64, i64) = sqlx::query_as(sql).fetch_one(&mut *c).await?;
    let (version, is_standby, is_encrypted, is_local, connections, clock) = row;
    // Who may not see it gets rows without a state.
    let sql = "SELECT COALESCE(application_name, ''), sync_state FROM pg_stat_replication";
    let seen: Vec<(String, Option<String>)> = sqlx::query_as(sql).fetch_all(&mut *c).await?;
    let standbys = seen.into_iter().map(|(name, state)| state.map(|state| (name, state))).collect();
    let clock = instant(clock)?;
    Ok(PostgresFacts {
        version,
        clock,
        is_encrypted,
        is_local,
        is_verified,
        is_standby,
        settings,
        standbys,
        connections,
    })
}
