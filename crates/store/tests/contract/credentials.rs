//! Credentials: C-1 under a race, the final revocation, and the facts read for a standing.

use portcullis_domain::{
    accounts::{Role, Standing, Status},
    audit::Event,
    credentials::{RevocationReason, Standing as CredentialStanding, Suspension},
};
use portcullis_store::StoreError;

use crate::support::{Fresh, after, credential, on_both, record};

on_both! {
    c1_of_a_hundred_parallel_generates_exactly_one_succeeds
    c1_the_index_refuses_a_second_active_credential_even_without_the_check
    c6_a_retired_credential_gives_its_place
    c7_the_first_revocation_stands
    a_standing_is_read_from_the_credential_and_its_owner_together
    many_clients_are_looked_up_at_once
    a_hostile_client_id_is_unknown_and_harms_nobody_else
}

/// 100 tasks on two nodes check the place and then fill it, as the use-case does.
async fn c1_of_a_hundred_parallel_generates_exactly_one_succeeds(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let nodes = [fresh.store.clone(), fresh.another_node().await];
    let tasks: Vec<_> = (0..100)
        .map(|n| {
            let store = nodes[n % 2].clone();
            tokio::spawn(async move {
                let mut act = store.act().await?;
                if act.held_credential(owner).await?.is_some() {
                    return Ok(false);
                }
                let made = credential(owner);
                act.add_credential(&made).await?;
                act.commit(&[record(Event::CredentialGenerated, made.client_id.as_str())]).await?;
                Ok::<_, StoreError>(true)
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        made += usize::from(task.await.unwrap().unwrap());
    }
    assert_eq!(made, 1);
    assert!(fresh.store.verify_audit().await.unwrap().broken.is_none());
}

async fn c1_the_index_refuses_a_second_active_credential_even_without_the_check(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    fresh.credential(owner).await;
    let mut act = fresh.store.act().await.unwrap();
    let refused = act.add_credential(&credential(owner)).await;
    assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
}

async fn c6_a_retired_credential_gives_its_place(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let first = fresh.credential(owner).await;
    let mut act = fresh.store.act().await.unwrap();
    act.retire_credential(first.id, after(1)).await.unwrap();
    let second = credential(owner);
    act.add_credential(&second).await.unwrap();
    act.commit(&[record(Event::CredentialRetired, first.client_id.as_str())]).await.unwrap();
    let held = fresh.store.read().await.unwrap().held_credential(owner).await.unwrap().unwrap();
    assert_eq!(held.client_id, second.client_id);
    assert_eq!((held.generated_at, held.expires_at, held.revoked), (second.generated_at, second.expires_at, None));
    assert_eq!(held.digest, second.digest);
}

async fn c7_the_first_revocation_stands(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    let mut act = fresh.store.act().await.unwrap();
    assert!(act.revoke_credential(held.id, RevocationReason::ByOwner, after(1)).await.unwrap());
    assert!(!act.revoke_credential(held.id, RevocationReason::OwnerDeleted, after(2)).await.unwrap());
    act.commit(&[record(Event::CredentialRevoked, held.client_id.as_str())]).await.unwrap();

    let mut tx = fresh.store.read().await.unwrap();
    assert!(tx.held_credential(owner).await.unwrap().is_none(), "the place is empty again");
    let client = tx.presented_clients(&[held.client_id.as_str()]).await.unwrap().pop().unwrap();
    let standing = client.credential.standing(&client.owner, after(3));
    assert_eq!(standing, CredentialStanding::Revoked(after(1), RevocationReason::ByOwner));
}

async fn a_standing_is_read_from_the_credential_and_its_owner_together(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await;
    let held = fresh.credential(owner.id).await;
    let whole = fresh.read(async |tx| tx.presented_clients(&[held.client_id.as_str()]).await.unwrap()).await;
    assert_eq!(format!("{:?}", whole[0].credential), format!("{held:?}"));
    assert_eq!(whole[0].owner, owner.standing);
    let cases = [
        (Some(after(1)), Role::SuperAdmin, Status::Active, Suspension::MfaOn),
        (None, Role::User, Status::Active, Suspension::OwnerNotSuperAdmin),
        (None, Role::SuperAdmin, Status::Inactive, Suspension::OwnerInactive),
    ];
    for (mfa_since, role, status, why) in cases {
        let standing =
            Standing { role: (role, after(1)), status: (status, after(1)), mfa_since, has_password: true };
        let mut act = fresh.store.act().await.unwrap();
        act.set_standing(owner.id, &standing).await.unwrap();
        act.commit(&[record(Event::ProfileChanged, "x")]).await.unwrap();
        let mut tx = fresh.store.read().await.unwrap();
        let client = tx.presented_clients(&[held.client_id.as_str()]).await.unwrap().pop().unwrap();
        assert_eq!(
            client.credential.standing(&client.owner, after(2)),
            CredentialStanding::Suspended(why, after(1))
        );
    }
}

async fn many_clients_are_looked_up_at_once(fresh: Fresh) {
    let mut ids = Vec::new();
    for n in 0..5 {
        let owner = fresh.super_admin(&format!("a{n}@acme.example")).await.id;
        ids.push(fresh.credential(owner).await.client_id.as_str().to_owned());
    }
    let mut tx = fresh.store.read().await.unwrap();
    for n in 0..=5 {
        let mut asked: Vec<&str> = ids[..n].iter().map(String::as_str).collect();
        asked.push("pcc_unknown'; --");
        let found = tx.presented_clients(&asked).await.unwrap();
        assert_eq!(found.len(), n);
    }
    assert!(tx.presented_clients(&[]).await.unwrap().is_empty());
}

async fn a_hostile_client_id_is_unknown_and_harms_nobody_else(fresh: Fresh) {
    let owner = fresh.super_admin("maria@acme.example").await.id;
    let held = fresh.credential(owner).await;
    let with_nul = format!("{}\0", held.client_id.as_str());
    let long = format!("{}{}", held.client_id.as_str(), "0".repeat(100_000));
    let mut tx = fresh.store.read().await.unwrap();
    let found = tx.presented_clients(&["\0", &with_nul, held.client_id.as_str(), &long]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert!(tx.presented_clients(&[&with_nul]).await.unwrap().is_empty());
    assert!(tx.presented_clients(&[&long]).await.unwrap().is_empty());
}
