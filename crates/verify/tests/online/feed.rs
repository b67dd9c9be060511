//! The feed: live, cut, resumed, reset.

use std::time::Duration;

use portcullis_verify::{Error, Refusal, Scheme, Unavailable, WhenStale};
use serde_json::json;

use crate::fake::{API_KEY, Fake, Mood, bearer, credential, eventually, hello};

fn refused(why: Refusal) -> Error {
    Error::Token { scheme: Scheme::Bearer, why }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_feed_says_acts_at_once() {
    let fake = Fake::start().await;
    fake.inside().opening = Box::new(|_| credential(None, 2, "suspended") + &hello(5));
    let verifier = fake.follower(WhenStale::GoOnUntilExpiry).await;
    let (one, two) = (fake.token(1, &json!({})), fake.token(2, &json!({})));
    bearer(&verifier, &one).await.unwrap();
    assert_eq!(bearer(&verifier, &two).await, Err(refused(Refusal::Suspended)), "from before the hello");

    fake.say(&credential(Some(6), 2, "active"));
    eventually("two works again", async || bearer(&verifier, &two).await.is_ok()).await;
    fake.say(&credential(Some(7), 1, "suspended"));
    eventually("one is suspended", async || bearer(&verifier, &one).await == Err(refused(Refusal::Suspended)))
        .await;
    fake.say(&credential(Some(8), 1, "revoked"));
    eventually("one is revoked", async || bearer(&verifier, &one).await == Err(refused(Refusal::Revoked))).await;
    fake.say("event: token\nid: 9\ndata: {\"jti\":\"j2\",\"exp\":9999999999,\"at\":1}\n\n");
    eventually("the token is revoked", async || bearer(&verifier, &two).await.is_err()).await;
    let another = fake.token(2, &json!({"jti": "another"}));
    bearer(&verifier, &another).await.expect("the credential is not");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_feed_is_live_the_list_is_left_alone() {
    let fake = Fake::start().await;
    let verifier = fake.follower(WhenStale::GoOnUntilExpiry).await;
    // What was under way when the feed became live may still arrive.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = fake.inside().list_asked;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(fake.inside().list_asked, before, "twenty polls would have fit");
    assert!(verifier.freshness().feed_is_live);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_feed_is_cut_the_list_takes_over_and_gives_back() {
    let fake = Fake::start().await;
    let verifier = fake.follower(WhenStale::RefuseAfter(Duration::from_secs(30))).await;
    let token = fake.token(1, &json!({}));
    bearer(&verifier, &token).await.unwrap();
    fake.set_list(1, 2);
    bearer(&verifier, &token).await.expect("the feed rules, and it said nothing");
    fake.cut_feed();
    eventually("the list is asked", async || bearer(&verifier, &token).await == Err(refused(Refusal::Suspended)))
        .await;
    assert!(!verifier.freshness().feed_is_live);
    fake.set_list(1, 0);
    eventually("the list lifts it", async || bearer(&verifier, &token).await.is_ok()).await;
    fake.set_list(1, 1);
    eventually("the list revokes", async || bearer(&verifier, &token).await == Err(refused(Refusal::Revoked)))
        .await;
    fake.inside().feed_mood = Mood::Well;
    eventually("the feed is back", async || verifier.freshness().feed_is_live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_is_resumed_after_the_last_event_that_was_taken() {
    let fake = Fake::start().await;
    let verifier = fake.follower(WhenStale::GoOnUntilExpiry).await;
    let token = fake.token(1, &json!({}));
    fake.say(&credential(Some(41), 1, "suspended"));
    eventually("it is suspended", async || bearer(&verifier, &token).await.is_err()).await;
    // An event that is cut in the middle was not taken.
    fake.say("event: credential\nid: 42\ndata: {\"idx\":1,");
    fake.inside().opening = Box::new(|last_id| match last_id {
        Some("41") => credential(Some(42), 1, "active") + &hello(42),
        other => panic!("resumed from {other:?}"),
    });
    fake.cut_feed();
    fake.inside().feed_mood = Mood::Well;
    eventually("what was missed is told", async || {
        verifier.freshness().feed_is_live && bearer(&verifier, &token).await.is_ok()
    })
    .await;
    assert_eq!(fake.inside().last_ids, [None, Some("41".to_owned())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_forgets_what_is_not_told_again() {
    let fake = Fake::start().await;
    fake.inside().opening = Box::new(|last_id| match last_id {
        None => credential(None, 1, "suspended") + &credential(None, 2, "suspended") + &hello(7),
        Some(_) => format!("event: reset\ndata: {{}}\n\n{}{}", credential(None, 2, "suspended"), hello(3)),
    });
    let verifier = fake.follower(WhenStale::GoOnUntilExpiry).await;
    let (one, two) = (fake.token(1, &json!({})), fake.token(2, &json!({})));
    assert!(bearer(&verifier, &one).await.is_err());
    fake.cut_feed();
    fake.inside().feed_mood = Mood::Well;
    eventually("everything was told anew", async || {
        fake.inside().last_ids.len() == 2
            && verifier.freshness().feed_is_live
            && bearer(&verifier, &one).await.is_ok()
    })
    .await;
    assert_eq!(bearer(&verifier, &two).await, Err(refused(Refusal::Suspended)));
    fake.cut_feed();
    fake.inside().feed_mood = Mood::Well;
    eventually("it asks again", async || fake.inside().last_ids.len() == 3).await;
    assert_eq!(fake.inside().last_ids[1..], [Some("7".to_owned()), Some("3".to_owned())]);
}

/// Before the hello nobody knows what is still to be told.
#[tokio::test(flavor = "multi_thread")]
async fn a_feed_that_is_cut_before_the_hello_begins_anew() {
    let fake = Fake::start().await;
    fake.inside().opening = Box::new(|_| credential(None, 2, "suspended") + &credential(Some(9), 3, "suspended"));
    let builder = fake.builder_with(WhenStale::GoOnUntilExpiry);
    let starting = tokio::spawn(builder.api_key(API_KEY.0, API_KEY.1.to_owned().into()).start());
    eventually("it follows", async || fake.inside().last_ids.len() == 1).await;
    fake.inside().opening = Box::new(|_| credential(None, 1, "suspended") + &hello(12));
    fake.cut_feed();
    fake.inside().feed_mood = Mood::Well;
    let verifier = starting.await.unwrap().unwrap();
    assert!(verifier.freshness().feed_is_live, "the start waits for the hello");
    assert_eq!(fake.inside().last_ids, [None, None]);
    let one = fake.token(1, &json!({}));
    assert_eq!(bearer(&verifier, &one).await, Err(refused(Refusal::Suspended)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_begins_anew_and_the_list_rules_meanwhile() {
    let fake = Fake::start().await;
    let verifier = fake.follower(WhenStale::GoOnUntilExpiry).await;
    fake.say(&credential(Some(8), 1, "asleep"));
    eventually("it asks anew", async || fake.inside().last_ids.len() > 1).await;
    assert_eq!(fake.inside().last_ids[1], None);
    eventually("and is live", async || verifier.freshness().feed_is_live).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_wrong_key_the_list_is_what_is_left() {
    let fake = Fake::start().await;
    let builder = fake.builder_with(WhenStale::GoOnUntilExpiry).api_key("pca_1", "wrong".to_owned().into());
    let verifier = builder.start().await.expect("it goes on after a while");
    let token = fake.token(1, &json!({}));
    bearer(&verifier, &token).await.unwrap();
    fake.set_list(1, 1);
    eventually("the list says so", async || bearer(&verifier, &token).await.is_err()).await;
    assert!(!verifier.freshness().feed_is_live);
    assert!(fake.inside().last_ids.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_both_are_stale_the_choice_decides() {
    let fake = Fake::start().await;
    let refuses = fake.follower(WhenStale::RefuseAfter(Duration::from_millis(300))).await;
    let goes_on = fake.follower(WhenStale::GoOnUntilExpiry).await;
    let (token, suspended) = (fake.token(1, &json!({})), fake.token(2, &json!({})));
    fake.say(&credential(Some(2), 2, "suspended"));
    for verifier in [&refuses, &goes_on] {
        bearer(verifier, &token).await.unwrap();
        eventually("suspended", async || bearer(verifier, &suspended).await.is_err()).await;
    }
    // The list never knew of it: what the feed said stays so.
    fake.set_all(Mood::Down);
    let stale = Err(Unavailable::Stale.into());
    eventually("it refuses", async || bearer(&refuses, &token).await == stale).await;
    bearer(&goes_on, &token).await.expect("it goes on");
    assert_eq!(bearer(&goes_on, &suspended).await, Err(refused(Refusal::Suspended)));
    assert!(goes_on.freshness().age >= Duration::from_millis(200));
    fake.set_all(Mood::Well);
    eventually("it works again", async || bearer(&refuses, &token).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_work_ends_with_the_last_verifier() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    let clone = verifier.clone();
    drop(verifier);
    let asked = fake.inside().list_asked;
    eventually("the clone goes on", async || fake.inside().list_asked > asked + 2).await;
    drop(clone);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked = fake.inside().list_asked;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.inside().list_asked, asked);
}
