//! Whether an unknown Client ID and a wrong Client Secret take the same time (protocol 9), started
//! by `dev/timing`.
//!
//! A throw-away server is asked for tokens with one or the other, in turn, and the time of each answer
//! is compared with Welch's t. The refusals are spread over addresses of the loopback network, so few
//! from each that the limit on failures is never met; every answer is checked to be the same 401. It is
//! a command and not a test, because how much such a figure means depends on how quiet the machine was.

#![allow(clippy::disallowed_methods, reason = "measuring takes a clock of its own")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the output, the progress goes beside it"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use clap::Parser;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use portcullis_bench::contestant::{Contestant, Cores, Running};
use portcullis_bench::outside;
use portcullis_bench::process;
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// How long a single answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024;
/// How many pairs of refusals one address asks for. The server answers 20 a minute for a Client ID from
/// an address before it says "too often", and the two Client IDs of a pair may be counted together.
const PAIRS_AN_ADDRESS: u32 = 8;
/// Pairs that go before those that count.
const WARM_UP: u32 = 200;
/// Beyond this, |t| is taken for a difference, as is the custom in testing for timing leaks.
const TELLING: f64 = 4.5;

/// Measures whether answers tell by their time what they must not tell.
#[derive(Debug, Parser)]
struct Args {
    /// How many answers of each kind are timed.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(100..=400_000))]
    samples: u32,
    /// On which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    on: Contestant,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the client and of PostgreSQL.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// The address that the pair with this number asks from: one of 127.1.0.0/16 and up.
fn address_of(pair: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + pair / PAIRS_AN_ADDRESS)
}

/// A Client ID of the right form that nobody has.
fn unknown_id() -> String {
    let random = outside::id(outside::now()).simple().to_string();
    format!("pcc_{}", &random[random.len() - 20..])
}

/// A Client Secret as long as the right one, with another last character.
fn wrong(secret: &str) -> String {
    let last = if secret.ends_with('0') { '1' } else { '0' };
    secret.chars().take(secret.chars().count().saturating_sub(1)).chain([last]).collect()
}

/// Opens a connection from one address to another.
async fn connect(from: Ipv4Addr, target: SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((from, 0)))?;
    let stream = timeout(ANSWER_TIMEOUT, socket.connect(target)).await.context("connecting took too long")??;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The connection's own error also reaches the request that was under way on it.
    tokio::spawn(connection);
    Ok(sender)
}

/// Asks once and gives the microseconds it took and the body of the refusal.
async fn refusal(
    sender: &mut SendRequest<Full<Bytes>>,
    target: SocketAddr,
    client_id: &str,
    secret: &str,
) -> anyhow::Result<(f64, Bytes)> {
    let pair = BASE64_STANDARD.encode(format!("{client_id}:{secret}"));
    let mut request = Request::new(Full::new(Bytes::from_static(b"grant_type=client_credentials")));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static("/oauth/token");
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(target.to_string())?);
    headers.insert(AUTHORIZATION, HeaderValue::try_from(format!("Basic {pair}"))?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    sender.ready().await.context("the server closed the connection")?;
    let asked = Instant::now();
    let response = timeout(ANSWER_TIMEOUT, sender.send_request(request)).await.context("no answer")??;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), ANSWER_LIMIT).collect().await.map_err(anyhow::Error::from_boxed)?;
    let micros = asked.elapsed().as_secs_f64() * 1e6;
    if status != StatusCode::UNAUTHORIZED {
        bail!("status {status} instead of 401");
    }
    Ok((micros, body.to_bytes()))
}

/// The times of both kinds, in microseconds, in the order they were taken.
#[derive(Debug, Default)]
struct Times {
    unknown: Vec<f64>,
    wrong: Vec<f64>,
}

/// Takes all samples, the two kinds in turn and each first as often as the other.
async fn take(server: &Running, samples: u32) -> anyhow::Result<Times> {
    let (target, known) = (server.address, server.credential.client_id.as_str());
    let secret = wrong(&server.credential.client_secret);
    let mut times = Times::default();
    let (mut sender, mut from) = (None, None);
    let mut answer: Option<Bytes> = None;
    for pair in 0..samples + WARM_UP {
        let address = address_of(pair);
        if from != Some(address) {
            (sender, from) = (Some(connect(address, target).await?), Some(address));
        }
        let sender = sender.as_mut().context("no connection")?;
        for turn in 0..2 {
            let is_unknown = pair % 2 == turn;
            let id = if is_unknown { unknown_id() } else { known.to_owned() };
            let (micros, body) = refusal(sender, target, &id, &secret).await?;
            if *answer.get_or_insert_with(|| body.clone()) != body {
                bail!("the answers differ: {}", String::from_utf8_lossy(&body));
            }
            if pair >= WARM_UP {
                if is_unknown { &mut times.unknown } else { &mut times.wrong }.push(micros);
            }
        }
        if pair % 1000 == 999 {
            eprintln!("{} of {}", pair + 1, samples + WARM_UP);
        }
    }
    Ok(times)
}

/// How many, their mean and their variance.
#[derive(Debug, Clone, Copy)]
struct Summary {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Summary {
    #[allow(clippy::cast_precision_loss, reason = "a count of samples is far below 2^52")]
    fn of(samples: &[f64]) -> Self {
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let variance = samples.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
        Self { count, mean, variance }
    }
}

/// Welch's t: the difference of the means in units of its standard error.
fn welch(a: Summary, b: Summary) -> f64 {
    (a.mean - b.mean) / (a.variance / a.count + b.variance / b.count).sqrt()
}

/// The value that this part of all samples together stay below.
fn quantile(times: &Times, part: f64) -> f64 {
    let mut all: Vec<f64> = times.unknown.iter().chain(&times.wrong).copied().collect();
    all.sort_by(f64::total_cmp);
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position in a list that fits into memory"
    )]
    let at = ((all.len() as f64 * part) as usize).min(all.len().saturating_sub(1));
    all.get(at).copied().unwrap_or(f64::INFINITY)
}

/// The table: all samples, and without the slowest, in which the machine's noise is.
fn report(times: &Times, on: Contestant) -> String {
    let mut text = format!(
        "{}: an unknown Client ID and a wrong Client Secret, in turn.\n\n\
         | Samples | Unknown, n | mean µs | Wrong, n | mean µs | Difference µs | Welch's t |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
        on.name()
    );
    for (name, part) in [("all", 1.0), ("fastest 95 %", 0.95), ("fastest 75 %", 0.75)] {
        let below = if part < 1.0 { quantile(times, part) } else { f64::INFINITY };
        let kept = |samples: &[f64]| -> Vec<f64> { samples.iter().copied().filter(|x| *x <= below).collect() };
        let (unknown, wrong) = (Summary::of(&kept(&times.unknown)), Summary::of(&kept(&times.wrong)));
        text.push_str(&format!(
            "| {name} | {:.0} | {:.2} | {:.0} | {:.2} | {:+.2} | {:+.2} |\n",
            unknown.count,
            unknown.mean,
            wrong.count,
            wrong.mean,
            unknown.mean - wrong.mean,
            welch(unknown, wrong),
        ));
    }
    text.push_str(&format!("\nA |t| beyond {TELLING} is taken for a difference that can be told.\n"));
    text
}

/// The directory everything goes to: `bench` in the build directory this program lies in.
fn bench_dir() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).context("this program lies in no build directory")?;
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir)?;
    Ok(dir)
}

async fn run(args: &Args) -> anyhow::Result<()> {
    if args.on == Contestant::Floor {
        bail!("the floor refuses nobody; choose sqlite or postgres");
    }
    let dir = bench_dir()?;
    // Open to be passed through: PostgreSQL's cluster in it may belong to another user.
    let open = std::fs::Permissions::from_mode(0o755);
    let data = tempfile::Builder::new().prefix("timing-").permissions(open).tempdir_in(&dir)?;
    let cores = Cores { server: args.server_core, load: args.load_core };
    let server = Box::pin(Running::start(args.on, cores, data.path(), &dir)).await?;
    let times = Box::pin(take(&server, args.samples)).await?;
    server.stop().await?;
    println!("{}", report(&times, args.on));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    process::unless_ended(run(&Args::parse())).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn welch_s_t_is_the_difference_in_standard_errors() {
        let (a, b) = (Summary::of(&[1.0, 2.0, 3.0]), Summary::of(&[3.0, 4.0, 5.0]));
        assert!((a.variance - 1.0).abs() < 1e-9);
        assert!((welch(a, b) + 2.0 / (2.0f64 / 3.0).sqrt()).abs() < 1e-9);
        assert!(welch(a, a).abs() < 1e-9);
    }

    #[test]
    fn no_address_is_asked_from_so_often_that_the_limit_is_met() {
        assert_eq!(address_of(0), address_of(PAIRS_AN_ADDRESS - 1));
        assert_ne!(address_of(0), address_of(PAIRS_AN_ADDRESS));
        assert!(address_of(400_000 + WARM_UP).is_loopback());
        const { assert!(2 * PAIRS_AN_ADDRESS < 20) };
    }

    #[test]
    fn ids_and_secrets_have_the_length_of_real_ones() {
        assert_eq!(unknown_id().len(), 24);
        assert_ne!(unknown_id(), unknown_id());
        assert_eq!((wrong("ab0").as_str(), wrong("abc").as_str()), ("ab1", "ab0"));
    }

    #[test]
    fn the_slowest_are_left_out() {
        let times = Times { unknown: vec![1.0; 99].into_iter().chain([1e6]).collect(), wrong: vec![1.0; 100] };
        assert!(quantile(&times, 0.95) < 2.0);
        assert!(report(&times, Contestant::Sqlite).contains("| all | 100 | 10000.99 | 100 | 1.00 |"));
    }
}
