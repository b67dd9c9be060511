//! A PostgreSQL cluster for one round: made by `dev/postgres`, thrown away with the round.
//!
//! It is pinned to the core of the load generator, so that the server's core runs nothing but the
//! server. That core is then shared between the database and the clients, which the report says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::process;

/// The script that starts and stops a cluster, as seen from the root of the repository.
const SCRIPT: &str = "dev/postgres";
/// How long starting may take; the first time includes installing the package.
const START_LIMIT: Duration = Duration::from_secs(300);
/// How long the script may take to end, once it has said all.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A running cluster. Dropping it stops it.
#[derive(Debug)]
pub struct Database {
    dir: PathBuf,
    script: Child,
    url: String,
}

impl Database {
    /// Starts a fresh cluster in `dir` on the given core.
    ///
    /// # Errors
    /// When the script is not there, fails or takes too long.
    pub async fn start(dir: &Path, core: usize) -> anyhow::Result<Self> {
        let path = Path::new(SCRIPT);
        if !path.is_file() {
            bail!("{SCRIPT} is not there; leave PostgreSQL out with --only floor,sqlite");
        }
        let mut script = process::on_core(core, path)
            .arg("start")
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {SCRIPT}"))?;
        let stdout = script.stdout.take().context("no standard output")?;
        // From here on the cluster may exist, so from here on it is stopped on every way out.
        let mut database = Self { dir: dir.to_owned(), script, url: String::new() };
        let mut lines = BufReader::new(stdout).lines();
        let first =
            timeout(START_LIMIT, lines.next_line()).await.context("PostgreSQL took too long to start")??;
        let status = timeout(END_LIMIT, database.script.wait()).await.context("dev/postgres does not end")??;
        if !status.success() {
            bail!("{SCRIPT} start: {status}");
        }
        database.url = first.filter(|line| line.starts_with("postgres")).context("dev/postgres printed no URL")?;
        Ok(database)
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its first process, if it is found.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let pid = fs::read_to_string(find(&self.dir, "postmaster.pid", 2)?).ok()?;
        pid.lines().next()?.trim().parse().ok()
    }

    /// Its version and whether a commit waits for the disk, in its own words, if `psql` is there.
    pub async fn description(&self) -> Option<String> {
        const ASK: &str = "select 'PostgreSQL ' || current_setting('server_version') || ', fsync ' || \
                           current_setting('fsync') || ', synchronous_commit ' || \
                           current_setting('synchronous_commit')";
        let mut psql = Command::new("psql");
        psql.args(["--no-psqlrc", "-Atc", ASK, &self.url]).kill_on_drop(true);
        let said = process::output_of(psql, "", Duration::from_secs(10)).await.ok()?;
        Some(said.trim().to_owned())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // A script in the middle of making a cluster is let finish, or there would be no telling
        // what is to be stopped.
        let patience = Instant::now() + END_LIMIT;
        while matches!(self.script.try_wait(), Ok(None)) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(50));
        }
        // On the way out there is nobody left to tell of a failure.
        let _ = std::process::Command::new("timeout")
            .args(["--kill-after=5", "60", SCRIPT, "stop"])
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status();
    }
}

/// Looks for a file in a directory and `deeper` levels of directories in it.
fn find(dir: &Path, name: &str, deeper: u32) -> Option<PathBuf> {
    let here = dir.join(name);
    if here.is_file() {
        return Some(here);
    }
    let deeper = deeper.checked_sub(1)?;
    let inner = fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    inner.filter(|path| path.is_dir()).find_map(|path| find(&path, name, deeper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_the_directory_or_a_little_below() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/x"), "").unwrap();
        assert_eq!(find(dir.path(), "x", 2), Some(dir.path().join("a/b/x")));
        assert_eq!(find(dir.path(), "x", 1), None);
        assert_eq!(find(dir.path(), "y", 2), None);
    }
}
