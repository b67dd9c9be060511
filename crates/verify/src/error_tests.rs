use crate::jwk::JwkError;

use super::*;

const DPOP: &str = r#"DPoP algs="ES256 EdDSA RS256""#;

fn challenge(error: &Error) -> (u16, Vec<String>) {
    let Challenge { status, www_authenticate, .. } = Challenges::default().of(error);
    (status, www_authenticate)
}

fn refused(scheme: Scheme, why: Refusal) -> Error {
    Error::Token { scheme, why }
}

#[test]
fn without_a_token_there_is_no_error_code() {
    assert_eq!(challenge(&Error::NoToken), (401, vec!["Bearer".to_owned(), DPOP.to_owned()]));
    let dpop_only = Challenges { dpop_only: true, resource_metadata: None };
    assert_eq!(dpop_only.of(&Error::NoToken).www_authenticate, [DPOP]);
}

#[test]
fn a_token_is_refused_under_the_scheme_it_came_with() {
    for why in [
        Refusal::Jws(JwsError::Expired),
        Refusal::Type,
        Refusal::Issuer,
        Refusal::Audience,
        Refusal::UnknownKey,
        Refusal::Binding,
        Refusal::Revoked,
        Refusal::Suspended,
        Refusal::NotListed,
        Refusal::OtherKey,
    ] {
        let rest = format!(r#"error="invalid_token", error_description="the token is refused: {why}""#);
        assert_eq!(challenge(&refused(Scheme::Bearer, why)), (401, vec![format!("Bearer {rest}")]));
        assert_eq!(challenge(&refused(Scheme::Dpop, why)), (401, vec![format!("{DPOP}, {rest}")]));
    }
}

#[test]
fn a_token_under_the_wrong_scheme_is_told_the_right_one() {
    let says = |challenges: &Challenges, scheme, why| {
        let said = challenges.of(&refused(scheme, why));
        assert_eq!(said.status, 401);
        assert!(said.www_authenticate[0].contains(r#"error="invalid_token""#));
        said.www_authenticate[0].split(' ').next().unwrap().to_owned()
    };
    let either = Challenges::default();
    assert_eq!(says(&either, Scheme::Bearer, Refusal::IsBound), "DPoP");
    assert_eq!(says(&either, Scheme::Dpop, Refusal::NotBound), "Bearer");
    let dpop_only = Challenges { dpop_only: true, resource_metadata: None };
    assert_eq!(says(&dpop_only, Scheme::Bearer, Refusal::NotBound), "DPoP");
    assert_eq!(says(&dpop_only, Scheme::Dpop, Refusal::NotBound), "DPoP");
}

#[test]
fn a_proof_that_is_refused_is_an_invalid_dpop_proof() {
    for why in [ProofRefusal::NotOne, ProofRefusal::Replayed, ProofRefusal::Dpop(DpopError::Url)] {
        let expected = format!(r#"{DPOP}, error="invalid_dpop_proof", error_description="{why}""#);
        assert_eq!(challenge(&Error::Proof(why)), (401, vec![expected]));
    }
}

#[test]
fn a_missing_scope_is_named() {
    let error = |scheme| Error::Scope { scheme, required: "orders:read orders:write".into() };
    let rest = r#"error="insufficient_scope", error_description="the scope orders:read orders:write is needed", scope="orders:read orders:write""#;
    assert_eq!(challenge(&error(Scheme::Bearer)), (403, vec![format!("Bearer {rest}")]));
    assert_eq!(challenge(&error(Scheme::Dpop)), (403, vec![format!("{DPOP}, {rest}")]));
}

#[test]
fn a_request_that_is_not_well_formed_is_400() {
    let expected = r#"Bearer error="invalid_request", error_description="the token comes twice""#;
    assert_eq!(challenge(&Error::Request("the token comes twice")), (400, vec![expected.to_owned()]));
}

#[test]
fn what_cannot_be_said_now_is_503_and_never_invalid_token() {
    for why in [Unavailable::Keys, Unavailable::Stale, Unavailable::List, Unavailable::Proofs] {
        let said = Challenges::default().of(&why.into());
        assert_eq!((said.status, said.www_authenticate, said.retry_after), (503, vec![], Some(1)));
    }
}

#[test]
fn the_metadata_of_the_api_are_named_in_every_challenge() {
    let challenges = Challenges {
        dpop_only: false,
        resource_metadata: Some("https://api.acme.example/.well-known/oauth-protected-resource".into()),
    };
    let ending = r#"resource_metadata="https://api.acme.example/.well-known/oauth-protected-resource""#;
    for error in [
        Error::NoToken,
        Error::Request("x"),
        refused(Scheme::Bearer, Refusal::Revoked),
        ProofRefusal::NotOne.into(),
        Error::Scope { scheme: Scheme::Dpop, required: "a".into() },
    ] {
        for header in challenges.of(&error).www_authenticate {
            assert!(header.ends_with(ending), "{header}");
        }
    }
}

#[test]
fn every_description_may_stand_between_quotes() {
    let jwk = DpopError::Jws(JwsError::Key(JwkError::Unsupported("of the curves, P-256 is")));
    for error in [
        refused(Scheme::Bearer, JwsError::Claim("exp").into()),
        refused(Scheme::Bearer, JwsError::Header("crit").into()),
        Error::Proof(jwk.into()),
        Error::NoToken,
    ] {
        assert!(is_quotable(&error.to_string()), "{error}");
    }
    assert!(!is_quotable("a\"b") && !is_quotable("a\\b") && !is_quotable("a\nb") && !is_quotable("é"));
}

#[test]
fn what_is_judged_not_good_is_an_error_of_its_own_kind() {
    let from = |why| Error::from_judgement(Scheme::Bearer, why);
    assert_eq!(from(NotGood::Revoked), refused(Scheme::Bearer, Refusal::Revoked));
    assert_eq!(from(NotGood::Suspended), refused(Scheme::Bearer, Refusal::Suspended));
    assert_eq!(from(NotGood::OutOfList), refused(Scheme::Bearer, Refusal::NotListed));
    assert_eq!(from(NotGood::Stale), Unavailable::Stale.into());
}
