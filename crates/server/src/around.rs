//! What is around every request, whatever its route: where it came from, its time, the answer to a
//! panic, and the headers that every response has (protocol 34, 42, 43).
//!
//! It is one service and not a stack of layers: the router clones and boxes each layer for each
//! request, which for a token costs as much as the database does. For the same reason what has nothing
//! laid around it is answered without the router ([`routes::Direct`]).

use std::{
    collections::HashMap,
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tower::Service;

use crate::{
    access,
    api::problem::Problem,
    app::App,
    console,
    oauth::error::OAuthError,
    routes::{self, Direct},
};

/// No inline script or style, nothing from elsewhere, never in a frame (protocol 34).
const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                   form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'";

/// The headers of every response that has not set them itself.
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, CSP),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // Nothing is kept unless its handler says so.
    (header::CACHE_CONTROL, "no-store"),
];

/// The router, with what is around it. Cheap to clone.
#[derive(Clone)]
pub struct Around(Arc<Inner>);

struct Inner {
    app: Arc<App>,
    router: Router,
    /// What is answered without the router, by path.
    direct: HashMap<&'static str, (Method, Direct)>,
    headers: HeaderMap,
}

impl Around {
    /// Puts it around a router, and around what is answered without it.
    #[must_use]
    pub fn new(app: Arc<App>, router: Router, direct: HashMap<&'static str, (Method, Direct)>) -> Self {
        let hsts = app.config.wants_tls().then_some((header::STRICT_TRANSPORT_SECURITY, "max-age=31536000"));
        let headers = HEADERS.into_iter().chain(hsts);
        let headers = headers.map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
        Self(Arc::new(Inner { app, router, direct, headers }))
    }

    async fn answer(self, request: Request) -> Response {
        let (uri, limit) = (request.uri().clone(), self.0.app.config.limits.request);
        let answer = AssertUnwindSafe(self.routed(request)).catch_unwind();
        let mut response = match tokio::time::timeout(limit, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => panicked(),
            Err(_) => too_slow(&uri),
        };
        let headers = response.headers_mut();
        headers.reserve(self.0.headers.len());
        for (name, value) in &self.0.headers {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        response
    }

    async fn routed(&self, mut request: Request) -> Response {
        let Inner { app, router, direct, .. } = &*self.0;
        if let Some(refused) = access::note_arrival(app, &mut request) {
            return refused.into_response();
        }
        match direct.get(request.uri().path()) {
            Some((method, handler)) if method == request.method() => handler(request, Arc::clone(app)).await,
            _ => router.clone().call(request).await.unwrap_or_else(|never| match never {}),
        }
    }
}

impl Service<Request> for Around {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // As the router, which is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let around = self.clone();
        Box::pin(async move { Ok(around.answer(request).await) })
    }
}

/// The answer when the time of a request is over, its body included (protocol 43).
fn too_slow(uri: &Uri) -> Response {
    let detail = "The request took too long and was given up. Look whether it was done before you repeat it.";
    let mut response = if uri.path().starts_with("/oauth/") {
        OAuthError::too_slow(detail).into_response()
    } else if routes::is_for_programs(uri.path()) {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", detail).into_response()
    } else {
        console::too_slow(detail)
    };
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn panicked() -> Response {
    // What it panicked with may hold anything, a secret too: only that it happened is told (L-2).
    tracing::error!("a request panicked");
    let detail = "Something went wrong on the server. It has been logged.";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail).into_response()
}
