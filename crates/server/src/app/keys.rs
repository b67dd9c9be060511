//! Signing and verifying access tokens (T-3), and the key set that others verify with.
//!
//! The form is a JWS in compact serialisation (RFC 7515 §3.1) with a fixed header: what is not
//! exactly `{"alg":"ES256","typ":"at+jwt","kid":…}` is not a token of ours, so there is nothing
//! in a header to be tricked with (RFC 8725 §3).

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
    },
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_domain::{
    audit::{By, Entry, Event, Origin},
    keys::{Algorithm, EcPublicKey, SigningKey},
    secret::ExposeSecret,
    tokens::Claims,
};
use portcullis_store::{Purpose, Sealed, Store};
use serde::{Deserialize, Serialize};

use crate::{clock::Clock, error::Failure};

/// The longest text that is looked at as a token. Ours have about 600 characters, and for an API
/// with as many scopes as there may be about 5000.
const MAX_TOKEN: usize = 8192;

/// Holds the keys in memory.
pub struct Signer {
    keys: Vec<LoadedKey>,
    issuer: String,
    audience: String,
    /// The key set, ready to be served (RFC 7517 §5).
    jwks: String,
    random: SystemRandom,
}

struct LoadedKey {
    kid: String,
    pair: EcdsaKeyPair,
    public: UnparsedPublicKey<Vec<u8>>,
    /// The header of tokens signed with it, encoded.
    header: String,
    /// The header of introspection responses signed with it, encoded.
    introspection_header: String,
    /// The header of status lists signed with it, encoded.
    status_list_header: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: String,
}

/// The audience of tokens for the product's own API.
#[must_use]
pub fn own_audience(issuer: &str) -> String {
    format!("{issuer}/api/v1")
}

fn refused(what: &str) -> Failure {
    Failure::Internal(format!("signing key: {what}"))
}

impl Signer {
    /// Loads the signing keys, making the first one if there is none.
    ///
    /// # Errors
    /// When the database fails or a key does not open.
    pub async fn load(store: &Store, clock: &Clock, issuer: &str) -> Result<Self, Failure> {
        let mut keys = store.read().await?.signing_keys().await?;
        if keys.is_empty() {
            // In an act, so that of several nodes that start at once one makes the key.
            let mut act = store.act().await?;
            keys = act.signing_keys().await?;
            if keys.is_empty() {
                let key = make_key(store, clock)?;
                act.add_signing_key(&key).await?;
                let now = clock.now();
                let entry = Entry::done(now, By::Server, &Origin::default(), Event::KeyCreated, key.kid.as_str())
                    .with("algorithm", key.algorithm.code());
                act.commit(&[entry]).await?;
                keys = vec![key];
            }
        }
        let keys = keys.iter().map(|key| open_key(store, key)).collect::<Result<Vec<_>, _>>()?;
        let jwks = key_set(&keys);
        let (issuer, audience) = (issuer.to_owned(), own_audience(issuer));
        Ok(Self { keys, issuer, audience, jwks, random: system_random() })
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

    /// The key set as JSON, public members only (protocol 26).
    #[must_use]
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// Signs claims with the newest key.
    ///
    /// # Errors
    /// [`Failure::Internal`] when the library refuses.
    pub fn sign(&self, claims: &Claims) -> Result<String, Failure> {
        self.sign_under(|key| &key.header, claims)
    }

    /// Signs an introspection response with the newest key (RFC 9701 §5). Its type is another than
    /// that of tokens, so none is ever taken for one.
    ///
    /// # Errors
    /// [`Failure::Internal`] when the library refuses.
    pub fn sign_introspection(&self, response: &impl Serialize) -> Result<String, Failure> {
        self.sign_under(|key| &key.introspection_header, response)
    }

    /// Signs a status list with the newest key (Token Status List draft §5.1), under a type of its own.
    ///
    /// # Errors
    /// [`Failure::Internal`] when the library refuses.
    pub fn sign_status_list(&self, list: &impl Serialize) -> Result<String, Failure> {
        self.sign_under(|key| &key.status_list_header, list)
    }

    fn sign_under(&self, header: fn(&LoadedKey) -> &str, claims: &impl Serialize) -> Result<String, Failure> {
        let key = self.keys.last().ok_or_else(|| refused("there is none"))?;
        let claims = serde_json::to_vec(claims).map_err(|e| refused(&e.to_string()))?;
        let mut token = String::with_capacity(640);
        token.push_str(header(key));
        token.push('.');
        BASE64URL.encode_string(claims, &mut token);
        let signature = key.pair.sign(&self.random, token.as_bytes()).map_err(|_| refused("it does not sign"))?;
        token.push('.');
        BASE64URL.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }

    /// The claims of a token that this server signed, whichever API it is for; `None` for anything
    /// else. Whether the token is *active* is for its record to say, and whether it has ended.
    #[must_use]
    pub fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        let header: Header = serde_json::from_slice(&BASE64URL.decode(header).ok()?).ok()?;
        if header.alg != Algorithm::Es256.code() || header.typ != "at+jwt" {
            return None;
        }
        let key = self.keys.iter().find(|k| k.kid == header.kid)?;
        key.public.verify(message.as_bytes(), &BASE64URL.decode(signature).ok()?).ok()?;
        let claims: Claims = serde_json::from_slice(&BASE64URL.decode(claims).ok()?).ok()?;
        (claims.iss == self.issuer).then_some(claims)
    }
}

/// The library signs with its own source of nonces; they never leave it.
#[expect(clippy::disallowed_methods, reason = "nonces of signatures are the library's business")]
fn system_random() -> SystemRandom {
    SystemRandom::new()
}

fn make_key(store: &Store, clock: &Clock) -> Result<SigningKey, Failure> {
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &system_random())
        .map_err(|_| refused("cannot be made"))?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref())
        .map_err(|_| refused("cannot be read back"))?;
    let kid = BASE64URL.encode(public_key(&pair).thumbprint());
    let sealed = store.keys().seal(Purpose::SigningKey, &kid, document.as_ref(), clock.random());
    Ok(SigningKey {
        kid,
        algorithm: Algorithm::Es256,
        created_at: clock.now(),
        sealed: sealed.bytes,
        sealed_by: sealed.key_id,
    })
}

fn open_key(store: &Store, key: &SigningKey) -> Result<LoadedKey, Failure> {
    let sealed = Sealed { key_id: key.sealed_by.clone(), bytes: key.sealed.clone() };
    let document = store.keys().open(Purpose::SigningKey, &key.kid, &sealed)?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.expose_secret())
        .map_err(|_| refused("is not a P-256 key"))?;
    let header = |typ: &str| BASE64URL.encode(format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{}"}}"#, key.kid));
    Ok(LoadedKey {
        kid: key.kid.clone(),
        public: UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref().to_vec()),
        pair,
        header: header("at+jwt"),
        introspection_header: header("token-introspection+jwt"),
        status_list_header: header("statuslist+jwt"),
    })
}

/// The coordinates out of the uncompressed point (SEC 1 §2.3.3): 0x04, x, y.
fn public_key(pair: &EcdsaKeyPair) -> EcPublicKey {
    let point = pair.public_key().as_ref();
    EcPublicKey { x: BASE64URL.encode(&point[1..33]), y: BASE64URL.encode(&point[33..65]) }
}

fn key_set(keys: &[LoadedKey]) -> String {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| {
            let EcPublicKey { x, y } = public_key(&key.pair);
            serde_json::json!({
                "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": key.kid, "use": "sig", "alg": "ES256",
            })
        })
        .collect();
    serde_json::json!({ "keys": keys }).to_string()
}
