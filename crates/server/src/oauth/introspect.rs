//! `POST /oauth/introspect` (RFC 7662): whether a token is active now, wherever it came from.
//!
//! The caller proves itself with an active credential. The one audience there is yet is the product's
//! own API, which those who hold credentials run: each of them may ask about each of its tokens (§4).

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use portcullis_domain::audit::Origin;
use serde::Serialize;
use uuid::Uuid;

use crate::{
    app::App,
    oauth::{
        client,
        error::{OAuthError, never_stored},
        form::Form,
    },
};

/// The response for an active token (§2.2).
#[derive(Serialize)]
struct Active {
    active: bool,
    scope: String,
    client_id: String,
    token_type: &'static str,
    exp: i64,
    iat: i64,
    sub: String,
    aud: String,
    iss: String,
    jti: Uuid,
}

/// The whole response for every other token (§2.2).
#[derive(Serialize)]
struct Inactive {
    active: bool,
}

/// Answers an introspection request.
///
/// # Errors
/// As RFC 7662 §2.3 has them; in doubt 503, never a false answer (I6).
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OAuthError> {
    // §2.1: the caller is authenticated first.
    app.authenticate_client(&client::proof(&headers, &form, origin)?).await?;
    let token = form.get("token").ok_or_else(|| OAuthError::invalid_request("token is missing."))?;
    // §4: liveness, audience and standing in one look.
    let mut response = match app.active_token(token).await? {
        Some((claims, _)) => Json(Active {
            active: true,
            scope: claims.scope,
            client_id: claims.client_id,
            token_type: "Bearer",
            exp: claims.exp,
            iat: claims.iat,
            sub: claims.sub,
            aud: claims.aud,
            iss: claims.iss,
            jti: claims.jti,
        })
        .into_response(),
        None => Json(Inactive { active: false }).into_response(),
    };
    never_stored(&mut response);
    Ok(response)
}
