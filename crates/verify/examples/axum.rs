//! An API with axum that takes access tokens.
//!
//! ```sh
//! export ISSUER=http://127.0.0.1:8080 AUDIENCE=https://orders.acme.example
//! export API_KEY_ID=pca_… API_KEY_SECRET=…      # leave both out to poll the status list only
//! export PUBLIC_URL=http://127.0.0.1:3000       # as clients call it; this is the default
//! cargo run -p portcullis-verify --example axum
//! curl -i -H "Authorization: Bearer $TOKEN" http://127.0.0.1:3000/orders
//! ```

use std::{env, error::Error, time::Duration};

use axum::{Extension, Router, extract::State, http::StatusCode, routing::get};
use portcullis_verify::{AccessToken, Verifier, VerifyLayer, WhenStale};

/// Without news of revocations for so long, this API stops rather than guess.
const STALE_AFTER: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut builder = Verifier::builder(env::var("ISSUER")?, env::var("AUDIENCE")?)
        .when_stale(WhenStale::RefuseAfter(STALE_AFTER))
        .public_url(env::var("PUBLIC_URL").unwrap_or_else(|_| "http://127.0.0.1:3000".into()));
    if let (Ok(id), Ok(secret)) = (env::var("API_KEY_ID"), env::var("API_KEY_SECRET")) {
        builder = builder.api_key(id, secret.into());
    }
    let verifier = builder.start().await?;
    let layer = VerifyLayer::new(verifier.clone());

    let app = Router::new()
        .route("/orders", get(orders).route_layer(layer.clone().require_scope("orders:read")))
        .route("/whoami", get(whoami).route_layer(layer))
        .route("/health", get(health))
        .with_state(verifier);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}

async fn orders() -> &'static str {
    "three orders\n"
}

async fn whoami(Extension(token): Extension<AccessToken>) -> String {
    format!("{} with {}\n", token.client_id(), token.scopes().join(" "))
}

async fn health(State(verifier): State<Verifier>) -> (StatusCode, String) {
    let freshness = verifier.freshness();
    let status = if freshness.age > STALE_AFTER { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (status, format!("feed live: {}, known {:?} ago\n", freshness.feed_is_live, freshness.age))
}
