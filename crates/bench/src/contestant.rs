//! The servers that run against each other, and how each is brought to where it answers token
//! requests: started on its core over a fresh data directory, with one credential made.

use std::fs::{DirBuilder, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::database::Database;
use crate::{outside, process};

/// How long a server may take until it is ready.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// How long one command of the set-up may take.
const SET_UP_LIMIT: Duration = Duration::from_secs(60);
/// How long is waited before a server is asked again whether it is ready.
const PAUSE: Duration = Duration::from_millis(50);
/// The owner of the credential.
pub const EMAIL: &str = "bench@acme.example";

/// One of the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Contestant {
    /// The least a server can do for a token.
    Floor,
    /// Portcullis on its own database file.
    Sqlite,
    /// Portcullis on PostgreSQL.
    Postgres,
}

impl Contestant {
    /// All of them, in the order of a round: Portcullis first, which says how long its documents are.
    pub const ALL: [Self; 3] = [Self::Sqlite, Self::Floor, Self::Postgres];

    /// What the table calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "Floor",
            Self::Sqlite => "Portcullis on SQLite",
            Self::Postgres => "Portcullis on PostgreSQL",
        }
    }

    /// What its log file is called.
    fn log_name(self) -> &'static str {
        match self {
            Self::Floor => "floor.log",
            Self::Sqlite => "sqlite.log",
            Self::Postgres => "postgres.log",
        }
    }
}

/// The cores the processes are pinned to.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// The server's, and nobody else's.
    pub server: usize,
    /// The load generator's, and PostgreSQL's.
    pub load: usize,
}

/// A credential to ask with, as `credential generate --json` prints it.
#[derive(Debug, Clone, Deserialize)]
pub struct Credential {
    /// Who asks.
    pub client_id: String,
    /// The secret.
    pub client_secret: String,
}

/// A server that answers. Dropping it kills it, and then stops its database.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its process.
    pub pid: u32,
    /// Where it listens.
    pub address: SocketAddr,
    /// What to ask it with.
    pub credential: Credential,
    /// The password of the credential's owner; the floor has none.
    pub password: String,
    /// Its PostgreSQL, if it has one.
    pub database: Option<Database>,
}

impl Running {
    /// Brings a contestant up. `dir` is where its data goes, an existing, empty directory; `logs` is
    /// where what it prints goes.
    ///
    /// # Errors
    /// When any step of it fails or takes too long.
    pub async fn start(what: Contestant, cores: Cores, dir: &Path, logs: &Path) -> anyhow::Result<Self> {
        Self::start_with(what, cores, dir, logs, &[]).await
    }

    /// The same with more flags for `serve`; the floor has none.
    ///
    /// # Errors
    /// When any step of it fails or takes too long.
    pub async fn start_with(
        what: Contestant,
        cores: Cores,
        dir: &Path,
        logs: &Path,
        flags: &[&str],
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let log = File::create(logs.join(what.log_name()))?;
        if what == Contestant::Floor {
            let credential = made_up_credential();
            let mut command = process::on_core(cores.server, &process::sibling("bench-floor")?);
            command.args(["--listen", &address.to_string()]);
            command.args(["--client-id", &credential.client_id, "--client-secret", &credential.client_secret]);
            let (child, pid) = serve(command, address, log, PAUSE).await?;
            return Ok(Self { child, pid, address, credential, password: String::new(), database: None });
        }
        let database = match what {
            Contestant::Postgres => Some(Database::start(&dir.join("cluster"), cores.load).await?),
            _ => None,
        };
        let place = Place { dir: &dir.join("data"), database: database.as_ref(), cores };
        DirBuilder::new().mode(0o700).create(place.dir)?;
        let password = format!("{}\n", outside::id(outside::now()));
        place.create_owner(&password).await?;
        let mut command = place.serve_command(address)?;
        command.args(flags);
        let (child, pid) = serve(command, address, log, PAUSE).await?;
        let credential = place.generate_credential(address, &password).await?;
        let password = password.trim_end().to_owned();
        Ok(Self { child, pid, address, credential, password, database })
    }

    /// Ends the server alone, as `kill -9` would; its database stays.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn halt(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended by itself: {status}");
        }
        Ok(self.child.kill().await?)
    }

    /// Starts Portcullis again after [`Self::halt`], at the same address on the same data, with `more`
    /// arguments. `dir` and `logs` are those of [`Self::start`].
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn resume(
        &mut self,
        what: Contestant,
        cores: Cores,
        (dir, logs): (&Path, &Path),
        more: &[&str],
    ) -> anyhow::Result<()> {
        let place = Place { dir: &dir.join("data"), database: self.database.as_ref(), cores };
        let mut command = place.serve_command(self.address)?;
        command.args(more);
        let log = File::create(logs.join(what.log_name()))?;
        (self.child, self.pid) = serve(command, self.address, log, PAUSE).await?;
        Ok(())
    }

    /// What the server said how long it took until it was ready, in milliseconds. `logs` is that of
    /// [`Self::start`].
    ///
    /// # Errors
    /// When it did not say.
    pub fn ready_in_ms(what: Contestant, logs: &Path) -> anyhow::Result<u32> {
        let said = std::fs::read_to_string(logs.join(what.log_name()))?;
        let told = said.split_once("is ready (").and_then(|(_, rest)| rest.split_once(" ms)"));
        Ok(told.context("the server did not say when it was ready")?.0.parse()?)
    }

    /// Asks the server to end, starts it again over the same data, and gives the time from the start of
    /// the process until it answered that it is ready.
    ///
    /// # Errors
    /// When it does not end or does not come up.
    pub async fn restart(&mut self, cores: Cores, dir: &Path, logs: &Path) -> anyhow::Result<Duration> {
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &self.pid.to_string()]);
        process::output_of(kill, "", SET_UP_LIMIT).await?;
        timeout(SET_UP_LIMIT, self.child.wait()).await.context("the server does not end")??;
        let log = File::create(logs.join("restart.log"))?;
        let place = Place { dir: &dir.join("data"), database: self.database.as_ref(), cores };
        let command = place.serve_command(self.address)?;
        let began = Instant::now();
        (self.child, self.pid) = serve(command, self.address, log, Duration::from_millis(1)).await?;
        Ok(began.elapsed())
    }

    /// Ends the server and waits until it is gone, then its database.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        // Its data is thrown away, so there is nothing to be gained by asking it to end.
        self.halt().await
    }
}

/// Where a Portcullis has its data, for the commands that need it.
struct Place<'a> {
    dir: &'a Path,
    database: Option<&'a Database>,
    cores: Cores,
}

impl Place<'_> {
    /// A command of Portcullis; those of the set-up run on the server's core too, before it counts.
    fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = process::on_core(self.cores.server, &process::sibling("portcullis")?);
        command.args(words);
        Ok(command)
    }

    /// Tells a command where the data is.
    fn point(&self, command: &mut Command) {
        command.arg("--data-dir").arg(self.dir);
        if let Some(database) = self.database {
            command.args(["--database-url", database.url()]);
        }
    }

    async fn create_owner(&self, password: &str) -> anyhow::Result<()> {
        let mut command = self.command(&["admin", "create"])?;
        self.point(&mut command);
        command.args(["--email", EMAIL, "--name", "Bench", "--super-admin", "--password-stdin"]);
        process::output_of(command, password, SET_UP_LIMIT).await?;
        Ok(())
    }

    fn serve_command(&self, address: SocketAddr) -> anyhow::Result<Command> {
        let mut command = self.command(&["serve", "--listen", &address.to_string()])?;
        command.args(["--public-url", &format!("http://{address}")]);
        self.point(&mut command);
        Ok(command)
    }

    async fn generate_credential(&self, address: SocketAddr, password: &str) -> anyhow::Result<Credential> {
        let mut command = self.command(&["credential", "generate"])?;
        command.args(["--server", &format!("http://{address}"), "--email", EMAIL, "--password-stdin", "--json"]);
        let printed = process::output_of(command, password, SET_UP_LIMIT).await?;
        serde_json::from_str(&printed).context("credential generate printed something else")
    }
}

/// A credential for the floor, as long as one of Portcullis.
fn made_up_credential() -> Credential {
    let part = || outside::id(outside::now()).simple().to_string();
    Credential { client_id: format!("pcc_{}", part()), client_secret: format!("pcs_{}{}", part(), part()) }
}

/// An address nobody listens on at the moment.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// Starts a server and waits until it is ready.
async fn serve(
    mut command: Command,
    address: SocketAddr,
    log: File,
    pause: Duration,
) -> anyhow::Result<(Child, u32)> {
    command.stdout(log.try_clone()?).stderr(log);
    let mut child = command.spawn().context("cannot start the server")?;
    let pid = child.id().context("the server ended at once")?;
    let patience = Instant::now() + READY_LIMIT;
    while !is_ready(address).await {
        if let Some(status) = child.try_wait()? {
            bail!("the server ended before it was ready: {status}; see its log in target/bench");
        }
        if Instant::now() > patience {
            bail!("the server was not ready within {READY_LIMIT:?}; see its log in target/bench");
        }
        sleep(pause).await;
    }
    Ok((child, pid))
}

/// Whether a server answers that it is ready.
async fn is_ready(address: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut start = [0; 13];
        stream.read_exact(&mut start).await?;
        std::io::Result::Ok(&start == b"HTTP/1.1 200 ")
    };
    matches!(timeout(Duration::from_secs(5), ask).await, Ok(Ok(true)))
}
