//! Signing and verifying access tokens (T-3), and the key set that others verify with.
//!
//! The form is a JWS in compact serialisation (RFC 7515 §3.1) with a fixed header: what is not
//! exactly `{"alg":…,"typ":"at+jwt","kid":…}` with the algorithm of that key is not a token of ours,
//! so there is nothing in a header to be tricked with (RFC 8725 §3).

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::signature::ParsedPublicKey;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jiff::Timestamp;
use portcullis_domain::{
    keys::{Algorithm, SigningKey, State},
    secret::ExposeSecret,
    tokens::Claims,
};
use portcullis_store::{MasterKeys, Purpose, Store, StoredKey, Tx};
use serde::{Deserialize, Serialize};

use super::{
    material::{Pair, published, refused},
    seen::{self, Seen},
};
use crate::{app::reads::Reads, clock::Clock, error::Failure};

/// The longest text that is looked at as a token. Ours have about 600 characters, and for an API
/// with as many scopes as there may be about 5000.
const MAX_TOKEN: usize = 8192;

/// The type of access tokens (RFC 9068 §2.1).
const ACCESS_TOKEN: &str = "at+jwt";

/// The audience of tokens for the product's own API.
#[must_use]
pub fn own_audience(issuer: &str) -> String {
    format!("{issuer}/api/v1")
}

/// Holds the key set in memory, and sees to it that it is the latest.
pub struct Signer {
    store: Store,
    reads: Reads,
    clock: Clock,
    issuer: String,
    audience: String,
    loaded: RwLock<Arc<KeySet>>,
    /// Of many requests that see a new version one loads it, and the others wait for that.
    loading: tokio::sync::Mutex<()>,
    /// Tokens whose signature was right.
    seen: Seen,
}

/// The keys that are published at one version of the key set.
pub struct KeySet {
    version: i64,
    issuer: String,
    keys: Vec<LoadedKey>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeySet({})", self.version)
    }
}

struct LoadedKey {
    key: SigningKey,
    public: ParsedPublicKey,
    /// Its member of the key set.
    jwk: String,
    /// Only while it is active.
    pair: Option<Pair>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// The parts of a text that looks like a token of ours.
struct Parts<'a> {
    header: Header,
    message: &'a str,
    claims: Claims,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64URL.decode(header).ok()?).ok()?;
        if header.typ != ACCESS_TOKEN {
            return None;
        }
        let claims = serde_json::from_slice(&BASE64URL.decode(claims).ok()?).ok()?;
        Some(Self { header, message, claims, signature })
    }
}

/// A text that claims to be a token of ours. Whether it is one says [`Signer::verify`].
pub struct Claimed<'a> {
    text: &'a str,
    digest: seen::Digest,
    signature: Signature<'a>,
}

/// What is known of its signature.
enum Signature<'a> {
    /// It was right before: the claims, and the id of the key.
    Seen(Claims, String),
    /// It was not looked at yet.
    New(Parts<'a>),
}

impl<'a> Claimed<'a> {
    /// The text.
    #[must_use]
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// What it claims. Anybody may have written that.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        match &self.signature {
            Signature::Seen(claims, _) => claims,
            Signature::New(parts) => &parts.claims,
        }
    }
}

/// What is signed (RFC 7515 §5.1): header and content, encoded, with room for the signature.
///
/// # Errors
/// [`Failure::Internal`] when the content cannot be written as JSON.
pub fn signing_input(
    typ: &str,
    algorithm: Algorithm,
    kid: &str,
    content: &impl Serialize,
) -> Result<String, Failure> {
    let mut written = Vec::with_capacity(768);
    serde_json::to_writer(&mut written, content).map_err(|e| refused(&e.to_string()))?;
    let mut token = String::with_capacity(1024);
    let header = format!(r#"{{"alg":"{}","typ":"{typ}","kid":"{kid}"}}"#, algorithm.code());
    BASE64URL.encode_string(header, &mut token);
    token.push('.');
    BASE64URL.encode_string(written, &mut token);
    Ok(token)
}

impl KeySet {
    fn open(
        keys: &MasterKeys,
        issuer: &str,
        (version, stored): (i64, Vec<StoredKey>),
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let keys =
            stored.into_iter().map(|stored| LoadedKey::open(keys, stored, now)).collect::<Result<_, _>>()?;
        Ok(Self { version, issuer: issuer.to_owned(), keys })
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// Which of its keys are published.
    #[must_use]
    pub fn published(&self, now: Timestamp) -> Vec<bool> {
        self.keys.iter().map(|k| k.key.life.is_published(now)).collect()
    }

    /// The key set as JSON (RFC 7517 §5), public members only (protocol 26).
    #[must_use]
    pub fn jwks(&self, now: Timestamp) -> String {
        let published = self.keys.iter().filter(|k| k.key.life.is_published(now));
        let members: Vec<&str> = published.map(|k| k.jwk.as_str()).collect();
        format!(r#"{{"keys":[{}]}}"#, members.join(","))
    }

    /// The algorithms that there are keys of, ES256 first.
    #[must_use]
    pub fn algorithms(&self) -> Vec<&'static str> {
        let used = Algorithm::ALL.iter().filter(|a| self.keys.iter().any(|k| k.key.algorithm == **a));
        used.map(|a| a.code()).collect()
    }

    /// Signs an access token with the active key of an algorithm.
    ///
    /// # Errors
    /// [`Failure::Internal`] when there is none, or the library refuses.
    pub fn sign(&self, algorithm: Algorithm, claims: &Claims) -> Result<String, Failure> {
        self.sign_as(ACCESS_TOKEN, algorithm, claims)
    }

    /// Signs something else, of a type (RFC 7515 §4.1.9) that is another than that of tokens, so that
    /// none is ever taken for one.
    ///
    /// # Errors
    /// [`Failure::Internal`] when there is no key, or the library refuses.
    pub fn sign_as(&self, typ: &str, algorithm: Algorithm, content: &impl Serialize) -> Result<String, Failure> {
        let signs = |k: &&LoadedKey| k.key.algorithm == algorithm && k.pair.is_some();
        let key = self.keys.iter().find(signs).ok_or_else(|| refused("there is none of this algorithm"))?;
        let pair = key.pair.as_ref().ok_or_else(|| refused("it is not active"))?;
        let mut token = signing_input(typ, algorithm, &key.key.kid, content)?;
        let signature = pair.sign(token.as_bytes())?;
        token.push('.');
        BASE64URL.encode_string(signature, &mut token);
        Ok(token)
    }

    fn has(&self, kid: &str) -> bool {
        self.keys.iter().any(|k| k.key.kid == kid)
    }

    fn publishes(&self, kid: &str, now: Timestamp) -> bool {
        self.keys.iter().any(|k| k.key.kid == kid && k.key.life.is_published(now))
    }

    fn verifies(&self, parts: &Parts<'_>, now: Timestamp) -> bool {
        let Some(key) = self.keys.iter().find(|k| k.key.kid == parts.header.kid) else { return false };
        if parts.header.alg != key.key.algorithm.code() || !key.key.life.is_published(now) {
            return false;
        }
        let Ok(signature) = BASE64URL.decode(parts.signature) else { return false };
        key.public.verify_sig(parts.message.as_bytes(), &signature).is_ok() && parts.claims.iss == self.issuer
    }
}

impl LoadedKey {
    fn open(keys: &MasterKeys, stored: StoredKey, now: Timestamp) -> Result<Self, Failure> {
        let StoredKey { key, public, sealed } = stored;
        let public = public.ok_or_else(|| refused("it has no public part"))?;
        let jwk = keys.open(Purpose::PublicKey, &key.kid, &public)?;
        let (public, jwk) = published(key.algorithm, &key.kid, jwk.expose_secret())?;
        let pair = match sealed {
            Some(sealed) if key.life.state(now) == State::Active => {
                let document = keys.open(Purpose::SigningKey, &key.kid, &sealed)?;
                Some(Pair::open(key.algorithm, document.expose_secret())?)
            }
            _ => None,
        };
        Ok(Self { key, public, jwk, pair })
    }
}

impl Signer {
    /// Loads the key set.
    ///
    /// # Errors
    /// When the database fails or a key does not open.
    pub async fn load(store: Store, reads: Reads, clock: Clock, issuer: &str) -> Result<Self, Failure> {
        let now = clock.now();
        let found = store.read().await?.key_set(now).await?;
        let loaded = RwLock::new(Arc::new(KeySet::open(store.keys(), issuer, found, now)?));
        let (issuer, audience) = (issuer.to_owned(), own_audience(issuer));
        let (loading, seen) = (tokio::sync::Mutex::default(), Seen::default());
        Ok(Self { store, reads, clock, issuer, audience, loaded, loading, seen })
    }

    /// The issuer of the tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The audience of tokens for the product's own API.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// The key set as this node read it last.
    pub(crate) fn loaded(&self) -> Arc<KeySet> {
        Arc::clone(&self.loaded.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key set of this version or, if that is over by now, a later one. What is not loaded is read through `tx`, which is of now:
    /// a transaction that holds a connection does not wait for another one.
    ///
    /// # Errors
    /// When the database fails or a key does not open.
    pub async fn at(&self, tx: &mut Tx, version: i64) -> Result<Arc<KeySet>, Failure> {
        let loaded = self.loaded();
        if loaded.version == version {
            return Ok(loaded);
        }
        let _turn = self.loading.lock().await;
        let loaded = self.loaded();
        if loaded.version == version {
            return Ok(loaded);
        }
        let now = self.clock.now();
        let found = tx.key_set(now).await?;
        let latest = Arc::new(KeySet::open(self.store.keys(), &self.issuer, found, now)?);
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&latest);
        Ok(latest)
    }

    /// The key set as it is now.
    ///
    /// # Errors
    /// As [`Signer::at`].
    pub async fn current(&self) -> Result<Arc<KeySet>, Failure> {
        self.of(self.reads.key_set().await?).await
    }

    /// [`Signer::at`] for what was just read.
    ///
    /// # Errors
    /// As [`Signer::at`].
    pub async fn of(&self, version: i64) -> Result<Arc<KeySet>, Failure> {
        let loaded = self.loaded();
        if loaded.version == version {
            return Ok(loaded);
        }
        // Boxed: it is seldom needed, and room for it would be carried by every request.
        Box::pin(async { self.at(&mut self.store.read().await?, version).await }).await
    }

    /// Reads what a text claims; `None` for what is no token of ours whoever signed it.
    #[must_use]
    pub fn claimed<'a>(&self, text: &'a str) -> Option<Claimed<'a>> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let digest = seen::digest(text);
        let signature = match self.seen.find(&digest) {
            Some((claims, kid)) => Signature::Seen(claims, kid),
            None => Signature::New(Parts::of(text)?),
        };
        Some(Claimed { text, digest, signature })
    }

    /// The claims of a token that a published key signed, whichever API it is for, and the version of
    /// the key set that says so; `None` for anything else. Whether the token is *active* is for its
    /// record to say, and whether it has ended. Whoever reads that sees whether the version is still
    /// the latest, and asks [`Signer::still_verifies`] if not. A key that this node does not know is
    /// looked for before it is refused.
    ///
    /// # Errors
    /// As [`Signer::at`].
    pub async fn verify(&self, claimed: Claimed<'_>) -> Result<Option<(Claims, i64)>, Failure> {
        let (now, mut set) = (self.clock.now(), self.loaded());
        let parts = match claimed.signature {
            Signature::Seen(claims, kid) if set.publishes(&kid, now) => return Ok(Some((claims, set.version))),
            Signature::Seen(..) => Parts::of(claimed.text),
            Signature::New(parts) => Some(parts),
        };
        let Some(parts) = parts else { return Ok(None) };
        if !set.has(&parts.header.kid) {
            set = self.current().await?;
        }
        if !set.verifies(&parts, self.clock.now()) {
            return Ok(None);
        }
        self.seen.keep(claimed.digest, &parts.claims, &parts.header.kid);
        Ok(Some((parts.claims, set.version)))
    }

    /// Whether a token verifies with the key set of this version or a later one.
    ///
    /// # Errors
    /// As [`Signer::at`].
    pub async fn still_verifies(&self, tx: &mut Tx, token: &str, version: i64) -> Result<bool, Failure> {
        let Some(parts) = Parts::of(token) else { return Ok(false) };
        Ok(self.at(tx, version).await?.verifies(&parts, self.clock.now()))
    }
}
