//! How long it takes from the acknowledgement of a revocation until those who follow the feed know of
//! it (C-11), started by `dev/feed`.
//!
//! A throw-away server is followed by a number of connections. Tokens are revoked one after the other;
//! the clock starts when the 200 is there, and is read at each follower when its event is.

#![allow(clippy::disallowed_methods, reason = "measuring takes a clock of its own")]
#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use clap::Parser;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HOST, SET_COOKIE};
use hyper::http::request::Builder;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use portcullis_bench::contestant::{Contestant, Cores, Credential, EMAIL, Running};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024;
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// The command line.
#[derive(Debug, Parser)]
struct Args {
    /// How many tokens are revoked.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    revocations: u32,
    /// How many follow.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    followers: u32,
    /// On which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    on: Contestant,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the followers and of PostgreSQL.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// A connection to the server.
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: SocketAddr,
}

impl Connection {
    async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let stream = timeout(LIMIT, TcpStream::connect(target)).await.context("connecting took too long")??;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // The connection's own error also reaches the request that was under way on it.
        tokio::spawn(connection);
        Ok(Self { sender, target })
    }

    async fn send(&mut self, request: Builder, body: String) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await.context("the server closed the connection")?;
        let request = request.header(HOST, self.target.to_string()).body(Full::new(Bytes::from(body)))?;
        let answer = timeout(LIMIT, self.sender.send_request(request)).await.context("no answer")??;
        if !answer.status().is_success() {
            bail!("status {}", answer.status());
        }
        Ok(answer)
    }

    async fn ask(&mut self, request: Builder, body: String) -> anyhow::Result<Bytes> {
        let answer = self.send(request, body).await?.into_body();
        let body = Limited::new(answer, ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?;
        Ok(body.to_bytes())
    }
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{id}:{secret}")))
}

/// A key of an API, as the server answers it.
#[derive(Debug, Deserialize)]
struct Key {
    id: String,
    secret: String,
}

/// Makes a key of the product's own API, for which the tokens are.
async fn make_key(server: &Running) -> anyhow::Result<Key> {
    let mut connection = Connection::open(server.address).await?;
    let who = json!({ "email": EMAIL, "password": server.password }).to_string();
    let signed_in = connection.send(Request::post("/api/v1/session").header(CONTENT_TYPE, JSON), who).await?;
    let cookie = signed_in.headers().get(SET_COOKIE).context("no session")?.to_str()?;
    let cookie = cookie.split(';').next().unwrap_or_default().to_owned();
    drop(signed_in);
    let path = format!("/api/v1/apis/{}/keys", uuid::Uuid::nil());
    let request = Request::post(path).header(CONTENT_TYPE, JSON).header(COOKIE, cookie);
    let made =
        Connection::open(server.address).await?.ask(request, json!({ "older_key": "" }).to_string()).await?;
    serde_json::from_slice(&made).context("a key was not what was answered")
}

/// What a follower heard, and when.
type Heard = (String, Instant);

/// Follows, and says of each token it hears of. Says so first when it knows all up to now.
async fn follow(
    target: SocketAddr,
    authorization: String,
    heard: mpsc::UnboundedSender<Heard>,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(target).await?;
    let request = Request::get("/oauth/revocations").header(AUTHORIZATION, authorization);
    let mut stream = connection.send(request, String::new()).await?.into_body();
    let mut text = String::new();
    while let Some(frame) = timeout(LIMIT, stream.frame()).await.context("the feed is silent")? {
        let at = Instant::now();
        text += std::str::from_utf8(frame?.data_ref().map_or(&[][..], |data| data))?;
        while let Some((event, rest)) = text.split_once("\n\n") {
            if event.starts_with("event: hello") {
                heard.send(("hello".to_owned(), at))?;
            } else if event.starts_with("event: token") {
                let data = event.split("data: ").nth(1).context("an event without data")?;
                let data: Value = serde_json::from_str(data)?;
                heard.send((data["jti"].as_str().context("a token without an id")?.to_owned(), at))?;
            }
            text = rest.to_owned();
        }
    }
    bail!("the feed ended")
}

/// Waits until all followers have heard of one thing, and gives when each did.
async fn all_heard(
    of: &str,
    count: u32,
    heard: &mut mpsc::UnboundedReceiver<Heard>,
) -> anyhow::Result<Vec<Instant>> {
    let mut at = Vec::new();
    for _ in 0..count {
        let (what, when) =
            timeout(LIMIT, heard.recv()).await.context("somebody did not hear")?.context("nobody follows")?;
        if what != of {
            bail!("{what} was heard of, and not {of}");
        }
        at.push(when);
    }
    Ok(at)
}

/// A token and its id.
async fn token(connection: &mut Connection, authorization: &str) -> anyhow::Result<(String, String)> {
    let request = Request::post("/oauth/token").header(CONTENT_TYPE, FORM).header(AUTHORIZATION, authorization);
    let answer: Value =
        serde_json::from_slice(&connection.ask(request, "grant_type=client_credentials".to_owned()).await?)?;
    let token = answer["access_token"].as_str().context("no token")?.to_owned();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1).context("no claims")?)?;
    let claims: Value = serde_json::from_slice(&claims)?;
    Ok((token, claims["jti"].as_str().context("no id")?.to_owned()))
}

/// Takes all samples, in microseconds from the acknowledgement.
async fn measure(server: &Running, args: &Args) -> anyhow::Result<Histogram<u64>> {
    let key = make_key(server).await?;
    let (tell, mut heard) = mpsc::unbounded_channel();
    let mut followers = tokio::task::JoinSet::new();
    for _ in 0..args.followers {
        followers.spawn(follow(server.address, basic(&key.id, &key.secret), tell.clone()));
    }
    drop(tell);
    all_heard("hello", args.followers, &mut heard).await?;
    let Credential { client_id, client_secret } = &server.credential;
    let authorization = basic(client_id, client_secret);
    let mut connection = Connection::open(server.address).await?;
    let mut times = Histogram::new(3)?;
    for _ in 0..args.revocations {
        let (token, jti) = token(&mut connection, &authorization).await?;
        let request =
            Request::post("/oauth/revoke").header(CONTENT_TYPE, FORM).header(AUTHORIZATION, &authorization);
        connection.ask(request, format!("token={token}")).await?;
        let acknowledged = Instant::now();
        for at in all_heard(&jti, args.followers, &mut heard).await? {
            // Some hear of it before who asked for it does.
            let micros = at.saturating_duration_since(acknowledged).as_micros();
            times.record(u64::try_from(micros)?)?;
        }
    }
    Ok(times)
}

/// The table.
fn report(times: &Histogram<u64>, args: &Args) -> String {
    let ms = |micros: u64| std::time::Duration::from_micros(micros).as_secs_f64() * 1e3;
    let at = |part: f64| ms(times.value_at_quantile(part));
    format!(
        "{}: {} revocations, {} followers; milliseconds from the acknowledgement to the event.\n\n\
         | p50 | p90 | p99 | p99.9 | max |\n|--:|--:|--:|--:|--:|\n| {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |\n",
        args.on.name(),
        args.revocations,
        args.followers,
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        ms(times.max()),
    )
}

async fn run(args: &Args) -> anyhow::Result<()> {
    if args.on == Contestant::Floor {
        bail!("the floor has no feed; choose sqlite or postgres");
    }
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).context("this program lies in no build directory")?;
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir)?;
    // Open to be passed through: PostgreSQL's cluster in it may belong to another user.
    let open = std::fs::Permissions::from_mode(0o755);
    let data = tempfile::Builder::new().prefix("feed-").permissions(open).tempdir_in(&dir)?;
    let cores = Cores { server: args.server_core, load: args.load_core };
    let server = Box::pin(Running::start(args.on, cores, data.path(), &dir)).await?;
    let times = Box::pin(measure(&server, args)).await?;
    server.stop().await?;
    println!("{}", report(&times, args));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let mut terminate = signal(SignalKind::terminate())?;
    // Whichever comes first drops the run, and with it everything it has started.
    tokio::select! {
        done = run(&args) => done,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminate.recv() => bail!("asked to end"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_milliseconds() {
        let mut times = Histogram::new(3).unwrap();
        times.record_n(20_000, 99).unwrap();
        times.record(50_000).unwrap();
        let args = Args { revocations: 10, followers: 10, on: Contestant::Sqlite, server_core: 0, load_core: 1 };
        let text = report(&times, &args);
        assert!(
            text.contains("10 revocations, 10 followers") && text.contains("| 20.0 | 20.0 | 20.0 |"),
            "{text}"
        );
    }
}
