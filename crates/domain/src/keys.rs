//! Signing keys: their algorithms, the key id that verifiers see, and their life (protocol 26).
//!
//! For each algorithm in use there are always two: one that is *active* and signs, and one that is
//! *upcoming*, in the key set already, so that verifiers hold it before it signs. A rotation makes the
//! upcoming one active; the one that was active is *retiring* until the last token it can have signed
//! has ended, and *retired* then. A key that is *withdrawn* is out of the key set at once.

use aws_lc_rs::digest;
use jiff::{SignedDuration, Timestamp};

use crate::{accounts::Invalid, closed_set::closed_set, federation::one_line};

closed_set! {
    /// A signature algorithm of access tokens (RFC 7518 §3.1, RFC 8037 §3.1).
    Algorithm {
        /// ECDSA on P-256 with SHA-256.
        Es256 => "ES256", "ES256 (ECDSA on P-256)";
        /// Ed25519.
        EdDsa => "EdDSA", "EdDSA (Ed25519)";
        /// RSASSA-PKCS1-v1_5 with SHA-256.
        Rs256 => "RS256", "RS256 (RSA)";
    }
}

closed_set! {
    /// Where a key is in its life.
    State {
        /// It signs.
        Active => "active", "Active";
        /// It is in the key set and signs next.
        Upcoming => "upcoming", "Upcoming";
        /// It signs no more, and tokens that it signed may not have ended.
        Retiring => "retiring", "Retiring";
        /// The last token that it signed has ended.
        Retired => "retired", "Retired";
        /// It was taken out of the key set at once.
        Withdrawn => "withdrawn", "Withdrawn";
    }
}

closed_set! {
    /// What is kept under a master key.
    Kept {
        /// The private parts of signing keys.
        SigningKeys => "signing_keys", "signing keys";
        /// The public parts of signing keys: sealed so that nobody puts in another.
        PublicKeys => "public_keys", "public parts of signing keys";
        /// Client secrets of sign-in providers.
        ProviderSecrets => "provider_secrets", "secrets of sign-in providers";
        /// Secrets of authenticator apps.
        AuthenticatorApps => "authenticator_apps", "authenticator apps";
        /// Mails that wait.
        Mails => "mails", "mails that wait";
        /// What is under way in browsers.
        Ceremonies => "ceremonies", "sign-ins under way";
        /// Digests of Client Secrets.
        ClientSecrets => "client_secrets", "Client Secrets";
        /// Digests of the secrets of APIs' keys.
        ApiKeys => "api_keys", "keys of APIs";
        /// Digests of recovery codes.
        RecoveryCodes => "recovery_codes", "recovery codes";
        /// Links of the chain of the audit log.
        AuditRecords => "audit_records", "audit records";
    }
}

impl Kept {
    /// Whether it is sealed, so that it can be sealed anew under another key. A digest cannot: what it
    /// is of is not there.
    #[must_use]
    pub fn is_sealed(self) -> bool {
        !matches!(self, Self::ClientSecrets | Self::ApiKeys | Self::RecoveryCodes | Self::AuditRecords)
    }
}

/// How long a retiring key stays after the last token it can have signed has ended: clocks differ.
pub const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// The instants of a key (UTC). Its state follows from them and from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// In the key set since then.
    pub created_at: Timestamp,
    /// Signs since then.
    pub active_at: Option<Timestamp>,
    /// Signs no more since then.
    pub retiring_at: Option<Timestamp>,
    /// Leaves the key set then: the last token it signed has ended.
    pub leaves_at: Option<Timestamp>,
    /// When it was put on record that it has left.
    pub retired_at: Option<Timestamp>,
    /// Out of the key set at once.
    pub withdrawn_at: Option<Timestamp>,
}

impl Life {
    /// The life of a key that is made now.
    #[must_use]
    pub fn new(created_at: Timestamp, active_at: Option<Timestamp>) -> Self {
        Self { created_at, active_at, retiring_at: None, leaves_at: None, retired_at: None, withdrawn_at: None }
    }

    /// Where the key is in its life.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        match (self.withdrawn_at, self.active_at, self.leaves_at) {
            (Some(_), ..) => State::Withdrawn,
            (None, None, _) => State::Upcoming,
            (None, Some(_), None) => State::Active,
            (None, Some(_), Some(end)) if now < end => State::Retiring,
            _ => State::Retired,
        }
    }

    /// Whether the key is in the key set, so that what it signed is believed.
    #[must_use]
    pub fn is_published(&self, now: Timestamp) -> bool {
        matches!(self.state(now), State::Upcoming | State::Active | State::Retiring)
    }
}

/// A signing key: everything but the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The key id: the RFC 7638 thumbprint of the public key.
    pub kid: String,
    /// What it signs with.
    pub algorithm: Algorithm,
    /// Its instants.
    pub life: Life,
    /// The longest lifespan of an API while it signs, in seconds: how long the tokens it signed live.
    pub longest_seconds: u32,
}

/// When keys take over from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How long a key signs; absent: until somebody rotates.
    pub rotation: Option<SignedDuration>,
    /// How long a key is in the key set before it signs.
    pub publish_ahead: SignedDuration,
}

impl Schedule {
    /// How long verifiers may keep the key set, in whole seconds. Half of what a key is published
    /// ahead, so that a slow commit and clocks that differ have the other half.
    #[must_use]
    pub fn cached_seconds(&self) -> i64 {
        (self.publish_ahead.as_secs() / 2).min(300)
    }
}

/// Why nothing was done to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// The upcoming key is not in the key set for long enough.
    #[error(
        "The upcoming key has not been published for long enough: verifiers may not hold it yet. Rotate again from \
         {0} on. If a key was compromised, withdraw it: that acts at once."
    )]
    TooEarly(Timestamp),
    /// The key has left the key set already.
    #[error("This key is not in the key set any more, so there is nothing to withdraw.")]
    Over,
    /// No API uses the algorithm.
    #[error("There are no keys of this algorithm: no API has selected it.")]
    NotInUse,
}

impl KeyRefused {
    /// The word for programs and the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::TooEarly(_) => "too_early",
            Self::Over => "key_over",
            Self::NotInUse => "algorithm_not_in_use",
        }
    }
}

/// What a rotation does. A new upcoming key is made with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// This one signs no more, and leaves the key set then.
    pub retiring: (String, Timestamp),
    /// This one signs from now on.
    pub active: String,
}

/// What a withdrawal does besides taking the key out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// This one signs from now on, if the withdrawn one did.
    pub active: Option<String>,
    /// Whether a new upcoming key is to be made.
    pub needs_upcoming: bool,
}

fn in_state(keys: &[SigningKey], algorithm: Algorithm, state: State, now: Timestamp) -> Option<&SigningKey> {
    keys.iter().find(|k| k.algorithm == algorithm && k.life.state(now) == state)
}

/// Makes the upcoming key of an algorithm active. `at_once` does so even if verifiers may not hold it.
///
/// # Errors
/// [`KeyRefused::TooEarly`], [`KeyRefused::NotInUse`].
pub fn rotate(
    keys: &[SigningKey],
    algorithm: Algorithm,
    schedule: &Schedule,
    at_once: bool,
    now: Timestamp,
) -> Result<Rotation, KeyRefused> {
    let active = in_state(keys, algorithm, State::Active, now).ok_or(KeyRefused::NotInUse)?;
    let upcoming = in_state(keys, algorithm, State::Upcoming, now).ok_or(KeyRefused::NotInUse)?;
    let ready = upcoming.life.created_at + schedule.publish_ahead;
    if now < ready && !at_once {
        return Err(KeyRefused::TooEarly(ready));
    }
    let leaves_at = now + SignedDuration::from_secs(i64::from(active.longest_seconds)) + SKEW;
    Ok(Rotation { retiring: (active.kid.clone(), leaves_at), active: upcoming.kid.clone() })
}

/// Whether the schedule says that an algorithm's keys are to be rotated now.
#[must_use]
pub fn is_due(keys: &[SigningKey], algorithm: Algorithm, schedule: &Schedule, now: Timestamp) -> bool {
    let active = in_state(keys, algorithm, State::Active, now).and_then(|k| k.life.active_at);
    let (Some(since), Some(lasts)) = (active, schedule.rotation) else { return false };
    since + lasts <= now && rotate(keys, algorithm, schedule, false, now).is_ok()
}

/// Takes a key out of the key set at once. If it was the active one, the upcoming one signs from now
/// on: it is in the key set already.
///
/// # Errors
/// [`KeyRefused::Over`].
pub fn withdraw(keys: &[SigningKey], key: &SigningKey, now: Timestamp) -> Result<Withdrawal, KeyRefused> {
    match key.life.state(now) {
        State::Retired | State::Withdrawn => Err(KeyRefused::Over),
        State::Retiring => Ok(Withdrawal { active: None, needs_upcoming: false }),
        State::Upcoming => Ok(Withdrawal { active: None, needs_upcoming: true }),
        State::Active => {
            let next = in_state(keys, key.algorithm, State::Upcoming, now).ok_or(KeyRefused::NotInUse)?;
            Ok(Withdrawal { active: Some(next.kid.clone()), needs_upcoming: true })
        }
    }
}

/// The most characters of the reason for a withdrawal.
const REASON_MAX_CHARS: usize = 200;

/// Reads why a key is withdrawn.
///
/// # Errors
/// When there is nothing, or too much.
pub fn reason(text: &str) -> Result<String, Invalid> {
    one_line("reason", text, REASON_MAX_CHARS, "why, for the audit log")
}

/// The members of a public key as base64url text, from which everything public about it follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKey {
    /// A point on P-256 (RFC 7518 §6.2.1).
    Ec {
        /// The x coordinate.
        x: String,
        /// The y coordinate.
        y: String,
    },
    /// An Ed25519 key (RFC 8037 §2).
    Okp {
        /// The key.
        x: String,
    },
    /// An RSA key (RFC 7518 §6.3.1).
    Rsa {
        /// The modulus.
        n: String,
        /// The exponent.
        e: String,
    },
}

impl PublicKey {
    /// The canonical JWK (RFC 7638 §3).
    #[must_use]
    pub fn canonical(&self) -> String {
        match self {
            Self::Ec { x, y } => format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#),
            Self::Okp { x } => format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#),
            Self::Rsa { n, e } => format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#),
        }
    }

    /// SHA-256 over the canonical JWK, to be encoded as base64url by the caller.
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, self.canonical().as_bytes()).as_ref());
        out
    }
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
