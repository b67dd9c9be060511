//! `POST /oauth/token`: the client credentials grant (RFC 6749 §4.4), T-2.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use portcullis_domain::{
    audit::Origin,
    tokens::{Claims, grant_scope},
};
use serde::Serialize;

use crate::{
    app::App,
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
    // RFC 8707 §2: the resource must be one that this server issues tokens for.
    if form.get("resource").is_some_and(|r| r != app.signer.audience()) {
        let description = format!("The resource is not known here. There is {}.", app.signer.audience());
        return Err(OAuthError::invalid_target(description));
    }
    // §3.3: a scope beyond what there is.
    let scope = grant_scope(form.get("scope")).map_err(|_| {
        OAuthError::invalid_scope("The scope is unknown or malformed. The metadata lists scopes_supported.")
    })?;
    // §2.3: who is asking. Read from the store in the same transaction that records the token.
    let issued = app.issue_token(client::proof(&headers, &form, origin)?).await?;
    let claims = Claims {
        iss: app.signer.issuer().to_owned(),
        sub: issued.client_id.as_str().to_owned(),
        client_id: issued.client_id.as_str().to_owned(),
        aud: app.signer.audience().to_owned(),
        iat: issued.issued_at.as_second(),
        exp: issued.expires_at.as_second(),
        jti: issued.jti,
        scope: scope.clone(),
    };
    let body = Body {
        access_token: app.signer.sign(&claims)?,
        token_type: "Bearer",
        expires_in: claims.exp - claims.iat,
        scope,
    };
    let mut response = Json(body).into_response();
    never_stored(&mut response);
    Ok(response)
}
