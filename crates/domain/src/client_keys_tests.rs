//! The rules of keys and assertions as sentences.

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    accounts::{Role, Status, UserId},
    credentials::{CREDENTIAL_LASTS, ClientId, RevocationReason},
    secret::DigestKey,
    sessions::Opened,
};

const ACTS: [KeyAct; 4] = [KeyAct::Bind, KeyAct::Remove, KeyAct::SecretOff, KeyAct::SecretOn];

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn owner() -> OwnerStanding {
    OwnerStanding {
        role: (Role::SuperAdmin, start()),
        status: (Status::Active, start()),
        mfa_since: None,
        has_password: true,
    }
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn local(id: UserId) -> Actor {
    Actor::Session { user: id, opened: Opened::Password, password_at: Some(start()) }
}

fn credential(key: bool, off: bool) -> Credential {
    Credential {
        id: Uuid::from_u128(1),
        owner: user(1),
        client_id: ClientId::new([1; 20]),
        digest: DigestKey::new("k", &[0; 32]).digest(b"x"),
        generated_at: start(),
        expires_at: start() + CREDENTIAL_LASTS,
        retired_at: None,
        revoked: None,
        key: key.then(|| ClientKey { jwk: "{}".into(), thumbprint: "t".into(), bound_at: start() }),
        secret_off_at: off.then(start),
        had_key: key,
    }
}

#[test]
fn c14_the_secret_binds_the_first_key_and_none_after_it_was_removed() {
    let (fresh, bound) = (credential(false, false), credential(true, false));
    let removed = Credential { key: None, ..bound.clone() };
    assert_eq!(bind_with_secret(&fresh), Ok(()));
    for held in [bound, removed] {
        assert_eq!(bind_with_secret(&held), Err(ClientKeyRefused::AlreadyBound));
    }
}

#[test]
fn c14_only_the_owner_in_a_local_session_without_mfa_changes_the_ways_in() {
    let held = credential(true, false);
    let demoted = OwnerStanding { role: (Role::User, start()), ..owner() };
    let no_password = OwnerStanding { has_password: false, ..owner() };
    let with_mfa = OwnerStanding { mfa_since: Some(start()), ..owner() };
    let federated = Actor::Session { user: user(1), opened: Opened::Provider, password_at: Some(start()) };
    for act in ACTS {
        let refused = |actor: &Actor, facts: &OwnerStanding| change(act, actor, facts, Some(&held), start());
        assert_eq!(refused(&local(user(1)), &demoted), Err(ClientKeyRefused::NotSuperAdmin));
        assert_eq!(refused(&Actor::Token { owner: user(1) }, &owner()), Err(ClientKeyRefused::ByToken), "T-4");
        assert_eq!(refused(&federated, &owner()), Err(ClientKeyRefused::FederatedLogin), "as C-4");
        assert_eq!(refused(&local(user(1)), &no_password), Err(ClientKeyRefused::NoLocalPassword), "as C-4");
        assert_eq!(refused(&local(user(1)), &with_mfa), Err(ClientKeyRefused::MfaOn), "as C-9");
        assert_eq!(refused(&local(user(2)), &owner()), Err(ClientKeyRefused::NotActive), "another's, as C-8");
        let none = change(act, &local(user(1)), &owner(), None, start());
        assert_eq!(none, Err(ClientKeyRefused::NotActive));
    }
    assert_eq!(change(KeyAct::Bind, &local(user(1)), &owner(), Some(&held), start()), Ok(()), "it is replaced");
}

#[test]
fn c14_a_dead_credential_takes_no_key() {
    let revoked = Credential { revoked: Some((start(), RevocationReason::ByOwner)), ..credential(false, false) };
    let refused = change(KeyAct::Bind, &local(user(1)), &owner(), Some(&revoked), start());
    assert_eq!(refused, Err(ClientKeyRefused::NotActive));
    let at_its_end = credential(false, false).expires_at;
    let held = credential(false, false);
    let refused = change(KeyAct::Bind, &local(user(1)), &owner(), Some(&held), at_its_end);
    assert_eq!(refused, Err(ClientKeyRefused::NotActive));
}

#[test]
fn c14_every_change_asks_for_a_recent_password() {
    let later = start() + SignedDuration::from_mins(5);
    for (act, held) in [
        (KeyAct::Bind, credential(false, false)),
        (KeyAct::Remove, credential(true, false)),
        (KeyAct::SecretOff, credential(true, false)),
        (KeyAct::SecretOn, credential(true, true)),
    ] {
        assert_eq!(change(act, &local(user(1)), &owner(), Some(&held), start()), Ok(()), "{act:?}");
        let refused = change(act, &local(user(1)), &owner(), Some(&held), later);
        assert_eq!(refused, Err(ClientKeyRefused::PasswordNeeded), "{act:?}");
    }
}

#[test]
fn c14_with_the_secret_the_first_key_is_bound_and_no_other() {
    assert_eq!(bind_with_secret(&credential(false, false)), Ok(()));
    assert_eq!(bind_with_secret(&credential(true, false)), Err(ClientKeyRefused::AlreadyBound));
}

#[test]
fn c15_what_cannot_be_is_refused_by_its_name() {
    let refused = |act, key, off| change(act, &local(user(1)), &owner(), Some(&credential(key, off)), start());
    assert_eq!(refused(KeyAct::Remove, false, false), Err(ClientKeyRefused::NoKey));
    assert_eq!(refused(KeyAct::SecretOff, false, false), Err(ClientKeyRefused::NoKey));
    assert_eq!(refused(KeyAct::Remove, true, true), Err(ClientKeyRefused::OnlyWayIn));
    assert_eq!(refused(KeyAct::SecretOff, true, true), Err(ClientKeyRefused::SecretOffAlready));
    assert_eq!(refused(KeyAct::SecretOn, true, false), Err(ClientKeyRefused::SecretOnAlready));
}

proptest! {
    #[test]
    fn c15_however_keys_come_and_go_a_way_in_stays(acts in prop::collection::vec(0usize..4, 1..40)) {
        let mut held = credential(false, false);
        for act in acts.into_iter().map(|n| ACTS[n]) {
            if change(act, &local(user(1)), &owner(), Some(&held), start()).is_err() {
                continue;
            }
            match act {
                KeyAct::Bind => held.key = credential(true, false).key,
                KeyAct::Remove => held.key = None,
                KeyAct::SecretOff => held.secret_off_at = Some(start()),
                KeyAct::SecretOn => held.secret_off_at = None,
            }
            prop_assert!(held.key.is_some() || held.secret_off_at.is_none());
        }
    }
}

const ISSUER: &str = "https://access.acme.example";

fn claims() -> Value {
    let now = start().as_second();
    json!({ "iss": "pcc_1", "sub": "pcc_1", "aud": ISSUER, "exp": now + 60, "iat": now, "jti": "a" })
}

fn read(claims: &Value) -> Result<Assertion, AssertionRefused> {
    let claims = serde_json::from_value(claims.clone()).map_err(|_| AssertionRefused::Claims)?;
    Assertion::check(claims, ISSUER, start())
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn protocol27_an_assertion_is_from_its_client_to_this_issuer_alone_and_short() {
    let good = read(&claims()).unwrap();
    assert_eq!((good.client_id.as_str(), good.jti.as_str()), ("pcc_1", "a"));
    assert_eq!(good.ends_at, start() + SignedDuration::from_secs(90), "with the skew");
    assert!(read(&with("aud", json!([ISSUER]))).is_ok(), "an array of one is the same");
    assert!(read(&with("exp", json!(start().as_second() + 330))).is_ok());
    assert!(read(&with("exp", json!(start().as_second() - 29))).is_ok());
    assert!(read(&with("more", json!({ "a": 1 }))).is_ok(), "other claims are nobody's business");
    use AssertionRefused as Refused;
    let now = start().as_second();
    for (claims, why) in [
        (with("iss", json!("pcc_2")), Refused::IssuerIsNotSubject),
        (with("aud", json!("https://access.acme.example/")), Refused::Audience),
        (with("aud", json!("https://access.acme.example/oauth/token")), Refused::Audience),
        (with("aud", json!([ISSUER, "https://other.example"])), Refused::Audience),
        (with("aud", json!([ISSUER, ISSUER])), Refused::Audience),
        (with("aud", json!([])), Refused::Audience),
        (with("exp", json!(now + 331)), Refused::TooLong),
        (with("exp", json!(i64::MAX)), Refused::TooLong),
        (with("exp", json!(now - 30)), Refused::Ended),
        (with("exp", json!(i64::MIN)), Refused::TooLong),
        (with("nbf", json!(now + 31)), Refused::Early),
        (with("iat", json!(now + 31)), Refused::Early),
        (with("jti", json!("")), Refused::Jti),
        (with("jti", json!("x".repeat(257))), Refused::Jti),
        (with("exp", json!("1795000060")), Refused::Claims),
        (with("exp", json!(1.5)), Refused::Claims),
        (with("jti", json!(7)), Refused::Claims),
        (with("aud", json!(null)), Refused::Claims),
        (json!([]), Refused::Claims),
    ] {
        assert_eq!(read(&claims), Err(why), "{claims}");
    }
    for name in ["iss", "sub", "aud", "exp", "jti"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        assert_eq!(read(&claims), Err(Refused::Claims), "without {name}");
    }
}

#[test]
fn every_reason_a_program_is_told_is_in_the_permitted_ascii() {
    use AssertionRefused as Refused;
    let all = [
        Refused::Claims,
        Refused::IssuerIsNotSubject,
        Refused::Audience,
        Refused::Ended,
        Refused::TooLong,
        Refused::Early,
        Refused::Jti,
    ];
    let told = all.iter().map(ToString::to_string).chain([ClientKeyRefused::AlreadyBound.to_string()]);
    for text in told {
        assert!(text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\'), "{text}");
    }
}
