//! How long it takes from the acknowledgement of a revocation until verifiers refuse the tokens of the
//! credential (C-11), started by `dev/reach`.
//!
//! A throw-away server has a number of verifiers (`portcullis-verify`), which follow the feed, or which
//! have the status list alone, as if the feed were cut. A credential is generated, every verifier takes
//! a token of it, the credential is revoked; the clock starts when the 200 is there, and is read at each
//! verifier when it refuses the token for the first time.

#![allow(clippy::disallowed_methods, reason = "measuring takes a clock of its own")]
#![allow(clippy::print_stdout, reason = "the table is the output")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use hdrhistogram::Histogram;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use portcullis_bench::connection::Connection;
use portcullis_bench::contestant::{Contestant, Cores, Credential, Running};
use portcullis_bench::owner::{Owner, basic};
use portcullis_bench::process;
use portcullis_verify::{Error, Refusal, Verifier, WhenStale};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::yield_now;
use tokio::time::sleep;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(10);
const FORM: &str = "application/x-www-form-urlencoded";

/// What verifiers know of revocations from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    /// The feed.
    Feed,
    /// The status list alone, asked for at the default interval.
    List,
}

impl Source {
    fn name(self) -> &'static str {
        match self {
            Self::Feed => "the feed",
            Self::List => "the status list alone",
        }
    }
}

/// Measures how long a revocation takes until verifiers refuse the token.
#[derive(Debug, Parser)]
struct Args {
    /// How many credentials are revoked, one after the other.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    revocations: u32,
    /// How many verifiers there are.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=400))]
    verifiers: u32,
    /// What the verifiers know of revocations from.
    #[arg(long, value_enum, default_value = "feed")]
    by: Source,
    /// On which database.
    #[arg(long, value_enum, default_value = "sqlite")]
    on: Contestant,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the verifiers and of PostgreSQL.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

/// A key of an API, as the server answers it.
#[derive(Debug, Deserialize)]
struct Key {
    id: String,
    secret: SecretString,
}

/// A token for the product's own API.
async fn token(target: SocketAddr, credential: &Credential) -> anyhow::Result<String> {
    let authorization = basic(&credential.client_id, &credential.client_secret);
    let request = Request::post("/oauth/token").header(CONTENT_TYPE, FORM).header(AUTHORIZATION, authorization);
    let asked = "grant_type=client_credentials".to_owned();
    let answer: Value = serde_json::from_slice(&Connection::open(target).await?.ask(request, asked).await?)?;
    Ok(answer["access_token"].as_str().context("no token")?.to_owned())
}

/// Starts the verifiers, and waits until those that follow the feed do.
async fn start(server: &Running, args: &Args, key: &Key) -> anyhow::Result<Vec<Verifier>> {
    let issuer = format!("http://{}", server.address);
    let mut verifiers = Vec::new();
    for _ in 0..args.verifiers {
        let builder = Verifier::builder(&issuer, format!("{issuer}/api/v1"))
            .when_stale(WhenStale::RefuseAfter(Duration::from_secs(30)));
        let builder = match args.by {
            Source::Feed => builder.api_key(&key.id, key.secret.clone()),
            Source::List => builder,
        };
        verifiers.push(builder.start().await?);
    }
    let follows = |v: &Verifier| v.freshness().feed_is_live == (args.by == Source::Feed);
    let patience = Instant::now() + LIMIT;
    while !verifiers.iter().all(follows) {
        if Instant::now() > patience {
            bail!("not every verifier follows the feed");
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(verifiers)
}

/// Whether a verifier takes a token; an error when it cannot tell.
async fn takes(verifier: &Verifier, authorization: &str) -> anyhow::Result<bool> {
    let request =
        portcullis_verify::Request { method: "GET", path: "/", authorization: &[authorization], dpop: &[] };
    match verifier.verify(&request).await {
        Ok(_) => Ok(true),
        Err(Error::Token { why: Refusal::Revoked, .. }) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

/// The times of all verifiers, and of the last one for each revocation, in microseconds.
struct Times {
    each: Histogram<u64>,
    last: Histogram<u64>,
}

/// Takes all samples.
async fn measure(server: &Running, args: &Args) -> anyhow::Result<Times> {
    let mut owner = Owner::sign_in(server).await?;
    let path = format!("/api/v1/apis/{}/keys", uuid::Uuid::nil());
    let made = owner.post(&path, json!({ "older_key": "" }).to_string()).await?;
    let key: Key = serde_json::from_slice(&made).context("a key was not what was answered")?;
    owner.revoke().await?;
    let verifiers = start(server, args, &key).await?;
    let mut times = Times { each: Histogram::new(3)?, last: Histogram::new(3)? };
    for _ in 0..args.revocations {
        let credential = owner.generate(server).await?;
        let authorization = format!("Bearer {}", token(server.address, &credential).await?);
        for verifier in &verifiers {
            if !takes(verifier, &authorization).await? {
                bail!("a good token was refused");
            }
        }
        owner.revoke().await?;
        let acknowledged = Instant::now();
        let mut waiting: Vec<&Verifier> = verifiers.iter().collect();
        while !waiting.is_empty() {
            if acknowledged.elapsed() > LIMIT {
                bail!("{} verifiers still take the token", waiting.len());
            }
            let mut still = Vec::with_capacity(waiting.len());
            for verifier in waiting {
                if takes(verifier, &authorization).await? {
                    still.push(verifier);
                } else {
                    times.each.record(micros_since(acknowledged)?)?;
                }
                // Those who keep the verifiers fresh run on the same thread.
                yield_now().await;
            }
            waiting = still;
        }
        times.last.record(micros_since(acknowledged)?)?;
    }
    Ok(times)
}

fn micros_since(instant: Instant) -> anyhow::Result<u64> {
    Ok(u64::try_from(instant.elapsed().as_micros())?)
}

/// The table.
fn report(times: &Times, args: &Args) -> String {
    let ms = |micros: u64| Duration::from_micros(micros).as_secs_f64() * 1e3;
    let row = |name: &str, times: &Histogram<u64>| {
        let at = |part: f64| ms(times.value_at_quantile(part));
        let (p50, p90, p99, p999, max) = (at(0.5), at(0.9), at(0.99), at(0.999), ms(times.max()));
        format!("| {name} | {p50:.1} | {p90:.1} | {p99:.1} | {p999:.1} | {max:.1} |\n")
    };
    format!(
        "{}, {}: {} revocations, {} verifiers; milliseconds from the acknowledgement to the first refusal.\n\n\
         | | p50 | p90 | p99 | p99.9 | max |\n|:--|--:|--:|--:|--:|--:|\n{}{}",
        args.on.name(),
        args.by.name(),
        args.revocations,
        args.verifiers,
        row("Each verifier", &times.each),
        row("The last of them", &times.last),
    )
}

async fn run(args: &Args) -> anyhow::Result<()> {
    if args.on == Contestant::Floor {
        bail!("the floor has no credentials; choose sqlite or postgres");
    }
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent).context("this program lies in no build directory")?;
    let dir = target.join("bench");
    std::fs::create_dir_all(&dir)?;
    // Open to be passed through: PostgreSQL's cluster in it may belong to another user.
    let open = std::fs::Permissions::from_mode(0o755);
    let data = tempfile::Builder::new().prefix("reach-").permissions(open).tempdir_in(&dir)?;
    let cores = Cores { server: args.server_core, load: args.load_core };
    let server = Box::pin(Running::start(args.on, cores, data.path(), &dir)).await?;
    let times = Box::pin(measure(&server, args)).await?;
    server.stop().await?;
    println!("{}", report(&times, args));
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
    fn the_table_is_in_milliseconds() {
        let (mut each, mut last) = (Histogram::new(3).unwrap(), Histogram::new(3).unwrap());
        each.record_n(20_000, 99).unwrap();
        last.record(50_000).unwrap();
        let (on, by) = (Contestant::Sqlite, Source::List);
        let args = Args { revocations: 10, verifiers: 10, by, on, server_core: 0, load_core: 1 };
        let text = report(&Times { each, last }, &args);
        assert!(text.contains("the status list alone: 10 revocations, 10 verifiers"), "{text}");
        assert!(text.contains("| Each verifier | 20.0 | 20.0 |"), "{text}");
    }
}
