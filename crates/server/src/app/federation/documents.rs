//! What a provider publishes of itself (OpenID Connect Discovery 1.0) and its keys, fetched when
//! they are needed and remembered for ten minutes; and how many may wait for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use openidconnect::{
    AdditionalProviderMetadata, EndSessionUrl, ProviderMetadata,
    core::{
        CoreAuthDisplay, CoreClaimName, CoreClaimType, CoreClientAuthMethod, CoreGrantType, CoreJsonWebKey,
        CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm, CoreJweKeyManagementAlgorithm, CoreResponseMode,
        CoreResponseType, CoreSubjectIdentifierType,
    },
};
use portcullis_domain::federation::{FederationRefused, Provider, is_safe_address};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use super::http::{Http, HttpError};
use crate::{app::App, error::Failure};

/// How long documents are remembered.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(10);
/// How long all that one visit asks of a provider may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);
/// How many may be waiting for one provider at a time.
const WAITING: usize = 8;

/// Members of the metadata that the library does not know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct More {
    /// OpenID Connect RP-Initiated Logout 1.0 §2.1.
    pub(super) end_session_endpoint: Option<EndSessionUrl>,
    /// RFC 9207 §3.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

impl AdditionalProviderMetadata for More {}

pub(super) type Metadata = ProviderMetadata<
    More,
    CoreAuthDisplay,
    CoreClientAuthMethod,
    CoreClaimName,
    CoreClaimType,
    CoreGrantType,
    CoreJweContentEncryptionAlgorithm,
    CoreJweKeyManagementAlgorithm,
    CoreJsonWebKey,
    CoreResponseMode,
    CoreResponseType,
    CoreSubjectIdentifierType,
>;

/// The documents of a provider.
pub(super) struct Documents {
    pub(super) metadata: Metadata,
    pub(super) keys: CoreJsonWebKeySet,
    fetched: Timestamp,
}

/// The documents by issuer, and the places in which to wait for a provider.
#[derive(Default)]
pub(super) struct Cache {
    held: Mutex<HashMap<String, Arc<Documents>>>,
    places: Mutex<HashMap<Uuid, Arc<Semaphore>>>,
}

impl Cache {
    fn remembered(&self, issuer: &str, now: Timestamp) -> Option<Arc<Documents>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let found = held.get(issuer)?;
        (found.fetched <= now && now < found.fetched + REMEMBERED).then(|| Arc::clone(found))
    }

    fn remember(&self, issuer: &str, documents: &Arc<Documents>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.insert(issuer.to_owned(), Arc::clone(documents));
    }

    /// Forgets the documents of an issuer.
    pub(super) fn forget(&self, issuer: &str) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(issuer);
    }

    /// A place to wait for a provider, if there is one left.
    pub(super) fn place(&self, provider: Uuid) -> Result<OwnedSemaphorePermit, FederationRefused> {
        let places = {
            let mut all = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(provider).or_insert_with(|| Arc::new(Semaphore::new(WAITING))))
        };
        places.try_acquire_owned().map_err(|_| FederationRefused::Busy)
    }
}

impl From<HttpError> for FederationRefused {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Unreachable => Self::Unreachable,
            HttpError::TooLarge | HttpError::Malformed => Self::BadDocuments,
        }
    }
}

async fn document<T: DeserializeOwned>(http: &Http, url: &str) -> Result<T, FederationRefused> {
    let body = http.get(url).await?;
    serde_json::from_slice(&body).map_err(|_| FederationRefused::BadDocuments)
}

async fn fetch(http: &Http, issuer: &str, now: Timestamp) -> Result<Documents, FederationRefused> {
    let place = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
    let metadata: Metadata = document(http, &place).await?;
    // Discovery §4.3: byte for byte, or another's description would be taken for this one's.
    if metadata.issuer().as_str() != issuer {
        return Err(FederationRefused::BadDocuments);
    }
    let more = metadata.additional_metadata();
    let addresses = [
        Some(metadata.authorization_endpoint().as_str()),
        metadata.token_endpoint().map(|u| u.as_str()),
        metadata.userinfo_endpoint().map(|u| u.as_str()),
        Some(metadata.jwks_uri().as_str()),
        more.end_session_endpoint.as_ref().map(|u| u.as_str()),
    ];
    // A provider elsewhere has no business with the services of this machine.
    let remote = issuer.starts_with("https://");
    let safe = |a: &str| is_safe_address(a) && (a.starts_with("https://") || !remote);
    if metadata.token_endpoint().is_none() || !addresses.into_iter().flatten().all(safe) {
        return Err(FederationRefused::BadDocuments);
    }
    let keys = document(http, metadata.jwks_uri().as_str()).await?;
    Ok(Documents { metadata, keys, fetched: now })
}

impl App {
    /// The documents of a provider.
    ///
    /// # Errors
    /// [`Failure::Federation`].
    pub(super) async fn documents_of(&self, provider: &Provider) -> Result<Arc<Documents>, Failure> {
        let (now, issuer) = (self.clock.now(), &provider.settings.issuer);
        if let Some(documents) = self.federation.documents.remembered(issuer, now) {
            return Ok(documents);
        }
        let _place = self.federation.documents.place(provider.id)?;
        Ok(self.fetch_documents(issuer).await?)
    }

    /// The documents as they are now. The caller has a place.
    pub(super) async fn fetch_documents(&self, issuer: &str) -> Result<Arc<Documents>, FederationRefused> {
        let fetching = fetch(&self.federation.http, issuer, self.clock.now());
        let fetched = tokio::time::timeout(PATIENCE, fetching).await;
        let documents = Arc::new(fetched.unwrap_or(Err(FederationRefused::Unreachable))?);
        self.federation.documents.remember(issuer, &documents);
        Ok(documents)
    }

    /// Whether a provider can be visited, asked of the provider itself.
    ///
    /// # Errors
    /// [`Failure::Federation`].
    pub async fn discover(&self, provider: &Provider) -> Result<(), Failure> {
        self.federation.documents.forget(&provider.settings.issuer);
        self.documents_of(provider).await.map(drop)
    }

    /// The address at which somebody signs out at a provider, if it has one and says so in time
    /// (OpenID Connect RP-Initiated Logout 1.0 §2). No ID token is kept, so none is sent.
    ///
    /// # Errors
    /// The database's.
    pub async fn sign_out_url(&self, provider: &Provider) -> Result<Option<String>, Failure> {
        let documents = match self.documents_of(provider).await {
            Ok(documents) => documents,
            Err(Failure::Federation(_)) => return Ok(None),
            Err(other) => return Err(other),
        };
        let more = documents.metadata.additional_metadata();
        let Some(endpoint) = &more.end_session_endpoint else { return Ok(None) };
        let (state, _) = self.new_secret();
        let mut url = endpoint.url().clone();
        url.query_pairs_mut()
            .append_pair("client_id", &provider.settings.client_id)
            .append_pair("post_logout_redirect_uri", &self.signed_out_uri(provider.id))
            .append_pair("state", portcullis_domain::secret::ExposeSecret::expose_secret(&state));
        Ok(Some(url.into()))
    }
}
