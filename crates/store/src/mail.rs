//! The outbox: mails that wait, were sent, or were given up. A message is sealed at rest and gone
//! once it was sent. Whoever sends takes a lease on a mail, so that of many nodes one does.

use jiff::Timestamp;
use portcullis_domain::{accounts::Email, mail::MailKind};
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    hold::unless_on_hold,
    installation::instant,
    seal::Sealed,
    tx::{Tx, query},
};

/// A mail to be queued.
#[derive(Debug, Clone)]
pub struct QueuedMail {
    /// The id: a UUID version 7, so that mails stand in the order they were queued in.
    pub id: Uuid,
    /// The one address.
    pub to: Email,
    /// What it is about.
    pub kind: MailKind,
    /// The message, sealed under [`crate::Purpose::Mail`] with the id as its context.
    pub message: Sealed,
    /// When (UTC).
    pub queued_at: Timestamp,
}

/// A mail whose turn it is.
#[derive(Debug, Clone)]
pub struct DueMail {
    /// The id.
    pub id: Uuid,
    /// The one address.
    pub to: String,
    /// What it is about.
    pub kind: MailKind,
    /// When it was queued (UTC).
    pub queued_at: Timestamp,
    /// The message; absent when the database lost it, so that there is nothing to send.
    pub message: Option<Sealed>,
    /// How often it was tried, this time included.
    pub tries: u32,
}

/// A mail as the page of the outbox shows it: never its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailOnRecord {
    /// The id.
    pub id: Uuid,
    /// The address.
    pub to: String,
    /// What it is about.
    pub kind: MailKind,
    /// When it was queued (UTC).
    pub queued_at: Timestamp,
    /// When it will be tried (again); absent when it was sent or given up.
    pub next_try_at: Option<Timestamp>,
    /// How often it was tried.
    pub tries: u32,
    /// When it was sent.
    pub sent_at: Option<Timestamp>,
    /// Why the last try failed; empty when none did.
    pub problem: String,
}

#[derive(sqlx::FromRow)]
struct DueRow {
    id: Uuid,
    recipient: String,
    kind: String,
    queued_at: i64,
    sealed: Option<Vec<u8>>,
    sealed_by: Option<String>,
    tries: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    recipient: String,
    kind: String,
    queued_at: i64,
    next_try_at: Option<i64>,
    tries: i64,
    sent_at: Option<i64>,
    problem: String,
}

impl TryFrom<Row> for MailOnRecord {
    type Error = StoreError;
    fn try_from(r: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: r.id,
            to: r.recipient,
            kind: MailKind::from_code(&r.kind).ok_or_else(|| corrupt("kind of mail", &r.kind))?,
            queued_at: instant(r.queued_at)?,
            next_try_at: r.next_try_at.map(instant).transpose()?,
            tries: u32::try_from(r.tries).unwrap_or(u32::MAX),
            sent_at: r.sent_at.map(instant).transpose()?,
            problem: r.problem,
        })
    }
}

impl Tx {
    /// Queues a mail, to be sent from now on. In the transaction of the act that it tells of, so
    /// that there is never one without the other.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn queue_mail(&mut self, mail: &QueuedMail) -> Result<(), StoreError> {
        let sql = "INSERT INTO mails (id, recipient, kind, sealed, sealed_by, queued_at, next_try_at, tries, problem) \
                   VALUES ($1, $2, $3, $4, $5, $6, $6, 0, '')";
        query!(
            self,
            execute,
            sql,
            mail.id,
            mail.to.as_str(),
            mail.kind.code(),
            mail.message.bytes.as_slice(),
            mail.message.key_id.as_str(),
            mail.queued_at.as_microsecond(),
        )
        .map(drop)
    }

    /// Takes the mail that is due longest, if there is one: it is nobody else's until `lease`,
    /// when it is due again unless it was sent. On hold none is taken (H-1).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_due_mail(
        &mut self,
        now: Timestamp,
        lease: Timestamp,
    ) -> Result<Option<DueMail>, StoreError> {
        let sql = concat!(
            "UPDATE mails SET next_try_at = $2, tries = tries + 1 WHERE id = (SELECT id FROM mails \
             WHERE next_try_at <= $1 ORDER BY next_try_at, id LIMIT 1) AND next_try_at <= $1 AND ",
            unless_on_hold!(),
            " RETURNING id, recipient, kind, queued_at, sealed, sealed_by, tries"
        );
        let row = query!(self, fetch_optional as DueRow, sql, now.as_microsecond(), lease.as_microsecond())?;
        row.map(|r| {
            Ok(DueMail {
                id: r.id,
                to: r.recipient,
                kind: MailKind::from_code(&r.kind).ok_or_else(|| corrupt("kind of mail", &r.kind))?,
                queued_at: instant(r.queued_at)?,
                message: r.sealed.zip(r.sealed_by).map(|(bytes, key_id)| Sealed { key_id, bytes }),
                tries: u32::try_from(r.tries).unwrap_or(u32::MAX),
            })
        })
        .transpose()
    }

    /// Whether a mail is due: a look before [`Tx::take_due_mail`], which writes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_mail_due(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT tries FROM mails WHERE next_try_at <= $1 LIMIT 1";
        Ok(query!(self, fetch_optional as (i64,), sql, now.as_microsecond())?.is_some())
    }

    /// How many mails of a kind were queued to an address since the first id of an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mails_to_since(&mut self, to: &Email, kind: MailKind, first: Uuid) -> Result<u64, StoreError> {
        let sql = "SELECT COUNT(*) FROM mails WHERE id >= $1 AND recipient = $2 AND kind = $3";
        let row = query!(self, fetch_optional as (i64,), sql, first, to.as_str(), kind.code())?;
        Ok(row.map_or(0, |(n,)| u64::try_from(n).unwrap_or(0)))
    }

    /// Notes that a mail was sent; its message is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mail_was_sent(&mut self, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE mails SET sent_at = $1, next_try_at = NULL, sealed = NULL, sealed_by = NULL, problem = '' \
                   WHERE id = $2";
        query!(self, execute, sql, now.as_microsecond(), id).map(drop)
    }

    /// Notes that a try failed, and when the next one is; without one the mail is given up. One that was
    /// given up meanwhile stays so: a hold began (H-1).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mail_failed(
        &mut self,
        id: Uuid,
        problem: &str,
        next_try_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        // While it is leased there is a next try.
        let sql = "UPDATE mails SET problem = $1, next_try_at = $2 WHERE id = $3 AND next_try_at IS NOT NULL";
        query!(self, execute, sql, problem, next_try_at.map(Timestamp::as_microsecond), id).map(drop)
    }

    /// Puts a mail that was given up or waits back to the front. `false` when it was sent or is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn try_mail_again(&mut self, id: Uuid, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "UPDATE mails SET next_try_at = $1 WHERE id = $2 AND sent_at IS NULL AND sealed IS NOT NULL";
        Ok(query!(self, execute, sql, now.as_microsecond(), id)? == 1)
    }

    /// A page of the outbox, the latest first, before the given id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mails(&mut self, before: Option<Uuid>, limit: u32) -> Result<Vec<MailOnRecord>, StoreError> {
        let sql = "SELECT id, recipient, kind, queued_at, next_try_at, tries, sent_at, problem FROM mails \
                   WHERE id < $1 ORDER BY id DESC LIMIT $2";
        query!(self, fetch_all as Row, sql, before.unwrap_or(Uuid::max()), i64::from(limit))?
            .into_iter()
            .map(MailOnRecord::try_from)
            .collect()
    }

    /// Drops at most `limit` mails that were queued before an instant and do not wait any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_old_mails(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM mails WHERE id IN (SELECT o.id FROM mails o \
                   WHERE o.queued_at < $1 AND o.next_try_at IS NULL ORDER BY o.queued_at LIMIT $2)";
        query!(self, execute, sql, before.as_microsecond(), i64::from(limit))
    }
}
