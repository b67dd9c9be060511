//! Users. The counters of failed sign-ins are with the sessions.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{DisplayName, Email, Language, Role, Standing, Status, TimeZoneName, User, UserId},
    audit::printable,
};
use uuid::Uuid;

use crate::{
    error::{StoreError, corrupt},
    installation::instant,
    tx::{Tx, query},
};

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    email: String,
    name: String,
    language: String,
    time_zone: String,
    #[sqlx(flatten)]
    standing: StandingRow,
    created_at: i64,
}

/// The columns that make a [`Standing`], so that other nouns can join them.
#[derive(sqlx::FromRow)]
pub(crate) struct StandingRow {
    role: String,
    role_since: i64,
    status: String,
    status_since: i64,
    mfa_since: Option<i64>,
    has_password: bool,
}

/// An identity at a provider, as pages and mails show it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct IdentityShown {
    /// The issuer.
    pub issuer: String,
    /// The e-mail as the provider last told it.
    pub email: String,
    /// The name of the provider; absent when it is not set up any more.
    pub provider: Option<String>,
}

impl TryFrom<StandingRow> for Standing {
    type Error = StoreError;
    fn try_from(r: StandingRow) -> Result<Self, StoreError> {
        let role = Role::from_code(&r.role).ok_or_else(|| corrupt("role", &r.role))?;
        let status = Status::from_code(&r.status).ok_or_else(|| corrupt("status", &r.status))?;
        Ok(Self {
            role: (role, instant(r.role_since)?),
            status: (status, instant(r.status_since)?),
            mfa_since: r.mfa_since.map(instant).transpose()?,
            has_password: r.has_password,
        })
    }
}

impl TryFrom<Row> for User {
    type Error = StoreError;
    fn try_from(r: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: UserId(r.id),
            email: Email::parse(&r.email).map_err(|e| corrupt("email", e))?,
            name: DisplayName::parse(&r.name).map_err(|e| corrupt("name", e))?,
            language: Language::parse(&r.language).map_err(|e| corrupt("language", e))?,
            time_zone: TimeZoneName::parse(&r.time_zone).map_err(|e| corrupt("time zone", e))?,
            standing: r.standing.try_into()?,
            created_at: instant(r.created_at)?,
        })
    }
}

/// Whether a row of `users` has a way to sign in: a password here, or an identity at a provider
/// that is set up. The provider of the issuer `$1` counts as if it were not; an empty one is nobody's.
macro_rules! can_sign_in {
    () => {
        "(users.password_hash IS NOT NULL OR EXISTS (SELECT 1 FROM identities i JOIN providers p \
         ON p.issuer = i.issuer WHERE i.user_id = users.id AND i.issuer <> $1))"
    };
}
pub(crate) use can_sign_in;

macro_rules! select_users {
    ($rest:literal) => {
        concat!(
            "SELECT id, email, name, language, time_zone, role, role_since, status, status_since, mfa_since, \
             password_hash IS NOT NULL AS has_password, created_at FROM users ",
            $rest
        )
    };
}

impl Tx {
    /// A user by id, deleted ones too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user(&mut self, id: UserId) -> Result<Option<User>, StoreError> {
        query!(self, fetch_optional as Row, select_users!("WHERE id = $1"), id.0)?.map(User::try_from).transpose()
    }

    /// A user by e-mail. Deleted users are not found.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn user_by_email(&mut self, email: &Email) -> Result<Option<User>, StoreError> {
        let sql = select_users!("WHERE email = $1 AND status <> 'deleted'");
        query!(self, fetch_optional as Row, sql, email.as_str())?.map(User::try_from).transpose()
    }

    /// The e-mails of users, deleted ones too, in one statement; unknown ids are absent. At most a few
    /// hundred at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn emails_of(&mut self, ids: &[UserId]) -> Result<Vec<(UserId, String)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let asked: Vec<String> = (1..=ids.len()).map(|at| format!("${at}")).collect();
        let sql = format!("SELECT id, email FROM users WHERE id IN ({})", asked.join(", "));
        let found = query!(self, fetch_all as (Uuid, String), sql, each ids.iter().map(|id| id.0))?;
        Ok(found.into_iter().map(|(id, email)| (UserId(id), email)).collect())
    }

    /// The password hash of a user, if there is one (Argon2id, PHC form).
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn password_hash(&mut self, id: UserId) -> Result<Option<String>, StoreError> {
        let sql = "SELECT password_hash FROM users WHERE id = $1";
        let row = query!(self, fetch_optional as (Option<String>,), sql, id.0)?;
        Ok(row.and_then(|(hash,)| hash))
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the e-mail is taken.
    pub async fn add_user(&mut self, user: &User, password_hash: Option<&str>) -> Result<(), StoreError> {
        let standing = &user.standing;
        let sql = "INSERT INTO users (id, email, name, name_sought, language, time_zone, role, role_since, status, status_since, \
                   mfa_since, password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";
        query!(
            self,
            execute,
            sql,
            user.id.0,
            user.email.as_str(),
            user.name.as_str(),
            user.name.as_str().to_lowercase(),
            user.language.code(),
            user.time_zone.as_str(),
            standing.role.0.code(),
            standing.role.1.as_microsecond(),
            standing.status.0.code(),
            standing.status.1.as_microsecond(),
            standing.mfa_since.map(Timestamp::as_microsecond),
            password_hash,
            user.created_at.as_microsecond(),
        )
        .map(drop)
    }

    /// Writes the role, status and MFA of a user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_standing(&mut self, id: UserId, standing: &Standing) -> Result<(), StoreError> {
        self.hold_tokens().await?;
        let sql = "UPDATE users SET role = $1, role_since = $2, status = $3, status_since = $4, mfa_since = $5 \
                   WHERE id = $6";
        query!(
            self,
            execute,
            sql,
            standing.role.0.code(),
            standing.role.1.as_microsecond(),
            standing.status.0.code(),
            standing.status.1.as_microsecond(),
            standing.mfa_since.map(Timestamp::as_microsecond),
            id.0,
        )
        .map(drop)
    }

    /// Notes that a user signed in, and tells when that was the last time before.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_sign_in(&mut self, id: UserId, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT signed_in_at FROM users WHERE id = $1";
        let before = query!(self, fetch_optional as (Option<i64>,), sql, id.0)?.and_then(|(at,)| at);
        query!(self, execute, "UPDATE users SET signed_in_at = $1 WHERE id = $2", now.as_microsecond(), id.0)?;
        before.map(instant).transpose()
    }

    /// Writes the profile of a user.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_profile(
        &mut self,
        id: UserId,
        name: &DisplayName,
        language: Language,
        time_zone: &TimeZoneName,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE users SET name = $1, name_sought = $2, language = $3, time_zone = $4 WHERE id = $5";
        let sought = name.as_str().to_lowercase();
        query!(self, execute, sql, name.as_str(), sought, language.code(), time_zone.as_str(), id.0).map(drop)
    }

    /// Writes the password hash of a user, provided it is still `old`: a hash that somebody
    /// changed meanwhile is left alone. Tells whether it was written.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_password_hash(&mut self, id: UserId, old: &str, new: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET password_hash = $1 WHERE id = $2 AND password_hash = $3";
        Ok(query!(self, execute, sql, new, id.0, old)? == 1)
    }

    /// A page of users that are not deleted, oldest first, after the given id; `fragment`, in any
    /// case, is looked for in e-mail and name, `status` narrows when it is given.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn users(
        &mut self,
        after: Option<UserId>,
        fragment: &str,
        status: Option<Status>,
        limit: u32,
    ) -> Result<Vec<User>, StoreError> {
        let fragment = printable(&fragment.to_lowercase(), 300);
        let pattern = format!("%{}%", fragment.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
        let after = after.map_or(Uuid::nil(), |id| id.0);
        // Two texts, so that each has its index: $2 alone is of no use to one.
        let sql = match status {
            None => select_users!(
                "WHERE id > $1 AND status <> $2 \
                 AND (email LIKE $3 ESCAPE '\\' OR name_sought LIKE $3 ESCAPE '\\') ORDER BY id LIMIT $4"
            ),
            Some(_) => select_users!(
                "WHERE id > $1 AND status = $2 \
                 AND (email LIKE $3 ESCAPE '\\' OR name_sought LIKE $3 ESCAPE '\\') ORDER BY id LIMIT $4"
            ),
        };
        if status == Some(Status::Deleted) {
            return Ok(Vec::new());
        }
        let code = status.unwrap_or(Status::Deleted).code();
        query!(self, fetch_all as Row, sql, after, code, pattern, i64::from(limit))?
            .into_iter()
            .map(User::try_from)
            .collect()
    }

    /// How many active Super Admins besides this user can sign in. Ten stand for more: the rule
    /// asks whether there is one, and there may be a million.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn other_super_admins(&mut self, id: UserId) -> Result<u64, StoreError> {
        self.super_admins("", id.0).await
    }

    /// How many active Super Admins besides one could sign in without the provider of an issuer; ten
    /// stand for more.
    pub(crate) async fn super_admins(&mut self, without: &str, besides: Uuid) -> Result<u64, StoreError> {
        let sql = concat!(
            "SELECT COUNT(*) FROM (SELECT 1 FROM users WHERE role = $2 AND status = $3 AND id <> $4 AND ",
            can_sign_in!(),
            " LIMIT 10) s"
        );
        let (role, status) = (Role::SuperAdmin.code(), Status::Active.code());
        let row = query!(self, fetch_optional as (i64,), sql, without, role, status, besides)?;
        Ok(row.map_or(0, |(n,)| u64::try_from(n).unwrap_or(0)))
    }

    /// When a user last signed in (UTC); absent when never.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn signed_in_at(&mut self, id: UserId) -> Result<Option<Timestamp>, StoreError> {
        let sql = "SELECT signed_in_at FROM users WHERE id = $1";
        let row = query!(self, fetch_optional as (Option<i64>,), sql, id.0)?;
        row.and_then(|(at,)| at).map(instant).transpose()
    }

    /// Active users who neither signed in nor became active since an instant.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn dormant_users(&mut self, since: Timestamp, limit: u32) -> Result<Vec<UserId>, StoreError> {
        let sql = "SELECT id FROM users WHERE status = $1 AND status_since <= $2 \
                   AND (signed_in_at IS NULL OR signed_in_at <= $2) ORDER BY status_since, id LIMIT $3";
        let rows = query!(
            self,
            fetch_all as (Uuid,),
            sql,
            Status::Active.code(),
            since.as_microsecond(),
            i64::from(limit)
        )?;
        Ok(rows.into_iter().map(|(id,)| UserId(id)).collect())
    }

    /// Gives an invited user the first password. `false` when the user is not pending or has one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_first_password(&mut self, id: UserId, hash: &str) -> Result<bool, StoreError> {
        let sql = "UPDATE users SET password_hash = $1 WHERE id = $2 AND status = $3 AND password_hash IS NULL";
        Ok(query!(self, execute, sql, hash, id.0, Status::Pending.code())? == 1)
    }

    /// Takes from a deleted user all that could open the account: password, second factors, links.
    /// The identities at providers stay, without their e-mail: they say who is not let in anew.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn drop_ways_in(&mut self, id: UserId) -> Result<(), StoreError> {
        self.remove_factors(id).await?;
        self.drop_links_of(id).await?;
        query!(self, execute, "UPDATE identities SET email = '' WHERE user_id = $1", id.0)?;
        query!(self, execute, "UPDATE users SET password_hash = NULL WHERE id = $1", id.0).map(drop)
    }

    /// The identities of a user, each with the name of its provider while that is set up. A
    /// deleted user has none to show.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn identities_shown(&mut self, id: UserId) -> Result<Vec<IdentityShown>, StoreError> {
        let sql = "SELECT i.issuer, i.email, p.name AS provider FROM identities i \
                   JOIN users u ON u.id = i.user_id AND u.status <> 'deleted' \
                   LEFT JOIN providers p ON p.issuer = i.issuer WHERE i.user_id = $1 \
                   ORDER BY i.issuer, i.subject LIMIT 50";
        query!(self, fetch_all as IdentityShown, sql, id.0)
    }
}
