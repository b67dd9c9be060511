//! What time brings, in small steps that nobody feels. Dropped by age: sessions that are over, runs
//! of sign-in failures, mails and links, records of ended tokens, used proofs, keys that are over, and audit
//! records beyond their
//! retention (L-1). Reminded of: credentials that expire (C-6). Deactivated: dormant accounts.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::{RUN_IS_FORGOTTEN, manage},
    audit::{By, Entry, Event, Origin},
};
use uuid::Uuid;

use crate::{
    app::{
        App,
        letters::Letter,
        turns::{self, Job},
    },
    error::Failure,
};

/// Rows dropped in one transaction: it takes a few milliseconds, in which nobody else writes on SQLite.
const STEP: u32 = 500;

/// Records of tokens looked at, and dropped, in one step: they stand far from each other in their index.
const TOKENS: u32 = 200;

/// How long the database is left alone between two steps.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A network is no longer known when nobody signed in from it for so long.
const NETWORK_IS_FORGOTTEN: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Mails that do not wait any more, and links that ended, are kept so long.
const MAIL_IS_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// An assertion or a proof that was used is remembered so long after it has ended.
const PROOF_IS_KEPT: SignedDuration = SignedDuration::from_mins(5);

/// Drops, each step in a transaction of its own, until a step drops less than it may.
macro_rules! in_steps {
    ($app:expr, $tx:ident => $step:expr) => {
        loop {
            let began = $app.clock.now();
            let mut $tx = $app.store.write().await?;
            let dropped = $step.await?;
            $tx.commit().await?;
            if dropped < u64::from(STEP) {
                break;
            }
            $app.pause(began).await;
        }
    };
}

/// A sweep is done at this interval, by one node for all.
const SWEPT: SignedDuration = SignedDuration::from_mins(10);

/// Sees to it that there is a sweep every ten minutes, and does what is this node's own as often, until the
/// process ends.
pub async fn run(app: Arc<App>) {
    let own_at = SWEPT.as_secs() / turns::LOOKED_AT.as_secs().cast_signed();
    for look in 0_i64.. {
        if look % own_at == 0 {
            tell(app.sweep_own().await);
        }
        tell(app.in_turn(Job::Sweep, SWEPT, Box::pin(app.sweep_shared())).await.map(drop));
        tokio::time::sleep(turns::LOOKED_AT).await;
    }
}

fn tell(outcome: Result<(), Failure>) {
    if let Err(failure) = outcome {
        failure.log();
        tracing::warn!(%failure, "housekeeping was not done; trying again soon");
    }
}

impl App {
    /// One sweep, whoever's turn it is. On hold nothing in the database is touched (H-1).
    ///
    /// # Errors
    /// The database's; what was dropped before stays dropped.
    pub async fn sweep(&self) -> Result<(), Failure> {
        let own = self.sweep_own().await;
        self.sweep_shared().await.and(own)
    }

    /// What this node remembers by itself.
    async fn sweep_own(&self) -> Result<(), Failure> {
        self.refusals.forget_quiet();
        if self.hold().await?.is_some() { Ok(()) } else { self.record_unrecorded().await }
    }

    /// What is in the database. Each part is done whatever becomes of the others.
    async fn sweep_shared(&self) -> Result<(), Failure> {
        if self.hold().await?.is_some() {
            return Ok(());
        }
        let parts = [
            self.grow().await,
            self.drop_sessions().await,
            self.drop_mails().await,
            self.drop_tokens().await,
            self.drop_proofs().await,
            self.drop_keys().await,
            self.trim_audit().await,
            self.remind().await,
            self.deactivate_dormant().await,
        ];
        parts.into_iter().collect()
    }

    /// Leaves one record of how many refusals were not recorded one by one.
    async fn record_unrecorded(&self) -> Result<(), Failure> {
        let more = self.refusals.take_unrecorded();
        if more == 0 {
            return Ok(());
        }
        let (now, origin) = (self.clock.now(), Origin::default());
        let entry = Entry::done(now, By::Server, &origin, Event::AccessRefused, "further refusals")
            .refused("too_many_to_record")
            .with("refusals", more.to_string());
        self.recorder.record(entry).await
    }

    /// What a large database needs to be found its way in: indexes that are missing, the runs of the log.
    async fn grow(&self) -> Result<(), Failure> {
        let made = self.store.make_indexes().await?;
        if made > 0 {
            tracing::info!(made, "indexes that were missing were made");
        }
        let mut began = self.clock.now();
        while self.store.sum_up_audit().await? {
            began = self.pause(began).await;
        }
        Ok(())
    }

    /// Lets the others work for as long as the step took that began then, and gives the present. So
    /// tidying up takes at most half of the database's time, however slow that is.
    async fn pause(&self, began: Timestamp) -> Timestamp {
        let took = Duration::try_from(self.clock.now().duration_since(began)).unwrap_or_default();
        tokio::time::sleep(took.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
        self.clock.now()
    }

    async fn drop_sessions(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let limits = &self.config.sessions;
        in_steps!(self, tx => tx.drop_dead_sessions(limits, now, STEP));
        in_steps!(self, tx => tx.drop_dead_ceremonies(now, STEP));
        in_steps!(self, tx => tx.drop_old_sign_in_failures(now - RUN_IS_FORGOTTEN, STEP));
        in_steps!(self, tx => tx.drop_old_networks(now - NETWORK_IS_FORGOTTEN, STEP));
        Ok(())
    }

    async fn drop_mails(&self) -> Result<(), Failure> {
        let before = self.clock.now() - MAIL_IS_KEPT;
        in_steps!(self, tx => tx.drop_old_mails(before, STEP));
        in_steps!(self, tx => tx.drop_old_links(before, STEP));
        Ok(())
    }

    /// Tells owners that their credentials expire, each once for each of the days, whatever node
    /// comes first. The fewest days first, so that nobody is told twice at once.
    async fn remind(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        for days in [1, 7, 30] {
            loop {
                let mut tx = self.store.write().await?;
                let until = now + SignedDuration::from_hours(days * 24);
                let expiring = tx.take_expiring(days, now, until, STEP).await?;
                for credential in &expiring {
                    let Some(owner) = tx.user(credential.owner).await? else { continue };
                    let (client_id, at) = (credential.client_id.as_str(), credential.expires_at);
                    let left = (at.duration_since(now).as_hours() + 23) / 24;
                    let letter = Letter::CredentialExpires { client_id, at, days: left.max(1) };
                    self.send(&mut tx, &owner, &letter).await?;
                }
                tx.commit().await?;
                if expiring.len() < STEP as usize {
                    break;
                }
            }
        }
        Ok(())
    }

    /// deactivates who has not signed in for so long, each in an act of its own, on what is so
    /// in that act.
    async fn deactivate_dormant(&self) -> Result<(), Failure> {
        let Some(limit) = self.config.deactivate_after else { return Ok(()) };
        let found = self.store.read().await?.dormant_users(self.clock.now() - limit, STEP).await?;
        let origin = Origin::default();
        for id in found {
            let now = self.clock.now();
            let mut act = self.store.act().await?;
            act.hold_tokens().await?;
            let Some(user) = act.user(id).await? else { continue };
            let signed_in_at = act.signed_in_at(id).await?;
            let others = act.other_super_admins(id).await?;
            let Some(after) = manage::dormant(&user.standing, signed_in_at, others, limit, now) else { continue };
            let entry = Entry::done(now, By::Server, &origin, Event::UserDeactivated, id.to_string());
            let mut entries = vec![entry.with("not_signed_in_for_days", (limit.as_hours() / 24).to_string())];
            act.drop_links_of(id).await?;
            entries.extend(self.change_standing(&mut act, (&By::Server, &origin), &user, &after, now).await?);
            act.commit(&entries).await?;
        }
        Ok(())
    }

    async fn drop_tokens(&self) -> Result<(), Failure> {
        let before = self.clock.now() - self.config.token_records;
        let oldest_kept = self.clock.first_id_at(before);
        let (mut at, mut began) = (Uuid::nil(), self.clock.now());
        while let Some(last) = self.store.drop_ended_tokens(at, before, oldest_kept, TOKENS).await?.last {
            at = last;
            began = self.pause(began).await;
        }
        Ok(())
    }

    /// Assertions and proofs that no node takes any more, even if clocks differ.
    async fn drop_proofs(&self) -> Result<(), Failure> {
        let before = self.clock.now() - PROOF_IS_KEPT;
        in_steps!(self, tx => tx.drop_ended_proofs(before, STEP));
        Ok(())
    }

    async fn trim_audit(&self) -> Result<(), Failure> {
        let before = self.clock.now() - self.config.audit_retention;
        loop {
            let began = self.clock.now();
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
            self.pause(began).await;
        }
    }
}
