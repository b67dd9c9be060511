//! What was stopped on a later state of the same database, to be replayed on one that is on hold (H-3):
//! read there page by page, and written here.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{Role, Standing, Status, UserId},
    audit::Head,
    credentials::RevocationReason,
};
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    installation::instant,
    tx::{Act, Tx, query},
};

/// Rows that are read at once.
const PAGE: i64 = 500;

/// A user as the later database has them.
#[derive(Debug, Clone)]
pub struct LaterUser {
    /// The id.
    pub id: UserId,
    /// Role, status, MFA.
    pub standing: Standing,
    /// The password's hash, if there is one.
    pub password_hash: Option<String>,
}

/// Something that was stopped here because it had been stopped there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// A credential was revoked: its Client ID, and why.
    Credential(String, RevocationReason),
    /// The ways in of a credential are those of later: its Client ID.
    WaysIn(String),
    /// A token was revoked by itself: its id.
    Token(Uuid),
    /// An API was removed: its identifier.
    Api(String),
    /// An API takes only tokens that are bound to a key: its identifier.
    BoundOnly(String),
    /// A key of an API was removed, or ends: its id.
    ApiKey(String),
    /// An identity was unlinked: its user.
    Identity(UserId),
    /// A sign-in provider was removed: its name.
    Provider(String),
}

#[derive(sqlx::FromRow)]
struct UserRow {
    id: Uuid,
    role: String,
    role_since: i64,
    status: String,
    status_since: i64,
    mfa_since: Option<i64>,
    password_hash: Option<String>,
}

#[derive(sqlx::FromRow)]
struct CredentialRow {
    id: Uuid,
    client_id: String,
    revoked_at: Option<i64>,
    revoked_reason: Option<String>,
    key_jwk: Option<String>,
    key_thumbprint: Option<String>,
    key_bound_at: Option<i64>,
    secret_off_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct PasskeyRow {
    id: Uuid,
    credential_id: Vec<u8>,
    name: String,
    passkey: String,
    made_at: i64,
    used_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct CodeRow {
    digest: Vec<u8>,
    made_at: i64,
    used_at: Option<i64>,
    digest_key_id: String,
}

impl TryFrom<UserRow> for LaterUser {
    type Error = StoreError;
    fn try_from(r: UserRow) -> Result<Self, StoreError> {
        let role = Role::from_code(&r.role).ok_or_else(|| corrupt("role", &r.role))?;
        let status = Status::from_code(&r.status).ok_or_else(|| corrupt("status", &r.status))?;
        let standing = Standing {
            role: (role, instant(r.role_since)?),
            status: (status, instant(r.status_since)?),
            mfa_since: r.mfa_since.map(instant).transpose()?,
            has_password: r.password_hash.is_some(),
        };
        Ok(Self { id: UserId(r.id), standing, password_hash: r.password_hash })
    }
}

impl Tx {
    /// How far this log and that of another database of the same installation are the same: the number of
    /// the last record that both have, at most `up_to`, and that of the other's last one. `None` when they
    /// have none in common: records tie each other, so of two logs with one common record all before it
    /// are common, and behind the first that differs none is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn common_with(&mut self, other: &mut Tx, up_to: i64) -> Result<Option<(i64, i64)>, StoreError> {
        let (here, there) = (self.audit_head().await?, other.audit_head().await?);
        // The first that both may have, and the first that they cannot have in common.
        let mut common = here.trimmed_seq.max(there.trimmed_seq);
        let mut differs = up_to.min(here.seq).min(there.seq) + 1;
        let mut found = common == 0;
        while common + 1 < differs {
            let middle = common + (differs - common) / 2;
            let (ours, theirs) = (self.link_of(middle).await?, other.link_of(middle).await?);
            if ours.is_some() && ours == theirs {
                (common, found) = (middle, true);
            } else {
                differs = middle;
            }
        }
        Ok(found.then_some((common, there.seq)))
    }

    /// A record of the audit log: its link; `None` when it is not there.
    async fn link_of(&mut self, seq: i64) -> Result<Option<Head>, StoreError> {
        let found =
            query!(self, fetch_optional as (Vec<u8>,), "SELECT link FROM audit_records WHERE seq = $1", seq)?;
        found.map(|(link,)| Ok(Head { seq, link: link.try_into().map_err(|_| corrupt("link", seq))? })).transpose()
    }

    /// Users of this, the later database, after an id; some hundred at once, none at the end.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn later_users(&mut self, after: Option<UserId>) -> Result<Vec<LaterUser>, StoreError> {
        let after = after.map_or(Uuid::nil(), |id| id.0);
        let sql = "SELECT id, role, role_since, status, status_since, mfa_since, password_hash FROM users \
                   WHERE id > $1 ORDER BY id LIMIT $2";
        query!(self, fetch_all as UserRow, sql, after, PAGE)?.into_iter().map(LaterUser::try_from).collect()
    }

    /// The ids of the signing keys that were withdrawn on this, the later database.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn withdrawn_keys(&mut self) -> Result<Vec<String>, StoreError> {
        let sql = "SELECT kid FROM signing_keys WHERE withdrawn_at IS NOT NULL ORDER BY withdrawn_at, kid";
        let found = query!(self, fetch_all as (String,), sql)?;
        Ok(found.into_iter().map(|(kid,)| kid).collect())
    }

    async fn later_credentials(&mut self, after: Uuid) -> Result<Vec<CredentialRow>, StoreError> {
        let sql = "SELECT id, client_id, revoked_at, revoked_reason, key_jwk, key_thumbprint, key_bound_at, \
                   secret_off_at FROM credentials WHERE id > $1 AND (revoked_at IS NOT NULL \
                   OR key_bound_at IS NOT NULL OR secret_off_at IS NOT NULL) ORDER BY id LIMIT $2";
        query!(self, fetch_all as CredentialRow, sql, after, PAGE)
    }
}

impl Act {
    /// Replays what was stopped of credentials, tokens, APIs, identities and providers on a later state
    /// of this database, and gives what that was. What was stopped here already is not given again.
    ///
    /// # Errors
    /// [`StoreError`] of either database.
    pub async fn replay_from(&mut self, later: &mut Tx, now: Timestamp) -> Result<Vec<Replayed>, StoreError> {
        self.hold_tokens().await?;
        let mut done = Vec::new();
        self.replay_credentials(later, &mut done).await?;
        self.replay_tokens(later, now, &mut done).await?;
        self.replay_apis(later, &mut done).await?;
        self.replay_federation(later, &mut done).await?;
        Ok(done)
    }

    async fn replay_credentials(&mut self, later: &mut Tx, done: &mut Vec<Replayed>) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        loop {
            let rows = later.later_credentials(after).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = last.id;
            for row in rows {
                if let (Some(at), Some(reason)) = (row.revoked_at, &row.revoked_reason) {
                    let why = RevocationReason::from_code(reason).ok_or_else(|| corrupt("revocation", reason))?;
                    if self.revoke_credential(row.id, why, instant(at)?).await? {
                        done.push(Replayed::Credential(row.client_id, why));
                    }
                    continue;
                }
                let sql = "UPDATE credentials SET key_jwk = $1, key_thumbprint = $2, key_bound_at = $3, \
                           secret_off_at = $4 WHERE id = $5 AND revoked_at IS NULL \
                           AND (COALESCE(key_thumbprint, '') <> COALESCE($2, '') \
                           OR COALESCE(secret_off_at, 0) <> COALESCE($4, 0))";
                let changed = query!(
                    self,
                    execute,
                    sql,
                    row.key_jwk,
                    row.key_thumbprint,
                    row.key_bound_at,
                    row.secret_off_at,
                    row.id
                )?;
                if changed == 1 {
                    done.push(Replayed::WaysIn(row.client_id));
                }
            }
        }
    }

    async fn replay_tokens(
        &mut self,
        later: &mut Tx,
        now: Timestamp,
        done: &mut Vec<Replayed>,
    ) -> Result<(), StoreError> {
        let mut after = Uuid::nil();
        loop {
            let sql = "SELECT jti, revoked_at FROM issued_tokens WHERE revoked_at IS NOT NULL AND expires_at > $1 \
                       AND jti > $2 ORDER BY jti LIMIT $3";
            let rows = query!(later, fetch_all as (Uuid, i64), sql, now.as_microsecond(), after, PAGE)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = *last;
            for (jti, at) in rows {
                let sql = "UPDATE issued_tokens SET revoked_at = $1 WHERE jti = $2 AND revoked_at IS NULL";
                if query!(self, execute, sql, at, jti)? == 1 {
                    done.push(Replayed::Token(jti));
                }
            }
        }
    }

    async fn replay_apis(&mut self, later: &mut Tx, done: &mut Vec<Replayed>) -> Result<(), StoreError> {
        let sql =
            "SELECT id, identifier, removed_at FROM apis WHERE removed_at IS NOT NULL ORDER BY removed_at, id";
        for (id, identifier, at) in query!(later, fetch_all as (Uuid, String, i64), sql)? {
            let sql = "UPDATE apis SET removed_at = $1 WHERE id = $2 AND removed_at IS NULL";
            if query!(self, execute, sql, at, id)? == 1 {
                query!(self, execute, "DELETE FROM api_keys WHERE api_id = $1", id)?;
                done.push(Replayed::Api(identifier));
            }
        }
        let sql = "SELECT id, identifier FROM apis WHERE requires_dpop AND removed_at IS NULL ORDER BY id";
        for (id, identifier) in query!(later, fetch_all as (Uuid, String), sql)? {
            let sql = "UPDATE apis SET requires_dpop = TRUE WHERE id = $1 AND NOT requires_dpop";
            if query!(self, execute, sql, id)? == 1 {
                done.push(Replayed::BoundOnly(identifier));
            }
        }
        let sql = "SELECT id, ends_at FROM api_keys ORDER BY id";
        let there = query!(later, fetch_all as (String, Option<i64>), sql)?;
        for (id, ends) in query!(self, fetch_all as (String, Option<i64>), sql)? {
            let kept = there.binary_search_by(|(other, _)| other.cmp(&id)).ok().map(|at| there[at].1);
            let changed = match (ends, kept) {
                (_, None) => query!(self, execute, "DELETE FROM api_keys WHERE id = $1", id.as_str())?,
                (None, Some(Some(at))) => {
                    query!(self, execute, "UPDATE api_keys SET ends_at = $1 WHERE id = $2", at, id.as_str())?
                }
                _ => 0,
            };
            if changed == 1 {
                done.push(Replayed::ApiKey(id));
            }
        }
        Ok(())
    }

    async fn replay_federation(&mut self, later: &mut Tx, done: &mut Vec<Replayed>) -> Result<(), StoreError> {
        let sql = "SELECT id, name FROM providers ORDER BY id";
        let there = query!(later, fetch_all as (Uuid, String), sql)?;
        for (id, name) in query!(self, fetch_all as (Uuid, String), sql)? {
            if !there.iter().any(|(other, _)| *other == id) {
                query!(self, execute, "DELETE FROM providers WHERE id = $1", id)?;
                done.push(Replayed::Provider(name));
            }
        }
        let sql = "SELECT issuer, subject, user_id FROM identities WHERE user_id > $1 ORDER BY user_id";
        for (issuer, subject, user) in query!(self, fetch_all as (String, String, Uuid), sql, Uuid::nil())? {
            let sql = "SELECT user_id FROM identities WHERE issuer = $1 AND subject = $2";
            let other = query!(later, fetch_optional as (Uuid,), sql, issuer.as_str(), subject.as_str())?;
            if other != Some((user,)) {
                let sql = "DELETE FROM identities WHERE issuer = $1 AND subject = $2";
                query!(self, execute, sql, issuer, subject)?;
                done.push(Replayed::Identity(UserId(user)));
            }
        }
        Ok(())
    }

    /// Gives a user the password of later, if it is another one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn replay_password(&mut self, user: &LaterUser) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET password_hash = $1 WHERE id = $2 AND status <> 'deleted' \
                   AND COALESCE(password_hash, '') <> COALESCE($1, '')";
        Ok(query!(self, execute, sql, user.password_hash.as_deref(), user.id.0)? == 1)
    }

    /// Gives a user the second factors of later: those that were removed since are gone, and recovery
    /// codes that were used since are used.
    ///
    /// # Errors
    /// [`StoreError`] of either database.
    pub async fn replay_factors(&mut self, later: &mut Tx, id: UserId) -> Result<(), StoreError> {
        self.remove_factors(id).await?;
        let sql = "SELECT sealed, sealed_by, made_at, confirmed_at, last_step FROM totp WHERE user_id = $1";
        if let Some((sealed, by, made, confirmed, step)) =
            query!(later, fetch_optional as (Vec<u8>, String, i64, Option<i64>, i64), sql, id.0)?
        {
            let sql = "INSERT INTO totp (user_id, sealed, sealed_by, made_at, confirmed_at, last_step) \
                       VALUES ($1, $2, $3, $4, $5, $6)";
            query!(self, execute, sql, id.0, sealed, by, made, confirmed, step)?;
        }
        let sql = "SELECT id, credential_id, name, passkey, made_at, used_at FROM passkeys WHERE user_id = $1";
        for r in query!(later, fetch_all as PasskeyRow, sql, id.0)? {
            let sql = "INSERT INTO passkeys (id, user_id, credential_id, name, passkey, made_at, used_at) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7)";
            query!(self, execute, sql, r.id, id.0, r.credential_id, r.name, r.passkey, r.made_at, r.used_at)?;
        }
        let sql = "SELECT digest, made_at, used_at, digest_key_id FROM recovery_codes WHERE user_id = $1";
        for r in query!(later, fetch_all as CodeRow, sql, id.0)? {
            let sql = "INSERT INTO recovery_codes (digest, user_id, made_at, used_at, digest_key_id) \
                       VALUES ($1, $2, $3, $4, $5)";
            query!(self, execute, sql, r.digest, id.0, r.made_at, r.used_at, r.digest_key_id)?;
        }
        let sql = "SELECT passkey_alone FROM users WHERE id = $1";
        if let Some((alone,)) = query!(later, fetch_optional as (bool,), sql, id.0)? {
            query!(self, execute, "UPDATE users SET passkey_alone = $1 WHERE id = $2", alone, id.0)?;
        }
        Ok(())
    }
}
