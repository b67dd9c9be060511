//! APIs that tokens are for: registering, changing and removing them, and their keys. For Super
//! Admins in a session; the product's own API is made by the server and stays as it is.

use jiff::Timestamp;
use portcullis_domain::{
    accounts::Invalid,
    apis::{APIS_MAX, Api, ApiKey, ApiKeyId, ApiRefused, OWN, Overlap, Settings, Typed, rotate},
    audit::{By, Entry, Event, Origin},
    secret::ApiSecret,
};
use portcullis_store::{Act, Purpose, Store, StoreError, StoredKey};
use uuid::Uuid;

use crate::{
    app::{App, Caller, credentials::present, keys::own_audience},
    clock::Clock,
    error::Failure,
};

/// A key at the only moment its secret exists outside the API's hands.
#[derive(Debug)]
pub struct MadeKey {
    /// The API.
    pub api: Api,
    /// The key.
    pub key: ApiKey,
    /// Shown once.
    pub secret: ApiSecret,
    /// When the last of the older keys ends, if any goes on working.
    pub older_ends: Option<Timestamp>,
}

/// An API with its keys, the first made first.
#[derive(Debug)]
pub struct ApiWithKeys {
    /// The API.
    pub api: Api,
    /// Its keys; some may have ended.
    pub keys: Vec<ApiKey>,
}

/// The product's own API, as it is in the database: made if it is not there, and named anew if the
/// server has another address than before.
///
/// # Errors
/// The database's; [`Failure::Internal`] when another API has its identifier.
pub(crate) async fn own_api(store: &Store, clock: &Clock, issuer: &str) -> Result<Api, Failure> {
    let settings = Settings::own(own_audience(issuer));
    if let Some(api) = store.read().await?.api(OWN).await?.filter(|api| api.settings == settings) {
        return Ok(api);
    }
    // In an act, so that of several nodes that start at once one makes it. A database that was restored
    // for another address is on hold, and is named anew all the same.
    let mut act = store.act_on_hold().await?;
    let present = act.api(OWN).await?;
    let identifier = settings.identifier.clone();
    let entry = |event| Entry::done(clock.now(), By::Server, &Origin::default(), event, identifier.as_str());
    let taken = |error| match error {
        StoreError::Conflict(_) => Failure::Internal(format!(
            "an API is registered with the identifier {identifier}, which is this server's own: start with the \
             public_url from before, remove that API, then change public_url"
        )),
        other => other.into(),
    };
    match present {
        Some(api) if api.settings == settings => Ok(api),
        Some(api) => {
            act.name_own_api(&identifier).await.map_err(taken)?;
            let told = format!("{} -> {identifier}", api.settings.identifier);
            act.commit(&[entry(Event::ApiChanged).with("identifier", told)]).await?;
            Ok(Api { settings, ..api })
        }
        None => {
            let api = Api { id: OWN, settings, made_at: clock.now() };
            act.add_api(&api).await.map_err(taken)?;
            act.commit(&[entry(Event::ApiRegistered).with("name", api.settings.name.as_str())]).await?;
            Ok(api)
        }
    }
}

/// What is different, for the record.
fn told(mut entry: Entry, before: &Api, after: &Api) -> Entry {
    let seconds = |api: &Api| api.settings.lifespan_seconds.map(|s| s.to_string()).unwrap_or_default();
    for (field, old, new) in [
        ("name", before.settings.name.clone(), after.settings.name.clone()),
        ("scopes", before.scope_names(), after.scope_names()),
        ("lifespan_seconds", seconds(before), seconds(after)),
        ("requires_dpop", before.settings.requires_dpop.to_string(), after.settings.requires_dpop.to_string()),
        ("algorithm", before.settings.algorithm.code().to_owned(), after.settings.algorithm.code().to_owned()),
    ] {
        if old != new {
            entry = entry.with(field, format!("{old} -> {new}"));
        }
    }
    if before.scope_names() == after.scope_names() && before.settings.scopes != after.settings.scopes {
        entry = entry.with("scope_descriptions", "changed");
    }
    entry
}

impl App {
    /// All APIs with their keys: the product's own, then the others by name.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`].
    pub async fn apis(&self, caller: &Caller) -> Result<Vec<ApiWithKeys>, Failure> {
        caller.super_admin()?;
        let mut tx = self.store.read().await?;
        let mut all = Vec::new();
        for api in tx.apis().await? {
            all.push(ApiWithKeys { keys: tx.api_keys(api.id).await?, api });
        }
        Ok(all)
    }

    /// An API with its keys.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`].
    pub async fn api(&self, caller: &Caller, id: Uuid) -> Result<ApiWithKeys, Failure> {
        caller.super_admin()?;
        let mut tx = self.store.read().await?;
        let api = tx.api(id).await?.ok_or(Failure::NotFound)?;
        Ok(ApiWithKeys { keys: tx.api_keys(id).await?, api })
    }

    /// An act of a Super Admin in a session, as the store has them now (T-4).
    pub(crate) async fn api_act(&self, caller: &Caller, stops_tokens: bool) -> Result<(Act, Caller), Failure> {
        caller.super_admin()?;
        caller.in_session()?;
        let mut act = self.store.act().await?;
        // First of all, so that no token under way gets a later instant than the removal (C-11).
        if stops_tokens {
            act.hold_tokens().await?;
        }
        let caller = present(self, &mut act, caller).await?;
        caller.super_admin()?;
        Ok((act, caller))
    }

    /// Registers an API.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`]; [`Failure::Invalid`], with every field that is wrong.
    pub async fn register_api(&self, caller: &Caller, typed: &Typed) -> Result<Api, Failure> {
        let settings = Settings::parse(typed).map_err(Failure::Invalid)?;
        let spares = self.maker.spares(settings.algorithm).await?;
        let (mut act, caller) = self.api_act(caller, false).await?;
        let all = act.apis().await?;
        if all.iter().any(|a| a.settings.identifier == settings.identifier) {
            return Err(taken());
        }
        if all.len() >= APIS_MAX {
            let message = format!("There are {APIS_MAX} APIs already. Remove one first.");
            return Err(Failure::field(Invalid { field: "name", message }));
        }
        let api = Api { id: self.clock.id(), settings, made_at: self.clock.now() };
        act.add_api(&api).await.map_err(|error| match error {
            StoreError::Conflict(_) => taken(),
            other => other.into(),
        })?;
        let seconds = api.settings.lifespan_seconds.map(|s| s.to_string()).unwrap_or_default();
        let entry = self
            .api_entry(&caller, Event::ApiRegistered, &api)
            .with("name", api.settings.name.as_str())
            .with("scopes", api.scope_names())
            .with("lifespan_seconds", seconds)
            .with("requires_dpop", api.settings.requires_dpop.to_string())
            .with("algorithm", api.settings.algorithm.code());
        let made = self.sign_for(&mut act, &caller, &api, spares).await?;
        act.commit(&[vec![entry], made].concat()).await?;
        Ok(api)
    }

    /// Sees to it that there are keys for the tokens of an API, and that they stay as long as the tokens
    /// live; gives the records of those that were made.
    async fn sign_for(
        &self,
        act: &mut Act,
        caller: &Caller,
        api: &Api,
        spares: Vec<StoredKey>,
    ) -> Result<Vec<Entry>, Failure> {
        act.note_lifespan(api.lifespan(self.config.token_lifespan_seconds)).await?;
        self.maker.complete(act, api.settings.algorithm, spares, (&caller.by(), &caller.origin)).await
    }

    fn api_entry(&self, caller: &Caller, event: Event, api: &Api) -> Entry {
        let identifier = api.settings.identifier.as_str();
        Entry::done(self.clock.now(), caller.by(), &caller.origin, event, identifier)
    }

    /// Changes all of an API but its identifier, which stays: those who verify tokens
    /// know it by that. Tokens that were issued keep what they have.
    ///
    /// # Errors
    /// As [`App::register_api`]; [`Failure::NotFound`]; [`ApiRefused::Own`].
    pub async fn change_api(&self, caller: &Caller, id: Uuid, typed: &Typed) -> Result<Api, Failure> {
        let identifier = self.api(caller, id).await?.api.settings.identifier;
        if id == OWN {
            return Err(ApiRefused::Own.into());
        }
        let settings = Settings::parse(&Typed { identifier, ..typed.clone() }).map_err(Failure::Invalid)?;
        let spares = self.maker.spares(settings.algorithm).await?;
        let (mut act, caller) = self.api_act(caller, true).await?;
        let before = act.api(id).await?.ok_or(Failure::NotFound)?;
        let after = Api { settings, ..before.clone() };
        act.change_api(id, &after.settings).await?;
        let entry = told(self.api_entry(&caller, Event::ApiChanged, &after), &before, &after);
        if !entry.details.is_empty() {
            let made = self.sign_for(&mut act, &caller, &after, spares).await?;
            act.commit(&[vec![entry], made].concat()).await?;
        }
        Ok(after)
    }

    /// Removes an API with its keys. From then on no token for it is issued on any node, and those
    /// there are, are inactive (C-11).
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`], [`ApiRefused::Own`].
    pub async fn remove_api(&self, caller: &Caller, id: Uuid) -> Result<Api, Failure> {
        let (mut act, caller) = self.api_act(caller, true).await?;
        let api = act.api(id).await?.ok_or(Failure::NotFound)?;
        if api.is_own() {
            return Err(ApiRefused::Own.into());
        }
        let keys = act.api_keys(id).await?;
        act.remove_api(id, self.clock.now()).await?;
        let entry = self
            .api_entry(&caller, Event::ApiRemoved, &api)
            .with("name", api.settings.name.as_str())
            .with("keys", ids_of(&keys));
        act.commit(&[entry]).await?;
        Ok(api)
    }

    /// Makes a key of an API. One that is valid goes on working for the overlap. `seen` are the ids of
    /// the keys that the caller saw, space separated: if there are others by now (a form that is sent
    /// again, say), nothing is done.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`], [`Failure::Conflict`],
    /// [`ApiRefused::TooManyKeys`].
    pub async fn make_api_key(
        &self,
        caller: &Caller,
        id: Uuid,
        overlap: Overlap,
        seen: Option<&str>,
    ) -> Result<MadeKey, Failure> {
        let (mut act, caller) = self.api_act(caller, false).await?;
        let api = act.api(id).await?.ok_or(Failure::NotFound)?;
        let now = self.clock.now();
        let keys = act.api_keys(id).await?;
        if seen.is_some_and(|seen| seen != ids_of(&keys)) {
            return Err(Failure::Conflict);
        }
        let rotation = rotate(&keys, overlap, now)?;
        let secret = ApiSecret::new(self.clock.random());
        let key = ApiKey {
            id: ApiKeyId::new(self.clock.random()),
            api: id,
            place: rotation.place,
            digest: self.store.digest_key(Purpose::ApiSecret).digest(secret.expose().as_bytes()),
            made_at: now,
            ends_at: None,
        };
        let mut entry = self.api_entry(&caller, Event::ApiKeyMade, &api).with("key", key.id.as_str());
        for gone in &rotation.gone {
            act.remove_api_key(id, gone).await?;
        }
        for (ending, at) in &rotation.ending {
            act.end_api_key(ending, *at).await?;
            entry = entry.with("older_key", ending.as_str()).with("older_key_ends", at.to_string());
        }
        if !rotation.gone.is_empty() {
            let gone: Vec<&str> = rotation.gone.iter().map(ApiKeyId::as_str).collect();
            entry = entry.with("keys_gone", gone.join(" "));
        }
        act.add_api_key(&key).await?;
        act.commit(&[entry]).await?;
        let older_ends = rotation.ending.iter().map(|(_, at)| *at).max();
        Ok(MadeKey { api, key, secret, older_ends })
    }

    /// Removes a key of an API: it stops at once.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NotFound`].
    pub async fn remove_api_key(&self, caller: &Caller, id: Uuid, key: &str) -> Result<(), Failure> {
        let key = ApiKeyId::parse(key).ok_or(Failure::NotFound)?;
        let (mut act, caller) = self.api_act(caller, false).await?;
        let api = act.api(id).await?.ok_or(Failure::NotFound)?;
        if !act.remove_api_key(id, &key).await? {
            return Err(Failure::NotFound);
        }
        let entry = self.api_entry(&caller, Event::ApiKeyRemoved, &api).with("key", key.as_str());
        Ok(act.commit(&[entry]).await?)
    }
}

/// The ids of keys, space separated.
#[must_use]
pub fn ids_of(keys: &[ApiKey]) -> String {
    keys.iter().map(|k| k.id.as_str()).collect::<Vec<_>>().join(" ")
}

fn taken() -> Failure {
    let message = "There is an API with this identifier already.".to_owned();
    Failure::field(Invalid { field: "identifier", message })
}
