//! `/api/v1/me` and `/api/v1/users`.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use jiff::Timestamp;
use portcullis_domain::accounts::{Invalid, Status, User, UserId};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::{
    api::{DEFAULT_PAGE, MAX_PAGE, cursor, json::Params, problem::Problem},
    app::{App, Caller, Via},
    error::Failure,
};

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserView {
    /// The id.
    pub id: Uuid,
    /// The e-mail address.
    pub email: String,
    /// The name.
    pub name: String,
    /// `super_admin` or `user`.
    pub role: &'static str,
    /// `pending_activation`, `active` or `inactive`; `deleted` only in the answer to deleting.
    pub status: &'static str,
    /// Whether multi-factor authentication is on.
    pub mfa: bool,
    /// The language of pages (BCP 47).
    pub language: &'static str,
    /// The IANA time zone.
    pub time_zone: String,
    /// When the account was made (RFC 3339, UTC).
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id.0,
            email: user.email.as_str().to_owned(),
            name: user.name.as_str().to_owned(),
            role: user.standing.role.0.code(),
            status: user.standing.status.0.code(),
            mfa: user.standing.mfa_since.is_some(),
            language: user.language.code(),
            time_zone: user.time_zone.as_str().to_owned(),
            created_at: user.created_at,
        }
    }
}

/// Who is asking.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The user whose rights apply.
    pub user: UserView,
    /// `session` or `access_token`.
    pub via: &'static str,
    /// The Client ID, with an access token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// What the access token may do, space separated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
}

/// Who am I?
///
/// # Errors
/// 401 when nobody is.
#[utoipa::path(get, path = "/api/v1/me", tag = "Users", operation_id = "me",
    responses((status = 200, body = Me), (status = 401, body = Problem)),
    security(("session" = []), ("access_token" = [])))]
pub async fn me(Extension(caller): Extension<Caller>) -> Json<Me> {
    let (via, client_id, scope) = match caller.via {
        Via::Session { .. } => ("session", None, None),
        Via::Token { client_id, scope } => ("access_token", Some(client_id), Some(scope)),
    };
    Json(Me { user: caller.user.into(), via, client_id, scope })
}

/// Which users.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsersQuery {
    /// Only users with this in e-mail or name; a whole e-mail finds its user alone.
    #[serde(default)]
    search: String,
    /// Only users with this status: `pending_activation`, `active`, `inactive`.
    #[serde(default)]
    status: String,
    /// `next` of the page before.
    cursor: Option<String>,
    /// How many, 1 to 200 (50 when absent).
    limit: Option<u32>,
}

/// A page of users, in the order they were made.
#[derive(Debug, Serialize, ToSchema)]
pub struct UsersPage {
    /// The users.
    pub users: Vec<UserView>,
    /// The cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// How many items a page should have.
///
/// # Errors
/// When it is none or too many.
pub(crate) fn page_size(asked: Option<u32>) -> Result<u32, Failure> {
    match asked {
        None => Ok(DEFAULT_PAGE),
        Some(n @ 1..=MAX_PAGE) => Ok(n),
        Some(_) => {
            Err(Failure::field(Invalid { field: "limit", message: format!("Give a limit from 1 to {MAX_PAGE}.") }))
        }
    }
}

/// The users of the platform.
///
/// # Errors
/// 403 for callers that are not Super Admins or lack `users:read`.
#[utoipa::path(get, path = "/api/v1/users", tag = "Users", operation_id = "users", params(UsersQuery),
    responses((status = 200, body = UsersPage), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem)),
    security(("session" = []), ("access_token" = ["users:read"])))]
pub async fn users(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Params(query): Params<UsersQuery>,
) -> Result<Json<UsersPage>, Problem> {
    let limit = page_size(query.limit)?;
    let status = match query.status.as_str() {
        "" => None,
        code => Some(Status::from_code(code).filter(|s| *s != Status::Deleted).ok_or_else(|| {
            let message = "Give pending_activation, active or inactive.".to_owned();
            Failure::field(Invalid { field: "status", message })
        })?),
    };
    let after = match &query.cursor {
        Some(text) => Some(UserId(Uuid::from_bytes(cursor::open(&app, "users", text).map_err(Failure::from)?))),
        None => None,
    };
    let mut users = app.users(&caller, after, &query.search, status, limit + 1).await?;
    let more = users.len() > limit as usize;
    users.truncate(limit as usize);
    let last = users.last().filter(|_| more);
    let next = last.map(|user| cursor::seal(&app, "users", user.id.0.as_bytes()));
    Ok(Json(UsersPage { users: users.into_iter().map(UserView::from).collect(), next }))
}

/// A user.
///
/// # Errors
/// 404 when there is none.
#[utoipa::path(get, path = "/api/v1/users/{user}", tag = "Users", operation_id = "user",
    params(("user" = String, Path, description = "A user's id, or `me`")),
    responses((status = 200, body = UserView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)),
    security(("session" = []), ("access_token" = ["users:read"])))]
pub async fn user(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<Json<UserView>, Problem> {
    let id = named_user(&caller, &user)?;
    Ok(Json(app.user(&caller, id).await?.into()))
}

/// The user that a path names: an id or `me`.
pub(crate) fn named_user(caller: &Caller, name: &str) -> Result<UserId, Failure> {
    if name == "me" {
        return Ok(caller.user.id);
    }
    Uuid::try_parse(name).map(UserId).map_err(|_| Failure::NotFound)
}
