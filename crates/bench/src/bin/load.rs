//! The load: a number of clients that ask for tokens, each one request after the other.
//!
//! The loop is closed: a connection sends its next request when it has its answer, so the number of
//! requests under way is the number of connections and never more. That shows what the server can
//! carry at that many clients, and not how it behaves when more arrive than it can carry. Every
//! answer is checked: a status other than 200 or a body without an access token is an error and not
//! a request. It runs on one thread and is meant to have a core of its own; the report says how much
//! of it was used.

#![allow(clippy::disallowed_methods, reason = "measuring takes a clock of its own")]
#![allow(clippy::print_stdout, reason = "the report is the program's output")]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use clap::Parser;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use portcullis_bench::{LoadReport, process};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// How long a single answer may take before it counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024;
/// After so many errors of one connection it gives up, so that a dead server ends the run.
const GIVE_UP_AFTER: u32 = 20;

/// The command line.
#[derive(Debug, Parser)]
struct Args {
    /// The address of the server, spoken to in plain HTTP/1.1.
    #[arg(long)]
    target: SocketAddr,
    /// The path of the token endpoint.
    #[arg(long, default_value = "/oauth/token")]
    path: Uri,
    /// Who asks.
    #[arg(long)]
    client_id: String,
    /// The secret to ask with.
    #[arg(long)]
    client_secret: String,
    /// How many connections are kept busy.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// How many seconds are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    duration: u64,
    /// How many seconds run before measuring begins.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=30))]
    warm_up: u64,
}

/// The request, made once and cloned for every sending.
struct Ask {
    target: SocketAddr,
    path: Uri,
    host: HeaderValue,
    authorization: HeaderValue,
}

impl Ask {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let pair = BASE64_STANDARD.encode(format!("{}:{}", args.client_id, args.client_secret));
        Ok(Self {
            target: args.target,
            path: args.path.clone(),
            host: HeaderValue::try_from(args.target.to_string())?,
            authorization: HeaderValue::try_from(format!("Basic {pair}"))?,
        })
    }

    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from_static(b"grant_type=client_credentials")));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        request
    }
}

/// What all connections write their results into; one thread, so a plain cell does.
struct Tally {
    measure_from: Instant,
    end: Instant,
    times: Histogram<u64>,
    requests_in_all: u64,
    errors: u64,
    first_error: Option<String>,
}

impl Tally {
    fn new(warm_up: Duration, duration: Duration) -> anyhow::Result<Self> {
        let measure_from = Instant::now() + warm_up;
        let times = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let end = measure_from + duration;
        Ok(Self { measure_from, end, times, requests_in_all: 0, errors: 0, first_error: None })
    }

    /// Counts a token that was asked for at `asked` and is there now.
    fn got(&mut self, asked: Instant) {
        self.requests_in_all += 1;
        let now = Instant::now();
        if asked >= self.measure_from && now <= self.end {
            let micros = u64::try_from((now - asked).as_micros()).unwrap_or(u64::MAX);
            self.times.saturating_record(micros.max(1));
        }
    }

    /// Counts a failure.
    fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| format!("{error:#}"));
    }

    /// Sums up.
    fn report(&self, started: Instant) -> anyhow::Result<LoadReport> {
        let seconds = (self.end - self.measure_from).as_secs_f64();
        let requests = self.times.len();
        #[allow(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
        let rps = requests as f64 / seconds;
        Ok(LoadReport {
            requests,
            errors: self.errors,
            first_error: self.first_error.clone(),
            requests_in_all: self.requests_in_all,
            seconds,
            rps,
            p50_us: self.times.value_at_quantile(0.50),
            p90_us: self.times.value_at_quantile(0.90),
            p99_us: self.times.value_at_quantile(0.99),
            max_us: self.times.max(),
            cpu_seconds: process::cpu_seconds(std::process::id())?,
            wall_seconds: started.elapsed().as_secs_f64(),
        })
    }
}

/// Opens a connection.
async fn connect(target: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream =
        timeout(ANSWER_TIMEOUT, TcpStream::connect(target)).await.context("connecting took too long")??;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The connection's own error also reaches the request that was under way on it.
    tokio::task::spawn_local(connection);
    Ok(sender)
}

/// Asks for one token and checks that it came.
async fn ask_once(ask: &Ask, sender: &mut SendRequest<Full<Bytes>>) -> anyhow::Result<()> {
    sender.ready().await.context("the server closed the connection")?;
    let response = sender.send_request(ask.request()).await?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?;
    let body = body.to_bytes();
    if status != StatusCode::OK {
        bail!("status {status}: {}", String::from_utf8_lossy(&body[..body.len().min(200)]));
    }
    if !has_token(&body) {
        bail!("an answer of status 200 without an access token");
    }
    Ok(())
}

/// Whether a body holds a token that is not empty. Looking for it is enough and leaves the core to
/// the asking, where parsing would not.
fn has_token(body: &[u8]) -> bool {
    const START: &[u8] = br#""access_token":""#;
    let Some(at) = body.windows(START.len()).position(|part| part == START) else { return false };
    body.get(at + START.len()).is_some_and(|next| *next != b'"')
}

/// Keeps one connection busy until the end, opening it anew after an error.
async fn keep_asking(ask: Rc<Ask>, tally: Rc<RefCell<Tally>>) {
    let end = tally.borrow().end;
    let mut open = None;
    let mut errors = 0;
    while Instant::now() < end && errors < GIVE_UP_AFTER {
        let asked = Instant::now();
        let outcome = match &mut open {
            None => connect(ask.target).await.map(|sender| open = Some(sender)),
            Some(sender) => match timeout(ANSWER_TIMEOUT, ask_once(&ask, sender)).await {
                Ok(Ok(())) => {
                    tally.borrow_mut().got(asked);
                    Ok(())
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Err(anyhow::anyhow!("an answer took longer than {ANSWER_TIMEOUT:?}")),
            },
        };
        if let Err(error) = outcome {
            tally.borrow_mut().failed(&error);
            open = None;
            errors += 1;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let started = Instant::now();
    let ask = Rc::new(Ask::new(&args)?);
    let tally = Tally::new(Duration::from_secs(args.warm_up), Duration::from_secs(args.duration))?;
    let tally = Rc::new(RefCell::new(tally));
    let clients = LocalSet::new();
    let asking: Vec<_> = (0..args.connections)
        .map(|_| clients.spawn_local(keep_asking(Rc::clone(&ask), Rc::clone(&tally))))
        .collect();
    clients
        .run_until(async {
            for client in asking {
                client.await?;
            }
            anyhow::Ok(())
        })
        .await?;
    let report = tally.borrow().report(started)?;
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_with_a_token_counts() {
        assert!(has_token(br#"{"access_token":"e30.e30.aa","token_type":"Bearer"}"#));
        assert!(!has_token(br#"{"access_token":"","token_type":"Bearer"}"#));
        assert!(!has_token(br#"{"error":"invalid_client"}"#));
        assert!(!has_token(b""));
    }

    #[test]
    fn the_warm_up_is_not_measured_and_failures_are_counted() {
        let mut tally = Tally::new(Duration::from_secs(30), Duration::from_secs(1)).unwrap();
        tally.got(Instant::now());
        tally.failed(&anyhow::anyhow!("one"));
        tally.failed(&anyhow::anyhow!("two"));
        let report = tally.report(Instant::now()).unwrap();
        assert_eq!((report.requests, report.requests_in_all, report.errors), (0, 1, 2));
        assert_eq!(report.first_error.as_deref(), Some("one"));
    }
}
