//! One turn of one contestant: bring it up, put the load on it, read what it cost, take it down.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::contestant::{Contestant, Cores, Running};
use crate::{LoadReport, process};

/// How a load is put on.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// How many connections.
    pub connections: u16,
    /// How many seconds are measured.
    pub seconds: u64,
    /// How many seconds go before.
    pub warm_up: u64,
}

/// What one turn measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Tokens per second.
    pub rps: f64,
    /// The median time of an answer, in milliseconds.
    pub p50_ms: f64,
    /// What 99 of 100 answers stayed within, in milliseconds.
    pub p99_ms: f64,
    /// The most memory the server had resident, in MiB, from its start on.
    pub peak_mib: f64,
    /// The memory the server has resident at the end of the load, in MiB.
    pub rss_mib: f64,
    /// The server's CPU seconds for a thousand tokens.
    pub cpu: f64,
    /// PostgreSQL's CPU seconds for a thousand tokens.
    pub database_cpu: Option<f64>,
    /// How much of its core the server used, of one.
    pub server_busy: f64,
    /// How much of the server's core went to anything else, of one. Much above nothing means that the
    /// machine was not left alone and the turn shows little.
    pub others_beside_server: f64,
    /// How much of the load generator's core went to anything but it and PostgreSQL, of one.
    pub others_beside_load: f64,
    /// How much of its core the load generator used, of one.
    pub load_busy: f64,
    /// What PostgreSQL says of itself.
    pub database: Option<String>,
}

/// Runs one turn. `dir` is where throw-away data and logs go.
///
/// # Errors
/// When the contestant cannot be brought up, a single request failed, or anything took too long.
pub async fn turn(what: Contestant, cores: Cores, load: Load, dir: &Path) -> anyhow::Result<Turn> {
    // Open to be passed through: PostgreSQL's cluster in it may belong to another user.
    let open = std::fs::Permissions::from_mode(0o755);
    let data = tempfile::Builder::new().prefix("turn-").permissions(open).tempdir_in(dir)?;
    let server = Running::start(what, cores, data.path(), dir).await?;
    let database = match &server.database {
        Some(database) => database.description().await,
        None => None,
    };
    let before = Spent::so_far(&server, cores)?;
    let report = put_load(&server, cores.load, load).await?;
    if report.requests == 0 || report.errors > 0 {
        let first = report.first_error.unwrap_or_default();
        bail!("{}: {} requests, {} errors, the first: {first}", what.name(), report.requests, report.errors);
    }
    let after = Spent::so_far(&server, cores)?;
    let memory = process::memory(server.pid)?;
    server.stop().await?;
    #[allow(clippy::cast_precision_loss, reason = "counts of requests and microseconds are far below 2^52")]
    let (thousands, p50_us, p99_us) =
        (report.requests_in_all as f64 / 1000.0, report.p50_us as f64, report.p99_us as f64);
    let cpu = after.server - before.server;
    let database_cpu = after.database.zip(before.database).map(|(after, before)| after - before);
    Ok(Turn {
        rps: report.rps,
        p50_ms: p50_us / 1000.0,
        p99_ms: p99_us / 1000.0,
        peak_mib: f64::from(memory.peak_kib) / 1024.0,
        rss_mib: f64::from(memory.now_kib) / 1024.0,
        cpu: cpu / thousands,
        database_cpu: database_cpu.map(|cpu| cpu / thousands),
        server_busy: cpu / report.wall_seconds,
        others_beside_server: (after.server_core - before.server_core - cpu).max(0.0) / report.wall_seconds,
        others_beside_load: (after.load_core
            - before.load_core
            - report.cpu_seconds
            - database_cpu.unwrap_or(0.0))
        .max(0.0)
            / report.wall_seconds,
        load_busy: report.cpu_seconds / report.wall_seconds,
        database,
    })
}

/// The CPU seconds that were used up to some moment.
struct Spent {
    server: f64,
    server_core: f64,
    load_core: f64,
    database: Option<f64>,
}

impl Spent {
    fn so_far(server: &Running, cores: Cores) -> anyhow::Result<Self> {
        let database = server.database.as_ref().and_then(crate::database::Database::cpu_seconds);
        let server = process::cpu_seconds(server.pid).context("the server has ended")?;
        let server_core = process::cpu_seconds_of_core(cores.server)?;
        let load_core = process::cpu_seconds_of_core(cores.load)?;
        Ok(Self { server, server_core, load_core, database })
    }
}

/// Puts the load on a server and reads the report.
///
/// # Errors
/// When the load generator fails or takes too long.
pub async fn put_load(server: &Running, core: usize, load: Load) -> anyhow::Result<LoadReport> {
    let mut command = process::on_core(core, &process::sibling("bench-load")?);
    command
        .args(["--target", &server.address.to_string()])
        .args(["--client-id", &server.credential.client_id])
        .args(["--client-secret", &server.credential.client_secret])
        .args(["--connections", &load.connections.to_string()])
        .args(["--duration", &load.seconds.to_string()])
        .args(["--warm-up", &load.warm_up.to_string()]);
    let limit = Duration::from_secs(load.warm_up + load.seconds + 30);
    let printed = process::output_of(command, "", limit).await?;
    serde_json::from_str(&printed).context("bench-load printed something else")
}
