//! A new master key: sealing anew in steps, and what needs which key.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use portcullis_domain::{
    audit::Event,
    keys::{Algorithm, Kept, Life, SigningKey},
    secret::ExposeSecret,
};
use portcullis_store::{MasterKeys, OpenOptions, Purpose, Sealed, Store, StoreError, StoredKey};

use crate::support::{Fresh, after, keys, now, on_both, record};

on_both! {
    what_is_sealed_is_sealed_anew_in_steps_and_opens
    a_step_that_is_not_committed_changes_nothing
    what_was_changed_meanwhile_is_not_overwritten
    a_value_whose_key_is_not_in_the_ring_stops_it
    what_needs_which_master_key_is_counted
}

const SEALED: [Kept; 6] = [
    Kept::SigningKeys,
    Kept::PublicKeys,
    Kept::ProviderSecrets,
    Kept::AuthenticatorApps,
    Kept::Mails,
    Kept::Ceremonies,
];

/// The same database with a new master key in front of the old one.
async fn renewed(fresh: &Fresh) -> Store {
    let ring = MasterKeys::file_text(&[8; 32]) + &MasterKeys::file_text(&[7; 32]);
    let ring = Arc::new(MasterKeys::parse(&ring).unwrap());
    Store::open(&fresh.database, ring, &OpenOptions::default()).await.unwrap()
}

fn nonce() -> [u8; 12] {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&COUNTER.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    nonce
}

/// A key with its two sealed parts.
fn key(store: &Store, kid: &str, active: bool) -> StoredKey {
    let life = Life::new(now(), active.then_some(now()));
    StoredKey {
        key: SigningKey { kid: kid.to_owned(), algorithm: Algorithm::Es256, life, longest_seconds: 60 },
        public: Some(store.keys().seal(Purpose::PublicKey, kid, b"public", nonce())),
        sealed: Some(store.keys().seal(Purpose::SigningKey, kid, b"private", nonce())),
    }
}

/// Puts one of each kind into the database, past the statements that the product has for them.
async fn with_one_of_each(fresh: &Fresh) {
    for (kid, active) in [("a", true), ("b", false)] {
        let key = key(&fresh.store, kid, active);
        fresh.write(async |tx| tx.add_signing_key(&key).await.unwrap()).await;
    }
    let maria = fresh.super_admin("maria@acme.example").await;
    let id = maria.id.to_string();
    let literal = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let postgres = matches!(fresh.database, portcullis_store::Database::Postgres(_));
    let blob = |bytes: &[u8]| {
        if postgres { format!("decode('{}', 'hex')", literal(bytes)) } else { format!("x'{}'", literal(bytes)) }
    };
    let uuid = if postgres { format!("'{id}'") } else { format!("x'{}'", id.replace('-', "")) };
    let seal = |purpose, context: &str| fresh.store.keys().seal(purpose, context, b"plain", nonce());
    let by = fresh.store.keys().current_id();
    let sealed = |purpose, context: &str| blob(&seal(purpose, context).bytes);
    let no = if postgres { "FALSE" } else { "0" };
    for sql in [
        format!(
            "INSERT INTO providers (id, name, issuer, client_id, secret, sealed_by, scopes, domains, makes_users, role, made_at) \
             VALUES ({uuid}, 'P', 'https://p.example', 'c', {}, '{by}', 'openid', '', {}, 'user', 0)",
            sealed(Purpose::ProviderSecret, &id),
            no
        ),
        format!(
            "INSERT INTO totp (user_id, sealed, sealed_by, made_at, last_step) VALUES ({uuid}, {}, '{by}', 0, 0)",
            sealed(Purpose::Totp, &id)
        ),
        format!(
            "INSERT INTO mails (id, recipient, kind, sealed, sealed_by, queued_at, tries, problem) \
             VALUES ({uuid}, 'x', 'invitation', {}, '{by}', 0, 0, '')",
            sealed(Purpose::Mail, &id)
        ),
        format!(
            "INSERT INTO ceremonies (digest, kind, sealed, sealed_by, begun_at, expires_at) \
             VALUES ({}, 'sign_in', {}, '{by}', 0, {})",
            blob(&[5; 32]),
            sealed(Purpose::Ceremony, "sign_in"),
            after(600).as_microsecond()
        ),
    ] {
        fresh.raw(&sql).await;
    }
}

async fn step(store: &Store, kept: Kept, limit: u32) -> u64 {
    let mut act = store.act().await.unwrap();
    let count = act.rewrap(kept, limit, &nonce).await.unwrap();
    act.commit(&[record(Event::Rewrapped, "k")]).await.unwrap();
    count
}

async fn by_key(store: &Store) -> BTreeMap<(&'static str, String), u64> {
    let needs = store.read().await.unwrap().master_key_use(now()).await.unwrap();
    needs.into_iter().map(|n| ((n.kept.code(), n.key_id), n.count)).collect()
}

async fn what_is_sealed_is_sealed_anew_in_steps_and_opens(fresh: Fresh) {
    with_one_of_each(&fresh).await;
    let store = renewed(&fresh).await;
    assert_eq!(step(&store, Kept::SigningKeys, 1).await, 1);
    assert_eq!(step(&store, Kept::SigningKeys, 1).await, 1, "the next one");
    assert_eq!(step(&store, Kept::SigningKeys, 1).await, 0, "and then none is left");
    for kept in SEALED {
        while step(&store, kept, 100).await > 0 {}
    }
    for kept in [Kept::ClientSecrets, Kept::ApiKeys, Kept::RecoveryCodes, Kept::AuditRecords] {
        assert_eq!(step(&store, kept, 100).await, 0, "a digest cannot be made anew");
    }
    let new = store.keys().current_id();
    assert!(by_key(&store).await.keys().all(|(_, key)| key == new), "{:?}", by_key(&store).await);
    for stored in store.read().await.unwrap().signing_keys().await.unwrap() {
        let open = |purpose, sealed: Option<Sealed>| {
            store.keys().open(purpose, &stored.key.kid, &sealed.unwrap()).unwrap().expose_secret().clone()
        };
        assert_eq!(open(Purpose::SigningKey, stored.sealed.clone()), b"private");
        assert_eq!(open(Purpose::PublicKey, stored.public.clone()), b"public");
    }
    let mut act = store.act().await.unwrap();
    act.claim_for_current_key().await.unwrap();
    act.commit(&[record(Event::Rewrapped, "k")]).await.unwrap();
    let alone = Arc::new(MasterKeys::one([8; 32]));
    Store::open(&fresh.database, alone, &OpenOptions::default()).await.unwrap();
}

async fn a_step_that_is_not_committed_changes_nothing(fresh: Fresh) {
    with_one_of_each(&fresh).await;
    let before = by_key(&fresh.store).await;
    let store = renewed(&fresh).await;
    let mut act = store.act().await.unwrap();
    assert_eq!(act.rewrap(Kept::SigningKeys, 100, &nonce).await.unwrap(), 2);
    drop(act);
    assert_eq!(by_key(&store).await, before, "run again, it begins where it was");
}

async fn what_was_changed_meanwhile_is_not_overwritten(fresh: Fresh) {
    with_one_of_each(&fresh).await;
    let store = renewed(&fresh).await;
    step(&store, Kept::SigningKeys, 1).await;
    let mut act = store.act().await.unwrap();
    act.let_key_retire("a", now(), after(9)).await.unwrap();
    act.commit(&[record(Event::KeyRotated, "b")]).await.unwrap();
    while step(&store, Kept::SigningKeys, 100).await > 0 {}
    assert_eq!(step(&store, Kept::SigningKeys, 100).await, 0, "what is gone stays gone");
    let all = store.read().await.unwrap().signing_keys().await.unwrap();
    assert!(all.iter().find(|k| k.key.kid == "a").unwrap().sealed.is_none());
}

async fn a_value_whose_key_is_not_in_the_ring_stops_it(fresh: Fresh) {
    with_one_of_each(&fresh).await;
    fresh.raw("UPDATE signing_keys SET sealed_by = 'gone' WHERE kid = 'a'").await;
    let store = renewed(&fresh).await;
    let mut act = store.act().await.unwrap();
    let refused = act.rewrap(Kept::SigningKeys, 100, &nonce).await;
    assert!(matches!(&refused, Err(StoreError::Corrupt(what)) if what.contains("gone")), "{refused:?}");
}

async fn what_needs_which_master_key_is_counted(fresh: Fresh) {
    with_one_of_each(&fresh).await;
    let maria = fresh.super_admin("joao@acme.example").await;
    fresh.credential(maria.id).await;
    fresh
        .write(async |tx| tx.set_recovery_codes(maria.id, ("k", &[[1; 32], [2; 32]]), now()).await.unwrap())
        .await;
    fresh.write(async |tx| tx.consume_recovery_code(maria.id, &[1; 32], now()).await.unwrap()).await;
    let old = keys().current_id().to_owned();
    let mut expected: BTreeMap<(&'static str, String), u64> =
        SEALED.iter().map(|k| ((k.code(), old.clone()), 1)).collect();
    expected.insert(("signing_keys", old.clone()), 2);
    expected.insert(("public_keys", old.clone()), 2);
    expected.insert(("client_secrets", "k".to_owned()), 1);
    expected.insert(("recovery_codes", "k".to_owned()), 1);
    assert_eq!(by_key(&fresh.store).await, expected);
    let audit = fresh.read(async |tx| tx.audit_key_use().await.unwrap()).await;
    let records = u64::try_from(fresh.raw("SELECT COUNT(*) FROM audit_records").await.unwrap()).unwrap();
    assert_eq!(audit.iter().map(|n| (n.key_id.clone(), n.count)).collect::<Vec<_>>(), [(old, records)]);
}
