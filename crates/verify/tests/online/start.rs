//! What a verifier does not start on, and what it never says.

use std::{env, process::Command};

use portcullis_verify::{StartError, Verifier, WhenStale};
use serde_json::json;

use crate::fake::{API_KEY, AUDIENCE, Fake, Mood, bearer};

#[tokio::test(flavor = "multi_thread")]
async fn another_issuer_in_the_metadata_is_refused() {
    for issuer in ["https://id.acme.example".to_owned(), String::new()] {
        let fake = Fake::start().await;
        fake.inside().metadata = json!({"issuer": issuer});
        let started = fake.builder_with(WhenStale::GoOnUntilExpiry).start().await;
        assert!(matches!(started, Err(StartError::Issuer)));
    }
    let fake = Fake::start().await;
    let slash = format!("{}/", fake.issuer);
    let started = Verifier::builder(slash, AUDIENCE).when_stale(WhenStale::GoOnUntilExpiry).start().await;
    assert!(matches!(started, Err(StartError::Issuer)), "to the byte");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_on_other_servers_are_refused() {
    for name in ["jwks_uri", "status_list_endpoint", "revocations_endpoint"] {
        for url in [json!("http://127.0.0.1:1/x"), json!("https://evil.example/x"), json!(1), json!(null)] {
            let fake = Fake::start().await;
            fake.inside().metadata = json!({name: url});
            let builder = fake.builder_with(WhenStale::GoOnUntilExpiry).api_key("a", "b".to_owned().into());
            let started = builder.start().await;
            assert!(matches!(started, Err(StartError::Metadata(which)) if which == name), "{name} {url}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_api_key_no_feed_is_needed() {
    let fake = Fake::start().await;
    fake.inside().metadata = json!({"revocations_endpoint": null});
    fake.verifier().await;
}

/// Another test, run where the environment names a proxy that nobody is at.
#[test]
fn a_proxy_of_the_environment_is_not_asked_for_this_machine() {
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", "start::without_an_api_key_no_feed_is_needed"]);
    again.env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        again.env(name, "http://127.0.0.1:1");
    }
    let output = again.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_cannot_be_had_or_do_not_end_are_refused() {
    for mood in [Mood::Down, Mood::Endless] {
        let fake = Fake::start().await;
        fake.inside().metadata_mood = mood;
        let started = fake.builder_with(WhenStale::GoOnUntilExpiry).start().await;
        assert!(matches!(started, Err(StartError::Fetch(_))));
        let fake = Fake::start().await;
        fake.inside().keys_mood = mood;
        let started = fake.builder_with(WhenStale::GoOnUntilExpiry).start().await;
        assert!(matches!(started, Err(StartError::Fetch(_))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_to_another_machine_is_refused_before_anything_is_asked() {
    for issuer in ["http://id.acme.example", "id.acme.example", "", "file:///etc"] {
        let started = Verifier::builder(issuer, AUDIENCE).when_stale(WhenStale::GoOnUntilExpiry).start().await;
        assert!(matches!(started, Err(StartError::Url(_))), "{issuer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_can_be_printed_holds_a_token_or_the_secret() {
    let fake = Fake::start().await;
    let verifier = fake.follower(WhenStale::GoOnUntilExpiry).await;
    let token = fake.token(1, &json!({"jti": "a-id"}));
    let good = bearer(&verifier, &token).await.unwrap();
    let mangled = format!("{token}x");
    let refused = bearer(&verifier, &mangled).await.unwrap_err();
    let said = format!("{verifier:?} {good:?} {refused} {refused:?} {:?}", verifier.challenge(&refused));
    let signature = token.rsplit('.').next().unwrap();
    assert!(!said.contains(signature) && !said.contains(API_KEY.1) && !said.contains(&token[..40]));
}
