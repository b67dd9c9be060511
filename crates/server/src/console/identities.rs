//! My Account Settings, **Linked identities** (A-6).

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::StatusCode,
    response::{AppendHeaders, IntoResponse},
};
use portcullis_domain::{federation::FederationRefused, secret::SecretText};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    app::{App, Caller, identities::key_of},
    console::{
        Answer, Asked, Typed, cookie, dates, failed, federation, page as page_with, see_other, sign_in,
        view::{Dates, Frame, IdentityChange, IdentityRow, Links, Nav, Tab},
    },
    error::Failure,
};

/// One of the buttons.
#[derive(Deserialize)]
pub struct Asking {
    link: Option<Uuid>,
    unlink: Option<String>,
}

/// One of the buttons, and the password when it is asked for again.
#[derive(Deserialize)]
pub struct Changing {
    link: Option<Uuid>,
    unlink: Option<String>,
    password: Option<SecretText>,
}

/// What is to be done to an identity.
enum Change {
    /// To link the one at the provider with this id.
    Link(Uuid),
    /// To unlink the one with this key.
    Unlink(String),
}

impl Change {
    fn of(link: Option<Uuid>, unlink: Option<String>) -> Option<Self> {
        match (link, unlink) {
            (Some(provider), None) => Some(Self::Link(provider)),
            (None, Some(key)) => Some(Self::Unlink(key)),
            _ => None,
        }
    }
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
    })
}

/// What is asked before a change.
///
/// # Errors
/// [`Failure::Federation`] when it cannot be, [`Failure::NotFound`], or the database's.
async fn question(app: &App, caller: &Caller, change: &Change) -> Result<IdentityChange, Failure> {
    let links = links(app, caller, &dates(&caller.user, app.clock.now())).await?;
    if !links.local {
        return Err(FederationRefused::NotLocal.into());
    }
    let (unlinks, value, provider, email) = match change {
        Change::Unlink(key) => {
            let found = links.identities.into_iter().find(|i| i.key == *key);
            let found = found.ok_or(FederationRefused::NotLinked)?;
            (true, found.key, found.provider, found.email)
        }
        Change::Link(id) => {
            let id = id.to_string();
            let found = links.providers.into_iter().find(|(provider, _)| *provider == id);
            let (id, name) = found.ok_or(Failure::NotFound)?;
            (false, id, name, String::new())
        }
    };
    Ok(IdentityChange {
        frame: Frame::new(&caller.user, &app.config.organization, Nav::Account, "My Account Settings"),
        tab: Tab::General,
        notice: None,
        unlinks,
        value,
        provider,
        email,
        password_needed: links.password_needed,
        password_error: None,
    })
}

/// General Settings with the rule that refused, or the failure.
fn refused(failure: Failure) -> Answer {
    match failure {
        Failure::Federation(why) => Ok(see_other(&format!("/account?problem={}", why.code()))),
        failure => Err(failure.into()),
    }
}

/// `GET /account/identities`: what will happen.
///
/// # Errors
/// The database's, and [`Failure::NotFound`]; a rule that refuses is said in General Settings.
pub async fn page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Asked(asking): Asked<Asking>,
) -> Answer {
    let Some(change) = Change::of(asking.link, asking.unlink) else { return Ok(see_other("/account")) };
    match question(&app, &caller, &change).await {
        Ok(content) => page_with(StatusCode::OK, &content),
        Err(failure) => refused(failure),
    }
}

/// `POST /account/identities`.
///
/// # Errors
/// The database's; what can be mended is said at the field or in General Settings.
pub async fn change(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Typed(typed): Typed<Changing>,
) -> Answer {
    let change = Change::of(typed.link, typed.unlink).ok_or(Failure::NotFound)?;
    let wanted = app.may_change_links(&caller) == Err(FederationRefused::PasswordNeeded);
    let Some(password) = sign_in::filled(typed.password).filter(|_| wanted) else {
        return answer(&app, &caller, &change).await;
    };
    match app.confirm_password(&caller, password).await {
        Ok((session, caller)) => {
            // The old session id is dead, so the new one goes out whatever comes of the rest.
            let answer = answer(&app, &caller, &change).await.into_response();
            Ok((AppendHeaders([cookie::set(&session)]), answer).into_response())
        }
        Err(failure @ (Failure::WrongPassword | Failure::Locked(_) | Failure::Busy)) => {
            ask_again(&app, &caller, &change, &failure).await
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn answer(app: &App, caller: &Caller, change: &Change) -> Answer {
    let outcome = match change {
        Change::Link(provider) => match app.begin_link(caller, *provider).await {
            Ok(going) => return federation::going(app, &going),
            Err(failure) => Err(failure),
        },
        Change::Unlink(key) => app.unlink_identity(caller, key).await,
    };
    match outcome {
        Ok(()) => Ok(see_other("/account?done=unlinked")),
        Err(failure @ Failure::Federation(FederationRefused::PasswordNeeded)) => {
            ask_again(app, caller, change, &failure).await
        }
        Err(failure) => refused(failure),
    }
}

/// The question with what is wrong at its password field.
async fn ask_again(app: &App, caller: &Caller, change: &Change, failure: &Failure) -> Answer {
    let mut content = match question(app, caller, change).await {
        Ok(content) => content,
        Err(failure) => return refused(failure),
    };
    content.password_needed = true;
    content.password_error = Some(match failure {
        Failure::WrongPassword => "This is not your password.".to_owned(),
        // Why it is asked for stands at the field.
        Failure::Federation(_) => "Enter your password.".to_owned(),
        other => other.to_string(),
    });
    failed(failure, &content)
}
