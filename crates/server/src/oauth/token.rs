//! `POST /oauth/token`: the client credentials grant (RFC 6749 §4.4), T-2. With a DPoP proof the token
//! is bound to its key (RFC 9449 §5), T-5.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue},
    response::{IntoResponse, Response},
};
use portcullis_domain::audit::Origin;
use serde::Serialize;

use crate::{
    app::{
        App, dpop,
        tokens::{Issued, Wish},
    },
    oauth::{
        client,
        error::{self, OAuthError},
        form::{Asked, Form},
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

/// Answers a token request. Whoever uses DPoP, or has to, is given a nonce for the next proof
/// (RFC 9449 §8, §8.2).
pub async fn post(State(app): State<Arc<App>>, Asked { origin, headers, form }: Asked) -> Response {
    let answer = answer(&app, origin, &headers, &form).await;
    let wanted = headers.contains_key("dpop") || answer.as_ref().is_err_and(OAuthError::wants_proof);
    let mut response = answer.into_response();
    let nonce = HeaderValue::try_from(app.nonces.newest(app.clock.now())).ok();
    if let Some(nonce) = nonce.filter(|_| wanted) {
        response.headers_mut().insert("dpop-nonce", nonce);
    }
    response
}

/// As RFC 6749 §5.2 has the errors.
async fn answer(app: &App, origin: Origin, headers: &HeaderMap, form: &Form) -> Result<Response, OAuthError> {
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
    let proof = client::proof(app, headers, form, origin)?;
    // RFC 9449 §5. Before the client is looked at, so that asking for a nonce uses up no assertion.
    let url = format!("{}/oauth/token", app.config.public_url);
    let bound = dpop::header(headers)?.map(|proof| app.check_proof_of_request(proof, &url)).transpose()?;
    let text = |name| form.get(name).map(str::to_owned);
    let issued = app.issue_token(proof, Wish { resource: text("resource"), scope: text("scope"), bound }).await?;
    let Issued { token, claims } = issued;
    let body = Body {
        access_token: token,
        token_type: claims.token_type(),
        expires_in: claims.exp - claims.iat,
        scope: claims.scope,
    };
    Ok(error::json(&body)?)
}
