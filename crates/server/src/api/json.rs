//! Reading JSON bodies and queries, with every fault named in a problem.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Query, Request},
    http::{StatusCode, request::Parts},
};
use serde::de::DeserializeOwned;

use crate::api::problem::Problem;

/// A JSON body.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Json(value) = Json::from_request(request, state).await.map_err(|rejection| {
            // The library's text names the field and the place, not the value: values may be secret.
            let detail = match rejection.status() {
                StatusCode::UNSUPPORTED_MEDIA_TYPE => "Send the body as application/json.".to_owned(),
                StatusCode::PAYLOAD_TOO_LARGE => "The request body is too large.".to_owned(),
                _ => {
                    "The body is not the JSON that is expected here; the OpenAPI document describes it.".to_owned()
                }
            };
            Problem::new(rejection.status(), "bad_body", detail)
        })?;
        Ok(Self(value))
    }
}

/// The parameters behind `?`.
pub struct Params<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Query(value) = Query::from_request_parts(parts, state).await.map_err(|_| {
            let detail = "A parameter of the URL is unknown or not of its form; the OpenAPI document lists them.";
            Problem::new(StatusCode::BAD_REQUEST, "bad_query", detail)
        })?;
        Ok(Self(value))
    }
}
