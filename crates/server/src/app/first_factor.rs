//! The first factor of a sign-in, once it was right. It is remembered, sealed, while the second is
//! asked for, together with what made it right: what is not so any more when the sign-in is
//! completed opens nothing.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::User,
    federation::{Identity, Told},
    sessions::Opened,
};
use portcullis_store::{Act, Tx};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    app::{
        ceremonies::{instant, kept},
        sessions::secret_digest,
    },
    error::Failure,
};

/// What somebody proved first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum FirstFactor {
    /// The local password.
    Password {
        /// When, in microseconds (UTC).
        given_at: Option<i64>,
        /// The digest of its hash as it was stored then.
        hash: [u8; 32],
    },
    /// An identity at a provider.
    Provider {
        /// The provider.
        provider: Uuid,
        /// Who it is there.
        identity: Identity,
        /// The e-mail that was told, to be shown.
        email: String,
    },
}

/// How a session is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// In which way.
    pub(crate) opened: Opened,
    /// Through which provider.
    pub(crate) provider: Option<Uuid>,
    /// When the password was given (C-12).
    pub(crate) password_at: Option<Timestamp>,
}

impl FirstFactor {
    /// The local password with this hash, given now.
    pub(crate) fn password(hash: &str, now: Timestamp) -> Self {
        Self::Password { given_at: kept(Some(now)), hash: secret_digest(hash) }
    }

    /// An identity that a provider told.
    pub(crate) fn provider(provider: Uuid, told: &Told) -> Self {
        Self::Provider { provider, identity: told.identity.clone(), email: told.email_shown().to_owned() }
    }

    /// Whether it was the local password.
    pub(crate) fn is_password(&self) -> bool {
        matches!(self, Self::Password { .. })
    }

    /// How the session is opened without a second factor, or after one. A federated login stays one.
    pub(crate) fn how(&self, second_factor: bool) -> How {
        match self {
            Self::Password { given_at, .. } => How {
                opened: if second_factor { Opened::PasswordAndMfa } else { Opened::Password },
                provider: None,
                password_at: instant(*given_at),
            },
            Self::Provider { provider, .. } => {
                How { opened: Opened::Provider, provider: Some(*provider), password_at: None }
            }
        }
    }

    /// Whether it would be right still: the password was not replaced, the identity not unlinked,
    /// and its provider not removed since.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn still_holds(&self, tx: &mut Tx, user: &User) -> Result<bool, Failure> {
        match self {
            Self::Password { hash, .. } => {
                Ok(tx.password_hash(user.id).await?.is_some_and(|now| secret_digest(&now) == *hash))
            }
            Self::Provider { provider, identity, .. } => {
                let present = tx.provider(*provider).await?.is_some_and(|p| p.settings.issuer == identity.issuer);
                let linked = tx.linked_identity(identity).await?;
                Ok(present && linked.is_some_and(|l| l.user == user.id))
            }
        }
    }

    /// Notes, where a session is opened, that the identity was signed in with.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn note(&self, act: &mut Act, now: Timestamp) -> Result<(), Failure> {
        if let Self::Provider { identity, email, .. } = self {
            act.note_identity(identity, email, now).await?;
        }
        Ok(())
    }
}
