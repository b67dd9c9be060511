//! A public key in place of the Client Secret (RFC 7523, `private_key_jwt`): who binds one to a
//! credential and takes it away again (C-14, C-15), and what a client assertion must say
//! (protocol 27).

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::{
    accounts::Standing as OwnerStanding,
    closed_set::closed_set,
    credentials::{Credential, NotInPerson, Standing, in_person},
    sessions::Actor,
};

/// The value of `client_assertion_type` (RFC 7523 §2.2).
pub const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How far ahead the end of an assertion may be.
pub const ASSERTION_LASTS: SignedDuration = SignedDuration::from_mins(5);

/// How far a client's clock may be off.
pub const SKEW: SignedDuration = SignedDuration::from_secs(30);

/// The most bytes of the id of an assertion or of a DPoP proof.
pub const JTI_MAX_BYTES: usize = 256;

/// The public key that is bound to a credential (C-14). There is never a private one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientKey {
    /// The public JWK, its required members alone (RFC 7638 §3.2).
    pub jwk: String,
    /// Its thumbprint (RFC 7638), by which it is known.
    pub thumbprint: String,
    /// When it was bound (UTC).
    pub bound_at: Timestamp,
}

closed_set! {
    /// With what a client proved itself. The code is the one of the registry (RFC 7591 §2).
    Method {
        /// The Client Secret, in HTTP Basic or in the body.
        Secret => "client_secret", "Client Secret";
        /// An assertion signed with the private key (RFC 7523).
        Key => "private_key_jwt", "private key";
    }
}

/// What the owner does to the ways in which a credential proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAct {
    /// Binds a public key; one that is bound already is replaced.
    Bind,
    /// Removes the key that is bound.
    Remove,
    /// Switches the Client Secret off: the key alone proves the client then.
    SecretOff,
    /// Switches it on again.
    SecretOn,
}

/// Why it was refused. The text is for the person, or for the holder of the secret, who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientKeyRefused {
    /// C-3.
    #[error("Only a Super Admin can manage credentials.")]
    NotSuperAdmin,
    /// T-4.
    #[error(
        "An access token cannot change a credential. The owner has to sign in with the password, in the console."
    )]
    ByToken,
    /// C-4, as for generating.
    #[error(
        "A credential cannot be changed from a federated login. Sign in with your Portcullis password to change it."
    )]
    FederatedLogin,
    /// C-4, as for generating.
    #[error("A credential cannot be changed by an account that has no Portcullis password.")]
    NoLocalPassword,
    /// C-9, as for generating.
    #[error(
        "Your credential is suspended while multi-factor authentication is on. Turn MFA off before changing it."
    )]
    MfaOn,
    /// There is none that works.
    #[error("You have no active credential. Generate one first.")]
    NotActive,
    /// C-14: with the secret only the first key is bound.
    #[error(
        "A public key is bound to this credential already, or was. Its owner can bind another in the console, under \
         Credentials."
    )]
    AlreadyBound,
    /// There is no key.
    #[error("No public key is bound to this credential. Bind one first.")]
    NoKey,
    /// C-15.
    #[error(
        "The Client Secret is off, so the key is the only way in. Switch the secret on before you remove the key."
    )]
    OnlyWayIn,
    /// It is so already.
    #[error("The Client Secret is off already.")]
    SecretOffAlready,
    /// It is so already.
    #[error("The Client Secret is on already.")]
    SecretOnAlready,
    /// C-12, as for generating.
    #[error("Enter your password: it was last given more than 5 minutes ago.")]
    PasswordNeeded,
}

impl ClientKeyRefused {
    /// The word in the API and the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotSuperAdmin => "not_super_admin",
            Self::ByToken => "not_with_a_token",
            Self::FederatedLogin => "federated_login",
            Self::NoLocalPassword => "no_local_password",
            Self::MfaOn => "mfa_on",
            Self::NotActive => "not_active",
            Self::AlreadyBound => "already_bound",
            Self::NoKey => "no_key",
            Self::OnlyWayIn => "only_way_in",
            Self::SecretOffAlready => "secret_off_already",
            Self::SecretOnAlready => "secret_on_already",
            Self::PasswordNeeded => "password_needed",
        }
    }

    /// Whether it is about what is so and not about who asks.
    #[must_use]
    pub fn is_about_the_credential(self) -> bool {
        use ClientKeyRefused::{AlreadyBound, NoKey, NotActive, OnlyWayIn, SecretOffAlready, SecretOnAlready};
        matches!(self, NotActive | AlreadyBound | NoKey | OnlyWayIn | SecretOffAlready | SecretOnAlready)
    }
}

/// C-14, C-15: may `actor`, whose facts are `owner`, do this to the credential in the own place? Who
/// may is who may generate: the owner, in a local session, with a recent password, without MFA.
///
/// # Errors
/// The first rule that refuses; the order is that of [`crate::credentials::generate`].
pub fn change(
    act: KeyAct,
    actor: &Actor,
    owner: &OwnerStanding,
    held: Option<&Credential>,
    now: Timestamp,
) -> Result<(), ClientKeyRefused> {
    in_person(actor, owner)?;
    let held = held.filter(|c| c.owner == actor.user() && c.standing(owner, now) == Standing::Active);
    possible(act, held.ok_or(ClientKeyRefused::NotActive)?)?;
    if actor.password_is_fresh(now) { Ok(()) } else { Err(ClientKeyRefused::PasswordNeeded) }
}

/// Whether it can be done to a credential as it is: a way in always stays (C-15).
fn possible(act: KeyAct, credential: &Credential) -> Result<(), ClientKeyRefused> {
    let (key, off) = (credential.key.is_some(), credential.secret_off_at.is_some());
    match act {
        KeyAct::Remove | KeyAct::SecretOff if !key => Err(ClientKeyRefused::NoKey),
        KeyAct::Remove if off => Err(ClientKeyRefused::OnlyWayIn),
        KeyAct::SecretOff if off => Err(ClientKeyRefused::SecretOffAlready),
        KeyAct::SecretOn if !off => Err(ClientKeyRefused::SecretOnAlready),
        _ => Ok(()),
    }
}

impl From<NotInPerson> for ClientKeyRefused {
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

/// C-14: whoever holds the secret of an active credential binds its first key, once: not again when the
/// owner has removed it. Replacing one is for the owner.
///
/// # Errors
/// [`ClientKeyRefused::AlreadyBound`].
pub fn bind_with_secret(credential: &Credential) -> Result<(), ClientKeyRefused> {
    if credential.had_key { Err(ClientKeyRefused::AlreadyBound) } else { Ok(()) }
}

/// The claims of a client assertion (RFC 7523 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assertion {
    /// The Client ID: `iss` and `sub` in one.
    pub client_id: String,
    /// Its id, good for one use.
    pub jti: String,
    /// When it has ended for certain (UTC): so long its id is remembered.
    pub ends_at: Timestamp,
}

/// An `aud`: a text or several (RFC 7519 §4.1.3).
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// The claims of an assertion as they were sent; others are nobody's business.
#[derive(Debug, Clone, Deserialize)]
pub struct AssertionClaims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: i64,
    jti: String,
    nbf: Option<i64>,
    iat: Option<i64>,
}

/// What is wrong with a client assertion, whoever signed it. The text is for the developer of the
/// client, in the ASCII of RFC 6749 §5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssertionRefused {
    /// A claim is missing or of another type.
    #[error("The client assertion needs the claims iss, sub, aud, exp and jti, each of its type.")]
    Claims,
    /// `iss` is not `sub`.
    #[error("The iss and sub of the client assertion are to be the Client ID, both.")]
    IssuerIsNotSubject,
    /// `aud` is not the issuer alone.
    #[error("The aud of the client assertion is to be the issuer of this server and nothing else, byte for byte.")]
    Audience,
    /// `exp` has passed.
    #[error("The client assertion has ended. Make a new one for each request, and set the clock.")]
    Ended,
    /// `exp` is too far ahead.
    #[error("The client assertion lasts too long: exp may be 5 minutes ahead at most.")]
    TooLong,
    /// `nbf` or `iat` is to come.
    #[error("The client assertion is from the future: its iat or nbf is still to come. Set the clock.")]
    Early,
    /// `jti` is empty or too long.
    #[error("The jti of the client assertion is to have 1 to 256 bytes.")]
    Jti,
}

impl Assertion {
    /// Protocol 27: whether these are the claims of an assertion for the server `issuer` at `now`. Who
    /// signed it is for the signature to say.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check(claims: AssertionClaims, issuer: &str, now: Timestamp) -> Result<Self, AssertionRefused> {
        if claims.iss != claims.sub {
            return Err(AssertionRefused::IssuerIsNotSubject);
        }
        // RFC 7523bis §4: the issuer and no other value, so that it is of no use anywhere else.
        let is_for_us = match &claims.aud {
            Audience::One(aud) => aud == issuer,
            Audience::Several(all) => matches!(all.as_slice(), [aud] if aud == issuer),
        };
        if !is_for_us {
            return Err(AssertionRefused::Audience);
        }
        let end = Timestamp::from_second(claims.exp).map_err(|_| AssertionRefused::TooLong)?;
        if end > now + ASSERTION_LASTS + SKEW {
            return Err(AssertionRefused::TooLong);
        }
        if end + SKEW <= now {
            return Err(AssertionRefused::Ended);
        }
        let latest = (now + SKEW).as_second();
        if claims.nbf.into_iter().chain(claims.iat).any(|at| at > latest) {
            return Err(AssertionRefused::Early);
        }
        if claims.jti.is_empty() || claims.jti.len() > JTI_MAX_BYTES {
            return Err(AssertionRefused::Jti);
        }
        Ok(Self { client_id: claims.sub, jti: claims.jti, ends_at: end + SKEW })
    }
}

#[cfg(test)]
#[path = "client_keys_tests.rs"]
mod tests;
