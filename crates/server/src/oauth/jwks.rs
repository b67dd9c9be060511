//! `GET /.well-known/jwks.json`: the public keys that tokens verify with (RFC 7517 §5), as they are at
//! the request: a key is here before it signs, and a withdrawn one is gone (protocol 26).

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue},
    response::Response,
};

use crate::{app::App, error::Failure, oauth::error::OAuthError};

/// Answers with the key set.
///
/// # Errors
/// 503 when it cannot be read: never an old one.
pub async fn get(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, OAuthError> {
    let keys = app.signer.current().await?;
    let now = app.clock.now();
    let document = app.documents.key_set.of((keys.version(), keys.published(now)), || keys.jwks(now));
    // For less time than a key is published before it signs.
    let cache = format!("public, max-age={}", app.config.keys.cached_seconds());
    let cache = HeaderValue::try_from(cache).map_err(|e| Failure::Internal(e.to_string()))?;
    Ok(document.answer(&headers, "application/jwk-set+json", cache))
}
