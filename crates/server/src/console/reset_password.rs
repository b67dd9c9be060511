//! The link that replaces a forgotten password.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
};
use portcullis_domain::{accounts::User, audit::Origin, links::LinkPurpose, secret::SecretText};
use serde::Deserialize;

use crate::{
    app::App,
    console::{Answer, Typed, failed, ok, see_other, view::ResetPassword},
    error::Failure,
};

/// What was typed.
#[derive(Deserialize)]
pub struct Chosen {
    password: SecretText,
}

fn form(app: &App, token: String, user: &User, password_error: Option<String>) -> ResetPassword {
    ResetPassword {
        organisation: app.config.organization.clone(),
        token,
        email: user.email.as_str().to_owned(),
        password_error,
        min_chars: app.config.passwords.min_chars,
    }
}

/// `GET /reset-password/{token}`. Looking uses nothing up: mail programs open links, too.
///
/// # Errors
/// [`Failure::Link`].
pub async fn page(State(app): State<Arc<App>>, Path(token): Path<String>) -> Answer {
    let user = app.check_link(&token, LinkPurpose::PasswordReset).await?;
    ok(&form(&app, token, &user, None))
}

/// `POST /reset-password/{token}`.
///
/// # Errors
/// [`Failure::Link`]; what the person can mend is said at the field.
pub async fn change(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    Extension(origin): Extension<Origin>,
    Typed(typed): Typed<Chosen>,
) -> Answer {
    match app.reset_password(&token, typed.password, &origin).await {
        Ok(()) => Ok(see_other("/sign-in?done=password")),
        Err(failure @ (Failure::Invalid(_) | Failure::Busy)) => {
            let user = app.check_link(&token, LinkPurpose::PasswordReset).await?;
            failed(&failure, &form(&app, token, &user, Some(failure.to_string())))
        }
        Err(failure) => Err(failure.into()),
    }
}
