//! Second factors: what counts once is consumed by one of many (protocol 38), and each user's
//! factors are their own.

use portcullis_domain::{accounts::UserId, mfa::Factors};
use portcullis_store::{Ceremony, Sealed, Store, StoreError, StoredPasskey};

use crate::support::{Fresh, after, at_once, id, now, on_both};

on_both! {
    an_app_is_a_factor_once_it_is_confirmed
    protocol38_of_many_parallel_uses_of_a_step_exactly_one_counts
    a_confirmed_app_is_not_replaced_by_a_proposed_one
    every_field_of_a_passkey_comes_back
    a_passkey_is_one_users_and_removed_by_that_user_only
    a5_the_leave_to_sign_in_with_a_passkey_alone_goes_with_the_last_passkey
    protocol38_of_many_parallel_uses_of_a_recovery_code_exactly_one_counts
    new_recovery_codes_take_the_place_of_the_old
    removing_all_factors_leaves_those_of_others
    of_many_parallel_takers_of_a_ceremony_exactly_one_gets_it
    the_state_of_a_ceremony_is_kept_while_it_goes_on
    of_many_parallel_changes_of_a_ceremony_none_is_lost
    a_right_attempt_is_taken_back_and_never_below_none
}

fn sealed(byte: u8) -> Sealed {
    Sealed { key_id: "k".to_owned(), bytes: vec![byte; 40] }
}

fn passkey(user: UserId, credential: u8) -> StoredPasskey {
    StoredPasskey {
        id: id(),
        user,
        credential_id: vec![credential; 32],
        name: "Maria's \"laptop\" 💡".to_owned(),
        passkey: "{\"cred\":{}}".to_owned(),
        made_at: now(),
        used_at: None,
    }
}

async fn factors(fresh: &Fresh, user: UserId) -> Factors {
    fresh.read(async |tx| tx.factors(user).await.unwrap()).await
}

/// Proposes and confirms an app; the step 100 is consumed by that.
async fn with_app(fresh: &Fresh) -> UserId {
    let user = fresh.super_admin("a@acme.example").await.id;
    fresh
        .write(async |tx| {
            assert!(tx.propose_app(user, &sealed(1), now()).await.unwrap());
            assert!(tx.confirm_app(user, now(), 100, after(5)).await.unwrap());
        })
        .await;
    user
}

async fn an_app_is_a_factor_once_it_is_confirmed(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    assert!(fresh.read(async |tx| tx.authenticator_app(user).await.unwrap()).await.is_none());
    fresh.write(async |tx| assert!(tx.propose_app(user, &sealed(1), now()).await.unwrap())).await;
    fresh.write(async |tx| assert!(tx.propose_app(user, &sealed(2), after(1)).await.unwrap())).await;
    assert_eq!(factors(&fresh, user).await, Factors::default(), "nobody gave a code of it yet");
    let step = fresh.write(async |tx| tx.consume_step(user, 101).await.unwrap()).await;
    assert!(!step, "nor does a code of it count");
    let confirm = async |made_at, step, at| {
        fresh.write(async |tx| tx.confirm_app(user, made_at, step, at).await.unwrap()).await
    };
    assert!(!confirm(now(), 100, after(5)).await, "another has taken its place");
    assert_eq!(factors(&fresh, user).await, Factors::default());
    assert!(confirm(after(1), 100, after(5)).await);
    assert!(!confirm(after(1), 101, after(6)).await, "once");
    let stored = fresh.read(async |tx| tx.authenticator_app(user).await.unwrap()).await.unwrap();
    assert_eq!((stored.secret, stored.made_at, stored.confirmed_at), (sealed(2), after(1), Some(after(5))));
    assert_eq!(factors(&fresh, user).await, Factors { app: true, passkeys: 0 });
    assert!(!fresh.write(async |tx| tx.consume_step(user, 100).await.unwrap()).await, "its first code counted");
}

async fn protocol38_of_many_parallel_uses_of_a_step_exactly_one_counts(fresh: Fresh) {
    async fn consume(store: Store, user: UserId) -> bool {
        let mut tx = store.write().await.unwrap();
        let done = tx.consume_step(user, 101).await.unwrap();
        tx.commit().await.unwrap();
        done
    }
    let user = with_app(&fresh).await;
    let stores = [fresh.store.clone(), fresh.another_node().await];
    let done = at_once(20, |n| consume(stores[n % 2].clone(), user)).await;
    assert_eq!(done.iter().filter(|d| **d).count(), 1, "{done:?}");
    assert!(!consume(fresh.store.clone(), user).await, "and none later");
    let earlier = fresh.write(async |tx| tx.consume_step(user, 99).await.unwrap()).await;
    assert!(!earlier, "nor one of a step before");
}

async fn a_confirmed_app_is_not_replaced_by_a_proposed_one(fresh: Fresh) {
    let user = with_app(&fresh).await;
    assert!(!fresh.write(async |tx| tx.propose_app(user, &sealed(9), after(9)).await.unwrap()).await);
    let stored = fresh.read(async |tx| tx.authenticator_app(user).await.unwrap()).await.unwrap();
    assert_eq!(stored.secret, sealed(1));
    assert!(fresh.write(async |tx| tx.remove_app(user).await.unwrap()).await);
    assert!(!fresh.write(async |tx| tx.remove_app(user).await.unwrap()).await);
    assert!(fresh.write(async |tx| tx.propose_app(user, &sealed(9), after(9)).await.unwrap()).await);
}

async fn every_field_of_a_passkey_comes_back(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    let (first, second) = (passkey(user, 1), StoredPasskey { used_at: Some(after(3)), ..passkey(user, 2) });
    fresh.write(async |tx| tx.add_passkey(&first).await.unwrap()).await;
    fresh.write(async |tx| tx.add_passkey(&second).await.unwrap()).await;
    assert_eq!(fresh.read(async |tx| tx.passkeys(user).await.unwrap()).await, [first.clone(), second.clone()]);
    let called = async |id: &[u8]| fresh.read(async |tx| tx.passkey_called(id).await.unwrap()).await;
    assert_eq!(called(&[2; 32]).await, Some(second));
    assert_eq!(called(&[3; 32]).await, None);
    fresh.write(async |tx| tx.passkey_used(first.id, "{\"counter\":7}", after(60)).await.unwrap()).await;
    let used = StoredPasskey { passkey: "{\"counter\":7}".to_owned(), used_at: Some(after(60)), ..first };
    assert_eq!(called(&[1; 32]).await, Some(used));
    assert_eq!(factors(&fresh, user).await, Factors { app: false, passkeys: 2 });
}

async fn a_passkey_is_one_users_and_removed_by_that_user_only(fresh: Fresh) {
    let (maria, ana) =
        (fresh.super_admin("a@acme.example").await.id, fresh.super_admin("b@acme.example").await.id);
    let stored = passkey(maria, 1);
    fresh.write(async |tx| tx.add_passkey(&stored).await.unwrap()).await;
    let mut tx = fresh.store.write().await.unwrap();
    let again = tx.add_passkey(&passkey(ana, 1)).await;
    assert!(matches!(again, Err(StoreError::Conflict(_))), "{again:?}");
    drop(tx);
    assert!(!fresh.write(async |tx| tx.remove_passkey(ana, stored.id).await.unwrap()).await);
    assert!(fresh.write(async |tx| tx.remove_passkey(maria, stored.id).await.unwrap()).await);
    assert!(!fresh.write(async |tx| tx.remove_passkey(maria, stored.id).await.unwrap()).await);
}

async fn a5_the_leave_to_sign_in_with_a_passkey_alone_goes_with_the_last_passkey(fresh: Fresh) {
    let (maria, ana) =
        (fresh.super_admin("a@acme.example").await.id, fresh.super_admin("b@acme.example").await.id);
    let (first, second, hers) = (passkey(maria, 1), passkey(maria, 2), passkey(ana, 3));
    fresh
        .write(async |tx| {
            for passkey in [&first, &second, &hers] {
                tx.add_passkey(passkey).await.unwrap();
                tx.set_passkey_alone(passkey.user, true).await.unwrap();
            }
        })
        .await;
    let alone = async |user| fresh.read(async |tx| tx.passkey_alone(user).await.unwrap()).await;
    for (passkey, left) in [(&first, true), (&second, false)] {
        assert!(fresh.write(async |tx| tx.remove_passkey(maria, passkey.id).await.unwrap()).await);
        assert_eq!(alone(maria).await, left);
    }
    assert!(alone(ana).await, "each user's own");
}

async fn consume(store: Store, user: UserId, code: u8) -> bool {
    let mut tx = store.write().await.unwrap();
    let done = tx.consume_recovery_code(user, &[code; 32], after(9)).await.unwrap();
    tx.commit().await.unwrap();
    done
}

async fn protocol38_of_many_parallel_uses_of_a_recovery_code_exactly_one_counts(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    let other = fresh.super_admin("b@acme.example").await.id;
    fresh.write(async |tx| tx.set_recovery_codes(user, ("k", &[[1; 32], [2; 32]]), now()).await.unwrap()).await;
    assert!(!consume(fresh.store.clone(), other, 1).await, "another user's code is none");
    let stores = [fresh.store.clone(), fresh.another_node().await];
    let done = at_once(20, |n| consume(stores[n % 2].clone(), user, 1)).await;
    assert_eq!(done.iter().filter(|d| **d).count(), 1, "{done:?}");
    assert_eq!(fresh.read(async |tx| tx.recovery_codes_left(user).await.unwrap()).await, 1);
}

async fn new_recovery_codes_take_the_place_of_the_old(fresh: Fresh) {
    let user = fresh.super_admin("a@acme.example").await.id;
    fresh.write(async |tx| tx.set_recovery_codes(user, ("k", &[[1; 32], [2; 32]]), now()).await.unwrap()).await;
    fresh.write(async |tx| tx.set_recovery_codes(user, ("k", &[[3; 32]]), after(1)).await.unwrap()).await;
    assert!(!consume(fresh.store.clone(), user, 1).await);
    assert!(consume(fresh.store.clone(), user, 3).await);
    assert_eq!(fresh.read(async |tx| tx.recovery_codes_left(user).await.unwrap()).await, 0);
}

async fn removing_all_factors_leaves_those_of_others(fresh: Fresh) {
    let user = with_app(&fresh).await;
    let other = fresh.super_admin("b@acme.example").await.id;
    fresh
        .write(async |tx| {
            for (user, n) in [(user, 1), (other, 2)] {
                tx.add_passkey(&passkey(user, n)).await.unwrap();
                tx.set_recovery_codes(user, ("k", &[[n; 32]]), now()).await.unwrap();
                tx.set_passkey_alone(user, true).await.unwrap();
            }
            tx.remove_factors(user).await.unwrap();
        })
        .await;
    assert_eq!(factors(&fresh, user).await, Factors::default());
    assert_eq!(factors(&fresh, other).await, Factors { app: false, passkeys: 1 });
    let mut tx = fresh.store.read().await.unwrap();
    assert_eq!(tx.recovery_codes_left(user).await.unwrap(), 0);
    assert_eq!(tx.recovery_codes_left(other).await.unwrap(), 1);
    assert!(!tx.passkey_alone(user).await.unwrap() && tx.passkey_alone(other).await.unwrap());
}

async fn begun(fresh: &Fresh) {
    let ceremony = Ceremony {
        kind: "second_factor".to_owned(),
        user: None,
        state: sealed(1),
        begun_at: now(),
        expires_at: after(300),
    };
    fresh.write(async |tx| tx.begin_ceremony(&[5; 32], &ceremony).await.unwrap()).await;
}

async fn of_many_parallel_takers_of_a_ceremony_exactly_one_gets_it(fresh: Fresh) {
    async fn take(store: Store) -> bool {
        let mut tx = store.write().await.unwrap();
        let taken = tx.take_ceremony(&[5; 32], "second_factor", after(1)).await.unwrap();
        tx.commit().await.unwrap();
        taken.is_some()
    }
    begun(&fresh).await;
    let stores = [fresh.store.clone(), fresh.another_node().await];
    let taken = at_once(20, |n| take(stores[n % 2].clone())).await;
    assert_eq!(taken.iter().filter(|t| **t).count(), 1, "{taken:?}");
}

async fn the_state_of_a_ceremony_is_kept_while_it_goes_on(fresh: Fresh) {
    begun(&fresh).await;
    let keep = async |digest, kind: &str| {
        fresh.write(async |tx| tx.keep_ceremony(&[digest; 32], kind, &sealed(2)).await.unwrap()).await
    };
    assert!(!keep(5, "factor_adding").await, "one of another kind is another");
    assert!(!keep(6, "second_factor").await);
    assert!(keep(5, "second_factor").await);
    let found = fresh.read(async |tx| tx.ceremony(&[5; 32], "second_factor", after(1)).await.unwrap()).await;
    assert_eq!(found.unwrap().state, sealed(2));
}

async fn of_many_parallel_changes_of_a_ceremony_none_is_lost(fresh: Fresh) {
    async fn one_more(store: Store) {
        let mut tx = store.write().await.unwrap();
        let held = tx.hold_ceremony(&[5; 32], "second_factor", after(1)).await.unwrap().unwrap();
        let next = sealed(held.state.bytes[0] + 1);
        assert!(tx.keep_ceremony(&[5; 32], "second_factor", &next).await.unwrap());
        tx.commit().await.unwrap();
    }
    begun(&fresh).await;
    let stores = [fresh.store.clone(), fresh.another_node().await];
    at_once(20, |n| one_more(stores[n % 2].clone())).await;
    let held = async |digest, kind: &str, at| {
        fresh.write(async |tx| tx.hold_ceremony(&[digest; 32], kind, after(at)).await.unwrap()).await
    };
    assert_eq!(held(5, "second_factor", 1).await.unwrap().state, sealed(21));
    assert!(held(5, "second_factor", 300).await.is_none(), "its time is over");
    assert!(held(5, "passkey_making", 1).await.is_none() && held(6, "second_factor", 1).await.is_none());
}

async fn a_right_attempt_is_taken_back_and_never_below_none(fresh: Fresh) {
    let name = [9; 32];
    for _ in 0..3 {
        fresh.write(async |tx| tx.count_sign_in_failure(&name, now(), now()).await.unwrap()).await;
    }
    let run = async || fresh.read(async |tx| tx.sign_in_failures(&name).await.unwrap()).await.unwrap();
    fresh.write(async |tx| tx.take_back_sign_in_failure(&name, after(-900)).await.unwrap()).await;
    assert_eq!((run().await.failures, run().await.last), (2, after(-900)));
    for _ in 0..3 {
        fresh.write(async |tx| tx.take_back_sign_in_failure(&name, after(-900)).await.unwrap()).await;
    }
    assert_eq!(run().await.failures, 0);
}
