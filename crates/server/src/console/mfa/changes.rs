//! The page that asks for a second factor before second factors are changed, and what follows when one
//! was given: something is taken away or made anew, or the page that adds another comes.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    response::{AppendHeaders, IntoResponse},
};
use portcullis_domain::secret::SecretText;
use serde::Deserialize;
use uuid::Uuid;

use super::{APP, PASSKEY, changed, frame, refused};
use crate::{
    access::ceremony_cookie,
    app::{
        App, Caller,
        mfa::{Addition, Change, MfaSettings},
    },
    console::{
        Answer, Typed, cookie, failed, page as page_with, second_factor, see_other,
        view::{MfaChange, Tab},
    },
    error::Failure,
};

/// The second factor that a change asks for.
#[derive(Deserialize)]
pub struct Given {
    code: Option<SecretText>,
    credential: Option<String>,
    allow: Option<String>,
}

/// Where the form of a change is.
fn address(change: Change) -> String {
    match change {
        Change::TurnOff => "/account/mfa/off".to_owned(),
        Change::RemoveApp => "/account/mfa/app/remove".to_owned(),
        Change::RemovePasskey(id) => format!("/account/mfa/passkeys/{id}/remove"),
        Change::NewCodes => "/account/mfa/recovery-codes".to_owned(),
        Change::PasskeyAlone(_) => "/account/mfa/passkey-alone".to_owned(),
        Change::Add(addition) => format!("{}/begin", page_of(addition)),
    }
}

/// The page that adds a factor; it asks for another by itself.
pub(super) fn page_of(addition: Addition) -> &'static str {
    match addition {
        Addition::App => APP,
        Addition::Passkey => PASSKEY,
    }
}

/// What a change is called, what it does, and the word on its button.
fn words(change: Change, settings: &MfaSettings) -> (&'static str, String, &'static str) {
    let factors = settings.passkeys.len() + usize::from(settings.app_since.is_some());
    let last = "It is your only second factor, so this turns multi-factor authentication off: signing in takes \
                your password alone then.";
    let rest = |text: &str| if factors == 1 { last.to_owned() } else { text.to_owned() };
    match change {
        Change::TurnOff => (
            "Turn multi-factor authentication off?",
            "Signing in takes your password alone then. Your authenticator app, passkeys and recovery codes for \
             it are removed, and a credential that is suspended because of it works again."
                .to_owned(),
            "Turn off",
        ),
        Change::RemoveApp => (
            "Remove the authenticator app?",
            rest("Its codes do not sign you in any more. Your passkeys stay."),
            "Remove",
        ),
        Change::RemovePasskey(id) => {
            let name = settings.passkeys.iter().find(|p| p.id == id).map_or("", |p| p.name.as_str());
            let text = format!("{name} does not sign you in any more.");
            ("Remove the passkey?", rest(&text), "Remove")
        }
        Change::NewCodes => (
            "Make new recovery codes?",
            "You get ten new codes. Those that you had do not work any more.".to_owned(),
            "Make new codes",
        ),
        Change::PasskeyAlone(true) => (
            "Sign in with a passkey alone?",
            "Your passkeys sign you in without the password then. A passkey asks for your fingerprint, face or \
             PIN, so it counts as both factors."
                .to_owned(),
            "Allow",
        ),
        Change::PasskeyAlone(false) => (
            "Ask for the password again?",
            "A passkey alone does not sign you in any more: the password comes first.".to_owned(),
            "Do not allow",
        ),
        Change::Add(addition) => (
            match addition {
                Addition::App => "Set up an authenticator app",
                Addition::Passkey => "Add a passkey",
            },
            "First give a second factor that you have: whoever has your password alone cannot add one.".to_owned(),
            "Continue",
        ),
    }
}

/// The page of a change, with a new question for a passkey each time.
pub(super) async fn ask(app: &App, caller: &Caller, change: Change, failure: Option<&Failure>) -> Answer {
    let settings = app.mfa_settings(caller).await?;
    let action = address(change);
    // The act itself looks again.
    let possible = settings.may_change.and_then(|()| {
        change.possible(settings.since.is_some(), settings.app_since.is_some(), &settings.passkeys).map(drop)
    });
    if let Err(why) = possible {
        return refused(app, caller, page(change, &action), why.into());
    }
    let asked = app.ask_before_change(caller).await?;
    let (title, text, button) = words(change, &settings);
    let (secret, passkey) = asked.unzip();
    let content = MfaChange {
        frame: frame(app, caller),
        tab: Tab::General,
        notice: None,
        action,
        title,
        text,
        button,
        removes: matches!(change, Change::TurnOff | Change::RemoveApp | Change::RemovePasskey(_)),
        allow: match change {
            Change::PasskeyAlone(true) => Some("yes"),
            Change::PasskeyAlone(false) => Some("no"),
            _ => None,
        },
        app: settings.app_since.is_some(),
        passkey,
        error: failure.map(ToString::to_string),
    };
    let answer = match failure {
        Some(failure) => failed(failure, &content)?,
        None => page_with(StatusCode::OK, &content)?,
    };
    Ok(match secret {
        Some(secret) => ([cookie::set_ceremony(&secret)], answer).into_response(),
        None => answer,
    })
}

/// The page of a change, whose form goes to `action`.
fn page(change: Change, action: &str) -> &str {
    match change {
        Change::Add(addition) => page_of(addition),
        _ => action,
    }
}

/// Makes a change with the second factor that was given.
async fn make(app: &App, caller: &Caller, headers: &HeaderMap, change: Change, given: Given) -> Answer {
    let proof = second_factor::proof(given.code, given.credential);
    let secret = ceremony_cookie(headers);
    let done = match change {
        Change::NewCodes => "mfa-codes",
        Change::PasskeyAlone(_) => "mfa-alone",
        _ => "mfa-removed",
    };
    match app.change_factors(caller, change, &proof, secret.as_deref()).await {
        Ok(made) => match (change, &made.begun) {
            (Change::Add(addition), Some(begun)) => {
                let cookies = [cookie::set(&made.session), cookie::set_ceremony(begun)];
                Ok((AppendHeaders(cookies), see_other(page_of(addition))).into_response())
            }
            _ => changed(app, caller, &made, done),
        },
        Err(failure @ (Failure::WrongCode | Failure::Locked(_))) => ask(app, caller, change, Some(&failure)).await,
        Err(failure) => refused(app, caller, page(change, &address(change)), failure),
    }
}

/// `POST /account/mfa/app/begin`: a second factor, and on to the page that adds an app.
///
/// # Errors
/// The database's.
pub async fn begin_app(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::Add(Addition::App), given).await
}

/// `POST /account/mfa/passkey/begin`: a second factor, and on to the page that adds a passkey.
///
/// # Errors
/// The database's.
pub async fn begin_passkey(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::Add(Addition::Passkey), given).await
}

/// `GET /account/mfa/off`.
///
/// # Errors
/// The database's.
pub async fn turn_off_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    ask(&app, &caller, Change::TurnOff, None).await
}

/// `POST /account/mfa/off`.
///
/// # Errors
/// The database's.
pub async fn turn_off(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::TurnOff, given).await
}

/// `GET /account/mfa/app/remove`.
///
/// # Errors
/// The database's.
pub async fn remove_app_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    ask(&app, &caller, Change::RemoveApp, None).await
}

/// `POST /account/mfa/app/remove`.
///
/// # Errors
/// The database's.
pub async fn remove_app(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::RemoveApp, given).await
}

/// `GET /account/mfa/passkeys/{passkey}/remove`.
///
/// # Errors
/// The database's.
pub async fn remove_passkey_page(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Answer {
    ask(&app, &caller, Change::RemovePasskey(passkey_id(&id)?), None).await
}

/// `POST /account/mfa/passkeys/{passkey}/remove`.
///
/// # Errors
/// The database's.
pub async fn remove_passkey(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Path(id): Path<String>,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::RemovePasskey(passkey_id(&id)?), given).await
}

fn passkey_id(text: &str) -> Result<Uuid, Failure> {
    Uuid::parse_str(text).map_err(|_| Failure::NotFound)
}

/// `GET /account/mfa/passkey-alone`: the change to the other way.
///
/// # Errors
/// The database's.
pub async fn passkey_alone_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    let allowed = app.mfa_settings(&caller).await?.passkey_alone;
    ask(&app, &caller, Change::PasskeyAlone(!allowed), None).await
}

/// `POST /account/mfa/passkey-alone`.
///
/// # Errors
/// The database's.
pub async fn passkey_alone(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    let allow = given.allow.as_deref() == Some("yes");
    make(&app, &caller, &headers, Change::PasskeyAlone(allow), given).await
}

/// `GET /account/mfa/recovery-codes`.
///
/// # Errors
/// The database's.
pub async fn new_codes_page(State(app): State<Arc<App>>, Extension(caller): Extension<Caller>) -> Answer {
    ask(&app, &caller, Change::NewCodes, None).await
}

/// `POST /account/mfa/recovery-codes`. The answer is the one page that shows the codes.
///
/// # Errors
/// The database's.
pub async fn new_codes(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Typed(given): Typed<Given>,
) -> Answer {
    make(&app, &caller, &headers, Change::NewCodes, given).await
}
