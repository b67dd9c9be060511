//! Discovery: what this server can do (RFC 8414) and what its own API wants (RFC 9728). Only what
//! works is listed.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue},
    response::Response,
};
use portcullis_domain::tokens::SCOPES;
use serde_json::{Value, json};

use crate::{app::App, oauth::error::OAuthError};

const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");
const AUTH_METHODS: [&str; 3] = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/// The algorithms of client assertions and DPoP proofs.
fn algorithms() -> [&'static str; 3] {
    portcullis_verify::jwk::Algorithm::ALL.map(portcullis_verify::jwk::Algorithm::name)
}

fn scopes() -> Vec<&'static str> {
    SCOPES.iter().map(|(name, _)| *name).collect()
}

/// `GET /.well-known/oauth-authorization-server`, and the same under `openid-configuration` for
/// clients that only look there (RFC 8414 §5).
///
/// Of APIs it names the product's own alone, with its scopes: which others are registered is for
/// those who hold a credential (§2 leaves out what is not advertised).
///
/// # Errors
/// 503 when it cannot be read which algorithms are in use.
pub async fn authorization_server(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Response, OAuthError> {
    let signing = app.signer.current().await?.algorithms();
    let document = app.documents.server.of(signing.clone(), || server(&app, &signing).to_string());
    Ok(document.answer(&headers, "application/json", CACHE))
}

fn server(app: &App, signing: &[&str]) -> Value {
    let issuer = &app.config.public_url;
    json!({
            "issuer": issuer,
            "token_endpoint": format!("{issuer}/oauth/token"),
            "introspection_endpoint": format!("{issuer}/oauth/introspect"),
            "revocation_endpoint": format!("{issuer}/oauth/revoke"),
            "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "scopes_supported": scopes(),
            "token_endpoint_auth_methods_supported": AUTH_METHODS,
            "token_endpoint_auth_signing_alg_values_supported": algorithms(),
            "dpop_signing_alg_values_supported": algorithms(),
            "introspection_endpoint_auth_methods_supported": AUTH_METHODS,
            "introspection_endpoint_auth_signing_alg_values_supported": algorithms(),
            "introspection_signing_alg_values_supported": signing,
            "revocation_endpoint_auth_methods_supported": AUTH_METHODS,
            "status_list_endpoint": app.status_list_uri(),
            // Ours: no standard has a name for a feed of revocations yet.
            "revocations_endpoint": format!("{issuer}/oauth/revocations"),
            "revocation_endpoint_auth_signing_alg_values_supported": algorithms(),
            "protected_resources": [app.signer.audience()],
    })
}

/// `GET /.well-known/oauth-protected-resource/api/v1`.
pub async fn protected_resource(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let document = app.documents.resource.of((), || resource(&app).to_string());
    document.answer(&headers, "application/json", CACHE)
}

fn resource(app: &App) -> Value {
    json!({
            "resource": app.signer.audience(),
            "authorization_servers": [app.config.public_url],
            "scopes_supported": scopes(),
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": algorithms(),
            "dpop_bound_access_tokens_required": false,
            "resource_name": "Portcullis API",
    })
}
