//! Protocol 26, seen from those who verify: keys take over from each other as fast as it can be set,
//! for a minute, under load, on two nodes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, RwLock},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{said, verifier};
use crate::support::{World, json};

const A_MINUTE: Duration = Duration::from_secs(60);

fn kid(token: &str) -> String {
    let header = BASE64URL.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

async fn published(world: &World) -> BTreeSet<String> {
    let asked = world.stranger().request(reqwest::Method::GET, "/.well-known/jwks.json").send().await.unwrap();
    let set = json(asked).await;
    set["keys"].as_array().unwrap().iter().map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "the minute is one of the machine's")]
async fn protocol26_with_a_rotation_every_second_no_good_token_is_refused_and_none_has_an_unpublished_key() {
    let settings = [("key_rotation_seconds", "1"), ("key_publish_ahead_seconds", "1")];
    let world = World::sqlite_of_now(&settings).await;
    let node = world.another_node().await;
    let keepers = [&world, &node].map(|w| tokio::spawn(portcullis::app::keys::run(Arc::clone(&w.app))));
    let audience = format!("{}/api/v1", world.url);
    // The one is told of new keys. The other keeps what it fetched until it meets a key that it lacks.
    let key = world.watcher().await;
    let verifiers = [verifier(&world, &audience, Some(&key)).await, verifier(&world, &audience, None).await];
    let program = world.maria().await.generate().await;
    let until = Instant::now() + A_MINUTE;
    let held = Arc::new(RwLock::new(published(&world).await));
    let mut asking = JoinSet::new();
    for n in 0..4 {
        let program = program.at(if n % 2 == 0 { &world } else { &node });
        let (verifiers, held) = (verifiers.clone(), Arc::clone(&held));
        asking.spawn(async move {
            let mut signed = BTreeMap::new();
            while Instant::now() < until {
                let fetched_before = held.read().unwrap().clone();
                let token = program.token().await;
                for verifier in &verifiers {
                    said(verifier, &token).await.unwrap();
                }
                let kid = kid(&token);
                assert!(fetched_before.contains(&kid), "signed with a key that could not have been fetched");
                signed.entry(kid).or_insert(token);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            signed
        });
    }
    while Instant::now() < until {
        let now = published(&node).await;
        *held.write().unwrap() = now;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let signed: BTreeMap<String, String> = asking.join_all().await.into_iter().flatten().collect();
    keepers.iter().for_each(tokio::task::JoinHandle::abort);
    assert!(signed.len() > 10, "keys took over from each other: {}", signed.len());
    // I5: a key is published until the last token that it signed has ended.
    let another = verifier(&world, &audience, None).await;
    for token in signed.values() {
        for verifier in verifiers.iter().chain([&another]) {
            said(verifier, token).await.unwrap();
        }
    }
    world.log_is_whole().await;
}
