//! `POST /oauth/bind-key` (ours): whoever holds the Client Secret, and a private key, binds the public
//! one to the credential, once (C-14). It is what `portcullis credential bind-key` calls.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use portcullis_verify::jwk::PublicJwk;
use serde::Serialize;

use crate::{
    app::{App, client_keys::SignedAssertion, tokens::Given},
    oauth::{
        client,
        error::{self, OAuthError},
        form::Asked,
    },
};

#[derive(Serialize)]
struct Body {
    client_id: String,
    thumbprint: String,
    bound_at: String,
}

/// Answers a request to bind a key: the secret in Basic or in the body, `jwk`, and `proof`, which is
/// a client assertion made with the private key.
///
/// # Errors
/// As RFC 6749 §5.2 has them.
pub async fn post(
    State(app): State<Arc<App>>,
    Asked { origin, headers, form }: Asked,
) -> Result<Response, OAuthError> {
    let proof = client::proof(&app, &headers, &form, origin.clone())?;
    if !matches!(proof.given, Given::Secret(_)) {
        return Err(OAuthError::invalid_request("Send the Client Secret. With a key, no key is bound."));
    }
    let client = app.authenticate_client(proof).await?;
    let (Some(jwk), Some(proof)) = (form.get("jwk"), form.get("proof")) else {
        return Err(OAuthError::invalid_request(
            "Send jwk, the public key, and proof, a client assertion made with it.",
        ));
    };
    let key = PublicJwk::from_json(jwk).map_err(|why| OAuthError::invalid_request(format!("The jwk: {why}.")))?;
    let proof = SignedAssertion::read(proof, app.signer.issuer(), app.clock.now())
        .map_err(|why| OAuthError::invalid_request(why.to_string()))?;
    let bound = app.bind_first_key(&client, &key, &proof, &origin).await?;
    let body = Body {
        client_id: client.credential.client_id.as_str().to_owned(),
        thumbprint: bound.thumbprint,
        bound_at: bound.bound_at.to_string(),
    };
    Ok(error::json(&body)?)
}
