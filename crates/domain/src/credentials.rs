//! The credential: a Client ID and a Client Secret that a Super Admin generates, sees once and
//! revokes (C-1 to C-16), and its *standing*, the one value every consumer asks for.

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    accounts::{Role, Standing as OwnerStanding, Status, UserId},
    client_keys::ClientKey,
    secret::KeyedDigest,
    sessions::{Actor, Opened},
};

/// How long a credential lasts from when it was generated (C-6): 3650 days of 86 400 seconds.
pub const CREDENTIAL_LASTS: SignedDuration = SignedDuration::from_hours(3650 * 24);

/// What every Client ID begins with.
pub const CLIENT_ID_PREFIX: &str = "pcc_";

pub(crate) const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A Client ID: `pcc_` and 20 digits of Crockford's base 32 in lower case, 100 random bits.
/// As a regular expression: `pcc_[0-9a-hjkmnp-tv-z]{20}`. It cannot be chosen (RFC 9700 §4.15).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientId(String);

impl ClientId {
    /// Makes the Client ID that carries the low five bits of each of these bytes.
    #[must_use]
    pub fn new(entropy: [u8; 20]) -> Self {
        let digits = entropy.iter().map(|b| char::from(CROCKFORD[usize::from(b & 31)]));
        Self(CLIENT_ID_PREFIX.chars().chain(digits).collect())
    }

    /// Reads a Client ID; `None` when the text cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(CLIENT_ID_PREFIX)?;
        (digits.len() == 20 && digits.bytes().all(|b| CROCKFORD.contains(&b))).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a credential was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevocationReason {
    /// The owner pressed **Remove** (C-7).
    ByOwner,
    /// The owner was deleted (C-10).
    OwnerDeleted,
    /// The operator said, when a hold was lifted, that it had been revoked (H-2).
    ByOperator,
}

impl RevocationReason {
    /// The word in the database and the API.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::ByOwner => "by_owner",
            Self::OwnerDeleted => "owner_deleted",
            Self::ByOperator => "by_operator",
        }
    }

    /// The inverse of [`RevocationReason::code`].
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        [Self::ByOwner, Self::OwnerDeleted, Self::ByOperator].into_iter().find(|r| r.code() == code)
    }
}

/// A credential as it is stored: never the secret, only its keyed digest (C-5).
#[derive(Debug, Clone)]
pub struct Credential {
    /// The id of the row.
    pub id: Uuid,
    /// Whose it is.
    pub owner: UserId,
    /// The Client ID.
    pub client_id: ClientId,
    /// The keyed digest of the Client Secret.
    pub digest: KeyedDigest,
    /// When it was generated (UTC).
    pub generated_at: Timestamp,
    /// When it expires (UTC).
    pub expires_at: Timestamp,
    /// When it gave its place to a new one, if it did (C-6).
    pub retired_at: Option<Timestamp>,
    /// When and why it was revoked, if it was.
    pub revoked: Option<(Timestamp, RevocationReason)>,
    /// The public key that is bound to it, if one is (C-14). It goes with the credential (C-16).
    pub key: Option<ClientKey>,
    /// When the secret was switched off, if it is off (C-15).
    pub secret_off_at: Option<Timestamp>,
    /// Whether a public key is bound, or ever was (C-14).
    pub had_key: bool,
}

/// Why a credential does not work for now (C-9, C-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suspension {
    /// The owner has MFA on (C-9).
    MfaOn,
    /// The owner is deactivated (C-10).
    OwnerInactive,
    /// The owner is not a Super Admin (C-10).
    OwnerNotSuperAdmin,
}

impl Suspension {
    /// The word in the API.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::MfaOn => "mfa_on",
            Self::OwnerInactive => "owner_inactive",
            Self::OwnerNotSuperAdmin => "owner_not_super_admin",
        }
    }

    /// The end of the sentence "the credential is suspended …".
    #[must_use]
    pub fn because(self) -> &'static str {
        match self {
            Self::MfaOn => "while its owner has multi-factor authentication on",
            Self::OwnerInactive => "while its owner's account is not active",
            Self::OwnerNotSuperAdmin => "while its owner is not a Super Admin",
        }
    }
}

/// Where a credential stands at an instant. Every consumer (token endpoint, introspection,
/// console, API) asks [`Credential::standing`] and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Active,
    /// It does not work for now, and why, and since when.
    Suspended(Suspension, Timestamp),
    /// Its 3650 days are over (C-6).
    Expired(Timestamp),
    /// It was revoked; that is final (C-7).
    Revoked(Timestamp, RevocationReason),
}

impl Standing {
    /// The word in the API.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Suspended(..) => "suspended",
            Self::Expired(_) => "expired",
            Self::Revoked(..) => "revoked",
        }
    }

    /// What the program that presented the right secret is told (only ASCII, RFC 6749 §5.2).
    #[must_use]
    pub fn description(self) -> String {
        match self {
            Self::Active => "The credential is active.".to_owned(),
            Self::Suspended(why, _) => format!("The credential is suspended {}.", why.because()),
            Self::Expired(at) => format!("The credential expired on {}. Generate a new one.", day(at)),
            Self::Revoked(at, RevocationReason::ByOwner) => {
                format!("The credential was revoked by its owner on {}. Generate a new one.", day(at))
            }
            Self::Revoked(at, RevocationReason::OwnerDeleted) => {
                format!("The credential was revoked on {} because its owner was deleted.", day(at))
            }
            Self::Revoked(at, RevocationReason::ByOperator) => {
                format!("The credential was revoked by the operator on {}. Generate a new one.", day(at))
            }
        }
    }
}

fn day(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

impl Credential {
    /// The standing at `now`, from the credential and its owner. Revoked before expired before
    /// suspended: the most final answer wins.
    #[must_use]
    pub fn standing(&self, owner: &OwnerStanding, now: Timestamp) -> Standing {
        if let Some((at, reason)) = self.revoked {
            return Standing::Revoked(at, reason);
        }
        if owner.status.0 == Status::Deleted {
            return Standing::Revoked(owner.status.1, RevocationReason::OwnerDeleted); // C-10
        }
        // A retired one stays so even if the clock was wrong then: there is a new one (C-1).
        if self.expires_at <= now || self.retired_at.is_some() {
            return Standing::Expired(self.expires_at); // C-6
        }
        if owner.status.0 != Status::Active {
            return Standing::Suspended(Suspension::OwnerInactive, owner.status.1); // C-10
        }
        if owner.role.0 != Role::SuperAdmin {
            return Standing::Suspended(Suspension::OwnerNotSuperAdmin, owner.role.1); // C-10
        }
        if let Some(since) = owner.mfa_since {
            return Standing::Suspended(Suspension::MfaOn, since); // C-9
        }
        Standing::Active
    }
}

/// What a change of its owner's facts does to a credential (C-9, C-10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It stops working for now.
    Suspended(Suspension),
    /// It works again.
    Resumed,
    /// It is revoked, for good.
    Revoked(RevocationReason),
}

impl Credential {
    /// What becomes of this credential when its owner's facts change from `before` to `after`;
    /// `None` when it stays as it is. Shown before the change is made, and done with it.
    #[must_use]
    pub fn effect(&self, before: &OwnerStanding, after: &OwnerStanding, now: Timestamp) -> Option<Effect> {
        match (self.standing(before, now), self.standing(after, now)) {
            (Standing::Active, Standing::Suspended(why, _)) => Some(Effect::Suspended(why)),
            (Standing::Suspended(..), Standing::Active) => Some(Effect::Resumed),
            (Standing::Active | Standing::Suspended(..), Standing::Revoked(_, why)) => Some(Effect::Revoked(why)),
            _ => None,
        }
    }
}

/// Why generating was refused. The text is for the person who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GenerateRefused {
    /// C-3.
    #[error("Only a Super Admin can generate credentials.")]
    NotSuperAdmin,
    /// T-4.
    #[error(
        "An access token cannot generate credentials. The owner has to sign in with the password, \
         in the console or with `portcullis credential generate`."
    )]
    ByToken,
    /// C-4: the session was opened through an identity provider.
    #[error(
        "Security credentials cannot be generated from a federated login. \
         Sign in with your Portcullis password to generate them."
    )]
    FederatedLogin,
    /// C-4: the account has no local password.
    #[error("Security credentials cannot be generated for an account that has no Portcullis password.")]
    NoLocalPassword,
    /// C-9.
    #[error(
        "Security credentials do not work for accounts with multi-factor authentication. \
         Turn MFA off before generating them."
    )]
    MfaOn,
    /// C-1.
    #[error("You already have an active credential. Revoke it before generating another.")]
    AlreadyActive,
    /// C-12.
    #[error("Enter your password to generate credentials: it was last given more than 5 minutes ago.")]
    PasswordNeeded,
}

impl GenerateRefused {
    /// The word in the API and the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSuperAdmin => "not_super_admin",
            Self::ByToken => "not_with_a_token",
            Self::FederatedLogin => "federated_login",
            Self::NoLocalPassword => "no_local_password",
            Self::MfaOn => "mfa_on",
            Self::AlreadyActive => "already_active",
            Self::PasswordNeeded => "password_needed",
        }
    }
}

/// The go-ahead for generating, with what else must happen in the same transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerateAllowed {
    /// When the new credential expires (C-6).
    pub expires_at: Timestamp,
    /// The expired credential that still takes the owner's place and is retired (C-6).
    pub retire: Option<Uuid>,
}

/// Why somebody does not act on a credential in person.
pub(crate) enum NotInPerson {
    NotSuperAdmin,
    ByToken,
    FederatedLogin,
    NoLocalPassword,
    MfaOn,
}

/// What gives a credential a way in takes a Super Admin (C-3) in a local session, with a password of
/// their own (C-4, T-4), and without MFA (C-9).
pub(crate) fn in_person(actor: &Actor, owner: &OwnerStanding) -> Result<(), NotInPerson> {
    if !owner.is_super_admin() {
        return Err(NotInPerson::NotSuperAdmin);
    }
    match actor {
        Actor::Token { .. } => return Err(NotInPerson::ByToken),
        Actor::Session { opened: Opened::Provider, .. } => return Err(NotInPerson::FederatedLogin),
        Actor::Session { .. } if !owner.has_password => return Err(NotInPerson::NoLocalPassword),
        Actor::Session { .. } => {}
    }
    if owner.mfa_since.is_some() {
        return Err(NotInPerson::MfaOn);
    }
    Ok(())
}

impl From<NotInPerson> for GenerateRefused {
    fn from(why: NotInPerson) -> Self {
        match why {
            NotInPerson::NotSuperAdmin => Self::NotSuperAdmin,
            NotInPerson::ByToken => Self::ByToken,
            NotInPerson::FederatedLogin => Self::FederatedLogin,
            NotInPerson::NoLocalPassword => Self::NoLocalPassword,
            NotInPerson::MfaOn => Self::MfaOn,
        }
    }
}

/// May `actor`, whose facts are `owner`, generate a credential at `now`? `held` is the one in the
/// owner's place, if any. The order is from what the person can least change to what they can
/// most easily, so that nobody is sent to do a thing that would not help.
///
/// # Errors
/// The first rule that refuses.
pub fn generate(
    actor: &Actor,
    owner: &OwnerStanding,
    held: Option<&Credential>,
    now: Timestamp,
) -> Result<GenerateAllowed, GenerateRefused> {
    in_person(actor, owner)?;
    let retire = match held.map(|c| (c.id, c.standing(owner, now))) {
        None | Some((_, Standing::Revoked(..))) => None,
        Some((id, Standing::Expired(_))) => Some(id),
        Some((_, Standing::Active | Standing::Suspended(..))) => return Err(GenerateRefused::AlreadyActive),
    };
    if !actor.password_is_fresh(now) {
        return Err(GenerateRefused::PasswordNeeded);
    }
    Ok(GenerateAllowed { expires_at: now + CREDENTIAL_LASTS, retire })
}

/// Why revoking was refused. The text is for the person who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RevokeRefused {
    /// C-3.
    #[error("Only a Super Admin can manage credentials.")]
    NotSuperAdmin,
    /// T-4.
    #[error(
        "An access token cannot revoke credentials. The owner has to sign in, \
         in the console or with `portcullis credential revoke`."
    )]
    ByToken,
    /// C-8.
    #[error("Only its owner can revoke a credential.")]
    NotOwner,
    /// There is none (or it is over already), so nothing was done.
    #[error("There is no credential to revoke.")]
    NothingToRevoke,
}

impl RevokeRefused {
    /// The word in the API and the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSuperAdmin => "not_super_admin",
            Self::ByToken => "not_with_a_token",
            Self::NotOwner => "not_owner",
            Self::NothingToRevoke => "nothing_to_revoke",
        }
    }
}

/// May `actor`, whose facts are `acting`, revoke the credential that `owner` holds? It asks for
/// no password (C-12) and for no particular kind of session: stopping must be easy.
///
/// # Errors
/// The first rule that refuses.
pub fn revoke(
    actor: &Actor,
    acting: &OwnerStanding,
    owner: UserId,
    held: Option<&Credential>,
) -> Result<(), RevokeRefused> {
    if !acting.is_super_admin() {
        return Err(RevokeRefused::NotSuperAdmin);
    }
    if matches!(actor, Actor::Token { .. }) {
        return Err(RevokeRefused::ByToken);
    }
    if actor.user() != owner || held.is_some_and(|c| c.owner != owner) {
        return Err(RevokeRefused::NotOwner);
    }
    match held {
        Some(credential) if credential.revoked.is_none() => Ok(()),
        _ => Err(RevokeRefused::NothingToRevoke),
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
