//! What was begun in one browser and is to be finished in it: a sign-in between its steps, a passkey
//! being made, a visit to a provider. A row is found by the digest of a secret that only that
//! browser (or the provider it was sent to) holds, and is taken once.

use jiff::Timestamp;
use portcullis_domain::accounts::UserId;
use uuid::Uuid;

use crate::{
    error::StoreError,
    installation::instant,
    seal::Sealed,
    tx::{Tx, query},
};

/// Something under way.
#[derive(Debug, Clone)]
pub struct Ceremony {
    /// Which kind; a row of one kind never serves as another.
    pub kind: String,
    /// For whom, where that is known.
    pub user: Option<UserId>,
    /// What is to be remembered, sealed under [`crate::Purpose::Ceremony`] with the kind as its context.
    pub state: Sealed,
    /// When it was begun (UTC).
    pub begun_at: Timestamp,
    /// Until when it can be finished (UTC).
    pub expires_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct Row {
    kind: String,
    user_id: Option<Uuid>,
    sealed: Vec<u8>,
    sealed_by: String,
    begun_at: i64,
    expires_at: i64,
}

impl TryFrom<Row> for Ceremony {
    type Error = StoreError;
    fn try_from(r: Row) -> Result<Self, StoreError> {
        Ok(Self {
            kind: r.kind,
            user: r.user_id.map(UserId),
            state: Sealed { key_id: r.sealed_by, bytes: r.sealed },
            begun_at: instant(r.begun_at)?,
            expires_at: instant(r.expires_at)?,
        })
    }
}

impl Tx {
    /// Begins a ceremony under the digest of its secret.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn begin_ceremony(&mut self, digest: &[u8; 32], ceremony: &Ceremony) -> Result<(), StoreError> {
        let sql = "INSERT INTO ceremonies (digest, kind, user_id, sealed, sealed_by, begun_at, expires_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        query!(
            self,
            execute,
            sql,
            digest.to_vec(),
            ceremony.kind.as_str(),
            ceremony.user.map(|u| u.0),
            ceremony.state.bytes.as_slice(),
            ceremony.state.key_id.as_str(),
            ceremony.begun_at.as_microsecond(),
            ceremony.expires_at.as_microsecond(),
        )
        .map(drop)
    }

    /// Looks at a ceremony of a kind that can still be finished at `now`; it stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ceremony(
        &mut self,
        digest: &[u8; 32],
        kind: &str,
        now: Timestamp,
    ) -> Result<Option<Ceremony>, StoreError> {
        let sql = "SELECT kind, user_id, sealed, sealed_by, begun_at, expires_at FROM ceremonies \
                   WHERE digest = $1 AND kind = $2 AND expires_at > $3";
        query!(self, fetch_optional as Row, sql, digest.to_vec(), kind, now.as_microsecond())?
            .map(Ceremony::try_from)
            .transpose()
    }

    /// Looks at a ceremony as [`Tx::ceremony`] does, and holds it until the transaction ends: what
    /// another one has changed is seen, and what it wants to change waits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn hold_ceremony(
        &mut self,
        digest: &[u8; 32],
        kind: &str,
        now: Timestamp,
    ) -> Result<Option<Ceremony>, StoreError> {
        let sql = "UPDATE ceremonies SET kind = kind WHERE digest = $1 AND kind = $2 AND expires_at > $3 \
                   RETURNING kind, user_id, sealed, sealed_by, begun_at, expires_at";
        query!(self, fetch_optional as Row, sql, digest.to_vec(), kind, now.as_microsecond())?
            .map(Ceremony::try_from)
            .transpose()
    }

    /// Puts another state in the place of what a ceremony remembers. `false` when it is gone.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn keep_ceremony(
        &mut self,
        digest: &[u8; 32],
        kind: &str,
        state: &Sealed,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE ceremonies SET sealed = $1, sealed_by = $2 WHERE digest = $3 AND kind = $4";
        let (bytes, key) = (state.bytes.as_slice(), state.key_id.as_str());
        Ok(query!(self, execute, sql, bytes, key, digest.to_vec(), kind)? == 1)
    }

    /// Takes a ceremony: of two at once exactly one gets it. One that is over is not given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_ceremony(
        &mut self,
        digest: &[u8; 32],
        kind: &str,
        now: Timestamp,
    ) -> Result<Option<Ceremony>, StoreError> {
        let sql = "DELETE FROM ceremonies WHERE digest = $1 AND kind = $2 \
                   RETURNING kind, user_id, sealed, sealed_by, begun_at, expires_at";
        let taken = query!(self, fetch_optional as Row, sql, digest.to_vec(), kind)?;
        let taken = taken.map(Ceremony::try_from).transpose()?;
        Ok(taken.filter(|c| now < c.expires_at))
    }

    /// Ends all that is under way for a user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_ceremonies_of(&mut self, user: UserId) -> Result<(), StoreError> {
        query!(self, execute, "DELETE FROM ceremonies WHERE user_id = $1", user.0).map(drop)
    }

    /// Drops at most `limit` of what can no longer be finished.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_dead_ceremonies(&mut self, now: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM ceremonies WHERE digest IN (SELECT o.digest FROM ceremonies o \
                   WHERE o.expires_at <= $1 ORDER BY o.expires_at LIMIT $2)";
        query!(self, execute, sql, now.as_microsecond(), i64::from(limit))
    }
}
