//! Signing in with e-mail and password, giving the password again, signing out (A-1, A-8, C-12).

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jiff::{SignedDuration, Timestamp};
use portcullis_domain::{
    accounts::{Counted, Email, RUN_IS_FORGOTTEN, Status, User, UserId, locked_until},
    audit::{By, Entry, Event, Origin},
    secret::{ExposeSecret, SecretText},
    sessions::{Opened, Session},
};
use portcullis_store::{Purpose, Store, Tx};
use uuid::Uuid;

use crate::{
    app::{App, Caller, Via, refusals::network},
    error::Failure,
};

/// A session that was opened or renewed: the value of its cookie, which exists nowhere else.
pub struct NewSession {
    /// 256 random bits as base64url text.
    pub cookie: SecretText,
    /// Whose it is.
    pub user: User,
}

/// The cookie value and its digest under which the session is stored.
fn new_cookie(app: &App) -> (SecretText, [u8; 32]) {
    let text = BASE64URL.encode(app.clock.random::<32>());
    let digest = cookie_digest(&text);
    (text.into(), digest)
}

/// 256 random bits need no key and no slowness: SHA-256 is enough.
fn cookie_digest(cookie: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, cookie.as_bytes());
    digest.copy_from_slice(hash.as_ref());
    digest
}

/// What the failures of an account are counted under, and the network the account may be
/// known from. Every route and spelling comes out the same.
struct Counters {
    network: [u8; 32],
    anywhere: [u8; 32],
}

impl Counters {
    fn new(app: &App, email: &Email, origin: &Origin) -> Self {
        let name =
            |place: &str| app.mac(Purpose::SignInFailures, format!("{}\n{place}", email.as_str()).as_bytes());
        Self { network: name(&network(&origin.ip, 24)), anywhere: name("anywhere") }
    }

    /// Counts an attempt before it is looked at, so that guesses that come together, here and on
    /// other nodes, are counted one after the other; or says until when there is none. A network
    /// that the account signed in from before is not locked by what others do elsewhere.
    async fn attempt(&self, store: &Store, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
        let mut tx = store.write().await?;
        tx.hold_sign_in_failures(&self.network).await?;
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

    /// The attempt was right: it and the failures before it are forgotten.
    async fn forget(&self, tx: &mut Tx, now: Timestamp) -> Result<(), Failure> {
        for name in [&self.network, &self.anywhere] {
            tx.forget_sign_in_failures(name).await?;
        }
        Ok(tx.know_network(&self.network, now).await?)
    }
}

/// The subject of a record about an account. The e-mail typed is recorded only as the account it
/// belongs to: it may be a password.
fn subject(user: Option<&User>) -> String {
    user.map_or_else(|| "unknown account".to_owned(), |u| u.id.to_string())
}

impl App {
    /// Signs a user in with the password.
    ///
    /// # Errors
    /// [`Failure::WrongPassword`] for an unknown user and for a wrong password alike,
    /// [`Failure::Locked`], [`Failure::NotActive`] only after the right password,
    /// [`Failure::Busy`].
    pub async fn sign_in(&self, email: &str, password: SecretText, origin: Origin) -> Result<NewSession, Failure> {
        let email = Email::parse(email)?;
        let (user, hash) = self.check_password(&email, password, By::Stranger, &origin, Event::SignedIn).await?;
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        // Read again inside the act: what was true before the slow hash may not be any more.
        let user = act.user(user.id).await?.ok_or(Failure::WrongPassword)?;
        let entry = Entry::done(now, By::User(user.id.to_string()), &origin, Event::SignedIn, user.id.to_string());
        if act.password_hash(user.id).await?.as_deref() != Some(hash.as_str()) {
            act.commit(&[entry.refused("wrong_password")]).await?;
            return Err(Failure::WrongPassword);
        }
        if user.standing.status.0 != Status::Active {
            act.commit(&[entry.refused("not_active")]).await?;
            return Err(Failure::NotActive);
        }
        let (cookie, digest) = new_cookie(self);
        let session = Session {
            handle: self.clock.id(),
            user: user.id,
            opened: Opened::Password,
            opened_at: now,
            seen_at: now,
            password_at: Some(now),
            ip: origin.ip.clone(),
            user_agent: origin.user_agent.clone(),
        };
        act.add_session(&digest, &session).await?;
        act.commit(&[entry.with("session", session.handle.to_string())]).await?;
        Ok(NewSession { cookie, user })
    }

    /// Checks e-mail and password against lock-out and hash, and keeps the count. A
    /// failure is recorded here; what a success means is for the caller to record, provided that
    /// the hash it is given is still the user's.
    async fn check_password(
        &self,
        email: &Email,
        password: SecretText,
        by: By,
        origin: &Origin,
        event: Event,
    ) -> Result<(User, String), Failure> {
        let counters = Counters::new(self, email, origin);
        let now = self.clock.now();
        // Who is locked out costs no turn of the slow work, and nobody is looked up for it: what is
        // known of the account is not to be told by the time (protocol 37).
        if let Some(until) = counters.locked(&mut self.store.read().await?, now).await? {
            return Err(self.locked_out(email, origin, by, event, now, until).await);
        }
        let turn = self.passwords.turn(origin).await?;
        if let Some(until) = counters.attempt(&self.store, now).await? {
            drop(turn);
            return Err(self.locked_out(email, origin, by, event, now, until).await);
        }
        let (user, hash) = self.account(email).await?;
        let entry = Entry::done(now, by, origin, event, subject(user.as_ref()));
        if turn.verify(password, hash.clone()).await?
            && let (Some(user), Some(hash)) = (user, hash)
        {
            let mut tx = self.store.write().await?;
            // The hash may have changed while the slow work was done: then this was not the password.
            if tx.password_hash(user.id).await?.as_deref() == Some(hash.as_str()) {
                counters.forget(&mut tx, now).await?;
                tx.commit().await?;
                return Ok((user, hash));
            }
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
        by: By,
        event: Event,
        now: Timestamp,
        until: Timestamp,
    ) -> Failure {
        if self.refusals.is_to_be_recorded(origin, email.as_str()) {
            let recorded = async {
                let (user, _) = self.account(email).await?;
                let entry = Entry::done(now, by, origin, event, subject(user.as_ref()));
                self.recorder.record(entry.refused("locked")).await
            };
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
        let digest = cookie_digest(cookie);
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
        let (user, _) =
            self.check_password(&caller.user.email, password, caller.by(), &caller.origin, event).await?;
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        let (cookie, renewed) = new_cookie(self);
        if !act.renew_session(digest, &renewed, now).await? {
            return Err(Failure::NotSignedIn);
        }
        act.commit(&[Entry::done(now, caller.by(), &caller.origin, event, user.id.to_string())]).await?;
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
        let (_, old) =
            self.check_password(&user.email, present, caller.by(), &caller.origin, Event::PasswordChanged).await?;
        let hash = self.passwords.turn(&caller.origin).await?.hash(new, self.clock.random()).await?;
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        let (cookie, renewed) = new_cookie(self);
        if !act.set_password_hash(user.id, &old, &hash).await? {
            return Err(Failure::Conflict);
        }
        let ended = act.end_other_sessions(user.id, session.handle).await?;
        if !act.renew_session(digest, &renewed, now).await? {
            return Err(Failure::NotSignedIn);
        }
        let entry = Entry::done(now, caller.by(), &caller.origin, Event::PasswordChanged, user.id.to_string());
        act.commit(&[entry.with("other_sessions_ended", ended.to_string())]).await?;
        Ok(cookie)
    }
}
