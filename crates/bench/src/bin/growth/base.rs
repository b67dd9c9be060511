//! The database as the filler sees it: a connection past the server, and the few things that the two
//! say differently.

use std::path::Path;

use anyhow::Context;
use portcullis_bench::contestant::Running;
use portcullis_domain::audit::Record;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, QueryBuilder, Sqlite, SqliteConnection};

/// Audit records added in one statement of SQLite: 13 values each, of at most 32 766.
const RECORDS_AT_ONCE: usize = 1000;

/// A connection to either.
pub(crate) enum Base {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

macro_rules! either {
    ($base:expr, $c:ident => $work:expr) => {
        match $base {
            Base::Sqlite($c) => $work,
            Base::Postgres($c) => $work,
        }
    };
}

impl Base {
    /// Connects to the database of a server that was halted. Nothing waits for the disk: who is killed
    /// while filling begins again.
    pub(crate) async fn open(server: &Running, dir: &Path) -> anyhow::Result<Self> {
        let Some(database) = &server.database else {
            let mut plain = SqliteConnectOptions::new()
                .filename(dir.join("data/portcullis.db"))
                .journal_mode(SqliteJournalMode::Off)
                .synchronous(SqliteSynchronous::Off)
                .foreign_keys(false)
                .pragma("cache_size", "-1000000")
                .connect()
                .await?;
            sqlx::query("PRAGMA threads = 2").execute(&mut plain).await?;
            return Ok(Self::Sqlite(plain));
        };
        let mut connection = PgConnection::connect(database.url()).await?;
        for setting in
            ["synchronous_commit = off", "maintenance_work_mem = '1GB'", "session_replication_role = replica"]
        {
            sqlx::query(AssertSqlSafe(format!("SET {setting}"))).execute(&mut connection).await?;
        }
        Ok(Self::Postgres(connection))
    }

    /// Connects to the database of a server that runs, to look.
    pub(crate) async fn look(server: &Running, dir: &Path) -> anyhow::Result<Self> {
        Ok(match &server.database {
            Some(database) => Self::Postgres(PgConnection::connect(database.url()).await?),
            None => {
                let file = SqliteConnectOptions::new().filename(dir.join("data/portcullis.db"));
                Self::Sqlite(file.pragma("query_only", "ON").connect().await?)
            }
        })
    }

    /// Runs a statement.
    pub(crate) async fn run(&mut self, sql: String) -> anyhow::Result<()> {
        let said = sql.chars().take(120).collect::<String>();
        either!(self, c => sqlx::query(AssertSqlSafe(sql)).execute(c).await.map(drop)).context(said)
    }

    /// The number that a statement gives.
    pub(crate) async fn number(&mut self, sql: String) -> anyhow::Result<i64> {
        Ok(either!(self, c => sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(c).await)?)
    }

    /// The indexes of a table that are not constraints: the name of each and what makes it.
    pub(crate) async fn indexes(&mut self, table: &str) -> anyhow::Result<Vec<(String, String)>> {
        Ok(match self {
            Self::Sqlite(c) => {
                let sql = "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = $1 AND sql IS NOT NULL";
                sqlx::query_as(sql).bind(table).fetch_all(c).await?
            }
            Self::Postgres(c) => {
                let sql = "SELECT x.indexname::text, x.indexdef FROM pg_indexes x WHERE x.tablename = $1 \
                           AND NOT EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conname = x.indexname)";
                sqlx::query_as(sql).bind(table).fetch_all(c).await?
            }
        })
    }

    /// A table of the numbers from one to another, as `s (i)`, for a FROM.
    pub(crate) fn series(&self, from: i64, to: i64) -> String {
        match self {
            Self::Sqlite(_) => format!(
                "(WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i < {to}) SELECT i FROM n) s"
            ),
            Self::Postgres(_) => format!("generate_series({from}::bigint, {to}::bigint) s(i)"),
        }
    }

    /// An expression for the UUID version 7 of a millisecond, a kind (0 to 9) and a number: ids in the
    /// order of their time, found again from the number alone.
    pub(crate) fn id(&self, millisecond: &str, kind: u8, number: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("unhex(printf('%012x700{kind}8%015x', {millisecond}, {number}))"),
            Self::Postgres(_) => format!(
                "(lpad(to_hex({millisecond}), 12, '0') || '700{kind}8' || lpad(to_hex({number}), 15, '0'))::uuid"
            ),
        }
    }

    /// An expression for a Client ID made of a number.
    pub(crate) fn client_id(&self, number: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("printf('pcc_%020d', {number})"),
            Self::Postgres(_) => format!("'pcc_' || lpad(({number})::text, 20, '0')"),
        }
    }

    /// An expression for bytes given in hexadecimal.
    pub(crate) fn bytes(&self, hex: &str) -> String {
        match self {
            Self::Sqlite(_) => format!("x'{hex}'"),
            Self::Postgres(_) => format!("decode('{hex}', 'hex')"),
        }
    }

    /// An expression for the id of the product's own API: all zeros.
    pub(crate) fn own_api(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "zeroblob(16)",
            Self::Postgres(_) => "'00000000-0000-0000-0000-000000000000'::uuid",
        }
    }

    /// An expression for 32 random bytes.
    pub(crate) fn digest(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "randomblob(32)",
            Self::Postgres(_) => "decode(md5(random()::text) || md5(random()::text), 'hex')",
        }
    }

    /// Adds records of the audit log, each with its link.
    pub(crate) async fn add_records(
        &mut self,
        key_id: &str,
        records: &[(Record, [u8; 32])],
    ) -> anyhow::Result<()> {
        let columns = "audit_records (seq, at, by_kind, by_id, ip, user_agent, event, subject, outcome, reason, \
                       details, link, key_id)";
        match self {
            Self::Sqlite(c) => {
                for part in records.chunks(RECORDS_AT_ONCE) {
                    let mut insert = QueryBuilder::<Sqlite>::new(format!("INSERT INTO {columns} "));
                    insert.push_values(part, |mut row, (r, link)| {
                        row.push_bind(r.seq).push_bind(r.at).push_bind(&r.by.0).push_bind(&r.by.1);
                        row.push_bind(&r.ip).push_bind(&r.user_agent).push_bind(&r.event).push_bind(&r.subject);
                        row.push_bind(&r.outcome).push_bind(&r.reason).push_bind(&r.details);
                        row.push_bind(link.as_slice()).push_bind(key_id);
                    });
                    insert.build().execute(&mut *c).await?;
                }
            }
            Self::Postgres(c) => {
                let mut copy = c.copy_in_raw(&format!("COPY {columns} FROM STDIN")).await?;
                // What is added here has no tab, line end or backslash.
                let rows: String = records.iter().map(|(r, link)| copied(r, link, key_id)).collect();
                copy.send(rows.into_bytes()).await?;
                copy.finish().await?;
            }
        }
        Ok(())
    }

    /// Ends the filling: statistics on PostgreSQL, which autovacuum would have made by then.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        if matches!(self, Self::Postgres(_)) {
            self.run("VACUUM ANALYZE".to_owned()).await?;
        }
        either!(self, c => c.close().await)?;
        Ok(())
    }
}

/// A row of COPY.
fn copied(r: &Record, link: &[u8; 32], key_id: &str) -> String {
    let hex: String = link.iter().map(|byte| format!("{byte:02x}")).collect();
    let number = [r.seq, r.at].map(|n| n.to_string());
    let fields: [&str; 11] = [
        &number[0],
        &number[1],
        &r.by.0,
        &r.by.1,
        &r.ip,
        &r.user_agent,
        &r.event,
        &r.subject,
        &r.outcome,
        &r.reason,
        &r.details,
    ];
    format!("{}\t\\\\x{hex}\t{key_id}\n", fields.join("\t"))
}
