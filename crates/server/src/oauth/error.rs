//! Errors of the OAuth endpoints (RFC 6749 §5.2): registered codes, plain ASCII, never stored.

use axum::{
    Json,
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    app::{
        client_keys::NotBound,
        dpop::ProofRefused,
        tokens::{ClientRefused, NotIssued},
    },
    assets::EXPECTED_HEADERS,
    error::Failure,
};

/// An error response.
#[derive(Debug, Clone)]
pub struct OAuthError {
    status: StatusCode,
    error: &'static str,
    description: String,
    retry_after: Option<u64>,
}

#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    error_description: &'a str,
}

impl OAuthError {
    fn new(status: StatusCode, error: &'static str, description: impl Into<String>) -> Self {
        Self { status, error, description: description.into(), retry_after: None }
    }

    /// `invalid_request`.
    #[must_use]
    pub fn invalid_request(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", description)
    }

    /// `invalid_client`, 401 with a challenge (§5.2).
    #[must_use]
    pub fn invalid_client(description: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_client", description)
    }

    /// `unsupported_grant_type`.
    #[must_use]
    pub fn unsupported_grant_type() -> Self {
        let description = "Only grant_type=client_credentials is supported.";
        Self::new(StatusCode::BAD_REQUEST, "unsupported_grant_type", description)
    }

    /// `invalid_scope`.
    #[must_use]
    pub fn invalid_scope(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_scope", description)
    }

    /// `invalid_target` (RFC 8707 §2).
    #[must_use]
    pub fn invalid_target(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_target", description)
    }

    /// `unauthorized_client`: a token of another client (RFC 7009 §2.1).
    #[must_use]
    pub fn unauthorized_client(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "unauthorized_client", description)
    }

    /// `invalid_dpop_proof` (RFC 9449 §5).
    #[must_use]
    pub fn invalid_dpop_proof(description: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_dpop_proof", description)
    }

    /// Whether a new DPoP proof is wanted, for which a nonce is needed (RFC 9449 §8).
    #[must_use]
    pub fn wants_proof(&self) -> bool {
        matches!(self.error, "invalid_dpop_proof" | "use_dpop_nonce")
    }

    /// Another method than POST (RFC 6749 §3.2).
    #[must_use]
    pub fn wrong_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "invalid_request", "Use the method that the Allow header names.")
    }

    /// Something that is asked for in a way this server has not (RFC 9110 §15.6.2).
    #[must_use]
    pub fn not_implemented(description: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "invalid_request", description)
    }

    /// The request did not come, or was not answered, in time (RFC 9110 §15.5.9).
    #[must_use]
    pub fn too_slow(description: impl Into<String>) -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "invalid_request", description)
    }

    /// The request was too large (RFC 9110 §15.5.14).
    #[must_use]
    pub fn too_large() -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "invalid_request", "The request body is too large.")
    }
}

impl From<Failure> for OAuthError {
    fn from(failure: Failure) -> Self {
        failure.log();
        let status = failure.status();
        // The registered codes for a server in trouble (RFC 6749 §4.1.2.1); §5.2 has none of its own.
        let busy = failure.retry_after().is_some();
        let code = if busy { "temporarily_unavailable" } else { "server_error" };
        let mut error = Self::new(status, code, failure.to_string());
        error.retry_after = failure.retry_after().map(i64::unsigned_abs);
        error
    }
}

impl From<ClientRefused> for OAuthError {
    fn from(refused: ClientRefused) -> Self {
        match refused {
            ClientRefused::Unproven => Self::invalid_client("The Client ID or the Client Secret is not right."),
            ClientRefused::UnprovenKey => Self::invalid_client(
                "The client assertion is not taken: the Client ID is unknown, or it is not signed with the key that is bound to it.",
            ),
            ClientRefused::Replayed => Self::invalid_client(
                "The client assertion was used already. Make a new one, with a jti of its own, for each request.",
            ),
            ClientRefused::SecretOff => Self::invalid_client(
                "The Client Secret of this credential is switched off. Send a client assertion signed with its private key.",
            ),
            ClientRefused::TooOften(seconds) => Self {
                status: StatusCode::TOO_MANY_REQUESTS,
                retry_after: Some(seconds),
                ..Self::invalid_client(
                    "Too many attempts with a wrong Client ID or Client Secret. Wait a minute; the right ones are always taken.",
                )
            },
            ClientRefused::Dead(standing) => Self::invalid_client(standing.description()),
            ClientRefused::KeyEnded(at) => Self::invalid_client(format!(
                "The key ended at {}: a newer key of the API took over.",
                at.strftime("%Y-%m-%d %H:%M:%S UTC")
            )),
            ClientRefused::Failed(failure) => failure.into(),
        }
    }
}

impl From<NotIssued> for OAuthError {
    fn from(why: NotIssued) -> Self {
        match why {
            NotIssued::Client(refused) => refused.into(),
            NotIssued::UnknownApi => Self::invalid_target(
                "No API with this identifier is registered here. Send resource as the API is registered, byte for byte.",
            ),
            NotIssued::Proof(refused) => refused.into(),
            NotIssued::ProofNeeded(identifier) => Self::invalid_dpop_proof(format!(
                "The API {identifier} takes only tokens that are bound to a key. Send a DPoP proof (RFC 9449) with the request."
            )),
            NotIssued::UnknownScope { identifier, scopes } if scopes.is_empty() => {
                Self::invalid_scope(format!("The API {identifier} has no scopes. Leave scope out."))
            }
            NotIssued::UnknownScope { identifier, scopes } => Self::invalid_scope(format!(
                "The scope is unknown or malformed. The API {identifier} has: {scopes}"
            )),
        }
    }
}

impl From<ProofRefused> for OAuthError {
    fn from(refused: ProofRefused) -> Self {
        let error = Self::invalid_dpop_proof(refused.to_string());
        if refused == ProofRefused::NonceNeeded { Self { error: "use_dpop_nonce", ..error } } else { error }
    }
}

impl From<NotBound> for OAuthError {
    fn from(why: NotBound) -> Self {
        match why {
            NotBound::NotPossessed => Self::invalid_request(
                "The proof is to be a client assertion of this Client ID, signed with the private key of the jwk.",
            ),
            NotBound::Client(refused) => refused.into(),
            NotBound::Failed(Failure::ClientKey(why)) => Self::invalid_request(why.to_string()),
            NotBound::Failed(failure) => failure.into(),
        }
    }
}

impl IntoResponse for OAuthError {
    fn into_response(self) -> Response {
        let body = Refusal { error: self.error, error_description: &self.description };
        let mut response = (self.status, Json(body)).into_response();
        never_stored(&mut response);
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"portcullis\", charset=\"UTF-8\""),
            );
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

/// A response in JSON that no cache may keep (RFC 6749 §5.1).
///
/// # Errors
/// [`Failure::Internal`] when it cannot be written as JSON.
pub fn json(body: &impl Serialize) -> Result<Response, Failure> {
    // Room for a token, which is nearly always what is in it.
    let mut written = Vec::with_capacity(1024);
    serde_json::to_writer(&mut written, body).map_err(|e| Failure::Internal(e.to_string()))?;
    let mut response = Response::new(Body::from(written));
    // With room for those that every response has.
    response.headers_mut().reserve(EXPECTED_HEADERS);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    never_stored(&mut response);
    Ok(response)
}

/// Marks a response as one that no cache may keep (RFC 6749 §5.1).
pub fn never_stored(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}
