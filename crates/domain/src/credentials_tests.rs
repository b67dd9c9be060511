//! The rules of credentials as sentences, and sequences of acts against a model.

use super::*;
use crate::secret::DigestKey;
use proptest::prelude::*;

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn super_admin() -> OwnerStanding {
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

fn local(id: UserId, password_at: Timestamp) -> Actor {
    Actor::Session { user: id, opened: Opened::Password, password_at: Some(password_at) }
}

fn credential(n: u128, owner: UserId, generated_at: Timestamp) -> Credential {
    Credential {
        id: Uuid::from_u128(n),
        owner,
        client_id: ClientId::new([n as u8; 20]),
        digest: DigestKey::new("k", &[0; 32]).digest(b"x"),
        generated_at,
        expires_at: generated_at + CREDENTIAL_LASTS,
        retired_at: None,
        revoked: None,
        key: None,
        secret_off_at: None,
        had_key: false,
    }
}

#[test]
fn the_form_of_a_client_id_never_changes() {
    assert_eq!(ClientId::new([0; 20]).as_str(), "pcc_00000000000000000000");
    assert_eq!(ClientId::new([255; 20]).as_str(), "pcc_zzzzzzzzzzzzzzzzzzzz");
    assert!(ClientId::parse("pcc_0123456789abcdefghjk").is_some());
    for bad in ["", "pcc_", "pcc_0123456789abcdefghji", "pcs_0123456789abcdefghjk", "pcc_0123456789ABCDEFGHJK"] {
        assert!(ClientId::parse(bad).is_none(), "{bad}");
    }
}

#[test]
fn c1_a_second_credential_is_refused_while_one_is_active() {
    let held = credential(1, user(1), start());
    let answer = generate(&local(user(1), start()), &super_admin(), Some(&held), start());
    assert_eq!(answer, Err(GenerateRefused::AlreadyActive));
}

#[test]
fn c3_only_an_active_super_admin_generates_and_revokes() {
    let demoted = OwnerStanding { role: (Role::User, start()), ..super_admin() };
    let inactive = OwnerStanding { status: (Status::Inactive, start()), ..super_admin() };
    let held = credential(1, user(1), start());
    for facts in [demoted, inactive] {
        let actor = local(user(1), start());
        assert_eq!(generate(&actor, &facts, None, start()), Err(GenerateRefused::NotSuperAdmin));
        assert_eq!(revoke(&actor, &facts, user(1), Some(&held)), Err(RevokeRefused::NotSuperAdmin));
    }
}

#[test]
fn c4_a_federated_login_or_an_account_without_password_never_generates() {
    let federated = Actor::Session { user: user(1), opened: Opened::Provider, password_at: Some(start()) };
    assert_eq!(generate(&federated, &super_admin(), None, start()), Err(GenerateRefused::FederatedLogin));
    let no_password = OwnerStanding { has_password: false, ..super_admin() };
    let refused = generate(&local(user(1), start()), &no_password, None, start());
    assert_eq!(refused, Err(GenerateRefused::NoLocalPassword));
    let held = credential(1, user(1), start());
    assert_eq!(revoke(&federated, &super_admin(), user(1), Some(&held)), Ok(()), "stopping is easy");
}

#[test]
fn c6_a_credential_lasts_3650_days_and_an_expired_one_gives_way() {
    let held = credential(1, user(1), start());
    assert_eq!(held.expires_at.duration_since(start()), DAY * 3650);
    let last = held.expires_at - SignedDuration::from_micros(1);
    assert_eq!(held.standing(&super_admin(), last), Standing::Active);
    assert_eq!(held.standing(&super_admin(), held.expires_at), Standing::Expired(held.expires_at));
    let allowed =
        generate(&local(user(1), held.expires_at), &super_admin(), Some(&held), held.expires_at).unwrap();
    assert_eq!(allowed.retire, Some(held.id));
}

#[test]
fn c8_nobody_but_the_owner_revokes() {
    let held = credential(1, user(1), start());
    let other = local(user(2), start());
    assert_eq!(revoke(&other, &super_admin(), user(1), Some(&held)), Err(RevokeRefused::NotOwner));
    assert_eq!(
        revoke(&other, &super_admin(), user(1), None),
        Err(RevokeRefused::NotOwner),
        "and learns nothing about whether there is one"
    );
}

#[test]
fn c9_mfa_suspends_refuses_generating_and_allows_revoking() {
    let with_mfa = OwnerStanding { mfa_since: Some(start()), ..super_admin() };
    let held = credential(1, user(1), start());
    assert_eq!(held.standing(&with_mfa, start()), Standing::Suspended(Suspension::MfaOn, start()));
    assert_eq!(held.standing(&super_admin(), start()), Standing::Active, "and works again");
    let actor = local(user(1), start());
    assert_eq!(generate(&actor, &with_mfa, None, start()), Err(GenerateRefused::MfaOn));
    assert_eq!(revoke(&actor, &with_mfa, user(1), Some(&held)), Ok(()));
}

#[test]
fn c10_the_owner_s_status_and_role_suspend_and_deletion_revokes() {
    let held = credential(1, user(1), start());
    let standing = |facts: OwnerStanding| held.standing(&facts, start());
    assert_eq!(
        standing(OwnerStanding { status: (Status::Inactive, start()), ..super_admin() }),
        Standing::Suspended(Suspension::OwnerInactive, start())
    );
    assert_eq!(
        standing(OwnerStanding { role: (Role::User, start()), ..super_admin() }),
        Standing::Suspended(Suspension::OwnerNotSuperAdmin, start())
    );
    assert_eq!(
        standing(OwnerStanding { status: (Status::Deleted, start()), ..super_admin() }),
        Standing::Revoked(start(), RevocationReason::OwnerDeleted)
    );
}

#[test]
fn c12_generating_asks_for_a_recent_password_and_revoking_never_does() {
    let stale = local(user(1), start() - SignedDuration::from_mins(5));
    assert_eq!(generate(&stale, &super_admin(), None, start()), Err(GenerateRefused::PasswordNeeded));
    let held = credential(1, user(1), start());
    assert_eq!(revoke(&stale, &super_admin(), user(1), Some(&held)), Ok(()));
}

#[test]
fn t4_a_token_neither_generates_nor_revokes() {
    let token = Actor::Token { owner: user(1) };
    let held = credential(1, user(1), start());
    assert_eq!(generate(&token, &super_admin(), None, start()), Err(GenerateRefused::ByToken));
    assert_eq!(revoke(&token, &super_admin(), user(1), Some(&held)), Err(RevokeRefused::ByToken));
}

#[test]
fn every_reason_a_program_is_told_is_in_the_permitted_ascii() {
    for standing in [
        Standing::Active,
        Standing::Suspended(Suspension::MfaOn, start()),
        Standing::Suspended(Suspension::OwnerInactive, start()),
        Standing::Suspended(Suspension::OwnerNotSuperAdmin, start()),
        Standing::Expired(start()),
        Standing::Revoked(start(), RevocationReason::ByOwner),
        Standing::Revoked(start(), RevocationReason::OwnerDeleted),
    ] {
        let text = standing.description();
        assert!(text.bytes().all(|b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\'), "{text}");
    }
}

/// What can happen to one user's place, in any order.
#[derive(Debug, Clone, Copy)]
enum Act {
    Generate { actor: u8, stale: bool },
    Revoke { actor: u8 },
    Days(u16),
    Mfa(bool),
    SuperAdmin(bool),
    ActiveAccount(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1..3u8, prop::bool::weighted(0.2)).prop_map(|(actor, stale)| Act::Generate { actor, stale }),
        3 => (1..3u8).prop_map(|actor| Act::Revoke { actor }),
        2 => (0..5000u16).prop_map(Act::Days),
        1 => any::<bool>().prop_map(Act::Mfa),
        1 => any::<bool>().prop_map(Act::SuperAdmin),
        1 => any::<bool>().prop_map(Act::ActiveAccount),
    ];
    prop::collection::vec(act, 1..60)
}

proptest! {
    /// Sequences of generate, expire, revoke, suspend: never two active (C-1), never an
    /// un-revoke (C-7), and the standing is what the plain words of C-6, C-9, C-10 say.
    #[test]
    fn any_life_of_a_credential_keeps_the_rules(acts in acts()) {
        let owner = user(1);
        let mut now = start();
        let mut facts = super_admin();
        let mut all: Vec<Credential> = Vec::new();
        let mut place: Option<usize> = None;
        let mut was_revoked: Vec<bool> = Vec::new();
        for act in acts {
            match act {
                Act::Days(n) => now += DAY * i32::from(n),
                Act::Mfa(on) => facts.mfa_since = on.then_some(now),
                Act::SuperAdmin(yes) => facts.role = (if yes { Role::SuperAdmin } else { Role::User }, now),
                Act::ActiveAccount(yes) => {
                    facts.status = (if yes { Status::Active } else { Status::Inactive }, now);
                }
                Act::Generate { actor, stale } => {
                    let given = if stale { now - DAY } else { now };
                    let held = place.map(|at| all[at].clone()).filter(|c| u128::from(actor) == c.owner.0.as_u128());
                    if u128::from(actor) != owner.0.as_u128() { continue; }
                    let answer = generate(&local(owner, given), &facts, held.as_ref(), now);
                    let taken = held.as_ref().is_some_and(|c| c.revoked.is_none() && c.expires_at > now);
                    prop_assert_eq!(
                        answer.is_ok(),
                        facts.is_super_admin() && facts.mfa_since.is_none() && !taken && !stale
                    );
                    if let Ok(allowed) = answer {
                        let mut made = credential(all.len() as u128 + 1, owner, now);
                        made.expires_at = allowed.expires_at;
                        place = Some(all.len());
                        all.push(made);
                        was_revoked.push(false);
                    }
                }
                Act::Revoke { actor } => {
                    let actor = local(user(u128::from(actor)), now);
                    let held = place.map(|at| &all[at]);
                    let allowed = revoke(&actor, &facts, owner, held).is_ok();
                    let open = held.is_some_and(|c| c.revoked.is_none());
                    prop_assert_eq!(allowed, actor.user() == owner && facts.is_super_admin() && open);
                    if let (true, Some(at)) = (allowed, place) {
                        all[at].revoked = Some((now, RevocationReason::ByOwner));
                        was_revoked[at] = true;
                    }
                }
            }
            let standings: Vec<Standing> = all.iter().map(|c| c.standing(&facts, now)).collect();
            let active = standings.iter().filter(|s| **s == Standing::Active).count();
            prop_assert!(active <= 1, "C-1: {standings:?}");
            for (standing, revoked) in standings.iter().zip(&was_revoked) {
                prop_assert_eq!(matches!(standing, Standing::Revoked(..)), *revoked, "C-7");
                if *standing == Standing::Active {
                    prop_assert!(facts.is_super_admin() && facts.mfa_since.is_none(), "C-9, C-10");
                }
            }
        }
    }
}

#[test]
fn c9_c10_what_a_change_of_the_owner_does_to_a_credential_is_known_beforehand() {
    let held = credential(1, user(1), start());
    let at = start() + DAY;
    let mfa = OwnerStanding { mfa_since: Some(at), ..super_admin() };
    let inactive = OwnerStanding { status: (Status::Inactive, at), ..super_admin() };
    let demoted = OwnerStanding { role: (Role::User, at), ..super_admin() };
    let deleted = OwnerStanding { status: (Status::Deleted, at), ..super_admin() };
    let fine = super_admin();
    for (after, why) in [
        (&mfa, Suspension::MfaOn),
        (&inactive, Suspension::OwnerInactive),
        (&demoted, Suspension::OwnerNotSuperAdmin),
    ] {
        assert_eq!(held.effect(&fine, after, at), Some(Effect::Suspended(why)));
        assert_eq!(held.effect(after, &fine, at), Some(Effect::Resumed));
        assert_eq!(held.effect(after, &deleted, at), Some(Effect::Revoked(RevocationReason::OwnerDeleted)));
    }
    assert_eq!(held.effect(&fine, &fine, at), None);
    assert_eq!(held.effect(&mfa, &demoted, at), None, "it was suspended and still is");
    assert_eq!(held.effect(&mfa, &fine, held.expires_at), None, "what has expired does not come back");
}
