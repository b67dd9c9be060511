//! What is done at the same time: keys, registrations, and a removal while tokens are issued.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use reqwest::{Method, StatusCode};
use tokio::task::JoinSet;

use super::{ORDERS, Orders, ask_for, key_of, registered, remove};
use crate::support::{Person, Program, World, json, on_both};

on_both! {
    of_many_rotations_at_once_two_keys_are_valid_at_most
    t2_of_many_registrations_of_one_identifier_one_is_there
    c11_no_token_of_a_removed_api_is_active_after_the_acknowledgement
}

fn twin(maria: &Person, at: &World) -> Person {
    Person { client: maria.client.clone(), url: at.url.clone(), cookie: maria.cookie.clone() }
}

async fn of_many_rotations_at_once_two_keys_are_valid_at_most(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let id = registered(&maria, &Orders::default()).await;
    key_of(&maria, &id, "").await;
    let mut all = JoinSet::new();
    for n in 0..8 {
        let (maria, id) = (twin(&maria, if n % 2 == 0 { &world } else { &node }), id.clone());
        all.spawn(async move { super::make_key(&maria, &id, "day").await.status() });
    }
    let made = all.join_all().await;
    assert_eq!(made.iter().filter(|s| **s == StatusCode::CREATED).count(), 1, "{made:?}");
    assert!(made.iter().all(|s| [StatusCode::CREATED, StatusCode::CONFLICT].contains(s)), "{made:?}");
    let keys = world.app.store.read().await.unwrap().api_keys(id.parse().unwrap()).await.unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(keys.iter().filter(|k| k.ends_at.is_none()).count(), 1, "one that stays");
    world.log_is_whole().await;
}

async fn t2_of_many_registrations_of_one_identifier_one_is_there(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let mut all = JoinSet::new();
    for n in 0..8 {
        let maria = twin(&maria, if n % 2 == 0 { &world } else { &node });
        all.spawn(async move {
            let request = maria.request(Method::POST, "/api/v1/apis").json(&Orders::default().json());
            request.send().await.unwrap().status()
        });
    }
    let made = all.join_all().await;
    assert_eq!(made.iter().filter(|s| **s == StatusCode::CREATED).count(), 1, "{made:?}");
    assert_eq!(made.iter().filter(|s| **s == StatusCode::UNPROCESSABLE_ENTITY).count(), 7, "{made:?}");
}

/// Asks for tokens until one request has begun after the acknowledgement; gives all it got.
async fn keeps_asking(program: Program, acknowledged: Arc<AtomicBool>) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        let began_after = acknowledged.load(Ordering::SeqCst);
        let response = ask_for(&program, ORDERS, "").await;
        if response.status() == StatusCode::OK {
            assert!(!began_after, "C-11: a token was issued to a request that began after");
            got.push(json(response).await["access_token"].as_str().unwrap().to_owned());
        } else {
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        }
        if began_after {
            return got;
        }
    }
}

async fn c11_no_token_of_a_removed_api_is_active_after_the_acknowledgement(world: World) {
    let node = world.another_node().await;
    let maria = world.maria().await;
    let program = maria.generate().await;
    let mut seen = 0;
    for _ in 0..20 {
        let id = registered(&maria, &Orders::default()).await;
        let acknowledged = Arc::new(AtomicBool::new(false));
        let mut asking = JoinSet::new();
        for n in 0..6 {
            let program = program.at(if n % 2 == 0 { &world } else { &node });
            asking.spawn(keeps_asking(program, Arc::clone(&acknowledged)));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        assert_eq!(remove(&maria, &id).await.status(), StatusCode::NO_CONTENT);
        acknowledged.store(true, Ordering::SeqCst);
        for token in asking.join_all().await.concat() {
            assert!(!program.at(&node).is_active(&token).await, "issued just before, and over with the rest");
            seen += 1;
        }
    }
    assert!(seen > 0, "tokens were issued meanwhile");
}
