//! The tower layer: requests come through with their [`AccessToken`], or are answered here.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, request::Parts};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    error::Error,
    token::AccessToken,
    verifier::{self, Verifier},
};

static DPOP: HeaderName = HeaderName::from_static("dpop");

/// Lets requests through that have a good access token with a scope; the [`AccessToken`] is in their
/// extensions. Others are answered with 400, 401, 403 or 503, the right `WWW-Authenticate` and no body.
///
/// Put it on each route once (a DPoP proof may be used once), outside of what changes the path.
#[derive(Clone)]
pub struct VerifyLayer {
    verifier: Verifier,
    scope: String,
}

impl VerifyLayer {
    /// Lets every good token through.
    #[must_use]
    pub fn new(verifier: Verifier) -> Self {
        Self { verifier, scope: String::new() }
    }

    /// The same, and the token has to have this scope: one, or several separated by spaces.
    #[must_use]
    pub fn require_scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    async fn check(&self, head: &Parts) -> Result<AccessToken, Error> {
        let method = head.method.as_str();
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let authorization = texts(head, &header::AUTHORIZATION)?;
        let dpop = texts(head, &DPOP)?;
        let request = verifier::Request { method, path, authorization: &authorization, dpop: &dpop };
        let token = self.verifier.verify(&request).await?;
        token.require_scope(&self.scope)?;
        Ok(token)
    }

    fn answer<B: Default>(&self, error: &Error) -> Response<B> {
        let challenge = self.verifier.challenge(error);
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::from_u16(challenge.status).unwrap_or(StatusCode::UNAUTHORIZED);
        let headers = response.headers_mut();
        for value in &challenge.www_authenticate {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.append(header::WWW_AUTHENTICATE, value);
            }
        }
        if let Some(seconds) = challenge.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn texts<'a>(head: &'a Parts, name: &HeaderName) -> Result<Vec<&'a str>, Error> {
    let values = head.headers.get_all(name).iter();
    let not_text = Error::Request("a header has characters that it may not have");
    values.map(|value| value.to_str().map_err(|_| not_text.clone())).collect()
}

impl fmt::Debug for VerifyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifyLayer").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for VerifyLayer {
    type Service = Verify<S>;

    fn layer(&self, inner: S) -> Verify<S> {
        Verify { layer: self.clone(), inner }
    }
}

/// The service that a [`VerifyLayer`] makes.
#[derive(Debug, Clone)]
pub struct Verify<S> {
    layer: VerifyLayer,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for Verify<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The one that is ready is used, and the clone made ready the next time.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let layer = self.layer.clone();
        Box::pin(async move {
            let (mut head, body) = request.into_parts();
            match layer.check(&head).await {
                Ok(token) => {
                    head.extensions.insert(token);
                    inner.call(Request::from_parts(head, body)).await
                }
                Err(error) => Ok(layer.answer(&error)),
            }
        })
    }
}
