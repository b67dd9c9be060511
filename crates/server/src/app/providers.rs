//! Setting up sign-in providers, for Super Admins.

use portcullis_domain::{
    accounts::Invalid,
    audit::{Entry, Event},
    federation::{self, Provider, Settings, Typed},
    secret::{ExposeSecret, SecretText},
};
use portcullis_store::{Act, ProviderUse, Purpose, StoreError};
use uuid::Uuid;

use crate::{
    app::{
        App, Caller, Via,
        credentials::present,
        federation::{Errand, Going},
    },
    error::Failure,
};

/// The most bytes of a client secret.
const SECRET_MAX: usize = 2000;
/// The most providers there may be: each is a button on the sign-in page.
const MOST: usize = 20;

fn judge(typed: &Typed, secret: Option<&SecretText>) -> Result<Settings, Failure> {
    let mut wrong = Vec::new();
    if secret.is_some_and(|s| s.expose_secret().len() > SECRET_MAX) {
        let message = format!("Enter a client secret of at most {SECRET_MAX} characters.");
        wrong.push(Invalid { field: "client_secret", message });
    }
    match Settings::parse(typed) {
        Ok(settings) if wrong.is_empty() => Ok(settings),
        Ok(_) => Err(Failure::Invalid(wrong)),
        Err(more) => Err(Failure::Invalid(more.into_iter().chain(wrong).collect())),
    }
}

/// What is different, for the record: never the secret (L-2).
fn told(mut entry: Entry, before: &Settings, after: &Settings) -> Entry {
    let yes_no = |b: bool| if b { "yes" } else { "no" }.to_owned();
    for (field, old, new) in [
        ("name", before.name.clone(), after.name.clone()),
        ("client_id", before.client_id.clone(), after.client_id.clone()),
        ("scopes", before.scopes.join(" "), after.scopes.join(" ")),
        ("domains", before.domains.join(" "), after.domains.join(" ")),
        ("makes_users", yes_no(before.makes_users), yes_no(after.makes_users)),
        ("role", before.role.code().to_owned(), after.role.code().to_owned()),
    ] {
        if old != new {
            entry = entry.with(field, format!("{old} -> {new}"));
        }
    }
    entry
}

impl App {
    /// A provider, for a Super Admin.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`].
    pub async fn provider(&self, caller: &Caller, id: Uuid) -> Result<Provider, Failure> {
        caller.super_admin()?;
        self.store.read().await?.provider(id).await?.ok_or(Failure::NotFound)
    }

    /// Who would feel it if a provider were removed.
    ///
    /// # Errors
    /// The database's.
    pub async fn provider_use(&self, provider: &Provider) -> Result<ProviderUse, Failure> {
        Ok(self.store.read().await?.provider_use(&provider.settings.issuer).await?)
    }

    /// An act of a Super Admin in a session, as the store has them now (T-4).
    async fn provider_act(&self, caller: &Caller) -> Result<(Act, Caller), Failure> {
        let mut act = self.store.act().await?;
        let caller = present(self, &mut act, caller).await?;
        caller.super_admin()?;
        if matches!(caller.via, Via::Token { .. }) {
            return Err(Failure::NotSignedIn);
        }
        Ok((act, caller))
    }

    async fn write_secret(&self, act: &mut Act, id: Uuid, secret: &SecretText) -> Result<(), Failure> {
        let plain = secret.expose_secret().as_bytes();
        let sealed = self.store.keys().seal(Purpose::ProviderSecret, &id.to_string(), plain, self.clock.random());
        Ok(act.set_provider_secret(id, &sealed).await?)
    }

    /// Sets up a provider under an id that was shown before: it is in the addresses to register.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`]; [`Failure::Invalid`], with every field that is wrong.
    pub async fn add_provider(
        &self,
        caller: &Caller,
        id: Uuid,
        typed: &Typed,
        secret: Option<SecretText>,
    ) -> Result<Provider, Failure> {
        let settings = judge(typed, secret.as_ref())?;
        let (mut act, caller) = self.provider_act(caller).await?;
        let all = act.providers().await?;
        if all.iter().any(|p| p.settings.issuer == settings.issuer) {
            return Err(taken());
        }
        if all.iter().any(|p| p.id == id) {
            return Err(Failure::Conflict);
        }
        if all.len() >= MOST {
            let message = format!("There are {MOST} providers already. Remove one first.");
            return Err(Failure::field(Invalid { field: "name", message }));
        }
        let now = self.clock.now();
        let provider = Provider { id, settings, has_secret: secret.is_some(), made_at: now };
        act.add_provider(&provider).await.map_err(|error| match error {
            StoreError::Conflict(_) => taken(),
            other => other.into(),
        })?;
        if let Some(secret) = &secret {
            self.write_secret(&mut act, provider.id, secret).await?;
        }
        let entry =
            Entry::done(now, caller.by(), &caller.origin, Event::ProviderChanged, provider.settings.name.as_str())
                .with("what", "set up")
                .with("issuer", provider.settings.issuer.as_str())
                .with("client_id", provider.settings.client_id.as_str())
                .with("makes_users", if provider.settings.makes_users { "yes" } else { "no" })
                .with("role", provider.settings.role.code());
        act.commit(&[entry]).await?;
        Ok(provider)
    }

    /// Changes a provider. Its issuer stays: that is whose word its identities are. Without a
    /// secret the one that is there stays.
    ///
    /// # Errors
    /// As [`App::add_provider`]; [`Failure::NotFound`].
    pub async fn change_provider(
        &self,
        caller: &Caller,
        id: Uuid,
        typed: &Typed,
        secret: Option<SecretText>,
    ) -> Result<(), Failure> {
        let before = self.provider(caller, id).await?.settings;
        let settings = judge(&Typed { issuer: before.issuer.clone(), ..typed.clone() }, secret.as_ref())?;
        let (mut act, caller) = self.provider_act(caller).await?;
        let before = act.provider(id).await?.ok_or(Failure::NotFound)?.settings;
        act.change_provider(id, &settings).await?;
        let entry = Entry::done(
            self.clock.now(),
            caller.by(),
            &caller.origin,
            Event::ProviderChanged,
            settings.name.as_str(),
        );
        let mut entry = told(entry, &before, &settings);
        if let Some(secret) = &secret {
            self.write_secret(&mut act, id, secret).await?;
            entry = entry.with("client_secret", "replaced");
        }
        if entry.details.is_empty() {
            return Ok(());
        }
        Ok(act.commit(&[entry]).await?)
    }

    /// Removes a provider. The sessions opened through it end; passwords and identities stay.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`]; [`Failure::Federation`] when no Super Admin
    /// could sign in without it, which is on record then.
    pub async fn remove_provider(&self, caller: &Caller, id: Uuid) -> Result<Provider, Failure> {
        let (mut act, caller) = self.provider_act(caller).await?;
        let provider = act.provider(id).await?.ok_or(Failure::NotFound)?;
        let used = act.provider_use(&provider.settings.issuer).await?;
        let name = provider.settings.name.as_str();
        let entry = Entry::done(self.clock.now(), caller.by(), &caller.origin, Event::ProviderChanged, name)
            .with("what", "removed")
            .with("issuer", provider.settings.issuer.as_str());
        if let Err(why) = federation::remove(used.super_admins_left) {
            act.commit(&[entry.refused(why.code())]).await?;
            return Err(why.into());
        }
        act.remove_provider(id).await?;
        let entry = entry.with("users_without_another_way_in", used.stranded.to_string());
        act.commit(&[entry]).await?;
        Ok(provider)
    }

    /// Begins a visit to a provider that shows what it tells, and does nothing else.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`], [`Failure::Federation`].
    pub async fn begin_test(&self, caller: &Caller, id: Uuid) -> Result<Going, Failure> {
        caller.super_admin()?;
        let Via::Session { session, .. } = &caller.via else { return Err(Failure::NotSignedIn) };
        let errand = Errand::Test(session.handle);
        self.go_to_provider(id, errand, Some(caller.user.id), &caller.origin).await
    }
}

fn taken() -> Failure {
    let message = "There is a provider with this issuer already.".to_owned();
    Failure::field(Invalid { field: "issuer", message })
}
