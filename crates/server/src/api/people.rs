//! `/api/v1/users`: inviting and managing users. Only for Super Admins in a session: a token is
//! not the person (T-4).

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::StatusCode,
};
use portcullis_domain::{accounts::manage::Act, secret::ExposeSecret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{
        accounts::{UserView, named_user},
        json::Body,
        problem::Problem,
    },
    app::{App, Caller, accounts::manage::Invited},
};

/// Whom to invite.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The e-mail address.
    email: String,
}

/// A user who was invited.
#[derive(Serialize, ToSchema)]
pub struct InvitedView {
    /// The user.
    pub user: UserView,
    /// The activation link, this once, while the server has no mail server to send it with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activation_link: Option<String>,
}

impl From<Invited> for InvitedView {
    fn from(invited: Invited) -> Self {
        let activation_link = invited.link.map(|l| l.expose_secret().to_owned());
        Self { user: invited.user.into(), activation_link }
    }
}

/// Invites somebody: the activation link goes there by mail.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 422 for an address that is none or is taken.
#[utoipa::path(post, path = "/api/v1/users", tag = "Users", operation_id = "invite_user", request_body = Invitation,
    responses((status = 201, body = InvitedView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn invite(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Body(typed): Body<Invitation>,
) -> Result<(StatusCode, Json<InvitedView>), Problem> {
    Ok((StatusCode::CREATED, Json(app.invite(&caller, &typed.email).await?.into())))
}

async fn manage(app: &App, caller: &Caller, user: &str, act: Act) -> Result<Invited, Problem> {
    let id = named_user(caller, user)?;
    Ok(app.manage_user(caller, id, act).await?)
}

/// Sends a user who is pending activation another link; earlier ones stop working.
///
/// # Errors
/// 403 for who is not a Super Admin in a session, 409 when the user is not pending.
#[utoipa::path(post, path = "/api/v1/users/{user}/invite-again", tag = "Users", operation_id = "invite_user_again",
    params(("user" = String, Path, description = "A user's id")),
    responses((status = 200, body = InvitedView), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem), (status = 503, body = Problem)),
    security(("session" = [])))]
pub async fn invite_again(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(user): Path<String>,
) -> Result<Json<InvitedView>, Problem> {
    Ok(Json(manage(&app, &caller, &user, Act::InviteAgain).await?.into()))
}

macro_rules! acts {
    ($($(#[$doc:meta])* $name:ident, $act:ident, $path:literal, $id:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// 403 for who is not a Super Admin in a session and for what nobody does to themselves,
        /// 409 when the user does not stand so, or is the last active Super Admin who can sign in.
        #[utoipa::path(post, path = $path, tag = "Users", operation_id = $id,
            params(("user" = String, Path, description = "A user's id")),
            responses((status = 200, body = UserView), (status = 401, body = Problem),
                (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
                (status = 503, body = Problem)),
            security(("session" = [])))]
        pub async fn $name(
            State(app): State<Arc<App>>,
            Extension(caller): Extension<Caller>,
            Path(user): Path<String>,
        ) -> Result<Json<UserView>, Problem> {
            Ok(Json(manage(&app, &caller, &user, Act::$act).await?.user.into()))
        }
    )*};
}

acts! {
    /// Lets an inactive user in again.
    activate, Activate, "/api/v1/users/{user}/activate", "activate_user";
    /// Keeps a user out; the user's credential is suspended.
    deactivate, Deactivate, "/api/v1/users/{user}/deactivate", "deactivate_user";
    /// Closes an account for good; the user's credential is revoked.
    delete, Delete, "/api/v1/users/{user}/delete", "delete_user";
    /// Gives the role Super Admin.
    give_super_admin, GiveSuperAdmin, "/api/v1/users/{user}/give-super-admin", "give_super_admin";
    /// Takes the role Super Admin; the user's credential is suspended.
    take_super_admin, TakeSuperAdmin, "/api/v1/users/{user}/take-super-admin", "take_super_admin";
    /// Turns off the MFA of a user who lost every second factor.
    turn_mfa_off, TurnMfaOff, "/api/v1/users/{user}/turn-mfa-off", "turn_mfa_off";
}
