//! JSON Web Signatures in compact serialisation (RFC 7515 §3.1), whose payload is a set of claims
//! (RFC 7519), read as RFC 8725 asks: whatever can be understood in two ways is refused.
//!
//! ```
//! # use portcullis_verify::{jwk::PublicJwk, jws::{Jws, JwsError}};
//! # fn check(assertion: &str, key: &PublicJwk, now: i64) -> Result<(), JwsError> {
//! let jws = Jws::parse(assertion)?;
//! let claims = jws.verify(key)?;
//! claims.check_times(now, 5)?;
//! let issuer = claims.text("iss")?;
//! # Ok(()) }
//! ```

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{
    json,
    jwk::{Algorithm, JwkError, PublicJwk},
};

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 8192;

/// The longest signature there is, in bytes: RSA of 4096 bits.
const MAX_SIGNATURE: usize = 512;

/// The latest instant that a date may name, in seconds: the largest whole number that is exact in
/// every JSON reader (RFC 8259 §6).
const LATEST: f64 = 9_007_199_254_740_991.0;

/// Why a text is not taken as a token. The text itself is never in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwsError {
    /// It has more than [`MAX_TOKEN`] bytes, or whatever the bound is.
    #[error("the token is too long")]
    TooLong,
    /// It is not three parts of base64url, the first two of which hold a JSON object each.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// `alg` is missing or not one of [`Algorithm::ALL`].
    #[error("the algorithm is not one of ES256, EdDSA, RS256")]
    Algorithm,
    /// The header holds what is not understood or not to be trusted.
    #[error("the header is refused: {0}")]
    Header(&'static str),
    /// The key in the header is refused.
    #[error("the key in the header is refused: {0}")]
    Key(JwkError),
    /// The key is of another kind than `alg`.
    #[error("the key is not one for the token's algorithm")]
    OtherAlgorithm,
    /// The signature is not by the key.
    #[error("the signature does not fit")]
    Signature,
    /// The claim of this name is missing, or not of the type it has to be.
    #[error("the claim {0} is missing or not of the right type")]
    Claim(&'static str),
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` or `iat` is still to come.
    #[error("the token is not valid yet")]
    NotYet,
}

/// A token whose signature has not been checked yet. Nothing in it is to be believed.
pub struct Jws<'a> {
    header: Map<String, Value>,
    algorithm: Algorithm,
    signed: &'a str,
    claims: Claims,
    signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    /// Reads a token whose key the reader knows. A key in the header, or a place to fetch one from,
    /// is refused (RFC 8725 §3.10).
    ///
    /// # Errors
    /// As [`JwsError`] says.
    pub fn parse(text: &'a str) -> Result<Self, JwsError> {
        Self::parse_up_to(text, MAX_TOKEN)
    }

    /// As [`Jws::parse`], with another bound than [`MAX_TOKEN`]: for tokens that are documents, such
    /// as a status list.
    ///
    /// # Errors
    /// As [`JwsError`] says.
    pub fn parse_up_to(text: &'a str, bytes: usize) -> Result<Self, JwsError> {
        let jws = Self::read(text, bytes)?;
        if jws.header.contains_key("jwk") {
            return Err(JwsError::Header("jwk"));
        }
        Ok(jws)
    }

    /// Reads a token that brings its public key in the header's `jwk` (RFC 7515 §4.1.3), as a DPoP
    /// proof does. That it verifies with that key says only that its sender has the private one.
    ///
    /// # Errors
    /// As [`JwsError`] says.
    pub fn parse_with_key(text: &'a str) -> Result<(Self, PublicJwk), JwsError> {
        let jws = Self::read(text, MAX_TOKEN)?;
        let members = jws.header.get("jwk").and_then(Value::as_object).ok_or(JwsError::Header("jwk"))?;
        let key = PublicJwk::from_members(members).map_err(JwsError::Key)?;
        Ok((jws, key))
    }

    fn read(text: &'a str, longest: usize) -> Result<Self, JwsError> {
        if text.len() > longest {
            return Err(JwsError::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(JwsError::Malformed("it has three parts"))?;
        let (header, payload) = signed.split_once('.').ok_or(JwsError::Malformed("it has three parts"))?;
        let header = object(header).ok_or(JwsError::Malformed("header"))?;
        let claims = object(payload).ok_or(JwsError::Malformed("payload"))?;
        let signature = BASE64URL.decode(signature).map_err(|_| JwsError::Malformed("signature"))?;
        if signature.len() > MAX_SIGNATURE {
            return Err(JwsError::Malformed("signature"));
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::from_name);
        let algorithm = algorithm.ok_or(JwsError::Algorithm)?;
        // `crit`: no extension is understood (RFC 7515 §4.1.11). `b64`: the payload is always encoded
        // (RFC 7797). `enc`, `zip`: of an encrypted token. The others bring keys from strangers.
        for name in ["crit", "b64", "enc", "zip", "jku", "x5u", "x5c"] {
            if header.contains_key(name) {
                return Err(JwsError::Header(name));
            }
        }
        for name in ["typ", "kid"] {
            if header.get(name).is_some_and(|value| !value.is_string()) {
                return Err(JwsError::Header(name));
            }
        }
        Ok(Self { header, algorithm, signed, claims: Claims(claims), signature })
    }

    /// The algorithm that the header names.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The id of the key that the header names.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.header.get("kid").and_then(Value::as_str)
    }

    /// Whether the header has a `typ` at all.
    #[must_use]
    pub fn has_typ(&self) -> bool {
        self.header.contains_key("typ")
    }

    /// Whether the header's `typ` is this media type: in any case, with or without `application/`
    /// (RFC 7515 §4.1.9, RFC 8725 §3.11). A token without a `typ` is of no type.
    #[must_use]
    pub fn is_typ(&self, expected: &str) -> bool {
        const PREFIX: &str = "application/";
        let is = |typ: &str| typ.eq_ignore_ascii_case(expected);
        let typ = self.header.get("typ").and_then(Value::as_str);
        typ.is_some_and(|typ| match typ.split_at_checked(PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => is(rest),
            _ => is(typ),
        })
    }

    /// The claims before the signature is checked: to find out whose key to check it with, and for
    /// nothing else.
    #[must_use]
    pub fn unverified_claims(&self) -> &Claims {
        &self.claims
    }

    /// Checks the signature with a key, which has to be of the kind that `alg` names.
    ///
    /// # Errors
    /// [`JwsError::OtherAlgorithm`] and [`JwsError::Signature`].
    pub fn verify(self, key: &PublicJwk) -> Result<Claims, JwsError> {
        if key.algorithm() != self.algorithm {
            return Err(JwsError::OtherAlgorithm);
        }
        if key.verify(self.signed.as_bytes(), &self.signature) {
            Ok(self.claims)
        } else {
            Err(JwsError::Signature)
        }
    }
}

/// One part: base64url of a JSON object.
fn object(part: &str) -> Option<Map<String, Value>> {
    json::object(&BASE64URL.decode(part).ok()?).ok()
}

/// The claims of a token (RFC 7519 §4), whose names are all different.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims(Map<String, Value>);

impl Claims {
    /// The claim of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The claim of this name, which has to be there and to be a text.
    ///
    /// # Errors
    /// [`JwsError::Claim`].
    pub fn text(&self, name: &'static str) -> Result<&str, JwsError> {
        self.get(name).and_then(Value::as_str).ok_or(JwsError::Claim(name))
    }

    /// The date of this name in whole seconds since the epoch, if it is there. A date is a JSON
    /// number, never a text; a fraction of a second is cut off (RFC 7519 §2).
    ///
    /// # Errors
    /// [`JwsError::Claim`].
    pub fn date(&self, name: &'static str) -> Result<Option<i64>, JwsError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let seconds = value.as_f64().filter(|seconds| (0.0..=LATEST).contains(seconds));
        seconds.map(|seconds| Some(seconds as i64)).ok_or(JwsError::Claim(name))
    }

    /// The audiences: `aud` is a text or an array of texts (RFC 7519 §4.1.3).
    ///
    /// # Errors
    /// [`JwsError::Claim`] when it is missing, empty or something else.
    pub fn audiences(&self) -> Result<Vec<&str>, JwsError> {
        let several = match self.get("aud") {
            Some(Value::String(one)) => return Ok(vec![one]),
            Some(Value::Array(several)) if !several.is_empty() => several,
            _ => return Err(JwsError::Claim("aud")),
        };
        several.iter().map(|one| one.as_str().ok_or(JwsError::Claim("aud"))).collect()
    }

    /// Checks the dates that are there: `exp` is still to come, `nbf` and `iat` are not, at `now` (in
    /// seconds since the epoch), give or take `leeway` seconds. Which of them have to be there is for
    /// the caller to say.
    ///
    /// # Errors
    /// [`JwsError::Expired`], [`JwsError::NotYet`], and [`JwsError::Claim`] for what is no date.
    pub fn check_times(&self, now: i64, leeway: i64) -> Result<(), JwsError> {
        if self.date("exp")?.is_some_and(|exp| exp <= now - leeway) {
            return Err(JwsError::Expired);
        }
        for name in ["nbf", "iat"] {
            if self.date(name)?.is_some_and(|from| from > now + leeway) {
                return Err(JwsError::NotYet);
            }
        }
        Ok(())
    }

    /// The claims as a type of the caller's.
    ///
    /// # Errors
    /// What serde finds wrong; it may quote values of the claims.
    pub fn typed<T: DeserializeOwned>(self) -> Result<T, serde_json::Error> {
        serde_json::from_value(Value::Object(self.0))
    }
}
