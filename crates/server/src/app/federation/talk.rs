//! What is said to a provider and believed of it: the address to go to, the code, the ID token.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL};
use jiff::{SignedDuration, Timestamp};
use openidconnect::{
    AccessToken, AdditionalClaims, AuthType, AuthenticationFlow, AuthorizationCode, ClaimsVerificationError,
    ClientId, ClientSecret, CsrfToken, IdTokenVerifier, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, SignatureVerificationError, SubjectIdentifier,
    TokenResponse, UserInfoClaims,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreGenderClaim, CoreIdToken, CoreJsonWebKeySet,
        CoreJwsSigningAlgorithm as Alg,
    },
};
use portcullis_domain::{
    accounts::{DisplayName, Email},
    audit::printable,
    federation::{FederationRefused, Identity, Provider, Told},
    secret::{ExposeSecret, SecretText},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Visit,
    documents::{Documents, PATIENCE},
    http::{Http, HttpError},
};
use crate::{app::App, error::Failure};

/// Signed with a private key. Neither `none` nor anything that a client secret or a public key
/// could forge (RFC 8725 §3.1).
const ALGORITHMS: [Alg; 9] = [
    Alg::RsaSsaPkcs1V15Sha256,
    Alg::RsaSsaPkcs1V15Sha384,
    Alg::RsaSsaPkcs1V15Sha512,
    Alg::RsaSsaPssSha256,
    Alg::RsaSsaPssSha384,
    Alg::RsaSsaPssSha512,
    Alg::EcdsaP256Sha256,
    Alg::EcdsaP384Sha384,
    Alg::EdDsa,
];

/// How far the clocks may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

/// Something that a provider told, for the page of the test.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Its name.
    pub name: String,
    /// Its value: a text as it is, everything else as JSON.
    pub value: String,
    /// Whether it stood in the ID token (or else in the answer of the userinfo endpoint).
    pub in_id_token: bool,
}

/// What was heard of a provider, all of it verified.
pub(super) struct Heard {
    pub(super) told: Told,
    pub(super) claims: Vec<Claim>,
}

fn client_id(provider: &Provider) -> ClientId {
    ClientId::new(provider.settings.client_id.clone())
}

fn redirect(uri: &str) -> Result<RedirectUrl, Failure> {
    RedirectUrl::new(uri.to_owned()).map_err(|e| Failure::Internal(format!("redirect URI: {e}")))
}

/// The address at the provider that begins the visit.
pub(super) fn authorization_url(
    provider: &Provider,
    documents: &Documents,
    visit: &Visit,
    state: &SecretText,
    redirect_uri: &str,
) -> Result<String, Failure> {
    let client = CoreClient::from_provider_metadata(documents.metadata.clone(), client_id(provider), None)
        .set_redirect_uri(redirect(redirect_uri)?);
    let verifier = PkceCodeVerifier::new(visit.verifier.clone());
    let (state, nonce) = (CsrfToken::new(state.expose_secret().to_owned()), Nonce::new(visit.nonce.clone()));
    let flow: CoreAuthenticationFlow = AuthenticationFlow::AuthorizationCode;
    let others = provider.settings.scopes.iter().filter(|s| *s != "openid");
    let (url, _, _) = client
        .authorize_url(flow, || state, || nonce)
        .add_scopes(others.map(|s| Scope::new(s.clone())))
        .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
        .url();
    Ok(url.into())
}

impl App {
    /// Gives the code for an ID token and verifies that. `iss_was_told` is whether the answer named
    /// the issuer, rightly (RFC 9207).
    pub(super) async fn ask_provider(
        &self,
        provider: &Provider,
        visit: &Visit,
        code: SecretText,
        iss_was_told: bool,
    ) -> Result<Heard, Failure> {
        let documents = self.documents_of(provider).await?;
        if documents.metadata.additional_metadata().authorization_response_iss_parameter_supported && !iss_was_told
        {
            return Err(FederationRefused::BadAnswer.into());
        }
        let secret = self.secret_of(provider).await?;
        let redirect_uri = redirect(&self.redirect_uri(provider.id))?;
        let _place = self.federation.documents.place(provider.id)?;
        let asking = async {
            let (id_token, access_token) =
                exchange(&self.federation.http, provider, &documents, secret, redirect_uri, visit, code).await?;
            self.verify(provider, &documents, &id_token, &visit.nonce).await?;
            let own = payload(&id_token)?;
            let further = further(&self.federation.http, provider, &documents, &own, access_token).await;
            heard(&provider.settings.issuer, own, further)
        };
        let heard = tokio::time::timeout(PATIENCE, asking).await;
        Ok(heard.unwrap_or(Err(FederationRefused::Unreachable))?)
    }

    /// Verifies an ID token; with a key that is not known, once more with the keys of now.
    async fn verify(
        &self,
        provider: &Provider,
        documents: &Arc<Documents>,
        id_token: &CoreIdToken,
        nonce: &str,
    ) -> Result<(), FederationRefused> {
        let now = self.clock.now();
        let verified = match verify(provider, &documents.keys, id_token, nonce, now) {
            Err(ClaimsVerificationError::SignatureVerification(SignatureVerificationError::NoMatchingKey)) => {
                let fresh = self.fetch_documents(&provider.settings.issuer).await?;
                verify(provider, &fresh.keys, id_token, nonce, now)
            }
            other => other,
        };
        // What is wrong stays here: its text holds claims.
        verified.map_err(|_| FederationRefused::BadAnswer)
    }
}

async fn exchange(
    http: &Http,
    provider: &Provider,
    documents: &Documents,
    secret: Option<SecretText>,
    redirect_uri: RedirectUrl,
    visit: &Visit,
    code: SecretText,
) -> Result<(CoreIdToken, AccessToken), FederationRefused> {
    let secret = secret.map(|s| ClientSecret::new(s.expose_secret().to_owned()));
    let methods = documents.metadata.token_endpoint_auth_methods_supported();
    // Basic is the default where nothing is said (Discovery §3).
    let basic = methods.is_none_or(|m| m.contains(&CoreClientAuthMethod::ClientSecretBasic));
    let client = CoreClient::from_provider_metadata(documents.metadata.clone(), client_id(provider), secret)
        .set_redirect_uri(redirect_uri)
        .set_auth_type(if basic { AuthType::BasicAuth } else { AuthType::RequestBody });
    let request = client
        .exchange_code(AuthorizationCode::new(code.expose_secret().to_owned()))
        .map_err(|_| FederationRefused::BadDocuments)?
        .set_pkce_verifier(PkceCodeVerifier::new(visit.verifier.clone()));
    let answer = request.request_async(http).await.map_err(|error| match error {
        RequestTokenError::Request(HttpError::Unreachable) => FederationRefused::Unreachable,
        RequestTokenError::ServerResponse(_) => FederationRefused::CodeRefused,
        _ => FederationRefused::BadAnswer,
    })?;
    let id_token = answer.id_token().ok_or(FederationRefused::BadAnswer)?.clone();
    Ok((id_token, answer.access_token().clone()))
}

/// OpenID Connect Core 1.0 §3.1.3.7: issuer, audience and authorized party, signature, times, nonce.
fn verify(
    provider: &Provider,
    keys: &CoreJsonWebKeySet,
    id_token: &CoreIdToken,
    nonce: &str,
    now: Timestamp,
) -> Result<(), ClaimsVerificationError> {
    let issuer = openidconnect::IssuerUrl::new(provider.settings.issuer.clone());
    let issuer = issuer.map_err(|_| ClaimsVerificationError::Other("issuer".to_owned()))?;
    let time = move || chrono_of(now);
    // A "public client" has no secret that a signature could be made with.
    let verifier = IdTokenVerifier::new_public_client(client_id(provider), issuer, keys.clone())
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(time)
        .set_issue_time_verifier_fn(move |at| {
            let at = at.timestamp();
            let (early, late) = ((now - SignedDuration::from_hours(24)).as_second(), (now + SKEW).as_second());
            if (early..=late).contains(&at) { Ok(()) } else { Err("iat".to_owned()) }
        });
    let claims = id_token.claims(&verifier, &Nonce::new(nonce.to_owned()))?;
    if claims.issuer().as_str() != provider.settings.issuer {
        return Err(ClaimsVerificationError::InvalidIssuer("not byte for byte".to_owned()));
    }
    match claims.authorized_party() {
        Some(party) if *party != client_id(provider) => {
            Err(ClaimsVerificationError::InvalidAudience("azp".to_owned()))
        }
        None if claims.audiences().len() > 1 => Err(ClaimsVerificationError::InvalidAudience("azp".to_owned())),
        _ => Ok(()),
    }
}

fn chrono_of(at: Timestamp) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from_timestamp_micros(at.as_microsecond()).unwrap_or_default()
}

/// The claims of an ID token that was verified, as they stand in it.
fn payload(id_token: &CoreIdToken) -> Result<Map<String, Value>, FederationRefused> {
    let text = id_token.to_string();
    let body = text.split('.').nth(1).and_then(|part| BASE64URL.decode(part).ok());
    body.and_then(|b| serde_json::from_slice(&b).ok()).ok_or(FederationRefused::BadAnswer)
}

/// All claims of the userinfo endpoint, known to the library or not.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Rest {
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl AdditionalClaims for Rest {}

/// What the userinfo endpoint tells, when the ID token has no e-mail (Core §5.4). It must speak of
/// the same subject; when it does not answer rightly it has told nothing.
async fn further(
    http: &Http,
    provider: &Provider,
    documents: &Documents,
    own: &Map<String, Value>,
    access_token: AccessToken,
) -> Map<String, Value> {
    if own.contains_key("email") || documents.metadata.userinfo_endpoint().is_none() {
        return Map::new();
    }
    let Some(subject) = text(own, "sub") else { return Map::new() };
    let client = CoreClient::from_provider_metadata(documents.metadata.clone(), client_id(provider), None);
    let Ok(request) = client.user_info(access_token, Some(SubjectIdentifier::new(subject))) else {
        return Map::new();
    };
    let told: Result<UserInfoClaims<Rest, CoreGenderClaim>, _> = request.request_async(http).await;
    match told.ok().and_then(|claims| serde_json::to_value(claims).ok()) {
        Some(Value::Object(claims)) => claims,
        _ => Map::new(),
    }
}

fn text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    claims.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn heard(issuer: &str, own: Map<String, Value>, further: Map<String, Value>) -> Result<Heard, FederationRefused> {
    let subject = text(&own, "sub").ok_or(FederationRefused::BadAnswer)?;
    let identity = Identity::new(issuer, &subject).ok_or(FederationRefused::BadAnswer)?;
    // Address and verification belong together, so both are taken from one place.
    let source = if own.contains_key("email") { &own } else { &further };
    let email_verified = match source.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        // As some providers write it.
        Some(Value::String(verified)) => verified == "true",
        _ => false,
    };
    let name = text(&own, "name").or_else(|| text(&further, "name"));
    let told = Told {
        identity,
        email: text(source, "email").and_then(|e| Email::parse(&e).ok()),
        email_verified,
        name: name.and_then(|n| DisplayName::parse(&n).ok()),
    };
    let mut claims: BTreeMap<String, (Value, bool)> = further.into_iter().map(|(n, v)| (n, (v, false))).collect();
    claims.extend(own.into_iter().map(|(n, v)| (n, (v, true))));
    let claims = claims.into_iter().map(|(name, (value, in_id_token))| Claim {
        name: printable(&name, 100),
        value: printable(&value.as_str().map_or_else(|| value.to_string(), str::to_owned), 2000),
        in_id_token,
    });
    Ok(Heard { told, claims: claims.collect() })
}
