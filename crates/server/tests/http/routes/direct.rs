//! Routes that go past the router.

use std::sync::Arc;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{Request, StatusCode},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use portcullis::{
    around::Around,
    routes::{answered_directly, router},
};
use reqwest::{Method, header};
use tower::ServiceExt;

use crate::support::World;

/// The two ways: past the router, and all through it.
fn ways(world: &World) -> [Around; 2] {
    let through = |direct| Around::new(Arc::clone(&world.app), router(&world.app), direct);
    [through(answered_directly()), through(Default::default())]
}

/// What a request is answered on one way: status, headers, body.
async fn ask(way: &Around, request: Request<Body>) -> (StatusCode, Vec<String>, Bytes) {
    let (head, body) = way.clone().oneshot(request).await.unwrap().into_parts();
    (head.status, sorted(&head.headers), to_bytes(body, 1024 * 1024).await.unwrap())
}

#[tokio::test]
async fn what_goes_past_the_router_is_answered_as_by_the_router() {
    let world = World::sqlite(&[]).await;
    let [past, router] = ways(&world);
    let paths: Vec<_> = answered_directly().into_iter().map(|(path, (method, _))| (path, method)).collect();
    assert!(paths.len() > 15, "{paths:?}");
    for (path, own) in paths {
        for method in [own, Method::HEAD, Method::OPTIONS, Method::PUT] {
            let request = || Request::builder().method(method.clone()).uri(path).body(Body::empty()).unwrap();
            assert_eq!(ask(&past, request()).await, ask(&router, request()).await, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn forms_that_go_past_the_router_are_answered_as_by_the_router() {
    let world = World::sqlite(&[]).await;
    let [past, router] = ways(&world);
    let program = world.maria().await.generate().await;
    let (token, nobody) = (program.token().await, format!("{}x", program.client_id));
    let right = (&*program.client_id, &*program.client_secret);
    let (unknown, wrong) = ((&*nobody, "wrong"), (&*program.client_id, "wrong"));
    let about = format!("token={token}");
    let long = format!("token={}", "x".repeat(100_000));
    for (endpoint, form, status, refused) in [
        ("introspect", &*about, 200, 401),
        ("introspect", "token=x", 200, 401),
        ("introspect", "", 400, 401),
        ("introspect", &*long, 413, 413),
        ("token", "grant_type=password", 400, 400),
        ("token", "grant_type=client_credentials&scope=%FF", 400, 401),
        ("token", "grant_type=client_credentials&scope=nothing", 400, 401),
        ("revoke", "token=x", 200, 401),
        ("revoke", &*about, 200, 401),
    ] {
        for ((id, secret), status) in [(right, status), (unknown, refused), (wrong, refused)] {
            let request = || {
                let basic = BASE64_STANDARD.encode(format!("{id}:{secret}"));
                let request = Request::post(format!("/oauth/{endpoint}"));
                let request = request.header("authorization", format!("Basic {basic}"));
                let request = request.header("content-type", "application/x-www-form-urlencoded");
                request.body(Body::from(form.to_owned())).unwrap()
            };
            let answer = ask(&past, request()).await;
            assert_eq!(answer, ask(&router, request()).await, "{endpoint} {form}");
            assert_eq!(answer.0.as_u16(), status, "{endpoint} {form} {answer:?}");
        }
    }
}

/// All but the length, which the router writes beforehand and otherwise hyper does.
fn sorted(headers: &header::HeaderMap) -> Vec<String> {
    let headers = headers.iter().filter(|(name, _)| **name != header::CONTENT_LENGTH);
    let mut lines: Vec<_> = headers.map(|(name, value)| format!("{name}: {value:?}")).collect();
    lines.sort();
    lines
}
