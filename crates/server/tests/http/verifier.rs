//! The library for resource servers, `portcullis-verify`, against this server: what it takes, and what
//! the introspection endpoint calls active, is the same.

use std::time::Duration;

use portcullis_verify::{Error, Refusal, Request, Verifier, WhenStale};
use secrecy::SecretString;

use crate::support::{Program, World};

mod agreement;
mod reach;
mod rotation;

/// A verifier of the tokens for an API; with a key of it, it follows the feed.
async fn verifier(world: &World, audience: &str, key: Option<&Program>) -> Verifier {
    let builder = Verifier::builder(&world.url, audience)
        .when_stale(WhenStale::RefuseAfter(Duration::from_secs(60)))
        .leeway(Duration::ZERO);
    match key {
        None => builder.start().await.unwrap(),
        Some(key) => {
            let secret = SecretString::from(key.client_secret.clone());
            let verifier = builder.api_key(&key.client_id, secret).start().await.unwrap();
            while !verifier.freshness().feed_is_live {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            verifier
        }
    }
}

/// What a verifier says to a bearer token.
async fn said(verifier: &Verifier, token: &str) -> Result<(), Error> {
    let authorization = format!("Bearer {token}");
    let request = Request { method: "GET", path: "/", authorization: &[&authorization], dpop: &[] };
    verifier.verify(&request).await.map(drop)
}

/// Far less than the five minutes after which keys are fetched without a reason, and far more than it takes.
const SOON: Duration = Duration::from_secs(30);

/// Waits until a verifier takes a token, or refuses it for a reason.
async fn says(verifier: &Verifier, token: &str, reason: Option<Refusal>) {
    let waiting = async {
        loop {
            match (said(verifier, token).await, reason) {
                (Ok(()), None) => return,
                (Err(Error::Token { why, .. }), Some(reason)) if why == reason => return,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    assert!(tokio::time::timeout(SOON, waiting).await.is_ok(), "{reason:?}");
}

/// Waits until a verifier refuses a token for this reason.
async fn is_refused(verifier: &Verifier, token: &str, reason: Refusal) {
    says(verifier, token, Some(reason)).await;
}
