//! `POST /oauth/revoke` (RFC 7009): a program takes back one of its own tokens. Credentials are
//! revoked by their owner, elsewhere (C-7).

use std::sync::Arc;

use axum::{extract::State, response::Response};
use serde_json::json;

use crate::{
    app::App,
    oauth::{
        client,
        error::{self, OAuthError},
        form::Asked,
    },
};

/// Answers a revocation request. An unknown or ended token is as good as revoked (§2.2).
///
/// # Errors
/// As RFC 7009 §2.2.1 has them; a failing store is 503, never 200.
pub async fn post(
    State(app): State<Arc<App>>,
    Asked { origin, headers, form }: Asked,
) -> Result<Response, OAuthError> {
    // §2.1: the client is authenticated, then the token is seen to be its own.
    let client = app.authenticate_client(client::proof(&app, &headers, &form, origin.clone())?).await?;
    let token = form.get("token").ok_or_else(|| OAuthError::invalid_request("token is missing."))?;
    if !app.revoke_token(&client, token, &origin).await? {
        return Err(OAuthError::unauthorized_client("The token was issued to another client."));
    }
    // §2.2: the status says it all. The object is for clients that read every answer as JSON.
    Ok(error::json(&json!({}))?)
}
