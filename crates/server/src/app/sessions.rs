//! Signing in with e-mail and password, giving the password again, signing out (A-1, A-8, C-12).
//!
//! A sign-in is complete when `App::open_session` made a session, and nothing else makes one.
//! Whoever has MFA on gets there only through the second factor, whatever the first one was.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::{Counted, Email, LONGEST_LOCK, RUN_IS_FORGOTTEN, Status, User, UserId, locked_until},
    audit::{By, Entry, Event, Origin},
    links::LinkPurpose,
    secret::{ExposeSecret, SecretText},
    sessions::Session,
};
use portcullis_store::{Act, Purpose, Store, Tx};
use uuid::Uuid;

use crate::{
    app::{
        App, Caller, Via,
        ceremonies::Kind,
        first_factor::{FirstFactor, How},
        letters::Letter,
        passwords::Place,
        refusals::network,
        second_factor::Step,
    },
    error::Failure,
};

/// A session that was opened or renewed: the value of its cookie, which exists nowhere else.
pub struct NewSession {
    /// 256 random bits as base64url text.
    pub cookie: SecretText,
    /// Whose it is.
    pub user: User,
}

/// What a right first factor leads to.
pub enum SignedIn {
    /// A session.
    Session(NewSession),
    /// The second factor: the value of the cookie that says so.
    SecondFactor(SecretText),
}

/// 256 random bits need no key and no slowness: SHA-256 is enough.
pub(crate) fn secret_digest(secret: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
    digest.copy_from_slice(hash.as_ref());
    digest
}

/// What the failures of an account are counted under, and the network the account may be
/// known from. Every route, step and spelling comes out the same.
pub(crate) struct Counters {
    network: [u8; 32],
    anywhere: [u8; 32],
}

impl Counters {
    pub(crate) fn new(app: &App, email: &Email, origin: &Origin) -> Self {
        let name =
            |place: &str| app.mac(Purpose::SignInFailures, format!("{}\n{place}", email.as_str()).as_bytes());
        Self { network: name(&network(&origin.ip, 24)), anywhere: name("anywhere") }
    }

    /// Counts an attempt before it is looked at, so that guesses that come together, here and on
    /// other nodes, are counted one after the other; or says until when there is none. A network
    /// that the account signed in from before is not locked by what others do elsewhere.
    async fn attempt(&self, store: &Store, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
        let mut tx = store.write().await?;
        for name in [&self.network, &self.anywhere] {
            tx.hold_sign_in_failures(name, now).await?;
        }
        let locked = self.locked(&mut tx, now).await?;
        if locked.is_none() {
            for name in [&self.network, &self.anywhere] {
                tx.count_sign_in_failure(name, now, now - RUN_IS_FORGOTTEN).await?;
            }
            tx.commit().await?;
        }
        Ok(locked)
    }

    /// Until when there is no attempt, if it is so.
    async fn locked(&self, tx: &mut Tx, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
        let known = tx.is_known_network(&self.network).await?;
        let mut locked = None;
        for (counted, name) in [(Counted::FromNetwork, &self.network), (Counted::FromAnywhere, &self.anywhere)] {
            if known && counted == Counted::FromAnywhere {
                continue;
            }
            if let Some(run) = tx.sign_in_failures(name).await? {
                locked = locked.max(locked_until(counted, run.failures, run.last, now));
            }
        }
        Ok(locked)
    }

    /// The account was proven, all factors of it: the attempt and the failures before it are
    /// forgotten. Never after the first of two, or guessing the second would cost nothing.
    pub(crate) async fn forget(&self, tx: &mut Tx) -> Result<(), Failure> {
        for name in [&self.network, &self.anywhere] {
            tx.forget_sign_in_failures(name).await?;
        }
        Ok(())
    }

    /// The password was proven again in a session. Without MFA that is every factor; with it only
    /// this attempt is taken back, or the password would buy guesses at the second factor.
    async fn proven_again(&self, tx: &mut Tx, user: &User, now: Timestamp) -> Result<(), Failure> {
        if user.standing.mfa_since.is_none() { self.forget(tx).await } else { self.take_back(tx, now).await }
    }

    /// One attempt of those counted was right, but another factor is to come: this one is no failure,
    /// and the wait before it, which was over, is not begun again. The failures before it stay.
    async fn take_back(&self, tx: &mut Tx, now: Timestamp) -> Result<(), Failure> {
        for name in [&self.network, &self.anywhere] {
            tx.take_back_sign_in_failure(name, now - LONGEST_LOCK).await?;
        }
        Ok(())
    }

    /// Remembers the network of a sign-in, and tells whether it was known before.
    async fn know_network(&self, tx: &mut Tx, now: Timestamp) -> Result<bool, Failure> {
        let known = tx.is_known_network(&self.network).await?;
        tx.know_network(&self.network, now).await?;
        Ok(known)
    }
}

/// The subject of a record about an account. The e-mail typed is recorded only as the account it
/// belongs to: it may be a password.
fn subject(user: Option<&User>) -> String {
    user.map_or_else(|| "unknown account".to_owned(), |u| u.id.to_string())
}

impl App {
    /// A new 256-bit secret as base64url text, and the digest under which it is stored.
    pub(crate) fn new_secret(&self) -> (SecretText, [u8; 32]) {
        let text = BASE64URL.encode(self.clock.random::<32>());
        let digest = secret_digest(&text);
        (text.into(), digest)
    }

    /// Signs a user in with the password, up to the second factor if there is one.
    ///
    /// # Errors
    /// [`Failure::WrongPassword`] for an unknown user and for a wrong password alike,
    /// [`Failure::Locked`], [`Failure::NotActive`] only after the right password,
    /// [`Failure::Busy`].
    pub async fn sign_in(&self, email: &str, password: SecretText, origin: Origin) -> Result<SignedIn, Failure> {
        let email = Email::parse(email)?;
        let place = self.passwords.place(&origin)?;
        // The password may have been changed since: on hold nobody learns whether it was right (H-1).
        self.works().await?;
        let event = Event::SignedIn;
        let (user, hash) = self.check_password(place, &email, password, By::Stranger, &origin, event).await?;
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        // Read again inside the act: what was true before the slow hash may not be any more.
        let user = act.user(user.id).await?.ok_or(Failure::WrongPassword)?;
        let entry = Entry::done(now, By::User(user.id.to_string()), &origin, Event::SignedIn, user.id.to_string());
        if act.password_hash(user.id).await?.as_deref() != Some(hash.as_str()) {
            act.commit(&[entry.refused("wrong_password")]).await?;
            return Err(Failure::WrongPassword);
        }
        self.first_factor_was_right(act, user, &FirstFactor::password(&hash, now), &origin, now).await
    }

    /// Goes on after a right first factor: refuses who is not active, asks for the second factor
    /// of who has one, or opens the session.
    ///
    /// # Errors
    /// [`Failure::NotActive`], or the database's.
    pub(crate) async fn first_factor_was_right(
        &self,
        mut act: Act,
        user: User,
        first: &FirstFactor,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<SignedIn, Failure> {
        if user.standing.status.0 != Status::Active {
            let by = By::User(user.id.to_string());
            let entry = Entry::done(now, by, origin, Event::SignedIn, user.id.to_string());
            act.commit(&[entry.refused("not_active")]).await?;
            return Err(Failure::NotActive);
        }
        if user.standing.mfa_since.is_some() {
            // Not an act yet: nobody has signed in, and who fails now is on record by that. What is
            // changed meanwhile is seen when the sign-in is completed.
            drop(act);
            let mut tx = self.store.write().await?;
            let step = Step::after(first);
            if first.is_password() {
                Counters::new(self, &user.email, origin).take_back(&mut tx, now).await?;
            }
            let cookie = self.begin(&mut tx, Kind::SecondFactor, Some(user.id), &step).await?;
            tx.commit().await?;
            return Ok(SignedIn::SecondFactor(cookie));
        }
        first.note(&mut act, now).await?;
        let (new, entry) = self.open_session(&mut act, user, first.how(false), origin, now).await?;
        act.commit(&[entry]).await?;
        Ok(SignedIn::Session(new))
    }

    /// Opens a session for a user whose factors are all proven: the only place that does. Forgets
    /// the failures, remembers the network, and tells the user of one that is new.
    ///
    /// # Errors
    /// The database's.
    pub(crate) async fn open_session(
        &self,
        act: &mut Act,
        user: User,
        how: How,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<(NewSession, Entry), Failure> {
        let (cookie, digest) = self.new_secret();
        let session = Session {
            handle: self.clock.id(),
            user: user.id,
            opened: how.opened,
            provider: how.provider,
            opened_at: now,
            seen_at: now,
            password_at: how.password_at,
            ip: origin.ip.clone(),
            user_agent: origin.user_agent.clone(),
        };
        act.add_session(&digest, &session).await?;
        let counters = Counters::new(self, &user.email, origin);
        counters.forget(act).await?;
        let known = counters.know_network(act, now).await?;
        if act.note_sign_in(user.id, now).await?.is_some() && !known {
            self.send(act, &user, &Letter::NewDevice { origin, at: now }).await?;
        }
        let mut entry =
            Entry::done(now, By::User(user.id.to_string()), origin, Event::SignedIn, user.id.to_string())
                .with("session", session.handle.to_string())
                .with("opened_with", how.opened.code());
        if let Some(provider) = how.provider {
            entry = entry.with("provider_id", provider.to_string());
        }
        Ok((NewSession { cookie, user }, entry))
    }

    /// Counts an attempt at a factor of an account before the factor is looked at.
    ///
    /// # Errors
    /// [`Failure::Locked`]; that is on record, up to a rate.
    pub(crate) async fn count_attempt(
        &self,
        email: &Email,
        origin: &Origin,
        now: Timestamp,
        entry: &Entry,
    ) -> Result<(), Failure> {
        match Counters::new(self, email, origin).attempt(&self.store, now).await? {
            Some(until) => Err(self.locked_out(email, origin, now, until, async || Ok(entry.clone())).await),
            None => Ok(()),
        }
    }

    /// Checks e-mail and password against lock-out and hash. A failure is recorded here; what
    /// a success means, and whether it makes the failures before it forgotten, is for the caller,
    /// provided that the hash it is given is still the user's.
    async fn check_password(
        &self,
        place: Place<'_>,
        email: &Email,
        password: SecretText,
        by: By,
        origin: &Origin,
        event: Event,
    ) -> Result<(User, String), Failure> {
        let counters = Counters::new(self, email, origin);
        let now = self.clock.now();
        let entry = async || {
            let (user, _) = self.account(email).await?;
            Ok(Entry::done(now, by.clone(), origin, event, subject(user.as_ref())))
        };
        // Who is locked out costs no turn of the slow work, and nobody is looked up for it: what is
        // known of the account is not to be told by the time (protocol 37).
        if let Some(until) = counters.locked(&mut self.store.read().await?, now).await? {
            drop(place);
            return Err(self.locked_out(email, origin, now, until, entry).await);
        }
        let turn = place.turn().await?;
        if let Some(until) = counters.attempt(&self.store, now).await? {
            drop(turn);
            return Err(self.locked_out(email, origin, now, until, entry).await);
        }
        let (user, hash) = self.account(email).await?;
        let entry = Entry::done(now, by, origin, event, subject(user.as_ref()));
        if turn.verify(password, hash.clone()).await?
            && let (Some(user), Some(hash)) = (user, hash)
        {
            return Ok((user, hash));
        }
        self.recorder.record(entry.refused("wrong_password")).await?;
        Err(Failure::WrongPassword)
    }

    /// The user with an e-mail and the password hash, by as many statements whether there is one or
    /// not (protocol 37).
    async fn account(&self, email: &Email) -> Result<(Option<User>, Option<String>), Failure> {
        let mut tx = self.store.read().await?;
        let user = tx.user_by_email(email).await?;
        let nobody = UserId(Uuid::nil());
        let hash = tx.password_hash(user.as_ref().map_or(nobody, |u| u.id)).await?;
        Ok((user, hash))
    }

    /// Records that an attempt came while there is none, up to a rate, and says when there is one.
    async fn locked_out(
        &self,
        email: &Email,
        origin: &Origin,
        now: Timestamp,
        until: Timestamp,
        entry: impl AsyncFnOnce() -> Result<Entry, Failure>,
    ) -> Failure {
        if self.refusals.is_to_be_recorded(origin, email.as_str()) {
            let recorded = async { self.recorder.record(entry().await?.refused("locked")).await };
            if let Err(failure) = recorded.await {
                return failure;
            }
        }
        Failure::Locked(until.duration_since(now).as_secs() + 1)
    }

    /// Who a session cookie belongs to, if its session is live and its user active. Asked at
    /// every request: the role is never remembered (C-3).
    ///
    /// # Errors
    /// [`Failure::NotSignedIn`], or the database's.
    pub async fn identify_session(&self, cookie: &str, origin: Origin) -> Result<Caller, Failure> {
        let digest = secret_digest(cookie);
        let now = self.clock.now();
        let mut tx = self.store.read().await?;
        let session = tx.session(&digest).await?.filter(|s| s.is_live(&self.config.sessions, now));
        let session = session.ok_or(Failure::NotSignedIn)?;
        let user = tx.user(session.user).await?.ok_or(Failure::NotSignedIn)?;
        drop(tx);
        if user.standing.status.0 != Status::Active {
            return Err(Failure::NotSignedIn);
        }
        if now >= session.seen_at + SignedDuration::from_mins(1) {
            let mut tx = self.store.write().await?;
            tx.touch_session(&digest, now, &origin.ip).await?;
            tx.commit().await?;
        }
        Ok(Caller { user, actor: session.actor(), origin, via: Via::Session { digest, session } })
    }

    /// The password given again in a session (C-12). The session goes on under a new id; the old
    /// one is dead (protocol 30).
    ///
    /// # Errors
    /// As [`App::sign_in`]; [`Failure::NotSignedIn`] when the session ended meanwhile.
    pub async fn confirm_password(
        &self,
        caller: &Caller,
        password: SecretText,
    ) -> Result<(SecretText, Caller), Failure> {
        let Via::Session { digest, session } = &caller.via else { return Err(Failure::NotSignedIn) };
        let event = Event::PasswordConfirmed;
        let email = &caller.user.email;
        let place = self.passwords.place(&caller.origin)?;
        let (user, hash) = self.check_password(place, email, password, caller.by(), &caller.origin, event).await?;
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        let entry = Entry::done(now, caller.by(), &caller.origin, event, user.id.to_string());
        // The hash may have changed while the slow work was done: then this was not the password.
        if act.password_hash(user.id).await?.as_deref() != Some(hash.as_str()) {
            act.commit(&[entry.refused("wrong_password")]).await?;
            return Err(Failure::WrongPassword);
        }
        let (cookie, renewed) = self.new_secret();
        if !act.renew_session(digest, &renewed, now).await? {
            return Err(Failure::NotSignedIn);
        }
        let user = act.user(user.id).await?.ok_or(Failure::NotSignedIn)?;
        Counters::new(self, email, &caller.origin).proven_again(&mut act, &user, now).await?;
        act.commit(&[entry]).await?;
        let session = Session { password_at: Some(now), ..session.clone() };
        let via = Via::Session { digest: renewed, session: session.clone() };
        Ok((cookie, Caller { user, actor: session.actor(), origin: caller.origin.clone(), via }))
    }

    /// Ends the caller's session.
    ///
    /// # Errors
    /// The database's.
    pub async fn sign_out(&self, caller: &Caller) -> Result<(), Failure> {
        let Via::Session { digest, session } = &caller.via else { return Err(Failure::NotSignedIn) };
        let mut act = self.store.act().await?;
        if act.end_session(digest).await? {
            let entry = Entry::done(
                self.clock.now(),
                caller.by(),
                &caller.origin,
                Event::SignedOut,
                caller.user.id.to_string(),
            );
            act.commit(&[entry.with("session", session.handle.to_string())]).await?;
        }
        Ok(())
    }

    /// The live sessions of the caller, the last used first.
    ///
    /// # Errors
    /// The database's.
    pub async fn sessions(&self, caller: &Caller) -> Result<Vec<Session>, Failure> {
        let now = self.clock.now();
        let mut all = self.store.read().await?.sessions_of(caller.user.id).await?;
        all.retain(|s| s.is_live(&self.config.sessions, now));
        Ok(all)
    }

    /// Signs out all other sessions of the caller and tells how many that were.
    ///
    /// # Errors
    /// The database's.
    pub async fn end_other_sessions(&self, caller: &Caller) -> Result<u64, Failure> {
        let Via::Session { session, .. } = &caller.via else { return Err(Failure::NotSignedIn) };
        let mut act = self.store.act().await?;
        let ended = act.end_other_sessions(caller.user.id, session.handle).await?;
        if ended > 0 {
            let id = caller.user.id.to_string();
            let entry = Entry::done(self.clock.now(), caller.by(), &caller.origin, Event::SessionsEnded, id);
            act.commit(&[entry.with("ended", ended.to_string())]).await?;
        }
        Ok(ended)
    }

    /// Changes the caller's password: the present one first, then A-4 for the new one. The other
    /// sessions end, this one goes on under a new id.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for the new password, [`Failure::WrongPassword`] for the present one.
    pub async fn change_password(
        &self,
        caller: &Caller,
        present: SecretText,
        new: SecretText,
    ) -> Result<SecretText, Failure> {
        let Via::Session { digest, session } = &caller.via else { return Err(Failure::NotSignedIn) };
        let user = &caller.user;
        self.config.passwords.judge(new.expose_secret(), &[user.email.as_str(), user.name.as_str()])?;
        let place = self.passwords.place(&caller.origin)?;
        let event = Event::PasswordChanged;
        let (_, old) =
            self.check_password(place, &user.email, present, caller.by(), &caller.origin, event).await?;
        let hash = self.passwords.turn(&caller.origin).await?.hash(new, self.clock.random()).await?;
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        let (cookie, renewed) = self.new_secret();
        if !act.set_password_hash(user.id, &old, &hash).await? {
            return Err(Failure::Conflict);
        }
        let ended = act.end_other_sessions(user.id, session.handle).await?;
        act.end_ceremonies_of(user.id).await?;
        // A link that replaces the password was for the one that is gone.
        act.replace_links(user.id, LinkPurpose::PasswordReset, now).await?;
        if !act.renew_session(digest, &renewed, now).await? {
            return Err(Failure::NotSignedIn);
        }
        let user = act.user(user.id).await?.ok_or(Failure::NotSignedIn)?;
        Counters::new(self, &user.email, &caller.origin).proven_again(&mut act, &user, now).await?;
        let entry = Entry::done(now, caller.by(), &caller.origin, Event::PasswordChanged, user.id.to_string());
        act.commit(&[entry.with("other_sessions_ended", ended.to_string())]).await?;
        Ok(cookie)
    }
}
