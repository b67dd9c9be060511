//! Keys bound to credentials, and what counts once on all nodes.

use portcullis_domain::{client_keys::ClientKey, credentials::Credential};
use portcullis_store::{StoreError, UsedProof};

use crate::support::{Fresh, after, on_both};

on_both! {
    c14_a_bound_key_is_read_back_replaced_and_removed
    c15_the_database_keeps_a_way_in
    protocol27_of_a_hundred_uses_at_once_on_two_nodes_one_is_the_first
    protocol27_what_has_ended_is_dropped_and_nothing_else
}

fn key(name: &str) -> ClientKey {
    ClientKey { jwk: format!("{{\"{name}\":1}}"), thumbprint: name.to_owned(), bound_at: after(3) }
}

async fn held(fresh: &Fresh, credential: &Credential) -> Credential {
    let found = fresh.read(async |tx| tx.presented_clients(&[credential.client_id.as_str()]).await.unwrap()).await;
    let place = fresh.read(async |tx| tx.held_credential(credential.owner).await.unwrap().unwrap()).await;
    assert_eq!(place.key, found[0].credential.key);
    place
}

async fn c14_a_bound_key_is_read_back_replaced_and_removed(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let credential = fresh.credential(owner).await;
    assert_eq!(held(&fresh, &credential).await.key, None);
    for set in [Some(key("first")), Some(key("second")), None] {
        fresh.act(async |act| act.set_client_key(credential.id, set.as_ref()).await.unwrap()).await;
        assert_eq!(held(&fresh, &credential).await.key, set);
    }
}

async fn c15_the_database_keeps_a_way_in(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let credential = fresh.credential(owner).await;
    let mut act = fresh.store.act().await.unwrap();
    let refused = act.set_secret_off(credential.id, Some(after(4))).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    drop(act);
    fresh.act(async |act| act.set_client_key(credential.id, Some(&key("k"))).await.unwrap()).await;
    fresh.act(async |act| act.set_secret_off(credential.id, Some(after(4))).await.unwrap()).await;
    assert_eq!(held(&fresh, &credential).await.secret_off_at, Some(after(4)));
    let mut act = fresh.store.act().await.unwrap();
    let refused = act.set_client_key(credential.id, None).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
    drop(act);
    fresh.act(async |act| act.set_secret_off(credential.id, None).await.unwrap()).await;
    fresh.act(async |act| act.set_client_key(credential.id, None).await.unwrap()).await;
    assert_eq!(held(&fresh, &credential).await.secret_off_at, None);
}

fn proof(n: u8, second: i64) -> UsedProof {
    UsedProof { digest: [n; 32], ends_at: after(second) }
}

async fn protocol27_of_a_hundred_uses_at_once_on_two_nodes_one_is_the_first(fresh: Fresh) {
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let tasks: Vec<_> = (0..100_u8)
        .map(|n| {
            let store = nodes[usize::from(n % 2)].clone();
            tokio::spawn(async move {
                let mut tx = store.issue().await.unwrap();
                // Its own beside two that all use, in either order, each twice.
                let (mine, a, b) = (proof(n, 9), proof(200, 9), proof(201, 9));
                let list = if n % 3 == 0 { [mine, a, b, a, mine] } else { [b, a, mine, b, mine] };
                let first = tx.use_proofs(&list).await.unwrap();
                tx.commit().await.unwrap();
                assert!(first.contains(&mine.digest));
                first.len() - 1
            })
        })
        .collect();
    let mut shared = 0;
    for task in tasks {
        shared += task.await.unwrap();
    }
    assert_eq!(shared, 2, "each of the two was first once");
    let mut tx = fresh.store.write().await.unwrap();
    assert!(tx.use_proofs(&[]).await.unwrap().is_empty());
    assert!(tx.use_proofs(&[proof(200, 9)]).await.unwrap().is_empty());
}

async fn protocol27_what_has_ended_is_dropped_and_nothing_else(fresh: Fresh) {
    let list: Vec<UsedProof> = (0..10).map(|n| proof(n, i64::from(n))).collect();
    fresh.write(async |tx| tx.use_proofs(&list).await.unwrap()).await;
    let drop_before = async |second: i64, limit| {
        fresh.write(async |tx| tx.drop_ended_proofs(after(second), limit).await.unwrap()).await
    };
    assert_eq!(drop_before(5, 3).await, 3);
    assert_eq!(drop_before(5, 3).await, 2);
    assert_eq!(drop_before(5, 3).await, 0, "what ends then has not ended before");
    let left = fresh.write(async |tx| tx.use_proofs(&list).await.unwrap()).await;
    assert_eq!(left.len(), 5, "those that were dropped could be used again");
}
