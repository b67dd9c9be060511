//! The load: a number of clients that ask, each one request after the other: for tokens, about tokens,
//! for a document, or to be signed in.
//!
//! The loop is closed: a connection sends its next request when it has its answer, so the number of
//! requests under way is the number of connections and never more. That shows what the server can
//! carry at that many clients, and not how it behaves when more arrive than it can carry. Every
//! answer is checked: a status other than 200 or a body without what was asked for is an error and not
//! a request (of sign-ins, which are to be refused, only that there is an answer). It runs on one thread and is meant to have a core of its own; the report says how much
//! of it was used.

#![allow(clippy::disallowed_methods, reason = "measuring takes a clock of its own")]
#![allow(clippy::print_stdout, reason = "the report is the program's output")]

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use portcullis_bench::LoadReport;
use portcullis_bench::spent::{Between, Spent, Watched};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// How long a single answer may take before it counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024;
/// After so many errors of one connection it gives up, so that a dead server ends the run.
const GIVE_UP_AFTER: u32 = 20;

/// Keeps connections busy with requests and prints what came of them as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// The address of the server, spoken to in plain HTTP/1.1.
    #[arg(long)]
    target: SocketAddr,
    /// What is asked.
    #[arg(long, value_enum, default_value = "token")]
    what: What,
    /// The document that is asked for.
    #[arg(long, default_value = "/")]
    path: Uri,
    /// The resource that tokens are for.
    #[arg(long)]
    resource: Option<String>,
    /// How many tokens are fetched beforehand, to be asked about.
    #[arg(long, default_value_t = 1000)]
    tokens: usize,
    /// Who asks.
    #[arg(long)]
    client_id: String,
    /// The secret to ask with.
    #[arg(long)]
    client_secret: String,
    #[command(flatten)]
    watched: Watched,
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

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// For a token.
    Token,
    /// About tokens, each once. It ends when all were asked about.
    First,
    /// About tokens that were asked about before.
    Again,
    /// For a document.
    Document,
    /// To be signed in, with an address and a password that nobody has.
    SignIn,
}

/// What makes the requests.
struct Ask {
    what: What,
    target: SocketAddr,
    path: Uri,
    host: HeaderValue,
    authorization: HeaderValue,
    body: Bytes,
    /// The bodies of questions about tokens.
    questions: Vec<Bytes>,
    sent: Cell<usize>,
}

impl Ask {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let pair = BASE64_STANDARD.encode(format!("{}:{}", args.client_id, args.client_secret));
        let mut body = "grant_type=client_credentials".to_owned();
        if let Some(resource) = &args.resource {
            let resource: String = form_urlencoded::byte_serialize(resource.as_bytes()).collect();
            body += &format!("&resource={resource}");
        }
        let path = match args.what {
            What::Token | What::First | What::Again => Uri::from_static("/oauth/token"),
            What::Document => args.path.clone(),
            What::SignIn => Uri::from_static("/api/v1/session"),
        };
        Ok(Self {
            // Tokens are to be had before they are asked about.
            what: if args.what.is_about_tokens() { What::Token } else { args.what },
            target: args.target,
            path,
            host: HeaderValue::try_from(args.target.to_string())?,
            authorization: HeaderValue::try_from(format!("Basic {pair}"))?,
            body: body.into(),
            questions: Vec::new(),
            sent: Cell::new(0),
        })
    }

    /// Goes on to ask about tokens.
    fn about(self, what: What, tokens: Vec<String>) -> Self {
        let questions = tokens.into_iter().map(|token| format!("token={token}").into()).collect();
        Self { what, path: Uri::from_static("/oauth/introspect"), questions, ..self }
    }

    /// The next request; `None` when there are no more.
    fn request(&self) -> Option<Request<Full<Bytes>>> {
        let number = self.sent.replace(self.sent.get() + 1);
        let body = match self.what {
            What::Token => self.body.clone(),
            What::First => self.questions.get(number)?.clone(),
            What::Again => self.questions.get(number % self.questions.len())?.clone(),
            What::Document => Bytes::new(),
            What::SignIn => {
                format!(r#"{{"email":"nobody{number}@acme.example","password":"not the password of anybody"}}"#)
                    .into()
            }
        };
        let mut request = Request::new(Full::new(body));
        if self.what != What::Document {
            *request.method_mut() = Method::POST;
        }
        *request.uri_mut() = self.path.clone();
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        match self.what {
            What::Document => {}
            What::SignIn => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            }
            _ => {
                headers.insert(AUTHORIZATION, self.authorization.clone());
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
            }
        }
        Some(request)
    }

    /// Whether this is the answer to what was asked.
    fn is_answered(&self, status: StatusCode, body: &[u8]) -> bool {
        match self.what {
            What::SignIn => true,
            _ if status != StatusCode::OK => false,
            What::Token => token_in(body).is_some(),
            What::First | What::Again => body.starts_with(br#"{"active":true"#),
            What::Document => !body.is_empty(),
        }
    }
}

impl What {
    fn is_about_tokens(self) -> bool {
        matches!(self, Self::First | Self::Again)
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
    fn report(&self, started: Instant, spent: Between) -> LoadReport {
        // Shorter when there was no more to ask.
        let seconds = (self.end.min(Instant::now()) - self.measure_from).as_secs_f64();
        let requests = self.times.len();
        #[allow(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
        let rps = requests as f64 / seconds;
        LoadReport {
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
            cpu_seconds: spent.load,
            server_cpu_seconds: spent.server,
            database_cpu_seconds: spent.database,
            others_cpu_seconds: spent.others,
            wall_seconds: started.elapsed().as_secs_f64(),
        }
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

/// Asks once and gives the right answer; `None` when there is nothing more to ask.
async fn ask_once(ask: &Ask, sender: &mut SendRequest<Full<Bytes>>) -> anyhow::Result<Option<Bytes>> {
    sender.ready().await.context("the server closed the connection")?;
    let Some(request) = ask.request() else { return Ok(None) };
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?;
    let body = body.to_bytes();
    if !ask.is_answered(status, &body) {
        bail!(
            "not what was asked for, status {status}: {}",
            String::from_utf8_lossy(&body[..body.len().min(200)])
        );
    }
    Ok(Some(body))
}

/// The token in a body, if there is one that is not empty. Looking for it is enough and leaves the core
/// to the asking, where parsing would not.
fn token_in(body: &[u8]) -> Option<&[u8]> {
    const START: &[u8] = br#""access_token":""#;
    let at = body.windows(START.len()).position(|part| part == START)?;
    let token = &body[at + START.len()..];
    let end = token.iter().position(|byte| *byte == b'"')?;
    (end > 0).then(|| &token[..end])
}

/// Fetches so many tokens.
async fn fetch(ask: Rc<Ask>, wanted: usize, found: Rc<RefCell<Vec<String>>>) -> anyhow::Result<()> {
    let mut sender = connect(ask.target).await?;
    while found.borrow().len() < wanted {
        let answer = timeout(ANSWER_TIMEOUT, ask_once(&ask, &mut sender)).await.context("no answer")??;
        let answer = answer.context("nothing to ask")?;
        let token = token_in(&answer).context("no token")?;
        found.borrow_mut().push(String::from_utf8(token.to_vec())?);
    }
    Ok(())
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
                Ok(Ok(Some(_))) => {
                    tally.borrow_mut().got(asked);
                    Ok(())
                }
                Ok(Ok(None)) => return,
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
    let clients = LocalSet::new();
    let mut ask = Ask::new(&args)?;
    if args.what.is_about_tokens() {
        let found = Rc::new(RefCell::new(Vec::with_capacity(args.tokens)));
        let asker = Rc::new(Ask::new(&args)?);
        let fetching = (0..args.connections).map(|_| fetch(Rc::clone(&asker), args.tokens, Rc::clone(&found)));
        all(&clients, fetching).await?.into_iter().collect::<anyhow::Result<()>>()?;
        ask = ask.about(args.what, found.take());
    }
    let (started, ask) = (Instant::now(), Rc::new(ask));
    let before = Spent::so_far(&args.watched)?;
    let tally = Tally::new(Duration::from_secs(args.warm_up), Duration::from_secs(args.duration))?;
    let tally = Rc::new(RefCell::new(tally));
    let asking = (0..args.connections).map(|_| keep_asking(Rc::clone(&ask), Rc::clone(&tally)));
    all(&clients, asking).await?;
    let spent = before.until(&Spent::so_far(&args.watched)?);
    let report = tally.borrow().report(started, spent);
    println!("{}", serde_json::to_string_pretty(&report)?);
    Ok(())
}

/// Runs all of these at the same time to their ends.
async fn all<F: Future + 'static>(
    clients: &LocalSet,
    run: impl Iterator<Item = F>,
) -> anyhow::Result<Vec<F::Output>> {
    let running: Vec<_> = run.map(|one| clients.spawn_local(one)).collect();
    clients
        .run_until(async {
            let mut done = Vec::with_capacity(running.len());
            for one in running {
                done.push(one.await?);
            }
            Ok(done)
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_with_a_token_counts() {
        let found = token_in(br#"{"access_token":"e30.e30.aa","token_type":"Bearer"}"#);
        assert_eq!(found, Some(&b"e30.e30.aa"[..]));
        assert_eq!(token_in(br#"{"access_token":"","token_type":"Bearer"}"#), None);
        assert_eq!(token_in(br#"{"error":"invalid_client"}"#), None);
        assert_eq!(token_in(b""), None);
    }

    #[test]
    fn the_warm_up_is_not_measured_and_failures_are_counted() {
        let mut tally = Tally::new(Duration::from_secs(30), Duration::from_secs(1)).unwrap();
        tally.got(Instant::now());
        tally.failed(&anyhow::anyhow!("one"));
        tally.failed(&anyhow::anyhow!("two"));
        let spent = Between { server: 0.0, database: None, load: 0.0, others: 0.0 };
        let report = tally.report(Instant::now(), spent);
        assert_eq!((report.requests, report.requests_in_all, report.errors), (0, 1, 2));
        assert_eq!(report.first_error.as_deref(), Some("one"));
    }
}
