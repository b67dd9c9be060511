//! One connection to a server, kept alive, for benchmarks that ask one thing after the other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// A connection of plain HTTP/1.1.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: SocketAddr,
}

impl Connection {
    /// Opens one.
    ///
    /// # Errors
    /// When nobody listens there, or takes too long.
    pub async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(target)).await.context("connecting took too long")??;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // The connection's own error also reaches the request that was under way on it.
        tokio::spawn(connection);
        Ok(Self { sender, target })
    }

    /// Sends a request and gives the head of its answer.
    ///
    /// # Errors
    /// When there is none, or its status is not one of success.
    pub async fn send(&mut self, request: Builder, body: String) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await.context("the server closed the connection")?;
        let request = request.header(HOST, self.target.to_string()).body(Full::new(Bytes::from(body)))?;
        let answer = timeout(LIMIT, self.sender.send_request(request)).await.context("no answer")??;
        if !answer.status().is_success() {
            bail!("status {}", answer.status());
        }
        Ok(answer)
    }

    /// Sends a request and gives the body of its answer.
    ///
    /// # Errors
    /// As [`Self::send`]; and for a body that is too long or breaks off.
    pub async fn ask(&mut self, request: Builder, body: String) -> anyhow::Result<Bytes> {
        let answer = self.send(request, body).await?.into_body();
        let body = Limited::new(answer, ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok(body.to_bytes())
    }
}
