//! `/api/v1/users/{user}/credential`: the same acts and rules as the **Credentials** tab.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use portcullis_domain::credentials::{Credential, RevokeRefused, Standing};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{accounts::named_user, problem::Problem},
    app::{App, Caller, credentials::Held},
    error::Failure,
};

/// A credential. The Client Secret is never part of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct CredentialView {
    /// The Client ID.
    pub client_id: String,
    /// `active`, `suspended`, `expired` or `revoked`.
    pub standing: &'static str,
    /// Why it is suspended: `mfa_on`, `owner_inactive`, `owner_not_super_admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// When it was generated (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub generated_at: Timestamp,
    /// When it expires.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When a token was last issued to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_from: Option<String>,
    /// By which program, as it names itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_by: Option<String>,
    /// With what it proved itself: `client_secret` or `private_key_jwt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used_method: Option<&'static str>,
    /// The public key that is bound to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<BoundKeyView>,
    /// Whether its Client Secret works.
    pub secret_works: bool,
    /// How many of its latest 10 000 tokens are valid now.
    pub valid_tokens: u64,
}

/// The public key that is bound to a credential.
#[derive(Debug, Serialize, ToSchema)]
pub struct BoundKeyView {
    /// Its thumbprint (RFC 7638).
    pub thumbprint: String,
    /// When it was bound (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub bound_at: Timestamp,
}

/// A credential just generated: the only answer that ever holds the Client Secret (C-5).
#[derive(Serialize, ToSchema)]
pub struct GeneratedView {
    /// The Client ID.
    pub client_id: String,
    /// The Client Secret, this once.
    #[schema(format = Password)]
    pub client_secret: String,
    /// Where to request tokens.
    pub token_url: String,
    /// When it was generated (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub generated_at: Timestamp,
    /// When it expires.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// A credential just revoked.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevokedView {
    /// The Client ID.
    pub client_id: String,
    /// When it was revoked (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub revoked_at: Timestamp,
}

impl From<Held> for CredentialView {
    fn from(held: Held) -> Self {
        let valid_tokens = held.valid_tokens();
        let last = held.tokens.last;
        Self {
            client_id: held.credential.client_id.as_str().to_owned(),
            standing: held.standing.code(),
            reason: match held.standing {
                Standing::Suspended(why, _) => Some(why.code()),
                _ => None,
            },
            generated_at: held.credential.generated_at,
            expires_at: held.credential.expires_at,
            last_used_at: last.as_ref().map(|t| t.issued_at),
            last_used_from: last.as_ref().map(|t| t.ip.clone()),
            last_used_method: last.as_ref().map(|t| t.method.code()),
            last_used_by: last.map(|t| t.user_agent),
            secret_works: held.credential.secret_off_at.is_none(),
            key: held
                .credential
                .key
                .map(|key| BoundKeyView { thumbprint: key.thumbprint, bound_at: key.bound_at }),
            valid_tokens,
        }
    }
}

/// Refuses a path that names another user, and a caller without the right that is asked besides;
/// the attempt is on record (C-3).
async fn own(app: &App, caller: &Caller, user: &str, right: Result<(), Failure>) -> Result<(), Failure> {
    let is_own = named_user(caller, user)? == caller.user.id;
    let decided = if is_own { right } else { Err(Failure::NotOwner) };
    if let Err(failure) = &decided {
        app.record_access_refused(caller, &format!("credential of {user}"), failure.code()).await?;
    }
    decided
}

/// The caller's credential.
///
/// # Errors
/// 403 for another user's and for callers that are not Super Admins, 404 when there is none.
#[utoipa::path(get, path = "/api/v1/users/{user}/credential", tag = "Credentials", operation_id = "credential",
    params(("user" = String, Path, description = "The caller's own id, or `me`")),
    responses((status = 200, body = CredentialView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)),
    security(("session" = []), ("access_token" = [])))]
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<Json<CredentialView>, Problem> {
    own(&app, &caller, &user, caller.super_admin()).await?;
    let tab = app.credential_tab(&caller).await?;
    Ok(Json(tab.held.ok_or(Failure::NoCredential)?.into()))
}

/// Generates a Client ID and a Client Secret for the caller. The secret is in this answer and
/// nowhere else, ever.
///
/// # Errors
/// 403 with the rule that refuses, 409 while there is an active credential.
#[utoipa::path(post, path = "/api/v1/users/{user}/credential/generate", tag = "Credentials",
    operation_id = "generate_credential",
    params(("user" = String, Path, description = "The caller's own id, or `me`")),
    responses((status = 201, body = GeneratedView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn generate(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<(StatusCode, Json<GeneratedView>), Problem> {
    // Whether the caller may generate is the use-case's to say, and to record.
    own(&app, &caller, &user, Ok(())).await?;
    let generated = app.generate_credential(&caller).await?;
    let Credential { client_id, generated_at, expires_at, .. } = generated.credential;
    let view = GeneratedView {
        client_id: client_id.as_str().to_owned(),
        client_secret: generated.secret.expose().to_owned(),
        token_url: format!("{}/oauth/token", app.config.public_url),
        generated_at,
        expires_at,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// Revokes the caller's credential. That is final.
///
/// # Errors
/// 403 for another user's (C-8), 404 when there is none.
#[utoipa::path(post, path = "/api/v1/users/{user}/credential/revoke", tag = "Credentials",
    operation_id = "revoke_credential",
    params(("user" = String, Path, description = "The caller's own id, or `me`")),
    responses((status = 200, body = RevokedView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn revoke(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<Json<RevokedView>, Problem> {
    let owner = named_user(&caller, &user)?;
    let credential = app.revoke_credential(&caller, owner, None).await?;
    let (revoked_at, _) = credential.revoked.ok_or(Failure::Revoke(RevokeRefused::NothingToRevoke))?;
    Ok(Json(RevokedView { client_id: credential.client_id.as_str().to_owned(), revoked_at }))
}
