//! The second step of a sign-in, and signing in with a passkey alone.

use std::sync::Arc;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use portcullis_domain::{audit::Origin, mfa::recovery, secret::SecretText};
use serde::Deserialize;

use crate::{
    access::ceremony_cookie,
    app::{App, second_factor::Proof},
    console::{
        Answer, Asked, Refusal, Typed, cookie, failed, page as page_with, see_other,
        sign_in::{local, signed_in},
        view::{PasskeySignIn, SecondFactor},
    },
    error::Failure,
};

/// Where to go after signing in, and which field is wanted.
#[derive(Deserialize)]
pub struct Arriving {
    next: Option<String>,
    with: Option<String>,
}

/// A second factor: a code that was typed, or what the browser answered.
#[derive(Deserialize)]
pub struct Given {
    code: Option<SecretText>,
    credential: Option<String>,
    next: Option<String>,
    with: Option<String>,
}

/// The second factor of a form: the passkey if the browser gave one, else what was typed.
pub(crate) fn proof(code: Option<SecretText>, credential: Option<String>) -> Proof {
    match credential.filter(|c| !c.is_empty()) {
        Some(answer) => Proof::Passkey(answer),
        None => Proof::Code(code.unwrap_or_default()),
    }
}

/// Back to the beginning of a sign-in that is over.
fn again() -> Response {
    ([cookie::clear_ceremony()], see_other("/sign-in?done=again")).into_response()
}

async fn content(
    app: &App,
    secret: &str,
    recovery: bool,
    next: Option<String>,
    error: Option<String>,
) -> Result<SecondFactor, Failure> {
    let step = app.second_step(secret).await?;
    let organisation = app.config.organization.clone();
    Ok(SecondFactor { organisation, app: step.app, recovery, passkey: step.passkey, error, next })
}

/// `GET /sign-in/second-factor`.
///
/// # Errors
/// The database's.
pub async fn page(State(app): State<Arc<App>>, headers: HeaderMap, Asked(arriving): Asked<Arriving>) -> Answer {
    let Some(secret) = ceremony_cookie(&headers) else { return Ok(again()) };
    let recovery = arriving.with.as_deref() == Some("recovery");
    match content(&app, &secret, recovery, local(arriving.next), None).await {
        Ok(content) => page_with(StatusCode::OK, &content),
        Err(Failure::StepOver) => Ok(again()),
        Err(failure) => Err(failure.into()),
    }
}

/// `POST /sign-in/second-factor`.
///
/// # Errors
/// The database's; what the person can mend is said on the page.
pub async fn sign_in(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    let next = local(given.next);
    let Some(secret) = ceremony_cookie(&headers) else { return Ok(again()) };
    let proof = proof(given.code, given.credential);
    match app.complete_sign_in(&secret, proof, &origin).await {
        Ok(done) => {
            // Whoever has few recovery codes left is shown where they are made.
            let few = done.codes_left.is_some_and(|left| left <= recovery::FEW);
            let next = if few { Some("/account") } else { next.as_deref() };
            Ok(signed_in(&app, done.new, &headers, origin, next).await)
        }
        Err(Failure::StepOver) => Ok(again()),
        Err(failure @ (Failure::WrongCode | Failure::Locked(_))) => {
            let recovery = given.with.as_deref() == Some("recovery");
            match content(&app, &secret, recovery, next, Some(failure.to_string())).await {
                Ok(content) => failed(&failure, &content),
                Err(Failure::StepOver) => Ok(again()),
                Err(failure) => Err(failure.into()),
            }
        }
        Err(failure) => Err(failure.into()),
    }
}

async fn passkey_content(app: &App, next: Option<String>, error: Option<&Failure>) -> Result<Response, Refusal> {
    let (secret, options) = app.begin_passkey_sign_in().await?;
    let organisation = app.config.organization.clone();
    let content = PasskeySignIn { organisation, options, error: error.map(ToString::to_string), next };
    let answer = match error {
        Some(failure) => failed(failure, &content)?,
        None => page_with(StatusCode::OK, &content)?,
    };
    Ok(([cookie::set_ceremony(&secret)], answer).into_response())
}

/// `GET /sign-in/passkey`.
///
/// # Errors
/// The database's, and 404 where there can be no passkeys.
pub async fn passkey_page(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    Asked(arriving): Asked<Arriving>,
) -> Answer {
    if !app.refusals.may_begin(&origin) {
        return Err(Failure::Locked(60).into());
    }
    passkey_content(&app, local(arriving.next), None).await
}

/// `POST /sign-in/passkey`. Each answer is to a question of its own.
///
/// # Errors
/// The database's; what the person can mend is said on the page.
pub async fn passkey_sign_in(
    State(app): State<Arc<App>>,
    Extension(origin): Extension<Origin>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    let next = local(given.next);
    if !app.passkeys.are_possible() {
        return Err(Failure::NotFound.into());
    }
    let secret = ceremony_cookie(&headers).unwrap_or_default();
    match app.sign_in_with_passkey(&secret, &given.credential.unwrap_or_default(), &origin).await {
        Ok(new) => Ok(signed_in(&app, new, &headers, origin, next.as_deref()).await),
        Err(failure @ (Failure::WrongPasskey | Failure::StepOver | Failure::Locked(_) | Failure::NotActive)) => {
            passkey_content(&app, next, Some(&failure)).await
        }
        Err(failure) => Err(failure.into()),
    }
}
