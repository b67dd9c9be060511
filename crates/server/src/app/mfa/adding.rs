//! Adding a second factor. The first one needs no other. While MFA is on, another second factor
//! is given before ([`Change::Add`]), which begins a ceremony of that session; the act that adds takes
//! it, and looks itself at whether MFA is on.

use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    audit::Event,
    credentials::Effect,
    mfa::{
        self, MfaRefused,
        passkey::{MOST, PasskeyName},
        totp::{AppCode, AuthenticatorApp},
    },
    secret::SecretText,
};
use portcullis_store::{Act, Purpose, StoreError, StoredApp, StoredPasskey, Tx};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[cfg(doc)]
use super::Change;
use super::{Addition, Changed, record, refuse, with_mfa};
use crate::{
    app::{
        App, Caller, Via,
        ceremonies::{Kind, instant, kept},
        letters::{Factor, FactorsChange, Letter},
        passkeys::{Made, Making},
    },
    error::Failure,
};

/// A secret that nobody confirmed is good for so long; then another is made.
const PROPOSAL_LASTS: SignedDuration = SignedDuration::from_mins(30);

/// What is remembered of a factor that is being added.
#[derive(Serialize, Deserialize)]
struct Adding {
    /// Which kind it is to be.
    what: Addition,
    /// The session it is added in, by its handle.
    session: Uuid,
    /// Since when MFA was on (microseconds, UTC) when a second factor was given for this; absent while
    /// it was off, and none was.
    proven_in: Option<i64>,
    /// The question for a new passkey, once it was asked.
    making: Option<Making>,
}

/// What was added, and the Client ID that the person agreed to suspend by it.
struct Added<'a> {
    factor: Factor<'a>,
    agreed: Option<&'a str>,
}

fn is_open(stored: &StoredApp, now: Timestamp) -> bool {
    now < stored.made_at + PROPOSAL_LASTS
}

fn proven_in(adding: Option<&Adding>) -> Option<Timestamp> {
    instant(adding.and_then(|a| a.proven_in))
}

impl App {
    /// Begins to add a factor, in the session and the state of MFA that the caller has: the secret of
    /// the ceremony.
    pub(super) async fn begin_adding(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        what: Addition,
    ) -> Result<SecretText, Failure> {
        if what == Addition::App {
            // A key that was shown before, to whomever, is not shown again.
            tx.remove_app(caller.user.id).await?;
        }
        self.begin_with(tx, caller, what, None).await
    }

    async fn begin_with(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        what: Addition,
        making: Option<Making>,
    ) -> Result<SecretText, Failure> {
        let Via::Session { session, .. } = &caller.via else { return Err(MfaRefused::ByToken.into()) };
        let proven_in = kept(caller.user.standing.mfa_since);
        let adding = Adding { what, session: session.handle, proven_in, making };
        self.begin(tx, Kind::FactorAdding, Some(caller.user.id), &adding).await
    }

    /// What the caller's session has begun to add, if the secret names that, held for this transaction.
    async fn adding(
        &self,
        tx: &mut Tx,
        caller: &Caller,
        what: Addition,
        secret: Option<&str>,
    ) -> Result<Option<Adding>, Failure> {
        let (Some(secret), Via::Session { session, .. }) = (secret, &caller.via) else { return Ok(None) };
        let found = self.held::<Adding>(tx, Kind::FactorAdding, secret).await?;
        let own = found.filter(|(user, _)| *user == Some(caller.user.id)).map(|(_, adding)| adding);
        Ok(own.filter(|a| a.session == session.handle && a.what == what))
    }

    /// Opens the act that adds a factor, and refuses on record whom a rule refuses.
    async fn begin_addition(
        &self,
        caller: &Caller,
        what: Addition,
        secret: Option<&str>,
    ) -> Result<(Act, Caller, Option<Adding>), Failure> {
        let (mut act, caller) = self.begin_change(caller, Event::MfaEnabled).await?;
        let adding = self.adding(&mut act, &caller, what, secret).await?;
        match mfa::add(&caller.user.standing, proven_in(adding.as_ref())) {
            Ok(()) => Ok((act, caller, adding)),
            Err(why) => Err(refuse(act, &caller, Event::MfaChanged, why, self.clock.now()).await),
        }
    }

    /// Ends what was begun: what adds a factor takes it, so that one proof adds one factor.
    async fn end_adding(
        &self,
        act: &mut Act,
        adding: Option<&Adding>,
        secret: Option<&str>,
    ) -> Result<(), Failure> {
        let (Some(_), Some(secret)) = (adding, secret) else { return Ok(()) };
        self.take::<Adding>(act, Kind::FactorAdding, secret).await?.map(drop).ok_or(Failure::StepOver)
    }

    /// The app that the caller is to confirm: the same one again while it is young. `secret` names what
    /// was begun with another factor, where that is needed.
    ///
    /// # Errors
    /// [`Failure::Mfa`] with the rule that refuses.
    pub async fn propose_app(&self, caller: &Caller, secret: Option<&str>) -> Result<AuthenticatorApp, Failure> {
        let (id, now) = (caller.user.id, self.clock.now());
        mfa::manage(&caller.actor, &caller.user.standing, now)?;
        let mut tx = self.store.write().await?;
        let stored = tx.authenticator_app(id).await?;
        if stored.as_ref().is_some_and(|app| app.confirmed_at.is_some()) {
            return Err(MfaRefused::AppAlready.into());
        }
        let adding = self.adding(&mut tx, caller, Addition::App, secret).await?;
        mfa::add(&caller.user.standing, proven_in(adding.as_ref()))?;
        if let Some(stored) = stored.filter(|app| is_open(app, now)) {
            return self.opened_app(id, &stored.secret);
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
    /// [`Failure::WrongCode`], [`Failure::StepOver`] when the proposal is too old, or [`Failure::Mfa`]
    /// with the rule that refuses.
    pub async fn confirm_app(
        &self,
        caller: &Caller,
        secret: Option<&str>,
        typed: &str,
        agreed: Option<&str>,
    ) -> Result<Changed, Failure> {
        let (mut act, caller, adding) = self.begin_addition(caller, Addition::App, secret).await?;
        let (id, now) = (caller.user.id, self.clock.now());
        let stored = act.authenticator_app(id).await?.ok_or(Failure::StepOver)?;
        if stored.confirmed_at.is_some() {
            return Err(MfaRefused::AppAlready.into());
        }
        if !is_open(&stored, now) {
            return Err(Failure::StepOver);
        }
        let app = self.opened_app(id, &stored.secret)?;
        let step = AppCode::parse(typed).and_then(|code| app.step_of(&code, now));
        let step = step.ok_or(Failure::WrongCode)?;
        if !act.confirm_app(id, stored.made_at, step, now).await? {
            return Err(Failure::WrongCode);
        }
        self.end_adding(&mut act, adding.as_ref(), secret).await?;
        self.add_factor(act, &caller, &Added { factor: Factor::App, agreed }, now).await
    }

    /// Asks the caller's browser for a new passkey: the secret of the ceremony, and the question.
    /// `secret` names what was begun with another factor, where that is needed; it goes on then.
    ///
    /// # Errors
    /// [`Failure::Mfa`] with the rule that refuses; [`Failure::NotFound`] where there can be none.
    pub async fn ask_for_passkey(
        &self,
        caller: &Caller,
        secret: Option<&str>,
    ) -> Result<(SecretText, String), Failure> {
        mfa::manage(&caller.actor, &caller.user.standing, self.clock.now())?;
        let mut tx = self.store.write().await?;
        let held = tx.passkeys(caller.user.id).await?;
        if held.len() >= MOST {
            return Err(MfaRefused::TooManyPasskeys.into());
        }
        let asked = self.passkeys.ask_for_new(&caller.user, &held)?;
        let adding = self.adding(&mut tx, caller, Addition::Passkey, secret).await?;
        mfa::add(&caller.user.standing, proven_in(adding.as_ref()))?;
        let making = Some(asked.remembered);
        let secret = match (adding, secret) {
            // Never longer than from when the factor was given.
            (Some(adding), Some(secret)) if adding.proven_in.is_some() => {
                self.keep(&mut tx, Kind::FactorAdding, secret, &Adding { making, ..adding }).await?;
                secret.into()
            }
            _ => self.begin_with(&mut tx, caller, Addition::Passkey, making).await?,
        };
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
        let (mut act, caller, adding) = self.begin_addition(caller, Addition::Passkey, secret).await?;
        let (id, now) = (caller.user.id, self.clock.now());
        let (Some(mut adding), Some(begun)) = (adding, secret) else { return Err(Failure::StepOver) };
        let making = adding.making.take().ok_or(Failure::StepOver)?;
        let Ok(Made { credential_id, passkey }) = self.passkeys.made(&making, answer)? else {
            // Each question takes one answer; what was proven before it stays.
            self.keep(&mut act, Kind::FactorAdding, begun, &adding).await?;
            act.commit(&[record(&caller, Event::MfaChanged, now).refused("wrong_passkey")]).await?;
            return Err(Failure::WrongPasskey);
        };
        if act.factors(id).await?.passkeys >= MOST {
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
        self.end_adding(&mut act, Some(&adding), secret).await?;
        self.add_factor(act, &caller, &Added { factor: Factor::Passkey(name.as_str()), agreed }, now).await
    }

    /// What follows from a factor that was added: the first turns MFA on, suspends the credential
    /// (C-9), makes recovery codes, and ends the user's other sessions, opened without it.
    async fn add_factor(
        &self,
        mut act: Act,
        caller: &Caller,
        added: &Added<'_>,
        now: Timestamp,
    ) -> Result<Changed, Failure> {
        let Via::Session { session, .. } = &caller.via else { return Err(MfaRefused::ByToken.into()) };
        let (user, handle) = (&caller.user, session.handle);
        let record = |event| {
            let entry = record(caller, event, now);
            match added.factor {
                Factor::App => entry.with("added", "authenticator_app"),
                Factor::Passkey(name) => entry.with("added", "passkey").with("passkey", name),
            }
        };
        let (mut entries, mut codes) = (Vec::new(), None);
        let what = if user.standing.mfa_since.is_some() {
            entries.push(record(Event::MfaChanged));
            FactorsChange::Added(added.factor)
        } else {
            let after = with_mfa(&user.standing, Some(now));
            let held = act.held_credential(user.id).await?;
            let suspended =
                held.filter(|c| matches!(c.effect(&user.standing, &after, now), Some(Effect::Suspended(_))));
            if suspended.is_some_and(|c| added.agreed != Some(c.client_id.as_str())) {
                return Err(MfaRefused::SuspendsCredential.into());
            }
            let ended = act.end_other_sessions(user.id, handle).await?;
            entries.push(record(Event::MfaEnabled).with("other_sessions_ended", ended.to_string()));
            entries
                .extend(self.change_standing(&mut act, (&caller.by(), &caller.origin), user, &after, now).await?);
            codes = Some(self.new_codes(&mut act, user, now).await?);
            FactorsChange::TurnedOn(added.factor)
        };
        self.send(&mut act, user, &Letter::FactorsChanged { what, origin: &caller.origin, at: now }).await?;
        let session = self.renewed(&mut act, caller).await?;
        act.commit(&entries).await?;
        Ok(Changed { session, on: true, codes, begun: None })
    }
}
