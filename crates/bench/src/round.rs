//! One turn of one contestant: bring it up, put each load on it, read what it cost, take it down.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::Request;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::connection::Connection;
use crate::contestant::{Contestant, Cores, Running};
use crate::owner::Owner;
use crate::part::Part;
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

/// How many connections ask to be signed in, in a flood.
const FLOOD: u16 = 16;

/// What one load measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Answers per second.
    pub rps: f64,
    /// The median time of an answer, in milliseconds.
    pub p50_ms: f64,
    /// What 99 of 100 answers stayed within, in milliseconds.
    pub p99_ms: f64,
    /// The server's CPU seconds for a thousand answers.
    pub cpu: f64,
    /// PostgreSQL's CPU seconds for a thousand answers.
    pub database_cpu: Option<f64>,
    /// How much of its core the server used, of one.
    pub server_busy: f64,
    /// How much of the two cores went to anything that has no part in this, of one core, on the busier
    /// of the two. Much above nothing means that the machine was not left alone and the turn shows
    /// little.
    pub others: f64,
    /// How much of its core the load generator used, of one.
    pub load_busy: f64,
}

/// What the server took besides time.
#[derive(Debug, Clone, PartialEq)]
pub struct Size {
    /// The most memory it had resident under the load of tokens, in MiB, from its start on.
    pub peak_mib: f64,
    /// The memory it has resident when it was started over the data of the turn and nobody asks, in MiB.
    pub idle_mib: f64,
    /// How long that start took until it answered that it is ready, in milliseconds.
    pub ready_ms: f64,
    /// The size of the program, in MiB.
    pub program_mib: f64,
}

/// What one turn measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    /// For each part.
    pub parts: BTreeMap<Part, Measured>,
    /// The floor has none.
    pub size: Option<Size>,
    /// What PostgreSQL says of itself.
    pub database: Option<String>,
}

/// Runs one turn. `dir` is where throw-away data and logs go. `sizes` holds how long the documents are:
/// Portcullis says so, and the floor is told.
///
/// # Errors
/// When the contestant cannot be brought up, a single request failed, or anything took too long.
pub async fn turn(
    what: Contestant,
    cores: Cores,
    load: Load,
    parts: &[Part],
    (dir, sizes): (&Path, &mut BTreeMap<Part, usize>),
) -> anyhow::Result<Turn> {
    // Open to be passed through: PostgreSQL's cluster in it may belong to another user.
    let open = std::fs::Permissions::from_mode(0o755);
    let data = tempfile::Builder::new().prefix("turn-").permissions(open).tempdir_in(dir)?;
    let mut server = Running::start(what, cores, data.path(), dir).await?;
    let (mut turn, mut peak_mib) = (Turn::default(), f64::NAN);
    if let Some(database) = &server.database {
        turn.database = database.description().await;
    }
    let mut resource = "https://orders.acme.example".to_owned();
    if what != Contestant::Floor {
        resource = Owner::sign_in(&server).await?.register_api().await?;
        for part in parts.iter().filter(|part| part.document().is_some()) {
            sizes.insert(*part, length(&server, *part).await?);
        }
    }
    for part in parts.iter().copied().filter(|part| part.is_for(what)) {
        let mut flood = match part {
            Part::TokensInFlood => Some(flood(&server, cores)?),
            _ => None,
        };
        let arguments = arguments(what, part, load, &resource, sizes);
        let measured = measure(&server, cores, load, &arguments).await;
        turn.parts.insert(part, measured.with_context(|| format!("{}: {}", what.name(), part.name()))?);
        if let Some(flood) = &mut flood {
            flood.kill().await?;
        }
        // Before anybody asks to be signed in again: that takes memory too.
        if part == Part::TokensEs256 {
            peak_mib = f64::from(process::memory(server.pid)?.peak_kib) / 1024.0;
        }
    }
    if what != Contestant::Floor {
        turn.size = Some(size(&mut server, cores, peak_mib, (data.path(), dir)).await?);
    }
    server.stop().await?;
    Ok(turn)
}

/// How long the document of a part is.
async fn length(server: &Running, part: Part) -> anyhow::Result<usize> {
    let request = Request::get(part.document().context("no document")?);
    Ok(Connection::open(server.address).await?.ask(request, String::new()).await?.len())
}

/// What `bench-load` is told of a part.
fn arguments(
    what: Contestant,
    part: Part,
    load: Load,
    resource: &str,
    sizes: &BTreeMap<Part, usize>,
) -> Vec<String> {
    let mut arguments = vec!["--what".to_owned(), part.what().to_owned()];
    let mut say = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    if let Some(path) = part.document() {
        let bare = format!("/bare?{}", sizes.get(&part).copied().unwrap_or_default());
        say("--path", if what == Contestant::Floor { bare } else { path.to_owned() });
    }
    match part {
        Part::TokensEdDsa => say("--resource", resource.to_owned()),
        // More than can be asked about in the time, so that each is asked about once.
        Part::First => say("--tokens", ((load.seconds + load.warm_up) * 16_000).to_string()),
        _ => {}
    }
    arguments
}

/// The command of the load generator.
fn asker(server: &Running, cores: Cores, load: Load) -> anyhow::Result<Command> {
    let mut command = process::on_core(cores.load, &process::sibling("bench-load")?);
    command
        .args(["--target", &server.address.to_string()])
        .args(["--client-id", &server.credential.client_id])
        .args(["--client-secret", &server.credential.client_secret])
        .args(["--duration", &load.seconds.to_string()])
        .args(["--warm-up", &load.warm_up.to_string()])
        .args(["--connections", &load.connections.to_string()])
        .args(["--server-pid", &server.pid.to_string()])
        .args(["--server-core", &cores.server.to_string()])
        .args(["--load-core", &cores.load.to_string()]);
    if let Some(pid) = server.database.as_ref().and_then(crate::database::Database::pid) {
        command.args(["--database-pid", &pid.to_string()]);
    }
    Ok(command)
}

/// Those who ask to be signed in, for longer than anything is measured.
fn flood(server: &Running, cores: Cores) -> anyhow::Result<Child> {
    let mut command = asker(server, cores, Load { connections: FLOOD, seconds: 60, warm_up: 0 })?;
    command.args(["--what", "sign-in"]).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(command.spawn()?)
}

/// Puts a load on a server, from a core of its own, and reads the report. The arguments are those of
/// `bench-load` that say what is asked for; tokens without them.
///
/// # Errors
/// When the load generator cannot be started, fails, or takes too long.
pub async fn put_load(
    server: &Running,
    cores: Cores,
    load: Load,
    arguments: &[String],
) -> anyhow::Result<LoadReport> {
    let mut command = asker(server, cores, load)?;
    command.args(arguments);
    // Tokens to ask about are fetched before.
    let limit = Duration::from_secs(load.warm_up + load.seconds + 60);
    let printed = process::output_of(command, "", limit).await?;
    serde_json::from_str(&printed).context("bench-load printed something else")
}

/// Puts one load on a server, and makes figures of the report.
async fn measure(server: &Running, cores: Cores, load: Load, arguments: &[String]) -> anyhow::Result<Measured> {
    let report = put_load(server, cores, load, arguments).await?;
    if report.requests == 0 || report.errors > 0 {
        let first = report.first_error.unwrap_or_default();
        bail!("{} requests, {} errors, the first: {first}", report.requests, report.errors);
    }
    #[allow(clippy::cast_precision_loss, reason = "counts of requests and microseconds are far below 2^52")]
    let (thousands, p50_us, p99_us) =
        (report.requests_in_all as f64 / 1000.0, report.p50_us as f64, report.p99_us as f64);
    Ok(Measured {
        rps: report.rps,
        p50_ms: p50_us / 1000.0,
        p99_ms: p99_us / 1000.0,
        cpu: report.server_cpu_seconds / thousands,
        database_cpu: report.database_cpu_seconds.map(|cpu| cpu / thousands),
        server_busy: report.server_cpu_seconds / report.wall_seconds,
        others: report.others_cpu_seconds / report.wall_seconds,
        load_busy: report.cpu_seconds / report.wall_seconds,
    })
}

/// Starts the server over the data of the turn, and looks how large it is while nobody asks.
async fn size(
    server: &mut Running,
    cores: Cores,
    peak_mib: f64,
    (data, logs): (&Path, &Path),
) -> anyhow::Result<Size> {
    let ready = server.restart(cores, data, logs).await?;
    sleep(Duration::from_secs(2)).await;
    #[allow(clippy::cast_precision_loss, reason = "a program is far smaller than 2^52 bytes")]
    let program = process::sibling("portcullis")?.metadata()?.len() as f64;
    Ok(Size {
        peak_mib,
        idle_mib: f64::from(process::memory(server.pid)?.now_kib) / 1024.0,
        ready_ms: ready.as_secs_f64() * 1000.0,
        program_mib: program / 1024.0 / 1024.0,
    })
}
