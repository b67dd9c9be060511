//! The set-up link: the first Super Admin, made in the browser.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
};
use portcullis_domain::{audit::Origin, secret::SecretText};
use serde::Deserialize;

use crate::{
    app::{App, accounts::NewUser},
    console::{
        Answer, Typed, ok, page as page_with, see_other,
        view::{Field, Setup},
    },
    error::Failure,
};

/// What was typed.
#[derive(Deserialize)]
pub struct First {
    email: String,
    name: String,
    password: SecretText,
}

fn form(app: &App, token: String) -> Setup {
    Setup {
        organisation: app.config.organization.clone(),
        token,
        email: Field::new(""),
        name: Field::new(""),
        password_error: None,
        min_chars: app.config.passwords.min_chars,
        notice: None,
    }
}

/// `GET /setup/{token}`.
///
/// # Errors
/// [`Failure::SetUpOver`].
pub async fn page(State(app): State<Arc<App>>, Path(token): Path<String>) -> Answer {
    app.check_set_up_token(&token).await?;
    ok(&form(&app, token))
}

/// `POST /setup/{token}`.
///
/// # Errors
/// [`Failure::SetUpOver`]; what the person can mend is said at the fields.
pub async fn set_up(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    Extension(origin): Extension<Origin>,
    Typed(typed): Typed<First>,
) -> Answer {
    let mut page = form(&app, token.clone());
    page.email = Field::new(typed.email.clone());
    page.name = Field::new(typed.name.clone());
    let new = NewUser { email: typed.email, name: typed.name, password: typed.password };
    match app.set_up(&token, new, &origin).await {
        Ok(()) => Ok(see_other("/sign-in?done=set-up")),
        Err(Failure::Invalid(fields)) => {
            let status = Failure::Invalid(Vec::new()).status();
            for wrong in fields {
                match wrong.field {
                    "email" => page.email = page.email.wrong(wrong.message),
                    "name" => page.name = page.name.wrong(wrong.message),
                    _ => page.password_error = Some(wrong.message),
                }
            }
            page_with(status, &page)
        }
        Err(failure) => Err(failure.into()),
    }
}
