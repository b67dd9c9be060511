//! Errors of the JSON API as problem details (RFC 9457), and the challenges of RFC 6750 and 9728.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{app::App, error::Failure};

/// A problem (RFC 9457 §3).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells problems apart.
    pub r#type: String,
    /// The words of the status code.
    pub title: String,
    /// The status code.
    pub status: u16,
    /// What is wrong and what to do.
    pub detail: String,
    /// A word for programs; it does not change.
    pub code: String,
    /// What is wrong with each field, where fields were sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
    #[serde(skip)]
    #[schema(ignore)]
    retry_after: Option<i64>,
    #[serde(skip)]
    #[schema(ignore)]
    challenge: Option<Challenge>,
    #[serde(skip)]
    #[schema(ignore)]
    www_authenticate: Option<String>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct FieldProblem {
    /// The field's name.
    pub field: String,
    /// What is wrong with it and what to do.
    pub detail: String,
}

/// Which error the challenge names (RFC 6750 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// The token is not active, or not one.
    InvalidToken,
    /// The token was sent in a way that is not taken.
    InvalidRequest,
    /// The token lacks this scope.
    InsufficientScope(&'static str),
}

impl Problem {
    /// A problem with a status, a code and words.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            r#type: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            code: code.to_owned(),
            errors: Vec::new(),
            retry_after: None,
            challenge: None,
            www_authenticate: None,
        }
    }

    /// Plain HTTP where TLS is wanted (protocol 15).
    #[must_use]
    pub fn plain_http() -> Self {
        let detail = "This server is used over HTTPS only. If a secret was just sent in clear, replace it.";
        Self::new(StatusCode::FORBIDDEN, "https_required", detail)
    }

    /// A token in the URL, or more than one way of saying who is asking (RFC 6750 §2).
    #[must_use]
    pub fn token_sent_wrongly() -> Self {
        let detail = "Send the access token once, in the Authorization header, and no session cookie with it.";
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
    }

    /// The same with an error for the challenge.
    #[must_use]
    pub fn with(mut self, challenge: Challenge) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// The same with a `WWW-Authenticate` header where the status calls for one; it names the
    /// metadata of this resource (RFC 9728 §5.1).
    #[must_use]
    pub fn challenged(mut self, app: &App) -> Self {
        let metadata =
            format!("resource_metadata=\"{}{}\"", app.config.public_url, crate::oauth::RESOURCE_METADATA_PATH);
        self.www_authenticate = match (self.status, self.challenge) {
            (401, None) => Some(format!("Bearer {metadata}")),
            (_, Some(Challenge::InvalidToken)) => Some(format!("Bearer error=\"invalid_token\", {metadata}")),
            (_, Some(Challenge::InvalidRequest)) => Some(format!("Bearer error=\"invalid_request\", {metadata}")),
            (_, Some(Challenge::InsufficientScope(scope))) => {
                Some(format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\", {metadata}"))
            }
            _ => None,
        };
        self
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        failure.log();
        let mut problem = Self::new(failure.status(), failure.code(), failure.to_string());
        problem.retry_after = failure.retry_after();
        match failure {
            Failure::Invalid(fields) => {
                let field = |i: portcullis_domain::accounts::Invalid| FieldProblem {
                    field: i.field.to_owned(),
                    detail: i.message,
                };
                problem.errors = fields.into_iter().map(field).collect();
            }
            Failure::InvalidToken => problem.challenge = Some(Challenge::InvalidToken),
            Failure::InsufficientScope(scope) => problem.challenge = Some(Challenge::InsufficientScope(scope)),
            _ => {}
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (retry_after, challenge) = (self.retry_after, self.www_authenticate.clone());
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(value) = challenge.and_then(|c| HeaderValue::try_from(c).ok()) {
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}
