//! Jobs that one node does for all, by turns (ADR 24). A node that has a job says so again and again while it
//! works; when it cannot, because another node has taken over, it stops in the middle. Whoever stalls and
//! does not notice does no harm: each job is safe to be done twice, since what it does it decides in its
//! transaction, on what is so there.

use std::time::Duration;

use jiff::SignedDuration;
use portcullis_store::{StoreError, Turn};

use crate::{app::App, error::Failure};

/// A job is nobody else's for so long after its holder last said that it is alive: longer than a statement
/// may take, so that a slow database does not look like a dead node.
const LEASE: SignedDuration = SignedDuration::from_secs(15);
/// An instant in the database that is further ahead than this was written under a clock that was wrong, and
/// counts as none.
const AHEAD: SignedDuration = SignedDuration::from_mins(1);
/// The holder says so at this interval.
const RENEWED: Duration = Duration::from_secs(4);
/// Each node looks at this interval whether a job waits for somebody.
pub(crate) const LOOKED_AT: Duration = Duration::from_secs(5);

/// A job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// What time brings: old rows dropped, reminders, dormant accounts.
    Sweep,
    /// Signing keys take over from each other, and retire.
    Keys,
}

impl Job {
    /// Its name in the database.
    fn name(self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Keys => "keys",
        }
    }
}

impl App {
    /// Does a job, unless another node has it or it was done within `every`. Tells whether it was done here.
    ///
    /// # Errors
    /// The job's own, or the database's. The next node that looks tries again.
    pub async fn in_turn(
        &self,
        job: Job,
        every: SignedDuration,
        work: impl Future<Output = Result<(), Failure>>,
    ) -> Result<bool, Failure> {
        let turn = self.turn(job);
        if !self.store.read().await?.is_turn_free(turn, turn.now - every).await? {
            return Ok(false);
        }
        let mut tx = self.store.write().await?;
        let taken = tx.take_turn(turn, turn.now - every).await?;
        tx.commit().await?;
        if !taken {
            return Ok(false);
        }
        // Both go on side by side: the work may be in a transaction that the renewal waits for.
        let done = tokio::select! {
            done = work => done,
            () = self.renew(job) => {
                tracing::warn!(job = job.name(), "another node has taken this job over");
                return Ok(false);
            }
        };
        let mut tx = self.store.write().await?;
        tx.give_turn_back(self.turn(job), done.is_ok()).await?;
        tx.commit().await?;
        done.map(|()| true)
    }

    /// Says again and again that this node has the job; returns when it no longer has.
    async fn renew(&self, job: Job) {
        loop {
            tokio::time::sleep(RENEWED).await;
            let renewing = async {
                let mut tx = self.store.write().await?;
                let still = tx.renew_turn(self.turn(job)).await?;
                tx.commit().await?;
                Ok::<_, StoreError>(still)
            };
            match renewing.await {
                Ok(true) => {}
                Ok(false) => return,
                // It is tried again before the lease ends; and if that fails, another node may take over.
                Err(error) => tracing::warn!(%error, job = job.name(), "a turn was not renewed"),
            }
        }
    }

    fn turn(&self, job: Job) -> Turn<'static> {
        let now = self.clock.now();
        Turn { job: job.name(), holder: self.node, now, until: now + LEASE, beyond: now + AHEAD }
    }
}
