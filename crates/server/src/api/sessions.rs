//! `/api/v1/session`: signing in and out from a program such as `portcullis credential`, with the
//! same rules as in the browser.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use portcullis_domain::{audit::Origin, secret::ExposeSecret};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{accounts::UserView, json::Body, problem::Problem},
    app::{App, Caller, second_factor::Proof, sessions::SignedIn as Outcome},
    console::cookie,
    error::Failure,
};

/// E-mail and password, and the second factor of whoever has MFA on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// The e-mail address.
    email: String,
    /// The password.
    #[schema(format = Password)]
    password: String,
    /// A code of the authenticator app, or a recovery code, for accounts with MFA.
    #[serde(default)]
    #[schema(format = Password)]
    code: Option<String>,
}

/// Who signed in. The session itself is the cookie.
#[derive(Serialize, ToSchema)]
pub struct SignedIn {
    /// The user.
    user: UserView,
}

/// Signs in with the password, and with a code where MFA is on; the session comes as a cookie.
///
/// # Errors
/// 401 for a wrong e-mail, password or code, 403 when a code is needed (`second_factor_needed`),
/// 429 after too many.
#[utoipa::path(post, path = "/api/v1/session", tag = "Sessions", operation_id = "sign_in", request_body = SignIn,
    responses((status = 201, body = SignedIn), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 422, body = Problem), (status = 429, body = Problem), (status = 503, body = Problem)))]
pub async fn sign_in(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    Body(typed): Body<SignIn>,
) -> Result<Response, Problem> {
    let new = match (app.sign_in(&typed.email, typed.password.into(), origin.clone()).await?, typed.code) {
        (Outcome::Session(new), _) => new,
        (Outcome::SecondFactor(_), None) => return Err(Failure::SecondFactorNeeded.into()),
        (Outcome::SecondFactor(step), Some(code)) => {
            app.complete_sign_in(step.expose_secret(), Proof::Code(code.into()), &origin).await?.new
        }
    };
    let body = Json(SignedIn { user: new.user.into() });
    Ok((StatusCode::CREATED, [cookie::set(&new.cookie)], body).into_response())
}

/// Ends the session.
///
/// # Errors
/// 401 when there is none.
#[utoipa::path(post, path = "/api/v1/session/end", tag = "Sessions", operation_id = "sign_out",
    responses((status = 204), (status = 401, body = Problem)), security(("session" = [])))]
pub async fn sign_out(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, Problem> {
    app.sign_out(&caller).await?;
    Ok((StatusCode::NO_CONTENT, [cookie::clear()]).into_response())
}
