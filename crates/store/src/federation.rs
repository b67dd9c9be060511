//! Sign-in providers, and the identities at them that are linked to users.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{Role, UserId},
    federation::{Identity, LinkedIdentity, Provider, Settings},
};
use uuid::Uuid;

use crate::{
    accounts::can_sign_in,
    error::{StoreError, corrupt},
    installation::instant,
    seal::Sealed,
    tx::{Tx, query},
};

/// Who would feel it if a provider were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProviderUse {
    /// Users with an identity at it.
    pub users: u64,
    /// Those of them who could then not sign in any more: no password here, no other provider.
    pub stranded: u64,
    /// Active Super Admins who could still sign in.
    pub super_admins_left: u64,
}

#[derive(sqlx::FromRow)]
struct ProviderRow {
    id: Uuid,
    name: String,
    issuer: String,
    client_id: String,
    has_secret: bool,
    scopes: String,
    domains: String,
    makes_users: bool,
    role: String,
    made_at: i64,
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect()
}

impl TryFrom<ProviderRow> for Provider {
    type Error = StoreError;
    fn try_from(r: ProviderRow) -> Result<Self, StoreError> {
        let settings = Settings {
            name: r.name,
            issuer: r.issuer,
            client_id: r.client_id,
            scopes: words(&r.scopes),
            domains: words(&r.domains),
            makes_users: r.makes_users,
            role: Role::from_code(&r.role).ok_or_else(|| corrupt("role of a provider", &r.role))?,
        };
        Ok(Self { id: r.id, settings, has_secret: r.has_secret, made_at: instant(r.made_at)? })
    }
}

#[derive(sqlx::FromRow)]
struct IdentityRow {
    issuer: String,
    subject: String,
    user_id: Uuid,
    email: String,
    linked_at: i64,
    signed_in_at: Option<i64>,
}

impl TryFrom<IdentityRow> for LinkedIdentity {
    type Error = StoreError;
    fn try_from(r: IdentityRow) -> Result<Self, StoreError> {
        Ok(Self {
            identity: Identity::new(&r.issuer, &r.subject).ok_or_else(|| corrupt("subject", r.subject.len()))?,
            user: UserId(r.user_id),
            email: r.email,
            linked_at: instant(r.linked_at)?,
            signed_in_at: r.signed_in_at.map(instant).transpose()?,
        })
    }
}

macro_rules! select_providers {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, issuer, client_id, secret IS NOT NULL AS has_secret, scopes, domains, makes_users, \
             role, made_at FROM providers ",
            $rest
        )
    };
}

impl Tx {
    /// All providers, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn providers(&mut self) -> Result<Vec<Provider>, StoreError> {
        let sql = select_providers!("ORDER BY name, id");
        query!(self, fetch_all as ProviderRow, sql)?.into_iter().map(Provider::try_from).collect()
    }

    /// A provider by id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn provider(&mut self, id: Uuid) -> Result<Option<Provider>, StoreError> {
        let sql = select_providers!("WHERE id = $1");
        query!(self, fetch_optional as ProviderRow, sql, id)?.map(Provider::try_from).transpose()
    }

    /// The client secret of a provider, sealed under [`crate::Purpose::ProviderSecret`] with the
    /// provider's id as its context.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn provider_secret(&mut self, id: Uuid) -> Result<Option<Sealed>, StoreError> {
        type Row = (Option<Vec<u8>>, Option<String>);
        let sql = "SELECT secret, sealed_by FROM providers WHERE id = $1";
        let row = query!(self, fetch_optional as Row, sql, id)?;
        Ok(row.and_then(|(bytes, key_id)| Some(Sealed { key_id: key_id?, bytes: bytes? })))
    }

    /// Adds a provider, without its secret.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is one with this issuer.
    pub async fn add_provider(&mut self, provider: &Provider) -> Result<(), StoreError> {
        let sql = "INSERT INTO providers (id, name, issuer, client_id, scopes, domains, makes_users, role, made_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let settings = &provider.settings;
        query!(
            self,
            execute,
            sql,
            provider.id,
            settings.name.as_str(),
            settings.issuer.as_str(),
            settings.client_id.as_str(),
            settings.scopes.join(" "),
            settings.domains.join(" "),
            settings.makes_users,
            settings.role.code(),
            provider.made_at.as_microsecond(),
        )
        .map(drop)
    }

    /// Writes what a provider is set up with. `false` when it is not there.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is another one with this issuer.
    pub async fn change_provider(&mut self, id: Uuid, settings: &Settings) -> Result<bool, StoreError> {
        let sql = "UPDATE providers SET name = $1, issuer = $2, client_id = $3, scopes = $4, domains = $5, \
                   makes_users = $6, role = $7 WHERE id = $8";
        let changed = query!(
            self,
            execute,
            sql,
            settings.name.as_str(),
            settings.issuer.as_str(),
            settings.client_id.as_str(),
            settings.scopes.join(" "),
            settings.domains.join(" "),
            settings.makes_users,
            settings.role.code(),
            id,
        )?;
        Ok(changed == 1)
    }

    /// Writes the client secret of a provider.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_provider_secret(&mut self, id: Uuid, secret: &Sealed) -> Result<(), StoreError> {
        let sql = "UPDATE providers SET secret = $1, sealed_by = $2 WHERE id = $3";
        query!(self, execute, sql, secret.bytes.as_slice(), secret.key_id.as_str(), id).map(drop)
    }

    /// Removes a provider and ends the sessions opened through it; the identities stay. `false`
    /// when it is not there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_provider(&mut self, id: Uuid) -> Result<bool, StoreError> {
        Ok(query!(self, execute, "DELETE FROM providers WHERE id = $1", id)? == 1)
    }

    /// Who would feel it if a provider were removed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn provider_use(&mut self, issuer: &str) -> Result<ProviderUse, StoreError> {
        let users = "SELECT COUNT(*) FROM users WHERE status <> 'deleted' AND EXISTS \
                     (SELECT 1 FROM identities i WHERE i.user_id = users.id AND i.issuer = $1)";
        let users = query!(self, fetch_optional as (i64,), users, issuer)?;
        let stranded = concat!(
            "SELECT COUNT(*) FROM users WHERE status <> 'deleted' AND EXISTS \
             (SELECT 1 FROM identities i WHERE i.user_id = users.id AND i.issuer = $1) AND NOT ",
            can_sign_in!()
        );
        let stranded = query!(self, fetch_optional as (i64,), stranded, issuer)?;
        let count = |row: Option<(i64,)>| row.map_or(0, |(n,)| u64::try_from(n).unwrap_or(0));
        let super_admins_left = self.super_admins(issuer, Uuid::nil()).await?;
        Ok(ProviderUse { users: count(users), stranded: count(stranded), super_admins_left })
    }

    /// The link of an identity, if it has one; that to a deleted user, too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn linked_identity(&mut self, identity: &Identity) -> Result<Option<LinkedIdentity>, StoreError> {
        let sql = "SELECT issuer, subject, user_id, email, linked_at, signed_in_at FROM identities \
                   WHERE issuer = $1 AND subject = $2";
        query!(self, fetch_optional as IdentityRow, sql, identity.issuer.as_str(), identity.subject.as_str())?
            .map(LinkedIdentity::try_from)
            .transpose()
    }

    /// The identities of a user, the first linked first. A deleted user has none that counts.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn identities_of(&mut self, user: UserId) -> Result<Vec<LinkedIdentity>, StoreError> {
        let sql = "SELECT issuer, subject, user_id, email, linked_at, signed_in_at FROM identities \
                   WHERE user_id = (SELECT id FROM users WHERE id = $1 AND status <> 'deleted') \
                   ORDER BY linked_at, issuer, subject";
        query!(self, fetch_all as IdentityRow, sql, user.0)?.into_iter().map(LinkedIdentity::try_from).collect()
    }

    /// Links an identity to a user: one that nobody has, or that of `deleted`, who was deleted. `false`
    /// when somebody else has it, or the user has it already.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn link_identity(
        &mut self,
        linked: &LinkedIdentity,
        deleted: Option<UserId>,
    ) -> Result<bool, StoreError> {
        let sql = "INSERT INTO identities (issuer, subject, user_id, email, linked_at, signed_in_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (issuer, subject) DO UPDATE SET \
                   user_id = excluded.user_id, email = excluded.email, linked_at = excluded.linked_at, \
                   signed_in_at = excluded.signed_in_at WHERE EXISTS \
                   (SELECT 1 FROM users u WHERE u.id = identities.user_id AND u.id = $7 AND u.status = 'deleted')";
        let written = query!(
            self,
            execute,
            sql,
            linked.identity.issuer.as_str(),
            linked.identity.subject.as_str(),
            linked.user.0,
            linked.email.as_str(),
            linked.linked_at.as_microsecond(),
            linked.signed_in_at.map(Timestamp::as_microsecond),
            deleted.map(|d| d.0),
        )?;
        Ok(written == 1)
    }

    /// Notes that an identity was signed in with, and the e-mail that was told.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_identity(
        &mut self,
        identity: &Identity,
        email: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let sql = "UPDATE identities SET email = $1, signed_in_at = $2 WHERE issuer = $3 AND subject = $4";
        let (issuer, subject) = (identity.issuer.as_str(), identity.subject.as_str());
        query!(self, execute, sql, email, now.as_microsecond(), issuer, subject).map(drop)
    }

    /// Unlinks an identity of a user, and ends the user's sessions opened through its provider.
    /// `false` when it is not this user's.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unlink_identity(&mut self, user: UserId, identity: &Identity) -> Result<bool, StoreError> {
        let sql = "DELETE FROM identities WHERE issuer = $1 AND subject = $2 AND user_id = $3";
        let gone = query!(self, execute, sql, identity.issuer.as_str(), identity.subject.as_str(), user.0)? == 1;
        if gone {
            let sql = "DELETE FROM sessions WHERE user_id = $1 AND provider_id IN \
                       (SELECT id FROM providers WHERE issuer = $2)";
            query!(self, execute, sql, user.0, identity.issuer.as_str())?;
        }
        Ok(gone)
    }
}
