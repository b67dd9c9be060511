//! Signing keys at rest: sealed by the master key, its id beside them.

use portcullis_domain::keys::{Algorithm, SigningKey};

use crate::{
    error::{StoreError, corrupt},
    installation::instant,
    tx::{Tx, query},
};

#[derive(sqlx::FromRow)]
struct Row {
    kid: String,
    algorithm: String,
    created_at: i64,
    sealed: Vec<u8>,
    sealed_by: String,
}

impl Tx {
    /// All signing keys, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn signing_keys(&mut self) -> Result<Vec<SigningKey>, StoreError> {
        let sql =
            "SELECT kid, algorithm, created_at, sealed, sealed_by FROM signing_keys ORDER BY created_at, kid";
        query!(self, fetch_all as Row, sql)?
            .into_iter()
            .map(|r| {
                Ok(SigningKey {
                    algorithm: Algorithm::from_code(&r.algorithm)
                        .ok_or_else(|| corrupt("algorithm", &r.algorithm))?,
                    kid: r.kid,
                    created_at: instant(r.created_at)?,
                    sealed: r.sealed,
                    sealed_by: r.sealed_by,
                })
            })
            .collect()
    }

    /// Adds a signing key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_signing_key(&mut self, key: &SigningKey) -> Result<(), StoreError> {
        let sql =
            "INSERT INTO signing_keys (kid, algorithm, created_at, sealed, sealed_by) VALUES ($1, $2, $3, $4, $5)";
        query!(
            self,
            execute,
            sql,
            key.kid.as_str(),
            key.algorithm.code(),
            key.created_at.as_microsecond(),
            key.sealed.as_slice(),
            key.sealed_by.as_str(),
        )
        .map(drop)
    }
}
