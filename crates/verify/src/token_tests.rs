use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};

use crate::jwk::PublicJwk;

use super::*;

const NOW: i64 = 1_700_000_000;

fn policy() -> Policy {
    Policy {
        issuer: "https://id.acme.example".into(),
        audience: "https://orders.acme.example".into(),
        status_uri: "https://id.acme.example/oauth/status".into(),
        leeway: 5,
    }
}

fn good() -> Value {
    json!({
        "iss": "https://id.acme.example", "sub": "pc_1", "client_id": "pc_1",
        "aud": "https://orders.acme.example", "iat": NOW, "exp": NOW + 60, "jti": "j1",
        "scope": "orders:read orders:write",
        "status": {"status_list": {"idx": 3, "uri": "https://id.acme.example/oauth/status"}},
    })
}

fn with(member: &str, value: Value) -> Value {
    let mut claims = good();
    claims[member] = value;
    claims
}

fn without(member: &str) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().remove(member);
    claims
}

fn sign(header: &str, claims: &Value) -> (String, PublicJwk) {
    let pair = Ed25519KeyPair::generate().unwrap();
    let signed = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims.to_string()));
    let token = format!("{signed}.{}", BASE64URL.encode(pair.sign(signed.as_bytes())));
    let x = BASE64URL.encode(pair.public_key());
    (token, PublicJwk::parse(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#)).unwrap())
}

fn checked(claims: &Value) -> Result<AccessToken, Refusal> {
    let (token, key) = sign(r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k"}"#, claims);
    check(&read(&token)?.verify(&key)?, Scheme::Bearer, &policy(), NOW)
}

#[test]
fn a_good_token_says_what_it_is() {
    let token = checked(&good()).unwrap();
    assert_eq!((token.id(), token.subject(), token.client_id()), ("j1", "pc_1", "pc_1"));
    assert_eq!((token.issued_at(), token.expires_at(), token.idx), (NOW, NOW + 60, 3));
    assert_eq!((token.key_thumbprint(), token.scheme()), (None, Scheme::Bearer));
    assert_eq!(token.scopes(), ["orders:read", "orders:write"]);
}

#[test]
fn a_scope_is_there_whole_or_not_at_all() {
    let token = checked(&good()).unwrap();
    assert!(token.require_scope("orders:read").is_ok());
    assert!(token.require_scope("orders:write orders:read").is_ok());
    assert!(token.require_scope("").is_ok());
    for required in ["orders", "orders:read orders:delete", "ORDERS:READ"] {
        let refused = Error::Scope { scheme: Scheme::Bearer, required: required.to_owned() };
        assert_eq!(token.require_scope(required), Err(refused));
    }
    assert_eq!(checked(&without("scope")).unwrap().scopes(), [""; 0]);
}

#[test]
fn the_header_says_access_token_and_names_a_key() {
    for (header, why) in [
        (r#"{"alg":"EdDSA","typ":"JWT","kid":"k"}"#, Refusal::Type),
        (r#"{"alg":"EdDSA","kid":"k"}"#, Refusal::Type),
        (r#"{"alg":"EdDSA","typ":"statuslist+jwt","kid":"k"}"#, Refusal::Type),
        (r#"{"alg":"EdDSA","typ":"at+jwt"}"#, JwsError::Header("kid").into()),
        (r#"{"alg":"EdDSA","typ":"at+jwt","kid":"k","jwk":{}}"#, JwsError::Header("jwk").into()),
    ] {
        assert_eq!(read(&sign(header, &good()).0).err(), Some(why), "{header}");
    }
    assert!(read(&sign(r#"{"alg":"EdDSA","typ":"application/at+jwt","kid":"k"}"#, &good()).0).is_ok());
}

#[test]
fn issuer_and_audience_are_compared_to_the_byte() {
    assert_eq!(checked(&with("iss", json!("https://id.acme.example/"))), Err(Refusal::Issuer));
    assert_eq!(checked(&with("iss", json!("HTTPS://id.acme.example"))), Err(Refusal::Issuer));
    assert_eq!(checked(&with("aud", json!("https://orders.acme.example/"))), Err(Refusal::Audience));
    assert_eq!(checked(&with("aud", json!(["https://id.acme.example"]))), Err(Refusal::Audience));
    assert!(checked(&with("aud", json!(["x", "https://orders.acme.example"]))).is_ok());
}

#[test]
fn what_has_to_be_there_has_to_be_there() {
    for name in ["iss", "sub", "client_id", "aud", "iat", "exp", "jti", "status"] {
        assert_eq!(checked(&without(name)), Err(JwsError::Claim(name).into()), "{name}");
        let wrong = checked(&with(name, json!({"a": 1})));
        assert_eq!(wrong, Err(JwsError::Claim(name).into()), "{name} of another type");
    }
    assert_eq!(checked(&with("scope", json!(["a"]))), Err(JwsError::Claim("scope").into()));
    assert_eq!(checked(&with("jti", json!(""))), Err(JwsError::Claim("jti").into()));
    assert_eq!(checked(&with("jti", json!("j".repeat(257)))), Err(JwsError::Claim("jti").into()));
    assert_eq!(checked(&with("exp", json!((NOW + 60).to_string()))), Err(JwsError::Claim("exp").into()));
}

#[test]
fn a_token_has_its_time() {
    assert!(checked(&with("exp", json!(NOW - 4))).is_ok());
    assert_eq!(checked(&with("exp", json!(NOW - 5))), Err(JwsError::Expired.into()));
    assert_eq!(checked(&with("iat", json!(NOW + 6))), Err(JwsError::NotYet.into()));
    assert_eq!(checked(&with("nbf", json!(NOW + 6))), Err(JwsError::NotYet.into()));
}

#[test]
fn the_status_is_on_the_list_of_the_issuer() {
    for status in [
        json!({}),
        json!({"status_list": {"idx": 3}}),
        json!({"status_list": {"idx": 3, "uri": "https://evil.example/oauth/status"}}),
        json!({"status_list": {"idx": -1, "uri": "https://id.acme.example/oauth/status"}}),
        json!({"status_list": {"idx": "3", "uri": "https://id.acme.example/oauth/status"}}),
    ] {
        assert_eq!(checked(&with("status", status)), Err(JwsError::Claim("status").into()));
    }
}

#[test]
fn a_binding_that_cannot_be_checked_is_not_ignored() {
    let bound = checked(&with("cnf", json!({"jkt": "t"}))).unwrap();
    assert_eq!(bound.key_thumbprint(), Some("t"));
    for cnf in [
        json!({}),
        json!("t"),
        json!(null),
        json!({"x5t#S256": "t"}),
        json!({"jkt": 1}),
        json!({"jkt": "t", "x": 1}),
    ] {
        assert_eq!(checked(&with("cnf", cnf)), Err(Refusal::Binding));
    }
}
