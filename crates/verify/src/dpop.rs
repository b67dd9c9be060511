//! DPoP proofs (RFC 9449 §4.3): that the sender of a request holds a private key.
//!
//! Pure: the clock is passed in, and that a proof is used once is for the caller to see to with the
//! `jti` of the [`Proof`], which need not be remembered for longer than the window plus
//! [`FUTURE_SKEW`].

use aws_lc_rs::{constant_time, digest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use url::Url;

use crate::jws::{Claims, Jws, JwsError};

/// How far a proof may be ahead of the clock, in seconds.
pub const FUTURE_SKEW: i64 = 10;

/// The longest `jti` that is taken, in bytes, so that those that are remembered have a bound.
pub const MAX_JTI: usize = 128;

/// The longest `nonce` that is taken, in bytes.
const MAX_NONCE: usize = 512;

/// What a proof has to fit.
#[derive(Clone, Copy)]
pub struct Expect<'a> {
    /// The method of the request, as it was sent.
    pub method: &'a str,
    /// The URL of the request as its sender names it; query and fragment do not matter.
    pub url: &'a str,
    /// The access token that comes with the proof, if one does.
    pub access_token: Option<&'a str>,
    /// The nonce that the proof has to hold. `None`: any or none; it is in the [`Proof`].
    pub nonce: Option<&'a str>,
    /// Now, in seconds since the epoch.
    pub now: i64,
    /// How old a proof may be, in seconds.
    pub window: i64,
}

/// A proof that fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The thumbprint of the key, to compare with a token's `cnf.jkt` (§6.1).
    pub jkt: String,
    /// The id; a second use of it with the same key is a replay (§11.1).
    pub jti: String,
    /// When it was made, in seconds since the epoch.
    pub iat: i64,
    /// The nonce in it.
    pub nonce: Option<String>,
}

/// Why a proof is refused. The proof itself is never in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// It is not a well-formed token, or not signed by the key in it.
    #[error("DPoP proof: {0}")]
    Jws(#[from] JwsError),
    /// Its `typ` is not `dpop+jwt`.
    #[error("DPoP proof: typ is not dpop+jwt")]
    Type,
    /// It is for another method.
    #[error("DPoP proof: htm is another method")]
    Method,
    /// It is for another URL.
    #[error("DPoP proof: htu is another URL")]
    Url,
    /// It is older than the window, or from the future.
    #[error("DPoP proof: iat is not within the window")]
    Time,
    /// `ath` is missing or of another token.
    #[error("DPoP proof: ath is not the hash of the token")]
    AccessToken,
    /// `jti` is empty or longer than [`MAX_JTI`].
    #[error("DPoP proof: jti is empty or too long")]
    Jti,
    /// It has to hold the nonce that the server gives (§8), and does not: `use_dpop_nonce`.
    #[error("DPoP proof: it has to hold the nonce of the server")]
    Nonce,
}

/// Checks a proof against the request it came with.
///
/// # Errors
/// As [`DpopError`] says. The nonce is looked at last: who gets [`DpopError::Nonce`] need only add it.
pub fn check(proof: &str, expect: &Expect<'_>) -> Result<Proof, DpopError> {
    let (jws, key) = Jws::parse_with_key(proof)?;
    if !jws.is_typ("dpop+jwt") {
        return Err(DpopError::Type);
    }
    let claims = jws.verify(&key)?;
    if claims.text("htm")? != expect.method {
        return Err(DpopError::Method);
    }
    let (htu, url) = (normal(claims.text("htu")?), normal(expect.url));
    if htu.is_none() || htu != url {
        return Err(DpopError::Url);
    }
    let iat = claims.date("iat")?.ok_or(JwsError::Claim("iat"))?;
    if iat > expect.now + FUTURE_SKEW || iat < expect.now - expect.window {
        return Err(DpopError::Time);
    }
    if let Some(token) = expect.access_token {
        check_token(&claims, token)?;
    }
    let jti = claims.text("jti")?;
    if jti.is_empty() || jti.len() > MAX_JTI {
        return Err(DpopError::Jti);
    }
    let nonce = nonce(&claims)?;
    if let Some(expected) = expect.nonce
        && !nonce.is_some_and(|nonce| same(nonce, expected))
    {
        return Err(DpopError::Nonce);
    }
    Ok(Proof { jkt: key.thumbprint(), jti: jti.to_owned(), iat, nonce: nonce.map(ToOwned::to_owned) })
}

/// The value of `ath` for an access token (§4.2).
#[must_use]
pub fn token_hash(token: &str) -> String {
    BASE64URL.encode(digest::digest(&digest::SHA256, token.as_bytes()))
}

fn check_token(claims: &Claims, token: &str) -> Result<(), DpopError> {
    let ath = claims.text("ath").map_err(|_| DpopError::AccessToken)?;
    if same(ath, &token_hash(token)) { Ok(()) } else { Err(DpopError::AccessToken) }
}

fn nonce(claims: &Claims) -> Result<Option<&str>, DpopError> {
    if claims.get("nonce").is_none() {
        return Ok(None);
    }
    let nonce = claims.text("nonce")?;
    if nonce.len() > MAX_NONCE { Err(JwsError::Claim("nonce").into()) } else { Ok(Some(nonce)) }
}

fn same(a: &str, b: &str) -> bool {
    constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

/// An http or https URL without query and fragment, normalised by syntax and scheme (RFC 3986
/// §6.2.2, §6.2.3): case of scheme, host and percent-encoding, what need not be encoded, dot
/// segments, the default port, the empty path. `None` if it is not such a URL.
fn normal(text: &str) -> Option<String> {
    // What is no character of a URI (RFC 3986 §2) would be repaired by a parser made for browsers.
    let is_uri = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(&b));
    if !is_uri {
        return None;
    }
    let mut url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = decode_unreserved(url.path())?;
    // Once more: a dot segment may have been encoded.
    url.set_path(&path);
    Some(url.into())
}

/// Decodes the percent-encoded characters that need not be, and writes the others in upper case.
fn decode_unreserved(path: &str) -> Option<String> {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, encoded)) = rest.split_once('%') {
        normal.push_str(before);
        let digits = encoded.get(..2).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            normal.push(char::from(byte));
        } else {
            normal.push_str(&format!("%{byte:02X}"));
        }
        rest = &encoded[2..];
    }
    normal.push_str(rest);
    Some(normal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_mean_the_same_are_the_same() {
        for (a, b) in [
            ("https://api.acme.example/a?x=1#y", "https://api.acme.example/a"),
            ("HTTPS://API.Acme.Example:443/a", "https://api.acme.example/a"),
            ("http://api.acme.example:80", "http://api.acme.example/"),
            ("https://api.acme.example/%7emaria/%c3%a9", "https://api.acme.example/~maria/%C3%A9"),
            ("https://api.acme.example/a/./b/../c", "https://api.acme.example/a/c"),
            ("https://api.acme.example/a/%2e%2E/c", "https://api.acme.example/c"),
        ] {
            assert_eq!(normal(a), normal(b), "{a}");
            assert!(normal(a).is_some(), "{a}");
        }
    }

    #[test]
    fn urls_that_differ_stay_different() {
        for (a, b) in [
            ("https://api.acme.example/a", "http://api.acme.example/a"),
            ("https://api.acme.example/a", "https://api.acme.example:8443/a"),
            ("https://api.acme.example/a", "https://api.acme.example/A"),
            ("https://api.acme.example/a", "https://api.acme.example/a/"),
            ("https://api.acme.example/a%2Fb", "https://api.acme.example/a/b"),
            ("https://api.acme.example/a", "https://api.acme.example.evil.example/a"),
        ] {
            assert_ne!(normal(a), normal(b), "{a}");
        }
    }

    #[test]
    fn what_is_not_an_http_url_is_none() {
        for text in [
            "",
            "/a",
            "ftp://api.acme.example/a",
            "https://maria@api.acme.example/a",
            "https://api.acme.example\\a",
            "https://api.acme.example/a b",
            "https://api.acme.example/a\n",
            "https://api.acme.example/%zz",
            "https://api.acme.example/%+1",
            "https://api.acme.example/é",
        ] {
            assert_eq!(normal(text), None, "{text}");
        }
    }
}
