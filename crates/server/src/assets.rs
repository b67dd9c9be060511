//! The stylesheet, the script and the icon, in the binary; and the one way a cacheable body is
//! answered.

use axum::{
    body::Bytes,
    extract::Path,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};

/// Revalidated at each use: a new release shows at once, and an unchanged file costs a 304.
const CACHE: &str = "public, no-cache";

/// `GET /assets/{name}`.
pub async fn get(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let (content_type, body): (_, &[u8]) = match name.as_str() {
        "console.css" => ("text/css; charset=utf-8", include_bytes!("../assets/console.css")),
        "console.js" => ("text/javascript; charset=utf-8", include_bytes!("../assets/console.js")),
        "passkeys.js" => ("text/javascript; charset=utf-8", include_bytes!("../assets/passkeys.js")),
        "favicon.svg" => ("image/svg+xml", include_bytes!("../assets/favicon.svg")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    cacheable(&headers, content_type, CACHE, Bytes::from_static(body))
}

/// A body with its ETag; 304 without it when the caller has it already (RFC 9110 §13.1.2).
#[must_use]
pub fn cacheable(request: &HeaderMap, content_type: &'static str, cache: &str, body: Bytes) -> Response {
    let tag = tag(&body);
    cacheable_as(request, content_type, cache, body, &tag)
}

/// A short digest of what is served.
#[must_use]
pub fn tag(body: &[u8]) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body);
    BASE64URL.encode(&hash.as_ref()[..12])
}

/// [`cacheable`] for a body whose bytes may differ while it says the same: the tag is of what it says.
#[must_use]
pub fn cacheable_as(
    request: &HeaderMap,
    content_type: &'static str,
    cache: &str,
    body: Bytes,
    tag: &str,
) -> Response {
    let etag = format!("\"{tag}\"");
    let known = request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let mut response =
        if known { StatusCode::NOT_MODIFIED.into_response() } else { (StatusCode::OK, body).into_response() };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(header::ETAG, etag);
    }
    if let Ok(cache) = HeaderValue::try_from(cache) {
        headers.insert(header::CACHE_CONTROL, cache);
    }
    if !known {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    response
}
