//! The session cookie as it is set and cleared (protocol 30).

use axum::http::{HeaderName, HeaderValue, header};
use cookie::{Cookie, SameSite};
use portcullis_domain::secret::{ExposeSecret, SecretText};

use crate::access::SESSION_COOKIE;

fn header_of(value: &str, ended: bool) -> (HeaderName, HeaderValue) {
    let mut cookie = Cookie::build((SESSION_COOKIE, value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .build();
    if ended {
        cookie.make_removal();
    }
    let mut value = HeaderValue::try_from(cookie.to_string()).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    (header::SET_COOKIE, value)
}

/// Gives the browser a session. It lasts as long as the browser is open; the server ends it
/// earlier by its own limits.
#[must_use]
pub fn set(session: &SecretText) -> (HeaderName, HeaderValue) {
    header_of(session.expose_secret(), false)
}

/// Takes the session from the browser.
#[must_use]
pub fn clear() -> (HeaderName, HeaderValue) {
    header_of("", true)
}
