//! The CPU time that was used up to some moment, and between two.

use anyhow::Context;
use clap::Args;

use crate::process;

/// Whose CPU time is read.
#[derive(Debug, Clone, Args)]
pub struct Watched {
    /// The process of the server.
    #[arg(long)]
    pub server_pid: u32,
    /// The first process of its PostgreSQL, if it has one.
    #[arg(long)]
    pub database_pid: Option<u32>,
    /// The core of the server.
    #[arg(long)]
    pub server_core: usize,
    /// The core of the load generator.
    #[arg(long)]
    pub load_core: usize,
}

/// CPU seconds, since each of them began.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    server: f64,
    database: Option<f64>,
    load: f64,
    server_core: f64,
    load_core: f64,
}

/// CPU seconds between two moments.
#[derive(Debug, Clone, Copy)]
pub struct Between {
    /// Of the server.
    pub server: f64,
    /// Of all processes of its PostgreSQL.
    pub database: Option<f64>,
    /// Of the load generator itself.
    pub load: f64,
    /// Of anything else, on the busier of the two cores.
    pub others: f64,
}

impl Spent {
    /// Reads all clocks.
    ///
    /// # Errors
    /// When one of the processes has ended.
    pub fn so_far(watched: &Watched) -> anyhow::Result<Self> {
        Ok(Self {
            server: process::cpu_seconds(watched.server_pid).context("the server has ended")?,
            database: watched.database_pid.map(process::cpu_seconds_with_children).transpose()?,
            load: process::cpu_seconds(std::process::id())?,
            server_core: process::cpu_seconds_of_core(watched.server_core)?,
            load_core: process::cpu_seconds_of_core(watched.load_core)?,
        })
    }

    /// What was used from here to a later moment.
    #[must_use]
    pub fn until(&self, later: &Self) -> Between {
        let server = later.server - self.server;
        let database = later.database.zip(self.database).map(|(later, before)| later - before);
        let load = later.load - self.load;
        let beside_server = later.server_core - self.server_core - server;
        let beside_load = later.load_core - self.load_core - load - database.unwrap_or(0.0);
        Between { server, database, load, others: beside_server.max(beside_load).max(0.0) }
    }
}
