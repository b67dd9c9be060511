//! Second factors at rest: authenticator apps, passkeys, recovery codes. What counts once (a step
//! of an app, a recovery code) is consumed by one statement, so that of two at once one gets it.

use jiff::Timestamp;
use portcullis_domain::{accounts::UserId, mfa::Factors};
use uuid::Uuid;

use crate::{
    error::StoreError,
    installation::instant,
    seal::Sealed,
    tx::{Tx, query},
};

/// An authenticator app, confirmed or not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredApp {
    /// Its secret, sealed under [`crate::Purpose::Totp`] with the user's id as its context.
    pub secret: Sealed,
    /// When it was made (UTC).
    pub made_at: Timestamp,
    /// When its first code was given (UTC): from then on it is a factor.
    pub confirmed_at: Option<Timestamp>,
}

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPasskey {
    /// The id of the row.
    pub id: Uuid,
    /// Whose it is.
    pub user: UserId,
    /// What the authenticator calls it.
    pub credential_id: Vec<u8>,
    /// What its user calls it.
    pub name: String,
    /// The public key and its counter, as JSON.
    pub passkey: String,
    /// When it was made (UTC).
    pub made_at: Timestamp,
    /// When it was last used (UTC).
    pub used_at: Option<Timestamp>,
}

#[derive(sqlx::FromRow)]
struct AppRow {
    sealed: Vec<u8>,
    sealed_by: String,
    made_at: i64,
    confirmed_at: Option<i64>,
}

impl TryFrom<AppRow> for StoredApp {
    type Error = StoreError;
    fn try_from(r: AppRow) -> Result<Self, StoreError> {
        Ok(Self {
            secret: Sealed { key_id: r.sealed_by, bytes: r.sealed },
            made_at: instant(r.made_at)?,
            confirmed_at: r.confirmed_at.map(instant).transpose()?,
        })
    }
}

#[derive(sqlx::FromRow)]
struct PasskeyRow {
    id: Uuid,
    user_id: Uuid,
    credential_id: Vec<u8>,
    name: String,
    passkey: String,
    made_at: i64,
    used_at: Option<i64>,
}

impl TryFrom<PasskeyRow> for StoredPasskey {
    type Error = StoreError;
    fn try_from(r: PasskeyRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: r.id,
            user: UserId(r.user_id),
            credential_id: r.credential_id,
            name: r.name,
            passkey: r.passkey,
            made_at: instant(r.made_at)?,
            used_at: r.used_at.map(instant).transpose()?,
        })
    }
}

macro_rules! select_passkeys {
    ($rest:literal) => {
        concat!("SELECT id, user_id, credential_id, name, passkey, made_at, used_at FROM passkeys ", $rest)
    };
}

fn count(n: i64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl Tx {
    /// What second factors a user has.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn factors(&mut self, user: UserId) -> Result<Factors, StoreError> {
        let sql = "SELECT (SELECT COUNT(*) FROM totp WHERE user_id = $1 AND confirmed_at IS NOT NULL), \
                   (SELECT COUNT(*) FROM passkeys WHERE user_id = $1)";
        let (apps, passkeys) = query!(self, fetch_one as (i64, i64), sql, user.0)?;
        Ok(Factors { app: apps > 0, passkeys: count(passkeys) as usize })
    }

    /// The authenticator app of a user, confirmed or not yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn authenticator_app(&mut self, user: UserId) -> Result<Option<StoredApp>, StoreError> {
        let sql = "SELECT sealed, sealed_by, made_at, confirmed_at FROM totp WHERE user_id = $1";
        query!(self, fetch_optional as AppRow, sql, user.0)?.map(StoredApp::try_from).transpose()
    }

    /// Puts an app in place that is to be confirmed, instead of one that never was. `false` when a
    /// confirmed one is there, which stays.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn propose_app(
        &mut self,
        user: UserId,
        secret: &Sealed,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO totp (user_id, sealed, sealed_by, made_at, confirmed_at, last_step) \
                   VALUES ($1, $2, $3, $4, NULL, 0) \
                   ON CONFLICT (user_id) DO UPDATE SET sealed = $2, sealed_by = $3, made_at = $4 \
                   WHERE totp.confirmed_at IS NULL";
        let (bytes, key) = (secret.bytes.as_slice(), secret.key_id.as_str());
        Ok(query!(self, execute, sql, user.0, bytes, key, now.as_microsecond())? == 1)
    }

    /// Makes the app that was made at `made_at` a factor, with the first code of it: that step is
    /// consumed. `false` when there is none to confirm, or another took its place.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn confirm_app(
        &mut self,
        user: UserId,
        made_at: Timestamp,
        step: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE totp SET confirmed_at = $1, last_step = $2 \
                   WHERE user_id = $3 AND confirmed_at IS NULL AND last_step < $2 AND made_at = $4";
        let (now, made_at) = (now.as_microsecond(), made_at.as_microsecond());
        Ok(query!(self, execute, sql, now, step, user.0, made_at)? == 1)
    }

    /// Consumes a step of an app: `false` when it, or a later one, was consumed before
    /// (protocol 38).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn consume_step(&mut self, user: UserId, step: i64) -> Result<bool, StoreError> {
        let sql = "UPDATE totp SET last_step = $1 \
                   WHERE user_id = $2 AND last_step < $1 AND confirmed_at IS NOT NULL";
        Ok(query!(self, execute, sql, step, user.0)? == 1)
    }

    /// Removes the app of a user. `false` when there was none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_app(&mut self, user: UserId) -> Result<bool, StoreError> {
        Ok(query!(self, execute, "DELETE FROM totp WHERE user_id = $1", user.0)? == 1)
    }

    /// The passkeys of a user, the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn passkeys(&mut self, user: UserId) -> Result<Vec<StoredPasskey>, StoreError> {
        let sql = select_passkeys!("WHERE user_id = $1 ORDER BY id");
        query!(self, fetch_all as PasskeyRow, sql, user.0)?.into_iter().map(StoredPasskey::try_from).collect()
    }

    /// The passkey that an authenticator calls so.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn passkey_called(&mut self, credential_id: &[u8]) -> Result<Option<StoredPasskey>, StoreError> {
        let sql = select_passkeys!("WHERE credential_id = $1");
        query!(self, fetch_optional as PasskeyRow, sql, credential_id)?.map(StoredPasskey::try_from).transpose()
    }

    /// Adds a passkey.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when that passkey is there already.
    pub async fn add_passkey(&mut self, passkey: &StoredPasskey) -> Result<(), StoreError> {
        let sql = "INSERT INTO passkeys (id, user_id, credential_id, name, passkey, made_at, used_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7)";
        query!(
            self,
            execute,
            sql,
            passkey.id,
            passkey.user.0,
            passkey.credential_id.as_slice(),
            passkey.name.as_str(),
            passkey.passkey.as_str(),
            passkey.made_at.as_microsecond(),
            passkey.used_at.map(Timestamp::as_microsecond),
        )
        .map(drop)
    }

    /// Notes that a passkey was used, with its new counter.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn passkey_used(&mut self, id: Uuid, passkey: &str, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE passkeys SET passkey = $1, used_at = $2 WHERE id = $3";
        query!(self, execute, sql, passkey, now.as_microsecond(), id).map(drop)
    }

    /// Removes a passkey of a user, and with the last one the leave to sign in with a passkey alone.
    /// `false` when the user has no such passkey.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_passkey(&mut self, user: UserId, id: Uuid) -> Result<bool, StoreError> {
        let sql = "DELETE FROM passkeys WHERE user_id = $1 AND id = $2";
        let removed = query!(self, execute, sql, user.0, id)? == 1;
        let sql = "UPDATE users SET passkey_alone = $1 \
                   WHERE id = $2 AND NOT EXISTS (SELECT 1 FROM passkeys WHERE user_id = $2)";
        query!(self, execute, sql, false, user.0)?;
        Ok(removed)
    }

    /// Puts recovery codes, by their digests under this key, in the place of those that a user had.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_recovery_codes(
        &mut self,
        user: UserId,
        (key_id, digests): (&str, &[[u8; 32]]),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        query!(self, execute, "DELETE FROM recovery_codes WHERE user_id = $1", user.0)?;
        let sql = "INSERT INTO recovery_codes (digest, digest_key_id, user_id, made_at, used_at) VALUES ($1, $2, $3, $4, NULL)";
        for digest in digests {
            query!(self, execute, sql, digest.to_vec(), key_id, user.0, now.as_microsecond())?;
        }
        Ok(())
    }

    /// Consumes a recovery code: `false` when the user has none like it, or it was used before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn consume_recovery_code(
        &mut self,
        user: UserId,
        digest: &[u8; 32],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sql = "UPDATE recovery_codes SET used_at = $1 WHERE digest = $2 AND user_id = $3 AND used_at IS NULL";
        Ok(query!(self, execute, sql, now.as_microsecond(), digest.to_vec(), user.0)? == 1)
    }

    /// How many recovery codes a user has left.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn recovery_codes_left(&mut self, user: UserId) -> Result<u32, StoreError> {
        let sql = "SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1 AND used_at IS NULL";
        query!(self, fetch_one as (i64,), sql, user.0).map(|(n,)| count(n))
    }

    /// Whether a passkey signs a user in without the password.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn passkey_alone(&mut self, user: UserId) -> Result<bool, StoreError> {
        let sql = "SELECT passkey_alone FROM users WHERE id = $1";
        Ok(query!(self, fetch_optional as (bool,), sql, user.0)?.is_some_and(|(allowed,)| allowed))
    }

    /// Says whether a passkey signs a user in without the password.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_passkey_alone(&mut self, user: UserId, allowed: bool) -> Result<(), StoreError> {
        let sql = "UPDATE users SET passkey_alone = $1 WHERE id = $2";
        query!(self, execute, sql, allowed, user.0).map(drop)
    }

    /// Removes every factor and recovery code of a user: whose MFA is turned off begins anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_factors(&mut self, user: UserId) -> Result<(), StoreError> {
        for sql in [
            "DELETE FROM totp WHERE user_id = $1",
            "DELETE FROM passkeys WHERE user_id = $1",
            "DELETE FROM recovery_codes WHERE user_id = $1",
        ] {
            query!(self, execute, sql, user.0)?;
        }
        self.set_passkey_alone(user, false).await
    }
}
