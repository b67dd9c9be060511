//! The status list: read, confirmed, not believed.

use portcullis_verify::{Error, Refusal, Scheme, StartError, Unavailable, WhenStale, jwk::Algorithm};
use serde_json::json;

use crate::{
    fake::{Fake, Mood, bearer, eventually, unix},
    signing::Signing,
};

fn refused(why: Refusal) -> Error {
    Error::Token { scheme: Scheme::Bearer, why }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_did_not_change_is_only_confirmed() {
    let fake = Fake::start().await;
    let verifier = fake.verifier().await;
    eventually("it is confirmed", async || fake.inside().list_confirmed > 3).await;
    let asked = fake.inside().list_asked;
    let confirmed = fake.inside().list_confirmed;
    assert!(asked - confirmed <= 2, "sent once: {asked} {confirmed}");
    fake.set_list(7, 2);
    let token = fake.token(7, &json!({}));
    eventually("the change comes", async || bearer(&verifier, &token).await == Err(refused(Refusal::Suspended)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_whose_signature_ended_is_asked_for_anew() {
    let fake = Fake::start().await;
    fake.inside().list_claims = json!({"exp": unix() + 1});
    let _verifier = fake.verifier().await;
    eventually("it is not only confirmed", async || {
        let inside = fake.inside();
        inside.list_asked - inside.list_confirmed > 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_beyond_the_list_is_asked_for_once_more_and_then_refused() {
    let fake = Fake::start().await;
    let slow = std::time::Duration::from_secs(3600);
    let verifier = fake.builder_with(WhenStale::GoOnUntilExpiry).poll_every(slow).start().await.unwrap();
    let (new, beyond) = (fake.token(1024, &json!({})), fake.token(5000, &json!({})));
    assert_eq!(bearer(&verifier, &new).await, Err(refused(Refusal::NotListed)));
    fake.inside().list = vec![0; 512];
    bearer(&verifier, &new).await.expect("the list has grown");
    assert_eq!(bearer(&verifier, &beyond).await, Err(refused(Refusal::NotListed)));
    fake.inside().list_mood = Mood::Down;
    assert_eq!(bearer(&verifier, &beyond).await, Err(Unavailable::List.into()), "not the token's fault");
}

/// What a list may be that is not to be believed.
fn spoil(fake: &Fake, how: usize) {
    let mut inside = fake.inside();
    match how {
        0 => inside.list_signs = 1,
        1 => inside.list_typ = "at+jwt".into(),
        2 => inside.list_claims = json!({"sub": "https://id.acme.example/oauth/status"}),
        3 => inside.list_claims = json!({"iss": "https://id.acme.example"}),
        4 => inside.list_claims = json!({"exp": 1}),
        5 => inside.list_claims = json!({"status_list": {"bits": 2, "lst": "AAAA"}}),
        6 => inside.list_mood = Mood::Endless,
        _ => inside.list_mood = Mood::Down,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verifier_does_not_start_on_a_list_that_is_not_to_be_believed() {
    for how in 0..8 {
        let fake = Fake::start().await;
        fake.inside().keys.push(("k1".into(), Signing::new(Algorithm::Es256)));
        spoil(&fake, how);
        let started = fake.builder_with(WhenStale::GoOnUntilExpiry).start().await;
        assert!(matches!(started, Err(StartError::List)), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_to_be_believed_changes_nothing() {
    for how in 0..8 {
        let fake = Fake::start().await;
        fake.inside().keys.push(("k1".into(), Signing::new(Algorithm::Es256)));
        fake.set_list(2, 2);
        let verifier = fake.verifier().await;
        let (one, two) = (fake.token(1, &json!({})), fake.token(2, &json!({})));
        spoil(&fake, how);
        fake.set_list(1, 2);
        fake.set_list(2, 0);
        let asked = fake.inside().list_asked;
        eventually("it was asked for", async || fake.inside().list_asked > asked + 2).await;
        bearer(&verifier, &one).await.unwrap();
        assert_eq!(bearer(&verifier, &two).await, Err(refused(Refusal::Suspended)), "{how}");
    }
}
