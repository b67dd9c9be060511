//! RFC 9449 §4.3, condition by condition.

use portcullis_verify::{
    dpop::{self, DpopError, Expect, FUTURE_SKEW, MAX_JTI, token_hash},
    jwk::{Algorithm, JwkError},
    jws::JwsError,
};

use crate::signing::Signing;

const NOW: i64 = 1_700_000_000;
const TOKEN: &str = "a.b.c";

fn expect() -> Expect<'static> {
    Expect {
        method: "GET",
        url: "https://api.acme.example/orders?page=2",
        access_token: Some(TOKEN),
        nonce: None,
        now: NOW,
        window: 60,
    }
}

fn header(key: &Signing) -> String {
    format!(r#"{{"typ":"dpop+jwt","alg":"{}","jwk":{}}}"#, key.algorithm(), key.public().to_json())
}

fn claims() -> String {
    format!(
        r#"{{"jti":"j1","htm":"GET","htu":"https://api.acme.example/orders","iat":{NOW},"ath":"{}"}}"#,
        token_hash(TOKEN)
    )
}

fn with(claims: &str) -> Result<dpop::Proof, DpopError> {
    let key = Signing::new(Algorithm::Es256);
    dpop::check(&key.token(&header(&key), claims), &expect())
}

#[test]
fn a_proof_by_a_key_of_each_kind_is_taken() {
    for algorithm in Algorithm::ALL {
        let key = Signing::new(algorithm);
        let proof = dpop::check(&key.token(&header(&key), &claims()), &expect()).unwrap();
        assert_eq!((proof.jti.as_str(), proof.iat, proof.nonce), ("j1", NOW, None));
        assert_eq!(proof.jkt, key.public().thumbprint());
    }
}

#[test]
fn the_header_names_the_type_the_algorithm_and_the_public_key() {
    let (key, other) = (Signing::new(Algorithm::Es256), Signing::new(Algorithm::Es256));
    let check = |header: &str| dpop::check(&key.token(header, &claims()), &expect());
    let good = header(&key);
    assert_eq!(check(&good.replace("dpop+jwt", "jwt")), Err(DpopError::Type));
    assert_eq!(check(&good.replace(r#""typ":"dpop+jwt","#, "")), Err(DpopError::Type));
    assert_eq!(check(&good.replace("ES256", "none")), Err(JwsError::Algorithm.into()));
    assert_eq!(check(&good.replace("ES256", "HS256")), Err(JwsError::Algorithm.into()));
    assert_eq!(check(&good.replace("ES256", "EdDSA")), Err(JwsError::OtherAlgorithm.into()));
    assert_eq!(check(r#"{"typ":"dpop+jwt","alg":"ES256"}"#), Err(JwsError::Header("jwk").into()));
    assert_eq!(
        check(&good.replace("{\"crv", "{\"d\":\"AA\",\"crv")),
        Err(JwsError::Key(JwkError::Private).into())
    );
    assert_eq!(check(&header(&other)), Err(JwsError::Signature.into()), "signed by another key");
    assert_eq!(check(&good.replace("\"typ\"", "\"crit\":[\"x\"],\"typ\"")), Err(JwsError::Header("crit").into()));
}

#[test]
fn every_claim_has_to_be_there_and_to_fit() {
    let good = claims();
    assert!(with(&good).is_ok());
    for (from, to, error) in [
        (r#""htm":"GET""#, r#""htm":"get""#, DpopError::Method),
        (r#""htm":"GET""#, r#""htm":"POST""#, DpopError::Method),
        (r#""htm":"GET","#, "", JwsError::Claim("htm").into()),
        ("/orders", "/orders/1", DpopError::Url),
        ("https://api", "http://api", DpopError::Url),
        ("https://api.acme.example/orders", "/orders", DpopError::Url),
        (r#""htu":"#, r#""hta":"#, JwsError::Claim("htu").into()),
        (r#""iat":"#, r#""ait":"#, JwsError::Claim("iat").into()),
        (r#""iat":1700000000"#, r#""iat":"1700000000""#, JwsError::Claim("iat").into()),
        (r#""jti":"j1""#, r#""jti":"""#, DpopError::Jti),
        (r#""jti":"j1","#, "", JwsError::Claim("jti").into()),
        (r#""ath":""#, r#""ath":"A"#, DpopError::AccessToken),
        (r#""ath":"#, r#""hat":"#, DpopError::AccessToken),
    ] {
        assert!(good.contains(from), "{from}");
        assert_eq!(with(&good.replace(from, to)), Err(error), "{to}");
    }
    assert!(with(&good.replace("j1", &"j".repeat(MAX_JTI))).is_ok());
    assert_eq!(with(&good.replace("j1", &"j".repeat(MAX_JTI + 1))), Err(DpopError::Jti));
    assert!(with(&good.replace("https://api.acme.example", "HTTPS://API.acme.example:443")).is_ok());
}

#[test]
fn a_proof_is_taken_within_the_window() {
    let at = |iat: i64| with(&claims().replace(&NOW.to_string(), &iat.to_string()));
    for iat in [NOW - 60, NOW, NOW + FUTURE_SKEW] {
        assert!(at(iat).is_ok(), "{iat}");
    }
    for iat in [0, NOW - 61, NOW + FUTURE_SKEW + 1] {
        assert_eq!(at(iat), Err(DpopError::Time), "{iat}");
    }
}

#[test]
fn without_an_access_token_no_ath_is_asked_for() {
    let key = Signing::new(Algorithm::EdDsa);
    let proof = key.token(&header(&key), &claims().replace("ath", "hat"));
    assert!(dpop::check(&proof, &Expect { access_token: None, ..expect() }).is_ok());
}

#[test]
fn the_nonce_is_looked_at_last() {
    let key = Signing::new(Algorithm::EdDsa);
    let check = |claims: &str, nonce| {
        dpop::check(&key.token(&header(&key), claims), &Expect { nonce: Some(nonce), ..expect() })
    };
    let with_nonce = claims().replace(r#""jti""#, r#""nonce":"n1","jti""#);
    assert_eq!(check(&with_nonce, "n1").unwrap().nonce.as_deref(), Some("n1"));
    assert_eq!(check(&with_nonce, "n2"), Err(DpopError::Nonce));
    assert_eq!(check(&claims(), "n1"), Err(DpopError::Nonce));
    assert_eq!(check(&claims().replace("GET", "PUT"), "n1"), Err(DpopError::Method));
    let number = claims().replace(r#""jti""#, r#""nonce":1,"jti""#);
    assert_eq!(check(&number, "1"), Err(JwsError::Claim("nonce").into()));
    let long = with_nonce.replace("n1", &"n".repeat(513));
    assert_eq!(check(&long, "n1"), Err(JwsError::Claim("nonce").into()));
}
