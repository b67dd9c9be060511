//! The status list in its JWT form (Token Status List §5.1), read. Pure: the clock is passed in.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde_json::Value;

use crate::jws::{Claims, Jws, JwsError};

/// The longest list that is looked at, in bytes: compressed, and as it is then.
pub(crate) const LONGEST: usize = 8 * 1024 * 1024;
const LONGEST_VALUES: usize = 16 * 1024 * 1024;

/// Why a text is not taken as the status list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    #[error("{0}")]
    Jws(#[from] JwsError),
    #[error("its typ is not statuslist+jwt")]
    Type,
    #[error("it is from another issuer")]
    Issuer,
    #[error("its sub is not where it came from")]
    Subject,
    #[error("its values are not two bits each, compressed with zlib")]
    Values,
}

/// A list as it came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) values: Vec<u8>,
    /// When its signature ends, in seconds since the epoch.
    pub(crate) expires_at: i64,
}

/// Reads what is signed, to find the key by its `kid`.
pub(crate) fn parse(text: &str) -> Result<Jws<'_>, ListError> {
    let jws = Jws::parse_up_to(text, LONGEST)?;
    if !jws.is_typ("statuslist+jwt") {
        return Err(ListError::Type);
    }
    Ok(jws)
}

/// Checks the claims of a list whose signature was checked.
pub(crate) fn check(claims: &Claims, issuer: &str, uri: &str, now: i64, leeway: i64) -> Result<Read, ListError> {
    if claims.text("iss")? != issuer {
        return Err(ListError::Issuer);
    }
    if claims.text("sub")? != uri {
        return Err(ListError::Subject);
    }
    claims.date("iat")?.ok_or(JwsError::Claim("iat"))?;
    let expires_at = claims.date("exp")?.ok_or(JwsError::Claim("exp"))?;
    claims.check_times(now, leeway)?;
    let list = claims.get("status_list").ok_or(JwsError::Claim("status_list"))?;
    if list.get("bits").and_then(Value::as_u64) != Some(2) {
        return Err(ListError::Values);
    }
    let lst = list.get("lst").and_then(Value::as_str).ok_or(ListError::Values)?;
    let compressed = BASE64URL.decode(lst).map_err(|_| ListError::Values)?;
    let values = decompress_to_vec_zlib_with_limit(&compressed, LONGEST_VALUES).map_err(|_| ListError::Values)?;
    Ok(Read { values, expires_at })
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
    use miniz_oxide::deflate::compress_to_vec_zlib;
    use serde_json::json;

    use super::*;
    use crate::jwk::PublicJwk;

    const NOW: i64 = 1_700_000_000;
    const URI: &str = "https://id.acme.example/oauth/status";

    fn good() -> Value {
        let lst = BASE64URL.encode(compress_to_vec_zlib(&[0b01_10_00_00, 7], 6));
        json!({
            "iss": "https://id.acme.example", "sub": URI, "iat": NOW, "exp": NOW + 300, "ttl": 1,
            "status_list": {"bits": 2, "lst": lst},
        })
    }

    fn read(typ: &str, claims: &Value) -> Result<Read, ListError> {
        let pair = Ed25519KeyPair::generate().unwrap();
        let header = format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"k"}}"#);
        let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims.to_string()));
        let text = format!("{signed}.{}", BASE64URL.encode(pair.sign(signed.as_bytes())));
        let x = BASE64URL.encode(pair.public_key());
        let key = PublicJwk::parse(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)).unwrap();
        check(&parse(&text)?.verify(&key)?, "https://id.acme.example", URI, NOW, 5)
    }

    fn with(member: &str, value: Value) -> Result<Read, ListError> {
        let mut claims = good();
        claims[member] = value;
        read("statuslist+jwt", &claims)
    }

    #[test]
    fn a_list_is_read() {
        let expected = Read { values: vec![0b01_10_00_00, 7], expires_at: NOW + 300 };
        assert_eq!(read("statuslist+jwt", &good()), Ok(expected));
    }

    #[test]
    fn what_is_not_this_list_is_refused() {
        assert_eq!(read("at+jwt", &good()), Err(ListError::Type));
        assert_eq!(with("iss", json!("https://evil.example")), Err(ListError::Issuer));
        assert_eq!(with("sub", json!("https://id.acme.example/oauth/other")), Err(ListError::Subject));
        assert_eq!(with("exp", json!(NOW - 5)), Err(JwsError::Expired.into()));
        assert_eq!(with("exp", json!(null)), Err(JwsError::Claim("exp").into()));
        assert_eq!(with("iat", json!(NOW + 6)), Err(JwsError::NotYet.into()));
        assert_eq!(with("status_list", json!(null)), Err(ListError::Values));
        let zlib = good()["status_list"]["lst"].clone();
        for list in [
            json!({"bits": 1, "lst": zlib}),
            json!({"lst": zlib}),
            json!({"bits": 2}),
            json!({"bits": 2, "lst": "%"}),
            json!({"bits": 2, "lst": "AAAA"}),
        ] {
            assert_eq!(with("status_list", list), Err(ListError::Values));
        }
    }

    #[test]
    fn a_list_that_grows_without_end_is_refused() {
        let bomb = compress_to_vec_zlib(&vec![0; LONGEST_VALUES + 1], 9);
        assert!(bomb.len() < 100_000);
        let list = json!({"bits": 2, "lst": BASE64URL.encode(bomb)});
        assert_eq!(with("status_list", list), Err(ListError::Values));
    }
}
