//! PostgreSQL clusters, made, killed and thrown away by `dev/postgres`. What is acknowledged is with the
//! operating system: processes are killed here, not the machine, so nothing waits for the disk.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, bail};
use sqlx::{Connection, Executor, PgConnection};
use tokio::{process::Command, time::timeout};

/// The script, as seen from the root of the repository.
const SCRIPT: &str = "dev/postgres";
/// How long the script may take; the first time includes installing the package.
const LIMIT: Duration = Duration::from_secs(300);

/// A cluster. Dropping it removes it.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    url: String,
}

async fn script(words: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(SCRIPT);
    command.args(words).stdin(Stdio::null()).stderr(Stdio::inherit()).stdout(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().with_context(|| format!("cannot start {SCRIPT}; run dev/faults"))?;
    let output = timeout(LIMIT, child.wait_with_output()).await;
    let output = output.with_context(|| format!("{SCRIPT} {words:?} does not end"))??;
    if !output.status.success() {
        bail!("{SCRIPT} {words:?}: {}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Cluster {
    /// Makes and starts one in `folder`.
    ///
    /// # Errors
    /// When the script fails.
    pub async fn start(folder: &Path) -> anyhow::Result<Self> {
        let name = folder.display().to_string();
        // From here on it may be there, so from here on it is removed on every way out.
        let mut cluster = Self { folder: folder.to_owned(), url: String::new() };
        cluster.url = script(&["start", &name, "--no-fsync"]).await?;
        Ok(cluster)
    }

    /// Makes and starts a standby of this one in `folder`; it follows without being waited for.
    ///
    /// # Errors
    /// When the script fails.
    pub async fn standby(&self, folder: &Path) -> anyhow::Result<Self> {
        let (name, of) = (folder.display().to_string(), self.folder.display().to_string());
        let mut cluster = Self { folder: folder.to_owned(), url: String::new() };
        cluster.url = script(&["standby", &name, &of]).await?;
        Ok(cluster)
    }

    /// Makes its commits wait until its standby has them on disk, too.
    ///
    /// # Errors
    /// When it does not answer, or the standby is not there in half a minute.
    pub async fn wait_for_standby(&self) -> anyhow::Result<()> {
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await?;
        self.execute("SELECT pg_reload_conf()").await?;
        for _ in 0..300 {
            let synchronous = "SELECT COUNT(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
            if self.number(synchronous).await? > 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the standby does not follow")
    }

    /// Makes a standby fetch from another port on loopback.
    ///
    /// # Errors
    /// The database's.
    pub async fn follow_through(&self, port: u16) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let sql = format!("ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port={port} user=portcullis'");
        connection.execute(sqlx::AssertSqlSafe(sql)).await?;
        connection.execute("SELECT pg_reload_conf()").await?;
        Ok(connection.close().await?)
    }

    /// Waits until a standby follows this one.
    ///
    /// # Errors
    /// When it does not within half a minute.
    pub async fn wait_for_follower(&self) -> anyhow::Result<()> {
        for _ in 0..300 {
            let following = "SELECT COUNT(*) FROM pg_stat_replication WHERE state = 'streaming'";
            if self.number(following).await? > 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("the standby does not follow")
    }

    /// Makes a standby the primary.
    ///
    /// # Errors
    /// When it does not become one within a minute.
    pub async fn promote(&self) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        let (done,): (bool,) = sqlx::query_as("SELECT pg_promote(true, 60)").fetch_one(&mut connection).await?;
        if !done {
            bail!("the standby did not become the primary");
        }
        Ok(())
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its port on loopback.
    ///
    /// # Errors
    /// When its URL is not as the script prints it.
    pub fn port(&self) -> anyhow::Result<u16> {
        let port = self.url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next());
        port.and_then(|p| p.parse().ok()).with_context(|| format!("{SCRIPT} printed no URL but {}", self.url))
    }

    /// Stops it with a checkpoint and starts it again.
    ///
    /// # Errors
    /// When the script fails.
    pub async fn restart(&self) -> anyhow::Result<()> {
        script(&["restart", &self.folder.display().to_string()]).await.map(drop)
    }

    /// Kills all its processes with SIGKILL.
    ///
    /// # Errors
    /// When the script fails.
    pub async fn kill(&self) -> anyhow::Result<()> {
        script(&["kill", &self.folder.display().to_string()]).await.map(drop)
    }

    /// Starts it again after [`Cluster::kill`].
    ///
    /// # Errors
    /// When the script fails.
    pub async fn start_again(&self) -> anyhow::Result<()> {
        script(&["start", &self.folder.display().to_string()]).await.map(drop)
    }

    async fn connect(&self) -> anyhow::Result<PgConnection> {
        PgConnection::connect(&self.url).await.context("PostgreSQL does not answer")
    }

    /// Runs a statement.
    ///
    /// # Errors
    /// The database's.
    pub async fn execute(&self, sql: &'static str) -> anyhow::Result<()> {
        let mut connection = self.connect().await?;
        connection.execute(sql).await?;
        Ok(connection.close().await?)
    }

    /// Runs a statement that gives one whole number.
    ///
    /// # Errors
    /// The database's.
    pub async fn number(&self, sql: &'static str) -> anyhow::Result<i64> {
        let mut connection = self.connect().await?;
        let (number,): (i64,) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(number)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // On the way out there is nobody left to tell of a failure.
        let _ = std::process::Command::new("timeout")
            .args(["--kill-after=5", "60", SCRIPT, "remove"])
            .arg(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
    }
}
