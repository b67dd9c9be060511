//! Signing keys at rest: the private part sealed by the master key, its id beside it, and only while
//! the key signs or is to sign. The version counts the changes of the key set: whoever reads it with
//! what they read anyway sees whether they hold the latest.

use jiff::Timestamp;
use portcullis_domain::keys::{Algorithm, Life, SigningKey};

use crate::{
    error::{StoreError, corrupt},
    installation::instant,
    seal::Sealed,
    tx::{Tx, query},
};

/// A signing key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// What it is and where it is in its life.
    pub key: SigningKey,
    /// The canonical JWK, sealed under [`crate::Purpose::PublicKey`] with the key id as its context: who
    /// can only write to the database puts no key into the key set. Absent for a key from before there
    /// was a place for it.
    pub public: Option<Sealed>,
    /// The PKCS#8 document, sealed under [`crate::Purpose::SigningKey`] with the key id as its context;
    /// absent when the key signs no more.
    pub sealed: Option<Sealed>,
}

#[derive(sqlx::FromRow)]
struct Row {
    kid: String,
    algorithm: String,
    public: Option<Vec<u8>>,
    public_by: Option<String>,
    created_at: i64,
    active_at: Option<i64>,
    retiring_at: Option<i64>,
    leaves_at: Option<i64>,
    retired_at: Option<i64>,
    withdrawn_at: Option<i64>,
    longest_seconds: i64,
    sealed: Option<Vec<u8>>,
    sealed_by: Option<String>,
}

#[derive(sqlx::FromRow)]
struct InSetRow {
    version: i64,
    #[sqlx(flatten)]
    key: Row,
}

impl TryFrom<Row> for StoredKey {
    type Error = StoreError;
    fn try_from(r: Row) -> Result<Self, StoreError> {
        let at = |micros: Option<i64>| micros.map(instant).transpose();
        let life = Life {
            created_at: instant(r.created_at)?,
            active_at: at(r.active_at)?,
            retiring_at: at(r.retiring_at)?,
            leaves_at: at(r.leaves_at)?,
            retired_at: at(r.retired_at)?,
            withdrawn_at: at(r.withdrawn_at)?,
        };
        let key = SigningKey {
            kid: r.kid,
            algorithm: Algorithm::from_code(&r.algorithm).ok_or_else(|| corrupt("algorithm", &r.algorithm))?,
            life,
            longest_seconds: u32::try_from(r.longest_seconds)
                .map_err(|_| corrupt("lifespan", r.longest_seconds))?,
        };
        let sealed = |bytes: Option<Vec<u8>>, by: Option<String>| {
            bytes.zip(by).map(|(bytes, key_id)| Sealed { key_id, bytes })
        };
        Ok(Self { key, public: sealed(r.public, r.public_by), sealed: sealed(r.sealed, r.sealed_by) })
    }
}

macro_rules! key_columns {
    () => {
        "k.kid, k.algorithm, k.public, k.public_by, k.created_at, k.active_at, k.retiring_at, k.leaves_at, k.retired_at, \
         k.withdrawn_at, k.longest_seconds, k.sealed, k.sealed_by"
    };
}

impl Tx {
    /// The version of the key set.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key_set_version(&mut self) -> Result<i64, StoreError> {
        query!(self, fetch_one as (i64,), "SELECT version FROM key_set").map(|(version,)| version)
    }

    /// The keys that are in the key set at `now`, the oldest first, with the version; read in one
    /// statement, so that they belong together. Version 0 while there are no keys.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn key_set(&mut self, now: Timestamp) -> Result<(i64, Vec<StoredKey>), StoreError> {
        let sql = concat!(
            "SELECT s.version, ",
            key_columns!(),
            " FROM key_set s CROSS JOIN signing_keys k WHERE k.withdrawn_at IS NULL \
             AND (k.leaves_at IS NULL OR k.leaves_at > $1) ORDER BY k.created_at, k.kid"
        );
        let rows = query!(self, fetch_all as InSetRow, sql, now.as_microsecond())?;
        let version = rows.first().map_or(0, |r| r.version);
        let keys = rows.into_iter().map(|r| r.key.try_into()).collect::<Result<_, _>>()?;
        Ok((version, keys))
    }

    /// All signing keys on record, the oldest first. Of those made in the same instant, as the first two
    /// of an algorithm are, the one comes first that signed first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn signing_keys(&mut self) -> Result<Vec<StoredKey>, StoreError> {
        let sql = concat!(
            "SELECT ",
            key_columns!(),
            " FROM signing_keys k ORDER BY k.created_at, k.leaves_at IS NULL, k.leaves_at, k.active_at IS NULL, \
             k.active_at, k.kid"
        );
        query!(self, fetch_all as Row, sql)?.into_iter().map(StoredKey::try_from).collect()
    }

    async fn key_set_changed(&mut self) -> Result<(), StoreError> {
        query!(self, execute, "UPDATE key_set SET version = version + 1").map(drop)
    }

    /// Adds a signing key that is made now.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the algorithm has one in that state already.
    pub async fn add_signing_key(&mut self, stored: &StoredKey) -> Result<(), StoreError> {
        let sql = "INSERT INTO signing_keys (kid, algorithm, created_at, active_at, longest_seconds, public, \
                   public_by, sealed, sealed_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let (key, public, sealed) = (&stored.key, stored.public.as_ref(), stored.sealed.as_ref());
        query!(
            self,
            execute,
            sql,
            key.kid.as_str(),
            key.algorithm.code(),
            key.life.created_at.as_microsecond(),
            key.life.active_at.map(Timestamp::as_microsecond),
            i64::from(key.longest_seconds),
            public.map(|s| s.bytes.as_slice()),
            public.map(|s| s.key_id.as_str()),
            sealed.map(|s| s.bytes.as_slice()),
            sealed.map(|s| s.key_id.as_str()),
        )?;
        self.key_set_changed().await
    }

    /// Writes down the public part of a key from before there was a place for it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_public_key(&mut self, kid: &str, public: &Sealed) -> Result<(), StoreError> {
        let sql = "UPDATE signing_keys SET public = $1, public_by = $2 WHERE kid = $3 AND public IS NULL";
        query!(self, execute, sql, public.bytes.as_slice(), public.key_id.as_str(), kid).map(drop)
    }

    /// Lets a key sign no more. Its private part is gone; it leaves the key set later. No token is
    /// being issued with it meanwhile, on any node.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn let_key_retire(
        &mut self,
        kid: &str,
        now: Timestamp,
        leaves_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.hold_tokens().await?;
        let sql = "UPDATE signing_keys SET retiring_at = $1, leaves_at = $2, sealed = NULL, sealed_by = NULL \
                   WHERE kid = $3";
        query!(self, execute, sql, now.as_microsecond(), leaves_at.as_microsecond(), kid)?;
        self.key_set_changed().await
    }

    /// Lets a key sign.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when another one of its algorithm does.
    pub async fn activate_key(&mut self, kid: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE signing_keys SET active_at = $1 WHERE kid = $2";
        query!(self, execute, sql, now.as_microsecond(), kid)?;
        self.key_set_changed().await
    }

    /// Takes a key out of the key set, and its private part away (C-11: its tokens stop).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn withdraw_key(&mut self, kid: &str, now: Timestamp) -> Result<(), StoreError> {
        self.hold_tokens().await?;
        let sql = "UPDATE signing_keys SET withdrawn_at = $1, sealed = NULL, sealed_by = NULL WHERE kid = $2";
        query!(self, execute, sql, now.as_microsecond(), kid)?;
        self.key_set_changed().await
    }

    /// The longest lifespan of the APIs that are registered, in seconds, if one has any.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn longest_lifespan(&mut self) -> Result<Option<u32>, StoreError> {
        let sql = "SELECT MAX(lifespan_seconds) FROM apis WHERE removed_at IS NULL";
        let (longest,) = query!(self, fetch_one as (Option<i64>,), sql)?;
        longest.map(|n| u32::try_from(n).map_err(|_| corrupt("lifespan", n))).transpose()
    }

    /// Remembers that keys which sign, or will, may sign tokens that live so long.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_lifespan(&mut self, seconds: u32) -> Result<(), StoreError> {
        let sql = "UPDATE signing_keys SET longest_seconds = $1 WHERE longest_seconds < $1 AND retiring_at IS NULL \
                   AND withdrawn_at IS NULL";
        query!(self, execute, sql, i64::from(seconds)).map(drop)
    }

    /// Marks the keys that have left the key set with time, and gives their ids: each is given once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_retired_keys(&mut self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        let sql = "UPDATE signing_keys SET retired_at = $1 WHERE leaves_at <= $1 AND retired_at IS NULL \
                   AND withdrawn_at IS NULL RETURNING kid";
        let kids = query!(self, fetch_all as (String,), sql, now.as_microsecond())?;
        Ok(kids.into_iter().map(|(kid,)| kid).collect())
    }

    /// Whether [`Tx::take_retired_keys`] has any to give.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn has_retired_keys(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let sql = "SELECT COUNT(*) FROM signing_keys WHERE leaves_at <= $1 AND retired_at IS NULL \
                   AND withdrawn_at IS NULL";
        query!(self, fetch_one as (i64,), sql, now.as_microsecond()).map(|(n,)| n > 0)
    }

    /// Drops the rows of keys that have been out of the key set since before an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_old_keys(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let sql = "DELETE FROM signing_keys WHERE COALESCE(withdrawn_at, retired_at) < $1";
        query!(self, execute, sql, before.as_microsecond())
    }
}
