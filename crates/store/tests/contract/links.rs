//! Links sent by mail: used once, replaced by the next, told apart.

use portcullis_domain::links::{Link, LinkPurpose, LinkRefused};
use portcullis_store::Store;

use crate::support::{Fresh, after, at_once, now, on_both};

on_both! {
    a_link_comes_back_under_its_digest_and_purpose_only
    a2_a_link_used_by_many_at_once_is_used_once
    a_newer_link_takes_the_place_of_the_older
    a_link_is_not_used_when_its_time_is_over
    links_go_with_age_and_with_their_user
}

const INVITATION: LinkPurpose = LinkPurpose::Invitation;
const RESET: LinkPurpose = LinkPurpose::PasswordReset;

async fn a_link_comes_back_under_its_digest_and_purpose_only(fresh: Fresh) {
    let maria = fresh.super_admin("maria@acme.example").await.id;
    let link = Link::new(maria, RESET, now());
    fresh.write(async |tx| tx.add_link(&[1; 32], &link).await.unwrap()).await;
    let mut tx = fresh.store.read().await.unwrap();
    assert_eq!(tx.link(&[1; 32], RESET).await.unwrap(), Some(link));
    assert_eq!(tx.link(&[1; 32], INVITATION).await.unwrap(), None, "a link of one kind never serves as another");
    assert_eq!(tx.link(&[2; 32], RESET).await.unwrap(), None);
    drop(tx);
    assert!(!fresh.write(async |tx| tx.use_link(&[1; 32], INVITATION, after(1)).await.unwrap()).await);
    assert!(!fresh.write(async |tx| tx.use_link(&[2; 32], RESET, after(1)).await.unwrap()).await);
}

async fn a2_a_link_used_by_many_at_once_is_used_once(fresh: Fresh) {
    async fn take(store: Store) -> bool {
        let mut tx = store.write().await.unwrap();
        let used = tx.use_link(&[1; 32], INVITATION, after(1)).await.unwrap();
        tx.commit().await.unwrap();
        used
    }
    let maria = fresh.super_admin("maria@acme.example").await.id;
    fresh.write(async |tx| tx.add_link(&[1; 32], &Link::new(maria, INVITATION, now())).await.unwrap()).await;
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let outcomes = at_once(20, |n| take(nodes[n % 2].clone())).await;
    assert_eq!(outcomes.iter().filter(|used| **used).count(), 1, "{outcomes:?}");
    let link = fresh.read(async |tx| tx.link(&[1; 32], INVITATION).await.unwrap()).await.unwrap();
    assert_eq!(link.used_at, Some(after(1)));
    assert_eq!(link.check(after(2)), Err(LinkRefused::Used(INVITATION)));
}

async fn a_newer_link_takes_the_place_of_the_older(fresh: Fresh) {
    let maria = fresh.super_admin("maria@acme.example").await.id;
    let ana = fresh.super_admin("ana@acme.example").await.id;
    fresh
        .write(async |tx| {
            tx.add_link(&[1; 32], &Link::new(maria, INVITATION, now())).await.unwrap();
            tx.add_link(&[2; 32], &Link::new(maria, RESET, now())).await.unwrap();
            tx.add_link(&[3; 32], &Link::new(ana, INVITATION, now())).await.unwrap();
            tx.add_link(&[4; 32], &Link::new(maria, INVITATION, after(5))).await.unwrap();
        })
        .await;
    let mut tx = fresh.store.read().await.unwrap();
    let old = tx.link(&[1; 32], INVITATION).await.unwrap().unwrap();
    assert_eq!((old.replaced_at, old.check(after(6))), (Some(after(5)), Err(LinkRefused::Replaced(INVITATION))));
    for (digest, purpose) in [(2, RESET), (3, INVITATION), (4, INVITATION)] {
        let link = tx.link(&[digest; 32], purpose).await.unwrap().unwrap();
        assert_eq!(link.check(after(6)), Ok(()), "{digest}");
    }
    drop(tx);
    assert!(!fresh.write(async |tx| tx.use_link(&[1; 32], INVITATION, after(6)).await.unwrap()).await);
    assert!(fresh.write(async |tx| tx.use_link(&[4; 32], INVITATION, after(6)).await.unwrap()).await);
}

async fn a_link_is_not_used_when_its_time_is_over(fresh: Fresh) {
    let maria = fresh.super_admin("maria@acme.example").await.id;
    fresh.write(async |tx| tx.add_link(&[1; 32], &Link::new(maria, RESET, now())).await.unwrap()).await;
    assert!(!fresh.write(async |tx| tx.use_link(&[1; 32], RESET, after(3600)).await.unwrap()).await);
    assert!(fresh.write(async |tx| tx.use_link(&[1; 32], RESET, after(3599)).await.unwrap()).await);
}

async fn links_go_with_age_and_with_their_user(fresh: Fresh) {
    let maria = fresh.super_admin("maria@acme.example").await.id;
    let ana = fresh.super_admin("ana@acme.example").await.id;
    fresh
        .write(async |tx| {
            tx.add_link(&[1; 32], &Link::new(maria, RESET, now())).await.unwrap();
            tx.add_link(&[2; 32], &Link::new(maria, INVITATION, now())).await.unwrap();
            tx.add_link(&[3; 32], &Link::new(ana, INVITATION, now())).await.unwrap();
        })
        .await;
    assert_eq!(fresh.write(async |tx| tx.drop_old_links(after(3600), 9).await.unwrap()).await, 0);
    assert_eq!(fresh.write(async |tx| tx.drop_old_links(after(3601), 9).await.unwrap()).await, 1);
    fresh.write(async |tx| tx.drop_links_of(maria).await.unwrap()).await;
    let mut tx = fresh.store.read().await.unwrap();
    assert_eq!(tx.link(&[2; 32], INVITATION).await.unwrap(), None);
    assert!(tx.link(&[3; 32], INVITATION).await.unwrap().is_some());
}
