//! The HTTP client towards providers: everything about it is bounded, so that a provider that is
//! slow, dead or huge costs a known amount (no redirects, 3 s to connect, 10 s in all, 512 KiB).

use std::{future::Future, pin::Pin, time::Duration};

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse, http::Response};
use reqwest::{Client, redirect};

/// The most bytes of an answer.
const MAX_BYTES: usize = 512 * 1024;

/// Why there is no answer. None of it holds anything that was sent or received.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    /// No connection, no TLS, no answer in time.
    #[error("no answer")]
    Unreachable,
    /// More than fits.
    #[error("an answer of more than 512 KiB")]
    TooLarge,
    /// What came is no HTTP answer.
    #[error("an answer that is none")]
    Malformed,
}

/// The client. `None` when the machine has no TLS roots to trust: then no provider is reachable,
/// and everything else works.
pub(super) struct Http(Option<Client>);

impl Http {
    pub(super) fn new() -> Self {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(3))
            .timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent("portcullis")
            .build();
        if let Err(error) = &client {
            tracing::warn!(%error, "sign-in providers cannot be reached: there is no HTTP client");
        }
        Self(client.ok())
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let client = self.0.as_ref().ok_or(HttpError::Unreachable)?;
        let request = request.try_into().map_err(|_| HttpError::Malformed)?;
        let mut answer = client.execute(request).await.map_err(|_| HttpError::Unreachable)?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| HttpError::Unreachable)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut response = Response::builder().status(answer.status());
        if let Some(kind) = answer.headers().get("content-type") {
            response = response.header("content-type", kind);
        }
        response.body(body).map_err(|_| HttpError::Malformed)
    }

    /// The body of a document.
    pub(super) async fn get(&self, url: &str) -> Result<Vec<u8>, HttpError> {
        let request = openidconnect::http::Request::get(url).header("accept", "application/json");
        let request = request.body(Vec::new()).map_err(|_| HttpError::Malformed)?;
        let response = self.send(request).await?;
        if response.status().as_u16() == 200 { Ok(response.into_body()) } else { Err(HttpError::Malformed) }
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
