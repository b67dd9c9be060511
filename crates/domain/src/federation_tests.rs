//! The decision tables of federated logins, cell by cell.

use super::*;
use crate::accounts::{Language, TimeZoneName};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn typed() -> Typed {
    Typed {
        name: "Acme".to_owned(),
        issuer: "https://id.acme.example".to_owned(),
        client_id: "portcullis".to_owned(),
        scopes: "openid email".to_owned(),
        ..Typed::default()
    }
}

fn settings(makes_users: bool, domains: &str) -> Settings {
    Settings::parse(&Typed { makes_users, domains: domains.to_owned(), ..typed() }).unwrap()
}

fn user(status: Status, has_password: bool) -> User {
    User {
        id: UserId(Uuid::from_u128(7)),
        email: Email::parse("maria@acme.example").unwrap(),
        name: DisplayName::parse("Maria Rocha").unwrap(),
        language: Language::EnglishInternational,
        time_zone: TimeZoneName::utc(),
        standing: Standing { role: (Role::User, at(0)), status: (status, at(0)), mfa_since: None, has_password },
        created_at: at(0),
    }
}

fn told(email: &str, email_verified: bool) -> Told {
    Told {
        identity: Identity::new("https://id.acme.example", "sub-1").unwrap(),
        email: Email::parse(email).ok(),
        email_verified,
        name: None,
    }
}

#[test]
fn a6_a_known_identity_is_its_user_and_an_account_that_is_not_active_stays_so() {
    let settings = settings(true, "");
    let decide = |status| sign_in(&settings, &told("x@y.example", true), Some(&user(status, true)), false);
    assert_eq!(decide(Status::Active), Ok(Decision::Known(UserId(Uuid::from_u128(7)))));
    assert_eq!(decide(Status::Inactive), Err(FederationRefused::NotActive));
    assert_eq!(decide(Status::Pending), Err(FederationRefused::NotActive));
    assert_eq!(decide(Status::Deleted), Err(FederationRefused::Deleted));
}

#[test]
fn a6_an_email_that_is_taken_is_never_linked_and_is_told_to_nobody_but_its_owner() {
    for (makes_users, domains, email, verified, why) in [
        (true, "", "maria@acme.example", true, FederationRefused::EmailTaken),
        (true, "acme.example", "maria@acme.example", true, FederationRefused::EmailTaken),
        (true, "", "maria@acme.example", false, FederationRefused::EmailNotVerified),
        (true, "other.example", "maria@acme.example", true, FederationRefused::DomainNotAllowed),
        (false, "", "maria@acme.example", true, FederationRefused::Unknown),
        (false, "", "maria@acme.example", false, FederationRefused::Unknown),
        (false, "other.example", "not an address", false, FederationRefused::Unknown),
        (true, "", "not an address", false, FederationRefused::NoEmail),
    ] {
        for taken in [true, false] {
            let decided = sign_in(&settings(makes_users, domains), &told(email, verified), None, taken);
            match (taken, why) {
                (false, FederationRefused::EmailTaken) => assert!(matches!(decided, Ok(Decision::Make { .. }))),
                _ => assert_eq!(decided, Err(why), "{email} {verified} {makes_users} {domains}"),
            }
        }
    }
}

#[test]
fn a6_somebody_unknown_gets_an_account_only_where_the_provider_makes_them() {
    let decide = |settings: &Settings, email, verified| sign_in(settings, &told(email, verified), None, false);
    let made = decide(&settings(true, "acme.example other.example"), "Ana@Acme.Example", true).unwrap();
    let Decision::Make { email, name, role } = made else { panic!("{made:?}") };
    assert_eq!((email.as_str(), name.as_str(), role), ("ana@acme.example", "ana", Role::User));
    for (settings, email, verified, why) in [
        (settings(false, ""), "ana@acme.example", true, FederationRefused::Unknown),
        (settings(true, ""), "not an address", true, FederationRefused::NoEmail),
        (settings(true, ""), "ana@acme.example", false, FederationRefused::EmailNotVerified),
        (settings(true, "acme.example"), "ana@evil.example", true, FederationRefused::DomainNotAllowed),
        (settings(true, "acme.example"), "ana@sub.acme.example", true, FederationRefused::DomainNotAllowed),
        (settings(true, "acme.example"), "ana@evilacme.example", true, FederationRefused::DomainNotAllowed),
    ] {
        assert_eq!(decide(&settings, email, verified), Err(why), "{email}");
    }
}

#[test]
fn a6_a_super_admin_is_made_only_where_that_was_chosen() {
    assert_eq!(settings(true, "").role, Role::User);
    let chosen = Settings::parse(&Typed { role: "super_admin".to_owned(), makes_users: true, ..typed() }).unwrap();
    let made = sign_in(&chosen, &told("ana@acme.example", true), None, false);
    assert!(matches!(made, Ok(Decision::Make { role: Role::SuperAdmin, .. })));
    assert!(Settings::parse(&Typed { role: "root".to_owned(), ..typed() }).is_err());
}

#[test]
fn a_provider_is_https_or_on_this_machine() {
    let judge = |issuer: &str| Settings::parse(&Typed { issuer: issuer.to_owned(), ..typed() });
    for good in [
        "https://id.acme.example",
        "https://id.acme.example/tenant/v2.0",
        "https://id.acme.example:8443/",
        "http://localhost:3000",
        "http://127.0.0.1:3000/x",
        "http://[::1]:3000",
    ] {
        assert_eq!(judge(good).unwrap().issuer, good);
    }
    for bad in [
        "",
        "id.acme.example",
        "http://id.acme.example",
        "http://localhost.evil.example",
        "http://localhost:80@evil.example",
        "http://127.0.0.1.evil.example",
        "https://",
        "https:///x",
        "https://a@b",
        "https://a?b=c",
        "https://a#b",
        "https://a b",
        "https://a\\b",
        "ftp://a",
        "javascript:alert(1)",
        &format!("https://{}", "x".repeat(600)),
    ] {
        assert_eq!(judge(bad).unwrap_err()[0].field, "issuer", "{bad}");
    }
}

#[test]
fn every_field_of_a_provider_is_judged_at_once() {
    let nothing = Settings::parse(&Typed::default()).unwrap_err();
    let fields: Vec<&str> = nothing.iter().map(|i| i.field).collect();
    assert_eq!(fields, ["name", "issuer", "client_id", "scopes"]);
    for (typed, field) in [
        (Typed { name: "x".repeat(61), ..typed() }, "name"),
        (Typed { name: "a\nb".to_owned(), ..typed() }, "name"),
        (Typed { scopes: "email".to_owned(), ..typed() }, "scopes"),
        (Typed { scopes: "openid \"x\"".to_owned(), ..typed() }, "scopes"),
        (Typed { domains: "acme.example @x".to_owned(), ..typed() }, "domains"),
        (Typed { domains: "localhost".to_owned(), ..typed() }, "domains"),
    ] {
        assert_eq!(Settings::parse(&typed).unwrap_err()[0].field, field);
    }
    let good =
        Settings::parse(&Typed { domains: " ACME.example, other.example acme.example".to_owned(), ..typed() });
    assert_eq!(good.unwrap().domains, ["acme.example", "other.example"]);
}

#[test]
fn a6_only_a_local_session_with_a_fresh_password_links_and_unlinks() {
    let now = at(10_000);
    let actor = |opened, ago: Option<i64>| Actor::Session {
        user: UserId(Uuid::nil()),
        opened,
        password_at: ago.map(|s| at(10_000 - s)),
    };
    let (with, without) = (user(Status::Active, true).standing, user(Status::Active, false).standing);
    assert_eq!(may_change_links(&actor(Opened::Password, Some(299)), &with, now), Ok(()));
    assert_eq!(may_change_links(&actor(Opened::PasswordAndMfa, Some(1)), &with, now), Ok(()));
    for (actor, standing, why) in [
        (actor(Opened::Password, Some(300)), &with, FederationRefused::PasswordNeeded),
        (actor(Opened::Passkey, None), &with, FederationRefused::PasswordNeeded),
        (actor(Opened::Provider, Some(1)), &with, FederationRefused::NotLocal),
        (actor(Opened::Password, Some(1)), &without, FederationRefused::NotLocal),
        (Actor::Token { owner: UserId(Uuid::nil()) }, &with, FederationRefused::NotLocal),
    ] {
        assert_eq!(may_change_links(&actor, standing, now), Err(why), "{actor:?}");
    }
}

#[test]
fn a6_an_identity_is_one_users_and_a7_the_last_way_in_stays() {
    let (a, b) = (UserId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
    assert_eq!(link(a, None), Ok(()));
    let owner = |id, status| User { id, ..user(status, true) };
    for status in [Status::Pending, Status::Active, Status::Inactive] {
        assert_eq!(link(a, Some(&owner(a, status))), Err(FederationRefused::LinkedAlready));
        assert_eq!(link(a, Some(&owner(b, status))), Err(FederationRefused::LinkedElsewhere));
    }
    assert_eq!(link(a, Some(&owner(b, Status::Deleted))), Ok(()), "free to be linked, never to sign in");
    let (with, without) = (user(Status::Active, true).standing, user(Status::Active, false).standing);
    assert_eq!(unlink(&with, 0), Ok(()));
    assert_eq!(unlink(&without, 1), Ok(()));
    assert_eq!(unlink(&without, 0), Err(FederationRefused::LastWayIn));
}

#[test]
fn a3_a_provider_stays_without_which_no_super_admin_could_sign_in() {
    assert_eq!(remove(0), Err(FederationRefused::NoSuperAdminLeft));
    assert_eq!(remove(1), Ok(()));
}

#[test]
fn a_subject_is_short_and_printable_and_every_refusal_has_a_code_of_its_own() {
    assert!(Identity::new("i", "s").is_some());
    for bad in ["", "a\u{0}b", &"x".repeat(256)] {
        assert!(Identity::new("i", bad).is_none(), "{bad:?}");
    }
    for refused in FederationRefused::ALL {
        assert_eq!(FederationRefused::from_code(refused.code()), Some(*refused));
    }
}
