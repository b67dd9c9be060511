//! Errors of the JSON API as problem details (RFC 9457), and the challenges of RFC 6750, 9449 and 9728.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    app::{App, dpop::ALGORITHMS},
    error::Failure,
};

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
    www_authenticate: Vec<String>,
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
    /// The proof that came with the token is not right (RFC 9449 §7.1).
    InvalidProof,
}

/// The schemes in which a token is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750.
    Bearer,
    /// RFC 9449 §7.1: with a proof.
    Dpop,
}

impl Scheme {
    /// The word in the `Authorization` header.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bearer => "Bearer",
            Self::Dpop => "DPoP",
        }
    }
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
            www_authenticate: Vec::new(),
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

    /// The same with `WWW-Authenticate` headers where the status calls for them; they name the
    /// metadata of this resource (RFC 9728 §5.1). The error stands in the challenge of the scheme that
    /// was used; where another token may help, the other scheme is offered too (RFC 9449 §7.2).
    #[must_use]
    pub fn challenged(mut self, app: &App, used: Scheme) -> Self {
        let metadata =
            format!("resource_metadata=\"{}{}\"", app.config.public_url, crate::oauth::RESOURCE_METADATA_PATH);
        let error = match self.challenge {
            None if self.status == 401 => String::new(),
            None => return self,
            Some(Challenge::InvalidToken) => "error=\"invalid_token\", ".to_owned(),
            Some(Challenge::InvalidRequest) => "error=\"invalid_request\", ".to_owned(),
            Some(Challenge::InvalidProof) => "error=\"invalid_dpop_proof\", ".to_owned(),
            Some(Challenge::InsufficientScope(scope)) => {
                format!("error=\"insufficient_scope\", scope=\"{scope}\", ")
            }
        };
        let challenge = |scheme: Scheme, error: &str| match scheme {
            Scheme::Bearer => format!("Bearer {error}{metadata}"),
            Scheme::Dpop => format!("DPoP {error}algs=\"{ALGORITHMS}\", {metadata}"),
        };
        self.www_authenticate.push(challenge(used, &error));
        if self.status == 401 {
            let other = if used == Scheme::Bearer { Scheme::Dpop } else { Scheme::Bearer };
            self.www_authenticate.push(challenge(other, ""));
        }
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
            Failure::InvalidProof(_) => problem.challenge = Some(Challenge::InvalidProof),
            Failure::InsufficientScope(scope) => problem.challenge = Some(Challenge::InsufficientScope(scope)),
            _ => {}
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (retry_after, challenges) = (self.retry_after, self.www_authenticate.clone());
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for value in challenges.into_iter().filter_map(|c| HeaderValue::try_from(c).ok()) {
            headers.append(header::WWW_AUTHENTICATE, value);
        }
        response
    }
}
