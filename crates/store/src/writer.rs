//! The one writer of an SQLite database, and the transactions that take turns on it.
//!
//! sqlx works on each SQLite connection in a thread of its own, so every statement is a message to it
//! and one back. Its pool sends two more for each time that a connection is lent, and its transactions
//! wait for an acknowledgement of the answer as well. On the path of a token that is a good part of the
//! whole, so the writer is kept here without a pool, and a transaction begins and ends in the same
//! message as its first and its last statement where [`Store::issue_to`](crate::Store::issue_to) and
//! [`Tx::record_and_commit`](crate::Tx::record_and_commit) say so.

use std::sync::Arc;

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The connection that writes.
pub(crate) struct Writer {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
    /// Whether a transaction may be open that nobody will commit.
    open: bool,
    /// Whether it was closed: then nobody gets a turn.
    closed: bool,
}

/// A turn on the writer. Dropped before it is committed, it is rolled back.
pub(crate) struct Turn(OwnedMutexGuard<Writer>);

impl Writer {
    /// Takes a connection that was made with these options.
    pub(crate) fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { connection, options, open: false, closed: false }))
    }

    /// Ends what the one before left open, and replaces a connection that is broken.
    async fn clear(&mut self) -> Result<(), sqlx::Error> {
        if !self.open {
            return Ok(());
        }
        match sqlx::raw_sql("ROLLBACK").execute(&mut self.connection).await {
            // SQLite rolls back by itself after some errors, and then says that there is nothing to do.
            Ok(_) | Err(sqlx::Error::Database(_)) => {}
            Err(_) => self.connection = self.options.connect().await?,
        }
        self.open = false;
        Ok(())
    }

    /// Closes the connection in order.
    pub(crate) async fn close(&mut self) -> Result<(), sqlx::Error> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        // Closing takes the connection, so there has to be another one in its place.
        let nothing = SqliteConnectOptions::new().in_memory(true).connect().await?;
        std::mem::replace(&mut self.connection, nothing).close().await
    }
}

impl Turn {
    /// Waits for a turn. Its first statement is to begin the transaction.
    pub(crate) async fn wait(writer: Arc<Mutex<Writer>>) -> Result<Self, sqlx::Error> {
        let mut writer = writer.lock_owned().await;
        if writer.closed {
            return Err(sqlx::Error::PoolClosed);
        }
        writer.clear().await?;
        writer.open = true;
        Ok(Self(writer))
    }

    pub(crate) fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0.connection
    }

    /// Runs what stands alone: BEGIN, COMMIT.
    pub(crate) async fn run(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(&mut self.0.connection).await.map(drop)
    }

    /// Notes that the transaction was committed.
    pub(crate) fn committed(mut self) {
        self.0.open = false;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Soon, and not only at the next turn: other programs may wait for the file.
        if let (true, Ok(runtime)) = (self.0.open, tokio::runtime::Handle::try_current()) {
            let writer = Arc::clone(OwnedMutexGuard::mutex(&self.0));
            runtime.spawn(async move {
                // What fails here is tried again by the next turn, which tells.
                let _ = writer.lock_owned().await.clear().await;
            });
        }
    }
}
