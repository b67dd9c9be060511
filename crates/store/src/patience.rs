//! How long PostgreSQL is waited for. The server ends what takes too long by itself and says so; but
//! a server, or a network, that is gone without a word says nothing. So each answer is waited for here
//! too, by a clock of this side, and a connection that did not answer in time is given up with its
//! place in the pool. What is known of the silence then spares the next request the same wait.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, SqlSafeStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgTransactionManager},
};
use sqlx_core::transaction::TransactionManager;
use tokio::time::{Instant, timeout};

/// How long a connection may have been idle and still be used without a question: asking takes as long as
/// a statement.
const FRESH: Duration = Duration::from_secs(1);

/// The parts of the patience of a request. A wait for a place behind a silent connection and the wait
/// of its own that may follow are not longer than the whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience(pub(crate) Duration);

impl Patience {
    /// For a place in the pool, a turn among the acts, and a connection.
    pub(crate) fn whole(self) -> Duration {
        self.0
    }

    /// For one answer.
    fn answer(self) -> Duration {
        self.0 * 4 / 5
    }

    /// After so long the server itself ends a statement or a wait for a lock: sooner than this side, so
    /// that a slow statement is told from a silent server.
    pub(crate) fn of_server(self) -> Duration {
        self.0 * 7 / 10
    }

    /// For a connection that lay in the pool to show that it is alive.
    fn sign_of_life(self) -> Duration {
        self.0 * 2 / 5
    }

    /// For a connection while the server was silent a moment ago.
    fn in_doubt(self) -> Duration {
        self.0 / 5
    }
}

/// When PostgreSQL last failed to answer in time.
#[derive(Debug, Default)]
pub(crate) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    #[allow(clippy::disallowed_methods, reason = "a span between two instants, which nobody else sees")]
    fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// How long ago it was.
    fn ago(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|at| at.elapsed())
    }
}

/// The connections of a node to PostgreSQL. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PgNode {
    pool: PgPool,
    silence: Arc<Silence>,
    patience: Patience,
}

impl PgNode {
    /// So many connections with these options, made when they are needed; one of them now.
    pub(crate) async fn connect(
        options: PgConnectOptions,
        connections: u32,
        patience: Patience,
    ) -> Result<Self, sqlx::Error> {
        let silence = Arc::new(Silence::default());
        let known = Arc::clone(&silence);
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(patience.whole())
            // By the function below, which has a limit.
            .test_before_acquire(false)
            .before_acquire(move |connection, about| {
                let known = Arc::clone(&known);
                Box::pin(async move {
                    // It was there when the server fell silent, so it need not be asked.
                    if known.ago().is_some_and(|ago| about.age > ago) {
                        return Ok(false);
                    }
                    if about.idle_for < FRESH {
                        return Ok(true);
                    }
                    match timeout(patience.sign_of_life(), connection.ping()).await {
                        Ok(answer) => Ok(answer.is_ok()),
                        Err(_) => {
                            known.note();
                            Ok(false)
                        }
                    }
                })
            })
            .connect_with(options)
            .await?;
        Ok(Self { pool, silence, patience })
    }

    /// A connection.
    pub(crate) async fn acquire(&self) -> Result<PgLink, sqlx::Error> {
        let in_doubt = self.silence.ago().is_some_and(|ago| ago < self.patience.whole());
        let limit = if in_doubt { self.patience.in_doubt() } else { self.patience.whole() };
        let connection = timeout(limit, self.pool.acquire()).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
        let (silence, patience) = (Arc::clone(&self.silence), self.patience);
        Ok(PgLink { connection, lost: false, silence, patience })
    }

    /// A transaction, with what is its first statement, if anything, in the same message.
    pub(crate) async fn begin(&self, first: &str) -> Result<PgLink, sqlx::Error> {
        let mut link = self.acquire().await?;
        let begin = AssertSqlSafe(format!("BEGIN; {first}")).into_sql_str();
        // Who is stopped in between, or fails, leaves a connection of which nobody knows what it is in.
        link.lost = true;
        let beginning = PgTransactionManager::begin(&mut link.connection, Some(begin));
        match timeout(self.patience.answer(), beginning).await {
            Ok(begun) => begun?,
            Err(_) => {
                self.silence.note();
                return Err(silent());
            }
        }
        link.lost = false;
        Ok(link)
    }

    /// How to connect, for who needs a connection of its own.
    pub(crate) fn connect_options(&self) -> Arc<PgConnectOptions> {
        self.pool.connect_options()
    }

    /// Waits until somebody closes the connections.
    pub(crate) async fn closing(&self) {
        self.pool.close_event().await;
    }

    /// Closes all connections after what is under way.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A connection that was taken out of the pool. Dropped in a transaction it rolls back; dropped after
/// a silence it is closed.
pub(crate) struct PgLink {
    connection: PoolConnection<Postgres>,
    /// It did not answer in time: what it would say now belongs to something else.
    lost: bool,
    silence: Arc<Silence>,
    patience: Patience,
}

impl PgLink {
    /// The connection, and what its answer is waited for with.
    pub(crate) fn parts(&mut self) -> (&mut PgConnection, Ear<'_>) {
        let Self { connection, lost, silence, patience } = self;
        (connection, Ear { lost, silence, limit: patience.answer() })
    }

    /// Makes the changes last.
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        let (connection, ear) = self.parts();
        ear.hear(PgTransactionManager::commit(connection)).await
    }
}

impl Drop for PgLink {
    fn drop(&mut self) {
        if !self.lost {
            PgTransactionManager::start_rollback(&mut self.connection);
        }
        // What a connection does when it is dropped (it waits until all that it was asked is answered,
        // and goes back), but not for ever. Dropped itself, it closes the connection and frees the place.
        let back = self.connection.return_to_pool();
        if self.lost {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (silence, limit) = (Arc::clone(&self.silence), self.patience.answer());
            runtime.spawn(async move {
                if timeout(limit, back).await.is_err() {
                    silence.note();
                }
            });
        }
    }
}

/// Waits for one answer, and remembers if there was none.
pub(crate) struct Ear<'a> {
    lost: &'a mut bool,
    silence: &'a Silence,
    limit: Duration,
}

impl Ear<'_> {
    /// The answer of the server, if it comes in time.
    pub(crate) async fn hear<T>(
        self,
        asking: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        if *self.lost {
            return Err(silent());
        }
        match timeout(self.limit, asking).await {
            Ok(answer) => answer,
            Err(_) => {
                *self.lost = true;
                self.silence.note();
                Err(silent())
            }
        }
    }
}

fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "PostgreSQL did not answer in time"))
}
