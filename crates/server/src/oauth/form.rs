//! The parameters of an OAuth request (RFC 6749 §3.2): form-encoded, each at most once.

use std::borrow::Cow;

use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, Uri, header},
};

use http_body_util::LengthLimitError;
use memchr::{memchr_iter, memchr2};
use portcullis_domain::audit::Origin;

use crate::{config::MAX_BODY_BYTES, oauth::error::OAuthError};

/// Parameters that carry a secret or say who is asking: never taken from the URL (§2.3.1).
const NEVER_IN_URL: [&str; 6] =
    ["client_secret", "client_id", "token", "access_token", "client_assertion", "proof"];

/// The most parameters of a request: more than there are names that mean anything.
const MAX_PARAMETERS: usize = 64;

/// The parameters by name. One without a value is as if it were not there (§3.2).
#[derive(Debug, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// A parameter's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// `invalid_request` when a parameter is repeated, or there are more than 64.
    pub fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        // So few are looked through faster than any map.
        let mut seen: Vec<(String, String)> = Vec::with_capacity(4);
        for (name, value) in pairs(body) {
            if seen.len() == MAX_PARAMETERS {
                return Err(OAuthError::invalid_request("There are too many parameters. Send 64 at most."));
            }
            // A repeated parameter is refused, even with equal or empty values (§3.2).
            if seen.iter().any(|(known, _)| **known == *name) {
                return Err(OAuthError::invalid_request("A parameter is repeated. Send each parameter once."));
            }
            seen.push((name.into_owned(), value.into_owned()));
        }
        seen.retain(|(_, value)| !value.is_empty());
        Ok(Self(seen))
    }
}

/// The names and their values, in order.
fn pairs(body: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    let ends = memchr_iter(b'&', body).chain([body.len()]);
    let between = ends.scan(0, |start, end| Some(&body[std::mem::replace(start, end + 1)..end]));
    between.filter_map(pair)
}

/// A name and its value, of what stands between two `&`; `None` where nothing does.
fn pair(text: &[u8]) -> Option<(Cow<'_, str>, Cow<'_, str>)> {
    // Decoding goes byte by byte, and a token is long and has nothing to be decoded.
    if let Ok(plain) = std::str::from_utf8(text)
        && memchr2(b'%', b'+', text).is_none()
        && let Some((name, value)) = plain.split_once('=')
    {
        return Some((name.into(), value.into()));
    }
    form_urlencoded::parse(text).next()
}

/// Refuses a URL with a secret in it, even a right one (protocol 5).
///
/// # Errors
/// `invalid_request`.
pub fn refuse_in_url(uri: &Uri) -> Result<(), OAuthError> {
    let query = uri.query().unwrap_or_default();
    if form_urlencoded::parse(query.as_bytes()).any(|(name, _)| NEVER_IN_URL.contains(&&*name)) {
        return Err(OAuthError::invalid_request(
            "Credentials and tokens are not taken from the URL. Send them in the Authorization header or the body, \
             and replace a secret that was sent in a URL: URLs are logged.",
        ));
    }
    Ok(())
}

/// What an OAuth endpoint is asked with: taken from the request, not copied.
#[derive(Debug)]
pub struct Asked {
    /// From where.
    pub origin: Origin,
    /// The headers.
    pub headers: HeaderMap,
    /// The parameters.
    pub form: Form,
}

impl<S: Send + Sync> FromRequest<S> for Asked {
    type Rejection = OAuthError;

    async fn from_request(request: Request, _state: &S) -> Result<Self, OAuthError> {
        refuse_in_url(request.uri())?;
        let (parts, body) = request.into_parts();
        let (headers, mut extensions) = (parts.headers, parts.extensions);
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let media_type = types.next().and_then(|v| v.to_str().ok()).unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") || types.next().is_some() {
            return Err(OAuthError::invalid_request(
                "Send the parameters as application/x-www-form-urlencoded in the body of the request.",
            ));
        }
        let body = to_bytes(body, MAX_BODY_BYTES).await.map_err(|error| {
            let too_large = std::error::Error::source(&error).is_some_and(|e| e.is::<LengthLimitError>());
            if too_large { OAuthError::too_large() } else { OAuthError::invalid_request("The body broke off.") }
        })?;
        let form = Form::parse(&body)?;
        Ok(Self { origin: extensions.remove().unwrap_or_default(), headers, form })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What is read without decoding is what decoding gives.
        #[test]
        fn a_form_is_read_as_the_standard_has_it(body in "[a-c=&%+41 \\x00é]{0,24}") {
            let ours: Vec<_> = pairs(body.as_bytes()).collect();
            let theirs: Vec<_> = form_urlencoded::parse(body.as_bytes()).collect();
            prop_assert_eq!(ours, theirs);
        }
    }
}
