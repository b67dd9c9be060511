//! What a proven answer of a provider does: signs a user in, makes one, links an identity.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::{Language, Standing, Status, TimeZoneName, User, UserId},
    audit::{By, Entry, Event, Origin},
    federation::{self, Decision, FederationRefused, LinkedIdentity, Provider, Settings, Told},
};
use portcullis_store::Act;

use crate::{
    app::{App, Caller, credentials::present, first_factor::FirstFactor, sessions::SignedIn},
    error::Failure,
};

impl App {
    /// Signs in who has this identity, or makes an account for them where the provider does that.
    ///
    /// # Errors
    /// [`Failure::Federation`] with the rule that refuses.
    pub(super) async fn sign_in_through(
        &self,
        provider: &Provider,
        told: &Told,
        origin: &Origin,
    ) -> Result<SignedIn, Failure> {
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        let settings = present_settings(&mut act, provider).await?.ok_or(FederationRefused::VisitOver)?;
        let owner = owner_of(&mut act, told).await?;
        let taken = match &told.email {
            Some(email) => act.user_by_email(email).await?.is_some(),
            None => false,
        };
        match (federation::sign_in(&settings, told, owner.as_ref(), taken), owner) {
            (Ok(Decision::Known(_)), Some(user)) => {
                let first = FirstFactor::provider(provider.id, told);
                self.first_factor_was_right(act, user, &first, origin, now).await
            }
            (Ok(Decision::Make { email, name, role }), None) => {
                let standing = Standing {
                    role: (role, now),
                    status: (Status::Active, now),
                    mfa_since: None,
                    has_password: false,
                };
                let id = UserId(self.clock.id());
                let (language, time_zone) = (Language::EnglishInternational, TimeZoneName::utc());
                let user = User { id, email, name, language, time_zone, standing, created_at: now };
                self.sign_in_new(act, user, provider, told, origin, now).await
            }
            (Err(why), Some(user)) => {
                let by = By::User(user.id.to_string());
                let entry = Entry::done(now, by, origin, Event::SignedIn, user.id.to_string());
                act.commit(&[entry.with("provider", settings.name).refused(why.code())]).await?;
                Err(why.into())
            }
            (Err(why), None) => Err(why.into()),
            (decided, owner) => Err(Failure::Internal(format!("{decided:?} for {:?}", owner.map(|u| u.id)))),
        }
    }

    /// Makes the user and the link, and opens the session: all of it, or nothing.
    async fn sign_in_new(
        &self,
        mut act: Act,
        user: User,
        provider: &Provider,
        told: &Told,
        origin: &Origin,
        now: Timestamp,
    ) -> Result<SignedIn, Failure> {
        act.add_user(&user, None).await?;
        let linked = LinkedIdentity { signed_in_at: Some(now), ..linked_to(user.id, told, now) };
        if !act.link_identity(&linked, None).await? {
            return Err(Failure::Conflict);
        }
        let id = user.id.to_string();
        let name = provider.settings.name.as_str();
        let record =
            |event| Entry::done(now, By::User(id.clone()), origin, event, id.clone()).with("provider", name);
        let created = record(Event::UserCreated)
            .with("email", user.email.as_str())
            .with("role", user.standing.role.0.code());
        let linked = record(Event::IdentityLinked).with("what", "linked");
        // The account was made here and now, so it has no second factor to ask for.
        let how = FirstFactor::provider(provider.id, told).how(false);
        let (new, signed_in) = self.open_session(&mut act, user, how, origin, now).await?;
        act.commit(&[created, linked, signed_in]).await?;
        Ok(SignedIn::Session(new))
    }

    /// Links an identity to the account of the caller.
    ///
    /// # Errors
    /// [`Failure::Federation`] with the rule that refuses; the attempt is on record then.
    pub(super) async fn link_identity(
        &self,
        caller: &Caller,
        provider: &Provider,
        told: &Told,
    ) -> Result<(), Failure> {
        let now = self.clock.now();
        let mut act = self.store.act().await?;
        let caller = present(self, &mut act, caller).await?;
        let id = caller.user.id;
        let owner = owner_of(&mut act, told).await?;
        let decided = present_settings(&mut act, provider)
            .await?
            .ok_or(FederationRefused::VisitOver)
            .and_then(|_| federation::is_local(&caller.actor, &caller.user.standing))
            .and_then(|()| federation::link(id, owner.as_ref()));
        let mut entry = Entry::done(now, caller.by(), &caller.origin, Event::IdentityLinked, id.to_string())
            .with("provider", provider.settings.name.as_str())
            .with("what", "linked");
        if let Err(why) = decided {
            act.commit(&[entry.refused(why.code())]).await?;
            return Err(why.into());
        }
        let deleted = owner.map(|o| o.id);
        if !act.link_identity(&linked_to(id, told, now), deleted).await? {
            return Err(Failure::Conflict);
        }
        if let Some(deleted) = deleted {
            entry = entry.with("of_deleted_user", deleted.to_string());
        }
        Ok(act.commit(&[entry]).await?)
    }
}

/// What a provider is set up with in this act. `None` when it was removed or changed while it was
/// asked: its word counts no more.
async fn present_settings(act: &mut Act, provider: &Provider) -> Result<Option<Settings>, Failure> {
    let settings = act.provider(provider.id).await?.map(|p| p.settings);
    Ok(settings.filter(|s| s.issuer == provider.settings.issuer))
}

/// Whose an identity is, deleted users too.
async fn owner_of(act: &mut Act, told: &Told) -> Result<Option<User>, Failure> {
    match act.linked_identity(&told.identity).await? {
        Some(linked) => Ok(act.user(linked.user).await?),
        None => Ok(None),
    }
}

fn linked_to(user: UserId, told: &Told, now: Timestamp) -> LinkedIdentity {
    LinkedIdentity {
        identity: told.identity.clone(),
        user,
        email: told.email_shown().to_owned(),
        linked_at: now,
        signed_in_at: None,
    }
}
