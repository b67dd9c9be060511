//! Sessions of people, and the counters of failed sign-ins.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::UserId,
    sessions::{Opened, Session, SessionLimits},
};
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    installation::instant,
    tx::{Tx, query},
};

#[derive(sqlx::FromRow)]
struct Row {
    handle: Uuid,
    user_id: Uuid,
    opened: String,
    provider_id: Option<Uuid>,
    opened_at: i64,
    seen_at: i64,
    password_at: Option<i64>,
    ip: String,
    user_agent: String,
}

impl TryFrom<Row> for Session {
    type Error = StoreError;
    fn try_from(r: Row) -> Result<Self, StoreError> {
        Ok(Self {
            handle: r.handle,
            user: UserId(r.user_id),
            opened: Opened::from_code(&r.opened).ok_or_else(|| corrupt("session opened", &r.opened))?,
            provider: r.provider_id,
            opened_at: instant(r.opened_at)?,
            seen_at: instant(r.seen_at)?,
            password_at: r.password_at.map(instant).transpose()?,
            ip: r.ip,
            user_agent: r.user_agent,
        })
    }
}

/// A run of failed sign-ins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailureCount {
    /// How many in a row.
    pub failures: u32,
    /// The last of them (UTC).
    pub last: Timestamp,
}

impl Tx {
    /// The session with this digest of its id, over or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&mut self, digest: &[u8; 32]) -> Result<Option<Session>, StoreError> {
        let sql = "SELECT handle, user_id, opened, provider_id, opened_at, seen_at, password_at, ip, user_agent \
                   FROM sessions WHERE digest = $1";
        query!(self, fetch_optional as Row, sql, digest.to_vec())?.map(Session::try_from).transpose()
    }

    /// The sessions of a user, the last used first, over or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sessions_of(&mut self, user: UserId) -> Result<Vec<Session>, StoreError> {
        let sql = "SELECT handle, user_id, opened, provider_id, opened_at, seen_at, password_at, ip, user_agent \
                   FROM sessions WHERE user_id = $1 ORDER BY seen_at DESC, handle LIMIT 100";
        query!(self, fetch_all as Row, sql, user.0)?.into_iter().map(Session::try_from).collect()
    }

    /// Adds a session under the digest of its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_session(&mut self, digest: &[u8; 32], session: &Session) -> Result<(), StoreError> {
        let sql = "INSERT INTO sessions (digest, handle, user_id, opened, provider_id, opened_at, seen_at, password_at, \
                   ip, user_agent) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
        query!(
            self,
            execute,
            sql,
            digest.to_vec(),
            session.handle,
            session.user.0,
            session.opened.code(),
            session.provider,
            session.opened_at.as_microsecond(),
            session.seen_at.as_microsecond(),
            session.password_at.map(Timestamp::as_microsecond),
            session.ip.as_str(),
            session.user_agent.as_str(),
        )
        .map(drop)
    }

    /// Notes that a session was used.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_session(&mut self, digest: &[u8; 32], now: Timestamp, ip: &str) -> Result<(), StoreError> {
        let sql = "UPDATE sessions SET seen_at = $1, ip = $2 WHERE digest = $3 AND seen_at < $1";
        query!(self, execute, sql, now.as_microsecond(), ip, digest.to_vec()).map(drop)
    }

    /// Step-up: the session goes on under a new id, with the password just given. The old id is
    /// dead. `false` when there is no such session any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn renew_session(
        &mut self,
        old: &[u8; 32],
        new: &[u8; 32],
        password_at: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE sessions SET digest = $1, password_at = $2 WHERE digest = $3";
        Ok(query!(self, execute, sql, new.to_vec(), password_at.as_microsecond(), old.to_vec())? == 1)
    }

    /// Ends a session. `false` when there was none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session(&mut self, digest: &[u8; 32]) -> Result<bool, StoreError> {
        let sql = "DELETE FROM sessions WHERE digest = $1";
        Ok(query!(self, execute, sql, digest.to_vec())? == 1)
    }

    /// Ends all sessions of a user, and what is under way in a browser for them: whoever is
    /// deactivated, deleted or has a new password is out.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_sessions_of(&mut self, user: UserId) -> Result<u64, StoreError> {
        self.end_ceremonies_of(user).await?;
        query!(self, execute, "DELETE FROM sessions WHERE user_id = $1", user.0)
    }

    /// Ends all sessions of a user but one, and tells how many that were.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_other_sessions(&mut self, user: UserId, keep: Uuid) -> Result<u64, StoreError> {
        let sql = "DELETE FROM sessions WHERE user_id = $1 AND handle <> $2";
        query!(self, execute, sql, user.0, keep)
    }

    /// Drops at most `limit` sessions that are over.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_dead_sessions(
        &mut self,
        limits: &SessionLimits,
        now: Timestamp,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let sql = "DELETE FROM sessions WHERE (seen_at <= $1 OR opened_at <= $2) AND digest IN (SELECT o.digest \
                   FROM sessions o WHERE o.seen_at <= $1 OR o.opened_at <= $2 LIMIT $3)";
        let (idle, absolute) = (now - limits.idle, now - limits.absolute);
        query!(self, execute, sql, idle.as_microsecond(), absolute.as_microsecond(), i64::from(limit))
    }

    /// The run of failures counted under a name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sign_in_failures(&mut self, counted: &[u8; 32]) -> Result<Option<FailureCount>, StoreError> {
        let sql = "SELECT failures, last_at FROM sign_in_failures WHERE counted = $1";
        let row = query!(self, fetch_optional as (i64, i64), sql, counted.to_vec())?;
        row.map(|(failures, last)| {
            Ok(FailureCount { failures: u32::try_from(failures).unwrap_or(u32::MAX), last: instant(last)? })
        })
        .transpose()
    }

    /// Counts one more failure; a run that began to be forgotten starts anew at one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn count_sign_in_failure(
        &mut self,
        counted: &[u8; 32],
        now: Timestamp,
        forgotten_before: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "INSERT INTO sign_in_failures (counted, failures, last_at) VALUES ($1, 1, $2) \
                   ON CONFLICT (counted) DO UPDATE SET last_at = $2, failures = \
                   CASE WHEN sign_in_failures.last_at < $3 THEN 1 ELSE sign_in_failures.failures + 1 END";
        query!(self, execute, sql, counted.to_vec(), now.as_microsecond(), forgotten_before.as_microsecond())
            .map(drop)
    }

    /// Takes back one failure of a run: an attempt that was counted and turned out right. The run
    /// goes on as one whose last failure was at `last`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_back_sign_in_failure(
        &mut self,
        counted: &[u8; 32],
        last: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE sign_in_failures SET failures = failures - 1, last_at = $1 \
                   WHERE counted = $2 AND failures > 0";
        query!(self, execute, sql, last.as_microsecond(), counted.to_vec()).map(drop)
    }

    /// Forgets a run of failures.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_sign_in_failures(&mut self, counted: &[u8; 32]) -> Result<(), StoreError> {
        query!(self, execute, "DELETE FROM sign_in_failures WHERE counted = $1", counted.to_vec()).map(drop)
    }

    /// Drops at most `limit` runs whose last failure is older than an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_old_sign_in_failures(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        // Asked again where it is dropped: of a run that went on meanwhile nothing is forgotten.
        let sql = "DELETE FROM sign_in_failures WHERE last_at < $1 AND counted IN (SELECT o.counted \
                   FROM sign_in_failures o WHERE o.last_at < $1 ORDER BY o.last_at LIMIT $2)";
        query!(self, execute, sql, before.as_microsecond(), i64::from(limit))
    }

    /// Holds the counter of a name until the transaction ends, so that guesses on several nodes
    /// are counted one after the other.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_sign_in_failures(&mut self, counted: &[u8; 32], now: Timestamp) -> Result<(), StoreError> {
        // A row of none where there was no row: what is not there cannot be held.
        let sql = "INSERT INTO sign_in_failures (counted, failures, last_at) VALUES ($1, 0, $2) \
                   ON CONFLICT (counted) DO UPDATE SET failures = sign_in_failures.failures";
        query!(self, execute, sql, counted.to_vec(), now.as_microsecond()).map(drop)
    }

    /// Whether an account signed in before from a network, by the keyed digest of both.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_known_network(&mut self, name: &[u8; 32]) -> Result<bool, StoreError> {
        let sql = "SELECT seen_at FROM known_networks WHERE name = $1";
        Ok(query!(self, fetch_optional as (i64,), sql, name.to_vec())?.is_some())
    }

    /// Notes that an account signed in from a network.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn know_network(&mut self, name: &[u8; 32], now: Timestamp) -> Result<(), StoreError> {
        let sql = "INSERT INTO known_networks (name, seen_at) VALUES ($1, $2) \
                   ON CONFLICT (name) DO UPDATE SET seen_at = $2";
        query!(self, execute, sql, name.to_vec(), now.as_microsecond()).map(drop)
    }

    /// Forgets at most `limit` networks that were not signed in from since an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_old_networks(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM known_networks WHERE seen_at < $1 AND name IN (SELECT o.name \
                   FROM known_networks o WHERE o.seen_at < $1 ORDER BY o.seen_at LIMIT $2)";
        query!(self, execute, sql, before.as_microsecond(), i64::from(limit))
    }
}
