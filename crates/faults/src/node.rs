//! A `portcullis` process: started with its settings, waited for, killed, asked to end.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::outside;

/// How long a server may take until it is ready before the run is given up.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// How long one command of the program may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// What all servers of an arena have in common.
#[derive(Debug, Clone)]
pub struct Site {
    /// The program.
    pub program: PathBuf,
    /// Where the master key of all is, and the data folder of each, called like the server.
    pub folder: PathBuf,
    /// What people and programs call the servers.
    pub public_url: String,
    /// Further settings, as `key=value`.
    pub settings: Vec<String>,
    /// Further environment.
    pub environment: Vec<(String, String)>,
}

/// One server.
#[derive(Debug)]
pub struct Node {
    /// Its name in histories.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The PostgreSQL that it uses, if it uses one.
    pub database: Option<String>,
    /// Environment of this one alone.
    pub environment: Vec<(String, String)>,
    site: Site,
    log: PathBuf,
    child: Option<Child>,
}

/// An address nobody listens on at the moment.
///
/// # Errors
/// When the machine gives none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// What a command answered.
#[derive(Debug)]
pub struct Answered {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output and standard error.
    pub said: String,
}

impl Node {
    /// A server that is not started yet. Its log goes into `logs`.
    #[must_use]
    pub fn new(name: &str, address: SocketAddr, database: Option<&str>, site: &Site, logs: &Path) -> Self {
        Self {
            name: name.to_owned(),
            address,
            database: database.map(str::to_owned),
            environment: Vec::new(),
            site: site.clone(),
            log: logs.join(format!("node-{name}.log")),
            child: None,
        }
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.site.program);
        command.env_clear().args(words).kill_on_drop(true);
        command.envs(self.site.environment.iter().cloned()).envs(self.environment.iter().cloned());
        command.arg(format!("--data-dir={}", self.site.folder.join(&self.name).display()));
        command.arg(format!("--master-key-file={}", self.site.folder.join("master.key").display()));
        command.arg(format!("--listen={}", self.address));
        command.arg(format!("--public-url={}", self.site.public_url));
        if let Some(database) = &self.database {
            command.arg(format!("--database-url={database}"));
        }
        for setting in &self.site.settings {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            command.arg(format!("--{}={value}", key.replace('_', "-")));
        }
        command
    }

    /// Runs a command of the program over the same data to its end.
    ///
    /// # Errors
    /// When it cannot be started or does not end.
    pub async fn run(&self, words: &[&str], input: &str) -> anyhow::Result<Answered> {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {words:?}"))?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let output = timeout(COMMAND_LIMIT, child.wait_with_output()).await;
        let output = output.with_context(|| format!("{words:?} does not end"))??;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        Ok(Answered { code: output.status.code().unwrap_or(-1), said })
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = self.command(&["serve"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("cannot start the server")
    }

    /// Starts the server without waiting for it: on hold it is not ready.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        self.child = Some(self.spawn()?);
        Ok(())
    }

    /// Whether it was started, and neither killed nor told to end since.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// Starts the server and waits until it is ready: the time that took.
    ///
    /// # Errors
    /// When it ends, or is not ready in a minute.
    pub async fn start(&mut self) -> anyhow::Result<Duration> {
        let began = outside::instant();
        let mut child = self.spawn()?;
        while !is_ready(self.address).await {
            if let Some(status) = child.try_wait()? {
                bail!("server {} ended before it was ready: {status}; see {}", self.name, self.log.display());
            }
            if began.elapsed() > READY_LIMIT {
                bail!("server {} was not ready within {READY_LIMIT:?}; see {}", self.name, self.log.display());
            }
            sleep(Duration::from_millis(5)).await;
        }
        self.child = Some(child);
        Ok(began.elapsed())
    }

    /// Waits until a server that runs is ready again: the time that took.
    ///
    /// # Errors
    /// When it is not in a minute.
    pub async fn recover(&self) -> anyhow::Result<Duration> {
        let began = outside::instant();
        while !is_ready(self.address).await {
            if began.elapsed() > READY_LIMIT {
                bail!(
                    "server {} is not ready again within {READY_LIMIT:?}; see {}",
                    self.name,
                    self.log.display()
                );
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(began.elapsed())
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().with_context(|| format!("server {} does not run", self.name))?;
        if let Some(status) = child.try_wait()? {
            bail!("server {} ended by itself: {status}; see {}", self.name, self.log.display());
        }
        Ok(child.kill().await?)
    }

    /// Asks it to end with SIGTERM, and waits: its exit code, if it ended by itself.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub async fn terminate(&mut self) -> anyhow::Result<Option<i32>> {
        let mut child = self.child.take().with_context(|| format!("server {} does not run", self.name))?;
        let pid = child.id().with_context(|| format!("server {} ended by itself", self.name))?;
        let sent = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
        if !sent.success() {
            bail!("server {} could not be told to end", self.name);
        }
        let status = timeout(Duration::from_secs(60), child.wait()).await;
        Ok(status.with_context(|| format!("server {} does not end", self.name))??.code())
    }
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
