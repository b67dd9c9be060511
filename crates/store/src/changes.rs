//! What changed, read from the audit log: acts happen one after the other, so the numbers of their
//! records are in the order of their commits, and who has seen one has seen all before it (C-11).

use jiff::Timestamp;
use portcullis_domain::{
    changes::{Change, Changed, Tells},
    credentials::ClientId,
};
use uuid::Uuid;

use crate::{
    credentials::status_index,
    error::{StoreError, corrupt},
    hold::works,
    installation::instant,
    tx::{Tx, query},
};

/// How many records one statement looks through.
const LOOKED_AT: i64 = 20_000;

/// Where the audit log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnds {
    /// The line that its numbers are of: another one since a hold was lifted.
    pub line: i64,
    /// The number of the last record that was dropped by age.
    pub trimmed: i64,
    /// The number of the last record.
    pub head: i64,
}

/// What changed after a record, or the first part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesPage {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// Up to which record that is all.
    pub until: i64,
    /// Whether there were no more when it was read.
    pub is_last: bool,
}

/// A token that was revoked by itself and has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedToken {
    /// Its id.
    pub jti: Uuid,
    /// When it would have ended (UTC, whole seconds).
    pub ends_at: Timestamp,
    /// When it was revoked (UTC).
    pub revoked_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct EndsRow {
    trimmed: i64,
    head: i64,
    line: i64,
    held_since: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    at: i64,
    event: String,
    subject: String,
    status_index: Option<i64>,
}

impl Tx {
    /// Where the audit log begins and ends: one small row, so that who wants to know whether
    /// anything happened may ask often.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::OnHold`], for on hold nobody is told anything (H-1).
    pub async fn log_ends(&mut self) -> Result<LogEnds, StoreError> {
        let sql = "SELECT h.trimmed_seq AS trimmed, h.seq AS head, COALESCE(i.line, 0) AS line, i.held_since \
                   FROM audit_head h LEFT JOIN installation i ON i.id = h.id";
        let row = query!(self, fetch_one as EndsRow, sql)?;
        works(row.held_since)?;
        Ok(LogEnds { line: row.line, trimmed: row.trimmed, head: row.head })
    }

    /// What changed after a record of a line, at most so many at once. `None` when that cannot be told:
    /// the log does not go back so far, has no such record yet, or is of another line.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn changes_after(
        &mut self,
        line: i64,
        seq: i64,
        limit: u32,
    ) -> Result<Option<ChangesPage>, StoreError> {
        let ends = self.log_ends().await?;
        if ends.line != line || !(ends.trimmed..=ends.head).contains(&seq) {
            return Ok(None);
        }
        if seq == ends.head {
            return Ok(Some(ChangesPage { changes: Vec::new(), until: seq, is_last: true }));
        }
        // Who is far behind gets on in parts: no statement looks through a whole log.
        let end = ends.head.min(seq.saturating_add(LOOKED_AT));
        // The events that `Tells::of` knows.
        let sql = "SELECT r.seq, r.at, r.event, r.subject, c.status_index FROM audit_records r \
                   LEFT JOIN credentials c ON c.client_id = r.subject WHERE r.seq > $1 AND r.seq <= $2 \
                   AND r.outcome = 'done' AND (r.event IN ('credential.generate', 'credential.revoke', \
                   'credential.suspend', 'credential.resume', 'token.revoke') OR r.event LIKE 'key.%') \
                   ORDER BY r.seq LIMIT $3";
        let rows = query!(self, fetch_all as Row, sql, seq, end, i64::from(limit))?;
        // Dropped meanwhile: what was read may lack the beginning.
        if self.log_ends().await?.trimmed > seq {
            return Ok(None);
        }
        let is_whole = rows.len() < limit as usize;
        let until = rows.last().filter(|_| !is_whole).map_or(end, |last| last.seq);
        let is_last = is_whole && end == ends.head;
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows {
            if let Some(what) = self.told_by(&row).await? {
                changes.push(Change { seq: row.seq, at: instant(row.at)?, what });
            }
        }
        Ok(Some(ChangesPage { changes, until, is_last }))
    }

    /// What a record tells of; nothing of a token whose record was dropped since, for it has ended.
    async fn told_by(&mut self, row: &Row) -> Result<Option<Changed>, StoreError> {
        let wrong = || corrupt("subject of an audit record", row.seq);
        match Tells::of(&row.event) {
            Some(Tells::Credential(status)) => {
                let client_id = ClientId::parse(&row.subject).ok_or_else(wrong)?;
                let index = status_index(row.status_index.ok_or_else(wrong)?)?;
                Ok(Some(Changed::Credential { client_id, index, status }))
            }
            Some(Tells::Token) => {
                let jti: Uuid = row.subject.parse().map_err(|_| wrong())?;
                let sql = "SELECT api_id, expires_at FROM issued_tokens WHERE jti = $1";
                let found = query!(self, fetch_optional as (Uuid, i64), sql, jti)?;
                found.map(|(api, at)| Ok(Changed::Token { jti, api, ends_at: instant(at)? })).transpose()
            }
            Some(Tells::Keys) => Ok(Some(Changed::Keys)),
            None => Ok(None),
        }
    }

    /// The tokens for an API that were revoked by themselves and have not ended, after the given
    /// id; at most so many.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoked_tokens(
        &mut self,
        api: Uuid,
        now: Timestamp,
        after: Uuid,
        limit: u32,
    ) -> Result<Vec<RevokedToken>, StoreError> {
        let sql = "SELECT jti, expires_at, revoked_at FROM issued_tokens WHERE api_id = $1 AND jti > $2 \
                   AND revoked_at IS NOT NULL AND expires_at > $3 ORDER BY jti LIMIT $4";
        query!(self, fetch_all as (Uuid, i64, i64), sql, api, after, now.as_microsecond(), i64::from(limit))?
            .into_iter()
            .map(|(jti, ends_at, revoked_at)| {
                Ok(RevokedToken { jti, ends_at: instant(ends_at)?, revoked_at: instant(revoked_at)? })
            })
            .collect()
    }
}
