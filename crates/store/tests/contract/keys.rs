//! Signing keys (protocol 26): at rest, in the key set, and the version by which nodes see that it
//! changed.

use jiff::Timestamp;
use portcullis_domain::{
    keys::{Algorithm, Life, SigningKey, State},
    secret::ExposeSecret,
};
use portcullis_store::{Purpose, Sealed, StoreError, StoredKey};

use crate::support::{Fresh, after, now, on_both};

on_both! {
    signing_keys_come_back_and_open_under_their_own_id_only
    protocol26_of_each_algorithm_one_key_is_active_and_one_upcoming
    protocol26_a_key_that_signs_no_more_has_no_private_part_and_leaves_with_time
    a_withdrawn_key_is_out_of_the_key_set_at_once
    every_change_of_the_key_set_has_a_version_of_its_own
    the_longest_lifespan_is_remembered_by_the_keys_that_may_sign
    the_public_part_of_a_key_from_before_is_written_once
    no_key_changes_while_tokens_are_issued
}

fn key(fresh: &Fresh, kid: &str, algorithm: Algorithm, created: i64, active: bool) -> StoredKey {
    let life = Life::new(after(created), active.then_some(after(created)));
    let keys = fresh.store.keys();
    StoredKey {
        key: SigningKey { kid: kid.to_owned(), algorithm, life, longest_seconds: 60 },
        public: Some(keys.seal(Purpose::PublicKey, kid, b"public part", [1; 12])),
        sealed: Some(keys.seal(Purpose::SigningKey, kid, b"private part", [2; 12])),
    }
}

async fn with_two(fresh: &Fresh) {
    for (kid, active) in [("a", true), ("b", false)] {
        let key = key(fresh, kid, Algorithm::Es256, 0, active);
        fresh.write(async |tx| tx.add_signing_key(&key).await.unwrap()).await;
    }
}

async fn version(fresh: &Fresh) -> i64 {
    fresh.read(async |tx| tx.key_set_version().await.unwrap()).await
}

/// The ids of the keys in the key set.
async fn in_set(fresh: &Fresh, now: Timestamp) -> Vec<String> {
    let (_, keys) = fresh.read(async |tx| tx.key_set(now).await.unwrap()).await;
    keys.into_iter().map(|k| k.key.kid).collect()
}

async fn signing_keys_come_back_and_open_under_their_own_id_only(fresh: Fresh) {
    assert_eq!(fresh.read(async |tx| tx.key_set(now()).await.unwrap()).await, (0, Vec::new()));
    assert!(fresh.read(async |tx| tx.signing_keys().await.unwrap()).await.is_empty());
    let keys = [
        key(&fresh, "newest", Algorithm::EdDsa, 9, true),
        key(&fresh, "b", Algorithm::Rs256, 1, false),
        key(&fresh, "a", Algorithm::Es256, 1, true),
    ];
    for key in &keys {
        fresh.act(async |act| act.add_signing_key(key).await.unwrap()).await;
    }
    let read = fresh.read(async |tx| tx.signing_keys().await.unwrap()).await;
    assert_eq!(read, [keys[2].clone(), keys[1].clone(), keys[0].clone()], "the oldest first");
    let (at, set) = fresh.read(async |tx| tx.key_set(now()).await.unwrap()).await;
    assert_eq!((at, set), (version(&fresh).await, read.clone()));
    for StoredKey { key, public, sealed } in read {
        let open = |purpose, kid: &str, sealed: &Sealed| fresh.store.keys().open(purpose, kid, sealed);
        let (public, sealed) = (public.unwrap(), sealed.unwrap());
        let opened = open(Purpose::SigningKey, &key.kid, &sealed).unwrap();
        assert_eq!(opened.expose_secret().as_slice(), b"private part");
        assert_eq!(
            open(Purpose::PublicKey, &key.kid, &public).unwrap().expose_secret().as_slice(),
            b"public part"
        );
        assert!(open(Purpose::SigningKey, "other", &sealed).is_err());
        assert!(open(Purpose::PublicKey, "other", &public).is_err());
        assert!(open(Purpose::PublicKey, &key.kid, &sealed).is_err());
    }
}

async fn protocol26_of_each_algorithm_one_key_is_active_and_one_upcoming(fresh: Fresh) {
    with_two(&fresh).await;
    for (kid, active) in [("a", false), ("c", true), ("d", false)] {
        let one_too_many = key(&fresh, kid, Algorithm::Es256, 0, active);
        let mut act = fresh.store.act().await.unwrap();
        let refused = act.add_signing_key(&one_too_many).await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{kid}: {refused:?}");
    }
    let mut act = fresh.store.act().await.unwrap();
    let refused = act.activate_key("b", now()).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "while the other one signs: {refused:?}");
    drop(act);
    let other = key(&fresh, "e", Algorithm::EdDsa, 0, true);
    fresh.write(async |tx| tx.add_signing_key(&other).await.unwrap()).await;
}

async fn protocol26_a_key_that_signs_no_more_has_no_private_part_and_leaves_with_time(fresh: Fresh) {
    with_two(&fresh).await;
    fresh
        .act(async |act| {
            act.let_key_retire("a", after(5), after(65)).await.unwrap();
            act.activate_key("b", after(5)).await.unwrap();
            act.add_signing_key(&key(&fresh, "c", Algorithm::Es256, 5, false)).await.unwrap();
        })
        .await;
    assert_eq!(in_set(&fresh, after(64)).await, ["a", "b", "c"]);
    assert_eq!(in_set(&fresh, after(65)).await, ["b", "c"]);
    let all = fresh.read(async |tx| tx.signing_keys().await.unwrap()).await;
    let states: Vec<State> = all.iter().map(|k| k.key.life.state(after(10))).collect();
    assert_eq!(states, [State::Retiring, State::Active, State::Upcoming]);
    assert_eq!((all[0].sealed.clone(), all[0].public.is_some()), (None, true), "nothing to sign with is left");
    assert!(!fresh.read(async |tx| tx.has_retired_keys(after(64)).await.unwrap()).await);
    assert!(fresh.read(async |tx| tx.has_retired_keys(after(65)).await.unwrap()).await);
    assert_eq!(fresh.write(async |tx| tx.take_retired_keys(after(65)).await.unwrap()).await, ["a"]);
    assert!(fresh.write(async |tx| tx.take_retired_keys(after(66)).await.unwrap()).await.is_empty(), "once");
    assert!(!fresh.read(async |tx| tx.has_retired_keys(after(66)).await.unwrap()).await);
    assert_eq!(fresh.write(async |tx| tx.drop_old_keys(after(65)).await.unwrap()).await, 0);
    assert_eq!(fresh.write(async |tx| tx.drop_old_keys(after(66)).await.unwrap()).await, 1);
    assert_eq!(in_set(&fresh, after(66)).await, ["b", "c"]);
}

async fn a_withdrawn_key_is_out_of_the_key_set_at_once(fresh: Fresh) {
    with_two(&fresh).await;
    fresh
        .act(async |act| {
            act.withdraw_key("a", after(1)).await.unwrap();
            act.activate_key("b", after(1)).await.unwrap();
        })
        .await;
    assert_eq!(in_set(&fresh, after(1)).await, ["b"]);
    let all = fresh.read(async |tx| tx.signing_keys().await.unwrap()).await;
    assert_eq!((all[0].key.life.withdrawn_at, all[0].sealed.clone()), (Some(after(1)), None));
    assert!(fresh.write(async |tx| tx.take_retired_keys(after(9_999_999)).await.unwrap()).await.is_empty());
}

async fn every_change_of_the_key_set_has_a_version_of_its_own(fresh: Fresh) {
    let mut seen = vec![version(&fresh).await];
    with_two(&fresh).await;
    seen.push(version(&fresh).await);
    fresh.act(async |act| act.let_key_retire("a", after(1), after(2)).await.unwrap()).await;
    seen.push(version(&fresh).await);
    fresh.act(async |act| act.activate_key("b", after(1)).await.unwrap()).await;
    seen.push(version(&fresh).await);
    fresh.act(async |act| act.withdraw_key("b", after(1)).await.unwrap()).await;
    seen.push(version(&fresh).await);
    assert!(seen.windows(2).all(|w| w[0] < w[1]), "{seen:?}");
    // Those who read a credential see it with what they read.
    let maria = fresh.super_admin("maria@acme.example").await;
    let credential = fresh.credential(maria.id).await;
    let mut tx = fresh.store.read().await.unwrap();
    let clients = tx.presented_clients(&[credential.client_id.as_str()]).await.unwrap();
    assert_eq!(clients[0].key_set, seen[4]);
}

async fn the_longest_lifespan_is_remembered_by_the_keys_that_may_sign(fresh: Fresh) {
    with_two(&fresh).await;
    let longest = async || {
        let all = fresh.read(async |tx| tx.signing_keys().await.unwrap()).await;
        all.into_iter().map(|k| k.key.longest_seconds).collect::<Vec<_>>()
    };
    fresh.write(async |tx| tx.note_lifespan(3600).await.unwrap()).await;
    assert_eq!(longest().await, [3600, 3600]);
    fresh.write(async |tx| tx.note_lifespan(60).await.unwrap()).await;
    assert_eq!(longest().await, [3600, 3600], "tokens that live so long may be there");
    fresh.act(async |act| act.let_key_retire("a", after(1), after(2)).await.unwrap()).await;
    fresh.write(async |tx| tx.note_lifespan(7200).await.unwrap()).await;
    assert_eq!(longest().await, [3600, 7200], "it signs no more");
    assert_eq!(fresh.read(async |tx| tx.longest_lifespan().await.unwrap()).await, None);
}

async fn the_public_part_of_a_key_from_before_is_written_once(fresh: Fresh) {
    let old = StoredKey { public: None, ..key(&fresh, "a", Algorithm::Es256, 0, true) };
    fresh.write(async |tx| tx.add_signing_key(&old).await.unwrap()).await;
    for nonce in [1, 2] {
        let public = fresh.store.keys().seal(Purpose::PublicKey, "a", b"jwk", [nonce; 12]);
        fresh.write(async |tx| tx.set_public_key("a", &public).await.unwrap()).await;
    }
    let read = fresh.read(async |tx| tx.signing_keys().await.unwrap()).await;
    assert_eq!(read[0].public, Some(fresh.store.keys().seal(Purpose::PublicKey, "a", b"jwk", [1; 12])));
}

/// C-11: whoever issues tokens has read a version that stays true until their commit.
async fn no_key_changes_while_tokens_are_issued(fresh: Fresh) {
    with_two(&fresh).await;
    let issuing = fresh.store.issue().await.unwrap();
    let store = fresh.store.clone();
    let withdrawing = tokio::spawn(async move {
        let mut tx = store.write().await.unwrap();
        tx.withdraw_key("a", now()).await.unwrap();
        tx.commit().await.unwrap();
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert!(!withdrawing.is_finished());
    assert_eq!(in_set(&fresh, now()).await, ["a", "b"]);
    drop(issuing);
    withdrawing.await.unwrap();
    assert_eq!(in_set(&fresh, now()).await, ["b"]);
}
