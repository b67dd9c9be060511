//! Indexes that came after the tables had grown. On SQLite a migration makes them: nothing else runs
//! then. On PostgreSQL other nodes serve meanwhile, and an index that is made inside a migration keeps
//! everybody from writing to its table until the migration commits. So there the program makes them: at
//! once where the table is short, and else `CONCURRENTLY`, by one node, while all of them serve.
//!
//! A migration of sqlx cannot do the latter. Nodes that start together wait for each other's migrations
//! in a statement, and `CONCURRENTLY` waits for the end of every statement: each would wait for the
//! other. Here nobody waits: who does not get the lock comes again.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::{
    error::StoreError,
    tx::{Pools, Store},
};

/// The indexes of migration 7: each one's name, its table, and what it is on.
const INDEXES: [(&str, &str, &str); 14] = [
    ("audit_records_outcome", "audit_records", "(outcome, seq)"),
    ("users_of_status", "users", "(status, id)"),
    ("users_of_role", "users", "(role, status)"),
    ("credentials_expire", "credentials", "(expires_at) WHERE revoked_at IS NULL AND retired_at IS NULL"),
    (
        "credentials_need_key",
        "credentials",
        "(digest_key_id, expires_at) WHERE revoked_at IS NULL AND retired_at IS NULL",
    ),
    ("recovery_codes_need_key", "recovery_codes", "(digest_key_id) WHERE used_at IS NULL"),
    ("totp_needs_key", "totp", "(sealed_by)"),
    ("sessions_seen", "sessions", "(seen_at)"),
    ("sessions_opened", "sessions", "(opened_at)"),
    ("sign_in_failures_last", "sign_in_failures", "(last_at)"),
    ("known_networks_seen", "known_networks", "(seen_at)"),
    ("ceremonies_end", "ceremonies", "(expires_at)"),
    ("links_end", "links", "(expires_at)"),
    ("mails_at_rest", "mails", "(queued_at) WHERE next_try_at IS NULL"),
];

/// A table of up to so many rows has its index made at once: that takes a few milliseconds.
const SHORT: i64 = 10_000;

/// The advisory lock of who makes indexes. It belongs to a session, not to a transaction.
const LOCK: i64 = 0x5043_4c10;

/// Names of the indexes that are there and can be used. One whose making was broken off is there, and cannot.
const MADE: &str = "SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE i.indisvalid AND n.nspname = current_schema()";

/// Makes the indexes that are missing; of long tables only `long` ones, without keeping anybody from
/// writing. Gives how many it made. None when another node is at it.
async fn make(connection: &mut PgConnection, long: bool) -> Result<u32, sqlx::Error> {
    let is_ours: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LOCK).fetch_one(&mut *connection).await?;
    if !is_ours {
        return Ok(0);
    }
    // Looked at under the lock: what another node has just made is not made again.
    let made: Vec<String> = sqlx::query_scalar(MADE).fetch_all(&mut *connection).await?;
    let missing: Vec<_> = INDEXES.iter().filter(|(name, ..)| !made.iter().any(|m| m == name)).collect();
    let mut count = 0;
    for (name, table, on) in missing {
        let rows = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {}) s", SHORT + 1);
        let is_short =
            sqlx::query_scalar::<_, i64>(AssertSqlSafe(rows)).fetch_one(&mut *connection).await? <= SHORT;
        let statements = match (is_short, long) {
            // What was broken off is taken away first: it is kept up to date, and used by nobody.
            (true, _) => {
                vec![format!("DROP INDEX IF EXISTS {name}"), format!("CREATE INDEX {name} ON {table} {on}")]
            }
            (false, false) => continue,
            (false, true) => vec![
                format!("DROP INDEX CONCURRENTLY IF EXISTS {name}"),
                format!("CREATE INDEX CONCURRENTLY {name} ON {table} {on}"),
            ],
        };
        for statement in statements {
            sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await?;
        }
        count += 1;
    }
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(LOCK).execute(&mut *connection).await?;
    Ok(count)
}

/// Makes the missing indexes of short tables, for who has just migrated.
pub(crate) async fn make_short(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    make(connection, false).await.map(drop)
}

impl Store {
    /// Makes the indexes that are missing on PostgreSQL, while everybody reads and writes, and gives how
    /// many it made. That may take minutes. One node does it; whoever is stopped half-way leaves nothing
    /// that counts, and the next one begins anew. Nothing on SQLite, where migrations made them.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn make_indexes(&self) -> Result<u32, StoreError> {
        let Pools::Postgres(node) = &self.pools else { return Ok(0) };
        // A connection of its own: it may take longer than a request may wait, and the lock goes with it.
        let mut connection = PgConnection::connect_with(&node.connect_options()).await?;
        for setting in ["SET statement_timeout = 0", "SET lock_timeout = 0"] {
            sqlx::query(setting).execute(&mut connection).await?;
        }
        let made = make(&mut connection, true).await?;
        connection.close().await?;
        Ok(made)
    }
}
