//! Signing keys: made when an API selects their algorithm, taking over from each other by schedule or
//! by hand, withdrawn at once when one was compromised (protocol 26). Each act is done once, whichever
//! node does it, and every node sees it with its next request: [`Signer`].

mod material;
mod rewrap;
mod seen;
mod signer;

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    audit::{By, Entry, Event, Origin},
    keys::{self, Algorithm, KeyRefused, Life, Rotation, SigningKey, State, Withdrawal},
    secret::ExposeSecret,
};
use portcullis_store::{Act, Purpose, Store, StoredKey};

use crate::{
    app::{App, Caller, turns::Job},
    clock::Clock,
    config::Config,
    error::Failure,
};
pub use rewrap::Rewrapped;
pub use signer::{Claimed, KeySet, Signer, own_audience, signing_input};

/// Keys that are out of the key set stay in the list so long.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Who acts on keys.
#[derive(Clone, Copy)]
pub enum Doer<'a> {
    /// Somebody who is signed in.
    Caller(&'a Caller),
    /// The operator, at the command line of the machine.
    Operator,
}

/// Makes keys.
#[derive(Clone)]
pub(crate) struct Maker {
    store: Store,
    clock: Clock,
    rsa_bits: u32,
    own_lifespan: u32,
}

impl Maker {
    pub(crate) fn new(store: &Store, clock: &Clock, config: &Config) -> Self {
        let (store, clock) = (store.clone(), clock.clone());
        Self { store, clock, rsa_bits: config.rsa_key_bits, own_lifespan: config.token_lifespan_seconds }
    }

    /// A key that is on record nowhere yet. Made before the act it is for: an RSA key takes its time.
    pub(crate) async fn spare(&self, algorithm: Algorithm) -> Result<StoredKey, Failure> {
        let bits = self.rsa_bits;
        let making = tokio::task::spawn_blocking(move || material::make(algorithm, bits));
        let (document, public) = making.await.map_err(|e| material::refused(&e.to_string()))??;
        let kid = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, public.thumbprint());
        let seal = |purpose, plain: &[u8]| self.store.keys().seal(purpose, &kid, plain, self.clock.random());
        let sealed = Some(seal(Purpose::SigningKey, document.expose_secret()));
        let public = Some(seal(Purpose::PublicKey, public.canonical().as_bytes()));
        let life = Life::new(self.clock.now(), None);
        Ok(StoredKey { key: SigningKey { kid, algorithm, life, longest_seconds: 0 }, public, sealed })
    }

    /// As many keys as an algorithm lacks of those it needs: one that signs and one that is published.
    pub(crate) async fn spares(&self, algorithm: Algorithm) -> Result<Vec<StoredKey>, Failure> {
        let present = key_facts(self.store.read().await?.key_set(self.clock.now()).await?.1);
        let mut spares = Vec::new();
        for _ in missing(&present, algorithm, self.clock.now()) {
            spares.push(self.spare(algorithm).await?);
        }
        Ok(spares)
    }

    /// Publishes a key from now on.
    async fn add(
        &self,
        act: &mut Act,
        mut spare: StoredKey,
        state: State,
        now: Timestamp,
    ) -> Result<String, Failure> {
        // Not less than the others have it: a command may have been given another lifespan than the server.
        let others = key_facts(act.key_set(now).await?.1).iter().map(|k| k.longest_seconds).max();
        let own = self.own_lifespan.max(others.unwrap_or(0));
        let longest = act.longest_lifespan().await?.unwrap_or(0).max(own);
        spare.key.life = Life::new(now, (state == State::Active).then_some(now));
        spare.key.longest_seconds = longest;
        act.add_signing_key(&spare).await?;
        Ok(spare.key.kid)
    }

    /// Puts spare keys where an algorithm lacks one, and gives the records of it. The first key of an
    /// algorithm signs at once: nothing else could.
    pub(crate) async fn complete(
        &self,
        act: &mut Act,
        algorithm: Algorithm,
        mut spares: Vec<StoredKey>,
        (by, origin): (&By, &Origin),
    ) -> Result<Vec<Entry>, Failure> {
        let now = self.clock.now();
        let present = key_facts(act.key_set(now).await?.1);
        let mut entries = Vec::new();
        for state in missing(&present, algorithm, now) {
            let spare = spares.pop().ok_or(Failure::Conflict)?;
            let kid = self.add(act, spare, state, now).await?;
            let entry = Entry::done(now, by.clone(), origin, Event::KeyCreated, kid);
            entries.push(entry.with("algorithm", algorithm.code()).with("state", state.code()));
        }
        Ok(entries)
    }

    /// Sees to it that every algorithm in use has its keys, and that each key has its public part: at
    /// start, for databases that are new or from before.
    pub(crate) async fn prepare(&self) -> Result<(), Failure> {
        let mut tx = self.store.write().await?;
        for StoredKey { key, public, sealed } in tx.signing_keys().await? {
            let (None, Some(sealed)) = (public, sealed) else { continue };
            let document = self.store.keys().open(Purpose::SigningKey, &key.kid, &sealed)?;
            let public = material::Pair::open(key.algorithm, document.expose_secret())?.public().canonical();
            let random = self.clock.random();
            let public = self.store.keys().seal(Purpose::PublicKey, &key.kid, public.as_bytes(), random);
            tx.set_public_key(&key.kid, &public).await?;
        }
        tx.note_lifespan(self.own_lifespan).await?;
        let selected = tx.apis().await?;
        tx.commit().await?;
        for algorithm in Algorithm::ALL.iter().copied() {
            let used = algorithm == Algorithm::Es256 || selected.iter().any(|a| a.settings.algorithm == algorithm);
            let spares = if used { self.spares(algorithm).await? } else { Vec::new() };
            if spares.is_empty() {
                continue;
            }
            // In an act, so that of several nodes that start at once one makes the keys.
            // Also on hold: without keys the server does not start, and the hold could not be lifted.
            let mut act = self.store.act_on_hold().await?;
            let entries = self.complete(&mut act, algorithm, spares, (&By::Server, &Origin::default())).await?;
            if !entries.is_empty() {
                act.commit(&entries).await?;
            }
        }
        Ok(())
    }
}

fn key_facts(stored: Vec<StoredKey>) -> Vec<SigningKey> {
    stored.into_iter().map(|s| s.key).collect()
}

/// Which of the two keys an algorithm lacks.
fn missing(keys: &[SigningKey], algorithm: Algorithm, now: Timestamp) -> Vec<State> {
    let has = |state| keys.iter().any(|k| k.algorithm == algorithm && k.life.state(now) == state);
    [State::Active, State::Upcoming].into_iter().filter(|state| !has(*state)).collect()
}

/// How long one ES256 signature takes on this machine, on average over a few. The key is made for it and
/// forgotten.
///
/// # Errors
/// [`Failure::Internal`] when the library refuses.
pub(crate) fn signing_time(clock: &Clock) -> Result<SignedDuration, Failure> {
    const TIMES: i32 = 100;
    let (document, _) = material::make(Algorithm::Es256, 0)?;
    let pair = material::Pair::open(Algorithm::Es256, document.expose_secret())?;
    let began = clock.now();
    for _ in 0..TIMES {
        pair.sign(b"how long does it take")?;
    }
    Ok(clock.now().duration_since(began) / TIMES)
}

/// Looks whether keys are to take over from each other or have retired, until the process ends.
pub async fn run(app: Arc<App>) {
    let quarter = app.config.keys.publish_ahead.as_millis() / 4;
    let pause = Duration::from_millis(u64::try_from(quarter).unwrap_or(0).clamp(100, 60_000));
    let every = SignedDuration::try_from(pause / 2).unwrap_or(SignedDuration::ZERO);
    loop {
        if let Err(failure) = app.in_turn(Job::Keys, every, Box::pin(app.tend_keys())).await {
            failure.log();
            tracing::warn!(%failure, "signing keys were not looked after; trying again soon");
        }
        tokio::time::sleep(pause).await;
    }
}

impl App {
    /// All signing keys on record, the latest first.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`].
    pub async fn signing_keys(&self, doer: Doer<'_>) -> Result<Vec<SigningKey>, Failure> {
        if let Doer::Caller(caller) = doer {
            caller.super_admin()?;
        }
        let mut keys = self.keys_on_record().await?;
        keys.reverse();
        Ok(keys)
    }

    /// The same for the server itself, the oldest first.
    pub(crate) async fn keys_on_record(&self) -> Result<Vec<SigningKey>, Failure> {
        Ok(key_facts(self.store.read().await?.signing_keys().await?))
    }

    /// An act on keys: while it lasts no token is issued, on any node. The operator's is done on hold, too.
    async fn key_act(&self, doer: Doer<'_>) -> Result<(Act, By, Origin), Failure> {
        match doer {
            Doer::Caller(caller) => {
                let (act, caller) = self.api_act(caller, true).await?;
                Ok((act, caller.by(), caller.origin))
            }
            Doer::Operator => {
                let mut act = self.store.act_on_hold().await?;
                act.hold_tokens().await?;
                Ok((act, By::Operator, Origin::default()))
            }
        }
    }

    /// Makes the upcoming key of an algorithm active. `at_once` does so even if it is not published for
    /// long enough. `seen` is the key that the caller saw signing: if it is another by now (a form that
    /// is sent again, say), nothing is done.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`KeyRefused::TooEarly`], [`KeyRefused::NotInUse`],
    /// [`Failure::Conflict`].
    pub async fn rotate_keys(
        &self,
        doer: Doer<'_>,
        algorithm: Algorithm,
        at_once: bool,
        seen: Option<&str>,
    ) -> Result<Rotation, Failure> {
        let schedule = &self.config.keys;
        // Before anything is made for it.
        keys::rotate(&self.signing_keys(doer).await?, algorithm, schedule, at_once, self.clock.now())?;
        let spare = self.maker.spare(algorithm).await?;
        let (mut act, by, origin) = self.key_act(doer).await?;
        let now = self.clock.now();
        let present = key_facts(act.key_set(now).await?.1);
        let rotation = keys::rotate(&present, algorithm, schedule, at_once, now)?;
        if seen.is_some_and(|seen| seen != rotation.retiring.0) {
            return Err(Failure::Conflict);
        }
        let entry = self.carry_out(&mut act, (algorithm, &rotation, spare), (by, &origin), now).await?;
        let entry = if at_once { entry.with("at_once", "yes") } else { entry };
        act.commit(&[entry]).await?;
        Ok(rotation)
    }

    /// Writes a rotation, and gives the record of it.
    async fn carry_out(
        &self,
        act: &mut Act,
        (algorithm, rotation, spare): (Algorithm, &Rotation, StoredKey),
        (by, origin): (By, &Origin),
        now: Timestamp,
    ) -> Result<Entry, Failure> {
        let (retiring, leaves_at) = &rotation.retiring;
        act.let_key_retire(retiring, now, *leaves_at).await?;
        act.activate_key(&rotation.active, now).await?;
        let upcoming = self.maker.add(act, spare, State::Upcoming, now).await?;
        Ok(Entry::done(now, by, origin, Event::KeyRotated, rotation.active.as_str())
            .with("algorithm", algorithm.code())
            .with("retiring", retiring.as_str())
            .with("retires_at", leaves_at.to_string())
            .with("upcoming", upcoming))
    }

    /// Takes a key out of the key set at once: from then on no node signs with it, and what it signed
    /// is refused. If it was the one that signs, the upcoming one does from then on.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`], [`KeyRefused::Over`], [`Failure::Invalid`]
    /// without a reason.
    pub async fn withdraw_key(&self, doer: Doer<'_>, kid: &str, reason: &str) -> Result<SigningKey, Failure> {
        let reason = keys::reason(reason)?;
        let found = |keys: &[SigningKey]| keys.iter().find(|k| k.kid == kid).cloned().ok_or(Failure::NotFound);
        let present = self.signing_keys(doer).await?;
        let key = found(&present)?;
        keys::withdraw(&present, &key, self.clock.now())?;
        let spare = self.maker.spare(key.algorithm).await?;
        let (mut act, by, origin) = self.key_act(doer).await?;
        let now = self.clock.now();
        let present = key_facts(act.signing_keys().await?);
        let key = found(&present)?;
        let withdrawal = keys::withdraw(&present, &key, now)?;
        let entry = Entry::done(now, by, &origin, Event::KeyWithdrawn, kid).with("reason", reason);
        let entry = self.carry_out_withdrawal(&mut act, (&key, &withdrawal, spare), entry, now).await?;
        act.commit(&[entry]).await?;
        Ok(key)
    }

    /// Writes a withdrawal, and gives the record of it.
    pub(crate) async fn carry_out_withdrawal(
        &self,
        act: &mut Act,
        (key, withdrawal, spare): (&SigningKey, &Withdrawal, StoredKey),
        entry: Entry,
        now: Timestamp,
    ) -> Result<Entry, Failure> {
        let mut entry = entry.with("algorithm", key.algorithm.code()).with("state", key.life.state(now).code());
        act.withdraw_key(&key.kid, now).await?;
        if let Some(active) = &withdrawal.active {
            act.activate_key(active, now).await?;
            entry = entry.with("active", active.as_str());
        }
        if withdrawal.needs_upcoming {
            entry = entry.with("upcoming", self.maker.add(act, spare, State::Upcoming, now).await?);
        }
        Ok(entry)
    }

    /// What time brings: rotations that are due, and keys whose last token has ended. Each is done
    /// once, whichever node comes first. On hold nothing is done (H-1).
    ///
    /// # Errors
    /// The database's; what was done before stays done.
    pub async fn tend_keys(&self) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut tx = self.store.read().await?;
        if tx.hold().await?.is_some() {
            return Ok(());
        }
        let present = key_facts(tx.key_set(now).await?.1);
        let retired = tx.has_retired_keys(now).await?;
        drop(tx);
        for algorithm in Algorithm::ALL.iter().copied() {
            if keys::is_due(&present, algorithm, &self.config.keys, now) {
                self.rotate_when_due(algorithm).await?;
            }
        }
        if retired { self.retire_keys().await } else { Ok(()) }
    }

    async fn rotate_when_due(&self, algorithm: Algorithm) -> Result<(), Failure> {
        let (schedule, origin) = (&self.config.keys, Origin::default());
        let spare = self.maker.spare(algorithm).await?;
        let mut act = self.store.act().await?;
        act.hold_tokens().await?;
        let now = self.clock.now();
        let present = key_facts(act.key_set(now).await?.1);
        // Another node may have been first.
        if !keys::is_due(&present, algorithm, schedule, now) {
            return Ok(());
        }
        let rotation = match keys::rotate(&present, algorithm, schedule, false, now) {
            Err(KeyRefused::TooEarly(_)) => return Ok(()),
            decided => decided?,
        };
        let entry = self.carry_out(&mut act, (algorithm, &rotation, spare), (By::Server, &origin), now).await?;
        Ok(act.commit(&[entry]).await?)
    }

    /// Puts on record which keys have left the key set.
    async fn retire_keys(&self) -> Result<(), Failure> {
        let mut act = self.store.act().await?;
        let now = self.clock.now();
        let entry = |kid: String| Entry::done(now, By::Server, &Origin::default(), Event::KeyRetired, kid);
        let entries: Vec<Entry> = act.take_retired_keys(now).await?.into_iter().map(entry).collect();
        if entries.is_empty() { Ok(()) } else { Ok(act.commit(&entries).await?) }
    }

    /// Drops the rows of keys that have been out of the key set for long; the audit log has the rest.
    pub(crate) async fn drop_keys(&self) -> Result<(), Failure> {
        let mut tx = self.store.write().await?;
        tx.drop_old_keys(self.clock.now() - KEPT).await?;
        Ok(tx.commit().await?)
    }
}
