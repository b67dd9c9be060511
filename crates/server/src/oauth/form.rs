//! The parameters of an OAuth request (RFC 6749 §3.2): form-encoded, each at most once.

use std::collections::BTreeMap;

use axum::{
    body::to_bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, Uri, header},
};

use http_body_util::LengthLimitError;
use portcullis_domain::audit::Origin;

use crate::{config::MAX_BODY_BYTES, oauth::error::OAuthError};

/// Parameters that carry a secret or say who is asking: never taken from the URL (§2.3.1).
const NEVER_IN_URL: [&str; 6] =
    ["client_secret", "client_id", "token", "access_token", "client_assertion", "proof"];

/// The most parameters of a request: more than there are names that mean anything.
const MAX_PARAMETERS: usize = 64;

/// The parameters by name. One without a value is as if it were not there (§3.2).
#[derive(Debug, Default)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// A parameter's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Reads the body of a request.
    ///
    /// # Errors
    /// `invalid_request` when a parameter is repeated, or there are more than 64.
    pub fn parse(body: &[u8]) -> Result<Self, OAuthError> {
        let mut seen = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(body) {
            if seen.len() == MAX_PARAMETERS {
                return Err(OAuthError::invalid_request("There are too many parameters. Send 64 at most."));
            }
            // A repeated parameter is refused, even with equal or empty values (§3.2).
            if seen.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(OAuthError::invalid_request("A parameter is repeated. Send each parameter once."));
            }
        }
        seen.retain(|_, value| !value.is_empty());
        Ok(Self(seen))
    }
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
