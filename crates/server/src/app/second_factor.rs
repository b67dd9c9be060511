//! The second step of a sign-in, a passkey alone, and the one place that looks at second factors
//! . What counts once is consumed in the act that it is proven for.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{Status, User, UserId},
    audit::{By, Entry, Event, Origin},
    mfa::{Code, totp::AuthenticatorApp},
    secret::{ExposeSecret, SecretText},
    sessions::Opened,
};
use portcullis_store::{Act, Purpose, Tx};
use serde::{Deserialize, Serialize};

use crate::{
    app::{
        App,
        ceremonies::Kind,
        first_factor::{FirstFactor, How},
        passkeys::{Answered, Asked, NotGood, Question},
        sessions::NewSession,
    },
    error::Failure,
};

/// How many wrong second factors end a sign-in: it is begun again with the first.
const MOST_WRONG: u8 = 5;

/// What is remembered of a sign-in between its factors.
#[derive(Serialize, Deserialize)]
pub(crate) struct Step {
    first: FirstFactor,
    wrong: u8,
    question: Option<Question>,
}

impl Step {
    /// The step after a right first factor.
    pub(crate) fn after(first: &FirstFactor) -> Self {
        Self { first: first.clone(), wrong: 0, question: None }
    }
}

/// A second factor as it was given, not looked at yet.
pub enum Proof {
    /// A code of the app or a recovery code, as typed.
    Code(SecretText),
    /// What the browser answered when asked for a passkey, as JSON.
    Passkey(String),
}

/// A second factor that was right.
pub(crate) struct Proven {
    /// Which kind, for the audit log.
    pub(crate) with: &'static str,
    /// How many recovery codes are left, if it was one.
    pub(crate) codes_left: Option<u32>,
}

/// What the page of the second step shows.
pub struct SecondStep {
    /// Whether there is an authenticator app.
    pub app: bool,
    /// How many recovery codes are left.
    pub codes_left: u32,
    /// The question for a passkey, if there is one.
    pub passkey: Option<String>,
}

/// A completed sign-in.
pub struct Completed {
    /// The session.
    pub new: NewSession,
    /// How many recovery codes are left, when one was used.
    pub codes_left: Option<u32>,
}

impl App {
    /// What to ask at the second step, with a new question for a passkey.
    ///
    /// # Errors
    /// [`Failure::StepOver`] when no sign-in is between its factors in this browser.
    pub async fn second_step(&self, secret: &str) -> Result<SecondStep, Failure> {
        let mut tx = self.store.write().await?;
        let begun = self.held::<Step>(&mut tx, Kind::SecondFactor, secret).await?;
        let Some((Some(user), mut step)) = begun else { return Err(Failure::StepOver) };
        let (factors, codes_left) = (tx.factors(user).await?, tx.recovery_codes_left(user).await?);
        let asked = self.question_for(&mut tx, user).await?;
        let passkey = match asked {
            Some(asked) => {
                step.question = Some(asked.remembered);
                self.keep(&mut tx, Kind::SecondFactor, secret, &step).await?;
                Some(asked.options)
            }
            None => None,
        };
        tx.commit().await?;
        Ok(SecondStep { app: factors.app, codes_left, passkey })
    }

    /// A question for one of a user's passkeys, where there are any and they are possible.
    pub(crate) async fn question_for(
        &self,
        tx: &mut Tx,
        user: UserId,
    ) -> Result<Option<Asked<Question>>, Failure> {
        let held = tx.passkeys(user).await?;
        if held.is_empty() || !self.passkeys.are_possible() {
            return Ok(None);
        }
        self.passkeys.ask_for(&held).map(Some)
    }

    /// Completes a sign-in with the second factor. The ceremony is taken with the session that it
    /// opens; a wrong factor leaves it for another try, up to five.
    ///
    /// # Errors
    /// [`Failure::StepOver`], [`Failure::WrongCode`], [`Failure::Locked`], [`Failure::NotActive`].
    pub async fn complete_sign_in(
        &self,
        secret: &str,
        proof: Proof,
        origin: &Origin,
    ) -> Result<Completed, Failure> {
        let mut tx = self.store.read().await?;
        let begun = self.under_way::<Step>(&mut tx, Kind::SecondFactor, secret).await?;
        let Some((Some(id), _)) = begun else { return Err(Failure::StepOver) };
        let user = tx.user(id).await?.ok_or(Failure::StepOver)?;
        drop(tx);
        let now = self.clock.now();
        let entry = Entry::done(now, By::Stranger, origin, Event::SignedIn, id.to_string());
        self.count_attempt(&user.email, origin, now, &entry).await?;
        let mut act = self.store.act().await?;
        // Everything again inside the act: another request may have been faster.
        let begun = self.held::<Step>(&mut act, Kind::SecondFactor, secret).await?;
        let Some((_, mut step)) = begun else { return Err(Failure::StepOver) };
        let user = act.user(id).await?.ok_or(Failure::StepOver)?;
        if user.standing.status.0 != Status::Active || user.standing.mfa_since.is_none() {
            self.end_step(&mut act, secret).await?;
            let active = user.standing.status.0 == Status::Active;
            act.commit(&[entry.refused(if active { "mfa_off" } else { "not_active" })]).await?;
            return Err(if active { Failure::StepOver } else { Failure::NotActive });
        }
        if !step.first.still_holds(&mut act, &user).await? {
            self.end_step(&mut act, secret).await?;
            act.commit(&[entry.refused("first_factor_over")]).await?;
            return Err(Failure::StepOver);
        }
        let question = step.question.take();
        match self.prove(&mut act, &user, &proof, question, now).await? {
            Ok(proven) => {
                self.end_step(&mut act, secret).await?;
                step.first.note(&mut act, now).await?;
                let (new, entry) = self.open_session(&mut act, user, step.first.how(true), origin, now).await?;
                act.commit(&[noted(entry, &proven)]).await?;
                Ok(Completed { new, codes_left: proven.codes_left })
            }
            Err(why) => {
                step.wrong += 1;
                if step.wrong < MOST_WRONG {
                    self.keep(&mut act, Kind::SecondFactor, secret, &step).await?;
                } else {
                    self.end_step(&mut act, secret).await?;
                }
                act.commit(&[entry.refused(why)]).await?;
                Err(if step.wrong < MOST_WRONG { Failure::WrongCode } else { Failure::StepOver })
            }
        }
    }

    async fn end_step(&self, act: &mut Act, secret: &str) -> Result<(), Failure> {
        let taken = self.take::<Step>(act, Kind::SecondFactor, secret).await?;
        taken.map(drop).ok_or(Failure::StepOver)
    }

    /// Looks at a second factor, and consumes it. The inner error is the word for the audit log.
    /// The attempt was counted before.
    pub(crate) async fn prove(
        &self,
        act: &mut Act,
        user: &User,
        proof: &Proof,
        question: Option<Question>,
        now: Timestamp,
    ) -> Result<Result<Proven, &'static str>, Failure> {
        match proof {
            Proof::Code(typed) => match Code::parse(typed.expose_secret()) {
                Some(Code::App(code)) => {
                    let stored = act.authenticator_app(user.id).await?.filter(|a| a.confirmed_at.is_some());
                    let Some(stored) = stored else { return Ok(Err("wrong_code")) };
                    let app = self.opened_app(user.id, &stored.secret)?;
                    let Some(step) = app.step_of(&code, now) else { return Ok(Err("wrong_code")) };
                    let right = act.consume_step(user.id, step).await?;
                    let proven = Proven { with: "authenticator_app", codes_left: None };
                    Ok(right.then_some(proven).ok_or("code_used_already"))
                }
                Some(Code::Recovery(code)) => {
                    for key in self.store.keys().digest_keys(Purpose::RecoveryCode).values() {
                        let digest = key.mac(code.expose().as_bytes());
                        if act.consume_recovery_code(user.id, &digest, now).await? {
                            let codes_left = Some(act.recovery_codes_left(user.id).await?);
                            return Ok(Ok(Proven { with: "recovery_code", codes_left }));
                        }
                    }
                    Ok(Err("wrong_code"))
                }
                None => Ok(Err("wrong_code")),
            },
            Proof::Passkey(answer) => {
                let (Some(answer), Some(question)) = (Answered::parse(answer), question) else {
                    return Ok(Err(NotGood::Wrong.code()));
                };
                let proven = self.prove_passkey(act, user, &answer, question, now).await?;
                Ok(proven.map_err(NotGood::code))
            }
        }
    }

    async fn prove_passkey(
        &self,
        act: &mut Act,
        user: &User,
        answer: &Answered,
        question: Question,
        now: Timestamp,
    ) -> Result<Result<Proven, NotGood>, Failure> {
        let stored = act.passkey_called(answer.credential_id()).await?.filter(|p| p.user == user.id);
        let Some(stored) = stored.filter(|_| answer.user().is_none_or(|u| u == user.id.0)) else {
            return Ok(Err(NotGood::Wrong));
        };
        match self.passkeys.judge(question, answer, &stored)? {
            Ok(passkey) => {
                act.passkey_used(stored.id, &passkey, now).await?;
                Ok(Ok(Proven { with: "passkey", codes_left: None }))
            }
            Err(why) => Ok(Err(why)),
        }
    }

    /// The authenticator app whose secret was stored for a user.
    pub(crate) fn opened_app(
        &self,
        user: UserId,
        secret: &portcullis_store::Sealed,
    ) -> Result<AuthenticatorApp, Failure> {
        let plain = self.store.keys().open(Purpose::Totp, &user.to_string(), secret)?;
        AuthenticatorApp::from_stored(plain.expose_secret())
            .ok_or_else(|| Failure::Internal("the secret of an authenticator app has another length".to_owned()))
    }

    /// Begins a sign-in with a passkey alone: the secret of its cookie, and the question.
    ///
    /// # Errors
    /// [`Failure::NotFound`] where there can be no passkeys.
    pub async fn begin_passkey_sign_in(&self) -> Result<(SecretText, String), Failure> {
        let asked = self.passkeys.ask_for(&[])?;
        let mut tx = self.store.write().await?;
        let secret = self.begin(&mut tx, Kind::PasskeySignIn, None, &asked.remembered).await?;
        tx.commit().await?;
        Ok((secret, asked.options))
    }

    /// Signs in with a passkey alone, which counts as MFA: for accounts that allow it. The
    /// question is taken with the first answer.
    ///
    /// # Errors
    /// [`Failure::WrongPasskey`] for every reason that is not the account's own, [`Failure::Locked`],
    /// [`Failure::NotActive`] only after the right passkey.
    pub async fn sign_in_with_passkey(
        &self,
        secret: &str,
        answer: &str,
        origin: &Origin,
    ) -> Result<NewSession, Failure> {
        let mut tx = self.store.write().await?;
        let taken = self.take::<Question>(&mut tx, Kind::PasskeySignIn, secret).await?;
        tx.commit().await?;
        let (_, question) = taken.ok_or(Failure::StepOver)?;
        let answer = Answered::parse(answer);
        let now = self.clock.now();
        let Some((answer, user)) = self.whose(answer).await? else {
            let entry = Entry::done(now, By::Stranger, origin, Event::SignedIn, "unknown account");
            if self.refusals.is_to_be_recorded(origin, "unknown passkey") {
                self.recorder.record(entry.refused("wrong_passkey")).await?;
            }
            return Err(Failure::WrongPasskey);
        };
        let id = user.id;
        let entry = Entry::done(now, By::Stranger, origin, Event::SignedIn, id.to_string());
        self.count_attempt(&user.email, origin, now, &entry).await?;
        let mut act = self.store.act().await?;
        let user = act.user(id).await?.ok_or(Failure::WrongPasskey)?;
        let refused = match self.prove_passkey(&mut act, &user, &answer, question, now).await? {
            Err(why) => Some(why.code()),
            Ok(_) if user.standing.mfa_since.is_none() || !act.passkey_alone(id).await? => {
                Some("passkey_not_alone")
            }
            Ok(_) if user.standing.status.0 != Status::Active => Some("not_active"),
            Ok(_) => None,
        };
        if let Some(why) = refused {
            act.commit(&[entry.refused(why)]).await?;
            return Err(if why == "not_active" { Failure::NotActive } else { Failure::WrongPasskey });
        }
        let how = How { opened: Opened::Passkey, provider: None, password_at: None };
        let (new, entry) = self.open_session(&mut act, user, how, origin, now).await?;
        act.commit(&[entry]).await?;
        Ok(new)
    }

    /// Whose passkey an answer speaks of, where both sides agree.
    async fn whose(&self, answer: Option<Answered>) -> Result<Option<(Answered, User)>, Failure> {
        let Some(answer) = answer else { return Ok(None) };
        let mut tx = self.store.read().await?;
        let Some(stored) = tx.passkey_called(answer.credential_id()).await? else { return Ok(None) };
        if answer.user() != Some(stored.user.0) {
            return Ok(None);
        }
        let user = tx.user(stored.user).await?.filter(|u| u.standing.status.0 != Status::Deleted);
        Ok(user.map(|user| (answer, user)))
    }
}

fn noted(entry: Entry, proven: &Proven) -> Entry {
    let entry = entry.with("second_factor", proven.with);
    match proven.codes_left {
        Some(left) => entry.with("recovery_codes_left", left.to_string()),
        None => entry,
    }
}
