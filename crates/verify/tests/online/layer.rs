//! The tower layer before the routes of an axum application.

use axum::{
    Extension, Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header},
    routing::get,
};
use portcullis_verify::{AccessToken, VerifyLayer, WhenStale};
use serde_json::json;
use tower::ServiceExt;

use crate::fake::{Fake, Mood};

async fn app(fake: &Fake) -> Router {
    let verifier = fake
        .builder_with(WhenStale::RefuseAfter(std::time::Duration::from_millis(200)))
        .resource_metadata("https://orders.acme.example/.well-known/oauth-protected-resource")
        .start()
        .await
        .unwrap();
    let layer = VerifyLayer::new(verifier);
    let who = async |Extension(token): Extension<AccessToken>| token.client_id().to_owned();
    Router::new()
        .route("/orders", get(who).route_layer(layer.clone().require_scope("orders:read")))
        .route("/orders/all", get(who).route_layer(layer.clone().require_scope("orders:read orders:all")))
        .route("/me", get(who).route_layer(layer))
        .route("/open", get(async || "open"))
}

async fn ask(app: &Router, path: &str, headers: &[&str]) -> Response<Body> {
    let request =
        headers.iter().fold(Request::get(path), |request, value| request.header(header::AUTHORIZATION, *value));
    app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

fn challenges(response: &Response<Body>) -> Vec<&str> {
    response.headers().get_all(header::WWW_AUTHENTICATE).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_good_token_comes_through_with_it() {
    let fake = Fake::start().await;
    let app = app(&fake).await;
    let bearer = format!("Bearer {}", fake.token(1, &json!({})));
    for path in ["/orders", "/orders?page=1", "/me"] {
        let response = ask(&app, path, &[&bearer]).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(to_bytes(response.into_body(), 100).await.unwrap(), "pc_1");
    }
    assert_eq!(ask(&app, "/open", &[]).await.status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_are_told_what_is_missing() {
    let fake = Fake::start().await;
    let app = app(&fake).await;
    let token = fake.token(1, &json!({}));
    let (bearer, mangled) = (format!("Bearer {token}"), format!("Bearer {token}A"));
    const END: &str = r#"resource_metadata="https://orders.acme.example/.well-known/oauth-protected-resource""#;

    let none = ask(&app, "/orders", &[]).await;
    assert_eq!(none.status(), StatusCode::UNAUTHORIZED);
    let dpop = format!(r#"DPoP algs="ES256 EdDSA RS256", {END}"#);
    assert_eq!(challenges(&none), [format!("Bearer {END}"), dpop]);
    assert_eq!(none.headers()[header::CACHE_CONTROL], "no-store");

    let bad = ask(&app, "/orders", &[&mangled]).await;
    assert_eq!(bad.status(), StatusCode::UNAUTHORIZED);
    assert!(challenges(&bad)[0].starts_with(r#"Bearer error="invalid_token""#));

    let weak = ask(&app, "/orders/all", &[&bearer]).await;
    assert_eq!(weak.status(), StatusCode::FORBIDDEN);
    assert!(challenges(&weak)[0].contains(r#"error="insufficient_scope""#));
    assert!(challenges(&weak)[0].contains(r#"scope="orders:read orders:all""#));

    for (path, headers) in [("/orders", vec![bearer.as_str(); 2]), ("/orders?access_token=a", vec![&bearer])] {
        let twice = ask(&app, path, &headers).await;
        assert_eq!(twice.status(), StatusCode::BAD_REQUEST);
        assert!(challenges(&twice)[0].contains(r#"error="invalid_request""#));
    }
    let request = Request::get("/orders").header(header::AUTHORIZATION, &b"Bearer \xff"[..]);
    let not_text = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(not_text.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_said_now_is_503_with_a_time_to_come_back() {
    let fake = Fake::start().await;
    let app = app(&fake).await;
    let bearer = format!("Bearer {}", fake.token(1, &json!({})));
    fake.set_all(Mood::Down);
    crate::fake::eventually("it is stale", async || {
        let response = ask(&app, "/orders", &[&bearer]).await;
        response.status() == StatusCode::SERVICE_UNAVAILABLE
            && response.headers()[header::RETRY_AFTER] == "1"
            && challenges(&response).is_empty()
    })
    .await;
}
