//! Changing one's own second factors: adding them, which turns MFA on, and taking them away,
//! which asks for one. Each change is one act, and the session goes on under a new id.

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::{Standing, User},
    audit::{Entry, Event},
    credentials::Effect,
    mfa::{
        self, Factors, MfaRefused,
        passkey::{MOST, PasskeyName},
        recovery::{HOW_MANY, RecoveryCode},
        totp::{AppCode, AuthenticatorApp},
    },
    secret::SecretText,
};
use portcullis_store::{Act, Purpose, StoreError, StoredPasskey};
use uuid::Uuid;

use crate::{
    app::{
        App, Caller, Via,
        ceremonies::Kind,
        credentials::present,
        passkeys::{Made, Making, Question},
        second_factor::Proof,
        sessions::Counters,
    },
    error::Failure,
};

/// A secret that nobody confirmed is shown again for so long; then another is made.
const PROPOSAL_LASTS: SignedDuration = SignedDuration::from_mins(30);

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

/// A change that takes something away, or makes signing in easier: it asks for a second factor.
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
}

impl Change {
    /// What the audit log calls it.
    #[must_use]
    pub fn event(self, factors: Factors) -> Event {
        let after = match self {
            Self::TurnOff => return Event::MfaDisabled,
            Self::NewCodes => return Event::RecoveryCodesMade,
            Self::PasskeyAlone(_) => return Event::MfaChanged,
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
        }
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
}

/// What a factor is added with.
struct Adding<'a> {
    factor: &'static str,
    name: Option<&'a str>,
    /// The Client ID that the person agreed to suspend.
    agreed: Option<&'a str>,
}

fn with_mfa(standing: &Standing, since: Option<Timestamp>) -> Standing {
    Standing { mfa_since: since, ..standing.clone() }
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

    /// The app that the caller is to confirm: the same one again while it is young.
    ///
    /// # Errors
    /// [`Failure::Mfa`] with the rule that refuses.
    pub async fn propose_app(&self, caller: &Caller) -> Result<AuthenticatorApp, Failure> {
        let (id, now) = (caller.user.id, self.clock.now());
        mfa::manage(&caller.actor, &caller.user.standing, now)?;
        let mut tx = self.store.write().await?;
        if let Some(stored) = tx.authenticator_app(id).await? {
            if stored.confirmed_at.is_some() {
                return Err(MfaRefused::AppAlready.into());
            }
            if now < stored.made_at + PROPOSAL_LASTS {
                return self.opened_app(id, &stored.secret);
            }
        }
        let app = AuthenticatorApp::new(self.clock.random());
        let sealed = self.store.keys().seal(Purpose::Totp, &id.to_string(), app.expose(), self.clock.random());
        if !tx.propose_app(id, &sealed, now).await? {
            return Err(MfaRefused::AppAlready.into());
        }
        tx.commit().await?;
        Ok(app)
    }

    /// Makes the proposed app a factor, with its first code.
    ///
    /// # Errors
    /// [`Failure::WrongCode`], or [`Failure::Mfa`] with the rule that refuses.
    pub async fn confirm_app(
        &self,
        caller: &Caller,
        typed: &str,
        agreed: Option<&str>,
    ) -> Result<Changed, Failure> {
        let (mut act, caller) = self.begin_change(caller, Event::MfaEnabled).await?;
        let (id, now) = (caller.user.id, self.clock.now());
        let stored = act.authenticator_app(id).await?.ok_or(Failure::StepOver)?;
        if stored.confirmed_at.is_some() {
            return Err(MfaRefused::AppAlready.into());
        }
        let app = self.opened_app(id, &stored.secret)?;
        let step = AppCode::parse(typed).and_then(|code| app.step_of(&code, now));
        let step = step.ok_or(Failure::WrongCode)?;
        let before = act.factors(id).await?;
        if !act.confirm_app(id, step, now).await? {
            return Err(Failure::WrongCode);
        }
        let adding = Adding { factor: "authenticator_app", name: None, agreed };
        self.add_factor(act, &caller, before, &adding, now).await
    }

    /// Asks the caller's browser for a new passkey: the secret of the ceremony, and the question.
    ///
    /// # Errors
    /// [`Failure::Mfa`] with the rule that refuses; [`Failure::NotFound`] where there can be none.
    pub async fn ask_for_passkey(&self, caller: &Caller) -> Result<(SecretText, String), Failure> {
        mfa::manage(&caller.actor, &caller.user.standing, self.clock.now())?;
        let mut tx = self.store.write().await?;
        let held = tx.passkeys(caller.user.id).await?;
        if held.len() >= MOST {
            return Err(MfaRefused::TooManyPasskeys.into());
        }
        let asked = self.passkeys.ask_for_new(&caller.user, &held)?;
        let secret = self.begin(&mut tx, Kind::PasskeyMaking, Some(caller.user.id), &asked.remembered).await?;
        tx.commit().await?;
        Ok((secret, asked.options))
    }

    /// Adds the passkey that the browser made.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for the name, [`Failure::StepOver`], [`Failure::WrongPasskey`], or
    /// [`Failure::Mfa`] with the rule that refuses.
    pub async fn add_passkey(
        &self,
        caller: &Caller,
        secret: Option<&str>,
        answer: &str,
        name: &str,
        agreed: Option<&str>,
    ) -> Result<Changed, Failure> {
        let name = PasskeyName::parse(name)?;
        let (mut act, caller) = self.begin_change(caller, Event::MfaEnabled).await?;
        let (id, now) = (caller.user.id, self.clock.now());
        let secret = secret.ok_or(Failure::StepOver)?;
        let taken = self.take::<Making>(&mut act, Kind::PasskeyMaking, secret).await?;
        let (_, making) = taken.filter(|(user, _)| *user == Some(id)).ok_or(Failure::StepOver)?;
        let Ok(Made { credential_id, passkey }) = self.passkeys.made(&making, answer)? else {
            let entry = Entry::done(now, caller.by(), &caller.origin, Event::MfaChanged, id.to_string());
            act.commit(&[entry.refused("wrong_passkey")]).await?;
            return Err(Failure::WrongPasskey);
        };
        let before = act.factors(id).await?;
        if before.passkeys >= MOST {
            return Err(MfaRefused::TooManyPasskeys.into());
        }
        let stored = StoredPasskey {
            id: self.clock.id(),
            user: id,
            credential_id,
            name: name.as_str().to_owned(),
            passkey,
            made_at: now,
            used_at: None,
        };
        act.add_passkey(&stored).await.map_err(|error| match error {
            StoreError::Conflict(_) => Failure::WrongPasskey,
            other => other.into(),
        })?;
        let adding = Adding { factor: "passkey", name: Some(name.as_str()), agreed };
        self.add_factor(act, &caller, before, &adding, now).await
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
        let now = self.clock.now();
        let record = |event| Entry::done(now, caller.by(), &caller.origin, event, caller.user.id.to_string());
        let before = self.store.read().await?.factors(caller.user.id).await?;
        if mfa::manage(&caller.actor, &caller.user.standing, now).is_ok() {
            self.count_attempt(&caller.user.email, &caller.origin, now, &record(change.event(before))).await?;
        }
        let (mut act, caller) = self.begin_change(caller, change.event(before)).await?;
        let user = &caller.user;
        let before = act.factors(user.id).await?;
        if user.standing.mfa_since.is_none() {
            return Err(MfaRefused::NotOn.into());
        }
        let question = match (proof, secret) {
            (Proof::Passkey(_), Some(secret)) => {
                let taken = self.take::<Question>(&mut act, Kind::PasskeyStepUp, secret).await?;
                taken.filter(|(of, _)| *of == Some(user.id)).map(|(_, question)| question)
            }
            _ => None,
        };
        let entry = record(change.event(before));
        let proven = match self.prove(&mut act, user, proof, question, now).await? {
            Ok(proven) => proven,
            Err(why) => {
                act.commit(&[entry.refused(why)]).await?;
                return Err(Failure::WrongCode);
            }
        };
        let (what, which) = change.detail();
        let mut entry = entry.with("second_factor", proven.with).with(what, which);
        let mut codes = None;
        match change {
            Change::TurnOff => {}
            Change::RemoveApp if act.remove_app(user.id).await? => {}
            Change::RemovePasskey(id) => {
                let name = act.passkeys(user.id).await?.into_iter().find(|p| p.id == id).map(|p| p.name);
                entry = entry.with("passkey", name.ok_or(MfaRefused::Gone)?);
                act.remove_passkey(user.id, id).await?;
            }
            Change::RemoveApp => return Err(MfaRefused::Gone.into()),
            Change::NewCodes => codes = Some(self.new_codes(&mut act, user, now).await?),
            Change::PasskeyAlone(allowed) => act.set_passkey_alone(user.id, allowed).await?,
        }
        let mut entries = vec![entry];
        let on = change != Change::TurnOff && act.factors(user.id).await?.is_on();
        if !on {
            act.remove_factors(user.id).await?;
            let after = with_mfa(&user.standing, None);
            entries
                .extend(self.change_standing(&mut act, (&caller.by(), &caller.origin), user, &after, now).await?);
        }
        Counters::new(self, &user.email, &caller.origin).forget(&mut act).await?;
        let session = self.renewed(&mut act, &caller).await?;
        act.commit(&entries).await?;
        Ok(Changed { session, on, codes })
    }

    /// Opens the act of a change, and refuses on record whom the rule refuses.
    async fn begin_change(&self, caller: &Caller, event: Event) -> Result<(Act, Caller), Failure> {
        let mut act = self.store.act().await?;
        // First of all, for the change may stop tokens (C-11).
        act.hold_tokens().await?;
        let caller = present(self, &mut act, caller).await?;
        let now = self.clock.now();
        if let Err(why) = mfa::manage(&caller.actor, &caller.user.standing, now) {
            let subject = caller.user.id.to_string();
            let entry = Entry::done(now, caller.by(), &caller.origin, event, subject);
            act.commit(&[entry.refused(why.code())]).await?;
            return Err(why.into());
        }
        Ok((act, caller))
    }

    /// What follows from a factor that was added: the first turns MFA on, suspends the credential
    /// (C-9), makes recovery codes, and ends the user's other sessions, opened without it.
    async fn add_factor(
        &self,
        mut act: Act,
        caller: &Caller,
        before: Factors,
        adding: &Adding<'_>,
        now: Timestamp,
    ) -> Result<Changed, Failure> {
        let Via::Session { session, .. } = &caller.via else { return Err(MfaRefused::ByToken.into()) };
        let (user, handle) = (&caller.user, session.handle);
        let record = |event| {
            let entry = Entry::done(now, caller.by(), &caller.origin, event, user.id.to_string());
            let entry = entry.with("added", adding.factor);
            adding.name.map_or_else(|| entry.clone(), |name| entry.clone().with("passkey", name))
        };
        let (mut entries, mut codes) = (Vec::new(), None);
        if user.standing.mfa_since.is_some() && before.is_on() {
            entries.push(record(Event::MfaChanged));
        } else {
            let after = with_mfa(&user.standing, Some(now));
            let held = act.held_credential(user.id).await?;
            let suspended =
                held.filter(|c| matches!(c.effect(&user.standing, &after, now), Some(Effect::Suspended(_))));
            if suspended.is_some_and(|c| adding.agreed != Some(c.client_id.as_str())) {
                return Err(MfaRefused::SuspendsCredential.into());
            }
            let ended = act.end_other_sessions(user.id, handle).await?;
            entries.push(record(Event::MfaEnabled).with("other_sessions_ended", ended.to_string()));
            entries
                .extend(self.change_standing(&mut act, (&caller.by(), &caller.origin), user, &after, now).await?);
            codes = Some(self.new_codes(&mut act, user, now).await?);
        }
        let session = self.renewed(&mut act, caller).await?;
        act.commit(&entries).await?;
        Ok(Changed { session, on: true, codes })
    }

    async fn new_codes(&self, act: &mut Act, user: &User, now: Timestamp) -> Result<Vec<RecoveryCode>, Failure> {
        let codes: Vec<RecoveryCode> = (0..HOW_MANY).map(|_| RecoveryCode::new(self.clock.random())).collect();
        let digests: Vec<[u8; 32]> =
            codes.iter().map(|c| self.mac(Purpose::RecoveryCode, c.expose().as_bytes())).collect();
        act.set_recovery_codes(user.id, &digests, now).await?;
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
