//! Signing in through a provider: going there, coming back, signing out there too.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::HeaderMap,
    response::{AppendHeaders, IntoResponse, Response},
};
use portcullis_domain::{audit::Origin, federation::FederationRefused};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    access::{ceremony_cookie, session_cookie},
    app::{
        App, Caller,
        federation::{CameBack, Errand, Going, Lost, ProviderAnswer},
        sessions::SignedIn,
    },
    console::{
        Answer, Asked, Typed, cookie, ok, page as page_with, providers, see_other, sign_in,
        view::{GoingTo, SignedOut},
    },
    error::Failure,
};

/// Where to go after signing in.
#[derive(Deserialize)]
pub struct Starting {
    next: Option<String>,
}

/// The page that leads to the provider. A form may not be answered with a redirect to another site
/// (`form-action 'self'`), so the page goes there by itself, and has a link.
///
/// # Errors
/// When the template fails.
pub(crate) fn going(app: &App, going: &Going) -> Answer {
    let content = GoingTo {
        organisation: app.config.organization.clone(),
        name: going.name.clone(),
        url: going.url.clone(),
    };
    Ok((AppendHeaders([cookie::set_ceremony(&going.cookie)]), ok(&content)).into_response())
}

/// `POST /sign-in/provider/{provider}`.
///
/// # Errors
/// The database's; that the provider cannot be visited is said on the sign-in page.
pub async fn start(
    State(app): State<Arc<App>>,
    Path(provider): Path<Uuid>,
    Extension(origin): Extension<Origin>,
    Typed(typed): Typed<Starting>,
) -> Answer {
    let errand = Errand::SignIn(sign_in::local(typed.next));
    match app.go_to_provider(provider, errand, None, &origin).await {
        Ok(there) => going(&app, &there),
        Err(Failure::Federation(why)) => Ok(see_other(&format!("/sign-in?problem={}", why.code()))),
        Err(failure) => Err(failure.into()),
    }
}

/// Who is signed in in this browser, if anybody is.
async fn caller(app: &App, headers: &HeaderMap, origin: &Origin) -> Result<Option<Caller>, Failure> {
    let Some(cookie) = session_cookie(headers) else { return Ok(None) };
    match app.identify_session(&cookie, origin.clone()).await {
        Ok(caller) => Ok(Some(caller)),
        Err(Failure::NotSignedIn) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// `GET /sign-in/provider/{provider}/callback`: where a provider sends the browser back to.
///
/// # Errors
/// The database's; every refusal is said on a page of this console, chosen by its code: nothing
/// that came with the address is shown or followed.
pub async fn callback(
    State(app): State<Arc<App>>,
    Path(provider): Path<Uuid>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Asked(answer): Asked<ProviderAnswer>,
) -> Answer {
    let caller = caller(&app, &headers, &origin).await?;
    let step = ceremony_cookie(&headers);
    match app.come_back(provider, answer, step.as_deref(), caller.as_ref(), &origin).await {
        Ok(CameBack::SignedIn(SignedIn::Session(new), next)) => {
            Ok(sign_in::signed_in(&app, new, &headers, origin, next.as_deref()).await)
        }
        Ok(CameBack::SignedIn(SignedIn::SecondFactor(step), next)) => {
            let to = sign_in::second_factor(next.as_deref());
            Ok((AppendHeaders([cookie::set_ceremony(&step)]), see_other(&to)).into_response())
        }
        Ok(CameBack::Linked) => Ok(done("/account?done=linked")),
        Ok(CameBack::Tested(provider, claims)) => {
            let caller = caller.ok_or(Failure::NotSignedIn)?;
            providers::tested(&app, &caller, &provider, claims)
        }
        Err(Lost { errand, why }) => lost(provider, &errand, why),
    }
}

/// To a page of this console; nothing is under way any more.
fn done(to: &str) -> Response {
    (AppendHeaders([cookie::clear_ceremony()]), see_other(to)).into_response()
}

fn lost(provider: Uuid, errand: &Errand, why: Failure) -> Answer {
    let code = match why {
        Failure::Federation(why) => why.code(),
        Failure::NotActive => FederationRefused::NotActive.code(),
        other => return Err(other.into()),
    };
    let to = match errand {
        Errand::SignIn(_) => "/sign-in".to_owned(),
        Errand::Link(_) => "/account".to_owned(),
        Errand::Test(_) => format!("/providers/{provider}"),
    };
    Ok(see_other(&format!("{to}?problem={code}")))
}

/// `GET /sign-in/provider/{provider}/sign-out`: after signing out here, how to sign out there too.
///
/// # Errors
/// [`Failure::NotFound`], or the database's. A provider that does not answer only takes away the
/// button.
pub async fn sign_out(State(app): State<Arc<App>>, Path(provider): Path<Uuid>) -> Answer {
    let providers = app.sign_in_providers().await?;
    let provider = providers.into_iter().find(|p| p.id == provider).ok_or(Failure::NotFound)?;
    let url = app.sign_out_url(&provider).await?;
    let organisation = app.config.organization.clone();
    page_with(axum::http::StatusCode::OK, &SignedOut { organisation, name: provider.settings.name, url })
}

/// `GET /sign-in/provider/{provider}/signed-out`: where a provider sends who signed out there. What
/// comes with the address is not looked at, because nothing hangs on it.
pub async fn signed_out(Path(_provider): Path<Uuid>) -> Response {
    see_other("/sign-in?done=signed-out-there")
}
