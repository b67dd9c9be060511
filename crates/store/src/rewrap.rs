//! A new master key: what is sealed is sealed anew under it, in steps; and what needs which key.

use std::collections::BTreeMap;

use jiff::Timestamp;
use portcullis_domain::{keys::Kept, secret::ExposeSecret};
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    seal::{MasterKeys, Purpose, Sealed},
    tx::{Act, Tx, query},
};

/// How much of what is kept needs a master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyUse {
    /// What.
    pub kept: Kept,
    /// The id of the key; empty for recovery codes that do not say it.
    pub key_id: String,
    /// How many.
    pub count: u64,
}

/// Audit records counted in one statement.
const COUNTED_AT_ONCE: i64 = 200_000;

/// Seals one value anew.
fn again(
    keys: &MasterKeys,
    (purpose, context): (Purpose, &str),
    sealed: &Sealed,
    nonce: [u8; 12],
) -> Result<Sealed, StoreError> {
    let plain = keys.open(purpose, context, sealed).map_err(|e| corrupt("sealed value", e))?;
    Ok(keys.seal(purpose, context, plain.expose_secret(), nonce))
}

/// Seals the values of one table anew, at most `$limit`, and gives how many there were. A value that
/// somebody else changed meanwhile is left to the next step. `$table` has the columns `$id`,
/// `$context`, `$sealed` and `$by`.
macro_rules! rewrap {
    ($act:expr, $limit:expr, $nonce:expr, $purpose:expr, $table:literal, $id:literal: $type:ty, $context:literal, $sealed:literal, $by:literal) => {{
        let keys = std::sync::Arc::clone(&$act.keys);
        let select = concat!(
            "SELECT ",
            $id,
            ", ",
            $context,
            ", ",
            $sealed,
            ", ",
            $by,
            " FROM ",
            $table,
            " WHERE ",
            $by,
            " <> $1 LIMIT $2"
        );
        let update = concat!(
            "UPDATE ",
            $table,
            " SET ",
            $sealed,
            " = $1, ",
            $by,
            " = $2 WHERE ",
            $id,
            " = $3 AND ",
            $sealed,
            " = $4"
        );
        let rows = query!(
            $act,
            fetch_all as ($type, String, Vec<u8>, String),
            select,
            keys.current_id(),
            i64::from($limit)
        )?;
        let count = rows.len() as u64;
        for (id, context, bytes, key_id) in rows {
            let old = Sealed { key_id, bytes };
            let new = again(&keys, ($purpose, &context), &old, $nonce())?;
            query!($act, execute, update, new.bytes, new.key_id, id, old.bytes)?;
        }
        Ok(count)
    }};
    // The id is the context.
    ($act:expr, $limit:expr, $nonce:expr, $purpose:expr, $table:literal, $id:literal, $sealed:literal, $by:literal) => {{
        let keys = std::sync::Arc::clone(&$act.keys);
        let select =
            concat!("SELECT ", $id, ", ", $sealed, ", ", $by, " FROM ", $table, " WHERE ", $by, " <> $1 LIMIT $2");
        let update = concat!(
            "UPDATE ",
            $table,
            " SET ",
            $sealed,
            " = $1, ",
            $by,
            " = $2 WHERE ",
            $id,
            " = $3 AND ",
            $sealed,
            " = $4"
        );
        let rows =
            query!($act, fetch_all as (Uuid, Vec<u8>, String), select, keys.current_id(), i64::from($limit))?;
        let count = rows.len() as u64;
        for (id, bytes, key_id) in rows {
            let old = Sealed { key_id, bytes };
            let new = again(&keys, ($purpose, &id.to_string()), &old, $nonce())?;
            query!($act, execute, update, new.bytes, new.key_id, id, old.bytes)?;
        }
        Ok(count)
    }};
}

/// How many rows of the short tables need which master key: `$1` is now.
macro_rules! small_use {
    () => {
        "SELECT 'signing_keys', sealed_by, COUNT(*) FROM signing_keys WHERE sealed_by IS NOT NULL GROUP BY sealed_by \
         UNION ALL SELECT 'public_keys', public_by, COUNT(*) FROM signing_keys WHERE public_by IS NOT NULL GROUP BY public_by \
         UNION ALL SELECT 'provider_secrets', sealed_by, COUNT(*) FROM providers WHERE sealed_by IS NOT NULL GROUP BY sealed_by \
         UNION ALL SELECT 'mails', sealed_by, COUNT(*) FROM mails WHERE sealed_by IS NOT NULL GROUP BY sealed_by \
         UNION ALL SELECT 'ceremonies', sealed_by, COUNT(*) FROM ceremonies WHERE expires_at > $1 GROUP BY sealed_by \
         UNION ALL SELECT 'api_keys', digest_key_id, COUNT(*) FROM api_keys \
         WHERE ends_at IS NULL OR ends_at > $1 GROUP BY digest_key_id"
    };
}

impl Act {
    /// Seals at most `limit` values of a kind anew under the current master key, and gives how many
    /// were not: 0 when all are. Nothing for what is a digest. `nonce` gives fresh random bytes.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a value does not open, because its key is not in the ring, say.
    pub async fn rewrap(
        &mut self,
        kept: Kept,
        limit: u32,
        nonce: &(dyn Fn() -> [u8; 12] + Sync),
    ) -> Result<u64, StoreError> {
        match kept {
            Kept::SigningKeys => {
                rewrap!(self, limit, nonce, Purpose::SigningKey, "signing_keys", "kid": String, "kid", "sealed", "sealed_by")
            }
            Kept::PublicKeys => {
                rewrap!(self, limit, nonce, Purpose::PublicKey, "signing_keys", "kid": String, "kid", "public", "public_by")
            }
            Kept::Ceremonies => {
                rewrap!(self, limit, nonce, Purpose::Ceremony, "ceremonies", "digest": Vec<u8>, "kind", "sealed", "sealed_by")
            }
            Kept::ProviderSecrets => {
                rewrap!(self, limit, nonce, Purpose::ProviderSecret, "providers", "id", "secret", "sealed_by")
            }
            Kept::AuthenticatorApps => {
                rewrap!(self, limit, nonce, Purpose::Totp, "totp", "user_id", "sealed", "sealed_by")
            }
            Kept::Mails => rewrap!(self, limit, nonce, Purpose::Mail, "mails", "id", "sealed", "sealed_by"),
            Kept::ClientSecrets | Kept::ApiKeys | Kept::RecoveryCodes | Kept::AuditRecords => Ok(0),
        }
    }

    /// Makes the current master key the one that must be in the ring for this database. `false` when
    /// it was already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim_for_current_key(&mut self) -> Result<bool, StoreError> {
        let current = self.keys.current_id().to_owned();
        let sql = "UPDATE installation SET master_key_id = $1 WHERE master_key_id <> $1";
        Ok(query!(self, execute, sql, current)? == 1)
    }
}

impl Tx {
    /// What works only with which master key at `now`: everything sealed, and the digests of what can
    /// still be presented. Without the audit log, which is long.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn master_key_use(&mut self, now: Timestamp) -> Result<Vec<MasterKeyUse>, StoreError> {
        let sql = concat!(
            small_use!(),
            " UNION ALL SELECT 'authenticator_apps', sealed_by, COUNT(*) FROM totp GROUP BY sealed_by \
             UNION ALL SELECT 'client_secrets', digest_key_id, COUNT(*) FROM credentials \
             WHERE revoked_at IS NULL AND retired_at IS NULL AND expires_at > $1 GROUP BY digest_key_id \
             UNION ALL SELECT 'recovery_codes', digest_key_id, COUNT(*) FROM recovery_codes \
             WHERE used_at IS NULL GROUP BY digest_key_id"
        );
        self.key_use(sql, now).await
    }

    /// Whether something works only with a master key that is not `known`, at `now`. The same as to ask
    /// [`Self::master_key_use`], without counting: a server starts with it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn needs_other_key(
        &mut self,
        known: &(dyn Fn(&str) -> bool + Sync),
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        if self.key_use(small_use!(), now).await?.iter().any(|u| !known(&u.key_id)) {
            return Ok(true);
        }
        const ANY_TIME: &str = "SELECT COUNT(*) FROM (SELECT 1 WHERE $1 <> '' AND $2 > 0) s";
        // From one key to the next, by the index: how many rows need each is not looked at.
        let large = [
            (
                "SELECT MIN(digest_key_id) FROM credentials WHERE revoked_at IS NULL AND retired_at IS NULL AND digest_key_id > $1",
                "SELECT COUNT(*) FROM (SELECT 1 FROM credentials WHERE revoked_at IS NULL AND retired_at IS NULL \
                 AND digest_key_id = $1 AND expires_at > $2 LIMIT 1) s",
            ),
            (
                "SELECT MIN(digest_key_id) FROM recovery_codes WHERE used_at IS NULL AND digest_key_id > $1",
                ANY_TIME,
            ),
            ("SELECT MIN(sealed_by) FROM totp WHERE sealed_by > $1", ANY_TIME),
        ];
        for (next, is_used) in large {
            let mut at = String::new();
            while let (Some(key),) = query!(self, fetch_one as (Option<String>,), next, at.as_str())? {
                let unknown = !known(&key);
                if unknown && query!(self, fetch_one as (i64,), is_used, key.as_str(), now.as_microsecond())?.0 > 0
                {
                    return Ok(true);
                }
                at = key;
            }
        }
        Ok(false)
    }

    /// What a statement says of the keys that are needed at `now`.
    async fn key_use(&mut self, sql: &'static str, now: Timestamp) -> Result<Vec<MasterKeyUse>, StoreError> {
        query!(self, fetch_all as (String, String, i64), sql, now.as_microsecond())?
            .into_iter()
            .map(|(kept, key_id, count)| {
                let kept = Kept::from_code(&kept).ok_or_else(|| corrupt("kind", &kept))?;
                Ok(MasterKeyUse { kept, key_id, count: count.cast_unsigned() })
            })
            .collect()
    }

    /// How many records of the audit log are chained with which master key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn audit_key_use(&mut self) -> Result<Vec<MasterKeyUse>, StoreError> {
        let ends = self.log_ends().await?;
        let (mut at, mut counts) = (ends.trimmed, BTreeMap::new());
        // In parts: no statement counts ten million.
        while at < ends.head {
            let until = at.saturating_add(COUNTED_AT_ONCE);
            let sql = "SELECT key_id, COUNT(*) FROM audit_records WHERE seq > $1 AND seq <= $2 GROUP BY key_id";
            for (key_id, count) in query!(self, fetch_all as (String, i64), sql, at, until)? {
                *counts.entry(key_id).or_insert(0) += count.cast_unsigned();
            }
            at = until;
        }
        let each = |(key_id, count)| MasterKeyUse { kept: Kept::AuditRecords, key_id, count };
        Ok(counts.into_iter().map(each).collect())
    }
}
