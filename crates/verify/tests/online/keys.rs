//! The key set: rotated, withdrawn, asked for by strangers.
#![allow(clippy::disallowed_methods, reason = "what is measured here is real time")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use portcullis_verify::{Error, Refusal, Scheme, Unavailable, WhenStale, jwk::Algorithm};
use serde_json::json;

use crate::{
    fake::{Fake, Mood, bearer, eventually},
    signing::Signing,
};

const UNKNOWN: Error = Error::Token { scheme: Scheme::Bearer, why: Refusal::UnknownKey };

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_each_algorithm_are_taken_and_a_new_key_is_fetched_when_it_is_met() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    for algorithm in Algorithm::ALL {
        {
            let mut inside = fake.inside();
            let at = inside.keys.len();
            inside.keys.push((format!("k{at}"), Signing::new(algorithm)));
            inside.signs = at;
        }
        bearer(&verifier, &fake.token(1, &json!({}))).await.unwrap();
    }
    assert_eq!(fake.inside().keys_asked, 4);
    assert_eq!(verifier.freshness().keys, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_never_published_is_refused() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    let stranger = Signing::new(Algorithm::Es256);
    let token = fake.sign("stranger", &stranger, 1, &json!({}));
    assert_eq!(bearer(&verifier, &token).await, Err(UNKNOWN));
    let token = fake.sign("k0", &stranger, 1, &json!({}));
    assert!(matches!(bearer(&verifier, &token).await, Err(Error::Token { why: Refusal::Jws(_), .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_withdrawn_is_gone_when_the_feed_says_so() {
    let fake = Fake::start().await;
    fake.inside().keys.push(("k1".into(), Signing::new(Algorithm::EdDsa)));
    let verifier = fake.follower(WhenStale::GoOnUntilExpiry).await;
    let old = fake.token(1, &json!({}));
    bearer(&verifier, &old).await.unwrap();
    let withdrawn = fake.inside().keys.remove(0);
    fake.say("event: keys\nid: 9\ndata: {\"at\":1}\n\n");
    eventually("the key is gone", async || bearer(&verifier, &old).await == Err(UNKNOWN)).await;
    bearer(&verifier, &fake.token(1, &json!({}))).await.expect("the other is there");
    drop(withdrawn);
}

/// What is told at the beginning of a feed says nothing of keys. While the feed is live, nothing else asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_withdrawn_while_the_feed_is_cut_is_gone_after_the_hello() {
    let fake = Fake::start().await;
    fake.inside().keys.push(("k1".into(), Signing::new(Algorithm::EdDsa)));
    let verifier = fake.follower(WhenStale::GoOnUntilExpiry).await;
    eventually("the keys are fetched at the hello", async || fake.inside().keys_asked == 2).await;
    let old = fake.token(1, &json!({}));
    bearer(&verifier, &old).await.unwrap();
    fake.cut_feed();
    fake.inside().keys.remove(0);
    fake.inside().feed_mood = Mood::Well;
    eventually("the key is gone", async || bearer(&verifier, &old).await == Err(UNKNOWN)).await;
    assert_eq!(fake.inside().last_ids.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_feed_a_key_that_is_withdrawn_is_gone_after_a_few_seconds() {
    let fake = Fake::start().await;
    fake.inside().keys.push(("k1".into(), Signing::new(Algorithm::EdDsa)));
    let verifier = fake.verifier().await;
    let old = fake.token(1, &json!({}));
    bearer(&verifier, &old).await.unwrap();
    fake.inside().keys.remove(0);
    eventually("the key is gone", async || bearer(&verifier, &old).await == Err(UNKNOWN)).await;
}

/// A routine fetch is no reason to doubt the keys, however long it takes; that it failed is.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_under_way_makes_no_key_stale_and_one_that_failed_does() {
    let fake = Fake::start().await;
    let builder = fake.builder_with(WhenStale::RefuseAfter(Duration::from_secs(1)));
    let verifier = builder.refresh_keys_every(Duration::from_millis(20)).start().await.unwrap();
    let token = fake.token(1, &json!({}));
    fake.inside().keys_mood = Mood::Silent;
    let asked = fake.inside().keys_asked;
    eventually("it is asked", async || fake.inside().keys_asked > asked).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    bearer(&verifier, &token).await.expect("it may yet be answered");
    let stale = Err(Unavailable::Keys.into());
    eventually("it failed", async || bearer(&verifier, &token).await == stale).await;
    fake.inside().keys_mood = Mood::Well;
    eventually("it works again", async || bearer(&verifier, &token).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_fails_keeps_the_keys_that_are_known() {
    let fake = Fake::start().await;
    let builder = fake.builder_with(WhenStale::GoOnUntilExpiry);
    let verifier = builder.refresh_keys_every(Duration::from_millis(20)).start().await.unwrap();
    let token = fake.token(1, &json!({}));
    for mood in [Mood::Down, Mood::Endless] {
        fake.inside().keys_mood = mood;
        let asked = fake.inside().keys_asked;
        eventually("it was asked again", async || fake.inside().keys_asked > asked + 1).await;
        bearer(&verifier, &token).await.unwrap();
        let stranger = fake.sign("new", &Signing::new(Algorithm::EdDsa), 1, &json!({}));
        assert_eq!(bearer(&verifier, &stranger).await, Err(Unavailable::Keys.into()), "not the token's fault");
    }
    fake.inside().keys_mood = Mood::Well;
    fake.inside().keys.push(("k1".into(), Signing::new(Algorithm::EdDsa)));
    eventually("a good one is taken", async || verifier.freshness().keys == 2).await;
}

/// A key may have been withdrawn because it was stolen: not to know which is to know too little.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_keys_that_cannot_be_fetched_makes_the_keys_stale() {
    let fake = Fake::start().await;
    let refuses = fake.follower(WhenStale::RefuseAfter(Duration::from_millis(300))).await;
    let goes_on = fake.follower(WhenStale::GoOnUntilExpiry).await;
    let token = fake.token(1, &json!({}));
    bearer(&refuses, &token).await.unwrap();
    fake.inside().keys_mood = Mood::Down;
    fake.say("event: keys\nid: 9\ndata: {\"at\":1}\n\n");
    let stale = Err(Unavailable::Keys.into());
    eventually("it refuses", async || bearer(&refuses, &token).await == stale).await;
    assert!(refuses.freshness().feed_is_live);
    bearer(&goes_on, &token).await.expect("it goes on");
    fake.inside().keys_mood = Mood::Well;
    eventually("it works again", async || bearer(&refuses, &token).await.is_ok()).await;
}

/// While the key set does not even answer, those who come with keys that are known do not wait, however
/// many strangers do.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_with_made_up_keys_delay_nobody() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    fake.inside().keys_mood = Mood::Silent;
    let stranger = Arc::new(Signing::new(Algorithm::EdDsa));
    let strangers: Vec<_> = (0..1500)
        .map(|at| {
            let token = fake.sign(&format!("made-up-{at}"), &stranger, 1, &json!({}));
            let verifier = verifier.clone();
            tokio::spawn(async move { bearer(&verifier, &token).await })
        })
        .collect();
    eventually("those beyond the bound are sent away", async || {
        strangers.iter().filter(|stranger| stranger.is_finished()).count() >= 400
    })
    .await;
    let token = fake.token(1, &json!({}));
    for _ in 0..200 {
        bearer(&verifier, &token).await.unwrap();
    }
    assert!(strangers.iter().any(|stranger| !stranger.is_finished()), "the strangers still wait");
    assert_eq!(fake.inside().keys_asked, 2, "one fetch for all of them");
    for stranger in strangers {
        stranger.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_cause_a_few_fetches_a_second_at_most() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    let (begun, stranger) = (Instant::now(), Signing::new(Algorithm::EdDsa));
    for at in 0..6 {
        let token = fake.sign(&format!("made-up-{at}"), &stranger, 1, &json!({}));
        assert_eq!(bearer(&verifier, &token).await, Err(UNKNOWN));
    }
    let fetches = fake.inside().keys_asked - 1;
    let most = begun.elapsed().as_millis() / 250 + 1;
    assert!(u128::from(fetches) <= most, "{fetches} fetches in {:?}", begun.elapsed());
}

/// Every 50 ms another key signs; each is published before it does and for a while after.
#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_load_without_a_good_token_refused() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    fake.inside().keys.push(("k1".into(), Signing::new(Algorithm::Es256)));
    let (is_over, checked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (fake, verifier) = (fake.clone(), verifier.clone());
            let (is_over, checked) = (is_over.clone(), checked.clone());
            tokio::spawn(async move {
                while !is_over.load(Ordering::SeqCst) {
                    bearer(&verifier, &fake.token(1, &json!({}))).await.unwrap();
                    checked.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 2..42 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let key = Signing::new(if round % 2 == 0 { Algorithm::Es256 } else { Algorithm::EdDsa });
        let mut inside = fake.inside();
        inside.keys.push((format!("k{round}"), key));
        inside.signs += 1;
        if inside.keys.len() > 30 {
            inside.keys.remove(0);
            inside.signs -= 1;
        }
    }
    is_over.store(true, Ordering::SeqCst);
    for task in load {
        task.await.expect("no good token was refused");
    }
    assert!(checked.load(Ordering::SeqCst) > 40, "the load was no load");
}
