//! Asking for a new password: the same answer whatever the account.

use std::sync::Arc;

use axum::{Extension, extract::State};
use portcullis_domain::audit::Origin;
use serde::Deserialize;

use crate::{
    app::App,
    console::{
        Answer, Asked, Typed, failed, ok, see_other,
        view::{Field, ForgotPassword},
    },
    error::Failure,
};

/// What to say.
#[derive(Deserialize)]
pub struct Arriving {
    done: Option<String>,
}

/// What was typed: one address.
#[derive(Deserialize)]
pub struct Address {
    email: String,
}

/// `GET /forgot-password`.
///
/// # Errors
/// None of its own.
pub async fn page(State(app): State<Arc<App>>, Asked(arriving): Asked<Arriving>) -> Answer {
    let asked = arriving.done.as_deref() == Some("asked");
    ok(&ForgotPassword { organisation: app.config.organization.clone(), email: Field::default(), asked })
}

/// `POST /forgot-password`.
///
/// # Errors
/// The database's; what the person can mend is said at the field.
pub async fn ask(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    Typed(typed): Typed<Address>,
) -> Answer {
    match app.ask_for_reset(&typed.email, &origin).await {
        Ok(()) => Ok(see_other("/forgot-password?done=asked")),
        Err(failure @ (Failure::Invalid(_) | Failure::Locked(_) | Failure::Busy)) => {
            let email = Field::new(typed.email).wrong(failure.to_string());
            let organisation = app.config.organization.clone();
            failed(&failure, &ForgotPassword { organisation, email, asked: false })
        }
        Err(failure) => Err(failure.into()),
    }
}
