//! `/api/v1/apis`: the APIs that tokens are for, and their keys. Reading takes a Super Admin, or a
//! token of one with the scope; everything else a Super Admin in a session (T-4).

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use jiff::Timestamp;
use portcullis_domain::{
    accounts::Invalid,
    apis::{Api, ApiKey, Overlap, Scope, Typed},
    tokens::TOKEN_LASTS_SECONDS,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    api::{json::Body, problem::Problem},
    app::{App, Caller, apis::ApiWithKeys},
    error::Failure,
};

/// Something that a token may do at an API.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopeView {
    /// The word in tokens (RFC 6749, section 3.3).
    pub name: String,
    /// What it allows, for people.
    pub description: String,
}

/// A key of an API. The secret is never part of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    /// The id, to be sent as the Client ID.
    pub id: String,
    /// When it was made (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub made_at: Timestamp,
    /// When it ends, once a newer one took over.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ends_at: Option<Timestamp>,
    /// Whether it works now.
    pub valid: bool,
}

/// An API that tokens are for.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApiView {
    /// The id.
    pub id: Uuid,
    /// The name.
    pub name: String,
    /// The identifier: the `resource` of token requests and the audience of tokens.
    pub identifier: String,
    /// The scopes.
    pub scopes: Vec<ScopeView>,
    /// How long its tokens live, in seconds.
    pub lifespan_seconds: u32,
    /// Whether it takes only tokens that are bound to a key (RFC 9449).
    pub requires_dpop: bool,
    /// What its tokens are signed with: `ES256`, `EdDSA` or `RS256`.
    pub algorithm: &'static str,
    /// Whether it is the API of Portcullis itself, which is not changed and not removed.
    pub own: bool,
    /// When it was registered (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub made_at: Timestamp,
    /// Its keys, the first made first.
    pub keys: Vec<KeyView>,
}

/// The APIs: that of Portcullis itself, then the others by name.
#[derive(Debug, Serialize, ToSchema)]
pub struct ApisView {
    /// The APIs.
    pub apis: Vec<ApiView>,
}

/// A key just made: the only answer that ever holds its secret.
#[derive(Serialize, ToSchema)]
pub struct MadeKeyView {
    /// The id, to be sent as the Client ID.
    pub id: String,
    /// The secret, this once.
    #[schema(format = Password)]
    pub secret: String,
    /// Where to ask about tokens.
    pub introspection_url: String,
    /// When it was made (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub made_at: Timestamp,
}

/// An API to register.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The name.
    name: String,
    /// An absolute URI without a fragment. It cannot be changed afterwards.
    identifier: String,
    /// The scopes, at most 50.
    #[serde(default)]
    scopes: Vec<ScopeView>,
    /// How long its tokens live, 60 to 2592000 seconds (86400 when absent).
    lifespan_seconds: Option<u32>,
    /// Whether it takes only tokens that are bound to a key (not when absent).
    #[serde(default)]
    requires_dpop: bool,
    /// What its tokens are signed with: `ES256` (when absent), `EdDSA` or `RS256`.
    #[serde(default)]
    algorithm: String,
}

/// What an API is to be from now on.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The name.
    name: String,
    /// The scopes, at most 50.
    scopes: Vec<ScopeView>,
    /// How long its tokens live, 60 to 2592000 seconds.
    lifespan_seconds: u32,
    /// Whether it takes only tokens that are bound to a key.
    requires_dpop: bool,
    /// What its tokens are signed with: `ES256`, `EdDSA` or `RS256`.
    algorithm: String,
}

/// What becomes of the key that is there.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// How long it goes on working: `day` (when absent), `hour`, `week` or `at_once`.
    #[serde(default)]
    older_key: String,
}

fn typed(
    name: String,
    identifier: String,
    scopes: Vec<ScopeView>,
    lifespan: u32,
    (requires_dpop, algorithm): (bool, String),
) -> Typed {
    let scopes = scopes.into_iter().map(|s| Scope { name: s.name, description: s.description }).collect();
    Typed { name, identifier, scopes, lifespan: lifespan.to_string(), requires_dpop, algorithm }
}

fn view(app: &App, ApiWithKeys { api, keys }: ApiWithKeys) -> ApiView {
    let now = app.clock.now();
    let key = |k: ApiKey| KeyView {
        id: k.id.as_str().to_owned(),
        made_at: k.made_at,
        ends_at: k.ends_at,
        valid: k.is_valid(now),
    };
    ApiView {
        id: api.id,
        lifespan_seconds: api.lifespan(app.config.token_lifespan_seconds),
        requires_dpop: api.settings.requires_dpop,
        algorithm: api.settings.algorithm.code(),
        own: api.is_own(),
        made_at: api.made_at,
        keys: keys.into_iter().map(key).collect(),
        name: api.settings.name,
        identifier: api.settings.identifier,
        scopes: api
            .settings
            .scopes
            .into_iter()
            .map(|s| ScopeView { name: s.name, description: s.description })
            .collect(),
    }
}

async fn as_it_is(app: &App, caller: &Caller, api: Api) -> Result<ApiView, Failure> {
    let keys = app.api(caller, api.id).await?.keys;
    Ok(view(app, ApiWithKeys { api, keys }))
}

/// An id as a path has it.
fn named_api(text: &str) -> Result<Uuid, Failure> {
    Uuid::try_parse(text).map_err(|_| Failure::NotFound)
}

/// The APIs that tokens are for.
///
/// # Errors
/// 403 for callers that are not Super Admins or lack `apis:read`.
#[utoipa::path(get, path = "/api/v1/apis", tag = "APIs", operation_id = "apis",
    responses((status = 200, body = ApisView), (status = 401, body = Problem), (status = 403, body = Problem)),
    security(("session" = []), ("access_token" = ["apis:read"])))]
pub async fn list(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<ApisView>, Problem> {
    let apis = app.apis(&caller).await?.into_iter().map(|api| view(&app, api)).collect();
    Ok(Json(ApisView { apis }))
}

/// One API.
///
/// # Errors
/// 404 when there is none.
#[utoipa::path(get, path = "/api/v1/apis/{api}", tag = "APIs", operation_id = "api",
    params(("api" = String, Path, description = "An API's id")),
    responses((status = 200, body = ApiView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)),
    security(("session" = []), ("access_token" = ["apis:read"])))]
pub async fn show(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(api): Path<String>,
) -> Result<Json<ApiView>, Problem> {
    let found = app.api(&caller, named_api(&api)?).await?;
    Ok(Json(view(&app, found)))
}

/// Registers an API.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 422 with every field that is wrong.
#[utoipa::path(post, path = "/api/v1/apis", tag = "APIs", operation_id = "register_api",
    request_body = Registration,
    responses((status = 201, body = ApiView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn register(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(new): Body<Registration>,
) -> Result<(StatusCode, Json<ApiView>), Problem> {
    let lifespan = new.lifespan_seconds.unwrap_or(TOKEN_LASTS_SECONDS);
    let typed = typed(new.name, new.identifier, new.scopes, lifespan, (new.requires_dpop, new.algorithm));
    let api = app.register_api(&caller, &typed).await?;
    Ok((StatusCode::CREATED, Json(view(&app, ApiWithKeys { api, keys: Vec::new() }))))
}

/// Changes name, scopes, lifespan and algorithm of an API. Tokens that were issued keep what they have.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 409 for the API of Portcullis itself, 422 with every
/// field that is wrong.
#[utoipa::path(post, path = "/api/v1/apis/{api}", tag = "APIs", operation_id = "change_api",
    params(("api" = String, Path, description = "An API's id")), request_body = Change,
    responses((status = 200, body = ApiView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(api): Path<String>,
    Body(new): Body<Change>,
) -> Result<Json<ApiView>, Problem> {
    let rest = (new.requires_dpop, new.algorithm);
    let typed = typed(new.name, String::new(), new.scopes, new.lifespan_seconds, rest);
    let api = app.change_api(&caller, named_api(&api)?, &typed).await?;
    Ok(Json(as_it_is(&app, &caller, api).await?))
}

/// Removes an API with its keys. No token for it is active any more.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 404 when there is none, 409 for the API of
/// Portcullis itself.
#[utoipa::path(post, path = "/api/v1/apis/{api}/remove", tag = "APIs", operation_id = "remove_api",
    params(("api" = String, Path, description = "An API's id")),
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn remove(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(api): Path<String>,
) -> Result<StatusCode, Problem> {
    app.remove_api(&caller, named_api(&api)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a key of an API. The secret is in this answer and nowhere else, ever.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 409 while two keys are valid.
#[utoipa::path(post, path = "/api/v1/apis/{api}/keys", tag = "APIs", operation_id = "make_api_key",
    params(("api" = String, Path, description = "An API's id")), request_body = NewKey,
    responses((status = 201, body = MadeKeyView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn make_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(api): Path<String>,
    Body(new): Body<NewKey>,
) -> Result<(StatusCode, Json<MadeKeyView>), Problem> {
    let made = app.make_api_key(&caller, named_api(&api)?, overlap(&new.older_key)?, None).await?;
    let view = MadeKeyView {
        id: made.key.id.as_str().to_owned(),
        secret: made.secret.expose().to_owned(),
        introspection_url: format!("{}/oauth/introspect", app.config.public_url),
        made_at: made.key.made_at,
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// How long the older key goes on working; a day where nothing is said.
///
/// # Errors
/// When the word is none.
pub(crate) fn overlap(code: &str) -> Result<Overlap, Failure> {
    if code.is_empty() {
        return Ok(Overlap::Day);
    }
    Overlap::from_code(code).ok_or_else(|| {
        let message = "Choose day, hour, week or at_once.".to_owned();
        Failure::field(Invalid { field: "older_key", message })
    })
}

/// Removes a key of an API. It stops at once.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 404 when there is none.
#[utoipa::path(post, path = "/api/v1/apis/{api}/keys/{key}/remove", tag = "APIs", operation_id = "remove_api_key",
    params(("api" = String, Path, description = "An API's id"), ("key" = String, Path, description = "A key's id")),
    responses((status = 204), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn remove_key(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path((api, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    app.remove_api_key(&caller, named_api(&api)?, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
