//! `/api/v1/keys`: the signing keys. Reading takes a Super Admin, or a token of one with the scope;
//! everything else a Super Admin in a session (T-4).

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use jiff::Timestamp;
use portcullis_domain::{
    accounts::Invalid,
    keys::{Algorithm, SigningKey},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{json::Body, problem::Problem},
    app::{App, Caller, keys::Doer},
    error::Failure,
};

/// A signing key: never the key itself. The public part is in the key set while it is published.
#[derive(Debug, Serialize, ToSchema)]
pub struct SigningKeyView {
    /// The key id.
    pub kid: String,
    /// `ES256`, `EdDSA` or `RS256`.
    pub algorithm: &'static str,
    /// `upcoming`, `active`, `retiring`, `retired` or `withdrawn`.
    pub state: &'static str,
    /// In the key set since then (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Signs since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub active_at: Option<Timestamp>,
    /// Signs no more since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub retiring_at: Option<Timestamp>,
    /// Leaves the key set then: the last token it signed has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub leaves_at: Option<Timestamp>,
    /// Taken out of the key set at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub withdrawn_at: Option<Timestamp>,
}

/// The signing keys, the latest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct SigningKeysView {
    /// The keys.
    pub keys: Vec<SigningKeyView>,
}

/// Which keys are to take over from each other.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateKeys {
    /// `ES256`, `EdDSA` or `RS256`.
    algorithm: String,
    /// Also when the upcoming key is not published for long enough: verifiers may not hold it yet.
    #[serde(default)]
    at_once: bool,
}

/// Why a key is taken out of the key set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawKey {
    /// Why, for the audit log: one line of at most 200 characters.
    reason: String,
}

fn view(key: SigningKey, now: Timestamp) -> SigningKeyView {
    SigningKeyView {
        algorithm: key.algorithm.code(),
        state: key.life.state(now).code(),
        created_at: key.life.created_at,
        active_at: key.life.active_at,
        retiring_at: key.life.retiring_at,
        leaves_at: key.life.leaves_at,
        withdrawn_at: key.life.withdrawn_at,
        kid: key.kid,
    }
}

async fn all(app: &App, caller: &Caller) -> Result<Json<SigningKeysView>, Problem> {
    let now = app.clock.now();
    let keys = app.signing_keys(Doer::Caller(caller)).await?.into_iter().map(|k| view(k, now)).collect();
    Ok(Json(SigningKeysView { keys }))
}

/// An algorithm by its code.
///
/// # Errors
/// When there is none like it.
pub(crate) fn algorithm(code: &str) -> Result<Algorithm, Failure> {
    Algorithm::from_code(code).ok_or_else(|| {
        let message = "Choose ES256, EdDSA or RS256.".to_owned();
        Failure::field(Invalid { field: "algorithm", message })
    })
}

/// The signing keys.
///
/// # Errors
/// 403 for callers that are not Super Admins or lack `apis:read`.
#[utoipa::path(get, path = "/api/v1/keys", tag = "Signing keys", operation_id = "signing_keys",
    responses((status = 200, body = SigningKeysView), (status = 401, body = Problem), (status = 403, body = Problem)),
    security(("session" = []), ("access_token" = ["apis:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<SigningKeysView>, Problem> {
    all(&app, &caller).await
}

/// Makes the upcoming key of an algorithm active, and publishes a new upcoming one.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 409 when the upcoming key is not published for long
/// enough or no API uses the algorithm.
#[utoipa::path(post, path = "/api/v1/keys/rotate", tag = "Signing keys", operation_id = "rotate_signing_keys",
    request_body = RotateKeys,
    responses((status = 200, body = SigningKeysView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn rotate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(wanted): Body<RotateKeys>,
) -> Result<Json<SigningKeysView>, Problem> {
    let algorithm = algorithm(&wanted.algorithm)?;
    app.rotate_keys(Doer::Caller(&caller), algorithm, wanted.at_once, None).await?;
    all(&app, &caller).await
}

/// Takes a key out of the key set at once. What it signed is refused; the upcoming key signs from then
/// on.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 404 when there is none, 409 when it has left the key
/// set already.
#[utoipa::path(post, path = "/api/v1/keys/{kid}/withdraw", tag = "Signing keys", operation_id = "withdraw_signing_key",
    params(("kid" = String, Path, description = "A key id")), request_body = WithdrawKey,
    responses((status = 200, body = SigningKeysView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn withdraw(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(kid): Path<String>,
    Body(why): Body<WithdrawKey>,
) -> Result<Json<SigningKeysView>, Problem> {
    app.withdraw_key(Doer::Caller(&caller), &kid, &why.reason).await?;
    all(&app, &caller).await
}
