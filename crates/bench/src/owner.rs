//! The owner of the credentials of a benchmark, signed in, and the connection they speak over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use hyper::http::request::Builder;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::contestant::{Credential, EMAIL, Running};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024;
const JSON: &str = "application/json";

/// A connection to the server.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: SocketAddr,
}

impl Connection {
    /// Opens one.
    ///
    /// # Errors
    /// When nobody answers in time.
    pub async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(target)).await.context("connecting took too long")??;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // The connection's own error also reaches the request that was under way on it.
        tokio::spawn(connection);
        Ok(Self { sender, target })
    }

    /// Sends a request and gives the answer, which is one of success.
    ///
    /// # Errors
    /// When there is none in time, or another.
    pub async fn send(&mut self, request: Builder, body: String) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await.context("the server closed the connection")?;
        let request = request.header(HOST, self.target.to_string()).body(Full::new(Bytes::from(body)))?;
        let answer = timeout(LIMIT, self.sender.send_request(request)).await.context("no answer")??;
        if !answer.status().is_success() {
            bail!("status {}", answer.status());
        }
        Ok(answer)
    }

    /// [`Connection::send`], and the body of the answer.
    ///
    /// # Errors
    /// As there, or when the body is too long.
    pub async fn ask(&mut self, request: Builder, body: String) -> anyhow::Result<Bytes> {
        let answer = self.send(request, body).await?.into_body();
        let body = Limited::new(answer, ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok(body.to_bytes())
    }
}

/// The value of an `Authorization: Basic` header.
#[must_use]
pub fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

/// The owner of the credentials, signed in.
pub struct Owner {
    connection: Connection,
    cookie: String,
    since: Instant,
}

impl Owner {
    /// Signs in.
    ///
    /// # Errors
    /// When the server refuses or does not answer.
    pub async fn sign_in(server: &Running) -> anyhow::Result<Self> {
        let who = json!({ "email": EMAIL, "password": server.password }).to_string();
        let request = Request::post("/api/v1/session").header(CONTENT_TYPE, JSON);
        let signed_in = Connection::open(server.address).await?.send(request, who).await?;
        let cookie = signed_in.headers().get(SET_COOKIE).context("no session")?.to_str()?;
        let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
        Ok(Self { connection: Connection::open(server.address).await?, cookie, since: Instant::now() })
    }

    /// Sends JSON in the session and gives what is answered.
    ///
    /// # Errors
    /// As [`Connection::send`].
    pub async fn post(&mut self, path: &str, body: String) -> anyhow::Result<Bytes> {
        let request = Request::post(path).header(CONTENT_TYPE, JSON).header(COOKIE, &self.cookie);
        self.connection.ask(request, body).await.with_context(|| path.to_owned())
    }

    /// A new credential. Generating wants a password of the last five minutes (C-12).
    ///
    /// # Errors
    /// As [`Owner::post`].
    pub async fn generate(&mut self, server: &Running) -> anyhow::Result<Credential> {
        if self.since.elapsed() > Duration::from_secs(240) {
            *self = Self::sign_in(server).await?;
        }
        let made = self.post("/api/v1/users/me/credential/generate", String::new()).await?;
        serde_json::from_slice(&made).context("a credential was not what was answered")
    }

    /// Revokes the credential.
    ///
    /// # Errors
    /// As [`Owner::post`].
    pub async fn revoke(&mut self) -> anyhow::Result<()> {
        self.post("/api/v1/users/me/credential/revoke", String::new()).await.map(drop)
    }

    /// Registers an API whose tokens are signed with EdDSA, and gives its identifier.
    ///
    /// # Errors
    /// As [`Owner::post`].
    pub async fn register_api(&mut self) -> anyhow::Result<String> {
        let identifier = "https://orders.acme.example";
        let api = json!({
            "name": "Orders",
            "identifier": identifier,
            "scopes": [{ "name": "orders:read", "description": "Read orders" }],
            "algorithm": "EdDSA",
        });
        self.post("/api/v1/apis", api.to_string()).await?;
        Ok(identifier.to_owned())
    }
}
