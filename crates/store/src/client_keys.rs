//! Keys in place of the Client Secret, and the assertions and proofs that were used.

use std::collections::HashSet;

use jiff::Timestamp;
use portcullis_domain::client_keys::ClientKey;
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    tx::{Conn, Tx, query},
};

/// An assertion or a proof, by a digest of who signed it and of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UsedProof {
    /// The digest.
    pub digest: [u8; 32],
    /// When nobody takes it any more in any case (UTC).
    pub ends_at: Timestamp,
}

impl Tx {
    /// Binds a key to a credential, in place of the one that is bound; `None` removes it. What the
    /// old one proved stops (C-11).
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when no way in would stay (C-15).
    pub async fn set_client_key(&mut self, credential: Uuid, key: Option<&ClientKey>) -> Result<(), StoreError> {
        self.hold_tokens().await?;
        // When one was bound stays: the secret binds the first one only (C-14).
        let sql = "UPDATE credentials SET key_jwk = $1, key_thumbprint = $2, \
                   key_bound_at = COALESCE($3, key_bound_at) WHERE id = $4";
        let bound_at = key.map(|k| k.bound_at.as_microsecond());
        let (jwk, thumbprint) = (key.map(|k| k.jwk.as_str()), key.map(|k| k.thumbprint.as_str()));
        query!(self, execute, sql, jwk, thumbprint, bound_at, credential).map(drop)
    }

    /// Switches the secret of a credential off, at an instant, or on again (C-11).
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when no way in would stay (C-15).
    pub async fn set_secret_off(&mut self, credential: Uuid, at: Option<Timestamp>) -> Result<(), StoreError> {
        self.hold_tokens().await?;
        let sql = "UPDATE credentials SET secret_off_at = $1 WHERE id = $2";
        query!(self, execute, sql, at.map(Timestamp::as_microsecond), credential).map(drop)
    }

    /// Writes down what is used now, and gives those digests that had not been: of many uses at once,
    /// on any node, one is the first. What is in the list twice is there once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn use_proofs(&mut self, used: &[UsedProof]) -> Result<HashSet<[u8; 32]>, StoreError> {
        if used.is_empty() {
            return Ok(HashSet::new());
        }
        // In one order, so that two transactions that wait for each other's do not wait for ever.
        let mut used = used.to_vec();
        used.sort_unstable();
        used.dedup_by_key(|u| u.digest);
        macro_rules! insert {
            ($connection:expr) => {
                sqlx::QueryBuilder::new("INSERT INTO used_proofs (digest, ends_at) ")
                    .push_values(&used, |mut row, u| {
                        row.push_bind(u.digest.to_vec()).push_bind(u.ends_at.as_microsecond());
                    })
                    .push(" ON CONFLICT (digest) DO NOTHING RETURNING digest")
                    .build_query_scalar::<Vec<u8>>()
                    .fetch_all($connection)
            };
        }
        let first: Vec<Vec<u8>> = match self.conn() {
            Conn::Sqlite(connection) => insert!(connection).await,
            Conn::Postgres(c, ear) => ear.hear(insert!(c)).await,
        }?;
        first.into_iter().map(|d| d.try_into().map_err(|_| corrupt("digest", "length"))).collect()
    }

    /// Drops at most `limit` of those that ended before an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_ended_proofs(&mut self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let sql = "DELETE FROM used_proofs WHERE digest IN (SELECT u.digest FROM used_proofs u \
                   WHERE u.ends_at < $1 ORDER BY u.ends_at LIMIT $2)";
        query!(self, execute, sql, before.as_microsecond(), i64::from(limit))
    }
}
