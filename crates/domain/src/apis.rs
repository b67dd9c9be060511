//! APIs: what tokens are for. Each has an identifier that is the audience of its tokens
//! (RFC 8707 §2), scopes, a lifespan (T-1), and keys of its own to ask about its tokens with
//! (protocol 23).

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::{
    accounts::Invalid,
    closed_set::closed_set,
    credentials::CROCKFORD,
    federation::{invalid, one_line},
    keys::Algorithm,
    secret::KeyedDigest,
    tokens::{LIFESPANS, SCOPES},
};

/// The id of the product's own API. It is the same everywhere, so that tokens from before there
/// were others are known to be for it.
pub const OWN: Uuid = Uuid::nil();

/// The name of the product's own API.
pub const OWN_NAME: &str = "Portcullis API";

/// The most APIs there may be, the product's own among them.
pub const APIS_MAX: usize = 200;
/// The most scopes of an API.
pub const SCOPES_MAX: usize = 50;
/// The most keys of an API that are valid at the same time.
pub const KEYS_MAX: usize = 2;

/// The most characters of the name of an API.
const NAME_MAX_CHARS: usize = 60;
/// The most characters of an identifier.
const IDENTIFIER_MAX_CHARS: usize = 255;
/// The most characters of the name of a scope: all scopes of an API fit into one token.
const SCOPE_MAX_CHARS: usize = 60;
/// The most characters of the description of a scope.
const DESCRIPTION_MAX_CHARS: usize = 120;
/// The longest `scope` that is looked at: every scope there may be, with room to spare.
const REQUESTED_MAX_BYTES: usize = 4096;

/// Something that a token may do at an API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The word in tokens, of the characters of RFC 6749 §3.3.
    pub name: String,
    /// What it allows, for people.
    pub description: String,
}

/// What an API is registered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name, 1 to 60 characters.
    pub name: String,
    /// The identifier: an absolute URI without a fragment (RFC 8707 §2). It never changes: who
    /// verifies tokens compares it byte for byte.
    pub identifier: String,
    /// The scopes, each name once.
    pub scopes: Vec<Scope>,
    /// How long its tokens live, in seconds (T-1); absent for the product's own API, whose tokens
    /// live as long as the configuration says.
    pub lifespan_seconds: Option<u32>,
    /// What its tokens are signed with.
    pub algorithm: Algorithm,
}

/// What somebody typed to register an API.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    /// The name.
    pub name: String,
    /// The identifier.
    pub identifier: String,
    /// The scopes.
    pub scopes: Vec<Scope>,
    /// The lifespan in seconds, in digits.
    pub lifespan: String,
    /// The code of the algorithm; empty: ES256.
    pub algorithm: String,
}

/// Reads scopes from text: one a line, the name, then after a space what it allows.
#[must_use]
pub fn scopes_of(text: &str) -> Vec<Scope> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, description) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            Scope { name: name.to_owned(), description: description.trim().to_owned() }
        })
        .collect()
}

/// The text that [`scopes_of`] reads.
#[must_use]
pub fn text_of(scopes: &[Scope]) -> String {
    scopes.iter().map(|s| format!("{} {}", s.name, s.description)).collect::<Vec<_>>().join("\n")
}

/// Whether a text is an absolute URI without a fragment (RFC 3986 §4.3): a scheme, a colon, and at
/// least one of the characters that stand in URIs, each `%` before two hexadecimal digits.
#[must_use]
pub fn is_identifier(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let in_uri = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&b);
    let escaped = rest.split('%').skip(1).all(|after| {
        let digits = after.as_bytes().get(..2);
        digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
    });
    let has_host = rest.strip_prefix("//").is_none_or(|rest| !rest.is_empty() && !rest.starts_with(['/', '?']));
    is_scheme && !rest.is_empty() && rest.bytes().all(in_uri) && escaped && has_host
}

fn identifier(text: &str) -> Result<String, Invalid> {
    let text = text.trim();
    if text.len() > IDENTIFIER_MAX_CHARS || !is_identifier(text) {
        let message = format!(
            "Enter an absolute URI without #, of at most {IDENTIFIER_MAX_CHARS} characters, like: \
             https://orders.acme.example."
        );
        return Err(invalid("identifier", message));
    }
    Ok(text.to_owned())
}

fn scopes(typed: &[Scope]) -> Result<Vec<Scope>, Invalid> {
    if typed.len() > SCOPES_MAX {
        return Err(invalid("scopes", format!("Enter at most {SCOPES_MAX} scopes.")));
    }
    let mut scopes: Vec<Scope> = Vec::with_capacity(typed.len());
    for (at, scope) in typed.iter().enumerate() {
        let number = at + 1;
        let name = scope.name.as_str();
        // The characters of RFC 6749 §3.3.
        let plain = name.chars().all(|c| matches!(c, '!' | '#'..='[' | ']'..='~'));
        if name.is_empty() || name.len() > SCOPE_MAX_CHARS || !plain {
            let message = format!(
                "Scope {number}: enter a name of at most {SCOPE_MAX_CHARS} ASCII characters without spaces, quotes \
                 and backslashes, like: orders:read."
            );
            return Err(invalid("scopes", message));
        }
        if scopes.iter().any(|s| s.name == name) {
            return Err(invalid(
                "scopes",
                format!("Scope {number}: {name} is there already. Enter each scope once."),
            ));
        }
        let what = format!("behind the name of scope {number} what it allows");
        let description = one_line("scopes", &scope.description, DESCRIPTION_MAX_CHARS, &what)?;
        scopes.push(Scope { name: name.to_owned(), description });
    }
    Ok(scopes)
}

fn lifespan(text: &str) -> Result<u32, Invalid> {
    text.trim().parse().ok().filter(|seconds| LIFESPANS.contains(seconds)).ok_or_else(|| {
        let message = format!("Enter whole seconds from {} to {} (30 days).", LIFESPANS.start(), LIFESPANS.end());
        invalid("lifespan", message)
    })
}

fn algorithm(text: &str) -> Result<Algorithm, Invalid> {
    if text.is_empty() {
        return Ok(Algorithm::Es256);
    }
    Algorithm::from_code(text).ok_or_else(|| invalid("algorithm", "Choose ES256, EdDSA or RS256.".to_owned()))
}

impl Settings {
    /// Reads what was typed.
    ///
    /// # Errors
    /// With every field that is wrong.
    pub fn parse(typed: &Typed) -> Result<Self, Vec<Invalid>> {
        let name = one_line("name", &typed.name, NAME_MAX_CHARS, "a name");
        let identifier = identifier(&typed.identifier);
        let scopes = scopes(&typed.scopes);
        let lifespan = lifespan(&typed.lifespan);
        let algorithm = algorithm(&typed.algorithm);
        match (name, identifier, scopes, lifespan, algorithm) {
            (Ok(name), Ok(identifier), Ok(scopes), Ok(seconds), Ok(algorithm)) => {
                Ok(Self { name, identifier, scopes, lifespan_seconds: Some(seconds), algorithm })
            }
            (name, identifier, scopes, lifespan, algorithm) => {
                let wrong = [name.err(), identifier.err(), scopes.err(), lifespan.err(), algorithm.err()];
                Err(wrong.into_iter().flatten().collect())
            }
        }
    }

    /// What the product's own API is registered with.
    #[must_use]
    pub fn own(identifier: String) -> Self {
        Self {
            name: OWN_NAME.to_owned(),
            identifier,
            scopes: own_scopes(),
            lifespan_seconds: None,
            algorithm: Algorithm::Es256,
        }
    }
}

/// The scopes of the product's own API.
#[must_use]
pub fn own_scopes() -> Vec<Scope> {
    let scope =
        |(name, description): (&str, &str)| Scope { name: name.to_owned(), description: description.to_owned() };
    SCOPES.into_iter().map(scope).collect()
}

/// An API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Api {
    /// The id: in the addresses of its pages, and with each token for it on record (L-4).
    pub id: Uuid,
    /// What it is registered with.
    pub settings: Settings,
    /// When it was registered (UTC).
    pub made_at: Timestamp,
}

/// A scope the request may not have (RFC 6749 §5.2 `invalid_scope`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the requested scope is unknown or malformed")]
pub struct InvalidScope;

impl Api {
    /// Whether it is the product's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.id == OWN
    }

    /// How long a token for it lives, in seconds (T-1). `own` is the lifespan of the product's own.
    #[must_use]
    pub fn lifespan(&self, own: u32) -> u32 {
        self.settings.lifespan_seconds.unwrap_or(own)
    }

    /// The names of its scopes, space separated.
    #[must_use]
    pub fn scope_names(&self) -> String {
        self.settings.scopes.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// The scope to grant: all there is by default, else what is asked, once each, in the order of
    /// the API (RFC 6749 §3.3, protocol 11).
    ///
    /// # Errors
    /// When anything beyond what there is is asked for.
    pub fn grant(&self, requested: Option<&str>) -> Result<String, InvalidScope> {
        let Some(requested) = requested else { return Ok(self.scope_names()) };
        if requested.len() > REQUESTED_MAX_BYTES {
            return Err(InvalidScope);
        }
        let scopes = &self.settings.scopes;
        let asked: Vec<&str> = requested.split(' ').collect();
        if asked.iter().any(|a| !scopes.iter().any(|s| s.name == *a)) {
            return Err(InvalidScope);
        }
        let granted = scopes.iter().map(|s| s.name.as_str()).filter(|name| asked.contains(name));
        Ok(granted.collect::<Vec<_>>().join(" "))
    }
}

/// What the id of every key of an API begins with.
pub const KEY_ID_PREFIX: &str = "pca_";

/// The id of a key: `pca_` and 20 digits of Crockford's base 32 in lower case, 100 random bits.
/// As a regular expression: `pca_[0-9a-hjkmnp-tv-z]{20}`. It is no Client ID, and no Client ID is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ApiKeyId(String);

impl ApiKeyId {
    /// Makes the id that carries the low five bits of each of these bytes.
    #[must_use]
    pub fn new(entropy: [u8; 20]) -> Self {
        let digits = entropy.iter().map(|b| char::from(CROCKFORD[usize::from(b & 31)]));
        Self(KEY_ID_PREFIX.chars().chain(digits).collect())
    }

    /// Reads an id; `None` when the text cannot be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(KEY_ID_PREFIX)?;
        (digits.len() == 20 && digits.bytes().all(|b| CROCKFORD.contains(&b))).then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A key of an API, to ask about its tokens with: never the secret, only its keyed digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    /// The id that is sent with the secret.
    pub id: ApiKeyId,
    /// Whose it is.
    pub api: Uuid,
    /// Which of the [`KEYS_MAX`] places it has, from 1.
    pub place: i64,
    /// The keyed digest of the secret.
    pub digest: KeyedDigest,
    /// When it was made (UTC).
    pub made_at: Timestamp,
    /// When it ends (UTC), once a newer one took over.
    pub ends_at: Option<Timestamp>,
}

impl ApiKey {
    /// Whether it works at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.ends_at.is_none_or(|end| now < end)
    }
}

closed_set! {
    /// How long a key goes on working when a newer one is made.
    Overlap {
        /// A day.
        Day => "day", "Goes on working for 24 hours";
        /// An hour.
        Hour => "hour", "Goes on working for 1 hour";
        /// A week.
        Week => "week", "Goes on working for 7 days";
        /// It stops with the act that makes the newer one.
        AtOnce => "at_once", "Stops at once";
    }
}

impl Overlap {
    fn lasts(self) -> SignedDuration {
        SignedDuration::from_hours(match self {
            Self::Day => 24,
            Self::Hour => 1,
            Self::Week => 7 * 24,
            Self::AtOnce => 0,
        })
    }
}

/// What making a key does to those that are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// These are gone: they have ended, or stop at once.
    pub gone: Vec<ApiKeyId>,
    /// These end then.
    pub ending: Vec<(ApiKeyId, Timestamp)>,
    /// The place of the new one.
    pub place: i64,
}

/// Why something was not done to an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiRefused {
    /// The product's own API is not changed and not removed.
    #[error("This is the API of Portcullis itself. It is not changed and not removed.")]
    Own,
    /// There are [`KEYS_MAX`] valid keys.
    #[error("This API has two valid keys already. Remove one, or make a new key that stops the others at once.")]
    TooManyKeys,
    /// An access token asked (T-4).
    #[error("This is for a Super Admin who is signed in, not for an access token.")]
    ByToken,
}

impl ApiRefused {
    /// The word for programs and the audit log.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Own => "own_api",
            Self::TooManyKeys => "too_many_keys",
            Self::ByToken => "not_with_a_token",
        }
    }
}

/// Making a key, and what becomes of those that are there: a valid one goes on working for the
/// overlap, and never longer than it would have.
///
/// # Errors
/// [`ApiRefused::TooManyKeys`] when two are valid and would stay so.
pub fn rotate(keys: &[ApiKey], overlap: Overlap, now: Timestamp) -> Result<Rotation, ApiRefused> {
    let stays = |k: &&ApiKey| overlap != Overlap::AtOnce && k.is_valid(now);
    let staying: Vec<&ApiKey> = keys.iter().filter(stays).collect();
    let places = 1..=i64::try_from(KEYS_MAX).unwrap_or(i64::MAX);
    let place = places.into_iter().find(|place| staying.iter().all(|k| k.place != *place));
    let end = now + overlap.lasts();
    let ending = |k: &&ApiKey| (k.id.clone(), k.ends_at.map_or(end, |earlier| earlier.min(end)));
    Ok(Rotation {
        gone: keys.iter().filter(|k| !stays(k)).map(|k| k.id.clone()).collect(),
        ending: staying.iter().map(ending).collect(),
        place: place.ok_or(ApiRefused::TooManyKeys)?,
    })
}

#[cfg(test)]
#[path = "apis_tests.rs"]
mod tests;
