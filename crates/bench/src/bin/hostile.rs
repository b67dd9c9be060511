//! What hostile peers do to the good ones, started by `dev/hostile`.
//!
//! A throw-away server has a few clients that ask for tokens without a pause. Each attack in turn is
//! begun beside them, in rounds of without and with, so that what else the machine does falls on both.
//! The table tells how long 99 of 100 tokens took, the most memory the server had up to then, and how
//! many of the bad requests and connections were ended by the server within the time that its limits
//! allow. Its time-outs are short here, so that they fall within a run.

#![allow(clippy::disallowed_methods, reason = "measuring takes a clock of its own")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the output, the progress goes beside it"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use portcullis_bench::contestant::{Contestant, Cores, Running};
use portcullis_bench::report::median;
use portcullis_bench::round::{Load, put_load};
use portcullis_bench::{outside, process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// The server's time-outs in this program, in seconds.
const HEADER: u64 = 10;
const REQUEST: u64 = 5;
/// The longest that any limit lets a bad one stay: an idle connection is looked at that often.
const DEADLINE: Duration = Duration::from_secs(2 * (HEADER + REQUEST) + 3);

/// What bad ones do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attack {
    /// Connect and say nothing.
    Idle,
    /// Send a head byte by byte.
    SlowHeads,
    /// Send a body byte by byte.
    SlowBodies,
    /// Send a body without an end.
    EndlessBodies,
    /// Send JSON that is nested as deep as fits.
    DeepJson,
    /// Open streams of HTTP/2 and reset them.
    Resets,
    /// Ask and do not read.
    UnreadAnswers,
    /// Sign in with made-up passwords.
    SignIns,
}

impl Attack {
    fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle connections",
            Self::SlowHeads => "slow heads",
            Self::SlowBodies => "slow bodies",
            Self::EndlessBodies => "endless bodies",
            Self::DeepJson => "deep JSON",
            Self::Resets => "HTTP/2 resets",
            Self::UnreadAnswers => "unread answers",
            Self::SignIns => "a flood of sign-ins",
        }
    }

    /// How many do it at the same time.
    fn peers(self, args: &Args) -> u64 {
        match self {
            Self::Idle => args.idle,
            Self::SlowHeads | Self::SlowBodies => 1000,
            Self::UnreadAnswers | Self::SignIns => 100,
            Self::EndlessBodies | Self::DeepJson | Self::Resets => 20,
        }
    }
}

/// Measures what hostile peers (slow, idle, endless, resetting, flooding ones) do to the good ones.
#[derive(Debug, Parser)]
struct Args {
    /// How many rounds of without and with.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    rounds: u8,
    /// How many seconds of each are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How many good clients there are.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// How many connections are idle in the attack of that name.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=30_000))]
    idle: u64,
    /// Only these attacks.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Attack>,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the good clients.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

impl Args {
    fn cores(&self) -> Cores {
        Cores { server: self.server_core, load: self.load_core }
    }
}

/// What became of the bad ones.
#[derive(Debug, Default)]
struct Tally {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// One bad peer after the other in the same place, until it is over.
struct Peer {
    number: u64,
    target: SocketAddr,
    attack: Attack,
    is_over: Arc<AtomicBool>,
    tally: Arc<Tally>,
}

impl Peer {
    async fn run(self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok(stream) = self.connect().await else {
                // Out of ports for a moment; this is no peer that the server has to do with.
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            self.tally.begun.fetch_add(1, Ordering::Relaxed);
            if timeout(DEADLINE, self.act(stream)).await.unwrap_or(false) {
                self.tally.ended.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// From an address of its own, in a network of its own, as the many of an attack come.
    async fn connect(&self) -> std::io::Result<TcpStream> {
        let [.., high, low] = self.number.to_be_bytes();
        let from = Ipv4Addr::new(127, 1 + high, low, 1);
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        socket.connect(self.target).await
    }

    /// Whether the server ended it.
    async fn act(&self, stream: TcpStream) -> bool {
        match self.attack {
            Attack::Idle => is_closed(stream).await,
            Attack::SlowHeads => drip(stream, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await,
            Attack::SlowBodies => drip(stream, &head("/oauth/token", "Content-Length: 60000", FORM)).await,
            Attack::EndlessBodies => {
                let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
                pour(stream, &head("/oauth/token", "Transfer-Encoding: chunked", FORM), || chunk.clone().into())
                    .await
            }
            Attack::DeepJson => {
                let body = "[".repeat(60_000);
                let head = head("/api/v1/session", "Content-Length: 60000", "application/json");
                is_refused(stream, &[head, body.into_bytes()].concat()).await
            }
            Attack::Resets => {
                let mut id = 1_u32;
                pour(stream, PREFACE, || {
                    (0..100)
                        .flat_map(|_| {
                            id += 2;
                            reset(id)
                        })
                        .collect()
                })
                .await
            }
            Attack::UnreadAnswers => {
                let ask = b"GET /assets/console.css HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
                stuff(stream, &ask).await
            }
            Attack::SignIns => {
                let made_up = outside::id(outside::now());
                let body =
                    format!(r#"{{"email":"{made_up}@acme.example","password":"tide lantern walnut orbit"}}"#);
                let length = format!("Content-Length: {}\r\nConnection: close", body.len());
                let head = head("/api/v1/session", &length, "application/json");
                is_refused(stream, &[head, body.into_bytes()].concat()).await
            }
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";
/// Hello, and empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn head(path: &str, more: &str, kind: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n{more}\r\n\r\n").into_bytes()
}

/// A request on a stream of HTTP/2 (`GET http x /` in HPACK), and its reset.
fn reset(stream: u32) -> Vec<u8> {
    let id = stream.to_be_bytes();
    let open = [&b"\0\0\x06\x01\x05"[..], &id, b"\x82\x86\x84\x41\x01x"].concat();
    [&open[..], b"\0\0\x04\x03\0", &id, b"\0\0\0\x08"].concat()
}

/// Reads until the server closes.
async fn is_closed(mut stream: TcpStream) -> bool {
    let mut ignored = [0; 4096];
    while let Ok(1..) = stream.read(&mut ignored).await {}
    true
}

/// Sends the beginning, then a byte at a time until the server has closed.
async fn drip(stream: TcpStream, beginning: &[u8]) -> bool {
    let (reader, mut writer) = stream.into_split();
    if writer.write_all(beginning).await.is_err() {
        return true;
    }
    let dripping = async {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = dripping => true,
        () = drained(reader) => true,
    }
}

/// Sends the beginning, then more and more, reading what comes, until the server has closed.
async fn pour(stream: TcpStream, beginning: &[u8], mut more: impl FnMut() -> Vec<u8>) -> bool {
    let (reader, mut writer) = stream.into_split();
    let pouring = async {
        let mut sent = writer.write_all(beginning).await;
        while sent.is_ok() {
            sent = writer.write_all(&more()).await;
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = pouring => true,
        () = drained(reader) => true,
    }
}

async fn drained(mut reader: tokio::net::tcp::OwnedReadHalf) {
    let mut ignored = [0; 4096];
    while let Ok(1..) = reader.read(&mut ignored).await {}
}

/// Sends the same again and again and reads nothing, until the server has closed.
async fn stuff(mut stream: TcpStream, ask: &[u8]) -> bool {
    while stream.write_all(ask).await.is_ok() {}
    true
}

/// Sends a request and sees that it is refused: 4xx, or "come again later" with the time.
async fn is_refused(mut stream: TcpStream, request: &[u8]) -> bool {
    if stream.write_all(request).await.is_err() {
        return true;
    }
    let mut answer = vec![0; 4096];
    let Ok(length @ 1..) = stream.read(&mut answer).await else { return true };
    let text = String::from_utf8_lossy(&answer[..length]).to_lowercase();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0_u16);
    match status {
        429 | 503 => text.contains("\r\nretry-after:"),
        400..=499 => true,
        _ => false,
    }
}

/// What one attack did, over all rounds.
struct Row {
    attack: Attack,
    /// p99 without and with, in milliseconds, of each round.
    rounds: Vec<(f64, f64)>,
    /// Good requests that failed.
    failed: u64,
    peak_before_kib: u32,
    peak_kib: u32,
    begun: u64,
    ended: u64,
}

/// What the good ones saw.
struct Good {
    /// In milliseconds.
    p99: f64,
    /// How many got no token, or not in time.
    failed: u64,
}

/// Puts the good load on.
async fn good(server: &Running, args: &Args) -> anyhow::Result<Good> {
    let load = Load { connections: args.connections, seconds: args.seconds, warm_up: 1 };
    let report = put_load(server, args.cores(), load, &[]).await?;
    if let Some(first) = report.first_error {
        eprintln!("{} good requests failed, the first: {first}", report.errors);
    }
    Ok(Good { p99: Duration::from_micros(report.p99_us).as_secs_f64() * 1e3, failed: report.errors })
}

/// Measures one attack on a server of its own.
async fn measure(attack: Attack, args: &Args, dir: &Path) -> anyhow::Result<Row> {
    let data = tempfile::Builder::new().prefix("hostile-").tempdir_in(dir)?;
    let cores = args.cores();
    let (header, request) = (HEADER.to_string(), REQUEST.to_string());
    let settings = ["--header-timeout-seconds", &header, "--request-timeout-seconds", &request];
    let settings = [&settings[..], &["--max-connections", "20000"]].concat();
    let server = Box::pin(Running::start_with(Contestant::Sqlite, cores, data.path(), dir, &settings)).await?;
    let tally = Arc::new(Tally::default());
    let (mut rounds, mut peak_before_kib, mut failed) = (Vec::new(), 0, 0);
    for round in 1..=args.rounds {
        let without = good(&server, args).await?;
        if round == 1 {
            peak_before_kib = process::memory(server.pid)?.peak_kib;
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let (mut peers, before) = (JoinSet::new(), tally.begun.load(Ordering::Relaxed));
        for number in 0..attack.peers(args) {
            let (is_over, tally) = (Arc::clone(&is_over), Arc::clone(&tally));
            peers.spawn(Peer { number, target: server.address, attack, is_over, tally }.run());
        }
        let all = async {
            while tally.begun.load(Ordering::Relaxed) < before + attack.peers(args) {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(DEADLINE, all).await.context("not all bad ones got to the server")?;
        let with = good(&server, args).await;
        is_over.store(true, Ordering::Relaxed);
        // Each sees its own end through.
        while let Some(peer) = peers.join_next().await {
            peer?;
        }
        let with = with.with_context(|| format!("beside {}", attack.name()))?;
        failed += without.failed + with.failed;
        let (without, with) = (without.p99, with.p99);
        eprintln!("{}, round {round}: p99 {without:.2} ms without, {with:.2} ms with", attack.name());
        rounds.push((without, with));
    }
    let peak_kib = process::memory(server.pid)?.peak_kib;
    server.stop().await?;
    let (begun, ended) = (tally.begun.load(Ordering::Relaxed), tally.ended.load(Ordering::Relaxed));
    Ok(Row { attack, rounds, failed, peak_before_kib, peak_kib, begun, ended })
}

/// The table.
fn report(rows: &[Row], args: &Args) -> String {
    let mut text = format!(
        "{}: {} good clients, medians of {} rounds of {} s; time-outs of {HEADER} s (head) and {REQUEST} s (request).\n\n\
         | Beside | p99 without, ms | p99 with, ms | times | good ones that failed | peak before, MiB | peak, MiB | bad ones | ended in time |\n\
         |:--|--:|--:|--:|--:|--:|--:|--:|--:|\n",
        Contestant::Sqlite.name(),
        args.connections,
        args.rounds,
        args.seconds,
    );
    for row in rows {
        let column = |of: fn(&(f64, f64)) -> f64| median(row.rounds.iter().map(of).collect()).unwrap_or(f64::NAN);
        let (without, with, times) = (column(|r| r.0), column(|r| r.1), column(|r| r.1 / r.0));
        let mib = |kib: u32| f64::from(kib) / 1024.0;
        let (before, peak) = (mib(row.peak_before_kib), mib(row.peak_kib));
        let (name, failed, begun, ended) = (row.attack.name(), row.failed, row.begun, row.ended);
        text += &format!(
            "| {name} | {without:.2} | {with:.2} | {times:.2} | {failed} | {before:.1} | {peak:.1} | {begun} | {ended} |\n"
        );
    }
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
    let dir = bench_dir()?;
    let all = Attack::value_variants().iter().filter(|one| args.only.is_empty() || args.only.contains(one));
    let mut rows = Vec::new();
    for attack in all {
        rows.push(Box::pin(measure(*attack, args, &dir)).await?);
    }
    let text = report(&rows, args);
    std::fs::write(dir.join("hostile.md"), &text)?;
    println!("{text}");
    if rows.iter().any(|row| row.failed > 0 || row.ended < row.begun) {
        bail!("good ones failed, or not every bad one was ended in time: see the table");
    }
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
    fn the_table_has_medians_and_their_ratio() {
        let rounds = vec![(1.0, 2.0), (2.0, 3.0), (4.0, 4.0)];
        let row = Row {
            attack: Attack::Idle,
            rounds,
            failed: 0,
            peak_before_kib: 1024,
            peak_kib: 2048,
            begun: 7,
            ended: 7,
        };
        let text = report(&[row], &Args::parse_from(["hostile"]));
        assert!(text.contains("| idle connections | 2.00 | 3.00 | 1.50 | 0 | 1.0 | 2.0 | 7 | 7 |"), "{text}");
    }

    #[test]
    fn a_stream_is_opened_and_reset_in_two_frames() {
        let bytes = reset(3);
        assert_eq!((bytes.len(), bytes[3], bytes[18]), (9 + 6 + 9 + 4, 1, 3));
    }
}
