//! Whose turn a job is that only one node is to do: a lease. The holder renews it while it works; who
//! stops renewing, killed or stalled, loses it when it ends. Instants are those of the node that asks,
//! as everywhere: a clock that is wrong moves a lease, and the work is safe to do twice.

use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    error::StoreError,
    tx::{Tx, query},
};

/// A wish for the turn of a job.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// The name of the job.
    pub job: &'a str,
    /// The process that asks.
    pub holder: Uuid,
    /// Now (UTC).
    pub now: Timestamp,
    /// Until when it is nobody else's (UTC).
    pub until: Timestamp,
    /// What is on record as later than this was written under a clock that was wrong, and counts as none.
    pub beyond: Timestamp,
}

impl Tx {
    /// Whether a job could be taken now: somebody who has no chance need not write. It may be when it
    /// was last done to the end before `due`, and nobody else has it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_turn_free(&mut self, turn: Turn<'_>, due: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT COUNT(*) FROM turns WHERE job = $1 AND ((holder <> $2 AND until > $3 AND until <= $5) \
                   OR (done_at > $4 AND done_at <= $5))";
        let (now, due, beyond) = (turn.now.as_microsecond(), due.as_microsecond(), turn.beyond.as_microsecond());
        query!(self, fetch_one as (i64,), sql, turn.job, turn.holder, now, due, beyond).map(|(n,)| n == 0)
    }

    /// Takes a job, unless somebody else has it or it was done to the end after `due`. Of several at
    /// once one gets it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_turn(&mut self, turn: Turn<'_>, due: Timestamp) -> Result<bool, StoreError> {
        let sql = "INSERT INTO turns (job, holder, until) VALUES ($1, $2, $3) \
                   ON CONFLICT (job) DO UPDATE SET holder = $2, until = $3 \
                   WHERE (turns.holder = $2 OR turns.until <= $4 OR turns.until > $6) \
                   AND COALESCE(turns.done_at <= $5 OR turns.done_at > $6, TRUE)";
        let (until, now, due) = (turn.until.as_microsecond(), turn.now.as_microsecond(), due.as_microsecond());
        let beyond = turn.beyond.as_microsecond();
        Ok(query!(self, execute, sql, turn.job, turn.holder, until, now, due, beyond)? == 1)
    }

    /// Keeps a job for longer. `false` when it is no longer the asker's: it ended, and somebody else took it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_turn(&mut self, turn: Turn<'_>) -> Result<bool, StoreError> {
        let sql = "UPDATE turns SET until = $3 WHERE job = $1 AND holder = $2";
        Ok(query!(self, execute, sql, turn.job, turn.holder, turn.until.as_microsecond())? == 1)
    }

    /// Gives a job back, if it is still the asker's: done to the end, or to be tried again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn give_turn_back(&mut self, turn: Turn<'_>, done: bool) -> Result<(), StoreError> {
        let sql = "UPDATE turns SET until = $3, done_at = CASE WHEN $4 THEN $3 ELSE done_at END \
                   WHERE job = $1 AND holder = $2";
        query!(self, execute, sql, turn.job, turn.holder, turn.now.as_microsecond(), done).map(drop)
    }
}
