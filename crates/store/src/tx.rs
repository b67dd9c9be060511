//! Transactions, and the one macro through which every statement runs on either database.

use std::{sync::Arc, time::Duration};

use portcullis_domain::{audit::Entry, secret::DigestKey};
use sqlx::{PgConnection, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};

use crate::{
    credentials::PresentedClient,
    error::{StoreError, is_unknown_commit},
    mark::Mark,
    patience::{Ear, PgLink, PgNode},
    seal::{MasterKeys, Purpose},
    tokens::{NewToken, insert_of, record},
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
    pub(crate) mark: Arc<Mark>,
    /// Held while the database is open: nobody replaces its file meanwhile.
    pub(crate) _use: Option<Arc<std::fs::File>>,
}

#[derive(Clone)]
pub(crate) enum Pools {
    /// SQLite has one writer, and waiting for it in order beats being told that it is busy.
    Sqlite {
        writer: Arc<Mutex<Writer>>,
        readers: SqlitePool,
    },
    Postgres(PgNode),
}

/// A transaction (or, from [`Store::read`], a connection that only looks). Dropped without
/// [`Tx::commit`] it changes nothing.
pub struct Tx {
    link: Link,
}

enum Link {
    SqliteTx(Turn),
    SqliteRead(PoolConnection<Sqlite>),
    Postgres(PgLink),
}

/// The connection under a [`Tx`].
pub(crate) enum Conn<'a> {
    Sqlite(&'a mut SqliteConnection),
    Postgres(&'a mut PgConnection, Ear<'a>),
}

/// A transaction of an act that the audit log must show. It can only be committed with its
/// records (L-1), and no two acts run at the same time, on any node.
pub struct Act {
    tx: Tx,
    pub(crate) keys: Arc<MasterKeys>,
    /// Whether it is allowed while the database is on hold.
    pub(crate) on_hold: bool,
    pub(crate) mark: Arc<Mark>,
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

impl Lock {
    /// Takes it alone, to the end of the transaction.
    fn alone(self) -> String {
        format!("SELECT pg_advisory_xact_lock({})", self as i64)
    }

    /// Shares it, to the end of the transaction.
    fn shared(self) -> String {
        format!("SELECT pg_advisory_xact_lock_shared({})", self as i64)
    }
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
            $crate::tx::Conn::Postgres(c, ear) => {
                let done = ear.hear(sqlx::query($sql)$(.bind($bind))*.execute(c)).await;
                done.map(|done| done.rows_affected())
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
            $crate::tx::Conn::Postgres(c, ear) => {
                let mut query = sqlx::query_as::<_, $row>(sqlx::AssertSqlSafe($sql));
                for item in $list { query = query.bind(item); }
                ear.hear(query.$verb(c)).await
            }
        }
        .map_err($crate::error::StoreError::from)
    };
    ($tx:expr, $verb:ident as $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $tx.conn() {
            $crate::tx::Conn::Sqlite(c) => sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.$verb(c).await,
            $crate::tx::Conn::Postgres(c, ear) => {
                ear.hear(sqlx::query_as::<_, $row>($sql)$(.bind($bind))*.$verb(c)).await
            }
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
            Pools::Postgres(node) => Link::Postgres(node.acquire().await?),
        };
        Ok(Tx { link })
    }

    /// A transaction for the product's own book-keeping, which the audit log does not show.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn write(&self) -> Result<Tx, StoreError> {
        self.begin("").await
    }

    /// A transaction that on PostgreSQL begins with a lock: both in one message, and the statements after
    /// it see what was committed before the lock was theirs.
    async fn begin(&self, lock: &str) -> Result<Tx, StoreError> {
        let link = match &self.pools {
            Pools::Sqlite { .. } => {
                let mut turn = self.turn().await?;
                turn.run("BEGIN IMMEDIATE").await?;
                Link::SqliteTx(turn)
            }
            Pools::Postgres(node) => Link::Postgres(node.begin(lock).await?),
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
        self.begin(&Lock::Tokens.shared()).await
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
    /// While the database is on hold it cannot be committed (H-1).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn act(&self) -> Result<Act, StoreError> {
        self.begin_act(false).await
    }

    /// The same for the few acts that are done on hold: the operator's, which stop something or lift the
    /// hold, and the one that begins it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn act_on_hold(&self) -> Result<Act, StoreError> {
        self.begin_act(true).await
    }

    async fn begin_act(&self, on_hold: bool) -> Result<Act, StoreError> {
        let beginning = async {
            let turn = Arc::clone(&self.acts).acquire_owned().await.map_err(|_| StoreError::timed_out())?;
            let tx = self.begin(&Lock::Acts.alone()).await?;
            Ok(Act { tx, keys: Arc::clone(&self.keys), on_hold, mark: Arc::clone(&self.mark), _turn: turn })
        };
        // One limit for all that it waits for.
        tokio::time::timeout(self.patience, beginning).await.unwrap_or_else(|_| Err(StoreError::timed_out()))
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
            Pools::Postgres(node) => node.closing().await,
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
            Pools::Postgres(node) => node.close().await,
        }
    }
}

impl Tx {
    pub(crate) fn conn(&mut self) -> Conn<'_> {
        match &mut self.link {
            Link::SqliteTx(turn) => Conn::Sqlite(turn.connection()),
            Link::SqliteRead(c) => Conn::Sqlite(c),
            Link::Postgres(link) => {
                let (connection, ear) = link.parts();
                Conn::Postgres(connection, ear)
            }
        }
    }

    /// Waits for the tokens being issued on any node, and keeps others from being issued, until
    /// this transaction ends. Every statement that stops tokens begins with it (C-11).
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn hold_tokens(&mut self) -> Result<(), StoreError> {
        if let Conn::Postgres(c, ear) = self.conn() {
            ear.hear(sqlx::query(sqlx::AssertSqlSafe(Lock::Tokens.alone())).execute(c)).await?;
        }
        Ok(())
    }

    /// Makes the changes last.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] when the connection was lost meanwhile.
    pub async fn commit(self) -> Result<(), StoreError> {
        let outcome = match self.link {
            Link::SqliteTx(mut turn) => turn.run("COMMIT").await.map(|()| turn.committed()),
            Link::SqliteRead(_) => Ok(()),
            // Outside a transaction there is nothing to commit, and nothing is asked.
            Link::Postgres(link) => link.commit().await,
        };
        outcome.map_err(commit_failed)
    }

    /// Puts tokens on record and makes it last: on SQLite in one message to its thread. `meanwhile` is
    /// called just before the last message is sent, and not at all when there is none: on PostgreSQL the
    /// insert goes before, so that the commit does not wait for what is done meanwhile.
    ///
    /// # Errors
    /// As [`Tx::record_tokens`] and [`Tx::commit`].
    pub async fn record_and_commit(
        mut self,
        tokens: &[NewToken],
        meanwhile: impl FnOnce(),
    ) -> Result<(), StoreError> {
        match self.link {
            Link::SqliteTx(mut turn) if !tokens.is_empty() => {
                meanwhile();
                let sql = format!("{}; COMMIT", insert_of(tokens.len()));
                record(turn.connection(), sql, tokens).await.map(|()| turn.committed()).map_err(commit_failed)
            }
            _ => {
                self.record_tokens(tokens).await?;
                meanwhile();
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
    /// As [`Tx::commit`]; [`StoreError::Corrupt`] without a record, since an act must leave one;
    /// [`StoreError::OnHold`].
    pub async fn commit(mut self, records: &[Entry]) -> Result<(), StoreError> {
        if records.is_empty() {
            return Err(StoreError::Corrupt("an act without an audit record".to_owned()));
        }
        self.goes_on_from_what_was_noted().await?;
        let (line, head) = self.append_audit(records).await?;
        self.tx.commit().await?;
        self.mark.note(line, head);
        Ok(())
    }

    /// Makes last where the database is, which is no act: nothing else was changed.
    pub(crate) async fn settled(self) -> Result<(), StoreError> {
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
