//! The owner of the credentials of a benchmark, signed in.

use std::time::{Duration, Instant};

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::Request;
use hyper::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use serde_json::json;

use crate::connection::Connection;
use crate::contestant::{Credential, EMAIL, Running};

const JSON: &str = "application/json";

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
