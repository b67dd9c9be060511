//! Signing in through a provider: going there, and what its answer leads to.
//!
//! Authorization code flow with PKCE (RFC 7636, S256), `state` and `nonce`, as RFC 9700 asks. What
//! is under way is a row that is taken once, and the answer counts only in the browser that began
//! it. Nothing here is on the way of a local sign-in or of a token: a provider that hangs costs
//! those who want to sign in through it, and nobody else.

mod documents;
mod http;
mod outcome;
mod talk;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use portcullis_domain::{
    accounts::UserId,
    audit::{By, Entry, Event, Origin},
    federation::{FederationRefused, Provider},
    secret::{ExposeSecret, SecretText},
};
use portcullis_store::Purpose;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    app::{
        App, Caller, Via,
        ceremonies::Kind,
        sessions::{SignedIn, secret_digest},
    },
    error::Failure,
};

pub use talk::Claim;

/// What the server remembers of providers between requests.
pub struct Federation {
    http: http::Http,
    documents: documents::Cache,
}

impl Federation {
    /// Nothing remembered yet.
    #[must_use]
    pub fn new() -> Self {
        Self { http: http::Http::new(), documents: documents::Cache::default() }
    }
}

impl Default for Federation {
    fn default() -> Self {
        Self::new()
    }
}

/// What somebody goes to a provider for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Errand {
    /// To sign in, and then to this page of the console.
    SignIn(Option<String>),
    /// To link the identity to the account of this session (its handle).
    Link(Uuid),
    /// To see what the provider tells, as a Super Admin in this session.
    Test(Uuid),
}

/// A visit to a provider, as it is remembered until its answer comes.
#[derive(Serialize, Deserialize)]
struct Visit {
    provider: Uuid,
    issuer: String,
    errand: Errand,
    /// The digest of the value of the cookie of the browser that began it.
    browser: [u8; 32],
    nonce: String,
    verifier: String,
}

/// Where a browser is to go, and the cookie that it needs when it comes back.
pub struct Going {
    /// The name of the provider.
    pub name: String,
    /// The address there.
    pub url: String,
    /// The value of the cookie of what is under way.
    pub cookie: SecretText,
}

/// What came back with a browser, as it stood in the address.
#[derive(Deserialize, Default)]
#[serde(default)]
pub struct ProviderAnswer {
    state: String,
    code: Option<SecretText>,
    error: Option<String>,
    iss: Option<String>,
}

/// What an answer led to.
pub enum CameBack {
    /// Signed in, up to the second factor if there is one; and where to go then.
    SignedIn(SignedIn, Option<String>),
    /// The identity is linked to the caller's account.
    Linked,
    /// A test: nothing was done.
    Tested(Box<Provider>, Vec<Claim>),
}

/// Why an answer led nowhere, and what the visit was for, as far as that is known.
pub struct Lost {
    /// What the visit was for.
    pub errand: Errand,
    /// Why.
    pub why: Failure,
}

impl App {
    /// The address at which a provider answers: one for each, so that an answer of one is never
    /// taken for that of another (RFC 9700 §4.4.2.2).
    #[must_use]
    pub fn redirect_uri(&self, provider: Uuid) -> String {
        format!("{}/sign-in/provider/{provider}/callback", self.config.public_url)
    }

    /// The address to which a provider sends who signed out there.
    #[must_use]
    pub fn signed_out_uri(&self, provider: Uuid) -> String {
        format!("{}/sign-in/provider/{provider}/signed-out", self.config.public_url)
    }

    /// The providers, for the buttons on the sign-in page and elsewhere.
    ///
    /// # Errors
    /// The database's.
    pub async fn sign_in_providers(&self) -> Result<Vec<Provider>, Failure> {
        Ok(self.store.read().await?.providers().await?)
    }

    /// The name of the provider that a session was opened through, if it was.
    ///
    /// # Errors
    /// The database's.
    pub async fn provider_of(&self, caller: &Caller) -> Result<Option<Provider>, Failure> {
        let Via::Session { session, .. } = &caller.via else { return Ok(None) };
        let Some(id) = session.provider else { return Ok(None) };
        Ok(self.store.read().await?.provider(id).await?)
    }

    /// Begins a visit to a provider. Whether the caller may is asked before.
    ///
    /// # Errors
    /// [`Failure::NotFound`], or [`Failure::Federation`] when the provider cannot be visited now;
    /// a refused sign-in is on record then.
    pub async fn go_to_provider(
        &self,
        id: Uuid,
        errand: Errand,
        user: Option<UserId>,
        origin: &Origin,
    ) -> Result<Going, Failure> {
        let provider = self.store.read().await?.provider(id).await?.ok_or(Failure::NotFound)?;
        match self.begin_visit(&provider, errand.clone(), user, origin).await {
            Err(Failure::Federation(why)) if matches!(errand, Errand::SignIn(_)) => {
                self.record_lost(why, Some(&provider), origin).await?;
                Err(why.into())
            }
            other => other,
        }
    }

    async fn begin_visit(
        &self,
        provider: &Provider,
        errand: Errand,
        user: Option<UserId>,
        origin: &Origin,
    ) -> Result<Going, Failure> {
        if !self.refusals.may_begin(origin) {
            return Err(FederationRefused::Busy.into());
        }
        let documents = self.documents_of(provider).await?;
        let random = || BASE64URL.encode(self.clock.random::<32>());
        let (cookie, browser) = self.new_secret();
        let visit = Visit {
            provider: provider.id,
            issuer: provider.settings.issuer.clone(),
            errand,
            browser,
            nonce: random(),
            verifier: random(),
        };
        let mut tx = self.store.write().await?;
        let state = self.begin(&mut tx, Kind::ProviderVisit, user, &visit).await?;
        tx.commit().await?;
        let url = talk::authorization_url(provider, &documents, &visit, &state, &self.redirect_uri(provider.id))?;
        Ok(Going { name: provider.settings.name.clone(), url, cookie })
    }

    /// Takes the answer of a provider that a browser brought. `caller` is who is signed in there.
    ///
    /// # Errors
    /// [`Lost`]; a refused sign-in or link is on record then.
    pub async fn come_back(
        &self,
        id: Uuid,
        answer: ProviderAnswer,
        cookie: Option<&str>,
        caller: Option<&Caller>,
        origin: &Origin,
    ) -> Result<CameBack, Lost> {
        let visit = match self.take_visit(&answer).await {
            Ok(visit) => visit,
            Err(why) => return Err(self.lost(Errand::SignIn(None), why, None, origin).await),
        };
        let errand = visit.errand.clone();
        let provider = match self.provider_of_visit(id, &visit, cookie).await {
            Ok(provider) => provider,
            Err(why) => return Err(self.lost(errand, why, None, origin).await),
        };
        match self.hear(&provider, &visit, answer, caller, origin).await {
            Ok(back) => Ok(back),
            Err(why) => Err(self.lost(errand, why, Some(&provider), origin).await),
        }
    }

    /// The visit that a `state` names. It is gone then, whatever comes of it.
    async fn take_visit(&self, answer: &ProviderAnswer) -> Result<Visit, Failure> {
        let mut tx = self.store.write().await?;
        let taken = self.take::<Visit>(&mut tx, Kind::ProviderVisit, &answer.state).await?;
        tx.commit().await?;
        taken.map(|(_, visit)| visit).ok_or_else(|| FederationRefused::VisitOver.into())
    }

    /// The provider of a visit, if the answer came to its address, into the browser that began it.
    async fn provider_of_visit(&self, id: Uuid, visit: &Visit, cookie: Option<&str>) -> Result<Provider, Failure> {
        let browser = secret_digest(cookie.unwrap_or_default());
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(&browser, &visit.browser).is_ok();
        if id != visit.provider || cookie.is_none() || !same {
            return Err(FederationRefused::NotThisBrowser.into());
        }
        let provider = self.store.read().await?.provider(id).await?;
        let provider = provider.filter(|p| p.settings.issuer == visit.issuer);
        provider.ok_or_else(|| FederationRefused::VisitOver.into())
    }

    async fn hear(
        &self,
        provider: &Provider,
        visit: &Visit,
        answer: ProviderAnswer,
        caller: Option<&Caller>,
        origin: &Origin,
    ) -> Result<CameBack, Failure> {
        // RFC 9207 §2.4: before anything else of the answer is believed, an error included.
        if answer.iss.as_ref().is_some_and(|iss| *iss != provider.settings.issuer) {
            return Err(FederationRefused::BadAnswer.into());
        }
        if answer.error.is_some() {
            return Err(FederationRefused::Declined.into());
        }
        let code = answer.code.ok_or(FederationRefused::BadAnswer)?;
        let heard = self.ask_provider(provider, visit, code, answer.iss.is_some()).await?;
        match &visit.errand {
            Errand::SignIn(next) => {
                let signed_in = self.sign_in_through(provider, &heard.told, origin).await?;
                Ok(CameBack::SignedIn(signed_in, next.clone()))
            }
            Errand::Link(session) => {
                let caller = caller.filter(|c| c.is_session(*session)).ok_or(FederationRefused::NotThisBrowser)?;
                self.link_identity(caller, provider, &heard.told).await?;
                Ok(CameBack::Linked)
            }
            Errand::Test(session) => {
                let caller = caller.filter(|c| c.is_session(*session)).ok_or(FederationRefused::NotThisBrowser)?;
                caller.super_admin()?;
                Ok(CameBack::Tested(Box::new(provider.clone()), heard.claims))
            }
        }
    }

    /// An answer that led nowhere, on record if it was to sign somebody in. (A refused link is
    /// recorded where it is refused; a test does nothing.)
    async fn lost(&self, errand: Errand, why: Failure, provider: Option<&Provider>, origin: &Origin) -> Lost {
        if let (Errand::SignIn(_), Failure::Federation(refused)) = (&errand, &why)
            && let Err(why) = self.record_lost(*refused, provider, origin).await
        {
            return Lost { errand, why };
        }
        Lost { errand, why }
    }

    /// Records a sign-in that led nowhere, up to a rate.
    async fn record_lost(
        &self,
        why: FederationRefused,
        provider: Option<&Provider>,
        origin: &Origin,
    ) -> Result<(), Failure> {
        // Refusals of a known account are recorded with the account, where they are made.
        if matches!(why, FederationRefused::NotActive | FederationRefused::Deleted)
            || !self.refusals.is_to_be_recorded(origin, why.code())
        {
            return Ok(());
        }
        let mut entry = Entry::done(self.clock.now(), By::Stranger, origin, Event::SignedIn, "unknown account")
            .refused(why.code());
        if let Some(provider) = provider {
            entry = entry.with("provider", provider.settings.name.as_str());
        }
        self.recorder.record(entry).await
    }

    /// The client secret of a provider, opened.
    async fn secret_of(&self, provider: &Provider) -> Result<Option<SecretText>, Failure> {
        let Some(sealed) = self.store.read().await?.provider_secret(provider.id).await? else { return Ok(None) };
        let opened = self.store.keys().open(Purpose::ProviderSecret, &provider.id.to_string(), &sealed)?;
        let text = String::from_utf8(opened.expose_secret().clone());
        text.map(|t| Some(t.into())).map_err(|_| Failure::Internal("the secret of a provider".to_owned()))
    }
}

impl Caller {
    /// Whether this is the session with a handle.
    fn is_session(&self, handle: Uuid) -> bool {
        matches!(&self.via, Via::Session { session, .. } if session.handle == handle)
    }
}
