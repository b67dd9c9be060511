//! Credentials: who holds which, and what a presented Client ID belongs to.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{Standing as OwnerStanding, UserId},
    audit::printable,
    client_keys::ClientKey,
    credentials::{ClientId, Credential, RevocationReason},
    secret::KeyedDigest,
};
use uuid::Uuid;

use crate::{
    accounts::StandingRow,
    error::{StoreError, corrupt},
    hold::{unless_on_hold, works},
    installation::instant,
    tx::{Tx, query},
};

#[derive(sqlx::FromRow)]
struct CredentialRow {
    credential_id: Uuid,
    owner_id: Uuid,
    client_id: String,
    digest: Vec<u8>,
    digest_key_id: String,
    generated_at: i64,
    expires_at: i64,
    retired_at: Option<i64>,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
    key_jwk: Option<String>,
    key_thumbprint: Option<String>,
    key_bound_at: Option<i64>,
    secret_off_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct PresentedRow {
    #[sqlx(flatten)]
    credential: CredentialRow,
    #[sqlx(flatten)]
    owner: StandingRow,
    status_index: i64,
    key_set: i64,
    held_since: Option<i64>,
}

/// A credential and the facts of its owner, read together: all that its standing needs.
#[derive(Debug, Clone)]
pub struct PresentedClient {
    /// The credential.
    pub credential: Credential,
    /// Its owner's role, status and MFA at the same instant.
    pub owner: OwnerStanding,
    /// Its place in the status list (protocol 29).
    pub status_index: u32,
    /// The version of the key set at the same instant.
    pub key_set: i64,
}

impl TryFrom<CredentialRow> for Credential {
    type Error = StoreError;
    fn try_from(r: CredentialRow) -> Result<Self, StoreError> {
        let revoked = match (r.revoked_at, r.revoked_reason) {
            (Some(at), Some(reason)) => {
                let why = RevocationReason::from_code(&reason).ok_or_else(|| corrupt("revocation", &reason))?;
                Some((instant(at)?, why))
            }
            _ => None,
        };
        let key = match (r.key_jwk, r.key_thumbprint, r.key_bound_at) {
            (Some(jwk), Some(thumbprint), Some(at)) => Some(ClientKey { jwk, thumbprint, bound_at: instant(at)? }),
            _ => None,
        };
        Ok(Self {
            id: r.credential_id,
            owner: UserId(r.owner_id),
            client_id: ClientId::parse(&r.client_id).ok_or_else(|| corrupt("client id", &r.client_id))?,
            digest: KeyedDigest {
                key_id: r.digest_key_id,
                bytes: r.digest.try_into().map_err(|_| corrupt("digest", "length"))?,
            },
            generated_at: instant(r.generated_at)?,
            expires_at: instant(r.expires_at)?,
            retired_at: r.retired_at.map(instant).transpose()?,
            revoked,
            key,
            had_key: r.key_bound_at.is_some(),
            secret_off_at: r.secret_off_at.map(instant).transpose()?,
        })
    }
}

pub(crate) fn status_index(stored: i64) -> Result<u32, StoreError> {
    u32::try_from(stored).map_err(|_| corrupt("place in the status list", stored))
}

impl TryFrom<PresentedRow> for PresentedClient {
    type Error = StoreError;
    fn try_from(r: PresentedRow) -> Result<Self, StoreError> {
        // On hold nobody learns how a credential stands, not even that there is none.
        works(r.held_since)?;
        Ok(Self {
            credential: r.credential.try_into()?,
            owner: r.owner.try_into()?,
            status_index: status_index(r.status_index)?,
            key_set: r.key_set,
        })
    }
}

/// The columns of a [`CredentialRow`], of the table alias `c`.
macro_rules! credential_columns {
    () => {
        "c.id AS credential_id, c.owner_id, c.client_id, c.digest, c.digest_key_id, c.generated_at, \
         c.expires_at, c.retired_at, c.revoked_at, c.revoked_reason, c.key_jwk, c.key_thumbprint, c.key_bound_at, \
         c.secret_off_at"
    };
}

/// The columns of a [`PresentedRow`]; the tables are `c` and its owner `u`.
macro_rules! presented_columns {
    () => {
        concat!(
            credential_columns!(),
            ", u.role, u.role_since, u.status, u.status_since, u.mfa_since, \
             u.password_hash IS NOT NULL AS has_password, c.status_index, (SELECT version FROM key_set) AS key_set, \
             (SELECT held_since FROM installation) AS held_since"
        )
    };
}

impl Tx {
    /// The credential in a user's place (C-1): the one that is neither revoked nor retired.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn held_credential(&mut self, owner: UserId) -> Result<Option<Credential>, StoreError> {
        let sql = concat!(
            "SELECT ",
            credential_columns!(),
            " FROM credentials c WHERE c.owner_id = $1 AND c.revoked_at IS NULL AND c.retired_at IS NULL"
        );
        query!(self, fetch_optional as CredentialRow, sql, owner.0)?.map(Credential::try_from).transpose()
    }

    /// The credentials with these Client IDs, each with its owner's facts; unknown ones are
    /// absent. One statement, so all of them are of one instant. At most a few hundred at once.
    ///
    /// For an unknown Client ID the row of nobody is read instead, joined, decoded and dropped, so
    /// that it takes as long as a known one (protocol 9).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn presented_clients(&mut self, client_ids: &[&str]) -> Result<Vec<PresentedClient>, StoreError> {
        if client_ids.is_empty() { Ok(Vec::new()) } else { self.presented_after("", client_ids).await }
    }

    /// [`Tx::presented_clients`] of one id or more, after what is to be run before it.
    pub(crate) async fn presented_after(
        &mut self,
        first: &str,
        client_ids: &[&str],
    ) -> Result<Vec<PresentedClient>, StoreError> {
        let asked: Vec<String> = (1..=client_ids.len()).map(|at| format!("(${at})")).collect();
        let sql = format!(
            concat!(
                "{}WITH asked (client_id) AS (VALUES {}) SELECT ",
                presented_columns!(),
                " FROM asked a JOIN credentials c ON c.client_id = COALESCE((SELECT k.client_id FROM credentials k \
                 WHERE k.client_id = a.client_id), 'pcc_00000000000000000000') JOIN users u ON u.id = c.owner_id"
            ),
            first,
            asked.join(", ")
        );
        // A stranger's text must not make the statement fail for the others in it.
        let client_ids = client_ids.iter().map(|id| printable(id, 32));
        let found = query!(self, fetch_all as PresentedRow, sql, each client_ids)?;
        let mut found = found.into_iter().map(PresentedClient::try_from).collect::<Result<Vec<_>, _>>()?;
        found.retain(|client| !client.credential.id.is_nil());
        Ok(found)
    }

    /// The credentials with places after this one, each with its owner's facts, in the order of their
    /// places, at most so many: without those that were revoked before `since`, or have ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn credentials_after(
        &mut self,
        place: u32,
        since: Timestamp,
        limit: u32,
    ) -> Result<Vec<PresentedClient>, StoreError> {
        let sql = concat!(
            "SELECT ",
            presented_columns!(),
            " FROM credentials c JOIN users u ON u.id = c.owner_id WHERE c.status_index > $1 \
             AND (c.revoked_at IS NULL OR c.revoked_at >= $2) AND c.expires_at >= $2 ORDER BY c.status_index LIMIT $3"
        );
        query!(self, fetch_all as PresentedRow, sql, i64::from(place), since.as_microsecond(), i64::from(limit))?
            .into_iter()
            .map(PresentedClient::try_from)
            .collect()
    }

    /// Adds a credential, with the next place in the status list (protocol 29).
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the owner has one already (C-1).
    pub async fn add_credential(&mut self, credential: &Credential) -> Result<(), StoreError> {
        let sql = "INSERT INTO credentials (id, owner_id, client_id, digest, digest_key_id, generated_at, expires_at, \
                   status_index) VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT MAX(status_index) + 1 FROM credentials))";
        query!(
            self,
            execute,
            sql,
            credential.id,
            credential.owner.0,
            credential.client_id.as_str(),
            credential.digest.bytes.to_vec(),
            credential.digest.key_id.as_str(),
            credential.generated_at.as_microsecond(),
            credential.expires_at.as_microsecond(),
        )
        .map(drop)
    }

    /// Takes an expired credential out of its owner's place (C-6).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn retire_credential(&mut self, id: Uuid, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE credentials SET retired_at = $1 WHERE id = $2 AND retired_at IS NULL";
        query!(self, execute, sql, now.as_microsecond(), id).map(drop)
    }

    /// Revokes a credential. `false` when it was revoked already: the first revocation stands
    /// (C-7).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn revoke_credential(
        &mut self,
        id: Uuid,
        reason: RevocationReason,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        self.hold_tokens().await?;
        let sql =
            "UPDATE credentials SET revoked_at = $1, revoked_reason = $2 WHERE id = $3 AND revoked_at IS NULL";
        Ok(query!(self, execute, sql, now.as_microsecond(), reason.code(), id)? == 1)
    }

    /// Notes on credentials that expire by an instant, and were not reminded of with as few days,
    /// that their owners are told now, and gives those. Of many at once each is given to one. Only
    /// what has not expired and was not revoked, of owners who are not deleted; at most `limit`. On hold
    /// none (H-1).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn take_expiring(
        &mut self,
        days: i64,
        now: Timestamp,
        until: Timestamp,
        limit: u32,
    ) -> Result<Vec<Credential>, StoreError> {
        let sql = concat!(
            "UPDATE credentials SET notified_days = $1 WHERE id IN (SELECT k.id FROM credentials k \
                   JOIN users u ON u.id = k.owner_id WHERE k.revoked_at IS NULL AND k.retired_at IS NULL \
                   AND k.expires_at > $2 AND k.expires_at <= $3 AND u.status <> 'deleted' \
                   AND (k.notified_days IS NULL OR k.notified_days > $1) ORDER BY k.expires_at, k.id LIMIT $4) \
                   AND (notified_days IS NULL OR notified_days > $1) AND ",
            unless_on_hold!(),
            " RETURNING id AS credential_id, owner_id, client_id, digest, digest_key_id, generated_at, \
                   expires_at, retired_at, revoked_at, revoked_reason, key_jwk, key_thumbprint, key_bound_at, \
                   secret_off_at"
        );
        let (now, until) = (now.as_microsecond(), until.as_microsecond());
        query!(self, fetch_all as CredentialRow, sql, days, now, until, i64::from(limit))?
            .into_iter()
            .map(Credential::try_from)
            .collect()
    }
}
