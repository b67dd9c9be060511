//! `GET /.well-known/jwks.json`: the public keys that tokens verify with (RFC 7517 §5).

use std::sync::Arc;

use axum::{extract::State, http::HeaderMap, response::Response};

use crate::{app::App, assets};

/// How long verifiers may keep the key set.
const CACHE: &str = "public, max-age=300";

/// Answers with the key set.
pub async fn get(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    assets::cacheable(&headers, "application/jwk-set+json", CACHE, app.signer.jwks().to_owned().into())
}
