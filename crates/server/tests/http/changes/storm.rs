//! Many acts at once on two nodes, and followers that go and come again: nobody misses anything, and
//! nobody is told twice.

use std::time::Duration;

use portcullis_domain::changes::Changed;
use reqwest::StatusCode;
use tokio::task::JoinSet;

use super::{Following, ask, follow, manage, owner};
use crate::support::{Program, World, on_both};

on_both! {
    c11_of_200_acts_at_once_nothing_is_lost_and_nothing_told_twice
}

/// Follows until somebody's credential is revoked, coming again every few events, now here, now there.
/// Gives the number it began after and those it was told.
async fn wanderer(mut seed: usize, keys: [Program; 2], last: String) -> (i64, Vec<i64>) {
    let mut feed = follow(&keys[seed % 2], None).await;
    let (_, begun) = feed.until_hello().await;
    let (mut at, mut told) = (begun, Vec::new());
    loop {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for _ in 0..(seed >> 33) % 20 {
            // On a machine that has too much to do a stream may end like any other.
            let Some(event) = feed.next().await else { break };
            at = event.id.expect("what happens has a number");
            if event.name == "hello" {
                continue;
            }
            told.push(at);
            if event.data["client_id"] == last && event.data["state"] == "revoked" {
                return (begun, told);
            }
        }
        drop(feed);
        feed = come_again(&keys[(seed >> 20) % 2], at).await;
    }
}

async fn come_again(key: &Program, at: i64) -> Following {
    loop {
        let answer = ask(key, Some(&at.to_string())).await;
        if answer.status() == StatusCode::OK {
            return Following::of(answer);
        }
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn c11_of_200_acts_at_once_nothing_is_lost_and_nothing_told_twice(world: World) {
    let node = world.another_node().await;
    let maria = owner(&world, "maria@acme.example").await;
    let joao = owner(&world, "joao@acme.example").await;
    let ana = owner(&world, "ana@acme.example").await;
    let key = world.watcher().await;
    let keys = [key.clone(), key.at(&node)];
    let programs = [maria.program.clone(), maria.program.at(&node)];
    let mut tokens = Vec::new();
    for _ in 0..200 {
        tokens.push(maria.program.token().await);
    }
    let mut wanderers = JoinSet::new();
    for seed in 1..=8 {
        wanderers.spawn(wanderer(seed, keys.clone(), ana.program.client_id.clone()));
    }
    let mut acts = JoinSet::new();
    for (n, token) in tokens.into_iter().enumerate() {
        let program = programs[n % 2].clone();
        acts.spawn(async move {
            // So many at once may be told to come again; a token is revoked once whatever comes.
            while program.oauth("revoke", &[("token", &token)]).await.status() != StatusCode::OK {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    }
    for _ in 0..5 {
        manage(&maria.person, &joao, "deactivate").await;
        manage(&maria.person.at(&node), &joao, "activate").await;
    }
    acts.join_all().await;
    assert_eq!(ana.person.at(&node).revoke().await.status(), StatusCode::OK);
    let page = world.app.store.read().await.unwrap().changes_after(0, 0, 100_000).await.unwrap().unwrap();
    let happened: Vec<i64> = page.changes.iter().map(|c| c.seq).collect();
    let revoked = page.changes.iter().filter(|c| matches!(c.what, Changed::Token { .. })).count();
    assert_eq!(revoked, 200);
    for (begun, told) in wanderers.join_all().await {
        let expected: Vec<i64> = happened.iter().copied().filter(|seq| *seq > begun).collect();
        assert_eq!(told, expected);
    }
    world.log_is_whole().await;
}
