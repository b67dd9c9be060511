//! Changing one's own second factors. The first one turns MFA on; from then on every change asks
//! for one, which is proven in one place. Each change is one act, and the session goes on under a
//! new id.

mod adding;

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{Standing, User},
    audit::{Entry, Event},
    credentials::Effect,
    mfa::{
        self, Factors, MfaRefused,
        passkey::MOST,
        recovery::{HOW_MANY, RecoveryCode},
    },
    secret::SecretText,
};
use portcullis_store::{Act, Purpose, StoredPasskey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    app::{
        App, Caller, Via,
        ceremonies::Kind,
        credentials::present,
        letters::{Factor, FactorsChange, Letter},
        passkeys::Question,
        second_factor::Proof,
        sessions::Counters,
    },
    error::Failure,
};

/// What General Settings shows of a user's second factors.
#[derive(Debug)]
pub struct MfaSettings {
    /// Since when MFA is on, if it is.
    pub since: Option<Timestamp>,
    /// When the app was confirmed, if there is one.
    pub app_since: Option<Timestamp>,
    /// The passkeys, the oldest first.
    pub passkeys: Vec<StoredPasskey>,
    /// How many recovery codes are left.
    pub codes_left: u32,
    /// Whether a passkey signs in without the password.
    pub passkey_alone: bool,
    /// Whether the factors may be changed now, and if not, why.
    pub may_change: Result<(), MfaRefused>,
    /// The Client ID of the credential that turning MFA on would suspend (C-9).
    pub suspends: Option<String>,
}

/// The kinds of second factors that can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Addition {
    /// An authenticator app.
    App,
    /// A passkey.
    Passkey,
}

/// A change while MFA is on: it asks for a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Turn MFA off.
    TurnOff,
    /// Remove the authenticator app.
    RemoveApp,
    /// Remove a passkey.
    RemovePasskey(Uuid),
    /// Make recovery codes anew.
    NewCodes,
    /// Let a passkey sign in without the password, or not any more.
    PasskeyAlone(bool),
    /// Begin to add another factor, in the same session and within five minutes.
    Add(Addition),
}

impl Change {
    /// What the audit log calls it.
    #[must_use]
    pub fn event(self, factors: Factors) -> Event {
        let after = match self {
            Self::TurnOff => return Event::MfaDisabled,
            Self::NewCodes => return Event::RecoveryCodesMade,
            Self::PasskeyAlone(_) => return Event::MfaChanged,
            Self::Add(_) => return Event::FactorConfirmed,
            Self::RemoveApp => factors.without_app(),
            Self::RemovePasskey(_) => factors.without_a_passkey(),
        };
        // Removing the last factor is turning off.
        if factors.is_on() && !after.is_on() { Event::MfaDisabled } else { Event::MfaChanged }
    }

    fn detail(self) -> (&'static str, &'static str) {
        match self {
            Self::TurnOff => ("removed", "all"),
            Self::RemoveApp => ("removed", "authenticator_app"),
            Self::RemovePasskey(_) => ("removed", "passkey"),
            Self::NewCodes => ("made", "recovery_codes"),
            Self::PasskeyAlone(true) => ("passkey_alone", "allowed"),
            Self::PasskeyAlone(false) => ("passkey_alone", "not_allowed"),
            Self::Add(Addition::App) => ("to_add", "authenticator_app"),
            Self::Add(Addition::Passkey) => ("to_add", "passkey"),
        }
    }

    /// Whether there is something to change for a user who has MFA on or not, an app or none, and these
    /// passkeys: the name of the passkey that it is about, if it is about one.
    ///
    /// # Errors
    /// The reason why not.
    pub fn possible(self, on: bool, app: bool, passkeys: &[StoredPasskey]) -> Result<Option<&str>, MfaRefused> {
        match self {
            _ if !on => Err(MfaRefused::NotOn),
            Self::RemovePasskey(id) => {
                let found = passkeys.iter().find(|p| p.id == id);
                found.map(|p| Some(p.name.as_str())).ok_or(MfaRefused::Gone)
            }
            Self::RemoveApp if !app => Err(MfaRefused::Gone),
            Self::PasskeyAlone(true) if passkeys.is_empty() => Err(MfaRefused::NoPasskey),
            Self::Add(Addition::App) if app => Err(MfaRefused::AppAlready),
            Self::Add(Addition::Passkey) if passkeys.len() >= MOST => Err(MfaRefused::TooManyPasskeys),
            _ => Ok(None),
        }
    }

    /// What the user is told by mail, if something was changed. `passkey` is the name of the one that
    /// was removed; `on`, whether MFA is on still.
    fn told(self, passkey: Option<&str>, on: bool) -> Option<FactorsChange<'_>> {
        let removed =
            |factor| if on { FactorsChange::Removed(factor) } else { FactorsChange::RemovedLast(factor) };
        Some(match self {
            Self::TurnOff => FactorsChange::TurnedOff,
            Self::RemoveApp => removed(Factor::App),
            Self::RemovePasskey(_) => removed(Factor::Passkey(passkey.unwrap_or_default())),
            Self::NewCodes => FactorsChange::NewCodes,
            Self::PasskeyAlone(allowed) => FactorsChange::PasskeyAlone(allowed),
            Self::Add(_) => return None,
        })
    }
}

/// A change that was made.
pub struct Changed {
    /// The new id of the session.
    pub session: SecretText,
    /// Whether MFA is on now.
    pub on: bool,
    /// Recovery codes, if they were made: shown once.
    pub codes: Option<Vec<RecoveryCode>>,
    /// The secret of the ceremony in which a factor is added, if that is what was begun.
    pub begun: Option<SecretText>,
}

fn with_mfa(standing: &Standing, since: Option<Timestamp>) -> Standing {
    Standing { mfa_since: since, ..standing.clone() }
}

fn record(caller: &Caller, event: Event, now: Timestamp) -> Entry {
    Entry::done(now, caller.by(), &caller.origin, event, caller.user.id.to_string())
}

/// Puts a refusal on record, and gives it.
async fn refuse(act: Act, caller: &Caller, event: Event, why: MfaRefused, now: Timestamp) -> Failure {
    match act.commit(&[record(caller, event, now).refused(why.code())]).await {
        Ok(_) => why.into(),
        Err(error) => error.into(),
    }
}

impl App {
    /// What General Settings shows.
    ///
    /// # Errors
    /// The database's.
    pub async fn mfa_settings(&self, caller: &Caller) -> Result<MfaSettings, Failure> {
        let (user, now) = (&caller.user, self.clock.now());
        let on = with_mfa(&user.standing, Some(now));
        let suspended = |e: &Effect| matches!(e, Effect::Suspended(_));
        let foreseen = if user.standing.mfa_since.is_none() { Some(self.foresee(user, &on).await?) } else { None };
        let suspends = foreseen.filter(|f| f.effect.as_ref().is_some_and(suspended)).and_then(|f| f.held);
        let mut tx = self.store.read().await?;
        let app = tx.authenticator_app(user.id).await?;
        Ok(MfaSettings {
            since: user.standing.mfa_since,
            app_since: app.and_then(|a| a.confirmed_at),
            passkeys: tx.passkeys(user.id).await?,
            codes_left: tx.recovery_codes_left(user.id).await?,
            passkey_alone: tx.passkey_alone(user.id).await?,
            may_change: mfa::manage(&caller.actor, &user.standing, now),
            suspends: suspends.map(|c| c.client_id.as_str().to_owned()),
        })
    }

    /// A question for a passkey before a change, where the caller has one.
    ///
    /// # Errors
    /// The database's.
    pub async fn ask_before_change(&self, caller: &Caller) -> Result<Option<(SecretText, String)>, Failure> {
        let mut tx = self.store.write().await?;
        let Some(asked) = self.question_for(&mut tx, caller.user.id).await? else { return Ok(None) };
        let user = Some(caller.user.id);
        let secret = self.begin(&mut tx, Kind::PasskeyStepUp, user, &asked.remembered).await?;
        tx.commit().await?;
        Ok(Some((secret, asked.options)))
    }

    /// Makes a change that asks for a second factor. `secret` names the question for a passkey.
    ///
    /// # Errors
    /// [`Failure::WrongCode`], [`Failure::Locked`], or [`Failure::Mfa`] with the rule that refuses.
    pub async fn change_factors(
        &self,
        caller: &Caller,
        change: Change,
        proof: &Proof,
        secret: Option<&str>,
    ) -> Result<Changed, Failure> {
        let (mut act, caller, before) = self.begin_proof(caller, change).await?;
        let (user, now) = (&caller.user, self.clock.now());
        // Before the proof: a right one is consumed only by a change that is made.
        let passkeys = act.passkeys(user.id).await?;
        let target = match change.possible(user.standing.mfa_since.is_some(), before.app, &passkeys) {
            Ok(target) => target,
            Err(why) => return Err(refuse(act, &caller, change.event(before), why, now).await),
        };
        let question = match (proof, secret) {
            (Proof::Passkey(_), Some(secret)) => {
                let taken = self.take::<Question>(&mut act, Kind::PasskeyStepUp, secret).await?;
                taken.filter(|(of, _)| *of == Some(user.id)).map(|(_, question)| question)
            }
            _ => None,
        };
        let entry = record(&caller, change.event(before), now);
        let proven = match self.prove(&mut act, user, proof, question, now).await? {
            Ok(proven) => proven,
            Err(why) => {
                act.commit(&[entry.refused(why)]).await?;
                return Err(Failure::WrongCode);
            }
        };
        let (what, which) = change.detail();
        let mut entry = entry.with("second_factor", proven.with).with(what, which);
        if let Some(name) = target {
            entry = entry.with("passkey", name);
        }
        let (mut codes, mut begun) = (None, None);
        match change {
            Change::TurnOff => act.remove_factors(user.id).await?,
            Change::RemoveApp => act.remove_app(user.id).await.map(drop)?,
            Change::RemovePasskey(id) => act.remove_passkey(user.id, id).await.map(drop)?,
            Change::NewCodes => codes = Some(self.new_codes(&mut act, user, now).await?),
            Change::PasskeyAlone(allowed) => act.set_passkey_alone(user.id, allowed).await?,
            Change::Add(what) => begun = Some(self.begin_adding(&mut act, &caller, what).await?),
        }
        let on = act.factors(user.id).await?.is_on();
        let mut entries = vec![entry];
        entries.extend(self.after_change(&mut act, &caller, on, now).await?);
        if let Some(what) = change.told(target, on) {
            self.send(&mut act, user, &Letter::FactorsChanged { what, origin: &caller.origin, at: now }).await?;
        }
        Counters::new(self, &user.email, &caller.origin).forget(&mut act).await?;
        let session = self.renewed(&mut act, &caller).await?;
        act.commit(&entries).await?;
        Ok(Changed { session, on, codes, begun })
    }

    /// Counts the attempt at a second factor, and opens the act of the change only then: no factor is
    /// looked at uncounted. Whoever may not change factors is refused without being counted,
    /// and without another look at whether that is still so.
    async fn begin_proof(&self, caller: &Caller, change: Change) -> Result<(Act, Caller, Factors), Failure> {
        let now = self.clock.now();
        let event = change.event(self.store.read().await?.factors(caller.user.id).await?);
        if let Err(why) = mfa::manage(&caller.actor, &caller.user.standing, now) {
            return Err(refuse(self.store.act().await?, caller, event, why, now).await);
        }
        let entry = record(caller, event, now);
        self.count_attempt(&caller.user.email, &caller.origin, now, &entry).await?;
        let (mut act, caller) = self.begin_change(caller, event).await?;
        let before = act.factors(caller.user.id).await?;
        Ok((act, caller, before))
    }

    /// What follows when a change has left no factor: MFA is off, with all that comes of it.
    async fn after_change(
        &self,
        act: &mut Act,
        caller: &Caller,
        on: bool,
        now: Timestamp,
    ) -> Result<Vec<Entry>, Failure> {
        if on {
            return Ok(Vec::new());
        }
        act.remove_factors(caller.user.id).await?;
        let after = with_mfa(&caller.user.standing, None);
        self.change_standing(act, (&caller.by(), &caller.origin), &caller.user, &after, now).await
    }

    /// Opens the act of a change, and refuses on record whom the rule refuses.
    async fn begin_change(&self, caller: &Caller, event: Event) -> Result<(Act, Caller), Failure> {
        let mut act = self.store.act().await?;
        // First of all, for the change may stop tokens (C-11).
        act.hold_tokens().await?;
        let caller = present(self, &mut act, caller).await?;
        let now = self.clock.now();
        match mfa::manage(&caller.actor, &caller.user.standing, now) {
            Ok(()) => Ok((act, caller)),
            Err(why) => Err(refuse(act, &caller, event, why, now).await),
        }
    }

    async fn new_codes(&self, act: &mut Act, user: &User, now: Timestamp) -> Result<Vec<RecoveryCode>, Failure> {
        let codes: Vec<RecoveryCode> = (0..HOW_MANY).map(|_| RecoveryCode::new(self.clock.random())).collect();
        let key = self.store.digest_key(Purpose::RecoveryCode);
        let digests: Vec<[u8; 32]> = codes.iter().map(|c| key.mac(c.expose().as_bytes())).collect();
        act.set_recovery_codes(user.id, (key.id(), &digests), now).await?;
        Ok(codes)
    }

    /// The caller's session under a new id (protocol 30), with the password as recent as it was.
    async fn renewed(&self, act: &mut Act, caller: &Caller) -> Result<SecretText, Failure> {
        let Via::Session { digest, session } = &caller.via else { return Err(MfaRefused::ByToken.into()) };
        let (cookie, renewed) = self.new_secret();
        let password_at = session.password_at.ok_or(MfaRefused::PasswordNeeded)?;
        if !act.renew_session(digest, &renewed, password_at).await? {
            return Err(Failure::NotSignedIn);
        }
        Ok(cookie)
    }
}
