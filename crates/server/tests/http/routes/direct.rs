//! Routes that go past the router.

use portcullis::{
    around::Around,
    routes::{answered_directly, router},
};
use reqwest::{Method, header};
use tower::ServiceExt;

use crate::support::World;

/// What is answered past the router is answered as the router would.
#[tokio::test]
async fn what_goes_past_the_router_is_answered_as_by_the_router() {
    let world = World::sqlite(&[]).await;
    let through = |direct| Around::new(std::sync::Arc::clone(&world.app), router(&world.app), direct);
    let ways = [through(answered_directly()), through(Default::default())];
    let paths: Vec<_> = answered_directly().into_iter().map(|(path, (method, _))| (path, method)).collect();
    assert!(paths.len() > 15, "{paths:?}");
    for (path, own) in paths {
        for method in [own, Method::HEAD, Method::OPTIONS, Method::PUT] {
            let mut answers = Vec::new();
            for way in &ways {
                let request = axum::http::Request::builder().method(method.clone()).uri(path);
                let request = request.body(axum::body::Body::empty()).unwrap();
                let response = way.clone().oneshot(request).await.unwrap();
                let (head, body) = response.into_parts();
                let body = axum::body::to_bytes(body, 1024 * 1024).await.unwrap();
                answers.push((head.status, sorted(&head.headers), body));
            }
            assert_eq!(answers[0], answers[1], "{method} {path}");
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
