//! C-11 reaches those who do not ask: by the feed, and by the status list where there is no feed.
//! `dev/reach` prints how long it takes.

use portcullis_domain::accounts::Role;
use portcullis_verify::{Refusal, Verifier};
use reqwest::StatusCode;

use super::{is_refused, said, says, verifier};
use crate::support::{Program, World};

async fn both(world: &World) -> [Verifier; 2] {
    let audience = format!("{}/api/v1", world.url);
    let key = world.watcher().await;
    [verifier(world, &audience, Some(&key)).await, verifier(world, &audience, None).await]
}

async fn c9_c11_a_verifier_refuses_what_is_suspended_until_it_is_resumed_and_what_is_revoked_for_good(
    world: World,
) {
    let node = world.another_node().await;
    let verifiers = both(&world).await;
    let joao = world.person("joao@acme.example", Role::SuperAdmin).await;
    let program = joao.generate().await;
    let token = program.token().await;
    let user = world.user_of("joao@acme.example").await;
    let maria = world.maria().await.at(&node);
    for verifier in &verifiers {
        said(verifier, &token).await.unwrap();
    }
    for act in ["deactivate", "activate"] {
        let response = maria.post(&format!("/users/{}/{act}", user.id), &[]).await;
        assert_eq!(response.status(), StatusCode::SEE_OTHER, "{act}");
        for verifier in &verifiers {
            if act == "deactivate" {
                is_refused(verifier, &token, Refusal::Suspended).await;
            } else {
                says(verifier, &token, None).await;
            }
        }
    }
    let joao = world.sign_in("joao@acme.example").await.at(&node);
    assert_eq!(joao.revoke().await.status(), StatusCode::OK);
    for verifier in &verifiers {
        is_refused(verifier, &token, Refusal::Revoked).await;
    }
}

async fn a_single_token_that_is_revoked_is_known_to_who_follows_the_feed(world: World) {
    let [follows, _] = both(&world).await;
    let program: Program = world.maria().await.generate().await;
    let (token, other) = (program.token().await, program.token().await);
    said(&follows, &token).await.unwrap();
    assert_eq!(program.oauth("revoke", &[("token", &token)]).await.status(), StatusCode::OK);
    is_refused(&follows, &token, Refusal::Revoked).await;
    said(&follows, &other).await.unwrap();
    // Who begins to follow afterwards is told, too.
    let [late, _] = both(&world).await;
    is_refused(&late, &token, Refusal::Revoked).await;
}

async fn protocol26_a_key_that_is_withdrawn_is_not_taken_by_who_follows_the_feed(world: World) {
    let [follows, _] = both(&world).await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let token = program.token().await;
    said(&follows, &token).await.unwrap();
    let keys: serde_json::Value = maria.get("/api/v1/keys").await.json().await.unwrap();
    let keys = keys["keys"].as_array().unwrap();
    let active = keys.iter().find(|k| k["state"] == "active").unwrap()["kid"].as_str().unwrap();
    let form = serde_json::json!({ "reason": "It was in a backup that got lost." });
    let path = format!("/api/v1/keys/{active}/withdraw");
    let response = maria.request(reqwest::Method::POST, &path).json(&form).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    is_refused(&follows, &token, Refusal::UnknownKey).await;
    said(&follows, &program.token().await).await.unwrap();
}

macro_rules! on_both_of_now {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::World::sqlite_of_now(&[]).await).await; })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name($crate::support::World::postgres_of_now(&[]).await).await; })*
        }
    };
}

on_both_of_now! {
    c9_c11_a_verifier_refuses_what_is_suspended_until_it_is_resumed_and_what_is_revoked_for_good
    a_single_token_that_is_revoked_is_known_to_who_follows_the_feed
    protocol26_a_key_that_is_withdrawn_is_not_taken_by_who_follows_the_feed
}
