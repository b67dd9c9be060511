//! The audit log at rest: appended in the transaction of the act (L-1), chained (L-3).

use std::sync::Arc;

use jiff::Timestamp;
use portcullis_domain::{
    audit::{Broken, Entry, Head, Record, follow},
    secret::DigestKey,
};

use crate::{
    error::{StoreError, corrupt},
    hold::works,
    seal::{MasterKeys, Purpose},
    tx::{Act, Conn, Store, Tx, query},
};

/// What following the whole chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainState {
    /// How many records were followed.
    pub records: i64,
    /// Where the chain ends.
    pub head: Head,
    /// Up to which number records were dropped by age.
    pub trimmed_to: i64,
    /// What is wrong, if anything is.
    pub broken: Option<Broken>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    seq: i64,
    at: i64,
    by_kind: String,
    by_id: String,
    ip: String,
    user_agent: String,
    event: String,
    subject: String,
    outcome: String,
    reason: String,
    details: String,
}

#[derive(sqlx::FromRow)]
struct ChainedRow {
    #[sqlx(flatten)]
    record: Row,
    link: Vec<u8>,
    key_id: String,
}

#[derive(sqlx::FromRow)]
pub(crate) struct HeadRow {
    pub(crate) seq: i64,
    link: Vec<u8>,
    pub(crate) trimmed_seq: i64,
    trimmed_link: Vec<u8>,
    seal: Vec<u8>,
    key_id: String,
    held_since: Option<i64>,
    line: Option<i64>,
}

impl From<Row> for Record {
    fn from(r: Row) -> Self {
        Self {
            seq: r.seq,
            at: r.at,
            by: (r.by_kind, r.by_id),
            ip: r.ip,
            user_agent: r.user_agent,
            event: r.event,
            subject: r.subject,
            outcome: r.outcome,
            reason: r.reason,
            details: r.details,
        }
    }
}

fn head(seq: i64, link: Vec<u8>) -> Result<Head, StoreError> {
    Ok(Head { seq, link: link.try_into().map_err(|_| corrupt("audit head", "length"))? })
}

macro_rules! record_columns {
    () => {
        "seq, at, by_kind, by_id, ip, user_agent, event, subject, outcome, reason, details"
    };
}

pub(crate) use record_columns;

impl Tx {
    pub(crate) async fn audit_head(&mut self) -> Result<HeadRow, StoreError> {
        query!(
            self,
            fetch_one as HeadRow,
            "SELECT seq, link, trimmed_seq, trimmed_link, seal, key_id, \
             (SELECT held_since FROM installation) AS held_since, (SELECT line FROM installation) AS line \
             FROM audit_head"
        )
    }

    /// The head and the place up to which records were dropped, if their seal is good. An empty
    /// seal is good only where nothing was ever sealed: before the installation has its row.
    async fn sealed_head(&mut self, keys: &MasterKeys) -> Result<Result<(Head, Head), Broken>, StoreError> {
        let stored = self.audit_head().await?;
        self.checked_head(stored, keys).await
    }

    async fn checked_head(
        &mut self,
        stored: HeadRow,
        keys: &MasterKeys,
    ) -> Result<Result<(Head, Head), Broken>, StoreError> {
        let at = head(stored.seq, stored.link)?;
        let trimmed = head(stored.trimmed_seq, stored.trimmed_link)?;
        if stored.seal.is_empty() && at == Head::EMPTY && trimmed == Head::EMPTY {
            let new = self.installation().await?.is_none();
            return Ok(if new { Ok((at, trimmed)) } else { Err(Broken::Head) });
        }
        let Ok(key) = keys.digest_key_by_id(Purpose::AuditChain, &stored.key_id) else {
            return Ok(Err(Broken::UnknownKey { seq: stored.seq, key: stored.key_id }));
        };
        let good = at.seal(&key, &trimmed).as_slice() == stored.seal;
        Ok(if good { Ok((at, trimmed)) } else { Err(Broken::Head) })
    }

    /// Seals the head of a new installation's log, so that an unsealed one is never good again.
    pub(crate) async fn seal_new_audit(&mut self, key: &DigestKey) -> Result<(), StoreError> {
        self.set_audit_head(key, Head::EMPTY, Head::EMPTY).await
    }

    async fn set_audit_head(&mut self, key: &DigestKey, at: Head, trimmed: Head) -> Result<(), StoreError> {
        let sql = "UPDATE audit_head SET seq = $1, link = $2, trimmed_seq = $3, trimmed_link = $4, seal = $5, \
                   key_id = $6";
        let seal = at.seal(key, &trimmed).to_vec();
        query!(self, execute, sql, at.seq, at.link.to_vec(), trimmed.seq, trimmed.link.to_vec(), seal, key.id())
            .map(drop)
    }

    /// How many records are older than an instant, up to `limit`, counted from the first on up to
    /// one that is not (a clock that was stepped leaves older ones behind it).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_records_before(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let sql = "WITH o AS (SELECT seq, at FROM audit_records ORDER BY seq LIMIT $2) SELECT COUNT(*) FROM o \
                   WHERE seq < COALESCE((SELECT MIN(seq) FROM o WHERE at >= $1), 9223372036854775807)";
        let (n,) = query!(self, fetch_one as (i64,), sql, before.as_microsecond(), i64::from(limit))?;
        Ok(n.cast_unsigned())
    }
}

impl Act {
    /// The head, for who continues from it: on one that was tampered with nothing is built, or its
    /// next seal would make it good (I6). With it where records were dropped up to, and the line.
    async fn good_head(&mut self) -> Result<(Head, Head, i64), StoreError> {
        let keys = Arc::clone(&self.keys);
        let stored = self.audit_head().await?;
        if !self.on_hold {
            works(stored.held_since)?;
        }
        let line = stored.line.unwrap_or(0);
        let (at, trimmed) =
            self.checked_head(stored, &keys).await?.map_err(|broken| corrupt("audit log", broken.to_string()))?;
        Ok((at, trimmed, line))
    }

    /// The line of the log and the last record, as its head says.
    pub(crate) async fn last_record(&mut self) -> Result<(i64, Head), StoreError> {
        let stored = self.audit_head().await?;
        Ok((stored.line.unwrap_or(0), head(stored.seq, stored.link)?))
    }

    /// Appends the records of this act to the chain, and gives its line and its new head.
    pub(crate) async fn append_audit(&mut self, entries: &[Entry]) -> Result<(i64, Head), StoreError> {
        let (mut at, trimmed, line) = self.good_head().await?;
        let key = self.keys.digest_key(Purpose::AuditChain);
        for entry in entries {
            let record = Record::new(at.seq + 1, entry);
            at = Head { seq: record.seq, link: record.link(&key, &at.link) };
            self.add_record(record, &at, key.id()).await?;
        }
        self.set_audit_head(&key, at, trimmed).await?;
        Ok((line, at))
    }

    async fn add_record(&mut self, record: Record, at: &Head, key_id: &str) -> Result<(), StoreError> {
        let sql = "INSERT INTO audit_records (seq, at, by_kind, by_id, ip, user_agent, event, subject, outcome, \
                   reason, details, link, key_id) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        query!(
            self,
            execute,
            sql,
            record.seq,
            record.at,
            record.by.0,
            record.by.1,
            record.ip,
            record.user_agent,
            record.event,
            record.subject,
            record.outcome,
            record.reason,
            record.details,
            at.link.to_vec(),
            key_id,
        )
        .map(drop)
    }

    /// Drops the oldest `count` records and moves the anchor of the chain behind them, so that
    /// the rest still verifies. The record of this act says so. More than there are is an error.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trim_audit(&mut self, count: u64) -> Result<(), StoreError> {
        if count == 0 {
            return Ok(());
        }
        let (at, trimmed, _) = self.good_head().await?;
        let anchor = trimmed.seq + count.cast_signed();
        let sql = "SELECT link FROM audit_records WHERE seq = $1";
        let (link,) = query!(self, fetch_optional as (Vec<u8>,), sql, anchor)?
            .ok_or_else(|| corrupt("audit records to be dropped", count))?;
        let key = self.keys.digest_key(Purpose::AuditChain);
        self.set_audit_head(&key, at, head(anchor, link)?).await?;
        query!(self, execute, "DELETE FROM audit_records WHERE seq <= $1", anchor)?;
        self.drop_runs_before(anchor).await
    }
}

impl Store {
    /// Follows the whole chain (L-3) and says what it found.
    ///
    /// # Errors
    /// [`StoreError`] when the log could not be read; a broken chain is not an error but an
    /// answer.
    pub async fn verify_audit(&self) -> Result<ChainState, StoreError> {
        let mut tx = self.read().await?;
        loop {
            let state = self.follow_chain(&mut tx).await?;
            // Each statement sees what is committed when it runs: what was dropped by age
            // meanwhile is not missing.
            if state.broken.is_none() || tx.audit_head().await?.trimmed_seq == state.trimmed_to {
                return Ok(state);
            }
        }
    }

    async fn follow_chain(&self, tx: &mut Tx) -> Result<ChainState, StoreError> {
        let (stored, mut at) = match tx.sealed_head(&self.keys).await? {
            Ok(good) => good,
            Err(broken) => {
                let trimmed_to = tx.audit_head().await?.trimmed_seq;
                return Ok(ChainState { records: 0, head: Head::EMPTY, trimmed_to, broken: Some(broken) });
            }
        };
        let trimmed_to = at.seq;
        let mut key = self.chain_key.clone();
        let broken = 'chain: loop {
            let sql = concat!(
                "SELECT ",
                record_columns!(),
                ", link, key_id FROM audit_records WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT 1000"
            );
            let rows = query!(tx, fetch_all as ChainedRow, sql, at.seq, stored.seq)?;
            if rows.is_empty() {
                let cut = at.seq != stored.seq;
                break cut.then_some(Broken::Truncated { last: at.seq, head: stored.seq });
            }
            for row in rows {
                if row.key_id != key.id() {
                    match self.keys.digest_key_by_id(Purpose::AuditChain, &row.key_id) {
                        Ok(other) => key = other,
                        Err(_) => {
                            break 'chain Some(Broken::UnknownKey { seq: row.record.seq, key: row.key_id });
                        }
                    }
                }
                match follow(&key, at, &row.record.into(), &row.link) {
                    Ok(next) => at = next,
                    Err(wrong) => break 'chain Some(wrong),
                }
            }
        };
        let mut broken = broken.or_else(|| (at.link != stored.link).then_some(Broken::Altered(at.seq)));
        if broken.is_none() {
            // Each by itself, so that each is found by its number.
            let sql = "SELECT COALESCE((SELECT MIN(seq) FROM audit_records WHERE seq <= (SELECT trimmed_seq FROM audit_head)), \
                       (SELECT MIN(seq) FROM audit_records WHERE seq > (SELECT seq FROM audit_head)))";
            broken = query!(tx, fetch_one as (Option<i64>,), sql)?.0.map(Broken::Stray);
        }
        Ok(ChainState { records: at.seq - trimmed_to, head: at, trimmed_to, broken })
    }

    /// Whether an act could be recorded: the head of the log is good, and the database takes more than
    /// questions. On SQLite a file that cannot be written on is not opened at all.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the head is not, or its key is not in the ring;
    /// [`StoreError::Unavailable`] where nothing can be written, on a standby of PostgreSQL for example.
    pub async fn check_audit_head(&self) -> Result<(), StoreError> {
        let mut tx = self.read().await?;
        if let Conn::Postgres(connection, ear) = tx.conn() {
            let asking = sqlx::query_scalar("SELECT current_setting('transaction_read_only')::BOOL");
            if ear.hear(asking.fetch_one(connection)).await? {
                return Err(StoreError::read_only());
            }
        }
        tx.sealed_head(&self.keys).await?.map(drop).map_err(|broken| corrupt("audit log", broken.to_string()))
    }

    /// The link of one record, if it is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_link(&self, seq: i64) -> Result<Option<Vec<u8>>, StoreError> {
        let mut tx = self.read().await?;
        let row = query!(tx, fetch_optional as (Vec<u8>,), "SELECT link FROM audit_records WHERE seq = $1", seq)?;
        Ok(row.map(|(link,)| link))
    }
}
