//! What is broken, one file a kind: the rows of the table in the book's chapter "When things break".

mod clock;
mod failover;
mod kill;
mod nodes;
mod outage;
mod rotation;
mod stop;

use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;

use crate::{arena::Lab, report::Report};

/// How soon a server is ready again that was killed, and how soon one whose database is back.
const AFTER_KILL: Duration = Duration::from_secs(2);
const AFTER_OUTAGE: Duration = Duration::from_secs(5);
/// A round that takes longer than this goes round in circles.
const LIMIT: Duration = Duration::from_secs(300);

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// kill -9 of the server, on SQLite.
    KillSqlite,
    /// kill -9 of one of two servers, on PostgreSQL.
    KillPostgres,
    /// PostgreSQL restarted, killed, cut off, stalled, and cut off between COMMIT and its answer.
    Outage,
    /// Revoked at one server while tokens are asked for at the other.
    TwoNodes,
    /// The primary is lost, its synchronous standby takes over.
    FailoverSync,
    /// The same with a standby that nobody waits for.
    FailoverAsync,
    /// The clock of one of two servers is stepped.
    Clock,
    /// Keys take over every second while servers are killed and verifiers look.
    Rotation,
    /// SIGTERM.
    Stop,
}

impl Scenario {
    /// Its name on the command line and in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillSqlite => "kill-sqlite",
            Self::KillPostgres => "kill-postgres",
            Self::Outage => "outage",
            Self::TwoNodes => "two-nodes",
            Self::FailoverSync => "failover-sync",
            Self::FailoverAsync => "failover-async",
            Self::Clock => "clock",
            Self::Rotation => "rotation",
            Self::Stop => "stop",
        }
    }

    /// How often each breaks something in the quick set.
    #[must_use]
    pub fn quick_rounds(self) -> u32 {
        match self {
            Self::KillSqlite => 8,
            Self::KillPostgres | Self::TwoNodes => 4,
            Self::Outage => 7,
            Self::Clock => 5,
            Self::Rotation => 3,
            Self::FailoverSync | Self::FailoverAsync => 1,
            Self::Stop => 2,
        }
    }

    /// Runs it: so many rounds, with what is left to chance taken from the seed.
    ///
    /// # Errors
    /// When it could not be run to its end, or not within five minutes for each round.
    pub async fn run(self, lab: &Lab, rounds: u32, seed: u64) -> anyhow::Result<Report> {
        let run = Box::pin(self.run_on(lab, rounds, seed));
        let in_time = tokio::time::timeout(LIMIT * rounds.max(1), run).await;
        in_time.with_context(|| format!("{} does not come to an end", self.name()))?
    }

    async fn run_on(self, lab: &Lab, rounds: u32, seed: u64) -> anyhow::Result<Report> {
        let name = self.name();
        match self {
            Self::KillSqlite => kill::sqlite(lab, name, rounds, seed).await,
            Self::KillPostgres => kill::postgres(lab, name, rounds, seed).await,
            Self::Outage => outage::run(lab, name, rounds, seed).await,
            Self::TwoNodes => nodes::run(lab, name, rounds, seed).await,
            Self::FailoverSync => failover::run(lab, name, true, rounds, seed).await,
            Self::FailoverAsync => failover::run(lab, name, false, rounds, seed).await,
            Self::Clock => clock::run(lab, name, rounds, seed).await,
            Self::Rotation => rotation::run(lab, name, rounds, seed).await,
            Self::Stop => stop::run(lab, name, rounds, seed).await,
        }
    }
}
