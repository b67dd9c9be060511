//! `GET /oauth/status`: the status list (Token Status List draft §8.1, protocol 29). For everybody: it
//! says how the credential at a place stands, and not whose it is.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, Uri},
    response::Response,
};

use crate::{
    app::App,
    assets::{self, ETag},
    oauth::error::OAuthError,
};

/// Kept by whoever likes, and asked for again at each use: it costs a 304 while nothing changed.
const CACHE: HeaderValue = HeaderValue::from_static("public, no-cache");

/// Answers with the list as it is now.
///
/// # Errors
/// 503 when it cannot be read; 501 when another time than now is asked for (§8.4).
pub async fn get(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, OAuthError> {
    let query = uri.query().unwrap_or_default();
    if form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "time") {
        return Err(OAuthError::not_implemented("Only the present status list is served. Leave time out."));
    }
    let list = app.status_list().await?;
    Ok(assets::cacheable(&headers, "application/statuslist+jwt", CACHE, list.token, ETag::of(&list.tag)))
}
