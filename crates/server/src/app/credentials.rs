//! Generating, looking at and revoking the caller's credential (C-1 to C-13).

use jiff::Timestamp;
use portcullis_domain::{
    accounts::UserId,
    audit::{Entry, Event},
    client_keys::{self, ClientKeyRefused, KeyAct},
    credentials::{self, ClientId, Credential, GenerateRefused, RevocationReason, RevokeRefused, Standing},
    secret::ClientSecret,
    sessions::Session,
    tokens::IssuedToken,
};
use portcullis_store::{Act, Purpose, TokenUse};
use uuid::Uuid;

use crate::{
    app::{App, Caller, Via, letters::Letter},
    error::Failure,
};

/// A credential at the only moment its secret exists outside its owner's hands (C-5).
#[derive(Debug)]
pub struct Generated {
    /// The credential.
    pub credential: Credential,
    /// Shown once.
    pub secret: ClientSecret,
}

/// What the **Credentials** tab shows.
#[derive(Debug)]
pub struct Tab {
    /// The credential in the owner's place, its standing, and how its tokens stand.
    pub held: Option<Held>,
    /// Whether generating would be allowed now, and if not, why.
    pub may_generate: Result<(), GenerateRefused>,
    /// The name of the provider that the session was opened through (C-4).
    pub through: Option<String>,
    /// When all this was read.
    pub now: Timestamp,
}

impl Tab {
    /// Whether its owner may change the ways in which it proves itself now, and if not, why (C-14, C-15).
    ///
    /// # Errors
    /// The rule that refuses.
    pub fn may(&self, caller: &Caller, act: KeyAct) -> Result<(), ClientKeyRefused> {
        let held = self.held.as_ref().map(|held| &held.credential);
        client_keys::change(act, &caller.actor, &caller.user.standing, held, self.now)
    }
}

/// The credential in a place.
#[derive(Debug)]
pub struct Held {
    /// The credential.
    pub credential: Credential,
    /// Where it stands.
    pub standing: Standing,
    /// How its tokens stand.
    pub tokens: TokenUse,
}

impl Held {
    /// How many tokens are valid now: none unless the credential is active (C-11).
    #[must_use]
    pub fn valid_tokens(&self) -> u64 {
        if self.standing == Standing::Active { self.tokens.open } else { 0 }
    }
}

/// The caller as the store has them inside an act: the session may have ended, the role may have
/// changed, since the request came in.
pub(crate) async fn present(app: &App, act: &mut Act, caller: &Caller) -> Result<Caller, Failure> {
    let user = act.user(caller.user.id).await?.ok_or(Failure::NotSignedIn)?;
    let mut fresh = Caller { user, ..caller.clone() };
    if let Via::Session { digest, session } = &mut fresh.via {
        let live = act.session(digest).await?.filter(|s| s.is_live(&app.config.sessions, app.clock.now()));
        *session = live.ok_or(Failure::NotSignedIn)?;
        fresh.actor = session.actor();
    }
    Ok(fresh)
}

impl App {
    /// What the tab shows to its owner.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`] (C-3).
    pub async fn credential_tab(&self, caller: &Caller) -> Result<Tab, Failure> {
        caller.super_admin()?;
        let mut tx = self.store.read().await?;
        let held = tx.held_credential(caller.user.id).await?;
        let now = self.clock.now();
        let may_generate =
            credentials::generate(&caller.actor, &caller.user.standing, held.as_ref(), now).map(drop);
        let through = match &caller.via {
            Via::Session { session: Session { provider: Some(id), .. }, .. } => {
                tx.provider(*id).await?.map(|p| p.settings.name)
            }
            _ => None,
        };
        let held = match held {
            Some(credential) => Some(Held {
                standing: credential.standing(&caller.user.standing, now),
                tokens: tx.token_use(credential.id, now).await?,
                credential,
            }),
            None => None,
        };
        Ok(Tab { held, may_generate, through, now })
    }

    /// Generates a credential for the caller.
    ///
    /// # Errors
    /// [`Failure::Generate`] with the rule that refuses; the attempt is on record then.
    pub async fn generate_credential(&self, caller: &Caller) -> Result<Generated, Failure> {
        #[cfg(feature = "seeded-bugs")]
        let before = crate::seeded::held_before(self, caller.user.id).await?;
        let mut act = self.store.act().await?;
        let caller = present(self, &mut act, caller).await?;
        let owner = caller.user.id;
        let held = act.held_credential(owner).await?;
        #[cfg(feature = "seeded-bugs")]
        let held = before.unwrap_or(held);
        let now = self.clock.now();
        let entry = |event, subject: &str| Entry::done(now, caller.by(), &caller.origin, event, subject);
        let allowed = match credentials::generate(&caller.actor, &caller.user.standing, held.as_ref(), now) {
            Ok(allowed) => allowed,
            Err(why) => {
                let refused = entry(Event::CredentialGenerated, &owner.to_string()).refused(why.code());
                act.commit(&[refused]).await?;
                return Err(why.into());
            }
        };
        let mut entries = Vec::new();
        if let (Some(id), Some(held)) = (allowed.retire, &held) {
            act.retire_credential(id, now).await?;
            entries.push(entry(Event::CredentialRetired, held.client_id.as_str()));
        }
        let secret = ClientSecret::new(self.clock.random());
        let credential = Credential {
            id: self.clock.id(),
            owner,
            client_id: ClientId::new(self.clock.random()),
            digest: self.store.digest_key(Purpose::ClientSecret).digest(secret.expose().as_bytes()),
            generated_at: now,
            expires_at: allowed.expires_at,
            retired_at: None,
            revoked: None,
            key: None,
            secret_off_at: None,
            had_key: false,
        };
        act.add_credential(&credential).await?;
        let expires = credential.expires_at.to_string();
        entries.push(entry(Event::CredentialGenerated, credential.client_id.as_str()).with("expires", expires));
        let (client_id, origin) = (credential.client_id.as_str(), &caller.origin);
        let letter = Letter::CredentialGenerated { client_id, expires: credential.expires_at, origin };
        self.send(&mut act, &caller.user, &letter).await?;
        #[cfg(feature = "seeded-bugs")]
        crate::seeded::commit(act, &entries).await?;
        #[cfg(not(feature = "seeded-bugs"))]
        act.commit(&entries).await?;
        Ok(Generated { credential, secret })
    }

    /// Revokes the credential in `owner`'s place. `expected` is the Client ID that the caller saw:
    /// if another is there by now, nothing is done.
    ///
    /// # Errors
    /// [`Failure::Revoke`] with the rule that refuses; the attempt is on record then (C-8).
    pub async fn revoke_credential(
        &self,
        caller: &Caller,
        owner: UserId,
        expected: Option<&str>,
    ) -> Result<Credential, Failure> {
        let mut act = self.store.act().await?;
        // First of all, so that no token under way gets a later instant than the revocation (C-11).
        // Who is refused in any case does not hold them up.
        if caller.user.standing.is_super_admin() && matches!(caller.via, Via::Session { .. }) {
            act.hold_tokens().await?;
        }
        let caller = present(self, &mut act, caller).await?;
        let mut held = act.held_credential(owner).await?;
        if let Some(expected) = expected
            && held.as_ref().is_none_or(|c| c.client_id.as_str() != expected)
        {
            // The caller means another one: whose it is decides which rule refuses.
            held = act.presented_clients(&[expected]).await?.pop().map(|c| c.credential);
        }
        let now = self.clock.now();
        let entry =
            |subject: &str| Entry::done(now, caller.by(), &caller.origin, Event::CredentialRevoked, subject);
        let decision = credentials::revoke(&caller.actor, &caller.user.standing, owner, held.as_ref());
        match (decision, held) {
            (Ok(()), Some(mut credential)) => {
                if !act.revoke_credential(credential.id, RevocationReason::ByOwner, now).await? {
                    return Err(RevokeRefused::NothingToRevoke.into());
                }
                let client_id = credential.client_id.as_str();
                let letter = Letter::CredentialRevoked { client_id, why: RevocationReason::ByOwner };
                self.send(&mut act, &caller.user, &letter).await?;
                #[cfg(feature = "seeded-bugs")]
                crate::seeded::commit(act, &[entry(client_id)]).await?;
                #[cfg(not(feature = "seeded-bugs"))]
                act.commit(&[entry(client_id)]).await?;
                credential.revoked = Some((now, RevocationReason::ByOwner));
                Ok(credential)
            }
            (decision, held) => {
                let why = decision.err().unwrap_or(RevokeRefused::NothingToRevoke);
                let subject = held.map_or_else(|| owner.to_string(), |c| c.client_id.as_str().to_owned());
                act.commit(&[entry(&subject).refused(why.code())]).await?;
                Err(why.into())
            }
        }
    }

    /// Whether a Client ID was the caller's and is revoked.
    ///
    /// # Errors
    /// The database's.
    pub async fn has_revoked(&self, caller: &Caller, client_id: &str) -> Result<bool, Failure> {
        let found = self.store.read().await?.presented_clients(&[client_id]).await?.pop();
        Ok(found.is_some_and(|c| c.credential.owner == caller.user.id && c.credential.revoked.is_some()))
    }

    /// The latest tokens of the caller's credential, and whether there are older ones.
    ///
    /// # Errors
    /// [`Failure::NotSuperAdmin`], [`Failure::NoCredential`].
    pub async fn recent_use(
        &self,
        caller: &Caller,
        before: Option<(Timestamp, Uuid)>,
        limit: u32,
    ) -> Result<(Held, Vec<IssuedToken>), Failure> {
        let held = self.credential_tab(caller).await?.held.ok_or(Failure::NoCredential)?;
        let tokens = self.store.read().await?.recent_tokens(held.credential.id, before, limit).await?;
        Ok((held, tokens))
    }
}
