//! What is done to signing keys at the same time, and while tokens are issued.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use reqwest::StatusCode;
use tokio::task::JoinSet;

use super::{in_state, kid, kids, listed, publish_ahead, rotate, withdraw};
use crate::support::{Person, Program, World, json, on_both};

on_both! {
    protocol26_of_many_rotations_at_once_one_is_done
    protocol26_no_token_is_signed_by_a_key_that_was_not_published
    c11_no_token_of_a_withdrawn_key_is_active_after_the_acknowledgement
    of_many_first_choices_of_an_algorithm_its_keys_are_made_once
}

fn twin(maria: &Person, at: &World) -> Person {
    Person { client: maria.client.clone(), url: at.url.clone(), cookie: maria.cookie.clone() }
}

async fn protocol26_of_many_rotations_at_once_one_is_done(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    world.pass(publish_ahead(&world));
    let maria = Person { cookie: world.sign_in("maria@acme.example").await.cookie, ..maria };
    let mark = world.last_record().await;
    let mut all = JoinSet::new();
    for n in 0..6 {
        let maria = twin(&maria, if n % 2 == 0 { &world } else { &node });
        all.spawn(async move { rotate(&maria, "ES256", false).await.status() });
    }
    let done = all.join_all().await;
    assert_eq!(done.iter().filter(|s| **s == StatusCode::OK).count(), 1, "{done:?}");
    assert!(done.iter().all(|s| [StatusCode::OK, StatusCode::CONFLICT].contains(s)), "{done:?}");
    assert_eq!(world.told_after(mark).await, ["key.rotate done"]);
    assert_eq!(listed(&maria).await.len(), 3);
}

/// Asks for tokens until it is told to stop; gives the ids of the keys that signed them.
async fn keeps_asking(program: Program, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut got = BTreeSet::new();
    while !stop.load(Ordering::SeqCst) {
        got.insert(kid(&program.token().await));
    }
    got
}

async fn protocol26_no_token_is_signed_by_a_key_that_was_not_published(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let stop = Arc::new(AtomicBool::new(false));
    // What a verifier that asks either node had at the beginning of each round.
    let mut published = BTreeSet::from_iter(kids(&node).await);
    let mut asking = JoinSet::new();
    for n in 0..4 {
        let program = program.at(if n % 2 == 0 { &world } else { &node });
        asking.spawn(keeps_asking(program, Arc::clone(&stop)));
    }
    for n in 0..5 {
        let maria = twin(&maria, if n % 2 == 0 { &world } else { &node });
        published.extend(kids(&node).await);
        assert_eq!(rotate(&maria, "ES256", true).await.status(), StatusCode::OK);
        tokio::time::sleep(std::time::Duration::from_millis(60)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let signed: BTreeSet<String> = asking.join_all().await.into_iter().flatten().collect();
    assert!(signed.len() > 2, "several of them signed: {signed:?}");
    assert!(signed.is_subset(&published), "{signed:?} {published:?}");
}

/// As fast as it can be set: whoever fetched the key set before a token was asked for holds its key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protocol26_with_a_rotation_every_second_a_key_set_from_before_has_the_key_of_each_token() {
    let settings = [("key_rotation_seconds", "1"), ("key_publish_ahead_seconds", "1")];
    let world = World::sqlite_of_now(&settings).await;
    let node = world.another_node().await;
    let keepers = [&world, &node].map(|w| tokio::spawn(portcullis::app::keys::run(Arc::clone(&w.app))));
    let program = world.maria().await.generate().await;
    let mut signed = BTreeSet::new();
    while signed.len() < 5 {
        for at in [&world, &node] {
            let held = kids(&world).await;
            let token = program.at(at).token().await;
            assert!(held.contains(&kid(&token)));
            assert!(program.is_active(&token).await);
            signed.insert(kid(&token));
        }
    }
    keepers.iter().for_each(tokio::task::JoinHandle::abort);
    world.log_is_whole().await;
}

async fn c11_no_token_of_a_withdrawn_key_is_active_after_the_acknowledgement(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    for _ in 0..4 {
        let acknowledged = Arc::new(AtomicBool::new(false));
        let mut asking = JoinSet::new();
        for n in 0..4 {
            let program = program.at(if n % 2 == 0 { &world } else { &node });
            let acknowledged = Arc::clone(&acknowledged);
            asking.spawn(async move {
                let mut got = Vec::new();
                loop {
                    let began_after = acknowledged.load(Ordering::SeqCst);
                    let token = json(program.ask().await).await["access_token"].as_str().unwrap().to_owned();
                    got.push((began_after, token));
                    if began_after {
                        return got;
                    }
                }
            });
        }
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        let active = in_state(&maria, "active").await;
        assert_eq!(withdraw(&maria, &active).await.status(), StatusCode::OK);
        acknowledged.store(true, Ordering::SeqCst);
        for (began_after, token) in asking.join_all().await.concat() {
            let of_withdrawn = kid(&token) == active;
            assert!(!(began_after && of_withdrawn), "a request that began after is signed by another key");
            assert_eq!(program.at(&node).is_active(&token).await, !of_withdrawn);
        }
    }
    world.log_is_whole().await;
}

async fn of_many_first_choices_of_an_algorithm_its_keys_are_made_once(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let mut all = JoinSet::new();
    for n in 0..6 {
        let maria = twin(&maria, if n % 2 == 0 { &world } else { &node });
        let body = serde_json::json!({ "name": "A", "identifier": format!("urn:{n}"), "algorithm": "EdDSA" });
        all.spawn(async move {
            maria.request(reqwest::Method::POST, "/api/v1/apis").json(&body).send().await.unwrap().status()
        });
    }
    assert!(all.join_all().await.iter().all(|s| *s == StatusCode::CREATED));
    assert_eq!(kids(&node).await.len(), 4);
}
