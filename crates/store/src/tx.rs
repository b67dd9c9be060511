//! Transactions, and the one macro through which every statement runs on either database.

use std::{sync::Arc, time::Duration};

use portcullis_domain::{audit::Entry, secret::DigestKey};
use sqlx::{
    PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool, Transaction, pool::PoolConnection,
};

use crate::{
    credentials::PresentedClient,
    error::{StoreError, is_unknown_commit},
    seal::{MasterKeys, Purpose},
    tokens::{NewToken, Parameters, insert_of, record},
    writer::{Turn, Writer},
};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

/// The database of a server. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) pools: Pools,
    pub(crate) keys: Arc<MasterKeys>,
    pub(crate) chain_key: DigestKey,
    /// Acts of this node queue here rather than each in a connection.
    pub(crate) acts: Arc<Semaphore>,
    pub(crate) patience: Duration,
}

#[derive(Clone)]
pub(crate) enum Pools {
    /// SQLite has one writer, and waiting for it in order beats being told that it is busy.
    Sqlite {
        writer: Arc<Mutex<Writer>>,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

/// A transaction (or, from [`Store::read`], a connection that only looks). Dropped without
/// [`Tx::commit`] it changes nothing.
pub struct Tx {
    link: Link,
}

enum Link {
    SqliteTx(Turn),
    SqliteRead(PoolConnection<Sqlite>),
    PostgresTx(Transaction<'static, Postgres>),
    PostgresRead(PoolConnection<Postgres>),
}

/// The connection under a [`Tx`].
pub(crate) enum Conn<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection),
}

/// A transaction of an act that the audit log must show. It can only be committed with its
/// records (L-1), and no two acts run at the same time, on any node.
pub struct Act {
    tx: Tx,
    pub(crate) keys: Arc<MasterKeys>,
    _turn: OwnedSemaphorePermit,
}

/// The advisory locks on PostgreSQL. They are held to the end of the transaction; nothing else of
/// the database (autovacuum, say) waits for them or is waited for.
#[derive(Debug, Clone, Copy)]
enum Lock {
    /// One act at a time, on any node.
    Acts = 0x5043_4c01,
    /// Issuing shares it; what stops tokens takes it alone (C-11).
    Tokens = 0x5043_4c02,
}

/// Runs one statement, written once, on whichever database is there.
/// `query!(tx, fetch_optional as Row, "SELECT …", bind, …)` or `query!(tx, execute, "…", …)`,
/// which gives the number of rows. `each LIST` binds every item of a list after the others, for
/// a statement that was put together from constant text and placeholders.
macro_rules! query {
    ($tx:expr, execute, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $tx.conn() {
            $crate::tx::Conn::Sqlite(c) => {
                sqlx::query($sql)$(.bind($bind))*.execute(c).await.map(|done| done.rows_affected())
            }
            $crate::tx::Conn::Postgres(c) => {
                sqlx::query($sql)$(.bind($bind))*.execute(c).await.map(|done| done.rows_affected())
            }
        }
        .map_err($crate::error::StoreError::from)
    };
    ($tx:expr, $verb:ident as $row:ty, $sql:expr, each $list:expr) => {
        match $tx.conn() {
            $crate::tx::Conn::Sqlite(c) => {
                let mut query = sqlx::query_as::<_, $row>(sqlx::AssertSqlSafe($sql));
                for item in $list { query = query.bind(item); }
                query.$verb(c).await
            }
            $crate::tx::Conn::Postgres(c) => {
                let mut query = sqlx::query_as::<_, $row>(sqlx::AssertSqlSafe($sql));
                for item in $list { query = query.bind(item); }
                query.$verb(c).await
            }
        }
        .map_err($crate::error::StoreError::from)
    };
    ($tx:expr, $verb:ident as $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $tx.conn() {
            $crate::tx::Conn::Sqlite(c) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.$verb(c).await,
            $crate::tx::Conn::Postgres(c) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.$verb(c).await,
        }
        .map_err($crate::error::StoreError::from)
    };
}
pub(crate) use query;

impl Store {
    /// A connection to look with. Each statement sees what is committed when it runs.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read(&self) -> Result<Tx, StoreError> {
        let link = match &self.pools {
            Pools::Sqlite { readers, .. } => Link::SqliteRead(readers.acquire().await?),
            Pools::Postgres(pool) => Link::PostgresRead(pool.acquire().await?),
        };
        Ok(Tx { link })
    }

    /// A transaction for the product's own book-keeping, which the audit log does not show.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn write(&self) -> Result<Tx, StoreError> {
        let link = match &self.pools {
            Pools::Sqlite { .. } => {
                let mut turn = self.turn().await?;
                turn.run("BEGIN IMMEDIATE").await?;
                Link::SqliteTx(turn)
            }
            Pools::Postgres(pool) => Link::PostgresTx(pool.begin().await?),
        };
        Ok(Tx { link })
    }

    /// A turn on SQLite's writer.
    async fn turn(&self) -> Result<Turn, StoreError> {
        let Pools::Sqlite { writer, .. } = &self.pools else { return Err(StoreError::timed_out()) };
        let waiting = tokio::time::timeout(self.patience, Turn::wait(Arc::clone(writer))).await;
        Ok(waiting.map_err(|_| StoreError::timed_out())??)
    }

    /// A transaction that issues tokens. While it lasts nothing that stops tokens is committed on
    /// any node, and what it reads of their standing stays true until its own commit (C-11).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn issue(&self) -> Result<Tx, StoreError> {
        let mut tx = self.write().await?;
        // Not in one message with BEGIN: if that were given up half-way, sqlx would not know that there
        // is a transaction to roll back.
        if let Conn::Postgres(c) = tx.conn() {
            let sql = "SELECT pg_advisory_xact_lock_shared($1)";
            sqlx::query(sql).bind(Lock::Tokens as i64).execute(c).await?;
        }
        Ok(tx)
    }

    /// [`Store::issue`], and the clients with these ids: on SQLite in one message to its thread.
    ///
    /// # Errors
    /// As [`Store::issue`] and [`Tx::presented_clients`].
    pub async fn issue_to(&self, client_ids: &[&str]) -> Result<(Tx, Vec<PresentedClient>), StoreError> {
        if client_ids.is_empty() || self.has_many_writers() {
            let mut tx = self.issue().await?;
            let found = tx.presented_clients(client_ids).await?;
            return Ok((tx, found));
        }
        let mut tx = Tx { link: Link::SqliteTx(self.turn().await?) };
        let found = tx.presented_after("BEGIN IMMEDIATE; ", client_ids).await?;
        Ok((tx, found))
    }

    /// A transaction for an act. On SQLite the one writer keeps acts apart; on PostgreSQL a lock
    /// taken as the first statement does, and each later statement sees what is committed by then.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn act(&self) -> Result<Act, StoreError> {
        let waiting = tokio::time::timeout(self.patience, Arc::clone(&self.acts).acquire_owned()).await;
        let turn = waiting.ok().and_then(Result::ok);
        let turn = turn.ok_or_else(StoreError::timed_out)?;
        let mut tx = self.write().await?;
        tx.lock(Lock::Acts).await?;
        Ok(Act { tx, keys: Arc::clone(&self.keys), _turn: turn })
    }

    /// The master keys.
    #[must_use]
    pub fn keys(&self) -> &MasterKeys {
        &self.keys
    }

    /// The key of a purpose that digests are made with now.
    #[must_use]
    pub fn digest_key(&self, purpose: Purpose) -> DigestKey {
        self.keys.digest_key(purpose)
    }

    /// Whether transactions of this database may overlap (PostgreSQL) or queue for one writer.
    #[must_use]
    pub fn has_many_writers(&self) -> bool {
        matches!(self.pools, Pools::Postgres(_))
    }

    /// Waits until somebody closes the database. Who keeps a connection lets it go then.
    pub async fn closing(&self) {
        match &self.pools {
            Pools::Sqlite { readers, .. } => readers.close_event().await,
            Pools::Postgres(pool) => pool.close_event().await,
        }
    }

    /// Closes all connections after what is under way.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                if let Err(error) = writer.lock().await.close().await {
                    tracing::warn!(%error, "the database was not closed in order");
                }
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

impl Tx {
    pub(crate) fn conn(&mut self) -> Conn<'_> {
        match &mut self.link {
            Link::SqliteTx(turn) => Conn::Sqlite(turn.connection()),
            Link::SqliteRead(c) => Conn::Sqlite(c),
            Link::PostgresTx(tx) => Conn::Postgres(tx),
            Link::PostgresRead(c) => Conn::Postgres(c),
        }
    }

    async fn lock(&mut self, lock: Lock) -> Result<(), StoreError> {
        if let Conn::Postgres(c) = self.conn() {
            sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(lock as i64).execute(c).await?;
        }
        Ok(())
    }

    /// Waits for the tokens being issued on any node, and keeps others from being issued, until
    /// this transaction ends. Every statement that stops tokens begins with it (C-11).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn hold_tokens(&mut self) -> Result<(), StoreError> {
        self.lock(Lock::Tokens).await
    }

    /// Makes the changes last.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when the connection was lost meanwhile.
    pub async fn commit(self) -> Result<(), StoreError> {
        let outcome = match self.link {
            Link::SqliteTx(mut turn) => turn.run("COMMIT").await.map(|()| turn.committed()),
            Link::PostgresTx(tx) => tx.commit().await,
            Link::SqliteRead(_) | Link::PostgresRead(_) => Ok(()),
        };
        outcome.map_err(commit_failed)
    }

    /// Puts tokens on record and makes it last: on SQLite in one message to its thread.
    ///
    /// # Errors
    /// As [`Tx::record_tokens`] and [`Tx::commit`].
    pub async fn record_and_commit(mut self, tokens: &[NewToken]) -> Result<(), StoreError> {
        match self.link {
            Link::SqliteTx(mut turn) if !tokens.is_empty() => {
                let sql = format!("{}; COMMIT", insert_of(tokens.len(), Parameters::InOrder));
                record!(turn.connection(), sql, tokens).map(|_| turn.committed()).map_err(commit_failed)
            }
            _ => {
                self.record_tokens(tokens).await?;
                self.commit().await
            }
        }
    }
}

/// What the failure of a commit, or of what was sent with it, leaves open.
fn commit_failed(error: sqlx::Error) -> StoreError {
    match error {
        // The database answered: it did not commit.
        sqlx::Error::Database(ref e) if !is_unknown_commit(e.as_ref()) => StoreError::from(error),
        _ => StoreError::Unknown(error),
    }
}

impl Act {
    /// Writes the records of this act and makes all of it last, or nothing (L-1).
    ///
    /// # Errors
    /// As [`Tx::commit`]; [`StoreError::Corrupt`] without a record, since an act must leave one.
    pub async fn commit(mut self, records: &[Entry]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Err(StoreError::Corrupt("an act without an audit record".to_owned()));
        }
        self.append_audit(records).await?;
        self.tx.commit().await
    }
}

impl std::ops::Deref for Act {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl std::ops::DerefMut for Act {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}
