//! My Account Settings, **Linked identities** (A-6).

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    response::{AppendHeaders, IntoResponse, Response},
};
use portcullis_domain::{federation::FederationRefused, secret::SecretText};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{App, Caller, identities::key_of},
    console::{
        Answer, Refusal, Typed, account, cookie, failed, federation, see_other, sign_in,
        view::{Dates, IdentityRow, Links},
    },
    error::Failure,
};

/// One of the buttons, and the password when it is asked for again.
#[derive(Deserialize)]
pub struct Changing {
    link: Option<Uuid>,
    unlink: Option<String>,
    password: Option<SecretText>,
}

/// What the section shows.
pub(crate) async fn links(app: &App, caller: &Caller, dates: &Dates) -> Result<Links, Failure> {
    let providers = app.sign_in_providers().await?;
    let name_of = |issuer: &str| {
        let named = providers.iter().find(|p| p.settings.issuer == issuer);
        named.map_or_else(|| issuer.to_owned(), |p| p.settings.name.clone())
    };
    let linked = app.identities(caller).await?;
    let may = app.may_change_links(caller);
    let free = providers.iter().filter(|p| !linked.iter().any(|l| l.identity.issuer == p.settings.issuer));
    Ok(Links {
        providers: free.map(|p| (p.id.to_string(), p.settings.name.clone())).collect(),
        identities: linked
            .into_iter()
            .map(|l| IdentityRow {
                key: key_of(&l),
                provider: name_of(&l.identity.issuer),
                linked: dates.when(l.linked_at),
                signed_in: l.signed_in_at.map(|at| dates.when(at)),
                email: l.email,
            })
            .collect(),
        local: may != Err(FederationRefused::NotLocal),
        password_needed: may == Err(FederationRefused::PasswordNeeded),
        password_error: None,
    })
}

/// `POST /account/identities`.
///
/// # Errors
/// The database's; what can be mended is said at the field or above the page.
pub async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Changing>,
) -> Answer {
    let wanted = app.may_change_links(&caller) == Err(FederationRefused::PasswordNeeded);
    let Some(password) = sign_in::filled(typed.password).filter(|_| wanted) else {
        return answer(&app, &caller, typed.link, typed.unlink).await;
    };
    match app.confirm_password(&caller, password).await {
        Ok((session, caller)) => {
            // The old session id is dead, so the new one goes out whatever comes of the rest.
            let answer = answer(&app, &caller, typed.link, typed.unlink).await.into_response();
            Ok((AppendHeaders([cookie::set(&session)]), answer).into_response())
        }
        Err(failure @ (Failure::WrongPassword | Failure::Locked(_) | Failure::Busy)) => {
            ask_again(&app, &caller, &failure).await
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn answer(app: &App, caller: &Caller, link: Option<Uuid>, unlink: Option<String>) -> Answer {
    let outcome = match (link, unlink) {
        (Some(provider), None) => match app.begin_link(caller, provider).await {
            Ok(going) => return federation::going(app, &going),
            Err(failure) => Err(failure),
        },
        (None, Some(key)) => app.unlink_identity(caller, &key).await,
        _ => Err(Failure::NotFound),
    };
    match outcome {
        Ok(()) => Ok(see_other("/account?done=unlinked")),
        Err(failure @ Failure::Federation(FederationRefused::PasswordNeeded)) => {
            ask_again(app, caller, &failure).await
        }
        Err(Failure::Federation(why)) => Ok(see_other(&format!("/account?problem={}", why.code()))),
        Err(failure) => Err(failure.into()),
    }
}

/// The page with what is wrong at its password field.
async fn ask_again(app: &App, caller: &Caller, failure: &Failure) -> Result<Response, Refusal> {
    let mut content = account::content(app, caller).await?;
    content.links.password_needed = true;
    content.links.password_error = Some(match failure {
        Failure::WrongPassword => "This is not your password.".to_owned(),
        // Why it is asked for stands at the field.
        Failure::Federation(_) => "Enter your password.".to_owned(),
        other => other.to_string(),
    });
    failed(failure, &content)
}
