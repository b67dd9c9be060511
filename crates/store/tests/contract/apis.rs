//! APIs and their keys: one identifier, two keys, and no token of what was removed (C-11).

use portcullis_domain::{
    apis::{Api, ApiKey, ApiKeyId, OWN, Scope, Settings},
    secret::DigestKey,
};
use portcullis_store::{NewToken, StoreError};
use uuid::Uuid;

use crate::support::{Fresh, after, at_once, id, now, on_both, own_api, token};

on_both! {
    every_field_of_an_api_comes_back
    t2_there_is_one_api_per_identifier
    apis_are_found_by_their_identifiers_whatever_is_asked
    the_own_api_is_named_anew_and_never_removed
    c11_no_token_of_a_removed_api_is_left_and_a_new_one_revives_none
    c11_a_removal_waits_for_the_tokens_under_way_on_any_node
    c13_tokens_of_a_removed_api_are_not_counted
    every_field_of_a_key_comes_back_with_its_api
    an_api_has_two_keys_at_most_whoever_asks
    protocol09_an_unknown_key_reads_the_row_of_nobody
}

fn api(name: &str, identifier: &str) -> Api {
    let scope =
        |name: &str| Scope { name: name.to_owned(), description: "Read <b>orders</b>, ação '; --".to_owned() };
    let settings = Settings {
        name: name.to_owned(),
        identifier: identifier.to_owned(),
        scopes: vec![scope("orders:read"), scope("!#[]~'")],
        lifespan_seconds: Some(3600),
        requires_dpop: false,
        algorithm: portcullis_domain::keys::Algorithm::EdDsa,
    };
    Api { id: id(), settings, made_at: now() }
}

fn key(api: Uuid, n: u8, place: i64) -> ApiKey {
    ApiKey {
        id: ApiKeyId::new([n; 20]),
        api,
        place,
        digest: DigestKey::new("k", &[1; 32]).digest(b"secret"),
        made_at: after(i64::from(n)),
        ends_at: None,
    }
}

async fn added(fresh: &Fresh, name: &str, identifier: &str) -> Api {
    let api = api(name, identifier);
    fresh.act(async |act| act.add_api(&api).await.unwrap()).await;
    api
}

async fn a_token_for(fresh: &Fresh, api: Uuid) -> NewToken {
    let owner = fresh.super_admin(&format!("{}@acme.example", id())).await.id;
    let token = NewToken { api, ..token(fresh.credential(owner).await.id, 0) };
    fresh.write(async |tx| tx.record_tokens(std::slice::from_ref(&token)).await.unwrap()).await;
    token
}

async fn is_registered(fresh: &Fresh, token: &NewToken) -> bool {
    let found = fresh.read(async |tx| tx.token_on_record(token.jti).await.unwrap()).await.unwrap();
    found.audience.is_registered
}

async fn every_field_of_an_api_comes_back(fresh: Fresh) {
    let mut b = added(&fresh, "B '; --", "https://b.example").await;
    let a = added(&fresh, "A", "urn:a").await;
    b.settings.name = "Z".to_owned();
    b.settings.scopes.pop();
    b.settings.lifespan_seconds = Some(60);
    b.settings.requires_dpop = true;
    let other = Settings { identifier: "urn:ignored".to_owned(), ..b.settings.clone() };
    assert!(fresh.act(async |act| act.change_api(b.id, &other).await.unwrap()).await);
    assert!(!fresh.act(async |act| act.change_api(id(), &other).await.unwrap()).await);
    assert_eq!(fresh.read(async |tx| tx.api(b.id).await.unwrap()).await, Some(b.clone()), "the identifier stays");
    let all = fresh.read(async |tx| tx.apis().await.unwrap()).await;
    assert_eq!(all, [own_api(), a, b], "the own one, then by name; nobody's is not there");
    assert_eq!(fresh.read(async |tx| tx.api(id()).await.unwrap()).await, None);
    assert_eq!(fresh.read(async |tx| tx.api(Uuid::max()).await.unwrap()).await, None, "nobody's");
    assert!(fresh.act(async |act| act.remove_api(all[2].id, after(1)).await.unwrap()).await);
    assert!(!fresh.act(async |act| act.remove_api(all[2].id, after(2)).await.unwrap()).await, "once");
    assert!(!fresh.act(async |act| act.change_api(all[2].id, &other).await.unwrap()).await);
    assert_eq!(fresh.read(async |tx| tx.apis().await.unwrap()).await.len(), 2);
}

async fn t2_there_is_one_api_per_identifier(fresh: Fresh) {
    let store = fresh.store.clone();
    let made = at_once(8, |n| {
        let store = store.clone();
        async move {
            let mut tx = store.write().await.unwrap();
            tx.add_api(&api(&format!("{n}"), "urn:a")).await?;
            tx.commit().await
        }
    })
    .await;
    assert_eq!(made.iter().filter(|m| m.is_ok()).count(), 1);
    assert!(made.iter().all(|m| matches!(m, Ok(()) | Err(StoreError::Conflict(_)))), "{made:?}");
    let first = fresh.read(async |tx| tx.apis_named(&["urn:a"]).await.unwrap()).await.remove(0);
    fresh.act(async |act| act.remove_api(first.id, after(1)).await.unwrap()).await;
    added(&fresh, "again", "urn:a").await;
}

async fn apis_are_found_by_their_identifiers_whatever_is_asked(fresh: Fresh) {
    let a = added(&fresh, "A", "urn:a").await;
    let b = added(&fresh, "B", "urn:b").await;
    let gone = added(&fresh, "C", "urn:c").await;
    fresh.act(async |act| act.remove_api(gone.id, after(1)).await.unwrap()).await;
    let long = "urn:a".repeat(1000);
    let asked = ["urn:b", "urn:c", "urn:A", "", "urn:a\0", "'; --", &long, "é", "urn:a"];
    let mut found = fresh.read(async |tx| tx.apis_named(&asked).await.unwrap()).await;
    found.sort_by(|x, y| x.settings.name.cmp(&y.settings.name));
    assert_eq!(found, [a, b]);
    assert_eq!(fresh.read(async |tx| tx.apis_named(&[]).await.unwrap()).await, []);
}

async fn the_own_api_is_named_anew_and_never_removed(fresh: Fresh) {
    let other = added(&fresh, "A", "urn:a").await;
    fresh.act(async |act| act.name_own_api("urn:own").await.unwrap()).await;
    let own = fresh.read(async |tx| tx.api(OWN).await.unwrap()).await.unwrap();
    assert_eq!(own.settings, Settings::own("urn:own".to_owned()));
    let mut act = fresh.store.act().await.unwrap();
    let taken = act.name_own_api(&other.settings.identifier).await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))), "{taken:?}");
    drop(act);
    let mut act = fresh.store.act().await.unwrap();
    assert!(act.remove_api(OWN, after(1)).await.is_err(), "the database keeps it");
}

async fn c11_no_token_of_a_removed_api_is_left_and_a_new_one_revives_none(fresh: Fresh) {
    let node = fresh.another_node().await;
    let a = added(&fresh, "A", "urn:a").await;
    let token = a_token_for(&fresh, a.id).await;
    assert!(is_registered(&fresh, &token).await);
    fresh.act(async |act| act.add_api_key(&key(a.id, 1, 1)).await.unwrap()).await;
    fresh.act(async |act| act.remove_api(a.id, after(1)).await.unwrap()).await;
    assert!(!is_registered(&fresh, &token).await);
    let there = node.read().await.unwrap().token_on_record(token.jti).await.unwrap().unwrap();
    assert!(!there.audience.is_registered, "on every node");
    assert_eq!(there.audience.identifier, "urn:a", "L-4: what it was for stays on record");
    let key_id = key(a.id, 1, 1).id;
    assert!(fresh.read(async |tx| tx.presented_key(key_id.as_str()).await.unwrap()).await.is_none());
    added(&fresh, "A", "urn:a").await;
    assert!(!is_registered(&fresh, &token).await, "another API of the same name is another one");
}

async fn c11_a_removal_waits_for_the_tokens_under_way_on_any_node(fresh: Fresh) {
    let a = added(&fresh, "A", "urn:a").await;
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let credential = fresh.credential(owner).await.id;
    let node = fresh.another_node().await;
    let mut issuing = node.issue().await.unwrap();
    assert_eq!(issuing.apis_named(&["urn:a"]).await.unwrap().len(), 1);
    let store = fresh.store.clone();
    let removing = tokio::spawn(async move {
        let mut act = store.act().await.unwrap();
        act.remove_api(a.id, after(1)).await.unwrap();
        act.commit(&[crate::support::record(portcullis_domain::audit::Event::ApiRemoved, "urn:a")]).await.unwrap();
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(!removing.is_finished(), "it waits");
    let token = NewToken { api: a.id, ..token(credential, 0) };
    issuing.record_tokens(std::slice::from_ref(&token)).await.unwrap();
    issuing.commit().await.unwrap();
    removing.await.unwrap();
    assert!(!is_registered(&fresh, &token).await, "issued just before, and over with the rest");
    let mut later = node.issue().await.unwrap();
    assert_eq!(later.apis_named(&["urn:a"]).await.unwrap(), []);
}

async fn c13_tokens_of_a_removed_api_are_not_counted(fresh: Fresh) {
    let a = added(&fresh, "A", "urn:a").await;
    let token = a_token_for(&fresh, a.id).await;
    let used = async || fresh.read(async |tx| tx.token_use(token.credential, after(10)).await.unwrap()).await;
    assert_eq!((used().await.open, used().await.open_until), (1, Some(token.expires_at)));
    fresh.act(async |act| act.remove_api(a.id, after(1)).await.unwrap()).await;
    assert_eq!((used().await.open, used().await.open_until), (0, None));
    assert!(!used().await.last.unwrap().terms.audience.is_registered, "but it is on record (L-4)");
}

async fn every_field_of_a_key_comes_back_with_its_api(fresh: Fresh) {
    let a = added(&fresh, "A", "urn:a").await;
    let (mut one, two) = (key(a.id, 1, 1), key(a.id, 2, 2));
    fresh.act(async |act| act.add_api_key(&two).await.unwrap()).await;
    fresh.act(async |act| act.add_api_key(&one).await.unwrap()).await;
    one.ends_at = Some(after(90));
    fresh.act(async |act| act.end_api_key(&one.id, after(90)).await.unwrap()).await;
    let keys = fresh.read(async |tx| tx.api_keys(a.id).await.unwrap()).await;
    assert_eq!(keys, [one.clone(), two.clone()], "the first made first");
    let presented = fresh.read(async |tx| tx.presented_key(one.id.as_str()).await.unwrap()).await.unwrap();
    assert_eq!((presented.key, presented.api), (one.clone(), a.clone()));
    assert_eq!(fresh.read(async |tx| tx.api_keys(OWN).await.unwrap()).await, []);
    assert!(!fresh.act(async |act| act.remove_api_key(OWN, &one.id).await.unwrap()).await, "another API's");
    assert!(fresh.act(async |act| act.remove_api_key(a.id, &one.id).await.unwrap()).await);
    assert!(!fresh.act(async |act| act.remove_api_key(a.id, &one.id).await.unwrap()).await);
    assert_eq!(fresh.read(async |tx| tx.api_keys(a.id).await.unwrap()).await, [two]);
}

async fn an_api_has_two_keys_at_most_whoever_asks(fresh: Fresh) {
    let a = added(&fresh, "A", "urn:a").await;
    let store = fresh.store.clone();
    let made = at_once(8, |n| {
        let store = store.clone();
        let n = u8::try_from(n).unwrap();
        async move {
            let mut tx = store.write().await.unwrap();
            tx.add_api_key(&key(a.id, n, i64::from(n % 2) + 1)).await?;
            tx.commit().await
        }
    })
    .await;
    assert_eq!(made.iter().filter(|m| m.is_ok()).count(), 2, "{made:?}");
    let mut tx = fresh.store.write().await.unwrap();
    assert!(tx.add_api_key(&key(a.id, 30, 3)).await.is_err(), "there is no third place");
}

async fn protocol09_an_unknown_key_reads_the_row_of_nobody(fresh: Fresh) {
    for unknown in ["pca_zzzzzzzzzzzzzzzzzzzz", "pca_00000000000000000000", "pca_\0", "", "'; --"] {
        assert!(fresh.read(async |tx| tx.presented_key(unknown).await.unwrap()).await.is_none(), "{unknown:?}");
    }
    assert_eq!(fresh.raw("SELECT COUNT(*) FROM api_keys").await, Some(1), "it is there to be read");
}
