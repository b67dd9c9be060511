//! Headers and claims: what is refused before and after the signature.

use portcullis_verify::{
    jwk::Algorithm,
    jws::{Claims, Jws, JwsError, MAX_TOKEN},
};
use serde::Deserialize;

use crate::signing::Signing;

fn claims(text: &str) -> Claims {
    let key = Signing::new(Algorithm::EdDsa);
    let token = key.token(r#"{"alg":"EdDSA"}"#, text);
    Jws::parse(&token).unwrap().verify(&key.public()).unwrap()
}

fn refused(header: &str) -> Option<JwsError> {
    Jws::parse(&Signing::new(Algorithm::EdDsa).token(header, "{}")).err()
}

#[test]
fn a_header_that_asks_for_what_is_not_understood_is_refused() {
    for name in ["crit", "b64", "enc", "zip", "jku", "x5u", "x5c", "jwk"] {
        let header = format!(r#"{{"alg":"EdDSA","{name}":[]}}"#);
        assert_eq!(refused(&header), Some(JwsError::Header(name)), "{name}");
    }
    for name in ["typ", "kid"] {
        let header = format!(r#"{{"alg":"EdDSA","{name}":1}}"#);
        assert_eq!(refused(&header), Some(JwsError::Header(name)), "{name}");
    }
    assert_eq!(refused(r#"{"alg":"EdDSA","kid":"k","typ":"t","x5t":"AA","anything":{}}"#), None);
}

#[test]
fn an_algorithm_is_one_of_three_by_its_exact_name() {
    for alg in ["none", "None", "HS256", "ES384", "PS256", "RS1", "es256", "Ed25519", "", "EdDSA "] {
        assert_eq!(refused(&format!(r#"{{"alg":"{alg}"}}"#)), Some(JwsError::Algorithm), "{alg}");
    }
    for header in ["{}", r#"{"alg":1}"#, r#"{"alg":["EdDSA"]}"#, r#"{"alg":null}"#] {
        assert_eq!(refused(header), Some(JwsError::Algorithm), "{header}");
    }
    assert_eq!(refused(r#"{"alg":"EdDSA","alg":"EdDSA"}"#), Some(JwsError::Malformed("header")));
}

#[test]
fn the_key_decides_on_the_algorithm_and_not_the_token() {
    let (ec, ed) = (Signing::new(Algorithm::Es256), Signing::new(Algorithm::EdDsa));
    let token = ec.token(r#"{"alg":"EdDSA"}"#, "{}");
    assert_eq!(Jws::parse(&token).unwrap().verify(&ec.public()), Err(JwsError::OtherAlgorithm));
    assert_eq!(Jws::parse(&token).unwrap().verify(&ed.public()), Err(JwsError::Signature));
}

#[test]
fn typ_is_compared_as_a_media_type() {
    let is = |typ: &str| {
        let token = Signing::new(Algorithm::EdDsa).token(&format!(r#"{{"alg":"EdDSA","typ":"{typ}"}}"#), "{}");
        Jws::parse(&token).unwrap().is_typ("at+jwt")
    };
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+jwt"] {
        assert!(is(typ), "{typ}");
    }
    for typ in ["", "JWT", "at+jwt ", "at+jwt;x", "text/at+jwt", "application/application/at+jwt", "application/é"]
    {
        assert!(!is(typ), "{typ}");
    }
    let without = Signing::new(Algorithm::EdDsa).token(r#"{"alg":"EdDSA"}"#, "{}");
    assert!(!Jws::parse(&without).unwrap().is_typ("at+jwt"));
}

#[test]
fn a_token_has_exactly_three_parts_of_canonical_base64url() {
    let key = Signing::new(Algorithm::EdDsa);
    let good = key.token(r#"{"alg":"EdDSA","x":""}"#, r#"{"a":1}"#);
    assert!(Jws::parse(&good).is_ok());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        format!("{header}.{payload}"),
        format!("{good}."),
        format!("{good}.{payload}"),
        format!(".{good}"),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.{signature}=="),
        format!("{header}.{payload}.{}+", &signature[1..]),
        format!("{header}..{signature}"),
        format!("{header}.{payload}.{}", "A".repeat(700)),
        key.token(r#"["alg"]"#, "{}"),
        key.token(r#"{"alg":"EdDSA"}"#, "[]"),
        key.token(r#"{"alg":"EdDSA"}"#, r#"{"a":1,"a":1}"#),
        key.token(r#"{"alg":"EdDSA"}"#, r#"{"a":{"b":1,"b":2}}"#),
    ] {
        assert!(matches!(Jws::parse(&bad), Err(JwsError::Malformed(_))), "{bad}");
    }
    let long = key.token(r#"{"alg":"EdDSA"}"#, &format!(r#"{{"a":"{}"}}"#, "a".repeat(MAX_TOKEN)));
    assert_eq!(Jws::parse(&long).err(), Some(JwsError::TooLong));
}

#[test]
fn a_date_is_a_number_and_never_a_text() {
    assert_eq!(claims(r#"{"exp":12}"#).date("exp"), Ok(Some(12)));
    assert_eq!(claims(r#"{"exp":12.9}"#).date("exp"), Ok(Some(12)));
    assert_eq!(claims("{}").date("exp"), Ok(None));
    for bad in [r#""12""#, "-1", "1e300", "null", "[12]", "true", "9007199254740992"] {
        assert_eq!(claims(&format!(r#"{{"exp":{bad}}}"#)).date("exp"), Err(JwsError::Claim("exp")), "{bad}");
    }
}

#[test]
fn times_are_checked_with_the_leeway_on_both_sides() {
    let check = |text: &str| claims(text).check_times(100, 5);
    assert_eq!(check(r#"{"exp":96,"nbf":105,"iat":105}"#), Ok(()));
    assert_eq!(check("{}"), Ok(()));
    assert_eq!(check(r#"{"exp":95}"#), Err(JwsError::Expired));
    assert_eq!(check(r#"{"nbf":106}"#), Err(JwsError::NotYet));
    assert_eq!(check(r#"{"iat":106}"#), Err(JwsError::NotYet));
    assert_eq!(check(r#"{"nbf":"1"}"#), Err(JwsError::Claim("nbf")));
}

#[test]
fn an_audience_is_a_text_or_several() {
    assert_eq!(claims(r#"{"aud":"a"}"#).audiences(), Ok(vec!["a"]));
    assert_eq!(claims(r#"{"aud":["a","b"]}"#).audiences(), Ok(vec!["a", "b"]));
    for bad in ["{}", r#"{"aud":[]}"#, r#"{"aud":["a",1]}"#, r#"{"aud":1}"#, r#"{"aud":null}"#] {
        assert_eq!(claims(bad).audiences(), Err(JwsError::Claim("aud")), "{bad}");
    }
}

#[test]
fn claims_can_be_read_into_a_type_of_ones_own() {
    #[derive(Deserialize)]
    struct Assertion {
        iss: String,
        jti: String,
    }
    let assertion: Assertion = claims(r#"{"iss":"pc_1","jti":"j","x":1}"#).typed().unwrap();
    assert_eq!((assertion.iss.as_str(), assertion.jti.as_str()), ("pc_1", "j"));
    assert!(claims(r#"{"iss":1,"jti":"j"}"#).typed::<Assertion>().is_err());
}
