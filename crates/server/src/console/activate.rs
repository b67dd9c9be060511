//! The link of an invitation: name and password.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
};
use portcullis_domain::{accounts::User, audit::Origin, links::LinkPurpose, secret::SecretText};
use serde::Deserialize;

use crate::{
    app::App,
    console::{
        Answer, Typed, failed, ok, see_other,
        view::{Activate, Field},
    },
    error::Failure,
};

/// What was typed.
#[derive(Deserialize)]
pub struct Chosen {
    name: String,
    password: SecretText,
}

fn form(app: &App, token: String, user: &User) -> Activate {
    Activate {
        organisation: app.config.organization.clone(),
        token,
        email: user.email.as_str().to_owned(),
        name: Field::new(""),
        password_error: None,
        min_chars: app.config.passwords.min_chars,
    }
}

/// `GET /activate/{token}`. Looking uses nothing up: mail programs open links, too.
///
/// # Errors
/// [`Failure::Link`].
pub async fn page(State(app): State<Arc<App>>, Path(token): Path<String>) -> Answer {
    let user = app.check_link(&token, LinkPurpose::Invitation).await?;
    ok(&form(&app, token, &user))
}

/// `POST /activate/{token}`.
///
/// # Errors
/// [`Failure::Link`]; what the person can mend is said at the fields.
pub async fn activate(
    State(app): State<Arc<App>>,
    Path(token): Path<String>,
    Extension(origin): Extension<Origin>,
    Typed(typed): Typed<Chosen>,
) -> Answer {
    let failure = match app.activate(&token, &typed.name, typed.password, &origin).await {
        Ok(_) => return Ok(see_other("/sign-in?done=activated")),
        Err(failure) => failure,
    };
    let fields = match &failure {
        Failure::Invalid(fields) => fields.clone(),
        Failure::Busy => Vec::new(),
        _ => return Err(failure.into()),
    };
    let user = app.check_link(&token, LinkPurpose::Invitation).await?;
    let mut page = form(&app, token, &user);
    page.name = Field::new(typed.name);
    if fields.is_empty() {
        page.password_error = Some(failure.to_string());
    }
    for wrong in fields {
        match wrong.field {
            "name" => page.name = page.name.wrong(wrong.message),
            _ => page.password_error = Some(wrong.message),
        }
    }
    failed(&failure, &page)
}
