//! What growth costs, started by `dev/bench growth`: a database with years of use on record beside an
//! empty one, each under a real server.
//!
//! Tokens per second of both, in turn, as a ratio; the time of each page at the server, on a loopback
//! connection that is kept alive; the time until the server is ready; and what clients feel while it
//! drops what has become old.

#![allow(clippy::disallowed_methods, reason = "measuring takes a clock of its own")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the output, the progress goes beside it"
)]

mod base;
mod fill;
mod pages;

use std::fmt::Write;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use jiff::SignedDuration;
use portcullis_bench::contestant::{Contestant, Cores, Running};
use portcullis_bench::report::{commit, cpu_model, median};
use portcullis_bench::round::{Load, put_load};
use portcullis_bench::{LoadReport, outside, process};

use crate::base::Base;
use crate::fill::{Sizes, fill};
use crate::pages::{Visitor, pages};

/// Settings under which nothing is old.
const KEEP: [&str; 4] = ["--token-record-days", "3650", "--audit-retention-days", "36500"];
/// How often the grown server is started to see how long that takes.
const STARTS: u32 = 5;
/// A server looks that often whether a sweep is due, and a little longer.
const DUE: Duration = Duration::from_secs(6);

/// On which database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum On {
    Sqlite,
    Postgres,
}

/// What growth costs: a database with years of use beside an empty one.
#[derive(Debug, Parser)]
#[command(name = "dev/bench growth")]
struct Args {
    /// On which databases.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sqlite,postgres")]
    only: Vec<On>,
    /// Users, each with a credential.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(i64).range(1..=100_000_000))]
    users: i64,
    /// Records in the audit log.
    #[arg(long, default_value_t = 10_000_000, value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    records: i64,
    /// Issued tokens on record.
    #[arg(long, default_value_t = 50_000_000, value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    tokens: i64,
    /// How many of those ended longer ago than they are kept.
    #[arg(long, default_value_t = 5_000_000, value_parser = clap::value_parser!(i64).range(0..=1_000_000_000))]
    ended: i64,
    /// A hundredth of all that.
    #[arg(long)]
    small: bool,
    /// How many rounds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// How many seconds of a turn are measured.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
    /// How many turns follow each other while old records are dropped, at most.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: u32,
    /// How many connections ask for tokens.
    #[arg(long, default_value_t = 32)]
    connections: u16,
    /// How often each page is looked at.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    looks: u32,
    /// Where the data goes; up to 25 GB for a while.
    #[arg(long, default_value = "target/bench")]
    dir: PathBuf,
    /// The core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// The core of the clients and of PostgreSQL.
    #[arg(long, default_value_t = 1)]
    load_core: usize,
}

impl Args {
    fn sizes(&self) -> Sizes {
        let part = if self.small { 100 } else { 1 };
        let of = |n: i64| (n / part).max(1);
        Sizes {
            users: of(self.users),
            records: of(self.records),
            tokens: of(self.tokens),
            ended: self.ended / part,
        }
    }

    fn cores(&self) -> Cores {
        Cores { server: self.server_core, load: self.load_core }
    }

    fn load(&self) -> Load {
        Load { connections: self.connections, seconds: self.seconds, warm_up: 1 }
    }
}

/// A server, and where its data and its log are.
struct Site {
    what: Contestant,
    cores: Cores,
    dir: PathBuf,
    server: Running,
}

impl Site {
    async fn start(what: Contestant, cores: Cores, dir: PathBuf) -> anyhow::Result<Self> {
        DirBuilder::new().mode(0o755).create(&dir)?;
        let server = Running::start(what, cores, &dir, &dir).await?;
        Ok(Self { what, cores, dir, server })
    }

    async fn restart(&mut self, more: &[&str]) -> anyhow::Result<u32> {
        self.server.halt().await?;
        self.resume(more).await
    }

    /// Starts the server, and gives the milliseconds that it said it took.
    async fn resume(&mut self, more: &[&str]) -> anyhow::Result<u32> {
        self.server.resume(self.what, self.cores, (&self.dir, &self.dir), more).await?;
        Running::ready_in_ms(self.what, &self.dir)
    }

    async fn load(&self, load: Load) -> anyhow::Result<LoadReport> {
        let report = put_load(&self.server, self.cores, load, &[]).await?;
        if report.requests == 0 || report.errors > 0 {
            bail!(
                "{} requests, {} errors: {}",
                report.requests,
                report.errors,
                report.first_error.unwrap_or_default()
            );
        }
        Ok(report)
    }

    /// Runs a command on the database, and gives the seconds it took.
    async fn run(&self, words: &[&str]) -> anyhow::Result<f64> {
        let mut command = process::on_core(self.cores.server, &process::sibling("portcullis")?);
        command.args(words).arg("--data-dir").arg(self.dir.join("data"));
        if let Some(database) = &self.server.database {
            command.args(["--database-url", database.url()]);
        }
        let began = Instant::now();
        process::output_of(command, "", Duration::from_secs(3600)).await?;
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Everything that is measured on one database.
async fn measure(args: &Args, what: Contestant, dir: &Path) -> anyhow::Result<String> {
    let mut text = format!("\n### {}\n\n", what.name());
    let empty = Site::start(what, args.cores(), dir.join("empty")).await?;
    let mut grown = Site::start(what, args.cores(), dir.join("grown")).await?;
    grown.server.halt().await?;
    fill(&grown.server, &grown.dir, args.sizes()).await?;
    eprintln!("filled; {} MiB", mebibytes(&grown.dir));
    // Its log is not the one that was acknowledged (H-4), and that is answered for.
    let url = format!("http://{}", grown.server.address);
    grown.run(&["hold", "lift", "--nothing-was-stopped", "--public-url", &url]).await?;
    let mut starts = vec![f64::from(grown.resume(&KEEP).await?)];
    for _ in 1..STARTS {
        starts.push(f64::from(grown.restart(&KEEP).await?));
    }
    text += "| What | Grown |\n|---|--:|\n";
    let most = starts.iter().copied().fold(0.0, f64::max);
    writeln!(text, "| Size on disk | {} MiB |", mebibytes(&grown.dir))?;
    writeln!(text, "| Ready, median and longest of {STARTS} starts | {:.0} ms, {most:.0} ms |", figure(starts))?;
    writeln!(text, "| `portcullis audit verify` | {:.0} s |", grown.run(&["audit", "verify"]).await?)?;
    text += &tokens(args, &empty, &grown).await?;
    text += &looks(args, &empty, &grown).await?;
    writeln!(
        text,
        "\nPeak memory of the grown server by then: {} MiB.",
        process::memory(grown.server.pid)?.peak_kib / 1024
    )?;
    drop(empty);
    text += &dropping(args, &mut grown).await?;
    Ok(text)
}

/// The median, or what is not a number for none.
fn figure(values: Vec<f64>) -> f64 {
    median(values).unwrap_or(f64::NAN)
}

/// Tokens per second, empty and grown in turn.
async fn tokens(args: &Args, empty: &Site, grown: &Site) -> anyhow::Result<String> {
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds {
        let (one, other) = (empty.load(args.load()).await?.rps, grown.load(args.load()).await?.rps);
        eprintln!("round {round} of {}: {one:.0}/s, grown {other:.0}/s", args.rounds);
        before.push(one);
        after.push(other);
    }
    let ratio = figure(before.iter().zip(&after).map(|(before, after)| after / before).collect());
    Ok(format!(
        "| Tokens/s, empty, median of {} | {:.0} |\n| Tokens/s, grown | {:.0} |\n| Median of the ratios of a round | {:.0} % |\n",
        args.rounds,
        figure(before),
        figure(after),
        ratio * 100.0
    ))
}

/// The time of each page, empty and grown in turn.
async fn looks(args: &Args, empty: &Site, grown: &Site) -> anyhow::Result<String> {
    let here = pages(&grown.dir, args.sizes())?;
    let elsewhere = pages(&empty.dir, args.sizes())?;
    let (at_empty, at_grown) = (Visitor::sign_in(&empty.server).await?, Visitor::sign_in(&grown.server).await?);
    let mut text = String::from(
        "\n| Page | Empty: median ms | Grown: first ms | Grown: median ms | Grown: p99 ms |\n|---|--:|--:|--:|--:|\n",
    );
    for (page, same) in here.iter().zip(&elsewhere) {
        let before = at_empty.look(same, args.looks).await?;
        let after = at_grown.look(page, args.looks).await?;
        let row = format!(
            "| {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            page.name, before.median, after.first, after.median, after.p99
        );
        eprintln!("{row}");
        writeln!(text, "{row}")?;
    }
    Ok(text)
}

/// What clients feel while old records are dropped: turns of the same load, first without, then with,
/// until nothing more goes.
async fn dropping(args: &Args, grown: &mut Site) -> anyhow::Result<String> {
    let mut text = String::from(
        "\n| While asking for tokens | Tokens/s | p50 ms | p99 ms | Longest ms | Old tokens left | Audit records dropped |\n\
         |---|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut left = Left::count(grown).await?;
    row(&mut text, "Nothing is dropped", &grown.load(args.load()).await?, left)?;
    grown.server.halt().await?;
    // A sweep waits until ten minutes after the one before; this one is due now.
    let mut base = Base::open(&grown.server, &grown.dir).await?;
    base.run("DELETE FROM turns".to_owned()).await?;
    base.close().await?;
    grown.resume(&[]).await?;
    tokio::time::sleep(DUE).await;
    for turn in 1..=args.turns {
        let report = grown.load(args.load()).await?;
        let now = Left::count(grown).await?;
        row(&mut text, &format!("Dropping, turn {turn}"), &report, now)?;
        if std::mem::replace(&mut left, now) == now {
            break;
        }
    }
    Ok(text)
}

/// What is to be dropped, and what was.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Left {
    old_tokens: i64,
    dropped_records: i64,
}

impl Left {
    async fn count(site: &Site) -> anyhow::Result<Self> {
        let mut base = Base::look(&site.server, &site.dir).await?;
        let from = outside::now() - SignedDuration::from_hours(30 * 24);
        let old = base.id(&from.as_millisecond().to_string(), 0, "0");
        Ok(Self {
            old_tokens: base.number(format!("SELECT COUNT(*) FROM issued_tokens WHERE jti < {old}")).await?,
            dropped_records: base.number("SELECT trimmed_seq FROM audit_head".to_owned()).await?,
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of an answer are far below 2^52")]
fn row(text: &mut String, name: &str, report: &LoadReport, left: Left) -> anyhow::Result<()> {
    let ms = |us: u64| us as f64 / 1000.0;
    let row = format!(
        "| {name} | {:.0} | {:.1} | {:.1} | {:.1} | {} | {} |",
        report.rps,
        ms(report.p50_us),
        ms(report.p99_us),
        ms(report.max_us),
        left.old_tokens,
        left.dropped_records
    );
    eprintln!("{row}");
    writeln!(text, "{row}")?;
    Ok(())
}

/// How much a directory holds, in MiB.
fn mebibytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    let each = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => mebibytes(&entry.path()) << 20,
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    each.sum::<u64>() >> 20
}

/// Where and with what it was measured.
fn conditions(args: &Args) -> String {
    let Sizes { users, records, tokens, ended } = args.sizes();
    let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "\n- Grown: {users} users with a credential each, {records} audit records, {tokens} issued tokens, \
         {ended} of which ended more than 30 days ago\n- Date: {}\n- CPU: {}\n- Commit: {}\n\
         - Command: `dev/bench growth {}`\n- The server on core {}, the clients and PostgreSQL on core {}; pages \
         are asked for on one connection, {} times each, and their time is that until the whole page was there\n",
        outside::now().strftime("%Y-%m-%d %H:%M UTC"),
        cpu_model(&processor),
        commit(),
        words.join(" "),
        args.server_core,
        args.load_core,
        args.looks,
    )
}

async fn run(args: &Args) -> anyhow::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(&args.dir)?;
    let mut text = String::from("## Growth\n");
    for on in &args.only {
        let what = match on {
            On::Sqlite => Contestant::Sqlite,
            On::Postgres => Contestant::Postgres,
        };
        // Open to be passed through: PostgreSQL's cluster in it may belong to another user.
        let open = std::fs::Permissions::from_mode(0o755);
        let dir = tempfile::Builder::new().prefix("growth-").permissions(open).tempdir_in(&args.dir)?;
        text += &measure(args, what, dir.path()).await?;
    }
    text += &conditions(args);
    let file = args.dir.join("growth.md");
    std::fs::write(&file, &text).with_context(|| file.display().to_string())?;
    println!("{text}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    process::unless_ended(run(&Args::parse())).await
}
