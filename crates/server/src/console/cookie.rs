//! The cookies as they are set and cleared (protocol 30): the session's, and that of what is under
//! way in a browser.

use axum::http::{HeaderName, HeaderValue, header};
use cookie::{Cookie, SameSite};
use portcullis_domain::secret::{ExposeSecret, SecretText};

use crate::access::{CEREMONY_COOKIE, SESSION_COOKIE};

fn header_of(name: &'static str, value: &str, ended: bool) -> (HeaderName, HeaderValue) {
    let mut cookie =
        Cookie::build((name, value)).path("/").secure(true).http_only(true).same_site(SameSite::Lax).build();
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
    header_of(SESSION_COOKIE, session.expose_secret(), false)
}

/// Takes the session from the browser.
#[must_use]
pub fn clear() -> (HeaderName, HeaderValue) {
    header_of(SESSION_COOKIE, "", true)
}

/// Gives the browser the secret of what it has begun and is to finish.
#[must_use]
pub fn set_ceremony(secret: &SecretText) -> (HeaderName, HeaderValue) {
    header_of(CEREMONY_COOKIE, secret.expose_secret(), false)
}

/// Takes that secret from the browser.
#[must_use]
pub fn clear_ceremony() -> (HeaderName, HeaderValue) {
    header_of(CEREMONY_COOKIE, "", true)
}
