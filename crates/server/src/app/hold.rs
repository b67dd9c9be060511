//! On hold (H-1 to H-4): noticing at the start that a database may be older than what was acknowledged,
//! and lifting the hold once the operator has said what was stopped since.

use std::{sync::Arc, time::Duration};

use portcullis_domain::{
    accounts::Status,
    audit::{By, Entry, Event, Origin},
    credentials::{ClientId, RevocationReason},
    hold::{Hold, LiftRefused, Why, replayed},
    keys::{self, KeyRefused},
};
use portcullis_store::{Act, HeldCredential, LaterUser, OpenError, Replayed, Store, StoredKey, Tx};

use crate::{
    app::{App, letters::Letter},
    clock::Clock,
    error::Failure,
};

/// How long a node waits before it looks again whether what it acknowledged is still there.
const EVERY: Duration = Duration::from_secs(5);
/// Credentials that are read at once.
const PAGE: u32 = 500;

/// What was stopped after the database was copied, in the operator's words.
#[derive(Default)]
pub struct Since {
    /// A later state of the same database, from which all that was stopped is replayed.
    pub later: Option<Store>,
    /// Credentials to be revoked.
    pub revoked: Vec<ClientId>,
    /// Whether every credential is to be revoked.
    pub all: bool,
}

/// What lifting a hold did.
#[derive(Debug, Default)]
pub struct Lifted {
    /// What was replayed, a record each.
    pub acts: Vec<Entry>,
    /// Of the credentials that were named: those that this database does not know, or that do not work.
    pub not_held: Vec<ClientId>,
}

/// Looks, as long as the process runs, whether what this node acknowledged is still in the log: a
/// replica that took over may lack it, and so may a file that was written over.
pub async fn watch(app: Arc<App>) {
    loop {
        tokio::time::sleep(EVERY).await;
        if let Err(failure) = app.look_for_loss().await {
            failure.log();
        }
    }
}

/// Looks whether this is the database that was here, and puts it on hold if not (H-4).
///
/// # Errors
/// The database's, or the mark's.
pub(crate) async fn settle(store: &Store, clock: &Clock) -> Result<(), Failure> {
    #[cfg(feature = "seeded-bugs")]
    if crate::seeded::notes_nothing() {
        return Ok(());
    }
    let settled = store.settle(clock.random(), clock.now()).await.map_err(|error| match error {
        OpenError::Store(error) => error.into(),
        other => Failure::Internal(other.to_string()),
    })?;
    if let Some(hold) = settled.hold {
        tracing::warn!(
            why = hold.why.label(),
            "the database is on hold: no token is issued and none is active. See `portcullis hold show`"
        );
    }
    if settled.in_doubt {
        tracing::warn!(
            "PostgreSQL is on another timeline than before: it failed over, or was restored to an earlier time. \
             If acknowledged acts may be lost, run `portcullis hold begin`"
        );
    }
    Ok(())
}

fn entry(event: Event, subject: &str, now: jiff::Timestamp) -> Entry {
    Entry::done(now, By::Operator, &Origin::default(), event, subject).with("replayed", "yes")
}

/// The record of something that was replayed.
fn record(what: &Replayed, now: jiff::Timestamp) -> Entry {
    match what {
        Replayed::Credential(id, why) => entry(Event::CredentialRevoked, id, now).with("reason", why.code()),
        Replayed::WaysIn(id) => entry(Event::ClientKeyBound, id, now),
        Replayed::Token(jti) => entry(Event::TokenRevoked, &jti.to_string(), now),
        Replayed::Api(identifier) => entry(Event::ApiRemoved, identifier, now),
        Replayed::BoundOnly(identifier) => {
            entry(Event::ApiChanged, identifier, now).with("requires_dpop", "false -> true")
        }
        Replayed::ApiKey(id) => entry(Event::ApiKeyRemoved, id, now),
        Replayed::Identity(user) => entry(Event::IdentityLinked, &user.to_string(), now).with("what", "unlinked"),
        Replayed::Provider(name) => entry(Event::ProviderChanged, name, now).with("what", "removed"),
    }
}

impl App {
    /// That the database is on hold, if it is.
    ///
    /// # Errors
    /// The database's.
    pub async fn hold(&self) -> Result<Option<Hold>, Failure> {
        Ok(self.store.read().await?.hold().await?)
    }

    /// Refuses while the database is on hold (H-1).
    ///
    /// # Errors
    /// [`Failure::OnHold`].
    pub async fn works(&self) -> Result<(), Failure> {
        if self.hold().await?.is_some() { Err(Failure::OnHold) } else { Ok(()) }
    }

    async fn look_for_loss(&self) -> Result<(), Failure> {
        if self.store.lacks_what_was_noted().await? { settle(&self.store, &self.clock).await } else { Ok(()) }
    }

    /// Puts the database on hold for the operator. `false` when it is already.
    ///
    /// # Errors
    /// The database's.
    pub async fn begin_hold(&self) -> Result<bool, Failure> {
        let mut act = self.store.act_on_hold().await?;
        match act.begin_hold(Why::Operator, By::Operator, self.clock.now()).await? {
            Some(entry) => act.commit(&[entry]).await.map(|()| true).map_err(Failure::from),
            None => Ok(false),
        }
    }

    /// Replays what was stopped since, and lifts the hold, in one act: killed half-way nothing was done,
    /// and of several at once one does it (H-2).
    ///
    /// # Errors
    /// [`LiftRefused`], and the database's.
    pub async fn lift_hold(&self, since: &Since) -> Result<Lifted, Failure> {
        let spares = self.spares_for(since).await?;
        let mut act = self.store.act_on_hold().await?;
        act.hold_tokens().await?;
        let now = self.clock.now();
        let hold = act.hold().await?.ok_or(LiftRefused::NotOnHold)?;
        let mut lifted = Lifted::default();
        if let Some(later) = &since.later {
            let mut later = later.read().await?;
            is_later(&mut act, &mut later, hold).await?;
            let done = act.replay_from(&mut later, now).await?;
            lifted.acts.extend(done.iter().map(|what| record(what, now)));
            self.replay_users(&mut act, &mut later, &mut lifted).await?;
            self.replay_keys(&mut act, &mut later, spares, &mut lifted).await?;
        }
        for client_id in &since.revoked {
            match act.held_credential_named(client_id, now).await? {
                Some(held) => self.revoke_held(&mut act, &held, &mut lifted).await?,
                None => lifted.not_held.push(client_id.clone()),
            }
        }
        if since.all {
            for held in all_held(&mut act, now).await? {
                self.revoke_held(&mut act, &held, &mut lifted).await?;
            }
        }
        // A number that fits, and is never 0.
        let line = i64::from_be_bytes(self.clock.random()).wrapping_abs().max(1);
        act.lift_hold(line).await?;
        let how = match (since.later.is_some(), since.all || !since.revoked.is_empty()) {
            (false, false) => "nothing was stopped since",
            (true, false) => "replayed from a later database",
            (false, true) => "credentials were revoked",
            (true, true) => "replayed from a later database, and credentials were revoked",
        };
        let end = Entry::done(now, By::Operator, &Origin::default(), Event::HoldLifted, "database")
            .with("since", how)
            .with("replayed", lifted.acts.len().to_string())
            .with("began", hold.since.to_string())
            .with("after", hold.after.to_string());
        let records: Vec<Entry> = lifted.acts.iter().cloned().chain([end]).collect();
        act.commit(&records).await?;
        Ok(lifted)
    }

    async fn revoke_held(&self, act: &mut Act, held: &HeldCredential, lifted: &mut Lifted) -> Result<(), Failure> {
        let (now, why) = (self.clock.now(), RevocationReason::ByOperator);
        if !act.revoke_credential(held.id, why, now).await? {
            return Ok(());
        }
        let client_id = held.client_id.as_str();
        if let Some(owner) = act.user(held.owner_id).await? {
            self.send(act, &owner, &Letter::CredentialRevoked { client_id, why }).await?;
        }
        lifted.acts.push(entry(Event::CredentialRevoked, client_id, now).with("reason", why.code()));
        Ok(())
    }

    async fn replay_users(&self, act: &mut Act, later: &mut Tx, lifted: &mut Lifted) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let users = later.later_users(after).await?;
            let Some(last) = users.last() else { return Ok(()) };
            after = Some(last.id);
            for user in &users {
                self.replay_user(act, later, user, lifted).await?;
            }
        }
    }

    /// H-3, for one user.
    async fn replay_user(
        &self,
        act: &mut Act,
        later: &mut Tx,
        user: &LaterUser,
        lifted: &mut Lifted,
    ) -> Result<(), Failure> {
        let Some(present) = act.user(user.id).await? else { return Ok(()) };
        let (now, subject) = (self.clock.now(), user.id.to_string());
        let after = replayed(&present.standing, &user.standing);
        let mut record = |event| lifted.acts.push(entry(event, &subject, now));
        if act.replay_password(user).await? {
            record(Event::PasswordChanged);
        }
        if after.status.0 != Status::Deleted {
            act.replay_factors(later, user.id).await?;
        }
        if after == present.standing {
            return Ok(());
        }
        if after.role != present.standing.role {
            record(Event::RoleChanged);
        }
        if after.mfa_since != present.standing.mfa_since {
            record(if after.mfa_since.is_some() { Event::MfaEnabled } else { Event::MfaDisabled });
        }
        if after.status != present.standing.status {
            let deleted = after.status.0 == Status::Deleted;
            record(if deleted { Event::UserDeleted } else { Event::UserDeactivated });
        }
        let by = (&By::Operator, &Origin::default());
        lifted.acts.extend(self.change_standing(act, by, &present, &after, now).await?);
        Ok(())
    }

    /// A key in place of each that was withdrawn since, made before the act.
    async fn spares_for(&self, since: &Since) -> Result<Vec<StoredKey>, Failure> {
        let Some(later) = &since.later else { return Ok(Vec::new()) };
        let withdrawn = later.read().await?.withdrawn_keys().await?;
        let mut spares = Vec::new();
        for key in self.keys_on_record().await? {
            if key.life.withdrawn_at.is_none() && withdrawn.contains(&key.kid) {
                spares.push(self.maker.spare(key.algorithm).await?);
            }
        }
        Ok(spares)
    }

    /// Withdraws the signing keys that were withdrawn since: they may be in the wrong hands.
    async fn replay_keys(
        &self,
        act: &mut Act,
        later: &mut Tx,
        mut spares: Vec<StoredKey>,
        lifted: &mut Lifted,
    ) -> Result<(), Failure> {
        let now = self.clock.now();
        for kid in later.withdrawn_keys().await? {
            let present = keys_of(act).await?;
            let Some(key) = present.iter().find(|k| k.kid == kid) else { continue };
            let withdrawal = match keys::withdraw(&present, key, now) {
                Ok(withdrawal) => withdrawal,
                Err(KeyRefused::Over) => continue,
                Err(_) => return Err(LiftRefused::KeyStays(kid).into()),
            };
            let spare = spares.iter().position(|s| s.key.algorithm == key.algorithm);
            let spare = spares.swap_remove(spare.ok_or(Failure::Conflict)?);
            let entry = entry(Event::KeyWithdrawn, &kid, now);
            lifted.acts.push(self.carry_out_withdrawal(act, (key, &withdrawal, spare), entry, now).await?);
        }
        Ok(())
    }
}

async fn keys_of(act: &mut Act) -> Result<Vec<keys::SigningKey>, Failure> {
    Ok(act.signing_keys().await?.into_iter().map(|stored| stored.key).collect())
}

/// All credentials that would work, or be suspended, if the hold were lifted now.
///
/// # Errors
/// The database's.
pub(crate) async fn all_held(tx: &mut Tx, now: jiff::Timestamp) -> Result<Vec<HeldCredential>, Failure> {
    let mut all: Vec<HeldCredential> = Vec::new();
    loop {
        let after = all.last().map_or("", |held| held.client_id.as_str()).to_owned();
        let page = tx.held_credentials(now, &after, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// Refuses a database that is not a later state of the one on hold: of another installation, or one that
/// went on neither from the last record before the hold nor from one before that. The latter is an old
/// primary, when the new one acknowledged something before it was put on hold.
async fn is_later(act: &mut Act, later: &mut Tx, hold: Hold) -> Result<(), Failure> {
    let (here, there) = (act.installation().await?, later.installation().await?);
    let same = matches!((&here, &there), (Some(here), Some(there)) if here.name == there.name);
    let common = act.common_with(later, hold.after).await?;
    let went_on = common.is_some_and(|(common, last)| common == hold.after || last > common);
    if same && went_on { Ok(()) } else { Err(LiftRefused::NotLater.into()) }
}
