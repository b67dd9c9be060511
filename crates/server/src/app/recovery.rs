//! A forgotten password: asking for a link, and using it.
//!
//! Whoever asks gets the same answer in the same time, whatever the account: what depends on it is
//! done after the answer. The link goes to the one address of the account.

use std::sync::Arc;

use jiff::SignedDuration;
use portcullis_domain::{
    accounts::{Email, Status, User},
    audit::{By, Entry, Event, Origin},
    links::{LinkPurpose, LinkRefused},
    mail::MailKind,
    secret::{ExposeSecret, SecretText},
};

use crate::{
    app::{
        App,
        letters::Letter,
        sessions::{Counters, secret_digest},
    },
    error::Failure,
};

/// The most mails of a kind that strangers can have sent to one account in an hour.
const AN_HOUR: u64 = 3;

impl App {
    /// Takes the wish for a new password. The answer is the same for every account, and for none.
    ///
    /// # Errors
    /// [`Failure::Invalid`] for a text that is no address, [`Failure::Locked`] for a network that
    /// asked too often, and the database's.
    pub async fn ask_for_reset(self: &Arc<Self>, email: &str, origin: &Origin) -> Result<(), Failure> {
        let email = Email::parse(email)?;
        if !self.refusals.may_ask_for_reset(origin) {
            return Err(Failure::Locked(120));
        }
        let place = self.outbox.place_for_reset()?;
        // Who is told that a mail is on its way must not be told so by a server that cannot know.
        self.ready().await?;
        let (app, origin) = (Arc::clone(self), origin.clone());
        tokio::spawn(async move {
            if let Err(failure) = app.answer_reset(&email, &origin).await {
                failure.log();
                tracing::warn!(%failure, "a wish for a new password could not be answered by mail");
            }
            drop(place);
        });
        Ok(())
    }

    /// Sends what the account of an address needs, and puts it on record.
    async fn answer_reset(&self, email: &Email, origin: &Origin) -> Result<(), Failure> {
        let now = self.clock.now();
        let entry = |subject: &str| Entry::done(now, By::Stranger, origin, Event::PasswordReset, subject);
        if self.store.read().await?.user_by_email(email).await?.is_none() {
            // The address typed is recorded only as the account it belongs to: it may be a password.
            if self.refusals.is_to_be_recorded(origin, email.as_str()) {
                self.recorder.record(entry("unknown account").refused("unknown_account")).await?;
            }
            return Ok(());
        }
        let mut act = self.store.act().await?;
        let Some(user) = act.user_by_email(email).await? else { return Ok(()) };
        let subject = user.id.to_string();
        let kind = match (user.standing.status.0, user.standing.has_password) {
            (Status::Active, true) => MailKind::PasswordReset,
            (Status::Active, false) => MailKind::NoPassword,
            // Whoever asks may be anybody: an invitation is sent again by a Super Admin alone.
            (Status::Pending | Status::Inactive | Status::Deleted, _) => {
                return Ok(act.commit(&[entry(&subject).refused("not_active")]).await?);
            }
        };
        let first = self.clock.first_id_at(now - SignedDuration::from_hours(1));
        if act.mails_to_since(email, kind, first).await? >= AN_HOUR {
            drop(act);
            if self.refusals.is_to_be_recorded(origin, email.as_str()) {
                self.recorder.record(entry(&subject).refused("too_many")).await?;
            }
            return Ok(());
        }
        match kind {
            MailKind::PasswordReset => {
                let (link, until) = self.make_link(&mut act, user.id, LinkPurpose::PasswordReset).await?;
                let letter = Letter::PasswordReset { link: link.expose_secret(), until, origin };
                self.send(&mut act, &user, &letter).await?;
            }
            _ => {
                let shown = act.identities_shown(user.id).await?;
                let mut providers: Vec<String> = shown.into_iter().filter_map(|i| i.provider).collect();
                providers.dedup();
                self.send(&mut act, &user, &Letter::NoPassword { providers: &providers, origin }).await?;
            }
        }
        Ok(act.commit(&[entry(&subject).with("sent", kind.code())]).await?)
    }

    /// As [`App::check_link`] for somebody who wants to use the link: a refusal is on record, up to a
    /// rate.
    pub(crate) async fn link_to_use(
        &self,
        token: &str,
        purpose: LinkPurpose,
        origin: &Origin,
    ) -> Result<User, Failure> {
        let checked = self.check_link(token, purpose).await;
        if let Err(Failure::Link(why)) = &checked
            && self.refusals.is_to_be_recorded(origin, purpose.code())
        {
            let event = match purpose {
                LinkPurpose::Invitation => Event::UserActivated,
                LinkPurpose::PasswordReset => Event::PasswordReset,
            };
            let link = self.store.read().await?.link(&secret_digest(token), purpose).await?;
            let subject = link.map_or_else(|| "unknown link".to_owned(), |l| l.user.to_string());
            let entry = Entry::done(self.clock.now(), By::Stranger, origin, event, subject);
            self.recorder.record(entry.refused(why.code())).await?;
        }
        checked
    }

    /// Replaces a forgotten password with the link's help. Every session of the account ends; MFA
    /// stays on and is asked for at the next sign-in.
    ///
    /// # Errors
    /// [`Failure::Link`], which is on record; [`Failure::Invalid`] for the new password.
    pub async fn reset_password(&self, token: &str, new: SecretText, origin: &Origin) -> Result<(), Failure> {
        let purpose = LinkPurpose::PasswordReset;
        let user = self.link_to_use(token, purpose, origin).await?;
        self.config.passwords.judge(new.expose_secret(), &[user.email.as_str(), user.name.as_str()])?;
        let hash = self.passwords.turn(origin).await?.hash(new, self.clock.random()).await?;
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        let user: User = self.linked(&mut act, token, purpose).await?;
        let old = act.password_hash(user.id).await?.ok_or(LinkRefused::Unknown)?;
        let used = act.use_link(&secret_digest(token), purpose, now).await?;
        if !used || !act.set_password_hash(user.id, &old, &hash).await? {
            return Err(Failure::Conflict);
        }
        let ended = act.end_sessions_of(user.id).await?;
        // With MFA on, the mailbox is one factor of two: guesses at the other stay counted.
        if user.standing.mfa_since.is_none() {
            Counters::new(self, &user.email, origin).forget(&mut act).await?;
        }
        self.send(&mut act, &user, &Letter::PasswordChanged { origin, at: now }).await?;
        let entry =
            Entry::done(now, By::User(user.id.to_string()), origin, Event::PasswordReset, user.id.to_string());
        Ok(act.commit(&[entry.with("sessions_ended", ended.to_string())]).await?)
    }
}
