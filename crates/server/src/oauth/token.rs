//! `POST /oauth/token`: the client credentials grant (RFC 6749 §4.4), T-2.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use portcullis_domain::{audit::Origin, tokens::Claims};
use serde::Serialize;

use crate::{
    app::{App, tokens::Wish},
    oauth::{
        client,
        error::{OAuthError, never_stored},
        form::Form,
    },
};

/// The success response (§5.1). There is never a refresh token (§4.4.3).
#[derive(Serialize)]
struct Body {
    access_token: String,
    token_type: &'static str,
    expires_in: i64,
    /// What was granted (§3.3); absent where the API has no scopes.
    #[serde(skip_serializing_if = "String::is_empty")]
    scope: String,
}

/// Answers a token request.
///
/// # Errors
/// As RFC 6749 §5.2 has them.
pub async fn post(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, OAuthError> {
    // §4.4.2: grant_type is required; other grants do not exist here (RFC 9700 §2.4).
    match form.get("grant_type") {
        Some("client_credentials") => {}
        Some(_) => return Err(OAuthError::unsupported_grant_type()),
        None => {
            return Err(OAuthError::invalid_request("grant_type is missing. Send grant_type=client_credentials."));
        }
    }
    // §4.4.2: who is asking, then RFC 8707 §2, for which API, then §3.3, with which scope. All is read
    // from the store in the transaction that records the token.
    let wish =
        Wish { resource: form.get("resource").map(str::to_owned), scope: form.get("scope").map(str::to_owned) };
    let issued = app.issue_token(client::proof(&headers, &form, origin)?, wish).await?;
    let claims = Claims {
        iss: app.signer.issuer().to_owned(),
        sub: issued.client_id.as_str().to_owned(),
        client_id: issued.client_id.as_str().to_owned(),
        aud: issued.audience,
        iat: issued.issued_at.as_second(),
        exp: issued.expires_at.as_second(),
        jti: issued.jti,
        scope: issued.scope.clone(),
    };
    let body = Body {
        access_token: issued.keys.sign(issued.algorithm, &claims)?,
        token_type: "Bearer",
        expires_in: claims.exp - claims.iat,
        scope: issued.scope,
    };
    let mut response = Json(body).into_response();
    never_stored(&mut response);
    Ok(response)
}
