//! What is dropped by age, in small steps that nobody feels: sessions that are over, runs of
//! sign-in failures, records of ended tokens, and audit records beyond their retention (L-1).

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use portcullis_domain::{
    accounts::RUN_IS_FORGOTTEN,
    audit::{By, Entry, Event, Origin},
};

use crate::{app::App, error::Failure};

/// Rows dropped in one transaction.
const STEP: u32 = 500;

/// A network is no longer known when nobody signed in from it for so long.
const NETWORK_IS_FORGOTTEN: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Runs the sweep at start and then every ten minutes, until the process ends.
pub async fn run(app: Arc<App>) {
    loop {
        if let Err(failure) = app.sweep().await {
            failure.log();
            tracing::warn!(%failure, "old records were not dropped; trying again in ten minutes");
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
    }
}

impl App {
    /// One sweep. Each part is done whatever becomes of the others.
    ///
    /// # Errors
    /// The database's; what was dropped before stays dropped.
    pub async fn sweep(&self) -> Result<(), Failure> {
        self.refusals.forget_quiet();
        self.federation.forget_quiet();
        let parts = [self.drop_sessions().await, self.drop_tokens().await, self.trim_audit().await];
        parts.into_iter().collect()
    }

    async fn drop_sessions(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut tx = self.store.write().await?;
        tx.drop_dead_sessions(&self.config.sessions, now).await?;
        tx.drop_dead_ceremonies(now).await?;
        tx.drop_old_sign_in_failures(now - RUN_IS_FORGOTTEN).await?;
        tx.drop_old_networks(now - NETWORK_IS_FORGOTTEN).await?;
        Ok(tx.commit().await?)
    }

    async fn drop_tokens(&self) -> Result<(), Failure> {
        let before = self.clock.now() - self.config.token_records;
        loop {
            let mut tx = self.store.write().await?;
            let dropped = tx.drop_ended_tokens(before, self.clock.first_id_at(before), STEP).await?;
            tx.commit().await?;
            if dropped < u64::from(STEP) {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn trim_audit(&self) -> Result<(), Failure> {
        let before = self.clock.now() - self.config.audit_retention;
        loop {
            let mut act = self.store.act().await?;
            let old = act.audit_records_before(before, STEP).await?;
            if old == 0 {
                return Ok(());
            }
            act.trim_audit(old).await?;
            let origin = Origin::default();
            let entry = Entry::done(self.clock.now(), By::Server, &origin, Event::AuditTrimmed, "audit log")
                .with("records", old.to_string())
                .with("older_than", before.to_string());
            tracing::info!(records = old, "old audit records were dropped");
            act.commit(&[entry]).await?;
            if old < u64::from(STEP) {
                return Ok(());
            }
        }
    }
}
